//! Reading ahead for whoever reads a file page by page: recovery, the cleaner, exports. The page
//! cache would do that, but direct I/O goes past it.

use super::AlignedBuffer;
use crate::page::PAGE_BYTES;
use std::io;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes read at once when reads follow one another.
const AHEAD_BYTES: usize = 256 << 10;

/// The bytes that were read ahead, and where the next read is expected.
#[derive(Default)]
pub(super) struct ReadAhead(Mutex<State>);

/// Whether what was read may answer later reads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    Yes,
    /// Writes to it were under way before it was read.
    No,
}

#[derive(Default)]
struct State {
    held: Option<(u64, AlignedBuffer)>,
    /// The end of the last read.
    last: u64,
    /// Where more than a page could not be read at once: pages are read by themselves.
    refused: Range<u64>,
    /// Grows with everything that may change the file.
    changes: u64,
}

impl ReadAhead {
    /// Fills a page from what is held, or reads more than that if reads follow one another. `false`
    /// when the page must be read by itself, also when what lies behind it cannot be read.
    pub(super) fn read(
        &self,
        offset: u64,
        target: &mut [u8],
        read: impl FnOnce(&mut AlignedBuffer) -> io::Result<Keep>,
    ) -> bool {
        let mut state = self.state();
        let end = offset + target.len() as u64;
        let near = (state.last..state.last + AHEAD_BYTES as u64).contains(&offset);
        state.last = end;
        if let Some((start, bytes)) = &state.held
            && *start <= offset
            && end <= start + bytes.len() as u64
        {
            target.copy_from_slice(&bytes[(offset - start) as usize..][..target.len()]);
            return true;
        }
        let is_page = target.len() == PAGE_BYTES && offset.is_multiple_of(PAGE_BYTES as u64);
        if !near || !is_page || state.refused.contains(&offset) {
            return false;
        }
        let buffer = state.held.take().map(|(_, buffer)| buffer);
        let changes = state.changes;
        drop(state);
        let mut buffer = buffer.unwrap_or_else(|| AlignedBuffer::zeroed(AHEAD_BYTES));
        let Ok(keep) = read(&mut buffer) else {
            self.state().refused = offset..offset + AHEAD_BYTES as u64;
            return false;
        };
        target.copy_from_slice(&buffer[..target.len()]);
        let mut state = self.state();
        // What was written meanwhile may or may not be in what was read.
        if state.changes == changes && keep == Keep::Yes {
            state.held = Some((offset, buffer));
        }
        true
    }

    /// Forgets a range that was changed, or whose change was accepted.
    pub(super) fn forget(&self, range: &Range<u64>) {
        let mut state = self.state();
        state.changes += 1;
        let touched = state.held.as_ref().is_some_and(|(start, bytes)| {
            *start < range.end && range.start < start + bytes.len() as u64
        });
        if touched {
            state.held = None;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn pages_that_follow_one_another_take_few_reads_and_changes_are_seen() {
        let ahead = ReadAhead::default();
        let (reads, stamp) = (Cell::new(0), Cell::new(1));
        let read = |page: u64| {
            let mut target = [0; PAGE_BYTES];
            let filled = ahead.read(page * PAGE_BYTES as u64, &mut target, |buffer| {
                reads.set(reads.get() + 1);
                buffer.fill(stamp.get());
                Ok(Keep::Yes)
            });
            filled.then_some(target[0])
        };
        // Far from the last read, which was at the beginning.
        assert_eq!(read(1000), None);
        for page in 1001..1065 {
            assert_eq!(read(page), Some(1));
        }
        assert_eq!(reads.get(), 1);
        // A page left out is as good as none.
        assert_eq!(read(1066), Some(1));
        assert_eq!(reads.get(), 2);
        stamp.set(2);
        ahead.forget(&(0..PAGE_BYTES as u64));
        assert_eq!(read(1067), Some(1));
        ahead.forget(&(1068 * PAGE_BYTES as u64..1069 * PAGE_BYTES as u64));
        assert_eq!(read(1068), Some(2));
        assert_eq!(read(50), None);
    }

    /// Each page is read by itself, and reading ahead is tried once for all of them.
    #[test]
    fn a_page_is_not_refused_for_what_lies_behind_it() {
        let ahead = ReadAhead::default();
        let mut target = [0; PAGE_BYTES];
        let pages = (AHEAD_BYTES / PAGE_BYTES) as u64;
        let mut reads = 0;
        for page in 0..2 * pages {
            let filled = ahead.read(page * PAGE_BYTES as u64, &mut target, |_| {
                reads += 1;
                if page < pages { Err(io::ErrorKind::Other.into()) } else { Ok(Keep::Yes) }
            });
            assert_eq!(filled, page >= pages);
        }
        assert_eq!(reads, 2);
    }

    #[test]
    fn what_was_read_while_something_changed_is_not_kept() {
        let ahead = ReadAhead::default();
        let mut target = [0; PAGE_BYTES];
        let mut reads = 0;
        for page in 0..3u64 {
            let filled = ahead.read(page * PAGE_BYTES as u64, &mut target, |_| {
                reads += 1;
                ahead.forget(&(1 << 30..1 << 31));
                Ok(Keep::Yes)
            });
            assert!(filled);
        }
        assert_eq!(reads, 3);
    }
}
