//! Which pages the victims of the cleaner still hold.
//!
//! A victim's descriptors name what its pages were written for, in the order in which they lie there.
//! They do not name all: what a killed process had noted in its tail lies behind the last chunk, in
//! none ([`super::tail`]), and a damaged descriptor hides what comes after it. Where the descriptors end
//! before the segment does, the live pages among those they name are counted. If the segment table knows
//! of more, the others are found by walking the map, as map pages are.
//!
//! A walk may take longer than one checkpoint. The next one has the pages that are still to be found at
//! the same places, so it goes on in the new map with the blocks that it had not come to.

use super::Error;
use super::clean::{LOOK_PAGES, Victim};
use super::delta::{Entry, split};
use super::engine::Engine;
use super::layout::{FAN_OUT, FAN_OUT_BITS, Location, SegmentIndex};
use super::log::Descriptor;
use super::map::{child, leaf_entry};
use super::superblock::NodeRef;
use crate::page::{Lba, PAGES_PER_BLOCK};

/// Descriptors read in one step.
const SCAN_DESCRIPTORS: usize = 16;
/// Map pages visited in one step.
const WALK_NODES: usize = 64;

/// How far the descriptors of a victim were followed.
pub(super) enum Scanned {
    /// There are more.
    Part,
    /// To the end of the segment.
    All,
    /// To a page that is no descriptor, with room for pages behind it.
    ToGap,
}

/// Counts live pages of those that were found, from the first on.
pub(super) struct Counting {
    first: usize,
    next: usize,
    live: u32,
    /// The checkpoint as of which they are live.
    epoch: u64,
}

impl Counting {
    pub(super) fn from(first: usize) -> Self {
        Self { first, next: first, live: 0, epoch: 0 }
    }
}

/// Map pages still to be visited, the highest block last.
pub(super) struct Walk {
    nodes: Vec<(NodeRef, u8, u64)>,
    /// The checkpoint whose map they are of.
    epoch: u64,
    /// Blocks from here on were visited.
    end: u64,
    /// Map pages that were written in earlier generations name no page that is looked for.
    generation: u32,
}

impl Engine {
    /// Follows a victim's descriptors and notes what its pages were written for.
    pub(super) fn scan(
        &self,
        victim: &Victim,
        position: &mut u32,
        found: &mut Vec<(Lba, Location)>,
    ) -> Result<Scanned, Error> {
        let geometry = self.ctx.geometry;
        // Released and used again since: nothing of what was to be moved is there.
        if self.table.get(victim.index).is_none_or(|segment| segment.salt != victim.salt) {
            return Ok(Scanned::All);
        }
        let opener = self.ctx.structure.opener(victim.salt);
        for _ in 0..SCAN_DESCRIPTORS {
            // Behind the last page there is room for none that it would describe.
            if *position + 1 >= geometry.segment_pages {
                return Ok(Scanned::All);
            }
            let start = geometry.locate(victim.index, *position);
            let page = match self.read_page(start) {
                Err(error) if self.is_local(&error) => return Ok(Scanned::ToGap),
                page => page?,
            };
            let Some(descriptor) = Descriptor::open(page, &opener, *position) else {
                return Ok(Scanned::ToGap);
            };
            let mut location = start;
            for record in descriptor.records() {
                let record = record.ok_or_else(|| Error::corrupt("chunk descriptor", start))?;
                if let Some(lba) = record.page() {
                    location += 1;
                    found.push((lba, location));
                }
            }
            *position += 1 + descriptor.data_pages();
        }
        Ok(Scanned::Part)
    }

    /// Counts the next of the pages that the last checkpoint shows where they were found. Answers how
    /// many they are when it has come to the end of the list.
    pub(super) fn count_live(
        &mut self,
        counting: &mut Counting,
        found: &mut [(Lba, Location)],
    ) -> Result<Option<u32>, Error> {
        if counting.epoch != self.committed.epoch {
            // Neighbours have a leaf in common.
            found[counting.first..].sort_unstable();
            let epoch = self.committed.epoch;
            *counting = Counting { epoch, ..Counting::from(counting.first) };
        }
        for (lba, location) in found.iter().skip(counting.next).take(LOOK_PAGES) {
            let entry = match self.committed_entry(*lba) {
                Err(error) if self.is_local(&error) => Entry::NOTHING,
                entry => entry?,
            };
            counting.next += 1;
            counting.live += u32::from(entry.location == *location);
        }
        Ok((counting.next == found.len()).then_some(counting.live))
    }

