//! Power cuts.

use sim::{DropFlush, EarlyFlush, Outcome, Run, Salts, SimDisk, Violation, run};
use std::sync::Arc;

fn life(seed: u64) -> Run {
    Run { seed, steps: 250, salts: Salts::Random }
}

fn play(seed: u64) -> Result<Outcome, Violation> {
    run(life(seed), &|disk: Arc<SimDisk>| disk)
}

/// The same seeds for every change, in four parts that run side by side; `cargo xtask sim` plays
/// others.
fn fifty_lives(first: u64) {
    let mut total = Outcome::default();
    for seed in first..first + 50 {
        match play(seed) {
            Ok(outcome) => {
                total.power_cuts += outcome.power_cuts;
                total.kills += outcome.kills;
                total.cuts_checked += outcome.cuts_checked;
                total.exports_checked += outcome.exports_checked;
                total.increments_checked += outcome.increments_checked;
                total.segments_cleaned += outcome.segments_cleaned;
                total.grown += outcome.grown;
                total.refused += outcome.refused;
                total.pages_moved += outcome.pages_moved;
                total.ordered += outcome.ordered;
            }
            Err(violation) => panic!("cargo xtask sim --seed {seed}: {violation:?}"),
        }
    }
    // The runs went where they should.
    assert!(total.power_cuts > 30, "{total:?}");
    assert!(total.kills > 30, "{total:?}");
    assert!(total.cuts_checked > 50, "{total:?}");
    assert!(total.exports_checked > 50, "{total:?}");
    assert!(total.increments_checked > 25, "{total:?}");
    assert!(total.segments_cleaned > 25, "{total:?}");
    assert!(total.grown > 50, "{total:?}");
    assert!(total.pages_moved > 100, "{total:?}");
    assert!(total.ordered > 0, "{total:?}");
    assert!(total.refused > 15, "{total:?}");
}

#[test]
fn lives_0_to_49_are_without_a_violation() {
    fifty_lives(0);
}

/// Cuts and discards alone once had this life's upkeep take more than the reserve.
#[test]
fn a_life_of_cuts_and_discards_stays_within_its_space() {
    let outcome = play(1_071_906).unwrap();
    assert!(outcome.refused > 0, "{outcome:?}");
}

#[test]
fn lives_50_to_99_are_without_a_violation() {
    fifty_lives(50);
}

#[test]
fn lives_100_to_149_are_without_a_violation() {
    fifty_lives(100);
}

#[test]
fn lives_150_to_199_are_without_a_violation() {
    fifty_lives(150);
}

#[test]
fn a_seed_plays_the_same_life_twice() {
    assert_eq!(play(7), play(7));
    assert_ne!(play(7), play(8));
}

/// The mutation the simulation exists for: without flushes the oracle must object.
#[test]
fn without_flushes_the_oracle_objects() {
    let objections = (0..40)
        .filter(|seed| run(life(*seed), &|disk: Arc<SimDisk>| Arc::new(DropFlush(disk))).is_err())
        .count();
    assert!(objections >= 10, "only {objections} of 40 lives were refused");
}

/// A flush that does not wait for the writes that were only started.
#[test]
fn with_flushes_that_do_not_wait_the_oracle_objects() {
    let objections = (0..80)
        .filter(|seed| run(life(*seed), &|disk: Arc<SimDisk>| Arc::new(EarlyFlush(disk))).is_err())
        .count();
    assert!(objections >= 4, "only {objections} of 80 lives were refused");
}

/// And with salts that come again, which no reader would notice.
#[test]
fn with_repeated_salts_the_watch_objects() {
    let objections = (0..10)
        .filter(|seed| {
            let life = Run { salts: Salts::Repeated, ..life(*seed) };
            run(life, &|disk: Arc<SimDisk>| disk) == Err(Violation::SaltReused)
        })
        .count();
    assert!(objections >= 5, "only {objections} of 10 lives were refused");
}
