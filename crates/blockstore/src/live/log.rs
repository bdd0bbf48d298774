//! The write side of the log: the chunk being filled and the segment it goes to.
//!
//! A chunk is one descriptor page and the data pages it describes, written with one call when it
//! is full or somebody wants it durable. Its descriptor names the chunk before it, so the log is
//! one chain across segments. A segment is opened with a header that names its successor and the
//! successor's salt, so the chain can be followed without a table.

use super::codec::{get, get_u16, get_u32, get_u64, put};
use super::layout::{
    CHUNK_ENTRIES_MAX, Geometry, LOG_VERSION, Location, SegmentIndex, byte_offset,
};
use super::segment::{SegmentKind, SegmentTable};
use super::superblock::{CutId, LogHead};
use super::tail::{Notes, Place};
use super::{AlignedBuffer, Context, Disk, Error};
use crate::page::{
    Lba, PAGE_BYTES, Page, PageSealer, SUITE_AES_256_GCM, Salt, StructureKind, StructureOpener,
    StructureSealer, Tag,
};

const HEADER_MAGIC: [u8; 4] = *b"SRSG";
const HEADER_CLEAR_BYTES: usize = 64;
const CHUNK_MAGIC: [u8; 4] = *b"SRCH";
const CHUNK_CLEAR_BYTES: usize = 32;
pub(super) const ENTRIES_AT: usize = 128;
pub(super) const ENTRY_BYTES: usize = 28;
const FLAG_CUT: u8 = 1;
const FLAG_RESIZE: u8 = 2;

/// Pages of zeros written ahead of the log for clients that flush often. Where a file grows, a flush
/// has the file system commit its own journal, and with it whatever others have changed there; where
/// bytes lie already, it does not.
const AHEAD_PAGES: u32 = 256;
/// With less than this ahead, more is written.
const AHEAD_PAGES_MIN: u32 = 16;
/// A client that writes more than this between flushes pays little for the growth of the file.
const FLUSHED_OFTEN_BYTES: u64 = 256 << 10;

/// Bytes of the largest chunk.
pub(super) const CHUNK_BYTES_MAX: usize = (1 + CHUNK_ENTRIES_MAX) * PAGE_BYTES;
/// The disk is told of at least so many pages that will be written, where there is room.
const EXPECTED_PAGES_MIN: u32 = 256;

const _: () = assert!(ENTRIES_AT + CHUNK_ENTRIES_MAX * ENTRY_BYTES <= PAGE_BYTES);

/// What a chunk says beyond its entries, after which it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChunkEnd {
    /// Nothing.
    Plain,
    /// A cut is taken.
    Cut(CutId),
    /// The volume has this many bytes.
    Resize(u64),
}

/// What a chunk says about a page or a range of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Record {
    /// The chunk's next data page, written by the guest.
    Data { lba: Lba, tag: Tag },
    /// The chunk's next data page, a copy of content that changed in generation `birth`, or, with
    /// `birth` 0, of the base's content.
    Copy { lba: Lba, tag: Tag, birth: u32 },
    /// Zeros, written or discarded.
    Zero { lba: Lba, count: u64 },
}

impl Record {
    pub(super) fn encode(&self, b: &mut [u8]) {
        let (kind, lba, birth, tail) = match *self {
            Self::Data { lba, tag } => (1u64, lba, 0, tag.0),
            Self::Copy { lba, tag, birth } => (2, lba, birth, tag.0),
            Self::Zero { lba, count } => (3, lba, 0, u128::from(count).to_le_bytes()),
        };
        put(b, 0, &(lba | kind << 56).to_le_bytes());
        put(b, 8, &birth.to_le_bytes());
        put(b, 12, &tail);
    }

    /// The page it is about, if it goes with a page of the chunk.
    pub(super) fn page(&self) -> Option<Lba> {
        match *self {
            Self::Data { lba, .. } | Self::Copy { lba, .. } => Some(lba),
            Self::Zero { .. } => None,
        }
    }

    pub(super) fn decode(b: &[u8]) -> Option<Self> {
        let word = get_u64(b, 0);
        let lba = word & ((1 << 56) - 1);
        let tag = Tag(get(b, 12));
        match word >> 56 {
            1 => Some(Self::Data { lba, tag }),
            2 => Some(Self::Copy { lba, tag, birth: get_u32(b, 8) }),
            3 => Some(Self::Zero { lba, count: get_u64(b, 12) }),
            _ => None,
        }
    }
}

