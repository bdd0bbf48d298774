//! Runs: the changes of checkpoints, stored as they are instead of in the leaves they belong to.
//!
//! Pages of runs lie among the pages of the map. Each holds the place and the tag of the one written
//! before it, and the superblock those of the newest, so all of them are proved by the superblock.

use super::codec::{get, get_u16, get_u32, get_u64, put};
use super::delta::Entry;
use super::layout::{ABSENT, Location, ZERO};
use super::map::{ENTRY_BYTES, decode_entry, encode_entry};
use crate::page::{Lba, PAGE_BYTES, PAGES_PER_BLOCK, Page, Tag};

/// Where the changes begin in a page.
const CHANGES_AT: usize = 32;
/// Bytes of one: a page number with the kind, and what a leaf would have.
const CHANGE_BYTES: usize = 8 + ENTRY_BYTES;
/// Changes in one page.
pub(super) const CHANGES_MAX: usize = (PAGE_BYTES - CHANGES_AT) / CHANGE_BYTES;
/// Pages of all runs of a volume, at most.
pub(super) const RUN_PAGES_MAX: u32 = 1 << 16;
const KIND_SHIFT: u32 = 56;
const KIND_PAGE: u64 = 1;
const KIND_BLOCK: u64 = 2;

/// The newest page of the runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RunRef {
    /// Where it lies; [`ABSENT`] when there is none.
    pub(super) location: Location,
    /// What proves it.
    pub(super) tag: Tag,
    /// How many pages there are, with it.
    pub(super) pages: u32,
}

impl RunRef {
    pub(super) const NONE: Self = Self { location: ABSENT, tag: Tag([0; 16]), pages: 0 };
    pub(super) const BYTES: usize = 28;

    pub(super) fn encode(&self, bytes: &mut [u8], at: usize) {
        put(bytes, at, &self.location.to_le_bytes());
        put(bytes, at + 8, &self.tag.0);
        put(bytes, at + 24, &self.pages.to_le_bytes());
    }

    /// `None` when it cannot be one.
    pub(super) fn decode(bytes: &[u8], at: usize) -> Option<Self> {
        let found = Self {
            location: get_u64(bytes, at),
            tag: Tag(get(bytes, at + 8)),
            pages: get_u32(bytes, at + 24),
        };
        let sane = if found.pages == 0 {
            found == Self::NONE
        } else {
            found.location > ZERO && found.pages <= RUN_PAGES_MAX
        };
        sane.then_some(found)
    }
}

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// One page.
    Page { lba: Lba, entry: Entry },
    /// Every page of a block that has no change of its own in the same run.
    Block { block: u64, entry: Entry },
}

impl Change {
    fn encode(&self, bytes: &mut [u8]) {
        let (kind, number, entry) = match self {
            Self::Page { lba, entry } => (KIND_PAGE, *lba, entry),
            Self::Block { block, entry } => (KIND_BLOCK, block * PAGES_PER_BLOCK as u64, entry),
        };
        put(bytes, 0, &(number | kind << KIND_SHIFT).to_le_bytes());
        encode_entry(bytes, 8, entry);
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let word = get_u64(bytes, 0);
        let (kind, lba) = (word >> KIND_SHIFT, word & ((1 << KIND_SHIFT) - 1));
        let entry = decode_entry(bytes, 8);
        if entry.location == ABSENT {
            return None;
        }
        match kind {
            KIND_PAGE => Some(Self::Page { lba, entry }),
            KIND_BLOCK if lba.is_multiple_of(PAGES_PER_BLOCK as u64) && !entry.is_stored() => {
                Some(Self::Block { block: lba / PAGES_PER_BLOCK as u64, entry })
            }
            _ => None,
        }
    }
}

/// A page of a run, opened.
pub(super) struct RunPage {
    /// The page before it.
    pub(super) before: RunRef,
    /// In the order of their addresses.
    pub(super) changes: Vec<Change>,
}

impl RunPage {
    pub(super) fn after(before: RunRef) -> Self {
        Self { before, changes: Vec::new() }
    }

    /// Its number, counted from the oldest page of all runs.
    pub(super) fn ordinal(&self) -> u64 {
        u64::from(self.before.pages)
    }

