//! Short traces, and everything that can happen to them.

use sim::SimDisk;
use sim::trace::{
    FaultCounts, KillCounts, PowerCounts, Script, faults, kills, power, random, scripts,
};
use std::sync::Arc;

fn power_cuts(scripts: &[Script]) -> PowerCounts {
    let mut total = PowerCounts::default();
    for script in scripts {
        match power(script, &|disk: Arc<SimDisk>| disk) {
            Ok(counts) => {
                total.points += counts.points;
                total.recoveries += counts.recoveries;
                total.nested += counts.nested;
            }
            Err(finding) => panic!("{finding:?}"),
        }
    }
    total
}

#[test]
fn a_power_cut_after_every_operation_loses_nothing_it_may_not() {
    let total = power_cuts(&scripts());
    // Every operation was a moment, and every moment had its family.
    assert!(total.points > 400 && total.recoveries > 10_000, "{total:?}");
    assert!(total.nested > 5_000, "{total:?}");
}

/// `cargo xtask sim --kind traces` plays others.
#[test]
fn nor_in_traces_that_a_seed_decides() {
    power_cuts(&(0..12).map(random).collect::<Vec<_>>());
}

#[test]
fn a_kill_after_every_operation_loses_nothing_that_was_answered() {
    let mut total = KillCounts::default();
    for script in scripts().into_iter().chain((0..8).map(random)) {
        match kills(&script) {
            Ok(counts) => {
                total.points += counts.points;
                total.kept += counts.kept;
                total.nested += counts.nested;
                total.torn += counts.torn;
            }
            Err(finding) => panic!("{finding:?}"),
        }
    }
    assert!(total.torn > 1000, "{total:?}");
    assert!(total.points > 1000 && total.kept > 1000 && total.nested > 4000, "{total:?}");
}

#[test]
fn every_operation_fails_or_lies_and_nothing_wrong_is_served() {
    let mut total = FaultCounts::default();
    for script in scripts() {
        match faults(&script) {
            Ok(counts) => {
                total.played += counts.played;
                total.errors += counts.errors;
                total.reported += counts.reported;
                total.kept += counts.kept;
                total.detected += counts.detected;
                total.pages_refused += counts.pages_refused;
                total.harmless += counts.harmless;
                total.rolled_back += counts.rolled_back;
            }
            Err(finding) => panic!("{finding:?}"),
        }
    }
    // Every kind of end occurred, so each was looked at.
    assert!(total.errors > 1000 && total.reported * 10 > total.errors * 9, "{total:?}");
    assert!(total.kept > 1000, "{total:?}");
    assert!(total.detected > 1000 && total.pages_refused > 100, "{total:?}");
    assert!(total.harmless > 100 && total.rolled_back > 10, "{total:?}");
}
