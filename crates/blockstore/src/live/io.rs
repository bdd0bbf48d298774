//! Reading and writing.

use super::Error;
use super::cache::NumberMap;
use super::delta::{BlockDelta, Entry, split};
use super::engine::Engine;
use super::layout::ABSENT;
use super::log::ChunkEnd;
use super::map::leaf_entry;
use crate::page::{BasePage, Lba, PAGE_BYTES, PAGES_PER_BLOCK, Page, SealedPage, is_zero};

/// Extents answered at once by [`Engine::block_status`].
const EXTENTS_MAX: usize = 1024;

/// Pages that are given up at once, 512 MiB: space is asked for to merge each of their blocks.
const ZEROED_PAGES_MAX: u64 = 128 << 10;

/// A run of bytes of one state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Its length.
    pub length: u64,
    /// What it holds.
    pub state: ExtentState,
}

/// What a run of bytes holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtentState {
    /// Bytes somebody stored.
    Data,
    /// Zeros that take no space.
    Zero,
}

impl Engine {
    /// Fills `target` with the bytes at `offset`.
    ///
    /// # Errors
    /// When anything that should be there cannot be read and authenticated; `target` then holds
    /// nothing of the volume.
    pub fn read(&mut self, offset: u64, target: &mut [u8]) -> Result<(), Error> {
        self.check_range(offset, target.len() as u64)?;
        let result = self.read_bytes(offset, target);
        if result.is_err() {
            target.fill(0);
        }
        result
    }

    /// Stores `source` at `offset`. Later reads see it; a later flush makes it durable.
    ///
    /// # Errors
    /// When the data key is absent, the range is outside the volume, or the disk fails.
    pub fn write(&mut self, offset: u64, source: &[u8]) -> Result<(), Error> {
        self.check_range(offset, source.len() as u64)?;
        self.check_writable()?;
        self.admit(source.len() as u64 / PAGE_BYTES as u64 + 2)?;
        let (head, pages, tail) = cut_up(offset, source.len());
        let (head, rest) = source.split_at(head);
        let (middle, tail) = (&rest[..pages * PAGE_BYTES], &rest[rest.len() - tail..]);
        if !head.is_empty() {
            self.patch(offset, head)?;
        }
        self.write_pages((offset + head.len() as u64) / PAGE_BYTES as u64, middle)?;
        if !tail.is_empty() {
            self.patch(offset + (source.len() - tail.len()) as u64, tail)?;
        }
        self.log.note_appended(&self.ctx);
        Ok(())
    }

    /// Makes everything written so far durable.
    ///
    /// # Errors
    /// When the disk fails; the volume accepts nothing more then.
    pub fn flush(&mut self) -> Result<(), Error> {
        self.mutate(Self::sync)
    }

    /// Makes a range read as zeros. Parts of pages are overwritten, whole pages give up their
    /// space.
    ///
    /// # Errors
    /// As [`Engine::write`]; the data key is needed only for parts of pages.
    pub fn write_zeroes(&mut self, offset: u64, length: u64) -> Result<(), Error> {
        self.check_range(offset, length)?;
        let end = offset + length;
        let first = offset.next_multiple_of(PAGE_BYTES as u64).min(end);
        let last = (end - end % PAGE_BYTES as u64).max(first);
        let zeros = [0; PAGE_BYTES];
        if offset < first || last < end {
            self.check_writable()?;
            self.admit(2)?;
        }
        if offset < first {
            self.patch(offset, &zeros[..(first - offset) as usize])?;
        }
        self.give_up(first / PAGE_BYTES as u64, last / PAGE_BYTES as u64)?;
        if last < end {
            self.patch(last, &zeros[..(end - last) as usize])?;
        }
        self.log.note_appended(&self.ctx);
        Ok(())
    }

    /// Gives up the content of the whole pages in a range; they read as zeros afterwards, also
    /// after a power cut once flushed.
    ///
    /// # Errors
    /// When the range is outside the volume, there is no space to merge this, or the disk fails.
    pub fn discard(&mut self, offset: u64, length: u64) -> Result<(), Error> {
        self.check_range(offset, length)?;
        let first = offset.div_ceil(PAGE_BYTES as u64);
        self.give_up(first, (offset + length) / PAGE_BYTES as u64)?;
        self.log.note_appended(&self.ctx);
        Ok(())
    }

