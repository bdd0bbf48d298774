//! Packs: up to 64 frames or manifest nodes in one immutable object.
//!
//! - A pack's id is 96 random bits of its writer and the writer's count, so no two packs ever
//!   share an id. The key that seals a pack's structure is derived from the id, with the slot as
//!   nonce; a writer that retries a put sends the same bytes.
//! - A pack may be rewritten without its dead items. The rewritten pack is a new object, the next
//!   *revision* of the same id: the items keep slot, bytes and tag, and only their offsets change.
//!   References name the offset in revision 0; who does not find that object asks the directory
//!   of the newest revision. So reclaiming space never rewrites a manifest.
//! - A reference carries the item's tag, so an item cannot be replaced by another, nor by an
//!   older or newer one of the same block.

use super::codec::{Fields, Malformed};
use super::frame::{FRAME_BYTES_MAX, Frame, FrameError};
use super::reseal::Reseal;
use super::room::Room;
use crate::page::{
    OpenError, SUITE_AES_256_GCM, Salt, StructureKey, StructureKind, StructureSealer, Tag,
};
use base::Rng;
use objstore::Bytes;
use std::fmt;

/// The most items in a pack.
pub(super) const PACK_ITEMS_MAX: usize = 64;
/// A pack takes no further item beyond this size.
const PACK_BYTES_TARGET: usize = 32 << 20;
/// Rewriting drops at least one item, so there are fewer revisions than items.
pub(super) const REVISIONS_MAX: u32 = PACK_ITEMS_MAX as u32;

const PACK_MAGIC: &[u8; 4] = b"SRPK";
const FOOTER_MAGIC: &[u8; 4] = b"SRPE";
pub(super) const PACK_VERSION: u8 = 1;
const HEADER_BYTES: usize = 32;
const DIRECTORY_ENTRY_BYTES: usize = 33;
pub(super) const FOOTER_BYTES: usize = 80;

/// The most bytes of a pack that are not items.
pub(super) const PACK_OVERHEAD_BYTES_MAX: usize =
    HEADER_BYTES + 23 + PACK_ITEMS_MAX * DIRECTORY_ENTRY_BYTES + FOOTER_BYTES;

const _: () = assert!(PACK_BYTES_TARGET + FRAME_BYTES_MAX < objstore::OBJECT_BYTES_MAX);

/// Names a writer: one process working on one export, copy or upload session.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct WriterId(pub(super) [u8; 12]);

impl WriterId {
    pub(super) fn generate(rng: &dyn Rng) -> Self {
        let mut bytes = [0; 12];
        rng.fill(&mut bytes);
        Self(bytes)
    }

    pub(super) fn hex(self) -> String {
        hex(&self.0)
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        parse_hex(text).map(Self)
    }

    /// The directory of this writer's packs.
    pub(super) fn directory(self) -> String {
        format!("packs/{:02x}/{}", self.0[0], self.hex())
    }
}

/// Names a pack in all its revisions.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct PackId(pub(super) [u8; 16]);

impl PackId {
    fn new(writer: WriterId, sequence: u32) -> Self {
        let mut bytes = [0; 16];
        bytes[..12].copy_from_slice(&writer.0);
        bytes[12..].copy_from_slice(&sequence.to_be_bytes());
        Self(bytes)
    }

    pub(super) fn writer(self) -> WriterId {
        let mut bytes = [0; 12];
        bytes.copy_from_slice(&self.0[..12]);
        WriterId(bytes)
    }

    /// The object that holds a revision.
    pub(super) fn object(self, revision: u32) -> String {
        let sequence = hex(&self.0[12..]);
        let directory = self.writer().directory();
        if revision == 0 {
            format!("{directory}/{sequence}")
        } else {
            format!("{directory}/{sequence}.{revision}")
        }
    }

    /// The inverse of [`PackId::object`].
    pub(super) fn parse_object(name: &str) -> Option<(Self, u32)> {
        let mut parts = name.split('/');
        let ("packs", _, writer, file) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?)
        else {
            return None;
        };
        let writer = WriterId::parse(writer)?;
        let (sequence, revision) = match file.split_once('.') {
            None => (file, 0),
            Some((sequence, revision)) => (sequence, revision.parse().ok()?),
        };
        let id = Self::new(writer, u32::from_be_bytes(parse_hex(sequence)?));
        // Every object has one name; `.0`, `.+1` or another shard would be a second.
        (id.object(revision) == name).then_some((id, revision))
    }

    fn salt(self) -> Salt {
        // The structure key's other users draw 32 random bytes; ending in zeros and these words
        // a pack's salt is none of theirs.
        let mut salt = [0; 32];
        salt[..16].copy_from_slice(&self.0);
        salt[16..26].copy_from_slice(b"snappack1\0");
        Salt(salt)
    }

    /// The opener of this pack's items.
    pub(super) fn opener(self, key: &StructureKey) -> crate::page::StructureOpener {
        key.opener(self.salt())
    }

    fn directory_id(self) -> u64 {
        u64::from_le_bytes(self.0[8..].try_into().expect("eight bytes remain"))
    }
}

