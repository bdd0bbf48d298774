//! `cargo xtask bench api`: requests signed by botocore, replayed on kept-alive connections against
//! Strongroom and moto's server. Strongroom verifies each signature, evaluates policies and writes
//! each call to its trail; moto, as it comes, does none of the three. moto's server closes after
//! each answer, so its clients reconnect.

use std::fmt::Write;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::load::{self, Load, Pace};
use super::process::Process;
use super::stops;
use super::strongroom::Strongroom;
use super::{machine, python, report};
use crate::command;

/// How long moto may take to start, in hundredths of a second.
const START_CENTISECONDS_MAX: u32 = 6000;

/// How long and how wide.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Rounds; the table shows medians over them.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Connections, each with one request in flight.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Write the table into docs/benchmarks.md instead of only printing it.
    #[arg(long)]
    record: bool,
}

/// A server under load.
struct Target {
    name: &'static str,
    process: Process,
    address: String,
    access_key: String,
    secret_key: String,
}

/// One measurement: as fast as answers come, and at half of that.
struct Measured {
    load: Load,
    processor_us: f64,
    half: Load,
}

/// The processor servers run on, and the one the load comes from, where there are two.
const SERVER_PROCESSOR: &str = "0";
const LOAD_PROCESSOR: &str = "1";

/// Per request of the load: its name and, per target, one measurement a round.
type Results = Vec<(String, Vec<Vec<Measured>>)>;

pub(super) fn run(options: &Options, directory: &Path) -> Result<(), String> {
    pin(std::process::id())?;
    let strongroom = Strongroom::start_on(directory, SERVER_PROCESSOR)?;
    let targets = [
        Target {
            name: "Strongroom",
            process: strongroom.process,
            address: strongroom.address,
            access_key: strongroom.access_key,
            secret_key: strongroom.secret_key,
        },
        moto()?,
    ];
    let outcome = measure(options, &targets);
    let forging = forging(options, &targets[0]);
    // The servers end here.
    let names = targets.map(|target| target.name);
    let stops = stops::measure(SERVER_PROCESSOR, options.rounds, options.seconds);
    let command = format!(
        "cargo xtask bench api --rounds {} --seconds {} --connections {}",
        options.rounds, options.seconds, options.connections
    );
    let tools = python::PACKAGES.map(str::to_owned);
    let section = format!(
        "{}\n\n{}\n{}\n{}",
        machine::describe(&command, &tools)?,
        table(&names, &outcome?),
        forging?,
        stops?
    );
    println!("{section}");
    if options.record { report::record("api", &section) } else { Ok(()) }
}

/// Keeps this process, which makes the load, off the servers' processor.
fn pin(process: u32) -> Result<(), String> {
    let mut taskset = Command::new("taskset");
    command::run(
        taskset
            .args(["-a", "-c", "-p", LOAD_PROCESSOR, &process.to_string()])
            .stdout(Stdio::null()),
    )
}

fn moto() -> Result<Target, String> {
    let port = TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .map_err(|error| format!("no free port: {error}"))?
        .port();
    let address = format!("127.0.0.1:{port}");
    let mut server = Command::new("taskset");
    server.args(["-c", SERVER_PROCESSOR]).arg(python::programs()?.join("moto_server"));
    server.args(["--host", "127.0.0.1", "--port", &port.to_string()]);
    let mut process = Process::start(server.stdout(Stdio::null()).stderr(Stdio::null()))?;
    for _ in 0..START_CENTISECONDS_MAX {
        if TcpStream::connect(&address).is_ok() {
            let (access_key, secret_key) = ("AKIAIOSFODNN7EXAMPLE".into(), "secret".into());
            return Ok(Target { name: "moto", process, address, access_key, secret_key });
        }
        process.check()?;
        std::thread::sleep(Duration::from_millis(10));
    }
    Err("moto opened no port".into())
}

