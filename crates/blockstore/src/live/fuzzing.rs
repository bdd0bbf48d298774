//! Entries for the fuzz targets: superblocks, and what is decoded once a seal is opened. Damage
//! cannot get behind a seal, a mistake of ours could.

use super::delta::Entry;
use super::layout::{Geometry, SLOT_BYTES, SegmentIndex};
use super::log::{Descriptor, Record, SegmentHeader};
use super::map::{child, leaf_changed, leaf_entry};
use super::run::{Change, RunPage, RunRef};
use super::segment::SegmentTable;
use super::superblock::{
    CLEAR_BYTES, CutId, CutRecord, LogHead, NodeRef, Root, Superblock, TableRef,
};
use super::tail::fuzzing as tail;
use crate::page::{
    KeyCheckValue, PAGE_BYTES, PAGES_PER_BLOCK, Page, Salt, StructureKey, StructureKind, Tag,
};
use base::{Secret, SeededRng};

fn structure_key() -> StructureKey {
    StructureKey::derive(&Secret::new([7; 32]), "vol-fuzz")
}

/// Whether the bytes open as the first slot's superblock.
pub fn open_superblock(bytes: &[u8]) -> bool {
    let mut slot = filled(bytes, SLOT_BYTES);
    Superblock::open(0, &mut slot, &structure_key()).is_ok()
}

/// A superblock that [`open_superblock`] opens.
pub fn superblock_sample() -> Vec<u8> {
    let node = NodeRef { location: 77, tag: Tag([1; 16]), written: 2, changed: 3 };
    let root = Root { node, height: 2 };
    let id = CutId::from_bytes(*b"snap-0123456789abcdef0\0\0\0\0\0\0\0\0\0\0");
    let id = id.expect("the sample has an id");
    let superblock = Superblock {
        writer: 3,
        slot: 0,
        epoch: 5,
        incarnation: 6,
        volume_bytes: 1 << 30,
        segment_pages: 1024,
        root,
        runs: RunRef { location: 88, tag: Tag([8; 16]), pages: 2 },
        head: LogHead {
            sequence: 7,
            previous: Tag([2; 16]),
            segment: 8,
            position: 9,
            generation: 10,
        },
        table: TableRef { location: 99, tag: Tag([3; 16]), salt: Salt([4; 32]), count: 3 },
        key_check: Some(KeyCheckValue([5; 16])),
        base: Some(id),
        cuts: vec![CutRecord { id, generation: 4, volume_bytes: 1 << 30, root }],
        exports: vec![([6; 16], 4)],
    };
    superblock.seal(0, &structure_key(), &SeededRng::new(1))
}

/// Where the sample of a segment header lies.
const SEGMENT: SegmentIndex = 5;
const SEGMENT_SALT: Salt = Salt([9; 32]);

/// Whether the bytes open as the header of the sample's segment.
pub fn open_segment_header(bytes: &[u8]) -> bool {
    let filled = filled(bytes, PAGE_BYTES);
    let page: Page = filled.try_into().expect("a page was filled");
    SegmentHeader::open(page, SEGMENT, &structure_key().opener(SEGMENT_SALT)).is_some()
}

/// A segment header that [`open_segment_header`] opens.
pub fn segment_header_sample() -> Vec<u8> {
    let header = SegmentHeader {
        incarnation: 6,
        first_sequence: 7,
        previous: Tag([2; 16]),
        successor: 8,
        successor_salt: Salt([4; 32]),
    };
    header.seal(SEGMENT, &mut structure_key().sealer(SEGMENT_SALT)).to_vec()
}

/// Where the sample of a run's page is said to lie, and what proves it.
const RUN_POSITION: u32 = 7;
const RUN_ORDINAL: u32 = 3;

