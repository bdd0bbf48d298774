//! Fixed newstyle negotiation as a pure state machine: bytes in, bytes out, no socket.
//!
//! A peer on a unix socket negotiates about its one export at once ([`Handshake::plain`]). A peer on
//! TCP can do nothing but ask for TLS ([`Handshake::before_tls`], what NBD calls FORCEDTLS), and
//! negotiates from the beginning once its certificate has said which export is its own
//! ([`Handshake::after_tls`]).

use std::sync::Arc;

use super::wire::{self, Append, Fields};
use super::{
    BLOCK_BYTES_MIN, BLOCK_BYTES_PREFERRED, CONTEXTS_MAX, OPTION_BYTES_MAX, OPTIONS_MAX,
    PAYLOAD_BYTES_MAX,
};
use crate::device::{BlockDevice, Milestone, View};

/// Zero bytes that end an EXPORT_NAME answer unless the client declined them.
const EXPORT_NAME_PADDING: usize = 124;

/// What clients are told about an export.
#[derive(Clone, Debug)]
pub struct ExportInfo {
    /// The name clients ask for; the empty name means the same export.
    pub name: String,
    /// Other names for it.
    pub aliases: Vec<String>,
    /// One line for people.
    pub description: String,
}

/// How requests and replies are framed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// Every reply is one piece.
    #[default]
    Simple,
    /// Replies to reads and block status come in chunks.
    Structured,
    /// Lengths have 64 bits, and every reply comes in chunks.
    Extended,
}

/// A metadata context a client selected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// The server's name for it on this connection.
    pub id: u32,
    /// What it tells.
    pub view: View,
}

/// What both sides agreed on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Negotiated {
    /// Framing.
    pub mode: Mode,
    /// What BLOCK_STATUS tells; none when it may not be asked.
    pub contexts: Vec<Context>,
}

/// Why a handshake ends without transmission.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// An option did not start with IHAVEOPT.
    #[error("the client sent no option where one must be")]
    NotAnOption,
    /// The client wants handshake flags nobody offered.
    #[error("the client set unknown handshake flags {flags:#x}")]
    UnknownFlags {
        /// The flags as sent.
        flags: u32,
    },
    /// EXPORT_NAME cannot be answered with an error, only by closing.
    #[error("the client asked for an export that is not here")]
    UnknownExport,
    /// EXPORT_NAME cannot be answered with an error, only by closing.
    #[error("the client chose an export without TLS")]
    WithoutTls,
    /// EXPORT_NAME cannot be answered with an error, only by closing.
    #[error("the client agreed to extended headers and left by EXPORT_NAME")]
    ExtendedExportName,
    /// More options than [`OPTIONS_MAX`].
    #[error("the client sent too many options")]
    TooManyOptions,
}

/// Where the handshake stands after [`Handshake::advance`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// More input is needed.
    More,
    /// The next byte of input is the first of a transmission request.
    Transmission(Negotiated),
    /// The next byte the client sends is the first of a TLS handshake.
    StartTls,
    /// The client ended the session.
    Aborted,
}

/// The export a handshake is about.
struct Subject {
    info: ExportInfo,
    device: Arc<dyn BlockDevice>,
}

/// Contexts a client selected, and the export name it selected them for.
struct Selection {
    name: String,
    contexts: Vec<Context>,
}

/// The negotiation of one connection.
pub struct Handshake {
    /// `None` until TLS has said who is there.
    subject: Option<Subject>,
    flags_seen: bool,
    padding: usize,
    mode: Mode,
    selection: Option<Selection>,
    /// Bytes of an oversized option still to be skipped.
    skip: usize,
    options: u32,
}

impl Handshake {
    /// A handshake for one export on a connection that is private by itself; sends the greeting.
    pub fn plain(info: ExportInfo, device: Arc<dyn BlockDevice>, output: &mut Vec<u8>) -> Self {
        greet(output);
        Self::new(Some(Subject { info, device }))
    }

