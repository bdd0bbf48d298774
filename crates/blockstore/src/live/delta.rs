//! Map changes in memory: what was written since the last checkpoint, in layers.
//!
//! Writes go to the newest layer. A cut or a checkpoint freezes it and starts another; frozen
//! layers are merged into the stored map, or settled beside it ([`super::settled`]), one after the
//! other, oldest first.

use super::cache::NumberMap;
use super::layout::{ABSENT, Geometry, Location, ZERO};
use super::segment::Accounting;
use super::superblock::{CutId, LogHead};
use crate::page::{Lba, PAGES_PER_BLOCK, Tag};

/// What a map says about a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Where the page lies, [`ZERO`], or [`super::layout::ABSENT`].
    pub(super) location: Location,
    /// What proves it.
    pub(super) tag: Tag,
    /// The generation in which the content changed; 0 when it is the base's content.
    pub(super) birth: u32,
    /// The generation in which this copy was written.
    pub(super) written: u32,
}

impl Entry {
    /// Nothing was written here.
    pub(super) const NOTHING: Self =
        Self { location: ABSENT, tag: Tag([0; 16]), birth: 0, written: 0 };

    /// Zeros written in `generation`.
    pub(super) fn zero(generation: u32) -> Self {
        Self { location: ZERO, tag: Tag([0; 16]), birth: generation, written: generation }
    }

    /// Whether it names a stored page, or one that is lost.
    pub(super) fn is_stored(&self) -> bool {
        self.location > ZERO
    }
}

/// Changes of one block.
#[derive(Default)]
pub(super) struct BlockDelta {
    /// Every page that has no entry of its own reads as this.
    pub(super) all: Option<Entry>,
    /// By page within the block, ascending.
    pub(super) pages: Vec<(u8, Entry)>,
}

impl BlockDelta {
    pub(super) fn get(&self, page: usize) -> Option<&Entry> {
        match self.pages.binary_search_by_key(&(page as u8), |(page, _)| *page) {
            Ok(at) => Some(&self.pages[at].1),
            Err(_) => self.all.as_ref(),
        }
    }
}

/// What is known of a cut before its layer is merged.
#[derive(Clone, Copy, Debug)]
pub(super) struct PendingCut {
    pub(super) id: CutId,
    pub(super) generation: u32,
    pub(super) volume_bytes: u64,
}

/// A set of changes that becomes part of the stored map as a whole.
pub(super) struct Layer {
    /// Grows by one from layer to layer.
    pub(super) id: u64,
    pub(super) blocks: NumberMap<u64, BlockDelta>,
    /// About how much memory the changes take.
    pub(super) bytes: usize,
    /// Pages written in this layer and not overwritten in it.
    pub(super) accounting: Accounting,
    /// Pages that became zeros: written so, or discarded.
    pub(super) zeroed_pages: u64,
    /// Pages that were stored, each time that one was.
    pub(super) stored_pages: u64,
    /// Leaves are to be rewritten for it: it may not be settled only.
    pub(super) is_for_leaves: bool,
    /// The cut that froze it, if one did.
    pub(super) cut: Option<PendingCut>,
    /// Where the log goes on after it; set when it is frozen.
    pub(super) end: Option<LogHead>,
    /// Bytes in the volume after it; set when it is frozen.
    pub(super) volume_bytes: u64,
}

/// Memory of a block with one page: key, map slot, vector header, entry.
pub(super) const BLOCK_BYTES: usize = 80 + size_of::<(u8, Entry)>();

impl Layer {
    pub(super) fn new(id: u64) -> Self {
        Self {
            id,
            blocks: NumberMap::default(),
            bytes: 0,
            accounting: Accounting::default(),
            zeroed_pages: 0,
            stored_pages: 0,
            is_for_leaves: false,
            cut: None,
            end: None,
            volume_bytes: 0,
        }
    }

