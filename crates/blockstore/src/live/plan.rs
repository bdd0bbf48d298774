//! Reading in two halves: an engine says what lies where and how it opens; whoever asked reads and
//! opens it, on any thread, while the engine goes on.
//!
//! A plan stays good as long as no segment it names is given back and written anew. If one is, its
//! pages do not open, and the plan is made once more.

use super::delta::{Entry, split};
use super::engine::Engine;
use super::layout::{ABSENT, Location, byte_offset};
use super::map::MissingPages;
use super::page_cache::PageCache;
use super::{AlignedBuffer, Disk, Error, ReadPart};
use crate::page::{Lba, PAGE_BYTES, PAGES_PER_BLOCK, Page, PageOpener, Tag};
use std::sync::Arc;

/// Longer reads neither use the cache of opened pages nor fill it: the disk is quick with them.
const CACHED_BYTES_MAX: usize = 32 << 10;

/// From so many runs on it is seen whether they are read in fewer pieces.
const GATHERED_RUNS_MIN: usize = 8;
/// Pages of no use that are read to have one request fewer: a request costs a disk about as much.
const GAP_PAGES_MAX: u64 = 4;
/// Pages read in one piece, at most.
const EXTENT_PAGES_MAX: u64 = 256;

/// What is left to read and to open of a range.
pub struct ReadPlan {
    first: Lba,
    runs: Vec<Run>,
    /// Of the pages of all runs.
    tags: Vec<Tag>,
    /// What is read into a buffer of its own instead of the range, one after the other.
    extents: Vec<Extent>,
    /// Takes the opened pages.
    cache: Option<Arc<PageCache>>,
}

/// What [`Engine::plan_read`] comes to.
pub enum Planned {
    /// The plan.
    Whole(ReadPlan),
    /// The plan takes a page of the map that is not in memory: [`Engine::supply`] it, and ask again.
    Needs(MapPage),
}

/// Pages of the map that somebody has to read.
pub struct MapPage(MissingPages);

impl MapPage {
    pub(super) fn new(missing: MissingPages) -> Self {
        Self(missing)
    }

    /// Where they lie; they begin the buffer.
    pub fn part(&self) -> ReadPart {
        let first = self.0.nodes.first().map_or(0, |node| node.location);
        let length = self.0.nodes.len() * PAGE_BYTES;
        ReadPart { offset: byte_offset(first), at: 0, length }
    }
}

/// What becomes of a plan that takes a page of the map which is not in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misses {
    /// The engine reads it itself.
    Read,
    /// [`Planned::Needs`] says so.
    Report,
}

/// Pages that lie side by side and open with one key.
struct Run {
    /// The first page, counted from the beginning of the range.
    at: usize,
    count: usize,
    location: Location,
    position: u32,
    opener: Arc<PageOpener>,
    source: Source,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Disk,
    /// The pages are in the target already, sealed.
    Target,
    /// The pages begin at this page of the extents.
    Extents(usize),
}

/// Pages side by side on the disk, not all of use.
#[derive(Clone, Copy)]
struct Extent {
    location: Location,
    pages: u64,
}

impl ReadPlan {
    /// A plan that leaves nothing to do.
    pub(super) const NOTHING: Self = Self::new(0, None);

    const fn new(first: Lba, cache: Option<Arc<PageCache>>) -> Self {
        Self { first, runs: Vec::new(), tags: Vec::new(), extents: Vec::new(), cache }
    }

    /// What to read from the disk, and where it goes: to the range, or to a buffer of
    /// [`ReadPlan::apart_bytes`].
    pub fn parts(&self) -> Vec<ReadPart> {
        if !self.extents.is_empty() {
            let mut at = 0;
            let part = |extent: &Extent| {
                let length = extent.pages as usize * PAGE_BYTES;
                at += length;
                ReadPart { offset: byte_offset(extent.location), at: at - length, length }
            };
            return self.extents.iter().map(part).collect();
        }
        let runs = self.runs.iter().filter(|run| run.source == Source::Disk);
        let part = |run: &Run| ReadPart {
            offset: byte_offset(run.location),
            at: run.at * PAGE_BYTES,
            length: run.count * PAGE_BYTES,
        };
        runs.map(part).collect()
    }

    /// Bytes of the buffer that is read into, if it is not the range itself.
    pub fn apart_bytes(&self) -> Option<usize> {
        let pages: u64 = self.extents.iter().map(|extent| extent.pages).sum();
        (pages > 0).then_some(pages as usize * PAGE_BYTES)
    }

    /// From how many places the range comes.
    pub(super) fn pieces(&self) -> usize {
        self.runs.len()
    }

