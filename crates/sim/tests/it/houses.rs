//! Volumes and snapshots against arrays of stamps.

use sim::{HouseOutcome, HouseRun, Weather, house};

/// As the sim's own runs are.
fn told(seed: u64, store: Weather) -> HouseRun {
    HouseRun { seed, steps: 120, store, grace_seconds: 500 }
}

fn houses(seeds: std::ops::Range<u64>, store: Weather) -> HouseOutcome {
    let mut total = HouseOutcome::default();
    for seed in seeds {
        let outcome = house(told(seed, store)).unwrap_or_else(|violation| {
            panic!("cargo xtask sim --kind houses --seed {seed} ({store:?}): {violation:?}")
        });
        total.exports += outcome.exports;
        total.increments += outcome.increments;
        total.copies += outcome.copies;
        total.uploads += outcome.uploads;
        total.archived += outcome.archived;
        total.restored += outcome.restored;
        total.twins += outcome.twins;
        total.twin_volumes += outcome.twin_volumes;
        total.lazy_volumes += outcome.lazy_volumes;
        total.detached += outcome.detached;
        total.resealed += outcome.resealed;
        total.resumed += outcome.resumed;
        total.resumed_on_copies += outcome.resumed_on_copies;
        total.packs_deleted += outcome.packs_deleted;
        total.packs_rewritten += outcome.packs_rewritten;
        total.refused += outcome.refused;
        total.deaths += outcome.deaths;
    }
    // The runs went where they should.
    assert!(total.exports > 20 && total.increments > 5 && total.copies > 5, "{total:?}");
    assert!(total.uploads > 5 && total.lazy_volumes > 10 && total.resumed > 5, "{total:?}");
    assert!(total.twins > 5 && total.twin_volumes > 2, "{total:?}");
    assert!(total.detached > 10, "{total:?}");
    assert!(total.resealed > 2, "{total:?}");
    assert!(total.archived > 5 && total.restored > 2, "{total:?}");
    assert!(total.packs_deleted > 50 && total.packs_rewritten > 2, "{total:?}");
    total
}

#[test]
fn houses_over_a_store_that_never_fails() {
    let total = houses(0..12, Weather::Fair);
    assert_eq!((total.refused, total.deaths), (0, 0));
}

#[test]
fn houses_over_a_store_that_fails_with_and_without_effect() {
    let total = houses(0..16, Weather::Foul);
    assert!(total.refused > 20 && total.deaths > 5, "{total:?}");
    assert!(total.resumed_on_copies > 1, "{total:?}");
}

#[test]
fn a_seed_plays_the_same_house_twice() {
    let play = |seed| house(told(seed, Weather::Foul));
    assert_eq!(play(3), play(3));
    assert_ne!(play(3), play(4));
}

/// A collection that knows no grace takes what an export under way has stored.
#[test]
fn without_grace_the_comparison_objects() {
    let objections = (0..10)
        .filter(|seed| house(HouseRun { grace_seconds: 0, ..told(*seed, Weather::Fair) }).is_err())
        .count();
    assert!(objections >= 5, "only {objections} of 10 houses were refused");
}
