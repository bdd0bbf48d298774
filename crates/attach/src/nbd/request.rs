//! Transmission requests: parsing and the checks that need no device.

use super::handshake::{Context, Mode, Negotiated};
use super::wire::{self, Fields};
use super::{BLOCK_BYTES_PREFERRED, BYTES_IN_FLIGHT_MAX, PAYLOAD_BYTES_MAX};
use crate::device::{DeviceError, Durability, Hole};

const _: () = assert!(PAYLOAD_BYTES_MAX as usize <= BYTES_IN_FLIGHT_MAX);

/// The fixed part of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Command flags.
    pub flags: u16,
    /// Command.
    pub command: u16,
    /// The client's name for the request, echoed in the reply.
    pub cookie: u64,
    /// First byte.
    pub offset: u64,
    /// Number of bytes: of the payload that follows if there is one, else of the effect.
    pub length: u64,
    /// Bytes of payload that follow.
    pub payload: usize,
}

/// Why the stream cannot be followed any further.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The bytes where a request must be are something else.
    #[error("the client sent no request where one must be")]
    NotARequest,
    /// A payload larger than the advertised maximum; it will not be read.
    #[error("the client sends a payload of {length} bytes")]
    PayloadTooLarge {
        /// Bytes announced.
        length: u64,
    },
}

impl Header {
    /// Bytes of a header.
    pub fn bytes(mode: Mode) -> usize {
        match mode {
            Mode::Simple | Mode::Structured => wire::REQUEST_BYTES,
            Mode::Extended => wire::EXTENDED_REQUEST_BYTES,
        }
    }

    /// Reads a header from the front of `input`; `None` until all of it is there.
    pub fn parse(input: &[u8], mode: Mode) -> Result<Option<Self>, Malformed> {
        let mut fields = Fields(input);
        let Some(magic) = fields.u32() else { return Ok(None) };
        let expected = match mode {
            Mode::Simple | Mode::Structured => wire::REQUEST_MAGIC,
            Mode::Extended => wire::EXTENDED_REQUEST_MAGIC,
        };
        if magic != expected {
            return Err(Malformed::NotARequest);
        }
        let header = (|| {
            Some(Self {
                flags: fields.u16()?,
                command: fields.u16()?,
                cookie: fields.u64()?,
                offset: fields.u64()?,
                length: match mode {
                    Mode::Simple | Mode::Structured => u64::from(fields.u32()?),
                    Mode::Extended => fields.u64()?,
                },
                payload: 0,
            })
        })();
        let Some(header) = header else { return Ok(None) };
        // NBD: a write always has a payload; of other commands only the flag tells.
        let has_payload = header.command == wire::CMD_WRITE
            || (mode == Mode::Extended && header.flags & wire::CMD_FLAG_PAYLOAD_LEN != 0);
        match header.length {
            _ if !has_payload => Ok(Some(header)),
            length if length > u64::from(PAYLOAD_BYTES_MAX) => {
                Err(Malformed::PayloadTooLarge { length })
            }
            length => Ok(Some(Self { payload: length as usize, ..header })),
        }
    }

