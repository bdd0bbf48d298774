//! What a killed process leaves for the one that follows it: the chunks the disk does not have yet.
//!
//! A write is answered when it is in the chunk being filled. A power cut may take it until a flush, and
//! ends whoever wrote it too. The end of the server's process alone must not: a client that reconnects
//! flushes on the next server, and believes. So chunks are filled in memory that outlives the process,
//! and before a write is answered a sealed note beside the chunk says which pages it has.
//!
//! Nothing here is flushed. After a power cut a tail holds anything, also what was true some time ago;
//! every note and every page is checked, and only what goes on where the log ends is used.

use super::AlignedBuffer;
use super::codec::{get, get_u16, get_u32, get_u64, put};
use super::layout::{CHUNK_ENTRIES_MAX, Geometry, SegmentIndex};
use super::log::{CHUNK_BYTES_MAX, Checksum, Descriptor, ENTRY_BYTES, Record, checksum};
use super::region::{Layout, Region};
use super::writes::UNDER_WAY_MAX;
use crate::page::{
    PAGE_BYTES, Page, SUITE_AES_256_GCM, Salt, StructureKey, StructureKind, StructureOpener,
    StructureSealer, Tag,
};
use rustix::fs::{FallocateFlags, fallocate};
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const MAGIC: [u8; 4] = *b"SRTL";
/// The format of a tail.
const TAIL_VERSION: u8 = 1;
/// Magic, version and suite, sequence number, salt.
const CLEAR_BYTES: usize = 64;
/// Tag, nonce and length of a note.
const NOTE_CLEAR_BYTES: usize = 24;
const OPENING_BYTES: usize = 48;
/// The checksum of the chunk's data pages so far, before the entries of a note.
const SUM_BYTES: usize = 8;
/// Bytes of notes beside a chunk. An entry may need a note of its own.
const HEAD_BYTES: usize = 3 * PAGE_BYTES;
const SLOT_BYTES: usize = HEAD_BYTES + CHUNK_BYTES_MAX;
/// A chunk in each write that may be under way, one being filled, and one to be filled next.
const SLOTS: usize = UNDER_WAY_MAX + 2;
/// With fewer nonces left, a new salt is drawn. A chunk takes at most one for each entry and one more.
const NONCES_MIN: u32 = 1 << 10;

const _: () = assert!(
    CLEAR_BYTES
        + NOTE_CLEAR_BYTES
        + OPENING_BYTES
        + CHUNK_ENTRIES_MAX * (NOTE_CLEAR_BYTES + SUM_BYTES + ENTRY_BYTES)
        <= HEAD_BYTES
);

/// The file of a tail. The folder it lies in must be one that outlives the process.
///
/// A process that lost the volume and does not know it yet may live beside the one that has it now, with
/// a tail of the same name. So a tail is ended only by who made it or has read it.
#[derive(Clone, Debug)]
pub struct TailFile {
    path: PathBuf,
    /// What was read or made here last. Kept open: no other file gets its number.
    known: Arc<Mutex<Option<File>>>,
}

impl TailFile {
    /// The file with this path.
    pub fn at(path: PathBuf) -> Self {
        Self { path, known: Arc::default() }
    }

    /// That of the volume in the file `path`.
    pub(crate) fn of(path: &Path) -> Self {
        Self::at(path.with_extension("tail"))
    }

    /// Makes the file anew, and gives the buffers that lie in it. It has its space from the start:
    /// memory of a file cannot say that there is none.
    ///
    /// # Errors
    /// What the file system says.
    pub fn begin(&self) -> io::Result<Vec<AlignedBuffer>> {
        self.remove()?;
        let mut options = File::options();
        options.read(true).write(true).create_new(true).mode(0o600);
        let file = options.open(&self.path)?;
        let layout = layout(SLOTS);
        let made = fallocate(&file, FallocateFlags::empty(), 0, layout.length() as u64)
            .map_err(io::Error::from)
            .and_then(|()| Region::of_file(&file, layout));
        *self.known() = Some(file);
        match made {
            Ok(region) => Ok(region.take_all()),
            Err(error) => {
                self.end()?;
                Err(error)
            }
        }
    }

