//! Names, paths, unique ids, and pages of lists (IAM guide, "IAM identifiers" and "IAM quotas").

use crate::error::{Error, Result};
use base::Rng;

/// The alphabet of unique ids and access key ids (RFC 4648 base 32).
pub(crate) const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// A unique id: a prefix of four letters and `length` random letters and digits.
pub(crate) fn unique_id(rng: &dyn Rng, prefix: &str, length: usize) -> String {
    let mut bytes = vec![0; length];
    rng.fill(&mut bytes);
    let tail: String = bytes.iter().map(|b| char::from(ALPHABET[usize::from(b & 31)])).collect();
    format!("{prefix}{tail}")
}

/// Letters of a unique id behind its prefix.
pub(crate) const UNIQUE_ID_TAIL: usize = 17;
/// Longest id of a deletion task (IAM API, `DeletionTaskId`).
pub(crate) const TASK_ID_MAX: usize = 1000;
/// Letters of an access key id behind its prefix.
pub(crate) const ACCESS_KEY_TAIL: usize = 16;

/// Checks a name: letters, digits and `+=,.@_-`, at most `length_max` of them.
///
/// # Errors
/// [`Error::Validation`] with the parameter's name.
pub(crate) fn check_name(parameter: &str, name: &str, length_max: usize) -> Result<()> {
    let legal = |c: char| c.is_ascii_alphanumeric() || "+=,.@_-".contains(c);
    if name.is_empty() || !name.chars().all(legal) {
        return Err(Error::validation(format!(
            "The specified value for {parameter} is invalid. It must contain only alphanumeric \
             characters and/or the following: +=,.@_-"
        )));
    }
    check_length(parameter, name, length_max)
}

/// Checks the length of a parameter.
///
/// # Errors
/// [`Error::Validation`] with the parameter's name.
pub(crate) fn check_length(parameter: &str, value: &str, length_max: usize) -> Result<()> {
    if value.chars().count() <= length_max {
        return Ok(());
    }
    Err(Error::validation(format!(
        "1 validation error detected: Value '{value}' at '{parameter}' failed to satisfy constraint: \
         Member must have length less than or equal to {length_max}"
    )))
}

/// Checks a path: begins and ends with a slash, printable ASCII between.
///
/// # Errors
/// [`Error::Validation`].
pub(crate) fn check_path(path: &str) -> Result<()> {
    let legal = path.chars().all(|c| ('!'..='\u{7e}').contains(&c));
    if path.starts_with('/') && path.ends_with('/') && legal && path.len() <= 512 {
        return Ok(());
    }
    Err(Error::validation(
        "The specified value for path is invalid. It must begin and end with / and contain only \
         alphanumeric characters and/or / characters.",
    ))
}

/// Which part of a list is asked for.
#[derive(Clone, Debug)]
pub struct Page {
    /// Where the previous part ended: [`Listed::next`].
    pub after: Option<String>,
    /// How many items at most, at least one.
    pub limit: usize,
}

impl Page {
    /// Everything, for use inside the server.
    pub fn all() -> Self {
        Self { after: None, limit: meta::ROWS_MAX - 1 }
    }

    /// How many rows to read: one more than asked for, to know whether there are more.
    pub(crate) fn rows(&self) -> i64 {
        i64::try_from(self.limit.clamp(1, meta::ROWS_MAX - 1) + 1).expect("a limit is small")
    }

    pub(crate) fn after(&self) -> &str {
        self.after.as_deref().unwrap_or("")
    }

    /// Cuts what was read to what was asked for; `key` is what the rows are ordered by.
    pub(crate) fn cut<T>(&self, mut items: Vec<T>, key: impl Fn(&T) -> String) -> Listed<T> {
        let limit = self.limit.clamp(1, meta::ROWS_MAX - 1);
        if items.len() <= limit {
            return Listed { items, next: None };
        }
        items.truncate(limit);
        let next = items.last().map(key);
        Listed { items, next }
    }
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed<T> {
    /// The items.
    pub items: Vec<T>,
    /// Where to continue; `None` at the end.
    pub next: Option<String>,
}

/// The first text behind all texts that begin with `prefix`, for ranges of a key.
pub(crate) fn end_of_prefix(prefix: &str) -> String {
    // Paths are ASCII below 0x7f, so a letter above all of them ends the range.
    format!("{prefix}\u{7f}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::SeededRng;

    #[test]
    fn ids_have_their_prefix_and_length() {
        let id = unique_id(&SeededRng::new(1), "AIDA", UNIQUE_ID_TAIL);
        assert_eq!(id.len(), 21);
        assert!(id.starts_with("AIDA") && id.bytes().all(|b| ALPHABET.contains(&b)));
    }

    #[test]
    fn names_and_paths() {
        for good in ["bob", "a+=,.@_-Z9"] {
            check_name("userName", good, 64).unwrap();
        }
        for bad in ["", "a b", "a/b", "é", &"x".repeat(65)] {
            assert!(check_name("userName", bad, 64).is_err(), "{bad}");
        }
        for good in ["/", "/a/", "/a/b!c/"] {
            check_path(good).unwrap();
        }
        for bad in ["", "a", "/a", "a/", "/a b/", "/é/"] {
            assert!(check_path(bad).is_err(), "{bad}");
        }
    }
}
