//! Attachments: which instance has which volume under which device name.

use crate::among;
use crate::column::Columns;
use crate::error::Result;
use base::{AccountId, InstanceId, Region, Timestamp, VolumeId};
use meta::{Row, Tx, params};

const TABLE: &str = "ebs_attachments";
const COLUMNS: &str = "account_id, region, volume_id, instance_id, device, state, attached_ms, \
    delete_on_termination, grant_id, impaired";

/// Where an attachment is in its life. A detached one has no row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachmentState {
    /// The key is being fetched and the device opened.
    Attaching,
    /// The instance has the device.
    Attached,
    /// The device is being closed.
    Detaching,
}

impl AttachmentState {
    /// The state's name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Attaching => "attaching",
            Self::Attached => "attached",
            Self::Detaching => "detaching",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Attaching, Self::Attached, Self::Detaching]
            .into_iter()
            .find(|state| state.as_str() == text)
    }
}

/// One volume at one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Owner of both.
    pub account: AccountId,
    /// Where both are.
    pub region: Region,
    /// The volume.
    pub volume: VolumeId,
    /// The instance.
    pub instance: InstanceId,
    /// The device name asked for.
    pub device: String,
    /// State.
    pub state: AttachmentState,
    /// When it was asked for.
    pub attached: Timestamp,
    /// Whether the volume goes with the instance.
    pub delete_on_termination: bool,
    /// The KMS grant that lets the host unwrap the data key; absent for plain volumes.
    pub grant_id: Option<String>,
    /// Why there is no device although the attachment stands: the key could not be had when the
    /// server was started again.
    pub impaired: Option<String>,
}

impl Attachment {
    fn from_row(row: &Row) -> Result<Self> {
        let mut columns = Columns::new(TABLE, row);
        Ok(Self {
            account: columns.take()?,
            region: columns.take()?,
            volume: columns.take()?,
            instance: columns.read("instance_id", |text| InstanceId::parse(text).ok())?,
            device: columns.take()?,
            state: columns.read("state", AttachmentState::parse)?,
            attached: columns.take()?,
            delete_on_termination: columns.take()?,
            grant_id: columns.take()?,
            impaired: columns.take()?,
        })
    }
}

/// Adds an attachment. False when the volume is at this instance already or the device is taken.
///
/// # Errors
/// When the database fails.
pub fn insert(tx: &mut Tx<'_>, attachment: &Attachment) -> Result<bool> {
    let sql = format!(
        "INSERT INTO {TABLE} ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) \
         ON CONFLICT DO NOTHING"
    );
    let added = tx.execute(
        &sql,
        params![
            &attachment.account,
            &attachment.region,
            &attachment.volume,
            attachment.instance.as_str(),
            &attachment.device,
            attachment.state.as_str(),
            attachment.attached,
            attachment.delete_on_termination,
            attachment.grant_id.clone(),
            attachment.impaired.clone(),
        ],
    )?;
    Ok(added == 1)
}

fn query(tx: &mut Tx<'_>, rest: &str, params: &[meta::Param]) -> Result<Vec<Attachment>> {
    let rows = tx.query(&format!("SELECT {COLUMNS} FROM {TABLE} {rest}"), params)?;
    rows.iter().map(Attachment::from_row).collect()
}

/// Every attachment of an account in a region, by volume.
///
/// # Errors
/// When the database fails.
pub fn list(tx: &mut Tx<'_>, account: &AccountId, region: &Region) -> Result<Vec<Attachment>> {
    let order = "WHERE account_id = $1 AND region = $2 ORDER BY volume_id, instance_id";
    query(tx, order, params![account, region])
}

/// Every attachment there is: what a server has to bring back when it starts.
///
/// # Errors
/// When the database fails.
pub fn list_all(tx: &mut Tx<'_>) -> Result<Vec<Attachment>> {
    query(tx, "ORDER BY account_id, region, volume_id, instance_id", &[])
}

