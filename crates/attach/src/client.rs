//! A small NBD client over a unix socket, for demonstrations and tests of this server.
//!
//! It negotiates what its [`Wishes`] say, and keeps several requests in flight for long transfers. It
//! does not reconnect.

use std::io::{self, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::device::{Durability, Extent, ExtentState, Hole};
use crate::nbd::PAYLOAD_BYTES_MAX;
use crate::nbd::handshake::Mode;
use crate::nbd::wire::{self, Append, Fields};

/// Bytes of one request of a long transfer.
const PIECE_BYTES: usize = 1 << 20;

/// Requests a long transfer keeps in flight. Their payloads fit into the server's limits, so
/// neither side can wait for the other.
const WINDOW: usize = 8;

/// Longest option reply or error message accepted from a server.
const MESSAGE_BYTES_MAX: usize = 64 << 10;

/// What a server may say that this client does not accept.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The socket failed or ended.
    #[error("the connection failed")]
    Socket(#[from] io::Error),
    /// The server broke the protocol.
    #[error("the server broke the protocol: {rule}")]
    Protocol {
        /// What should have been.
        rule: &'static str,
    },
    /// The server refused an option of the handshake.
    #[error("the server refused option {option} with {code:#x}")]
    Refused {
        /// The option.
        option: u32,
        /// The reply type.
        code: u32,
    },
    /// A request failed.
    #[error("the request failed with error {errno}")]
    Request {
        /// The protocol's error number.
        errno: u32,
    },
}

fn broken(rule: &'static str) -> ClientError {
    ClientError::Protocol { rule }
}

/// What a client asks a server for. Everything here can be had or the connection fails.
#[derive(Clone, Debug)]
pub struct Wishes<'a> {
    /// Framing: [`Mode::Structured`] or [`Mode::Extended`].
    pub mode: Mode,
    /// Metadata contexts; what the server does not have is left out.
    pub contexts: &'a [&'a str],
}

/// What one context says about a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContextStatus {
    /// The context.
    pub context: String,
    /// Consecutive runs: their length in bytes and the context's flags.
    pub runs: Vec<(u64, u64)>,
}

/// A connection to one export.
pub struct Client {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
    mode: Mode,
    /// The contexts the server agreed to, under its ids.
    contexts: Vec<(u32, String)>,
    size: u64,
    flags: u16,
    cookie: u64,
}

