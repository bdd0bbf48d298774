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

use super::Error;
use super::copy::{CopyJob, CopyKeys, copy};
use super::observer::Observer;
use super::root::{Checkpoint, SnapshotRoot};
use super::store::{SnapshotStore, corrupt};
use super::verify::verify;

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

/// Writes every block of a snapshot into another store, and reads all of it back.
///
/// # Errors
/// What copying and reading give; [`Error::Corrupt`] when what was written is not what was read. The
/// source is untouched in every case, and repeating with the last checkpoint goes on from there.
pub fn repack(
    from: &SnapshotStore,
    to: &SnapshotStore,
    job: &RepackJob<'_>,
    observer: &dyn Observer,
) -> Result<SnapshotRoot, Error> {
    let RepackJob { source, resume, checkpoint_blocks, threads } = *job;
    let keys = CopyKeys::Same;
    let whole = CopyJob { source, keys, earlier: None, resume, checkpoint_blocks, threads };
    let root = copy(from, to, &whole, observer)?;
    let report = verify(to, &root, None)?;
    if report.blocks != source.full_blocks() {
        return Err(corrupt("block count of an archive", &root.record));
    }
    Ok(root)
}
