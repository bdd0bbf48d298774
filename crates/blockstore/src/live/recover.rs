//! Opening after a stop of any kind: replay of the log, then a new incarnation.
//!
//! Replay needs no data key. It follows the chain of descriptors from the superblock's head and
//! stops at the first chunk that is missing or torn. Everything acknowledged by a flush lies before
//! that point, because a flush is acknowledged only when every earlier chunk is durable.
//!
//! A chain that breaks where the log itself says it was durable is damage, not a power cut, and is
//! refused rather than rolled back.

use super::delta::Entry;
use super::engine::Engine;
use super::layout::{Location, SegmentIndex, byte_offset, check_size};
use super::log::{CHUNK_BYTES_MAX, Descriptor, Log, Record, SegmentHeader};
use super::segment::SegmentKind;
use super::superblock::LogHead;
use super::tail::{LeftChunk, Place, left_chunks};
use super::{AlignedBuffer, CutId, Error};
use crate::page::{KeyCheckValue, Lba, PAGE_BYTES, Page, Salt, StructureOpener, Tag};

/// Pages of the log read at once when it is searched.
const SEARCHED_PAGES: usize = 64;

/// A place in the log while it is followed.
struct Cursor {
    segment: SegmentIndex,
    position: u32,
    sequence: u64,
    previous: Tag,
    opener: StructureOpener,
    header: Option<SegmentHeader>,
}

impl Cursor {
    /// Whether the next chunk of the log is that one, here.
    fn is_at(&self, place: &Place) -> bool {
        let here = (self.sequence, self.segment, self.position, self.opener.salt());
        here == (place.sequence, place.segment, place.position, place.salt)
    }
}

/// Told of a chunk: descriptor, salt of its pages, location of the first, whether it is whole.
pub(super) type VisitChunk<'a> = dyn FnMut(&Descriptor, Salt, Location, bool) + 'a;

impl Engine {
    /// Replays the log and starts a new incarnation, noting `key_check` if none was known.
    pub(super) fn recover(&mut self, key_check: Option<KeyCheckValue>) -> Result<(), Error> {
        let tail = self.ctx.disk.left_tail().map_err(Error::disk("read a tail"))?;
        let left = tail.as_deref().unwrap_or_default();
        let left = left_chunks(left, &self.ctx.structure);
        let verified = self.find_durable()?;
        let end = self.replay(verified, &left)?;
        self.apply_noted(&left, end)?;
        self.mutate(|engine| {
            // Cuts first: their layers end in segments of the old incarnation.
            engine.merge_all()?;
            let salt = Salt::generate(&*engine.ctx.rng);
            let layer = engine.active.id + 1;
            let generation = engine.log.generation;
            let segment = engine.table.allocate(SegmentKind::Log, salt, layer, generation)?;
            engine.committed.incarnation += 1;
            let end = engine.log.head();
            let head = LogHead { segment, position: 0, ..end };
            engine.log = Log::new(head, salt, engine.committed.incarnation);
            engine.committed.key_check = engine.committed.key_check.or(key_check);
            // Every chunk before the new segment is part of these layers; none is replayed again.
            engine.seal_layer(None);
            engine.merge_all()
        })?;
        if tail.is_some() {
            self.end_tail();
        }
        Ok(())
    }

