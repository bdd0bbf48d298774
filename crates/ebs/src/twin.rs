//! Twins: the whole of a snapshot once more, beside the live volumes, and the volumes that read them.
//!
//! A snapshot has one twin however many accounts and zones want it. A volume that was created with a
//! credit reads the twin for as long as it reads a base at all: the twin's blocks stay until the last of
//! them is gone, also when nobody wants the twin for new volumes any more.

use crate::among;
use crate::column::Columns;
use crate::error::Result;
use crate::garbage;
use crate::roots::StoreKind;
use crate::volume::Volume;
use base::{AccountId, Region, SnapshotId, VolumeId};
use meta::{Row, Tx, params};
use std::collections::{BTreeMap, BTreeSet};

const TABLE: &str = "ebs_twins";
const COLUMNS: &str = "account_id, region, snapshot_id, run, progress, source_root, root";

/// A twin that is there or being made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Twin {
    /// Whose snapshot.
    pub account: AccountId,
    /// Where.
    pub region: Region,
    /// Which snapshot.
    pub snapshot: SnapshotId,
    /// The work that makes it; no two share a name.
    pub run: String,
    /// Percent done.
    pub progress: u32,
    /// What names the snapshot's blocks.
    pub source_root: Vec<u8>,
    /// What names the twin's, once it is whole.
    pub root: Option<Vec<u8>>,
}

impl Twin {
    fn from_row(row: &Row) -> Result<Self> {
        let mut columns = Columns::new(TABLE, row);
        Ok(Self {
            account: columns.take()?,
            region: columns.take()?,
            snapshot: columns.take()?,
            run: columns.take()?,
            progress: columns.take()?,
            source_root: columns.take()?,
            root: columns.take()?,
        })
    }
}

/// The twin of a snapshot.
///
/// # Errors
/// When the database fails.
pub fn get(tx: &mut Tx<'_>, region: &Region, snapshot: &SnapshotId) -> Result<Option<Twin>> {
    let sql = format!("SELECT {COLUMNS} FROM {TABLE} WHERE region = $1 AND snapshot_id = $2");
    let row = tx.query_opt(&sql, params![region, snapshot])?;
    row.as_ref().map(Twin::from_row).transpose()
}

/// Every twin of a region, by snapshot.
///
/// # Errors
/// When the database fails.
pub fn list_all(tx: &mut Tx<'_>, region: &Region) -> Result<Vec<Twin>> {
    let sql = format!("SELECT {COLUMNS} FROM {TABLE} WHERE region = $1 ORDER BY snapshot_id");
    tx.query(&sql, params![region])?.iter().map(Twin::from_row).collect()
}

/// Begins a twin. The snapshot has none.
///
/// # Errors
/// When the database fails.
pub fn insert(tx: &mut Tx<'_>, twin: &Twin) -> Result<()> {
    tx.execute(
        &format!("INSERT INTO {TABLE} ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7)"),
        params![
            &twin.account,
            &twin.region,
            &twin.snapshot,
            twin.run.as_str(),
            twin.progress,
            twin.source_root.clone(),
            twin.root.clone(),
        ],
    )?;
    Ok(())
}

/// Raises the progress of a twin that is being made; it never falls.
///
/// # Errors
/// When the database fails.
pub fn set_progress(tx: &mut Tx<'_>, twin: &Twin, percent: u8) -> Result<()> {
    tx.execute(
        "UPDATE ebs_twins SET progress = $4 WHERE region = $1 AND snapshot_id = $2 \
         AND run = $3 AND root IS NULL AND progress < $4",
        params![&twin.region, &twin.snapshot, twin.run.as_str(), u32::from(percent.min(99))],
    )?;
    Ok(())
}

/// Keeps how far a twin has come, and the part of it that is stored. False when it is not wanted any
/// more.
///
/// # Errors
/// When the database fails.
pub fn set_checkpoint(tx: &mut Tx<'_>, twin: &Twin, state: &[u8], root: &[u8]) -> Result<bool> {
    let changed = tx.execute(
        "UPDATE ebs_twins SET checkpoint = $4, checkpoint_root = $5 WHERE region = $1 \
         AND snapshot_id = $2 AND run = $3 AND root IS NULL",
        params![&twin.region, &twin.snapshot, twin.run.as_str(), state, root],
    )?;
    Ok(changed == 1)
}

/// The last checkpoint of a twin that is being made.
///
/// # Errors
/// When the database fails.
pub fn checkpoint(tx: &mut Tx<'_>, twin: &Twin) -> Result<Option<Vec<u8>>> {
    let row = tx.query_opt(
        "SELECT checkpoint FROM ebs_twins WHERE region = $1 AND snapshot_id = $2 AND run = $3",
        params![&twin.region, &twin.snapshot, twin.run.as_str()],
    )?;
    Ok(row.map(|row| row.get(0)).transpose()?.flatten())
}

/// A twin is whole. False when it is not wanted any more; what was made for it is then noted.
///
/// # Errors
/// When the database fails.
pub fn set_made(tx: &mut Tx<'_>, twin: &Twin, root: &[u8]) -> Result<bool> {
    let (region, snapshot, run) = (&twin.region, &twin.snapshot, twin.run.as_str());
    note_checkpoint(tx, region, snapshot)?;
    let changed = tx.execute(
        "UPDATE ebs_twins SET root = $4, progress = 100, checkpoint = NULL, \
         checkpoint_root = NULL WHERE region = $1 AND snapshot_id = $2 AND run = $3 \
         AND root IS NULL",
        params![region, snapshot, run, root],
    )?;
    if changed == 0 {
        garbage::note_root(tx, region, StoreKind::Twins, root)?;
    }
    Ok(changed == 1)
}