    pub(super) fn is_full(&self) -> bool {
        self.changes.len() == CHANGES_MAX
    }

    pub(super) fn encode(&self) -> Page {
        let mut page = [0; PAGE_BYTES];
        put(&mut page, 0, &self.before.location.to_le_bytes());
        put(&mut page, 8, &self.before.tag.0);
        put(&mut page, 24, &(self.changes.len() as u16).to_le_bytes());
        let places = page[CHANGES_AT..].chunks_exact_mut(CHANGE_BYTES);
        for (change, bytes) in self.changes.iter().zip(places) {
            change.encode(bytes);
        }
        page
    }

    /// The page of that number; `None` when it is not one.
    pub(super) fn decode(page: &Page, ordinal: u32) -> Option<Self> {
        let before = RunRef { location: get_u64(page, 0), tag: Tag(get(page, 8)), pages: ordinal };
        let sane = if ordinal == 0 { before == RunRef::NONE } else { before.location > ZERO };
        let count = usize::from(get_u16(page, 24));
        if !sane || count > CHANGES_MAX {
            return None;
        }
        let places = page[CHANGES_AT..].chunks_exact(CHANGE_BYTES).take(count);
        Some(Self { before, changes: places.map(Change::decode).collect::<Option<_>>()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> RunPage {
        let before = RunRef { location: 77, tag: Tag([6; 16]), pages: 4 };
        let entry = Entry { location: 1234, tag: Tag([5; 16]), birth: 3, written: 4 };
        let changes = vec![
            Change::Block { block: 9, entry: Entry::zero(4) },
            Change::Page { lba: 9 * 128 + 5, entry },
            Change::Page { lba: 70_000, entry: Entry::zero(3) },
        ];
        RunPage { before, changes }
    }

    #[test]
    fn a_page_is_read_as_it_was_written() {
        let page = sample().encode();
        let found = RunPage::decode(&page, 4).unwrap();
        assert_eq!((found.before, found.changes), (sample().before, sample().changes));
        assert!(RunPage::decode(&page, 0).is_none(), "the oldest page has none before it");
        let mut full = RunPage::after(RunRef::NONE);
        while !full.is_full() {
            full.changes.push(Change::Page { lba: 1, entry: Entry::zero(1) });
        }
        assert_eq!(full.changes.len(), 112);
        assert_eq!(RunPage::decode(&full.encode(), 0).unwrap().changes, full.changes);
    }

    #[test]
    fn what_cannot_have_been_written_is_refused() {
        let broken = |at: usize, byte: u8| {
            let mut page = sample().encode();
            page[at] = byte;
            RunPage::decode(&page, 4)
        };
        assert!(broken(24, 113).is_none(), "more changes than there is room for");
        assert!(broken(CHANGES_AT + 7, 3).is_none(), "an unknown kind");
        assert!(broken(CHANGES_AT, 1).is_none(), "a block that begins at no block");
        assert!(broken(CHANGES_AT + 8, 0).is_none(), "a change to nothing");
        assert!(broken(CHANGES_AT + 8, 9).is_none(), "a whole block at one place");
        assert!(broken(0, 0).is_none(), "no page before the fifth");
    }

    /// The bytes of format.md, field by field.
    #[test]
    fn a_page_is_frozen() {
        let page = sample().encode();
        let mut expected = [0; PAGE_BYTES];
        expected[0] = 77;
        expected[8..24].fill(6);
        expected[24] = 3;
        expected[32..40].copy_from_slice(&[0x80, 0x04, 0, 0, 0, 0, 0, 2]);
        expected[40..48].copy_from_slice(&(1 | 4u64 << 38).to_le_bytes());
        expected[48] = 4;
        expected[68..76].copy_from_slice(&[0x85, 0x04, 0, 0, 0, 0, 0, 1]);
        expected[76..84].copy_from_slice(&(1234 | 4u64 << 38).to_le_bytes());
        expected[84] = 3;
        expected[88..104].fill(5);
        expected[104..112].copy_from_slice(&[0x70, 0x11, 0x01, 0, 0, 0, 0, 1]);
        expected[112..120].copy_from_slice(&(1 | 3u64 << 38).to_le_bytes());
        expected[120] = 3;
        assert_eq!(page[..], expected[..]);
    }
}
