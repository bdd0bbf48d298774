//! Roots that lost a row: what a deletion leaves for a collection to look at.
//!
//! A root is noted in the transaction that takes it away, so that it is looked at after a crash too,
//! and forgotten when what it alone had was entered in the ledger of unused packs. Being noted says
//! nothing about whether others still need it.

use crate::error::Result;
use base::{Region, SnapshotId, VolumeId};
use meta::{Tx, params};

/// The most roots of one look.
pub const ROOTS_AT_ONCE_MAX: u32 = 64;

/// Notes what a snapshot's row names, before it goes or stops naming it.
pub(crate) fn note_snapshot(tx: &mut Tx<'_>, region: &Region, id: &SnapshotId) -> Result<()> {
    for column in ["root", "checkpoint_root"] {
        tx.execute(
            &format!(
                "INSERT INTO ebs_deleted_roots (region, root) SELECT region, {column} \
                 FROM ebs_snapshots WHERE region = $1 AND snapshot_id = $2 \
                 AND {column} IS NOT NULL ON CONFLICT DO NOTHING"
            ),
            params![region, id],
        )?;
    }
    Ok(())
}

/// Notes what a volume's row names, before it goes or stops naming it.
pub(crate) fn note_volume(tx: &mut Tx<'_>, region: &Region, id: &VolumeId) -> Result<()> {
    for column in ["base_root", "checkpoint_root"] {
        tx.execute(
            &format!(
                "INSERT INTO ebs_deleted_roots (region, root) SELECT region, {column} \
                 FROM ebs_volumes WHERE region = $1 AND volume_id = $2 \
                 AND {column} IS NOT NULL ON CONFLICT DO NOTHING"
            ),
            params![region, id],
        )?;
    }
    Ok(())
}

/// Some of the roots of a region that were noted, at most [`ROOTS_AT_ONCE_MAX`].
///
/// # Errors
/// When the database fails.
pub fn deleted_roots(tx: &mut Tx<'_>, region: &Region) -> Result<Vec<Vec<u8>>> {
    let sql = format!(
        "SELECT root FROM ebs_deleted_roots WHERE region = $1 ORDER BY root \
         LIMIT {ROOTS_AT_ONCE_MAX}"
    );
    let rows = tx.query(&sql, params![region])?;
    Ok(rows.iter().map(|row| row.get(0)).collect::<meta::Result<_>>()?)
}

/// Forgets roots that were looked at.
///
/// # Errors
/// When the database fails.
pub fn forget_roots(tx: &mut Tx<'_>, region: &Region, roots: &[Vec<u8>]) -> Result<()> {
    for root in roots {
        tx.execute(
            "DELETE FROM ebs_deleted_roots WHERE region = $1 AND root = $2",
            params![region, root.clone()],
        )?;
    }
    Ok(())
}
