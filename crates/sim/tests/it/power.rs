//! Power cuts.

use sim::{DropFlush, Outcome, Run, SimDisk, run};
use std::sync::Arc;

fn play(seed: u64, steps: u64) -> Result<Outcome, sim::Violation> {
    run(Run { seed, steps }, &|disk: Arc<SimDisk>| disk)
}

/// The same number of seeds for every change; `xtask sim` plays more.
#[test]
fn two_hundred_lives_without_a_violation() {
    let mut total = Outcome::default();
    for seed in 0..200 {
        match play(seed, 250) {
            Ok(outcome) => {
                total.power_cuts += outcome.power_cuts;
                total.cuts_checked += outcome.cuts_checked;
                total.segments_cleaned += outcome.segments_cleaned;
            }
            Err(violation) => panic!("xtask sim --seed {seed}: {violation:?}"),
        }
    }
    // The runs went where they should.
    assert!(total.power_cuts > 200, "{total:?}");
    assert!(total.cuts_checked > 200, "{total:?}");
    assert!(total.segments_cleaned > 100, "{total:?}");
}

#[test]
fn a_seed_plays_the_same_life_twice() {
    assert_eq!(play(7, 200), play(7, 200));
    assert_ne!(play(7, 200), play(8, 200));
}

/// The mutation the simulation exists for: without flushes the oracle must object.
#[test]
fn without_flushes_the_oracle_objects() {
    let objections = (0..40)
        .filter(|seed| {
            let life = Run { seed: *seed, steps: 250 };
            run(life, &|disk: Arc<SimDisk>| Arc::new(DropFlush(disk))).is_err()
        })
        .count();
    assert!(objections >= 10, "only {objections} of 40 lives were refused");
}
