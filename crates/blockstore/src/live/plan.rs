//! Reading in two halves: an engine says what lies where and how it opens; whoever asked reads and
//! opens it, on any thread, while the engine goes on.
//!
//! A plan stays good as long as no segment it names is given back and written anew. If one is, its
//! pages do not open, and the plan is made once more.

use super::delta::{Entry, split};
use super::engine::Engine;
use super::layout::{ABSENT, Location, byte_offset};
use super::page_cache::PageCache;
use super::superblock::NodeRef;
use super::{Disk, Error, ReadPart};
use crate::page::{Lba, PAGE_BYTES, PAGES_PER_BLOCK, Page, PageOpener, Tag};
use std::sync::Arc;

/// Longer reads neither use the cache of opened pages nor fill it: the disk is quick with them.
const CACHED_BYTES_MAX: usize = 32 << 10;

/// What is left to read and to open of a range.
pub struct ReadPlan {
    first: Lba,
    runs: Vec<Run>,
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

/// A page of the map that somebody has to read.
pub struct MapPage {
    node: NodeRef,
    level: u8,
    block: u64,
}

impl MapPage {
    /// Where it lies; it begins the buffer.
    pub fn part(&self) -> ReadPart {
        ReadPart { offset: byte_offset(self.node.location), at: 0, length: PAGE_BYTES }
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
    location: Location,
    position: u32,
    opener: Arc<PageOpener>,
    tags: Vec<Tag>,
    source: Source,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Disk,
    /// The pages are in the target already, sealed.
    Target,
}

impl ReadPlan {
    /// A plan that leaves nothing to do.
    pub(super) const NOTHING: Self = Self { first: 0, runs: Vec::new(), cache: None };

    /// What to read from the disk, and where in the range it goes.
    pub fn parts(&self) -> Vec<ReadPart> {
        let runs = self.runs.iter().filter(|run| run.source == Source::Disk);
        let part = |run: &Run| ReadPart {
            offset: byte_offset(run.location),
            at: run.at * PAGE_BYTES,
            length: run.tags.len() * PAGE_BYTES,
        };
        runs.map(part).collect()
    }

    /// Reads what is to be read into the range.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn fetch(&self, disk: &dyn Disk, target: &mut [u8]) -> Result<(), Error> {
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

    /// Opens everything in place.
    ///
    /// # Errors
    /// When a page is not what was written there; the target then holds nothing of the volume.
    pub fn open(&self, target: &mut [u8]) -> Result<(), Error> {
        let result = self.runs.iter().try_for_each(|run| {
            let (pages, _) = target.as_chunks_mut::<PAGE_BYTES>();
            run.open(self.first, &mut pages[run.at..run.at + run.tags.len()], self.cache.as_deref())
        });
        if result.is_err() {
            target.fill(0);
        }
        result
    }
}

impl Run {
    fn open(&self, first: Lba, pages: &mut [Page], cache: Option<&PageCache>) -> Result<(), Error> {
        for ((index, tag), page) in (0..).zip(&self.tags).zip(pages) {
            let lba = first + self.at as u64 + u64::from(index);
            self.opener
                .open(self.position + index, lba, tag, page)
                .map_err(|_| Error::corrupt("data", self.location + u64::from(index)))?;
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
                if let Some((node, level)) = self.nodes.missing(self.committed.root, block) {
                    return Ok(Planned::Needs(MapPage { node, level, block }));
                }
            }
        }
        let cache = if target.len() <= CACHED_BYTES_MAX { self.pages.clone() } else { None };
        self.plan_pages(first, target, cache).map(Planned::Whole)
    }

    /// Takes a page of the map as it was read.
    ///
    /// # Errors
    /// When it is not what was written there.
    pub fn supply(&mut self, needed: &MapPage, sealed: &Page) -> Result<(), Error> {
        let MapPage { node, level, block } = needed;
        self.nodes.supply(&self.table, node, (*level, *block), *sealed)
    }

    pub(super) fn plan_pages(
        &mut self,
        first: Lba,
        target: &mut [u8],
        cache: Option<Arc<PageCache>>,
    ) -> Result<ReadPlan, Error> {
        let (mut pages, _) = target.as_chunks_mut::<PAGE_BYTES>();
        let mut plan = ReadPlan { first, runs: Vec::new(), cache };
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
            let count = run.tags.len();
            // A run that crosses into another segment would begin at position 0, its header.
            if run.source == source
                && run.at + count == at
                && run.location + count as u64 == location
                && position > 0
            {
                run.tags.push(entry.tag);
                return Ok(());
            }
        }
        let opener = self.opener(segment, location)?;
        plan.runs.push(Run { at, location, position, opener, tags: vec![entry.tag], source });
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
