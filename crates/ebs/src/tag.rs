//! Tags of volumes, snapshots and instances, and the rules a tag has to keep.

use crate::among;
use crate::error::Result;
use base::{AccountId, Region};
use meta::{Tx, params};
use std::collections::BTreeMap;
use std::fmt::Display;

/// Tags on one resource.
pub const TAGS_MAX: usize = 50;
const KEY_CHARS_MAX: usize = 127;
const VALUE_CHARS_MAX: usize = 255;

/// A key and its value.
pub type Tag = (String, String);

/// Why tags are refused. The text is what the caller reads.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TagError {
    /// An empty key.
    #[error("Tag keys cannot be empty.")]
    EmptyKey,
    /// The reserved prefix, in any case.
    #[error("Tag keys starting with 'aws:' are reserved for internal use")]
    Reserved,
    /// A key that is too long.
    #[error("Tag key exceeds the maximum length of {KEY_CHARS_MAX} characters")]
    LongKey,
    /// A value that is too long.
    #[error("Tag value exceeds the maximum length of {VALUE_CHARS_MAX} characters")]
    LongValue,
    /// A character the database and XML cannot carry.
    #[error("Tag keys and values cannot contain control characters")]
    Control,
    /// One key twice in one request.
    #[error("Duplicate tag key '{key}' specified.")]
    Duplicate {
        /// The key.
        key: String,
    },
    /// More than [`TAGS_MAX`].
    #[error("The maximum number of Tags for a resource has been reached.")]
    TooMany,
}

impl TagError {
    /// The error code the caller may branch on.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooMany => "TagLimitExceeded",
            Self::EmptyKey
            | Self::Reserved
            | Self::LongKey
            | Self::LongValue
            | Self::Control
            | Self::Duplicate { .. } => "InvalidParameterValue",
        }
    }
}

/// Checks the tags of a request by themselves; how many the resource already has is
/// [`set`]'s question.
///
/// # Errors
/// The first rule a tag breaks.
pub fn check_tags(tags: &[Tag]) -> Result<(), TagError> {
    for (index, (key, value)) in tags.iter().enumerate() {
        check_key(key)?;
        if value.chars().count() > VALUE_CHARS_MAX {
            return Err(TagError::LongValue);
        }
        if value.chars().any(char::is_control) {
            return Err(TagError::Control);
        }
        if tags[..index].iter().any(|(other, _)| other == key) {
            return Err(TagError::Duplicate { key: key.clone() });
        }
    }
    if tags.len() > TAGS_MAX { Err(TagError::TooMany) } else { Ok(()) }
}

/// Checks one key: of a tag to set, or to delete.
///
/// # Errors
/// The first rule the key breaks.
pub fn check_key(key: &str) -> Result<(), TagError> {
    if key.is_empty() {
        return Err(TagError::EmptyKey);
    }
    if key.as_bytes().get(..4).is_some_and(|prefix| prefix.eq_ignore_ascii_case(b"aws:")) {
        return Err(TagError::Reserved);
    }
    if key.chars().count() > KEY_CHARS_MAX {
        return Err(TagError::LongKey);
    }
    if key.chars().any(char::is_control) { Err(TagError::Control) } else { Ok(()) }
}

/// The tags of a resource as its owner sees them, by key.
///
/// # Errors
/// When the database fails.
pub fn of_resource(
    tx: &mut Tx<'_>,
    account: &AccountId,
    region: &Region,
    resource: &str,
) -> Result<Vec<Tag>> {
    let rows = tx.query(
        "SELECT tag_key, tag_value FROM ebs_tags WHERE account_id = $1 AND region = $2 \
         AND resource_id = $3 ORDER BY tag_key",
        params![account, region, resource],
    )?;
    rows.iter().map(|row| Ok((row.get(0)?, row.get(1)?))).collect()
}

/// The tags of some resources of one kind, by resource.
///
/// # Errors
/// When the database fails.
pub fn among<I: Ord + Display>(
    tx: &mut Tx<'_>,
    account: &AccountId,
    region: &Region,
    resources: &[I],
) -> Result<BTreeMap<String, Vec<Tag>>> {
    let sql = "SELECT resource_id, tag_key, tag_value FROM ebs_tags WHERE account_id = $1 \
               AND region = $2 AND resource_id IN ({ids}) ORDER BY tag_key";
    let mut tags: BTreeMap<String, Vec<Tag>> = BTreeMap::new();
    for row in among::query(tx, sql, params![account, region], resources)? {
        tags.entry(row.get(0)?).or_default().push((row.get(1)?, row.get(2)?));
    }
    Ok(tags)
}

