//! Sealing the base of a volume anew under the volume's key, a turn at a time.

use crate::cells::{RESEAL_THREADS, Watched, checkpoint_of, of_snapshot, root_of, stored};
use crate::port::blocks::{BlockError, ResealBase, Resealed};
use blockstore::page::{BLOCK_BYTES, DataKey};
use blockstore::snapshot::{
    self, Checkpoint, CopyJob, CopyKeys, Observer, SnapshotRoot, SnapshotStore,
};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// How long a turn lasts. Jobs that wait meanwhile wait no longer than this for their own.
const TURN: Duration = Duration::from_secs(2);
/// Blocks between two checkpoints: 128 MiB, about a second at the slowest rate that can be asked for.
const CHECKPOINT_BLOCKS: u64 = 256;

/// Goes on with a base from its last checkpoint.
pub(crate) fn reseal_for_a_turn(
    store: &SnapshotStore,
    reseal: &ResealBase,
    watched: &Watched<'_>,
) -> Result<Resealed, BlockError> {
    let Some(base) = &reseal.volume.base else {
        return Err(BlockError::Damaged(Box::new(NoBase)));
    };
    let root = root_of(&base.root)?;
    let resume = reseal.resume.as_deref().map(checkpoint_of).transpose()?;
    let source = DataKey::new(&reseal.base_key);
    let target = DataKey::new(&reseal.volume_key);
    let job = CopyJob {
        source: &root,
        keys: CopyKeys::Change { source: &source, target: &target },
        earlier: None,
        resume: resume.as_ref(),
        checkpoint_blocks: CHECKPOINT_BLOCKS,
        threads: RESEAL_THREADS,
    };
    let turn = Turn {
        watched,
        begun: Instant::now(),
        is_over: AtomicBool::new(false),
        done: AtomicU64::new(0),
    };
    match snapshot::copy(store, store, &job, &turn) {
        Ok(copy) => Ok(Resealed::Wholly(stored(&copy))),
        Err(snapshot::Error::Cancelled) if turn.is_over.load(Ordering::SeqCst) => {
            let percent = percent(turn.done.load(Ordering::SeqCst), &root);
            Ok(Resealed::UpTo { percent })
        }
        Err(error) => Err(of_snapshot(error)),
    }
}

/// 100 is said by who writes the end.
fn percent(done: u64, root: &SnapshotRoot) -> u8 {
    let percent = done.saturating_mul(100).checked_div(root.full_blocks()).unwrap_or(99);
    u8::try_from(percent.min(99)).expect("at most 99")
}

/// Stops the work when its time is over.
struct Turn<'a> {
    watched: &'a Watched<'a>,
    begun: Instant,
    is_over: AtomicBool,
    /// Blocks in the last checkpoint.
    done: AtomicU64,
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
        let is_over = self.begun.elapsed() >= TURN;
        self.is_over.fetch_or(is_over, Ordering::SeqCst);
        is_over
    }

    /// A rate counts whole blocks, as it does where a volume is filled.
    fn admit(&self, bytes: u64) {
        self.watched.admit(bytes.max(BLOCK_BYTES as u64));
    }
}

/// A row says that the base of a volume is to be sealed anew, and the volume has none.
#[derive(Debug, thiserror::Error)]
#[error("the volume has no base")]
struct NoBase;
