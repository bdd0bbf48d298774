//! Settled changes: those that checkpoints have stored as runs ([`super::run`]) and that no leaf of
//! the map has yet.
//!
//! A checkpoint of a few changes all over a volume would rewrite a leaf for each of them. It stores
//! the changes themselves instead, about a hundred in a page. In memory they add up to one set, which
//! lookups find between the layers and the map; the superblock names the runs, and opening a volume
//! reads them again. Merged into leaves they are when that costs no more than the runs did, when they
//! take too much memory, and when somebody needs a map without them: a cut, whose root must be a
//! map, the cleaner when it empties segments of the map, and closing.
//!
//! Invariants:
//! - What a settled change hides is dead: it was counted so when the run was stored, unless a cut
//!   holds it. So merging settled changes into leaves frees no pages of data.
//! - No cut is taken or dropped while there are any. So each was written after the newest merged cut,
//!   and what is counted as dead does not depend on when it was hidden.

use super::cache::NumberMap;
use super::checkpoint::Parts;
use super::damage::READS_MAX;
use super::delta::{BLOCK_BYTES, BlockDelta, Entry, Layer, split};
use super::layout::{Location, SegmentIndex, byte_offset};
use super::map::leaf_entry;
use super::run::{CHANGES_MAX, Change, RUN_PAGES_MAX, RunPage, RunRef};
use super::segment::{Accounting, SegmentTable};
use super::superblock::{Root, Superblock};
use super::{Disk, Error};
use crate::page::{PAGE_BYTES, PAGES_PER_BLOCK, StructureKey, StructureKind, StructureOpener};
use std::sync::Arc;

/// Settled changes.
#[derive(Default)]
pub(super) struct Settled {
    pub(super) blocks: NumberMap<u64, BlockDelta>,
    /// About how much memory they take.
    pub(super) bytes: usize,
    /// Where the pages of the runs lie.
    pub(super) pages: Vec<Location>,
}

impl Settled {
    pub(super) fn is_empty(&self) -> bool {
        self.blocks.is_empty() && self.pages.is_empty()
    }

    /// What is settled of a page.
    pub(super) fn get(&self, block: u64, page: usize) -> Option<&Entry> {
        self.blocks.get(&block)?.get(page)
    }

    /// Whether a layer may join, rather than be merged into leaves together with what is settled.
    pub(super) fn admits(&self, layer: &Layer, bytes_max: usize) -> bool {
        if layer.cut.is_some() || layer.is_for_leaves || self.bytes + layer.bytes > bytes_max {
            return false;
        }
        let pages = self.pages.len() + changes(&layer.blocks).div_ceil(CHANGES_MAX);
        // What leaves would cost, and reading runs page by page when the volume is opened.
        let leaves = self.blocks.len().max(layer.blocks.len());
        pages <= leaves && pages <= RUN_PAGES_MAX as usize
    }

    /// Whether it takes little more until all of it is merged, anyway: the runs, or the memory, are an
    /// eighth from what they may become, or a layer of so many bytes does not fit.
    pub(super) fn is_merge_near(&self, layer_bytes: usize, bytes_max: usize) -> bool {
        let is_near = |have: usize, most: usize| most > 0 && have >= most - most / 8;
        is_near(self.pages.len(), self.blocks.len()) || is_near(self.bytes + layer_bytes, bytes_max)
    }

    /// Takes the changes of a block, which hide what was settled of it before.
    fn settle(&mut self, block: u64, delta: &BlockDelta) {
        if delta.all.is_some() {
            let known = self.blocks.remove(&block);
            self.bytes -= known.map_or(0, |known| BLOCK_BYTES + memory_of(&known));
        }
        let known = self.blocks.entry(block).or_insert_with(|| {
            self.bytes += BLOCK_BYTES;
            BlockDelta::default()
        });
        self.bytes -= memory_of(known);
        known.all = delta.all.or(known.all);
        for (page, entry) in &delta.pages {
            match known.pages.binary_search_by_key(page, |(page, _)| *page) {
                Ok(at) => known.pages[at].1 = *entry,
                Err(at) => known.pages.insert(at, (*page, *entry)),
            }
        }
        self.bytes += memory_of(known);
    }

