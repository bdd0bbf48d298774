//! Putting in order: what a guest reads in one piece and lies in many is copied to lie side by side.
//!
//! Pages are written where the log happens to be, so a range that was overwritten page by page is read
//! from as many places. When a long read meets such a range it is noted, and while the guest is quiet its
//! pages are copied, in the order of their addresses, to the stream of moved pages ([`super::cold`]); the
//! next read finds them in a few runs. A range that is never read in long pieces, as in most databases,
//! costs nothing: copying whatever is written at random would double what a busy disk has to write.
//!
//! A round of this is a round of cleaning without victims. What it leaves dead is given back as any
//! dead page is. It is only begun when nothing is to be cleaned and space is ample, and while no cut is
//! retained, because what a cut refers to would be doubled and not moved.

use super::Error;
use super::clean::Round;
use super::delta::{Entry, split};
use super::engine::Engine;
use super::layout::LOST;
use super::plan::ReadPlan;
use crate::page::{Lba, PAGES_PER_BLOCK};
use std::collections::BTreeSet;

/// Pages a read must have to say anything about how a range is read.
const READ_PAGES_MIN: usize = 16;
/// Pages that lie side by side, on average, in a range that is good as it is: 32 KiB.
const RUN_PAGES_GOOD: usize = 8;
/// Blocks noted, at most; a range of 8 GiB in about 300 KiB of memory. More are noted when they are
/// read again.
const NOTED_BLOCKS_MAX: usize = 16 << 10;
/// Pages of one round: 64 MiB, which take that much more space until the old ones are given back.
const ROUND_PAGES: usize = 16 << 10;

/// Blocks that were read in one piece and lay in many.
#[derive(Default)]
pub(super) struct Scattered(BTreeSet<u64>);

impl Scattered {
    fn note(&mut self, block: u64) {
        if self.0.len() < NOTED_BLOCKS_MAX {
            self.0.insert(block);
        }
    }
}

impl Engine {
    /// Takes note of a guest's read that had to be gathered from many places.
    pub(super) fn note_scattered(&mut self, first: Lba, pages: usize, plan: &ReadPlan) {
        if pages < READ_PAGES_MIN || plan.pieces() * RUN_PAGES_GOOD <= pages {
            return;
        }
        let last = first + pages as u64 - 1;
        for block in split(first).0..=split(last).0 {
            self.scattered.note(block);
        }
    }

    /// Whether something could be put in order now.
    pub fn is_order_wanted(&self) -> bool {
        !self.scattered.0.is_empty()
            && self.ctx.data.is_some()
            && !self.space.is_short()
            && self.newest_cut() == 0
    }

    /// Begins to copy the lowest of the noted ranges.
    pub(super) fn plan_order(&mut self) -> Result<Option<Round>, Error> {
        if !self.is_order_wanted() {
            return Ok(None);
        }
        let mut found = Vec::new();
        while found.len() < ROUND_PAGES
            && let Some(block) = self.scattered.0.pop_first()
        {
            let mut entries = [Entry::NOTHING; PAGES_PER_BLOCK];
            match self.resolve(block, 0, &mut entries) {
                Err(error) if self.is_local(&error) => continue,
                resolved => resolved?,
            }
            let pages = (block * PAGES_PER_BLOCK as u64..).zip(&entries);
            let stored = pages.filter(|(_, entry)| entry.location > LOST);
            found.extend(stored.map(|(lba, entry)| (lba, entry.location)));
        }
        let generation = self.log.generation;
        Ok((!found.is_empty()).then(|| Round::of_order(found, generation)))
    }

    /// Leaves everything as it lies: the space is needed.
    pub(super) fn forget_order(&mut self) {
        self.scattered.0.clear();
        self.round.take_if(|round| round.frees_nothing());
    }
}