    /// A handshake that leads to TLS or nowhere; sends the greeting.
    pub fn before_tls(output: &mut Vec<u8>) -> Self {
        greet(output);
        Self::new(None)
    }

    /// Goes on with an authenticated peer and its export. NBD: everything that was negotiated before
    /// TLS is void, but neither greeting nor flags are repeated.
    #[must_use]
    pub fn after_tls(self, info: ExportInfo, device: Arc<dyn BlockDevice>) -> Self {
        let Self { flags_seen, padding, .. } = self;
        Self { flags_seen, padding, ..Self::new(Some(Subject { info, device })) }
    }

    fn new(subject: Option<Subject>) -> Self {
        Self {
            subject,
            flags_seen: false,
            padding: EXPORT_NAME_PADDING,
            mode: Mode::Simple,
            selection: None,
            skip: 0,
            options: 0,
        }
    }

    /// Consumes as much of `input` as is complete and appends the answers to `output`. Returns how
    /// many bytes were consumed.
    pub fn advance(
        &mut self,
        input: &[u8],
        output: &mut Vec<u8>,
    ) -> Result<(usize, Step), HandshakeError> {
        let mut rest = input;
        loop {
            let before = rest.len();
            let step = self.one(&mut rest, output)?;
            if step != Step::More || rest.len() == before {
                return Ok((input.len() - rest.len(), step));
            }
        }
    }

    /// Consumes one element of the negotiation if all of it is there.
    fn one(&mut self, rest: &mut &[u8], output: &mut Vec<u8>) -> Result<Step, HandshakeError> {
        if self.skip > 0 {
            let skipped = self.skip.min(rest.len());
            self.skip -= skipped;
            *rest = &rest[skipped..];
            return Ok(Step::More);
        }
        let mut fields = Fields(rest);
        if !self.flags_seen {
            let Some(flags) = fields.u32() else { return Ok(Step::More) };
            self.client_flags(flags)?;
            *rest = fields.0;
            return Ok(Step::More);
        }
        let (Some(magic), Some(option), Some(length)) = (fields.u64(), fields.u32(), fields.u32())
        else {
            return Ok(Step::More);
        };
        if magic != wire::IHAVEOPT {
            return Err(HandshakeError::NotAnOption);
        }
        let length = length as usize;
        if length > OPTION_BYTES_MAX {
            self.count_option()?;
            if option == wire::OPT_SET_META_CONTEXT {
                // NBD: it replaces what was selected before, also when it fails.
                self.selection = None;
            }
            self.skip = length;
            *rest = fields.0;
            option_reply(output, option, wire::REP_ERR_TOO_BIG, &[]);
            return Ok(Step::More);
        }
        let Some(data) = fields.bytes(length) else { return Ok(Step::More) };
        self.count_option()?;
        *rest = fields.0;
        self.option(option, data, output)
    }

    fn client_flags(&mut self, flags: u32) -> Result<(), HandshakeError> {
        let known = u32::from(wire::FLAG_FIXED_NEWSTYLE | wire::FLAG_NO_ZEROES);
        if flags & !known != 0 {
            return Err(HandshakeError::UnknownFlags { flags });
        }
        if flags & u32::from(wire::FLAG_NO_ZEROES) != 0 {
            self.padding = 0;
        }
        self.flags_seen = true;
        Ok(())
    }

    fn count_option(&mut self) -> Result<(), HandshakeError> {
        self.options += 1;
        if self.options > OPTIONS_MAX { Err(HandshakeError::TooManyOptions) } else { Ok(()) }
    }

