//! Dropping a cut: giving back what only it refers to.
//!
//! The cut's map is compared with that of its newer neighbour, one map page after the other in the order
//! of their blocks, in steps between which the volume is read, written and merged. The superblock names
//! the cut until all of it was compared, so a crash in between costs the comparison and nothing else.
//!
//! The map of the older neighbour is not read. A pointer that was replaced never returns, so whatever
//! the cut has of the generations up to that neighbour's, the neighbour has too.
//!
//! Invariants:
//! - The newer neighbour of the newest cut is the volume's own map, which merges replace meanwhile. What
//!   a merge takes out of it, and the cut has, is counted as dead by whoever comes second: by the
//!   comparison, which does not find it beside the cut any more, or by the merge where the comparison
//!   has passed ([`Watch`]).
//! - No merge is under way when the comparison begins, nor when it ends, and nothing is settled in
//!   between: the volume's map says all there is.

use super::checkpoint::MERGE_STEP_BLOCKS;
use super::delta::Entry;
use super::engine::Engine;
use super::layout::{FAN_OUT, FAN_OUT_BITS, Geometry, Location};
use super::map::{MissingPages, Nodes, child, leaf_entry};
use super::plan::{MapPage, Misses};
use super::segment::Accounting;
use super::superblock::{NodeRef, Root};
use super::{CutId, Error};
use crate::page::{PAGES_PER_BLOCK, Page};
use std::cmp::Reverse;
use std::sync::Arc;

/// Map pages compared in one step, when none of them has to be read.
const STEP_PAGES: usize = 16;
/// How often others are asked to read for one comparison, which takes two paths through a map, and may be
/// asked for by several. When that was not enough, what was read has been forgotten again meanwhile, and the
/// engine reads for itself.
const NEEDS_MAX: u32 = 64;

/// What a step of dropping a cut came to.
pub enum Dropped {
    /// The cut is gone.
    Whole,
    /// There is more to do.
    InPart,
    /// It goes on with pages of the map that are not in memory: [`Engine::supply`] them, and ask again.
    Needs(MapPage),
}

/// A cut on its way to be dropped.
pub(super) struct Dropping {
    id: CutId,
    /// The comparison has begun.
    is_begun: bool,
    /// The generation of the older neighbour; 0 without one.
    older: u32,
    /// Map pages of the cut that are still to be compared, the next one last.
    left: Vec<Left>,
    /// How often the next one needed something that was not in memory.
    needs: u32,
    /// What was found to be the cut's alone.
    accounting: Accounting,
}

/// A map page of the cut.
#[derive(Clone, Copy)]
struct Left {
    node: NodeRef,
    place: Place,
}

/// The place of a map page in the order in which they are compared: by the first block, and the upper
/// ones first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    block: u64,
    level: Reverse<u8>,
}

impl Place {
    /// Of the map page at `level` that leads to a block.
    fn new(level: u8, block: u64) -> Self {
        let shift = FAN_OUT_BITS * u32::from(level);
        Self { block: block >> shift << shift, level: Reverse(level) }
    }
}

/// What a merge replaces of what the cut has, and its older neighbour has not.
pub(super) struct Watch {
    older: u32,
    /// Pages, and the map pages in which the comparison comes by them.
    replaced: Vec<(Place, Location)>,
}

impl Watch {
    /// Notes a page that belongs to the newest cut: the map page of a block at `level`, or one below a
    /// leaf.
    pub(super) fn note(&mut self, level: u8, block: u64, location: Location, written: u32) {
        if written > self.older {
            self.replaced.push((Place::new(level, block), location));
        }
    }

    /// How much memory it takes.
    pub(super) fn bytes(&self) -> usize {
        self.replaced.capacity() * size_of::<(Place, Location)>()
    }
}

/// What a map page of the cut is found to be.
enum Compared {
    /// The newer neighbour has it with all below it, or what that one has cannot be read.
    Kept,
    /// The cut's alone, as these pages below it are. These map pages below it are to be compared.
    Own { pages: Vec<Location>, below: Vec<Left> },
    /// That takes pages which are not in memory.
    Needs(MissingPages),
}

impl Dropping {
    fn new(id: CutId) -> Self {
        let (left, accounting) = (Vec::new(), Accounting::default());
        Self { id, is_begun: false, older: 0, left, needs: 0, accounting }
    }

    fn begin(&mut self, root: Root, older: u32) {
        (self.is_begun, self.older) = (true, older);
        let top = Left { node: root.node, place: Place::new(root.height, 0) };
        self.left = self.own([top].into_iter());
    }

