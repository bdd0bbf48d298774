//! Segments that hold what their descriptors do not say.

use super::*;
use crate::check::Fault;
use crate::live::check::Corrections;
use crate::live::clean::Victim;
use crate::live::layout::SegmentIndex;
use crate::live::log::{ChunkEnd, Descriptor};

/// Pages that a killed process had noted of the chunk it was filling.
const NOTED: Range<Lba> = 2000..2007;

/// A volume that was opened again after its server was killed, and the segment of the noted pages.
fn killed() -> (Arc<MemoryDisk>, Engine, SegmentIndex) {
    let (disk, mut engine) = volume();
    fill(&mut engine, 0..20, 1);
    engine.flush().unwrap();
    fill(&mut engine, NOTED, 2);
    drop(engine);
    let mut engine = open(&disk).unwrap();
    let location = entry(&mut engine, NOTED.start).location;
    let (segment, _) = engine.ctx.geometry.split(location).unwrap();
    assert_eq!(engine.table.get(segment).unwrap().live, 27);
    (disk, engine, segment)
}

fn live(engine: &Engine, segment: SegmentIndex) -> u32 {
    engine.table.get(segment).unwrap().live
}

#[test]
fn pages_that_a_killed_process_had_noted_are_moved_as_others_are() {
    let (_disk, mut engine, segment) = killed();
    fill(&mut engine, 0..20, 3);
    engine.checkpoint().unwrap();
    assert_eq!(live(&engine, segment), 7, "only what was noted is left");
    let report = engine.clean(1, 60).unwrap();
    assert_eq!(report.pages, 7);
    engine.checkpoint().unwrap();
    assert_eq!(live(&engine, segment), 0);
    NOTED.for_each(|lba| assert_eq!(read(&mut engine, lba).unwrap(), content(lba, 2)));
    engine.check().unwrap();
}

/// Those whose changes are in no leaf yet, too, and beside a chunk of which nothing died.
#[test]
fn noted_pages_are_found_beside_named_ones() {
    let (_disk, mut engine, segment) = killed();
    fill(&mut engine, 0..10, 3);
    engine.checkpoint().unwrap();
    fill(&mut engine, 300..1300, 4);
    engine.checkpoint().unwrap();
    engine.clean(1, 60).unwrap();
    engine.checkpoint().unwrap();
    assert_eq!(live(&engine, segment), 0);
    (10..20).for_each(|lba| assert_eq!(read(&mut engine, lba).unwrap(), content(lba, 1)));
    NOTED.for_each(|lba| assert_eq!(read(&mut engine, lba).unwrap(), content(lba, 2)));
    engine.check().unwrap();
}

/// A walk that checkpoints interrupt goes on in the new map.
#[test]
fn checkpoints_in_the_middle_of_a_walk_hide_nothing() {
    let (disk, mut engine) = volume_of(64 << 20);
    // A leaf for each block, so that the walk takes several steps.
    (0..128).for_each(|block| fill(&mut engine, block * 128..block * 128 + 1, 1));
    engine.flush().unwrap();
    fill(&mut engine, NOTED, 2);
    drop(engine);
    let mut engine = open(&disk).unwrap();
    engine.active.is_for_leaves = true;
    engine.active.rewrite(0);
    engine.checkpoint().unwrap();
    let expected: Vec<_> = NOTED.map(|lba| (lba, entry(&mut engine, lba).location)).collect();
    let (segment, _) = engine.ctx.geometry.split(expected[0].1).unwrap();
    let (mut walk, mut found) = (engine.begin_walk(&[], &[segment]), Vec::new());
    let mut steps = 0;
    while !engine.walk(&mut walk, &[], &[segment], &mut found).unwrap() {
        steps += 1;
        assert!(steps < 10, "the walk has an end");
        fill(&mut engine, 100 + steps..101 + steps, 5);
        engine.active.is_for_leaves = true;
        engine.checkpoint().unwrap();
    }
    assert!(steps > 1);
    found.retain(|(lba, _)| NOTED.contains(lba));
    found.sort_unstable();
    assert_eq!(found, expected);
}

#[test]
fn a_volume_whose_server_was_killed_is_in_order() {
    let (disk, engine, _) = killed();
    let clean = |disk| {
        for report in reports(disk) {
            assert!(report.findings.is_empty(), "{:?}", report.findings);
            assert!(report.corrections.is_empty());
        }
    };
    clean(&disk);
    engine.close().unwrap();
    clean(&disk);
}

