//! Cuts that are dropped in steps, between which the volume goes on.

use super::*;
use crate::live::{CutId, Dropped, Misses};
use crate::page::PAGES_PER_BLOCK;

/// Enough for a map of two levels above the leaves, of which few are in memory.
const LARGE: u64 = 300 << 20;
/// Blocks that are written, all over the volume.
const BLOCKS: u64 = 150;

fn cut_id(number: u32) -> CutId {
    CutId::new(&format!("snap-{number}")).unwrap()
}

/// Writes two pages of every `step`th block.
fn touch(engine: &mut Engine, step: usize, seed: u8) {
    for block in (0..BLOCKS).step_by(step) {
        let lba = block * 4 * PAGES_PER_BLOCK as u64;
        fill(engine, lba..lba + 2, seed);
    }
}

/// What was written before the volume was cut, and what since: every how many blocks, and the seed.
const SEEDS: [(usize, u8); 2] = [(1, 1), (5, 101)];

/// A volume that has been cut once, and written since.
fn cut_once() -> (Arc<MemoryDisk>, Engine) {
    let (disk, mut engine) = volume_of(LARGE);
    touch(&mut engine, SEEDS[0].0, SEEDS[0].1);
    engine.cut(cut_id(1)).unwrap();
    touch(&mut engine, SEEDS[1].0, SEEDS[1].1);
    engine.checkpoint().unwrap();
    (disk, engine)
}

/// One step, and what has to be read for the next. Answers whether it was the last.
fn step(engine: &mut Engine, disk: &MemoryDisk, id: CutId) -> Result<bool, Error> {
    let dropped = engine.drop_cut_step(id, Misses::Report)?;
    supply(engine, disk, &dropped);
    Ok(matches!(dropped, Dropped::Whole))
}

fn supply(engine: &mut Engine, disk: &MemoryDisk, dropped: &Dropped) {
    if let Dropped::Needs(page) = dropped {
        let part = page.part();
        let mut sealed = vec![0; part.length];
        disk.read(part.offset, &mut sealed).unwrap();
        engine.supply(page, &sealed).unwrap();
    }
}

/// Everything that is counted is in use, and nothing else.
fn check_dropped(engine: &mut Engine, later: &[(usize, u8)]) {
    assert!(engine.cuts().is_empty());
    engine.checkpoint().unwrap();
    engine.check().unwrap();
    for block in 0..BLOCKS {
        let lba = block * 4 * PAGES_PER_BLOCK as u64;
        let mut seeds = SEEDS.iter().chain(later);
        let seed = seeds.rfind(|(step, _)| block.is_multiple_of(*step as u64));
        assert_eq!(read(engine, lba).unwrap(), content(lba, seed.unwrap().1));
    }
}

#[test]
fn what_merges_replace_while_a_cut_is_dropped_is_given_back() {
    let (disk, mut engine) = cut_once();
    let (mut steps, mut seeds) = (0usize, Vec::new());
    while !step(&mut engine, &disk, cut_id(1)).unwrap() {
        steps += 1;
        if steps % 5 == 0 {
            let (every, seed) = (1 + steps % 7, steps as u8);
            touch(&mut engine, every, seed);
            seeds.push((every, seed));
            engine.checkpoint().unwrap();
            engine.check().unwrap();
        }
    }
    assert!(steps > 5, "there is nothing in between after {steps} steps");
    check_dropped(&mut engine, &seeds);
}

/// The comparison neither begins nor ends in the middle of a merge, of which one knows too little of the
/// other.
#[test]
fn a_merge_that_is_under_way_is_waited_for() {
    for is_begun in [false, true] {
        let (disk, mut engine) = cut_once();
        engine.mutate(Engine::empty_settled).unwrap();
        if is_begun {
            assert!(!step(&mut engine, &disk, cut_id(1)).unwrap());
        }
        touch(&mut engine, 1, 2);
        engine.mutate(|engine| engine.freeze(None)).unwrap();
        engine.mutate(|engine| engine.merge_steps(3)).unwrap();
        assert!(engine.merge.is_some());
        while !step(&mut engine, &disk, cut_id(1)).unwrap() {}
        check_dropped(&mut engine, &[(1, 2)]);
    }
}

