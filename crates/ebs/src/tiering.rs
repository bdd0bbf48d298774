//! The storage tiers of snapshots: which one a snapshot is in, and moves between them (spec 07).
//!
//! A snapshot in the standard tier has its root in its own row. Archiving writes it whole into the
//! archive; then, in one transaction, the archive's root comes into the row of this table and the
//! snapshot's own goes: a completed snapshot without a root is archived. A temporary restore gives it a
//! root again and keeps the archive's, so its end moves no byte. A permanent restore gives up the
//! archive's.
//!
//! The row exists from the first archival on. Checkpoints of a move name what it has made so far in the
//! tier it goes to, and are given up when it ends.

use crate::among;
use crate::column::Columns;
use crate::error::Result;
use crate::roots::StoreKind;
use crate::snapshot::{self, NO_VOLUME, Snapshot};
use crate::{garbage, usage};
use base::{AccountId, Region, SnapshotId, Timestamp};
use meta::{Param, Row, Tx, params};
use std::ops::RangeInclusive;

const TABLE: &str = "ebs_snapshot_tiers";
const COLUMNS: &str = "account_id, region, snapshot_id, number, operation, status, progress, \
    detail, started_ms, restore_days, archived_ms, archive_root, expires_ms";

/// Archived snapshots of one volume (spec 07, guards).
pub const ARCHIVED_OF_VOLUME_MAX: u64 = 25;
/// Archivals of an account in a region that may be in progress.
pub const ARCHIVALS_MAX: u64 = 25;
/// Restores of an account in a region that may be in progress.
pub const RESTORES_MAX: u64 = 5;
/// Days that a temporary restore may last.
pub const RESTORE_DAYS: RangeInclusive<u32> = 1..=180;
/// What a temporary restore lasts that is not told how long.
pub const RESTORE_DAYS_DEFAULT: u32 = 1;
/// Restores that end in one sweep of a region.
const EXPIRED_AT_ONCE_MAX: u32 = 100;

/// Where a snapshot's blocks are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StorageTier {
    /// Usable at once, sharing blocks with its neighbours.
    Standard,
    /// Whole and by itself, to be restored before it can be used.
    Archive,
}

impl StorageTier {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Standard, Self::Archive];

    /// The tier's name on the wire and in rows.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Archive => "archive",
        }
    }

    /// The tier of a snapshot.
    pub fn of(snapshot: &Snapshot) -> Self {
        if snapshot.is_archived() { Self::Archive } else { Self::Standard }
    }
}

/// A move between tiers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TieringOperation {
    /// Into the archive.
    Archival,
    /// Back for some days.
    TemporaryRestore,
    /// Back for good.
    PermanentRestore,
}

impl TieringOperation {
    const ALL: [Self; 3] = [Self::Archival, Self::TemporaryRestore, Self::PermanentRestore];

    /// What its states begin with on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Archival => "archival",
            Self::TemporaryRestore => "temporary-restore",
            Self::PermanentRestore => "permanent-restore",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|operation| operation.as_str() == text)
    }

    /// The tier it brings a snapshot to.
    pub fn target(self) -> StorageTier {
        match self {
            Self::Archival => StorageTier::Archive,
            Self::TemporaryRestore | Self::PermanentRestore => StorageTier::Standard,
        }
    }
}

/// How a move stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TieringStatus {
    /// Under way.
    InProgress,
    /// Done.
    Completed,
    /// Given up; the snapshot is where it was.
    Failed {
        /// Why.
        detail: String,
    },
}

impl TieringStatus {
    /// What the wire's states end with.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::InProgress => "in-progress",
            Self::Completed => "completed",
            Self::Failed { .. } => "failed",
        }
    }
}

/// The last move of one snapshot, and what is in the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tiering {
    /// Whose snapshot.
    pub account: AccountId,
    /// Where it is.
    pub region: Region,
    /// Which.
    pub snapshot: SnapshotId,
    /// Counts the snapshot's moves from 1.
    pub number: u32,
    /// The last move.
    pub operation: TieringOperation,
    /// How it stands.
    pub status: TieringStatus,
    /// Percent of it done.
    pub progress: u32,
    /// When it was asked for.
    pub started: Timestamp,
    /// Days asked for, of a temporary restore.
    pub restore_days: Option<u32>,
    /// When the snapshot was last archived; absent once it is restored for good.
    pub archived: Option<Timestamp>,
    /// What names its blocks in the archive.
    pub archive_root: Option<Vec<u8>>,
    /// When it goes back to the archive, while it is restored for some days.
    pub expires: Option<Timestamp>,
}

