//! How often and for how long the machine stops a thread that wants to run: what no server on it can
//! be faster than.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::command;

/// From here on a gap between two looks at the clock is a stop.
const STOP: Duration = Duration::from_millis(1);

/// What one round saw.
#[derive(Default)]
struct Stops {
    count: u32,
    sum: Duration,
    longest: Duration,
}

/// A table: for so many rounds of so many seconds, a thread on one processor does nothing but read
/// the clock. Nothing else should be at work.
pub(super) fn measure(processor: &str, rounds: usize, seconds: u64) -> Result<String, String> {
    let mut table = format!(
        "| a thread that only reads the clock, for {seconds} s | stops of {} ms and more | of the time \
         | longest |\n|---|---:|---:|---:|\n",
        STOP.as_millis()
    );
    for round in 1..=rounds {
        let stops = std::thread::scope(|scope| {
            scope.spawn(|| watch(processor, Duration::from_secs(seconds))).join().expect("no panic")
        })?;
        table += &format!(
            "| round {round} | {} | {:.2} % | {:.1} ms |\n",
            stops.count,
            100.0 * stops.sum.as_secs_f64() / seconds as f64,
            stops.longest.as_secs_f64() * 1e3
        );
    }
    Ok(table)
}

fn watch(processor: &str, time: Duration) -> Result<Stops, String> {
    pin_this_thread(processor)?;
    let mut stops = Stops::default();
    let begun = now();
    let mut last = begun;
    while last - begun < time {
        let seen = now();
        let gap = seen - last;
        if gap >= STOP {
            stops.count += 1;
            stops.sum += gap;
            stops.longest = stops.longest.max(gap);
        }
        last = seen;
    }
    Ok(stops)
}

fn pin_this_thread(processor: &str) -> Result<(), String> {
    let own = std::fs::read_link("/proc/thread-self")
        .map_err(|error| format!("/proc/thread-self: {error}"))?;
    let own = own.file_name().and_then(|name| name.to_str()).ok_or("a thread has a number")?;
    let mut taskset = Command::new("taskset");
    command::run(taskset.args(["-c", "-p", processor, own]).stdout(Stdio::null()))
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures the host's time")]
fn now() -> Instant {
    Instant::now()
}
