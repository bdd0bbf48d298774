//! Which requests were taken off the rings and not answered, in memory that the front-end keeps
//! when this process dies (VU *Inflight I/O tracking*, split virtqueues).
//!
//! An entry is marked before its request goes to the device and cleared after its answer is in the
//! used ring, so that a new process finds every request whose answer the guest has not seen. A
//! request may be done twice that way, never not at all; between its two times the guest has seen
//! no answer, so it cannot tell.
//!
//! The order of the steps around the used ring matters when the process dies between them: the head
//! is noted, the ring's index moves, the entry is cleared, the index is noted. A noted index behind
//! the ring's means that the last noted head was answered although its entry is still marked.
//!
//! Behind the rings, where the specification has nothing, lies the cache mode that the guest believes
//! in: a front-end that connects again does not say it again.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use vm_memory::{Bytes, FileOffset, MmapRegion, VolatileMemory};

use super::config::Cache;
use super::memory::holds;
use super::message::InflightArea;
use super::{QUEUE_SIZE_MAX, QUEUES_MAX};

/// Bytes of a ring's header: features, version, size, last head, used index.
const HEADER_BYTES: usize = 16;
/// Bytes of an entry: mark, padding, next, counter.
const ENTRY_BYTES: usize = 16;
/// A ring's part begins at a multiple of this.
const ALIGNMENT: usize = 64;
const VERSION: u16 = 1;

/// Bytes behind the rings, for the cache mode.
const CACHE_BYTES: usize = ALIGNMENT;
/// What stands there. Anything else says nothing: other programs make records too.
const WRITEBACK: u64 = u64::from_le_bytes(*b"SRwrback");
const WRITETHROUGH: u64 = u64::from_le_bytes(*b"SRwrthru");

const VERSION_AT: usize = 8;
const SIZE_AT: usize = 10;
const LAST_HEAD_AT: usize = 12;
const USED_INDEX_AT: usize = 14;
const NEXT_IN_ENTRY: usize = 6;
const COUNTER_IN_ENTRY: usize = 8;

/// Why a record cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InflightError {
    /// More rings or longer rings than there can be, or none.
    #[error("a record of {queues} rings of {queue_size}")]
    BadShape {
        /// Rings.
        queues: u16,
        /// Descriptors of each.
        queue_size: u16,
    },
    /// The area, or its file, is smaller than its rings need.
    #[error("the record is too small for its rings")]
    TooSmall,
    /// The file cannot be made.
    #[error("the record's file cannot be made")]
    Create(#[source] io::Error),
    /// The file cannot be mapped.
    #[error("the record cannot be mapped")]
    Map(#[source] vm_memory::mmap::MmapRegionError),
}

/// The record of all rings.
pub(crate) struct Record {
    mapping: MmapRegion<()>,
    queues: u16,
    queue_size: u16,
    /// Where the cache mode stands; `None` in a record that has no place for it.
    cache_at: Option<usize>,
}

impl Record {
    /// Makes an empty record; the file goes to the front-end.
    pub(crate) fn create(asked: InflightArea) -> Result<(InflightArea, OwnedFd), InflightError> {
        let size = bytes(asked.queues, asked.queue_size)? + CACHE_BYTES;
        let make = || {
            let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
            let file = memfd_create("vhost-user-inflight", flags)?;
            ftruncate(&file, size as u64)?;
            // A file that cannot shrink cannot end the process that has it mapped.
            fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW)?;
            Ok(file)
        };
        let file =
            make().map_err(|error: rustix::io::Errno| InflightError::Create(error.into()))?;
        Ok((InflightArea { size: size as u64, offset: 0, ..asked }, file))
    }

    /// Uses a record, new or left by a process before.
    pub(crate) fn open(area: InflightArea, file: OwnedFd) -> Result<Self, InflightError> {
        let rings = bytes(area.queues, area.queue_size)?;
        let has = |size: usize| area.size >= size as u64 && holds(&file, area.offset, size as u64);
        let (size, cache_at) = match (has(rings), has(rings + CACHE_BYTES)) {
            (true, true) => (rings + CACHE_BYTES, Some(rings)),
            (true, false) => (rings, None),
            (false, _) => return Err(InflightError::TooSmall),
        };
        let file = FileOffset::new(File::from(file), area.offset);
        let mapping = MmapRegion::from_file(file, size).map_err(InflightError::Map)?;
        Ok(Self { mapping, queues: area.queues, queue_size: area.queue_size, cache_at })
    }

    /// The cache mode that was noted.
    pub(crate) fn cache(&self) -> Option<Cache> {
        match u64::from_le(self.load(self.cache_at?)) {
            WRITEBACK => Some(Cache::Writeback),
            WRITETHROUGH => Some(Cache::Writethrough),
            _ => None,
        }
    }

    /// Notes the cache mode for a process that follows.
    pub(crate) fn note_cache(&self, cache: Cache) {
        let mark = match cache {
            Cache::Writeback => WRITEBACK,
            Cache::Writethrough => WRITETHROUGH,
        };
        if let Some(at) = self.cache_at {
            self.store(at, mark.to_le());
        }
    }

    fn load<T: vm_memory::AtomicAccess>(&self, at: usize) -> T {
        let slice = self.mapping.as_volatile_slice();
        slice.load(at, Ordering::Acquire).expect("the record has room for its rings")
    }

    fn store<T: vm_memory::AtomicAccess>(&self, at: usize, value: T) {
        let slice = self.mapping.as_volatile_slice();
        slice.store(value, at, Ordering::Release).expect("the record has room for its rings");
    }

    /// The part of one ring; `None` when the record has none for it.
    pub(crate) fn ring(self: &Arc<Self>, index: u16) -> Option<Tracker> {
        if index >= self.queues {
            return None;
        }
        let base = ring_bytes(self.queue_size) * usize::from(index);
        let tracker = Tracker { record: Arc::clone(self), base, counter: 0 };
        tracker.put16(VERSION_AT, VERSION);
        tracker.put16(SIZE_AT, self.queue_size);
        Some(tracker)
    }
}

