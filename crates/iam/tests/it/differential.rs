//! The evaluator against the reference that was written from the specification: random policies and
//! requests, and no difference. The fuzz target `decisions` asks as many as one likes.

use crate::cases::agree;
use std::collections::BTreeMap;

/// How many random questions an ordinary run asks.
const CASES: u64 = 30_000;

#[test]
fn the_evaluator_agrees_with_the_reference() {
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    let mut differences = Vec::new();
    for seed in 0..CASES {
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
    // A generator that always gets the same answer would prove nothing.
    for verdict in ["Allowed", "ExplicitDeny", "Identity", "Boundary", "Session", "Resource"] {
        let found = seen.iter().find(|(name, _)| name.contains(verdict)).map_or(0, |(_, n)| *n);
        assert!(found > CASES / 100, "{verdict}: {seen:?}");
    }
}