    fn option(
        &mut self,
        option: u32,
        data: &[u8],
        output: &mut Vec<u8>,
    ) -> Result<Step, HandshakeError> {
        match option {
            wire::OPT_EXPORT_NAME => return self.export_name(data, output),
            wire::OPT_ABORT => {
                option_reply(output, option, wire::REP_ACK, &[]);
                return Ok(Step::Aborted);
            }
            wire::OPT_STARTTLS => return Ok(self.start_tls(data, output)),
            _ if self.subject.is_none() => {
                option_reply(output, option, wire::REP_ERR_TLS_REQD, &[]);
            }
            wire::OPT_LIST => self.list(data, output),
            wire::OPT_INFO => {
                self.info(option, data, output);
            }
            wire::OPT_GO => {
                if let Some(negotiated) = self.info(option, data, output) {
                    return Ok(Step::Transmission(negotiated));
                }
            }
            wire::OPT_STRUCTURED_REPLY => self.frame(option, Mode::Structured, data, output),
            wire::OPT_EXTENDED_HEADERS => self.frame(option, Mode::Extended, data, output),
            wire::OPT_LIST_META_CONTEXT => self.list_contexts(data, output),
            wire::OPT_SET_META_CONTEXT => self.set_contexts(data, output),
            _ => option_reply(output, option, wire::REP_ERR_UNSUP, &[]),
        }
        Ok(Step::More)
    }

    /// Agrees to TLS where it is the only way on. On a unix socket there is nothing to protect, and
    /// a peer that has TLS does not get it twice.
    fn start_tls(&self, data: &[u8], output: &mut Vec<u8>) -> Step {
        let (reply, step) = match &self.subject {
            None if !data.is_empty() => (wire::REP_ERR_INVALID, Step::More),
            None => (wire::REP_ACK, Step::StartTls),
            Some(_) => (wire::REP_ERR_UNSUP, Step::More),
        };
        option_reply(output, wire::OPT_STARTTLS, reply, &[]);
        step
    }

    /// Changes the framing, which can only become richer.
    fn frame(&mut self, option: u32, mode: Mode, data: &[u8], output: &mut Vec<u8>) {
        let reply = match (self.mode, mode) {
            _ if !data.is_empty() => wire::REP_ERR_INVALID,
            (Mode::Extended, Mode::Structured) => wire::REP_ERR_EXT_HEADER_REQD,
            (now, wanted) if now == wanted => wire::REP_ERR_INVALID,
            _ => {
                self.mode = mode;
                wire::REP_ACK
            }
        };
        option_reply(output, option, reply, &[]);
    }

    /// The export, when it has this name.
    fn named(&self, name: &str) -> Option<&Subject> {
        self.subject.as_ref().filter(|Subject { info, .. }| {
            name.is_empty() || name == info.name || info.aliases.iter().any(|alias| alias == name)
        })
    }

    fn negotiated(&self, name: &str) -> Negotiated {
        // NBD, SET_META_CONTEXT: contexts count only for the export name they were selected for.
        let selected = self.selection.as_ref().filter(|selection| selection.name == name);
        let contexts = selected.map_or_else(Vec::new, |selection| selection.contexts.clone());
        Negotiated { mode: self.mode, contexts }
    }

    fn transmission_flags(&self) -> u16 {
        // One engine serves all connections of a volume, so a flush on one covers the writes
        // answered on all: exactly what MULTI_CONN promises.
        let flags = wire::TRANSMIT_HAS_FLAGS
            | wire::TRANSMIT_FLUSH
            | wire::TRANSMIT_FUA
            | wire::TRANSMIT_TRIM
            | wire::TRANSMIT_WRITE_ZEROES
            | wire::TRANSMIT_FAST_ZERO
            | wire::TRANSMIT_CACHE
            | wire::TRANSMIT_MULTI_CONN;
        match self.mode {
            Mode::Simple => flags,
            Mode::Structured => flags | wire::TRANSMIT_DF,
            Mode::Extended => flags | wire::TRANSMIT_DF | wire::TRANSMIT_BLOCK_STATUS_PAYLOAD,
        }
    }

    fn export_name(&self, data: &[u8], output: &mut Vec<u8>) -> Result<Step, HandshakeError> {
        if self.subject.is_none() {
            return Err(HandshakeError::WithoutTls);
        }
        let name = std::str::from_utf8(data).map_err(|_| HandshakeError::UnknownExport)?;
        let subject = self.named(name).ok_or(HandshakeError::UnknownExport)?;
        // NBD: a client with extended headers must use GO.
        if self.mode == Mode::Extended {
            return Err(HandshakeError::ExtendedExportName);
        }
        output.u64(subject.device.size());
        output.u16(self.transmission_flags());
        output.resize(output.len() + self.padding, 0);
        Ok(Step::Transmission(self.negotiated(name)))
    }

