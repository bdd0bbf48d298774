//! The evaluator against the reference that was written from the specification: random policies and
//! requests, and no difference. A case is a number, and an ordinary run asks the first [`CASES`]. With
//! [`MORE`] in the environment a run asks as many as that says behind them; docs/reliability.md has
//! such a run. The fuzz target `decisions` asks random ones.

use crate::cases::agree;
use std::collections::BTreeMap;

/// How many random questions an ordinary run asks.
const CASES: u64 = 30_000;
/// The variable that asks for more: how many, or `FIRST+COUNT`.
const MORE: &str = "STRONGROOM_TEST_DECISIONS";

/// The numbers of this run's cases.
fn seeds() -> std::ops::Range<u64> {
    #[expect(clippy::disallowed_methods, reason = "tests have no command line of their own")]
    let Ok(more) = std::env::var(MORE) else { return 0..CASES };
    let number = |text: &str| text.parse().unwrap_or_else(|_| panic!("{MORE}: {text}"));
    match more.split_once('+') {
        Some((first, count)) => number(first)..number(first) + number(count),
        None => 0..CASES + number(&more),
    }
}

#[test]
fn the_evaluator_agrees_with_the_reference() {
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    let mut differences = Vec::new();
    let seeds = seeds();
    let cases = seeds.end - seeds.start;
    for seed in seeds {
        match agree(seed) {
            Ok(verdict) => *seen.entry(format!("{verdict:?}")).or_default() += 1,
            Err(difference) => differences.push(difference),
        }
    }
    let count = differences.len();
    assert!(
        count == 0,
        "{count} differences, first:\n{}",
        differences.into_iter().take(5).collect::<String>()
    );
    println!("{cases} cases: {seen:?}");
    // A generator that always gets the same answer would prove nothing.
    for verdict in ["Allowed", "ExplicitDeny", "Identity", "Boundary", "Session", "Resource"] {
        let found = seen.iter().find(|(name, _)| name.contains(verdict)).map_or(0, |(_, n)| *n);
        assert!(found > cases / 100, "{verdict}: {seen:?}");
    }
}
