//! What is damaged costs what lies there, and nothing else.

use super::*;
use crate::check::Fault;
use crate::live::layout::{Location, SLOT_BYTES, SLOT_COUNT, SegmentIndex};
use crate::live::superblock::Superblock;
use crate::page::CutSource;

/// Pages that were written in the beginning.
const PAGES: Range<Lba> = 0..960;

/// A volume that has much to be cleaned.
fn sparse() -> (Arc<MemoryDisk>, Engine) {
    let (disk, mut engine) = volume();
    fill(&mut engine, PAGES, 1);
    engine.checkpoint().unwrap();
    for lba in PAGES.filter(|lba| !lba.is_multiple_of(4)) {
        fill(&mut engine, lba..lba + 1, 2);
    }
    engine.checkpoint().unwrap();
    (disk, engine)
}

/// The first live page of the segment that the cleaner would empty first.
fn first_of_the_best(engine: &mut Engine) -> (SegmentIndex, Lba, Location) {
    let best = engine.candidates().victims[0].index;
    let place = |engine: &mut Engine, lba| {
        let location = entry(engine, lba).location;
        (engine.ctx.geometry.split(location).unwrap().0, lba, location)
    };
    PAGES.map(|lba| place(engine, lba)).find(|(segment, _, _)| *segment == best).unwrap()
}

fn written(lba: Lba) -> Vec<u8> {
    content(lba, if lba.is_multiple_of(4) { 1 } else { 2 })
}

#[test]
fn a_damaged_page_keeps_its_segment_and_no_other() {
    for is_refused in [false, true] {
        let (disk, mut engine) = sparse();
        let (segment, lost, location) = first_of_the_best(&mut engine);
        if is_refused {
            disk.refuse(location)
        } else {
            disk.damage(location)
        }
        let before = engine.usage().used_segments;
        clean_all(&mut engine);
        assert_eq!(engine.table.get(segment).unwrap().live, 1, "the others of it were moved");
        let usage = engine.usage();
        let allowed = (usage.live_pages * 4 / 3).div_ceil(32) as u32;
        assert!(usage.used_segments < before && usage.used_segments < allowed + 8, "{usage:?}");
        for lba in PAGES {
            match read(&mut engine, lba) {
                Ok(found) => assert_eq!(found, written(lba)),
                Err(error) => assert_eq!(lba, lost, "{error}"),
            }
        }
        // Once the guest writes it anew, the segment is given back like any other.
        fill(&mut engine, lost..lost + 1, 3);
        engine.checkpoint().unwrap();
        assert_eq!(engine.table.get(segment).unwrap().live, 0);
        engine.check().unwrap();
    }
}

/// Where nothing can be moved nothing is written.
#[test]
fn a_victim_of_which_nothing_can_be_read_takes_no_space() {
    let (disk, mut engine) = sparse();
    let (best, _, _) = first_of_the_best(&mut engine);
    for lba in PAGES {
        let location = entry(&mut engine, lba).location;
        if engine.ctx.geometry.split(location).unwrap().0 == best {
            disk.refuse(location);
        }
    }
    let report = engine.clean(1, 100).unwrap();
    assert_eq!(report.pages, 0);
    assert!(engine.cold.segment().is_none());
}

#[test]
fn a_page_that_cannot_be_read_refuses_no_write_elsewhere() {
    let (disk, mut engine) = sparse();
    let (_, _, location) = first_of_the_best(&mut engine);
    disk.refuse(location);
    let need = engine.need(1, 100);
    let bytes = need.held + need.upkeep - 3 * engine.ctx.geometry.segment_bytes();
    engine.limit_space(Arc::new(Narrow(bytes)));
    fill(&mut engine, 1000..1040, 4);
    engine.flush().unwrap();
    (1000..1040).for_each(|lba| assert_eq!(read(&mut engine, lba).unwrap(), content(lba, 4)));
}