    /// Whether nothing is lost if a tail is begun here: there is no file, or one that is a tail or empty.
    ///
    /// # Errors
    /// What the file system says.
    pub fn is_tail(&self) -> io::Result<bool> {
        match std::fs::symlink_metadata(&self.path) {
            Ok(found) if !found.is_file() => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
            found => found.map(drop)?,
        }
        let mut first = Vec::new();
        File::open(&self.path)?.take(MAGIC.len() as u64).read_to_end(&mut first)?;
        Ok(first == MAGIC || first.iter().all(|byte| *byte == 0))
    }

    /// Whether a process left anything that was killed.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn is_left(&self) -> io::Result<bool> {
        self.path.try_exists()
    }

    /// What a process left that was killed.
    ///
    /// # Errors
    /// What the file system says.
    pub fn left(&self) -> io::Result<Option<Vec<u8>>> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        *self.known() = Some(file);
        Ok(Some(bytes))
    }

    /// Removes the file, if it is the one that was read or made here.
    ///
    /// # Errors
    /// What the file system says.
    pub fn end(&self) -> io::Result<()> {
        let Some(known) = self.known().take() else { return Ok(()) };
        let number = |found: Metadata| (found.dev(), found.ino());
        let found = match std::fs::symlink_metadata(&self.path) {
            Ok(found) => number(found),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        if found == number(known.metadata()?) { self.remove() } else { Ok(()) }
    }

    /// Removes the file, whosever it is, if it is there.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn remove(&self) -> io::Result<()> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn known(&self) -> MutexGuard<'_, Option<File>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A tail in memory of this process, for simulations of one that is killed.
pub struct MemoryTail(Arc<Region>);

impl MemoryTail {
    /// A tail with room for so many chunks.
    ///
    /// # Errors
    /// When the system has no memory.
    pub fn new(chunks: usize) -> io::Result<Self> {
        Region::new(layout(chunks)).map(Self)
    }

    /// The buffers that nobody has.
    pub fn buffers(&self) -> Vec<AlignedBuffer> {
        self.0.take_all()
    }

    /// What a process that is killed now would leave. `None` while anybody has a buffer.
    pub fn copy(&self) -> Option<Vec<u8>> {
        self.0.copy()
    }
}

fn layout(slots: usize) -> Layout {
    Layout { slots, head_bytes: HEAD_BYTES, buffer_bytes: CHUNK_BYTES_MAX }
}

/// Where a chunk goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) sequence: u64,
    pub(super) segment: SegmentIndex,
    pub(super) position: u32,
    /// That of the segment, which no other incarnation has.
    pub(super) salt: Salt,
    pub(super) generation: u32,
}

/// Writes the notes beside the chunk being filled.
pub(super) struct Notes {
    sealer: StructureSealer,
    nonce: u32,
    /// Where the next note goes; 0 before the chunk has any.
    at: usize,
    /// Entries that are in notes.
    entries: usize,
    /// What the next note says, before it is sealed: that may not lie open in the head.
    body: Vec<u8>,
}

impl Notes {
    pub(super) fn new(sealer: StructureSealer) -> Self {
        Self { sealer, nonce: 0, at: 0, entries: 0, body: Vec::new() }
    }

    /// Whether another sealer is needed before the next chunk.
    pub(super) fn are_used_up(&self) -> bool {
        self.at == 0 && u32::MAX - self.nonce < NONCES_MIN
    }

    /// Whether nothing is noted of the chunk, not even where it goes.
    pub(super) fn are_empty(&self) -> bool {
        self.at == 0
    }

    /// How many entries of the chunk are in notes.
    pub(super) fn entries(&self) -> usize {
        self.entries
    }

    /// Goes on with another chunk.
    pub(super) fn end_chunk(&mut self) {
        (self.at, self.entries) = (0, 0);
    }

    /// Notes where a chunk goes. Of what the slot held before, nothing opens from here on.
    pub(super) fn begin_chunk(&mut self, head: &mut [u8], place: &Place) {
        head[..CLEAR_BYTES].fill(0);
        put(head, 0, &MAGIC);
        put(head, 4, &[TAIL_VERSION, SUITE_AES_256_GCM]);
        put(head, 8, &place.sequence.to_le_bytes());
        put(head, 16, &self.sealer.salt().0);
        self.body.clear();
        self.body.resize(OPENING_BYTES, 0);
        put(&mut self.body, 0, &place.segment.to_le_bytes());
        put(&mut self.body, 4, &place.position.to_le_bytes());
        put(&mut self.body, 8, &place.generation.to_le_bytes());
        put(&mut self.body, 16, &place.salt.0);
        self.at = CLEAR_BYTES;
        self.add(head, identity(place.sequence, 0));
    }

