//! The log's part of a check: segments that hold something in use, and the chunks behind the last
//! checkpoint.

use super::{Walk, note};
use crate::check::{Fault, Stopped};
use crate::live::Error;
use crate::live::layout::{Location, SegmentIndex, byte_offset};
use crate::live::log::{Descriptor, Record, SegmentHeader};
use crate::live::map::leaf_entry;
use crate::live::segment::SegmentKind;
use crate::live::superblock::Root;
use crate::page::{Lba, PAGE_BYTES, PAGES_PER_BLOCK, Page, PageOrigin, Salt, SealedPage, Tag};

/// How often the end of the log is looked for, and found broken at one place, before it is.
const TAIL_READS_MAX: u32 = 5;
/// How often in all, for a log that grows faster than its end is looked at.
const TAIL_MOVES_MAX: u32 = 200;

/// A chunk that no checkpoint contains yet.
struct TailChunk {
    salt: Salt,
    /// Where its first page lies.
    first: Location,
    whole: bool,
    pages: Vec<(Lba, Tag)>,
}

impl Walk<'_> {
    /// Checks the header and every chunk of each segment that holds data in use.
    pub(super) fn segments(&mut self) -> Result<(), Stopped> {
        let head = self.engine.committed.head;
        let used: Vec<(SegmentIndex, Salt)> = self
            .engine
            .table
            .iter()
            .filter(|(index, segment)| {
                segment.kind == SegmentKind::Log && self.last.contains_key(index)
            })
            .map(|(index, segment)| (index, segment.salt))
            .collect();
        for (segment, salt) in used {
            // Behind the head the log is followed as recovery follows it.
            let end = if segment == head.segment {
                head.position
            } else {
                self.engine.ctx.geometry.segment_pages
            };
            self.segment(segment, salt, end)?;
        }
        Ok(())
    }

    fn segment(&mut self, segment: SegmentIndex, salt: Salt, end: u32) -> Result<(), Stopped> {
        let geometry = self.engine.ctx.geometry;
        let opener = self.engine.ctx.structure.opener(salt);
        let header = self.page(geometry.start(segment))?;
        if header.is_some_and(|page| SegmentHeader::open(page, segment, &opener).is_none()) {
            let error = Error::corrupt("segment header", geometry.start(segment));
            self.found(Fault::LogHeader, error, None)?;
        }
        let last = self.last.get(&segment).copied().unwrap_or(0);
        let (mut position, mut gap) = (1, None);
        while position < end {
            let location = geometry.locate(segment, position);
            let Some(page) = self.page(location)? else { return Ok(()) };
            match Descriptor::open(page, &opener, position) {
                // What is found behind the last page in use, after what is in no chunk, is of a chunk that
                // a power cut left, and the tail had the one before it.
                Some(found)
                    if position + found.data_pages() < geometry.segment_pages
                        && (gap.is_none() || position <= last) =>
                {
                    if let Some(lost) = gap.take() {
                        // Chunks have no gaps, so these were some.
                        let lost = geometry.locate(segment, lost);
                        let error = Error::corrupt("chunk descriptor", lost);
                        self.found(Fault::LogChunk, error, None)?;
                    }
                    self.report.chunks += 1;
                    self.compare(&found, segment, position + 1)?;
                    position += 1 + found.data_pages();
                }
                _ if position > last => break,
                _ => {
                    // Behind the last chunk lies what a tail had of the next one: in no chunk, and proved
                    // by the map, whose pages were opened before if the key is at hand.
                    gap.get_or_insert(position);
                    position += 1;
                }
            }
        }
        Ok(())
    }

    /// Compares a chunk's pages with its checksum, when no key opened them. Damage counts where
    /// something refers to it.
    fn compare(
        &mut self,
        found: &Descriptor,
        segment: SegmentIndex,
        first: u32,
    ) -> Result<(), Stopped> {
        if !self.keyless || found.data_pages() == 0 {
            return Ok(());
        }
        self.goes_on()?;
        self.watch.read(u64::from(found.data_pages()) * PAGE_BYTES as u64);
        match self.engine.is_whole(found, segment, first) {
            Ok(true) => {
                self.report.compared_pages += u64::from(found.data_pages());
                return Ok(());
            }
            Ok(false) => {}
            Err(error) => return self.found(Fault::Unreadable, error, None),
        }
        let start = self.engine.ctx.geometry.locate(segment, first);
        let mut blocks: Vec<u64> = Vec::new();
        for ((lba, _), location) in pages_of(found).zip(start..) {
            let block = lba / PAGES_PER_BLOCK as u64;
            if !blocks.contains(&block) && self.is_in_use(lba, location) {
                blocks.push(block);
                let error = Error::corrupt("chunk with data", start - 1);
                self.found(Fault::DataPage, error, Some(block))?;
            }
        }
        Ok(())
    }

    /// Whether the volume's map or a cut's refers to the page for this address.
    fn is_in_use(&mut self, lba: Lba, location: Location) -> bool {
        let engine = &mut *self.engine;
        let (block, at) = (lba / PAGES_PER_BLOCK as u64, (lba % PAGES_PER_BLOCK as u64) as usize);
        let mut roots: Vec<Root> = engine.committed.cuts.iter().map(|cut| cut.root).collect();
        match engine.settled.get(block, at) {
            Some(settled) if settled.location == location => return true,
            // It hides what the map says.
            Some(_) => {}
            None => roots.push(engine.committed.root),
        }
        roots.into_iter().any(|root| {
            let leaf = engine.nodes.leaf(&engine.table, root, block);
            matches!(leaf, Ok(Some(leaf)) if leaf_entry(&leaf, at).location == location)
        })
    }

    /// Follows the chunks behind the last checkpoint, as recovery would.
    pub(super) fn log(&mut self) -> Result<(), Stopped> {
        let (mut attempt, mut before) = (1, None);
        // A log that grows while its end is looked for can look broken there, and somewhere else the
        // next time.
        let mut tries = 0..TAIL_MOVES_MAX;
        let tail = loop {
            match self.tail() {
                Err(error) if attempt < TAIL_READS_MAX && tries.next().is_some() => {
                    let place = error.to_string();
                    attempt = if before.as_ref() == Some(&place) { attempt + 1 } else { 1 };
                    before = Some(place);
                }
                outcome => break outcome,
            }
        };
        let tail = match tail {
            Ok(tail) => tail,
            Err(error) => return self.found(Fault::LogChunk, error, None),
        };
        for chunk in tail {
            self.report.chunks += 1;
            self.goes_on()?;
            if !chunk.whole {
                let block = chunk.pages.first().map(|(lba, _)| lba / PAGES_PER_BLOCK as u64);
                let error = Error::corrupt("chunk with data", chunk.first - 1);
                self.found(Fault::LogChunk, error, block)?;
                continue;
            }
            let Some((_, start)) = self.engine.ctx.geometry.split(chunk.first) else { continue };
            let page = |(at, (lba, tag)): (u32, (Lba, Tag))| {
                let origin = PageOrigin { salt: chunk.salt, position: start + at };
                let ciphertext = Box::new([0; PAGE_BYTES]);
                (lba, chunk.first + u64::from(at), SealedPage { origin, tag, ciphertext })
            };
            let block = chunk.pages.first().map_or(0, |(lba, _)| lba / PAGES_PER_BLOCK as u64);
            self.prove(block, (0..).zip(chunk.pages).map(page).collect())?;
        }
        Ok(())
    }

    /// The chunks behind the last checkpoint; as many as one checkpoint takes in.
    fn tail(&mut self) -> Result<Vec<TailChunk>, Error> {
        let (watch, mut tail) = (self.watch, Vec::new());
        self.engine.visit_log(&mut |found, salt, first, whole| {
            watch.read(u64::from(found.data_pages() + 1) * PAGE_BYTES as u64);
            tail.push(TailChunk { salt, first, whole, pages: pages_of(found).collect() });
        })?;
        Ok(tail)
    }

    fn page(&mut self, location: Location) -> Result<Option<Page>, Stopped> {
        self.goes_on()?;
        let mut page = [0; PAGE_BYTES];
        self.watch.read(PAGE_BYTES as u64);
        match self.engine.ctx.disk.read(byte_offset(location), &mut page) {
            Ok(()) => Ok(Some(page)),
            Err(error) => {
                let error = Error::disk("read the log")(error);
                note(&mut self.report.findings, Fault::Unreadable, &error, None);
                Ok(None)
            }
        }
    }
}

/// The chunk's pages in their order: address and tag.
fn pages_of(found: &Descriptor) -> impl Iterator<Item = (Lba, Tag)> + '_ {
    found.records().flatten().filter_map(|record| match record {
        Record::Data { lba, tag } | Record::Copy { lba, tag, .. } => Some((lba, tag)),
        Record::Zero { .. } => None,
    })
}