/// Where the payload of replies goes.
enum Target<'a> {
    Nothing,
    /// Read data, whose first byte lies at the offset.
    Bytes(u64, &'a mut [u8]),
    Status(&'a mut Vec<(u32, Vec<(u64, u64)>)>),
}

impl Client {
    /// Connects and starts transmission of `export`, with structured replies and `base:allocation`;
    /// the empty name is the default export.
    pub fn connect(socket: &Path, export: &str) -> Result<Self, ClientError> {
        let wishes = Wishes { mode: Mode::Structured, contexts: &[wire::BASE_ALLOCATION] };
        Self::connect_with(socket, export, &wishes)
    }

    /// Connects and starts transmission of `export` as `wishes` say.
    pub fn connect_with(
        socket: &Path,
        export: &str,
        wishes: &Wishes<'_>,
    ) -> Result<Self, ClientError> {
        let writer = UnixStream::connect(socket)?;
        let reader = BufReader::with_capacity(64 << 10, writer.try_clone()?);
        let (mode, contexts) = (wishes.mode, Vec::new());
        let mut client = Self { reader, writer, mode, contexts, size: 0, flags: 0, cookie: 0 };
        client.greet()?;
        match mode {
            Mode::Simple => return Err(broken("replies with payload are structured")),
            Mode::Structured => client.option(wire::OPT_STRUCTURED_REPLY, &[], |_, _| Ok(()))?,
            Mode::Extended => client.option(wire::OPT_EXTENDED_HEADERS, &[], |_, _| Ok(()))?,
        }
        client.contexts =
            client.ask_contexts(wire::OPT_SET_META_CONTEXT, export, wishes.contexts)?;
        let mut go = Vec::new();
        go.string(export);
        go.u16(0);
        let (mut size, mut flags) = (None, 0);
        client.option(wire::OPT_GO, &go, |kind, mut info| {
            if kind == wire::REP_INFO && info.u16() == Some(wire::INFO_EXPORT) {
                size = info.u64();
                flags = info.u16().ok_or(broken("export information holds a size and flags"))?;
            }
            Ok(())
        })?;
        client.size = size.ok_or(broken("GO is answered with the export's size"))?;
        client.flags = flags;
        Ok(client)
    }

    /// Lists or selects contexts: their ids and names.
    fn ask_contexts(
        &mut self,
        option: u32,
        export: &str,
        queries: &[&str],
    ) -> Result<Vec<(u32, String)>, ClientError> {
        let mut data = Vec::new();
        data.string(export);
        data.u32(u32::try_from(queries.len()).map_err(|_| broken("queries are few"))?);
        queries.iter().for_each(|query| data.string(query));
        let mut contexts = Vec::new();
        self.option(option, &data, |kind, mut context| {
            if kind == wire::REP_META_CONTEXT {
                let id = context.u32().ok_or(broken("a context has an id"))?;
                let name = String::from_utf8(context.0.to_vec());
                contexts.push((id, name.map_err(|_| broken("a context's name is text"))?));
            }
            Ok(())
        })?;
        Ok(contexts)
    }

    /// Bytes of the export.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The transmission flags of the export.
    pub fn flags(&self) -> u16 {
        self.flags
    }

    /// Fills `target` from `offset`, in one request if it is at most 1 MiB, else pipelined.
    pub fn read(&mut self, offset: u64, target: &mut [u8]) -> Result<(), ClientError> {
        let mut sent = offset;
        let end = offset + target.len() as u64;
        let mut waiting = std::collections::VecDeque::new();
        let mut pieces = target.chunks_mut(PIECE_BYTES);
        loop {
            if let Some(piece) = (waiting.len() < WINDOW).then(|| pieces.next()).flatten() {
                let length = piece.len() as u64;
                let cookie = self.send(wire::CMD_READ, 0, sent, length, &[])?;
                waiting.push_back((cookie, sent, piece));
                sent += length;
                continue;
            }
            if waiting.is_empty() {
                debug_assert_eq!(sent, end);
                return Ok(());
            }
            let replies = &mut waiting;
            self.receive_one_of(|cookie| {
                let at = replies.iter().position(|(c, _, _)| *c == cookie)?;
                let (_, offset, piece) = replies.remove(at)?;
                Some(Target::Bytes(offset, piece))
            })?;
        }
    }

    /// Stores `source` at `offset`, in one request if it is at most 1 MiB, else pipelined.
    pub fn write(
        &mut self,
        offset: u64,
        source: &[u8],
        durability: Durability,
    ) -> Result<(), ClientError> {
        let flags = fua(durability);
        let mut waiting: Vec<u64> = Vec::new();
        let mut at = offset;
        let mut pieces = source.chunks(PIECE_BYTES);
        loop {
            if let Some(piece) = (waiting.len() < WINDOW).then(|| pieces.next()).flatten() {
                let length = piece.len() as u64;
                waiting.push(self.send(wire::CMD_WRITE, flags, at, length, piece)?);
                at += length;
                continue;
            }
            if waiting.is_empty() {
                return Ok(());
            }
            let replies = &mut waiting;
            self.receive_one_of(|cookie| {
                let at = replies.iter().position(|c| *c == cookie)?;
                replies.remove(at);
                Some(Target::Nothing)
            })?;
        }
    }

    /// Makes every answered write durable.
    pub fn flush(&mut self) -> Result<(), ClientError> {
        self.simple(wire::CMD_FLUSH, 0, 0, 0)
    }

    /// Gives up a range; without extended headers of less than 4 GiB.
    pub fn trim(
        &mut self,
        offset: u64,
        length: u64,
        durability: Durability,
    ) -> Result<(), ClientError> {
        self.simple(wire::CMD_TRIM, fua(durability), offset, length)
    }

    /// Zeroes a range; without extended headers of less than 4 GiB.
    pub fn write_zeroes(
        &mut self,
        offset: u64,
        length: u64,
        hole: Hole,
        durability: Durability,
    ) -> Result<(), ClientError> {
        let flags = match hole {
            Hole::Allowed => 0,
            Hole::Refused => wire::CMD_FLAG_NO_HOLE,
        };
        self.simple(wire::CMD_WRITE_ZEROES, flags | fua(durability), offset, length)
    }

    /// What is allocated in a range, as far as the server answers at once.
    pub fn block_status(&mut self, offset: u64, length: u64) -> Result<Vec<Extent>, ClientError> {
        let mut reports = Vec::new();
        self.ask_status(0, offset, length, &[], &mut reports)?;
        let allocation = self.contexts.iter().find(|(_, name)| name == wire::BASE_ALLOCATION);
        let wanted = allocation.map(|(id, _)| *id);
        let runs = reports.into_iter().find(|(id, _)| Some(*id) == wanted);
        let (_, runs) = runs.ok_or(broken("block status is told in every selected context"))?;
        let extent = |(length, flags)| {
            let hole = u64::from(wire::STATE_HOLE_AND_ZERO);
            let state = if flags & hole == hole { ExtentState::Hole } else { ExtentState::Data };
            Extent { length, state }
        };
        Ok(runs.into_iter().map(extent).collect())
    }

    /// What every selected context says about a range, as far as the server answers at once.
    pub fn status(&mut self, offset: u64, length: u64) -> Result<Vec<ContextStatus>, ClientError> {
        let mut reports = Vec::new();
        self.ask_status(0, offset, length, &[], &mut reports)?;
        self.named(reports)
    }

    /// What some of the selected contexts say about a range. Needs extended headers.
    pub fn status_of(
        &mut self,
        contexts: &[&str],
        offset: u64,
        length: u64,
    ) -> Result<Vec<ContextStatus>, ClientError> {
        let mut payload = Vec::new();
        payload.u64(length);
        for wanted in contexts {
            let known = self.contexts.iter().find(|(_, name)| name == wanted);
            payload.u32(known.map_or(0, |(id, _)| *id));
        }
        let mut reports = Vec::new();
        let bytes = payload.len() as u64;
        let flags = wire::CMD_FLAG_PAYLOAD_LEN;
        self.ask_status(flags, offset, bytes, &payload, &mut reports)?;
        self.named(reports)
    }

    fn ask_status(
        &mut self,
        flags: u16,
        offset: u64,
        length: u64,
        payload: &[u8],
        reports: &mut Vec<(u32, Vec<(u64, u64)>)>,
    ) -> Result<(), ClientError> {
        let cookie = self.send(wire::CMD_BLOCK_STATUS, flags, offset, length, payload)?;
        let mut target = Some(Target::Status(reports));
        self.receive_one_of(|c| if c == cookie { target.take() } else { None })
    }

    fn named(
        &self,
        reports: Vec<(u32, Vec<(u64, u64)>)>,
    ) -> Result<Vec<ContextStatus>, ClientError> {
        let name = |(id, runs)| {
            let known = self.contexts.iter().find(|(known, _)| *known == id);
            let (_, context) = known.ok_or(broken("a block status names a selected context"))?;
            Ok(ContextStatus { context: context.clone(), runs })
        };
        reports.into_iter().map(name).collect()
    }

    /// Tells the server that a range will be read soon.
    pub fn cache(&mut self, offset: u64, length: u64) -> Result<(), ClientError> {
        self.simple(wire::CMD_CACHE, 0, offset, length)
    }

    /// Zeroes a range if that is faster than writing zeroes; fails with 95 (ENOTSUP) if not.
    pub fn fast_zero(&mut self, offset: u64, length: u64) -> Result<(), ClientError> {
        self.simple(wire::CMD_WRITE_ZEROES, wire::CMD_FLAG_FAST_ZERO, offset, length)
    }

    /// Ends the session; the server answers what is in flight and closes.
    pub fn disconnect(mut self) -> Result<(), ClientError> {
        self.send(wire::CMD_DISC, 0, 0, 0, &[])?;
        match self.reader.read(&mut [0])? {
            0 => Ok(()),
            _ => Err(broken("nothing follows a DISC")),
        }
    }

    fn greet(&mut self) -> Result<(), ClientError> {
        let mut greeting = [0; 18];
        self.reader.read_exact(&mut greeting)?;
        let mut fields = Fields(&greeting);
        if fields.u64() != Some(wire::NBDMAGIC) || fields.u64() != Some(wire::IHAVEOPT) {
            return Err(broken("the greeting is newstyle"));
        }
        let both = wire::FLAG_FIXED_NEWSTYLE | wire::FLAG_NO_ZEROES;
        if fields.u16().is_none_or(|flags| flags & both != both) {
            return Err(broken("the server offers fixed newstyle without zeroes"));
        }
        self.writer.write_all(&u32::from(both).to_be_bytes())?;
        Ok(())
    }

    /// Sends an option and gives every reply but the last ACK to `each`.
    fn option(
        &mut self,
        option: u32,
        data: &[u8],
        mut each: impl FnMut(u32, Fields<'_>) -> Result<(), ClientError>,
    ) -> Result<(), ClientError> {
        let mut message = Vec::with_capacity(16 + data.len());
        message.u64(wire::IHAVEOPT);
        message.u32(option);
        message.u32(u32::try_from(data.len()).map_err(|_| broken("an option fits 32 bits"))?);
        message.extend_from_slice(data);
        self.writer.write_all(&message)?;
        loop {
            let mut head = [0; 20];
            self.reader.read_exact(&mut head)?;
            let mut fields = Fields(&head);
            let (magic, about) = (fields.u64(), fields.u32());
            let (Some(code), Some(length)) = (fields.u32(), fields.u32()) else {
                return Err(broken("an option reply has a head of 20 bytes"));
            };
            if magic != Some(wire::OPTION_REPLY_MAGIC) || about != Some(option) {
                return Err(broken("an option is answered before the next"));
            }
            let body = self.message(length)?;
            match code {
                wire::REP_ACK => return Ok(()),
                code if code & 0x8000_0000 != 0 => {
                    return Err(ClientError::Refused { option, code });
                }
                code => each(code, Fields(&body))?,
            }
        }
    }

    fn message(&mut self, length: u32) -> Result<Vec<u8>, ClientError> {
        let length = length as usize;
        if length > MESSAGE_BYTES_MAX {
            return Err(broken("messages are short"));
        }
        let mut body = vec![0; length];
        self.reader.read_exact(&mut body)?;
        Ok(body)
    }

    fn simple(
        &mut self,
        command: u16,
        flags: u16,
        offset: u64,
        length: u64,
    ) -> Result<(), ClientError> {
        let cookie = self.send(command, flags, offset, length, &[])?;
        self.receive_one_of(|c| (c == cookie).then_some(Target::Nothing))
    }

    fn send(
        &mut self,
        command: u16,
        flags: u16,
        offset: u64,
        length: u64,
        payload: &[u8],
    ) -> Result<u64, ClientError> {
        self.cookie += 1;
        let mut head = Vec::with_capacity(wire::EXTENDED_REQUEST_BYTES);
        let extended = self.mode == Mode::Extended;
        head.u32(if extended { wire::EXTENDED_REQUEST_MAGIC } else { wire::REQUEST_MAGIC });
        let payload_flag = match (extended, command) {
            (true, wire::CMD_WRITE) => wire::CMD_FLAG_PAYLOAD_LEN,
            _ => 0,
        };
        head.u16(flags | payload_flag);
        head.u16(command);
        head.u64(self.cookie);
        head.u64(offset);
        if extended {
            head.u64(length);
        } else {
            head.u32(u32::try_from(length).map_err(|_| broken("a request fits 32 bits"))?);
        }
        self.writer.write_all(&head)?;
        self.writer.write_all(payload)?;
        Ok(self.cookie)
    }

    /// Receives one whole reply; `claim` says where the payload of a cookie goes.
    fn receive_one_of<'a>(
        &mut self,
        claim: impl FnOnce(u64) -> Option<Target<'a>>,
    ) -> Result<(), ClientError> {
        let mut magic = [0; 4];
        self.reader.read_exact(&mut magic)?;
        match u32::from_be_bytes(magic) {
            wire::SIMPLE_REPLY_MAGIC if self.mode != Mode::Extended => {
                let mut head = [0; 12];
                self.reader.read_exact(&mut head)?;
                let mut fields = Fields(&head);
                let errno = fields.u32().unwrap_or_default();
                let target = claim(fields.u64().unwrap_or_default());
                match (errno, target) {
                    (_, None) => Err(broken("a reply names a request in flight")),
                    (0, Some(Target::Nothing)) => Ok(()),
                    (0, Some(_)) => Err(broken("replies with payload are structured")),
                    (errno, Some(_)) => Err(ClientError::Request { errno }),
                }
            }
            magic if magic == self.chunk_magic() => self.chunks(claim),
            _ => Err(broken("a reply starts with a known magic")),
        }
    }

    fn chunk_magic(&self) -> u32 {
        match self.mode {
            Mode::Simple | Mode::Structured => wire::STRUCTURED_REPLY_MAGIC,
            Mode::Extended => wire::EXTENDED_REPLY_MAGIC,
        }
    }

    /// The rest of a chunk's header: flags, type, cookie and length.
    fn chunk_head(&mut self) -> Result<(u16, u16, u64, u32), ClientError> {
        let mut head = [0; wire::EXTENDED_CHUNK_BYTES - 4];
        let extended = self.mode == Mode::Extended;
        let head = &mut head[..if extended { 28 } else { 16 }];
        self.reader.read_exact(head)?;
        let mut fields = Fields(head);
        let (flags, kind) = (fields.u16().unwrap_or(0), fields.u16().unwrap_or(0));
        let cookie = fields.u64().unwrap_or(0);
        let length = if extended {
            let _offset = fields.u64();
            fields.u64().and_then(|length| u32::try_from(length).ok())
        } else {
            fields.u32()
        };
        Ok((flags, kind, cookie, length.ok_or(broken("a chunk is shorter than 4 GiB"))?))
    }

    /// Receives the chunks of one reply; the magic of the first is read already.
    fn chunks<'a>(
        &mut self,
        claim: impl FnOnce(u64) -> Option<Target<'a>>,
    ) -> Result<(), ClientError> {
        let mut claim = Some(claim);
        let mut current: Option<(u64, Target<'a>)> = None;
        let mut covered = 0;
        let mut failure = None;
        loop {
            let (flags, kind, cookie, length) = self.chunk_head()?;
            if let Some(claim) = claim.take() {
                current = claim(cookie).map(|target| (cookie, target));
            }
            let Some((_, target)) = current.as_mut().filter(|(c, _)| *c == cookie) else {
                return Err(broken("a reply names a request in flight and is not interleaved"));
            };
            match self.chunk(kind, length, target) {
                Ok(bytes) => covered += bytes,
                Err(ClientError::Request { errno }) => failure = Some(errno),
                Err(error) => return Err(error),
            }
            if flags & wire::CHUNK_FLAG_DONE != 0 {
                return match (failure, target) {
                    (Some(errno), _) => Err(ClientError::Request { errno }),
                    (None, Target::Bytes(_, bytes)) if covered != bytes.len() => {
                        Err(broken("a read is answered in full"))
                    }
                    _ => Ok(()),
                };
            }
            let mut magic = [0; 4];
            self.reader.read_exact(&mut magic)?;
            if u32::from_be_bytes(magic) != self.chunk_magic() {
                return Err(broken("a structured reply ends before the next"));
            }
        }
    }

    /// Receives one chunk; returns how many bytes of a read it covers.
    fn chunk(
        &mut self,
        kind: u16,
        length: u32,
        target: &mut Target<'_>,
    ) -> Result<usize, ClientError> {
        match (kind, target) {
            (wire::CHUNK_NONE, _) if length == 0 => Ok(0),
            (wire::CHUNK_OFFSET_DATA, Target::Bytes(start, bytes)) => {
                let mut at = [0; 8];
                self.reader.read_exact(&mut at)?;
                let size = length.saturating_sub(8).min(PAYLOAD_BYTES_MAX) as usize;
                let place = place(*start, bytes, u64::from_be_bytes(at), size)?;
                self.reader.read_exact(place)?;
                Ok(size)
            }
            (wire::CHUNK_OFFSET_HOLE, Target::Bytes(start, bytes)) if length == 12 => {
                let body = self.message(length)?;
                let mut fields = Fields(&body);
                let at = fields.u64().unwrap_or(u64::MAX);
                let size = fields.u32().unwrap_or(0) as usize;
                place(*start, bytes, at, size)?.fill(0);
                Ok(size)
            }
            (wire::CHUNK_BLOCK_STATUS | wire::CHUNK_BLOCK_STATUS_EXT, Target::Status(reports)) => {
                if (kind == wire::CHUNK_BLOCK_STATUS_EXT) != (self.mode == Mode::Extended) {
                    return Err(broken("block status is as wide as the headers"));
                }
                let body = self.message(length)?;
                reports.push(read_status(kind, &body)?);
                Ok(0)
            }
            (wire::CHUNK_ERROR | wire::CHUNK_ERROR_OFFSET, _) => {
                let body = self.message(length)?;
                let errno = Fields(&body).u32().ok_or(broken("an error chunk has a number"))?;
                Err(ClientError::Request { errno })
            }
            _ => Err(broken("a chunk has a type its request allows")),
        }
    }
}

/// A context's id and its runs.
fn read_status(kind: u16, body: &[u8]) -> Result<(u32, Vec<(u64, u64)>), ClientError> {
    let mut fields = Fields(body);
    let id = fields.u32().ok_or(broken("a block status names its context"))?;
    let mut runs = Vec::new();
    if kind == wire::CHUNK_BLOCK_STATUS_EXT {
        let count = fields.u32().ok_or(broken("a block status counts its runs"))?;
        while let (Some(length), Some(flags)) = (fields.u64(), fields.u64()) {
            runs.push((length, flags));
        }
        if runs.len() != count as usize {
            return Err(broken("a block status counts its runs"));
        }
    } else {
        while let (Some(length), Some(flags)) = (fields.u32(), fields.u32()) {
            runs.push((u64::from(length), u64::from(flags)));
        }
    }
    Ok((id, runs))
}

/// The part of a read's target a chunk is for.
fn place(start: u64, bytes: &mut [u8], at: u64, size: usize) -> Result<&mut [u8], ClientError> {
    let from = at.checked_sub(start).and_then(|from| usize::try_from(from).ok());
    from.and_then(|from| bytes.get_mut(from..from.checked_add(size)?))
        .ok_or(broken("a chunk lies inside its read"))
}

fn fua(durability: Durability) -> u16 {
    match durability {
        Durability::Buffered => 0,
        Durability::Durable => wire::CMD_FLAG_FUA,
    }
}