/// Also where a power cut took a chunk that the tail had noted all of, and left the one behind it.
#[test]
fn a_chunk_behind_noted_pages_is_no_damage() {
    let noting = || {
        let (disk, mut engine) = volume();
        fill(&mut engine, 0..10, 1);
        engine.flush().unwrap();
        fill(&mut engine, NOTED, 2);
        (disk, engine)
    };
    // One whose server was killed has the notes, and the same one that goes on has the chunks.
    let (killed, engine) = noting();
    drop(engine);
    let noted = killed.left_tail().unwrap();
    let (disk, mut engine) = noting();
    let write_chunk = |engine: &mut Engine| {
        let (ctx, layer) = (&engine.ctx, engine.active.id);
        engine.log.write_chunk(ctx, &mut engine.table, layer, ChunkEnd::Plain).unwrap();
    };
    write_chunk(&mut engine);
    fill(&mut engine, 100..105, 3);
    write_chunk(&mut engine);
    let descriptor = entry(&mut engine, NOTED.start).location - 1;
    drop(engine);
    disk.punch(byte_offset(descriptor), PAGE_BYTES as u64).unwrap();
    *disk.tail.lock().unwrap() = None;
    *disk.left.lock().unwrap() = noted;
    let mut engine = open(&disk).unwrap();
    NOTED.for_each(|lba| assert_eq!(read(&mut engine, lba).unwrap(), content(lba, 2)));
    assert_eq!(read(&mut engine, 100).unwrap(), [0; PAGE_BYTES]);
    let (segment, position) = engine.ctx.geometry.split(descriptor).unwrap();
    let opener = engine.ctx.structure.opener(engine.table.get(segment).unwrap().salt);
    let behind = position + 1 + (NOTED.end - NOTED.start) as u32;
    let page = engine.read_page(engine.ctx.geometry.locate(segment, behind)).unwrap();
    assert!(Descriptor::open(page, &opener, behind).is_some());
    for report in reports(&disk) {
        assert!(report.findings.is_empty(), "{:?}", report.findings);
    }
}

/// Without a descriptor nothing tells where its pages end; what the map shows of them is proved by it.
#[test]
fn damage_of_noted_pages_is_found() {
    let (disk, mut engine, _) = killed();
    let location = entry(&mut engine, NOTED.start + 3).location;
    engine.close().unwrap();
    disk.damage(location);
    let [opened, _] = reports(&disk);
    assert_eq!(opened.findings.iter().count(), 1);
    assert!(opened.findings.has(Fault::DataPage), "{:?}", opened.findings);
}

/// Segments that look like the best victims and cannot be emptied do not keep the cleaner busy for ever,
/// however much there is to clean besides.
#[test]
fn what_cannot_be_emptied_is_tried_once() {
    for pages in (240..480).step_by(8) {
        let (_disk, mut engine) = volume();
        fill(&mut engine, 0..pages, 1);
        engine.checkpoint().unwrap();
        let full = engine.table.iter().filter(|(_, segment)| segment.live == 30);
        let wrong: Vec<SegmentIndex> = full.map(|(index, _)| index).take(2).collect();
        // One page more is counted than there is, and all that there are die.
        let one_more = wrong.iter().map(|index| (*index, 1)).collect();
        engine.correct(&Corrections::of(one_more)).unwrap();
        let is_wrong = |engine: &mut Engine, lba| {
            let location = entry(engine, lba).location;
            let place = engine.ctx.geometry.split(location);
            place.is_some_and(|(segment, _)| wrong.contains(&segment))
        };
        for lba in 0..pages {
            if lba % 3 > 0 || is_wrong(&mut engine, lba) {
                fill(&mut engine, lba..lba + 1, 2);
            }
        }
        engine.checkpoint().unwrap();
        // A sixteenth of a small allowance is not a segment: any excess begins a round.
        engine.limit_space(Arc::new(Narrow(u64::MAX)));
        let before = engine.epoch();
        clean_all(&mut engine);
        let rounds = engine.epoch() - before;
        assert!(rounds < 10, "{rounds} checkpoints for {pages} pages");
        assert_eq!(wrong.len(), 2);
        wrong.iter().for_each(|index| assert_eq!(live(&engine, *index), 1, "{pages}"));
    }
}

/// A segment that died during its round, was released and is in use again is not what was cleaned.
#[test]
fn a_segment_that_is_in_use_again_was_emptied() {
    let (_disk, mut engine) = volume();
    fill(&mut engine, 0..300, 1);
    (0..300).filter(|lba| lba % 3 > 0).for_each(|lba| fill(&mut engine, lba..lba + 1, 2));
    engine.checkpoint().unwrap();
    engine.limit_space(Arc::new(Narrow(u64::MAX)));
    assert!(engine.clean_step().unwrap());
    let victims = engine.round.as_ref().unwrap().all.clone();
    // What the victims hold dies, what was written instead takes their place, and the round goes on.
    fill(&mut engine, 0..300, 3);
    engine.checkpoint().unwrap();
    fill(&mut engine, 300..900, 4);
    let is_used_again = |victim: &Victim| {
        engine.table.get(victim.index).is_some_and(|segment| segment.salt != victim.salt)
    };
    assert!(victims.iter().any(is_used_again));
    while engine.round.is_some() {
        engine.clean_step().unwrap();
    }
    assert!(!engine.cleaned.is_empty());
    engine.checkpoint().unwrap();
    assert!(engine.cleaned.is_empty());
    assert!(engine.unemptied.is_empty());
}