    /// Zeros for pages, in parts of which each may be merged before the next.
    fn give_up(&mut self, first: Lba, end: Lba) -> Result<(), Error> {
        let mut lba = first;
        while lba < end {
            let pages = (end - lba).min(ZEROED_PAGES_MAX);
            self.admit_zeros(pages)?;
            self.zero_pages(lba, pages)?;
            lba += pages;
            // A request may be as long as the volume, and what it changes is in memory until it is merged.
            if self.active.bytes > self.ctx.config.delta_bytes_max {
                self.maintain()?;
            }
        }
        Ok(())
    }

    /// What the beginning of a range holds: at least one extent, possibly less than the range.
    ///
    /// # Errors
    /// When the range is outside the volume or the map cannot be read.
    pub fn block_status(&mut self, offset: u64, length: u64) -> Result<Vec<Extent>, Error> {
        self.check_range(offset, length)?;
        let mut extents: Vec<Extent> = Vec::new();
        let end = offset + length;
        let mut at = offset;
        let mut entries = [Entry::NOTHING; PAGES_PER_BLOCK];
        while at < end {
            let (block, page) = split(at / PAGE_BYTES as u64);
            self.resolve(block, page, &mut entries[page..])?;
            let mut of_base = None;
            for entry in &entries[page..] {
                let next = ((at / PAGE_BYTES as u64 + 1) * PAGE_BYTES as u64).min(end);
                if next == at {
                    break;
                }
                let state = self.state_of(entry, block, &mut of_base)?;
                let full = extents.len() == EXTENTS_MAX;
                match extents.last_mut() {
                    Some(last) if last.state == state => last.length += next - at,
                    _ if full => return Ok(extents),
                    _ => extents.push(Extent { length: next - at, state }),
                }
                at = next;
            }
        }
        Ok(extents)
    }

    /// `of_base` is what the base has of the block, once that was asked.
    fn state_of(
        &self,
        entry: &Entry,
        block: u64,
        of_base: &mut Option<ExtentState>,
    ) -> Result<ExtentState, Error> {
        if entry.is_stored() {
            return Ok(ExtentState::Data);
        }
        if entry.location != ABSENT || self.committed.base.is_none() {
            return Ok(ExtentState::Zero);
        }
        if let Some(known) = *of_base {
            return Ok(known);
        }
        let base = self.base.as_ref().ok_or(Error::BaseAbsent)?;
        let state = if base.has_block(block)? { ExtentState::Data } else { ExtentState::Zero };
        *of_base = Some(state);
        Ok(state)
    }

    /// The part of [`Engine::flush`] that runs inside other changes.
    pub(super) fn sync(&mut self) -> Result<(), Error> {
        if !self.log.is_chunk_empty() {
            self.log.write_chunk(&self.ctx, &mut self.table, self.active.id, ChunkEnd::Plain)?;
            self.log.write_ahead(&self.ctx)?;
        }
        if self.log.durable < self.log.written() {
            self.ctx.disk.flush().map_err(Error::disk("flush the log"))?;
            self.log.note_durable(self.log.written());
        }
        Ok(())
    }

    /// Hands the chunk being filled to the disk, for a flush that happens elsewhere. Returns the
    /// newest chunk that is not known to be durable, if there is one.
    ///
    /// # Errors
    /// As [`Engine::flush`].
    pub fn seal(&mut self) -> Result<Option<u64>, Error> {
        self.mutate(|engine| {
            if !engine.log.is_chunk_empty() {
                engine.log.write_chunk(
                    &engine.ctx,
                    &mut engine.table,
                    engine.active.id,
                    ChunkEnd::Plain,
                )?;
                engine.log.write_ahead(&engine.ctx)?;
            }
            let written = engine.log.written();
            Ok((engine.log.durable < written).then_some(written))
        })
    }

    /// Notes that a flush begun after [`Engine::seal`] returned `sequence` has succeeded.
    pub fn note_durable(&mut self, sequence: u64) {
        self.log.note_durable(sequence);
    }

    /// Notes that a flush elsewhere has failed: what it covered may be lost.
    pub fn note_failure(&mut self) {
        self.failed = true;
    }

    /// The disk, to be flushed elsewhere.
    pub fn disk(&self) -> std::sync::Arc<dyn super::Disk> {
        std::sync::Arc::clone(&self.ctx.disk)
    }

    pub(super) fn check_range(&self, offset: u64, length: u64) -> Result<(), Error> {
        let size = self.size();
        match offset.checked_add(length) {
            Some(end) if end <= size => Ok(()),
            _ => Err(Error::OutOfRange { offset, length, size }),
        }
    }

    fn check_writable(&self) -> Result<(), Error> {
        if self.failed {
            return Err(Error::Failed);
        }
        if self.ctx.data.is_none() { Err(Error::KeyAbsent) } else { Ok(()) }
    }