    /// Takes a change that is older than everything known so far.
    fn recall(&mut self, change: Change) {
        let block = match change {
            Change::Page { lba, .. } => split(lba).0,
            Change::Block { block, .. } => block,
        };
        let known = self.blocks.entry(block).or_insert_with(|| {
            self.bytes += BLOCK_BYTES;
            BlockDelta::default()
        });
        if known.all.is_some() {
            return;
        }
        self.bytes -= memory_of(known);
        match change {
            Change::Block { entry, .. } => known.all = Some(entry),
            Change::Page { lba, entry } => {
                let page = split(lba).1 as u8;
                if let Err(at) = known.pages.binary_search_by_key(&page, |(page, _)| *page) {
                    known.pages.insert(at, (page, entry));
                }
            }
        }
        self.bytes += memory_of(known);
    }

    /// Reads the runs that a superblock names, the newest page first.
    pub(super) fn load(
        committed: &Superblock,
        table: &SegmentTable,
        disk: &dyn Disk,
        key: &StructureKey,
    ) -> Result<Self, Error> {
        let mut settled = Self::default();
        let mut opener: Option<(SegmentIndex, StructureOpener)> = None;
        let mut next = committed.runs;
        while next.pages > 0 {
            let damaged = || Error::corrupt(RUN_PAGE, next.location);
            let (segment, position) = table.geometry.split(next.location).ok_or_else(damaged)?;
            let (salt, _) = table.salt_of(next.location).ok_or_else(damaged)?;
            let known = opener.take_if(|(of, _)| *of == segment);
            let (_, opener) = opener.insert(known.unwrap_or_else(|| (segment, key.opener(salt))));
            let mut page = [0; PAGE_BYTES];
            disk.read(byte_offset(next.location), &mut page)
                .map_err(Error::disk("read a page of a run"))?;
            let ordinal = next.pages - 1;
            opener
                .open(position, StructureKind::MapRun, u64::from(ordinal), &next.tag, &mut page)
                .map_err(|_| damaged())?;
            let found = RunPage::decode(&page, ordinal).ok_or_else(damaged)?;
            // Of a block's changes the whole comes first, and yields to single pages.
            for change in found.changes.into_iter().rev() {
                let (lba, stored) = match change {
                    Change::Page { lba, entry } => (lba, entry.is_stored().then_some(entry)),
                    Change::Block { block, .. } => (block * PAGES_PER_BLOCK as u64, None),
                };
                let known = stored.is_none_or(|entry| table.salt_of(entry.location).is_some());
                if lba >= committed.volume_bytes / PAGE_BYTES as u64 || !known {
                    return Err(damaged());
                }
                settled.recall(change);
            }
            settled.pages.push(next.location);
            next = found.before;
        }
        Ok(settled)
    }
}

/// What a page of a run is called in errors.
pub(super) const RUN_PAGE: &str = "page of a run";

fn memory_of(delta: &BlockDelta) -> usize {
    delta.pages.capacity() * size_of::<(u8, Entry)>()
}

/// Changes a run of these blocks has.
fn changes(blocks: &NumberMap<u64, BlockDelta>) -> usize {
    blocks.values().map(|delta| delta.pages.len() + usize::from(delta.all.is_some())).sum()
}

/// A layer on its way to be settled.
pub(super) struct Settling {
    pub(super) layer: Arc<Layer>,
    /// The layer's blocks, ascending.
    blocks: Vec<u64>,
    next: usize,
    root: Root,
    /// Pages written in this generation or before belong to a retained cut.
    fence: u32,
    page: RunPage,
    placed: Vec<Location>,
    pub(super) accounting: Accounting,
    /// Whether something of the map is lost that the changes hide. It is found again with each layer,
    /// until merging into leaves has put something in its place.
    pub(super) met_loss: bool,
}

