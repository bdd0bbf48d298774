//! Measurements beside other programs. Everything is compared within one run on one machine, in
//! interleaved rounds; a stored number from another run is never compared with.

mod block;
mod fio;
mod machine;
mod report;
mod server;

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
}

pub(crate) fn run(options: &Options) -> Result<(), String> {
    match &options.what {
        What::Block(options) => block::run(options),
    }
}
