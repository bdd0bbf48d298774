//! The stored map: a radix tree of sealed pages, each proved by the tag its parent holds.
//!
//! A leaf maps the 128 pages of one block; an inner node has 128 children. Pages are never
//! changed in place, so a root stays valid until the segments below it are released.

use super::cache::Cache;
use super::codec::{get, get_u32, get_u64, put};
use super::delta::Entry;
use super::layout::{FAN_OUT, FAN_OUT_BITS, Geometry, LOST, Location, SegmentIndex, byte_offset};
use super::superblock::{NodeRef, Root};
use super::{Disk, Error};
use crate::page::{
    PAGE_BYTES, PAGES_PER_BLOCK, Page, Salt, StructureKey, StructureKind, StructureOpener, Tag,
};
use std::sync::Arc;

/// Bytes of a leaf entry: location 38 bits and written 26 bits, birth 4, tag 16.
pub(super) const ENTRY_BYTES: usize = 28;
/// Where a leaf's newest birth lies, after its entries.
const NEWEST_AT: usize = PAGES_PER_BLOCK * ENTRY_BYTES;
const LOCATION_BITS: u32 = 38;

const _: () = assert!(NEWEST_AT + 4 <= PAGE_BYTES);
const _: () = assert!(FAN_OUT as usize * NodeRef::BYTES == PAGE_BYTES);

/// What a leaf, or a run, has of an entry.
pub(super) fn decode_entry(bytes: &[u8], at: usize) -> Entry {
    let word = get_u64(bytes, at);
    Entry {
        location: word & ((1 << LOCATION_BITS) - 1),
        written: (word >> LOCATION_BITS) as u32,
        birth: get_u32(bytes, at + 8),
        tag: Tag(get(bytes, at + 12)),
    }
}

pub(super) fn encode_entry(bytes: &mut [u8], at: usize, entry: &Entry) {
    let word = entry.location | u64::from(entry.written) << LOCATION_BITS;
    put(bytes, at, &word.to_le_bytes());
    put(bytes, at + 8, &entry.birth.to_le_bytes());
    put(bytes, at + 12, &entry.tag.0);
}

/// One entry of a leaf.
pub(super) fn leaf_entry(leaf: &Page, page: usize) -> Entry {
    decode_entry(leaf, page * ENTRY_BYTES)
}

pub(super) fn put_leaf_entry(leaf: &mut Page, page: usize, entry: &Entry) {
    encode_entry(leaf, page * ENTRY_BYTES, entry);
}

/// The newest generation in which a page of the leaf changed.
pub(super) fn leaf_changed(leaf: &Page) -> u32 {
    get_u32(leaf, NEWEST_AT)
}

pub(super) fn put_leaf_changed(leaf: &mut Page, generation: u32) {
    put(leaf, NEWEST_AT, &generation.to_le_bytes());
}

/// One child of an inner node.
pub(super) fn child(node: &Page, slot: usize) -> NodeRef {
    NodeRef::decode(node, slot * NodeRef::BYTES)
}

/// The slot of the child that leads to `block` in a node of `level` (1 is above the leaves).
pub(super) fn slot_of(block: u64, level: u8) -> usize {
    ((block >> (FAN_OUT_BITS * u32::from(level - 1))) % FAN_OUT) as usize
}

/// What a map page is authenticated as: a leaf by its block, an inner node by level and index.
pub(super) fn identity(level: u8, block: u64) -> (StructureKind, u64) {
    match level {
        0 => (StructureKind::MapLeaf, block),
        _ => {
            let index = block >> (FAN_OUT_BITS * u32::from(level));
            (StructureKind::MapNode, u64::from(level) << 56 | index)
        }
    }
}

/// A part of a map: where one of its pages is, or what stands for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Nothing below was ever written.
    Absent,
    /// A stored page.
    Stored(NodeRef),
    /// Above the root of a map that was smaller: only the first child leads anywhere.
    Above(Root),
}

impl Part {
    /// The whole map, seen from `level`, which is at least the root's.
    pub(super) fn top(root: Root, level: u8) -> Self {
        if root.node.is_absent() {
            Self::Absent
        } else if root.height == level {
            Self::Stored(root.node)
        } else {
            Self::Above(root)
        }
    }

    fn of(node: NodeRef) -> Self {
        if node.is_absent() { Self::Absent } else { Self::Stored(node) }
    }
}

/// Salts of segments, for whoever reads map pages.
pub(super) trait Salts {
    /// The salt of the segment at `location`, and the position there.
    fn salt_of(&self, location: Location) -> Option<(Salt, u32)>;
}

impl Salts for super::segment::SegmentTable {
    fn salt_of(&self, location: Location) -> Option<(Salt, u32)> {
        Self::salt_of(self, location)
    }
}

/// Salts as of some moment, for readers in other threads.
pub(super) struct SaltList {
    pub(super) geometry: Geometry,
    pub(super) salts: Vec<Salt>,
}

impl Salts for SaltList {
    fn salt_of(&self, location: Location) -> Option<(Salt, u32)> {
        let (segment, position) = self.geometry.split(location)?;
        Some((*self.salts.get(segment as usize)?, position))
    }
}

