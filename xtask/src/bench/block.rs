//! `cargo xtask bench block`: fio's NBD engine against every server, one after the other, in
//! rounds whose order rotates, so that slow phases of a shared machine hit all of them; then the
//! programs that measure what has no peer.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::fio::{self, Disk, Measured, WORKLOADS};
use super::programs::{self, PROGRAMS, Program};
use super::server::{Kind, Server};
use super::{machine, report};

/// How long and how large.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Rounds; the table shows medians over them.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 5)]
    seconds: u32,
    /// MiB of each volume.
    #[arg(long, default_value_t = 2048)]
    size_mib: u64,
    /// A directory on the disk to measure, by default the build tree; what the run puts there is removed
    /// afterwards.
    #[arg(long)]
    pub(super) directory: Option<PathBuf>,
    /// Leave out the programs that measure what has no peer.
    #[arg(long)]
    servers_only: bool,
    /// Write the table into docs/benchmarks.md instead of only printing it.
    #[arg(long)]
    record: bool,
}

/// Results of one workload: per server, and last for the disk alone, one measurement per round.
pub(super) type Rounds = Vec<Vec<Measured>>;

/// The peers' programs, and Debian's packages of them.
const TOOLS: [(&str, &str); 4] =
    [("fio", "fio"), ("nbdkit", "nbdkit"), ("qemu-nbd", "qemu-utils"), ("qemu-img", "qemu-utils")];

/// Says which of the peers' programs are not there.
fn check_tools() -> Result<(), String> {
    let is_missing = |tool: &str| Command::new(tool).arg("--version").output().is_err();
    let missing: BTreeSet<&str> =
        TOOLS.iter().filter(|(tool, _)| is_missing(tool)).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages = missing.into_iter().collect::<Vec<_>>().join(" ");
    Err(format!("there is nothing to measure beside: apt-get install --no-remove {packages}"))
}

pub(super) fn run(options: &Options, directory: &Path) -> Result<(), String> {
    check_tools()?;
    let outcome = measure(options, directory);
    let programs: &[Program] = if options.servers_only { &[] } else { &PROGRAMS };
    let programs: Result<Vec<String>, String> =
        programs.iter().map(|program| programs::section(program, directory)).collect();
    let results = outcome?;
    let servers_only = if options.servers_only { " --servers-only" } else { "" };
    let elsewhere = if options.directory.is_some() { " --directory DIR" } else { "" };
    let command = format!(
        "cargo xtask bench block --rounds {} --seconds {} --size-mib {}{elsewhere}{servers_only}",
        options.rounds, options.seconds, options.size_mib
    );
    let section = format!(
        "{}\n\n{}\n\n{}",
        machine::describe(&command, &["fio", "nbdkit", "qemu-nbd"].map(machine::version))?,
        report::block_table(&results),
        programs?.join("\n")
    );
    println!("{section}");
    if options.record { report::record("block", &section) } else { Ok(()) }
}

fn measure(options: &Options, directory: &Path) -> Result<Vec<Rounds>, String> {
    machine::touch_memory()?;
    let mut servers = Vec::new();
    for kind in Kind::ALL {
        eprintln!("filling {}", kind.name());
        let server = Server::prepare(kind, directory, options.size_mib)?;
        let running = server.start()?;
        fio::fill(&running, options.size_mib)?;
        running.stop()?;
        servers.push(server);
    }
    let disk = Disk::prepare(directory, options.size_mib)?;
    let mut results: Vec<Rounds> =
        WORKLOADS.iter().map(|_| vec![Vec::new(); servers.len() + 1]).collect();
    for round in 0..options.rounds {
        for (workload, rounds) in WORKLOADS.iter().zip(&mut results) {
            for turn in 0..servers.len() {
                let which = (round + turn) % servers.len();
                let server = &servers[which];
                let running = server.start()?;
                let measured = fio::measure(&running, workload, options.seconds, options.size_mib)?;
                running.stop()?;
                eprintln!(
                    "round {}: {}, {}: {:.0}/s",
                    round + 1,
                    workload.name,
                    server.kind().name(),
                    measured.operations_per_second
                );
                rounds[which].push(measured);
            }
            let measured = fio::measure(&disk, workload, options.seconds, options.size_mib)?;
            rounds[servers.len()].push(measured);
        }
    }
    Ok(results)
}
