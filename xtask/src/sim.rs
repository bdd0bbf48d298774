//! Simulated volumes.

use crate::command;
use clap::Args;

/// What to play.
#[derive(Args)]
pub(crate) struct Options {
    /// What a seed decides.
    #[arg(long, value_enum, default_value_t = Kind::Lives)]
    kind: Kind,
    /// Play this life, as a failed test names it.
    #[arg(long, conflicts_with_all = ["first", "count"])]
    seed: Option<u64>,
    /// The first of many lives; the tests play those below 200.
    #[arg(long, default_value_t = 200)]
    first: u64,
    /// How many.
    #[arg(long, default_value_t = 1000)]
    count: u64,
    /// On how many threads; without it on every core.
    #[arg(long)]
    threads: Option<usize>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Kind {
    /// The long life of a volume, with power cuts.
    Lives,
    /// A short trace, with a power cut after, and a fault of, every operation of its disk.
    Traces,
    /// Volumes and snapshots over an object store that fails.
    Houses,
}

pub(crate) fn run(options: &Options) -> Result<(), String> {
    let (first, count) = options.seed.map_or((options.first, options.count), |seed| (seed, 1));
    let threads = options.threads.unwrap_or_else(command::cores);
    let kind = match options.kind {
        Kind::Lives => "lives",
        Kind::Traces => "traces",
        Kind::Houses => "houses",
    };
    let numbers = [first.to_string(), count.to_string(), threads.to_string()];
    let mut arguments = vec!["run", "--quiet", "--package", "sim", "--", kind];
    arguments.extend(numbers.iter().map(String::as_str));
    command::cargo(&arguments)
}
