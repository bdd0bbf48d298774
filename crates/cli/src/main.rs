//! The `strongroom` binary: the server, and the tools of the person who runs it.
//!
//! Data goes to stdout, words to stderr; `--json` output is stable; a closed pipe is success.

mod admin;
mod args;
mod attach;
mod check;
mod demo;
mod exit;
mod history;
mod restore;
mod seal;
mod serve;
mod signals;
mod trail;
mod why;

use args::{Cli, Command};
use clap::Parser;
use mimalloc::MiMalloc;
use std::process::ExitCode;
use zeroizing_alloc::ZeroAlloc;

/// Wipes what is freed: buffers with a guest's data, keys on their way, parsed requests. What a volume
/// held cannot be found in the memory of a server that has detached it. Below the wiping lies mimalloc: a
/// request makes hundreds of small allocations, a fifth of its processor time with the system's.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<MiMalloc> = ZeroAlloc(MiMalloc);

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        Command::Serve(options) => serve::run(&options),
        Command::Attach(options) => attach::run(&options),
        Command::Demo(options) => demo::run(&options),
        Command::Admin(options) => admin::run(&options),
        Command::Restore(options) => restore::run(&options),
        Command::Check(options) => check::run(&options),
        Command::Trail(options) => trail::run(&options),
        Command::Explain(options) => why::explain(&options),
        Command::Policy { command } => why::policy(&command),
        Command::WhoCan { command } => why::who_can(&command),
        Command::WhatIf(options) => why::what_if(&options),
        Command::Preflight(options) => why::preflight(&options),
    };
    exit::report(outcome)
}
