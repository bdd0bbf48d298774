//! What long work tells whoever started it, and asks.

use super::Error;
use super::pack::PACK_ITEMS_MAX;
use super::root::{AddedTo, Checkpoint};
use super::store::SnapshotStore;
use crate::page::BLOCK_BYTES;

/// Room for so many intervals between checkpoints is enough: others take some of it meanwhile.
const TIGHT_INTERVALS: u64 = 2;

/// Watches an export or a copy. Called from the thread that does the work, but for
/// [`Observer::admit`].
pub trait Observer: Sync {
    /// So many of the blocks to do are done.
    fn progress(&self, done: u64, total: u64);

    /// Records how far the work has come. Once this returns `Ok`, the work may be resumed from
    /// here, and the checkpoint's root must be among the live roots of every collection.
    ///
    /// # Errors
    /// When it could not be recorded; the work then stops.
    fn checkpoint(
        &self,
        checkpoint: &Checkpoint,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>>;

    /// Whether the work should stop. Asked after every block.
    fn is_cancelled(&self) -> bool;

    /// Whether the work should begin nothing more, store a checkpoint of all it has begun, and then stop with
    /// [`Error::TurnOver`]: nothing of it is done twice.
    fn is_turn_over(&self) -> bool {
        false
    }

    /// Waits until `bytes` more may be read or written. Called from every thread of the work, before
    /// each block.
    fn admit(&self, bytes: u64);
}

/// Watches nothing: for work short enough to be repeated from the start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unobserved;

impl Observer for Unobserved {
    fn progress(&self, _done: u64, _total: u64) {}

    fn checkpoint(
        &self,
        _checkpoint: &Checkpoint,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        Ok(())
    }

    fn is_cancelled(&self) -> bool {
        false
    }

    fn admit(&self, _bytes: u64) {}
}

/// Counts blocks, and says when a checkpoint is due.
pub(super) struct Pace<'a> {
    observer: &'a dyn Observer,
    interval_blocks: u64,
    total: u64,
    done: u64,
    done_at_checkpoint: u64,
    added_to: Option<AddedTo>,
}

impl<'a> Pace<'a> {
    pub(super) fn new(
        observer: &'a dyn Observer,
        interval_blocks: u64,
        total: u64,
        done: u64,
    ) -> Self {
        observer.progress(done, total);
        Self { observer, interval_blocks, total, done, done_at_checkpoint: done, added_to: None }
    }

    /// The work is a copy that adds to this.
    pub(super) fn adding_to(self, added_to: AddedTo) -> Self {
        Self { added_to: Some(added_to), ..self }
    }

    /// Counts blocks as done; true when a checkpoint is due.
    pub(super) fn advance(&mut self, blocks: u64) -> Result<bool, Error> {
        self.done += blocks;
        self.observer.progress(self.done, self.total.max(self.done));
        if self.observer.is_cancelled() {
            return Err(Error::Cancelled);
        }
        Ok(self.since_checkpoint() >= self.interval_blocks)
    }

    /// Counts blocks as stored; true when a checkpoint is due. Where there may not be room until the next
    /// one, that is after every pack: so nothing is stored in vain.
    pub(super) fn advance_in(&mut self, store: &SnapshotStore, blocks: u64) -> Result<bool, Error> {
        let is_due = self.advance(blocks)?;
        let ahead_bytes = TIGHT_INTERVALS * self.interval_blocks * BLOCK_BYTES as u64;
        let is_pack_full = self.since_checkpoint() >= PACK_ITEMS_MAX as u64;
        Ok(is_due || is_pack_full && store.is_near_floor(ahead_bytes)?)
    }

    fn since_checkpoint(&self) -> u64 {
        self.done - self.done_at_checkpoint
    }

    /// Hands a commit to the observer.
    pub(super) fn checkpoint(
        &mut self,
        root: super::SnapshotRoot,
        next_block: u64,
    ) -> Result<(), Error> {
        let (blocks_done, added_to) = (self.done, self.added_to);
        let checkpoint = Checkpoint { root, next_block, blocks_done, added_to };
        let recorded = self.observer.checkpoint(&checkpoint);
        recorded.map_err(|source| Error::Checkpoint { source })?;
        self.done_at_checkpoint = self.done;
        Ok(())
    }
}