/// What a descriptor says besides its entries.
pub(super) struct DescriptorParts {
    pub(super) sequence: u64,
    pub(super) previous: Tag,
    pub(super) checksum: u64,
    pub(super) durable: u64,
    pub(super) generation: u32,
    pub(super) entries: u16,
    pub(super) data_pages: u16,
    pub(super) end: ChunkEnd,
}

/// Puts an entry into a descriptor that is not sealed yet.
pub(super) fn put_record(descriptor: &mut [u8], at: usize, record: &Record) {
    let at = ENTRIES_AT + at * ENTRY_BYTES;
    record.encode(&mut descriptor[at..at + ENTRY_BYTES]);
}

/// Completes and seals a descriptor whose entries are in place.
pub(super) fn seal_descriptor(
    b: &mut [u8],
    parts: &DescriptorParts,
    sealer: &mut StructureSealer,
    position: u32,
) -> Tag {
    b[ENTRIES_AT + usize::from(parts.entries) * ENTRY_BYTES..].fill(0);
    b[..ENTRIES_AT].fill(0);
    put(b, 0, &CHUNK_MAGIC);
    put(b, 4, &[LOG_VERSION, SUITE_AES_256_GCM]);
    put(b, 8, &parts.sequence.to_le_bytes());
    put(b, 32, &parts.previous.0);
    put(b, 48, &parts.checksum.to_le_bytes());
    put(b, 56, &parts.durable.to_le_bytes());
    put(b, 64, &parts.generation.to_le_bytes());
    put(b, 68, &parts.entries.to_le_bytes());
    put(b, 70, &parts.data_pages.to_le_bytes());
    match parts.end {
        ChunkEnd::Plain => {}
        ChunkEnd::Cut(id) => {
            b[72] = FLAG_CUT;
            put(b, 80, &id.to_bytes());
        }
        ChunkEnd::Resize(volume_bytes) => {
            b[72] = FLAG_RESIZE;
            put(b, 112, &volume_bytes.to_le_bytes());
        }
    }
    let body = &mut b[CHUNK_CLEAR_BYTES..];
    let tag = sealer.seal_at(position, StructureKind::Descriptor, parts.sequence, body);
    put(b, 16, &tag.0);
    tag
}

/// A chunk's descriptor, authenticated.
pub(super) struct Descriptor(Page);

impl Descriptor {
    /// Opens a page as a descriptor, if it is one that was sealed at this place.
    pub(super) fn open(mut page: Page, opener: &StructureOpener, position: u32) -> Option<Self> {
        let clear = [LOG_VERSION, SUITE_AES_256_GCM, 0, 0];
        if page[..4] != CHUNK_MAGIC || page[4..8] != clear {
            return None;
        }
        let (sequence, tag) = (get_u64(&page, 8), Tag(get(&page, 16)));
        let body = &mut page[CHUNK_CLEAR_BYTES..];
        opener.open(position, StructureKind::Descriptor, sequence, &tag, body).ok()?;
        let descriptor = Self(page);
        let entries = usize::from(get_u16(&descriptor.0, 68));
        let data = descriptor.records().filter(|r| !matches!(r, Some(Record::Zero { .. }))).count();
        let whole = entries <= CHUNK_ENTRIES_MAX
            && descriptor.0[72] & !(FLAG_CUT | FLAG_RESIZE) == 0
            && descriptor.records().all(|record| record.is_some())
            && data == descriptor.data_pages() as usize;
        whole.then_some(descriptor)
    }

    /// A page taken for one, for the fuzz targets.
    pub(super) fn unchecked(page: Page) -> Self {
        Self(page)
    }

    pub(super) fn sequence(&self) -> u64 {
        get_u64(&self.0, 8)
    }

    pub(super) fn tag(&self) -> Tag {
        Tag(get(&self.0, 16))
    }

    pub(super) fn previous(&self) -> Tag {
        Tag(get(&self.0, 32))
    }

    pub(super) fn checksum(&self) -> u64 {
        get_u64(&self.0, 48)
    }

    /// Every chunk up to this one was durable when this chunk was sealed.
    pub(super) fn durable(&self) -> u64 {
        get_u64(&self.0, 56)
    }

