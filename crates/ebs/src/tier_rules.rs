//! What may be archived and restored, and when (spec 07, guards).
//!
//! Codes and sentences of these refusals are not published; they follow those of other operations.

use crate::error::Result;
use crate::snapshot::Snapshot;
use crate::tiering::{
    self, ARCHIVALS_MAX, ARCHIVED_OF_VOLUME_MAX, RESTORES_MAX, StorageTier, Tiering,
};
use base::{AccountId, SnapshotId};
use meta::Tx;

/// Why a snapshot may not change its tier.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TieringRefused {
    /// It is another account's. Code `UnauthorizedOperation`.
    #[error("You are not authorized to perform this operation.")]
    NotOwner,
    /// It is pending or has failed. Code `IncorrectState`.
    #[error("Snapshot is in invalid state - {state}")]
    NotCompleted {
        /// The state.
        state: &'static str,
    },
    /// It is archived already, or restored for some days only. Code `IncorrectState`.
    #[error("The snapshot '{snapshot}' is already archived.")]
    Archived {
        /// The snapshot.
        snapshot: SnapshotId,
    },
    /// It is not in the archive. Code `IncorrectState`.
    #[error("The snapshot '{snapshot}' is not in the archive storage tier.")]
    NotArchived {
        /// The snapshot.
        snapshot: SnapshotId,
    },
    /// A move is under way. Code `IncorrectState`.
    #[error("The snapshot '{snapshot}' is in the tiering state '{state}'.")]
    UnderWay {
        /// The snapshot.
        snapshot: SnapshotId,
        /// `LastTieringOperationStatus`.
        state: String,
    },
    /// Code `ResourceLimitExceeded`.
    #[error("The limit of {ARCHIVED_OF_VOLUME_MAX} archived snapshots per volume is reached.")]
    TooManyOfVolume,
    /// Code `ResourceLimitExceeded`.
    #[error("The limit of {ARCHIVALS_MAX} snapshot archives in progress is reached.")]
    TooManyArchivals,
    /// Code `ResourceLimitExceeded`.
    #[error("The limit of {RESTORES_MAX} snapshot restores in progress is reached.")]
    TooManyRestores,
}

/// Whether a snapshot may be archived now.
///
/// # Errors
/// When the database fails. The inner error is the first rule that forbids it.
pub fn may_archive(
    tx: &mut Tx<'_>,
    snapshot: &Snapshot,
    account: &AccountId,
) -> Result<Result<(), TieringRefused>> {
    let known = tiering::get(tx, &snapshot.region, &snapshot.id)?;
    if let Err(refused) = may_move(snapshot, known.as_ref(), account) {
        return Ok(Err(refused));
    }
    if known.is_some_and(|known| known.archive_root.is_some()) {
        return Ok(Err(TieringRefused::Archived { snapshot: snapshot.id.clone() }));
    }
    let region = &snapshot.region;
    if tiering::count_archived_of_volume(tx, snapshot)? >= ARCHIVED_OF_VOLUME_MAX {
        return Ok(Err(TieringRefused::TooManyOfVolume));
    }
    let begun = tiering::count_in_progress(tx, account, region, StorageTier::Archive)?;
    Ok(if begun < ARCHIVALS_MAX { Ok(()) } else { Err(TieringRefused::TooManyArchivals) })
}

/// What a restore has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restore {
    /// The blocks are to be moved.
    Moves,
    /// They are here, for some days: only the time changes.
    IsHere,
}

/// Whether a snapshot may be restored now, and what that takes.
///
/// # Errors
/// As for [`may_archive`].
pub fn may_restore(
    tx: &mut Tx<'_>,
    snapshot: &Snapshot,
    account: &AccountId,
) -> Result<Result<Restore, TieringRefused>> {
    let known = tiering::get(tx, &snapshot.region, &snapshot.id)?;
    if let Err(refused) = may_move(snapshot, known.as_ref(), account) {
        return Ok(Err(refused));
    }
    if known.is_none_or(|known| known.archive_root.is_none()) {
        return Ok(Err(TieringRefused::NotArchived { snapshot: snapshot.id.clone() }));
    }
    if !snapshot.is_archived() {
        return Ok(Ok(Restore::IsHere));
    }
    let begun = tiering::count_in_progress(tx, account, &snapshot.region, StorageTier::Standard)?;
    let is_free = begun < RESTORES_MAX;
    Ok(if is_free { Ok(Restore::Moves) } else { Err(TieringRefused::TooManyRestores) })
}

fn may_move(
    snapshot: &Snapshot,
    known: Option<&Tiering>,
    account: &AccountId,
) -> Result<(), TieringRefused> {
    if snapshot.account != *account {
        return Err(TieringRefused::NotOwner);
    }
    if !snapshot.is_completed() {
        return Err(TieringRefused::NotCompleted { state: snapshot.state.as_str() });
    }
    match known.filter(|known| known.is_under_way()) {
        Some(known) => {
            let (snapshot, state) = (snapshot.id.clone(), known.state());
            Err(TieringRefused::UnderWay { snapshot, state })
        }
        None => Ok(()),
    }
}
