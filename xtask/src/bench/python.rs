//! A Python with the libraries the benchmarks use: a virtual environment beside the build.

use std::path::PathBuf;
use std::process::Command;

use crate::command;

/// boto3 signs; moto is the server to compare with.
pub(super) const PACKAGES: [&str; 2] = ["boto3==1.44.8", "moto[server,ec2,kms]==5.2.5"];

/// The environment's directory of programs.
pub(super) fn programs() -> Result<PathBuf, String> {
    let venv = command::target_dir()?.join("bench-venv");
    let stamp = venv.join("packages.installed");
    let wanted = PACKAGES.join("\n");
    let programs = venv.join("bin");
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(programs);
    }
    eprintln!("xtask: installing {} into {}", PACKAGES.join(" and "), venv.display());
    command::run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
    command::run(
        Command::new(programs.join("python"))
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
            .args(PACKAGES),
    )?;
    std::fs::write(&stamp, wanted).map_err(|error| format!("{}: {error}", stamp.display()))?;
    Ok(programs)
}

/// Runs one of the embedded scripts and returns what it prints, as JSON.
pub(super) fn script(text: &str, arguments: &[&str]) -> Result<serde_json::Value, String> {
    let python = programs()?.join("python");
    let output = Command::new(python)
        .arg("-c")
        .arg(text)
        .args(arguments)
        .output()
        .map_err(|error| format!("cannot start python: {error}"))?;
    if !output.status.success() {
        return Err(format!("a script failed: {}", String::from_utf8_lossy(&output.stderr)));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| format!("a script printed {error}"))
}