impl Tiering {
    fn from_row(row: &Row) -> Result<Self> {
        let mut columns = Columns::new(TABLE, row);
        let (account, region, snapshot) = (columns.take()?, columns.take()?, columns.take()?);
        let number = columns.take()?;
        let operation = columns.read("operation", TieringOperation::parse)?;
        let status: String = columns.take()?;
        let progress = columns.take()?;
        let status = match (status.as_str(), columns.take()?) {
            ("in-progress", None) => TieringStatus::InProgress,
            ("completed", None) => TieringStatus::Completed,
            ("failed", Some(detail)) => TieringStatus::Failed { detail },
            _ => return Err(columns.corrupt("status")),
        };
        Ok(Self {
            account,
            region,
            snapshot,
            number,
            operation,
            status,
            progress,
            started: columns.take()?,
            restore_days: columns.take()?,
            archived: columns.take()?,
            archive_root: columns.take()?,
            expires: columns.take()?,
        })
    }

    /// `LastTieringOperationStatus`.
    pub fn state(&self) -> String {
        format!("{}-{}", self.operation.as_str(), self.status.as_str())
    }

    /// Whether the last move is under way.
    pub fn is_under_way(&self) -> bool {
        self.status == TieringStatus::InProgress
    }
}

/// The moves of one snapshot; `None` when it never moved.
///
/// # Errors
/// When the database fails.
pub fn get(tx: &mut Tx<'_>, region: &Region, snapshot: &SnapshotId) -> Result<Option<Tiering>> {
    let sql = format!("SELECT {COLUMNS} FROM {TABLE} WHERE region = $1 AND snapshot_id = $2");
    let row = tx.query_opt(&sql, params![region, snapshot])?;
    row.as_ref().map(Tiering::from_row).transpose()
}

/// The moves of some snapshots, of those that ever moved.
///
/// # Errors
/// When the database fails.
pub fn among(tx: &mut Tx<'_>, region: &Region, snapshots: &[SnapshotId]) -> Result<Vec<Tiering>> {
    let sql =
        format!("SELECT {COLUMNS} FROM {TABLE} WHERE region = $1 AND snapshot_id IN ({{ids}})");
    among::query(tx, &sql, params![region], snapshots)?.iter().map(Tiering::from_row).collect()
}

fn query(tx: &mut Tx<'_>, rest: &str, params: &[Param]) -> Result<Vec<Tiering>> {
    let rows = tx.query(&format!("SELECT {COLUMNS} FROM {TABLE} {rest}"), params)?;
    rows.iter().map(Tiering::from_row).collect()
}

/// The moves of an account's snapshots in a region, by snapshot.
///
/// # Errors
/// When the database fails.
pub fn list_owned(tx: &mut Tx<'_>, account: &AccountId, region: &Region) -> Result<Vec<Tiering>> {
    let rest = "WHERE account_id = $1 AND region = $2 ORDER BY snapshot_id";
    query(tx, rest, params![account, region])
}

/// The moves of every snapshot of a region that lies in the archive, by snapshot.
///
/// # Errors
/// When the database fails.
pub fn list_archived(tx: &mut Tx<'_>, region: &Region) -> Result<Vec<Tiering>> {
    let rest = "WHERE region = $1 AND archive_root IS NOT NULL ORDER BY snapshot_id";
    query(tx, rest, params![region])
}

/// How many other snapshots of a snapshot's volume are archived or being archived; none for one that
/// was not taken of a volume.
///
/// # Errors
/// When the database fails.
pub fn count_archived_of_volume(tx: &mut Tx<'_>, snapshot: &Snapshot) -> Result<u64> {
    if snapshot.volume_id.as_str() == NO_VOLUME {
        return Ok(0);
    }
    count(
        tx,
        "SELECT COUNT(*) FROM ebs_snapshot_tiers t WHERE t.account_id = $1 AND t.region = $2 \
         AND (t.archive_root IS NOT NULL \
              OR (t.operation = 'archival' AND t.status = 'in-progress')) \
         AND EXISTS (SELECT 1 FROM ebs_snapshots s WHERE s.account_id = $1 AND s.region = $2 \
              AND s.snapshot_id = t.snapshot_id AND s.volume_id = $3 AND s.snapshot_id <> $4)",
        params![&snapshot.account, &snapshot.region, &snapshot.volume_id, &snapshot.id],
    )
}

