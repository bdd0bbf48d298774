//! A guest that falls silent keeps nothing that it gave up.

use super::*;

#[test]
fn an_idle_volume_gives_back_what_was_discarded_once() {
    let (_disk, mut engine) = volume();
    fill(&mut engine, 0..300, 1);
    engine.checkpoint().unwrap();
    let before = engine.usage().used_segments;
    assert!(!engine.is_rest_worth());
    // A segment has 32 pages.
    engine.discard(0, 31 * PAGE_BYTES as u64).unwrap();
    engine.flush().unwrap();
    assert!(!engine.is_rest_worth());
    engine.discard(31 * PAGE_BYTES as u64, 80 * PAGE_BYTES as u64).unwrap();
    engine.flush().unwrap();
    assert!(engine.is_rest_worth());
    assert!(!engine.maintain().unwrap(), "it is not due while the guest is busy");
    let epoch = engine.epoch();
    engine.rest().unwrap();
    while engine.maintain().unwrap() {}
    while engine.give_back_step(false) {}
    assert_eq!(engine.epoch(), epoch + 1);
    assert!(engine.usage().used_segments < before);
    // And for ever after, nothing.
    assert!(!engine.is_rest_worth());
    engine.rest().unwrap();
    assert!(!engine.maintain().unwrap());
    assert_eq!(engine.epoch(), epoch + 1);
    (111..300).for_each(|lba| assert_eq!(read(&mut engine, lba).unwrap(), content(lba, 1)));
}

#[test]
fn an_idle_volume_gives_back_what_was_overwritten() {
    let (_disk, mut engine) = volume();
    fill(&mut engine, 0..60, 1);
    engine.checkpoint().unwrap();
    fill(&mut engine, 0..20, 2);
    assert!(!engine.is_rest_worth());
    fill(&mut engine, 0..20, 3);
    assert!(engine.is_rest_worth());
    engine.rest().unwrap();
    while engine.maintain().unwrap() {}
    assert!(!engine.is_rest_worth());
    engine.check().unwrap();
}
