//! One client: a thread that owns its socket, its requests and its replies.

use std::io::{self, IoSliceMut, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base::{Clock, Timestamp};
use blockstore::live::{Awaited, Port};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno as OsError;

use super::handshake::{Context, Handshake, HandshakeError, Negotiated, Step};
use super::output::{Chunked, Output, ReplyTo, StatusPart};
use super::pieces::{Arriving, Effect, Next, Pieces, Range, piece_bytes};
use super::request::{Asked, Errno, Header, Malformed, Verb};
use super::wire;
use super::{
    BYTES_IN_FLIGHT_MAX, CONTEXTS_MAX, DRAIN_SECONDS_MAX, EXTENTS_MAX, HANDSHAKE_SECONDS_MAX,
    OPTION_BYTES_MAX, REQUESTS_IN_FLIGHT_MAX,
};
use crate::buffer::Pool;
use crate::device::{
    Answer, BlockDevice, Command, Completion, DeviceError, Durability, Extent, Reply, Request, Sink,
};
use crate::export::{FORCE, RUN};
use crate::tls::Stream;

/// Bytes of one context's part of a BLOCK_STATUS reply, counted while the device works on it.
const STATUS_BYTES_MAX: usize = EXTENTS_MAX * 16 + wire::EXTENDED_CHUNK_BYTES + 8;

const _: () = assert!(CONTEXTS_MAX * STATUS_BYTES_MAX <= BYTES_IN_FLIGHT_MAX);

/// Bytes received at once. Holds the largest option and a burst of small writes.
const INPUT_BYTES: usize = 256 << 10;

const _: () = assert!(INPUT_BYTES >= 2 * OPTION_BYTES_MAX);

/// As much behind a write of several pieces: another may follow, whose payload should be received
/// where it is needed and not be copied there.
const INPUT_AFTER_LONG_BYTES: usize = 4 << 10;

/// Why a connection ended otherwise than by a DISC, an ABORT, a close or a stop.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectionError {
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("the socket failed")]
    Socket(#[source] io::Error),
    #[error("waiting for the disk failed")]
    Disk(#[source] io::Error),
    #[error("the client did not finish its handshake in {HANDSHAKE_SECONDS_MAX} s")]
    HandshakeTimeout,
    #[error("a stopping connection did not drain in {DRAIN_SECONDS_MAX} s")]
    DrainTimeout,
}

/// The part of a connection other threads reach: finished requests and the wish to stop.
pub(crate) struct Mailbox {
    completions: Mutex<Vec<Completion>>,
    /// The connection is about to wait, so a message must wake it.
    sleeping: AtomicBool,
    /// The export's own, so that a stop is there for every connection once it was asked for.
    stop: Arc<AtomicU8>,
    wake: OwnedFd,
}

impl Mailbox {
    pub(crate) fn new(stop: Arc<AtomicU8>) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            completions: Mutex::new(Vec::with_capacity(REQUESTS_IN_FLIGHT_MAX)),
            sleeping: AtomicBool::new(false),
            stop,
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        }))
    }

    /// Makes the connection look at what there is for it.
    pub(crate) fn rouse(&self) {
        if self.sleeping.swap(false, Ordering::SeqCst) {
            // The counter cannot overflow: one is added per sleep, and a sleep ends by reading it.
            let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
        }
    }

    fn take(&self, into: &mut Vec<Completion>) {
        let mut queue = self.completions.lock().expect("no code panics holding the completions");
        std::mem::swap(&mut *queue, into);
    }

    /// Announces sleep; `false` when there is something to do first.
    fn may_sleep(&self, stop_seen: u8) -> bool {
        self.sleeping.store(true, Ordering::SeqCst);
        let queue = self.completions.lock().expect("no code panics holding the completions");
        let idle = queue.is_empty() && self.stop.load(Ordering::SeqCst) == stop_seen;
        if !idle {
            self.sleeping.store(false, Ordering::SeqCst);
        }
        idle
    }

    fn awake(&self, happened: PollFlags) {
        self.sleeping.store(false, Ordering::SeqCst);
        if happened.contains(PollFlags::IN) {
            // Resets the counter; there is nothing to learn from it.
            let _ = rustix::io::read(&self.wake, &mut [0; 8]);
        }
    }
}

