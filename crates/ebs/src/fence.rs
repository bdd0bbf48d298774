//! Fencing epochs: which attachment of a volume is the newest.
//!
//! An epoch is raised in the transaction that gives the volume to a host, and never falls. Whoever
//! holds an older one may not write: the channel refuses it, and the volume's superblock does.

use crate::error::{Error, Result};
use base::{Region, VolumeId};
use meta::{Tx, params};

/// The epoch of the newest attachment; 0 before the first.
///
/// # Errors
/// When the database fails.
pub fn current(tx: &mut Tx<'_>, region: &Region, volume: &VolumeId) -> Result<u64> {
    let row = tx.query_opt(
        "SELECT epoch FROM ebs_fences WHERE region = $1 AND volume_id = $2",
        params![region, volume],
    )?;
    let epoch: i64 = row.map_or(Ok(0), |row| row.get(0))?;
    Ok(epoch.unsigned_abs())
}

/// The longest lease that may have been granted under the present epoch, in milliseconds; 0 when none
/// was. `None` when nobody noted it: earlier releases did not.
///
/// # Errors
/// When the database fails.
pub fn lease_ms(tx: &mut Tx<'_>, region: &Region, volume: &VolumeId) -> Result<Option<u32>> {
    let row = tx.query_opt(
        "SELECT lease_ms FROM ebs_fences WHERE region = $1 AND volume_id = $2",
        params![region, volume],
    )?;
    let noted: Option<i64> = row.map_or(Ok(Some(0)), |row| row.get(0))?;
    let damaged = |_| Error::Corrupt { table: "ebs_fences", column: "lease_ms" };
    noted.map(|noted| u32::try_from(noted).map_err(damaged)).transpose()
}

/// Notes how long a lease may be granted under the present epoch, before one is.
///
/// # Errors
/// When the database fails.
pub fn note_lease(
    tx: &mut Tx<'_>,
    region: &Region,
    volume: &VolumeId,
    lease_ms: u32,
) -> Result<()> {
    tx.execute(
        "UPDATE ebs_fences SET lease_ms = $3 WHERE region = $1 AND volume_id = $2",
        params![region, volume, i64::from(lease_ms)],
    )?;
    Ok(())
}

/// Begins a new epoch and returns it. Every holder of an earlier one is out with this transaction.
///
/// # Errors
/// When the database fails.
pub fn raise(tx: &mut Tx<'_>, region: &Region, volume: &VolumeId) -> Result<u64> {
    tx.execute(
        "INSERT INTO ebs_fences (region, volume_id, epoch) VALUES ($1, $2, 0) \
         ON CONFLICT DO NOTHING",
        params![region, volume],
    )?;
    tx.execute(
        "UPDATE ebs_fences SET epoch = epoch + 1, lease_ms = 0 \
         WHERE region = $1 AND volume_id = $2",
        params![region, volume],
    )?;
    current(tx, region, volume)
}

/// Forgets a volume that is gone; its id never returns.
pub(crate) fn remove(tx: &mut Tx<'_>, region: &Region, volume: &VolumeId) -> Result<()> {
    tx.execute(
        "DELETE FROM ebs_fences WHERE region = $1 AND volume_id = $2",
        params![region, volume],
    )?;
    Ok(())
}
