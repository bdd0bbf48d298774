//! Volumes: rows, states and the only moves between states.
//!
//! A move is a guarded update that says what it expects to find, so that two requests that race for
//! one volume cannot both win. The functions return whether the move happened.

use crate::among;
use crate::column::Columns;
use crate::error::Result;
use crate::key::WrappedKey;
use crate::modification::Provision;
use crate::snapshot;
use crate::volume_type::VolumeType;
use base::{AccountId, Region, SnapshotId, Timestamp, VolumeId};
use meta::{Param, Row, Tx, params};

const TABLE: &str = "ebs_volumes";
const COLUMNS: &str = "account_id, region, volume_id, zone, size_gib, volume_type, iops, \
    throughput_mib, state, kms_key_arn, wrapped_key, context_id, lineage, snapshot_id, base_root, \
    continues_snapshot, latest_snapshot_id, created_ms, first_base_root";

/// Where a volume is in its life (spec 01, "States"). A deleted volume has no row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VolumeState {
    /// Accepted; its key is being made and its base prepared.
    Creating,
    /// Ready, attached to nothing.
    Available,
    /// Attached, or on its way to or from an instance.
    InUse,
    /// Being removed.
    Deleting,
    /// Could not be created and could not be removed either.
    Error,
}

impl VolumeState {
    const ALL: [Self; 5] =
        [Self::Creating, Self::Available, Self::InUse, Self::Deleting, Self::Error];

    /// The state's name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Available => "available",
            Self::InUse => "in-use",
            Self::Deleting => "deleting",
            Self::Error => "error",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// A volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Its id.
    pub id: VolumeId,
    /// Whose it is.
    pub account: AccountId,
    /// Where it is.
    pub region: Region,
    /// The zone whose instances may attach it.
    pub zone: String,
    /// Size.
    pub size_gib: u32,
    /// Type.
    pub volume_type: VolumeType,
    /// IOPS, for types that have the number.
    pub iops: Option<u32>,
    /// Throughput, for gp3.
    pub throughput_mib: Option<u32>,
    /// State.
    pub state: VolumeState,
    /// The KMS key's ARN; absent for a plain volume.
    pub kms_key_arn: Option<String>,
    /// The wrapped data key; absent until the volume's creation has made it.
    pub data_key: Option<WrappedKey>,
    /// The snapshot it was created from.
    pub snapshot_id: Option<SnapshotId>,
    /// What it reads where it was never written: the root of a snapshot sealed under `data_key`'s
    /// lineage, or under the key of its [`foreign_base`](crate::foreign_base). While the volume is being
    /// created, the root of the snapshot as it is.
    pub base_root: Option<Vec<u8>>,
    /// What `base_root` was before it was sealed anew; the volume's log knows its base by this name.
    pub first_base_root: Option<Vec<u8>>,
    /// Whether the first snapshot of this volume is incremental to `snapshot_id`: same owner and
    /// same data key (spec 02, "Incremental rules").
    pub continues_snapshot: bool,
    /// The latest snapshot taken of it, the parent of the next.
    pub latest_snapshot_id: Option<SnapshotId>,
    /// When it was asked for.
    pub created: Timestamp,
}

impl Volume {
    fn from_row(row: &Row) -> Result<Self> {
        let mut columns = Columns::new(TABLE, row);
        Ok(Self {
            account: columns.take()?,
            region: columns.take()?,
            id: columns.take()?,
            zone: columns.take()?,
            size_gib: columns.take()?,
            volume_type: columns.read("volume_type", |text| VolumeType::parse(text).ok())?,
            iops: columns.take()?,
            throughput_mib: columns.take()?,
            state: columns.read("state", VolumeState::parse)?,
            kms_key_arn: columns.take()?,
            data_key: WrappedKey::read(&mut columns)?,
            snapshot_id: columns.take()?,
            base_root: columns.take()?,
            continues_snapshot: columns.take()?,
            latest_snapshot_id: columns.take()?,
            created: columns.take()?,
            first_base_root: columns.take()?,
        })
    }