    /// Whether merging it would change nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Records a stored or zero page.
    pub(super) fn put(&mut self, geometry: Geometry, lba: Lba, entry: Entry) {
        let (block, page) = split(lba);
        let bytes = &mut self.bytes;
        let delta = self.blocks.entry(block).or_insert_with(|| {
            *bytes += BLOCK_BYTES;
            BlockDelta { all: None, pages: Vec::with_capacity(1) }
        });
        match delta.pages.binary_search_by_key(&(page as u8), |(page, _)| *page) {
            Ok(at) => {
                let old = std::mem::replace(&mut delta.pages[at].1, entry);
                if old.is_stored() {
                    self.accounting.free(geometry, old.location);
                }
            }
            Err(at) => {
                let before = delta.pages.capacity();
                delta.pages.insert(at, (page as u8, entry));
                self.bytes += (delta.pages.capacity() - before) * size_of::<(u8, Entry)>();
            }
        }
        if let Some((segment, _)) =
            entry.is_stored().then(|| geometry.split(entry.location)).flatten()
        {
            self.accounting.add(segment, 1);
            self.stored_pages += 1;
        }
    }

    /// Records zeros over a range of pages.
    pub(super) fn put_zeros(
        &mut self,
        geometry: Geometry,
        first: Lba,
        count: u64,
        generation: u32,
    ) {
        self.zeroed_pages += count;
        let end = first + count;
        let mut lba = first;
        while lba < end {
            let (block, page) = split(lba);
            let pages = ((PAGES_PER_BLOCK - page) as u64).min(end - lba);
            if pages == PAGES_PER_BLOCK as u64 {
                self.put_zero_block(geometry, block, generation);
            } else {
                for lba in lba..lba + pages {
                    self.put(geometry, lba, Entry::zero(generation));
                }
            }
            lba += pages;
        }
    }

    fn put_zero_block(&mut self, geometry: Geometry, block: u64, generation: u32) {
        let all = Some(Entry::zero(generation));
        let fresh = BlockDelta { all, pages: Vec::new() };
        match self.blocks.insert(block, fresh) {
            None => self.bytes += BLOCK_BYTES,
            Some(old) => {
                for (_, entry) in old.pages.iter().filter(|(_, entry)| entry.is_stored()) {
                    self.accounting.free(geometry, entry.location);
                }
                self.bytes -= old.pages.capacity() * size_of::<(u8, Entry)>();
            }
        }
    }

    /// Has the block's map page rewritten although nothing in it changed.
    pub(super) fn rewrite(&mut self, block: u64) {
        self.is_for_leaves = true;
        if let std::collections::hash_map::Entry::Vacant(slot) = self.blocks.entry(block) {
            slot.insert(BlockDelta::default());
            self.bytes += BLOCK_BYTES;
        }
    }
}

/// The block a page belongs to, and its place there.
pub(super) fn split(lba: Lba) -> (u64, usize) {
    (lba / PAGES_PER_BLOCK as u64, (lba % PAGES_PER_BLOCK as u64) as usize)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) const GEOMETRY: Geometry = Geometry { segment_pages: 64 };

    pub(in super::super) fn stored(position: u32) -> Entry {
        Entry { location: GEOMETRY.locate(0, position), tag: Tag([1; 16]), birth: 1, written: 1 }
    }

    #[test]
    fn later_entries_hide_earlier_ones() {
        let mut layer = Layer::new(1);
        layer.put(GEOMETRY, 130, stored(1));
        layer.put(GEOMETRY, 129, stored(2));
        layer.put(GEOMETRY, 130, stored(3));
        assert_eq!(layer.blocks[&1].get(2), Some(&stored(3)));
        assert_eq!(layer.blocks[&1].get(1), Some(&stored(2)));
        assert_eq!(layer.blocks[&1].get(0), None);
        layer.put_zeros(GEOMETRY, 100, 300, 2);
        assert_eq!(layer.blocks[&0].get(99), None);
        assert_eq!(layer.blocks[&0].get(100), Some(&Entry::zero(2)));
        assert_eq!(layer.blocks[&1].get(2), Some(&Entry::zero(2)));
        assert_eq!(layer.blocks[&3].get(15), Some(&Entry::zero(2)));
        assert_eq!(layer.blocks[&3].get(16), None);
        layer.put(GEOMETRY, 130, stored(4));
        assert_eq!(layer.blocks[&1].get(2), Some(&stored(4)));
        assert_eq!(layer.blocks[&1].get(3), Some(&Entry::zero(2)));
    }
}
