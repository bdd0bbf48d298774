//! The protocol-neutral tree between the codecs and the shapes.

use base::Timestamp;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fmt;
use zeroize::Zeroize;

/// A decoded value. Absence is the absence of the key, never a variant.
///
/// `Debug` shows structure and sizes only, because a tree may hold passwords and plaintext.
#[derive(Clone, PartialEq)]
pub enum Value {
    /// A boolean.
    Bool(bool),
    /// An integer of either width.
    Int(i64),
    /// A floating-point number.
    Float(f64),
    /// Text, including enumerated text.
    String(String),
    /// Bytes.
    Blob(Blob),
    /// An instant.
    Timestamp(Timestamp),
    /// A list.
    List(Vec<Value>),
    /// A map from text.
    Map(BTreeMap<String, Value>),
    /// A structure.
    Struct(Fields),
}

impl Value {
    /// The text, when this is text.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The fields, when this is a structure.
    pub fn as_fields(&self) -> Option<&Fields> {
        match self {
            Self::Struct(fields) => Some(fields),
            _ => None,
        }
    }

    /// A structure without any field.
    pub fn empty() -> Self {
        Self::Struct(Fields::default())
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(_) => f.write_str("Bool(..)"),
            Self::Int(_) => f.write_str("Int(..)"),
            Self::Float(_) => f.write_str("Float(..)"),
            Self::String(text) => write!(f, "String({} bytes)", text.len()),
            Self::Blob(blob) => blob.fmt(f),
            Self::Timestamp(at) => at.fmt(f),
            Self::List(items) => f.debug_list().entries(items).finish(),
            Self::Map(entries) => f.debug_map().entries(entries).finish(),
            Self::Struct(fields) => fields.fmt(f),
        }
    }
}

/// The present members of a structure, keyed by [`crate::Member::name`].
#[derive(Clone, Default, PartialEq)]
pub struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    /// The value of a member, when present.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// Removes and returns the value of a member.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        let at = self.0.iter().position(|(key, _)| *key == name)?;
        Some(self.0.swap_remove(at).1)
    }

    /// Adds a member. Each name is added at most once.
    pub fn push(&mut self, name: &'static str, value: Value) {
        debug_assert!(self.get(name).is_none(), "{name} is set twice");
        self.0.push((name, value));
    }

    /// The present members.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Value)> {
        self.0.iter().map(|(key, value)| (*key, value))
    }

    /// Whether no member is present.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// Bytes of a request or reply: ciphertext, a data key, a snapshot block. `Debug` hides them.
///
/// Clones share the bytes; the last owner wipes them, since they may be a plaintext data key.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Blob(Bytes);

impl Drop for Blob {
    fn drop(&mut self) {
        if let Ok(mut bytes) = std::mem::take(&mut self.0).try_into_mut() {
            bytes.as_mut().zeroize();
        }
    }
}

impl Blob {
    /// Wraps bytes without copying them.
    pub fn new(bytes: impl Into<Bytes>) -> Self {
        Self(bytes.into())
    }

    /// The shared bytes.
    pub fn into_bytes(mut self) -> Bytes {
        std::mem::take(&mut self.0)
    }
}

impl std::ops::Deref for Blob {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Blob {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl From<&[u8]> for Blob {
    fn from(bytes: &[u8]) -> Self {
        Self(Bytes::copy_from_slice(bytes))
    }
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Blob({} bytes)", self.0.len())
    }
}
