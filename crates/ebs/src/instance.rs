//! Machines that volumes are attached to. They are registered by the operator, not launched.

use crate::column::Columns;
use crate::error::Result;
use base::{AccountId, InstanceId, Region, Timestamp};
use meta::{Row, Tx, params};

const TABLE: &str = "ebs_instances";
const COLUMNS: &str = "account_id, region, instance_id, zone, name, created_ms";

/// A machine of an account. It is always `running`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Its id.
    pub id: InstanceId,
    /// Whose it is.
    pub account: AccountId,
    /// Where it is.
    pub region: Region,
    /// The zone it can attach volumes of.
    pub zone: String,
    /// What the operator calls it.
    pub name: Option<String>,
    /// When it was registered.
    pub created: Timestamp,
}

impl Instance {
    fn from_row(row: &Row) -> Result<Self> {
        let mut columns = Columns::new(TABLE, row);
        Ok(Self {
            account: columns.take()?,
            region: columns.take()?,
            id: columns.read("instance_id", |text| InstanceId::parse(text).ok())?,
            zone: columns.take()?,
            name: columns.take()?,
            created: columns.take()?,
        })
    }
}

/// Registers a machine.
///
/// # Errors
/// When the id is taken or the database fails.
pub fn insert(tx: &mut Tx<'_>, instance: &Instance) -> Result<()> {
    tx.execute(
        &format!("INSERT INTO {TABLE} ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6)"),
        params![
            &instance.account,
            &instance.region,
            instance.id.as_str(),
            &instance.zone,
            instance.name.clone(),
            instance.created,
        ],
    )?;
    Ok(())
}

/// A machine of the account.
///
/// # Errors
/// When the database fails.
pub fn get(
    tx: &mut Tx<'_>,
    account: &AccountId,
    region: &Region,
    id: &InstanceId,
) -> Result<Option<Instance>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM {TABLE} WHERE account_id = $1 AND region = $2 AND instance_id = $3"
    );
    let row = tx.query_opt(&sql, params![account, region, id.as_str()])?;
    row.as_ref().map(Instance::from_row).transpose()
}

/// All machines of the account in the region, by id.
///
/// # Errors
/// When the database fails.
pub fn list(tx: &mut Tx<'_>, account: &AccountId, region: &Region) -> Result<Vec<Instance>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM {TABLE} WHERE account_id = $1 AND region = $2 ORDER BY instance_id"
    );
    tx.query(&sql, params![account, region])?.iter().map(Instance::from_row).collect()
}

/// Notes that a machine opens its volumes itself, over the network.
///
/// # Errors
/// When the database fails.
pub fn set_remote(tx: &mut Tx<'_>, instance: &Instance) -> Result<()> {
    tx.execute(
        "INSERT INTO ebs_remote_hosts (account_id, region, instance_id) VALUES ($1, $2, $3) \
         ON CONFLICT DO NOTHING",
        params![&instance.account, &instance.region, instance.id.as_str()],
    )?;
    Ok(())
}

/// Whether a machine opens its volumes itself. The others' are opened by the server.
///
/// # Errors
/// When the database fails.
pub fn is_remote(
    tx: &mut Tx<'_>,
    account: &AccountId,
    region: &Region,
    id: &InstanceId,
) -> Result<bool> {
    let row = tx.query_opt(
        "SELECT instance_id FROM ebs_remote_hosts \
         WHERE account_id = $1 AND region = $2 AND instance_id = $3",
        params![account, region, id.as_str()],
    )?;
    Ok(row.is_some())
}

/// A machine that opens its volumes itself, whoever it belongs to.
///
/// # Errors
/// When the database fails.
pub fn find_remote(tx: &mut Tx<'_>, id: &InstanceId) -> Result<Option<Instance>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM {TABLE} WHERE instance_id = $1 \
         AND instance_id IN (SELECT instance_id FROM ebs_remote_hosts)"
    );
    let row = tx.query_opt(&sql, params![id.as_str()])?;
    row.as_ref().map(Instance::from_row).transpose()
}
