//! A measurement in a directory that is gone afterwards, however it ends.
//!
//! Three processes: this one, which the person at the terminal sees; the one that measures, with the
//! servers it starts, in a process group of its own; and one that waits for the end of this one, by
//! whatever signal, ends the group and removes the directory.

use rustix::process::{Pid, Signal, kill_process_group};
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// How often and how many times is looked whether a group that was killed has ended.
const LOOK: Duration = Duration::from_millis(50);
const LOOKS_MAX: u32 = 20;

/// What the process that sweeps is told.
#[derive(clap::Args)]
pub(super) struct Options {
    group: i32,
    directory: PathBuf,
}

/// Runs the same command line once more, told of a directory, and sweeps up behind it.
pub(super) fn run(directory: &Path) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", directory.display());
    std::fs::create_dir_all(directory).map_err(failed)?;
    let program = std::env::current_exe().map_err(failed)?;
    let mut worker = Command::new(&program)
        .args(std::env::args_os().skip(1))
        .arg("--in-directory")
        .arg(directory)
        .process_group(0)
        .spawn()
        .map_err(failed)?;
    let mut sweeper = Command::new(&program)
        .args(["bench", "sweep", &worker.id().to_string()])
        .arg(directory)
        .stdin(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(failed)?;
    let status = worker.wait().map_err(failed)?;
    drop(sweeper.stdin.take());
    let swept = sweeper.wait().map_err(failed)?;
    match (status.success(), swept.success()) {
        (true, true) => Ok(()),
        (false, _) => Err(format!("the measurement ended: {status}")),
        (true, false) => Err(format!("{} was not removed: {swept}", directory.display())),
    }
}

/// Waits until whoever started this is gone.
pub(super) fn sweep(options: &Options) -> Result<(), String> {
    let mut nothing = Vec::new();
    // However reading ends, nobody is at the other end any more.
    let _ = std::io::stdin().read_to_end(&mut nothing);
    if let Some(group) = Pid::from_raw(options.group) {
        for _ in 0..LOOKS_MAX {
            // An error means that all of it has ended, and that somebody has taken note.
            if kill_process_group(group, Signal::KILL).is_err() {
                break;
            }
            std::thread::sleep(LOOK);
        }
    }
    std::fs::remove_dir_all(&options.directory)
        .map_err(|error| format!("{}: {error}", options.directory.display()))
}
