//! The wrapped data key that travels with every volume and snapshot (spec 20, C.1).

use crate::column::Columns;
use crate::error::Result;
use base::Rng;
use serde::{Deserialize, Serialize};

/// A data key as it is stored: never in the clear.
///
/// For an encrypted resource `wrapped` is a KMS ciphertext; for a plain one it is sealed under a key
/// of the service. Both are bound to `context_id`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrappedKey {
    /// The ciphertext.
    pub wrapped: Vec<u8>,
    /// The value of `aws:ebs:id` in the encryption context: the volume's id for volumes and their
    /// snapshots, the snapshot's id for copies and direct snapshots.
    pub context_id: String,
    /// Equal exactly when the data key is the same: `DataEncryptionKeyId` on the wire.
    pub lineage: String,
}

impl WrappedKey {
    /// The name of a data key that was just made.
    pub fn new_lineage(rng: &dyn Rng) -> String {
        base::id::uuid(rng)
    }

    /// The same data key, wrapped again for another resource.
    pub fn rewrapped(&self, wrapped: Vec<u8>, context_id: &str) -> Self {
        Self { wrapped, context_id: context_id.to_owned(), lineage: self.lineage.clone() }
    }

    /// Reads the three columns `wrapped_key, context_id, lineage`, all present or all NULL.
    pub(crate) fn read(columns: &mut Columns<'_>) -> Result<Option<Self>> {
        let wrapped: Option<Vec<u8>> = columns.take()?;
        let context_id: Option<String> = columns.take()?;
        let lineage: Option<String> = columns.take()?;
        match (wrapped, context_id, lineage) {
            (Some(wrapped), Some(context_id), Some(lineage)) => {
                Ok(Some(Self { wrapped, context_id, lineage }))
            }
            (None, None, None) => Ok(None),
            _ => Err(columns.corrupt("wrapped_key")),
        }
    }
}
