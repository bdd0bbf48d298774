//! Snapshots: rows, states and the only moves between states.
//!
//! Deleting a pending snapshot is accepted at once, hides it, and takes effect when its work ends
//! (spec 02, "CreateSnapshot"). A snapshot's blocks live as long as a root in this table names them.

use crate::among;
use crate::column::Columns;
use crate::error::Result;
use crate::key::WrappedKey;
use base::{AccountId, Region, SnapshotId, Timestamp, VolumeId};
use meta::{Param, Row, Tx, params};

const TABLE: &str = "ebs_snapshots";
const COLUMNS: &str = "account_id, region, snapshot_id, volume_id, size_gib, state, state_message, \
    progress, started_ms, completed_ms, description, kms_key_arn, wrapped_key, context_id, lineage, \
    root, pinned_root, full_bytes, parent_id, source_snapshot_id, source_region, \
    source_account_id, completion_minutes, delete_requested";

/// The volume id shown for snapshots that were not taken of a volume (spec 02, "CopySnapshot").
pub const NO_VOLUME: &str = "vol-ffffffff";

/// Where a snapshot is in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotState {
    /// Its blocks are on their way. Percent done.
    Pending(u8),
    /// Complete and immutable.
    Completed {
        /// When the last block was there.
        at: Timestamp,
    },
    /// It will never be complete.
    Error {
        /// `StateMessage`: why.
        message: String,
        /// Percent done when it failed.
        progress: u8,
    },
}

impl SnapshotState {
    /// The state's name on the wire.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Pending(_) => "pending",
            Self::Completed { .. } => "completed",
            Self::Error { .. } => "error",
        }
    }

    /// Percent done.
    pub fn progress(&self) -> u8 {
        match self {
            Self::Pending(progress) | Self::Error { progress, .. } => *progress,
            Self::Completed { .. } => 100,
        }
    }
}

/// What a copied snapshot was copied from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopySource {
    /// The source.
    pub snapshot: SnapshotId,
    /// Where it is.
    pub region: Region,
    /// Whose it is; unknown when the source could not be seen.
    pub account: Option<AccountId>,
}

/// A snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Its id.
    pub id: SnapshotId,
    /// Whose it is.
    pub account: AccountId,
    /// Where it is.
    pub region: Region,
    /// The volume it was taken of, or [`NO_VOLUME`].
    pub volume_id: VolumeId,
    /// Size of the volume.
    pub size_gib: u32,
    /// State.
    pub state: SnapshotState,
    /// The point in time it shows.
    pub started: Timestamp,
    /// Free text.
    pub description: String,
    /// The KMS key's ARN; absent for a plain snapshot.
    pub kms_key_arn: Option<String>,
    /// The wrapped data key; absent while a copy has none yet.
    pub data_key: Option<WrappedKey>,
    /// What names its blocks in the standard tier; absent until it is completed, and while it is
    /// archived.
    pub root: Option<Vec<u8>>,
    /// A root of another snapshot that the work on this one still reads.
    pub pinned_root: Option<Vec<u8>>,
    /// Bytes of all blocks reachable at this point (`FullSnapshotSizeInBytes`).
    pub full_bytes: u64,
    /// The snapshot it is incremental to.
    pub parent: Option<SnapshotId>,
    /// For copies.
    pub copied_from: Option<CopySource>,
    /// For time-based copies.
    pub completion_minutes: Option<u32>,
    /// Deleted while pending; hidden, and removed when the work ends.
    pub delete_requested: bool,
}

