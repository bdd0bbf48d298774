//! Replies waiting to be sent: small headers in one arena, read data in the buffers the device
//! filled, gathered into as few writes as the socket allows.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};
use std::ops::Range;

use super::handshake::Mode;
use super::request::{Asked, Errno};
use super::wire::{self, Append};
use super::{BLOCK_BYTES_PREFERRED, EXTENTS_MAX};
use crate::buffer::{Buffer, Pool};
use crate::device::{Extent, ExtentState};

/// Slices handed to one gathering write.
const SLICES_MAX: usize = 128;

/// Sent header bytes kept before they are cut off, so that a client that never lets the output
/// drain does not make it grow.
const HEADS_SENT_MAX: u64 = 64 << 10;

/// A read whose data starts with a run of zeroes is split at multiples of this.
const GRANULE: usize = BLOCK_BYTES_PREFERRED as usize;

enum Part {
    /// A range of the header stream.
    Head(Range<u64>),
    /// A range of a data buffer; the buffer is free once its last part is sent.
    Data(Range<usize>),
    /// The end of the front buffer.
    Release,
}

/// The request a reply is for: what every header of it repeats.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReplyTo {
    pub(crate) cookie: u64,
    /// Repeated with extended headers only.
    pub(crate) offset: u64,
}

/// The unsent bytes of one connection.
#[derive(Default)]
pub(crate) struct Output {
    /// How replies are framed.
    mode: Mode,
    /// The unsent end of the stream of all headers, and what was sent since it was last cut.
    heads: Vec<u8>,
    /// Position of `heads` in that stream.
    heads_start: u64,
    parts: VecDeque<Part>,
    /// Buffers the data parts refer to; the first [`Part::Release`] belongs to the front one.
    buffers: VecDeque<Buffer>,
    pending: usize,
}

impl Output {
    /// Bytes not sent yet.
    pub(crate) fn pending(&self) -> usize {
        self.pending
    }

