//! Markers: where the next page of a list begins. Opaque to clients, bound to the list they were made for.

use crate::error::{Error, Result};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// A list that is read in pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List {
    /// ListKeys, by key id.
    Keys,
    /// ListAliases, by name.
    Aliases,
    /// ListGrants, by grant id.
    Grants,
    /// ListRetirableGrants, by grant id.
    RetirableGrants,
    /// DescribeCustomKeyStores, by name.
    KeyStores,
    /// ListResourceTags, by tag key.
    Tags,
    /// ListKeyRotations, by number of the version.
    Rotations,
}

impl List {
    fn mark(self) -> &'static str {
        match self {
            Self::Keys => "k1:",
            Self::Aliases => "a1:",
            Self::Grants => "g1:",
            Self::RetirableGrants => "r1:",
            Self::KeyStores => "s1:",
            Self::Tags => "t1:",
            Self::Rotations => "o1:",
        }
    }

    /// The marker behind the entry last shown.
    pub fn marker(self, last: &str) -> String {
        URL_SAFE_NO_PAD.encode(format!("{}{last}", self.mark()))
    }

    /// The entry to continue behind; the beginning without a marker.
    ///
    /// # Errors
    /// [`Error::InvalidMarker`] when the marker was not made for this list.
    pub fn after(self, marker: Option<&str>) -> Result<String> {
        let Some(marker) = marker else { return Ok(String::new()) };
        let bytes = URL_SAFE_NO_PAD.decode(marker).map_err(|_| Error::InvalidMarker)?;
        let text = String::from_utf8(bytes).map_err(|_| Error::InvalidMarker)?;
        match text.strip_prefix(self.mark()) {
            Some(last) if !last.contains('\0') => Ok(last.to_owned()),
            _ => Err(Error::InvalidMarker),
        }
    }
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The entries.
    pub items: Vec<T>,
    /// Where the next page begins; `None` on the last one.
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// Cuts a page from up to one entry more than `limit`.
    pub fn cut(mut items: Vec<T>, limit: u32, list: List, name: impl Fn(&T) -> &str) -> Self {
        let limit = limit as usize;
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| more).map(|last| list.marker(name(last)));
        Self { items, next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_belong_to_their_list() {
        let marker = List::Keys.marker("abc");
        assert_eq!(List::Keys.after(Some(&marker)).unwrap(), "abc");
        assert!(matches!(List::Aliases.after(Some(&marker)), Err(Error::InvalidMarker)));
        assert!(matches!(List::Keys.after(Some("%")), Err(Error::InvalidMarker)));
        assert_eq!(List::Keys.after(None).unwrap(), "");
    }

    #[test]
    fn pages_end_where_the_list_ends() {
        let cut = |n: usize| {
            let items = (0..n).map(|i| i.to_string()).collect();
            Page::<String>::cut(items, 2, List::Keys, |item| item)
        };
        assert_eq!(cut(2).next, None);
        assert_eq!(cut(3).items, ["0", "1"]);
        assert_eq!(List::Keys.after(cut(3).next.as_deref()).unwrap(), "1");
        assert_eq!(cut(0).next, None);
    }
}