impl Sink for Mailbox {
    fn complete(&self, completion: Completion) {
        self.completions.lock().expect("no code panics holding the completions").push(completion);
        self.rouse();
    }

    fn complete_all(&self, completions: &mut Vec<Completion>) {
        self.completions
            .lock()
            .expect("no code panics holding the completions")
            .append(completions);
        self.rouse();
    }
}

/// A request the device works on.
struct Pending {
    to: ReplyTo,
    kind: PendingKind,
    /// Payload bytes counted against [`BYTES_IN_FLIGHT_MAX`].
    bytes: usize,
}

enum PendingKind {
    Read { length: usize, holes: bool },
    Status { length: u64, asked: Asked, contexts: Vec<Context> },
    Write(Pieces),
    Range(Range),
    Plain,
}

impl PendingKind {
    fn chunked(&self) -> Chunked {
        match self {
            Self::Read { .. } | Self::Status { .. } => Chunked::Always,
            Self::Write(_) | Self::Range(_) | Self::Plain => Chunked::Never,
        }
    }
}

enum Phase {
    Handshake(Box<Handshake>),
    Transmission,
}

/// Everything a connection starts with.
pub(crate) struct Setup {
    pub(crate) stream: Stream,
    pub(crate) handshake: Handshake,
    /// What is sent before anything is received.
    pub(crate) greeting: Vec<u8>,
    pub(crate) device: Arc<dyn BlockDevice>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) mailbox: Arc<Mailbox>,
}

/// Serves one client until it leaves, misbehaves or the export stops.
pub(crate) fn serve(setup: Setup) -> Result<(), ConnectionError> {
    setup.stream.set_nonblocking().map_err(ConnectionError::Socket)?;
    Connection::start(setup).run()
}

struct Connection {
    /// Before the socket, which it watches: a socket ends when nobody has it open.
    port: Option<Port>,
    stream: Stream,
    device: Arc<dyn BlockDevice>,
    clock: Arc<dyn Clock>,
    mailbox: Arc<Mailbox>,
    sink: Arc<dyn Sink>,
    phase: Phase,
    /// Means something in transmission only.
    negotiated: Negotiated,
    /// When the handshake or the drain must be over.
    deadline: Option<Timestamp>,
    stop_seen: u8,
    /// No more requests are taken: the client left, said DISC, or the export stops.
    closing: bool,
    /// What the socket may do at once: `IN` while it may hold bytes, `OUT` until it has taken less than was
    /// offered. A wait adds what it finds, and takes nothing away.
    ready: PollFlags,
    /// Requests wait in `input` until others finish.
    paused: bool,
    input: Box<[u8]>,
    input_start: usize,
    input_end: usize,
    /// Its write has a tag and is counted with all its bytes.
    arriving: Option<Arriving>,
    /// What was last asked for is a write of several pieces.
    after_long: bool,
    /// Payload bytes of refused writes still to be skipped.
    discard: usize,
    pending: Vec<Option<Pending>>,
    free_tags: Vec<u32>,
    in_flight_bytes: usize,
    batch: Vec<Request>,
    completions: Vec<Completion>,
    output: Output,
    pool: Pool,
}