/// Gives up a snapshot's twin, whole or half made. Volumes that read it keep its blocks alive.
///
/// # Errors
/// When the database fails.
pub fn remove(tx: &mut Tx<'_>, region: &Region, snapshot: &SnapshotId) -> Result<()> {
    let twin = get(tx, region, snapshot)?;
    if let Some(root) = twin.and_then(|twin| twin.root) {
        garbage::note_root(tx, region, StoreKind::Twins, &root)?;
    }
    note_checkpoint(tx, region, snapshot)?;
    tx.execute(
        "DELETE FROM ebs_twins WHERE region = $1 AND snapshot_id = $2",
        params![region, snapshot],
    )?;
    Ok(())
}

fn note_checkpoint(tx: &mut Tx<'_>, region: &Region, snapshot: &SnapshotId) -> Result<()> {
    let row = tx.query_opt(
        "SELECT checkpoint_root FROM ebs_twins WHERE region = $1 AND snapshot_id = $2",
        params![region, snapshot],
    )?;
    match row.map(|row| row.get(0)).transpose()?.flatten() {
        Some(root) => {
            let root: Vec<u8> = root;
            garbage::note_root(tx, region, StoreKind::Twins, &root)
        }
        None => Ok(()),
    }
}

/// Writes down that a new volume was created with a credit, and what it reads.
///
/// # Errors
/// When the database fails.
pub fn note_volume(tx: &mut Tx<'_>, volume: &Volume, root: &[u8]) -> Result<()> {
    tx.execute(
        "INSERT INTO ebs_fast_volumes (account_id, region, volume_id, twin_root) \
         VALUES ($1, $2, $3, $4)",
        params![&volume.account, &volume.region, &volume.id, root],
    )?;
    Ok(())
}

/// The volumes of an account in a region that were created with a credit.
///
/// # Errors
/// When the database fails.
pub fn fast_volumes(
    tx: &mut Tx<'_>,
    account: &AccountId,
    region: &Region,
) -> Result<BTreeSet<VolumeId>> {
    let rows = tx.query(
        "SELECT volume_id FROM ebs_fast_volumes WHERE account_id = $1 AND region = $2",
        params![account, region],
    )?;
    Ok(rows.iter().map(|row| row.get(0)).collect::<meta::Result<_>>()?)
}

/// Those of some volumes that were created with a credit.
///
/// # Errors
/// When the database fails.
pub fn fast_among(
    tx: &mut Tx<'_>,
    region: &Region,
    volumes: &[VolumeId],
) -> Result<BTreeSet<VolumeId>> {
    let sql = "SELECT volume_id FROM ebs_fast_volumes WHERE region = $1 AND volume_id IN ({ids})";
    let rows = among::query(tx, sql, params![region], volumes)?;
    Ok(rows.iter().map(|row| row.get(0)).collect::<meta::Result<_>>()?)
}

/// The twin that a volume reads.
///
/// # Errors
/// When the database fails.
pub fn read_by(tx: &mut Tx<'_>, region: &Region, volume: &VolumeId) -> Result<Option<Vec<u8>>> {
    let row = tx.query_opt(
        "SELECT twin_root FROM ebs_fast_volumes WHERE region = $1 AND volume_id = $2",
        params![region, volume],
    )?;
    Ok(row.map(|row| row.get(0)).transpose()?.flatten())
}

/// The twins that volumes of a region read.
///
/// # Errors
/// When the database fails.
pub fn read_by_volume(tx: &mut Tx<'_>, region: &Region) -> Result<BTreeMap<VolumeId, Vec<u8>>> {
    let rows = tx.query(
        "SELECT volume_id, twin_root FROM ebs_fast_volumes WHERE region = $1 \
         AND twin_root IS NOT NULL",
        params![region],
    )?;
    Ok(rows.iter().map(|row| Ok((row.get(0)?, row.get(1)?))).collect::<meta::Result<_>>()?)
}

/// A volume reads its twin no more: its base was sealed anew, or it is gone.
pub(crate) fn let_go(tx: &mut Tx<'_>, region: &Region, volume: &VolumeId) -> Result<()> {
    let Some(root) = read_by(tx, region, volume)? else { return Ok(()) };
    garbage::note_root(tx, region, StoreKind::Twins, &root)?;
    tx.execute(
        "UPDATE ebs_fast_volumes SET twin_root = NULL WHERE region = $1 AND volume_id = $2",
        params![region, volume],
    )?;
    Ok(())
}

/// Forgets a volume that is gone.
pub(crate) fn remove_volume(tx: &mut Tx<'_>, region: &Region, volume: &VolumeId) -> Result<()> {
    let_go(tx, region, volume)?;
    tx.execute(
        "DELETE FROM ebs_fast_volumes WHERE region = $1 AND volume_id = $2",
        params![region, volume],
    )?;
    Ok(())
}

/// Every root of a region's twins that something still reads or makes.
pub(crate) fn roots(tx: &mut Tx<'_>, region: &Region) -> Result<Vec<Vec<u8>>> {
    let made = tx.query(
        "SELECT root, checkpoint_root FROM ebs_twins WHERE region = $1 ORDER BY snapshot_id",
        params![region],
    )?;
    let mut roots = Vec::new();
    for row in &made {
        let (whole, half_made): (Option<Vec<u8>>, Option<Vec<u8>>) = (row.get(0)?, row.get(1)?);
        roots.extend(whole.into_iter().chain(half_made));
    }
    roots.extend(read_by_volume(tx, region)?.into_values());
    Ok(roots)
}