    /// Lets `write` append bytes of a header.
    pub(crate) fn head<T>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let start = self.heads_end();
        let result = write(&mut self.heads);
        let end = self.heads_end();
        self.pending += (end - start) as usize;
        match self.parts.back_mut() {
            Some(Part::Head(range)) if range.end == start => range.end = end,
            _ if start == end => {}
            _ => self.parts.push_back(Part::Head(start..end)),
        }
        result
    }

    fn heads_end(&self) -> u64 {
        self.heads_start + self.heads.len() as u64
    }

    /// Frames all further replies in this way.
    pub(crate) fn set_mode(&mut self, mode: Mode) {
        self.mode = mode;
    }

    /// The reply to a request that succeeded and has no payload.
    pub(crate) fn done(&mut self, to: ReplyTo) {
        match self.mode {
            Mode::Simple | Mode::Structured => self.simple(to.cookie, 0),
            Mode::Extended => self.chunk(wire::CHUNK_FLAG_DONE, wire::CHUNK_NONE, to, 0),
        }
    }

    /// The reply to a request that failed; `chunked` for one whose success is told in chunks.
    /// NBD: those fail with a chunk once structured replies are negotiated; with extended headers
    /// all do.
    pub(crate) fn failed(&mut self, to: ReplyTo, errno: Errno, chunked: Chunked) {
        match (self.mode, chunked) {
            (Mode::Simple, _) | (Mode::Structured, Chunked::Never) => {
                self.simple(to.cookie, errno.code);
            }
            (Mode::Structured, Chunked::Always) | (Mode::Extended, _) => {
                self.error_chunk(to, errno);
            }
        }
    }

    fn simple(&mut self, cookie: u64, error_code: u32) {
        self.head(|head| {
            head.reserve(wire::SIMPLE_REPLY_BYTES);
            head.u32(wire::SIMPLE_REPLY_MAGIC);
            head.u32(error_code);
            head.u64(cookie);
        });
    }

    fn error_chunk(&mut self, to: ReplyTo, errno: Errno) {
        let message = errno.message.as_bytes();
        self.chunk(wire::CHUNK_FLAG_DONE, wire::CHUNK_ERROR, to, 6 + message.len());
        self.head(|head| {
            head.u32(errno.code);
            head.u16(u16::try_from(message.len()).expect("error messages are short"));
            head.extend_from_slice(message);
        });
    }

    /// A read reply; `holes` allows zero ranges to be sent as holes where replies have chunks.
    pub(crate) fn read(&mut self, to: ReplyTo, data: Buffer, holes: bool) {
        match self.mode {
            Mode::Simple => {
                self.simple(to.cookie, 0);
                self.data(0..data.len());
                self.release(data);
            }
            Mode::Structured | Mode::Extended => self.chunked_read(to, data, holes),
        }
    }

    fn chunked_read(&mut self, to: ReplyTo, data: Buffer, holes: bool) {
        if data.is_empty() {
            self.chunk(wire::CHUNK_FLAG_DONE, wire::CHUNK_NONE, to, 0);
        }
        let mut start = 0;
        while start < data.len() {
            let (end, zero) =
                if holes { run(&data, to.offset, start) } else { (data.len(), false) };
            let flags = if end == data.len() { wire::CHUNK_FLAG_DONE } else { 0 };
            let at = to.offset + start as u64;
            if zero {
                self.chunk(flags, wire::CHUNK_OFFSET_HOLE, to, 12);
                self.head(|head| {
                    head.u64(at);
                    head.u32(u32::try_from(end - start).expect("reads are at most 32 MiB"));
                });
            } else {
                self.chunk(flags, wire::CHUNK_OFFSET_DATA, to, 8 + end - start);
                self.head(|head| head.u64(at));
                self.data(start..end);
            }
            start = end;
        }
        self.release(data);
    }

    /// One context's part of a BLOCK_STATUS reply: `extents` clipped to the `length` bytes asked
    /// for, neighbours with one state joined.
    pub(crate) fn block_status(
        &mut self,
        to: ReplyTo,
        context: u32,
        length: u64,
        extents: &[Extent],
        part: StatusPart,
    ) {
        let limit = match part.asked {
            Asked::First => 1,
            Asked::All => EXTENTS_MAX,
        };
        let joined = join(extents, length, limit);
        let flags = if part.last { wire::CHUNK_FLAG_DONE } else { 0 };
        if self.mode == Mode::Extended {
            let kind = wire::CHUNK_BLOCK_STATUS_EXT;
            self.chunk(flags, kind, to, 8 + 16 * joined.len());
            self.head(|head| {
                head.u32(context);
                head.u32(u32::try_from(joined.len()).expect("at most EXTENTS_MAX"));
                for extent in joined {
                    head.u64(extent.length);
                    head.u64(u64::from(flags_of(extent.state)));
                }
            });
        } else {
            self.chunk(flags, wire::CHUNK_BLOCK_STATUS, to, 4 + 8 * joined.len());
            self.head(|head| {
                head.u32(context);
                for extent in joined {
                    head.u32(u32::try_from(extent.length).expect("clipped to a 32-bit request"));
                    head.u32(flags_of(extent.state));
                }
            });
        }
    }

    fn chunk(&mut self, flags: u16, kind: u16, to: ReplyTo, length: usize) {
        let extended = self.mode == Mode::Extended;
        self.head(|head| {
            head.reserve(wire::EXTENDED_CHUNK_BYTES);
            head.u32(match extended {
                false => wire::STRUCTURED_REPLY_MAGIC,
                true => wire::EXTENDED_REPLY_MAGIC,
            });
            head.u16(flags);
            head.u16(kind);
            head.u64(to.cookie);
            if extended {
                head.u64(to.offset);
                head.u64(length as u64);
            } else {
                head.u32(u32::try_from(length).expect("reads are at most 32 MiB"));
            }
        });
    }

    fn data(&mut self, range: Range<usize>) {
        self.pending += range.len();
        self.parts.push_back(Part::Data(range));
    }

    fn release(&mut self, buffer: Buffer) {
        self.buffers.push_back(buffer);
        self.parts.push_back(Part::Release);
    }

    /// Sends until everything is sent (`true`) or the socket is full (`false`). Buffers that are
    /// sent go back to `pool`.
    pub(crate) fn send(&mut self, socket: &mut impl Write, pool: &mut Pool) -> io::Result<bool> {
        while self.pending > 0 {
            match self.send_once(socket) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(sent) => self.advance(sent, pool),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.cut_heads(self.heads_end());
        Ok(true)
    }

    fn send_once(&self, socket: &mut impl Write) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let (mut count, mut buffer) = (0, 0);
        for part in &self.parts {
            let bytes = match part {
                Part::Head(range) => {
                    let start = (range.start - self.heads_start) as usize;
                    let end = (range.end - self.heads_start) as usize;
                    &self.heads[start..end]
                }
                Part::Data(range) => &self.buffers[buffer][range.clone()],
                Part::Release => {
                    buffer += 1;
                    continue;
                }
            };
            slices[count] = IoSlice::new(bytes);
            count += 1;
            if count == SLICES_MAX {
                break;
            }
        }
        socket.write_vectored(&slices[..count])
    }

    fn advance(&mut self, mut sent: usize, pool: &mut Pool) {
        self.pending -= sent;
        while let Some(part) = self.parts.front_mut() {
            match part {
                Part::Head(range) => {
                    let taken = (sent as u64).min(range.end - range.start);
                    range.start += taken;
                    sent -= taken as usize;
                    let (position, whole) = (range.start, range.start == range.end);
                    if position - self.heads_start >= HEADS_SENT_MAX {
                        self.cut_heads(position);
                    }
                    if !whole {
                        return;
                    }
                }
                Part::Data(range) => {
                    let taken = sent.min(range.len());
                    range.start += taken;
                    sent -= taken;
                    if range.start < range.end {
                        return;
                    }
                }
                Part::Release => {
                    let buffer = self.buffers.pop_front().expect("each release has its buffer");
                    pool.give(buffer);
                }
            }
            self.parts.pop_front();
        }
    }

    /// Forgets the headers before `position`.
    fn cut_heads(&mut self, position: u64) {
        self.heads.drain(..(position - self.heads_start) as usize);
        self.heads_start = position;
    }
}

