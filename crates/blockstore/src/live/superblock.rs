//! The superblock: the one mutable place of a volume, from which everything else is reached.
//!
//! Both slots hold the same content except while one of them is being written. A power cut during
//! a write leaves the other; damage to one at rest, read as something else or not at all, leaves the
//! other *without rolling back*, because space named by an old superblock is released only after both
//! slots hold the new one.

use super::codec::{get, get_u16, get_u32, get_u64, put};
use super::damage::{Found, READS_MAX, read_often};
use super::layout::{
    ABSENT, CUTS_MAX, FORMAT_VERSION, FORMAT_VERSION_OLDEST, HEIGHT_MAX, Location, SLOT_BYTES,
    SLOT_COUNT, SegmentIndex, check_size,
};
use super::run::RunRef;
use super::{Disk, Error};
use crate::page::{KeyCheckValue, SUITE_AES_256_GCM, Salt, StructureKey, StructureKind, Tag};
use base::Rng;
use std::fmt;

const MAGIC: [u8; 8] = *b"SRVOLUME";
/// Clear bytes of a slot: magic 8, version 2, suite 1, slot 1, zero 4, salt 32, tag 16.
pub(super) const CLEAR_BYTES: usize = 64;
/// Bytes of the sealed part before the cuts.
const CUTS_AT: usize = 256;
/// Bytes of one retained cut.
const CUT_BYTES: usize = 80;
/// Bytes of the sealed part before the exports.
const EXPORTS_AT: usize = CUTS_AT + CUTS_MAX * CUT_BYTES;
/// Bytes of one remembered export.
const EXPORT_BYTES: usize = 24;
/// Exports remembered; of older ones a full export is made.
pub(super) const EXPORTS_MAX: usize = 64;

/// Where the sealed part has the newest page of the runs.
const RUNS_AT: usize = EXPORTS_AT + EXPORTS_MAX * EXPORT_BYTES;

const _: () = assert!(CLEAR_BYTES + RUNS_AT + RunRef::BYTES <= SLOT_BYTES);

/// The caller's name for a cut or a base: 1 to 32 visible ASCII characters, a snapshot id as a
/// rule.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CutId([u8; 32]);

impl CutId {
    /// Takes a name.
    ///
    /// Returns `None` when it is empty, longer than 32 bytes or not visible ASCII.
    pub fn new(name: &str) -> Option<Self> {
        let valid = (1..=32).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic());
        valid.then(|| {
            let mut bytes = [0; 32];
            bytes[..name.len()].copy_from_slice(name.as_bytes());
            Self(bytes)
        })
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        let length = self.0.iter().position(|byte| *byte == 0).unwrap_or(self.0.len());
        std::str::from_utf8(&self.0[..length]).expect("only visible ASCII is let in")
    }

    pub(super) fn to_bytes(self) -> [u8; 32] {
        self.0
    }

    pub(super) fn from_bytes(bytes: [u8; 32]) -> Option<Self> {
        let id = Self(bytes);
        let length = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        let valid = length > 0
            && bytes[..length].iter().all(u8::is_ascii_graphic)
            && bytes[length..].iter().all(|byte| *byte == 0);
        valid.then_some(id)
    }
}

impl From<&base::SnapshotId> for CutId {
    fn from(id: &base::SnapshotId) -> Self {
        Self::new(id.as_str()).expect("a snapshot id has 22 visible ASCII characters at most")
    }
}

impl fmt::Display for CutId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for CutId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A reference to a map page, as its parent holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NodeRef {
    /// Where it lies; [`ABSENT`] when nothing below was ever written.
    pub(super) location: Location,
    /// What proves it.
    pub(super) tag: Tag,
    /// The generation in which the page was written: who may still refer to it.
    pub(super) written: u32,
    /// The newest generation of any change below: what an export may skip.
    pub(super) changed: u32,
}

impl NodeRef {
    pub(super) const ABSENT: Self =
        Self { location: ABSENT, tag: Tag([0; 16]), written: 0, changed: 0 };
    pub(super) const BYTES: usize = 32;

    pub(super) fn is_absent(&self) -> bool {
        self.location == ABSENT
    }