fn ring_bytes(queue_size: u16) -> usize {
    (HEADER_BYTES + ENTRY_BYTES * usize::from(queue_size)).next_multiple_of(ALIGNMENT)
}

fn bytes(queues: u16, queue_size: u16) -> Result<usize, InflightError> {
    let shape = (1..=QUEUES_MAX).contains(&queues) && (1..=QUEUE_SIZE_MAX).contains(&queue_size);
    if shape {
        Ok(ring_bytes(queue_size) * usize::from(queues))
    } else {
        Err(InflightError::BadShape { queues, queue_size })
    }
}

/// The record of one ring.
pub(crate) struct Tracker {
    record: Arc<Record>,
    base: usize,
    /// The order in which requests were taken.
    counter: u64,
}

impl Tracker {
    /// Descriptors the record has room for.
    pub(crate) fn size(&self) -> u16 {
        self.record.queue_size
    }

    /// Notes that a request was taken, before anyone works on it.
    pub(crate) fn taken(&mut self, head: u16) {
        let entry = entry(head);
        self.put64(entry + COUNTER_IN_ENTRY, self.counter);
        self.counter = self.counter.wrapping_add(1);
        self.put8(entry, 1);
    }

    /// Notes which answer comes next, before the used ring moves.
    pub(crate) fn answering(&self, head: u16) {
        let last = self.get16(LAST_HEAD_AT);
        self.put16(entry(head) + NEXT_IN_ENTRY, last);
        self.put16(LAST_HEAD_AT, head);
    }

    /// Notes that the used ring has moved to `used`.
    pub(crate) fn answered(&self, head: u16, used: u16) {
        self.put8(entry(head), 0);
        self.put16(USED_INDEX_AT, used);
    }

    /// The requests that a process before took and did not answer, in the order it took them, for
    /// a ring whose used index is `used`.
    pub(crate) fn recover(&mut self, used: u16) -> Vec<u16> {
        if self.get16(USED_INDEX_AT) != used {
            let head = self.get16(LAST_HEAD_AT);
            if head < self.size() {
                self.put8(entry(head), 0);
            }
            self.put16(USED_INDEX_AT, used);
        }
        let mut open: Vec<(u64, u16)> = (0..self.size())
            .filter(|head| self.get8(entry(*head)) == 1)
            .map(|head| (self.get64(entry(head) + COUNTER_IN_ENTRY), head))
            .collect();
        open.sort_unstable();
        self.counter = open.last().map_or(0, |(counter, _)| counter.wrapping_add(1));
        open.into_iter().map(|(_, head)| head).collect()
    }

    fn get8(&self, at: usize) -> u8 {
        self.load(at)
    }

    fn get16(&self, at: usize) -> u16 {
        u16::from_le(self.load(at))
    }

    fn get64(&self, at: usize) -> u64 {
        u64::from_le(self.load(at))
    }

    fn put8(&self, at: usize, value: u8) {
        self.store(at, value);
    }

    fn put16(&self, at: usize, value: u16) {
        self.store(at, value.to_le());
    }

    fn put64(&self, at: usize, value: u64) {
        self.store(at, value.to_le());
    }

    fn load<T: vm_memory::AtomicAccess>(&self, at: usize) -> T {
        self.record.load(self.base + at)
    }

    fn store<T: vm_memory::AtomicAccess>(&self, at: usize, value: T) {
        self.record.store(self.base + at, value);
    }
}