/// Leaves that are read together, at most: those of 8 MiB of the volume.
const LEAVES_TOGETHER: usize = 16;

/// Map pages that follow one another on the disk.
pub(super) struct MissingPages {
    /// Leaves of blocks that follow one another, or one inner node.
    pub(super) nodes: Vec<NodeRef>,
    /// The one that is wanted.
    wanted: usize,
    level: u8,
    /// The block it is wanted for.
    block: u64,
}

impl MissingPages {
    /// The leaf of `block` below `parent`, with those that were written together with it: merging
    /// writes them in order.
    fn leaves(parent: &Page, block: u64) -> Self {
        let slot = slot_of(block, 1);
        let group = slot - slot % LEAVES_TOGETHER;
        let follows = |before: usize, slot: usize| {
            let (before, this) = (child(parent, before), child(parent, slot));
            !before.is_absent() && before.location + 1 == this.location
        };
        let first = (group..slot).rev().take_while(|at| follows(*at, at + 1)).last();
        let first = first.unwrap_or(slot);
        let end = group + LEAVES_TOGETHER;
        let last = (slot + 1..end).take_while(|at| follows(at - 1, *at)).last().unwrap_or(slot);
        let nodes = (first..=last).map(|at| child(parent, at)).collect();
        Self { nodes, wanted: slot - first, level: 0, block }
    }
}

/// Reads and authenticates map pages, and remembers some.
pub(super) struct Nodes {
    disk: Arc<dyn Disk>,
    key: StructureKey,
    geometry: Geometry,
    pages: Cache<Location, (Tag, Arc<Page>)>,
    openers: Cache<SegmentIndex, StructureOpener>,
}

