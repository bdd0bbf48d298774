//! Parameters going in and rows coming out: four kinds of value, the same on every engine.

use crate::error::{Error, Result};
use base::{AccountId, Region, SnapshotId, Timestamp, VolumeId};
use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock};

/// One value: a parameter of a statement or a column of a row.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Param {
    /// SQL NULL.
    Null,
    /// A `BIGINT`; also truth values (0, 1) and instants (milliseconds since 1970).
    Int(i64),
    /// A `TEXT`, without NUL characters.
    Text(String),
    /// A `BYTES`.
    Bytes(Vec<u8>),
}

impl Param {
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Int(_) => "an integer",
            Self::Text(_) => "a text",
            Self::Bytes(_) => "bytes",
        }
    }

    /// Memory it takes, about.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::Null | Self::Int(_) => 0,
                Self::Text(text) => text.len(),
                Self::Bytes(bytes) => bytes.len(),
            }
    }
}

/// Shows the kind and never the value, which may be a secret.
impl fmt::Debug for Param {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())
    }
}

macro_rules! param_from {
    ($($type:ty => |$value:ident| $param:expr;)*) => {
        $(impl From<$type> for Param {
            fn from($value: $type) -> Self {
                $param
            }
        })*
    };
}

param_from! {
    i64 => |n| Self::Int(n);
    i32 => |n| Self::Int(i64::from(n));
    u32 => |n| Self::Int(i64::from(n));
    u16 => |n| Self::Int(i64::from(n));
    bool => |b| Self::Int(i64::from(b));
    Timestamp => |t| Self::Int(t.0);
    &str => |s| Self::Text(s.to_owned());
    &String => |s| Self::Text(s.clone());
    String => |s| Self::Text(s);
    Vec<u8> => |b| Self::Bytes(b);
    &[u8] => |b| Self::Bytes(b.to_vec());
    &AccountId => |id| Self::Text(id.as_str().to_owned());
    &Region => |id| Self::Text(id.as_str().to_owned());
    &VolumeId => |id| Self::Text(id.to_string());
    &SnapshotId => |id| Self::Text(id.to_string());
}

impl<T: Into<Param>> From<Option<T>> for Param {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// The parameters `$1`, `$2`, … of a statement: `tx.execute(sql, params![account, 7, None::<i64>])`.
#[macro_export]
macro_rules! params {
    () => { &[] as &[$crate::Param] };
    ($($value:expr),+ $(,)?) => { &[$($crate::Param::from($value)),+] };
}

/// A row of a result. Clones share its values.
#[derive(Clone)]
pub struct Row(Arc<Values>);

struct Values {
    columns: Box<[Param]>,
    /// What [`Row::decoded`] made of them.
    decoded: OnceLock<Arc<dyn Any + Send + Sync>>,
}

impl Row {
    pub(crate) fn new(columns: Vec<Param>) -> Self {
        Self(Arc::new(Values { columns: columns.into(), decoded: OnceLock::new() }))
    }

    pub(crate) fn columns(&self) -> &[Param] {
        &self.0.columns
    }

    /// What the row stands for, as `decode` reads it. It is kept with the row, so that a row that is read
    /// again and again ([`crate::Db::read_often`]) is decoded once. A row is decoded as one type, and what
    /// is sealed in it stays sealed: it lives as long as the row does in memory.
    ///
    /// # Errors
    /// As `decode` answers.
    pub fn decoded<T, E>(
        &self,
        decode: impl FnOnce(&Self) -> std::result::Result<T, E>,
    ) -> std::result::Result<Arc<T>, E>
    where
        T: Any + Send + Sync,
    {
        let kept = self.0.decoded.get().and_then(|kept| Arc::clone(kept).downcast().ok());
        if let Some(kept) = kept {
            return Ok(kept);
        }
        let decoded = Arc::new(decode(self)?);
        // Another thread may have been first, with the same.
        let _ = self.0.decoded.set(Arc::clone(&decoded) as _);
        Ok(decoded)
    }

    /// The column at `index`, counted from zero.
    ///
    /// # Errors
    /// [`Error::Column`] when there is no such column or it holds another kind of value.
    pub fn get<T: FromColumn>(&self, index: usize) -> Result<T> {
        let value = self.columns().get(index);
        value.and_then(T::from_column).ok_or_else(|| Error::Column {
            index,
            expected: T::EXPECTED,
            found: value.map_or("no column", Param::kind),
        })
    }

    /// How many columns there are.
    pub fn len(&self) -> usize {
        self.columns().len()
    }

    /// Whether there is no column.
    pub fn is_empty(&self) -> bool {
        self.columns().is_empty()
    }
}

impl PartialEq for Row {
    fn eq(&self, other: &Self) -> bool {
        self.columns() == other.columns()
    }
}

impl Eq for Row {}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Row").field(&self.columns()).finish()
    }
}

/// A type that can be read from a column.
pub trait FromColumn: Sized {
    /// What the column has to hold, for the error's text.
    const EXPECTED: &'static str;
    /// `None` when the column holds something else.
    fn from_column(value: &Param) -> Option<Self>;
}

macro_rules! from_column {
    ($($type:ty, $expected:literal, $pattern:pat => $value:expr;)*) => {
        $(impl FromColumn for $type {
            const EXPECTED: &'static str = $expected;
            fn from_column(value: &Param) -> Option<Self> {
                match value {
                    $pattern => $value,
                    _ => None,
                }
            }
        })*
    };
}

from_column! {
    i64, "an integer", Param::Int(n) => Some(*n);
    u64, "an integer that is not negative", Param::Int(n) => u64::try_from(*n).ok();
    u32, "an integer of 32 bits", Param::Int(n) => u32::try_from(*n).ok();
    bool, "0 or 1", Param::Int(n) => match n { 0 => Some(false), 1 => Some(true), _ => None };
    Timestamp, "an instant in milliseconds", Param::Int(n) => Some(Self(*n));
    String, "a text", Param::Text(s) => Some(s.clone());
    Vec<u8>, "bytes", Param::Bytes(b) => Some(b.clone());
    AccountId, "an account id", Param::Text(s) => Self::parse(s).ok();
    Region, "a region name", Param::Text(s) => Self::parse(s).ok();
    VolumeId, "a volume id", Param::Text(s) => Self::parse(s).ok();
    SnapshotId, "a snapshot id", Param::Text(s) => Self::parse(s).ok();
}

impl<T: FromColumn> FromColumn for Option<T> {
    const EXPECTED: &'static str = T::EXPECTED;
    fn from_column(value: &Param) -> Option<Self> {
        match value {
            Param::Null => Some(None),
            other => T::from_column(other).map(Some),
        }
    }
}
