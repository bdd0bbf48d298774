//! Writing a snapshot whole into another store of its region, a turn at a time.

use crate::cells::{Cell, RESEAL_THREADS, Watched, checkpoint_of, of_snapshot, root_of, stored};
use crate::port::blocks::{BlockError, PinTwin, Pinned, Repack, Repacked, Root};
use crate::turn::{CHECKPOINT_BLOCKS, Turn};
use blockstore::snapshot::{self, RepackJob, SnapshotReader, SnapshotRoot};
use ebs::{StorageTier, StoreKind};

/// What a twin leaves free: it is a convenience, and must not be what fills the disk. As much as volumes
/// leave by default.
const RESERVE_BYTES: u64 = 512 << 20;

/// Goes on with a move between tiers from its last checkpoint.
pub(crate) fn repack_for_a_turn(
    cell: &Cell,
    repack: &Repack,
    watched: &Watched<'_>,
) -> Result<Repacked, BlockError> {
    let (from, to) = match repack.to {
        StorageTier::Archive => (StoreKind::Standard, StoreKind::Archive),
        StorageTier::Standard => (StoreKind::Archive, StoreKind::Standard),
    };
    let between = Between { cell, from, to };
    between.write(&repack.root, repack.resume.as_deref(), watched)?.map_err(of_snapshot)
}

/// Goes on with a twin from its last checkpoint.
pub(crate) fn pin_for_a_turn(
    cell: &Cell,
    pin: &PinTwin,
    watched: &Watched<'_>,
) -> Result<Pinned, BlockError> {
    if !has_room(cell, pin)? {
        return Ok(Pinned::NoRoom);
    }
    let between = Between { cell, from: StoreKind::Standard, to: StoreKind::Twins };
    match between.write(&pin.root, pin.resume.as_deref(), watched)? {
        Ok(Repacked::Wholly(stored)) => Ok(Pinned::Wholly(stored)),
        Ok(Repacked::InPart) => Ok(Pinned::InPart),
        Err(error) if error.is_out_of_space() => Ok(Pinned::NoRoom),
        Err(error) => Err(of_snapshot(error)),
    }
}

/// Whether all of a twin has room, when it is begun; later, whether there is any.
fn has_room(cell: &Cell, pin: &PinTwin) -> Result<bool, BlockError> {
    let free = cell.of_store(StoreKind::Twins).free_bytes().map_err(of_snapshot)?;
    let Some(free) = free else { return Ok(true) };
    let wanted = match pin.resume {
        Some(_) => 0,
        None => {
            let reader = SnapshotReader::open(&cell.snapshots, &root_of(&pin.root)?);
            reader.and_then(|reader| reader.stored_bytes()).map_err(of_snapshot)?
        }
    };
    Ok(free >= wanted.saturating_add(RESERVE_BYTES))
}

/// Two stores of a region.
struct Between<'a> {
    cell: &'a Cell,
    from: StoreKind,
    to: StoreKind,
}

impl Between<'_> {
    fn write(
        &self,
        root: &Root,
        resume: Option<&[u8]>,
        watched: &Watched<'_>,
    ) -> Result<Result<Repacked, snapshot::Error>, BlockError> {
        let root: SnapshotRoot = root_of(root)?;
        let resume = resume.map(checkpoint_of).transpose()?;
        let (from, to) = (self.cell.of_store(self.from), self.cell.of_store(self.to));
        let job = RepackJob {
            source: &root,
            resume: resume.as_ref(),
            checkpoint_blocks: CHECKPOINT_BLOCKS,
            threads: RESEAL_THREADS,
        };
        let turn = Turn::begin(watched);
        Ok(match snapshot::repack(from, to, &job, &turn) {
            Ok(repacked) => Ok(Repacked::Wholly(stored(&repacked))),
            Err(snapshot::Error::TurnOver) => Ok(Repacked::InPart),
            Err(error) => Err(error),
        })
    }
}