    fn list(&self, data: &[u8], output: &mut Vec<u8>) {
        if !data.is_empty() {
            return option_reply(output, wire::OPT_LIST, wire::REP_ERR_INVALID, &[]);
        }
        if let Some(Subject { info, .. }) = &self.subject {
            let mut server = Vec::new();
            server.string(&info.name);
            server.extend_from_slice(info.description.as_bytes());
            option_reply(output, wire::OPT_LIST, wire::REP_SERVER, &server);
        }
        option_reply(output, wire::OPT_LIST, wire::REP_ACK, &[]);
    }

    /// Answers INFO or GO; `Some` when the export is here.
    fn info(&self, option: u32, data: &[u8], output: &mut Vec<u8>) -> Option<Negotiated> {
        let Some((name, wanted)) = parse_info(data) else {
            option_reply(output, option, wire::REP_ERR_INVALID, &[]);
            return None;
        };
        let Some(Subject { info, device }) = self.named(name) else {
            option_reply(output, option, wire::REP_ERR_UNKNOWN, &[]);
            return None;
        };
        let mut reply = |kind: u16, body: &[u8]| {
            let mut info = Vec::with_capacity(2 + body.len());
            info.u16(kind);
            info.extend_from_slice(body);
            option_reply(output, option, wire::REP_INFO, &info);
        };
        let mut export = Vec::new();
        export.u64(device.size());
        export.u16(self.transmission_flags());
        reply(wire::INFO_EXPORT, &export);
        let mut sizes = Vec::new();
        sizes.u32(BLOCK_BYTES_MIN);
        sizes.u32(BLOCK_BYTES_PREFERRED);
        sizes.u32(PAYLOAD_BYTES_MAX);
        reply(wire::INFO_BLOCK_SIZE, &sizes);
        if wanted.contains(&wire::INFO_NAME) {
            reply(wire::INFO_NAME, info.name.as_bytes());
        }
        if wanted.contains(&wire::INFO_DESCRIPTION) {
            reply(wire::INFO_DESCRIPTION, info.description.as_bytes());
        }
        option_reply(output, option, wire::REP_ACK, &[]);
        Some(self.negotiated(name))
    }

    fn list_contexts(&self, data: &[u8], output: &mut Vec<u8>) {
        let option = wire::OPT_LIST_META_CONTEXT;
        let Some((name, queries)) = parse_meta_context(data) else {
            return option_reply(output, option, wire::REP_ERR_INVALID, &[]);
        };
        let Some(subject) = self.named(name) else {
            return option_reply(output, option, wire::REP_ERR_UNKNOWN, &[]);
        };
        // NBD: no query asks for everything. A namespace, and for QEMU also the part of it that
        // is for bitmaps, asks for all in it.
        let listed = |context: &str| {
            queries.is_empty()
                || queries.iter().any(|query| {
                    let wildcard = matches!(*query, "base:" | "qemu:" | wire::DIRTY_BITMAP);
                    *query == context || (wildcard && context.starts_with(query))
                })
        };
        for (name, _) in subject.contexts(&queries).filter(|(name, _)| listed(name)) {
            // NBD: the id has no meaning in a list.
            context_reply(output, option, 0, &name);
        }
        option_reply(output, option, wire::REP_ACK, &[]);
    }