/// A volume of many blocks whose server was killed, with several segments that are worth cleaning, as it
/// is opened again; and the segment that holds noted pages and nothing else.
fn killed_and_wide() -> (Arc<MemoryDisk>, Engine, SegmentIndex) {
    let (disk, mut engine) = volume_of(64 << 20);
    // A leaf for each block.
    (0..128).for_each(|block| fill(&mut engine, block * 128..block * 128 + 1, 1));
    engine.flush().unwrap();
    fill(&mut engine, NOTED, 2);
    drop(engine);
    let mut engine = open(&disk).unwrap();
    let location = entry(&mut engine, NOTED.start).location;
    let (segment, _) = engine.ctx.geometry.split(location).unwrap();
    (0..128).for_each(|block| fill(&mut engine, block * 128..block * 128 + 1, 3));
    fill(&mut engine, 4000..5000, 4);
    (4000..5000).filter(|lba| lba % 4 > 0).for_each(|lba| fill(&mut engine, lba..lba + 1, 4));
    engine.close().unwrap();
    let engine = open(&disk).unwrap();
    assert_eq!(live(&engine, segment), 7);
    (disk, engine, segment)
}

/// Leaves room for a write only once something was cleaned.
fn make_scarce(engine: &mut Engine) {
    let need = engine.need(1, 100);
    let bytes = need.held + need.upkeep - 3 * engine.ctx.geometry.segment_bytes();
    engine.limit_space(Arc::new(Narrow(bytes)));
}

/// Writes that wait for space are not kept waiting by a walk of the map, begun for them or at leisure.
/// What only that finds is moved afterwards.
#[test]
fn no_write_waits_for_a_walk_of_the_map() {
    for is_walking in [false, true] {
        let (disk, mut engine, segment) = killed_and_wide();
        if is_walking {
            engine.limit_space(Arc::new(Narrow(u64::MAX)));
            while engine.round.as_ref().is_none_or(|round| round.unnamed.is_empty()) {
                assert!(engine.clean_step().unwrap());
            }
            // The walk begins, and visits a part of the map.
            (0..2).for_each(|_| assert!(engine.clean_step().unwrap()));
        }
        make_scarce(&mut engine);
        let before = disk.reads.load(Ordering::Relaxed);
        fill(&mut engine, 6000..6040, 5);
        let reads = disk.reads.load(Ordering::Relaxed) - before;
        assert!(reads < 100, "{reads} reads");
        assert!(engine.is_cleaning_put_off());
        assert_eq!(live(&engine, segment), 7);
        assert!(!engine.cleaned.contains_key(&segment) && !engine.unemptied.contains(&segment));

        engine.limit_space(Arc::new(Narrow(u64::MAX)));
        clean_all(&mut engine);
        engine.checkpoint().unwrap();
        assert!(!engine.is_cleaning_put_off());
        let place = |engine: &mut Engine, lba| {
            let location = entry(engine, lba).location;
            engine.ctx.geometry.split(location).unwrap().0
        };
        NOTED.for_each(|lba| assert_ne!(place(&mut engine, lba), segment));
        NOTED.for_each(|lba| assert_eq!(read(&mut engine, lba).unwrap(), content(lba, 2)));
        (4000..5000).for_each(|lba| assert_eq!(read(&mut engine, lba).unwrap(), content(lba, 4)));
        (6000..6040).for_each(|lba| assert_eq!(read(&mut engine, lba).unwrap(), content(lba, 5)));
        engine.check().unwrap();
    }
}

/// While a layer is half settled, pages that it replaced are not looked for in the whole map.
#[test]
fn what_is_half_settled_is_not_taken_for_unnamed() {
    let (disk, mut engine, segment) = killed();
    fill(&mut engine, NOTED, 3);
    fill(&mut engine, 0..15, 3);
    fill(&mut engine, 300..1300, 4);
    (300..1300).filter(|lba| lba % 4 > 0).for_each(|lba| fill(&mut engine, lba..lba + 1, 4));
    engine.close().unwrap();
    let mut engine = open(&disk).unwrap();
    assert_eq!(live(&engine, segment), 5, "only what is named is left");
    fill(&mut engine, 15..16, 5);
    fill(&mut engine, 1500..1501, 5);
    engine.freeze(None).unwrap();
    engine.merge_steps(1).unwrap();
    assert!(engine.merge.is_some() && !engine.settled.is_empty());
    make_scarce(&mut engine);
    fill(&mut engine, 1600..1640, 5);
    assert!(!engine.is_cleaning_put_off());
    engine.checkpoint().unwrap();
    engine.check().unwrap();
}
