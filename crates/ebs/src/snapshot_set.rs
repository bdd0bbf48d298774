//! Snapshots that were taken together, at one moment over several volumes: they succeed together or
//! not at all (spec 02, "CreateSnapshots").

use crate::error::Result;
use crate::snapshot::{self, Snapshot, SnapshotState};
use base::{AccountId, Region, SnapshotId};
use meta::{Tx, params};

/// What became of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetOutcome {
    /// Members are on their way.
    Pending,
    /// Every member is complete.
    Completed(Vec<Snapshot>),
    /// A member failed, and with it the set. The others are to fail too.
    Failed(Vec<Snapshot>),
}

/// Notes that snapshots belong together, under the id of the first.
///
/// # Errors
/// When the database fails.
pub fn insert(
    tx: &mut Tx<'_>,
    account: &AccountId,
    region: &Region,
    members: &[SnapshotId],
) -> Result<()> {
    let Some(first) = members.first() else { return Ok(()) };
    for member in members {
        tx.execute(
            "INSERT INTO ebs_snapshot_sets (account_id, region, set_id, snapshot_id) \
             VALUES ($1, $2, $3, $4)",
            params![account, region, first, member],
        )?;
    }
    Ok(())
}

/// The set a snapshot belongs to.
///
/// # Errors
/// When the database fails.
pub fn of_snapshot(
    tx: &mut Tx<'_>,
    account: &AccountId,
    region: &Region,
    snapshot: &SnapshotId,
) -> Result<Option<SnapshotId>> {
    let row = tx.query_opt(
        "SELECT set_id FROM ebs_snapshot_sets WHERE account_id = $1 AND region = $2 \
         AND snapshot_id = $3",
        params![account, region, snapshot],
    )?;
    Ok(row.map(|row| row.get(0)).transpose()?)
}

/// The members of a set that still have rows, by id.
///
/// # Errors
/// When the database fails.
pub fn members(
    tx: &mut Tx<'_>,
    account: &AccountId,
    region: &Region,
    set: &SnapshotId,
) -> Result<Vec<Snapshot>> {
    let rows = tx.query(
        "SELECT snapshot_id FROM ebs_snapshot_sets WHERE account_id = $1 AND region = $2 \
         AND set_id = $3 ORDER BY snapshot_id",
        params![account, region, set],
    )?;
    let mut found = Vec::with_capacity(rows.len());
    for row in &rows {
        let id: SnapshotId = row.get(0)?;
        found.extend(snapshot::get(tx, region, &id)?);
    }
    Ok(found)
}

/// How a set stands.
///
/// # Errors
/// When the database fails.
pub fn outcome(
    tx: &mut Tx<'_>,
    account: &AccountId,
    region: &Region,
    set: &SnapshotId,
) -> Result<SetOutcome> {
    let members = members(tx, account, region, set)?;
    let failed = |row: &Snapshot| matches!(row.state, SnapshotState::Error { .. });
    if members.iter().any(failed) {
        Ok(SetOutcome::Failed(members))
    } else if members.iter().all(Snapshot::is_completed) {
        Ok(SetOutcome::Completed(members))
    } else {
        Ok(SetOutcome::Pending)
    }
}

/// Forgets a set: its outcome is known and told.
///
/// # Errors
/// When the database fails.
pub fn remove(
    tx: &mut Tx<'_>,
    account: &AccountId,
    region: &Region,
    set: &SnapshotId,
) -> Result<()> {
    tx.execute(
        "DELETE FROM ebs_snapshot_sets WHERE account_id = $1 AND region = $2 AND set_id = $3",
        params![account, region, set],
    )?;
    Ok(())
}