    /// Whether it is under a customer's or the AWS managed key.
    pub fn is_encrypted(&self) -> bool {
        self.kms_key_arn.is_some()
    }

    /// What of it can be modified.
    pub fn provision(&self) -> Provision {
        let Self { size_gib, volume_type, iops, throughput_mib, .. } = *self;
        Provision { size_gib, volume_type, iops, throughput_mib }
    }
}

/// Adds a volume.
///
/// # Errors
/// When the id is taken or the database fails.
pub fn insert(tx: &mut Tx<'_>, volume: &Volume) -> Result<()> {
    let key = volume.data_key.as_ref();
    tx.execute(
        &format!(
            "INSERT INTO {TABLE} ({COLUMNS}) VALUES \
             ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)"
        ),
        params![
            &volume.account,
            &volume.region,
            &volume.id,
            &volume.zone,
            volume.size_gib,
            volume.volume_type.as_str(),
            volume.iops,
            volume.throughput_mib,
            volume.state.as_str(),
            volume.kms_key_arn.clone(),
            key.map(|key| key.wrapped.clone()),
            key.map(|key| key.context_id.clone()),
            key.map(|key| key.lineage.clone()),
            volume.snapshot_id.as_ref(),
            volume.base_root.clone(),
            volume.continues_snapshot,
            volume.latest_snapshot_id.as_ref(),
            volume.created,
            volume.first_base_root.clone(),
        ],
    )?;
    Ok(())
}

/// A volume of a region, whoever owns it.
///
/// # Errors
/// When the database fails.
pub fn get(tx: &mut Tx<'_>, region: &Region, id: &VolumeId) -> Result<Option<Volume>> {
    let sql = format!("SELECT {COLUMNS} FROM {TABLE} WHERE region = $1 AND volume_id = $2");
    let row = tx.query_opt(&sql, params![region, id])?;
    row.as_ref().map(Volume::from_row).transpose()
}

/// Those of some volumes that there are, whosever they are.
///
/// # Errors
/// When the database fails.
pub fn among(tx: &mut Tx<'_>, region: &Region, ids: &[VolumeId]) -> Result<Vec<Volume>> {
    let sql = format!("SELECT {COLUMNS} FROM {TABLE} WHERE region = $1 AND volume_id IN ({{ids}})");
    among::query(tx, &sql, params![region], ids)?.iter().map(Volume::from_row).collect()
}

/// All volumes of the account in the region, by id.
///
/// # Errors
/// When the database fails.
pub fn list(tx: &mut Tx<'_>, account: &AccountId, region: &Region) -> Result<Vec<Volume>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM {TABLE} WHERE account_id = $1 AND region = $2 ORDER BY volume_id"
    );
    tx.query(&sql, params![account, region])?.iter().map(Volume::from_row).collect()
}

/// Every volume of a region, of every account and in every state, by id.
///
/// # Errors
/// When the database fails.
pub fn list_all(tx: &mut Tx<'_>, region: &Region) -> Result<Vec<Volume>> {
    let sql = format!("SELECT {COLUMNS} FROM {TABLE} WHERE region = $1 ORDER BY volume_id");
    tx.query(&sql, params![region])?.iter().map(Volume::from_row).collect()
}

/// The accounts that have volumes in a region.
///
/// # Errors
/// When the database fails.
pub fn owners(tx: &mut Tx<'_>, region: &Region) -> Result<Vec<AccountId>> {
    let sql =
        format!("SELECT DISTINCT account_id FROM {TABLE} WHERE region = $1 ORDER BY account_id");
    let rows = tx.query(&sql, params![region])?;
    rows.iter().map(|row| Columns::new(TABLE, row).take()).collect()
}

/// The regions that have volumes or snapshots, of any account.
///
/// # Errors
/// When the database fails.
pub fn regions_in_use(tx: &mut Tx<'_>) -> Result<Vec<Region>> {
    let sql =
        "SELECT region FROM ebs_volumes UNION SELECT region FROM ebs_snapshots ORDER BY region";
    let rows = tx.query(sql, params![])?;
    rows.iter().map(|row| Columns::new(TABLE, row).take()).collect()
}

