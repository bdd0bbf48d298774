//! How the process ends.

use std::fmt;
use std::process::ExitCode;

/// Something the person at the terminal must read: what failed, and what to do next.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    message: String,
}

/// The request could not be carried out.
pub(crate) const EXIT_FAILED: u8 = 1;
/// The server could not start: seal, data directory, address or database.
pub(crate) const EXIT_CANNOT_START: u8 = 3;
/// No server answers on the admin socket of the data directory, or at the endpoint.
pub(crate) const EXIT_NO_SERVER: u8 = 4;
/// An attached volume was fenced, or its lease ended.
pub(crate) const EXIT_LOST: u8 = 5;

/// `strongroom check` found damage that stands. The report on stdout names it.
pub(crate) const EXIT_DAMAGED: u8 = 5;
/// `strongroom check` found no damage, but could not see everything it was asked for.
pub(crate) const EXIT_INCOMPLETE: u8 = 6;

/// `strongroom preflight`: the request would fail. The answer on stdout says why.
pub(crate) const EXIT_WOULD_FAIL: u8 = 7;

/// `strongroom policy lint`: there are traps. The answer on stdout names them.
pub(crate) const EXIT_TRAPS: u8 = 8;

impl Failure {
    pub(crate) fn code(&self) -> u8 {
        self.code
    }

    pub(crate) fn new(code: u8, message: impl fmt::Display) -> Self {
        Self { code, message: message.to_string() }
    }

    pub(crate) fn failed(message: impl fmt::Display) -> Self {
        Self::new(EXIT_FAILED, message)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        // A reader that went away has what it wanted.
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Self::new(0, "");
        }
        Self::failed(error)
    }
}

/// Prints a failure and gives the exit code.
pub(crate) fn report(outcome: Result<(), Failure>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { code, message }) => {
            if !message.is_empty() {
                eprintln!("strongroom: {message}");
            }
            ExitCode::from(code)
        }
    }
}
