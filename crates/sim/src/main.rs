//! Plays simulated lives on every core: `sim lives FIRST COUNT THREADS`.

use sim::{Run, Salts, SimDisk, run};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Requests in a life; the tests play the same number.
const STEPS: u64 = 250;
/// Lives after which a long run says where it is.
const REPORT_EVERY: u64 = 1000;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| arguments.get(at).and_then(|text| text.parse::<u64>().ok());
    match (arguments.first().map(String::as_str), number(1), number(2), number(3)) {
        (Some("lives"), Some(first), Some(count), Some(threads)) => many(first, count, threads),
        _ => {
            eprintln!("usage: sim lives FIRST COUNT THREADS");
            ExitCode::FAILURE
        }
    }
}

/// Plays seeds on several threads and prints those that find something.
fn many(first: u64, count: u64, threads: u64) -> ExitCode {
    let (next, failed) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= count {
                        break;
                    }
                    failed.fetch_add(u64::from(!life(first + at, count == 1)), Ordering::Relaxed);
                    if (at + 1).is_multiple_of(REPORT_EVERY) {
                        println!("{} of {count} lives", at + 1);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner();
    println!("{count} lives from seed {first}, {failed} with a violation");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Whether the life with this seed was without a violation.
fn life(seed: u64, single: bool) -> bool {
    let life = Run { seed, steps: STEPS, salts: Salts::Random };
    match run(life, &|disk: Arc<SimDisk>| disk) {
        Ok(outcome) => {
            if single {
                println!("seed {seed}: {outcome:?}");
            }
            true
        }
        Err(violation) => {
            println!("{violation:?}\nreplay with: cargo xtask sim --seed {seed}");
            false
        }
    }
}
