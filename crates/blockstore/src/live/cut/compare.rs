//! Comparing what a cut holds with the chunks it was written in, for who has no data key.
//!
//! A chunk's descriptor has a checksum of the pages behind it, which notices damage but no forger. It is of
//! the chunk as a whole: in one that is not whole nobody can tell which page is damaged, so none of it is
//! good. Chunks are found from the front of their segment, each once: what is read for all blocks of a cut is
//! no more than the segments that it refers to, and for those that changed little more than what was written.
//!
//! Pages in no chunk are not compared: what a killed server had noted in its tail, and what lies behind a
//! descriptor that is damaged itself.

use super::super::cache::NumberMap;
use super::super::layout::{Location, SegmentIndex, byte_offset};
use super::super::log::{Checksum, Descriptor};
use super::super::map::leaf_entry;
use super::{CutReader, Error, READ_BYTES_MAX};
use crate::page::{PAGE_BYTES, PAGES_PER_BLOCK};
use std::ops::Range;
use std::sync::PoisonError;

/// How far segments were compared.
#[derive(Default)]
pub(super) struct Compared(NumberMap<SegmentIndex, Front>);

struct Front {
    /// Where the next chunk begins.
    next: u32,
    /// Pages of chunks that are not whole.
    damaged: Vec<Range<u32>>,
}

impl Default for Front {
    fn default() -> Self {
        // The header comes first.
        Self { next: 1, damaged: Vec::new() }
    }
}

impl CutReader {
    /// Compares all that a block holds; returns the bytes that were read for it.
    pub(super) fn compare(&self, block: u64) -> Result<u64, Error> {
        let Some(leaf) = self.leaf(block)? else { return Ok(0) };
        let mut compared = self.compared.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bytes = 0;
        for at in 0..PAGES_PER_BLOCK {
            let entry = leaf_entry(&leaf, at);
            if !entry.is_stored() {
                continue;
            }
            let place = self.salts.geometry.split(entry.location);
            let (segment, position) =
                place.ok_or_else(|| Error::corrupt("map entry", entry.location))?;
            let front = compared.0.entry(segment).or_default();
            bytes += self.compare_up_to(segment, position, front)?;
            if front.damaged.iter().any(|pages| pages.contains(&position)) {
                return Err(Error::corrupt("chunk with data", entry.location));
            }
        }
        Ok(bytes)
    }

    fn compare_up_to(
        &self,
        segment: SegmentIndex,
        last: u32,
        front: &mut Front,
    ) -> Result<u64, Error> {
        let geometry = self.salts.geometry;
        let start = geometry.start(segment);
        let mut bytes = 0;
        while front.next <= last {
            let salt = self.salts.salts.get(segment as usize);
            let salt = salt.ok_or_else(|| Error::corrupt("map entry", start))?;
            let mut page = [0; PAGE_BYTES];
            let location = geometry.locate(segment, front.next);
            self.disk
                .read(byte_offset(location), &mut page)
                .map_err(Error::disk("read a chunk"))?;
            bytes += PAGE_BYTES as u64;
            let descriptor = Descriptor::open(page, &self.structure.opener(*salt), front.next);
            front.next += 1;
            let Some(descriptor) = descriptor else { continue };
            let pages = front.next..front.next + descriptor.data_pages();
            if pages.end > geometry.segment_pages {
                continue;
            }
            if !self.is_whole(&descriptor, location + 1)? {
                front.damaged.push(pages.clone());
            }
            bytes += u64::from(descriptor.data_pages()) * PAGE_BYTES as u64;
            front.next = pages.end;
        }
        Ok(bytes)
    }

    /// Whether a chunk's data pages are those it was written with.
    fn is_whole(&self, descriptor: &Descriptor, first: Location) -> Result<bool, Error> {
        let (mut checksum, mut part) = (Checksum::default(), vec![0; READ_BYTES_MAX]);
        let length = descriptor.data_pages() as usize * PAGE_BYTES;
        for done in (0..length).step_by(READ_BYTES_MAX) {
            let part = &mut part[..READ_BYTES_MAX.min(length - done)];
            let offset = byte_offset(first) + done as u64;
            self.disk.read(offset, part).map_err(Error::disk("read a chunk"))?;
            checksum.add(part);
        }
        Ok(checksum.so_far() == descriptor.checksum())
    }
}
