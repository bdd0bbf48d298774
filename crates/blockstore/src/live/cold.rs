//! The stream of moved pages: what the cleaner copies goes to segments of its own.
//!
//! A page that survived until its segment was cleaned will probably survive longer; kept apart from
//! what the guest writes now, it is not copied again and again. A round brings its pages in the
//! order of their addresses, so that they can be read back in long runs.
//!
//! Moved pages are not part of the log's chain and are never replayed. Until a checkpoint has put
//! them into the map, the map shows the old copies, and those stay where they are; a crash before
//! it loses copies, not content.

use super::Context;
use super::Error;
use super::layout::{CHUNK_ENTRIES_MAX, Location, SegmentIndex, byte_offset};
use super::log::{
    ChunkEnd, DescriptorParts, Record, SegmentHeader, checksum, put_record, seal_descriptor,
};
use super::segment::{SegmentKind, SegmentTable};
use crate::page::{Lba, PAGE_BYTES, PageSealer, Salt, StructureSealer, Tag};

/// A page on its way.
pub(super) struct Moving {
    pub(super) lba: Lba,
    /// The generation in which its content changed.
    pub(super) birth: u32,
    /// When the segment it comes from was written.
    pub(super) stamp: u32,
}

/// Where and when a chunk is written.
#[derive(Clone, Copy)]
pub(super) struct Moment {
    pub(super) layer: u64,
    pub(super) generation: u32,
    pub(super) incarnation: u64,
}

/// The segment moved pages go to.
#[derive(Default)]
pub(super) struct ColdStream {
    open: Option<OpenCold>,
}

struct OpenCold {
    index: SegmentIndex,
    structure: StructureSealer,
    pages: PageSealer,
    position: u32,
    sequence: u64,
    previous: Tag,
    /// The sum of the stamps of its pages, and how many they are: its age is their mean.
    stamps: u64,
    count: u64,
}

impl ColdStream {
    /// The segment being filled; it must not be released.
    pub(super) fn segment(&self) -> Option<SegmentIndex> {
        self.open.as_ref().map(|open| open.index)
    }

    /// Ends the segment being filled and forgets its keys.
    pub(super) fn close(&mut self) {
        self.open = None;
    }

    /// Pages the next chunk may have.
    pub(super) fn room(&self, segment_pages: u32) -> usize {
        let position = match &self.open {
            Some(open) if open.position + 2 <= segment_pages => open.position,
            _ => 1,
        };
        CHUNK_ENTRIES_MAX.min((segment_pages - position - 1) as usize)
    }

    /// Seals pages, at most as many as there is room for, and writes them as one chunk. `bytes` are
    /// theirs, one after the other. Answers where each of them is now.
    pub(super) fn write(
        &mut self,
        ctx: &Context,
        table: &mut SegmentTable,
        moment: Moment,
        moving: &[Moving],
        bytes: &[u8],
    ) -> Result<Vec<(Location, Tag)>, Error> {
        let full =
            |open: &OpenCold| open.position + 1 + moving.len() as u32 > ctx.geometry.segment_pages;
        if self.open.as_ref().is_none_or(full) {
            self.open = Some(OpenCold::new(ctx, table, moment)?);
        }
        let open = self.open.as_mut().expect("set above");
        let (opened, _) = bytes.as_chunks::<PAGE_BYTES>();
        let mut chunk = vec![0; (1 + moving.len()) * PAGE_BYTES];
        let (descriptor, data) = chunk.split_at_mut(PAGE_BYTES);
        let (pages, _) = data.as_chunks_mut::<PAGE_BYTES>();
        let mut placed = Vec::with_capacity(moving.len());
        for (((at, moved), opened), page) in (0..).zip(moving).zip(opened).zip(pages) {
            let position = open.position + 1 + at;
            let tag = open.pages.seal_into(position, moved.lba, opened, page);
            let record = Record::Copy { lba: moved.lba, tag, birth: moved.birth };
            put_record(descriptor, at as usize, &record);
            placed.push((ctx.geometry.locate(open.index, position), tag));
            open.stamps += u64::from(moved.stamp);
        }
        let parts = DescriptorParts {
            sequence: open.sequence,
            previous: open.previous,
            checksum: checksum(data),
            durable: 0,
            generation: moment.generation,
            entries: moving.len() as u16,
            data_pages: moving.len() as u16,
            end: ChunkEnd::Plain,
        };
        open.previous = seal_descriptor(descriptor, &parts, &mut open.structure, open.position);
        ctx.disk
            .write(byte_offset(ctx.geometry.locate(open.index, open.position)), &chunk)
            .map_err(Error::disk("write moved pages"))?;
        open.sequence += 1;
        open.position += 1 + moving.len() as u32;
        open.count += moving.len() as u64;
        table.touch(open.index, moment.layer);
        table.set_stamp(open.index, (open.stamps / open.count.max(1)) as u32);
        Ok(placed)
    }
}

impl OpenCold {
    /// Opens a segment under a new salt. Its header names no successor and no chunk of the log.
    fn new(ctx: &Context, table: &mut SegmentTable, moment: Moment) -> Result<Self, Error> {
        let key = ctx.data.as_ref().ok_or(Error::KeyAbsent)?;
        let salt = Salt::generate(&*ctx.rng);
        let index = table.allocate(SegmentKind::Log, salt, moment.layer, moment.generation)?;
        let mut structure = ctx.structure.sealer(salt);
        let previous = Tag([0; 16]);
        let header = SegmentHeader {
            incarnation: moment.incarnation,
            first_sequence: 0,
            previous,
            successor: 0,
            successor_salt: Salt([0; 32]),
        };
        let page = header.seal(index, &mut structure);
        ctx.disk
            .write(byte_offset(ctx.geometry.start(index)), &page)
            .map_err(Error::disk("write a segment header"))?;
        let pages = key.sealer(salt);
        Ok(Self {
            index,
            structure,
            pages,
            position: 1,
            sequence: 1,
            previous,
            stamps: 0,
            count: 0,
        })
    }
}