    fn set_contexts(&mut self, data: &[u8], output: &mut Vec<u8>) {
        let option = wire::OPT_SET_META_CONTEXT;
        self.selection = None;
        // NBD: SET_META_CONTEXT without structured replies is an error.
        let parsed = parse_meta_context(data).filter(|_| self.mode != Mode::Simple);
        let Some((name, queries)) = parsed else {
            return option_reply(output, option, wire::REP_ERR_INVALID, &[]);
        };
        let Some(subject) = self.named(name) else {
            return option_reply(output, option, wire::REP_ERR_UNKNOWN, &[]);
        };
        let mut contexts = Vec::new();
        for (id, (context, view)) in (1..).zip(subject.contexts(&queries)) {
            // Wildcards are for lists: what a client did not name it could not tell apart.
            if queries.contains(&context.as_str()) {
                context_reply(output, option, id, &context);
                contexts.push(Context { id, view });
            }
        }
        if !contexts.is_empty() {
            self.selection = Some(Selection { name: name.to_owned(), contexts });
        }
        option_reply(output, option, wire::REP_ACK, &[]);
    }
}

impl Subject {
    /// The names and meanings of all contexts. Milestones are looked for only where a query, or
    /// there being none, asks for them.
    fn contexts(&self, queries: &[&str]) -> impl Iterator<Item = (String, View)> {
        let wanted = queries.is_empty() || queries.iter().any(|query| query.starts_with("qemu:"));
        let milestones = if wanted { self.device.milestones() } else { Vec::new() };
        let changes = milestones.into_iter().map(|Milestone { snapshot, generation }| {
            (format!("{}{snapshot}", wire::DIRTY_BITMAP), View::ChangedSince(generation))
        });
        let allocation = (wire::BASE_ALLOCATION.to_owned(), View::Allocation);
        std::iter::once(allocation).chain(changes).take(CONTEXTS_MAX)
    }
}

fn greet(output: &mut Vec<u8>) {
    output.u64(wire::NBDMAGIC);
    output.u64(wire::IHAVEOPT);
    output.u16(wire::FLAG_FIXED_NEWSTYLE | wire::FLAG_NO_ZEROES);
}

fn context_reply(output: &mut Vec<u8>, option: u32, id: u32, name: &str) {
    let mut context = Vec::new();
    context.u32(id);
    context.extend_from_slice(name.as_bytes());
    option_reply(output, option, wire::REP_META_CONTEXT, &context);
}

/// `None` when the payload is not exactly a name and a list of wanted information types.
fn parse_info(data: &[u8]) -> Option<(&str, Vec<u16>)> {
    let mut fields = Fields(data);
    let name = fields.string()?;
    let count = fields.u16()?;
    if fields.0.len() != usize::from(count) * 2 {
        return None;
    }
    let wanted = (0..count).map_while(|_| fields.u16()).collect();
    Some((name, wanted))
}

/// `None` when the payload is not exactly a name and a list of queries.
fn parse_meta_context(data: &[u8]) -> Option<(&str, Vec<&str>)> {
    let mut fields = Fields(data);
    let name = fields.string()?;
    let count = fields.u32()?;
    // The payload is bounded, so is the list: every query takes at least its length field.
    if count as usize > fields.0.len() / 4 {
        return None;
    }
    let queries = (0..count).map(|_| fields.string()).collect::<Option<Vec<_>>>()?;
    fields.0.is_empty().then_some((name, queries))
}

