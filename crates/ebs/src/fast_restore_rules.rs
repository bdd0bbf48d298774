//! When fast snapshot restore may be enabled (spec 07).

use crate::error::Result;
use crate::fast_restore::{self, FastRestore, FastRestoreState, SIZE_GIB_MAX, SNAPSHOTS_MAX};
use crate::snapshot::Snapshot;
use base::{AccountId, SnapshotId};
use meta::Tx;

/// Why it may not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnableRefused {
    /// The snapshot is pending or failed.
    #[error("Snapshot is in invalid state - {state}")]
    NotCompleted {
        /// Its state.
        state: &'static str,
    },
    /// The snapshot is in the archive.
    #[error(
        "The snapshot '{snapshot}' is in the archive storage tier. Restore it before using it."
    )]
    Archived {
        /// The snapshot.
        snapshot: SnapshotId,
    },
    /// The snapshot is too large.
    #[error("Fast snapshot restores cannot be enabled for snapshots larger than 16 TiB.")]
    TooLarge,
    /// The account has as many as it may have.
    #[error(
        "The limit of {SNAPSHOTS_MAX} snapshots enabled for fast snapshot restores is reached."
    )]
    TooMany,
    /// It is just being disabled.
    #[error("Fast snapshot restores are being disabled for '{snapshot}' in {zone}.")]
    Disabling {
        /// The snapshot.
        snapshot: SnapshotId,
        /// Where.
        zone: String,
    },
}

/// Whether an account that sees a snapshot may enable it in a zone: yes, or it has it already.
///
/// # Errors
/// When the database fails.
pub fn may_enable(
    tx: &mut Tx<'_>,
    snapshot: &Snapshot,
    account: &AccountId,
    zone: &str,
) -> Result<std::result::Result<Option<FastRestore>, EnableRefused>> {
    use EnableRefused as Refused;
    let (region, id) = (&snapshot.region, &snapshot.id);
    let present = fast_restore::get(tx, account, region, id, zone)?;
    if let Some(present) = present {
        if present.state.is_wanted() {
            return Ok(Ok(Some(present)));
        }
        if present.state == FastRestoreState::Disabling {
            return Ok(Err(Refused::Disabling { snapshot: id.clone(), zone: zone.to_owned() }));
        }
    }
    if !snapshot.is_completed() {
        return Ok(Err(Refused::NotCompleted { state: snapshot.state.as_str() }));
    }
    if snapshot.is_archived() {
        return Ok(Err(Refused::Archived { snapshot: id.clone() }));
    }
    if snapshot.size_gib > SIZE_GIB_MAX {
        return Ok(Err(Refused::TooLarge));
    }
    if fast_restore::count_others(tx, account, region, id)? >= SNAPSHOTS_MAX {
        return Ok(Err(Refused::TooMany));
    }
    Ok(Ok(None))
}