    pub(super) fn generation(&self) -> u32 {
        get_u32(&self.0, 64)
    }

    pub(super) fn data_pages(&self) -> u32 {
        u32::from(get_u16(&self.0, 70))
    }

    /// Whether the data pages from `first` on are those the chunk was written with; they are read in pieces
    /// of so many bytes.
    pub(super) fn is_whole(
        &self,
        disk: &dyn Disk,
        first: Location,
        read_bytes_max: usize,
    ) -> Result<bool, Error> {
        let length = self.data_pages() as usize * PAGE_BYTES;
        let (mut checksum, mut part) = (Checksum::default(), vec![0; length.min(read_bytes_max)]);
        for done in (0..length).step_by(read_bytes_max) {
            let part = &mut part[..read_bytes_max.min(length - done)];
            let offset = byte_offset(first) + done as u64;
            disk.read(offset, part).map_err(Error::disk("read the log"))?;
            checksum.add(part);
        }
        Ok(checksum.so_far() == self.checksum())
    }

    /// The cut this chunk ends with.
    pub(super) fn cut(&self) -> Option<CutId> {
        if self.0[72] & FLAG_CUT == 0 { None } else { CutId::from_bytes(get(&self.0, 80)) }
    }

    /// The volume's size after this chunk, if it changes there.
    pub(super) fn resize(&self) -> Option<u64> {
        (self.0[72] & FLAG_RESIZE != 0).then(|| get_u64(&self.0, 112))
    }

    pub(super) fn records(&self) -> impl Iterator<Item = Option<Record>> + '_ {
        let count = usize::from(get_u16(&self.0, 68)).min(CHUNK_ENTRIES_MAX);
        self.0[ENTRIES_AT..].chunks_exact(ENTRY_BYTES).take(count).map(Record::decode)
    }
}

/// A segment's header, authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) incarnation: u64,
    /// The sequence number of the segment's first chunk.
    pub(super) first_sequence: u64,
    /// The tag of the chunk before that.
    pub(super) previous: Tag,
    /// Where the log goes on when this segment is full.
    pub(super) successor: SegmentIndex,
    pub(super) successor_salt: Salt,
}

impl SegmentHeader {
    pub(super) fn seal(&self, segment: SegmentIndex, sealer: &mut StructureSealer) -> Page {
        let mut page = [0; PAGE_BYTES];
        let body = &mut page[HEADER_CLEAR_BYTES..];
        put(body, 0, &self.incarnation.to_le_bytes());
        put(body, 8, &self.first_sequence.to_le_bytes());
        put(body, 16, &self.previous.0);
        put(body, 32, &self.successor.to_le_bytes());
        put(body, 40, &self.successor_salt.0);
        let tag = sealer.seal_at(0, StructureKind::SegmentHeader, u64::from(segment), body);
        put(&mut page, 0, &HEADER_MAGIC);
        put(&mut page, 4, &[LOG_VERSION, SUITE_AES_256_GCM]);
        put(&mut page, 8, &tag.0);
        put(&mut page, 24, &sealer.salt().0);
        page
    }

    /// Opens a page as the header of a segment sealed with the opener's salt.
    pub(super) fn open(
        mut page: Page,
        segment: SegmentIndex,
        opener: &StructureOpener,
    ) -> Option<Self> {
        let clear = [LOG_VERSION, SUITE_AES_256_GCM, 0, 0];
        let end = [0; HEADER_CLEAR_BYTES - 56];
        if page[..4] != HEADER_MAGIC
            || page[4..8] != clear
            || page[24..56] != opener.salt().0
            || page[56..HEADER_CLEAR_BYTES] != end
        {
            return None;
        }
        let tag = Tag(get(&page, 8));
        let body = &mut page[HEADER_CLEAR_BYTES..];
        opener.open(0, StructureKind::SegmentHeader, u64::from(segment), &tag, body).ok()?;
        Some(Self {
            incarnation: get_u64(body, 0),
            first_sequence: get_u64(body, 8),
            previous: Tag(get(body, 16)),
            successor: get_u32(body, 32),
            successor_salt: Salt(get(body, 40)),
        })
    }
}