fn entry(head: u16) -> usize {
    HEADER_BYTES + ENTRY_BYTES * usize::from(head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::os::unix::fs::FileExt;

    fn record() -> (InflightArea, OwnedFd) {
        let asked = InflightArea { size: 0, offset: 0, queues: 2, queue_size: 8, body_bytes: 24 };
        Record::create(asked).unwrap()
    }

    fn tracker(area: InflightArea, file: &OwnedFd) -> Tracker {
        Arc::new(Record::open(area, file.try_clone().unwrap()).unwrap()).ring(1).unwrap()
    }

    #[test]
    fn what_was_not_answered_is_found_in_order() {
        let (area, file) = record();
        let mut before = tracker(area, &file);
        assert!(before.recover(0).is_empty());
        for head in [5, 2, 7, 0] {
            before.taken(head);
        }
        before.answering(2);
        before.answered(2, 1);
        assert_eq!(tracker(area, &file).recover(1), [5, 7, 0]);
    }

    #[test]
    fn an_answer_cut_short_is_an_answer_once_the_ring_has_moved() {
        let (area, file) = record();
        let mut before = tracker(area, &file);
        before.taken(3);
        before.taken(4);
        before.answering(3);
        assert_eq!(tracker(area, &file).recover(0), [3, 4], "the ring has not moved");
        assert_eq!(tracker(area, &file).recover(1), [4], "the ring has moved");
        assert_eq!(tracker(area, &file).recover(1), [4], "and it is noted");
    }

    #[test]
    fn the_cache_mode_is_noted_where_there_is_room() {
        let (area, file) = record();
        let open = |area| Record::open(area, file.try_clone().unwrap()).unwrap();
        assert_eq!(open(area).cache(), None, "nothing was noted");
        for cache in [Cache::Writethrough, Cache::Writeback] {
            open(area).note_cache(cache);
            assert_eq!(open(area).cache(), Some(cache));
        }
        // As a server of before makes it.
        let rings = bytes(area.queues, area.queue_size).unwrap() as u64;
        let without = InflightArea { size: rings, ..area };
        open(without).note_cache(Cache::Writethrough);
        assert_eq!(open(without).cache(), None);
        assert_eq!(open(area).cache(), Some(Cache::Writeback), "nothing was written there");
    }

    #[test]
    fn a_record_fits_its_rings() {
        let (area, file) = record();
        let rings = bytes(area.queues, area.queue_size).unwrap() as u64;
        let small = InflightArea { size: rings - 1, ..area };
        let opened = Record::open(small, file.try_clone().unwrap());
        assert!(matches!(opened, Err(InflightError::TooSmall)));
        let beyond = InflightArea { offset: 4096, ..area };
        assert!(matches!(Record::open(beyond, file), Err(InflightError::TooSmall)));
        for (queues, queue_size) in [(0, 8), (17, 8), (1, 0), (1, 1025)] {
            let asked = InflightArea { queues, queue_size, ..area };
            assert!(matches!(Record::create(asked), Err(InflightError::BadShape { .. })));
        }
    }

    /// What a new process makes of a ring's part of a record that holds anything.
    fn serve(queue_size: u16, used: u16, memory: &[u8]) {
        let asked = InflightArea { size: 0, offset: 0, queues: 1, queue_size, body_bytes: 24 };
        let (area, file) = Record::create(asked).unwrap();
        let held = &memory[..memory.len().min(area.size as usize)];
        File::from(file.try_clone().unwrap()).write_all_at(held, 0).unwrap();
        let ring = || Arc::new(Record::open(area, file.try_clone().unwrap()).unwrap()).ring(0);
        let mut tracker = ring().unwrap();
        let open = tracker.recover(used);
        let heads: BTreeSet<u16> = open.iter().copied().collect();
        assert!(heads.len() == open.len() && heads.iter().all(|head| *head < queue_size));
        assert_eq!(ring().unwrap().recover(used), open, "the next one finds the same");
        let mut used = used;
        let fresh = (0..queue_size).find(|head| !heads.contains(head));
        fresh.into_iter().for_each(|head| tracker.taken(head));
        for head in open.into_iter().chain(fresh) {
            used = used.wrapping_add(1);
            tracker.answering(head);
            tracker.answered(head, used);
        }
        assert!(ring().unwrap().recover(used).is_empty(), "all were answered");
    }

    fuzz::target!(
        /// Any record: the first byte says how long its ring is, the next two where the used ring is.
        records,
        vec![vec![1; 300], [&[9, 4, 0][..], &[0; 250]].concat()],
        |bytes: &[u8]| {
            if let [size, low, high, memory @ ..] = bytes {
                serve(1 + u16::from(*size) % 16, u16::from_le_bytes([*low, *high]), memory);
            }
        }
    );
}
