//! What incremental copies add to: an earlier snapshot of the same volume, and its copy.
//!
//! Chosen once, before the first block is copied. A copy leaves out what did not change since the earlier
//! snapshot, so work that was interrupted may not go on with another choice: what changed between
//! the two would be missing. Both roots stay alive until the copy ends, whatever is deleted meanwhile.

use crate::error::Result;
use crate::garbage;
use crate::roots::StoreKind;
use base::{Region, SnapshotId};
use meta::{Tx, params};

const TABLE: &str = "ebs_copy_bases";

/// What a pending copy adds to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyBase {
    /// Where the source is, and what `source_root` is in.
    pub source_region: Region,
    /// The root of the earlier snapshot.
    pub source_root: Vec<u8>,
    /// The root of its copy, in the region of the pending copy.
    pub copy_root: Vec<u8>,
}

/// Writes down what a pending copy adds to.
///
/// # Errors
/// When it was written down before, or the database fails.
pub fn insert(tx: &mut Tx<'_>, region: &Region, id: &SnapshotId, base: &CopyBase) -> Result<()> {
    let CopyBase { source_region, source_root, copy_root } = base;
    tx.execute(
        &format!(
            "INSERT INTO {TABLE} (region, snapshot_id, source_region, source_root, copy_root) \
             VALUES ($1, $2, $3, $4, $5)"
        ),
        params![region, id, source_region, source_root.clone(), copy_root.clone()],
    )?;
    Ok(())
}

/// What a pending copy adds to; `None` when it copies everything.
///
/// # Errors
/// When the database fails.
pub fn get(tx: &mut Tx<'_>, region: &Region, id: &SnapshotId) -> Result<Option<CopyBase>> {
    let row = tx.query_opt(
        &format!(
            "SELECT source_region, source_root, copy_root FROM {TABLE} \
             WHERE region = $1 AND snapshot_id = $2"
        ),
        params![region, id],
    )?;
    let read = |row: &meta::Row| {
        let (source_region, source_root, copy_root) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(CopyBase { source_region, source_root, copy_root })
    };
    row.as_ref().map(read).transpose()
}

/// A copy has ended: both roots are looked at, since the snapshots may have gone meanwhile.
pub(crate) fn remove(tx: &mut Tx<'_>, region: &Region, id: &SnapshotId) -> Result<()> {
    let Some(base) = get(tx, region, id)? else { return Ok(()) };
    garbage::note_root(tx, &base.source_region, StoreKind::Standard, &base.source_root)?;
    garbage::note_root(tx, region, StoreKind::Standard, &base.copy_root)?;
    tx.execute(
        &format!("DELETE FROM {TABLE} WHERE region = $1 AND snapshot_id = $2"),
        params![region, id],
    )?;
    Ok(())
}

/// The roots in a region that pending copies add to, or compare with.
pub(crate) fn roots(tx: &mut Tx<'_>, region: &Region) -> Result<Vec<Vec<u8>>> {
    let sources = tx.query(
        &format!("SELECT source_root FROM {TABLE} WHERE source_region = $1 ORDER BY snapshot_id"),
        params![region],
    )?;
    let copies = tx.query(
        &format!("SELECT copy_root FROM {TABLE} WHERE region = $1 ORDER BY snapshot_id"),
        params![region],
    )?;
    Ok(sources.iter().chain(&copies).map(|row| row.get(0)).collect::<meta::Result<_>>()?)
}