impl Snapshot {
    fn from_row(row: &Row) -> Result<Self> {
        let mut columns = Columns::new(TABLE, row);
        let (account, region, id) = (columns.take()?, columns.take()?, columns.take()?);
        let (volume_id, size_gib) = (columns.take()?, columns.take()?);
        let (state, message): (String, Option<String>) = (columns.take()?, columns.take()?);
        let progress: u32 = columns.take()?;
        let progress = u8::try_from(progress).map_err(|_| columns.corrupt("progress"))?;
        let started = columns.take()?;
        let completed: Option<Timestamp> = columns.take()?;
        let state = match (state.as_str(), message, completed) {
            ("pending", None, None) => SnapshotState::Pending(progress),
            ("completed", None, Some(at)) => SnapshotState::Completed { at },
            ("error", Some(message), None) => SnapshotState::Error { message, progress },
            _ => return Err(columns.corrupt("state")),
        };
        Ok(Self {
            id,
            account,
            region,
            volume_id,
            size_gib,
            state,
            started,
            description: columns.take()?,
            kms_key_arn: columns.take()?,
            data_key: WrappedKey::read(&mut columns)?,
            root: columns.take()?,
            pinned_root: columns.take()?,
            full_bytes: columns.take()?,
            parent: columns.take()?,
            copied_from: Self::read_source(&mut columns)?,
            completion_minutes: columns.take()?,
            delete_requested: columns.take()?,
        })
    }

    fn read_source(columns: &mut Columns<'_>) -> Result<Option<CopySource>> {
        let (snapshot, region) = (columns.take()?, columns.take()?);
        let account = columns.take()?;
        match (snapshot, region) {
            (Some(snapshot), Some(region)) => Ok(Some(CopySource { snapshot, region, account })),
            (None, None) => Ok(None),
            (Some(_), None) | (None, Some(_)) => Err(columns.corrupt("source_region")),
        }
    }

    /// Whether it is under a customer's or the AWS managed key.
    pub fn is_encrypted(&self) -> bool {
        self.kms_key_arn.is_some()
    }

    /// Whether volumes and copies can be made of it.
    pub fn is_completed(&self) -> bool {
        matches!(self.state, SnapshotState::Completed { .. })
    }

    /// Whether its blocks are in the archive alone. Nothing can be made of it then.
    pub fn is_archived(&self) -> bool {
        self.is_completed() && self.root.is_none()
    }
}

/// Adds a snapshot.
///
/// # Errors
/// When the id is taken or the database fails.
pub fn insert(tx: &mut Tx<'_>, snapshot: &Snapshot) -> Result<()> {
    let (message, completed) = match &snapshot.state {
        SnapshotState::Pending(_) => (None, None),
        SnapshotState::Completed { at } => (None, Some(*at)),
        SnapshotState::Error { message, .. } => (Some(message.clone()), None),
    };
    let key = snapshot.data_key.as_ref();
    let source = snapshot.copied_from.as_ref();
    tx.execute(
        &format!(
            "INSERT INTO {TABLE} ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, \
             $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24)"
        ),
        params![
            &snapshot.account,
            &snapshot.region,
            &snapshot.id,
            &snapshot.volume_id,
            snapshot.size_gib,
            snapshot.state.as_str(),
            message,
            u32::from(snapshot.state.progress()),
            snapshot.started,
            completed,
            &snapshot.description,
            snapshot.kms_key_arn.clone(),
            key.map(|key| key.wrapped.clone()),
            key.map(|key| key.context_id.clone()),
            key.map(|key| key.lineage.clone()),
            snapshot.root.clone(),
            snapshot.pinned_root.clone(),
            bytes_column(snapshot.full_bytes),
            snapshot.parent.as_ref(),
            source.map(|source| &source.snapshot),
            source.map(|source| &source.region),
            source.and_then(|source| source.account.as_ref()),
            snapshot.completion_minutes,
            snapshot.delete_requested,
        ],
    )?;
    Ok(())
}

fn bytes_column(bytes: u64) -> i64 {
    i64::try_from(bytes).expect("no snapshot holds 8 EiB")
}

/// A snapshot of a region, whoever owns it, hidden ones included.
///
/// # Errors
/// When the database fails.
pub fn get(tx: &mut Tx<'_>, region: &Region, id: &SnapshotId) -> Result<Option<Snapshot>> {
    let sql = format!("SELECT {COLUMNS} FROM {TABLE} WHERE region = $1 AND snapshot_id = $2");
    let row = tx.query_opt(&sql, params![region, id])?;
    row.as_ref().map(Snapshot::from_row).transpose()
}

