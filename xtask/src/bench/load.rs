//! A load generator for HTTP/1.1: the same signed request again and again on kept-alive
//! connections, one thread each.

use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

/// How long a server may take for one answer.
const ANSWER_SECONDS_MAX: u64 = 30;

/// What a run saw.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) requests: u64,
    pub(super) requests_per_second: f64,
    /// 99th percentile, in microseconds.
    pub(super) latency_us_p99: f64,
}

/// How fast requests come.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pace {
    /// The next when the one before was answered.
    Closed,
    /// So many a second, whether or not those before were answered; latency counts from when a
    /// request was due.
    Open {
        /// All connections together.
        per_second: f64,
    },
}

/// Sends `request` to `address` on `connections` connections for some seconds. Every answer must
/// have status 200.
pub(super) fn run(
    address: &str,
    request: &[u8],
    connections: usize,
    seconds: u64,
    pace: Pace,
) -> Result<Load, String> {
    let start = now();
    let end = start + Duration::from_secs(seconds);
    let outcomes: Vec<Result<Vec<Duration>, String>> = thread::scope(|scope| {
        let run = |turn: usize| {
            let due = match pace {
                Pace::Closed => Due { next: start, every: None },
                Pace::Open { per_second } => {
                    let every = Duration::from_secs_f64(connections as f64 / per_second);
                    let share = every.mul_f64(turn as f64 / connections as f64);
                    Due { next: start + share, every: Some(every) }
                }
            };
            client(address, request, end, due)
        };
        let threads: Vec<_> = (0..connections).map(|turn| scope.spawn(move || run(turn))).collect();
        let panicked = |_| Err("a load thread panicked".to_owned());
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(panicked)).collect()
    });
    let elapsed = (now() - start).as_secs_f64();
    let mut latencies = Vec::new();
    for outcome in outcomes {
        latencies.extend(outcome?);
    }
    latencies.sort_unstable();
    let p99 = latencies.get(latencies.len() * 99 / 100).ok_or("the server answered nothing")?;
    Ok(Load {
        requests: latencies.len() as u64,
        requests_per_second: latencies.len() as f64 / elapsed,
        latency_us_p99: p99.as_secs_f64() * 1e6,
    })
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures the host's time")]
fn now() -> Instant {
    Instant::now()
}

/// When a connection's next request is due.
struct Due {
    next: Instant,
    /// `None`: at once.
    every: Option<Duration>,
}

impl Due {
    /// Waits for it; the moment its latency counts from.
    fn wait(&mut self) -> Instant {
        let Some(every) = self.every else { return now() };
        let due = self.next;
        self.next += every;
        if let Some(left) = due.checked_duration_since(now()) {
            thread::sleep(left);
        }
        due
    }
}

fn client(
    address: &str,
    request: &[u8],
    end: Instant,
    mut due: Due,
) -> Result<Vec<Duration>, String> {
    let failed = |error: io::Error| format!("{address}: {error}");
    let mut latencies = Vec::new();
    let mut connection: Option<BufReader<TcpStream>> = None;
    while now() < end {
        let begun = due.wait();
        let mut reader = match connection.take() {
            Some(reader) => reader,
            None => connect(address).map_err(failed)?,
        };
        reader.get_mut().write_all(request).map_err(failed)?;
        let keep = answer(&mut reader)?;
        latencies.push(now() - begun);
        connection = keep.then_some(reader);
    }
    Ok(latencies)
}

fn connect(address: &str) -> io::Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(ANSWER_SECONDS_MAX)))?;
    Ok(BufReader::with_capacity(64 << 10, stream))
}

/// Reads one answer; returns whether the connection may be used again.
fn answer(reader: &mut impl BufRead) -> Result<bool, String> {
    let failed = |error: io::Error| format!("reading an answer: {error}");
    let mut line = String::new();
    let mut head = String::new();
    loop {
        line.clear();
        if reader.read_line(&mut line).map_err(failed)? == 0 {
            return Err("the server closed in the middle of an answer".into());
        }
        if line == "\r\n" {
            break;
        }
        head.push_str(&line);
    }
    let status = head.split(' ').nth(1).unwrap_or_default();
    let value = |name: &str| {
        head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim().to_ascii_lowercase())
        })
    };
    let mut body = Vec::new();
    if let Some(length) = value("content-length") {
        let length: usize = length.parse().map_err(|_| "a length that is no number")?;
        body.resize(length, 0);
        reader.read_exact(&mut body).map_err(failed)?;
    } else if value("transfer-encoding").as_deref() == Some("chunked") {
        chunks(reader, &mut body).map_err(failed)?;
    } else {
        return Err("an answer without a length".into());
    }
    if status != "200" {
        return Err(format!("status {status}: {}", String::from_utf8_lossy(&body)));
    }
    Ok(value("connection").as_deref() != Some("close") && head.starts_with("HTTP/1.1"))
}

fn chunks(reader: &mut impl BufRead, body: &mut Vec<u8>) -> io::Result<()> {
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let length = usize::from_str_radix(line.trim(), 16)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        let start = body.len();
        body.resize(start + length, 0);
        reader.read_exact(&mut body[start..])?;
        reader.read_exact(&mut [0; 2])?;
        if length == 0 {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn answers_end_where_they_say() {
        let check = |text: &str, expected: Result<bool, String>, left: &str| {
            let mut reader = io::Cursor::new(text.as_bytes());
            assert_eq!(answer(&mut reader), expected, "{text}");
            let mut rest = String::new();
            reader.read_to_string(&mut rest).unwrap();
            assert_eq!(rest, left);
        };
        check("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabX", Ok(true), "X");
        check("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nConnection: close\r\n\r\n", Ok(false), "");
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\nX";
        check(chunked, Ok(true), "X");
        let refused = "HTTP/1.1 400 Bad\r\nContent-Length: 1\r\n\r\nn";
        check(refused, Err("status 400: n".into()), "");
    }
}
