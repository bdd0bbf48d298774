//! The mutation gate: faults that are put into the source, and the tests that must object.
//!
//! All faults are put into one copy of the source, each behind a question to the environment, so
//! one build serves them all. A fault that no test objects to fails the gate; so does one whose
//! place in the source is not found any more.

mod list;

use crate::command;
use clap::Args;
use list::{MUTANTS, Mutant};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Says which fault is awake. Read by the copy only.
const VARIABLE: &str = "STRONGROOM_MUTANT";
/// Of all crates of the workspace.
const VERSION: &str = "version = \"0.0.0\"";
/// A faulty engine may never end. That counts as an objection.
const TIMEOUT_SECONDS: &str = "180";

/// What to try.
#[derive(Args, Default)]
pub(crate) struct Options {
    /// Only faults whose name contains this.
    name: Option<String>,
}

pub(crate) fn run(options: &Options) -> Result<(), String> {
    let scratch = command::target_dir()?.join("mutants");
    copy_tree(&scratch)?;
    let tests = build(&scratch)?;
    let chosen: Vec<&Mutant> = MUTANTS
        .iter()
        .filter(|mutant| options.name.as_ref().is_none_or(|name| mutant.name.contains(name)))
        .collect();
    if chosen.is_empty() {
        return Err("no fault has such a name".to_owned());
    }
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..command::cores() {
            scope.spawn(|| {
                while let Some(mutant) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match objection(&tests, mutant) {
                        Ok(objection) => println!("{}: {objection}", mutant.name),
                        Err(error) => wrong.lock().expect("no holder panics").push(error),
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().expect("no holder panics");
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

/// Brings the copy up to date. What has not changed keeps its time, so that little is built.
fn copy_tree(scratch: &Path) -> Result<(), String> {
    let root = command::root();
    let mut found = vec![false; MUTANTS.iter().map(|mutant| mutant.edits.len()).sum()];
    for source in command::files("")? {
        let name = source.strip_prefix(&root).map_err(|error| error.to_string())?;
        if !["crates", "xtask", "Cargo.toml", "Cargo.lock"].iter().any(|top| name.starts_with(top))
        {
            continue;
        }
        let mut bytes = std::fs::read(&source).map_err(|e| format!("{}: {e}", source.display()))?;
        if name == Path::new("Cargo.toml") {
            // Another version, so that nothing that is built here takes the place of the real crates.
            let text = String::from_utf8(bytes).map_err(|error| error.to_string())?;
            bytes = text.replacen(VERSION, "version = \"0.0.0-mutants\"", 1).into_bytes();
        }
        let mut edit = 0;
        for mutant in MUTANTS {
            for (find, replace) in mutant.edits {
                if Path::new(mutant.file) == name {
                    let text = String::from_utf8(bytes).map_err(|e| e.to_string())?;
                    found[edit] = text.contains(find);
                    bytes = text.replace(find, &awake(mutant, replace)).into_bytes();
                }
                edit += 1;
            }
        }
        let target = scratch.join(name);
        if std::fs::read(&target).is_ok_and(|held| held == bytes) {
            continue;
        }
        let folder = target.parent().unwrap_or(scratch);
        std::fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        std::fs::write(&target, bytes).map_err(|e| format!("{}: {e}", target.display()))?;
    }
    let edits =
        MUTANTS.iter().flat_map(|mutant| mutant.edits.iter().map(move |edit| (mutant, edit)));
    let lost: Vec<String> = edits
        .zip(found)
        .filter(|(_, found)| !found)
        .map(|((mutant, (find, _)), _)| {
            format!(
                "{}: {} has no {find:?} any more; see xtask/src/mutants/list.rs",
                mutant.name, mutant.file
            )
        })
        .collect();
    if lost.is_empty() { Ok(()) } else { Err(lost.join("\n")) }
}

/// Puts the question whether this fault is awake in the place of `AWAKE`.
fn awake(mutant: &Mutant, replace: &str) -> String {
    let question =
        format!("std::env::var_os({VARIABLE:?}).is_some_and(|awake| awake == {:?})", mutant.name);
    replace.replace("AWAKE", &question)
}

/// Builds the simulation's tests in the copy; the program that runs them.
fn build(scratch: &Path) -> Result<PathBuf, String> {
    let output = command::cargo_command()
        .args(["test", "--quiet", "--package", "sim", "--test", "it", "--no-run"])
        .args(["--message-format", "json"])
        // Dependencies are the same and need not be built again.
        .env("CARGO_TARGET_DIR", command::target_dir()?)
        .current_dir(scratch)
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cannot start cargo: {error}"))?;
    if !output.status.success() {
        return Err("the source with faults does not build; see xtask/src/mutants/list.rs".into());
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let mut messages =
        messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let program = messages.find_map(|message| {
        let is_it = message["target"]["name"] == "it";
        message["executable"].as_str().filter(|_| is_it).map(PathBuf::from)
    });
    program.ok_or_else(|| "cargo named no test program".to_owned())
}

/// What the test says that must object.
fn objection(tests: &Path, mutant: &Mutant) -> Result<String, String> {
    let output = Command::new("timeout")
        .arg(TIMEOUT_SECONDS)
        .arg(tests)
        .args(["--exact", mutant.test])
        .env(VARIABLE, mutant.name)
        .output()
        .map_err(|error| format!("cannot start {}: {error}", tests.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    match output.status.code() {
        // What cargo's test harness ends with when a test fails.
        Some(101) => {
            let line = text.lines().skip_while(|line| !line.contains("panicked at")).nth(1);
            let line = line.unwrap_or("a test failed").chars().take(160).collect::<String>();
            Ok(line)
        }
        // What `timeout` ends with.
        Some(124) => Ok("the test does not end".to_owned()),
        _ => Err(format!("{}: {} does not object", mutant.name, mutant.test)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_its_place() {
        for mutant in MUTANTS {
            let text = std::fs::read_to_string(command::root().join(mutant.file)).unwrap();
            for (find, _) in mutant.edits {
                assert!(text.contains(find), "{}: {} has no {find:?}", mutant.name, mutant.file);
            }
        }
    }
}