/// The snapshots of a region with these ids, whoever owns them, hidden ones included.
///
/// # Errors
/// When the database fails.
pub fn among(tx: &mut Tx<'_>, region: &Region, ids: &[SnapshotId]) -> Result<Vec<Snapshot>> {
    let sql =
        format!("SELECT {COLUMNS} FROM {TABLE} WHERE region = $1 AND snapshot_id IN ({{ids}})");
    among::query(tx, &sql, params![region], ids)?.iter().map(Snapshot::from_row).collect()
}

fn query(tx: &mut Tx<'_>, rest: &str, params: &[Param]) -> Result<Vec<Snapshot>> {
    let rows = tx.query(&format!("SELECT {COLUMNS} FROM {TABLE} {rest}"), params)?;
    rows.iter().map(Snapshot::from_row).collect()
}

/// Every snapshot of a region, of every account and in every state, by id.
///
/// # Errors
/// When the database fails.
pub fn list_all(tx: &mut Tx<'_>, region: &Region) -> Result<Vec<Snapshot>> {
    query(tx, "WHERE region = $1 ORDER BY snapshot_id", params![region])
}

/// The account's own snapshots in the region that are not on their way out, by id.
///
/// # Errors
/// When the database fails.
pub fn list_owned(tx: &mut Tx<'_>, account: &AccountId, region: &Region) -> Result<Vec<Snapshot>> {
    let rest = "WHERE account_id = $1 AND region = $2 AND delete_requested = 0 \
        ORDER BY snapshot_id";
    query(tx, rest, params![account, region])
}

/// The snapshots of one volume that are not on their way out, newest first.
///
/// # Errors
/// When the database fails.
pub fn list_of_volume(
    tx: &mut Tx<'_>,
    region: &Region,
    volume: &VolumeId,
) -> Result<Vec<Snapshot>> {
    let rest = "WHERE region = $1 AND volume_id = $2 AND delete_requested = 0 \
        ORDER BY started_ms DESC, snapshot_id";
    query(tx, rest, params![region, volume])
}

/// Snapshots of others that name `grantee`, an account id or `all`, by id.
///
/// Whether each is really visible is [`crate::visibility`]'s question.
///
/// # Errors
/// When the database fails.
pub fn list_granted(tx: &mut Tx<'_>, region: &Region, grantee: &str) -> Result<Vec<Snapshot>> {
    let rest = "WHERE region = $1 AND delete_requested = 0 AND snapshot_id IN \
        (SELECT p.snapshot_id FROM ebs_snapshot_permissions p WHERE p.region = $1 \
         AND p.grantee = $2) ORDER BY snapshot_id";
    query(tx, rest, params![region, grantee])
}

/// The account's copies of one source that are still there, oldest first: one waits for those before
/// it (spec 02, "CopySnapshot").
///
/// # Errors
/// When the database fails.
pub fn list_copies(
    tx: &mut Tx<'_>,
    account: &AccountId,
    region: &Region,
    source: &SnapshotId,
) -> Result<Vec<Snapshot>> {
    let rest = "WHERE account_id = $1 AND region = $2 AND source_snapshot_id = $3 \
        ORDER BY started_ms, snapshot_id";
    query(tx, rest, params![account, region, source])
}

/// The account's completed copies in the region of snapshots in `source_region`, latest first: a new
/// copy of the same lineage under the same key is incremental to one (spec 02, "CopySnapshot").
///
/// # Errors
/// When the database fails.
pub fn list_completed_copies(
    tx: &mut Tx<'_>,
    account: &AccountId,
    region: &Region,
    source_region: &Region,
) -> Result<Vec<Snapshot>> {
    let rest = "WHERE account_id = $1 AND region = $2 AND source_region = $3 \
        AND state = 'completed' AND delete_requested = 0 \
        ORDER BY started_ms DESC, snapshot_id DESC";
    query(tx, rest, params![account, region, source_region])
}