    /// Writes the chunk for the cursor's place there, if a process left it whole in its tail. Nobody else
    /// has written there: the place is the log's until a checkpoint.
    fn put_back(&self, left: &[LeftChunk<'_>], cursor: &Cursor) -> Result<(), Error> {
        let found = left.iter().find(|chunk| cursor.is_at(&chunk.place));
        let whole = found.and_then(|c| c.whole(&self.ctx.structure, self.ctx.geometry));
        let Some(chunk) = whole else { return Ok(()) };
        let at = byte_offset(self.ctx.geometry.locate(cursor.segment, cursor.position));
        self.ctx.disk.write(at, chunk).map_err(Error::disk("write a chunk of the tail"))
    }

    /// Applies what is noted of the chunk that was being filled, if it goes on where the log ends.
    fn apply_noted(&mut self, left: &[LeftChunk<'_>], end: Option<Cursor>) -> Result<(), Error> {
        let Some(cursor) = end else { return Ok(()) };
        let Some(chunk) = left.iter().find(|chunk| cursor.is_at(&chunk.place)) else {
            return Ok(());
        };
        let (records, data) = chunk.noted();
        let first = cursor.position + 1;
        let end = u64::from(first) + (data.len() / PAGE_BYTES) as u64;
        if records.is_empty() || end > u64::from(self.ctx.geometry.segment_pages) {
            return Ok(());
        }
        if !data.is_empty() {
            let at = byte_offset(self.ctx.geometry.locate(cursor.segment, first));
            self.ctx.disk.write(at, data).map_err(Error::disk("write pages of the tail"))?;
        }
        let records = records.into_iter().map(Some);
        self.apply_records(records, chunk.place.generation, &cursor, first)?;
        self.log.generation = chunk.place.generation;
        Ok(())
    }

    /// Follows the chain once, to learn up to which chunk it was durable when last sealed.
    fn find_durable(&mut self) -> Result<u64, Error> {
        let mut durable = self.committed.head.sequence - 1;
        let mut cursor = match self.start()? {
            Some(cursor) => cursor,
            None => return Ok(durable),
        };
        while let Some(descriptor) = self.next_chunk(&mut cursor)? {
            durable = durable.max(descriptor.durable());
        }
        Ok(durable)
    }

    /// Shows every chunk behind the last checkpoint, with the salt of its pages, the place of its
    /// first page, and whether it is whole. Ends where recovery would end.
    pub(super) fn visit_log(&mut self, visit: &mut VisitChunk<'_>) -> Result<(), Error> {
        let verified = self.find_durable()?;
        let Some(mut cursor) = self.start()? else { return Ok(()) };
        loop {
            let sequence = cursor.sequence;
            let Some(descriptor) = self.next_chunk(&mut cursor)? else { return Ok(()) };
            let first = cursor.position - descriptor.data_pages();
            let whole = self.is_whole(&descriptor, cursor.segment, first)?;
            if !whole && sequence > verified {
                return Ok(());
            }
            let location = self.ctx.geometry.locate(cursor.segment, first - 1) + 1;
            visit(&descriptor, cursor.opener.salt(), location, whole);
        }
    }

    /// Applies every chunk up to the first that is missing or torn, those included that are left in a
    /// tail. Chunks up to `verified` are known to be whole. Returns the place for the next chunk, if
    /// nothing of one is there.
    fn replay(&mut self, verified: u64, left: &[LeftChunk<'_>]) -> Result<Option<Cursor>, Error> {
        let mut at = self.committed.head;
        let Some(mut cursor) = self.start()? else {
            self.log = self.log_at(at);
            return Ok(None);
        };
        let end = loop {
            let (sequence, previous) = (cursor.sequence, cursor.previous);
            let Some(descriptor) = self.next_chunk_or_left(&mut cursor, left)? else {
                break Some(cursor);
            };
            let first = cursor.position - descriptor.data_pages();
            if sequence > verified && !self.is_whole(&descriptor, cursor.segment, first)? {
                at = LogHead { sequence, previous, ..at };
                break None;
            }
            self.apply_chunk(&descriptor, &cursor, first)?;
            at = LogHead {
                sequence: cursor.sequence,
                previous: cursor.previous,
                segment: cursor.segment,
                position: cursor.position,
                generation: self.log.generation,
            };
        };
        self.log = self.log_at(at);
        Ok(end)
    }

    /// A log that stands at `at`, for as long as recovery needs to know that.
    fn log_at(&self, at: LogHead) -> Log {
        let salt = self.table.get(at.segment).map_or(Salt([0; 32]), |segment| segment.salt);
        let head = LogHead { position: 0, generation: self.log.generation, ..at };
        Log::new(head, salt, self.committed.incarnation)
    }

    fn apply_chunk(
        &mut self,
        descriptor: &Descriptor,
        cursor: &Cursor,
        first: u32,
    ) -> Result<(), Error> {
        let generation = descriptor.generation();
        self.apply_records(descriptor.records(), generation, cursor, first)?;
        self.log.generation = generation;
        if let Some(volume_bytes) = descriptor.resize() {
            if check_size(volume_bytes).is_err() || volume_bytes < self.size {
                let page = self.ctx.geometry.locate(cursor.segment, first - 1);
                return Err(Error::corrupt("chunk descriptor", page));
            }
            self.size = volume_bytes;
        }
        if let Some(cut) = descriptor.cut() {
            self.replay_cut(cut, cursor);
        }
        Ok(())
    }

    /// Applies what a chunk in the cursor's segment says of pages; its data begins at `first`.
    fn apply_records(
        &mut self,
        records: impl Iterator<Item = Option<Record>>,
        generation: u32,
        cursor: &Cursor,
        first: u32,
    ) -> Result<(), Error> {
        let geometry = self.ctx.geometry;
        let page = geometry.locate(cursor.segment, first - 1);
        let salt = cursor.opener.salt();
        if self.table.get(cursor.segment).is_none_or(|s| s.kind == SegmentKind::Free) {
            self.table.adopt(cursor.segment, salt, self.active.id, generation)?;
        }
        self.table.touch(cursor.segment, self.active.id);
        let mut location = page;
        for record in records {
            let record = record.ok_or(Error::corrupt("chunk descriptor", page))?;
            let (lba, count) = match record {
                Record::Data { lba, .. } | Record::Copy { lba, .. } => (lba, 1),
                Record::Zero { lba, count } => (lba, count),
            };
            let pages = self.size / PAGE_BYTES as u64;
            if lba.checked_add(count).is_none_or(|end| end > pages) {
                return Err(Error::corrupt("chunk descriptor", page));
            }
            let mut stored = |lba: Lba, tag, birth| {
                location += 1;
                self.active.put(geometry, lba, Entry { location, tag, birth, written: generation });
            };
            match record {
                Record::Data { lba, tag } => stored(lba, tag, generation),
                Record::Copy { lba, tag, birth } => stored(lba, tag, birth),
                Record::Zero { lba, count } => {
                    self.active.put_zeros(geometry, lba, count, generation);
                }
            }
        }
        Ok(())
    }

    fn replay_cut(&mut self, cut: CutId, cursor: &Cursor) {
        let head = LogHead {
            sequence: cursor.sequence,
            previous: cursor.previous,
            segment: cursor.segment,
            position: 0,
            generation: self.log.generation,
        };
        self.log = Log::new(head, cursor.opener.salt(), self.committed.incarnation);
        self.seal_layer(Some(cut));
        // The layer ends in the middle of a segment that was opened.
        let layer = self.frozen.back_mut().and_then(std::sync::Arc::get_mut);
        let layer = layer.expect("seal_layer pushed a layer that nobody shares yet");
        layer.end = layer.end.map(|end| LogHead { position: cursor.position, ..end });
    }

    /// The place the superblock names, or `None` when nothing was written there.
    fn start(&mut self) -> Result<Option<Cursor>, Error> {
        let head = self.committed.head;
        let damaged = Error::corrupt("log head", self.ctx.geometry.start(head.segment));
        let salt = self.table.get(head.segment).ok_or(damaged.clone())?.salt;
        let opener = self.ctx.structure.opener(salt);
        let header = self.read_header(head.segment, &opener)?;
        let expected = |header: &SegmentHeader| {
            header.incarnation == self.committed.incarnation
                && (head.position > 0
                    || header.first_sequence == head.sequence && header.previous == head.previous)
        };
        match header {
            Some(header) if expected(&header) => Ok(Some(Cursor {
                segment: head.segment,
                position: head.position.max(1),
                sequence: head.sequence,
                previous: head.previous,
                opener,
                header: Some(header),
            })),
            _ if head.position > 0 => Err(damaged),
            _ => {
                self.refuse_damage(head.segment, 1, &opener, head.sequence)?;
                Ok(None)
            }
        }
    }

    /// Reads the next chunk and moves behind it. `None` at the end of the log.
    fn next_chunk(&self, cursor: &mut Cursor) -> Result<Option<Descriptor>, Error> {
        self.next_chunk_or_left(cursor, &[])
    }

    /// As [`Engine::next_chunk`], with chunks of a tail put back on the way.
    fn next_chunk_or_left(
        &self,
        cursor: &mut Cursor,
        left: &[LeftChunk<'_>],
    ) -> Result<Option<Descriptor>, Error> {
        loop {
            self.put_back(left, cursor)?;
            if let Some(found) = self.chunk_at(cursor)? {
                return Ok(Some(found));
            }
            if !self.follow(cursor)? {
                return Ok(None);
            }
        }
    }

    /// Reads the chunk the cursor stands at and moves behind it. `None` if there is none.
    fn chunk_at(&self, cursor: &mut Cursor) -> Result<Option<Descriptor>, Error> {
        let geometry = self.ctx.geometry;
        if cursor.position >= geometry.segment_pages {
            return Ok(None);
        }
        let page = self.read_page(geometry.locate(cursor.segment, cursor.position))?;
        let found = Descriptor::open(page, &cursor.opener, cursor.position).filter(|found| {
            found.sequence() == cursor.sequence && found.previous() == cursor.previous
        });
        let Some(found) = found else { return Ok(None) };
        let end = cursor.position + 1 + found.data_pages();
        if end > geometry.segment_pages {
            let page = geometry.locate(cursor.segment, cursor.position);
            return Err(Error::corrupt("chunk descriptor", page));
        }
        cursor.position = end;
        cursor.sequence += 1;
        cursor.previous = found.tag();
        Ok(Some(found))
    }

    /// Moves to the next segment, if the log goes on there.
    fn follow(&self, cursor: &mut Cursor) -> Result<bool, Error> {
        let Some(header) = cursor.header else { return Ok(false) };
        let (segment, salt) = (header.successor, header.successor_salt);
        if segment >= self.ctx.geometry.segment_count_max() {
            let page = self.ctx.geometry.start(cursor.segment);
            return Err(Error::corrupt("segment header", page));
        }
        let opener = self.ctx.structure.opener(salt);
        let next = self.read_header(segment, &opener)?;
        let expected = next.filter(|next| {
            next.incarnation == header.incarnation
                && next.first_sequence == cursor.sequence
                && next.previous == cursor.previous
        });
        if expected.is_none() {
            self.refuse_damage(cursor.segment, cursor.position, &cursor.opener, cursor.sequence)?;
            self.refuse_damage(segment, 1, &opener, cursor.sequence)?;
            return Ok(false);
        }
        cursor.segment = segment;
        cursor.position = 1;
        cursor.opener = opener;
        cursor.header = expected;
        Ok(true)
    }

    /// Looks for a chunk that was sealed when `sequence` was already durable. A power cut cannot
    /// have taken `sequence` then.
    fn refuse_damage(
        &self,
        segment: SegmentIndex,
        first: u32,
        opener: &StructureOpener,
        sequence: u64,
    ) -> Result<(), Error> {
        let geometry = self.ctx.geometry;
        let mut bytes = AlignedBuffer::zeroed(SEARCHED_PAGES * PAGE_BYTES);
        for start in (first..geometry.segment_pages).step_by(SEARCHED_PAGES) {
            let count = SEARCHED_PAGES.min((geometry.segment_pages - start) as usize);
            bytes.set_length(count * PAGE_BYTES);
            self.ctx
                .disk
                .read(byte_offset(geometry.locate(segment, start)), &mut bytes)
                .map_err(Error::disk("read the log"))?;
            for (position, page) in (start..).zip(bytes.as_chunks::<PAGE_BYTES>().0) {
                if let Some(later) = Descriptor::open(*page, opener, position)
                    && later.durable() >= sequence
                {
                    return Err(Error::corrupt("log", geometry.locate(segment, first)));
                }
            }
        }
        Ok(())
    }

    fn read_header(
        &self,
        segment: SegmentIndex,
        opener: &StructureOpener,
    ) -> Result<Option<SegmentHeader>, Error> {
        let page = self.read_page(self.ctx.geometry.start(segment))?;
        Ok(SegmentHeader::open(page, segment, opener))
    }

    /// Whether a chunk's data pages are those it was written with.
    pub(super) fn is_whole(
        &self,
        descriptor: &Descriptor,
        segment: SegmentIndex,
        first: u32,
    ) -> Result<bool, Error> {
        // An empty chunk may end its segment.
        let first = self.ctx.geometry.locate(segment, first - 1) + 1;
        descriptor.is_whole(&*self.ctx.disk, first, CHUNK_BYTES_MAX)
    }

    pub(super) fn read_page(&self, location: Location) -> Result<Page, Error> {
        let mut page = [0; PAGE_BYTES];
        self.ctx
            .disk
            .read(byte_offset(location), &mut page)
            .map_err(Error::disk("read the log"))?;
        Ok(page)
    }
}
