//! Sealing the base of a volume anew under the volume's key, a turn at a time.

use crate::cells::{RESEAL_THREADS, Watched, checkpoint_of, of_snapshot, root_of, stored};
use crate::port::blocks::{BlockError, ResealBase, Resealed};
use crate::turn::{CHECKPOINT_BLOCKS, Turn};
use blockstore::page::DataKey;
use blockstore::snapshot::{self, CopyJob, CopyKeys, SnapshotStore};

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
    let turn = Turn::begin(watched);
    match snapshot::copy(store, store, &job, &turn) {
        Ok(copy) => Ok(Resealed::Wholly(stored(&copy))),
        Err(snapshot::Error::TurnOver) => {
            Ok(Resealed::UpTo { percent: turn.percent_of(root.full_blocks()) })
        }
        Err(error) => Err(of_snapshot(error)),
    }
}

/// A row says that the base of a volume is to be sealed anew, and the volume has none.
#[derive(Debug, thiserror::Error)]
#[error("the volume has no base")]
struct NoBase;