impl Connection {
    fn start(setup: Setup) -> Self {
        let mut output = Output::default();
        output.head(|head| head.extend_from_slice(&setup.greeting));
        let tags = u32::try_from(REQUESTS_IN_FLIGHT_MAX).expect("a small limit");
        let mut port = setup.device.port();
        let pool = Pool::with(port.as_mut().map_or_else(Vec::new, Port::buffers));
        let mut ready = PollFlags::OUT;
        ready.set(PollFlags::IN, setup.stream.may_hold_input());
        Self {
            port,
            ready,
            stream: setup.stream,
            device: setup.device,
            deadline: Some(setup.clock.now().plus_seconds(HANDSHAKE_SECONDS_MAX)),
            clock: setup.clock,
            sink: Arc::clone(&setup.mailbox) as Arc<dyn Sink>,
            mailbox: setup.mailbox,
            phase: Phase::Handshake(Box::new(setup.handshake)),
            negotiated: Negotiated::default(),
            stop_seen: RUN,
            closing: false,
            paused: false,
            input: vec![0; INPUT_BYTES].into_boxed_slice(),
            input_start: 0,
            input_end: 0,
            arriving: None,
            after_long: false,
            discard: 0,
            pending: (0..REQUESTS_IN_FLIGHT_MAX).map(|_| None).collect(),
            free_tags: (0..tags).rev().collect(),
            in_flight_bytes: 0,
            batch: Vec::new(),
            completions: Vec::with_capacity(REQUESTS_IN_FLIGHT_MAX),
            output,
            pool,
        }
    }

    fn run(mut self) -> Result<(), ConnectionError> {
        loop {
            self.collect();
            self.send()?;
            // Before anything is taken in: a client that was answered after a stop finds it.
            if self.observe_stop() == FORCE {
                return Ok(());
            }
            self.intake()?;
            if self.closing {
                self.abandon();
            }
            let idle = self.free_tags.len() == REQUESTS_IN_FLIGHT_MAX;
            let wanted = self.wanted();
            if self.closing && idle && wanted.is_empty() {
                self.stream.end();
                return Ok(());
            }
            if !wanted.intersects(self.ready) && self.mailbox.may_sleep(self.stop_seen) {
                self.wait(wanted)?;
            } else if let Some(port) = &mut self.port {
                port.push().map_err(ConnectionError::Disk)?;
            }
        }
    }

    /// What is wanted of the socket: more requests while they are taken, and that it takes what is unsent.
    fn wanted(&self) -> PollFlags {
        let mut wanted = PollFlags::empty();
        wanted.set(PollFlags::IN, !self.closing && !self.paused);
        wanted.set(PollFlags::OUT, self.output.pending() > 0 || self.stream.has_unsent());
        wanted
    }

    /// Whether this is wanted of the socket and may be had at once.
    fn may(&self, direction: PollFlags) -> bool {
        (self.wanted() & self.ready).contains(direction)
    }

    fn send(&mut self) -> Result<(), ConnectionError> {
        if self.may(PollFlags::OUT) {
            let sent = self.output.send(&mut self.stream, &mut self.pool);
            let sent = sent.map_err(ConnectionError::Socket)?;
            let through = self.stream.push().map_err(ConnectionError::Socket)?;
            self.ready.set(PollFlags::OUT, sent && through);
        }
        Ok(())
    }

    /// Takes requests in and hands them to the device as one batch.
    fn intake(&mut self) -> Result<(), ConnectionError> {
        if self.paused && !self.closing {
            self.paused = false;
            self.parse()?;
        }
        if self.may(PollFlags::IN) {
            self.receive()?;
            self.parse()?;
        }
        self.submit();
        if self.closing && self.deadline.is_none() {
            self.deadline = Some(self.clock.now().plus_seconds(DRAIN_SECONDS_MAX));
        }
        Ok(())
    }

    fn observe_stop(&mut self) -> u8 {
        let stop = self.mailbox.stop.load(Ordering::SeqCst);
        if stop != self.stop_seen {
            self.stop_seen = stop;
            self.closing = true;
            self.deadline = Some(self.clock.now().plus_seconds(DRAIN_SECONDS_MAX));
        }
        stop
    }