/// The segment that chunks go to.
struct OpenSegment {
    index: SegmentIndex,
    structure: StructureSealer,
    /// Present when the data key is.
    pages: Option<PageSealer>,
    successor: SegmentIndex,
    successor_salt: Salt,
    /// The first position nothing was sealed for.
    position: u32,
    /// The first position nothing was written to, if it is above [`OpenSegment::position`].
    ahead: u32,
    /// The first position the disk does not expect to be written.
    expected: u32,
}

impl OpenSegment {
    /// Has the disk provide space up to the position `end`, and beyond it the more, the more was
    /// written to the segment: seldom for who writes much, little for who writes little.
    fn expect_writes(&mut self, ctx: &Context, end: u32) {
        if end <= self.expected {
            return;
        }
        let pages = end.max(EXPECTED_PAGES_MIN);
        let until = end.saturating_add(pages).min(ctx.geometry.segment_pages);
        let start = byte_offset(ctx.geometry.start(self.index) + u64::from(self.expected));
        let length = byte_offset(u64::from(until - self.expected));
        ctx.disk.expect_writes(start, length);
        self.expected = until;
    }
}

/// The write side of the log.
pub(super) struct Log {
    /// The segment to open next.
    reserved: (SegmentIndex, Salt),
    segment: Option<OpenSegment>,
    /// The sequence number of the chunk being filled.
    sequence: u64,
    previous: Tag,
    incarnation: u64,
    pub(super) generation: u32,
    /// The newest chunk known to be durable.
    pub(super) durable: u64,
    /// Bytes written to the disk since this was last set to 0.
    pub(super) bytes_since_flush: u64,
    pub(super) bytes_since_checkpoint: u64,
    /// The descriptor of the chunk being filled. It is not in `buffer` before it is sealed: that may be
    /// a file's.
    descriptor: Box<Page>,
    /// Room for a descriptor, and the data pages of the chunk being filled.
    buffer: AlignedBuffer,
    /// What is noted beside `buffer`, if that is of a tail.
    notes: Option<Notes>,
    /// Of the data pages in `buffer`.
    checksum: Checksum,
    entries: usize,
    data_pages: usize,
}

impl Log {
    /// A log that goes on at `head`, in a segment that has not been opened.
    pub(super) fn new(head: LogHead, salt: Salt, incarnation: u64) -> Self {
        debug_assert!(head.position == 0);
        Self {
            reserved: (head.segment, salt),
            segment: None,
            sequence: head.sequence,
            previous: head.previous,
            incarnation,
            generation: head.generation,
            durable: head.sequence - 1,
            bytes_since_flush: 0,
            bytes_since_checkpoint: 0,
            descriptor: Box::new([0; PAGE_BYTES]),
            buffer: AlignedBuffer::zeroed(CHUNK_BYTES_MAX),
            notes: None,
            checksum: Checksum::default(),
            entries: 0,
            data_pages: 0,
        }
    }

    /// Where the chunk being filled will go.
    pub(super) fn head(&self) -> LogHead {
        let (segment, position) = match &self.segment {
            Some(open) => (open.index, open.position),
            None => (self.reserved.0, 0),
        };
        LogHead {
            sequence: self.sequence,
            previous: self.previous,
            segment,
            position,
            generation: self.generation,
        }
    }

    /// Segments that must not be released.
    pub(super) fn segments(&self) -> [SegmentIndex; 2] {
        match &self.segment {
            Some(open) => [open.index, open.successor],
            None => [self.reserved.0; 2],
        }
    }

    /// The newest chunk that was handed to the disk.
    pub(super) fn written(&self) -> u64 {
        self.sequence - 1
    }

    /// Notes that every chunk up to `sequence` is durable.
    pub(super) fn note_durable(&mut self, sequence: u64) {
        if sequence > self.durable {
            self.durable = sequence;
            self.bytes_since_flush = 0;
        }
    }

    /// Pages the open segment still takes, descriptors included, behind the chunk being filled.
    pub(super) fn room(&self, geometry: Geometry) -> u64 {
        let Some(open) = &self.segment else { return 0 };
        let end = open.position + 1 + self.data_pages as u32;
        u64::from(geometry.segment_pages.saturating_sub(end))
    }

    pub(super) fn is_chunk_empty(&self) -> bool {
        self.entries == 0
    }

    /// Takes the data key of the current segment away.
    pub(super) fn forget_key(&mut self) {
        if let Some(open) = &mut self.segment {
            open.pages = None;
        }
    }