/// Also where a cut is taken meanwhile, and both are dropped by two who know nothing of one another.
#[test]
fn cuts_are_dropped_one_after_the_other() {
    for first in [1, 2] {
        let (disk, mut engine) = cut_once();
        assert!(!step(&mut engine, &disk, cut_id(1)).unwrap());
        touch(&mut engine, 2, 2);
        engine.cut(cut_id(2)).unwrap();
        touch(&mut engine, 3, 3);
        assert!(!step(&mut engine, &disk, cut_id(2)).unwrap());
        let opened = engine.open_cut(cut_id(2), None).map(drop);
        assert!(matches!(opened, Err(Error::CutNotFound { .. })), "it waits to be dropped");
        let mut gone = [false; 2];
        while gone != [true; 2] {
            for number in [first, 3 - first] {
                gone[number as usize - 1] |= match step(&mut engine, &disk, cut_id(number)) {
                    Err(Error::CutNotFound { .. }) => true,
                    answer => answer.unwrap(),
                };
                engine.maintain().unwrap();
            }
        }
        check_dropped(&mut engine, &[(2, 2), (3, 3)]);
    }
}

#[test]
fn a_cut_that_is_being_dropped_is_retained_and_not_opened() {
    let (disk, mut engine) = cut_once();
    assert!(!step(&mut engine, &disk, cut_id(1)).unwrap());
    let refused = |answer: Result<(), Error>| matches!(answer, Err(Error::CutNotFound { .. }));
    assert!(refused(engine.open_cut(cut_id(1), None).map(drop)));
    assert!(refused(engine.show_cut_step(cut_id(1)).map(drop)));
    assert!(matches!(engine.cut(cut_id(1)), Err(Error::CutIsDropped { .. })));
    assert!(engine.cuts().is_empty() && engine.retained_generation(cut_id(1)).is_some());
    // The process ends: nothing was dropped.
    engine.flush().unwrap();
    drop(engine);
    let mut engine = open(&disk).unwrap();
    engine.open_cut(cut_id(1), None).unwrap();
    engine.check().unwrap();
    engine.drop_cut(cut_id(1)).unwrap();
    check_dropped(&mut engine, &[]);
    assert!(refused(engine.drop_cut(cut_id(1))));
}

/// The disk is away for a moment, between the beginning and the end of a merge that notes what the
/// comparison has passed; then the same cut is dropped, or another one.
#[test]
fn a_comparison_that_failed_begins_anew() {
    for (next, steps) in [(1, 40), (2, 20)] {
        let (disk, mut engine) = cut_once();
        if next == 2 {
            engine.cut(cut_id(2)).unwrap();
            touch(&mut engine, 4, 2);
            engine.checkpoint().unwrap();
        }
        let newest = cut_id(next);
        for _ in 0..steps {
            let dropped = engine.drop_cut_step(newest, Misses::Read).unwrap();
            assert!(matches!(dropped, Dropped::InPart));
        }
        touch(&mut engine, 1, 3);
        engine.mutate(|engine| engine.freeze(None)).unwrap();
        engine.mutate(|engine| engine.merge_steps(100)).unwrap();
        assert!(engine.merge.is_some());
        disk.disconnect();
        let failed = loop {
            match engine.drop_cut_step(newest, Misses::Read) {
                Ok(dropped) => assert!(!matches!(dropped, Dropped::Whole)),
                Err(error) => break error,
            }
        };
        assert!(matches!(failed, Error::Disk { .. }) && !engine.is_dropping(newest));
        disk.connect();
        // The first one, which a watch for the second says nothing of.
        assert!(!step(&mut engine, &disk, cut_id(1)).unwrap());
        engine.checkpoint().unwrap();
        engine.check().unwrap();
        while !step(&mut engine, &disk, cut_id(1)).unwrap() {}
        engine.check().unwrap();
        if next == 2 {
            engine.drop_cut(newest).unwrap();
        }
        check_dropped(&mut engine, &[(1, 3)]);
    }
}

/// Where nobody reads what it needs, it is read all the same.
#[test]
fn a_cut_is_dropped_without_what_it_needs() {
    let (_disk, mut engine) = cut_once();
    while !matches!(engine.drop_cut_step(cut_id(1), Misses::Report).unwrap(), Dropped::Whole) {}
    check_dropped(&mut engine, &[]);
}

/// Whoever waits for the volume waits for no read of the disk, however large the cut.
#[test]
fn what_is_compared_is_read_by_whoever_drops_the_cut() {
    let (disk, mut engine) = cut_once();
    engine.flush().unwrap();
    drop(engine);
    let mut engine = open(&disk).unwrap();
    while engine
        .drop_cut_step(cut_id(1), Misses::Report)
        .is_ok_and(|it| matches!(it, Dropped::InPart))
    {}
    let mut steps = 0;
    loop {
        let before = disk.reads.load(Ordering::Relaxed);
        let dropped = engine.drop_cut_step(cut_id(1), Misses::Report).unwrap();
        assert_eq!(disk.reads.load(Ordering::Relaxed), before);
        supply(&mut engine, &disk, &dropped);
        steps += 1;
        if matches!(dropped, Dropped::Whole) {
            break;
        }
    }
    assert!(steps > BLOCKS / 16, "{steps}");
    check_dropped(&mut engine, &[]);
}