/// How many copies of the account into the region are pending.
///
/// # Errors
/// When the database fails.
pub fn count_pending_copies(tx: &mut Tx<'_>, account: &AccountId, region: &Region) -> Result<u64> {
    count(
        tx,
        "SELECT COUNT(*) FROM ebs_snapshots WHERE account_id = $1 AND region = $2 \
         AND state = 'pending' AND source_snapshot_id IS NOT NULL",
        params![account, region],
    )
}

/// How many pending copies of a snapshot there are, whoever makes them and wherever.
///
/// # Errors
/// When the database fails.
pub fn count_pending_copies_of(
    tx: &mut Tx<'_>,
    region: &Region,
    source: &SnapshotId,
) -> Result<u64> {
    count(
        tx,
        "SELECT COUNT(*) FROM ebs_snapshots WHERE source_region = $1 \
         AND source_snapshot_id = $2 AND state = 'pending'",
        params![region, source],
    )
}

/// How many snapshots of a volume are pending.
///
/// # Errors
/// When the database fails.
pub fn count_pending_of_volume(
    tx: &mut Tx<'_>,
    account: &AccountId,
    region: &Region,
    volume: &VolumeId,
) -> Result<u64> {
    count(
        tx,
        "SELECT COUNT(*) FROM ebs_snapshots WHERE account_id = $1 AND region = $2 \
         AND volume_id = $3 AND state = 'pending'",
        params![account, region, volume],
    )
}

fn count(tx: &mut Tx<'_>, sql: &str, params: &[Param]) -> Result<u64> {
    let row = tx.query_opt(sql, params)?;
    Ok(row.map(|row| row.get(0)).transpose()?.unwrap_or(0))
}

/// Raises the progress of a pending snapshot; it never falls.
///
/// # Errors
/// When the database fails.
pub fn set_progress(tx: &mut Tx<'_>, region: &Region, id: &SnapshotId, percent: u8) -> Result<()> {
    tx.execute(
        "UPDATE ebs_snapshots SET progress = $3 WHERE region = $1 AND snapshot_id = $2 \
         AND state = 'pending' AND progress < $3",
        params![region, id, u32::from(percent.min(99))],
    )?;
    Ok(())
}

/// Snapshots of volumes, of every account, whose blocks are on their way, in the order they were
/// asked for: what a server looks at when it starts.
///
/// # Errors
/// When the database fails.
pub fn list_pending_of_volumes(tx: &mut Tx<'_>) -> Result<Vec<Snapshot>> {
    let rest = "WHERE state = 'pending' AND source_snapshot_id IS NULL AND volume_id <> $1 \
        ORDER BY started_ms, account_id, region, snapshot_id";
    query(tx, rest, params![NO_VOLUME])
}

/// Gives a pending snapshot its data key.
///
/// # Errors
/// When the database fails.
pub fn set_data_key(
    tx: &mut Tx<'_>,
    region: &Region,
    id: &SnapshotId,
    key: &WrappedKey,
) -> Result<bool> {
    let changed = tx.execute(
        "UPDATE ebs_snapshots SET wrapped_key = $3, context_id = $4, lineage = $5 \
         WHERE region = $1 AND snapshot_id = $2 AND state = 'pending'",
        params![region, id, key.wrapped.clone(), &key.context_id, &key.lineage],
    )?;
    Ok(changed == 1)
}

/// Keeps a root alive for as long as the work on a pending snapshot reads it.
///
/// # Errors
/// When the database fails.
pub fn pin_root(tx: &mut Tx<'_>, region: &Region, id: &SnapshotId, root: &[u8]) -> Result<bool> {
    let changed = tx.execute(
        "UPDATE ebs_snapshots SET pinned_root = $3 WHERE region = $1 AND snapshot_id = $2 \
         AND state = 'pending'",
        params![region, id, root],
    )?;
    Ok(changed == 1)
}