/// Nor does a disk that cannot be read at all for a while: there is no space, and nothing is broken.
#[test]
fn an_error_of_cleaning_is_not_the_error_of_a_write() {
    let (disk, mut engine) = sparse();
    let need = engine.need(1, 100);
    let bytes = need.held + need.upkeep - 3 * engine.ctx.geometry.segment_bytes();
    engine.limit_space(Arc::new(Narrow(bytes)));
    disk.disconnect();
    let page = 1000 * PAGE_BYTES as u64;
    assert!(matches!(engine.write(page, &content(1000, 4)), Err(Error::Full)));
    disk.connect();
    fill(&mut engine, 1000..1040, 4);
    engine.flush().unwrap();
}

/// When nothing can be read nothing is damaged: cleaning goes on where it was.
#[test]
fn a_disk_that_answers_nowhere_ends_no_round() {
    let (disk, mut engine) = sparse();
    while !matches!(engine.clean_step(), Ok(true) if engine.round.is_none()) {
        disk.disconnect();
        // What is in memory may be enough for a step.
        let _ = engine.clean_step();
        disk.connect();
    }
    engine.checkpoint().unwrap();
    assert!(engine.unemptied.is_empty());
    PAGES.for_each(|lba| assert_eq!(read(&mut engine, lba).unwrap(), written(lba)));
    engine.check().unwrap();
}

/// Has the medium say this of a slot of the superblock.
fn refuse_slot(disk: &MemoryDisk, slot: u64, code: i32) {
    let pages = SLOT_BYTES as u64 / PAGE_BYTES as u64;
    let pages = slot * pages..(slot + 1) * pages;
    disk.unreadable.lock().unwrap().extend(pages.map(|page| (page, code)));
}

/// What a slot of the superblock holds.
fn slot_bytes(disk: &MemoryDisk, slot: u64) -> Vec<u8> {
    disk.bytes.lock().unwrap()[slot as usize * SLOT_BYTES..][..SLOT_BYTES].to_vec()
}

#[test]
fn a_superblock_that_cannot_be_read_leaves_the_other() {
    for lost in 0..SLOT_COUNT {
        let (disk, mut engine) = mapped();
        let id = crate::live::CutId::new("snap-1").unwrap();
        engine.cut(id).unwrap();
        engine.close().unwrap();
        refuse_slot(&disk, lost, LOST_SECTOR);
        assert_eq!(crate::live::last_writer(&*disk, &structure()).unwrap(), 0);
        let beside = Arc::clone(&disk) as Arc<dyn Disk>;
        let reader = crate::live::read_cut(beside, structure(), id, None).unwrap();
        assert!(reader.load_block(1).is_ok());
        for report in reports(&disk) {
            assert!(report.findings.has(Fault::SuperblockSlot) && report.segments > 0);
            assert_eq!(report.findings.iter().count(), 1);
        }
        let mut engine = open(&disk).unwrap();
        // That the disk answers is seen at the other, too.
        let error = io::Error::from_raw_os_error(LOST_SECTOR);
        assert!(engine.is_local(&Error::disk("read a map page")(error)));
        fill(&mut engine, 128..131, 2);
        engine.close().unwrap();
        disk.connect();
        reports(&disk).iter().for_each(|report| assert!(report.findings.is_empty()));
        nothing_is_lost(&mut open(&disk).unwrap());
    }
}

/// A disk that takes writes and makes none of them durable.
struct Unflushed(Arc<MemoryDisk>);

impl Disk for Unflushed {
    fn read(&self, offset: u64, target: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, target)
    }

    fn write(&self, offset: u64, source: &[u8]) -> io::Result<()> {
        self.0.write(offset, source)
    }

    fn flush(&self) -> io::Result<()> {
        Err(io::Error::from_raw_os_error(TIMED_OUT))
    }

    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn punch(&self, offset: u64, length: u64) -> io::Result<()> {
        self.0.punch(offset, length)
    }
}