/// The attachments of one volume.
///
/// # Errors
/// When the database fails.
pub fn of_volume(
    tx: &mut Tx<'_>,
    account: &AccountId,
    region: &Region,
    volume: &VolumeId,
) -> Result<Vec<Attachment>> {
    let rest = "WHERE account_id = $1 AND region = $2 AND volume_id = $3 ORDER BY instance_id";
    query(tx, rest, params![account, region, volume])
}

/// The attachments of some volumes, by instance.
///
/// # Errors
/// When the database fails.
pub fn among(
    tx: &mut Tx<'_>,
    account: &AccountId,
    region: &Region,
    volumes: &[VolumeId],
) -> Result<Vec<Attachment>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM {TABLE} WHERE account_id = $1 AND region = $2 \
         AND volume_id IN ({{ids}}) ORDER BY instance_id"
    );
    let rows = among::query(tx, &sql, params![account, region], volumes)?;
    rows.iter().map(Attachment::from_row).collect()
}

/// The attachments of one instance, by device name.
///
/// # Errors
/// When the database fails.
pub fn of_instance(
    tx: &mut Tx<'_>,
    account: &AccountId,
    region: &Region,
    instance: &InstanceId,
) -> Result<Vec<Attachment>> {
    let rest = "WHERE account_id = $1 AND region = $2 AND instance_id = $3 ORDER BY device";
    query(tx, rest, params![account, region, instance.as_str()])
}

/// Which attachment: the primary key without the account, which the volume implies.
#[derive(Clone, Copy, Debug)]
pub struct AttachmentKey<'a> {
    /// The owner.
    pub account: &'a AccountId,
    /// Where.
    pub region: &'a Region,
    /// The volume.
    pub volume: &'a VolumeId,
    /// The instance.
    pub instance: &'a InstanceId,
}

/// Moves an attachment between two states.
///
/// # Errors
/// When the database fails.
pub fn set_state(
    tx: &mut Tx<'_>,
    key: AttachmentKey<'_>,
    from: AttachmentState,
    to: AttachmentState,
) -> Result<bool> {
    let changed = tx.execute(
        "UPDATE ebs_attachments SET state = $6 WHERE account_id = $1 AND region = $2 \
         AND volume_id = $3 AND instance_id = $4 AND state = $5",
        params![
            key.account,
            key.region,
            key.volume,
            key.instance.as_str(),
            from.as_str(),
            to.as_str(),
        ],
    )?;
    Ok(changed == 1)
}

/// Records the grant the host uses, before it is used.
///
/// # Errors
/// When the database fails.
pub fn set_grant(tx: &mut Tx<'_>, key: AttachmentKey<'_>, grant_id: &str) -> Result<()> {
    tx.execute(
        "UPDATE ebs_attachments SET grant_id = $5 WHERE account_id = $1 AND region = $2 \
         AND volume_id = $3 AND instance_id = $4",
        params![key.account, key.region, key.volume, key.instance.as_str(), grant_id],
    )?;
    Ok(())
}

/// Records why an attachment has no device, or that it has one again.
///
/// # Errors
/// When the database fails.
pub fn set_impaired(tx: &mut Tx<'_>, key: AttachmentKey<'_>, impaired: Option<&str>) -> Result<()> {
    tx.execute(
        "UPDATE ebs_attachments SET impaired = $5 WHERE account_id = $1 AND region = $2 \
         AND volume_id = $3 AND instance_id = $4",
        params![key.account, key.region, key.volume, key.instance.as_str(), impaired],
    )?;
    Ok(())
}

/// Removes an attachment.
///
/// # Errors
/// When the database fails.
pub fn remove(tx: &mut Tx<'_>, key: AttachmentKey<'_>) -> Result<bool> {
    let removed = tx.execute(
        "DELETE FROM ebs_attachments WHERE account_id = $1 AND region = $2 AND volume_id = $3 \
         AND instance_id = $4",
        params![key.account, key.region, key.volume, key.instance.as_str()],
    )?;
    Ok(removed == 1)
}
