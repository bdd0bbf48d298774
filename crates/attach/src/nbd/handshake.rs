//! Fixed newstyle negotiation as a pure state machine: bytes in, bytes out, no socket.

use super::wire::{self, Append, Fields};
use super::{
    BLOCK_BYTES_MIN, BLOCK_BYTES_PREFERRED, OPTION_BYTES_MAX, OPTIONS_MAX, PAYLOAD_BYTES_MAX,
};

/// Zero bytes that end an EXPORT_NAME answer unless the client declined them.
const EXPORT_NAME_PADDING: usize = 124;

/// What clients are told about an export.
#[derive(Clone, Debug)]
pub struct ExportInfo {
    /// The name clients ask for; the empty name means the same export.
    pub name: String,
    /// One line for people.
    pub description: String,
    /// Bytes.
    pub size: u64,
}

/// What both sides agreed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Negotiated {
    /// Replies to reads are structured.
    pub structured: bool,
    /// BLOCK_STATUS with `base:allocation` may be asked.
    pub allocation: bool,
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
    /// More options than [`OPTIONS_MAX`].
    #[error("the client sent too many options")]
    TooManyOptions,
}

/// Where the handshake stands after [`Handshake::advance`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// More input is needed.
    More,
    /// The next byte of input is the first of a transmission request.
    Transmission(Negotiated),
    /// The client ended the session.
    Aborted,
}

/// The negotiation of one connection.
#[derive(Debug)]
pub struct Handshake {
    export: ExportInfo,
    flags_seen: bool,
    padding: usize,
    structured: bool,
    /// The export name `base:allocation` was selected for.
    allocation_for: Option<String>,
    /// Bytes of an oversized option still to be skipped.
    skip: usize,
    options: u32,
}

impl Handshake {
    /// A handshake for one export; sends the greeting.
    pub fn start(export: ExportInfo, output: &mut Vec<u8>) -> Self {
        output.u64(wire::NBDMAGIC);
        output.u64(wire::IHAVEOPT);
        output.u16(wire::FLAG_FIXED_NEWSTYLE | wire::FLAG_NO_ZEROES);
        Self {
            export,
            flags_seen: false,
            padding: EXPORT_NAME_PADDING,
            structured: false,
            allocation_for: None,
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
            wire::OPT_LIST => self.list(data, output),
            wire::OPT_INFO => {
                self.info(option, data, output);
            }
            wire::OPT_GO => {
                if let Some(negotiated) = self.info(option, data, output) {
                    return Ok(Step::Transmission(negotiated));
                }
            }
            wire::OPT_STRUCTURED_REPLY if data.is_empty() => {
                self.structured = true;
                option_reply(output, option, wire::REP_ACK, &[]);
            }
            wire::OPT_STRUCTURED_REPLY => option_reply(output, option, wire::REP_ERR_INVALID, &[]),
            wire::OPT_LIST_META_CONTEXT | wire::OPT_SET_META_CONTEXT => {
                self.meta_context(option, data, output);
            }
            _ => option_reply(output, option, wire::REP_ERR_UNSUP, &[]),
        }
        Ok(Step::More)
    }

    fn is_here(&self, name: &str) -> bool {
        name.is_empty() || name == self.export.name
    }

    fn negotiated(&self, name: &str) -> Negotiated {
        // NBD, SET_META_CONTEXT: contexts count only for the export name they were selected for.
        let allocation = self.structured && self.allocation_for.as_deref() == Some(name);
        Negotiated { structured: self.structured, allocation }
    }

    fn transmission_flags(&self) -> u16 {
        // One engine serves all connections of a volume, so a flush on one covers the writes
        // answered on all: exactly what MULTI_CONN promises.
        let flags = wire::TRANSMIT_HAS_FLAGS
            | wire::TRANSMIT_FLUSH
            | wire::TRANSMIT_FUA
            | wire::TRANSMIT_TRIM
            | wire::TRANSMIT_WRITE_ZEROES
            | wire::TRANSMIT_MULTI_CONN;
        if self.structured { flags | wire::TRANSMIT_DF } else { flags }
    }

    fn export_name(&self, data: &[u8], output: &mut Vec<u8>) -> Result<Step, HandshakeError> {
        let name = std::str::from_utf8(data).map_err(|_| HandshakeError::UnknownExport)?;
        if !self.is_here(name) {
            return Err(HandshakeError::UnknownExport);
        }
        output.u64(self.export.size);
        output.u16(self.transmission_flags());
        output.resize(output.len() + self.padding, 0);
        Ok(Step::Transmission(self.negotiated(name)))
    }

    fn list(&self, data: &[u8], output: &mut Vec<u8>) {
        if !data.is_empty() {
            return option_reply(output, wire::OPT_LIST, wire::REP_ERR_INVALID, &[]);
        }
        let mut server = Vec::new();
        server.string(&self.export.name);
        server.extend_from_slice(self.export.description.as_bytes());
        option_reply(output, wire::OPT_LIST, wire::REP_SERVER, &server);
        option_reply(output, wire::OPT_LIST, wire::REP_ACK, &[]);
    }

