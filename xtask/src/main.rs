//! All of the project's automation: `cargo xtask --help`.

mod bench;
mod command;
mod fmt;
mod fuzz;
mod mutants;
mod postgres;
mod sim;
mod test;
mod tidy;
mod wire;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Builds, checks, tests and measures the project.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Everything a change must pass: fmt, tidy, clippy, then `test`.
    Ci,
    /// Runs all tests: the crates', then real clients against the real binary.
    Test(test::Options),
    /// Formats every Rust file git knows, the ones registered by build scripts included.
    Fmt {
        /// Only report files that are not formatted.
        #[arg(long)]
        check: bool,
    },
    /// Checks the rules of the house that no compiler checks.
    Tidy,
    /// The wire as AWS's models describe it.
    #[command(subcommand)]
    Wire(wire::Task),
    /// Measures beside other programs.
    Bench(bench::Options),
    /// Plays simulated volumes, with power cuts and faults of every kind.
    Sim(sim::Options),
    /// Puts faults into a copy of the source and has a test object to each.
    Mutants(mutants::Options),
    /// Fuzzes every target for long.
    Fuzz(fuzz::Options),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().task {
        Task::Ci => ci(),
        Task::Test(options) => test::run(&options),
        Task::Fmt { check } => fmt::run(check),
        Task::Tidy => tidy::run(),
        Task::Wire(task) => wire::run(&task),
        Task::Bench(options) => bench::run(&options),
        Task::Sim(options) => sim::run(&options),
        Task::Mutants(options) => mutants::run(&options),
        Task::Fuzz(options) => fuzz::run(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}

fn ci() -> Result<(), String> {
    fmt::run(true)?;
    tidy::run()?;
    command::cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
    test::run(&test::Options::default())
}