    pub(super) fn encode(&self, bytes: &mut [u8], at: usize) {
        put(bytes, at, &self.location.to_le_bytes());
        put(bytes, at + 8, &self.tag.0);
        put(bytes, at + 24, &self.written.to_le_bytes());
        put(bytes, at + 28, &self.changed.to_le_bytes());
    }

    pub(super) fn decode(bytes: &[u8], at: usize) -> Self {
        Self {
            location: get_u64(bytes, at),
            tag: Tag(get(bytes, at + 8)),
            written: get_u32(bytes, at + 24),
            changed: get_u32(bytes, at + 28),
        }
    }
}

/// The root of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Root {
    pub(super) node: NodeRef,
    /// Inner levels; 0 only when the map is empty.
    pub(super) height: u8,
}

/// Where the log goes on after everything the root contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LogHead {
    /// The sequence number of the next chunk.
    pub(super) sequence: u64,
    /// The tag of the chunk before it.
    pub(super) previous: Tag,
    /// The segment it lies in, whose salt is in the segment table.
    pub(super) segment: SegmentIndex,
    /// Its position there; 0 when the segment has not been opened yet.
    pub(super) position: u32,
    /// The generation of what is written next.
    pub(super) generation: u32,
}

/// Where the first page of the segment table lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TableRef {
    pub(super) location: Location,
    pub(super) tag: Tag,
    pub(super) salt: Salt,
    /// Segments in the table.
    pub(super) count: u32,
}

/// A retained cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CutRecord {
    pub(super) id: CutId,
    pub(super) generation: u32,
    pub(super) volume_bytes: u64,
    pub(super) root: Root,
}

/// What a superblock says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Superblock {
    /// Which slot it was read from. Not stored.
    pub(super) slot: u64,
    /// Grows with every write of the superblock.
    pub(super) epoch: u64,
    /// Grows with every opening of the volume; segments are never shared between incarnations.
    pub(super) incarnation: u64,
    /// The fencing epoch of the newest attachment that opened the volume; 0 before the first.
    pub(super) writer: u64,
    pub(super) volume_bytes: u64,
    pub(super) segment_pages: u32,
    pub(super) root: Root,
    /// Changes that are not in the leaves below the root.
    pub(super) runs: RunRef,
    pub(super) head: LogHead,
    pub(super) table: TableRef,
    /// Known from the first opening with a data key on.
    pub(super) key_check: Option<KeyCheckValue>,
    /// The snapshot that absent pages fall through to.
    pub(super) base: Option<CutId>,
    /// By generation, ascending.
    pub(super) cuts: Vec<CutRecord>,
    /// Snapshots the volume once equalled, and at which generation; oldest first.
    pub(super) exports: Vec<([u8; 16], u32)>,
}

/// The fencing epoch of the attachment that opened a volume last.
///
/// # Errors
/// When no superblock can be read.
pub(crate) fn last_writer(disk: &dyn Disk, key: &StructureKey) -> Result<u64, Error> {
    Superblock::load(disk, key).map(|stored| stored.writer)
}

impl Superblock {
    /// Writes both slots, each durable before the other is touched; the one this superblock was
    /// read from last, because it may be the only one that is whole. Written anew, one that could not
    /// be read may be whole again.
    pub(super) fn store(
        &self,
        disk: &dyn Disk,
        key: &StructureKey,
        rng: &dyn Rng,
    ) -> Result<(), Error> {
        for slot in [self.other_slot(), self.slot] {
            self.store_in(slot, disk, key, rng)?;
        }
        Ok(())
    }

    fn other_slot(&self) -> u64 {
        (self.slot + 1) % SLOT_COUNT
    }

    fn store_in(
        &self,
        slot: u64,
        disk: &dyn Disk,
        key: &StructureKey,
        rng: &dyn Rng,
    ) -> Result<(), Error> {
        let bytes = self.seal(slot, key, rng);
        disk.write(slot * SLOT_BYTES as u64, &bytes).map_err(Error::disk("write a superblock"))?;
        disk.flush().map_err(Error::disk("flush a superblock"))
    }

