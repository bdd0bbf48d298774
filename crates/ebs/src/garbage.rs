//! Roots that lost a row: what a deletion leaves for a collection to look at.
//!
//! A root is noted in the transaction that takes it away, so that it is looked at after a crash too,
//! and forgotten when what it alone had was entered in the ledger of unused packs. Being noted says
//! nothing about whether others still need it.

use crate::error::Result;
use crate::roots::StoreKind;
use base::{Region, SnapshotId, VolumeId};
use meta::{Param, Tx, params};

/// What noting a root does that is noted already.
const ONCE_MORE: &str =
    "ON CONFLICT (region, root) DO UPDATE SET times = ebs_deleted_roots.times + 1";

/// A root that was noted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeletedRoot {
    /// The root.
    pub root: Vec<u8>,
    /// How often it was noted so far.
    times: i64,
}

/// Notes what a snapshot's row names, before it goes or stops naming it.
pub(crate) fn note_snapshot(tx: &mut Tx<'_>, region: &Region, id: &SnapshotId) -> Result<()> {
    note(tx, "ebs_snapshots", "snapshot_id", "root", params![region, id])?;
    note(tx, "ebs_snapshots", "snapshot_id", "checkpoint_root", params![region, id])?;
    // What the work on it read may have been deleted meanwhile.
    tx.execute(
        &format!(
            "INSERT INTO ebs_deleted_roots (region, root) \
             SELECT COALESCE(source_region, region), pinned_root FROM ebs_snapshots AS ended \
             WHERE region = $1 AND snapshot_id = $2 AND pinned_root IS NOT NULL \
             AND NOT EXISTS (SELECT 1 FROM ebs_snapshots AS owner \
             WHERE owner.region = COALESCE(ended.source_region, ended.region) \
             AND owner.root = ended.pinned_root) {ONCE_MORE}"
        ),
        params![region, id],
    )?;
    Ok(())
}

/// Notes what a volume's row names, before it goes or stops naming it.
pub(crate) fn note_volume(tx: &mut Tx<'_>, region: &Region, id: &VolumeId) -> Result<()> {
    note(tx, "ebs_volumes", "volume_id", "base_root", params![region, id])?;
    note_checkpoint(tx, region, id)
}

/// Notes how far work on a volume's base has come, before the row stops naming it.
pub(crate) fn note_checkpoint(tx: &mut Tx<'_>, region: &Region, id: &VolumeId) -> Result<()> {
    note(tx, "ebs_volumes", "volume_id", "checkpoint_root", params![region, id])
}

/// Notes what a volume's base was, before the row that names it goes.
pub(crate) fn note_former(tx: &mut Tx<'_>, region: &Region, id: &VolumeId) -> Result<()> {
    note(tx, "ebs_foreign_bases", "volume_id", "former_root", params![region, id])
}

/// Notes a root that was made for a row that is gone.
pub(crate) fn note_root(
    tx: &mut Tx<'_>,
    region: &Region,
    store: StoreKind,
    root: &[u8],
) -> Result<()> {
    tx.execute(
        &format!(
            "INSERT INTO ebs_deleted_roots (region, root, tier) VALUES ($1, $2, $3) {ONCE_MORE}"
        ),
        params![region, root, store.as_str()],
    )?;
    Ok(())
}

/// Notes what a snapshot has in the archive, before it is given up.
pub(crate) fn note_archive(tx: &mut Tx<'_>, region: &Region, id: &SnapshotId) -> Result<()> {
    tx.execute(
        &format!(
            "INSERT INTO ebs_deleted_roots (region, root, tier) \
             SELECT region, archive_root, 'archive' FROM ebs_snapshot_tiers WHERE region = $1 \
             AND snapshot_id = $2 AND archive_root IS NOT NULL {ONCE_MORE}"
        ),
        params![region, id],
    )?;
    Ok(())
}

/// Notes how far a move of a snapshot has come in the tier it goes to, before its row stops naming it.
pub(crate) fn note_tiering_checkpoint(
    tx: &mut Tx<'_>,
    region: &Region,
    id: &SnapshotId,
) -> Result<()> {
    tx.execute(
        &format!(
            "INSERT INTO ebs_deleted_roots (region, root, tier) SELECT region, checkpoint_root, \
             CASE WHEN operation = 'archival' THEN 'archive' ELSE 'standard' END \
             FROM ebs_snapshot_tiers WHERE region = $1 AND snapshot_id = $2 \
             AND checkpoint_root IS NOT NULL {ONCE_MORE}"
        ),
        params![region, id],
    )?;
    Ok(())
}

/// Notes the root of the standard tier in one column of the row of a region and id.
fn note(tx: &mut Tx<'_>, table: &str, id_column: &str, column: &str, row: &[Param]) -> Result<()> {
    let sql = format!(
        "INSERT INTO ebs_deleted_roots (region, root) SELECT region, {column} FROM {table} \
         WHERE region = $1 AND {id_column} = $2 AND {column} IS NOT NULL {ONCE_MORE}"
    );
    tx.execute(&sql, row)?;
    Ok(())
}

/// The roots in a store of a region that were noted.
///
/// # Errors
/// When the database fails.
pub fn deleted_roots(
    tx: &mut Tx<'_>,
    region: &Region,
    store: impl Into<StoreKind>,
) -> Result<Vec<DeletedRoot>> {
    let rows = tx.query(
        "SELECT root, times FROM ebs_deleted_roots WHERE region = $1 AND tier = $2 ORDER BY root",
        params![region, store.into().as_str()],
    )?;
    rows.iter().map(|row| Ok(DeletedRoot { root: row.get(0)?, times: row.get(1)? })).collect()
}

/// Forgets a root that was looked at, unless it was noted again meanwhile.
///
/// # Errors
/// When the database fails.
pub fn forget_root(tx: &mut Tx<'_>, region: &Region, seen: &DeletedRoot) -> Result<()> {
    tx.execute(
        "DELETE FROM ebs_deleted_roots WHERE region = $1 AND root = $2 AND times = $3",
        params![region, seen.root.clone(), seen.times],
    )?;
    Ok(())
}
