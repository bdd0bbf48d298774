//! The segment table: which segments of the file are used, by what, under which salt, and how
//! many of their pages something still refers to.
//!
//! The table describes the state of the last checkpoint plus the segments opened since. Counts
//! change only when a checkpoint, or the drop of a cut, becomes part of the superblock.

use super::cache::NumberMap;
use super::codec::{get, get_u32, get_u64, put};
use super::layout::{Geometry, Location, SegmentIndex, byte_offset};
use super::superblock::TableRef;
use super::{Disk, Error};
use crate::page::{PAGE_BYTES, Page, Salt, StructureKey, StructureKind, Tag};
use std::collections::BTreeSet;

/// Entries in a page of the stored table.
pub(super) const ENTRIES_PER_PAGE: usize = 84;
const HEADER_BYTES: usize = 64;
const ENTRY_BYTES: usize = 48;

const _: () = assert!(HEADER_BYTES + ENTRIES_PER_PAGE * ENTRY_BYTES <= PAGE_BYTES);

/// What a segment holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum SegmentKind {
    Free = 0,
    /// A header, then chunks of the log.
    Log = 1,
    /// Map and table pages.
    Map = 2,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    pub(super) kind: SegmentKind,
    pub(super) salt: Salt,
    /// Pages that the map of the last checkpoint or a retained cut refers to.
    pub(super) live: u32,
    /// The newest layer with something in this segment that replay or a later checkpoint needs.
    pub(super) newest_layer: u64,
    /// When its content was written: segments the log had opened before then. The mean of where
    /// they came from, for moved pages.
    pub(super) stamp: u32,
    /// No page in it was written in an earlier generation.
    pub(super) generation: u32,
}

impl Segment {
    const FREE: Self = Self {
        kind: SegmentKind::Free,
        salt: Salt([0; 32]),
        live: 0,
        newest_layer: 0,
        stamp: 0,
        generation: 0,
    };

    /// How long ago its content was written, in segments the log has opened since; at least one.
    pub(super) fn age(&self, clock: u32) -> f64 {
        f64::from(clock.saturating_sub(self.stamp)) + 1.0
    }
}

const _: () = assert!(size_of::<Segment>() == 56, "memory per segment is documented");

/// Changes of live counts that are not part of the table yet.
#[derive(Default)]
pub(super) struct Accounting(NumberMap<SegmentIndex, i64>);

impl Accounting {
    pub(super) fn add(&mut self, segment: SegmentIndex, pages: i64) {
        *self.0.entry(segment).or_default() += pages;
    }

    /// Counts a page that nothing refers to any more.
    pub(super) fn free(&mut self, geometry: Geometry, location: Location) {
        if let Some((segment, _)) = geometry.split(location) {
            self.add(segment, -1);
        }
    }

    /// Counts a page that something refers to.
    pub(super) fn count(&mut self, geometry: Geometry, location: Location) {
        if let Some((segment, _)) = geometry.split(location) {
            self.add(segment, 1);
        }
    }

    /// The sum for a segment.
    pub(super) fn get(&self, segment: SegmentIndex) -> i64 {
        self.0.get(&segment).copied().unwrap_or(0)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (SegmentIndex, i64)> {
        self.0.iter().map(|(segment, pages)| (*segment, *pages))
    }

    /// All changes together.
    pub(super) fn sum(&self) -> i64 {
        self.0.values().sum()
    }

    pub(super) fn absorb(&mut self, other: &Self) {
        for (segment, pages) in &other.0 {
            self.add(*segment, *pages);
        }
    }
}

pub(super) struct SegmentTable {
    pub(super) geometry: Geometry,
    segments: Vec<Segment>,
    free: BTreeSet<SegmentIndex>,
    /// The sum of all live counts.
    live: u64,
    /// Segments the log has opened, which serves as the time.
    clock: u32,
    /// Where the stored form lies, to be counted as dead when it is stored anew.
    stored: Vec<Location>,
}

impl SegmentTable {
    pub(super) fn new(geometry: Geometry) -> Self {
        let (segments, free) = (Vec::new(), BTreeSet::new());
        Self { geometry, segments, free, live: 0, clock: 0, stored: Vec::new() }
    }

    pub(super) fn geometry(&self) -> Geometry {
        self.geometry
    }

    pub(super) fn len(&self) -> usize {
        self.segments.len()
    }

    /// Memory the table takes.
    pub(super) fn memory_bytes(&self) -> usize {
        self.segments.len() * size_of::<Segment>()
    }

    /// Segments in use.
    pub(super) fn used(&self) -> u32 {
        (self.segments.len() - self.free.len()) as u32
    }

    /// Pages that something refers to, as of the last checkpoint.
    pub(super) fn live(&self) -> u64 {
        self.live
    }