/// Whether the success of a request is told in chunks once structured replies are negotiated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chunked {
    /// Reads and block status.
    Always,
    /// Everything else.
    Never,
}

/// Which part of a BLOCK_STATUS reply a chunk is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StatusPart {
    /// How many extents are wanted.
    pub(crate) asked: Asked,
    /// No context follows.
    pub(crate) last: bool,
}

fn flags_of(state: ExtentState) -> u32 {
    match state {
        ExtentState::Data | ExtentState::Unchanged => 0,
        ExtentState::Hole => wire::STATE_HOLE_AND_ZERO,
        ExtentState::Changed => wire::STATE_DIRTY,
    }
}

/// Up to `limit` extents over `length` bytes, neighbours with one state joined.
fn join(extents: &[Extent], length: u64, limit: usize) -> Vec<Extent> {
    let mut joined: Vec<Extent> = Vec::new();
    let mut left = length;
    for extent in extents {
        let clipped = extent.length.min(left);
        left -= clipped;
        let full = joined.len() == limit;
        match joined.last_mut() {
            _ if clipped == 0 => {}
            Some(last) if last.state == extent.state => last.length += clipped,
            Some(_) if full => break,
            _ => joined.push(Extent { length: clipped, state: extent.state }),
        }
    }
    joined
}

/// The end of the run of zero or of other granules that starts at `start`, and whether it is zero.
/// Granules are aligned to the volume.
fn run(data: &[u8], offset: u64, start: usize) -> (usize, bool) {
    let into_granule = |at: usize| ((offset + at as u64) % GRANULE as u64) as usize;
    let granule_end = |at: usize| (at + GRANULE - into_granule(at)).min(data.len());
    let mut end = granule_end(start);
    let zero = is_zero(&data[start..end]);
    while end < data.len() {
        let next = granule_end(end);
        if is_zero(&data[end..next]) != zero {
            break;
        }
        end = next;
    }
    (end, zero)
}

