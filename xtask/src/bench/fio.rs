//! fio as the load generator, with its NBD engine.

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
    random("4 KiB random write, depth 32", "randwrite", 32, false),
    sequential("1 MiB sequential read after random overwrite, depth 8", "read"),
    Workload {
        again: true,
        ..sequential("the same, read once before, with a rest between them", "read")
    },
    random("4 KiB random read, depth 32", "randread", 32, false),
    random("4 KiB random read, depth 1", "randread", 1, false),
    random("4 KiB random write, depth 1", "randwrite", 1, false),
    random("4 KiB random write, each flushed, depth 1", "randwrite", 1, true),
];

const fn sequential(name: &'static str, pattern: &'static str) -> Workload {
    let extent = Extent::Volume;
    Workload { name, pattern, block: "1m", depth: 8, extent, flush: false, again: false }
}

const fn random(name: &'static str, pattern: &'static str, depth: u32, flush: bool) -> Workload {
    Workload { name, pattern, block: "4k", depth, extent: Extent::Time, flush, again: false }
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
    /// Processor time the server spent per operation, in microseconds.
    pub(crate) processor_us: f64,
    /// 99th percentile of completion latency, in microseconds.
    pub(crate) latency_us_p99: f64,
}

/// Writes the whole volume once, so that no server measures its unwritten space.
pub(crate) fn fill(server: &Running, size_mib: u64) -> Result<(), String> {
    let arguments = ["--rw=write", "--bs=1m", "--iodepth=8", "--end_fsync=1"];
    fio(server, size_mib, &arguments.map(String::from)).map(drop)
}

/// Runs one workload for some seconds.
pub(crate) fn measure(
    server: &Running,
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
    ];
    if workload.extent == Extent::Time {
        arguments.extend([format!("--runtime={seconds}"), "--time_based".into()]);
    }
    if workload.flush {
        arguments.push("--fsync=1".into());
    }
    if workload.again {
        fio(server, size_mib, &arguments)?;
        await_rest(server)?;
    }
    let before = server.process().processor_seconds()?;
    let job = fio(server, size_mib, &arguments)?;
    let processor_seconds = server.process().processor_seconds()? - before;
    let side = if workload.pattern.ends_with("read") { "read" } else { "write" };
    let number = |field: &str| {
        let value = job[side].pointer(field).and_then(Value::as_f64);
        value.ok_or_else(|| format!("fio reports no {side}{field}"))
    };
    let operations = number("/total_ios")?;
    Ok(Measured {
        operations_per_second: number("/iops")?,
        bytes_per_second: number("/bw_bytes")?,
        processor_us: processor_seconds * 1e6 / operations,
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
fn fio(server: &Running, size_mib: u64, arguments: &[String]) -> Result<Value, String> {
    let output = Command::new("fio")
        .args(["--name=bench", "--ioengine=nbd", "--output-format=json", "--refill_buffers"])
        .arg(format!("--uri={}", server.uri()))
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