    /// Answers INFO or GO; `Some` when the export is here.
    fn info(&self, option: u32, data: &[u8], output: &mut Vec<u8>) -> Option<Negotiated> {
        let Some((name, wanted)) = parse_info(data) else {
            option_reply(output, option, wire::REP_ERR_INVALID, &[]);
            return None;
        };
        if !self.is_here(name) {
            option_reply(output, option, wire::REP_ERR_UNKNOWN, &[]);
            return None;
        }
        let mut reply = |kind: u16, body: &[u8]| {
            let mut info = Vec::with_capacity(2 + body.len());
            info.u16(kind);
            info.extend_from_slice(body);
            option_reply(output, option, wire::REP_INFO, &info);
        };
        let mut export = Vec::new();
        export.u64(self.export.size);
        export.u16(self.transmission_flags());
        reply(wire::INFO_EXPORT, &export);
        let mut sizes = Vec::new();
        sizes.u32(BLOCK_BYTES_MIN);
        sizes.u32(BLOCK_BYTES_PREFERRED);
        sizes.u32(PAYLOAD_BYTES_MAX);
        reply(wire::INFO_BLOCK_SIZE, &sizes);
        if wanted.contains(&wire::INFO_NAME) {
            reply(wire::INFO_NAME, self.export.name.as_bytes());
        }
        if wanted.contains(&wire::INFO_DESCRIPTION) {
            reply(wire::INFO_DESCRIPTION, self.export.description.as_bytes());
        }
        option_reply(output, option, wire::REP_ACK, &[]);
        Some(self.negotiated(name))
    }

    fn meta_context(&mut self, option: u32, data: &[u8], output: &mut Vec<u8>) {
        let select = option == wire::OPT_SET_META_CONTEXT;
        if select {
            self.allocation_for = None;
        }
        let Some((name, queries)) = parse_meta_context(data) else {
            return option_reply(output, option, wire::REP_ERR_INVALID, &[]);
        };
        // NBD: SET_META_CONTEXT without structured replies is an error.
        if select && !self.structured {
            return option_reply(output, option, wire::REP_ERR_INVALID, &[]);
        }
        if !self.is_here(name) {
            return option_reply(output, option, wire::REP_ERR_UNKNOWN, &[]);
        }
        let named = queries.contains(&wire::BASE_ALLOCATION);
        let listed = queries.is_empty() || queries.contains(&"base:");
        if named || (!select && listed) {
            let mut context = Vec::new();
            context.u32(if select { wire::BASE_ALLOCATION_ID } else { 0 });
            context.extend_from_slice(wire::BASE_ALLOCATION.as_bytes());
            option_reply(output, option, wire::REP_META_CONTEXT, &context);
            if select {
                self.allocation_for = Some(name.to_owned());
            }
        }
        option_reply(output, option, wire::REP_ACK, &[]);
    }
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

    fn start() -> (Handshake, Vec<u8>) {
        let mut output = Vec::new();
        let export =
            ExportInfo { name: "sdf".into(), description: "a volume".into(), size: 1 << 30 };
        let handshake = Handshake::start(export, &mut output);
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

    fn set_context(name: &str, query: &str) -> Vec<u8> {
        let mut data = Vec::new();
        data.string(name);
        data.u32(1);
        data.string(query);
        option(wire::OPT_SET_META_CONTEXT, &data)
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
        let (mut handshake, mut output) = start();
        let mut input = 3u32.to_be_bytes().to_vec();
        messages.iter().for_each(|m| input.extend_from_slice(m));
        let mut step = Ok(Step::More);
        // One byte at a time: every split of the input must give the same answers.
        let mut pending = Vec::new();
        for byte in input {
            pending.push(byte);
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
        (step, kinds(&output))
    }

    #[test]
    fn go_starts_transmission() {
        let plain = Negotiated::default();
        for name in ["", "sdf"] {
            let (step, kinds) = run(&[go(name)]);
            assert_eq!(step, Ok(Step::Transmission(plain)));
            assert_eq!(kinds, [wire::REP_INFO, wire::REP_INFO, wire::REP_ACK]);
        }
        let (step, kinds) = run(&[go("other"), go("sdf")]);
        assert_eq!(step, Ok(Step::Transmission(plain)));
        assert_eq!(kinds[0], wire::REP_ERR_UNKNOWN);
    }

    #[test]
    fn contexts_need_structured_replies_and_the_same_name() {
        let structured = option(wire::OPT_STRUCTURED_REPLY, b"");
        let check = |messages: &[Vec<u8>], allocation: bool| {
            let (step, _) = run(messages);
            let Ok(Step::Transmission(negotiated)) = step else { panic!("{step:?}") };
            assert_eq!(negotiated.allocation, allocation, "{messages:?}");
        };
        check(&[structured.clone(), set_context("", "base:allocation"), go("")], true);
        check(&[structured.clone(), set_context("", "base:allocation"), go("sdf")], false);
        check(&[structured.clone(), set_context("", "qemu:dirty-bitmap:x"), go("")], false);
        check(&[set_context("", "base:allocation"), structured.clone(), go("")], false);
        let forgotten =
            [structured, set_context("", "base:allocation"), set_context("", "x:y"), go("")];
        check(&forgotten, false);
    }

    #[test]
    fn refusals_are_named() {
        let check = |message: Vec<u8>, kind: u32| {
            let (step, kinds) = run(&[message]);
            assert_eq!((step, kinds.as_slice()), (Ok(Step::More), &[kind][..]));
        };
        check(option(5, b""), wire::REP_ERR_UNSUP);
        check(option(11, b""), wire::REP_ERR_UNSUP);
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
