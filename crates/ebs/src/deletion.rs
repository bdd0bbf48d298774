//! The one gate every deletion of a snapshot passes, whoever asks (spec 00, "Deletion pipeline").
//!
//! The order of the checks is part of the interface. Authorization and `DryRun` come between
//! [`find`] and [`guard`] and are the pipeline's. Images, locks and the Recycle Bin add their checks
//! to [`guard`] when they exist.

use crate::error::Result;
use crate::permission::find_seen;
use crate::snapshot::Snapshot;
use base::{AccountId, Region, SnapshotId};
use meta::Tx;

/// Why a snapshot may not be deleted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeletionRefused {
    /// It does not exist for the caller. Code `InvalidSnapshot.NotFound`.
    #[error("The snapshot '{snapshot}' does not exist.")]
    NotFound {
        /// The id.
        snapshot: SnapshotId,
    },
    /// The caller sees it and does not own it. Code `UnauthorizedOperation`.
    #[error("You are not authorized to perform this operation.")]
    NotOwner,
}

/// Check 2: the snapshot, when it exists and the account sees it.
///
/// # Errors
/// When the database fails. The inner error is [`DeletionRefused::NotFound`].
pub fn find(
    tx: &mut Tx<'_>,
    region: &Region,
    id: &SnapshotId,
    account: &AccountId,
) -> Result<Result<Snapshot, DeletionRefused>> {
    let seen = find_seen(tx, region, id, account)?;
    let found = seen.map(|(snapshot, _)| snapshot);
    Ok(found.ok_or_else(|| DeletionRefused::NotFound { snapshot: id.clone() }))
}

/// Checks 5 and later.
///
/// # Errors
/// The first check that fails.
pub fn guard(snapshot: &Snapshot, account: &AccountId) -> Result<(), DeletionRefused> {
    if snapshot.account == *account { Ok(()) } else { Err(DeletionRefused::NotOwner) }
}
