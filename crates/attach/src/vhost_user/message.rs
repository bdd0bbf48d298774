//! The messages of the control socket (VU *Front-end message types*). Pure: bytes in, data out.

/// Bytes of a message header.
pub const HEADER_BYTES: usize = 12;

/// Longest body of any message served here is a memory table of eight regions or a piece of
/// configuration space.
pub const BODY_BYTES_MAX: usize = 512;

/// Most descriptors one message carries: one for each region of a memory table.
pub const FILES_MAX: usize = 8;

/// Bytes of configuration space a front-end can address (VU *Virtio device config space*).
const CONFIG_BYTES_MAX: u32 = 256;

const VERSION: u32 = 1;
const VERSION_MASK: u32 = 0b11;
const REPLY: u32 = 1 << 2;
const NEED_REPLY: u32 = 1 << 3;
const NO_FILE: u64 = 1 << 8;

/// CONFIG_CHANGE_MSG of the back-end's own channel: the front-end reads the configuration anew.
const BACKEND_CONFIG_CHANGE: u32 = 2;

/// Why a message was not understood. The session ends: what follows cannot be framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// The header has another version, or is an answer.
    #[error("the message header is not one of a request of version 1")]
    BadHeader,
    /// The body is longer than any message's.
    #[error("a message of {0} bytes is too long")]
    TooLong(u32),
    /// A message of this number is not served.
    #[error("message {0} is not supported")]
    Unsupported(u32),
    /// The body has not the form of its message.
    #[error("the body of message {0} is malformed")]
    Malformed(u32),
}

/// The first twelve bytes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The number of the message.
    pub code: u32,
    /// Whether the front-end waits for an answer to a message that has none of its own.
    pub need_reply: NeedReply,
    /// Bytes of the body.
    pub size: usize,
}

/// Whether a message without an answer of its own asks for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NeedReply {
    /// It does, when REPLY_ACK was agreed on.
    Yes,
    /// It does not.
    No,
}

impl Header {
    /// Reads a header.
    pub fn parse(bytes: &[u8; HEADER_BYTES]) -> Result<Self, MessageError> {
        let mut body = Body(bytes);
        let (Some(code), Some(flags), Some(size)) = (body.u32(), body.u32(), body.u32()) else {
            return Err(MessageError::BadHeader);
        };
        if flags & VERSION_MASK != VERSION || flags & REPLY != 0 {
            return Err(MessageError::BadHeader);
        }
        if size as usize > BODY_BYTES_MAX {
            return Err(MessageError::TooLong(size));
        }
        let need_reply = if flags & NEED_REPLY == 0 { NeedReply::No } else { NeedReply::Yes };
        Ok(Self { code, need_reply, size: size as usize })
    }

    /// The answer to a message with this header, whole.
    pub fn reply(&self, body: &[u8]) -> Vec<u8> {
        encode(self.code, VERSION | REPLY, body)
    }
}

/// The message that tells a front-end to read the configuration anew.
pub fn config_change() -> Vec<u8> {
    encode(BACKEND_CONFIG_CHANGE, VERSION, &[])
}

fn encode(code: u32, flags: u32, body: &[u8]) -> Vec<u8> {
    let size = u32::try_from(body.len()).expect("answers are a few hundred bytes");
    let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
    for field in [code, flags, size] {
        bytes.extend_from_slice(&field.to_le_bytes());
    }
    bytes.extend_from_slice(body);
    bytes
}

/// A piece of guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Where the guest sees it.
    pub guest_address: u64,
    /// Its bytes.
    pub size: u64,
    /// Where the front-end sees it; ring addresses are given so.
    pub user_address: u64,
    /// Where it begins in the file that comes with it.
    pub file_offset: u64,
}

/// Where the parts of a ring are, in addresses of the front-end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingAddresses {
    /// Which ring.
    pub index: u32,
    /// Zero: the logging of dirty pages is not offered.
    pub flags: u32,
    /// The descriptor table.
    pub descriptors: u64,
    /// The used ring.
    pub used: u64,
    /// The available ring.
    pub available: u64,
}

/// A ring and a number about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingValue {
    /// Which ring.
    pub index: u32,
    /// The number.
    pub value: u32,
}

impl RingValue {
    /// As the body of an answer.
    pub fn to_bytes(self) -> [u8; 8] {
        (u64::from(self.value) << 32 | u64::from(self.index)).to_le_bytes()
    }
}

/// A ring and whether a descriptor comes with the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingFile {
    /// Which ring.
    pub index: u32,
    /// Whether a descriptor must be attached.
    pub attached: Attached,
}

/// Whether a ring's message carries a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attached {
    /// One.
    One,
    /// None: the front-end polls.
    None,
}