impl fmt::Debug for PackId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

/// Hands out the ids of one writer, each once.
pub(super) struct PackIds {
    writer: WriterId,
    next: u32,
}

impl PackIds {
    pub(super) fn new(writer: WriterId) -> Self {
        Self { writer, next: 0 }
    }

    pub(super) fn next(&mut self) -> PackId {
        let id = PackId::new(self.writer, self.next);
        self.next = self.next.checked_add(1).expect("a writer stops long before 2^32 packs");
        id
    }
}

/// What a pack holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum PackKind {
    Frames = 1,
    Nodes = 2,
}

impl PackKind {
    fn parse(byte: u8) -> Result<Self, Malformed> {
        match byte {
            1 => Ok(Self::Frames),
            2 => Ok(Self::Nodes),
            _ => Err(Malformed),
        }
    }
}

/// Points at an item and proves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ItemRef {
    pub(super) pack: PackId,
    pub(super) slot: u8,
    /// In revision 0.
    pub(super) offset: u32,
    pub(super) length: u32,
    pub(super) tag: Tag,
}

impl ItemRef {
    pub(super) const BYTES: usize = 41;

    pub(super) fn encode(&self, target: &mut Vec<u8>) {
        target.extend_from_slice(&self.pack.0);
        target.push(self.slot);
        target.extend_from_slice(&self.offset.to_le_bytes());
        target.extend_from_slice(&self.length.to_le_bytes());
        target.extend_from_slice(&self.tag.0);
    }

    pub(super) fn decode(fields: &mut Fields<'_>) -> Result<Self, Malformed> {
        let pack = PackId(fields.array()?);
        let slot = fields.u8()?;
        if usize::from(slot) >= PACK_ITEMS_MAX {
            return Err(Malformed);
        }
        let (offset, length) = (fields.u32()?, fields.u32()?);
        Ok(Self { pack, slot, offset, length, tag: Tag(fields.array()?) })
    }
}

/// A line of a pack's directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DirectoryEntry {
    pub(super) slot: u8,
    /// The block of a frame, the number of a node.
    pub(super) id: u64,
    pub(super) offset: u32,
    pub(super) length: u32,
    pub(super) tag: Tag,
}

/// A pack's own account of what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Directory {
    pub(super) kind: PackKind,
    /// Ascending by slot.
    pub(super) entries: Vec<DirectoryEntry>,
}

impl Directory {
    /// The directory before it is sealed, as that of one revision of one pack.
    pub(super) fn encode(&self, id: PackId, revision: u32) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(32 + self.entries.len() * DIRECTORY_ENTRY_BYTES);
        bytes.push(PACK_VERSION);
        bytes.push(self.kind as u8);
        bytes.push(self.entries.len() as u8);
        bytes.extend_from_slice(&id.0);
        bytes.extend_from_slice(&revision.to_le_bytes());
        for entry in &self.entries {
            bytes.push(entry.slot);
            bytes.extend_from_slice(&entry.id.to_le_bytes());
            bytes.extend_from_slice(&entry.offset.to_le_bytes());
            bytes.extend_from_slice(&entry.length.to_le_bytes());
            bytes.extend_from_slice(&entry.tag.0);
        }
        bytes
    }

    /// Reads what [`Directory::encode`] wrote for this revision of this pack.
    pub(super) fn decode(id: PackId, revision: u32, bytes: &[u8]) -> Result<Self, Malformed> {
        let mut fields = Fields::new(bytes);
        fields.expect(&[PACK_VERSION])?;
        let kind = PackKind::parse(fields.u8()?)?;
        let count = fields.u8()?;
        fields.expect(&id.0)?;
        fields.expect(&revision.to_le_bytes())?;
        let mut entries: Vec<DirectoryEntry> = Vec::with_capacity(usize::from(count));
        for _ in 0..count {
            let slot = fields.u8()?;
            let ascending = entries.last().is_none_or(|last| last.slot < slot);
            if !ascending || usize::from(slot) >= PACK_ITEMS_MAX {
                return Err(Malformed);
            }
            let (id, offset, length) = (fields.u64()?, fields.u32()?, fields.u32()?);
            entries.push(DirectoryEntry { slot, id, offset, length, tag: Tag(fields.array()?) });
        }
        fields.finish()?;
        Ok(Self { kind, entries })
    }

    pub(super) fn entry(&self, slot: u8) -> Option<&DirectoryEntry> {
        let at = self.entries.binary_search_by_key(&slot, |entry| entry.slot).ok()?;
        Some(&self.entries[at])
    }
}