    /// Seals a page into the chunk being filled.
    ///
    /// `birth` is `None` for a guest's write.
    pub(super) fn append_page(
        &mut self,
        ctx: &Context,
        table: &mut SegmentTable,
        layer: u64,
        lba: Lba,
        birth: Option<u32>,
        page: &Page,
    ) -> Result<(Location, Tag), Error> {
        self.make_room(ctx, table, layer, 1)?;
        let open = self.segment.as_mut().expect("make_room opens a segment");
        if open.pages.is_none() {
            let key = ctx.data.as_ref().ok_or(Error::KeyAbsent)?;
            open.pages = Some(key.sealer(open.structure.salt()));
        }
        let sealer = open.pages.as_mut().expect("set above");
        let position = open.position + 1 + self.data_pages as u32;
        let at = (1 + self.data_pages) * PAGE_BYTES;
        let target = &mut self.buffer[at..at + PAGE_BYTES];
        let target = target.as_mut_array().expect("the slice is a page");
        let tag = sealer.seal_into(position, lba, page, target);
        // While the page is still near.
        self.checksum.add(target);
        self.data_pages += 1;
        self.push(match birth {
            None => Record::Data { lba, tag },
            Some(birth) => Record::Copy { lba, tag, birth },
        });
        Ok((ctx.geometry.locate(self.segments()[0], position), tag))
    }

    /// Notes zeros in the chunk being filled.
    pub(super) fn append_zeros(
        &mut self,
        ctx: &Context,
        table: &mut SegmentTable,
        layer: u64,
        lba: Lba,
        count: u64,
    ) -> Result<(), Error> {
        self.make_room(ctx, table, layer, 0)?;
        self.push(Record::Zero { lba, count });
        Ok(())
    }

    fn push(&mut self, record: Record) {
        put_record(&mut *self.descriptor, self.entries, &record);
        self.entries += 1;
    }

    /// Makes sure that one more entry with `data_pages` pages fits the chunk and the segment.
    fn make_room(
        &mut self,
        ctx: &Context,
        table: &mut SegmentTable,
        layer: u64,
        data_pages: usize,
    ) -> Result<(), Error> {
        let room = |log: &Self| match &log.segment {
            None => 0,
            Some(open) => (ctx.geometry.segment_pages - open.position) as usize,
        };
        if self.entries == CHUNK_ENTRIES_MAX || 1 + self.data_pages + data_pages > room(self) {
            if self.entries > 0 {
                self.write_chunk(ctx, table, layer, ChunkEnd::Plain)?;
            }
            if 1 + data_pages > room(self) {
                self.open_segment(ctx, table, layer)?;
            }
        }
        Ok(())
    }

    fn open_segment(
        &mut self,
        ctx: &Context,
        table: &mut SegmentTable,
        layer: u64,
    ) -> Result<(), Error> {
        let (index, salt) = match &self.segment {
            Some(open) => (open.successor, open.successor_salt),
            None => self.reserved,
        };
        table.open(index, layer, self.generation);
        let successor_salt = Salt::generate(&*ctx.rng);
        let successor = table.allocate(SegmentKind::Log, successor_salt, layer, self.generation)?;
        let mut structure = ctx.structure.sealer(salt);
        let header = SegmentHeader {
            incarnation: self.incarnation,
            first_sequence: self.sequence,
            previous: self.previous,
            successor,
            successor_salt,
        };
        let page = header.seal(index, &mut structure);
        ctx.disk
            .write(byte_offset(ctx.geometry.start(index)), &page)
            .map_err(Error::disk("write a segment header"))?;
        if self.notes.is_some() {
            // What a tail holds of the segment is found through its header, which no tail holds.
            ctx.disk.hand_over().map_err(Error::disk("hand over a segment header"))?;
        }
        self.segment = Some(OpenSegment {
            index,
            structure,
            pages: None,
            successor,
            successor_salt,
            position: 1,
            ahead: 1,
            expected: 0,
        });
        Ok(())
    }