fn measure(options: &Options, targets: &[Target]) -> Result<Results, String> {
    let mut results: Results = Vec::new();
    for round in 0..options.rounds {
        for turn in 0..targets.len() {
            let which = (round + turn) % targets.len();
            let target = &targets[which];
            for (row, (name, request)) in signed(target, &[])?.into_iter().enumerate() {
                let before = target.process.processor_seconds()?;
                let run = |pace| {
                    let (address, seconds) = (&target.address, options.seconds);
                    load::run(address, &request, options.connections, seconds, pace)
                };
                let load = run(Pace::Closed)?;
                let used = target.process.processor_seconds()? - before;
                let half = run(Pace::Open { per_second: load.requests_per_second / 2.0 })?;
                eprintln!(
                    "round {}: {name}, {}: {:.0}/s",
                    round + 1,
                    target.name,
                    load.requests_per_second
                );
                if results.len() == row {
                    results.push((name, targets.iter().map(|_| Vec::new()).collect()));
                }
                let processor_us = used * 1e6 / load.requests as f64;
                results[row].1[which].push(Measured { load, processor_us, half });
            }
        }
    }
    Ok(results)
}

/// Requests a second of the measurement beside keys that are made: well below what a server answers.
const FORGING_PACE: f64 = 500.0;

/// How long Decrypt takes while RSA keys are made one after the other, and while none is.
fn forging(options: &Options, target: &Target) -> Result<String, String> {
    let signed = signed(target, &["forge"])?;
    let request = |name: &str| {
        let found = signed.iter().find(|(known, _)| known == name);
        found.map(|(_, request)| request.as_slice()).ok_or(format!("no {name} was signed"))
    };
    let (decrypt, create) = (request("Decrypt")?, request("CreateKey")?);
    let (address, pace) = (target.address.as_str(), Pace::Open { per_second: FORGING_PACE });
    let run = || load::run(address, decrypt, options.connections, options.seconds, pace);
    let mut table = format!(
        "| KMS Decrypt at {FORGING_PACE:.0} requests/s, Strongroom | median latency | p99 latency | \
         keys made |\n|---|---:|---:|---:|\n"
    );
    let mut row = |name: &str, load: Load, made: u64| {
        let (p50, p99) = (load.latency_us_p50 / 1000.0, load.latency_us_p99 / 1000.0);
        writeln!(table, "| {name} | {p50:.2} ms | {p99:.2} ms | {made} |")
            .expect("writing to a string cannot fail");
    };
    for round in 0..options.rounds {
        row(&format!("alone, round {}", round + 1), run()?, 0);
        let ended = AtomicBool::new(false);
        let (load, made) = std::thread::scope(|scope| {
            let forge = scope.spawn(|| load::repeat(address, create, &ended));
            let load = run();
            ended.store(true, Ordering::Relaxed);
            (load, forge.join().expect("no panic"))
        });
        row(&format!("while RSA_4096 keys are made, round {}", round + 1), load?, made?);
    }
    Ok(table)
}

/// Freshly signed requests by name: a signature lasts five minutes.
fn signed(target: &Target, more: &[&str]) -> Result<Vec<(String, Vec<u8>)>, String> {
    let endpoint = format!("http://{}", target.address);
    let arguments = [endpoint.as_str(), &target.access_key, &target.secret_key];
    let arguments = [&arguments[..], more].concat();
    let printed = python::script(include_str!("sign_requests.py"), &arguments)?;
    let requests = printed.as_object().ok_or("the signing script prints an object")?;
    requests
        .iter()
        .map(|(name, text)| {
            let bytes = text.as_str().and_then(decode_hex).ok_or("a request is hexadecimal")?;
            Ok((name.clone(), bytes))
        })
        .collect()
}

/// `None` when the text is not pairs of hexadecimal digits.
fn decode_hex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

fn table(names: &[&str], results: &Results) -> String {
    let mut table = String::from(
        "| request | server | median | p99 latency | p99 at half load | server CPU per request | \
         Strongroom is |\n|---|---|---:|---:|---:|---:|---:|\n",
    );
    for (request, targets) in results {
        for (name, measured) in names.iter().zip(targets) {
            let median =
                |value: fn(&Measured) -> f64| report::middle(measured.iter().map(value).collect());
            let ratio = if *name == names[0] {
                String::new()
            } else {
                let pairs = targets[0].iter().zip(measured);
                let ratios =
                    pairs.map(|(a, b)| a.load.requests_per_second / b.load.requests_per_second);
                format!("{:.1} x", report::middle(ratios.collect()))
            };
            writeln!(
                table,
                "| {request} | {name} | {:.0} requests/s | {:.1} ms | {:.1} ms | {:.0} us | {ratio} |",
                median(|m| m.load.requests_per_second),
                median(|m| m.load.latency_us_p99) / 1000.0,
                median(|m| m.half.latency_us_p99) / 1000.0,
                median(|m| m.processor_us),
            )
            .expect("writing to a string cannot fail");
        }
    }
    table
}
