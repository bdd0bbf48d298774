//! Encryption context: the public names and values a ciphertext is bound to.

use std::collections::BTreeMap;

/// Largest serialized context (spec 20, B.7).
pub const CONTEXT_BYTES_MAX: usize = 8192;

/// Key of the one pair EBS puts into every context (KMS guide, "Amazon EBS encryption context").
pub const EBS_CONTEXT_KEY: &str = "aws:ebs:id";

/// Why a set of pairs is no encryption context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContextError {
    /// The same name twice: which value was meant is not knowable.
    #[error("the encryption context names a key twice")]
    DuplicateKey,
    /// Above [`CONTEXT_BYTES_MAX`].
    #[error("the encryption context is larger than {CONTEXT_BYTES_MAX} bytes")]
    TooLarge,
}

/// Case-sensitive pairs, sorted by the UTF-8 bytes of their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EncryptionContext(BTreeMap<String, String>);

impl EncryptionContext {
    /// Collects pairs.
    ///
    /// # Errors
    /// When a name repeats or the whole is too large.
    pub fn new(pairs: impl IntoIterator<Item = (String, String)>) -> Result<Self, ContextError> {
        let mut map = BTreeMap::new();
        let mut length = 2;
        for (key, value) in pairs {
            length += 4 + key.len() + value.len();
            if length > CONTEXT_BYTES_MAX {
                return Err(ContextError::TooLarge);
            }
            if map.insert(key, value).is_some() {
                return Err(ContextError::DuplicateKey);
            }
        }
        Ok(Self(map))
    }

    /// The context EBS uses: the volume id for volumes and what CreateSnapshot makes of them, the snapshot
    /// id for CopySnapshot and StartSnapshot (spec 20, C.1).
    pub fn ebs(id: &str) -> Self {
        Self(BTreeMap::from([(EBS_CONTEXT_KEY.to_owned(), id.to_owned())]))
    }

    /// The pairs, sorted by name.
    pub fn pairs(&self) -> &BTreeMap<String, String> {
        &self.0
    }

    /// Whether there are no pairs, which is how "no context" is written.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Count and pairs with 16-bit big-endian lengths, the serialization of the AWS Encryption SDK.
    pub(crate) fn serialize_into(&self, target: &mut Vec<u8>) {
        let count =
            u16::try_from(self.0.len()).expect("a context of 8 KiB has fewer than 65,536 pairs");
        target.extend_from_slice(&count.to_be_bytes());
        for (key, value) in &self.0 {
            crate::primitive::push_field(target, key.as_bytes());
            crate::primitive::push_field(target, value.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(key: &str, value: &str) -> (String, String) {
        (key.to_owned(), value.to_owned())
    }

    #[test]
    fn serialization_is_sorted_and_length_prefixed() {
        let context = EncryptionContext::new([pair("b", "2"), pair("a", "")]).unwrap();
        let mut bytes = Vec::new();
        context.serialize_into(&mut bytes);
        assert_eq!(bytes, b"\0\x02\0\x01a\0\0\0\x01b\0\x012");
    }

    #[test]
    fn duplicates_and_excess_are_refused() {
        assert_eq!(
            EncryptionContext::new([pair("a", "1"), pair("a", "1")]),
            Err(ContextError::DuplicateKey)
        );
        let limit = CONTEXT_BYTES_MAX - 2 - 4 - 1;
        assert!(EncryptionContext::new([pair("a", &"x".repeat(limit))]).is_ok());
        assert_eq!(
            EncryptionContext::new([pair("a", &"x".repeat(limit + 1))]),
            Err(ContextError::TooLarge)
        );
    }
}