    /// Called before a flush: if flushes are frequent, writes zeros ahead, which this flush makes
    /// durable together with the log.
    pub(super) fn write_ahead(&mut self, ctx: &Context) -> Result<(), Error> {
        let Some(open) = &mut self.segment else { return Ok(()) };
        let start = open.position.max(open.ahead);
        let end = start.saturating_add(AHEAD_PAGES).min(ctx.geometry.segment_pages);
        let enough = open.position + AHEAD_PAGES_MIN <= open.ahead || start == end;
        if enough || self.bytes_since_flush > FLUSHED_OFTEN_BYTES {
            return Ok(());
        }
        let at = byte_offset(ctx.geometry.start(open.index) + u64::from(start));
        ctx.disk
            .fill_ahead(at, byte_offset(u64::from(end - start)))
            .map_err(Error::disk("write ahead of the log"))?;
        open.ahead = end;
        Ok(())
    }

    /// Seals the chunk being filled and hands it to the disk. Unless it ends plainly it may be empty.
    pub(super) fn write_chunk(
        &mut self,
        ctx: &Context,
        table: &mut SegmentTable,
        layer: u64,
        end: ChunkEnd,
    ) -> Result<(), Error> {
        if self.entries == 0 {
            self.make_room(ctx, table, layer, 0)?;
        }
        let used = (1 + self.data_pages) * PAGE_BYTES;
        let checksum = std::mem::take(&mut self.checksum).so_far();
        let open = self.segment.as_mut().expect("a chunk with entries has a segment");
        let parts = DescriptorParts {
            sequence: self.sequence,
            previous: self.previous,
            checksum,
            durable: self.durable,
            generation: self.generation,
            entries: self.entries as u16,
            data_pages: self.data_pages as u16,
            end,
        };
        let position = open.position;
        let tag = seal_descriptor(&mut *self.descriptor, &parts, &mut open.structure, position);
        if self.notes.as_ref().is_some_and(Notes::are_empty) {
            self.begin_notes(ctx);
        }
        self.buffer[..PAGE_BYTES].copy_from_slice(&*self.descriptor);
        let open = self.segment.as_mut().expect("as above");
        let end = position + 1 + self.data_pages as u32;
        open.expect_writes(ctx, end);
        self.buffer.set_length(used);
        let start = byte_offset(ctx.geometry.locate(open.index, position));
        let accepted = ctx.disk.start_write(start, &mut self.buffer);
        self.buffer.set_length(CHUNK_BYTES_MAX);
        accepted.map_err(Error::disk("write a chunk"))?;
        self.buffer.page_in();
        table.touch(open.index, layer);
        open.position = end;
        self.sequence += 1;
        self.previous = tag;
        self.bytes_since_flush += used as u64;
        self.bytes_since_checkpoint += used as u64;
        self.entries = 0;
        self.data_pages = 0;
        if let Some(notes) = &mut self.notes {
            notes.end_chunk();
        }
        Ok(())
    }

    /// Whether chunks could be filled in a tail from now on: they are not yet, and that being filled has
    /// no pages.
    pub(super) fn takes_tail(&self) -> bool {
        self.notes.is_none() && self.data_pages == 0
    }

    /// Fills chunks in `buffer`, which is of a tail, and in those that the disk leaves for it.
    pub(super) fn use_tail(&mut self, ctx: &Context, buffer: AlignedBuffer) {
        debug_assert!(self.takes_tail());
        self.buffer = buffer;
        self.buffer.page_in();
        self.notes = Some(new_notes(ctx));
    }

    /// Notes in the tail, if there is one, what was appended: called before that is answered.
    pub(super) fn note_appended(&mut self, ctx: &Context) {
        let Some(notes) = &self.notes else { return };
        let noted = notes.entries();
        if noted == self.entries {
            return;
        }
        if notes.are_empty() {
            self.begin_notes(ctx);
        }
        let entries = ENTRIES_AT + noted * ENTRY_BYTES..ENTRIES_AT + self.entries * ENTRY_BYTES;
        let (sequence, sum) = (self.sequence, self.checksum.so_far());
        if let (Some(notes), Some(head)) = (&mut self.notes, self.buffer.head_mut()) {
            notes.add_entries(head, sequence, sum, &self.descriptor[entries]);
        }
    }

    fn begin_notes(&mut self, ctx: &Context) {
        let (Some(notes), Some(head)) = (&mut self.notes, self.buffer.head_mut()) else { return };
        let Some(open) = &self.segment else { return };
        if notes.are_used_up() {
            *notes = new_notes(ctx);
        }
        let place = Place {
            sequence: self.sequence,
            segment: open.index,
            position: open.position,
            salt: open.structure.salt(),
            generation: self.generation,
        };
        notes.begin_chunk(head, &place);
    }