    /// Has both slots say what this one does, as it was loaded. Where storing was interrupted, the other
    /// is older and may name what is free by this one: once that is written anew, the other would be no
    /// use if the medium lost this one.
    pub(super) fn store_in_other(
        &self,
        disk: &dyn Disk,
        key: &StructureKey,
        rng: &dyn Rng,
    ) -> Result<(), Error> {
        let other = self.other_slot();
        let found = match read_often(disk, READS_MAX, || read_slot(disk, other))? {
            Found::Whole(mut bytes) => Self::open(other, &mut bytes, key).ok(),
            Found::Lost(_) => None,
        };
        match found {
            Some(found) if found.epoch == self.epoch => Ok(()),
            _ => self.store_in(other, disk, key, rng),
        }
    }

    /// Reads the newest superblock that opens. One that the medium has lost is one that does not open,
    /// even if it was the newer: all that the other names is still there. A disk that does not answer
    /// says nothing of either.
    pub(super) fn load(disk: &dyn Disk, key: &StructureKey) -> Result<Self, Error> {
        let mut newest: Option<Self> = None;
        let (mut refused, mut lost) = (None, None);
        for slot in 0..SLOT_COUNT {
            let mut bytes = match read_often(disk, READS_MAX, || read_slot(disk, slot))? {
                Found::Whole(bytes) => bytes,
                Found::Lost(error) => {
                    lost = Some(error);
                    continue;
                }
            };
            match Self::open(slot, &mut bytes, key) {
                Ok(found) if newest.as_ref().is_none_or(|newest| newest.epoch < found.epoch) => {
                    newest = Some(found);
                }
                Ok(_) => {}
                Err(error) => refused = Some(error),
            }
        }
        match (newest, lost) {
            (Some(newest), None) => Ok(newest),
            (Some(newest), Some(error)) => {
                tracing::error!(%error, "one of a volume's two superblocks is lost");
                Ok(newest)
            }
            (None, lost) => Err(lost.or(refused).unwrap_or(Error::NoSuperblock)),
        }
    }

    /// Makes `writer` the attachment that all further superblocks name.
    pub(super) fn take_over(&mut self, writer: Option<u64>) -> Result<(), Error> {
        let given = writer.unwrap_or(self.writer);
        if given < self.writer {
            return Err(Error::Fenced { given, newest: self.writer });
        }
        self.writer = given;
        Ok(())
    }

    pub(super) fn seal(&self, slot: u64, key: &StructureKey, rng: &dyn Rng) -> Vec<u8> {
        let mut bytes = vec![0; SLOT_BYTES];
        self.encode(&mut bytes[CLEAR_BYTES..]);
        let salt = Salt::generate(rng);
        let tag =
            key.sealer(salt).seal_at(0, StructureKind::Superblock, slot, &mut bytes[CLEAR_BYTES..]);
        put(&mut bytes, 0, &MAGIC);
        put(&mut bytes, 8, &FORMAT_VERSION.to_le_bytes());
        bytes[10] = SUITE_AES_256_GCM;
        bytes[11] = slot as u8;
        put(&mut bytes, 16, &salt.0);
        put(&mut bytes, 48, &tag.0);
        bytes
    }

    pub(super) fn open(slot: u64, bytes: &mut [u8], key: &StructureKey) -> Result<Self, Error> {
        if bytes[..8] != MAGIC {
            return Err(Error::NoSuperblock);
        }
        let found = get_u16(bytes, 8);
        if !(FORMAT_VERSION_OLDEST..=FORMAT_VERSION).contains(&found) {
            return Err(Error::Version { found });
        }
        let clear = [SUITE_AES_256_GCM, slot as u8, 0, 0, 0, 0];
        let (salt, tag) = (Salt(get(bytes, 16)), Tag(get(bytes, 48)));
        if bytes[10..16] != clear
            || key
                .opener(salt)
                .open(0, StructureKind::Superblock, slot, &tag, &mut bytes[CLEAR_BYTES..])
                .is_err()
        {
            return Err(Error::NoSuperblock);
        }
        Self::decode(slot, &bytes[CLEAR_BYTES..]).ok_or(Error::corrupt("superblock", slot * 2))
    }