    /// Waits for what is wanted of the socket, a completion, a stop or the deadline.
    fn wait(&mut self, wanted: PollFlags) -> Result<(), ConnectionError> {
        let timeout = match self.deadline {
            None => None,
            Some(deadline) => {
                let left = deadline.0 - self.clock.now().0;
                if left <= 0 {
                    return Err(if self.closing {
                        ConnectionError::DrainTimeout
                    } else {
                        ConnectionError::HandshakeTimeout
                    });
                }
                Some(Duration::from_millis(left.unsigned_abs()))
            }
        };
        let (woken, happened) = match &mut self.port {
            Some(port) => {
                let mut waited = [
                    Awaited::new(self.mailbox.wake.as_fd(), PollFlags::IN),
                    Awaited::new(self.stream.as_fd(), wanted),
                ];
                port.wait(&mut waited, timeout).map_err(ConnectionError::Disk)?;
                (waited[0].happened, waited[1].happened)
            }
            None => poll_both(&self.mailbox.wake, &self.stream, wanted, timeout)?,
        };
        let ended = happened.intersects(PollFlags::HUP | PollFlags::ERR);
        self.ready |= if ended { PollFlags::IN | PollFlags::OUT } else { happened };
        self.mailbox.awake(woken);
        if let Some(port) = &mut self.port {
            port.answer();
        }
        Ok(())
    }

    /// Turns finished requests into replies.
    fn collect(&mut self) {
        let mut completions = std::mem::take(&mut self.completions);
        self.mailbox.take(&mut completions);
        for completion in completions.drain(..) {
            if let Some(pieces) = self.pieces(completion.tag) {
                let (result, buffer) = match completion.result {
                    Ok(Answer::Bytes(buffer)) => (Ok(()), Some(buffer)),
                    Ok(_) => (Ok(()), None),
                    Err(error) => (Err(error), None),
                };
                pieces.answered(result);
                buffer.into_iter().for_each(|buffer| self.pool.give(buffer));
                self.advance(completion.tag);
                continue;
            }
            let next = self.range(completion.tag).filter(|_| completion.result.is_ok());
            if let Some(command) = next.and_then(Iterator::next) {
                self.give(completion.tag, command);
                continue;
            }
            let pending = self.end(completion.tag);
            self.reply(&pending, completion.result);
        }
        self.completions = completions;
    }

    fn reply(&mut self, pending: &Pending, result: Result<Answer, DeviceError>) {
        let to = pending.to;
        match (&pending.kind, result) {
            (PendingKind::Read { length, holes }, Ok(Answer::Bytes(data))) => {
                assert_eq!(data.len(), *length, "a device returns the buffer it was given");
                self.output.read(to, data, *holes);
            }
            (PendingKind::Status { length, asked, contexts }, Ok(Answer::Extents(views))) => {
                self.report(to, *length, *asked, contexts, &views);
            }
            (PendingKind::Write(_) | PendingKind::Range(_) | PendingKind::Plain, Ok(_)) => {
                self.output.done(to);
            }
            (PendingKind::Read { .. } | PendingKind::Status { .. }, Ok(_)) => {
                self.output.failed(to, DeviceError::Unsupported.into(), Chunked::Always);
            }
            (kind, Err(error)) => self.output.failed(to, error.into(), kind.chunked()),
        }
    }

    /// A BLOCK_STATUS reply: a chunk for each context.
    fn report(
        &mut self,
        to: ReplyTo,
        length: u64,
        asked: Asked,
        contexts: &[Context],
        views: &[Vec<Extent>],
    ) {
        assert_eq!(contexts.len(), views.len(), "a device answers every view");
        for (at, (context, extents)) in contexts.iter().zip(views).enumerate() {
            assert!(extents.first().is_some_and(|e| e.length > 0), "at least one extent");
            let part = StatusPart { asked, last: at + 1 == contexts.len() };
            self.output.block_status(to, context.id, length, extents, part);
        }
    }

