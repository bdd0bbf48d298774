//! What is charged for that no resource shows any more (spec 07): the rest of the least time in the
//! archive, when a snapshot leaves it before. It is a line for whoever makes the bill, never a refusal.

use crate::column::Columns;
use crate::error::Result;
use crate::snapshot::Snapshot;
use crate::tiering;
use base::{AccountId, Region, SnapshotId, Timestamp};
use meta::{Row, Tx, params};

const TABLE: &str = "ebs_early_deletions";
const COLUMNS: &str = "account_id, region, snapshot_id, archived_ms, ended_ms, hours_left, bytes";

/// Hours in the archive that are charged for at least: 90 days.
pub const ARCHIVE_HOURS_MIN: i64 = 90 * 24;
/// Milliseconds in an hour.
const HOUR_MS: i64 = 3_600_000;
/// Lines of one answer.
const LINES_MAX: u32 = 10_000;

/// A snapshot left the archive early: it was deleted, or restored for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EarlyDeletion {
    /// Whose snapshot.
    pub account: AccountId,
    /// Where it was.
    pub region: Region,
    /// Which.
    pub snapshot: SnapshotId,
    /// When it had been archived.
    pub archived: Timestamp,
    /// When it left.
    pub ended: Timestamp,
    /// Hours of the least time that were left, a begun one counted as whole.
    pub hours_left: u32,
    /// Bytes it had in the archive.
    pub bytes: u64,
}

impl EarlyDeletion {
    fn from_row(row: &Row) -> Result<Self> {
        let mut columns = Columns::new(TABLE, row);
        Ok(Self {
            account: columns.take()?,
            region: columns.take()?,
            snapshot: columns.take()?,
            archived: columns.take()?,
            ended: columns.take()?,
            hours_left: columns.take()?,
            bytes: columns.take()?,
        })
    }
}

/// Writes the line of a snapshot that is about to leave the archive at `now`, if it is early.
///
/// # Errors
/// When the database fails.
pub fn note_end_of_archive(tx: &mut Tx<'_>, snapshot: &Snapshot, now: Timestamp) -> Result<()> {
    let (region, id) = (&snapshot.region, &snapshot.id);
    let Some(tiering) = tiering::get(tx, region, id)? else { return Ok(()) };
    let Some(archived) = tiering.archived else { return Ok(()) };
    let hours_left = ARCHIVE_HOURS_MIN - (now.0 - archived.0).div_euclid(HOUR_MS);
    if hours_left <= 0 {
        return Ok(());
    }
    let bytes = i64::try_from(snapshot.full_bytes).expect("no snapshot holds 8 EiB");
    tx.execute(
        &format!(
            "INSERT INTO {TABLE} ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7) \
             ON CONFLICT DO NOTHING"
        ),
        params![&snapshot.account, region, id, archived, now, hours_left, bytes],
    )?;
    Ok(())
}

/// The lines of a region, oldest first.
///
/// # Errors
/// When the database fails.
pub fn early_deletions(tx: &mut Tx<'_>, region: &Region) -> Result<Vec<EarlyDeletion>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM {TABLE} WHERE region = $1 ORDER BY ended_ms, snapshot_id \
         LIMIT {LINES_MAX}"
    );
    tx.query(&sql, params![region])?.iter().map(EarlyDeletion::from_row).collect()
}