/// Killed between the two, and then the newer is lost: what the older names is still there, and it is not
/// touched before the other is durable.
#[test]
fn an_older_superblock_is_as_good_and_is_overwritten_last() {
    for lost in 0..SLOT_COUNT {
        let (disk, mut engine) = mapped();
        let older = slot_bytes(&disk, 1 - lost);
        let _nothing_is_released = engine.pin().hold();
        fill(&mut engine, 128..131, 2);
        engine.active.is_for_leaves = true;
        engine.checkpoint().unwrap();
        drop(engine);
        disk.write((1 - lost) * SLOT_BYTES as u64, &older).unwrap();
        refuse_slot(&disk, lost, LOST_SECTOR);
        let found = Superblock::load(&*disk, &structure()).unwrap();
        let unflushed = Unflushed(Arc::clone(&disk));
        let before = slot_bytes(&disk, lost);
        assert!(found.store(&unflushed, &structure(), &rng(&disk)).is_err());
        assert_eq!(slot_bytes(&disk, 1 - lost), older);
        assert_ne!(slot_bytes(&disk, lost), before);
        nothing_is_lost(&mut open(&disk).unwrap());
        disk.connect();
        let newest = Superblock::load(&*disk, &structure()).unwrap();
        assert!(newest.epoch > found.epoch);
        nothing_is_lost(&mut open(&disk).unwrap());
    }
}

/// Killed between the two, and again in the first moments of the next opening, which may have used what
/// the older one names; and then the newer is lost.
#[test]
fn an_opening_makes_an_older_superblock_anew_before_anything_else_is_written() {
    for newer in 0..SLOT_COUNT {
        let (disk, mut engine) = mapped();
        engine.take_over(Some(7)).unwrap();
        let older = slot_bytes(&disk, 1 - newer);
        fill(&mut engine, 128..131, 2);
        engine.active.is_for_leaves = true;
        engine.checkpoint().unwrap();
        drop(engine);
        disk.write((1 - newer) * SLOT_BYTES as u64, &older).unwrap();
        let newest = Superblock::load(&*disk, &structure()).unwrap();
        // An attachment that is over writes nothing.
        let earlier = OpenOptions { writer: Some(6), ..OpenOptions::default() };
        let (beside, config) = (Arc::clone(&disk) as Arc<dyn Disk>, EngineConfig::tiny());
        let fenced = Engine::open(beside, structure(), Arc::new(rng(&disk)), config, earlier);
        assert!(matches!(fenced, Err(Error::Fenced { .. })));
        assert_eq!(slot_bytes(&disk, 1 - newer), older);
        disk.is_full.store(true, Ordering::Relaxed);
        assert!(open(&disk).is_err());
        disk.is_full.store(false, Ordering::Relaxed);
        refuse_slot(&disk, newer, LOST_SECTOR);
        let other = Superblock::load(&*disk, &structure()).unwrap();
        assert_eq!((other.slot, other.epoch), (1 - newer, newest.epoch));
        nothing_is_lost(&mut open(&disk).unwrap());
    }
}

/// A disk that does not answer has lost no superblock, and one that has lost both is not one without a
/// volume.
#[test]
fn a_volume_without_a_superblock_that_can_be_read_says_why() {
    let (disk, engine) = mapped();
    engine.close().unwrap();
    let is_disk = || matches!(open(&disk), Err(Error::Disk { .. }));
    for slot in 0..SLOT_COUNT {
        refuse_slot(&disk, slot, TIMED_OUT);
        assert!(is_disk());
        disk.connect();
    }
    disk.fail_everywhere(LOST_SECTOR);
    assert!(is_disk());
    disk.connect();
    refuse_slot(&disk, 0, LOST_SECTOR);
    disk.damage(2);
    assert!(is_disk());
    // One that can be read a moment later is not lost.
    disk.is_passing.store(true, Ordering::Relaxed);
    open(&disk).unwrap();
}

/// Where the leaf of a block lies.
fn leaf(engine: &mut Engine, block: u64) -> Location {
    let node = engine.nodes.node(&engine.table, engine.committed.root, block, 0);
    node.unwrap().unwrap().location
}

/// How a page of the map comes to be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Harm {
    Flipped,
    Refused,
}

impl Harm {
    const ALL: [Self; 2] = [Self::Flipped, Self::Refused];

    fn befall(self, disk: &MemoryDisk, location: Location) {
        match self {
            Self::Flipped => disk.damage(location),
            Self::Refused => disk.refuse(location),
        }
    }
}