    /// One read of the socket: first into a payload that is arriving, then into the input buffer.
    fn receive(&mut self) -> Result<(), ConnectionError> {
        self.make_room();
        let room = self.input.len() - self.input_end;
        let room = if self.after_long { room.min(INPUT_AFTER_LONG_BYTES) } else { room };
        let input = &mut self.input[self.input_end..][..room];
        let mut offered = input.len();
        let received = match &mut self.arriving {
            // What comes behind it is received into the next piece.
            Some(Arriving { data, filled, behind: 1.., .. }) => {
                offered = data.len() - *filled;
                self.stream.read(&mut data[*filled..])
            }
            Some(arriving) => {
                let payload = &mut arriving.data[arriving.filled..];
                offered += payload.len();
                self.stream.read_vectored(&mut [IoSliceMut::new(payload), IoSliceMut::new(input)])
            }
            None => self.stream.read(input),
        };
        let received = match received {
            Ok(0) => {
                self.closing = true;
                0
            }
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(ConnectionError::Socket(error)),
        };
        // A short read emptied the socket; the next wait notices when there is more.
        self.ready.set(PollFlags::IN, received == offered);
        let mut rest = received;
        if let Some(arriving) = &mut self.arriving {
            let payload = rest.min(arriving.data.len() - arriving.filled);
            arriving.filled += payload;
            rest -= payload;
        }
        self.input_end += rest;
        Ok(())
    }

    /// Moves leftover input to the front when little room is left behind it.
    fn make_room(&mut self) {
        if self.input_start == self.input_end {
            (self.input_start, self.input_end) = (0, 0);
        } else if self.input.len() - self.input_end < OPTION_BYTES_MAX + 16 {
            self.input.copy_within(self.input_start..self.input_end, 0);
            self.input_end -= self.input_start;
            self.input_start = 0;
        }
    }

