//! Comparing what a cut holds with the chunks it was written in, for who has no data key.
//!
//! A chunk's descriptor has a checksum of the pages behind it, which notices damage but no forger. It is of
//! the chunk as a whole: in one that is not whole nobody can tell which page is damaged, so none of it is
//! good. Chunks are found from the front of their segment, each once: what is read for all blocks of a cut is
//! no more than the segments that it refers to, and for those that changed little more than what was written.
//!
//! Pages in no chunk are not compared: what a killed server had noted in its tail, and what lies behind a
//! descriptor that is damaged itself.

use super::{CutReader, READ_BYTES_MAX};
use crate::live::Error;
use crate::live::cache::NumberMap;
use crate::live::layout::{SegmentIndex, byte_offset};
use crate::live::log::Descriptor;
use crate::live::map::leaf_entry;
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
        if front.next > last {
            return Ok(0);
        }
        let geometry = self.salts.geometry;
        let salt = self.salts.salts.get(segment as usize);
        let salt = salt.ok_or_else(|| Error::corrupt("map entry", geometry.start(segment)))?;
        let opener = self.nodes().opener(*salt);
        let mut bytes = 0;
        while front.next <= last {
            let (at, mut page) = (front.next, [0; PAGE_BYTES]);
            let location = geometry.locate(segment, at);
            let read = self.disk.read(byte_offset(location), &mut page);
            read.map_err(Error::disk("read the log"))?;
            bytes += PAGE_BYTES as u64;
            let found = Descriptor::open(page, &opener, at);
            let fits = |found: &Descriptor| at + found.data_pages() < geometry.segment_pages;
            let Some(found) = found.filter(fits) else {
                front.next = at + 1;
                continue;
            };
            let pages = at + 1..at + 1 + found.data_pages();
            let is_whole = found.is_whole(&*self.disk, location + 1, READ_BYTES_MAX)?;
            bytes += pages.len() as u64 * PAGE_BYTES as u64;
            front.next = pages.end;
            if !is_whole {
                front.damaged.push(pages);
            }
        }
        Ok(bytes)
    }
}
