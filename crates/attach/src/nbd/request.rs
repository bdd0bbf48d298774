//! Transmission requests: parsing and the checks that need no device.

use super::handshake::Negotiated;
use super::wire::{self, Fields};
use super::{BYTES_IN_FLIGHT_MAX, PAYLOAD_BYTES_MAX};
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
    /// Number of bytes.
    pub length: u32,
}

/// Why the stream cannot be followed any further.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The bytes where a request must be are something else.
    #[error("the client sent no request where one must be")]
    NotARequest,
    /// A write larger than the advertised maximum; its payload will not be read.
    #[error("the client sends a write of {length} bytes")]
    PayloadTooLarge {
        /// Bytes announced.
        length: u32,
    },
}

impl Header {
    /// Reads a header from the front of `input`; `None` until all of it is there.
    pub fn parse(input: &[u8]) -> Result<Option<Self>, Malformed> {
        let mut fields = Fields(input);
        let Some(magic) = fields.u32() else { return Ok(None) };
        if magic != wire::REQUEST_MAGIC {
            return Err(Malformed::NotARequest);
        }
        let header = (|| {
            Some(Self {
                flags: fields.u16()?,
                command: fields.u16()?,
                cookie: fields.u64()?,
                offset: fields.u64()?,
                length: fields.u32()?,
            })
        })();
        match header {
            Some(h) if h.command == wire::CMD_WRITE && h.length > PAYLOAD_BYTES_MAX => {
                Err(Malformed::PayloadTooLarge { length: h.length })
            }
            header => Ok(header),
        }
    }

    /// Bytes that follow the header.
    pub fn payload_length(&self) -> usize {
        if self.command == wire::CMD_WRITE { self.length as usize } else { 0 }
    }

    /// Checks flags and range, and gives the request its meaning.
    pub fn verb(&self, size: u64, negotiated: Negotiated) -> Result<Verb, Errno> {
        let durability = match self.flags & wire::CMD_FLAG_FUA {
            0 => Durability::Buffered,
            _ => Durability::Durable,
        };
        match self.command {
            wire::CMD_READ => {
                self.allow_flags(wire::CMD_FLAG_DF)?;
                self.in_range(size, Errno::EINVAL)?;
                if self.length > PAYLOAD_BYTES_MAX {
                    return Err(Errno::EINVAL);
                }
                let whole = self.flags & wire::CMD_FLAG_DF != 0;
                if whole && !negotiated.structured {
                    return Err(Errno::EINVAL);
                }
                Ok(Verb::Read { holes: negotiated.structured && !whole })
            }
            wire::CMD_WRITE => {
                self.allow_flags(0)?;
                self.in_range(size, Errno::ENOSPC)?;
                Ok(Verb::Write { durability })
            }
            wire::CMD_DISC => Ok(Verb::Disconnect),
            wire::CMD_FLUSH => {
                self.allow_flags(0)?;
                Ok(Verb::Flush)
            }
            wire::CMD_TRIM => {
                self.allow_flags(0)?;
                self.in_range(size, Errno::EINVAL)?;
                Ok(Verb::Trim { durability })
            }
            wire::CMD_WRITE_ZEROES => {
                // FAST_ZERO is not offered, so it is an unknown flag here: EINVAL.
                self.allow_flags(wire::CMD_FLAG_NO_HOLE)?;
                self.in_range(size, Errno::ENOSPC)?;
                let hole = match self.flags & wire::CMD_FLAG_NO_HOLE {
                    0 => Hole::Allowed,
                    _ => Hole::Refused,
                };
                Ok(Verb::WriteZeroes { hole, durability })
            }
            wire::CMD_BLOCK_STATUS => {
                self.allow_flags(wire::CMD_FLAG_REQ_ONE)?;
                self.in_range(size, Errno::EINVAL)?;
                if !negotiated.allocation || self.length == 0 {
                    return Err(Errno::EINVAL);
                }
                Ok(Verb::Status { one: self.flags & wire::CMD_FLAG_REQ_ONE != 0 })
            }
            _ => Err(Errno::EINVAL),
        }
    }

