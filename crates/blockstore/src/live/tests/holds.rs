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
    assert!(!engine.give_back_step(false) && hold.stands());
    drop(hold);
    while engine.give_back_step(false) {}
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
    assert!(!engine.give_back_step(true));
    assert!(engine.table.used() <= used + 2 && !hold.stands());
}

/// A volume of which everything was overwritten while somebody read it, and how many segments it had before.
/// What died has not been given back.
fn overwritten() -> (Arc<MemoryDisk>, Engine, u32) {
    let (disk, mut engine) = volume();
    overwrite(&mut engine, 1);
    let used = engine.table.used();
    let hold = engine.pin().hold();
    overwrite(&mut engine, 2);
    assert!(!engine.give_back_step(true));
    drop(hold);
    assert!(engine.table.used() > used + 20);
    (disk, engine, used)
}

#[test]
fn what_is_dead_is_given_back_a_piece_at_a_time() {
    let (disk, mut engine, used) = overwritten();
    let pieces = engine.segment_pieces();
    assert!(pieces > 1);
    let mut before = engine.table.used();
    let mut steps = 0;
    loop {
        // What is written meanwhile goes elsewhere.
        let lba = PAGES.end + steps % 500;
        engine.write(lba * PAGE_BYTES as u64, &content(lba, 7)).unwrap();
        let more = engine.give_back_step(false);
        engine.maintain().unwrap();
        steps += 1;
        let now = engine.table.used();
        assert!(now + u32::from(steps % pieces == 0) >= before, "step {steps}: {before} to {now}");
        before = now;
        if !more {
            break;
        }
    }
    assert!(before <= used + 8 && steps > 20 * pieces, "{before} of {used} after {steps} steps");
    let written = PAGES.end..PAGES.end + steps.min(500);
    for _ in 0..2 {
        PAGES.for_each(|lba| assert!(read(&mut engine, lba).unwrap() == content(lba, 2)));
        written.clone().for_each(|lba| assert!(read(&mut engine, lba).unwrap() == content(lba, 7)));
        engine.check().unwrap();
        engine.flush().unwrap();
        drop(engine);
        engine = open(&disk).unwrap();
    }
}

#[test]
fn a_busy_guest_is_spared() {
    let (_disk, mut engine, _) = overwritten();
    let before = engine.table.used();
    for _ in 0..80 {
        assert!(engine.give_back_step(true));
    }
    let pieces = engine.segment_pieces();
    assert_eq!(u64::from(before - engine.table.used()), 10 / pieces);
}

#[test]
fn a_guest_that_writes_does_not_outrun_what_is_given_back() {
    let (_disk, mut engine) = volume();
    overwrite(&mut engine, 1);
    let used = engine.table.used();
    let mut peak = 0;
    for seed in 2..10 {
        for first in PAGES.step_by(50) {
            fill(&mut engine, first..first + 50, seed);
            engine.maintain().unwrap();
            engine.give_back_step(true);
            peak = engine.table.used().max(peak);
        }
    }
    assert!(peak < 3 * used, "{peak} of {used}");
}

#[test]
fn a_detached_volume_keeps_nothing_that_is_dead() {
    let (disk, engine, used) = overwritten();
    let segment_bytes = engine.ctx.geometry.segment_bytes() as usize;
    engine.close().unwrap();
    let bytes = disk.bytes.lock().unwrap();
    let taken = bytes.chunks(segment_bytes).filter(|segment| segment.iter().any(|byte| *byte != 0));
    let taken = taken.count();
    assert!(taken <= used as usize + 3, "{taken} of {used}");
}

/// A place with room for so many bytes, of which nobody knows that it is short until somebody is refused.
struct Sudden(u64);

impl Space for Sudden {
    fn ask(&self, need: Need) -> bool {
        need.held <= self.0
    }

    fn refused(&self) {}

    fn tell(&self, _: Need) {}

    fn is_short(&self) -> bool {
        false
    }
}

#[test]
fn a_write_gets_what_is_dead_rather_than_being_refused() {
    let (_disk, mut engine, used) = overwritten();
    let epoch = engine.epoch();
    let segments = u64::from(engine.table.used());
    engine.limit_space(Arc::new(Sudden(segments * engine.ctx.geometry.segment_bytes())));
    fill(&mut engine, PAGES.end..PAGES.end + 40, 3);
    assert!(engine.table.used() <= used + 4, "{} of {used}", engine.table.used());
    assert_eq!(engine.epoch(), epoch, "nothing had to be merged for it");
}

/// A server that ends after it has stored that a segment is dead, and before all of it was given back.
#[test]
fn an_opening_gives_back_what_the_server_before_did_not() {
    let (disk, mut engine) = volume();
    overwrite(&mut engine, 1);
    let dead = byte_offset(entry(&mut engine, PAGES.end - 1).location);
    let hold = engine.pin().hold();
    overwrite(&mut engine, 2);
    drop(hold);
    for _ in 0..4 {
        assert!(engine.give_back_step(false));
    }
    drop(engine);
    let page = || {
        let mut page = vec![0; PAGE_BYTES];
        disk.read(dead, &mut page).unwrap();
        page
    };
    assert!(page() != [0; PAGE_BYTES]);
    let mut engine = open(&disk).unwrap();
    // They are not written before.
    fill(&mut engine, PAGES.end..PAGES.end + 100, 2);
    while engine.give_back_step(false) {}
    assert!(page() == [0; PAGE_BYTES]);
    for lba in 0..PAGES.end + 100 {
        assert!(read(&mut engine, lba).unwrap() == content(lba, 2));
    }
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