/// A pack in the making.
pub(super) struct PackBuilder {
    id: PackId,
    directory: Directory,
    sealer: StructureSealer,
    bytes: Room,
}

impl PackBuilder {
    pub(super) fn new(id: PackId, kind: PackKind, key: &StructureKey) -> Self {
        Self::in_room(id, kind, key, Room::new(Vec::new(), HEADER_BYTES))
    }

    /// As [`PackBuilder::new`], in memory that was used for a pack before: new memory costs more
    /// than sealing what goes into it.
    pub(super) fn in_room(id: PackId, kind: PackKind, key: &StructureKey, mut bytes: Room) -> Self {
        let directory = Directory { kind, entries: Vec::new() };
        begin(&mut bytes, id, kind, 0);
        Self { id, directory, sealer: key.sealer(id.salt()), bytes }
    }

    pub(super) fn is_full(&self) -> bool {
        self.directory.entries.len() == PACK_ITEMS_MAX || self.bytes.len() >= PACK_BYTES_TARGET
    }

    pub(super) fn push_frame(&mut self, block: u64, frame: &Frame) -> ItemRef {
        let (slot, start) = (self.next_slot(), self.bytes.len());
        let tag = frame.encode_into(&mut self.sealer, slot, &mut self.bytes);
        self.enter(block, start, tag)
    }

    /// Puts a block into the pack under another data key; see [`Frame::reseal_into`].
    pub(super) fn push_resealed(
        &mut self,
        block: u64,
        frame: &Frame,
        keys: &mut Reseal<'_>,
    ) -> Result<ItemRef, FrameError> {
        let (slot, start) = (self.next_slot(), self.bytes.len());
        let tag = frame.reseal_into(keys, &mut self.sealer, slot, &mut self.bytes)?;
        Ok(self.enter(block, start, tag))
    }

    /// Seals a node into the pack.
    pub(super) fn push_node(&mut self, kind: StructureKind, id: u64, mut node: Vec<u8>) -> ItemRef {
        let position = node_position(self.next_slot());
        let tag = self.sealer.seal_at(position, kind, id, &mut node);
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&node);
        self.enter(id, start, tag)
    }

    fn next_slot(&self) -> u8 {
        assert!(self.directory.entries.len() < PACK_ITEMS_MAX, "a full pack takes no item");
        self.directory.entries.len() as u8
    }

    /// Enters what was appended from `start` on into the directory.
    fn enter(&mut self, id: u64, start: usize, tag: Tag) -> ItemRef {
        let (slot, (offset, length)) = (self.next_slot(), extent(&self.bytes, start));
        self.directory.entries.push(DirectoryEntry { slot, id, offset, length, tag });
        ItemRef { pack: self.id, slot, offset, length, tag }
    }

    /// Which pack it becomes.
    pub(super) fn id(&self) -> PackId {
        self.id
    }

    /// The object to store as revision 0.
    pub(super) fn finish(self, key: &StructureKey, rng: &dyn Rng) -> (PackId, Bytes) {
        (self.id, finish(self.id, 0, &self.directory, self.bytes, key, rng))
    }
}

/// Where a node is sealed in its pack; the other position of a slot authenticates frame bodies.
pub(super) fn node_position(slot: u8) -> u32 {
    u32::from(slot) * 2 + 1
}

/// Rewrites a pack with only the items that `keep` says, as `revision`. The items are copied as
/// they are; each was checked by the caller.
pub(super) fn rewrite(
    id: PackId,
    revision: u32,
    kind: PackKind,
    items: &[(DirectoryEntry, Bytes)],
    key: &StructureKey,
    rng: &dyn Rng,
) -> Bytes {
    assert!(revision > 0, "revision 0 is what the writer wrote");
    let mut bytes = Room::new(Vec::new(), HEADER_BYTES);
    begin(&mut bytes, id, kind, revision);
    let mut directory = Directory { kind, entries: Vec::with_capacity(items.len()) };
    for (entry, item) in items {
        let (offset, length) = append(&mut bytes, item);
        directory.entries.push(DirectoryEntry { offset, length, ..*entry });
    }
    finish(id, revision, &directory, bytes, key, rng)
}

