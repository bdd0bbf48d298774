//! Fuzzing for long, guided by coverage, one target after the other.
//!
//! The tests are built as libFuzzer wants them, which is what `cargo bolero` does as well, but once for
//! all targets. A target's inputs lie in two folders: all that were ever worth keeping, in the build
//! tree, and the few that cover as much, beside its source.

mod ledger;

use crate::command;
use clap::Args;
use ledger::Run;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// What to fuzz, and for how long.
#[derive(Args)]
pub(crate) struct Options {
    /// Minutes of a processor for each target, which take longer on a machine that has other work.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Targets at a time.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Add what is run to the table in docs/reliability.md, every ten minutes: what is ended before its time
    /// is not lost.
    #[arg(long)]
    record: bool,
    /// Only targets of this crate: of the folder `crates/<name>`.
    #[arg(long = "crate")]
    of: Option<String>,
    /// Only targets whose name contains one of these, as in `volumes::pages`; those of the first come first.
    targets: Vec<String>,
}

/// What bolero and libFuzzer need of the compiler: a counter at every edge, and a call at every comparison.
const FLAGS: [&str; 8] = [
    "--cfg fuzzing",
    "-Cpasses=sancov-module",
    "--cfg fuzzing_libfuzzer",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cllvm-args=-sanitizer-coverage-stack-depth",
];
/// The longest input. Samples that are longer are edited by the targets.
const INPUT_BYTES_MAX: usize = 8 * 1024;
/// After so many seconds an input hangs. Many, since machines that fuzz are busy.
const HANG_SECONDS: u32 = 60;
/// A run is not shorter than this: each reads the whole corpus first.
const SECONDS_MIN: f64 = 5.0;
/// By the clock, what is recorded at once.
const RECORDED_SECONDS: f64 = 600.0;
/// What one target may add to the repository.
const CORPUS_BYTES_MAX: u64 = 24 * 1024;
/// And in how many files.
const CORPUS_FILES_MAX: usize = 64;
/// Ticks of a second, as `/proc` counts a process's time.
const TICKS: f64 = 100.0;

/// One target.
struct Target {
    program: PathBuf,
    name: String,
    /// Where its inputs are kept: `__fuzz__/<target>` beside its source.
    home: PathBuf,
    /// Where all are kept that ever were worth it.
    all: PathBuf,
}

/// What a run of one target says of itself.
struct Outcome {
    processor_seconds: f64,
    executions: u64,
    found: Option<String>,
}

