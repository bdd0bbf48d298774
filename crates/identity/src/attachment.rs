//! Which managed policies are attached to which users, groups and roles.

use crate::entity::{self, Entity, Kind};
use crate::error::{Error, Result};
use crate::linked_role;
use crate::managed::{self, ManagedPolicy};
use base::AccountId;
use meta::{Tx, params};

/// How many managed policies an entity may have (IAM guide, "IAM quotas").
pub const ATTACHED_MAX: usize = 10;

/// Attaches a policy. Attaching it again changes nothing.
///
/// # Errors
/// [`Error::NoSuchEntity`] and [`Error::PolicyNotAttachable`] for the policy;
/// [`Error::LimitExceeded`] beyond [`ATTACHED_MAX`]; [`Error::UnmodifiableEntity`].
pub fn attach(tx: &mut Tx<'_>, entity: &Entity, policy_arn: &str) -> Result<()> {
    linked_role::check_modifiable(entity)?;
    let policy = managed::find_attachable(tx, &entity.account, policy_arn)?;
    let inserted = insert(tx, entity, &policy.arn())?;
    if inserted == 1 && of(tx, entity)?.len() > ATTACHED_MAX {
        let title = entity.kind.title();
        let message = format!("Cannot exceed quota for PoliciesPer{title}: {ATTACHED_MAX}");
        return Err(Error::LimitExceeded { message });
    }
    Ok(())
}

/// Attaches a policy that is known to exist. Returns how many attachments were made.
pub(crate) fn insert(tx: &mut Tx<'_>, entity: &Entity, policy_arn: &str) -> Result<u64> {
    let inserted = tx.execute(
        "INSERT INTO iam_attachments (account_id, entity_id, policy_arn) VALUES ($1, $2, $3) \
         ON CONFLICT DO NOTHING",
        params![&entity.account, &entity.unique_id, policy_arn],
    )?;
    Ok(inserted)
}

/// Detaches a policy.
///
/// # Errors
/// [`Error::NoSuchEntity`] when it is not attached.
pub fn detach(tx: &mut Tx<'_>, entity: &Entity, policy_arn: &str) -> Result<()> {
    linked_role::check_modifiable(entity)?;
    remove(tx, entity, policy_arn)
}

/// Detaches a policy from whatever it is attached to.
pub(crate) fn remove(tx: &mut Tx<'_>, entity: &Entity, policy_arn: &str) -> Result<()> {
    let deleted = tx.execute(
        "DELETE FROM iam_attachments \
         WHERE account_id = $1 AND entity_id = $2 AND policy_arn = $3",
        params![&entity.account, &entity.unique_id, policy_arn],
    )?;
    match deleted {
        0 => Err(Error::missing(format!("Policy {policy_arn} was not found."))),
        _ => Ok(()),
    }
}

/// The ARNs of the policies attached to an entity, in order.
///
/// # Errors
/// As the database answers.
pub fn of(tx: &mut Tx<'_>, entity: &Entity) -> Result<Vec<String>> {
    let rows = tx.query(
        "SELECT policy_arn FROM iam_attachments \
         WHERE account_id = $1 AND entity_id = $2 ORDER BY policy_arn",
        params![&entity.account, &entity.unique_id],
    )?;
    rows.iter().map(|row| Ok(row.get(0)?)).collect()
}

/// How an entity uses a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// It is attached.
    PermissionsPolicy,
    /// It is the boundary.
    PermissionsBoundary,
}

/// The entities of an account that use a policy in this way, by kind and name.
///
/// # Errors
/// As the database answers.
pub fn entities(
    tx: &mut Tx<'_>,
    account: &AccountId,
    policy: &ManagedPolicy,
    usage: Usage,
) -> Result<Vec<Entity>> {
    let query = match usage {
        Usage::PermissionsPolicy => {
            "SELECT entity_id FROM iam_attachments WHERE account_id = $1 AND policy_arn = $2"
        }
        Usage::PermissionsBoundary => {
            "SELECT unique_id FROM iam_entities WHERE account_id = $1 AND boundary = $2"
        }
    };
    let rows = tx.query(query, params![account, policy.arn()])?;
    let mut found = Vec::new();
    for row in &rows {
        found.extend(entity::find_by_id(tx, &row.get::<String>(0)?)?);
    }
    let order = |kind: Kind| match kind {
        Kind::Group => 0,
        Kind::User => 1,
        Kind::Role => 2,
    };
    found.sort_by(|a, b| (order(a.kind), &a.name).cmp(&(order(b.kind), &b.name)));
    Ok(found)
}

/// How many entities of an account use a policy in this way.
///
/// # Errors
/// As the database answers.
pub fn count(
    tx: &mut Tx<'_>,
    account: &AccountId,
    policy: &ManagedPolicy,
    usage: Usage,
) -> Result<u64> {
    let query = match usage {
        Usage::PermissionsPolicy => {
            "SELECT COUNT(*) FROM iam_attachments WHERE account_id = $1 AND policy_arn = $2"
        }
        Usage::PermissionsBoundary => {
            "SELECT COUNT(*) FROM iam_entities WHERE account_id = $1 AND boundary = $2"
        }
    };
    let row = tx.query_opt(query, params![account, policy.arn()])?;
    Ok(row.map_or(Ok(0), |row| row.get(0))?)
}