/// Every tag of the account in the region: resource, key, value; by resource, then key.
///
/// # Errors
/// When the database fails.
pub fn list(
    tx: &mut Tx<'_>,
    account: &AccountId,
    region: &Region,
) -> Result<Vec<(String, String, String)>> {
    let rows = tx.query(
        "SELECT resource_id, tag_key, tag_value FROM ebs_tags WHERE account_id = $1 \
         AND region = $2 ORDER BY resource_id, tag_key",
        params![account, region],
    )?;
    rows.iter().map(|row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).collect()
}

/// The tags of every resource of the account in the region, by resource.
///
/// # Errors
/// When the database fails.
pub fn by_resource(
    tx: &mut Tx<'_>,
    account: &AccountId,
    region: &Region,
) -> Result<BTreeMap<String, Vec<Tag>>> {
    let mut tags: BTreeMap<String, Vec<Tag>> = BTreeMap::new();
    for (resource, key, value) in list(tx, account, region)? {
        tags.entry(resource).or_default().push((key, value));
    }
    Ok(tags)
}

/// Sets checked tags on a resource, replacing the values of keys it has. The inner answer says
/// whether the resource would carry too many; then nothing was written.
///
/// # Errors
/// When the database fails.
pub fn set(
    tx: &mut Tx<'_>,
    account: &AccountId,
    region: &Region,
    resource: &str,
    tags: &[Tag],
) -> Result<Result<(), TagError>> {
    let present = of_resource(tx, account, region, resource)?;
    let is_new = |key: &str| !present.iter().any(|(other, _)| other == key);
    let added = tags.iter().filter(|(key, _)| is_new(key)).count();
    if present.len() + added > TAGS_MAX {
        return Ok(Err(TagError::TooMany));
    }
    for (key, value) in tags {
        tx.execute(
            "INSERT INTO ebs_tags (account_id, region, resource_id, tag_key, tag_value) \
             VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (account_id, region, resource_id, tag_key) \
             DO UPDATE SET tag_value = $5",
            params![account, region, resource, key, value],
        )?;
    }
    Ok(Ok(()))
}

/// Which tags of a resource to remove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagRemoval {
    /// The key.
    pub key: String,
    /// Only if it has this value; any value when absent.
    pub value: Option<String>,
}

/// Removes tags from a resource; those it does not have are no error.
///
/// # Errors
/// When the database fails.
pub fn remove(
    tx: &mut Tx<'_>,
    account: &AccountId,
    region: &Region,
    resource: &str,
    removals: &[TagRemoval],
) -> Result<()> {
    const ANY: &str = "DELETE FROM ebs_tags WHERE account_id = $1 AND region = $2 \
        AND resource_id = $3 AND tag_key = $4";
    for TagRemoval { key, value } in removals {
        match value {
            Some(value) => tx.execute(
                &format!("{ANY} AND tag_value = $5"),
                params![account, region, resource, key, value],
            )?,
            None => tx.execute(ANY, params![account, region, resource, key])?,
        };
    }
    Ok(())
}

/// Removes all tags of a resource.
///
/// # Errors
/// When the database fails.
pub fn clear(tx: &mut Tx<'_>, account: &AccountId, region: &Region, resource: &str) -> Result<()> {
    tx.execute(
        "DELETE FROM ebs_tags WHERE account_id = $1 AND region = $2 AND resource_id = $3",
        params![account, region, resource],
    )?;
    Ok(())
}

/// Removes every tag of a resource that is gone.
pub(crate) fn remove_all(tx: &mut Tx<'_>, region: &Region, resource: &str) -> Result<()> {
    tx.execute(
        "DELETE FROM ebs_tags WHERE region = $1 AND resource_id = $2",
        params![region, resource],
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules() {
        let tag = |key: &str, value: &str| vec![(key.to_owned(), value.to_owned())];
        for (tags, expected) in [
            (tag("Name", "db"), Ok(())),
            (tag("Name", ""), Ok(())),
            (tag(&"é".repeat(127), &"日".repeat(255)), Ok(())),
            (tag("", "x"), Err(TagError::EmptyKey)),
            (tag("aws:x", "x"), Err(TagError::Reserved)),
            (tag("AWS:x", "x"), Err(TagError::Reserved)),
            (tag("awsx", "x"), Ok(())),
            (tag(&"k".repeat(128), "x"), Err(TagError::LongKey)),
            (tag("k", &"v".repeat(256)), Err(TagError::LongValue)),
            (tag("k", "a\0b"), Err(TagError::Control)),
            (
                [tag("k", "1"), tag("k", "2")].concat(),
                Err(TagError::Duplicate { key: "k".to_owned() }),
            ),
        ] {
            assert_eq!(check_tags(&tags), expected, "{tags:?}");
        }
        let many: Vec<Tag> = (0..51).map(|n| (format!("k{n}"), String::new())).collect();
        assert_eq!(check_tags(&many).unwrap_err().code(), "TagLimitExceeded");
        assert_eq!(check_tags(&many[..50]), Ok(()));
    }
}
