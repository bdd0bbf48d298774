//! How far volumes from snapshots have been filled with what they came from (spec 01, "Lazy load").
//!
//! The row exists from the request that accepts such a volume until the volume is removed. A volume
//! without one came from nothing.

use crate::among;
use crate::column::Columns;
use crate::error::Result;
use base::{AccountId, Region, Timestamp, VolumeId};
use meta::{Row, Tx, params};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

const TABLE: &str = "ebs_volume_initializations";
const COLUMNS: &str = "account_id, region, volume_id, rate_mib, progress, checkpoint, started_ms, \
    completed_ms, waits_for, given_up";

/// The rates that may be asked for, in MiB/s (CreateVolume, `VolumeInitializationRate`).
pub const RATE_MIB: RangeInclusive<u32> = 100..=300;

/// The filling of one volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Initialization {
    /// Whose volume.
    pub account: AccountId,
    /// Where it is.
    pub region: Region,
    /// Which.
    pub volume: VolumeId,
    /// The rate that was asked for, in MiB of snapshot data per second.
    pub rate_mib: Option<u32>,
    /// Percent done.
    pub progress: u32,
    /// Where the work goes on, in the words of who does it.
    pub checkpoint: Option<Vec<u8>>,
    /// When the volume was asked for.
    pub started: Timestamp,
    /// When it was done.
    pub completed: Option<Timestamp>,
    /// Why it stands still: what the volume came from is damaged. It is tried again.
    pub waits_for: Option<String>,
    /// Why it will never be: it was tried too often. The volume goes on reading what it came from.
    pub given_up: Option<String>,
}

impl Initialization {
    fn from_row(row: &Row) -> Result<Self> {
        let mut columns = Columns::new(TABLE, row);
        Ok(Self {
            account: columns.take()?,
            region: columns.take()?,
            volume: columns.take()?,
            rate_mib: columns.take()?,
            progress: columns.take()?,
            checkpoint: columns.take()?,
            started: columns.take()?,
            completed: columns.take()?,
            waits_for: columns.take()?,
            given_up: columns.take()?,
        })
    }
}

/// Begins the initialization of a volume.
///
/// # Errors
/// When the volume has one or the database fails.
pub fn insert(tx: &mut Tx<'_>, row: &Initialization) -> Result<()> {
    tx.execute(
        &format!(
            "INSERT INTO {TABLE} ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"
        ),
        params![
            &row.account,
            &row.region,
            &row.volume,
            row.rate_mib,
            row.progress,
            row.checkpoint.clone(),
            row.started,
            row.completed,
            row.waits_for.clone(),
            row.given_up.clone(),
        ],
    )?;
    Ok(())
}

/// The initialization of a volume, if it came from a snapshot.
///
/// # Errors
/// When the database fails.
pub fn get(tx: &mut Tx<'_>, region: &Region, volume: &VolumeId) -> Result<Option<Initialization>> {
    let sql = format!("SELECT {COLUMNS} FROM {TABLE} WHERE region = $1 AND volume_id = $2");
    let row = tx.query_opt(&sql, params![region, volume])?;
    row.as_ref().map(Initialization::from_row).transpose()
}

/// The initializations of some volumes.
///
/// # Errors
/// When the database fails.
pub fn among(
    tx: &mut Tx<'_>,
    region: &Region,
    volumes: &[VolumeId],
) -> Result<BTreeMap<VolumeId, Initialization>> {
    let sql = format!("SELECT {COLUMNS} FROM {TABLE} WHERE region = $1 AND volume_id IN ({{ids}})");
    by_id(&among::query(tx, &sql, params![region], volumes)?)
}

fn by_id(rows: &[Row]) -> Result<BTreeMap<VolumeId, Initialization>> {
    let found = rows.iter().map(|row| {
        Initialization::from_row(row)
            .map(|initialization| (initialization.volume.clone(), initialization))
    });
    found.collect()
}

/// The initializations of an account's volumes in a region.
///
/// # Errors
/// When the database fails.
pub fn by_volume(
    tx: &mut Tx<'_>,
    account: &AccountId,
    region: &Region,
) -> Result<BTreeMap<VolumeId, Initialization>> {
    let sql = format!("SELECT {COLUMNS} FROM {TABLE} WHERE account_id = $1 AND region = $2");
    by_id(&tx.query(&sql, params![account, region])?)
}

/// The initializations of a region that have not ended, the oldest first: also of volumes that are whole, while
/// they have a base under another key.
///
/// # Errors
/// When the database fails.
pub fn under_way(tx: &mut Tx<'_>, region: &Region) -> Result<Vec<Initialization>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM {TABLE} WHERE region = $1 AND (completed_ms IS NULL \
         OR volume_id IN (SELECT volume_id FROM ebs_foreign_bases WHERE region = $1)) \
         ORDER BY started_ms, volume_id"
    );
    tx.query(&sql, params![region])?.iter().map(Initialization::from_row).collect()
}

/// Keeps how far an initialization has come. Returns whether it is still wanted.
///
/// # Errors
/// When the database fails.
pub fn advance(
    tx: &mut Tx<'_>,
    region: &Region,
    volume: &VolumeId,
    progress: u32,
    checkpoint: &[u8],
) -> Result<bool> {
    let changed = tx.execute(
        "UPDATE ebs_volume_initializations SET progress = $3, checkpoint = $4, waits_for = NULL \
         WHERE region = $1 AND volume_id = $2 AND completed_ms IS NULL",
        params![region, volume, progress, checkpoint],
    )?;
    Ok(changed == 1)
}

/// Ends an initialization. Returns whether it had not ended before.
///
/// # Errors
/// When the database fails.
pub fn complete(
    tx: &mut Tx<'_>,
    region: &Region,
    volume: &VolumeId,
    now: Timestamp,
) -> Result<bool> {
    let changed = tx.execute(
        "UPDATE ebs_volume_initializations SET progress = 100, checkpoint = NULL, \
         waits_for = NULL, completed_ms = $3 WHERE region = $1 AND volume_id = $2 AND completed_ms IS NULL",
        params![region, volume, now],
    )?;
    Ok(changed == 1)
}

/// Says why an initialization stands still at present.
///
/// # Errors
/// When the database fails.
pub fn set_waits_for(
    tx: &mut Tx<'_>,
    region: &Region,
    volume: &VolumeId,
    cause: &str,
) -> Result<()> {
    tx.execute(
        "UPDATE ebs_volume_initializations SET waits_for = $3 \
         WHERE region = $1 AND volume_id = $2 AND completed_ms IS NULL",
        params![region, volume, cause],
    )?;
    Ok(())
}

/// Says that an initialization will never end, and why.
///
/// # Errors
/// When the database fails.
pub fn give_up(tx: &mut Tx<'_>, region: &Region, volume: &VolumeId, cause: &str) -> Result<()> {
    tx.execute(
        "UPDATE ebs_volume_initializations SET given_up = $3 \
         WHERE region = $1 AND volume_id = $2 AND completed_ms IS NULL",
        params![region, volume, cause],
    )?;
    Ok(())
}

/// Forgets a volume that is gone.
pub(crate) fn remove(tx: &mut Tx<'_>, region: &Region, volume: &VolumeId) -> Result<()> {
    tx.execute(
        "DELETE FROM ebs_volume_initializations WHERE region = $1 AND volume_id = $2",
        params![region, volume],
    )?;
    Ok(())
}
