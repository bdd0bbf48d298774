//! Plays what seeds decide on several threads: `sim lives|traces|houses FIRST COUNT THREADS`.

use sim::trace::{faults, kills, power, random};
use sim::{HouseRun, Run, Salts, SimDisk, Weather, house, run};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Requests in a life; the tests play the same number.
const STEPS: u64 = 250;
/// Requests to a house, as in the tests.
const HOUSE_STEPS: u64 = 120;
/// As in the tests.
const GRACE_SECONDS: i64 = 500;
/// Seeds after which a long run says where it is.
const REPORT_EVERY: u64 = 1000;

/// What a seed decides.
#[derive(Clone, Copy)]
enum Kind {
    /// A long life with power cuts.
    Lives,
    /// A short trace, and everything that can happen to it.
    Traces,
    /// Volumes and snapshots over an object store, once where it fails and once where it does not.
    Houses,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let kind = match arguments.first().map(String::as_str) {
        Some("lives") => Some(Kind::Lives),
        Some("traces") => Some(Kind::Traces),
        Some("houses") => Some(Kind::Houses),
        _ => None,
    };
    let number = |at: usize| arguments.get(at).and_then(|text| text.parse::<u64>().ok());
    let (Some(kind), Some(first), Some(count), Some(threads)) =
        (kind, number(1), number(2), number(3))
    else {
        eprintln!("usage: sim lives|traces|houses FIRST COUNT THREADS");
        return ExitCode::FAILURE;
    };
    let (next, failed) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= count {
                        break;
                    }
                    let seed = first + at;
                    match kind.play(seed) {
                        Ok(outcome) if count == 1 => println!("seed {seed}: {outcome}"),
                        Ok(_) => {}
                        Err(finding) => {
                            failed.fetch_add(1, Ordering::Relaxed);
                            println!(
                                "{finding}\nreplay with: cargo xtask sim {} --seed {seed}",
                                kind.flag()
                            );
                        }
                    }
                    if (at + 1).is_multiple_of(REPORT_EVERY) {
                        println!("{} of {count} seeds", at + 1);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner();
    println!("{count} seeds from {first}, {failed} with a violation");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Kind {
    /// As `cargo xtask sim` takes it.
    fn flag(self) -> &'static str {
        match self {
            Self::Lives => "",
            Self::Traces => "--kind traces",
            Self::Houses => "--kind houses",
        }
    }

    /// What the seed did, or what was wrong.
    fn play(self, seed: u64) -> Result<String, String> {
        match self {
            Self::Lives => {
                let life = Run { seed, steps: STEPS, salts: Salts::Random };
                let outcome = run(life, &|disk: Arc<SimDisk>| disk);
                outcome.map(|outcome| format!("{outcome:?}")).map_err(|wrong| format!("{wrong:?}"))
            }
            Self::Traces => {
                let script = random(seed);
                let cut = power(&script, &|disk: Arc<SimDisk>| disk);
                let cut = cut.map_err(|finding| format!("{finding:?}"))?;
                let killed = kills(&script).map_err(|finding| format!("{finding:?}"))?;
                let failed = faults(&script).map_err(|finding| format!("{finding:?}"))?;
                Ok(format!("{:?} {cut:?} {killed:?} {failed:?}", script.asks))
            }
            Self::Houses => {
                let play = |store| {
                    let told =
                        HouseRun { seed, steps: HOUSE_STEPS, store, grace_seconds: GRACE_SECONDS };
                    house(told).map_err(|wrong| format!("{store:?}: {wrong:?}"))
                };
                Ok(format!("{:?} {:?}", play(Weather::Fair)?, play(Weather::Foul)?))
            }
        }
    }
}