    /// A page of the chunk being filled, which the disk does not have yet.
    pub(super) fn buffered(&self, ctx: &Context, location: Location) -> Option<&Page> {
        let open = self.segment.as_ref()?;
        let first = ctx.geometry.start(open.index) + u64::from(open.position) + 1;
        let index = usize::try_from(location.checked_sub(first)?).ok()?;
        if index >= self.data_pages {
            return None;
        }
        let at = (1 + index) * PAGE_BYTES;
        self.buffer[at..at + PAGE_BYTES].as_array()
    }
}

fn new_notes(ctx: &Context) -> Notes {
    Notes::new(ctx.structure.sealer(Salt::generate(&*ctx.rng)))
}

/// Tells torn data from whole data when the log is replayed without the data key. It is sealed in
/// the descriptor and protects against accidents only: whoever alters a page on purpose meets the
/// page's own tag when it is read.
pub(super) fn checksum(data: &[u8]) -> u64 {
    let mut checksum = Checksum::default();
    checksum.add(data);
    checksum.so_far()
}

/// A [`checksum`] of data that comes piece by piece.
pub(super) struct Checksum {
    lanes: [u64; 4],
    length: u64,
}

const MULTIPLIERS: [u64; 4] =
    [0x9e37_79b9_7f4a_7c15, 0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb, 0xd6e8_feb8_6659_fd93];

impl Default for Checksum {
    fn default() -> Self {
        Self { lanes: MULTIPLIERS, length: 0 }
    }
}

impl Checksum {
    /// Goes on with a multiple of 32 bytes.
    pub(super) fn add(&mut self, data: &[u8]) {
        let (lines, rest) = data.as_chunks::<32>();
        debug_assert!(rest.is_empty());
        let [mut a, mut b, mut c, mut d] = self.lanes;
        let mix = |lane: u64, word: &[u8; 8], multiplier: u64| {
            (lane ^ u64::from_le_bytes(*word)).wrapping_mul(multiplier).rotate_left(29)
        };
        // Four chains that the processor follows at once.
        for line in lines {
            let (words, _) = line.as_chunks::<8>();
            a = mix(a, &words[0], MULTIPLIERS[0]);
            b = mix(b, &words[1], MULTIPLIERS[1]);
            c = mix(c, &words[2], MULTIPLIERS[2]);
            d = mix(d, &words[3], MULTIPLIERS[3]);
        }
        self.lanes = [a, b, c, d];
        self.length += data.len() as u64;
    }

    /// That of what came so far.
    pub(super) fn so_far(&self) -> u64 {
        self.lanes.iter().fold(self.length, |sum, lane| {
            let mixed = (sum ^ lane).wrapping_mul(MULTIPLIERS[0]);
            mixed ^ (mixed >> 31)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_sees_every_sector() {
        let mut data: Vec<u8> = (0..8192u32).map(|i| (i * 31 % 251) as u8).collect();
        let whole = checksum(&data);
        // Frozen: computed by an independent implementation.
        assert_eq!(whole, 0x991f_5314_b1fc_3ca8);
        let mut pieces = Checksum::default();
        data.chunks(4096).for_each(|piece| pieces.add(piece));
        assert_eq!(pieces.so_far(), whole);
        for at in (0..data.len()).step_by(61) {
            data[at] ^= 4;
            assert_ne!(checksum(&data), whole, "{at}");
            data[at] ^= 4;
        }
        let mut swapped = data.clone();
        swapped.rotate_left(512);
        assert_ne!(checksum(&swapped), whole);
        assert_ne!(checksum(&data[..4096]), whole);
    }

    #[test]
    fn records_round_trip() {
        let tag = Tag([9; 16]);
        for record in [
            Record::Data { lba: 5, tag },
            Record::Copy { lba: 1 << 40, tag, birth: 77 },
            Record::Zero { lba: 3, count: 1 << 33 },
        ] {
            let mut bytes = [0; ENTRY_BYTES];
            record.encode(&mut bytes);
            assert_eq!(Record::decode(&bytes), Some(record));
        }
        assert_eq!(Record::decode(&[0; ENTRY_BYTES]), None);
    }
}