    fn encode(&self, b: &mut [u8]) {
        put(b, 0, &self.epoch.to_le_bytes());
        put(b, 8, &self.incarnation.to_le_bytes());
        put(b, 16, &self.volume_bytes.to_le_bytes());
        put(b, 24, &self.segment_pages.to_le_bytes());
        put(b, 28, &self.head.generation.to_le_bytes());
        self.root.node.encode(b, 32);
        b[64] = self.root.height;
        put(b, 72, &self.head.sequence.to_le_bytes());
        put(b, 80, &self.head.previous.0);
        put(b, 96, &self.head.segment.to_le_bytes());
        put(b, 100, &self.head.position.to_le_bytes());
        put(b, 104, &self.table.location.to_le_bytes());
        put(b, 112, &self.table.tag.0);
        put(b, 128, &self.table.salt.0);
        put(b, 160, &self.table.count.to_le_bytes());
        put(b, 164, &(self.cuts.len() as u32).to_le_bytes());
        if let Some(value) = self.key_check {
            b[168] = 1;
            put(b, 176, &value.0);
        }
        if let Some(base) = self.base {
            put(b, 192, &base.to_bytes());
        }
        for (cut, b) in self.cuts.iter().zip(b[CUTS_AT..].chunks_exact_mut(CUT_BYTES)) {
            put(b, 0, &cut.id.to_bytes());
            put(b, 32, &cut.generation.to_le_bytes());
            b[36] = cut.root.height;
            put(b, 40, &cut.volume_bytes.to_le_bytes());
            cut.root.node.encode(b, 48);
        }
        put(b, 232, &(self.exports.len() as u32).to_le_bytes());
        put(b, 248, &self.writer.to_le_bytes());
        self.runs.encode(b, RUNS_AT);
        let places = b[EXPORTS_AT..].chunks_exact_mut(EXPORT_BYTES);
        for ((snapshot, generation), b) in self.exports.iter().zip(places) {
            put(b, 0, snapshot);
            put(b, 16, &generation.to_le_bytes());
        }
    }

    pub(super) fn decode(slot: u64, b: &[u8]) -> Option<Self> {
        let cut_count = get_u32(b, 164) as usize;
        let export_count = get_u32(b, 232) as usize;
        if cut_count > CUTS_MAX || export_count > EXPORTS_MAX {
            return None;
        }
        let exports = b[EXPORTS_AT..].chunks_exact(EXPORT_BYTES).take(export_count);
        let cuts = b[CUTS_AT..].chunks_exact(CUT_BYTES).take(cut_count).map(|b| {
            Some(CutRecord {
                id: CutId::from_bytes(get(b, 0))?,
                generation: get_u32(b, 32),
                volume_bytes: get_u64(b, 40),
                root: Root { node: NodeRef::decode(b, 48), height: b[36] },
            })
        });
        let base: [u8; 32] = get(b, 192);
        let superblock = Self {
            slot,
            epoch: get_u64(b, 0),
            incarnation: get_u64(b, 8),
            writer: get_u64(b, 248),
            volume_bytes: get_u64(b, 16),
            segment_pages: get_u32(b, 24),
            root: Root { node: NodeRef::decode(b, 32), height: b[64] },
            runs: RunRef::decode(b, RUNS_AT)?,
            head: LogHead {
                sequence: get_u64(b, 72),
                previous: Tag(get(b, 80)),
                segment: get_u32(b, 96),
                position: get_u32(b, 100),
                generation: get_u32(b, 28),
            },
            table: TableRef {
                location: get_u64(b, 104),
                tag: Tag(get(b, 112)),
                salt: Salt(get(b, 128)),
                count: get_u32(b, 160),
            },
            key_check: (b[168] == 1).then(|| KeyCheckValue(get(b, 176))),
            base: if base == [0; 32] { None } else { Some(CutId::from_bytes(base)?) },
            cuts: cuts.collect::<Option<_>>()?,
            exports: exports.map(|b| (get(b, 0), get_u32(b, 16))).collect(),
        };
        let sane = check_size(superblock.volume_bytes).is_ok()
            && superblock.segment_pages >= 8
            && superblock.cuts.iter().all(|cut| cut.root.height <= HEIGHT_MAX)
            && superblock.root.height <= HEIGHT_MAX;
        sane.then_some(superblock)
    }
}

fn read_slot(disk: &dyn Disk, slot: u64) -> Result<Vec<u8>, Error> {
    let mut bytes = vec![0; SLOT_BYTES];
    let read = disk.read(slot * SLOT_BYTES as u64, &mut bytes);
    read.map(|()| bytes).map_err(Error::disk("read a superblock"))
}
