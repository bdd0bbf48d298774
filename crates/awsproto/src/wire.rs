//! Conversion between Rust types and [`Value`].

use crate::error::{ParameterError, Problem, shortened};
use crate::schema::{Kind, Schema, Shape};
use crate::value::{Blob, Fields, Value};
use base::{AccountId, Arn, InstanceId, Region, Secret, SnapshotId, Timestamp, VolumeId};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;
use zeroize::Zeroize;

/// A type that can be a member.
pub trait Wire {
    /// Its type on the wire.
    const KIND: Kind;
    /// Whether its absence is an error.
    const REQUIRED: bool = true;
}

/// A type that can be a member of an input.
pub trait FromWire: Wire + Sized {
    /// Reads a present value.
    ///
    /// # Errors
    /// When the value is not one of this type; the path is that inside the value.
    fn from_wire(value: Value) -> Result<Self, ParameterError>;

    /// What an absent member means; `None` when it must be present.
    fn absent() -> Option<Self> {
        None
    }
}

/// A type that can be a member of an output.
pub trait ToWire: Wire {
    /// The value; `None` when the member is to be left out.
    fn to_wire(&self) -> Option<Value>;
}

/// Fails a value of another type than its schema says. The codecs decode by schema, so this is
/// reached only when the two disagree, which the model check would show.
fn wrong_type<T>(expected: &'static str) -> Result<T, ParameterError> {
    Err(ParameterError::new(Problem::WrongType { expected }))
}

macro_rules! plain {
    ($type:ty, $kind:expr, $variant:ident, $what:literal) => {
        impl Wire for $type {
            const KIND: Kind = $kind;
        }
        impl FromWire for $type {
            fn from_wire(value: Value) -> Result<Self, ParameterError> {
                match value {
                    Value::$variant(inner) => Ok(inner),
                    _ => wrong_type($what),
                }
            }
        }
        impl ToWire for $type {
            fn to_wire(&self) -> Option<Value> {
                Some(Value::$variant(self.clone()))
            }
        }
    };
}

plain!(bool, Kind::Bool, Bool, "a boolean");
plain!(i64, Kind::Long, Int, "an integer");
plain!(f64, Kind::Double, Float, "a number");
plain!(String, Kind::String, String, "a string");
plain!(Blob, Kind::Blob, Blob, "bytes");
plain!(Timestamp, Kind::Timestamp, Timestamp, "a timestamp");

/// Fixed text, in outputs.
impl Wire for &'static str {
    const KIND: Kind = Kind::String;
}
impl ToWire for &'static str {
    fn to_wire(&self) -> Option<Value> {
        Some(Value::String((*self).to_owned()))
    }
}

macro_rules! integer {
    ($type:ty, $kind:expr) => {
        impl Wire for $type {
            const KIND: Kind = $kind;
        }
        impl FromWire for $type {
            fn from_wire(value: Value) -> Result<Self, ParameterError> {
                let Value::Int(number) = value else { return wrong_type("an integer") };
                Self::try_from(number).map_err(|_| {
                    let rule = if number < 0 { "greater" } else { "less" };
                    let bound =
                        if number < 0 { i128::from(Self::MIN) } else { i128::from(Self::MAX) };
                    ParameterError::invalid(
                        number.to_string(),
                        format!("Member must have value {rule} than or equal to {bound}"),
                    )
                })
            }
        }
        impl ToWire for $type {
            fn to_wire(&self) -> Option<Value> {
                // Nothing that is counted here comes near 2^63.
                Some(Value::Int(i64::try_from(*self).unwrap_or(i64::MAX)))
            }
        }
    };
}

integer!(i32, Kind::Integer);
integer!(u32, Kind::Integer);
integer!(u64, Kind::Long);

impl<T: Wire> Wire for Option<T> {
    const KIND: Kind = T::KIND;
    const REQUIRED: bool = false;
}
impl<T: FromWire> FromWire for Option<T> {
    fn from_wire(value: Value) -> Result<Self, ParameterError> {
        T::from_wire(value).map(Some)
    }
    fn absent() -> Option<Self> {
        Some(None)
    }
}
impl<T: ToWire> ToWire for Option<T> {
    fn to_wire(&self) -> Option<Value> {
        self.as_ref().and_then(ToWire::to_wire)
    }
}