/// Three blocks, all in leaves.
fn mapped() -> (Arc<MemoryDisk>, Engine) {
    let (disk, mut engine) = volume();
    fill(&mut engine, 0..384, 1);
    engine.close().unwrap();
    let engine = open(&disk).unwrap();
    (disk, engine)
}

/// Pages 0 to 2 of the second block were written anew; the others of it are lost, and no other block is.
fn only_one_block_is_lost(engine: &mut Engine) {
    for lba in 0..384 {
        match lba {
            128..131 => assert_eq!(read(engine, lba).unwrap(), content(lba, 2)),
            131..256 => assert!(read(engine, lba).is_err(), "{lba}"),
            _ => assert_eq!(read(engine, lba).unwrap(), content(lba, 1)),
        }
    }
}

#[test]
fn a_lost_leaf_costs_what_it_mapped_and_the_volume_opens() {
    for harm in Harm::ALL {
        let (disk, mut engine) = mapped();
        harm.befall(&disk, leaf(&mut engine, 1));
        fill(&mut engine, 128..131, 2);
        engine.flush().unwrap();
        // Merged by the engine that is open, or killed: both find the leaf as it is.
        if harm == Harm::Flipped {
            engine.active.is_for_leaves = true;
            engine.checkpoint().unwrap();
            only_one_block_is_lost(&mut engine);
        }
        drop(engine);
        let mut engine = open(&disk).unwrap();
        only_one_block_is_lost(&mut engine);
        engine.close().unwrap();
        let mut engine = open(&disk).unwrap();
        only_one_block_is_lost(&mut engine);
        // A part of a page cannot be written where the rest of it is not known.
        assert!(engine.write(140 * PAGE_BYTES as u64 + 512, &[1; 512]).is_err());
        let status = engine.block_status(140 * PAGE_BYTES as u64, PAGE_BYTES as u64).unwrap();
        assert_eq!(status[0].state, crate::live::ExtentState::Data);

        let [report, _] = reports(&disk);
        assert_eq!(report.findings.iter().filter(|found| found.block == Some(1)).count(), 1);
        assert!(report.findings.has(Fault::MapPage) && report.findings.has(Fault::SegmentCount));
        engine.correct(&report.corrections).unwrap();
        fill(&mut engine, 131..200, 2);
        engine.discard(200 * PAGE_BYTES as u64, 56 * PAGE_BYTES as u64).unwrap();
        engine.active.is_for_leaves = true;
        engine.checkpoint().unwrap();
        engine.check().unwrap();
        engine.close().unwrap();
        reports(&disk).iter().for_each(|report| assert!(report.findings.is_empty()));
    }
}

/// A disk that is gone has lost nothing: the engine stops, and finds everything when it is opened again.
#[test]
fn a_leaf_that_cannot_be_read_for_a_while_is_not_lost() {
    let (disk, mut engine) = mapped();
    let leaf = leaf(&mut engine, 1);
    disk.unreadable.lock().unwrap().insert(leaf, TIMED_OUT);
    fill(&mut engine, 128..131, 2);
    engine.flush().unwrap();
    engine.active.is_for_leaves = true;
    assert!(matches!(engine.checkpoint(), Err(Error::Disk { .. })));
    assert!(matches!(engine.flush(), Err(Error::Failed)));
    drop(engine);
    disk.connect();
    nothing_is_lost(&mut open(&disk).unwrap());
}