    /// Overwrites a part of one page.
    fn patch(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        let (lba, within) = (offset / PAGE_BYTES as u64, (offset % PAGE_BYTES as u64) as usize);
        let mut page = [0; PAGE_BYTES];
        self.read_pages(lba, &mut page)?;
        page[within..within + bytes.len()].copy_from_slice(bytes);
        self.write_pages(lba, &page)
    }

    fn write_pages(&mut self, first: Lba, bytes: &[u8]) -> Result<(), Error> {
        let (pages, rest) = bytes.as_chunks::<PAGE_BYTES>();
        debug_assert!(rest.is_empty());
        let mut at = 0;
        while at < pages.len() {
            let lba = first + at as u64;
            let zeros = pages[at..].iter().take_while(|page| is_zero(&page[..])).count();
            if zeros > 0 {
                self.zero_pages(lba, zeros as u64)?;
                at += zeros;
            } else {
                self.mutate(|engine| engine.append(lba, None, &pages[at]))?;
                at += 1;
            }
        }
        Ok(())
    }

    /// Appends a page to the log and notes it; `birth` as in [`super::log::Log::append_page`].
    pub(super) fn append(
        &mut self,
        lba: Lba,
        birth: Option<u32>,
        page: &Page,
    ) -> Result<(), Error> {
        let layer = self.active.id;
        let (location, tag) =
            self.log.append_page(&self.ctx, &mut self.table, layer, lba, birth, page)?;
        let written = self.log.generation;
        let entry = Entry { location, tag, birth: birth.unwrap_or(written), written };
        self.active.put(self.ctx.geometry, lba, entry);
        if birth.is_none() {
            self.note_guest_page();
        }
        Ok(())
    }

    /// Records zeros, except where nothing was ever stored and nothing shines through.
    fn zero_pages(&mut self, first: Lba, count: u64) -> Result<(), Error> {
        let end = first + count;
        let mut lba = first;
        let mut pending = first..first;
        while lba < end {
            let (block, page) = split(lba);
            let next = (lba + (PAGES_PER_BLOCK - page) as u64).min(end);
            if self.has_block(block)? || self.base_may_have(block) {
                pending.end = next;
            } else {
                self.append_zeros(pending)?;
                pending = next..next;
            }
            lba = next;
        }
        self.append_zeros(pending)
    }

    fn append_zeros(&mut self, pages: std::ops::Range<Lba>) -> Result<(), Error> {
        if pages.is_empty() {
            return Ok(());
        }
        let count = pages.end - pages.start;
        self.mutate(|engine| {
            let (ctx, table, layer) = (&engine.ctx, &mut engine.table, engine.active.id);
            engine.log.append_zeros(ctx, table, layer, pages.start, count)?;
            let generation = engine.log.generation;
            engine.active.put_zeros(engine.ctx.geometry, pages.start, count, generation);
            Ok(())
        })
    }

    /// Whether the volume itself, not its base, has anything recorded for a block, or may have had before
    /// that was lost: what is lost can be overwritten with zeros, too.
    fn has_block(&mut self, block: u64) -> Result<bool, Error> {
        if self.unmerged().any(|blocks| blocks.contains_key(&block)) {
            return Ok(true);
        }
        match self.nodes.node(&self.table, self.committed.root, block, 0) {
            Err(error) if self.is_local(&error) => Ok(true),
            found => Ok(found?.is_some()),
        }
    }

    /// Whether something may shine through where the volume itself has nothing. Zeros are recorded
    /// when in doubt.
    fn base_may_have(&self, block: u64) -> bool {
        match &self.base {
            Some(base) => base.has_block(block).unwrap_or(true),
            None => self.committed.base.is_some(),
        }
    }

    /// Changes that are not in the leaves of the map, the newest first.
    pub(super) fn unmerged(&self) -> impl Iterator<Item = &NumberMap<u64, BlockDelta>> {
        let frozen = self.frozen.iter().rev().map(|layer| &layer.blocks);
        std::iter::once(&self.active.blocks).chain(frozen).chain([&self.settled.blocks])
    }

    /// Looks up consecutive pages of one block.
    pub(super) fn resolve(
        &mut self,
        block: u64,
        first: usize,
        entries: &mut [Entry],
    ) -> Result<(), Error> {
        entries.fill(Entry::NOTHING);
        let mut open = entries.len();
        for blocks in self.unmerged() {
            let Some(delta) = blocks.get(&block) else { continue };
            for (at, entry) in entries.iter_mut().enumerate() {
                if entry.location == ABSENT
                    && let Some(found) = delta.get(first + at)
                {
                    *entry = *found;
                    open -= 1;
                }
            }
            if open == 0 {
                return Ok(());
            }
        }
        if let Some(leaf) = self.nodes.leaf(&self.table, self.committed.root, block)? {
            for (at, entry) in entries.iter_mut().enumerate() {
                if entry.location == ABSENT {
                    *entry = leaf_entry(&leaf, first + at);
                }
            }
        }
        Ok(())
    }

