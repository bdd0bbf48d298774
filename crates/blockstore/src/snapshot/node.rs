//! Manifest nodes: which frame holds which block.
//!
//! A manifest is a tree of three levels. A leaf covers 1,024 blocks (512 MiB), an inner node
//! 1,024 leaves (512 GiB), the root record up to 128 inner nodes (64 TiB, the largest volume).
//! Nodes are immutable; an incremental snapshot writes the nodes on the way to what changed and
//! shares the others. References carry tags, so the root's tag proves the whole tree.

use super::codec::{Fields, Malformed};
use super::pack::{ItemRef, PackId};
use crate::page::{KeyCheckValue, Tag};

pub(super) const NODE_VERSION: u8 = 1;
/// Children of an inner node, and blocks of a leaf.
pub(super) const FAN_OUT: usize = 1024;
/// Children of a root.
pub(super) const ROOT_CHILDREN_MAX: usize = 128;
/// Blocks in the largest volume: 65,536 GiB (EBS, `VolumeSize`).
pub(super) const BLOCKS_MAX: u64 = (ROOT_CHILDREN_MAX * FAN_OUT * FAN_OUT) as u64;

/// Where a block is found, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pointer {
    pub(super) frame: ItemRef,
    /// The generation that wrote it.
    pub(super) birth: u32,
}

/// The blocks of 512 MiB of a volume.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Leaf {
    /// Ascending by block within the leaf.
    pub(super) entries: Vec<(u16, Pointer)>,
}

/// A subtree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Child {
    pub(super) node: ItemRef,
    /// Blocks present below.
    pub(super) blocks: u32,
}

/// Children of an inner node or of the root, ascending by their number; none is empty.
pub(super) type Children = Vec<(u16, Child)>;

/// The root of a manifest, and what is known of the snapshot as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RootRecord {
    pub(super) facts: Facts,
    pub(super) children: Children,
}

/// What a root says of its snapshot; repeated in the public root for who has no store at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) id: [u8; 16],
    pub(super) series: [u8; 16],
    pub(super) volume_bytes: u64,
    pub(super) key_check: Option<KeyCheckValue>,
    pub(super) generation: u32,
    pub(super) full_blocks: u64,
    pub(super) changed_blocks: u64,
}

impl Facts {
    pub(super) const BYTES: usize = 16 + 16 + 8 + 1 + 16 + 4 + 8 + 8;

    pub(super) fn encode(&self, target: &mut Vec<u8>) {
        target.extend_from_slice(&self.id);
        target.extend_from_slice(&self.series);
        target.extend_from_slice(&self.volume_bytes.to_le_bytes());
        target.push(u8::from(self.key_check.is_some()));
        target.extend_from_slice(&self.key_check.map_or([0; 16], |check| check.0));
        target.extend_from_slice(&self.generation.to_le_bytes());
        target.extend_from_slice(&self.full_blocks.to_le_bytes());
        target.extend_from_slice(&self.changed_blocks.to_le_bytes());
    }

    pub(super) fn decode(fields: &mut Fields<'_>) -> Result<Self, Malformed> {
        let (id, series) = (fields.array()?, fields.array()?);
        let volume_bytes = fields.u64()?;
        let key_check = match (fields.u8()?, fields.array()?) {
            (0, _) => None,
            (1, check) => Some(KeyCheckValue(check)),
            _ => return Err(Malformed),
        };
        let generation = fields.u32()?;
        let (full_blocks, changed_blocks) = (fields.u64()?, fields.u64()?);
        Ok(Self { id, series, volume_bytes, key_check, generation, full_blocks, changed_blocks })
    }
}

/// A number for a node that no other node of its tree has: authenticated with it.
pub(super) fn leaf_id(leaf: u32) -> u64 {
    u64::from(leaf)
}

/// As [`leaf_id`], for inner nodes.
pub(super) fn inner_id(inner: u16) -> u64 {
    1 << 56 | u64::from(inner)
}

/// As [`leaf_id`], for the root record.
pub(super) const ROOT_ID: u64 = 2 << 56;

impl Leaf {
    pub(super) fn get(&self, block: u16) -> Option<&Pointer> {
        let at = self.entries.binary_search_by_key(&block, |(block, _)| *block).ok()?;
        Some(&self.entries[at].1)
    }