/// Compares the slice with itself shifted by one, which the standard library does word by word.
fn is_zero(bytes: &[u8]) -> bool {
    match bytes.split_first() {
        Some((&first, rest)) => first == 0 && *rest == bytes[..rest.len()],
        None => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A socket that takes a few bytes at a time.
    struct Narrow {
        taken: Vec<u8>,
        room: usize,
    }

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.write_vectored(&[IoSlice::new(bytes)])
        }

        fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
            let before = self.taken.len();
            for slice in slices {
                let room = self.room - (self.taken.len() - before);
                self.taken.extend_from_slice(&slice[..room.min(slice.len())]);
            }
            Ok(self.taken.len() - before)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn to(offset: u64) -> ReplyTo {
        ReplyTo { cookie: 9, offset }
    }

    fn sent(mode: Mode, room: usize, fill: impl FnOnce(&mut Output)) -> Vec<u8> {
        let (mut output, mut pool) = (Output::default(), Pool::default());
        output.set_mode(mode);
        fill(&mut output);
        let pending = output.pending();
        let mut socket = Narrow { taken: Vec::new(), room };
        assert!(output.send(&mut socket, &mut pool).unwrap());
        assert_eq!(socket.taken.len(), pending);
        assert!(output.parts.is_empty() && output.heads.is_empty() && output.buffers.is_empty());
        socket.taken
    }

    fn pages(pattern: &[u8]) -> Buffer {
        let mut buffer = Buffer::zeroed(pattern.len() * GRANULE);
        for (page, &byte) in buffer.chunks_mut(GRANULE).zip(pattern) {
            page.fill(byte);
        }
        buffer
    }

    /// Flags, type and payload length of each chunk.
    fn chunks(mut bytes: &[u8]) -> Vec<(u16, u16, u32)> {
        let mut chunks = Vec::new();
        while !bytes.is_empty() {
            let mut fields = wire::Fields(bytes);
            assert_eq!(fields.u32(), Some(wire::STRUCTURED_REPLY_MAGIC));
            let (flags, kind) = (fields.u16().unwrap(), fields.u16().unwrap());
            assert_eq!(fields.u64(), Some(9));
            let length = fields.u32().unwrap();
            fields.bytes(length as usize).unwrap();
            chunks.push((flags, kind, length));
            bytes = fields.0;
        }
        chunks
    }

    const ALL: usize = usize::MAX;

    #[test]
    fn zero_pages_are_holes_and_any_split_of_the_stream_is_the_same() {
        let fill = |o: &mut Output| o.read(to(4096), pages(&[0, 0, 7, 0]), true);
        let whole = sent(Mode::Structured, ALL, fill);
        assert_eq!(chunks(&whole), [(0, 2, 12), (0, 1, 8 + 4096), (1, 2, 12)]);
        for room in [1, 19, 4097] {
            assert_eq!(sent(Mode::Structured, room, fill), whole);
        }
        let solid = sent(Mode::Structured, ALL, |o| o.read(to(0), pages(&[0, 7]), false));
        assert_eq!(chunks(&solid), [(1, 1, 8 + 8192)]);
        let empty = sent(Mode::Structured, ALL, |o| o.read(to(0), Buffer::zeroed(0), true));
        assert_eq!(chunks(&empty), [(1, 0, 0)]);
    }

    #[test]
    fn granules_follow_the_volume_not_the_request() {
        let mut buffer = Buffer::zeroed(GRANULE);
        buffer[GRANULE - 1] = 1;
        let bytes = sent(Mode::Structured, ALL, |o| o.read(to(1), buffer, true));
        assert_eq!(chunks(&bytes), [(0, 2, 12), (1, 1, 9)]);
    }

    #[test]
    fn buffers_return_to_the_pool_once_sent() {
        let (mut output, mut pool) = (Output::default(), Pool::default());
        output.read(to(0), pages(&[5]), true);
        output.done(to(0));
        let mut socket = Narrow { taken: Vec::new(), room: usize::MAX };
        assert!(output.send(&mut socket, &mut pool).unwrap());
        assert_eq!(socket.taken.len(), 16 + 4096 + 16);
        assert_eq!(pool.take(4096)[0], 5);
    }

    /// The header of an extended reply: flags, kind, cookie, offset, length.
    fn extended_head(bytes: &[u8]) -> (u16, u16, u64, u64, u64) {
        let mut fields = wire::Fields(bytes);
        assert_eq!(fields.u32(), Some(wire::EXTENDED_REPLY_MAGIC));
        let (flags, kind) = (fields.u16().unwrap(), fields.u16().unwrap());
        let mut next = || fields.u64().unwrap();
        (flags, kind, next(), next(), next())
    }

    #[test]
    fn extended_replies_are_chunks_that_repeat_the_offset() {
        let done = sent(Mode::Extended, ALL, |o| o.done(to(77)));
        assert_eq!((extended_head(&done), done.len()), ((1, 0, 9, 77, 0), 32));
        for chunked in [Chunked::Always, Chunked::Never] {
            let failed = sent(Mode::Extended, ALL, |o| o.failed(to(77), Errno::ENOSPC, chunked));
            assert_eq!(extended_head(&failed), (1, 0x8001, 9, 77, 6 + 13));
            assert_eq!(failed[32..36], [0, 0, 0, 28]);
        }
        let read = sent(Mode::Extended, ALL, |o| o.read(to(8192), pages(&[0, 7]), true));
        assert_eq!(extended_head(&read), (0, 2, 9, 8192, 12));
        assert_eq!(extended_head(&read[44..]), (1, 1, 9, 8192, 8 + 4096));
        assert_eq!(read.len(), 44 + 32 + 8 + 4096);
    }

    #[test]
    fn failures_are_chunks_where_successes_are() {
        let magic = |mode, chunked| {
            let bytes = sent(mode, ALL, |o| o.failed(to(0), Errno::EINVAL, chunked));
            u32::from_be_bytes(bytes[..4].try_into().unwrap())
        };
        assert_eq!(magic(Mode::Simple, Chunked::Always), wire::SIMPLE_REPLY_MAGIC);
        assert_eq!(magic(Mode::Structured, Chunked::Never), wire::SIMPLE_REPLY_MAGIC);
        assert_eq!(magic(Mode::Structured, Chunked::Always), wire::STRUCTURED_REPLY_MAGIC);
    }

    #[test]
    fn extents_are_joined_clipped_and_limited() {
        let extent = |length, state| Extent { length, state };
        let extents = [
            extent(4096, ExtentState::Data),
            extent(4096, ExtentState::Data),
            extent(1 << 40, ExtentState::Hole),
        ];
        let status = |length, asked| {
            let part = StatusPart { asked, last: true };
            let bytes =
                sent(Mode::Structured, ALL, |o| o.block_status(to(0), 1, length, &extents, part));
            bytes[24..].chunks(4).map(|b| u32::from_be_bytes(b.try_into().unwrap())).collect()
        };
        let all: Vec<u32> = status(16384, Asked::All);
        assert_eq!(all, [8192, 0, 8192, 3]);
        let one: Vec<u32> = status(16384, Asked::First);
        assert_eq!(one, [8192, 0]);
        let part = StatusPart { asked: Asked::All, last: false };
        let wide = sent(Mode::Extended, ALL, |o| o.block_status(to(5), 3, 1 << 39, &extents, part));
        assert_eq!(extended_head(&wide), (0, 6, 9, 5, 8 + 2 * 16));
        assert_eq!(wide[32..40], [0, 0, 0, 3, 0, 0, 0, 2]);
        let words: Vec<u64> =
            wide[40..].chunks(8).map(|b| u64::from_be_bytes(b.try_into().unwrap())).collect();
        assert_eq!(words, [8192, 0, (1 << 39) - 8192, 3]);
    }

    #[test]
    fn zero_is_zero() {
        for length in [0, 1, 2, 4095, 4096] {
            let mut bytes = vec![0; length];
            assert!(is_zero(&bytes));
            for at in [0, length / 2, length.saturating_sub(1)] {
                if at < length {
                    bytes[at] = 1;
                    assert!(!is_zero(&bytes), "{length} {at}");
                    bytes[at] = 0;
                }
            }
            bytes.fill(1);
            assert_eq!(is_zero(&bytes), length == 0);
        }
    }
}
