//! fio as the load generator: with its NBD engine against servers, and with io_uring on the disk itself.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::server::Running;

/// How long a server that rests is watched, and what it may do meanwhile.
const REST: Duration = Duration::from_secs(1);
const REST_PROCESSOR_SECONDS: f64 = 0.02;
const RESTS_MAX: u64 = 120;

/// One kind of load.
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pattern: &'static str,
    block: &'static str,
    depth: u32,
    extent: Extent,
    /// A flush after each write.
    flush: bool,
    /// The same load comes once before, and the server then has time to do what it does when idle.
    again: bool,
    /// What the order of random places comes from. Another one for each: a log has pages in the order in
    /// which they were written, and would be read in one piece by whoever asks for them in that order again.
    seed: u32,
}

/// How much a workload covers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// The whole volume, once.
    Volume,
    /// As much as it gets to in a given time.
    Time,
}

/// What is measured, in this order: the third leaves the volume in disorder for the fourth.
pub(crate) const WORKLOADS: [Workload; 9] = [
    sequential("1 MiB sequential write, depth 8", "write"),
    sequential("1 MiB sequential read, depth 8", "read"),
    random("4 KiB random write, depth 32", "randwrite", 32, 1),
    sequential("1 MiB sequential read after random overwrite, depth 8", "read"),
    Workload {
        again: true,
        ..sequential("the same, read once before, with a rest between them", "read")
    },
    random("4 KiB random read, depth 32", "randread", 32, 2),
    random("4 KiB random read, depth 1", "randread", 1, 3),
    random("4 KiB random write, depth 1", "randwrite", 1, 4),
    Workload {
        flush: true,
        ..random("4 KiB random write, each flushed, depth 1", "randwrite", 1, 5)
    },
];

const fn sequential(name: &'static str, pattern: &'static str) -> Workload {
    let extent = Extent::Volume;
    Workload { name, pattern, block: "1m", depth: 8, extent, flush: false, again: false, seed: 0 }
}

const fn random(name: &'static str, pattern: &'static str, depth: u32, seed: u32) -> Workload {
    let extent = Extent::Time;
    Workload { name, pattern, block: "4k", depth, extent, flush: false, again: false, seed }
}

impl Workload {
    /// Whether the interesting number is bytes, not operations.
    pub(crate) fn is_large(&self) -> bool {
        self.block == "1m"
    }
}

/// One measurement.
#[derive(Clone, Copy)]
pub(crate) struct Measured {
    pub(crate) operations_per_second: f64,
    pub(crate) bytes_per_second: f64,
    /// Processor time the server spent per operation, in microseconds; the disk alone has none.
    pub(crate) processor_us: Option<f64>,
    /// 99th percentile of completion latency, in microseconds.
    pub(crate) latency_us_p99: f64,
}

/// What fio puts its load on.
pub(crate) trait Target {
    /// fio's engine, and where to find the target.
    fn arguments(&self) -> Vec<String>;
    /// The process that serves it, if there is one.
    fn server(&self) -> Option<&Running>;
}

impl Target for Running {
    fn arguments(&self) -> Vec<String> {
        vec!["--ioengine=nbd".into(), format!("--uri={}", self.uri())]
    }

    fn server(&self) -> Option<&Running> {
        Some(self)
    }
}

/// A file past the page cache, without any server: what the disk itself has to give.
pub(crate) struct Disk(PathBuf);

impl Disk {
    pub(crate) const NAME: &str = "the disk alone (fio, direct)";

    /// Makes the file.
    pub(crate) fn prepare(directory: &Path, size_mib: u64) -> Result<Self, String> {
        let disk = Self(directory.join("disk"));
        fill(&disk, size_mib)?;
        Ok(disk)
    }
}

impl Target for Disk {
    fn arguments(&self) -> Vec<String> {
        let file = format!("--filename={}", self.0.display());
        vec!["--ioengine=io_uring".into(), "--direct=1".into(), file]
    }

    fn server(&self) -> Option<&Running> {
        None
    }
}

/// Writes the whole volume once, so that nobody measures unwritten space.
pub(crate) fn fill(target: &dyn Target, size_mib: u64) -> Result<(), String> {
    let arguments = ["--rw=write", "--bs=1m", "--iodepth=8", "--end_fsync=1"];
    fio(target, size_mib, &arguments.map(String::from)).map(drop)
}

/// Runs one workload for some seconds.
pub(crate) fn measure(
    target: &dyn Target,
    workload: &Workload,
    seconds: u32,
    size_mib: u64,
) -> Result<Measured, String> {
    let mut arguments = vec![
        format!("--rw={}", workload.pattern),
        format!("--bs={}", workload.block),
        format!("--iodepth={}", workload.depth),
        // Write-back of this measurement must not fall into the next one.
        "--end_fsync=1".into(),
        "--randrepeat=0".into(),
        format!("--randseed={}", workload.seed),
    ];
    if workload.extent == Extent::Time {
        arguments.extend([format!("--runtime={seconds}"), "--time_based".into()]);
    }
    if workload.flush {
        arguments.push("--fsync=1".into());
    }
    if workload.again {
        fio(target, size_mib, &arguments)?;
        target.server().map_or(Ok(()), await_rest)?;
    }
    let spent = || target.server().map(|s| s.process().processor_seconds()).transpose();
    let before = spent()?;
    let job = fio(target, size_mib, &arguments)?;
    let processor_seconds = spent()?.zip(before).map(|(now, before)| now - before);
    let side = if workload.pattern.ends_with("read") { "read" } else { "write" };
    let number = |field: &str| {
        let value = job[side].pointer(field).and_then(Value::as_f64);
        value.ok_or_else(|| format!("fio reports no {side}{field}"))
    };
    let operations = number("/total_ios")?;
    Ok(Measured {
        operations_per_second: number("/iops")?,
        bytes_per_second: number("/bw_bytes")?,
        processor_us: processor_seconds.map(|seconds| seconds * 1e6 / operations),
        latency_us_p99: number("/clat_ns/percentile/99.000000")? / 1000.0,
    })
}

/// Waits until the server has done hardly anything for a while.
fn await_rest(server: &Running) -> Result<(), String> {
    let mut before = server.process().processor_seconds()?;
    for _ in 0..RESTS_MAX {
        thread::sleep(REST);
        let now = server.process().processor_seconds()?;
        if now - before < REST_PROCESSOR_SECONDS {
            return Ok(());
        }
        before = now;
    }
    Err(format!("the server is still busy after {} s without load", RESTS_MAX * REST.as_secs()))
}

/// Runs fio and returns its report of the only job.
fn fio(target: &dyn Target, size_mib: u64, arguments: &[String]) -> Result<Value, String> {
    let output = Command::new("fio")
        .args(["--name=bench", "--output-format=json", "--refill_buffers"])
        .args(target.arguments())
        .arg(format!("--size={size_mib}m"))
        .args(arguments)
        .output()
        .map_err(|error| format!("cannot start fio: {error}"))?;
    if !output.status.success() {
        return Err(format!("fio failed: {}", String::from_utf8_lossy(&output.stderr)));
    }
    // The NBD engine prints lines of its own before the report.
    let text = String::from_utf8_lossy(&output.stdout);
    let start = text.find('{').ok_or("fio printed no report")?;
    let report: Value = serde_json::from_str(&text[start..])
        .map_err(|error| format!("fio's report is no JSON: {error}"))?;
    let job = report.pointer("/jobs/0").cloned().ok_or("fio ran no job")?;
    match job["error"].as_i64() {
        Some(0) => Ok(job),
        error => Err(format!("fio's job ended with error {error:?}")),
    }
}
