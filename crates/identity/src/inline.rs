//! Inline policies: part of the user, group or role they are in.

use crate::document::{self, quota_bytes};
use crate::entity::Entity;
use crate::error::{Error, Result};
use crate::linked_role;
use crate::name::check_name;
use iam::PolicyKind;
use meta::{Tx, params};

/// An inline policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InlinePolicy {
    /// Its name.
    pub name: String,
    /// Its text.
    pub document: String,
}

/// Adds or replaces an inline policy.
///
/// # Errors
/// The name's and the document's; [`Error::LimitExceeded`] when all together are too long.
pub fn put(tx: &mut Tx<'_>, entity: &Entity, name: &str, document: &str) -> Result<()> {
    linked_role::check_modifiable(entity)?;
    check_name("policyName", name, 128)?;
    document::check(document, PolicyKind::Identity)?;
    tx.execute(
        "INSERT INTO iam_inline_policies (account_id, entity_id, name_key, name, document) \
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT (account_id, entity_id, name_key) \
         DO UPDATE SET name = excluded.name, document = excluded.document",
        params![&entity.account, &entity.unique_id, name.to_lowercase(), name, document],
    )?;
    let total: usize = list(tx, entity)?.iter().map(|policy| quota_bytes(&policy.document)).sum();
    let limit = entity.kind.inline_bytes_max();
    if total > limit {
        let (word, name) = (entity.kind.word(), &entity.name);
        let message = format!("Maximum policy size of {limit} bytes exceeded for {word} {name}");
        return Err(Error::LimitExceeded { message });
    }
    Ok(())
}

/// The inline policies of an entity by name.
///
/// # Errors
/// As the database answers.
pub fn list(tx: &mut Tx<'_>, entity: &Entity) -> Result<Vec<InlinePolicy>> {
    let rows = tx.query(
        "SELECT name, document FROM iam_inline_policies \
         WHERE account_id = $1 AND entity_id = $2 ORDER BY name_key",
        params![&entity.account, &entity.unique_id],
    )?;
    rows.iter().map(|row| Ok(InlinePolicy { name: row.get(0)?, document: row.get(1)? })).collect()
}

/// One inline policy.
///
/// # Errors
/// [`Error::NoSuchEntity`].
pub fn find(tx: &mut Tx<'_>, entity: &Entity, name: &str) -> Result<InlinePolicy> {
    let found = list(tx, entity)?.into_iter().find(|policy| policy.name == name);
    found.ok_or_else(|| not_found(entity, name))
}

fn not_found(entity: &Entity, name: &str) -> Error {
    let word = entity.kind.word();
    Error::missing(format!("The {word} policy with name {name} cannot be found."))
}

/// Removes an inline policy.
///
/// # Errors
/// [`Error::NoSuchEntity`].
pub fn delete(tx: &mut Tx<'_>, entity: &Entity, name: &str) -> Result<()> {
    linked_role::check_modifiable(entity)?;
    let deleted = tx.execute(
        "DELETE FROM iam_inline_policies \
         WHERE account_id = $1 AND entity_id = $2 AND name_key = $3 AND name = $4",
        params![&entity.account, &entity.unique_id, name.to_lowercase(), name],
    )?;
    match deleted {
        0 => Err(not_found(entity, name)),
        _ => Ok(()),
    }
}