    fn read_bytes(&mut self, offset: u64, target: &mut [u8]) -> Result<(), Error> {
        let (head, pages, tail) = cut_up(offset, target.len());
        let (head, rest) = target.split_at_mut(head);
        let (middle, tail) = rest.split_at_mut(rest.len() - tail);
        debug_assert_eq!(middle.len(), pages * PAGE_BYTES);
        let first = (offset + head.len() as u64) / PAGE_BYTES as u64;
        let mut page = [0; PAGE_BYTES];
        if !head.is_empty() {
            let within = (offset % PAGE_BYTES as u64) as usize;
            self.read_pages(offset / PAGE_BYTES as u64, &mut page)?;
            head.copy_from_slice(&page[within..within + head.len()]);
        }
        let plan = self.plan_pages(first, middle, None)?;
        self.note_scattered(first, pages, &plan);
        plan.carry_out(&*self.ctx.disk, middle)?;
        if !tail.is_empty() {
            self.read_pages(first + pages as u64, &mut page)?;
            tail.copy_from_slice(&page[..tail.len()]);
        }
        Ok(())
    }

    pub(super) fn read_pages(&mut self, first: Lba, target: &mut [u8]) -> Result<(), Error> {
        let plan = self.plan_pages(first, target, None)?;
        plan.carry_out(&*self.ctx.disk, target)
    }

    /// Reads a page of the base; false when that holds zeros there.
    pub(super) fn read_base(&mut self, lba: Lba, target: &mut Page) -> Result<bool, Error> {
        let base = self.base.as_ref().ok_or(Error::BaseAbsent)?;
        match base.read_page(lba)? {
            BasePage::Zero => {
                target.fill(0);
                return Ok(false);
            }
            BasePage::Sealed(page) => {
                if self.open_base_page(lba, &page, target).is_ok() {
                    return Ok(true);
                }
            }
        }
        let base = self.base.as_ref().ok_or(Error::BaseAbsent)?;
        match base.read_page_proven(lba)? {
            BasePage::Zero => Err(Error::corrupt("page of the base", lba)),
            BasePage::Sealed(page) => self.open_base_page(lba, &page, target).map(|()| true),
        }
    }

    /// Opens a page of the base: under the base's data key if it has one of its own, otherwise under
    /// the volume's. A salt belongs to one key, which the tag of its first page tells.
    pub(super) fn open_base_page(
        &mut self,
        lba: Lba,
        page: &SealedPage,
        target: &mut Page,
    ) -> Result<(), Error> {
        let key = self.ctx.data.as_ref().ok_or(Error::KeyAbsent)?;
        let salt = page.origin.salt;
        let damaged = |_| Error::corrupt("page of the base", lba);
        if let Some(opener) = self.base_openers.get(salt) {
            return page.open(opener, lba, target).map_err(damaged);
        }
        if let Some(base_key) = &self.base_key {
            let opener = base_key.opener(salt);
            if page.open(&opener, lba, target).is_ok() {
                self.base_openers.insert(salt, opener);
                return Ok(());
            }
        }
        let opener = key.opener(salt);
        page.open(&opener, lba, target).map_err(damaged)?;
        self.base_openers.insert(salt, opener);
        Ok(())
    }
}

/// Divides a range into a part of a page, whole pages, and a part of a page.
fn cut_up(offset: u64, length: usize) -> (usize, usize, usize) {
    let before = (offset.next_multiple_of(PAGE_BYTES as u64) - offset) as usize;
    let head = before.min(length);
    let pages = (length - head) / PAGE_BYTES;
    (head, pages, length - head - pages * PAGE_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_up_at_pages() {
        assert_eq!(cut_up(0, 8192), (0, 2, 0));
        assert_eq!(cut_up(512, 512), (512, 0, 0));
        assert_eq!(cut_up(512, 3584), (3584, 0, 0));
        assert_eq!(cut_up(512, 3585), (3584, 0, 1));
        assert_eq!(cut_up(4096, 5), (0, 0, 5));
        assert_eq!(cut_up(4095, 4098), (1, 1, 1));
        assert_eq!(cut_up(7, 0), (0, 0, 0));
    }
}
