//! Copying pages of the base into the volume.

use super::Error;
use super::engine::Engine;
use super::layout::ABSENT;
use crate::page::{PAGE_BYTES, PAGES_PER_BLOCK};

impl Engine {
    /// Copies one block's pages from the base, so that the base is not needed for it any more.
    /// They do not count as changes. Returns how many pages were copied.
    ///
    /// # Errors
    /// When key or base is absent, the base cannot be read, there is no space, or the disk fails.
    pub fn hydrate(&mut self, block: u64) -> Result<u32, Error> {
        match (&self.base, self.committed.base) {
            (_, None) => return Ok(0),
            (None, Some(_)) => return Err(Error::BaseAbsent),
            (Some(_), Some(_)) => {}
        }
        let first = block * PAGES_PER_BLOCK as u64;
        let end = (self.size() / PAGE_BYTES as u64).min(first + PAGES_PER_BLOCK as u64);
        self.admit(end.saturating_sub(first))?;
        let mut copied = 0;
        for lba in first..end {
            if self.entry(lba)?.location != ABSENT {
                continue;
            }
            let mut page = [0; PAGE_BYTES];
            if self.read_base(lba, &mut page)? {
                self.mutate(|engine| engine.append(lba, Some(0), &page))?;
                copied += 1;
            }
        }
        Ok(copied)
    }
}