    /// Notes the chunk's entries behind those that are noted; `sum` is of all its data pages.
    pub(super) fn add_entries(&mut self, head: &mut [u8], sequence: u64, sum: u64, entries: &[u8]) {
        self.body.clear();
        self.body.extend_from_slice(&sum.to_le_bytes());
        self.body.extend_from_slice(entries);
        self.add(head, identity(sequence, 1 + self.entries));
        self.entries += entries.len() / ENTRY_BYTES;
    }

    /// Seals what the body says behind the notes there are.
    fn add(&mut self, head: &mut [u8], identity: u64) {
        let body = &mut self.body;
        let tag = self.sealer.seal_at(self.nonce, StructureKind::Tail, identity, body);
        let note = &mut head[self.at..self.at + NOTE_CLEAR_BYTES + body.len()];
        put(note, 0, &tag.0);
        put(note, 16, &self.nonce.to_le_bytes());
        put(note, 20, &(body.len() as u16).to_le_bytes());
        put(note, 22, &[0; 2]);
        note[NOTE_CLEAR_BYTES..].copy_from_slice(body);
        self.nonce += 1;
        self.at += note.len();
    }
}

/// Of a sequence number. More chunks are not written in the life of any volume.
const SEQUENCE_BITS: u32 = 48;

/// What a note is bound to: its chunk, and the entries before it. The first note, of where the chunk
/// goes, is number 0.
fn identity(sequence: u64, number: usize) -> u64 {
    sequence << (u64::BITS - SEQUENCE_BITS) | number as u64
}

/// A chunk in a tail that was left.
pub(super) struct LeftChunk<'a> {
    pub(super) place: Place,
    /// Behind the first note.
    notes: &'a [u8],
    chunk: &'a [u8],
    opener: StructureOpener,
}

/// The chunks of a tail that was left.
pub(super) fn left_chunks<'a>(tail: &'a [u8], structure: &StructureKey) -> Vec<LeftChunk<'a>> {
    let slots = tail.chunks_exact(SLOT_BYTES);
    slots.filter_map(|slot| LeftChunk::open(slot, structure)).collect()
}

impl<'a> LeftChunk<'a> {
    fn open(slot: &'a [u8], structure: &StructureKey) -> Option<Self> {
        let (head, chunk) = slot.split_at_checked(HEAD_BYTES)?;
        let clear = [TAIL_VERSION, SUITE_AES_256_GCM, 0, 0];
        if head[..4] != MAGIC || head[4..8] != clear || head[48..CLEAR_BYTES] != [0; 16] {
            return None;
        }
        let sequence = get_u64(head, 8);
        if sequence >> SEQUENCE_BITS != 0 {
            return None;
        }
        let opener = structure.opener(Salt(get(head, 16)));
        let (body, notes) = open_note(&head[CLEAR_BYTES..], &opener, identity(sequence, 0))?;
        if body.len() != OPENING_BYTES {
            return None;
        }
        let place = Place {
            sequence,
            segment: get_u32(&body, 0),
            position: get_u32(&body, 4),
            generation: get_u32(&body, 8),
            salt: Salt(get(&body, 16)),
        };
        Some(Self { place, notes, chunk, opener })
    }

    /// The chunk as it goes to the disk, if it was completed.
    pub(super) fn whole(&self, structure: &StructureKey, geometry: Geometry) -> Option<&'a [u8]> {
        let Place { sequence, position, salt, .. } = self.place;
        let page: Page = *self.chunk.first_chunk()?;
        let descriptor = Descriptor::open(page, &structure.opener(salt), position)?;
        let pages = 1 + descriptor.data_pages();
        let room = geometry.segment_pages.checked_sub(position)?;
        if descriptor.sequence() != sequence || pages > room {
            return None;
        }
        let chunk = self.chunk.get(..pages as usize * PAGE_BYTES)?;
        (checksum(&chunk[PAGE_BYTES..]) == descriptor.checksum()).then_some(chunk)
    }

    /// The entries that are in notes, and their data pages.
    pub(super) fn noted(&self) -> (Vec<Record>, &'a [u8]) {
        let (mut entries, mut rest) = (Vec::new(), self.notes);
        let (mut pages, mut sum) = (0, Checksum::default());
        let data = &self.chunk[PAGE_BYTES..];
        while let Some((body, behind)) =
            open_note(rest, &self.opener, identity(self.place.sequence, 1 + entries.len()))
        {
            let Some((expected, records)) = body.split_at_checked(SUM_BYTES) else { break };
            let records = records.chunks_exact(ENTRY_BYTES).map(Record::decode);
            let Some(records) = records.collect::<Option<Vec<_>>>() else { break };
            let more = records.iter().filter(|record| record.page().is_some()).count();
            let Some(added) = data.get(pages * PAGE_BYTES..(pages + more) * PAGE_BYTES) else {
                break;
            };
            sum.add(added);
            if sum.so_far().to_le_bytes() != *expected {
                break;
            }
            pages += more;
            entries.extend(records);
            rest = behind;
        }
        (entries, &data[..pages * PAGE_BYTES])
    }
}