fn option_reply(output: &mut Vec<u8>, option: u32, kind: u32, data: &[u8]) {
    output.u64(wire::OPTION_REPLY_MAGIC);
    output.u32(option);
    output.u32(kind);
    output.u32(u32::try_from(data.len()).expect("option replies are short"));
    output.extend_from_slice(data);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A device that does nothing.
    struct Idle;

    impl BlockDevice for Idle {
        fn size(&self) -> u64 {
            1 << 30
        }

        fn milestones(&self) -> Vec<Milestone> {
            ["snap-1", "snap-2"]
                .into_iter()
                .zip([3, 5])
                .map(|(snapshot, generation)| Milestone {
                    snapshot: snapshot.to_owned(),
                    generation,
                })
                .collect()
        }

        fn submit(&self, _batch: Vec<crate::device::Request>) {}
    }

    fn info() -> ExportInfo {
        let aliases = vec!["vol-1".to_owned()];
        ExportInfo { name: "sdf".into(), aliases, description: "a volume".into() }
    }

    fn start() -> (Handshake, Vec<u8>) {
        let mut output = Vec::new();
        let handshake = Handshake::plain(info(), Arc::new(Idle), &mut output);
        assert_eq!(output.len(), 18);
        output.clear();
        (handshake, output)
    }

    fn option(kind: u32, data: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.u64(wire::IHAVEOPT);
        bytes.u32(kind);
        bytes.string(std::str::from_utf8(data).unwrap_or(""));
        if std::str::from_utf8(data).is_err() {
            bytes.truncate(12);
            bytes.u32(data.len() as u32);
            bytes.extend_from_slice(data);
        }
        bytes
    }

    fn go(name: &str) -> Vec<u8> {
        let mut data = Vec::new();
        data.string(name);
        data.u16(0);
        option(wire::OPT_GO, &data)
    }

    fn context(kind: u32, name: &str, queries: &[&str]) -> Vec<u8> {
        let mut data = Vec::new();
        data.string(name);
        data.u32(queries.len() as u32);
        queries.iter().for_each(|query| data.string(query));
        option(kind, &data)
    }

    fn set_context(name: &str, queries: &[&str]) -> Vec<u8> {
        context(wire::OPT_SET_META_CONTEXT, name, queries)
    }

    /// Kinds of all option replies in `output`.
    fn kinds(mut output: &[u8]) -> Vec<u32> {
        let mut kinds = Vec::new();
        while !output.is_empty() {
            let mut fields = Fields(output);
            assert_eq!(fields.u64(), Some(wire::OPTION_REPLY_MAGIC));
            fields.u32().unwrap();
            kinds.push(fields.u32().unwrap());
            let length = fields.u32().unwrap() as usize;
            fields.bytes(length).unwrap();
            output = fields.0;
        }
        kinds
    }

    fn run(messages: &[Vec<u8>]) -> (Result<Step, HandshakeError>, Vec<u32>) {
        let (handshake, output) = start();
        let (_, step, output) = go_on(handshake, output, &with_flags(messages));
        (step, kinds(&output))
    }

    fn with_flags(messages: &[Vec<u8>]) -> Vec<u8> {
        let mut input = 3u32.to_be_bytes().to_vec();
        messages.iter().for_each(|message| input.extend_from_slice(message));
        input
    }

    /// One byte at a time: every split of the input must give the same answers.
    fn go_on(
        mut handshake: Handshake,
        mut output: Vec<u8>,
        input: &[u8],
    ) -> (Handshake, Result<Step, HandshakeError>, Vec<u8>) {
        let mut step = Ok(Step::More);
        let mut pending = Vec::new();
        for byte in input {
            pending.push(*byte);
            match handshake.advance(&pending, &mut output) {
                Ok((consumed, next)) => {
                    pending.drain(..consumed);
                    step = Ok(next);
                }
                Err(error) => {
                    step = Err(error);
                    break;
                }
            }
        }
        (handshake, step, output)
    }

    #[test]
    fn go_starts_transmission() {
        let plain = Negotiated::default();
        for name in ["", "sdf", "vol-1"] {
            let (step, kinds) = run(&[go(name)]);
            assert_eq!(step, Ok(Step::Transmission(plain.clone())));
            assert_eq!(kinds, [wire::REP_INFO, wire::REP_INFO, wire::REP_ACK]);
        }
        let (step, kinds) = run(&[go("other"), go("sdf")]);
        assert_eq!(step, Ok(Step::Transmission(plain)));
        assert_eq!(kinds[0], wire::REP_ERR_UNKNOWN);
    }

    fn structured() -> Vec<u8> {
        option(wire::OPT_STRUCTURED_REPLY, b"")
    }

    fn extended() -> Vec<u8> {
        option(wire::OPT_EXTENDED_HEADERS, b"")
    }

    #[test]
    fn contexts_need_structured_replies_and_the_same_name() {
        let check = |messages: &[Vec<u8>], ids: &[u32]| {
            let (step, _) = run(messages);
            let Ok(Step::Transmission(negotiated)) = step else { panic!("{step:?}") };
            let selected: Vec<u32> = negotiated.contexts.iter().map(|c| c.id).collect();
            assert_eq!(selected, ids, "{messages:?}");
        };
        let allocation = &["base:allocation"][..];
        check(&[structured(), set_context("", allocation), go("")], &[1]);
        check(&[extended(), set_context("", allocation), go("")], &[1]);
        check(&[structured(), set_context("", allocation), go("sdf")], &[]);
        check(&[structured(), set_context("", &["qemu:dirty-bitmap:x"]), go("")], &[]);
        check(&[set_context("", allocation), structured(), go("")], &[]);
        let forgotten =
            [structured(), set_context("", allocation), set_context("", &["x:y"]), go("")];
        check(&forgotten, &[]);
        let oversized = option(wire::OPT_SET_META_CONTEXT, &vec![b'x'; OPTION_BYTES_MAX + 1]);
        check(&[structured(), set_context("", allocation), oversized, go("")], &[]);
        let oversized = option(wire::OPT_LIST_META_CONTEXT, &vec![b'x'; OPTION_BYTES_MAX + 1]);
        check(&[structured(), set_context("", allocation), oversized, go("")], &[1]);
        let changes = &["qemu:dirty-bitmap:snap-2", "base:allocation"][..];
        check(&[structured(), set_context("", changes), go("")], &[1, 3]);
        // A wildcard selects nothing.
        let wild = &["base:", "qemu:", "qemu:dirty-bitmap:"][..];
        check(&[structured(), set_context("", wild), go("")], &[]);
        let (step, _) = run(&[structured(), set_context("", changes), go("")]);
        let views = [(1, View::Allocation), (3, View::ChangedSince(5))];
        let contexts = views.map(|(id, view)| Context { id, view }).to_vec();
        let expected = Negotiated { mode: Mode::Structured, contexts };
        assert_eq!(step, Ok(Step::Transmission(expected)));
    }

    #[test]
    fn contexts_are_listed_once_each() {
        let check = |queries: &[&str], names: &[&str]| {
            let (handshake, output) = start();
            let message = context(wire::OPT_LIST_META_CONTEXT, "", queries);
            let (_, _, output) = go_on(handshake, output, &with_flags(&[message]));
            let text = String::from_utf8_lossy(&output).into_owned();
            let listed = kinds(&output).iter().filter(|k| **k == wire::REP_META_CONTEXT).count();
            assert_eq!(listed, names.len(), "{queries:?}");
            assert!(names.iter().all(|name| text.contains(name)), "{queries:?}");
        };
        let (one, two) = ("qemu:dirty-bitmap:snap-1", "qemu:dirty-bitmap:snap-2");
        check(&[], &["base:allocation", one, two]);
        check(&["base:"], &["base:allocation"]);
        check(&["qemu:"], &[one, two]);
        check(&["qemu:dirty-bitmap:", "qemu:", two], &[one, two]);
        check(&[two, two], &[two]);
        check(&["qemu:allocation-depth", "x:", "", "qemu:dirty"], &[]);
    }

    #[test]
    fn framing_grows_richer_only() {
        let check = |messages: &[Vec<u8>], replies: &[u32]| {
            assert_eq!(run(messages).1, replies, "{messages:?}");
        };
        let (ack, invalid) = (wire::REP_ACK, wire::REP_ERR_INVALID);
        check(&[structured(), extended()], &[ack, ack]);
        check(&[extended(), structured()], &[ack, wire::REP_ERR_EXT_HEADER_REQD]);
        check(&[structured(), structured()], &[ack, invalid]);
        check(&[extended(), extended()], &[ack, invalid]);
        check(&[option(wire::OPT_EXTENDED_HEADERS, b"x")], &[invalid]);
        let (step, _) = run(&[structured(), extended(), go("")]);
        let expected = Negotiated { mode: Mode::Extended, contexts: vec![] };
        assert_eq!(step, Ok(Step::Transmission(expected)));
        let left = run(&[extended(), option(wire::OPT_EXPORT_NAME, b"sdf")]).0;
        assert_eq!(left, Err(HandshakeError::ExtendedExportName));
    }

    #[test]
    fn without_tls_nothing_but_tls_is_answered() {
        let plain = || {
            let mut output = Vec::new();
            let handshake = Handshake::before_tls(&mut output);
            assert_eq!(output.len(), 18);
            (handshake, Vec::new())
        };
        let list_contexts = context(wire::OPT_LIST_META_CONTEXT, "", &[]);
        for message in [option(3, b""), go(""), structured(), extended(), list_contexts] {
            let (handshake, output) = plain();
            let (_, step, output) = go_on(handshake, output, &with_flags(&[message]));
            assert_eq!((step, kinds(&output)), (Ok(Step::More), vec![wire::REP_ERR_TLS_REQD]));
        }
        let (handshake, output) = plain();
        let name = with_flags(&[option(wire::OPT_EXPORT_NAME, b"sdf")]);
        let (_, step, output) = go_on(handshake, output, &name);
        assert_eq!((step, output.len()), (Err(HandshakeError::WithoutTls), 0));

        let (handshake, output) = plain();
        let begin = with_flags(&[structured(), option(wire::OPT_STARTTLS, b"")]);
        let (handshake, step, output) = go_on(handshake, output, &begin);
        assert_eq!(step, Ok(Step::StartTls));
        assert_eq!(kinds(&output), [wire::REP_ERR_TLS_REQD, wire::REP_ACK]);
        // What follows is a new negotiation without a greeting.
        let secured = handshake.after_tls(info(), Arc::new(Idle));
        let again = [option(wire::OPT_STARTTLS, b""), go("vol-1")].concat();
        let (_, step, output) = go_on(secured, Vec::new(), &again);
        assert_eq!(step, Ok(Step::Transmission(Negotiated::default())));
        assert_eq!(kinds(&output)[0], wire::REP_ERR_UNSUP);
    }

    #[test]
    fn refusals_are_named() {
        let check = |message: Vec<u8>, kind: u32| {
            let (step, kinds) = run(&[message]);
            assert_eq!((step, kinds.as_slice()), (Ok(Step::More), &[kind][..]));
        };
        check(option(wire::OPT_STARTTLS, b""), wire::REP_ERR_UNSUP);
        check(option(12, b""), wire::REP_ERR_UNSUP);
        check(option(0xffff_ffff, b"whatever"), wire::REP_ERR_UNSUP);
        check(option(wire::OPT_LIST, b"x"), wire::REP_ERR_INVALID);
        check(option(wire::OPT_STRUCTURED_REPLY, b"x"), wire::REP_ERR_INVALID);
        check(option(wire::OPT_GO, b"x"), wire::REP_ERR_INVALID);
        check(option(wire::OPT_INFO, &[0, 0, 0, 0, 0, 9]), wire::REP_ERR_INVALID);
        check(option(wire::OPT_LIST_META_CONTEXT, &[0xff; 64]), wire::REP_ERR_INVALID);
        check(option(wire::OPT_INFO, &[0; OPTION_BYTES_MAX + 1]), wire::REP_ERR_TOO_BIG);
        assert_eq!(run(&[vec![0; 16]]).0, Err(HandshakeError::NotAnOption));
        assert_eq!(run(&[option(1, b"nope")]).0, Err(HandshakeError::UnknownExport));
        assert_eq!(run(&[option(wire::OPT_ABORT, b"")]).0, Ok(Step::Aborted));
        let flood = vec![option(wire::OPT_LIST, b""); OPTIONS_MAX as usize + 1];
        assert_eq!(run(&flood).0, Err(HandshakeError::TooManyOptions));
    }

    #[test]
    fn an_oversized_option_is_skipped() {
        let huge = option(wire::OPT_INFO, &vec![b'x'; OPTION_BYTES_MAX + 100]);
        let (step, kinds) = run(&[huge, go("")]);
        assert_eq!(step, Ok(Step::Transmission(Negotiated::default())));
        assert_eq!(kinds[0], wire::REP_ERR_TOO_BIG);
    }
}