/// The record of requests under way ([`super::inflight`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InflightArea {
    /// Its bytes.
    pub size: u64,
    /// Where it begins in its file.
    pub offset: u64,
    /// Rings it is for.
    pub queues: u16,
    /// Descriptors of each.
    pub queue_size: u16,
    /// Bytes of the message body: the structure ends in padding that some front-ends leave out,
    /// and an answer is as long as its question.
    pub body_bytes: usize,
}

impl InflightArea {
    /// As the body of an answer.
    pub fn to_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.body_bytes);
        bytes.extend_from_slice(&self.size.to_le_bytes());
        bytes.extend_from_slice(&self.offset.to_le_bytes());
        bytes.extend_from_slice(&self.queues.to_le_bytes());
        bytes.extend_from_slice(&self.queue_size.to_le_bytes());
        bytes.resize(self.body_bytes, 0);
        bytes
    }
}

/// A window of configuration space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfigWindow {
    /// First byte.
    pub offset: u32,
    /// Number of bytes.
    pub size: u32,
    /// What the access is for.
    pub flags: u32,
}

impl ConfigWindow {
    /// As the beginning of an answer; the bytes follow.
    pub fn to_bytes(self) -> [u8; 12] {
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&self.offset.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.size.to_le_bytes());
        bytes[8..].copy_from_slice(&self.flags.to_le_bytes());
        bytes
    }
}

/// What a front-end asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Which features the device has.
    GetFeatures,
    /// Which of them are used.
    SetFeatures(u64),
    /// The front-end is the owner of the session.
    SetOwner,
    /// No longer used; the rings stop.
    ResetOwner,
    /// All of the guest's memory, a file with each region.
    SetMemoryTable(Vec<Region>),
    /// The size of a ring.
    SetRingSize(RingValue),
    /// The place of a ring.
    SetRingAddresses(RingAddresses),
    /// The next entry of a ring to look at.
    SetRingBase(RingValue),
    /// Stop a ring; answered with the next entry to look at.
    GetRingBase(u32),
    /// The descriptor that says that there are requests; starts the ring.
    SetRingKick(RingFile),
    /// The descriptor that tells the guest of answers.
    SetRingCall(RingFile),
    /// The descriptor that tells the front-end of a stopped ring.
    SetRingError(RingFile),
    /// Which additions to the protocol are served.
    GetProtocolFeatures,
    /// Which of them are used.
    SetProtocolFeatures(u64),
    /// How many rings there may be.
    GetQueueCount,
    /// Whether a ring's requests are served: 1 or 0.
    SetRingEnabled(RingValue),
    /// The socket for messages of the back-end's own.
    SetBackendChannel,
    /// Part of the configuration space.
    GetConfig(ConfigWindow),
    /// Change part of the configuration space.
    SetConfig(ConfigWindow, Vec<u8>),
    /// Make a record of requests under way; answered with its file.
    GetInflight(InflightArea),
    /// Use this record of requests under way.
    SetInflight(InflightArea),
    /// Back to the state before the rings were set up.
    ResetDevice,
    /// How many memory regions there may be.
    GetMemorySlots,
    /// One more memory region.
    AddRegion(Region),
    /// One memory region less.
    RemoveRegion(Region),
}

impl Message {
    /// Reads the body of a message.
    pub fn parse(code: u32, body: &[u8]) -> Result<Self, MessageError> {
        let mut rest = Body(body);
        let message = Self::fields(code, &mut rest)?;
        // Only `inflight` may end in padding, and it has read it.
        match message {
            Some(message) if rest.0.is_empty() => Ok(message),
            _ => Err(MessageError::Malformed(code)),
        }
    }

    /// `None` when the body is too short or a field has a value that does not exist.
    fn fields(code: u32, body: &mut Body<'_>) -> Result<Option<Self>, MessageError> {
        Ok(match code {
            1 => Some(Self::GetFeatures),
            2 => body.u64().map(Self::SetFeatures),
            3 => Some(Self::SetOwner),
            4 => Some(Self::ResetOwner),
            5 => body.regions().map(Self::SetMemoryTable),
            8 => body.ring_value().map(Self::SetRingSize),
            9 => body.ring_addresses().map(Self::SetRingAddresses),
            10 => body.ring_value().map(Self::SetRingBase),
            11 => body.ring_value().map(|ring| Self::GetRingBase(ring.index)),
            12 => body.ring_file().map(Self::SetRingKick),
            13 => body.ring_file().map(Self::SetRingCall),
            14 => body.ring_file().map(Self::SetRingError),
            15 => Some(Self::GetProtocolFeatures),
            16 => body.u64().map(Self::SetProtocolFeatures),
            17 => Some(Self::GetQueueCount),
            18 => body.ring_value().map(Self::SetRingEnabled),
            21 => Some(Self::SetBackendChannel),
            24 => body.config().map(|(window, _)| Self::GetConfig(window)),
            25 => body.config().map(|(window, bytes)| Self::SetConfig(window, bytes)),
            31 => body.inflight().map(Self::GetInflight),
            32 => body.inflight().map(Self::SetInflight),
            34 => Some(Self::ResetDevice),
            36 => Some(Self::GetMemorySlots),
            37 => body.single_region().map(Self::AddRegion),
            38 => body.single_region().map(Self::RemoveRegion),
            _ => return Err(MessageError::Unsupported(code)),
        })
    }
}