    /// NBD lets a client set FUA on any command once FUA is offered.
    fn allow_flags(&self, allowed: u16) -> Result<(), Errno> {
        if self.flags & !(allowed | wire::CMD_FLAG_FUA) == 0 { Ok(()) } else { Err(Errno::EINVAL) }
    }

    fn in_range(&self, size: u64, outside: Errno) -> Result<(), Errno> {
        match self.offset.checked_add(u64::from(self.length)) {
            Some(end) if end <= size => Ok(()),
            _ => Err(outside),
        }
    }
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
    /// Report allocation.
    Status {
        /// Only the first extent is wanted.
        one: bool,
    },
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
            DeviceError::Unsupported => Self { code: 95, message: "not supported" },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 1 << 20;
    const ALL: Negotiated = Negotiated { structured: true, allocation: true };
    const NONE: Negotiated = Negotiated { structured: false, allocation: false };

    fn header(command: u16, flags: u16, offset: u64, length: u32) -> Header {
        Header { flags, command, cookie: 0, offset, length }
    }

    #[test]
    fn ranges_and_flags_are_checked() {
        let check = |command, flags, offset, length, negotiated, code: u32| {
            let verb = header(command, flags, offset, length).verb(SIZE, negotiated);
            let got = verb.map_or_else(|errno| errno.code, |_| 0);
            assert_eq!(got, code, "{command} {flags} {offset} {length}");
        };
        check(wire::CMD_READ, 0, SIZE - 1, 1, NONE, 0);
        check(wire::CMD_READ, 0, SIZE, 1, NONE, 22);
        check(wire::CMD_READ, 0, u64::MAX, 1, NONE, 22);
        check(wire::CMD_READ, wire::CMD_FLAG_DF, 0, 1, NONE, 22);
        check(wire::CMD_READ, wire::CMD_FLAG_DF, 0, 1, ALL, 0);
        check(wire::CMD_READ, wire::CMD_FLAG_NO_HOLE, 0, 1, ALL, 22);
        check(wire::CMD_WRITE, 0, SIZE - 1, 2, ALL, 28);
        check(wire::CMD_WRITE, wire::CMD_FLAG_FUA, 0, 2, ALL, 0);
        check(wire::CMD_FLUSH, wire::CMD_FLAG_FUA, 0, 0, ALL, 0);
        check(wire::CMD_TRIM, 0, 1, SIZE as u32, ALL, 22);
        check(wire::CMD_WRITE_ZEROES, wire::CMD_FLAG_NO_HOLE, 0, 1, ALL, 0);
        check(wire::CMD_WRITE_ZEROES, 16, 0, 1, ALL, 22);
        check(wire::CMD_WRITE_ZEROES, 0, SIZE, 1, ALL, 28);
        check(wire::CMD_BLOCK_STATUS, wire::CMD_FLAG_REQ_ONE, 0, 1, ALL, 0);
        check(wire::CMD_BLOCK_STATUS, 0, 0, 0, ALL, 22);
        check(wire::CMD_BLOCK_STATUS, 0, 0, 1, NONE, 22);
        check(5, 0, 0, 1, ALL, 22);
        check(8, 0, 0, 1, ALL, 22);
    }

    #[test]
    fn a_header_is_read_when_it_is_whole() {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&wire::REQUEST_MAGIC.to_be_bytes());
        bytes.extend_from_slice(&[0; 24]);
        for length in 0..28 {
            assert_eq!(Header::parse(&bytes[..length]), Ok(None));
        }
        assert_eq!(Header::parse(&bytes), Ok(Some(header(0, 0, 0, 0))));
        bytes[7] = 1;
        bytes[24] = 0xff;
        let length = 0xff00_0000;
        assert_eq!(Header::parse(&bytes), Err(Malformed::PayloadTooLarge { length }));
        bytes[0] = 0;
        assert_eq!(Header::parse(&bytes), Err(Malformed::NotARequest));
    }
}