    /// Reads and opens the range.
    ///
    /// # Errors
    /// When the disk fails, or as [`ReadPlan::open`].
    pub fn carry_out(&self, disk: &dyn Disk, target: &mut [u8]) -> Result<(), Error> {
        match self.apart_bytes() {
            None => {
                self.fetch(disk, target)?;
                self.open(target, &[])
            }
            Some(length) => {
                let mut apart = AlignedBuffer::zeroed(length);
                self.fetch(disk, &mut apart)?;
                self.open(target, &apart)
            }
        }
    }

    fn fetch(&self, disk: &dyn Disk, target: &mut [u8]) -> Result<(), Error> {
        let parts = self.parts();
        let result = match *parts {
            [] => Ok(()),
            [part] => disk.read(part.offset, &mut target[part.at..part.at + part.length]),
            _ => {
                let (mut ranges, mut rest, mut before) =
                    (Vec::with_capacity(parts.len()), target, 0);
                for part in &parts {
                    let (_, from) = std::mem::take(&mut rest).split_at_mut(part.at - before);
                    let (range, after) = from.split_at_mut(part.length);
                    ranges.push((part.offset, range));
                    before = part.at + part.length;
                    rest = after;
                }
                disk.read_each(&mut ranges)
            }
        };
        result.map_err(Error::disk("read data"))
    }

    /// Opens everything, in place or out of what was read `apart`.
    ///
    /// # Errors
    /// When a page is not what was written there; the target then holds nothing of the volume.
    pub fn open(&self, target: &mut [u8], apart: &[u8]) -> Result<(), Error> {
        let (pages, _) = target.as_chunks_mut::<PAGE_BYTES>();
        let (apart, _) = apart.as_chunks::<PAGE_BYTES>();
        let mut tags = &self.tags[..];
        let result = self.runs.iter().try_for_each(|run| {
            let (own, rest) = tags.split_at(run.count);
            tags = rest;
            let pages = &mut pages[run.at..run.at + run.count];
            run.open(self.first, own, pages, apart, self.cache.as_deref())
        });
        if result.is_err() {
            target.fill(0);
        }
        result
    }

    /// Has runs that lie near one another read in one piece, if that makes the pieces fewer.
    fn gather(&mut self) {
        let mut order: Vec<usize> =
            (0..self.runs.len()).filter(|at| self.runs[*at].source == Source::Disk).collect();
        if order.len() < GATHERED_RUNS_MIN {
            return;
        }
        order.sort_unstable_by_key(|at| self.runs[*at].location);
        let mut extents: Vec<Extent> = Vec::new();
        let (mut sources, mut before, mut wanted) = (Vec::with_capacity(order.len()), 0, 0);
        for at in &order {
            let Run { location, count, .. } = self.runs[*at];
            let end = location + count as u64;
            wanted += count as u64;
            match extents.last_mut() {
                Some(last)
                    if location - (last.location + last.pages) <= GAP_PAGES_MAX
                        && end - last.location <= EXTENT_PAGES_MAX =>
                {
                    last.pages = end - last.location;
                }
                last => {
                    before += last.map_or(0, |last| last.pages);
                    extents.push(Extent { location, pages: count as u64 });
                }
            }
            let start = extents.last().map_or(location, |extent| extent.location);
            sources.push((before + location - start) as usize);
        }
        let read: u64 = extents.iter().map(|extent| extent.pages).sum();
        if extents.len() * 4 > order.len() * 3 || read > wanted * 3 {
            return;
        }
        for (at, page) in order.into_iter().zip(sources) {
            self.runs[at].source = Source::Extents(page);
        }
        self.extents = extents;
    }
}

impl Run {
    fn open(
        &self,
        first: Lba,
        tags: &[Tag],
        pages: &mut [Page],
        apart: &[Page],
        cache: Option<&PageCache>,
    ) -> Result<(), Error> {
        for ((index, tag), page) in (0..).zip(tags).zip(pages) {
            let lba = first + self.at as u64 + u64::from(index);
            let position = self.position + index;
            let opened = match self.source {
                Source::Disk | Source::Target => self.opener.open(position, lba, tag, page),
                Source::Extents(at) => {
                    let sealed = &apart[at + index as usize];
                    self.opener.open_into(position, lba, tag, sealed, page)
                }
            };
            opened.map_err(|_| Error::corrupt("data", self.location + u64::from(index)))?;
            if let Some(cache) = cache {
                cache.put(self.location + u64::from(index), tag, page);
            }
        }
        Ok(())
    }
}