    /// Checks flags and range, and gives the request its meaning.
    pub fn verb(&self, size: u64, negotiated: &Negotiated) -> Result<Verb, Errno> {
        let mode = negotiated.mode;
        match self.command {
            wire::CMD_READ => {
                self.allow_flags(wire::CMD_FLAG_DF)?;
                self.in_range(size, Errno::EINVAL)?;
                let whole = self.flags & wire::CMD_FLAG_DF != 0;
                if whole && mode == Mode::Simple {
                    return Err(Errno::EINVAL);
                }
                if self.length > u64::from(PAYLOAD_BYTES_MAX) {
                    return Err(if whole { Errno::EOVERFLOW } else { Errno::EINVAL });
                }
                Ok(Verb::Read { holes: mode != Mode::Simple && !whole })
            }
            wire::CMD_WRITE => {
                // A client must announce the payload by the flag, but QEMU's does not, and there is
                // only one thing it can mean.
                let flag = wire::CMD_FLAG_PAYLOAD_LEN;
                self.allow_flags(if mode == Mode::Extended { flag } else { 0 })?;
                self.in_range(size, Errno::ENOSPC)?;
                Ok(Verb::Write { durability: self.durability() })
            }
            wire::CMD_DISC => Ok(Verb::Disconnect),
            wire::CMD_FLUSH => {
                self.allow_flags(0)?;
                Ok(Verb::Flush)
            }
            wire::CMD_TRIM => {
                self.allow_flags(0)?;
                self.in_range(size, Errno::EINVAL)?;
                Ok(Verb::Trim { durability: self.durability() })
            }
            wire::CMD_CACHE => {
                self.allow_flags(0)?;
                self.in_range(size, Errno::EINVAL)?;
                Ok(Verb::Cache)
            }
            wire::CMD_WRITE_ZEROES => self.write_zeroes(size),
            wire::CMD_BLOCK_STATUS => self.block_status(size, negotiated),
            _ => Err(Errno::EINVAL),
        }
    }

    fn write_zeroes(&self, size: u64) -> Result<Verb, Errno> {
        self.allow_flags(wire::CMD_FLAG_NO_HOLE | wire::CMD_FLAG_FAST_ZERO)?;
        self.in_range(size, Errno::ENOSPC)?;
        if self.flags & wire::CMD_FLAG_FAST_ZERO != 0 && !self.is_zeroed_fast() {
            return Err(Errno::ENOTSUP);
        }
        let hole = match self.flags & wire::CMD_FLAG_NO_HOLE {
            0 => Hole::Allowed,
            _ => Hole::Refused,
        };
        Ok(Verb::WriteZeroes { hole, durability: self.durability() })
    }

    /// Whole pages are zeroed by a note in the map; a part of a page must be read, changed and
    /// written. So zeroing beats writing exactly when a whole page is among the range.
    fn is_zeroed_fast(&self) -> bool {
        let page = u64::from(BLOCK_BYTES_PREFERRED);
        let end = self.offset + self.length;
        self.length == 0 || self.offset.next_multiple_of(page) + page <= end
    }

    fn block_status(&self, size: u64, negotiated: &Negotiated) -> Result<Verb, Errno> {
        if negotiated.contexts.is_empty() {
            return Err(Errno::EINVAL);
        }
        let asked = match self.flags & wire::CMD_FLAG_REQ_ONE {
            0 => Asked::All,
            _ => Asked::First,
        };
        if self.flags & wire::CMD_FLAG_PAYLOAD_LEN != 0 && negotiated.mode == Mode::Extended {
            self.allow_flags(wire::CMD_FLAG_REQ_ONE | wire::CMD_FLAG_PAYLOAD_LEN)?;
            // The effect length is in the payload; the range is checked with it.
            return match self.payload {
                8.. if self.payload <= status_payload_max(negotiated) => {
                    Ok(Verb::StatusOf { asked })
                }
                _ => Err(Errno::EINVAL),
            };
        }
        self.allow_flags(wire::CMD_FLAG_REQ_ONE)?;
        self.in_range(size, Errno::EINVAL)?;
        if self.length == 0 { Err(Errno::EINVAL) } else { Ok(Verb::Status { asked }) }
    }

    /// Reads the payload of a [`Verb::StatusOf`]: the effect length, and which of the negotiated
    /// contexts are wanted.
    pub fn status_of(
        &self,
        payload: &[u8],
        size: u64,
        negotiated: &Negotiated,
    ) -> Result<(u64, Vec<Context>), Errno> {
        let mut fields = Fields(payload);
        let length = fields.u64().ok_or(Errno::EINVAL)?;
        Self { length, ..*self }.in_range(size, Errno::EINVAL)?;
        let mut wanted: Vec<Context> = Vec::new();
        while !fields.0.is_empty() {
            let id = fields.u32().ok_or(Errno::EINVAL)?;
            let known = negotiated.contexts.iter().find(|context| context.id == id);
            match known {
                Some(context) if !wanted.contains(context) => wanted.push(*context),
                _ => return Err(Errno::EINVAL),
            }
        }
        if length == 0 || wanted.is_empty() { Err(Errno::EINVAL) } else { Ok((length, wanted)) }
    }