/// Opens the first note of `notes`; gives what it says, and what comes behind it.
fn open_note<'a>(
    notes: &'a [u8],
    opener: &StructureOpener,
    identity: u64,
) -> Option<(Vec<u8>, &'a [u8])> {
    let (clear, rest) = notes.split_at_checked(NOTE_CLEAR_BYTES)?;
    let (body, rest) = rest.split_at_checked(usize::from(get_u16(clear, 20)))?;
    let mut body = body.to_vec();
    let (tag, nonce) = (Tag(get(clear, 0)), get_u32(clear, 16));
    opener.open(nonce, StructureKind::Tail, identity, &tag, &mut body).ok()?;
    (clear[22..24] == [0; 2]).then_some((body, rest))
}

/// For the fuzz targets: what is found in a slot whose bytes are these, and in one whose first note
/// behind the opening says this.
pub(super) mod fuzzing {
    use super::*;

    /// A slot of which a page and zeros are noted.
    pub(crate) fn sample(structure: &StructureKey) -> Vec<u8> {
        let zeros = Record::Zero { lba: 1, count: 9 };
        let mut body = [0; SUM_BYTES + 2 * ENTRY_BYTES];
        Record::Data { lba: 5, tag: Tag([9; 16]) }.encode(&mut body[SUM_BYTES..][..ENTRY_BYTES]);
        zeros.encode(&mut body[SUM_BYTES + ENTRY_BYTES..]);
        body[..SUM_BYTES].copy_from_slice(&checksum(&[0; PAGE_BYTES]).to_le_bytes());
        slot_with_note(structure, &body)
    }

    /// A slot whose note behind the opening says this.
    pub(crate) fn slot_with_note(structure: &StructureKey, body: &[u8]) -> Vec<u8> {
        let salt = Salt([0xc3; 32]);
        let place = Place { sequence: 7, segment: 3, position: 9, salt, generation: 4 };
        let mut slot = vec![0; SLOT_BYTES];
        let mut notes = Notes::new(structure.sealer(Salt([0xa5; 32])));
        notes.begin_chunk(&mut slot[..HEAD_BYTES], &place);
        let room = HEAD_BYTES - notes.at - NOTE_CLEAR_BYTES;
        notes.body = body[..body.len().min(room)].to_vec();
        notes.add(&mut slot[..HEAD_BYTES], identity(7, 1));
        slot
    }

