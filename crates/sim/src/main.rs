//! Plays simulated lives: `sim --seed N` one of them, `sim --seeds FIRST COUNT` many.

use sim::{Run, Salts, SimDisk, run};
use std::process::ExitCode;
use std::sync::Arc;

/// Requests in a life; the tests play the same number.
const STEPS: u64 = 250;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| arguments.get(at).and_then(|text| text.parse::<u64>().ok());
    let seeds = match (arguments.first().map(String::as_str), number(1), number(2)) {
        (Some("--seed"), Some(seed), None) => seed..seed + 1,
        (Some("--seeds"), Some(first), Some(count)) => first..first.saturating_add(count),
        _ => {
            eprintln!("usage: sim --seed N | sim --seeds FIRST COUNT");
            return ExitCode::FAILURE;
        }
    };
    let single = seeds.end - seeds.start == 1;
    let mut failed = 0;
    for seed in seeds {
        let life = Run { seed, steps: STEPS, salts: Salts::Random };
        match run(life, &|disk: Arc<SimDisk>| disk) {
            Ok(outcome) if single => println!("seed {seed}: {outcome:?}"),
            Ok(_) => {}
            Err(violation) => {
                failed += 1;
                println!("{violation:?}\nreplay with: cargo xtask sim --seed {seed}");
            }
        }
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
