//! Which names objects may have.

use crate::{Error, NAME_BYTES_MAX};

/// Accepts names of one or more components joined by `/`, each of lowercase letters, digits, `-`,
/// `_` and `.`, not beginning with a dot. Every store can hold such a name unescaped, and none of
/// them leaves the store's directory.
///
/// # Errors
/// [`Error::InvalidName`].
pub fn check_name(name: &str) -> Result<(), Error> {
    let component_valid = |component: &str| {
        !component.is_empty()
            && !component.starts_with('.')
            && component
                .bytes()
                .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.'))
    };
    if name.len() <= NAME_BYTES_MAX && name.split('/').all(component_valid) {
        Ok(())
    } else {
        Err(Error::InvalidName { name: name.to_owned() })
    }
}

/// As [`check_name`], for directories: the empty one is the whole store.
pub(crate) fn check_prefix(prefix: &str) -> Result<(), Error> {
    if prefix.is_empty() { Ok(()) } else { check_name(prefix) }
}

/// Whether `name` lies below the directory `prefix`.
pub(crate) fn is_below(name: &str, prefix: &str) -> bool {
    prefix.is_empty() || name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_the_store() {
        for good in ["a", "packs/00/ab-c_d.1", &"x".repeat(NAME_BYTES_MAX)] {
            check_name(good).unwrap();
        }
        for bad in [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            "..",
            "a/../b",
            ".a",
            "A",
            "a b",
            "a#1",
            "é",
            &"x".repeat(NAME_BYTES_MAX + 1),
        ] {
            assert!(matches!(check_name(bad), Err(Error::InvalidName { .. })), "{bad}");
        }
    }

    #[test]
    fn a_prefix_is_whole_components() {
        assert!(is_below("ab/c", "ab"));
        assert!(is_below("ab/c", ""));
        assert!(!is_below("abc/d", "ab"));
        assert!(!is_below("ab", "ab"));
    }
}
