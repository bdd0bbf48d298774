//! How much of the place its file lies in a volume may take.
//!
//! A volume takes whole segments. Before a guest's write opens one, or is the first after a checkpoint,
//! the volume asks; if that is refused it cleans, and if cleaning does not help it refuses the write,
//! before anything of it is in the log. What it asks for includes what upkeep may need until it gives
//! space back, so that flushes, checkpoints and cleaning, which do not ask, still find room when writes
//! do not. Discards and zeros ask for no more than merging them takes, cuts as writes do.

use super::Error;
use super::clean::Purpose;
use super::delta::{Entry, Layer};
use super::engine::Engine;
use super::layout::{CHUNK_ENTRIES_MAX, FAN_OUT, height_for};
use super::run::CHANGES_MAX;
use crate::page::{BLOCK_BYTES, PAGE_BYTES, PAGES_PER_BLOCK};

/// Segments that upkeep may open before it gives any back, besides those of moved pages: one of the
/// map.
const UPKEEP_SEGMENTS: u64 = 1;
/// The part of its segments that a volume short of space moves in one round, and at most how many.
const ROUND_SHARE: u64 = 128;
const ROUND_SEGMENTS_MAX: u64 = 16;
/// Rounds of cleaning before a write is refused.
const ATTEMPTS: usize = 8;

/// What was granted.
#[derive(Clone, Copy)]
pub(super) struct Grant {
    /// As of that checkpoint.
    epoch: u64,
    /// For so many changed blocks in memory.
    blocks: u64,
}

/// What counts as held when something is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Held {
    /// As much as the live pages need to be overwritten for ever.
    Lasting,
    /// The segments there are: what gives space back may take the rest.
    Now,
}

/// What a volume takes, and may need.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Need {
    /// Bytes of its segments in use, whether they are filled or not; or those that its live pages
    /// need to be overwritten for ever at the live fraction it is cleaned at, if that is more. What
    /// was written since the last checkpoint counts as live.
    pub held: u64,
    /// Bytes more that merging what is in memory and a round of cleaning would take.
    pub upkeep: u64,
}

/// Shares out the place that files lie in.
pub trait Space: Send + Sync {
    /// Asks whether the volume may need so much. When it may, that is noted.
    fn ask(&self, need: Need) -> bool;

    /// The same for what gives space back. It needs its upkeep for a moment, which need not be kept from
    /// what others may need some day.
    fn ask_to_give_back(&self, need: Need) -> bool {
        self.ask(need)
    }

    /// Notes that a guest was refused, because cleaning did not help.
    fn refused(&self);

    /// Notes what the volume needs. Upkeep does not ask.
    fn tell(&self, need: Need);

    /// Whether so little is left that volumes should clean before they are asked to.
    fn is_short(&self) -> bool;
}

/// Space without end.
pub(super) struct Unlimited;

impl Space for Unlimited {
    fn ask(&self, _: Need) -> bool {
        true
    }

    fn refused(&self) {}

    fn tell(&self, _: Need) {}

    fn is_short(&self) -> bool {
        false
    }
}

impl Engine {
    /// Has the volume ask for its space from now on.
    pub fn limit_space(&mut self, space: std::sync::Arc<dyn Space>) {
        space.tell(self.need(0, 0));
        self.space = space;
    }

    /// What the volume needs when the log opens so many more segments for a write of so many pages.
    pub(super) fn need(&self, segments: u64, pages: u64) -> Need {
        let geometry = self.ctx.geometry;
        // The pages of the write lie side by side. Every page that still fits the last segment may be
        // of another block.
        let rest = self.open_pages(segments);
        let map_pages = self.merge_pages(blocks_of(pages) + rest);
        let layers = self.frozen.iter().map(|layer| layer.accounting.sum());
        let unmerged = self.active.accounting.sum() + layers.sum::<i64>();
        let coming = segments * u64::from(geometry.segment_pages);
        let live = self.table.live() + unmerged.unsigned_abs() + coming;
        let used = u64::from(self.table.used()) + segments;
        Need {
            held: used.max(self.allowed_segments(live)) * geometry.segment_bytes(),
            upkeep: map_pages * PAGE_BYTES as u64
                + (UPKEEP_SEGMENTS + self.round_segments()) * geometry.segment_bytes(),
        }
    }

    /// Pages that are written to merge what is in memory, and changes of so many blocks more, into
    /// leaves: when it is settled first, those of the runs too.
    fn merge_pages(&self, coming_blocks: u64) -> u64 {
        let mut blocks = self.settled.blocks.len() as u64;
        let mut pages = 0;
        for layer in &self.frozen {
            blocks += layer.blocks.len() as u64;
            pages += run_pages_max(layer) + self.table.stored_pages() as u64;
            if layer.cut.is_some() || layer.is_for_leaves {
                pages += self.tree_pages(blocks);
                blocks = 0;
            }
        }
        blocks += self.active.blocks.len() as u64 + coming_blocks;
        pages += run_pages_max(&self.active)
            + coming_blocks.div_ceil(CHANGES_MAX as u64)
            + self.table.stored_pages() as u64;
        pages + self.tree_pages(blocks)
    }

    /// Map pages that are rewritten for so many changed blocks, at worst: their leaves, and on each
    /// level as many nodes, or all.
    fn tree_pages(&self, blocks: u64) -> u64 {
        let all = self.size.div_ceil(BLOCK_BYTES as u64);
        let height = height_for(self.size).max(self.committed.root.height);
        let levels = 0..=u32::from(height);
        levels.map(|level| blocks.min(all.div_ceil(FAN_OUT.pow(level)))).sum()
    }

    /// Segments of live pages that one round moves when space is short.
    pub(super) fn round_segments(&self) -> u64 {
        (u64::from(self.table.used()) / ROUND_SHARE).clamp(1, ROUND_SEGMENTS_MAX)
    }