/// Nor is one that is in memory otherwise than on the disk, that memory answers for while the disk
/// does not, or that can be read a moment later.
#[test]
fn a_leaf_that_the_disk_still_has_is_not_lost() {
    for is_answering in [false, true] {
        let (disk, mut engine) = mapped();
        let leaf = leaf(&mut engine, 1);
        fill(&mut engine, 128..131, 2);
        engine.flush().unwrap();
        engine.active.is_for_leaves = true;
        if is_answering {
            disk.refuse(leaf);
            disk.is_passing.store(true, Ordering::Relaxed);
            engine.checkpoint().unwrap();
        } else {
            // Whether it answers is seen at its first page.
            disk.cache(0);
            disk.fail_everywhere(LOST_SECTOR);
            let error = io::Error::from_raw_os_error(LOST_SECTOR);
            assert!(!engine.is_local(&Error::disk("read a map page")(error)));
            disk.connect();
            disk.cache(0);
            disk.fail_everywhere(LOST_SECTOR);
            assert!(matches!(engine.checkpoint(), Err(Error::Disk { .. })));
            disk.connect();
            drop(engine);
            engine = open(&disk).unwrap();
        }
        nothing_is_lost(&mut engine);
    }
    let (disk, mut engine) = mapped();
    let leaf = leaf(&mut engine, 1);
    disk.cache(leaf);
    disk.cached.lock().unwrap().get_mut(&leaf).unwrap()[99] ^= 4;
    fill(&mut engine, 128..131, 2);
    engine.active.is_for_leaves = true;
    engine.checkpoint().unwrap();
    nothing_is_lost(&mut engine);
}

/// Pages 0 to 2 of the second block were written anew, and all others are what they were.
fn nothing_is_lost(engine: &mut Engine) {
    for lba in 0..384 {
        let seed = if (128..131).contains(&lba) { 2 } else { 1 };
        assert_eq!(read(engine, lba).unwrap(), content(lba, seed), "{lba}");
    }
    engine.check().unwrap();
}

/// Changes that are only settled hide what a lost leaf said, and nothing is counted that is not known.
#[test]
fn changes_are_settled_over_a_lost_leaf() {
    let (disk, mut engine) = mapped();
    disk.damage(leaf(&mut engine, 1));
    fill(&mut engine, 128..131, 2);
    engine.checkpoint().unwrap();
    assert!(!engine.settled.is_empty());
    only_one_block_is_lost(&mut engine);
    drop(engine);
    only_one_block_is_lost(&mut open(&disk).unwrap());
}

/// The next checkpoint puts a page in its place, and it is not read again.
#[test]
fn a_lost_leaf_under_settled_changes_is_replaced_once() {
    let (disk, mut engine) = mapped();
    disk.refuse(leaf(&mut engine, 1));
    let refused = |engine: &mut Engine, lba| {
        let before = disk.refusals.load(Ordering::Relaxed);
        // As many blocks as checkpoints: none of them would be merged into leaves yet.
        [lba - 128, lba, lba + 128].iter().for_each(|lba| fill(engine, *lba..lba + 1, 2));
        engine.checkpoint().unwrap();
        disk.refusals.load(Ordering::Relaxed) - before
    };
    assert_eq!([128, 129, 130, 131].map(|lba| refused(&mut engine, lba)), [3, 3, 0, 0]);
    fill(&mut engine, 131..132, 1);
    assert!(read(&mut engine, 132).is_err());
}

#[test]
fn a_lost_inner_page_costs_what_lies_below_it() {
    let (disk, mut engine) = volume_of(256 << 20);
    let far = 130 * 128;
    fill(&mut engine, 0..2, 1);
    fill(&mut engine, far..far + 2, 1);
    engine.close().unwrap();
    let mut engine = open(&disk).unwrap();
    let root = engine.committed.root;
    assert_eq!(root.height, 2);
    let top = engine.nodes.read(&engine.table, &root.node, 2, 0).unwrap();
    disk.damage(crate::live::map::child(&top, 1).location);
    fill(&mut engine, far..far + 1, 2);
    engine.write_zeroes((far + 256) * PAGE_BYTES as u64, PAGE_BYTES as u64).unwrap();
    engine.close().unwrap();
    let mut engine = open(&disk).unwrap();
    engine.discard((far + 300) * PAGE_BYTES as u64, PAGE_BYTES as u64).unwrap();
    for zeros in [far + 256, far + 300] {
        assert_eq!(read(&mut engine, zeros).unwrap(), [0; PAGE_BYTES]);
    }
    assert_eq!(read(&mut engine, far).unwrap(), content(far, 2));
    assert!(matches!(read(&mut engine, far + 1), Err(Error::Corrupt { .. })));
    assert!(matches!(read(&mut engine, far + 128), Err(Error::Corrupt { .. })));
    assert_eq!(read(&mut engine, 1).unwrap(), content(1, 1));
    let size = 300 << 20;
    engine.resize(size).unwrap();
    engine.checkpoint().unwrap();
    let last = size / PAGE_BYTES as u64 - 1;
    assert_eq!(read(&mut engine, last).unwrap(), [0; PAGE_BYTES], "it was not there to be lost");
}

