//! Tags of keys.

use crate::error::{Error, Result};
use crate::key::Key;
use meta::{Tx, params};
use std::collections::{BTreeMap, BTreeSet};

/// Tags per key.
pub const TAGS_MAX: usize = 50;
/// Longest tag key, in characters.
pub const TAG_KEY_CHARS_MAX: usize = 128;
/// Longest tag value, in characters.
pub const TAG_VALUE_CHARS_MAX: usize = 256;

/// One tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    /// `TagKey`.
    pub key: String,
    /// `TagValue`.
    pub value: String,
}

/// Adds or replaces tags.
///
/// # Errors
/// [`Error::Tag`] for a bad tag, [`Error::LimitExceeded`] for too many.
pub fn set(tx: &mut Tx<'_>, key: &Key, tags: &[Tag]) -> Result<()> {
    check(tags)?;
    let mut names: BTreeSet<String> = all(tx, key)?.into_keys().collect();
    names.extend(tags.iter().map(|tag| tag.key.clone()));
    if names.len() > TAGS_MAX {
        return Err(Error::LimitExceeded { message: "Too many tags".to_owned() });
    }
    for Tag { key: name, value } in tags {
        tx.execute(
            "INSERT INTO kms_tags (account_id, region, key_id, tag_key, tag_value) \
             VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (account_id, region, key_id, tag_key) DO UPDATE SET tag_value = $5",
            params![&key.account, &key.region, &key.id, name, value],
        )?;
    }
    Ok(())
}

/// Removes tags; names that are not there are no error.
///
/// # Errors
/// [`Error::Tag`] for a reserved name.
pub fn remove(tx: &mut Tx<'_>, key: &Key, names: &[String]) -> Result<()> {
    for name in names {
        check_key(name)?;
        tx.execute(
            "DELETE FROM kms_tags \
             WHERE account_id = $1 AND region = $2 AND key_id = $3 AND tag_key = $4",
            params![&key.account, &key.region, &key.id, name],
        )?;
    }
    Ok(())
}

/// Every tag, by name.
///
/// # Errors
/// As the database answers.
pub fn all(tx: &mut Tx<'_>, key: &Key) -> Result<BTreeMap<String, String>> {
    let rows = tx.query(
        "SELECT tag_key, tag_value FROM kms_tags \
         WHERE account_id = $1 AND region = $2 AND key_id = $3",
        params![&key.account, &key.region, &key.id],
    )?;
    Ok(rows.iter().map(|row| Ok((row.get(0)?, row.get(1)?))).collect::<meta::Result<_>>()?)
}

/// Whether these tags could be set on a key.
///
/// # Errors
/// [`Error::Tag`].
pub fn check(tags: &[Tag]) -> Result<()> {
    let mut names = BTreeSet::new();
    for Tag { key, value } in tags {
        check_key(key)?;
        if value.chars().count() > TAG_VALUE_CHARS_MAX || !value.chars().all(is_legal) {
            return bad(format!("The tag value of {key} is invalid"));
        }
        if !names.insert(key) {
            return bad("Duplicate tag keys".to_owned());
        }
    }
    if tags.len() > TAGS_MAX {
        return bad("Too many tags".to_owned());
    }
    Ok(())
}

fn check_key(key: &str) -> Result<()> {
    if key.to_ascii_lowercase().starts_with("aws:") {
        return bad("aws: prefixed tag key names are not allowed for external use.".to_owned());
    }
    if !(1..=TAG_KEY_CHARS_MAX).contains(&key.chars().count()) || !key.chars().all(is_legal) {
        return bad(format!("The tag key '{key}' is invalid"));
    }
    Ok(())
}

fn bad(message: String) -> Result<()> {
    Err(Error::Tag { message })
}

/// Letters, digits, white space and `+ - = . _ : / @` (KMS guide, "Tagging keys").
fn is_legal(c: char) -> bool {
    c.is_alphanumeric() || c == ' ' || "+-=._:/@".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(pairs: &[(&str, &str)]) -> Vec<Tag> {
        pairs.iter().map(|(k, v)| Tag { key: (*k).to_owned(), value: (*v).to_owned() }).collect()
    }

    #[test]
    fn legal_and_illegal_tags() {
        assert!(check(&tags(&[("a", ""), ("Kosten-Stelle", "Zürich + 1")])).is_ok());
        for bad in [
            tags(&[("", "x")]),
            tags(&[("aws:x", "x")]),
            tags(&[("AWS:x", "x")]),
            tags(&[("a", "1"), ("a", "2")]),
            tags(&[("a", "<")]),
            tags(&[(&"k".repeat(129), "")]),
            tags(&[("k", &"v".repeat(257))]),
        ] {
            assert!(matches!(check(&bad), Err(Error::Tag { .. })), "{bad:?}");
        }
    }
}