/// How many moves of an account's snapshots to a tier are in progress in a region.
///
/// # Errors
/// When the database fails.
pub fn count_in_progress(
    tx: &mut Tx<'_>,
    account: &AccountId,
    region: &Region,
    target: StorageTier,
) -> Result<u64> {
    let operation = match target {
        StorageTier::Archive => "operation = 'archival'",
        StorageTier::Standard => "operation <> 'archival'",
    };
    let sql = format!(
        "SELECT COUNT(*) FROM {TABLE} WHERE account_id = $1 AND region = $2 \
         AND status = 'in-progress' AND {operation}"
    );
    count(tx, &sql, params![account, region])
}

fn count(tx: &mut Tx<'_>, sql: &str, params: &[Param]) -> Result<u64> {
    let row = tx.query_opt(sql, params)?;
    Ok(row.map(|row| row.get(0)).transpose()?.unwrap_or(0))
}

/// Begins a move; returns its row. The caller has made sure that none is under way.
///
/// # Errors
/// When the database fails.
pub fn begin(
    tx: &mut Tx<'_>,
    snapshot: &Snapshot,
    operation: TieringOperation,
    restore_days: Option<u32>,
    now: Timestamp,
) -> Result<Tiering> {
    let (account, region, id) = (&snapshot.account, &snapshot.region, &snapshot.id);
    let before = get(tx, region, id)?;
    let tiering = Tiering {
        account: account.clone(),
        region: region.clone(),
        snapshot: id.clone(),
        number: before.as_ref().map_or(1, |before| before.number + 1),
        operation,
        status: TieringStatus::InProgress,
        progress: 0,
        started: now,
        restore_days,
        archived: before.as_ref().and_then(|before| before.archived),
        expires: before.as_ref().and_then(|before| before.expires),
        archive_root: before.and_then(|before| before.archive_root),
    };
    tx.execute(
        &format!(
            "INSERT INTO {TABLE} ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, 0, NULL, $7, $8, \
             NULL, NULL, NULL) ON CONFLICT (region, snapshot_id) DO UPDATE SET number = $4, \
             operation = $5, status = $6, progress = 0, detail = NULL, started_ms = $7, \
             restore_days = $8"
        ),
        params![
            account,
            region,
            id,
            tiering.number,
            operation.as_str(),
            tiering.status.as_str(),
            now,
            restore_days,
        ],
    )?;
    Ok(tiering)
}

/// Raises the progress of a move that is under way; it never falls.
///
/// # Errors
/// When the database fails.
pub fn set_progress(tx: &mut Tx<'_>, tiering: &Tiering, percent: u8) -> Result<()> {
    tx.execute(
        "UPDATE ebs_snapshot_tiers SET progress = $4 WHERE region = $1 AND snapshot_id = $2 \
         AND number = $3 AND status = 'in-progress' AND progress < $4",
        params![&tiering.region, &tiering.snapshot, tiering.number, u32::from(percent.min(99))],
    )?;
    Ok(())
}

/// Keeps how far a move has come. `root` stays alive in the tier it goes to until the move ends.
///
/// # Errors
/// When the database fails.
pub fn set_checkpoint(
    tx: &mut Tx<'_>,
    tiering: &Tiering,
    state: &[u8],
    root: &[u8],
) -> Result<bool> {
    let changed = tx.execute(
        "UPDATE ebs_snapshot_tiers SET checkpoint = $4, checkpoint_root = $5 \
         WHERE region = $1 AND snapshot_id = $2 AND number = $3 AND status = 'in-progress'",
        params![&tiering.region, &tiering.snapshot, tiering.number, state, root],
    )?;
    Ok(changed == 1)
}

/// How far a move had come.
///
/// # Errors
/// When the database fails.
pub fn checkpoint(tx: &mut Tx<'_>, tiering: &Tiering) -> Result<Option<Vec<u8>>> {
    let row = tx.query_opt(
        "SELECT checkpoint FROM ebs_snapshot_tiers WHERE region = $1 AND snapshot_id = $2 \
         AND number = $3",
        params![&tiering.region, &tiering.snapshot, tiering.number],
    )?;
    Ok(row.map(|row| row.get(0)).transpose()?.flatten())
}