/// A cut with a damaged leaf can be dropped, and an export of it fails where the leaf is.
#[test]
fn a_cut_with_a_lost_leaf_fails_there_and_can_be_dropped() {
    for harm in Harm::ALL {
        let (disk, mut engine) = mapped();
        let id = crate::live::CutId::new("snap-1").unwrap();
        let lost = leaf(&mut engine, 1);
        engine.cut(id).unwrap();
        fill(&mut engine, 128..131, 2);
        engine.close().unwrap();
        let mut engine = open(&disk).unwrap();
        // While the disk does not answer nothing is dropped, and the volume goes on.
        disk.unreadable.lock().unwrap().insert(lost, TIMED_OUT);
        assert!(matches!(engine.drop_cut(id), Err(Error::Disk { .. })));
        disk.connect();
        harm.befall(&disk, lost);
        let reader = engine.open_cut(id, None).unwrap();
        let loaded = [0, 1, 2].map(|block| reader.load_block(block).is_ok());
        assert_eq!(loaded, [true, false, true]);
        drop(reader);
        engine.drop_cut(id).unwrap();
        assert!(engine.cuts().is_empty());
        fill(&mut engine, 131..140, 2);
        engine.flush().unwrap();
        assert_eq!(read(&mut engine, 200).unwrap(), content(200, 1));
        // A cut of a volume that has lost something says so, too.
        let later = crate::live::CutId::new("snap-2").unwrap();
        disk.connect();
        engine.close().unwrap();
        let mut engine = open(&disk).unwrap();
        disk.damage(leaf(&mut engine, 1));
        fill(&mut engine, 128..129, 3);
        engine.cut(later).unwrap();
        let reader = engine.open_cut(later, None).unwrap();
        let loaded = [0, 1, 2].map(|block| reader.load_block(block).is_ok());
        assert_eq!(loaded, [true, false, true]);
    }
}

/// A leaf in a segment of the map that is to be emptied, too: it stays where it is.
#[test]
fn a_lost_leaf_in_a_victim_stops_nothing() {
    for harm in Harm::ALL {
        let (disk, mut engine) = mapped();
        let lost = leaf(&mut engine, 1);
        let (segment, _) = engine.ctx.geometry.split(lost).unwrap();
        harm.befall(&disk, lost);
        let (mut walk, mut found) = (engine.begin_walk(&[segment], &[]), Vec::new());
        while !engine.walk(&mut walk, &[segment], &[], &mut found).unwrap() {}
        let mut rewritten: Vec<u64> = engine.active.blocks.keys().copied().collect();
        rewritten.sort_unstable();
        assert_eq!(rewritten, [0, 2]);
        engine.checkpoint().unwrap();
        assert!(engine.table.get(segment).unwrap().live > 0);
        assert_eq!(read(&mut engine, 300).unwrap(), content(300, 1));
    }
}

/// What a walk could not read because the disk was away is read when it goes on.
#[test]
fn a_walk_of_a_disk_that_was_away_leaves_nothing_out() {
    let (disk, mut engine) = mapped();
    let (segment, _) = engine.ctx.geometry.split(leaf(&mut engine, 0)).unwrap();
    drop(engine);
    // Nothing of the map is in memory.
    let mut engine = open(&disk).unwrap();
    let (mut walk, mut found) = (engine.begin_walk(&[segment], &[]), Vec::new());
    disk.disconnect();
    assert!(engine.walk(&mut walk, &[segment], &[], &mut found).is_err());
    disk.connect();
    while !engine.walk(&mut walk, &[segment], &[], &mut found).unwrap() {}
    let mut rewritten: Vec<u64> = engine.active.blocks.keys().copied().collect();
    rewritten.sort_unstable();
    assert_eq!(rewritten, [0, 1, 2]);
}