    /// How many segments the log has opened.
    pub(super) fn clock(&self) -> u32 {
        self.clock
    }

    /// Says when the content of a segment was written.
    pub(super) fn set_stamp(&mut self, segment: SegmentIndex, stamp: u32) {
        self.segments[segment as usize].stamp = stamp;
    }

    /// Notes that the log goes on in a segment that was reserved before.
    pub(super) fn open(&mut self, segment: SegmentIndex, layer: u64, generation: u32) {
        self.touch(segment, layer);
        self.clock = self.clock.saturating_add(1);
        let entry = &mut self.segments[segment as usize];
        (entry.stamp, entry.generation) = (self.clock, generation);
    }

    pub(super) fn get(&self, segment: SegmentIndex) -> Option<&Segment> {
        self.segments.get(segment as usize)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (SegmentIndex, &Segment)> {
        (0..).zip(&self.segments)
    }

    /// The salt a page was sealed with.
    pub(super) fn salt_of(&self, location: Location) -> Option<(Salt, u32)> {
        let (segment, position) = self.geometry.split(location)?;
        Some((self.get(segment)?.salt, position))
    }

    /// Takes the lowest free segment, or one past the end.
    pub(super) fn allocate(
        &mut self,
        kind: SegmentKind,
        salt: Salt,
        layer: u64,
        generation: u32,
    ) -> Result<SegmentIndex, Error> {
        let stamp = self.clock;
        let used = Segment { kind, salt, live: 0, newest_layer: layer, stamp, generation };
        if let Some(segment) = self.free.pop_first() {
            self.segments[segment as usize] = used;
            return Ok(segment);
        }
        let segment = self.segments.len() as SegmentIndex;
        if segment >= self.geometry.segment_count_max() {
            return Err(Error::Full);
        }
        self.segments.push(used);
        Ok(segment)
    }

    /// Notes, while the log is replayed, that a segment past the checkpoint is in use.
    pub(super) fn adopt(
        &mut self,
        segment: SegmentIndex,
        salt: Salt,
        layer: u64,
        generation: u32,
    ) -> Result<(), Error> {
        if segment >= self.geometry.segment_count_max() {
            return Err(Error::corrupt("successor of a segment", self.geometry.start(segment)));
        }
        while self.segments.len() <= segment as usize {
            self.free.insert(self.segments.len() as SegmentIndex);
            self.segments.push(Segment::FREE);
        }
        self.free.remove(&segment);
        self.clock = self.clock.saturating_add(1);
        self.segments[segment as usize] = Segment {
            kind: SegmentKind::Log,
            salt,
            live: 0,
            newest_layer: layer,
            stamp: self.clock,
            generation,
        };
        Ok(())
    }

    /// Notes that `layer` needs a segment.
    pub(super) fn touch(&mut self, segment: SegmentIndex, layer: u64) {
        let newest = &mut self.segments[segment as usize].newest_layer;
        *newest = layer.max(*newest);
    }

    /// Makes pending changes part of the table.
    pub(super) fn apply(&mut self, changes: &Accounting) -> Result<(), Error> {
        for (segment, pages) in &changes.0 {
            let damaged = Error::corrupt("segment table", self.geometry.start(*segment));
            let entry = self.segments.get_mut(*segment as usize).ok_or(damaged.clone())?;
            let live = i64::from(entry.live) + pages;
            let possible = 0..=i64::from(self.geometry.segment_pages);
            let live = possible.contains(&live).then_some(live as u32).ok_or(damaged)?;
            self.live = self.live + u64::from(live) - u64::from(entry.live);
            entry.live = live;
        }
        Ok(())
    }

    /// Segments nothing refers to and no layer above `merged` needs, except those in `kept`.
    pub(super) fn dead(&self, merged: u64, kept: &[SegmentIndex]) -> Vec<SegmentIndex> {
        self.iter()
            .filter(|(index, segment)| {
                segment.kind != SegmentKind::Free
                    && segment.live == 0
                    && segment.newest_layer <= merged
                    && !kept.contains(index)
            })
            .map(|(index, _)| index)
            .collect()
    }

    /// Makes a segment available again. The superblock that no longer names it must be durable.
    pub(super) fn release(&mut self, segment: SegmentIndex) {
        self.segments[segment as usize] = Segment::FREE;
        self.free.insert(segment);
    }

    /// Pages the stored form takes at present.
    pub(super) fn stored_pages(&self) -> usize {
        self.segments.len().div_ceil(ENTRIES_PER_PAGE)
    }

    /// Moves the stored form to `locations`, one per page, and adjusts the counts for that.
    pub(super) fn place(&mut self, locations: Vec<Location>) -> Result<(), Error> {
        let mut changes = Accounting::default();
        for location in &self.stored {
            changes.free(self.geometry, *location);
        }
        for location in &locations {
            changes.count(self.geometry, *location);
        }
        self.stored = locations;
        self.apply(&changes)
    }

    /// Counts the pages of the stored form.
    pub(super) fn count_stored(&self, counts: &mut Accounting) {
        for location in &self.stored {
            counts.count(self.geometry, *location);
        }
    }

    /// Where the table's counts differ from counts made from scratch, and by how much.
    pub(super) fn differences(&self, counts: &Accounting) -> Vec<(SegmentIndex, i64)> {
        let counted = |index| counts.get(index);
        self.iter()
            .map(|(index, segment)| (index, counted(index) - i64::from(segment.live)))
            .filter(|(_, difference)| *difference != 0)
            .collect()
    }

    /// One page of the stored form; `next` is the page after it.
    pub(super) fn encode_page(&self, index: usize, next: Option<TableRef>) -> Page {
        let mut page = [0; PAGE_BYTES];
        if let Some(next) = next {
            put(&mut page, 0, &next.location.to_le_bytes());
            put(&mut page, 8, &next.tag.0);
            put(&mut page, 24, &next.salt.0);
        }
        let entries = self.segments.chunks(ENTRIES_PER_PAGE).nth(index).unwrap_or_default();
        for (segment, bytes) in
            entries.iter().zip(page[HEADER_BYTES..].chunks_exact_mut(ENTRY_BYTES))
        {
            put(bytes, 0, &segment.salt.0);
            put(bytes, 32, &segment.live.to_le_bytes());
            bytes[36] = segment.kind as u8;
            put(bytes, 40, &segment.stamp.to_le_bytes());
            put(bytes, 44, &segment.generation.to_le_bytes());
        }
        page
    }

    /// Reads the stored form as it is.
    pub(super) fn load(
        geometry: Geometry,
        first: TableRef,
        disk: &dyn Disk,
        key: &StructureKey,
    ) -> Result<Self, Error> {
        let mut table = Self::new(geometry);
        let mut next = first;
        for index in 0..(first.count as usize).div_ceil(ENTRIES_PER_PAGE) {
            let mut page = [0; PAGE_BYTES];
            let damaged = || Error::corrupt("segment table", next.location);
            let (_, position) = geometry.split(next.location).ok_or_else(damaged)?;
            disk.read(byte_offset(next.location), &mut page)
                .map_err(Error::disk("read the segment table"))?;
            key.opener(next.salt)
                .open(position, StructureKind::SegmentTable, index as u64, &next.tag, &mut page)
                .map_err(|_| damaged())?;
            table.stored.push(next.location);
            table.decode_page(&page, first.count as usize).ok_or_else(damaged)?;
            next = TableRef {
                location: get_u64(&page, 0),
                tag: Tag(get(&page, 8)),
                salt: Salt(get(&page, 24)),
                count: 0,
            };
        }
        Ok(table)
    }

    /// Frees what nothing refers to, except the log's `head`, and says which were not free. Everything else
    /// about a loaded table is as it was stored.
    pub(super) fn release_unused(&mut self, head: SegmentIndex) -> Vec<SegmentIndex> {
        let mut unused = Vec::new();
        for index in 0..self.segments.len() as SegmentIndex {
            let Segment { live, kind, .. } = self.segments[index as usize];
            if live == 0 && index != head {
                if kind != SegmentKind::Free {
                    unused.push(index);
                }
                self.release(index);
            }
        }
        unused
    }

    /// Takes a free segment that nothing may be written to before it is released; answers no where it is
    /// not free.
    pub(super) fn reserve(&mut self, segment: SegmentIndex) -> bool {
        let is_free = self.free.remove(&segment);
        if is_free {
            self.segments[segment as usize] = Segment { kind: SegmentKind::Log, ..Segment::FREE };
        }
        is_free
    }

    pub(super) fn decode_page(&mut self, page: &Page, count: usize) -> Option<()> {
        let entries = (count - self.segments.len()).min(ENTRIES_PER_PAGE);
        for bytes in page[HEADER_BYTES..].chunks_exact(ENTRY_BYTES).take(entries) {
            let kind = match bytes[36] {
                0 => SegmentKind::Free,
                1 => SegmentKind::Log,
                2 => SegmentKind::Map,
                _ => return None,
            };
            let (salt, live) = (Salt(get(bytes, 0)), get_u32(bytes, 32));
            let (stamp, generation) = (get_u32(bytes, 40), get_u32(bytes, 44));
            self.clock = self.clock.max(stamp);
            self.live += u64::from(live);
            self.segments.push(Segment { kind, salt, live, newest_layer: 0, stamp, generation });
        }
        Some(())
    }
}