    /// Segments that so many live pages may take.
    pub(super) fn allowed_segments(&self, live: u64) -> u64 {
        let share = u64::from(self.ctx.config.live_percent_max)
            * u64::from(self.ctx.geometry.segment_pages);
        (live * 100).div_ceil(share.max(1))
    }

    /// Makes sure that so many pages of the guest may be written, cleaning for them if needed.
    ///
    /// # Errors
    /// [`Error::Full`] when they may not. The volume goes on: reads, flushes and cleaning are not
    /// refused, discards only where they could not be merged, and writes will not be once there is space again.
    pub(super) fn admit(&mut self, pages: u64) -> Result<(), Error> {
        let segment_pages = u64::from(self.ctx.geometry.segment_pages);
        // Descriptors are counted with the pages; one more chunk may be begun, another closed.
        let needed = pages + pages / CHUNK_ENTRIES_MAX as u64 + 2;
        let room = self.log.room(self.ctx.geometry);
        if needed <= room && self.is_granted(pages) {
            return Ok(());
        }
        // Of a segment, the header is lost, and at worst a descriptor and the page before its end.
        let segments = needed.saturating_sub(room).div_ceil(segment_pages - 3);
        self.ask(segments, pages, Held::Lasting)
    }

    /// Makes sure that zeros over so many pages may be merged.
    ///
    /// # Errors
    /// [`Error::Full`] when there is no room for that, not even after cleaning: then nothing could be
    /// given back either.
    pub(super) fn admit_zeros(&mut self, pages: u64) -> Result<(), Error> {
        let needed = blocks_of(pages) / CHUNK_ENTRIES_MAX as u64 + 2;
        let segments = u64::from(needed > self.log.room(self.ctx.geometry));
        if segments == 0 && self.is_granted(pages) {
            return Ok(());
        }
        self.ask(segments, pages, Held::Now)
    }

    fn ask(&mut self, segments: u64, pages: u64, held: Held) -> Result<(), Error> {
        for _ in 0..ATTEMPTS {
            let mut need = self.need(segments, pages);
            let is_granted = match held {
                Held::Lasting => self.space.ask(need),
                Held::Now => {
                    let used = u64::from(self.table.used()) + segments;
                    need.held = used * self.ctx.geometry.segment_bytes();
                    self.space.ask_to_give_back(need)
                }
            };
            if is_granted {
                let coming = blocks_of(pages) + self.open_pages(segments);
                let blocks = self.changed_blocks() + coming;
                self.granted = Some(Grant { epoch: self.committed.epoch, blocks });
                return Ok(());
            }
            if !self.make_space()? {
                break;
            }
        }
        self.space.refused();
        Err(Error::Full)
    }

    /// Whether what was granted holds for so many pages side by side more. A checkpoint takes what was
    /// granted for it, and what is written afterwards needs another.
    fn is_granted(&self, pages: u64) -> bool {
        let blocks = self.changed_blocks() + blocks_of(pages);
        let epoch = self.committed.epoch;
        self.granted.is_some_and(|granted| granted.epoch == epoch && blocks <= granted.blocks)
    }

    /// Blocks with changes in memory.
    fn changed_blocks(&self) -> u64 {
        let layers = self.frozen.iter().map(|layer| layer.blocks.len());
        (self.active.blocks.len() + layers.sum::<usize>()) as u64
    }

    /// Pages that fit the log until another segment is asked for.
    fn open_pages(&self, segments: u64) -> u64 {
        match segments {
            0 => self.log.room(self.ctx.geometry),
            _ => u64::from(self.ctx.geometry.segment_pages),
        }
    }

    /// Whether what was written since the last checkpoint takes a segment or more while space is
    /// short: what it replaced, or discarded, should be given back.
    pub(super) fn is_space_wanted(&self) -> bool {
        self.log.bytes_since_checkpoint > self.ctx.geometry.segment_bytes() && self.space.is_short()
    }

    /// Refuses a cut while there is no room for what it keeps and for merging it.
    pub(super) fn check_space(&self) -> Result<(), Error> {
        if self.space.ask(self.need(1, 0)) {
            return Ok(());
        }
        self.space.refused();
        Err(Error::Full)
    }

    /// Gives back what is dead, cleans what is worth it, merges, and so gives more back at once. Returns
    /// whether anything of that happened. What takes as long as reading the whole map is left to quiet times.
    fn make_space(&mut self) -> Result<bool, Error> {
        let before = self.committed.epoch;
        if self.give_back_all() {
            return Ok(true);
        }
        self.forget_order();
        // A layer that is half settled hides what the last checkpoint counted: everything of it would
        // seem to lie where no descriptor says.
        self.mutate(Self::merge_all)?;
        while self.cleaned.is_empty() || self.round.is_some() {
            match self.clean_for(Purpose::Write) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) if self.failed => return Err(error),
                // What cannot be read elsewhere must not refuse this write; it shows where it is read.
                Err(error) => {
                    tracing::warn!(%error, "cleaning for a write failed");
                    break;
                }
            }
        }
        let unmerged = !self.active.is_empty() || !self.frozen.is_empty();
        if unmerged {
            self.checkpoint()?;
        }
        Ok(self.give_back_all() || self.committed.epoch != before)
    }
}

/// Blocks that so many pages side by side lie in, at most.
fn blocks_of(pages: u64) -> u64 {
    pages / PAGES_PER_BLOCK as u64 + 2
}

/// Pages of a run that the layer is settled in, at most.
fn run_pages_max(layer: &Layer) -> u64 {
    (layer.bytes / size_of::<(u8, Entry)>()).div_ceil(CHANGES_MAX) as u64
}