impl Engine {
    /// Says what must be read and opened to have the bytes at `offset`. Zeros, pages of the base and
    /// pages that are not on the disk yet are put into `target` at once.
    ///
    /// # Errors
    /// As [`Engine::read`].
    pub fn plan_read(
        &mut self,
        offset: u64,
        target: &mut [u8],
        misses: Misses,
    ) -> Result<Planned, Error> {
        let is_whole = |number: u64| number.is_multiple_of(PAGE_BYTES as u64);
        if !is_whole(offset) || !is_whole(target.len() as u64) {
            self.read(offset, target)?;
            return Ok(Planned::Whole(ReadPlan::NOTHING));
        }
        self.check_range(offset, target.len() as u64)?;
        let first = offset / PAGE_BYTES as u64;
        if misses == Misses::Report && !target.is_empty() {
            let last = first + (target.len() / PAGE_BYTES) as u64 - 1;
            for block in split(first).0..=split(last).0 {
                if let Some(missing) = self.nodes.missing(self.committed.root, block, 0) {
                    return Ok(Planned::Needs(MapPage::new(missing)));
                }
            }
        }
        let cache = if target.len() <= CACHED_BYTES_MAX { self.pages.clone() } else { None };
        let plan = self.plan_pages(first, target, cache)?;
        self.note_scattered(first, target.len() / PAGE_BYTES, &plan);
        Ok(Planned::Whole(plan))
    }

    /// Takes pages of the map as they were read.
    ///
    /// # Errors
    /// When what the plan takes is not what was written there.
    pub fn supply(&mut self, needed: &MapPage, sealed: &[u8]) -> Result<(), Error> {
        let (pages, _) = sealed.as_chunks::<PAGE_BYTES>();
        self.nodes.supply(&self.table, &needed.0, pages)
    }

    pub(super) fn plan_pages(
        &mut self,
        first: Lba,
        target: &mut [u8],
        cache: Option<Arc<PageCache>>,
    ) -> Result<ReadPlan, Error> {
        let (mut pages, _) = target.as_chunks_mut::<PAGE_BYTES>();
        let mut plan = ReadPlan::new(first, cache);
        let mut at = 0;
        while !pages.is_empty() {
            let (block, page) = split(first + at as u64);
            let count = pages.len().min(PAGES_PER_BLOCK - page);
            let (now, later) = pages.split_at_mut(count);
            if count == 1 {
                let mut entry = [Entry::NOTHING];
                self.resolve(block, page, &mut entry)?;
                self.plan_entries(&mut plan, at, &entry, now)?;
            } else {
                let mut entries = [Entry::NOTHING; PAGES_PER_BLOCK];
                self.resolve(block, page, &mut entries[..count])?;
                self.plan_entries(&mut plan, at, &entries[..count], now)?;
            }
            at += count;
            pages = later;
        }
        plan.gather();
        Ok(plan)
    }

    fn plan_entries(
        &mut self,
        plan: &mut ReadPlan,
        first: usize,
        entries: &[Entry],
        target: &mut [Page],
    ) -> Result<(), Error> {
        for ((at, entry), page) in (first..).zip(entries).zip(target) {
            if entry.is_stored() {
                self.plan_page(plan, at, entry, page)?;
            } else if entry.location == ABSENT && self.committed.base.is_some() {
                self.read_base(plan.first + at as u64, page)?;
            } else {
                page.fill(0);
            }
        }
        Ok(())
    }

    fn plan_page(
        &mut self,
        plan: &mut ReadPlan,
        at: usize,
        entry: &Entry,
        target: &mut Page,
    ) -> Result<(), Error> {
        let location = entry.location;
        if plan.cache.as_ref().is_some_and(|cache| cache.get(location, &entry.tag, target)) {
            return Ok(());
        }
        let source = match self.log.buffered(&self.ctx, location) {
            Some(page) => {
                target.copy_from_slice(page);
                Source::Target
            }
            None => Source::Disk,
        };
        let damaged = || Error::corrupt("map entry", location);
        let (segment, position) = self.ctx.geometry.split(location).ok_or_else(damaged)?;
        if let Some(run) = plan.runs.last_mut() {
            let count = run.count;
            // A run that crosses into another segment would begin at position 0, its header.
            if run.source == source
                && run.at + count == at
                && run.location + count as u64 == location
                && position > 0
            {
                run.count += 1;
                plan.tags.push(entry.tag);
                return Ok(());
            }
        }
        let opener = self.opener(segment, location)?;
        plan.runs.push(Run { at, count: 1, location, position, opener, source });
        plan.tags.push(entry.tag);
        Ok(())
    }

    /// The key of a segment's pages.
    fn opener(&mut self, segment: u32, location: Location) -> Result<Arc<PageOpener>, Error> {
        let key = self.ctx.data.as_ref().ok_or(Error::KeyAbsent)?;
        let known = self.table.get(segment);
        let salt = known.ok_or_else(|| Error::corrupt("map entry", location))?.salt;
        match self.openers.get(segment) {
            Some(opener) if opener.salt() == salt => Ok(Arc::clone(opener)),
            _ => {
                let opener = Arc::new(key.opener(salt));
                self.openers.insert(segment, Arc::clone(&opener));
                Ok(opener)
            }
        }
    }
}
