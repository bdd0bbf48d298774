//! Formatting: `cargo fmt` follows `mod` items only, and operations are registered by a build script.

use crate::command;
use std::process::Command;

pub(crate) fn run(check: bool) -> Result<(), String> {
    let mut rustfmt = Command::new("rustfmt");
    rustfmt.args(["--edition", "2024"]);
    if check {
        rustfmt.arg("--check");
    }
    command::run(rustfmt.args(command::files(".rs")?))
        .map_err(|_| "files are not formatted; run `cargo xtask fmt`".to_owned())
}