    /// How many entries are found.
    pub(crate) fn entries(structure: &StructureKey, tail: &[u8]) -> usize {
        let chunks = left_chunks(tail, structure);
        let found = chunks.iter().map(|chunk| {
            let _ = chunk.whole(structure, Geometry { segment_pages: 64 });
            chunk.noted().0.len()
        });
        found.sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::log::{ChunkEnd, ENTRIES_AT};
    use crate::live::log::{DescriptorParts, put_record, seal_descriptor};
    use base::Secret;

    const GEOMETRY: Geometry = Geometry { segment_pages: 64 };
    const PLACE: Place =
        Place { sequence: 7, segment: 3, position: 9, salt: Salt([0xc3; 32]), generation: 4 };

    fn structure() -> StructureKey {
        StructureKey::derive(&Secret::new([0x5a; 32]), "vol-0123456789abcdef0")
    }

    fn notes() -> Notes {
        Notes::new(structure().sealer(Salt([0xa5; 32])))
    }

    fn record(lba: u64) -> Record {
        Record::Data { lba, tag: Tag([9; 16]) }
    }

    /// A slot with a chunk of which two writes are noted, of two pages and of one, with zeros between.
    fn slot() -> (Vec<u8>, Vec<Record>) {
        let mut slot = vec![0; SLOT_BYTES];
        let (head, chunk) = slot.split_at_mut(HEAD_BYTES);
        let records = [record(5), record(6), Record::Zero { lba: 1, count: 9 }, record(7)];
        let mut entries = vec![0; records.len() * ENTRY_BYTES];
        for (entry, record) in entries.chunks_exact_mut(ENTRY_BYTES).zip(&records) {
            record.encode(entry);
        }
        let data = &mut chunk[PAGE_BYTES..];
        (0..3).for_each(|page| data[page * PAGE_BYTES..][..PAGE_BYTES].fill(page as u8 + 1));
        let mut notes = notes();
        notes.begin_chunk(head, &PLACE);
        let sum = |pages: usize| checksum(&data[..pages * PAGE_BYTES]);
        notes.add_entries(head, PLACE.sequence, sum(2), &entries[..2 * ENTRY_BYTES]);
        notes.add_entries(head, PLACE.sequence, sum(3), &entries[2 * ENTRY_BYTES..]);
        (slot, records.to_vec())
    }

    /// Frozen: computed by an independent implementation. A change here is a change of format.
    #[test]
    fn notes_are_frozen() {
        let mut head = vec![0xee; HEAD_BYTES];
        let mut entry = [0; ENTRY_BYTES];
        record(5).encode(&mut entry);
        let mut notes = notes();
        notes.begin_chunk(&mut head, &PLACE);
        notes.add_entries(&mut head, 7, 0x0102_0304_0506_0708, &entry);
        let clear = "5352544c01010000\
            0700000000000000";
        assert_eq!(hex::encode(&head[..16]), clear);
        assert_eq!((&head[16..48], &head[48..64]), (&[0xa5; 32][..], &[0; 16][..]));
        let opening = "6f4e78747f099403966d12934bb546c20000000030000000\
            32468bcd330862d3044a374a63915e1df410c42c91c99c068562c9d560ceb11f\
            2bc52f4c9ac6f05a4663910ba52dd2be";
        assert_eq!(hex::encode(&head[64..136]), opening);
        let noted = "01c39457df4f611ebf78bab55854f9a20100000024000000\
            11902c459812e78f23795918519c6f1b48cfdcfbca210c2bc90dedadd337d02c8909ee87";
        assert_eq!(hex::encode(&head[136..196]), noted);
        assert!(head[196..].iter().all(|byte| *byte == 0xee));
    }

    #[test]
    fn what_was_noted_is_found() {
        let (slot, records) = slot();
        let tail = [&vec![0; SLOT_BYTES], &slot].map(|slot| &slot[..]).concat();
        let structure = structure();
        let chunks = left_chunks(&tail, &structure);
        assert_eq!(chunks.len(), 1);
        assert_eq!(chunks[0].place, PLACE);
        let (found, data) = chunks[0].noted();
        assert_eq!((found, data), (records, &slot[HEAD_BYTES + PAGE_BYTES..][..3 * PAGE_BYTES]));
        assert!(chunks[0].whole(&structure, GEOMETRY).is_none());
    }

    /// Whatever is damaged, what is found is a beginning of what was noted.
    #[test]
    fn damage_takes_from_the_end() {
        let (slot, records) = slot();
        let structure = structure();
        let noted = 64 + 24 + 48 + 2 * 24 + 2 * 8 + 4 * ENTRY_BYTES;
        let data = HEAD_BYTES + PAGE_BYTES;
        let places = (0..noted).chain((data..data + 3 * PAGE_BYTES).step_by(97));
        let mut lengths = std::collections::BTreeMap::new();
        for at in places {
            let mut damaged = slot.clone();
            damaged[at] ^= 0x10;
            let chunks = left_chunks(&damaged, &structure);
            let found = chunks.first().map_or(Vec::new(), |chunk| chunk.noted().0);
            assert!(records.starts_with(&found), "{at}");
            *lengths.entry(found.len()).or_insert(0) += 1;
        }
        // Nothing, the first write, never both.
        assert_eq!(lengths.into_keys().collect::<Vec<_>>(), [0, 2]);
    }

    #[test]
    fn a_slot_used_again_shows_nothing_of_before() {
        let (mut slot, _) = slot();
        let place = Place { sequence: 33, ..PLACE };
        Notes::new(structure().sealer(Salt([0xa6; 32])))
            .begin_chunk(&mut slot[..HEAD_BYTES], &place);
        let structure = structure();
        let chunks = left_chunks(&slot, &structure);
        assert_eq!((chunks[0].place, chunks[0].noted().0), (place, Vec::new()));
    }

    #[test]
    fn a_completed_chunk_is_taken_whole_or_not_at_all() {
        let (mut slot, _) = slot();
        let structure = structure();
        let mut descriptor = [0; PAGE_BYTES];
        put_record(&mut descriptor, 0, &record(5));
        put_record(&mut descriptor, 1, &record(6));
        let data = &slot[HEAD_BYTES + PAGE_BYTES..][..2 * PAGE_BYTES];
        let parts = DescriptorParts {
            sequence: PLACE.sequence,
            previous: Tag([1; 16]),
            checksum: checksum(data),
            durable: 0,
            generation: PLACE.generation,
            entries: 2,
            data_pages: 2,
            end: ChunkEnd::Plain,
        };
        let mut sealer = structure.sealer(PLACE.salt);
        seal_descriptor(&mut descriptor, &parts, &mut sealer, PLACE.position);
        slot[HEAD_BYTES..][..PAGE_BYTES].copy_from_slice(&descriptor);
        let whole = |slot: &[u8], geometry| {
            let chunks = left_chunks(slot, &structure);
            chunks[0].whole(&structure, geometry).map(<[u8]>::to_vec)
        };
        let expected = slot[HEAD_BYTES..][..3 * PAGE_BYTES].to_vec();
        assert!(whole(&slot, GEOMETRY).is_some_and(|chunk| chunk == expected));
        // It does not fit its segment.
        assert_eq!(whole(&slot, Geometry { segment_pages: 11 }), None);
        for at in [0, 40, ENTRIES_AT, PAGE_BYTES, 3 * PAGE_BYTES - 1] {
            let mut damaged = slot.clone();
            damaged[HEAD_BYTES + at] ^= 1;
            assert_eq!(whole(&damaged, GEOMETRY), None, "{at}");
        }
    }

    #[test]
    fn a_file_has_its_space_from_the_start_and_starts_anew() {
        use std::os::unix::fs::{MetadataExt, PermissionsExt};
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vol.tail");
        std::fs::write(&path, [7; 100]).unwrap();
        let tail = TailFile::of(&folder.path().join("vol.log"));
        assert_eq!(tail.left().unwrap(), Some(vec![7; 100]));
        assert!(!tail.is_tail().unwrap(), "it is something else");
        let buffers = tail.begin().unwrap();
        let found = std::fs::metadata(&path).unwrap();
        assert_eq!(found.len(), (SLOTS * SLOT_BYTES) as u64);
        assert!(found.blocks() * 512 >= found.len());
        assert_eq!(found.permissions().mode() & 0o777, 0o600);
        assert_eq!(buffers.len(), SLOTS);
        assert!(tail.is_tail().unwrap());
        assert!(buffers.iter().all(|buffer| buffer.iter().all(|byte| *byte == 0)));
        drop(buffers);
        tail.end().unwrap();
        tail.end().unwrap();
        assert_eq!(tail.left().unwrap(), None);
        assert!(tail.is_tail().unwrap(), "there is none");
        assert!(TailFile::at(folder.path().join("away/vol.tail")).begin().is_err());
    }

    #[test]
    fn who_has_the_volume_no_more_leaves_the_tail_of_who_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vol.tail");
        let (older, newer) = (TailFile::at(path.clone()), TailFile::at(path.clone()));
        std::fs::write(&path, [7; 100]).unwrap();
        assert!(older.left().unwrap().is_some());
        assert!(newer.left().unwrap().is_some());
        newer.end().unwrap();
        assert!(!path.exists(), "what was read is ended");
        drop(newer.begin().unwrap());
        older.end().unwrap();
        assert!(path.exists(), "it has read another");

        let buffers = older.begin().unwrap();
        drop(newer.begin().unwrap());
        drop(buffers);
        older.end().unwrap();
        assert!(path.exists(), "it has made another");
        newer.end().unwrap();
        assert!(!path.exists());
        drop(newer.begin().unwrap());
        older.remove().unwrap();
        assert!(!path.exists(), "with its volume");
    }
}
