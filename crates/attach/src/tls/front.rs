//! The TCP listener: brings peers through TLS and hands them to the export of their certificate.
//!
//! Who has not shown a certificate costs a thread and a few buffers, for ten seconds at most, and
//! there are never more than [`HANDSHAKES_MAX`] of them.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use base::{Clock, Rng, Timestamp};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::net::sockopt;
use rustls::{ServerConfig, ServerConnection};

use super::authority::{Authority, TlsError};
use super::badge::Badge;
use super::stream::TlsStream;
use crate::exports::Exports;
use crate::nbd::HANDSHAKE_SECONDS_MAX;
use crate::nbd::handshake::{Handshake, HandshakeError, Step};

/// Peers on their way through TLS at once; further ones are closed at once.
pub const HANDSHAKES_MAX: usize = 64;

/// How often a waiting handshake looks at the clock.
const PATIENCE: Duration = Duration::from_millis(500);

/// How long nothing is heard of a peer before the kernel asks whether its machine is there, how often it
/// asks then, and how many questions in a row go unanswered before the connection has failed.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(30);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);
const KEEPALIVE_COUNT: u32 = 3;

/// How long a peer's machine may take nothing of what is sent to it: as long as it may be silent.
const UNACKNOWLEDGED_MAX_MS: u32 = 60_000;

/// Bytes received at once before TLS.
const PIECE_BYTES: usize = 4096;

/// A peer that has shown its certificate.
pub(crate) struct Guest {
    pub(crate) stream: TlsStream,
    pub(crate) handshake: Handshake,
}

/// Why a peer did not come through.
#[derive(Debug, thiserror::Error)]
enum TurnedAway {
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    #[error("the client sent more before TLS than it may")]
    EarlyBytes,
    #[error("the client did not finish its handshake in {HANDSHAKE_SECONDS_MAX} s")]
    TooSlow,
    #[error("TLS failed")]
    Tls(#[from] rustls::Error),
    #[error("the socket failed")]
    Socket(#[source] io::Error),
    #[error("the certificate names no attachment that stands")]
    NotAttached,
}

impl From<io::Error> for TurnedAway {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::TimedOut => Self::TooSlow,
            _ => Self::Socket(error),
        }
    }
}

/// A running listener. Dropping it ends it; peers that came through stay with their exports.
pub struct Front {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    exports: Arc<Exports>,
    config: Arc<ServerConfig>,
    clock: Arc<dyn Clock>,
    stopping: AtomicBool,
    wake: OwnedFd,
    /// The sockets of peers on their way, to cut them off.
    arriving: Mutex<BTreeMap<u64, TcpStream>>,
}

impl Front {
    /// Accepts peers on `listener` for what is and will be in `exports`. The server proves to be
    /// one of `names`.
    ///
    /// # Errors
    /// When a name is none, or threads and descriptors are exhausted.
    pub fn start(
        listener: TcpListener,
        authority: &Authority,
        names: &[String],
        exports: Arc<Exports>,
        clock: Arc<dyn Clock>,
        rng: &dyn Rng,
    ) -> Result<Self, FrontError> {
        let config = authority.server_config(names, &exports, rng)?;
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let shared = Arc::new(Shared {
            exports,
            config,
            clock,
            stopping: AtomicBool::new(false),
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
                .map_err(io::Error::from)?,
            arriving: Mutex::default(),
        });
        let own = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("nbd-tls-accept".into())
            .spawn(move || accept(&own, &listener))?;
        Ok(Self { address, shared, thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Why a listener could not be started.
#[derive(Debug, thiserror::Error)]
pub enum FrontError {
    /// The certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The system.
    #[error("the listener could not be started")]
    System(#[from] io::Error),
}

impl Drop for Front {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        // The counter cannot overflow: a listener is stopped once.
        let _ = rustix::io::write(&self.shared.wake, &1u64.to_ne_bytes());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the NBD listener panicked");
        }
    }
}

impl Shared {
    fn arriving(&self) -> MutexGuard<'_, BTreeMap<u64, TcpStream>> {
        self.arriving.lock().expect("no code panics while it holds the sockets")
    }
}

/// The thread that accepts peers and starts a thread for each. It ends after all of them.
fn accept(shared: &Arc<Shared>, listener: &TcpListener) {
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    for number in 0.. {
        if shared.stopping.load(Ordering::SeqCst) {
            break;
        }
        wait(shared, Some(listener));
        threads.retain(|thread| !thread.is_finished());
        match listener.accept() {
            Ok((socket, peer)) => match welcome(shared, number, socket, peer) {
                Ok(thread) => threads.extend(thread),
                Err(error) => tracing::warn!(%peer, %error, "a client could not be served"),
            },
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => {
                tracing::warn!(%error, "accepting an NBD client failed");
                wait(shared, None);
            }
        }
    }
    for socket in shared.arriving().values() {
        // A socket that is closed already needs no cutting off.
        let _ = socket.shutdown(Shutdown::Both);
    }
    for thread in threads {
        if thread.join().is_err() {
            tracing::error!("a handshake panicked");
        }
    }
}

/// Waits for a peer or the end; without a listener for a second or the end.
fn wait(shared: &Shared, listener: Option<&TcpListener>) {
    let wake = PollFd::new(&shared.wake, PollFlags::IN);
    let second = Timespec { tv_sec: 1, tv_nsec: 0 };
    // Whatever ends the wait, the loop looks again.
    let _ = match listener {
        Some(listener) => poll(&mut [wake, PollFd::new(listener, PollFlags::IN)], None),
        None => poll(&mut [wake], Some(&second)),
    };
}

fn welcome(
    shared: &Arc<Shared>,
    number: u64,
    socket: TcpStream,
    peer: SocketAddr,
) -> io::Result<Option<JoinHandle<()>>> {
    let mut arriving = shared.arriving();
    if arriving.len() >= HANDSHAKES_MAX {
        tracing::warn!(%peer, "too many handshakes; a client was turned away");
        return Ok(None);
    }
    arriving.insert(number, socket.try_clone()?);
    drop(arriving);
    let own = Arc::clone(shared);
    let thread = thread::Builder::new().name("nbd-tls".into()).spawn(move || {
        let admitted = admit(&own, socket);
        own.arriving().remove(&number);
        match admitted {
            Ok(badge) => tracing::info!(%peer, volume = %badge.volume, "a client is connected"),
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::info!(%peer, %error, cause, "a client was turned away");
            }
        }
    });
    thread.map(Some).inspect_err(|_| drop(shared.arriving().remove(&number)))
}

/// Brings one peer through TLS and to its export.
fn admit(shared: &Shared, socket: TcpStream) -> Result<Badge, TurnedAway> {
    prepare(&socket)?;
    let clock = &*shared.clock;
    let deadline = clock.now().plus_seconds(HANDSHAKE_SECONDS_MAX);
    let mut patient = Patient { socket: &socket, clock, deadline };
    let handshake = to_tls(&mut patient)?;
    let mut session = ServerConnection::new(Arc::clone(&shared.config))?;
    while session.is_handshaking() || session.wants_write() {
        session.complete_io(&mut patient)?;
    }
    let certificates = session.peer_certificates().unwrap_or_default();
    let certificate = certificates.first().ok_or(TurnedAway::NotAttached)?;
    let badge = Badge::of(certificate).map_err(|_| TurnedAway::NotAttached)?;
    let guest = Guest { stream: TlsStream::new(socket, session), handshake };
    // The attachment may have ended since its certificate was looked at.
    match shared.exports.adopt(&badge, guest) {
        true => Ok(badge),
        false => Err(TurnedAway::NotAttached),
    }
}

/// Sets a socket up for its handshake, and for the connection that follows: a peer whose machine or network
/// is gone ends neither by itself, and would keep its place among an export's connections.
fn prepare(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    socket.set_nonblocking(false)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, KEEPALIVE_AFTER)?;
    sockopt::set_tcp_keepintvl(socket, KEEPALIVE_EVERY)?;
    sockopt::set_tcp_keepcnt(socket, KEEPALIVE_COUNT)?;
    Ok(sockopt::set_tcp_user_timeout(socket, UNACKNOWLEDGED_MAX_MS)?)
}

