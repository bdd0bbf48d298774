//! Entries for the fuzz targets: what is decoded once a seal is opened. Damage cannot get here, a
//! mistake of ours could.

use super::codec::Malformed;
use super::frame::Frame;
use super::ledger::{Condemned, LEDGER_VERSION, LEDGER_VERSION_1, decode_entries, encode_entries};
use super::node::{Child, Children, Facts, Leaf, Pointer, RootRecord, decode_inner, encode_inner};
use super::pack::{Directory, DirectoryEntry, Footer, Header, ItemRef, PackId, PackKind};
use super::root::AddedTo;
use super::{Checkpoint, SnapshotRoot};
use crate::page::{KeyCheckValue, Tag};
use base::Timestamp;
use objstore::Bytes;
use std::collections::BTreeMap;

/// Decodes the bytes as everything a snapshot store holds. What is accepted is written and read
/// again, and must be the same.
pub fn decode(bytes: &[u8]) {
    stable(bytes, Leaf::decode, Leaf::encode);
    stable(bytes, decode_inner, encode_inner);
    stable(bytes, RootRecord::decode, RootRecord::encode);
    stable(bytes, |b| SnapshotRoot::from_bytes(b).map_err(|_| Malformed), SnapshotRoot::to_bytes);
    stable(bytes, |b| Checkpoint::from_bytes(b).map_err(|_| Malformed), Checkpoint::to_bytes);
    drop(Footer::decode(bytes));
    if let Ok(name) = std::str::from_utf8(bytes)
        && let Some((pack, revision)) = PackId::parse_object(name)
    {
        assert_eq!(pack.object(revision), name, "a pack has one name");
    }
}

/// The pack that directories and ledgers of the samples speak of.
const PACK: PackId = PackId([7; 16]);

/// Decodes the bytes as the account that a pack gives of itself, behind its seal.
pub fn decode_directory(bytes: &[u8]) {
    for revision in [0, 2] {
        let decode = |b: &[u8]| Directory::decode(PACK, revision, b);
        stable(bytes, decode, |directory| directory.encode(PACK, revision));
    }
    let _ = Header::decode(bytes);
}

/// A directory of a frame and a node, and an empty one.
pub fn directory_samples() -> Vec<Vec<u8>> {
    let entry = |slot, id| DirectoryEntry { slot, id, offset: 32, length: 4112, tag: Tag([9; 16]) };
    let full = Directory { kind: PackKind::Frames, entries: vec![entry(0, 5), entry(63, 1 << 40)] };
    let empty = Directory { kind: PackKind::Nodes, entries: Vec::new() };
    vec![full.encode(PACK, 0), full.encode(PACK, 2), empty.encode(PACK, 0)]
}

/// Decodes the bytes as a ledger of condemned packs of either version, behind its seal.
pub fn decode_ledger(bytes: &[u8]) {
    for version in [LEDGER_VERSION_1, LEDGER_VERSION] {
        let Ok(entries) = decode_entries(version, bytes) else { continue };
        let again = decode_entries(LEDGER_VERSION, &encode_entries(&entries));
        assert_eq!(again, Ok(entries), "what was written is read");
    }
    assert_eq!(decode_entries(LEDGER_VERSION + 1, bytes), Err(Malformed), "a version to come");
}

/// A ledger of two packs.
pub fn ledger_sample() -> Vec<u8> {
    let condemned = |dead| Condemned { since: Timestamp(1_700_000_000_000), dead, series: [3; 16] };
    let entries = BTreeMap::from([(PACK, condemned(1)), (PackId([8; 16]), condemned(u64::MAX))]);
    encode_entries(&entries)
}

/// Decodes the bytes as a frame's table, with a body of the size it names.
pub fn decode_frame_table(bytes: &[u8]) {
    let pages = usize::from(bytes.get(2).copied().unwrap_or_default());
    let flags = bytes.get(1).copied().unwrap_or_default();
    let body = Bytes::from(vec![0; Frame::body_bytes(pages)]);
    if let Ok((frame, tag)) = Frame::decode_table(7, flags, bytes, body.clone()) {
        let written = frame.encode_table(tag, body.len());
        let Ok((again, tag)) = Frame::decode_table(7, flags, &written, body.clone()) else {
            panic!("a table that was written is read");
        };
        assert_eq!(again.encode_table(tag, body.len()), written);
    }
}

/// Valid encodings to begin with.
pub fn samples() -> Vec<Vec<u8>> {
    let pack = PACK;
    let item = ItemRef { pack, slot: 3, offset: 32, length: 4112, tag: Tag([9; 16]) };
    let other = ItemRef { pack: PackId([8; 16]), ..item };
    let facts = Facts {
        id: [1; 16],
        series: [2; 16],
        volume_bytes: 1 << 30,
        key_check: Some(KeyCheckValue([3; 16])),
        generation: 4,
        full_blocks: 5,
        changed_blocks: 6,
    };
    let pointer = |frame, birth| Pointer { frame, birth };
    let leaf = Leaf { entries: vec![(0, pointer(item, 1)), (9, pointer(other, 2))] };
    let children: Children =
        vec![(0, Child { node: item, blocks: 1 }), (5, Child { node: other, blocks: 2 })];
    let root = SnapshotRoot { record: item, facts };
    vec![
        leaf.encode(),
        encode_inner(&children),
        RootRecord { facts, children }.encode(),
        root.to_bytes(),
        Checkpoint { root, next_block: 7, blocks_done: 8, added_to: None }.to_bytes(),
        Checkpoint { root, next_block: 7, blocks_done: 8, added_to: Some(AddedTo([9; 16])) }
            .to_bytes(),
        pack.object(0).into_bytes(),
        pack.object(2).into_bytes(),
        format!("{}.0", pack.object(0)).into_bytes(),
        format!("{}.+2", pack.object(0)).into_bytes(),
    ]
}

/// A valid frame table to begin with: two pages under two salts, with a digest.
pub fn frame_table_sample() -> Vec<u8> {
    let mut table = vec![1, 1, 2, 2];
    table.extend_from_slice(&u32::try_from(Frame::body_bytes(2)).unwrap_or_default().to_le_bytes());
    table.extend_from_slice(&[5; 16]);
    table.extend_from_slice(&[[6; 32], [7; 32]].concat());
    table.extend_from_slice(&[&[0, 128, 0, 0, 0], &[1; 16][..], &[2; 32]].concat());
    table.extend_from_slice(&[&[0, 0, 0, 0, 0, 0], &[3; 16][..]].concat());
    table.extend_from_slice(&[&[4, 1, 9, 0, 0, 0], &[4; 16][..]].concat());
    table
}

fn stable<T: PartialEq + std::fmt::Debug>(
    bytes: &[u8],
    decode: impl Fn(&[u8]) -> Result<T, Malformed>,
    encode: impl Fn(&T) -> Vec<u8>,
) {
    if let Ok(value) = decode(bytes) {
        assert_eq!(decode(&encode(&value)).as_ref(), Ok(&value), "what was written is read");
    }
}