/// Keeps how far the work on a pending snapshot has come. `root` stays alive until the work ends.
///
/// # Errors
/// When the database fails.
pub fn set_checkpoint(
    tx: &mut Tx<'_>,
    region: &Region,
    id: &SnapshotId,
    state: &[u8],
    root: &[u8],
) -> Result<bool> {
    let changed = tx.execute(
        "UPDATE ebs_snapshots SET checkpoint = $3, checkpoint_root = $4 \
         WHERE region = $1 AND snapshot_id = $2 AND state = 'pending'",
        params![region, id, state, root],
    )?;
    Ok(changed == 1)
}

/// How far the work on a pending snapshot had come.
///
/// # Errors
/// When the database fails.
pub fn checkpoint(tx: &mut Tx<'_>, region: &Region, id: &SnapshotId) -> Result<Option<Vec<u8>>> {
    let row = tx.query_opt(
        "SELECT checkpoint FROM ebs_snapshots WHERE region = $1 AND snapshot_id = $2",
        params![region, id],
    )?;
    Ok(row.map(|row| row.get(0)).transpose()?.flatten())
}

/// Notes what a row names before it stops naming it, and lets go of what the work on it read.
fn note_and_unpin(tx: &mut Tx<'_>, region: &Region, id: &SnapshotId) -> Result<()> {
    crate::garbage::note_snapshot(tx, region, id)?;
    crate::copy_base::remove(tx, region, id)?;
    release_source(tx, region, id)
}

/// Removes what a copy was made from, if its deletion waits for this copy alone.
fn release_source(tx: &mut Tx<'_>, region: &Region, copy: &SnapshotId) -> Result<()> {
    let waiting = tx.query_opt(
        "SELECT source.region, source.snapshot_id FROM ebs_snapshots AS ended \
         JOIN ebs_snapshots AS source ON source.region = ended.source_region \
         AND source.snapshot_id = ended.source_snapshot_id \
         WHERE ended.region = $1 AND ended.snapshot_id = $2 \
         AND source.delete_requested = 1 AND source.state <> 'pending' \
         AND NOT EXISTS (SELECT 1 FROM ebs_snapshots AS reader \
         WHERE reader.source_region = source.region \
         AND reader.source_snapshot_id = source.snapshot_id AND reader.state = 'pending' \
         AND reader.wrapped_key IS NOT NULL \
         AND (reader.region <> $1 OR reader.snapshot_id <> $2))",
        params![region, copy],
    )?;
    let Some(row) = waiting else { return Ok(()) };
    remove(tx, &row.get(0)?, &row.get(1)?)
}

/// `pending` → `completed`: the root becomes the snapshot's own and nothing is pinned any more.
///
/// # Errors
/// When the database fails.
pub fn set_completed(
    tx: &mut Tx<'_>,
    region: &Region,
    id: &SnapshotId,
    root: &[u8],
    full_bytes: u64,
    at: Timestamp,
) -> Result<bool> {
    note_and_unpin(tx, region, id)?;
    let changed = tx.execute(
        "UPDATE ebs_snapshots SET state = 'completed', progress = 100, completed_ms = $5, \
         root = $3, full_bytes = $4, pinned_root = NULL, checkpoint = NULL, \
         checkpoint_root = NULL \
         WHERE region = $1 AND snapshot_id = $2 AND state = 'pending'",
        params![region, id, root, bytes_column(full_bytes), at],
    )?;
    Ok(changed == 1)
}

/// `pending` → `error`.
///
/// # Errors
/// When the database fails.
pub fn set_failed(
    tx: &mut Tx<'_>,
    region: &Region,
    id: &SnapshotId,
    message: &str,
) -> Result<bool> {
    note_and_unpin(tx, region, id)?;
    let changed = tx.execute(
        "UPDATE ebs_snapshots SET state = 'error', state_message = $3, pinned_root = NULL, \
         checkpoint = NULL, checkpoint_root = NULL \
         WHERE region = $1 AND snapshot_id = $2 AND state = 'pending'",
        params![region, id, message],
    )?;
    Ok(changed == 1)
}

