//! Measurements beside other programs. Everything is compared within one run on one machine, in
//! interleaved rounds; a stored number from another run is never compared with.

mod api;
mod block;
mod fio;
mod load;
mod machine;
mod process;
mod programs;
mod python;
mod report;
mod server;
mod snapshot;
mod stops;
mod strongroom;
mod swept;

use crate::command;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// What to measure.
#[derive(Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    what: What,
    /// Where to measure, of a process that another sweeps up behind.
    #[arg(long, hide = true, global = true)]
    in_directory: Option<PathBuf>,
}

#[derive(Subcommand)]
enum What {
    /// Block I/O over NBD, beside qemu-nbd with LUKS, nbdkit with its LUKS filter, and nbdkit file.
    Block(block::Options),
    /// Signed API requests, beside moto's server.
    Api(api::Options),
    /// Snapshots and copies, beside qemu-img.
    Snapshot(snapshot::Options),
    /// Sweeps up behind a measurement.
    #[command(hide = true)]
    Sweep(swept::Options),
}

pub(crate) fn run(options: &Options) -> Result<(), String> {
    let Some(directory) = &options.in_directory else {
        return match &options.what {
            What::Sweep(options) => swept::sweep(options),
            What::Block(block::Options { directory: Some(directory), .. }) => {
                swept::run(&directory.join("strongroom-bench"))
            }
            // Not the system's temporary directory, which may be memory.
            What::Block(_) | What::Api(_) | What::Snapshot(_) => {
                let name = format!("bench-{}", std::process::id());
                swept::run(&command::target_dir()?.join(name))
            }
        };
    };
    match &options.what {
        What::Block(options) => block::run(options, directory),
        What::Api(options) => api::run(options, directory),
        What::Snapshot(options) => snapshot::run(options, directory),
        What::Sweep(options) => swept::sweep(options),
    }
}
