//! Snapshots that a client writes block by block (EBS direct APIs): how long each may be idle.
//!
//! The row exists as long as blocks may be put. What was put is known to the block store alone.

use crate::among;
use crate::column::Columns;
use crate::error::Result;
use base::{AccountId, Region, SnapshotId, Timestamp};
use meta::{Row, Tx, params};

const TABLE: &str = "ebs_uploads";
const COLUMNS: &str = "account_id, region, snapshot_id, timeout_minutes, active_ms";

/// Pending uploads of an account in a region (spec 03, "StartSnapshot").
pub const UPLOADS_MAX: u64 = 100;
/// How often the time of the last write is recorded at most; timeouts are precise to this.
const TOUCH_SECONDS: i64 = 15;

/// A snapshot being written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    /// Whose.
    pub account: AccountId,
    /// Where.
    pub region: Region,
    /// The pending snapshot.
    pub snapshot: SnapshotId,
    /// Minutes without a write after which it fails.
    pub timeout_minutes: u32,
    /// When it was started or last written to.
    pub active: Timestamp,
}

impl Upload {
    fn from_row(row: &Row) -> Result<Self> {
        let mut columns = Columns::new(TABLE, row);
        Ok(Self {
            account: columns.take()?,
            region: columns.take()?,
            snapshot: columns.take()?,
            timeout_minutes: columns.take()?,
            active: columns.take()?,
        })
    }

    /// When it will have been idle for too long.
    pub fn expires(&self) -> Timestamp {
        self.active.plus_seconds(i64::from(self.timeout_minutes) * 60)
    }

    /// Whether it has been idle for too long.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        now >= self.expires()
    }
}

/// Begins an upload.
///
/// # Errors
/// When there is one for the snapshot, or the database fails.
pub fn insert(tx: &mut Tx<'_>, upload: &Upload) -> Result<()> {
    tx.execute(
        &format!("INSERT INTO {TABLE} ({COLUMNS}) VALUES ($1, $2, $3, $4, $5)"),
        params![
            &upload.account,
            &upload.region,
            &upload.snapshot,
            upload.timeout_minutes,
            upload.active
        ],
    )?;
    Ok(())
}

/// The upload of a snapshot, if blocks may still be put.
///
/// # Errors
/// When the database fails.
pub fn get(
    tx: &mut Tx<'_>,
    account: &AccountId,
    region: &Region,
    snapshot: &SnapshotId,
) -> Result<Option<Upload>> {
    let row = tx.query_opt(
        &format!(
            "SELECT {COLUMNS} FROM {TABLE} WHERE account_id = $1 AND region = $2 \
             AND snapshot_id = $3"
        ),
        params![account, region, snapshot],
    )?;
    row.as_ref().map(Upload::from_row).transpose()
}

/// How many uploads of the account in the region are pending.
///
/// # Errors
/// When the database fails.
pub fn count(tx: &mut Tx<'_>, account: &AccountId, region: &Region) -> Result<u64> {
    let row = tx.query_opt(
        "SELECT COUNT(*) FROM ebs_uploads WHERE account_id = $1 AND region = $2",
        params![account, region],
    )?;
    Ok(row.map(|row| row.get(0)).transpose()?.unwrap_or(0))
}

/// Those among snapshots of a region that are being uploaded.
///
/// # Errors
/// When the database fails.
pub fn among(
    tx: &mut Tx<'_>,
    region: &Region,
    snapshots: &[SnapshotId],
) -> Result<Vec<SnapshotId>> {
    let sql =
        format!("SELECT snapshot_id FROM {TABLE} WHERE region = $1 AND snapshot_id IN ({{ids}})");
    let rows = among::query(tx, &sql, params![region], snapshots)?;
    rows.iter().map(|row| Ok(row.get(0)?)).collect()
}

/// Whether a write at `now` is worth recording.
pub fn is_touch_due(upload: &Upload, now: Timestamp) -> bool {
    now >= upload.active.plus_seconds(TOUCH_SECONDS)
}

/// Records that the upload was written to. False when it has ended meanwhile.
///
/// # Errors
/// When the database fails.
pub fn touch(tx: &mut Tx<'_>, upload: &Upload, now: Timestamp) -> Result<bool> {
    let changed = tx.execute(
        "UPDATE ebs_uploads SET active_ms = $4 WHERE account_id = $1 AND region = $2 \
         AND snapshot_id = $3",
        params![&upload.account, &upload.region, &upload.snapshot, now],
    )?;
    Ok(changed == 1)
}

/// Ends an upload; nothing more can be put. False when it had ended.
///
/// # Errors
/// When the database fails.
pub fn remove(tx: &mut Tx<'_>, upload: &Upload) -> Result<bool> {
    let changed = tx.execute(
        "DELETE FROM ebs_uploads WHERE account_id = $1 AND region = $2 AND snapshot_id = $3",
        params![&upload.account, &upload.region, &upload.snapshot],
    )?;
    Ok(changed == 1)
}