    fn durability(&self) -> Durability {
        match self.flags & wire::CMD_FLAG_FUA {
            0 => Durability::Buffered,
            _ => Durability::Durable,
        }
    }

    /// NBD lets a client set FUA on any command once FUA is offered.
    fn allow_flags(&self, allowed: u16) -> Result<(), Errno> {
        if self.flags & !(allowed | wire::CMD_FLAG_FUA) == 0 { Ok(()) } else { Err(Errno::EINVAL) }
    }

    fn in_range(&self, size: u64, outside: Errno) -> Result<(), Errno> {
        match self.offset.checked_add(self.length) {
            Some(end) if end <= size => Ok(()),
            _ => Err(outside),
        }
    }
}

/// The longest BLOCK_STATUS payload that makes sense: a length and every context's id.
fn status_payload_max(negotiated: &Negotiated) -> usize {
    8 + 4 * negotiated.contexts.len()
}

/// How many extents of each context a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The first.
    First,
    /// As many as a reply holds.
    All,
}

/// A request that passed its checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Read; `holes` when zero ranges may be answered as holes.
    Read {
        /// Zero ranges need not be sent.
        holes: bool,
    },
    /// Write the payload that follows.
    Write {
        /// When to answer.
        durability: Durability,
    },
    /// End the session after everything in flight is answered.
    Disconnect,
    /// Make completed writes durable.
    Flush,
    /// Give up a range.
    Trim {
        /// When to answer.
        durability: Durability,
    },
    /// Zero a range.
    WriteZeroes {
        /// Whether the range may become a hole.
        hole: Hole,
        /// When to answer.
        durability: Durability,
    },
    /// Report on a range, in every negotiated context.
    Status {
        /// How many extents are wanted.
        asked: Asked,
    },
    /// Report on a range as the payload that follows says; see [`Header::status_of`].
    StatusOf {
        /// How many extents are wanted.
        asked: Asked,
    },
    /// Prepare for reading a range.
    Cache,
}

/// Error numbers of the protocol with the sentence structured replies carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno {
    /// The number on the wire.
    pub code: u32,
    /// For people.
    pub message: &'static str,
}

impl Errno {
    /// A request that makes no sense here.
    pub const EINVAL: Self = Self { code: 22, message: "invalid request" };
    /// A write past the end.
    pub const ENOSPC: Self = Self { code: 28, message: "no space left" };
    /// An unfragmented read larger than a payload may be.
    pub const EOVERFLOW: Self = Self { code: 75, message: "too large to be read in one piece" };
    /// A fast zeroing that would not be fast, or something the device cannot do.
    pub const ENOTSUP: Self = Self { code: 95, message: "not supported" };
}

