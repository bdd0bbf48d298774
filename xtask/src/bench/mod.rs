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
mod strongroom;

use clap::{Args, Subcommand};

/// What to measure.
#[derive(Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Block I/O over NBD, beside qemu-nbd with LUKS, nbdkit with its LUKS filter, and nbdkit file.
    Block(block::Options),
    /// Signed API requests, beside moto's server.
    Api(api::Options),
    /// Snapshots and copies, beside qemu-img.
    Snapshot(snapshot::Options),
}

pub(crate) fn run(options: &Options) -> Result<(), String> {
    match &options.what {
        What::Block(options) => block::run(options),
        What::Api(options) => api::run(options),
        What::Snapshot(options) => snapshot::run(options),
    }
}