/// `pending` or `completed` → `error`: a snapshot goes with those it was taken together with (spec 02,
/// "CreateSnapshots").
///
/// # Errors
/// When the database fails.
pub fn fail_with_set(
    tx: &mut Tx<'_>,
    region: &Region,
    id: &SnapshotId,
    message: &str,
) -> Result<bool> {
    note_and_unpin(tx, region, id)?;
    let changed = tx.execute(
        "UPDATE ebs_snapshots SET state = 'error', state_message = $3, completed_ms = NULL, \
         root = NULL, pinned_root = NULL, checkpoint = NULL, checkpoint_root = NULL \
         WHERE region = $1 AND snapshot_id = $2 AND state IN ('pending', 'completed')",
        params![region, id, message],
    )?;
    Ok(changed == 1)
}

/// What became of a deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// The row is gone.
    Removed,
    /// The snapshot is pending, or a copy that has begun reads it: it is hidden and goes when that ends.
    Deferred,
}

/// Deletes a snapshot that [`crate::deletion::guard`] has let pass, with its shares and tags.
///
/// # Errors
/// When the database fails.
pub fn delete(tx: &mut Tx<'_>, snapshot: &Snapshot) -> Result<Deletion> {
    let (region, id) = (&snapshot.region, &snapshot.id);
    crate::permission::clear(tx, snapshot)?;
    let deferred = tx.execute(
        "UPDATE ebs_snapshots SET delete_requested = 1 WHERE region = $1 AND snapshot_id = $2 \
         AND (state = 'pending' OR EXISTS (SELECT 1 FROM ebs_snapshots AS reader \
         WHERE reader.source_region = $1 AND reader.source_snapshot_id = $2 \
         AND reader.state = 'pending' AND reader.wrapped_key IS NOT NULL))",
        params![region, id],
    )?;
    if deferred == 1 {
        return Ok(Deletion::Deferred);
    }
    remove(tx, region, id)?;
    Ok(Deletion::Removed)
}

/// Removes the row of a snapshot. The next one of its volume is incremental to the one before it.
///
/// # Errors
/// When the database fails.
pub fn remove(tx: &mut Tx<'_>, region: &Region, id: &SnapshotId) -> Result<()> {
    note_and_unpin(tx, region, id)?;
    const PARENT: &str =
        "(SELECT parent_id FROM ebs_snapshots WHERE region = $1 AND snapshot_id = $2)";
    tx.execute(
        &format!(
            "UPDATE ebs_snapshots SET parent_id = {PARENT} WHERE region = $1 AND parent_id = $2 \
             AND volume_id <> $3"
        ),
        params![region, id, NO_VOLUME],
    )?;
    tx.execute(
        &format!(
            "UPDATE ebs_volumes SET latest_snapshot_id = {PARENT} \
             WHERE region = $1 AND latest_snapshot_id = $2"
        ),
        params![region, id],
    )?;
    tx.execute(
        "DELETE FROM ebs_snapshots WHERE region = $1 AND snapshot_id = $2",
        params![region, id],
    )?;
    crate::tiering::remove(tx, region, id)?;
    crate::tag::remove_all(tx, region, id.as_str())?;
    Ok(())
}

/// Roots that snapshots of a region own or have half made, and those in it that the work on any snapshot still reads:
/// the parent of an export, the source of a copy into another region.
pub(crate) fn roots(tx: &mut Tx<'_>, region: &Region) -> Result<Vec<Vec<u8>>> {
    let owned = tx.query(
        "SELECT COALESCE(root, checkpoint_root) FROM ebs_snapshots WHERE region = $1 \
         AND (root IS NOT NULL OR checkpoint_root IS NOT NULL) ORDER BY snapshot_id",
        params![region],
    )?;
    let pinned = tx.query(
        "SELECT pinned_root FROM ebs_snapshots WHERE COALESCE(source_region, region) = $1 \
         AND pinned_root IS NOT NULL ORDER BY snapshot_id",
        params![region],
    )?;
    Ok(owned.iter().chain(&pinned).map(|row| row.get(0)).collect::<meta::Result<_>>()?)
}