    /// Those of some map pages that the older neighbour has not, the first one last.
    fn own(&self, nodes: impl DoubleEndedIterator<Item = Left>) -> Vec<Left> {
        let is_own = |node: &NodeRef| !node.is_absent() && node.written > self.older;
        nodes.rev().filter(|left| is_own(&left.node)).collect()
    }

    /// Takes note of what the volume's own map does not have any more. A merge that is older than the
    /// comparison watched for another, which was given up.
    pub(super) fn overtake(&mut self, geometry: Geometry, watch: &Watch) {
        if !self.is_begun {
            return;
        }
        let next = self.left.last().map(|left| left.place);
        for (place, location) in &watch.replaced {
            if next.is_none_or(|next| *place < next) {
                self.accounting.free(geometry, *location);
            }
        }
    }
}

impl Engine {
    /// Forgets a cut and gives back what only it refers to. No reader of it may be in use.
    ///
    /// # Errors
    /// When no such cut is retained or the disk fails.
    pub fn drop_cut(&mut self, id: CutId) -> Result<(), Error> {
        while !matches!(self.drop_cut_step(id, Misses::Read)?, Dropped::Whole) {}
        Ok(())
    }

    /// Does a bounded part of [`Engine::drop_cut`], or, where another cut is being dropped, of that. From
    /// the first step on the cut cannot be opened any more; it is part of the stored state until the last
    /// one, and as it was after an error.
    ///
    /// # Errors
    /// When no such cut is retained, which may be because others' steps have dropped it since the
    /// first one, or the disk fails.
    pub fn drop_cut_step(&mut self, id: CutId, misses: Misses) -> Result<Dropped, Error> {
        if self.retained_generation(id).is_none() {
            return Err(Error::CutNotFound { id });
        }
        if !self.is_dropping(id) {
            self.dropping.push_back(Dropping::new(id));
        }
        let Some(mut first) = self.dropping.pop_front() else { return Ok(Dropped::InPart) };
        let current = first.id;
        if !first.is_begun {
            self.dropping.push_front(first);
            if !self.mutate(|engine| engine.prepare_comparison(current))? {
                return Ok(Dropped::InPart);
            }
            let Some(begun) = self.dropping.pop_front() else { return Ok(Dropped::InPart) };
            first = begun;
        }
        let missing = match self.compare_some(&mut first, misses) {
            Ok(missing) => missing,
            Err(error) => {
                // Both are as they were: whoever drops the other begins anew.
                self.dropping.retain(|dropping| dropping.id != id);
                return Err(error);
            }
        };
        self.dropping.push_front(first);
        if let Some(missing) = missing {
            return Ok(Dropped::Needs(MapPage::new(missing)));
        }
        let is_whole = self.mutate(Self::end_dropping)?;
        Ok(if is_whole && current == id { Dropped::Whole } else { Dropped::InPart })
    }

    /// Whether a cut is on its way to be dropped.
    pub fn is_dropping(&self, id: CutId) -> bool {
        self.dropping.iter().any(|dropping| dropping.id == id)
    }

    /// What a merge that begins now has to note.
    pub(super) fn watch_for_dropping(&self) -> Option<Watch> {
        let newest = self.committed.cuts.last()?.id;
        let dropping = self.dropping.front().filter(|it| it.is_begun && it.id == newest)?;
        Some(Watch { older: dropping.older, replaced: Vec::new() })
    }

    /// Merges a part of what has to be merged before the cut can be compared. Begins the comparison and
    /// answers yes when that is done.
    fn prepare_comparison(&mut self, id: CutId) -> Result<bool, Error> {
        if self.is_unmerged(id) {
            if self.frozen.is_empty() {
                self.active.is_for_leaves = true;
                self.freeze(None)?;
            }
            self.merge_steps(MERGE_STEP_BLOCKS)?;
        }
        if self.is_unmerged(id) {
            return Ok(false);
        }
        let (at, cut) = self.merged_cut(id)?;
        let older = at.checked_sub(1).map_or(0, |at| self.committed.cuts[at].generation);
        if let Some(dropping) = self.dropping.front_mut() {
            dropping.begin(cut.root, older);
        }
        Ok(true)
    }

    /// Whether the map beside a cut, or the cut's own, is not all there is.
    fn is_unmerged(&self, id: CutId) -> bool {
        self.merge.is_some() || !self.settled.is_empty() || self.merged_cut(id).is_err()
    }

