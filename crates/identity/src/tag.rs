//! Tags of users, roles and managed policies. Keys are unique whatever their case (IAM guide,
//! "Rules for tagging").

use crate::error::{Error, Result};
use base::AccountId;
use meta::{Tx, params};
use std::collections::{BTreeMap, HashSet};

/// Tags by key.
pub type Tags = BTreeMap<String, String>;

/// How many a resource may have.
pub const TAGS_MAX: usize = 50;
const KEY_LENGTH_MAX: usize = 128;
const VALUE_LENGTH_MAX: usize = 256;

/// Checks tags that a request gives.
///
/// # Errors
/// [`Error::InvalidInput`] and [`Error::LimitExceeded`].
pub fn check(tags: &Tags) -> Result<()> {
    let invalid = |message: String| Err(Error::InvalidInput { message });
    if tags.len() > TAGS_MAX {
        return Err(too_many());
    }
    let mut seen = HashSet::new();
    for (key, value) in tags {
        let legal = |c: char| c.is_alphanumeric() || c == ' ' || "_.:/=+-@".contains(c);
        let key_fits = (1..=KEY_LENGTH_MAX).contains(&key.chars().count());
        if !key_fits || !key.chars().all(legal) {
            return invalid(format!("The tag key '{key}' is not valid."));
        }
        if value.chars().count() > VALUE_LENGTH_MAX || !value.chars().all(legal) {
            return invalid(format!("The value of the tag '{key}' is not valid."));
        }
        if key.to_lowercase().starts_with("aws:") {
            return invalid("Tag keys beginning with aws: are reserved for system use.".to_owned());
        }
        if !seen.insert(key.to_lowercase()) {
            return invalid(
                "Duplicate tag keys found. Please note that Tag keys are case insensitive."
                    .to_owned(),
            );
        }
    }
    Ok(())
}

fn too_many() -> Error {
    let message = format!("Cannot exceed quota for TagsPerResource: {TAGS_MAX}");
    Error::LimitExceeded { message }
}

/// The tags of a user, role or policy, by its unique id.
///
/// # Errors
/// As the database answers.
pub fn of(tx: &mut Tx<'_>, account: &AccountId, resource_id: &str) -> Result<Tags> {
    let rows = tx.query(
        "SELECT tag_key, tag_value FROM iam_tags WHERE account_id = $1 AND resource_id = $2",
        params![account, resource_id],
    )?;
    rows.iter().map(|row| Ok((row.get(0)?, row.get(1)?))).collect()
}

/// Adds tags; a tag of the same key in whatever case is replaced.
///
/// # Errors
/// As [`check`]; [`Error::LimitExceeded`] when there would be too many.
pub fn put(tx: &mut Tx<'_>, account: &AccountId, resource_id: &str, tags: &Tags) -> Result<()> {
    check(tags)?;
    for (key, value) in tags {
        tx.execute(
            "INSERT INTO iam_tags (account_id, resource_id, tag_key_folded, tag_key, tag_value) \
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT (account_id, resource_id, tag_key_folded) \
             DO UPDATE SET tag_key = excluded.tag_key, tag_value = excluded.tag_value",
            params![account, resource_id, key.to_lowercase(), key, value],
        )?;
    }
    if of(tx, account, resource_id)?.len() > TAGS_MAX {
        return Err(too_many());
    }
    Ok(())
}

/// Removes tags; keys that are not there do not matter.
///
/// # Errors
/// As the database answers.
pub fn remove(
    tx: &mut Tx<'_>,
    account: &AccountId,
    resource_id: &str,
    keys: &[String],
) -> Result<()> {
    for key in keys {
        tx.execute(
            "DELETE FROM iam_tags \
             WHERE account_id = $1 AND resource_id = $2 AND tag_key_folded = $3",
            params![account, resource_id, key.to_lowercase()],
        )?;
    }
    Ok(())
}

pub(crate) fn delete_all(tx: &mut Tx<'_>, account: &AccountId, resource_id: &str) -> Result<()> {
    tx.execute(
        "DELETE FROM iam_tags WHERE account_id = $1 AND resource_id = $2",
        params![account, resource_id],
    )?;
    Ok(())
}
