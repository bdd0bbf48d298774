//! Archives: a snapshot that shares nothing, proven before anything else is given up.
//!
//! An archived snapshot lies whole in a store of its own, every block it holds repacked. Restoring
//! is the same in the other direction, and gives a snapshot that is whole again and shares nothing
//! with its former neighbours (spec 07). Pages stay sealed as they are, so no data key is needed.
//!
//! Whoever moves a snapshot does so in two phases: [`repack`], which leaves the source as it is and
//! returns only a copy that was read back and proven; then, in one transaction, the new root in the
//! place of the old. Until then the old root is alive and complete, whatever happens; after that the
//! new one is. Half-made copies are named by checkpoints alone, and a collection removes them.
//!
//! A checkpoint of the proof is one of the whole copy, with a next block that counts on from
//! [`BLOCKS_MAX`]: no block has such a number.

use super::Error;
use super::copy::{CopyJob, CopyKeys, copy};
use super::node::{BLOCKS_MAX, Pointer};
use super::observer::{Observer, Pace};
use super::root::{Checkpoint, SnapshotRoot};
use super::store::{SnapshotStore, corrupt};
use super::walk::differences;
use std::ops::ControlFlow;

/// A snapshot to be moved between the standard tier and the archive.
pub struct RepackJob<'a> {
    /// The snapshot, as it is in the store it comes from.
    pub source: &'a SnapshotRoot,
    /// The last checkpoint of an earlier attempt.
    pub resume: Option<&'a Checkpoint>,
    /// Blocks between two checkpoints; [`CHECKPOINT_BLOCKS`](super::CHECKPOINT_BLOCKS) is sensible.
    pub checkpoint_blocks: u64,
    /// Blocks checked and packed at a time.
    pub threads: usize,
}

/// Writes every block of a snapshot into another store, and reads all of it back. Each block counts
/// twice in the progress.
///
/// # Errors
/// What copying and reading give; [`Error::Corrupt`] when what was written is not what was read;
/// [`Error::Cancelled`] or [`Error::TurnOver`]. The source is untouched in every case, and
/// repeating with the last checkpoint goes on from there.
pub fn repack(
    from: &SnapshotStore,
    to: &SnapshotStore,
    job: &RepackJob<'_>,
    observer: &dyn Observer,
) -> Result<SnapshotRoot, Error> {
    let proof = match job.resume.filter(|checkpoint| checkpoint.next_block >= BLOCKS_MAX) {
        Some(checkpoint) => *checkpoint,
        None => {
            let root = copy_whole(from, to, job, observer)?;
            let blocks_done = job.source.full_blocks();
            let proof = Checkpoint { root, next_block: BLOCKS_MAX, blocks_done, added_to: None };
            observer.checkpoint(&proof).map_err(|source| Error::Checkpoint { source })?;
            proof
        }
    };
    prove(to, job, &proof, observer)?;
    Ok(proof.root)
}

fn copy_whole(
    from: &SnapshotStore,
    to: &SnapshotStore,
    job: &RepackJob<'_>,
    observer: &dyn Observer,
) -> Result<SnapshotRoot, Error> {
    let RepackJob { source, resume, checkpoint_blocks, threads } = *job;
    let keys = CopyKeys::Same;
    let whole = CopyJob { source, keys, earlier: None, resume, checkpoint_blocks, threads };
    copy(from, to, &whole, &FirstHalf(observer))
}

/// Reads what the proof has not reached. What the store remembers of the copy counts for nothing.
fn prove(
    store: &SnapshotStore,
    job: &RepackJob<'_>,
    proof: &Checkpoint,
    observer: &dyn Observer,
) -> Result<(), Error> {
    let store = store.unremembered();
    let root = proof.root;
    let record = store.record(&root)?;
    let blocks = job.source.full_blocks();
    let next = proof.next_block - BLOCKS_MAX;
    let (mut proven, mut stopped) = (proof.blocks_done - blocks, None);
    let mut pace = Pace::new(observer, job.checkpoint_blocks, 2 * blocks, proof.blocks_done);
    let mut step = |block: u64, pointer: Pointer| -> Result<(), Error> {
        observer.admit(u64::from(pointer.frame.length));
        store.frame(block, &pointer.frame)?;
        proven += 1;
        let is_due = pace.advance(1)?;
        let is_over = observer.is_turn_over();
        if is_due || is_over {
            pace.checkpoint(root, BLOCKS_MAX + block + 1)?;
        }
        if is_over { Err(Error::TurnOver) } else { Ok(()) }
    };
    differences(&store, None, Some(&record), next..BLOCKS_MAX, &mut |block, _, pointer| {
        match pointer.map_or(Ok(()), |pointer| step(block, pointer)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                stopped = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    match stopped {
        Some(error) => Err(error),
        None if proven != blocks => Err(corrupt("block count of an archive", &root.record)),
        // Whoever is stopped between this and giving up the source need not read it all again.
        None => pace.checkpoint(root, BLOCKS_MAX + BLOCKS_MAX),
    }
}

/// The copying, as half of the work.
struct FirstHalf<'a>(&'a dyn Observer);

impl Observer for FirstHalf<'_> {
    fn progress(&self, done: u64, total: u64) {
        self.0.progress(done, 2 * total);
    }

    fn checkpoint(
        &self,
        checkpoint: &Checkpoint,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        self.0.checkpoint(checkpoint)
    }

    fn is_cancelled(&self) -> bool {
        self.0.is_cancelled()
    }

    fn is_turn_over(&self) -> bool {
        self.0.is_turn_over()
    }

    fn admit(&self, bytes: u64) {
        self.0.admit(bytes);
    }
}
