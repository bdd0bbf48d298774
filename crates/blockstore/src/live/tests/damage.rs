//! What is damaged costs what lies there, and nothing else.

use super::*;
use crate::live::layout::{Location, SegmentIndex};

/// Pages that were written in the beginning.
const PAGES: Range<Lba> = 0..960;

/// A volume that has much to be cleaned.
fn sparse() -> (Arc<MemoryDisk>, Engine) {
    let (disk, mut engine) = volume();
    fill(&mut engine, PAGES, 1);
    engine.checkpoint().unwrap();
    for lba in PAGES.filter(|lba| lba % 4 > 0) {
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
    content(lba, if lba % 4 > 0 { 2 } else { 1 })
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

/// When nothing can be read nothing is damaged: cleaning goes on where it was.
#[test]
fn a_disk_that_answers_nowhere_ends_no_round() {
    let (disk, mut engine) = sparse();
    while !matches!(engine.clean_step(), Ok(true) if engine.round.is_none()) {
        let pages = 0..disk.bytes.lock().unwrap().len() / PAGE_BYTES;
        disk.unreadable.lock().unwrap().extend(pages.map(|page| page as u64));
        // What is in memory may be enough for a step.
        let _ = engine.clean_step();
        disk.unreadable.lock().unwrap().clear();
    }
    engine.checkpoint().unwrap();
    assert!(engine.unemptied.is_empty());
    PAGES.for_each(|lba| assert_eq!(read(&mut engine, lba).unwrap(), written(lba)));
    engine.check().unwrap();
}