impl<T: Wire> Wire for Box<T> {
    const KIND: Kind = T::KIND;
    const REQUIRED: bool = T::REQUIRED;
}
impl<T: FromWire> FromWire for Box<T> {
    fn from_wire(value: Value) -> Result<Self, ParameterError> {
        T::from_wire(value).map(Self::new)
    }
    fn absent() -> Option<Self> {
        T::absent().map(Self::new)
    }
}
impl<T: ToWire> ToWire for Box<T> {
    fn to_wire(&self) -> Option<Value> {
        (**self).to_wire()
    }
}

impl<T: Wire> Wire for Vec<T> {
    const KIND: Kind = Kind::List(&T::KIND);
    const REQUIRED: bool = false;
}
impl<T: FromWire> FromWire for Vec<T> {
    fn from_wire(value: Value) -> Result<Self, ParameterError> {
        list_from(value, T::from_wire)
    }
    fn absent() -> Option<Self> {
        Some(Self::new())
    }
}
impl<T: ToWire> ToWire for Vec<T> {
    fn to_wire(&self) -> Option<Value> {
        Some(Value::List(self.iter().filter_map(ToWire::to_wire).collect()))
    }
}

impl<T: Wire> Wire for BTreeMap<String, T> {
    const KIND: Kind = Kind::Map(&T::KIND);
    const REQUIRED: bool = false;
}
impl<T: FromWire> FromWire for BTreeMap<String, T> {
    fn from_wire(value: Value) -> Result<Self, ParameterError> {
        map_from(value, T::from_wire)
    }
    fn absent() -> Option<Self> {
        Some(Self::new())
    }
}
impl<T: ToWire> ToWire for BTreeMap<String, T> {
    fn to_wire(&self) -> Option<Value> {
        let entry = |(key, item): (&String, &T)| Some((key.clone(), item.to_wire()?));
        Some(Value::Map(self.iter().filter_map(entry).collect()))
    }
}

/// A text that is wiped when the request is done.
impl<T: Wire + Zeroize> Wire for Secret<T> {
    const KIND: Kind = T::KIND;
}
impl<T: FromWire + Zeroize> FromWire for Secret<T> {
    fn from_wire(value: Value) -> Result<Self, ParameterError> {
        T::from_wire(value).map(Self::new).map_err(ParameterError::redacted)
    }
}
impl<T: ToWire + Zeroize> ToWire for Secret<T> {
    fn to_wire(&self) -> Option<Value> {
        self.expose().to_wire()
    }
}

impl Wire for () {
    const KIND: Kind = Kind::Struct(<() as Shape>::SCHEMA);
}
impl FromWire for () {
    fn from_wire(_: Value) -> Result<Self, ParameterError> {
        Ok(())
    }
}
impl ToWire for () {
    fn to_wire(&self) -> Option<Value> {
        Some(Value::empty())
    }
}

macro_rules! resource_id {
    ($type:ident, $ec2:expr) => {
        impl Wire for $type {
            const KIND: Kind = Kind::String;
        }
        impl FromWire for $type {
            fn from_wire(value: Value) -> Result<Self, ParameterError> {
                let Value::String(text) = value else { return wrong_type("a string") };
                $type::parse(&text).map_err(|_| {
                    ParameterError::new(Problem::Invalid {
                        value: shortened(text),
                        expected: format!("Expected: '{}...'.", $type::PREFIX),
                        ec2: $ec2,
                    })
                })
            }
        }
        impl ToWire for $type {
            fn to_wire(&self) -> Option<Value> {
                Some(Value::String(self.as_str().to_owned()))
            }
        }
    };
}

resource_id!(VolumeId, None);
resource_id!(SnapshotId, None);
resource_id!(InstanceId, Some(crate::code::INVALID_INSTANCE_ID_MALFORMED));

macro_rules! parsed {
    ($type:ident, $parse:expr, $what:literal) => {
        impl Wire for $type {
            const KIND: Kind = Kind::String;
        }
        impl FromWire for $type {
            fn from_wire(value: Value) -> Result<Self, ParameterError> {
                let Value::String(text) = value else { return wrong_type("a string") };
                $parse(&text).ok_or_else(|| ParameterError::invalid(text, $what))
            }
        }
        impl ToWire for $type {
            fn to_wire(&self) -> Option<Value> {
                Some(Value::String(self.to_string()))
            }
        }
    };
}

parsed!(AccountId, |t: &str| AccountId::parse(t).ok(), "Expected an account ID of 12 digits.");
parsed!(Region, |t: &str| Region::parse(t).ok(), "Expected a Region name.");
parsed!(Arn, Arn::parse, "Expected an ARN.");