impl Settling {
    pub(super) fn new(layer: Arc<Layer>, root: Root, runs: RunRef, fence: u32) -> Self {
        let mut blocks: Vec<u64> = layer.blocks.keys().copied().collect();
        blocks.sort_unstable();
        let (page, accounting) = (RunPage::after(runs), Accounting::default());
        Self {
            layer,
            blocks,
            next: 0,
            root,
            fence,
            page,
            placed: Vec::new(),
            accounting,
            met_loss: false,
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.next == self.blocks.len()
    }

    /// Settles one block.
    pub(super) fn step(&mut self, parts: &mut Parts<'_>) -> Result<(), Error> {
        let block = self.blocks[self.next];
        let layer = Arc::clone(&self.layer);
        let delta = &layer.blocks[&block];
        self.free_hidden(parts, block, delta)?;
        if let Some(entry) = delta.all {
            self.add(parts, Change::Block { block, entry })?;
        }
        for (page, entry) in &delta.pages {
            let lba = block * PAGES_PER_BLOCK as u64 + u64::from(*page);
            self.add(parts, Change::Page { lba, entry: *entry })?;
        }
        parts.settled.settle(block, delta);
        self.next += 1;
        Ok(())
    }

    /// Counts what the changes hide as dead, unless a cut has it.
    fn free_hidden(
        &mut self,
        parts: &mut Parts<'_>,
        block: u64,
        delta: &BlockDelta,
    ) -> Result<(), Error> {
        let mut leaf = None;
        for at in (0..PAGES_PER_BLOCK).filter(|at| delta.get(*at).is_some()) {
            let hidden = match parts.settled.get(block, at) {
                Some(settled) => *settled,
                None => {
                    if leaf.is_none() {
                        // One lost page may be above many blocks. What is not counted as dead for that
                        // stays where it is.
                        let reads_max = if self.met_loss { 1 } else { READS_MAX };
                        let found = parts.read_hidden(self.root, block, reads_max)?;
                        self.met_loss |= found.is_none();
                        leaf = Some(found.flatten());
                    }
                    leaf.as_ref()
                        .and_then(Option::as_ref)
                        .map_or(Entry::NOTHING, |leaf| leaf_entry(leaf, at))
                }
            };
            if hidden.is_stored() && hidden.written > self.fence {
                self.accounting.free(parts.table.geometry, hidden.location);
            }
        }
        Ok(())
    }

    fn add(&mut self, parts: &mut Parts<'_>, change: Change) -> Result<(), Error> {
        if self.page.is_full() {
            self.write(parts)?;
        }
        self.page.changes.push(change);
        Ok(())
    }

    fn write(&mut self, parts: &mut Parts<'_>) -> Result<(), Error> {
        let identity = (StructureKind::MapRun, self.page.ordinal());
        let (location, tag) = parts.write(self.layer.id, identity, &self.page.encode())?;
        self.accounting.count(parts.table.geometry, location);
        self.placed.push(location);
        let pages = self.page.before.pages + 1;
        self.page = RunPage::after(RunRef { location, tag, pages });
        Ok(())
    }

    /// Writes the last page, and says which is the newest.
    pub(super) fn finish(&mut self, parts: &mut Parts<'_>) -> Result<RunRef, Error> {
        if !self.page.changes.is_empty() {
            self.write(parts)?;
        }
        parts.settled.pages.append(&mut self.placed);
        Ok(self.page.before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::delta::tests::{GEOMETRY, stored};

    /// Layers settled in their order show the same as their changes read back, the newest first.
    #[test]
    fn what_is_read_back_is_what_was_settled() {
        let mut first = Layer::new(1);
        first.put(GEOMETRY, 5, stored(1));
        first.put(GEOMETRY, 6, stored(2));
        first.put_zeros(GEOMETRY, 128, 128, 1);
        let mut second = Layer::new(2);
        second.put_zeros(GEOMETRY, 0, 128, 2);
        second.put(GEOMETRY, 6, stored(3));
        second.put(GEOMETRY, 130, stored(4));
        let mut third = Layer::new(3);
        third.put(GEOMETRY, 7, stored(5));
        third.put(GEOMETRY, 6, stored(6));
        let layers = [first, second, third];
        let (mut settled, mut recalled) = (Settled::default(), Settled::default());
        for layer in &layers {
            layer.blocks.iter().for_each(|(block, delta)| settled.settle(*block, delta));
        }
        for layer in layers.iter().rev() {
            for (block, delta) in &layer.blocks {
                for (page, entry) in delta.pages.iter().rev() {
                    let lba = block * PAGES_PER_BLOCK as u64 + u64::from(*page);
                    recalled.recall(Change::Page { lba, entry: *entry });
                }
                if let Some(entry) = delta.all {
                    recalled.recall(Change::Block { block: *block, entry });
                }
            }
        }
        let zero = |generation| Some(Entry::zero(generation));
        for found in [settled, recalled] {
            assert_eq!(found.get(0, 5).copied(), zero(2));
            assert_eq!(found.get(0, 6).copied(), Some(stored(6)));
            assert_eq!(found.get(0, 7).copied(), Some(stored(5)));
            assert_eq!(found.get(1, 2).copied(), Some(stored(4)));
            assert_eq!(found.get(1, 3).copied(), zero(1));
            assert_eq!(found.get(2, 0), None);
            let held = found.blocks.values().map(|delta| BLOCK_BYTES + memory_of(delta));
            assert_eq!(found.bytes, held.sum::<usize>());
        }
    }
}
