//! The value that stands for a snapshot outside the store.

use super::Error;
use super::codec::{Fields, Malformed};
use super::node::Facts;
use super::pack::ItemRef;
use crate::page::{BLOCK_BYTES, DataKey, KeyCheckValue};

const ROOT_VERSION: u8 = 1;

/// A snapshot: small, immutable, stored in the control database. It proves everything it names,
/// so whoever keeps it from being changed keeps the snapshot from being changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotRoot {
    pub(super) record: ItemRef,
    pub(super) facts: Facts,
}

impl SnapshotRoot {
    /// Bytes of [`SnapshotRoot::to_bytes`].
    pub const BYTES: usize = 1 + ItemRef::BYTES + Facts::BYTES;

    /// The form to store.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Self::BYTES);
        bytes.push(ROOT_VERSION);
        self.record.encode(&mut bytes);
        self.facts.encode(&mut bytes);
        bytes
    }

    /// The inverse of [`SnapshotRoot::to_bytes`].
    ///
    /// # Errors
    /// [`Error::UnknownVersion`], [`Error::Malformed`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let what = "snapshot root";
        match bytes.first() {
            Some(&ROOT_VERSION) => {}
            Some(&version) => return Err(Error::UnknownVersion { what, version }),
            None => return Err(Error::Malformed { what }),
        }
        Self::decode(&bytes[1..]).map_err(|Malformed| Error::Malformed { what })
    }

    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut fields = Fields::new(bytes);
        let root =
            Self { record: ItemRef::decode(&mut fields)?, facts: Facts::decode(&mut fields)? };
        fields.finish()?;
        Ok(root)
    }

    /// Names this root and no other; random.
    pub fn id(&self) -> [u8; 16] {
        self.facts.id
    }

    /// Shared by all snapshots that descend from one another; only these can be compared.
    pub fn series(&self) -> [u8; 16] {
        self.facts.series
    }

    /// Bytes in the volume.
    pub fn volume_bytes(&self) -> u64 {
        self.facts.volume_bytes
    }

    /// 512 KiB blocks in the volume, the last one perhaps in part.
    pub fn volume_blocks(&self) -> u64 {
        self.facts.volume_bytes.div_ceil(BLOCK_BYTES as u64)
    }

    /// Recognises the data key, when it was known to whoever made the snapshot.
    pub fn key_check(&self) -> Option<KeyCheckValue> {
        self.facts.key_check
    }

    /// Whether `key` is the snapshot's data key, as far as the snapshot knows.
    ///
    /// # Errors
    /// [`Error::WrongKey`].
    pub fn check_key(&self, key: &DataKey) -> Result<(), Error> {
        match self.key_check() {
            Some(check) if check != key.check_value() => Err(Error::WrongKey),
            _ => Ok(()),
        }
    }

    /// Counts the snapshots of the series; a child has a higher one than its parent.
    pub fn generation(&self) -> u32 {
        self.facts.generation
    }

    /// Blocks the snapshot holds, its own and its ancestors'.
    pub fn full_blocks(&self) -> u64 {
        self.facts.full_blocks
    }

    /// `FullSnapshotSizeInBytes`: all written blocks at that point, not the increment.
    pub fn full_bytes(&self) -> u64 {
        self.facts.full_blocks * BLOCK_BYTES as u64
    }

    /// Blocks this snapshot stored itself.
    pub fn incremental_blocks(&self) -> u64 {
        self.facts.changed_blocks
    }
}

/// How far an export or a copy has come: enough to go on after a restart. Its [`root`] must be
/// among the live roots of every collection until the work is finished or given up.
///
/// [`root`]: Checkpoint::root
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    pub(super) root: SnapshotRoot,
    /// Everything below is done.
    pub(super) next_block: u64,
    pub(super) blocks_done: u64,
    /// Of a copy: what it adds to. What is below `next_block` is complete only together with that.
    pub(super) added_to: Option<AddedTo>,
}

/// What a copy adds to: names the earlier source whose copy it began as; zeros when it began as nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AddedTo(pub(super) [u8; 16]);

impl AddedTo {
    pub(super) fn of(earlier: Option<&SnapshotRoot>) -> Self {
        Self(earlier.map_or([0; 16], SnapshotRoot::id))
    }
}

impl Checkpoint {
    /// The part done so far, in the form of a snapshot.
    pub fn root(&self) -> &SnapshotRoot {
        &self.root
    }

    /// Blocks done.
    pub fn blocks_done(&self) -> u64 {
        self.blocks_done
    }

    /// The form to store.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.root.to_bytes();
        bytes.extend_from_slice(&self.next_block.to_le_bytes());
        bytes.extend_from_slice(&self.blocks_done.to_le_bytes());
        bytes.extend(self.added_to.iter().flat_map(|AddedTo(id)| id));
        bytes
    }

    /// The inverse of [`Checkpoint::to_bytes`].
    ///
    /// # Errors
    /// [`Error::UnknownVersion`], [`Error::Malformed`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let malformed = |Malformed| Error::Malformed { what: "checkpoint" };
        let (root, rest) =
            bytes.split_at_checked(SnapshotRoot::BYTES).ok_or(malformed(Malformed))?;
        let root = SnapshotRoot::from_bytes(root)?;
        let mut fields = Fields::new(rest);
        let next_block = fields.u64().map_err(malformed)?;
        let blocks_done = fields.u64().map_err(malformed)?;
        // Work that is no copy ends here, and so did copies once.
        let added_to = match fields.is_empty() {
            true => None,
            false => Some(AddedTo(fields.array().map_err(malformed)?)),
        };
        fields.finish().map_err(malformed)?;
        Ok(Self { root, next_block, blocks_done, added_to })
    }
}