/// All volumes of every account that are in a state: what a server looks at when it starts.
///
/// # Errors
/// When the database fails.
pub fn list_in_state(tx: &mut Tx<'_>, state: VolumeState) -> Result<Vec<Volume>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM {TABLE} WHERE state = $1 ORDER BY account_id, region, volume_id"
    );
    tx.query(&sql, params![state.as_str()])?.iter().map(Volume::from_row).collect()
}

/// What a volume has once it is created.
#[derive(Clone, Debug)]
pub struct Created {
    /// Its data key, wrapped for it.
    pub data_key: WrappedKey,
    /// Its base, sealed under that data key's lineage or that of its foreign base.
    pub base_root: Option<Vec<u8>>,
    /// Whether its first snapshot continues the one it came from.
    pub continues_snapshot: bool,
}

/// `creating` → `available`. The volume has its file.
///
/// # Errors
/// When the database fails.
pub fn set_created(
    tx: &mut Tx<'_>,
    region: &Region,
    id: &VolumeId,
    created: &Created,
) -> Result<bool> {
    crate::garbage::note_volume(tx, region, id)?;
    let key = &created.data_key;
    let changed = tx.execute(
        "UPDATE ebs_volumes SET state = 'available', wrapped_key = $3, context_id = $4, \
         lineage = $5, base_root = $6, continues_snapshot = $7, checkpoint = NULL, \
         checkpoint_root = NULL, file_made = 1 \
         WHERE region = $1 AND volume_id = $2 AND state = 'creating'",
        params![
            region,
            id,
            key.wrapped.clone(),
            &key.context_id,
            &key.lineage,
            created.base_root.clone(),
            created.continues_snapshot,
        ],
    )?;
    Ok(changed == 1)
}

/// Usable volumes whose file may not have been made: an earlier release made it with the first opening.
///
/// # Errors
/// When the database fails.
pub fn without_file(tx: &mut Tx<'_>) -> Result<Vec<Volume>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM {TABLE} WHERE file_made = 0 AND state IN ('available', 'in-use') \
         ORDER BY region, volume_id"
    );
    tx.query(&sql, params![])?.iter().map(Volume::from_row).collect()
}

/// Records that a volume has its file. From then on, none that is there means one that was lost.
///
/// # Errors
/// When the database fails.
pub fn note_file(tx: &mut Tx<'_>, region: &Region, id: &VolumeId) -> Result<()> {
    tx.execute(
        "UPDATE ebs_volumes SET file_made = 1 WHERE region = $1 AND volume_id = $2",
        params![region, id],
    )?;
    Ok(())
}

/// Gives a volume a base that holds what its base holds.
pub(crate) fn replace_base(
    tx: &mut Tx<'_>,
    region: &Region,
    id: &VolumeId,
    root: &[u8],
) -> Result<()> {
    tx.execute(
        "UPDATE ebs_volumes SET first_base_root = COALESCE(first_base_root, base_root), \
         base_root = $3, checkpoint = NULL, checkpoint_root = NULL \
         WHERE region = $1 AND volume_id = $2",
        params![region, id, root],
    )?;
    Ok(())
}

/// Whether something reads a volume's base: the volume, or pending snapshots that are read out of one that
/// is being deleted.
///
/// # Errors
/// When the database fails.
pub fn needs_base(tx: &mut Tx<'_>, volume: &Volume) -> Result<bool> {
    let Volume { account, region, id, .. } = volume;
    Ok(volume.state != VolumeState::Deleting
        || snapshot::count_pending_of_volume(tx, account, region, id)? > 0)
}

/// Keeps how far a volume's base has been sealed anew, if something still needs it. `root` stays alive
/// until all of it is.
///
/// # Errors
/// When the database fails.
pub fn set_checkpoint(
    tx: &mut Tx<'_>,
    region: &Region,
    id: &VolumeId,
    state: &[u8],
    root: &[u8],
) -> Result<bool> {
    let Some(volume) = get(tx, region, id)? else { return Ok(false) };
    if !needs_base(tx, &volume)? {
        return Ok(false);
    }
    tx.execute(
        "UPDATE ebs_volumes SET checkpoint = $3, checkpoint_root = $4 \
         WHERE region = $1 AND volume_id = $2",
        params![region, id, state, root],
    )?;
    Ok(true)
}