/// Negotiates in clear until the peer asks for TLS and is told yes.
fn to_tls(patient: &mut Patient<'_>) -> Result<Handshake, TurnedAway> {
    let mut output = Vec::new();
    let mut handshake = Handshake::before_tls(&mut output);
    let mut input = Vec::new();
    loop {
        patient.write_all(&output)?;
        output.clear();
        let mut piece = [0; PIECE_BYTES];
        let received = patient.read(&mut piece)?;
        if received == 0 {
            return Err(TurnedAway::Socket(io::ErrorKind::UnexpectedEof.into()));
        }
        input.extend_from_slice(&piece[..received]);
        let advanced = handshake.advance(&input, &mut output);
        let (consumed, step) = advanced?;
        input.drain(..consumed);
        match step {
            Step::More => {}
            // Bytes in clear behind it could be anybody's.
            Step::StartTls if !input.is_empty() => return Err(TurnedAway::EarlyBytes),
            Step::StartTls => {
                patient.write_all(&output)?;
                return Ok(handshake);
            }
            Step::Transmission(_) => unreachable!("without an export there is no transmission"),
            Step::Aborted => {
                patient.write_all(&output)?;
                return Err(TurnedAway::Socket(io::ErrorKind::ConnectionAborted.into()));
            }
        }
    }
}

/// A socket that is waited for until a deadline, however slowly the peer sends.
struct Patient<'a> {
    socket: &'a TcpStream,
    clock: &'a dyn Clock,
    deadline: Timestamp,
}

impl Patient<'_> {
    fn until_deadline<T>(&self, mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        loop {
            if self.clock.now() > self.deadline {
                return Err(io::ErrorKind::TimedOut.into());
            }
            match attempt() {
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock
                            | io::ErrorKind::TimedOut
                            | io::ErrorKind::Interrupted
                    ) => {}
                done => return done,
            }
        }
    }
}

impl Read for Patient<'_> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        let mut socket = self.socket;
        self.until_deadline(|| socket.read(&mut *target))
    }
}

impl Write for Patient<'_> {
    fn write(&mut self, source: &[u8]) -> io::Result<usize> {
        let mut socket = self.socket;
        self.until_deadline(|| socket.write(source))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_looks_after_peers_that_fall_silent() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let _peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, _) = listener.accept().unwrap();
        prepare(&socket).unwrap();
        assert!(sockopt::socket_keepalive(&socket).unwrap() && socket.nodelay().unwrap());
        assert_eq!(sockopt::tcp_keepidle(&socket).unwrap(), KEEPALIVE_AFTER);
        assert_eq!(sockopt::tcp_keepintvl(&socket).unwrap(), KEEPALIVE_EVERY);
        assert_eq!(sockopt::tcp_keepcnt(&socket).unwrap(), KEEPALIVE_COUNT);
        assert_eq!(sockopt::tcp_user_timeout(&socket).unwrap(), UNACKNOWLEDGED_MAX_MS);
        let silent = KEEPALIVE_AFTER + KEEPALIVE_EVERY * KEEPALIVE_COUNT;
        assert_eq!(silent.as_millis(), u128::from(UNACKNOWLEDGED_MAX_MS), "the same limit twice");
    }
}
