//! `cargo xtask bench snapshot`: how long snapshots and copies take, as a client of the API sees
//! it, and qemu-img copying a LUKS image under another key beside our copy under another key.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use super::strongroom::Strongroom;
use super::{machine, python, report, server};
use crate::command;

/// Size of the copied snapshot and of the copied image.
const COPIED_MIB: u64 = 1024;
const COPIED_BYTES: f64 = (COPIED_MIB << 20) as f64;

/// What the script measures and how the table calls it.
const ROWS: [(&str, &str); 9] = [
    ("full_1gib_call_s", "CreateSnapshot, 1 GiB volume full: answer"),
    ("sparse_1tib_call_s", "CreateSnapshot, 1 TiB volume with 1 GiB scattered: answer"),
    ("incremental_1tib_call_s", "CreateSnapshot, the same after 64 MiB of changes: answer"),
    ("full_1gib_complete_s", "the first: until completed"),
    ("sparse_1tib_complete_s", "the second: until completed"),
    ("incremental_1tib_complete_s", "the third: until completed"),
    ("same_key_1gib_s", "CopySnapshot under the same key, of the first: until completed"),
    ("same_key_1tib_s", "CopySnapshot under the same key, of the second: until completed"),
    ("other_key_1gib_s", "CopySnapshot under another key, of the first: until completed"),
];

/// How often.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Rounds; the table shows medians over them. At most 8.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Write the table into docs/benchmarks.md instead of only printing it.
    #[arg(long)]
    record: bool,
}

pub(super) fn run(options: &Options, directory: &Path) -> Result<(), String> {
    let outcome = measure(options, directory);
    let command = format!("cargo xtask bench snapshot --rounds {}", options.rounds);
    let section = format!(
        "{}\n\n{}",
        machine::describe(&command, &["fio", "qemu-img"].map(machine::version))?,
        outcome?
    );
    println!("{section}");
    if options.record { report::record("snapshot", &section) } else { Ok(()) }
}

fn measure(options: &Options, directory: &Path) -> Result<String, String> {
    let strongroom = Strongroom::start(directory)?;
    let endpoint = format!("http://{}", strongroom.address);
    let host = strongroom.host("us-east-1a")?;
    let measured = python::script(
        include_str!("measure_snapshots.py"),
        &[
            &endpoint,
            &strongroom.access_key,
            &strongroom.secret_key,
            &strongroom.data.display().to_string(),
            &host,
            &strongroom.process.id().to_string(),
            &options.rounds.to_string(),
        ],
    )?;
    let qemu = (0..options.rounds)
        .map(|_| qemu_copy(directory))
        .collect::<Result<Vec<(f64, f64)>, String>>()?;
    table(&measured, &qemu)
}

fn table(measured: &serde_json::Value, qemu: &[(f64, f64)]) -> Result<String, String> {
    let median = |name: &str| {
        let values = measured[name].as_array().ok_or_else(|| format!("no result {name}"))?;
        Ok::<_, String>(report::middle(values.iter().filter_map(|v| v.as_f64()).collect()))
    };
    let mut table = String::from("| operation | median |\n|---|---:|\n");
    let mut row = |name: &str, value: String| {
        writeln!(table, "| {name} | {value} |").expect("writing to a string cannot fail");
    };
    for (name, shown) in ROWS {
        row(shown, format!("{:.3} s", median(name)?));
    }
    let ours = COPIED_BYTES / median("other_key_1gib_s")? / 1e6;
    let ours_core = COPIED_BYTES / median("other_key_processor")? / 1e6;
    let theirs = COPIED_BYTES / report::middle(qemu.iter().map(|(wall, _)| *wall).collect()) / 1e6;
    let theirs_core =
        COPIED_BYTES / report::middle(qemu.iter().map(|(_, used)| *used).collect()) / 1e6;
    row("the copy under another key, rate", format!("{ours:.0} MB/s"));
    row("the copy under another key, rate per core used", format!("{ours_core:.0} MB/s"));
    row("qemu-img convert of 1 GiB from LUKS to LUKS, rate", format!("{theirs:.0} MB/s"));
    row("qemu-img convert, rate per core used", format!("{theirs_core:.0} MB/s"));
    Ok(table)
}

/// Copies a full LUKS image of 1 GiB into another; wall-clock and processor seconds. Both containers
/// exist before the clock starts.
fn qemu_copy(directory: &Path) -> Result<(f64, f64), String> {
    let (plain, source) = (directory.join("plain"), directory.join("source.luks"));
    let target = directory.join("target.luks");
    let opts =
        |image: &Path| format!("driver=luks,key-secret=key,file.filename={}", image.display());
    if !source.exists() {
        let output = format!("of={}", plain.display());
        let random = ["if=/dev/urandom", "bs=1M", "count=1024", "status=none", &output];
        command::run(Command::new("dd").args(random))?;
        let secret = server::make_luks(directory, &source, COPIED_MIB)?;
        let object = format!("secret,id=key,file={}", secret.display());
        let plain = format!("driver=raw,file.filename={}", plain.display());
        let convert =
            ["convert", "-n", "--object", &object, "--image-opts", "--target-image-opts", &plain];
        command::run(Command::new("qemu-img").args(convert).arg(opts(&source)))?;
    }
    let secret = server::make_luks(directory, &target, COPIED_MIB)?;
    let object = format!("secret,id=key,file={}", secret.display());
    let (from, to) = (opts(&source), opts(&target));
    let convert = ["qemu-img", "convert", "-n", "--object", &object];
    let images = ["--image-opts", "--target-image-opts", &from, &to];
    let timed = python::script(include_str!("time_command.py"), &[&convert[..], &images].concat())?;
    let number = |name: &str| timed[name].as_f64().ok_or("the timing script prints numbers");
    Ok((number("wall")?, number("processor")?))
}