/// Builds, runs every target, and prints a line for each: its name, processor time, executions, inputs
/// kept in the repository and outcome, as docs/reliability.md lists them.
pub(crate) fn run(options: &Options) -> Result<(), String> {
    command::output("c++", &["--version"]).map_err(|error| {
        format!(
            "{error}: libFuzzer is built with a C++ compiler; on Debian it is in the package g++"
        )
    })?;
    let targets = chosen(targets(options.of.as_deref())?, &options.targets);
    if targets.is_empty() {
        return Err("no target has such a name".to_owned());
    }
    println!("| target | processor time | executions | corpus | found |\n|---|---|---|---|---|");
    let next = std::sync::Mutex::new(targets.iter());
    let failed = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..options.threads.max(1) {
            scope.spawn(|| {
                loop {
                    let Some(target) = next.lock().expect("no holder panics").next() else { break };
                    let line = line(target, options);
                    match &line {
                        Ok(line) => println!("{line}"),
                        Err(error) => println!("| {} | | | | {error} |", target.name),
                    }
                    if line.is_err() {
                        failed.lock().expect("no holder panics").push(target.name.clone());
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().expect("no holder panics");
    if failed.is_empty() { Ok(()) } else { Err(format!("something was found: {failed:?}")) }
}

/// Those whose names are asked for, in the order they are asked for.
fn chosen(targets: Vec<Target>, wanted: &[String]) -> Vec<Target> {
    let place = |target: &Target| wanted.iter().position(|part| target.name.contains(part));
    let mut chosen: Vec<(Option<usize>, Target)> =
        targets.into_iter().map(|target| (place(&target), target)).collect();
    chosen.retain(|(place, _)| wanted.is_empty() || place.is_some());
    chosen.sort_by_key(|(place, _)| *place);
    chosen.into_iter().map(|(_, target)| target).collect()
}

/// Fuzzes one target, and what to print of it; an error when something was found.
fn line(target: &Target, options: &Options) -> Result<String, String> {
    let wanted = options.minutes * 60.0;
    let longest = if options.record { RECORDED_SECONDS } else { wanted };
    let (mut seconds, mut executions, mut kept) = (0.0, 0, 0);
    // libFuzzer counts by the clock: what it did not get of the processor, it gets in another run.
    while seconds < wanted {
        let outcome =
            fuzz(target, (wanted - seconds).clamp(SECONDS_MIN, longest.max(SECONDS_MIN)))?;
        if let Some(found) = outcome.found {
            return Err(found);
        }
        seconds += outcome.processor_seconds;
        executions += outcome.executions;
        if options.record || seconds >= wanted {
            kept = keep(target)?;
        }
        if options.record {
            ledger::add(&Run {
                target: &target.name,
                processor_seconds: outcome.processor_seconds,
                executions: outcome.executions,
                corpus: kept,
            })?;
        }
    }
    Ok(format!("| {} | {seconds:.0} s | {executions} | {kept} | nothing |", target.name))
}

/// Builds the tests of every crate that declares targets, or of one, and asks them for their targets.
fn targets(only: Option<&str>) -> Result<Vec<Target>, String> {
    let root = command::root();
    let mut crates = BTreeSet::new();
    let mut names = BTreeSet::new();
    for file in command::files(".rs")? {
        let text =
            std::fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?;
        let declared = declared(&text);
        let Ok(inside) = file.strip_prefix(root.join("crates")) else { continue };
        let Some(of) = inside.iter().next() else { continue };
        if !declared.is_empty() && !inside.starts_with("fuzz/src") {
            crates.insert(of.to_string_lossy().into_owned());
            if only.is_none_or(|only| of == only) {
                names.extend(declared);
            }
        }
    }
    let mut targets = Vec::new();
    for program in build(&crates, only)? {
        targets.extend(targets_of(&program, &names)?);
    }
    // Other crates may have targets of the same names.
    let inside = root.join("crates").join(only.unwrap_or_default());
    targets.retain(|target| target.home.starts_with(&inside));
    Ok(targets)
}

/// The names of the targets that a source file declares.
fn declared(text: &str) -> Vec<String> {
    let named = |rest: &str| {
        let mut lines =
            rest.lines().map(str::trim).skip_while(|l| l.is_empty() || l.starts_with("///"));
        lines.next()?.strip_suffix(',').map(str::to_owned)
    };
    text.split("target!(").skip(1).filter_map(named).collect()
}

/// Builds the tests of these crates, at least of one of them: the programs. All are named to cargo in any
/// case, since what is named decides with which features everything is built.
fn build(crates: &BTreeSet<String>, only: Option<&str>) -> Result<Vec<PathBuf>, String> {
    let root = command::root();
    let host = command::output("rustc", &["-vV"])?;
    let host =
        host.lines().find_map(|line| line.strip_prefix("host: ")).ok_or("rustc has no host")?;
    let mut cargo = command::cargo_command();
    // With a target named, the flags are for the programs alone and not for what builds them.
    cargo.args(["test", "--profile", "fuzz", "--no-run", "--target", host, "--target-dir"]);
    cargo.arg(build_dir()?).args(["--message-format", "json-render-diagnostics"]);
    // Nothing without a target: libFuzzer would be missing in it, which all that is built so calls.
    match only {
        None => cargo.args(["--lib", "--bins", "--test", "targets"]),
        Some("fuzz") => cargo.args(["--test", "targets"]),
        Some("cli") => cargo.arg("--bins"),
        Some(_) => cargo.arg("--lib"),
    };
    for name in crates {
        let manifest = root.join("crates").join(name).join("Cargo.toml");
        let text = std::fs::read_to_string(&manifest)
            .map_err(|error| format!("{}: {error}", manifest.display()))?;
        let package =
            text.lines().find_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'));
        cargo.args(["--package", package.ok_or("a manifest names no package")?]);
    }
    let output = cargo
        .env("RUSTFLAGS", FLAGS.join(" "))
        .current_dir(root)
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cannot start cargo: {error}"))?;
    if !output.status.success() {
        return Err("the tests do not build".to_owned());
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let messages =
        messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let program = |message: serde_json::Value| {
        let is_test = message["profile"]["test"] == true;
        message["executable"].as_str().filter(|_| is_test).map(PathBuf::from)
    };
    Ok(messages.filter_map(program).collect())
}

fn build_dir() -> Result<PathBuf, String> {
    Ok(command::target_dir()?.join("guided"))
}

/// The targets of a program, of those with these names. A target that is asked for itself says where it is.
fn targets_of(program: &Path, names: &BTreeSet<String>) -> Result<Vec<Target>, String> {
    let ask = |arguments: &[&str]| {
        let output = Command::new(program)
            .args(arguments)
            .env("CARGO_BOLERO_SELECT", "one")
            .output()
            .map_err(|error| format!("cannot start {}: {error}", program.display()))?;
        Ok::<_, String>(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let mut targets = Vec::new();
    for name in ask(&["--list"])?.lines().filter_map(|line| line.strip_suffix(": test")) {
        if !names.contains(name.rsplit("::").next().unwrap_or(name)) {
            continue;
        }
        let told = ask(&[name, "--exact", "--nocapture"])?;
        let told =
            told.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let Some(home) = told.into_iter().find_map(|t| t["work_dir"].as_str().map(PathBuf::from))
        else {
            continue;
        };
        let inside = home.strip_prefix(command::root()).map_err(|error| error.to_string())?;
        let all = build_dir()?.join("inputs").join(inside.to_string_lossy().replace('/', "-"));
        targets.push(Target { program: program.to_owned(), name: name.to_owned(), home, all });
    }
    Ok(targets)
}

impl Target {
    fn corpus(&self) -> PathBuf {
        self.home.join("corpus")
    }

    /// The program, as libFuzzer's `main` with these arguments. Samples become files in `samples`.
    fn command(&self, samples: &Path, arguments: &[String]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args([&self.name, "--exact", "--nocapture", "--quiet", "--test-threads", "1"])
            .env("BOLERO_TEST_NAME", &self.name)
            .env("BOLERO_LIBTEST_HARNESS", "1")
            .env("STRONGROOM_FUZZ_SAMPLES", samples)
            .env("BOLERO_LIBFUZZER_ARGS", arguments.join(" "));
        command
    }
}

/// An empty folder.
fn empty(path: &Path) -> Result<(), String> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(format!("{}: {error}", path.display()));
        }
        Ok(()) | Err(_) => {}
    }
    std::fs::create_dir_all(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn files_in(folder: &Path) -> Result<Vec<(u64, PathBuf)>, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        files.push((entry.metadata().map_err(failed)?.len(), entry.path()));
    }
    files.sort();
    Ok(files)
}

/// Runs libFuzzer for so many seconds by the clock.
fn fuzz(target: &Target, seconds: f64) -> Result<Outcome, String> {
    let samples = target.all.with_extension("samples");
    empty(&samples)?;
    let crashes = target.home.join("crashes");
    for folder in [&target.all, &target.corpus(), &crashes] {
        std::fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    }
    let log = target.all.with_extension("log");
    let output = std::fs::File::create(&log).map_err(|e| format!("{}: {e}", log.display()))?;
    let errors = output.try_clone().map_err(|error| error.to_string())?;
    let folders =
        [&target.all, &target.corpus(), &samples, &crashes].map(|f| f.display().to_string());
    let mut arguments = folders.to_vec();
    arguments.extend([
        format!("-artifact_prefix={}/", crashes.display()),
        format!("-max_total_time={seconds:.0}"),
        format!("-timeout={HANG_SECONDS}"),
        format!("-max_len={INPUT_BYTES_MAX}"),
        "-print_final_stats=1".to_owned(),
    ]);
    let mut child = target
        .command(&samples, &arguments)
        .stdout(output)
        .stderr(errors)
        .spawn()
        .map_err(|error| format!("cannot start {}: {error}", target.program.display()))?;
    let mut processor_seconds = 0.0;
    let status = loop {
        processor_seconds = processor_time(child.id()).unwrap_or(processor_seconds);
        match child.try_wait().map_err(|error| error.to_string())? {
            Some(status) => break status,
            None => std::thread::sleep(Duration::from_millis(200)),
        }
    };
    let told = std::fs::read(&log).map_err(|e| format!("{}: {e}", log.display()))?;
    let told = String::from_utf8_lossy(&told);
    let mut has_found = !status.success();
    // To libFuzzer, a machine that slept or a process that was stopped is an input that hangs.
    if let Some(input) = hung(&told)
        && ends_alone(target, &samples, input)?
    {
        std::fs::remove_file(input).map_err(|error| format!("{}: {error}", input.display()))?;
        has_found = false;
    }
    // Empty, unless something was found, now or before.
    let _ = std::fs::remove_dir(&crashes);
    let executions = told
        .lines()
        .find_map(|line| line.strip_prefix("stat::number_of_executed_units:")?.trim().parse().ok());
    let found = has_found.then(|| format!("see {}", log.display()));
    match (executions, found) {
        (Some(executions), found) => Ok(Outcome { processor_seconds, executions, found }),
        (None, Some(found)) => Err(found),
        (None, None) => Err(format!("no libFuzzer ran: see {}", log.display())),
    }
}

/// The input that took too long, if it was that which ended a run.
fn hung(told: &str) -> Option<&Path> {
    let mut paths = told
        .lines()
        .filter_map(|line| Some(Path::new(line.split_once("Test unit written to ")?.1)));
    paths.find(|path| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("timeout-"))
    })
}

/// Whether a target takes an input, and nothing else, in its time.
fn ends_alone(target: &Target, samples: &Path, input: &Path) -> Result<bool, String> {
    let arguments = [input.display().to_string(), format!("-timeout={HANG_SECONDS}")];
    let output = target.command(samples, &arguments).output();
    Ok(output.map_err(|error| error.to_string())?.status.success())
}

/// The processor time of a process until now, in seconds.
fn processor_time(id: u32) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // Behind the name, which is in parentheses: from the third field on; these are 14 and 15.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: f64 = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    (ticks > 0.0).then_some(ticks / TICKS)
}

/// Replaces the corpus in the repository by the least that covers as much as all inputs do beyond the
/// samples, as far as there is room. How many there are.
fn keep(target: &Target) -> Result<usize, String> {
    let least = target.all.with_extension("least");
    empty(&least)?;
    let corpus = target.corpus();
    let mut arguments =
        vec!["-set_cover_merge=1".to_owned(), format!("-max_len={INPUT_BYTES_MAX}")];
    arguments.extend([&least, &target.all, &corpus].map(|folder| folder.display().to_string()));
    // The samples are in the first folder, so nothing is taken for what they cover.
    let output = target.command(&least, &arguments).output().map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(format!("cannot merge {}: {}", target.name, output.status));
    }
    empty(&corpus)?;
    let mut found = files_in(&least)?;
    found.retain(|(_, path)| {
        path.file_name().is_some_and(|name| !name.to_string_lossy().starts_with("sample-"))
    });
    let (mut bytes, mut count) = (0, 0);
    // Some of each length.
    for (length, path) in found.iter().step_by(found.len().div_ceil(CORPUS_FILES_MAX).max(1)) {
        if bytes + length > CORPUS_BYTES_MAX {
            break;
        }
        let kept = corpus.join(path.file_name().unwrap_or_default());
        std::fs::copy(path, &kept).map_err(|error| format!("{}: {error}", kept.display()))?;
        (bytes, count) = (bytes + length, count + 1);
    }
    empty(&least)?;
    if count == 0 {
        std::fs::remove_dir_all(&corpus).map_err(|error| error.to_string())?;
        let _ = std::fs::remove_dir(&target.home);
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_inputs_that_hang_are_tried_again() {
        let written =
            |name| format!("artifact_prefix='a b/'; Test unit written to a b/{name}\nBase64: AA==");
        let slow = written("slow-unit-1");
        assert_eq!(hung(&slow), None);
        assert_eq!(hung(&written("crash-1")), None);
        assert_eq!(
            hung(&format!("{slow}\n{}", written("timeout-1"))),
            Some(Path::new("a b/timeout-1"))
        );
    }

    #[test]
    fn declarations_are_found_in_sources() {
        let text = "use fuzz::target;\n\ntarget!(\n    /// What it says.\n    /// More.\n    one,\n    vec![],\n);\n
            fuzz::target!(\n        two,\n        samples(),\n    );";
        assert_eq!(declared(text), ["one", "two"]);
    }
}
