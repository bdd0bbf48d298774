//! The evaluator against the reference that was written from the specification: random policies and
//! requests, and no difference. A case is a number, and an ordinary run asks the first [`CASES`]. With
//! [`MORE`] in the environment a run asks as many as that says behind them, on all processors, and says
//! from time to time how far it is; docs/reliability.md has such runs. The fuzz target `decisions` asks
//! random ones.

use crate::cases::agree;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;
use std::thread::{available_parallelism, scope};

/// How many random questions an ordinary run asks.
const CASES: u64 = 30_000;
/// The variable that asks for more: how many, or `FIRST+COUNT`.
const MORE: &str = "STRONGROOM_TEST_DECISIONS";
/// How many a thread takes at a time.
const BATCH: usize = 5_000;
/// Differences kept, of as many as there are.
const SHOWN: usize = 5;

/// The numbers of this run's cases, and on how many threads they are asked.
fn seeds() -> (Range<u64>, usize) {
    #[expect(clippy::disallowed_methods, reason = "tests have no command line of their own")]
    let Ok(more) = std::env::var(MORE) else { return (0..CASES, 1) };
    let number = |text: &str| text.parse().unwrap_or_else(|_| panic!("{MORE}: {text}"));
    let seeds = match more.split_once('+') {
        Some((first, count)) => number(first)..number(first) + number(count),
        None => 0..CASES + number(&more),
    };
    (seeds, available_parallelism().map_or(1, usize::from))
}

/// What was answered.
#[derive(Default)]
struct Answers {
    /// How often each.
    seen: BTreeMap<String, u64>,
    differences: u64,
    shown: Vec<String>,
}

impl Answers {
    fn ask(seeds: &[u64]) -> Self {
        let mut answers = Self::default();
        for seed in seeds {
            match agree(*seed) {
                Ok(verdict) => *answers.seen.entry(format!("{verdict:?}")).or_default() += 1,
                Err(difference) => answers.differs(difference),
            }
        }
        answers
    }

    fn differs(&mut self, difference: String) {
        self.differences += 1;
        if self.shown.len() < SHOWN {
            self.shown.push(difference);
        }
    }

    /// Takes over those to other cases.
    fn add(&mut self, others: Self) {
        for (verdict, count) in others.seen {
            *self.seen.entry(verdict).or_default() += count;
        }
        self.differences += others.differences;
        self.shown.extend(others.shown);
        self.shown.truncate(SHOWN);
    }

    fn count(&self) -> u64 {
        self.seen.values().sum::<u64>() + self.differences
    }
}

#[test]
fn the_evaluator_agrees_with_the_reference() {
    let (seeds, threads) = seeds();
    let cases = seeds.end - seeds.start;
    let ahead = Mutex::new(seeds.clone());
    let answers = Mutex::new(Answers::default());
    scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let batch: Vec<u64> =
                        ahead.lock().expect("whole").by_ref().take(BATCH).collect();
                    if batch.is_empty() {
                        break;
                    }
                    let found = Answers::ask(&batch);
                    let mut answers = answers.lock().expect("whole");
                    answers.add(found);
                    if answers.count().is_multiple_of(500_000) {
                        println!("{} of {cases}: {} differ", answers.count(), answers.differences);
                    }
                }
            });
        }
    });
    let answers = answers.into_inner().expect("whole");
    assert_eq!(answers.count(), cases, "each case is asked once");
    let Answers { seen, differences, shown } = answers;
    assert!(differences == 0, "{differences} differences, some:\n{}", shown.concat());
    println!("{cases} cases: {seen:?}");
    // A generator that always gets the same answer would prove nothing.
    for verdict in ["Allowed", "ExplicitDeny", "Identity", "Boundary", "Session", "Resource"] {
        let found = seen.iter().find(|(name, _)| name.contains(verdict)).map_or(0, |(_, n)| *n);
        assert!(found > cases / 100, "{verdict}: {seen:?}");
    }
}