fn run_page() -> (Page, Tag) {
    let before = RunRef { location: 77, tag: Tag([6; 16]), pages: RUN_ORDINAL };
    let entry = Entry { location: 1234, tag: Tag([5; 16]), birth: 3, written: 4 };
    let changes = vec![
        Change::Block { block: 9, entry: Entry::zero(4) },
        Change::Page { lba: 9 * 128 + 5, entry },
    ];
    let mut page = RunPage { before, changes }.encode();
    let mut sealer = structure_key().sealer(SEGMENT_SALT);
    let kind = StructureKind::MapRun;
    let tag = sealer.seal_at(RUN_POSITION, kind, u64::from(RUN_ORDINAL), &mut page);
    (page, tag)
}

/// Whether the bytes open as the page of a run that the sample is.
pub fn open_run_page(bytes: &[u8]) -> bool {
    let filled = filled(bytes, PAGE_BYTES);
    let mut page: Page = filled.try_into().expect("a page was filled");
    let (opener, (_, tag)) = (structure_key().opener(SEGMENT_SALT), run_page());
    let ordinal = u64::from(RUN_ORDINAL);
    opener.open(RUN_POSITION, StructureKind::MapRun, ordinal, &tag, &mut page).is_ok()
        && RunPage::decode(&page, RUN_ORDINAL).is_some()
}

/// A page of a run that [`open_run_page`] opens.
pub fn run_page_sample() -> Vec<u8> {
    run_page().0.to_vec()
}

/// A page of a run behind its seal, for [`decode`].
pub fn run_page_opened() -> Vec<u8> {
    let before = RunRef { location: 77, tag: Tag([6; 16]), pages: 1 };
    let changes = vec![Change::Page { lba: 5, entry: Entry::zero(4) }];
    RunPage { before, changes }.encode().to_vec()
}

/// How many entries a tail shows whose first bytes these are.
pub fn tail_entries(bytes: &[u8]) -> usize {
    let structure = structure_key();
    let mut tail = tail::sample(&structure);
    let length = bytes.len().min(tail.len());
    tail[..length].copy_from_slice(&bytes[..length]);
    tail::entries(&structure, &tail)
}

/// The beginning of a tail that shows two entries.
pub fn tail_sample() -> Vec<u8> {
    tail::sample(&structure_key())[..PAGE_BYTES].to_vec()
}

/// How many entries a tail shows in which a note says this.
pub fn noted_entries(note: &[u8]) -> usize {
    let structure = structure_key();
    tail::entries(&structure, &tail::slot_with_note(&structure, note))
}

/// Decodes the bytes as everything that pages of a volume's structure hold.
pub fn decode(bytes: &[u8]) {
    drop(Superblock::decode(0, &filled(bytes, SLOT_BYTES - CLEAR_BYTES)));
    let filled = filled(bytes, PAGE_BYTES);
    let page: &Page = filled.as_slice().try_into().expect("a page was filled");
    for at in 0..PAGES_PER_BLOCK {
        let _ = leaf_entry(page, at);
        let _ = child(page, at);
    }
    let _ = leaf_changed(page);
    for ordinal in [0, 1] {
        let Some(run) = RunPage::decode(page, ordinal) else { continue };
        let again = RunPage::decode(&run.encode(), ordinal);
        let changes = again.map(|again| (again.before, again.changes));
        assert_eq!(changes, Some((run.before, run.changes)), "what was written is read");
    }
    let descriptor = Descriptor::unchecked(*page);
    let _ = (descriptor.sequence(), descriptor.durable(), descriptor.checksum(), descriptor.cut());
    for record in descriptor.records().flatten() {
        let mut written = [0; 28];
        record.encode(&mut written);
        assert_eq!(Record::decode(&written), Some(record), "what was written is read");
    }
    let count = usize::from(page[PAGE_BYTES - 1]);
    let mut table = SegmentTable::new(Geometry { segment_pages: 1024 });
    if table.decode_page(page, count).is_some() {
        assert!(table.len() <= count);
    }
}

/// As many bytes as asked for: cut, or zeros appended.
fn filled(bytes: &[u8], count: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.resize(count, 0);
    bytes
}