    /// Sets or clears a pointer; gives back the one that was there.
    pub(super) fn set(&mut self, block: u16, pointer: Option<Pointer>) -> Option<Pointer> {
        let found = self.entries.binary_search_by_key(&block, |(block, _)| *block);
        match (found, pointer) {
            (Ok(at), Some(pointer)) => Some(std::mem::replace(&mut self.entries[at].1, pointer)),
            (Ok(at), None) => Some(self.entries.remove(at).1),
            (Err(at), Some(pointer)) => {
                self.entries.insert(at, (block, pointer));
                None
            }
            (Err(_), None) => None,
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut packs: Vec<PackId> = Vec::new();
        let mut bytes = Vec::new();
        for (block, pointer) in &self.entries {
            // Neighbours mostly share a pack, so the search from the back is short.
            let pack = packs.iter().rposition(|pack| *pack == pointer.frame.pack);
            let pack = pack.unwrap_or_else(|| {
                packs.push(pointer.frame.pack);
                packs.len() - 1
            });
            bytes.extend_from_slice(&block.to_le_bytes());
            bytes.extend_from_slice(&(pack as u16).to_le_bytes());
            bytes.push(pointer.frame.slot);
            bytes.extend_from_slice(&pointer.frame.offset.to_le_bytes());
            bytes.extend_from_slice(&pointer.frame.length.to_le_bytes());
            bytes.extend_from_slice(&pointer.frame.tag.0);
            bytes.extend_from_slice(&pointer.birth.to_le_bytes());
        }
        let mut node = vec![NODE_VERSION, 0];
        node.extend_from_slice(&(self.entries.len() as u16).to_le_bytes());
        node.extend_from_slice(&(packs.len() as u16).to_le_bytes());
        packs.iter().for_each(|pack| node.extend_from_slice(&pack.0));
        node.extend_from_slice(&bytes);
        node
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut fields = Fields::new(bytes);
        fields.expect(&[NODE_VERSION, 0])?;
        let (count, packs) = (usize::from(fields.u16()?), usize::from(fields.u16()?));
        if count > FAN_OUT || packs > count {
            return Err(Malformed);
        }
        let packs = (0..packs).map(|_| fields.array().map(PackId));
        let packs: Vec<PackId> = packs.collect::<Result<_, _>>()?;
        let mut entries: Vec<(u16, Pointer)> = Vec::with_capacity(count);
        for _ in 0..count {
            let block = fields.u16()?;
            check_order(entries.last().map(|(last, _)| *last), block, FAN_OUT)?;
            let pack = *packs.get(usize::from(fields.u16()?)).ok_or(Malformed)?;
            let slot = fields.u8()?;
            let (offset, length) = (fields.u32()?, fields.u32()?);
            let frame = ItemRef { pack, slot, offset, length, tag: Tag(fields.array()?) };
            entries.push((block, Pointer { frame, birth: fields.u32()? }));
        }
        fields.finish()?;
        Ok(Self { entries })
    }
}

pub(super) fn encode_inner(children: &Children) -> Vec<u8> {
    let mut node = vec![NODE_VERSION, 1];
    encode_children(children, &mut node);
    node
}

pub(super) fn decode_inner(bytes: &[u8]) -> Result<Children, Malformed> {
    let mut fields = Fields::new(bytes);
    fields.expect(&[NODE_VERSION, 1])?;
    let children = decode_children(&mut fields, FAN_OUT)?;
    fields.finish()?;
    Ok(children)
}

impl RootRecord {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut node = vec![NODE_VERSION, 2];
        self.facts.encode(&mut node);
        encode_children(&self.children, &mut node);
        node
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut fields = Fields::new(bytes);
        fields.expect(&[NODE_VERSION, 2])?;
        let facts = Facts::decode(&mut fields)?;
        let children = decode_children(&mut fields, ROOT_CHILDREN_MAX)?;
        fields.finish()?;
        Ok(Self { facts, children })
    }
}

fn encode_children(children: &Children, node: &mut Vec<u8>) {
    node.extend_from_slice(&(children.len() as u16).to_le_bytes());
    for (number, child) in children {
        node.extend_from_slice(&number.to_le_bytes());
        node.extend_from_slice(&child.blocks.to_le_bytes());
        child.node.encode(node);
    }
}

fn decode_children(fields: &mut Fields<'_>, children_max: usize) -> Result<Children, Malformed> {
    let count = usize::from(fields.u16()?);
    let mut children = Children::with_capacity(count.min(children_max));
    for _ in 0..count {
        let number = fields.u16()?;
        check_order(children.last().map(|(last, _)| *last), number, children_max)?;
        let blocks = fields.u32()?;
        children.push((number, Child { node: ItemRef::decode(fields)?, blocks }));
    }
    Ok(children)
}

fn check_order(last: Option<u16>, number: u16, bound: usize) -> Result<(), Malformed> {
    let ascending = last.is_none_or(|last| last < number);
    if ascending && usize::from(number) < bound { Ok(()) } else { Err(Malformed) }
}