    /// Consumes the input as far as it is complete and admitted.
    fn parse(&mut self) -> Result<(), ConnectionError> {
        loop {
            if self.discard > 0 {
                let skipped = self.discard.min(self.input_end - self.input_start);
                self.discard -= skipped;
                self.input_start += skipped;
            }
            match &mut self.phase {
                Phase::Handshake(handshake) => {
                    let input = &self.input[self.input_start..self.input_end];
                    let (consumed, step) =
                        self.output.head(|head| handshake.advance(input, head))?;
                    self.input_start += consumed;
                    match step {
                        Step::More => return Ok(()),
                        // This handshake is about an export, so it never agrees to TLS.
                        Step::Aborted | Step::StartTls => {
                            self.closing = true;
                            return Ok(());
                        }
                        Step::Transmission(negotiated) => {
                            self.output.set_mode(negotiated.mode);
                            self.negotiated = negotiated;
                            self.phase = Phase::Transmission;
                            self.deadline = None;
                        }
                    }
                }
                Phase::Transmission => {
                    if !self.parse_request()? {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Takes one request; `false` when it is not complete, not admitted, or the last.
    fn parse_request(&mut self) -> Result<bool, ConnectionError> {
        if let Some(arriving) = self.arriving.take() {
            if arriving.filled < arriving.data.len() {
                self.arriving = Some(arriving);
                return Ok(false);
            }
            self.hand_over(arriving);
            return Ok(true);
        }
        if self.discard > 0 {
            return Ok(false);
        }
        let mode = self.negotiated.mode;
        let Some(header) = Header::parse(&self.input[self.input_start..self.input_end], mode)?
        else {
            return Ok(false);
        };
        if !self.admits(&header) {
            self.paused = true;
            return Ok(false);
        }
        let size = self.device.size();
        let verb = header.verb(size, &self.negotiated);
        let body = self.input_start + Header::bytes(mode);
        if let Ok(Verb::StatusOf { asked }) = verb {
            // The payload is small; it is waited for where it is.
            let Some(payload) = self.input[..self.input_end].get(body..body + header.payload)
            else {
                return Ok(false);
            };
            let wanted = header.status_of(payload, size, &self.negotiated);
            self.input_start = body + header.payload;
            match wanted {
                Ok((length, contexts)) => self.status(&header, length, asked, contexts),
                Err(errno) => self.refuse(&header, errno),
            }
            return Ok(true);
        }
        self.input_start = body;
        self.after_long = header.payload >= INPUT_BYTES;
        match verb {
            Ok(Verb::Disconnect) => {
                self.closing = true;
                return Ok(false);
            }
            Ok(Verb::Write { durability }) => self.start_write(&header, durability),
            Ok(Verb::Status { asked }) => {
                let contexts = self.negotiated.contexts.clone();
                self.status(&header, header.length, asked, contexts);
            }
            Ok(verb) => self.request(&header, verb),
            Err(errno) => {
                self.discard = header.payload;
                self.refuse(&header, errno);
            }
        }
        Ok(true)
    }

    fn refuse(&mut self, header: &Header, errno: Errno) {
        let chunked = match header.command {
            wire::CMD_READ | wire::CMD_BLOCK_STATUS => Chunked::Always,
            _ => Chunked::Never,
        };
        self.output.failed(reply_to(header), errno, chunked);
    }

    /// Whether the limits leave room for one more request.
    fn admits(&self, header: &Header) -> bool {
        let held = self.in_flight_bytes + self.output.pending();
        let added = match header.command {
            // Of a length that is refused anyway only its size matters.
            wire::CMD_READ => usize::try_from(header.length).unwrap_or(usize::MAX),
            wire::CMD_BLOCK_STATUS => self.negotiated.contexts.len() * STATUS_BYTES_MAX,
            _ => header.payload,
        };
        // Refusals and small answers occupy no tag, but their bytes count while they are unsent.
        !self.free_tags.is_empty()
            && (held == 0 || held.saturating_add(added) <= BYTES_IN_FLIGHT_MAX)
    }

    fn start_write(&mut self, header: &Header, durability: Durability) {
        let kind = PendingKind::Write(Pieces::new(durability));
        let tag = self.begin(header, kind, header.payload);
        self.start_piece(tag, header.offset, header.payload);
    }

    /// Receives the next piece of a write, of which `left` bytes are to come.
    fn start_piece(&mut self, tag: u32, offset: u64, left: usize) {
        let length = piece_bytes(offset, left);
        let mut data = self.pool.take(length);
        let filled = length.min(self.input_end - self.input_start);
        data[..filled].copy_from_slice(&self.input[self.input_start..][..filled]);
        self.input_start += filled;
        self.arriving = Some(Arriving { tag, offset, data, filled, behind: left - length });
    }

    /// Has the device store a piece that was received.
    fn hand_over(&mut self, Arriving { tag, offset, data, behind, .. }: Arriving) {
        let end = offset + data.len() as u64;
        let pieces = self.pieces(tag).expect("a write is pending until all of it was received");
        match pieces.received(behind) {
            Some(durability) => self.give(tag, Command::Write { offset, data, durability }),
            None => self.pool.give(data),
        }
        if behind > 0 {
            self.start_piece(tag, end, behind);
        } else {
            self.advance(tag);
        }
    }

    fn pieces(&mut self, tag: u32) -> Option<&mut Pieces> {
        match &mut self.pending[tag as usize] {
            Some(Pending { kind: PendingKind::Write(pieces), .. }) => Some(pieces),
            _ => None,
        }
    }

    fn range(&mut self, tag: u32) -> Option<&mut Range> {
        match &mut self.pending[tag as usize] {
            Some(Pending { kind: PendingKind::Range(range), .. }) => Some(range),
            _ => None,
        }
    }

    /// Goes on with a write after something happened to it.
    fn advance(&mut self, tag: u32) {
        let Some(pieces) = self.pieces(tag) else { return };
        match pieces.next() {
            Next::Wait => {}
            Next::Flush => {
                if let Some(pending) = &mut self.pending[tag as usize] {
                    pending.kind = PendingKind::Plain;
                }
                self.give(tag, Command::Flush);
            }
            Next::Answer(result) => {
                let write = self.end(tag);
                self.reply(&write, result.map(|()| Answer::Done));
            }
            Next::Forget => drop(self.end(tag)),
        }
    }

    /// Gives up a write whose client will not send the rest: it was not answered, so any part of it
    /// may be there.
    fn abandon(&mut self) {
        let Some(Arriving { tag, data, .. }) = self.arriving.take() else { return };
        self.pool.give(data);
        if let Some(pieces) = self.pieces(tag) {
            pieces.abandon();
        }
        self.advance(tag);
    }

    fn status(&mut self, header: &Header, length: u64, asked: Asked, contexts: Vec<Context>) {
        let views = contexts.iter().map(|context| context.view).collect();
        let bytes = contexts.len() * STATUS_BYTES_MAX;
        let command = Command::Status { offset: header.offset, length, views };
        self.enqueue(header, PendingKind::Status { length, asked, contexts }, bytes, command);
    }

    fn request(&mut self, header: &Header, verb: Verb) {
        let (offset, length) = (header.offset, header.length);
        let (kind, bytes, command) = match verb {
            Verb::Read { holes } => {
                let length = usize::try_from(length).expect("checked against the largest payload");
                let buffer = self.pool.take(length);
                (PendingKind::Read { length, holes }, length, Command::Read { offset, buffer })
            }
            Verb::Flush => (PendingKind::Plain, 0, Command::Flush),
            Verb::Trim { durability } => {
                return self.start_range(header, Effect::Trim, durability);
            }
            Verb::WriteZeroes { hole, durability } => {
                return self.start_range(header, Effect::Zeroes(hole), durability);
            }
            Verb::Cache => (PendingKind::Plain, 0, Command::Cache { offset, length }),
            Verb::Write { .. } | Verb::Status { .. } | Verb::StatusOf { .. } | Verb::Disconnect => {
                unreachable!("these have ways of their own")
            }
        };
        self.enqueue(header, kind, bytes, command);
    }

    fn start_range(&mut self, header: &Header, effect: Effect, durability: Durability) {
        let mut range = Range::new(effect, header.offset, header.length, durability);
        let first = range.next().expect("a range has at least one command");
        self.enqueue(header, PendingKind::Range(range), 0, first);
    }

    fn enqueue(&mut self, header: &Header, kind: PendingKind, bytes: usize, command: Command) {
        let tag = self.begin(header, kind, bytes);
        self.give(tag, command);
    }

    /// Notes a request that was admitted.
    fn begin(&mut self, header: &Header, kind: PendingKind, bytes: usize) -> u32 {
        let tag = self.free_tags.pop().expect("admitted only with a free tag");
        self.in_flight_bytes += bytes;
        self.pending[tag as usize] = Some(Pending { to: reply_to(header), kind, bytes });
        tag
    }

    /// Takes a request out of those the device works on.
    fn end(&mut self, tag: u32) -> Pending {
        let pending = self.pending[tag as usize].take().expect("a request ends once");
        self.free_tags.push(tag);
        self.in_flight_bytes -= pending.bytes;
        pending
    }

    /// Puts something into the next batch for the device.
    fn give(&mut self, tag: u32, command: Command) {
        let reply = Reply::new(Arc::clone(&self.sink), tag);
        self.batch.push(Request { command, reply });
    }

    fn submit(&mut self) {
        if !self.batch.is_empty() {
            let next = Vec::with_capacity(self.batch.len());
            let batch = std::mem::replace(&mut self.batch, next);
            match &mut self.port {
                Some(port) => self.device.submit_through(batch, port),
                None => self.device.submit(batch),
            }
        }
    }
}

/// Waits without a port. Returns what happened to either.
fn poll_both(
    wake: &OwnedFd,
    stream: &Stream,
    wanted: PollFlags,
    timeout: Option<Duration>,
) -> Result<(PollFlags, PollFlags), ConnectionError> {
    let timeout = timeout.map(|timeout| Timespec {
        tv_sec: timeout.as_secs().cast_signed(),
        tv_nsec: timeout.subsec_nanos().into(),
    });
    let mut waited = [PollFd::new(wake, PollFlags::IN), PollFd::new(stream, wanted)];
    // A socket nothing is wanted of is left out: its hang-up would end every wait at once.
    let count = if wanted.is_empty() { 1 } else { 2 };
    match poll(&mut waited[..count], timeout.as_ref()) {
        Ok(_) | Err(OsError::INTR) => {}
        Err(error) => return Err(ConnectionError::Socket(error.into())),
    }
    let happened = if count == 2 { waited[1].revents() } else { PollFlags::empty() };
    Ok((waited[0].revents(), happened))
}

fn reply_to(header: &Header) -> ReplyTo {
    ReplyTo { cookie: header.cookie, offset: header.offset }
}