impl Nodes {
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        key: StructureKey,
        geometry: Geometry,
        page_count: usize,
        key_count: usize,
    ) -> Self {
        let (pages, openers) = (Cache::new(page_count), Cache::new(key_count));
        Self { disk, key, geometry, pages, openers }
    }

    /// The key under which structure sealed with a salt opens.
    pub(super) fn opener(&self, salt: Salt) -> StructureOpener {
        self.key.opener(salt)
    }

    /// The page `node` refers to, which maps `block` at `level`.
    pub(super) fn read(
        &mut self,
        salts: &dyn Salts,
        node: &NodeRef,
        level: u8,
        block: u64,
    ) -> Result<Arc<Page>, Error> {
        if let Some((tag, page)) = self.pages.get(node.location)
            && *tag == node.tag
        {
            return Ok(Arc::clone(page));
        }
        if node.location == LOST {
            return Err(Error::corrupt("map page", LOST));
        }
        let mut page = Arc::new([0; PAGE_BYTES]);
        self.disk
            .read(byte_offset(node.location), &mut Arc::make_mut(&mut page)[..])
            .map_err(Error::disk("read a map page"))?;
        let page = self.open(salts, node, level, block, page)?;
        self.pages.insert(node.location, (node.tag, Arc::clone(&page)));
        Ok(page)
    }

    fn open(
        &mut self,
        salts: &dyn Salts,
        node: &NodeRef,
        level: u8,
        block: u64,
        mut page: Arc<Page>,
    ) -> Result<Arc<Page>, Error> {
        let damaged = || Error::corrupt("map page", node.location);
        let (salt, position) = salts.salt_of(node.location).ok_or_else(damaged)?;
        let (segment, _) = self.geometry.split(node.location).ok_or_else(damaged)?;
        if self.openers.get(segment).is_none_or(|opener| opener.salt() != salt) {
            self.openers.insert(segment, self.key.opener(salt));
        }
        let opener = self.openers.get(segment).ok_or_else(damaged)?;
        let (kind, id) = identity(level, block);
        let bytes = Arc::make_mut(&mut page);
        opener.open(position, kind, id, &node.tag, bytes).map_err(|_| damaged())?;
        Ok(page)
    }

    /// The first page on the way to a block's page at level `lowest` that is not remembered, and, if that
    /// is a leaf, those beside it.
    pub(super) fn missing(&mut self, root: Root, block: u64, lowest: u8) -> Option<MissingPages> {
        if root.node.is_absent() || block >> (FAN_OUT_BITS * u32::from(root.height)) != 0 {
            return None;
        }
        let mut node = root.node;
        let mut above = None;
        for level in (lowest..=root.height).rev() {
            let known = self.pages.get(node.location).filter(|(tag, _)| *tag == node.tag);
            let Some((_, page)) = known else {
                let alone = MissingPages { nodes: vec![node], wanted: 0, level, block };
                let parent = above.filter(|_| level == 0).and_then(|at| self.pages.get(at));
                let leaves = parent.map(|(_, page)| MissingPages::leaves(page, block));
                return Some(leaves.unwrap_or(alone));
            };
            if level > 0 {
                above = Some(node.location);
                node = child(page, slot_of(block, level));
                if node.is_absent() {
                    return None;
                }
            }
        }
        None
    }

    /// Opens pages that somebody else has read, and remembers them.
    ///
    /// # Errors
    /// When the one that is wanted is not what was written there. What lies beside it is not asked
    /// for, and told of when it is.
    pub(super) fn supply(
        &mut self,
        salts: &dyn Salts,
        missing: &MissingPages,
        sealed: &[Page],
    ) -> Result<(), Error> {
        for ((at, node), page) in missing.nodes.iter().enumerate().zip(sealed) {
            let block = missing.block - missing.wanted as u64 + at as u64;
            if self.pages.get(node.location).is_some_and(|(tag, _)| *tag == node.tag) {
                continue;
            }
            match self.open(salts, node, missing.level, block, Arc::new(*page)) {
                Ok(page) => self.pages.insert(node.location, (node.tag, page)),
                Err(error) if at == missing.wanted => return Err(error),
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// Memory of the pages that are remembered.
    pub(super) fn memory_bytes(&self) -> usize {
        self.pages.len() * PAGE_BYTES
    }

    /// Remembers a page that was just written.
    pub(super) fn remember(&mut self, node: &NodeRef, page: Arc<Page>) {
        self.pages.insert(node.location, (node.tag, page));
    }

    /// The leaf of a block, if the map has one.
    pub(super) fn leaf(
        &mut self,
        salts: &dyn Salts,
        root: Root,
        block: u64,
    ) -> Result<Option<Arc<Page>>, Error> {
        match self.node(salts, root, block, 0)? {
            None => Ok(None),
            Some(node) => self.read(salts, &node, 0, block).map(Some),
        }
    }

    /// The reference to the page at level `lowest` that leads to a block, if the map has one.
    pub(super) fn node(
        &mut self,
        salts: &dyn Salts,
        root: Root,
        block: u64,
        lowest: u8,
    ) -> Result<Option<NodeRef>, Error> {
        let is_below = block >> (FAN_OUT_BITS * u32::from(root.height)) == 0;
        if root.node.is_absent() || !is_below || root.height < lowest {
            return Ok(None);
        }
        let mut node = root.node;
        for level in (lowest + 1..=root.height).rev() {
            node = child(&*self.read(salts, &node, level, block)?, slot_of(block, level));
            if node.is_absent() {
                return Ok(None);
            }
        }
        Ok(Some(node))
    }

    /// The children of a part at `level`, as (slot, part); a leaf has none.
    pub(super) fn children(
        &mut self,
        salts: &dyn Salts,
        part: Part,
        level: u8,
        block: u64,
    ) -> Result<Children, Error> {
        Ok(match part {
            Part::Absent => Children::None,
            Part::Above(root) => Children::First(Part::top(root, level - 1)),
            Part::Stored(node) => Children::Of(self.read(salts, &node, level, block)?),
        })
    }
}

/// The children of a [`Part`].
pub(super) enum Children {
    None,
    First(Part),
    Of(Arc<Page>),
}

impl Children {
    pub(super) fn part(&self, slot: usize) -> Part {
        match self {
            Self::First(part) if slot == 0 => *part,
            Self::None | Self::First(_) => Part::Absent,
            Self::Of(page) => Part::of(child(page, slot)),
        }
    }
}

/// The blocks of a map that changed after a generation, ascending.
pub(super) struct ChangedBlocks {
    /// Pages whose children are being visited: level, first block, children, next slot.
    path: Vec<(u8, u64, Children, usize)>,
    since: Option<u32>,
}

impl ChangedBlocks {
    pub(super) fn new(root: Root, since: Option<u32>) -> Self {
        let first = Children::First(Part::top(root, root.height));
        Self { path: vec![(root.height + 1, 0, first, 0)], since }
    }

    /// The next block, read through `nodes`.
    pub(super) fn next(
        &mut self,
        nodes: &mut Nodes,
        salts: &dyn Salts,
    ) -> Result<Option<u64>, Error> {
        while let Some((level, first, children, slot)) = self.path.last_mut() {
            if *slot == FAN_OUT as usize || matches!((&*children, *slot), (Children::First(_), 1)) {
                self.path.pop();
                continue;
            }
            let part = children.part(*slot);
            let below = *level - 1;
            let block = *first + ((*slot as u64) << (FAN_OUT_BITS * u32::from(below)));
            *slot += 1;
            match part {
                Part::Stored(node) if self.since.is_some_and(|since| node.changed <= since) => {}
                Part::Absent => {}
                _ if below == 0 => return Ok(Some(block)),
                part => {
                    let children = nodes.children(salts, part, below, block)?;
                    self.path.push((below, block, children, 0));
                }
            }
        }
        Ok(None)
    }

    /// The first block below the page that was looked at last.
    pub(super) fn place(&self) -> u64 {
        let Some((level, first, _, next)) = self.path.last() else { return 0 };
        first + ((next.saturating_sub(1) as u64) << (FAN_OUT_BITS * u32::from(level - 1)))
    }
}

/// An empty map.
pub(super) const EMPTY: Root = Root { node: NodeRef::ABSENT, height: 0 };
