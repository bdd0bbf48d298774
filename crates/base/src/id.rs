//! Identifiers as users write them: `vol-0123456789abcdef0`, `111122223333`, `us-east-1`.

use crate::rng::Rng;
use std::fmt;

/// Why a text is not the identifier it was taken for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not a valid {noun}")]
pub struct ParseIdError {
    /// What was expected, in the field's words: "volume ID".
    pub noun: &'static str,
    /// What was given.
    pub text: String,
}

/// Declares an EC2 resource id: a fixed prefix and 17 lowercase hexadecimal digits.
///
/// The short form of 8 digits is accepted as input and never made (spec 02, "IDs").
#[macro_export]
macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $noun:literal, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The prefix every id of this type begins with.
            pub const PREFIX: &'static str = $prefix;

            /// Parses an id.
            ///
            /// # Errors
            /// When the text is not the prefix followed by 8 or 17 lowercase hexadecimal digits.
            pub fn parse(text: &str) -> Result<Self, $crate::ParseIdError> {
                let digits = text.strip_prefix($prefix).unwrap_or("");
                let hex = digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
                if hex && matches!(digits.len(), 8 | 17) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err($crate::ParseIdError { noun: $noun, text: text.to_owned() })
                }
            }

            /// Makes a new random id in the long form.
            pub fn generate(rng: &dyn $crate::Rng) -> Self {
                Self(format!(concat!($prefix, "{}"), $crate::id::hex_digits(rng, 17)))
            }

            /// The id as it is written on the wire.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl ::std::fmt::Debug for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl $crate::serde::Serialize for $name {
            fn serialize<S: $crate::serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(&self.0)
            }
        }

        impl<'de> $crate::serde::Deserialize<'de> for $name {
            fn deserialize<D: $crate::serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = <String as $crate::serde::Deserialize>::deserialize(d)?;
                Self::parse(&text).map_err($crate::serde::de::Error::custom)
            }
        }

        impl ::std::str::FromStr for $name {
            type Err = $crate::ParseIdError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::parse(text)
            }
        }
    };
}

id!(
    /// A live, writable block device.
    VolumeId,
    "volume ID",
    "vol-"
);
id!(
    /// A point-in-time copy of a volume's blocks.
    SnapshotId,
    "snapshot ID",
    "snap-"
);
id!(
    /// A machine that volumes are attached to.
    InstanceId,
    "instance ID",
    "i-"
);

/// `count` random lowercase hexadecimal digits, as the tail of an id.
pub fn hex_digits(rng: &dyn Rng, count: usize) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut bytes = vec![0u8; count];
    rng.fill(&mut bytes);
    bytes.iter().map(|b| char::from(DIGITS[usize::from(b & 15)])).collect()
}

/// A random version 4 UUID in its usual text form, as KMS key ids and event ids are.
pub fn uuid(rng: &dyn Rng) -> String {
    let mut b = [0u8; 16];
    rng.fill(&mut b);
    b[6] = (b[6] & 0x0f) | 0x40;
    b[8] = (b[8] & 0x3f) | 0x80;
    let mut text = String::with_capacity(36);
    for (index, byte) in b.into_iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        for digit in [byte >> 4, byte & 0x0f] {
            text.push(char::from(b"0123456789abcdef"[usize::from(digit)]));
        }
    }
    text
}

/// A tenant: twelve decimal digits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AccountId(String);

impl TryFrom<String> for AccountId {
    type Error = ParseIdError;
    fn try_from(text: String) -> Result<Self, ParseIdError> {
        Self::parse(&text)
    }
}

impl From<AccountId> for String {
    fn from(id: AccountId) -> Self {
        id.0
    }
}

impl AccountId {
    /// Parses an account id.
    ///
    /// # Errors
    /// When the text is not exactly twelve decimal digits.
    pub fn parse(text: &str) -> Result<Self, ParseIdError> {
        if text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ParseIdError { noun: "account ID", text: text.to_owned() })
        }
    }

    /// Makes a random account id that does not begin with zero.
    pub fn generate(rng: &dyn Rng) -> Self {
        let mut bytes = [0u8; 8];
        rng.fill(&mut bytes);
        let n = 100_000_000_000 + u64::from_le_bytes(bytes) % 900_000_000_000;
        Self(n.to_string())
    }

    /// The twelve digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A region name: lowercase letters, digits and dashes, as in `us-east-1`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Region(String);

impl TryFrom<String> for Region {
    type Error = ParseIdError;
    fn try_from(text: String) -> Result<Self, ParseIdError> {
        Self::parse(&text)
    }
}

impl From<Region> for String {
    fn from(id: Region) -> Self {
        id.0
    }
}

impl Region {
    /// Parses a region name. Whether the region is configured is the server's question.
    ///
    /// # Errors
    /// When the text is empty, longer than 32 bytes or has other characters.
    pub fn parse(text: &str) -> Result<Self, ParseIdError> {
        let valid = (1..=32).contains(&text.len())
            && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'));
        if valid {
            Ok(Self(text.to_owned()))
        } else {
            Err(ParseIdError { noun: "region", text: text.to_owned() })
        }
    }

    /// The region's name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::SeededRng;

    #[test]
    fn ids_round_trip_and_reject_near_misses() {
        let rng = SeededRng::new(7);
        let id = VolumeId::generate(&rng);
        assert_eq!(VolumeId::parse(id.as_str()), Ok(id));
        assert!(VolumeId::parse("vol-12345678").is_ok());
        for bad in
            ["", "vol-", "vol-1234567", "vol-0123456789ABCDEF0", "snap-12345678", "vol-12345678 "]
        {
            assert!(VolumeId::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn uuid_has_version_and_variant() {
        let text = uuid(&SeededRng::new(1));
        assert_eq!(text.len(), 36);
        assert_eq!(&text[14..15], "4");
        assert!(matches!(&text[19..20], "8" | "9" | "a" | "b"));
    }

    #[test]
    fn accounts_are_twelve_digits() {
        assert_eq!(AccountId::generate(&SeededRng::new(3)).as_str().len(), 12);
        assert!(AccountId::parse("11112222333").is_err());
        assert!(AccountId::parse("11112222333a").is_err());
    }
}
