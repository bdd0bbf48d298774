//! Moving a snapshot between the standard tier and the archive, a turn at a time.

use crate::cells::{Cell, RESEAL_THREADS, Watched, checkpoint_of, of_snapshot, root_of, stored};
use crate::port::blocks::{BlockError, Repack, Repacked};
use crate::turn::{CHECKPOINT_BLOCKS, Turn};
use blockstore::snapshot::{self, RepackJob};
use ebs::StorageTier;

/// Goes on with a snapshot from its last checkpoint.
pub(crate) fn repack_for_a_turn(
    cell: &Cell,
    repack: &Repack,
    watched: &Watched<'_>,
) -> Result<Repacked, BlockError> {
    let root = root_of(&repack.root)?;
    let resume = repack.resume.as_deref().map(checkpoint_of).transpose()?;
    let (from, to) = match repack.to {
        StorageTier::Archive => (&cell.snapshots, &cell.archive),
        StorageTier::Standard => (&cell.archive, &cell.snapshots),
    };
    let job = RepackJob {
        source: &root,
        resume: resume.as_ref(),
        checkpoint_blocks: CHECKPOINT_BLOCKS,
        threads: RESEAL_THREADS,
    };
    let turn = Turn::begin(watched);
    match snapshot::repack(from, to, &job, &turn) {
        Ok(repacked) => Ok(Repacked::Wholly(stored(&repacked))),
        Err(snapshot::Error::Cancelled) if turn.was_over() => Ok(Repacked::InPart),
        Err(error) => Err(of_snapshot(error)),
    }
}
