//! Turns of long work: it stops when its time is over, and loses nothing by that.

use crate::cells::Watched;
use blockstore::page::BLOCK_BYTES;
use blockstore::snapshot::{Checkpoint, Observer};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// How long a turn lasts. Jobs that wait meanwhile wait no longer than this for their own.
const TURN: Duration = Duration::from_secs(2);
/// Blocks between two checkpoints: 128 MiB, about a second at the slowest rate that can be asked for.
pub(crate) const CHECKPOINT_BLOCKS: u64 = 256;

/// Stops the work when its time is over.
pub(crate) struct Turn<'a> {
    watched: &'a Watched<'a>,
    begun: Instant,
    /// Blocks in the last checkpoint.
    done: AtomicU64,
}

impl<'a> Turn<'a> {
    /// A turn that begins now.
    pub(crate) fn begin(watched: &'a Watched<'a>) -> Self {
        Self { watched, begun: Instant::now(), done: AtomicU64::new(0) }
    }

    /// Percent of `total` blocks that the last checkpoint has; 100 is said by who writes the end.
    pub(crate) fn percent_of(&self, total: u64) -> u8 {
        let done = self.done.load(Ordering::SeqCst);
        let percent = done.saturating_mul(100).checked_div(total).unwrap_or(99);
        u8::try_from(percent.min(99)).expect("at most 99")
    }
}

impl Observer for Turn<'_> {
    fn progress(&self, done: u64, total: u64) {
        self.watched.progress(done, total);
    }

    fn checkpoint(
        &self,
        checkpoint: &Checkpoint,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        self.watched.checkpoint(checkpoint)?;
        self.done.store(checkpoint.blocks_done(), Ordering::SeqCst);
        Ok(())
    }

    fn is_cancelled(&self) -> bool {
        self.watched.is_cancelled()
    }

    fn is_turn_over(&self) -> bool {
        self.begun.elapsed() >= TURN
    }

    /// A rate counts whole blocks, as it does where a volume is filled.
    fn admit(&self, bytes: u64) {
        self.watched.admit(bytes.max(BLOCK_BYTES as u64));
    }
}
