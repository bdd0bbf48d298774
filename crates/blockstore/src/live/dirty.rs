//! What changed in a volume since a cut, for incremental backup of a volume in use.
//!
//! Every map entry holds the generation its content is from, and every reference to a map page the
//! newest such generation below it. So a question about a range visits what changed and little else:
//! a part of the map that is older is passed over at its root. No data key is needed.

use super::Error;
use super::delta::Entry;
use super::engine::Engine;
use super::layout::{FAN_OUT, FAN_OUT_BITS};
use super::map::{child, slot_of};
use super::superblock::NodeRef;
use crate::page::{BLOCK_BYTES, PAGE_BYTES, PAGES_PER_BLOCK};
use std::iter::Peekable;

/// Stretches answered at once.
const STRETCHES_MAX: usize = 1024;
/// Changed blocks looked into at once. A volume of which everything changed is told in parts, so
/// that reads and writes do not wait for it.
const BLOCKS_MAX: usize = 2048;

/// A run of bytes that changed, or did not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Its length.
    pub length: u64,
    /// Which of both.
    pub state: ChangeState,
}

/// Whether a run of bytes changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeState {
    /// Written, zeroed or given up since; it may hold the same bytes again.
    Changed,
    /// Holds what it held.
    Unchanged,
}

/// Stretches from `at` on, up to `end`.
struct Stretches {
    found: Vec<Stretch>,
    at: u64,
    end: u64,
}

impl Stretches {
    /// Goes on to byte `to`; `false` when no further stretch is admitted.
    fn reach(&mut self, to: u64, state: ChangeState) -> bool {
        let to = to.min(self.end);
        let length = to.saturating_sub(self.at);
        let full = self.found.len() == STRETCHES_MAX;
        match self.found.last_mut() {
            _ if length == 0 => return true,
            Some(last) if last.state == state => last.length += length,
            _ if full => return false,
            _ => self.found.push(Stretch { length, state }),
        }
        self.at = to;
        true
    }
}

impl Engine {
    /// Which parts of the beginning of a range changed after the cut of generation `since`; with 0,
    /// since the volume was created. At least one stretch, possibly less than the range.
    ///
    /// # Errors
    /// When the range is empty or outside the volume, or the map cannot be read.
    pub fn changes_since(
        &mut self,
        since: u32,
        offset: u64,
        length: u64,
    ) -> Result<Vec<Stretch>, Error> {
        let (size, end) = (self.size(), offset.saturating_add(length));
        if length == 0 || end > size {
            return Err(Error::OutOfRange { offset, length, size });
        }
        let mut stretches = Stretches { found: Vec::new(), at: offset, end };
        let mut block = offset / BLOCK_BYTES as u64;
        let last = (end - 1) / BLOCK_BYTES as u64;
        let mut layered = self.layered_blocks(block, last).into_iter().peekable();
        for _ in 0..BLOCKS_MAX {
            let stored = self.next_stored_change(since, block)?;
            let next = [stored, next_from(&mut layered, block)].into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next <= last) else {
                stretches.reach(end, ChangeState::Unchanged);
                break;
            };
            let start = next * BLOCK_BYTES as u64;
            if !stretches.reach(start, ChangeState::Unchanged)
                || !self.look_into(next, since, &mut stretches)?
                || next == last
            {
                break;
            }
            block = next + 1;
        }
        Ok(stretches.found)
    }

    /// Goes through the pages of a block; `false` when no further stretch is admitted.
    fn look_into(
        &mut self,
        block: u64,
        since: u32,
        stretches: &mut Stretches,
    ) -> Result<bool, Error> {
        let mut entries = [Entry::NOTHING; PAGES_PER_BLOCK];
        self.resolve(block, 0, &mut entries)?;
        let start = block * BLOCK_BYTES as u64;
        for (page, entry) in entries.iter().enumerate() {
            let state =
                if entry.birth > since { ChangeState::Changed } else { ChangeState::Unchanged };
            if !stretches.reach(start + ((page + 1) * PAGE_BYTES) as u64, state) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The blocks of a range with changes that no leaf has, ascending.
    fn layered_blocks(&self, first: u64, last: u64) -> Vec<u64> {
        let held: usize = self.unmerged().map(|changed| changed.len()).sum();
        let range = first..=last;
        // Whichever is the shorter list is gone through.
        let mut blocks: Vec<u64> = if (held as u64) < last - first {
            self.unmerged().flat_map(|l| l.keys().copied()).filter(|b| range.contains(b)).collect()
        } else {
            range.filter(|block| self.unmerged().any(|l| l.contains_key(block))).collect()
        };
        blocks.sort_unstable();
        blocks
    }

    /// The first block from `from` on that the stored map knows to have changed.
    fn next_stored_change(&mut self, since: u32, from: u64) -> Result<Option<u64>, Error> {
        let root = self.committed.root;
        let blocks = 1u64 << (FAN_OUT_BITS * u32::from(root.height));
        if root.node.is_absent() || from >= blocks {
            return Ok(None);
        }
        self.first_change(root.node, root.height, 0, since, from)
    }

    /// The first changed block from `from` on, which lies below `node` or before it; `node` maps
    /// from `first` on.
    fn first_change(
        &mut self,
        node: NodeRef,
        level: u8,
        first: u64,
        since: u32,
        from: u64,
    ) -> Result<Option<u64>, Error> {
        if node.is_absent() || node.changed <= since {
            return Ok(None);
        }
        if level == 0 {
            return Ok(Some(first));
        }
        let page = self.nodes.read(&self.table, &node, level, first)?;
        let begin = if from > first { slot_of(from, level) } else { 0 };
        for slot in begin..FAN_OUT as usize {
            let below = first + ((slot as u64) << (FAN_OUT_BITS * u32::from(level - 1)));
            let found = self.first_change(child(&page, slot), level - 1, below, since, from)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }
}

/// The first element that is at least `from`; smaller ones are dropped.
fn next_from(blocks: &mut Peekable<impl Iterator<Item = u64>>, from: u64) -> Option<u64> {
    while blocks.next_if(|block| *block < from).is_some() {}
    blocks.peek().copied()
}
