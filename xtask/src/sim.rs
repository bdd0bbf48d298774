//! Simulated lives of volumes.

use crate::command;
use clap::Args;

/// Which lives to play.
#[derive(Args)]
pub(crate) struct Options {
    /// Play this life, as a failed test names it.
    #[arg(long, conflicts_with_all = ["first", "count"])]
    seed: Option<u64>,
    /// The first of many lives; the tests play those below 200.
    #[arg(long, default_value_t = 200)]
    first: u64,
    /// How many.
    #[arg(long, default_value_t = 1000)]
    count: u64,
}

pub(crate) fn run(options: &Options) -> Result<(), String> {
    let lives = match options.seed {
        Some(seed) => vec!["--seed".to_owned(), seed.to_string()],
        None => vec!["--seeds".to_owned(), options.first.to_string(), options.count.to_string()],
    };
    let mut arguments = vec!["run", "--quiet", "--package", "sim", "--"];
    arguments.extend(lives.iter().map(String::as_str));
    command::cargo(&arguments)
}