/// How far a volume's base had been sealed anew.
///
/// # Errors
/// When the database fails.
pub fn checkpoint(tx: &mut Tx<'_>, region: &Region, id: &VolumeId) -> Result<Option<Vec<u8>>> {
    let row = tx.query_opt(
        "SELECT checkpoint FROM ebs_volumes WHERE region = $1 AND volume_id = $2",
        params![region, id],
    )?;
    Ok(row.map(|row| row.get(0)).transpose()?.flatten())
}

/// Moves a volume between two states.
///
/// # Errors
/// When the database fails.
pub fn set_state(
    tx: &mut Tx<'_>,
    region: &Region,
    id: &VolumeId,
    from: VolumeState,
    to: VolumeState,
) -> Result<bool> {
    let changed = tx.execute(
        "UPDATE ebs_volumes SET state = $4 WHERE region = $1 AND volume_id = $2 AND state = $3",
        params![region, id, from.as_str(), to.as_str()],
    )?;
    Ok(changed == 1)
}

/// Makes a volume what a modification has made of it.
///
/// # Errors
/// When the database fails.
pub fn set_provision(
    tx: &mut Tx<'_>,
    region: &Region,
    id: &VolumeId,
    provision: &Provision,
) -> Result<()> {
    tx.execute(
        "UPDATE ebs_volumes SET size_gib = $3, volume_type = $4, iops = $5, throughput_mib = $6 \
         WHERE region = $1 AND volume_id = $2",
        params![
            region,
            id,
            provision.size_gib,
            provision.volume_type.as_str(),
            provision.iops,
            provision.throughput_mib,
        ],
    )?;
    Ok(())
}

/// Remembers the latest snapshot of a volume.
///
/// # Errors
/// When the database fails.
pub fn set_latest_snapshot(
    tx: &mut Tx<'_>,
    region: &Region,
    id: &VolumeId,
    snapshot: &SnapshotId,
) -> Result<()> {
    tx.execute(
        "UPDATE ebs_volumes SET latest_snapshot_id = $3 WHERE region = $1 AND volume_id = $2",
        params![region, id, snapshot],
    )?;
    Ok(())
}

/// Removes the row of a volume that is in one of `states`; its tags and its initialization go with
/// it.
///
/// # Errors
/// When the database fails.
pub fn remove(tx: &mut Tx<'_>, region: &Region, id: &VolumeId, state: VolumeState) -> Result<bool> {
    crate::garbage::note_volume(tx, region, id)?;
    let removed = tx.execute(
        "DELETE FROM ebs_volumes WHERE region = $1 AND volume_id = $2 AND state = $3",
        params![region, id, state.as_str()],
    )?;
    if removed == 1 {
        crate::tag::remove_all(tx, region, id.as_str())?;
        crate::modification::remove_all(tx, region, id)?;
        crate::initialization::remove(tx, region, id)?;
        crate::foreign_base::remove(tx, region, id)?;
        crate::twin::remove_volume(tx, region, id)?;
        crate::fence::remove(tx, region, id)?;
    }
    Ok(removed == 1)
}

/// Roots that volumes of a region still read through, or will.
pub(crate) fn base_roots(tx: &mut Tx<'_>, region: &Region) -> Result<Vec<Vec<u8>>> {
    let rows = tx.query(
        "SELECT base_root, checkpoint_root FROM ebs_volumes WHERE region = $1 \
         AND base_root IS NOT NULL ORDER BY volume_id",
        &[Param::from(region)],
    )?;
    let mut roots = Vec::with_capacity(rows.len());
    for row in &rows {
        let (base, half_made): (Vec<u8>, Option<Vec<u8>>) = (row.get(0)?, row.get(1)?);
        roots.push(base);
        roots.extend(half_made);
    }
    Ok(roots)
}