    /// What the last checkpoint says of a page. While a layer is being settled some of that is hidden
    /// already.
    fn committed_entry(&mut self, lba: Lba) -> Result<Entry, Error> {
        let (block, page) = split(lba);
        if let Some(settled) = self.settled.get(block, page) {
            return Ok(*settled);
        }
        let leaf = self.nodes.leaf(&self.table, self.committed.root, block)?;
        Ok(leaf.map_or(Entry::NOTHING, |leaf| leaf_entry(&leaf, page)))
    }

    /// Notes the pages of some segments that runs have and leaves have not.
    pub(super) fn find_settled(&self, segments: &[SegmentIndex], found: &mut Vec<(Lba, Location)>) {
        if segments.is_empty() {
            return;
        }
        for (block, delta) in &self.settled.blocks {
            let first = block * PAGES_PER_BLOCK as u64;
            let held = delta.pages.iter().filter(|(_, entry)| self.lies_in(entry, segments));
            found.extend(held.map(|(page, entry)| (first + u64::from(*page), entry.location)));
        }
    }

    fn lies_in(&self, entry: &Entry, segments: &[SegmentIndex]) -> bool {
        let place = self.ctx.geometry.split(entry.location).filter(|_| entry.is_stored());
        place.is_some_and(|(segment, _)| segments.contains(&segment))
    }

    /// A walk that looks for the map pages in some segments, and for the pages in others.
    pub(super) fn begin_walk(&self, maps: &[SegmentIndex], unnamed: &[SegmentIndex]) -> Walk {
        let of = |index: &SegmentIndex| self.table.get(*index).map(|segment| segment.generation);
        let generation = unnamed.iter().filter_map(of).min().unwrap_or(u32::MAX);
        let end = if maps.is_empty() && unnamed.is_empty() { 0 } else { u64::MAX };
        Walk { nodes: Vec::new(), epoch: 0, end, generation }
    }

    /// Visits the next map pages: has those in `maps` rewritten by the next merge, and notes the pages in
    /// `unnamed`. Returns whether it has come to the end.
    pub(super) fn walk(
        &mut self,
        walk: &mut Walk,
        maps: &[SegmentIndex],
        unnamed: &[SegmentIndex],
        found: &mut Vec<(Lba, Location)>,
    ) -> Result<bool, Error> {
        if walk.epoch != self.committed.epoch {
            let root = self.committed.root;
            walk.nodes.clear();
            let is_due = !root.node.is_absent() && walk.end > 0;
            walk.nodes.extend(is_due.then_some((root.node, root.height, 0)));
            walk.epoch = self.committed.epoch;
        }
        let geometry = self.ctx.geometry;
        let is_here = |node: &NodeRef| {
            geometry.split(node.location).is_some_and(|(segment, _)| maps.contains(&segment))
        };
        for _ in 0..WALK_NODES {
            let Some((node, level, block)) = walk.nodes.last().copied() else { return Ok(true) };
            let page = match self.nodes.read(&self.table, &node, level, block) {
                // What cannot be read cannot be written elsewhere either.
                Err(error) if self.is_local(&error) => None,
                page => Some(page?),
            };
            // After any other error it is read when the walk goes on.
            walk.nodes.pop();
            let Some(page) = page else { continue };
            if is_here(&node) {
                self.active.rewrite(block);
            }
            if level == 0 {
                walk.end = block;
                let first = block * PAGES_PER_BLOCK as u64;
                let entries = (first..).zip((0..PAGES_PER_BLOCK).map(|at| leaf_entry(&page, at)));
                let held = entries.filter(|(_, entry)| self.lies_in(entry, unnamed));
                found.extend(held.map(|(lba, entry)| (lba, entry.location)));
                continue;
            }
            let before = walk.nodes.len();
            for slot in 0..FAN_OUT as usize {
                let child = child(&page, slot);
                let below = block + ((slot as u64) << (FAN_OUT_BITS * u32::from(level - 1)));
                let may_lead = child.written >= walk.generation || level > 1 && !maps.is_empty();
                if below < walk.end && !child.is_absent() && (may_lead || is_here(&child)) {
                    walk.nodes.push((child, level - 1, below));
                }
            }
            if level == 1 && walk.nodes.len() == before {
                walk.end = block;
            }
        }
        Ok(walk.nodes.is_empty())
    }
}