/// Reads a text through [`FromStr`], for fields marked `#[shape(text)]`.
///
/// # Errors
/// When the text is not one of `T`.
pub fn text_from<T: FromStr<Err: Display>>(value: Value) -> Result<T, ParameterError> {
    let Value::String(text) = value else { return wrong_type("a string") };
    text.parse().map_err(|why: T::Err| {
        let why = shortened(why.to_string());
        ParameterError::invalid(text, why)
    })
}

/// Reads the items of a list.
///
/// # Errors
/// That of the first item that cannot be read, with its position counted from 1.
pub fn list_from<T>(
    value: Value,
    item: impl Fn(Value) -> Result<T, ParameterError>,
) -> Result<Vec<T>, ParameterError> {
    let Value::List(items) = value else { return wrong_type("a list") };
    let numbered = items.into_iter().enumerate();
    numbered.map(|(at, v)| item(v).map_err(|e| e.within((at + 1).to_string()))).collect()
}

/// Reads the entries of a map.
///
/// # Errors
/// That of the first value that cannot be read, with its key.
pub fn map_from<T>(
    value: Value,
    item: impl Fn(Value) -> Result<T, ParameterError>,
) -> Result<BTreeMap<String, T>, ParameterError> {
    let Value::Map(entries) = value else { return wrong_type("a map") };
    let read = |(key, v): (String, Value)| match item(v) {
        Ok(v) => Ok((key, v)),
        Err(e) => Err(e.within(shortened(key))),
    };
    entries.into_iter().map(read).collect()
}

/// The fields of a structure. Called by derived code.
#[doc(hidden)]
pub fn fields_from(value: Value) -> Result<Fields, ParameterError> {
    match value {
        Value::Struct(fields) => Ok(fields),
        _ => wrong_type("a structure"),
    }
}

/// One member of a structure. Called by derived code.
#[doc(hidden)]
pub fn member_from<T>(
    fields: &mut Fields,
    schema: &'static Schema,
    name: &'static str,
    read: impl FnOnce(Value) -> Result<T, ParameterError>,
    absent: impl FnOnce() -> Option<T>,
) -> Result<T, ParameterError> {
    let sensitive = schema.member(name).is_some_and(|m| m.sensitive);
    match fields.take(name) {
        Some(value) => read(value).map_err(|e| {
            let e = if sensitive { e.redacted() } else { e };
            e.within(name)
        }),
        None => absent().ok_or_else(|| ParameterError::missing(name)),
    }
}

/// Declares an enumeration of texts that can be a member.
///
/// ```
/// awsproto::string_enum! {
///     /// What a volume is optimised for.
///     pub enum VolumeType {
///         /// General purpose, third generation.
///         Gp3 = "gp3",
///         /// Cold storage.
///         Sc1 = "sc1",
///     }
/// }
/// assert_eq!(VolumeType::parse("gp3"), Some(VolumeType::Gp3));
/// assert_eq!(VolumeType::Sc1.to_string(), "sc1");
/// ```
#[macro_export]
macro_rules! string_enum {
    ($(#[$meta:meta])* $vis:vis enum $name:ident {
        $($(#[$variant_meta:meta])* $variant:ident = $text:literal),+ $(,)?
    }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        $vis enum $name {
            $($(#[$variant_meta])* $variant),+
        }

        #[allow(dead_code, reason = "one enumeration rarely uses every function of the macro")]
        impl $name {
            /// Every accepted text.
            $vis const TEXTS: &'static [&'static str] = &[$($text),+];

            /// The value of a text.
            $vis fn parse(text: &str) -> Option<Self> {
                match text {
                    $($text => Some(Self::$variant),)+
                    _ => None,
                }
            }

            /// The text as it is on the wire.
            $vis const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text),+
                }
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl $crate::Wire for $name {
            const KIND: $crate::Kind = $crate::Kind::Enum(Self::TEXTS);
        }

        impl $crate::FromWire for $name {
            fn from_wire(value: $crate::Value) -> Result<Self, $crate::ParameterError> {
                let text = <String as $crate::FromWire>::from_wire(value)?;
                Self::parse(&text).ok_or_else(|| $crate::wire::not_listed(text, Self::TEXTS))
            }
        }

        impl $crate::ToWire for $name {
            fn to_wire(&self) -> Option<$crate::Value> {
                Some($crate::Value::String(self.as_str().to_owned()))
            }
        }
    };
}

/// The error of a text that an enumeration lacks. Called by [`string_enum!`].
#[doc(hidden)]
pub fn not_listed(text: String, accepted: &'static [&'static str]) -> ParameterError {
    ParameterError::new(Problem::NotListed { value: shortened(text), accepted })
}