/// What is left of a body.
struct Body<'a>(&'a [u8]);

impl Body<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn ring_value(&mut self) -> Option<RingValue> {
        Some(RingValue { index: self.u32()?, value: self.u32()? })
    }

    fn ring_file(&mut self) -> Option<RingFile> {
        let value = self.u64()?;
        let attached = if value & NO_FILE == 0 { Attached::One } else { Attached::None };
        Some(RingFile { index: u32::from(value.to_le_bytes()[0]), attached })
    }

    fn ring_addresses(&mut self) -> Option<RingAddresses> {
        let addresses = RingAddresses {
            index: self.u32()?,
            flags: self.u32()?,
            descriptors: self.u64()?,
            used: self.u64()?,
            available: self.u64()?,
        };
        let _log = self.u64()?;
        Some(addresses)
    }

    fn region(&mut self) -> Option<Region> {
        Some(Region {
            guest_address: self.u64()?,
            size: self.u64()?,
            user_address: self.u64()?,
            file_offset: self.u64()?,
        })
    }

    fn single_region(&mut self) -> Option<Region> {
        let _padding = self.u64()?;
        self.region()
    }

    fn regions(&mut self) -> Option<Vec<Region>> {
        let count = self.u32()? as usize;
        let _padding = self.u32()?;
        if count > FILES_MAX {
            return None;
        }
        (0..count).map(|_| self.region()).collect()
    }

    fn config(&mut self) -> Option<(ConfigWindow, Vec<u8>)> {
        let window = ConfigWindow { offset: self.u32()?, size: self.u32()?, flags: self.u32()? };
        let end = window.offset.checked_add(window.size)?;
        if end > CONFIG_BYTES_MAX || self.0.len() != window.size as usize {
            return None;
        }
        let bytes = self.0.to_vec();
        self.0 = &[];
        Some((window, bytes))
    }

    fn inflight(&mut self) -> Option<InflightArea> {
        let body_bytes = self.0.len();
        let area = InflightArea {
            size: self.u64()?,
            offset: self.u64()?,
            queues: self.u16()?,
            queue_size: self.u16()?,
            body_bytes,
        };
        if !self.0.is_empty() {
            let _padding = self.u32()?;
        }
        Some(area)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(code: u32, flags: u32, size: u32) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..4].copy_from_slice(&code.to_le_bytes());
        bytes[4..8].copy_from_slice(&flags.to_le_bytes());
        bytes[8..].copy_from_slice(&size.to_le_bytes());
        bytes
    }

    #[test]
    fn headers_are_requests_of_version_one() {
        let parsed = Header::parse(&header(5, 0b1001, 40));
        let expected = Header { code: 5, need_reply: NeedReply::Yes, size: 40 };
        assert_eq!(parsed, Ok(expected));
        assert_eq!(Header::parse(&header(5, 0b10, 40)), Err(MessageError::BadHeader));
        assert_eq!(Header::parse(&header(5, 0b101, 40)), Err(MessageError::BadHeader));
        assert_eq!(Header::parse(&header(5, 1, 513)), Err(MessageError::TooLong(513)));
    }

    #[test]
    fn bodies_have_exactly_the_length_of_their_message() {
        let body = [7, 0, 0, 0, 9, 0, 0, 0];
        let value = RingValue { index: 7, value: 9 };
        assert_eq!(Message::parse(8, &body), Ok(Message::SetRingSize(value)));
        assert_eq!(value.to_bytes(), body);
        assert_eq!(Message::parse(8, &body[..7]), Err(MessageError::Malformed(8)));
        assert_eq!(Message::parse(1, &body), Err(MessageError::Malformed(1)));
        assert_eq!(Message::parse(99, &body), Err(MessageError::Unsupported(99)));
    }

    #[test]
    fn configuration_space_is_small() {
        let window = |offset: u32, size: u32| {
            let mut body = ConfigWindow { offset, size, flags: 0 }.to_bytes().to_vec();
            body.resize(12 + size.min(300) as usize, 0);
            Message::parse(24, &body)
        };
        assert!(matches!(window(0, 60), Ok(Message::GetConfig(_))));
        assert!(matches!(window(196, 60), Ok(Message::GetConfig(_))));
        assert_eq!(window(200, 60), Err(MessageError::Malformed(24)));
        assert_eq!(window(u32::MAX, 2), Err(MessageError::Malformed(24)));
    }

    proptest! {
        #[test]
        fn nothing_panics(code in 0u32..48, body in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = Message::parse(code, &body);
        }
    }
}
