//! A child process that does not outlive its measurement.

use rustix::process::{Pid, Signal, kill_process};
use std::process::{Child, ChildStdout, Command};

/// Clock ticks per second of `/proc/PID/stat` on Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// A running program; dropping it kills it.
pub(super) struct Process {
    child: Child,
    shown: String,
}

impl Process {
    pub(super) fn start(command: &mut Command) -> Result<Self, String> {
        let shown = format!("{command:?}");
        let child = command.spawn().map_err(|error| format!("cannot start {shown}: {error}"))?;
        Ok(Self { child, shown })
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// An error when the program has ended.
    pub(super) fn check(&mut self) -> Result<(), String> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            ended => Err(format!("{} ended: {ended:?}", self.shown)),
        }
    }

    /// Closes the program's input, if it was piped.
    pub(super) fn end_input(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Asks the program to end.
    pub(super) fn terminate(&self) -> Result<(), String> {
        let id = i32::try_from(self.id()).ok().and_then(Pid::from_raw);
        let id = id.ok_or_else(|| format!("{} has no id", self.shown))?;
        kill_process(id, Signal::TERM).map_err(|error| format!("{}: {error}", self.shown))
    }

    /// Whether the program has ended.
    pub(super) fn has_ended(&mut self) -> Result<bool, String> {
        let ended = self.child.try_wait().map_err(|error| format!("{}: {error}", self.shown))?;
        Ok(ended.is_some())
    }

    /// The program's output, once, if it was piped.
    pub(super) fn stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Processor time the program used so far, in seconds. Its children are not counted.
    pub(super) fn processor_seconds(&self) -> Result<f64, String> {
        let path = format!("/proc/{}/stat", self.id());
        let stat = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        // The name, in parentheses, may hold spaces; user and system time are fields 14 and 15.
        let fields = stat.rsplit(')').next().unwrap_or_default();
        let ticks = fields.split_whitespace().skip(11).take(2).flat_map(str::parse::<f64>);
        Ok(ticks.sum::<f64>() / TICKS_PER_SECOND)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Errors mean it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
