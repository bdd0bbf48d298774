//! Segments that nothing refers to any more, and when their space is given back.

use super::*;
use crate::live::check::Corrections;
use crate::page::PAGES_PER_BLOCK;

/// Pages that fill some segments.
const PAGES: Range<Lba> = 0..1500;

/// Overwrites everything, in leaves too.
fn overwrite(engine: &mut Engine, seed: u8) {
    fill(engine, PAGES, seed);
    engine.checkpoint().unwrap();
}

#[test]
fn what_waits_for_a_reader_is_no_reason_to_clean_and_goes_when_it_has_gone() {
    let (_disk, mut engine) = volume();
    overwrite(&mut engine, 1);
    let (used, counted) = (engine.table.used(), engine.candidates().used);
    let hold = engine.pin().hold();
    for seed in 2..5 {
        overwrite(&mut engine, seed);
    }
    assert!(engine.table.used() > 3 * used, "{} of {used}", engine.table.used());
    let waiting = engine.candidates();
    assert!(waiting.used <= counted + 2, "{} of {counted} counted", waiting.used);
    assert!(waiting.used <= waiting.allowed, "nothing is to be cleaned");
    engine.maintain().unwrap();
    assert!(hold.stands());
    drop(hold);
    engine.maintain().unwrap();
    assert!(engine.table.used() <= used + 2, "{} of {used}", engine.table.used());
    PAGES.for_each(|lba| assert_eq!(read(&mut engine, lba).unwrap(), content(lba, 4)));
    engine.check().unwrap();
}

#[test]
fn a_reader_is_overtaken_where_space_is_short() {
    let (_disk, mut engine) = volume();
    overwrite(&mut engine, 1);
    let used = engine.table.used();
    let hold = engine.pin().hold();
    overwrite(&mut engine, 2);
    assert!(engine.table.used() > used + 2 && hold.stands());
    engine.limit_space(Arc::new(Narrow(u64::MAX)));
    engine.maintain().unwrap();
    assert!(engine.table.used() <= used + 2 && !hold.stands());
}

/// A server that ends after it has stored that a segment is dead, and before it has given it back.
#[test]
fn an_opening_gives_back_what_the_server_before_did_not() {
    let (disk, mut engine) = volume();
    overwrite(&mut engine, 1);
    let dead = byte_offset(entry(&mut engine, PAGES.start).location);
    let hold = engine.pin().hold();
    overwrite(&mut engine, 2);
    drop(engine);
    let page = || {
        let mut page = vec![0; PAGE_BYTES];
        disk.read(dead, &mut page).unwrap();
        page
    };
    assert_ne!(page(), [0; PAGE_BYTES]);
    drop(hold);
    let mut engine = open(&disk).unwrap();
    assert_eq!(page(), [0; PAGE_BYTES]);
    PAGES.for_each(|lba| assert_eq!(read(&mut engine, lba).unwrap(), content(lba, 2)));
    engine.check().unwrap();
}

/// What was written since the last checkpoint may lie where that one says that nothing does.
#[test]
fn an_opening_keeps_what_was_written_to_a_segment_that_had_died() {
    let (disk, mut engine) = volume();
    for seed in 1..4 {
        overwrite(&mut engine, seed);
        fill(&mut engine, PAGES, seed + 10);
        engine.flush().unwrap();
        drop(engine);
        engine = open(&disk).unwrap();
        PAGES.for_each(|lba| assert_eq!(read(&mut engine, lba).unwrap(), content(lba, seed + 10)));
        engine.check().unwrap();
    }
}

/// Who reads the stored state while the volume is opened anew may find it written over.
#[test]
fn an_opening_overtakes_readers() {
    let (disk, mut engine) = volume();
    let pin = engine.pin();
    let hold = pin.hold();
    overwrite(&mut engine, 1);
    overwrite(&mut engine, 2);
    drop(engine);
    assert!(hold.stands());
    let (disk, rng) = (Arc::clone(&disk) as Arc<dyn Disk>, Arc::new(rng(&disk)));
    let options = OpenOptions { data_key: Some(key()), ..OpenOptions::default() };
    let config = EngineConfig::tiny();
    let none = Corrections::default();
    Engine::open_pinned(disk, structure(), rng, config, options, pin, &none).unwrap();
    assert!(!hold.stands());
}

/// A request may be as long as the volume.
#[test]
fn a_discard_of_everything_takes_no_more_memory_than_writes_do() {
    let blocks = 4096;
    let (_disk, mut engine) = volume_of(blocks * PAGES_PER_BLOCK as u64 * PAGE_BYTES as u64);
    for block in 0..blocks {
        let lba = block * PAGES_PER_BLOCK as u64;
        fill(&mut engine, lba..lba + 1, 1);
        engine.maintain().unwrap();
    }
    engine.checkpoint().unwrap();
    engine.discard(0, engine.size()).unwrap();
    let in_one_part = 1024 * 120;
    let most = engine.ctx.config.delta_bytes_max + in_one_part;
    assert!(engine.active.bytes <= most, "{} of {most}", engine.active.bytes);
    assert!(engine.frozen.len() <= 1);
    assert_eq!(read(&mut engine, 0).unwrap(), vec![0; PAGE_BYTES]);
    engine.check().unwrap();
}
