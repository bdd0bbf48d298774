//! A load generator for HTTP/1.1: the same signed request again and again on kept-alive
//! connections.

use std::io::{self, BufRead, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long a server may take for one answer.
const ANSWER_SECONDS_MAX: u64 = 30;

/// What a run saw.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) requests: u64,
    pub(super) requests_per_second: f64,
    /// Median, in microseconds.
    pub(super) latency_us_p50: f64,
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
///
/// One thread serves all connections and never sleeps: a server on the same machine is not charged
/// for waking its clients, which clients elsewhere would not make it do either.
pub(super) fn run(
    address: &str,
    request: &[u8],
    connections: usize,
    seconds: u64,
    pace: Pace,
) -> Result<Load, String> {
    let start = now();
    let end = start + Duration::from_secs(seconds);
    let mut due = match pace {
        Pace::Closed => Due { next: start, every: None },
        Pace::Open { per_second } => {
            Due { next: start, every: Some(Duration::from_secs_f64(1.0 / per_second)) }
        }
    };
    let mut clients: Vec<Client> = (0..connections).map(|_| Client::default()).collect();
    let mut latencies = Vec::new();
    loop {
        let mut busy = false;
        for client in &mut clients {
            if let Some(latency) = client.receive()? {
                latencies.push(latency);
            }
            if client.is_idle()
                && now() < end
                && let Some(begun) = due.take()
            {
                client.send(address, request, begun)?;
            }
            busy |= !client.is_idle();
        }
        if !busy && now() >= end {
            break;
        }
    }
    let elapsed = (now() - start).as_secs_f64();
    latencies.sort_unstable();
    let at = |percent: usize| {
        let latency = latencies.get(latencies.len() * percent / 100);
        latency.map(|latency| latency.as_secs_f64() * 1e6).ok_or("the server answered nothing")
    };
    Ok(Load {
        requests: latencies.len() as u64,
        requests_per_second: latencies.len() as f64 / elapsed,
        latency_us_p50: at(50)?,
        latency_us_p99: at(99)?,
    })
}

/// Sends `request` again and again on one connection, each when the one before was answered, until
/// `ended`; how many were answered. Waits without polling: it runs beside a measurement.
pub(super) fn repeat(address: &str, request: &[u8], ended: &AtomicBool) -> Result<u64, String> {
    let failed = |error: io::Error| format!("{address}: {error}");
    let mut answered = 0;
    while !ended.load(Ordering::Relaxed) {
        let mut stream = connect(address).map_err(failed)?;
        stream.write_all(request).map_err(failed)?;
        answer(&mut io::BufReader::new(stream))?;
        answered += 1;
    }
    Ok(answered)
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures the host's time")]
fn now() -> Instant {
    Instant::now()
}

/// When the next request is due.
struct Due {
    next: Instant,
    /// `None`: at once.
    every: Option<Duration>,
}

impl Due {
    /// The moment the next request's latency counts from, when it is due.
    fn take(&mut self) -> Option<Instant> {
        let Some(every) = self.every else { return Some(now()) };
        let due = self.next;
        if due > now() {
            return None;
        }
        self.next += every;
        Some(due)
    }
}

/// One connection, with at most one request in flight.
#[derive(Default)]
struct Client {
    stream: Option<TcpStream>,
    received: Vec<u8>,
    begun: Option<Instant>,
}

impl Client {
    fn is_idle(&self) -> bool {
        self.begun.is_none()
    }

    fn send(&mut self, address: &str, request: &[u8], begun: Instant) -> Result<(), String> {
        let failed = |error: io::Error| format!("{address}: {error}");
        let stream = match self.stream.take() {
            Some(stream) => stream,
            None => connect(address).map_err(failed)?,
        };
        // Requests are small and the connection is empty.
        stream.set_nonblocking(false).map_err(failed)?;
        (&stream).write_all(request).map_err(failed)?;
        stream.set_nonblocking(true).map_err(failed)?;
        (self.stream, self.begun) = (Some(stream), Some(begun));
        Ok(())
    }

    /// Takes what has arrived; the latency of the request when its answer is complete.
    fn receive(&mut self) -> Result<Option<Duration>, String> {
        let (Some(begun), Some(mut stream)) = (self.begun, self.stream.as_ref()) else {
            return Ok(None);
        };
        let mut part = [0; 16 << 10];
        let ended = match stream.read(&mut part) {
            Ok(0) => true,
            Ok(length) => {
                self.received.extend_from_slice(&part[..length]);
                false
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let late = now() - begun > Duration::from_secs(ANSWER_SECONDS_MAX);
                return if late { Err("the server did not answer".into()) } else { Ok(None) };
            }
            Err(error) => return Err(format!("reading an answer: {error}")),
        };
        if !ended && !is_complete(&self.received) {
            return Ok(None);
        }
        let keep = answer(&mut io::Cursor::new(&self.received))?;
        self.received.clear();
        self.begun = None;
        if !keep || ended {
            self.stream = None;
        }
        Ok(Some(now() - begun))
    }
}

/// Whether a whole answer is there.
fn is_complete(received: &[u8]) -> bool {
    let Some(head) = received.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
        return false;
    };
    let body = &received[head + 4..];
    let text = String::from_utf8_lossy(&received[..head]).to_ascii_lowercase();
    match text.split("content-length:").nth(1).and_then(|rest| rest.split("\r\n").next()) {
        Some(length) => length.trim().parse().is_ok_and(|length: usize| body.len() >= length),
        None => body.ends_with(b"0\r\n\r\n"),
    }
}

fn connect(address: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    Ok(stream)
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

    #[test]
    fn an_answer_is_complete_when_its_body_is() {
        for (text, complete) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab", true),
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na", false),
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n", false),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", true),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", false),
        ] {
            assert_eq!(is_complete(text.as_bytes()), complete, "{text}");
        }
    }

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