fn begin(bytes: &mut Room, id: PackId, kind: PackKind, revision: u32) {
    bytes.extend_from_slice(PACK_MAGIC);
    bytes.extend_from_slice(&[PACK_VERSION, SUITE_AES_256_GCM, kind as u8, 0]);
    bytes.extend_from_slice(&id.0);
    bytes.extend_from_slice(&revision.to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    assert_eq!(bytes.len(), HEADER_BYTES, "the header has one size");
}

fn append(bytes: &mut Room, item: &[u8]) -> (u32, u32) {
    let start = bytes.len();
    bytes.extend_from_slice(item);
    extent(bytes, start)
}

/// Offset and length of what was appended from `start` on.
fn extent(bytes: &Room, start: usize) -> (u32, u32) {
    let number = |n: usize| u32::try_from(n).expect("a pack is far smaller than 4 GiB");
    (number(start), number(bytes.len() - start))
}

/// The directory is sealed under a salt of its own, because two attempts at one revision may
/// differ in what they keep.
fn finish(
    id: PackId,
    revision: u32,
    directory: &Directory,
    mut bytes: Room,
    key: &StructureKey,
    rng: &dyn Rng,
) -> Bytes {
    let mut sealed = directory.encode(id, revision);
    let salt = Salt::generate(rng);
    let tag =
        key.sealer(salt).seal_at(0, StructureKind::PackDirectory, id.directory_id(), &mut sealed);
    let (offset, length) = append(&mut bytes, &sealed);
    let start = bytes.len();
    bytes.extend_from_slice(FOOTER_MAGIC);
    bytes.extend_from_slice(&[PACK_VERSION, SUITE_AES_256_GCM, 0, 0]);
    bytes.extend_from_slice(&salt.0);
    bytes.extend_from_slice(&tag.0);
    bytes.extend_from_slice(&offset.to_le_bytes());
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&[0; 16]);
    assert_eq!(bytes.len() - start, FOOTER_BYTES, "the footer has one size");
    bytes.into_bytes().into()
}

/// What a pack's header says. Readers of items do without it; checks do not.
pub(super) struct Header {
    pub(super) kind: PackKind,
    pack: PackId,
    revision: u32,
}

impl Header {
    pub(super) const BYTES: usize = HEADER_BYTES;

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields::new(bytes);
        let mut read = || -> Result<Self, Malformed> {
            fields.expect(PACK_MAGIC)?;
            fields.expect(&[PACK_VERSION, SUITE_AES_256_GCM])?;
            let kind = PackKind::parse(fields.u8()?)?;
            fields.expect(&[0])?;
            let (pack, revision) = (PackId(fields.array()?), fields.u32()?);
            fields.expect(&[0; 4])?;
            Ok(Self { kind, pack, revision })
        };
        read().ok()
    }

    pub(super) fn is_of(&self, pack: PackId, revision: u32) -> bool {
        self.pack == pack && self.revision == revision
    }
}

/// What a footer says of the directory.
pub(super) struct Footer {
    salt: Salt,
    tag: Tag,
    pub(super) offset: u32,
    pub(super) length: u32,
}

impl Footer {
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut fields = Fields::new(bytes);
        fields.expect(FOOTER_MAGIC)?;
        fields.expect(&[PACK_VERSION, SUITE_AES_256_GCM, 0, 0])?;
        let (salt, tag) = (Salt(fields.array()?), Tag(fields.array()?));
        let (offset, length) = (fields.u32()?, fields.u32()?);
        fields.expect(&[0; 16])?;
        fields.finish()?;
        Ok(Self { salt, tag, offset, length })
    }

    /// Opens the directory this footer is of.
    pub(super) fn directory(
        &self,
        id: PackId,
        revision: u32,
        sealed: &[u8],
        key: &StructureKey,
    ) -> Result<Directory, Malformed> {
        let mut bytes = sealed.to_vec();
        key.opener(self.salt)
            .open(0, StructureKind::PackDirectory, id.directory_id(), &self.tag, &mut bytes)
            .map_err(|OpenError| Malformed)?;
        Directory::decode(id, revision, &bytes)
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn parse_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let lower = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if text.len() != N * 2 || !lower {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        let digits = std::str::from_utf8(digits).ok()?;
        *byte = u8::from_str_radix(digits, 16).ok()?;
    }
    Some(bytes)
}