/// Ends a move into the archive: `root` is the snapshot there, and what it had in the standard tier is
/// given up. False when the move is not under way any more; then nothing changes but that `root` is
/// noted as deleted.
///
/// # Errors
/// When the database fails.
pub fn set_archived(
    tx: &mut Tx<'_>,
    tiering: &Tiering,
    root: &[u8],
    at: Timestamp,
) -> Result<bool> {
    let (region, id) = (&tiering.region, &tiering.snapshot);
    if !end(tx, tiering, &TieringStatus::Completed)? {
        garbage::note_root(tx, region, StoreKind::Archive, root)?;
        return Ok(false);
    }
    tx.execute(
        "UPDATE ebs_snapshot_tiers SET archive_root = $3, archived_ms = $4, expires_ms = NULL \
         WHERE region = $1 AND snapshot_id = $2",
        params![region, id, root, at],
    )?;
    give_up_standard(tx, region, id)?;
    Ok(true)
}

/// Ends a move out of the archive `at` a moment: `root` is the snapshot in the standard tier, until
/// `expires` if that is given; otherwise the archive's is given up. False as for [`set_archived`].
///
/// # Errors
/// When the database fails.
pub fn set_restored(
    tx: &mut Tx<'_>,
    tiering: &Tiering,
    root: &[u8],
    expires: Option<Timestamp>,
    at: Timestamp,
) -> Result<bool> {
    let (region, id) = (&tiering.region, &tiering.snapshot);
    if !end(tx, tiering, &TieringStatus::Completed)? {
        garbage::note_root(tx, region, StoreKind::Standard, root)?;
        return Ok(false);
    }
    tx.execute(
        "UPDATE ebs_snapshots SET root = $3 WHERE region = $1 AND snapshot_id = $2 \
         AND state = 'completed' AND root IS NULL",
        params![region, id, root],
    )?;
    match expires {
        Some(expires) => set_expiry(tx, region, id, Some(expires))?,
        None => give_up_archive(tx, region, id, at)?,
    }
    Ok(true)
}

/// Ends a move that cannot be made. The snapshot stays where it is.
///
/// # Errors
/// When the database fails.
pub fn set_failed(tx: &mut Tx<'_>, tiering: &Tiering, detail: &str) -> Result<bool> {
    end(tx, tiering, &TieringStatus::Failed { detail: detail.to_owned() })
}

fn end(tx: &mut Tx<'_>, tiering: &Tiering, status: &TieringStatus) -> Result<bool> {
    let (region, id) = (&tiering.region, &tiering.snapshot);
    garbage::note_tiering_checkpoint(tx, region, id)?;
    let detail = match status {
        TieringStatus::Failed { detail } => Some(detail.as_str()),
        TieringStatus::InProgress | TieringStatus::Completed => None,
    };
    let changed = tx.execute(
        "UPDATE ebs_snapshot_tiers SET status = $4, detail = $5, checkpoint = NULL, \
         checkpoint_root = NULL, \
         progress = CASE WHEN $4 = 'completed' THEN 100 ELSE progress END \
         WHERE region = $1 AND snapshot_id = $2 AND number = $3 AND status = 'in-progress'",
        params![region, id, tiering.number, status.as_str(), detail],
    )?;
    Ok(changed == 1)
}

/// Records a restore of a snapshot that is restored already: nothing has to be moved for it. With a
/// moment it goes back to the archive then, without one never.
///
/// # Errors
/// When the database fails.
pub fn restore_again(
    tx: &mut Tx<'_>,
    snapshot: &Snapshot,
    restore_days: Option<u32>,
    expires: Option<Timestamp>,
    now: Timestamp,
) -> Result<Tiering> {
    let operation = match expires {
        Some(_) => TieringOperation::TemporaryRestore,
        None => TieringOperation::PermanentRestore,
    };
    let begun = begin(tx, snapshot, operation, restore_days, now)?;
    end(tx, &begun, &TieringStatus::Completed)?;
    let (region, id) = (&snapshot.region, &snapshot.id);
    match expires {
        Some(expires) => set_expiry(tx, region, id, Some(expires))?,
        None => give_up_archive(tx, region, id, now)?,
    }
    Ok(begun)
}

