//! Fuzzing for long, one target after the other.

use crate::command;
use clap::Args;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What to fuzz, and for how long.
#[derive(Args)]
pub(crate) struct Options {
    /// Minutes for each target.
    #[arg(long, default_value_t = 60.0)]
    minutes: f64,
    /// Targets at a time.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Only targets whose name contains this, as in `volumes::pages`.
    target: Option<String>,
}

/// The packages that declare targets, and their test programs' names.
const PROGRAMS: [(&str, &str); 9] = [
    ("fuzz", "it"),
    ("api", "api"),
    ("attach", "attach"),
    ("ebs", "ebs"),
    ("events", "events"),
    ("identity", "identity"),
    ("lifecycle", "lifecycle"),
    ("remote", "remote"),
    ("strongroom", "strongroom"),
];

/// Builds optimised, runs every target, and prints a line for each: its name, minutes, inputs and
/// outcome, as docs/reliability.md lists them.
pub(crate) fn run(options: &Options) -> Result<(), String> {
    let mut targets = Vec::new();
    for (package, kind) in PROGRAMS {
        let program = build(package, kind)?;
        for name in targets_of(&program)? {
            if options.target.as_ref().is_none_or(|wanted| name.contains(wanted)) {
                targets.push((program.clone(), name));
            }
        }
    }
    if targets.is_empty() {
        return Err("no target has such a name".to_owned());
    }
    let next = std::sync::Mutex::new(targets.iter());
    let failed = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..options.threads.max(1) {
            scope.spawn(|| {
                loop {
                    let Some((program, name)) = next.lock().expect("no holder panics").next()
                    else {
                        break;
                    };
                    match fuzz(program, name, options.minutes) {
                        Ok(inputs) => {
                            println!("| {name} | {} | {inputs} | nothing |", options.minutes)
                        }
                        Err(found) => {
                            println!("| {name} | {} | | {found} |", options.minutes);
                            failed.lock().expect("no holder panics").push(name.clone());
                        }
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().expect("no holder panics");
    if failed.is_empty() { Ok(()) } else { Err(format!("something was found: {failed:?}")) }
}

fn build(package: &str, kind: &str) -> Result<PathBuf, String> {
    let output = command::cargo_command()
        .args(["test", "--quiet", "--profile", "fuzz", "--package", package, "--no-run"])
        .args(["--message-format", "json"])
        .current_dir(command::root())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cannot start cargo: {error}"))?;
    if !output.status.success() {
        return Err(format!("the tests of {package} do not build"));
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let mut messages =
        messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let program = messages.find_map(|message| {
        let is_kind = message["target"]["name"] == kind;
        message["executable"].as_str().filter(|_| is_kind).map(PathBuf::from)
    });
    program.ok_or_else(|| format!("cargo named no test program of {package}"))
}

/// The tests of a program that were declared as targets.
fn targets_of(program: &Path) -> Result<Vec<String>, String> {
    let listed = Command::new(program).arg("--list").output();
    let listed = listed.map_err(|error| format!("cannot start {}: {error}", program.display()))?;
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    let names = text.lines().filter_map(|line| line.strip_suffix(": test"));
    let mut targets = Vec::new();
    for name in names {
        // A run without inputs says so, if the test is a target.
        let tried = Command::new(program)
            .args(["--exact", name, "--nocapture"])
            .env("BOLERO_RANDOM_ITERATIONS", "0")
            .output()
            .map_err(|error| format!("cannot start {}: {error}", program.display()))?;
        if inputs(&tried.stdout).is_some() {
            targets.push(name.to_owned());
        }
    }
    Ok(targets)
}

/// How many inputs a target says it has seen.
fn inputs(stdout: &[u8]) -> Option<u64> {
    let text = String::from_utf8_lossy(stdout);
    text.lines().find_map(|line| line.strip_suffix(" inputs")?.rsplit(' ').next()?.parse().ok())
}

fn fuzz(program: &Path, name: &str, minutes: f64) -> Result<u64, String> {
    let output = Command::new(program)
        .args(["--exact", name, "--nocapture"])
        .env("BOLERO_RANDOM_TEST_TIME_MS", ((minutes * 60_000.0) as u64).to_string())
        .env("BOLERO_RANDOM_ITERATIONS", u64::MAX.to_string())
        .output()
        .map_err(|error| format!("cannot start {}: {error}", program.display()))?;
    if output.status.success() {
        return inputs(&output.stdout).ok_or_else(|| "the target counts no inputs".to_owned());
    }
    let kept = command::target_dir()?.join(format!("fuzz-{}.txt", name.replace("::", "-")));
    let text = [output.stdout, output.stderr].concat();
    std::fs::write(&kept, text).map_err(|error| format!("{}: {error}", kept.display()))?;
    Err(format!("see {}", kept.display()))
}