    /// Compares the next map pages; says which must be read before that goes on.
    fn compare_some(
        &mut self,
        dropping: &mut Dropping,
        misses: Misses,
    ) -> Result<Option<MissingPages>, Error> {
        let steps = match misses {
            Misses::Read => 1,
            Misses::Report => STEP_PAGES,
        };
        for _ in 0..steps {
            let Some(next) = dropping.left.last().copied() else { return Ok(None) };
            let misses = if dropping.needs < NEEDS_MAX { misses } else { Misses::Read };
            let compared = self.compare(dropping, &next, misses)?;
            if let Compared::Needs(missing) = compared {
                dropping.needs += 1;
                return Ok(Some(missing));
            }
            dropping.needs = 0;
            dropping.left.pop();
            if let Compared::Own { pages, below } = compared {
                let geometry = self.ctx.geometry;
                dropping.accounting.free(geometry, next.node.location);
                pages.iter().for_each(|page| dropping.accounting.free(geometry, *page));
                dropping.left.extend(below);
            }
        }
        Ok(None)
    }

    /// Compares a map page of the cut with what its newer neighbour has in its place.
    fn compare(
        &mut self,
        dropping: &Dropping,
        Left { node, place }: &Left,
        misses: Misses,
    ) -> Result<Compared, Error> {
        let (level, block) = (place.level.0, place.block);
        let (at, cut) = self.merged_cut(dropping.id)?;
        let newer = self.committed.cuts.get(at + 1).map_or(self.committed.root, |cut| cut.root);
        let needs = |nodes: &mut Nodes, root, lowest| match misses {
            Misses::Read => None,
            Misses::Report => nodes.missing(root, block, lowest).map(Compared::Needs),
        };
        if let Some(needs) = needs(&mut self.nodes, newer, level + 1) {
            return Ok(needs);
        }
        let (ctx, nodes, table) = (&self.ctx, &mut self.nodes, &self.table);
        let beside = ctx.unless_lost(|| nodes.node(table, newer, block, level))?;
        let Some(beside) = beside.filter(|beside| *beside != Some(*node)) else {
            return Ok(Compared::Kept);
        };
        if let Some(needs) = needs(nodes, cut.root, level) {
            return Ok(needs);
        }
        let nothing = Compared::Own { pages: Vec::new(), below: Vec::new() };
        let Some(own) = ctx.unless_lost(|| nodes.read(table, node, level, block))? else {
            return Ok(nothing);
        };
        if level > 0 {
            let shift = FAN_OUT_BITS * u32::from(level - 1);
            let below = (0..FAN_OUT).map(|slot| {
                let place = Place::new(level - 1, block + (slot << shift));
                Left { node: child(&own, slot as usize), place }
            });
            return Ok(Compared::Own { pages: Vec::new(), below: dropping.own(below) });
        }
        let beside = match beside {
            None => None,
            Some(beside) => {
                if let Some(needs) = needs(nodes, newer, 0) {
                    return Ok(needs);
                }
                match ctx.unless_lost(|| nodes.read(table, &beside, 0, block))? {
                    None => return Ok(nothing),
                    leaf => leaf,
                }
            }
        };
        let pages = (0..PAGES_PER_BLOCK).map(|page| (page, leaf_entry(&own, page)));
        let is_kept = |(page, entry): &(usize, Entry)| {
            let kept = |leaf: &Arc<Page>| leaf_entry(leaf, *page).location == entry.location;
            !entry.is_stored()
                || entry.written <= dropping.older
                || beside.as_ref().is_some_and(kept)
        };
        let pages = pages.filter(|page| !is_kept(page)).map(|(_, entry)| entry.location).collect();
        Ok(Compared::Own { pages, below: Vec::new() })
    }

    /// Forgets the cut if all of it was compared, and no merge is under way that has noted what the
    /// comparison did not find. Answers whether it is gone.
    fn end_dropping(&mut self) -> Result<bool, Error> {
        if self.dropping.front().is_none_or(|dropping| !dropping.left.is_empty()) {
            return Ok(false);
        }
        if self.merge.is_some() {
            self.merge_steps(MERGE_STEP_BLOCKS)?;
        }
        if self.merge.is_some() {
            return Ok(false);
        }
        let Some(dropping) = self.dropping.pop_front() else { return Ok(false) };
        self.committed.cuts.retain(|cut| cut.id != dropping.id);
        self.table.apply(&dropping.accounting)?;
        self.commit()?;
        Ok(true)
    }
}