/// Snapshots of a region whose temporary restore has ended by `now`, the longest ended first.
///
/// # Errors
/// When the database fails.
pub fn expired(tx: &mut Tx<'_>, region: &Region, now: Timestamp) -> Result<Vec<Tiering>> {
    let rest = format!(
        "WHERE region = $1 AND expires_ms <= $2 ORDER BY expires_ms LIMIT {EXPIRED_AT_ONCE_MAX}"
    );
    query(tx, &rest, params![region, now])
}

/// Ends a temporary restore: the snapshot is in the archive alone again. False when it is not due at
/// `now` any more.
///
/// # Errors
/// When the database fails.
pub fn expire(tx: &mut Tx<'_>, tiering: &Tiering, now: Timestamp) -> Result<bool> {
    let (region, id) = (&tiering.region, &tiering.snapshot);
    let changed = tx.execute(
        "UPDATE ebs_snapshot_tiers SET expires_ms = NULL WHERE region = $1 AND snapshot_id = $2 \
         AND expires_ms <= $3 AND archive_root IS NOT NULL",
        params![region, id, now],
    )?;
    if changed == 1 {
        give_up_standard(tx, region, id)?;
    }
    Ok(changed == 1)
}

fn set_expiry(
    tx: &mut Tx<'_>,
    region: &Region,
    id: &SnapshotId,
    expires: Option<Timestamp>,
) -> Result<()> {
    tx.execute(
        "UPDATE ebs_snapshot_tiers SET expires_ms = $3 WHERE region = $1 AND snapshot_id = $2",
        params![region, id, expires],
    )?;
    Ok(())
}

fn give_up_standard(tx: &mut Tx<'_>, region: &Region, id: &SnapshotId) -> Result<()> {
    garbage::note_snapshot(tx, region, id)?;
    tx.execute(
        "UPDATE ebs_snapshots SET root = NULL WHERE region = $1 AND snapshot_id = $2 \
         AND state = 'completed'",
        params![region, id],
    )?;
    Ok(())
}

fn give_up_archive(
    tx: &mut Tx<'_>,
    region: &Region,
    id: &SnapshotId,
    now: Timestamp,
) -> Result<()> {
    if let Some(snapshot) = snapshot::get(tx, region, id)? {
        usage::note_end_of_archive(tx, &snapshot, now)?;
    }
    garbage::note_archive(tx, region, id)?;
    tx.execute(
        "UPDATE ebs_snapshot_tiers SET archive_root = NULL, archived_ms = NULL, \
         expires_ms = NULL WHERE region = $1 AND snapshot_id = $2",
        params![region, id],
    )?;
    Ok(())
}

/// Removes what is known of a snapshot that is gone; what it had in the archive is given up.
pub(crate) fn remove(tx: &mut Tx<'_>, region: &Region, id: &SnapshotId) -> Result<()> {
    garbage::note_archive(tx, region, id)?;
    garbage::note_tiering_checkpoint(tx, region, id)?;
    tx.execute(
        "DELETE FROM ebs_snapshot_tiers WHERE region = $1 AND snapshot_id = $2",
        params![region, id],
    )?;
    Ok(())
}

/// Roots in a tier that only this table names.
pub(crate) fn roots(tx: &mut Tx<'_>, region: &Region, tier: StorageTier) -> Result<Vec<Vec<u8>>> {
    let (moves_here, archived) = match tier {
        StorageTier::Standard => ("operation <> 'archival'", ""),
        StorageTier::Archive => ("operation = 'archival'", "archive_root IS NOT NULL"),
    };
    let mut roots = tx.query(
        &format!(
            "SELECT checkpoint_root FROM {TABLE} WHERE region = $1 \
             AND checkpoint_root IS NOT NULL AND {moves_here} ORDER BY snapshot_id"
        ),
        params![region],
    )?;
    if !archived.is_empty() {
        let sql = format!(
            "SELECT archive_root FROM {TABLE} WHERE region = $1 AND {archived} \
             ORDER BY snapshot_id"
        );
        roots.extend(tx.query(&sql, params![region])?);
    }
    Ok(roots.iter().map(|row| row.get(0)).collect::<meta::Result<_>>()?)
}