impl From<DeviceError> for Errno {
    fn from(error: DeviceError) -> Self {
        match error {
            DeviceError::Io => Self { code: 5, message: "input/output error" },
            DeviceError::NoSpace => Self::ENOSPC,
            DeviceError::OutOfMemory => Self { code: 12, message: "out of memory" },
            DeviceError::OutOfRange => Self::EINVAL,
            DeviceError::ReadOnly => Self { code: 1, message: "the device is read-only" },
            DeviceError::Stopped => Self { code: 108, message: "the device is shutting down" },
            DeviceError::Unsupported => Self::ENOTSUP,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::View;

    const SIZE: u64 = 1 << 20;
    fn negotiated(mode: Mode) -> Negotiated {
        let contexts = match mode {
            Mode::Simple => vec![],
            Mode::Structured | Mode::Extended => vec![
                Context { id: 1, view: View::Allocation },
                Context { id: 2, view: View::ChangedSince(7) },
            ],
        };
        Negotiated { mode, contexts }
    }

    fn header(command: u16, flags: u16, offset: u64, length: u64) -> Header {
        Header { flags, command, cookie: 0, offset, length, payload: 0 }
    }

    #[test]
    fn ranges_and_flags_are_checked() {
        let check = |command, flags, offset, length, mode, code: u32| {
            let verb = header(command, flags, offset, length).verb(SIZE, &negotiated(mode));
            let got = verb.map_or_else(|errno| errno.code, |_| 0);
            assert_eq!(got, code, "{command} {flags} {offset} {length}");
        };
        use Mode::{Extended, Simple, Structured};
        check(wire::CMD_READ, 0, SIZE - 1, 1, Simple, 0);
        check(wire::CMD_READ, 0, SIZE, 1, Simple, 22);
        check(wire::CMD_READ, 0, u64::MAX, 1, Simple, 22);
        check(wire::CMD_READ, wire::CMD_FLAG_DF, 0, 1, Simple, 22);
        check(wire::CMD_READ, wire::CMD_FLAG_DF, 0, 1, Structured, 0);
        check(wire::CMD_READ, wire::CMD_FLAG_NO_HOLE, 0, 1, Structured, 22);
        check(wire::CMD_WRITE, 0, SIZE - 1, 2, Structured, 28);
        check(wire::CMD_WRITE, wire::CMD_FLAG_FUA, 0, 2, Structured, 0);
        check(wire::CMD_WRITE, wire::CMD_FLAG_PAYLOAD_LEN, 0, 2, Structured, 22);
        check(wire::CMD_WRITE, wire::CMD_FLAG_PAYLOAD_LEN, 0, 2, Extended, 0);
        check(wire::CMD_WRITE, 0, 0, 2, Extended, 0);
        check(wire::CMD_FLUSH, wire::CMD_FLAG_FUA, 0, 0, Structured, 0);
        check(wire::CMD_FLUSH, wire::CMD_FLAG_PAYLOAD_LEN, 0, 0, Extended, 22);
        check(wire::CMD_TRIM, 0, 1, SIZE, Structured, 22);
        check(wire::CMD_TRIM, 0, 0, 1 << 40, Extended, 22);
        check(wire::CMD_CACHE, 0, 0, SIZE, Simple, 0);
        check(wire::CMD_CACHE, 0, 1, SIZE, Simple, 22);
        check(wire::CMD_CACHE, wire::CMD_FLAG_DF, 0, 1, Structured, 22);
        check(wire::CMD_WRITE_ZEROES, wire::CMD_FLAG_NO_HOLE, 0, 1, Structured, 0);
        check(wire::CMD_WRITE_ZEROES, wire::CMD_FLAG_REQ_ONE, 0, 1, Structured, 22);
        check(wire::CMD_WRITE_ZEROES, 0, SIZE, 1, Structured, 28);
        check(wire::CMD_BLOCK_STATUS, wire::CMD_FLAG_REQ_ONE, 0, 1, Structured, 0);
        check(wire::CMD_BLOCK_STATUS, 0, 0, 0, Structured, 22);
        check(wire::CMD_BLOCK_STATUS, 0, 0, 1, Simple, 22);
        check(wire::CMD_BLOCK_STATUS, wire::CMD_FLAG_PAYLOAD_LEN, 0, 16, Structured, 22);
        check(8, 0, 0, 1, Extended, 22);
    }

    #[test]
    fn zeroing_is_fast_where_a_whole_page_is_zeroed() {
        let check = |offset, length, code: u32| {
            let header = header(wire::CMD_WRITE_ZEROES, wire::CMD_FLAG_FAST_ZERO, offset, length);
            let verb = header.verb(SIZE, &negotiated(Mode::Simple));
            assert_eq!(verb.map_or_else(|errno| errno.code, |_| 0), code, "{offset} {length}");
        };
        check(0, 4096, 0);
        check(4095, 4097, 0);
        check(1, 8191, 0);
        check(0, 0, 0);
        check(0, 4095, 95);
        check(1, 4096, 95);
        check(4095, 4096, 95);
        check(1, 8190, 95);
        check(SIZE, 1, 28);
    }

    #[test]
    fn reads_beyond_a_payload_say_so() {
        let length = u64::from(PAYLOAD_BYTES_MAX) + 1;
        let code = |flags| {
            let header = header(wire::CMD_READ, flags, 0, length);
            header.verb(1 << 40, &negotiated(Mode::Extended)).unwrap_err().code
        };
        assert_eq!((code(0), code(wire::CMD_FLAG_DF)), (22, 75));
    }

    #[test]
    fn a_status_payload_names_what_is_wanted() {
        let negotiated = negotiated(Mode::Extended);
        let flags = wire::CMD_FLAG_PAYLOAD_LEN;
        let check = |length: u64, ids: &[u32], cut: usize| {
            let mut payload = length.to_be_bytes().to_vec();
            ids.iter().for_each(|id| payload.extend_from_slice(&id.to_be_bytes()));
            payload.truncate(payload.len() - cut);
            let bytes = payload.len();
            let header = header(wire::CMD_BLOCK_STATUS, flags, 4096, bytes as u64);
            let header = Header { payload: bytes, ..header };
            header.verb(SIZE, &negotiated)?;
            let (length, wanted) = header.status_of(&payload, SIZE, &negotiated)?;
            Ok((length, wanted.iter().map(|context| context.id).collect::<Vec<_>>()))
        };
        assert_eq!(check(4096, &[2], 0), Ok((4096, vec![2])));
        assert_eq!(check(SIZE - 4096, &[2, 1], 0), Ok((SIZE - 4096, vec![2, 1])));
        for (length, ids, cut) in [
            (4096, &[][..], 0),
            (4096, &[3], 0),
            (4096, &[1, 1], 0),
            (4096, &[1, 2, 1], 0),
            (4096, &[1], 1),
            (4096, &[], 1),
            (0, &[1], 0),
            (SIZE, &[1], 0),
            (u64::MAX, &[1], 0),
        ] {
            assert_eq!(check(length, ids, cut), Err(Errno::EINVAL), "{length} {ids:?} {cut}");
        }
    }

    #[test]
    fn a_header_is_read_when_it_is_whole() {
        for (mode, magic, bytes) in [
            (Mode::Simple, wire::REQUEST_MAGIC, 28),
            (Mode::Structured, wire::REQUEST_MAGIC, 28),
            (Mode::Extended, wire::EXTENDED_REQUEST_MAGIC, 32),
        ] {
            assert_eq!(Header::bytes(mode), bytes);
            let mut request = magic.to_be_bytes().to_vec();
            request.resize(bytes, 0);
            for length in 0..bytes {
                assert_eq!(Header::parse(&request[..length], mode), Ok(None));
            }
            assert_eq!(Header::parse(&request, mode), Ok(Some(header(0, 0, 0, 0))));
            // A write of more than the maximum.
            request[7] = 1;
            request[bytes - 4] = 0xff;
            let length = 0xff00_0000;
            assert_eq!(Header::parse(&request, mode), Err(Malformed::PayloadTooLarge { length }));
            // A trim of as much has no payload.
            request[7] = 4;
            assert_eq!(Header::parse(&request, mode), Ok(Some(header(4, 0, 0, length))));
            request[0] = 0;
            assert_eq!(Header::parse(&request, mode), Err(Malformed::NotARequest));
        }
    }

    #[test]
    fn extended_payloads_are_announced_by_the_flag() {
        let mut request = wire::EXTENDED_REQUEST_MAGIC.to_be_bytes().to_vec();
        request.resize(32, 0);
        (request[5], request[7], request[31]) = (wire::CMD_FLAG_PAYLOAD_LEN as u8, 7, 12);
        let parsed = Header::parse(&request, Mode::Extended).unwrap().unwrap();
        assert_eq!((parsed.length, parsed.payload), (12, 12));
        request[24] = 1;
        let length = (1 << 56) + 12;
        let refused = Header::parse(&request, Mode::Extended);
        assert_eq!(refused, Err(Malformed::PayloadTooLarge { length }));
    }
}
