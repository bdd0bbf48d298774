//! Running other programs.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The root of the checkout.
pub(crate) fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().expect("xtask lies in the root").to_owned()
}

/// Runs a program in the root, its output on ours.
pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    let shown = shown(command);
    let status = command
        .current_dir(root())
        .status()
        .map_err(|error| format!("cannot start {shown}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{shown} failed: {status}")) }
}

/// A command as one would type it.
fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Cargo, as if it were called from a shell. What cargo says of the package it runs, this one, would
/// have build scripts run again that look at it, and all that depends on them built again, at every
/// change between this and a shell.
pub(crate) fn cargo_command() -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    for name in
        names.filter(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"))
    {
        cargo.env_remove(name);
    }
    cargo
}

/// Runs cargo with these arguments.
pub(crate) fn cargo(arguments: &[&str]) -> Result<(), String> {
    run(cargo_command().args(arguments))
}

/// What cargo prints, when it succeeds.
pub(crate) fn cargo_output(arguments: &[&str]) -> Result<String, String> {
    output_of(cargo_command().args(arguments))
}

/// What a program prints, when it succeeds.
pub(crate) fn output(program: &str, arguments: &[&str]) -> Result<String, String> {
    output_of(Command::new(program).args(arguments))
}

fn output_of(command: &mut Command) -> Result<String, String> {
    let shown = shown(command);
    let output = command
        .current_dir(root())
        .output()
        .map_err(|error| format!("cannot start {shown}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{shown} failed: {}", output.status));
    }
    String::from_utf8(output.stdout).map_err(|_| format!("{shown} printed no UTF-8"))
}

/// The files git tracks or would track, that end in `suffix`.
pub(crate) fn files(suffix: &str) -> Result<Vec<PathBuf>, String> {
    let listing = output("git", &["ls-files", "--cached", "--others", "--exclude-standard", "-z"])?;
    let root = root();
    Ok(listing
        .split('\0')
        .filter(|name| name.ends_with(suffix))
        .map(|name| root.join(name))
        .filter(|path| path.exists())
        .collect())
}

/// How many threads run at once.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Where cargo builds.
pub(crate) fn target_dir() -> Result<PathBuf, String> {
    let metadata = cargo_output(&["metadata", "--no-deps", "--format-version", "1"])?;
    let metadata: serde_json::Value =
        serde_json::from_str(&metadata).map_err(|error| error.to_string())?;
    let dir = metadata["target_directory"].as_str().ok_or("cargo metadata names no target")?;
    Ok(PathBuf::from(dir))
}
