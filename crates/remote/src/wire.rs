//! The messages of the channel, version 5.
//!
//! A frame is `length 4 | kind 1 | id 8 | body`; the length counts what follows it. Requests of the
//! machine and replies of the server carry the same id; calls of the server carry ids of its own, and
//! the machine's answers repeat them. Several requests are under way at once; the server executes those
//! of one session in the order they come, except that a flush does not hold up what follows it.
//! Renewals, the replies to them, and what the server asks are sent before all that waits: a lease does
//! not end because there is much to move. They wait for one frame at most, and for what the ends' sockets
//! have taken and not sent ([`UNSENT_BYTES_MAX`]); bytes of the file therefore travel in small pieces
//! ([`PIECE_BYTES`]).
//!
//! Threats: the channel runs inside TLS, or on the loopback. Whoever reads it in the clear learns the
//! volume's structure key and the positions of its pages, not their contents. The decoder meets bytes
//! of machines that are not trusted: every length is bounded before memory is taken for it.

use crate::codec::Reader;
use base::Secret;
use blockstore::live::{CutId, CutInfo, Need};
use blockstore::page::{BasePage, PAGE_BYTES, PageOrigin, Salt, SealedPage, Tag};
use blockstore::store::{EngineAnswer, EngineCall};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt};

/// The version both sides speak. A welcome of another version is refused.
pub const VERSION: u8 = 5;
/// What the connection is upgraded to.
pub const PROTOCOL: &str = "strongroom-attach/5";
/// Bytes of a volume's file that one request moves.
pub const DATA_BYTES_MAX: usize = 1 << 20;
/// Bytes of the file in one frame, as a machine asks for them and sends them: what a renewal may have to
/// wait for. A second of a link of 1 Mbit/s.
pub const PIECE_BYTES: usize = 128 << 10;
/// Bytes that the socket of either end takes before the network does. What it has taken, nothing
/// overtakes.
pub const UNSENT_BYTES_MAX: u32 = 64 << 10;
/// Pages of a base that one request asks for.
pub const BASE_PAGES_MAX: u32 = 32;
/// Blocks of a base that one request asks about: 4 GiB, as much as one request of a client is told of.
pub const BASE_BLOCKS_MAX: u32 = 8192;
/// Snapshots in one reply: the newest.
pub const SNAPSHOTS_MAX: usize = 4096;
/// Bytes of a frame after its length.
pub const FRAME_BYTES_MAX: usize = DATA_BYTES_MAX + 1024;
/// Kind and id.
const HEAD_BYTES: usize = 9;
/// Cuts in one answer; a volume retains fewer.
const CUTS_MAX: u32 = 1024;

/// What the machine asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Extend the lease.
    Renew,
    /// Bytes of the file.
    Read {
        /// First byte.
        offset: u64,
        /// How many, at most [`DATA_BYTES_MAX`].
        length: u32,
    },
    /// Store bytes in the file. Answered only when it fails.
    Write {
        /// First byte.
        offset: u64,
        /// The bytes.
        data: Vec<u8>,
    },
    /// Make what came before durable.
    Flush,
    /// Bytes up to the end of the last write.
    Length,
    /// Read what the disk holds from now on, and not what is kept of it.
    ForgetCached,
    /// Fill a range that nothing was written to with zeros. Not answered.
    FillAhead {
        /// First byte.
        offset: u64,
        /// How many, at most [`DATA_BYTES_MAX`].
        length: u32,
    },
    /// Give the space of a range back. Not answered.
    Punch {
        /// First byte.
        offset: u64,
        /// How many.
        length: u64,
    },
    /// Sealed pages of the base.
    Base {
        /// The first page's address.
        first: u64,
        /// How many, at most [`BASE_PAGES_MAX`].
        count: u32,
    },
    /// A sealed page of the base that did not open: as it is proven without the data key.
    ProvenPage {
        /// Its address.
        page: u64,
    },
    /// In which blocks the base stores anything.
    Blocks {
        /// The first block.
        first: u64,
        /// How many, at most [`BASE_BLOCKS_MAX`].
        count: u32,
    },
    /// What the volume takes of the server's space, and may need.
    Space {
        /// Why it is said.
        call: SpaceCall,
        /// What the volume takes, and may need.
        need: Need,
    },
    /// The snapshots that the volume's changes can be told against.
    Snapshots,
    /// The machine has closed the volume and will not use it again under this epoch.
    Goodbye,
    /// The answer to a call of the server.
    Answer(Result<EngineAnswer, CallFailure>),
}

/// A bit for each block of a range, the lowest of a byte first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockSet(Vec<u8>);

impl BlockSet {
    /// Looks for each block of a range.
    ///
    /// # Errors
    /// The first that the look gives.
    pub fn of<E>(first: u64, count: u32, has: impl Fn(u64) -> Result<bool, E>) -> Result<Self, E> {
        let mut bits = vec![0; count.div_ceil(8) as usize];
        for at in 0..count {
            let has = has(first + u64::from(at))?;
            bits[at as usize / 8] |= u8::from(has) << (at % 8);
        }
        Ok(Self(bits))
    }

    /// Whether it tells of so many blocks.
    pub fn is_of(&self, count: u32) -> bool {
        self.0.len() == count.div_ceil(8) as usize
    }

    /// Whether there is the block at this place of the range.
    pub fn has(&self, at: u32) -> bool {
        self.0.get(at as usize / 8).is_some_and(|bits| bits & (1 << (at % 8)) != 0)
    }
}

/// What a server knows of a volume's snapshots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotList {
    /// Those taken of it, newest first, with the root's id once they are exported. At most
    /// [`SNAPSHOTS_MAX`] travel.
    pub taken: Vec<(CutId, Option<[u8; 16]>)>,
    /// The one it was made from.
    pub made_from: Option<CutId>,
}

/// Why a machine says what its volume needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SpaceCall {
    /// It asks whether it may need so much.
    Ask = 1,
    /// It has so much, or needs it, and does not ask.
    Tell = 2,
    /// Its guest was refused; the need says nothing.
    Refused = 3,
}

impl SpaceCall {
    const ALL: [Self; 3] = [Self::Ask, Self::Tell, Self::Refused];

    fn decode(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|call| *call as u8 == byte)
    }
}

/// What the server says.
#[derive(Debug)]
pub enum Reply {
    /// The first message of a session.
    Welcome(Box<Welcome>),
    /// The lease is extended by this many milliseconds from when it was asked for.
    Renewed(u32),
    /// It is done.
    Done,
    /// Bytes of the file.
    Data(Vec<u8>),
    /// The file's length.
    Length(u64),
    /// Pages of the base.
    Pages(Vec<BasePage>),
    /// Which blocks of the base there are.
    Blocks(BlockSet),
    /// To what was said of space.
    Space {
        /// Whether the volume may need what it asked for.
        granted: bool,
        /// Whether so little is left that volumes should clean before they are asked to.
        is_short: bool,
    },
    /// Snapshots of the volume.
    Snapshots(SnapshotList),
    /// It could not be done.
    Failed(Failure),
    /// The fence was taken: the volume is not this machine's any more.
    Fenced,
    /// Close the volume and say goodbye.
    LetGo,
    /// Make a call on the engine and answer.
    Call(EngineCall),
}

/// What a session begins with. Holds key material; its encoding goes into the channel only.
#[derive(Debug)]
pub struct Welcome {
    /// The attachment's fencing epoch.
    pub epoch: u64,
    /// Milliseconds of the first lease.
    pub lease_ms: u32,
    /// The key of this volume's structure, and of no other's.
    pub structure: Secret<[u8; 32]>,
    /// The snapshot the volume falls through to.
    pub base: Option<CutId>,
    /// The data key of a volume that is not encrypted under a KMS key. Others' never travels here.
    pub plain_key: Option<Secret<[u8; 64]>>,
}

/// Why the server could not do what the machine asked of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[repr(u8)]
pub enum Failure {
    /// The storage failed.
    #[error("the server's storage failed")]
    Storage = 1,
    /// No space is left.
    #[error("the server has no space left")]
    NoSpace = 2,
    /// The base does not answer; asking again may help.
    #[error("the base does not answer")]
    Unavailable = 3,
    /// What is stored is damaged.
    #[error("what is stored is damaged")]
    Damaged = 4,
    /// The disk cannot read what was asked for. Other places may be well.
    #[error("a place of the server's disk cannot be read")]
    Unreadable = 5,
}

impl Failure {
    const ALL: [Self; 5] =
        [Self::Storage, Self::NoSpace, Self::Unavailable, Self::Damaged, Self::Unreadable];

    fn decode(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|failure| *failure as u8 == byte)
    }
}

/// Why a call of the server failed at the machine's engine, as far as the server tells cases apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum CallFailure {
    /// The volume failed.
    Failed = 1,
    /// There is no such cut.
    CutNotFound = 2,
    /// There is such a cut already.
    CutExists = 3,
    /// No more cuts can be retained.
    TooManyCuts = 4,
    /// The size is not possible.
    BadSize = 5,
    /// The volume's file is full.
    Full = 6,
    /// The volume does not stand still any more.
    WentOn = 7,
}

impl CallFailure {
    const ALL: [Self; 7] = [
        Self::Failed,
        Self::CutNotFound,
        Self::CutExists,
        Self::TooManyCuts,
        Self::BadSize,
        Self::Full,
        Self::WentOn,
    ];

    fn decode(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|failure| *failure as u8 == byte)
    }
}

/// A frame: kind, id, body.
fn frame(kind: u8, id: u64, parts: &[&[u8]]) -> Vec<u8> {
    let body: usize = parts.iter().map(|part| part.len()).sum();
    assert!(HEAD_BYTES + body <= FRAME_BYTES_MAX, "a frame of {body} bytes is too long");
    let mut bytes = Vec::with_capacity(4 + HEAD_BYTES + body);
    bytes.extend_from_slice(&((HEAD_BYTES + body) as u32).to_le_bytes());
    bytes.push(kind);
    bytes.extend_from_slice(&id.to_le_bytes());
    parts.iter().for_each(|part| bytes.extend_from_slice(part));
    bytes
}

/// Reads one frame without its length; `None` when the peer closed between two.
///
/// # Errors
/// When the connection fails, ends inside a frame, or the length is impossible.
pub async fn read_frame(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match stream.read_exact(&mut length).await {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => drop(read?),
    }
    let length = u32::from_le_bytes(length) as usize;
    if !(HEAD_BYTES..=FRAME_BYTES_MAX).contains(&length) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame of impossible length"));
    }
    let mut frame = vec![0; length];
    stream.read_exact(&mut frame).await?;
    Ok(Some(frame))
}

impl Request {
    /// The request as a frame with its length.
    pub fn encode(&self, id: u64) -> Vec<u8> {
        match self {
            Self::Renew => frame(1, id, &[]),
            Self::Read { offset, length } => {
                frame(2, id, &[&offset.to_le_bytes(), &length.to_le_bytes()])
            }
            Self::Write { offset, data } => Self::encode_write(id, *offset, data),
            Self::Flush => frame(4, id, &[]),
            Self::Length => frame(5, id, &[]),
            Self::Punch { offset, length } => {
                frame(6, id, &[&offset.to_le_bytes(), &length.to_le_bytes()])
            }
            Self::Base { first, count } => {
                frame(7, id, &[&first.to_le_bytes(), &count.to_le_bytes()])
            }
            Self::Blocks { first, count } => {
                frame(8, id, &[&first.to_le_bytes(), &count.to_le_bytes()])
            }
            Self::Goodbye => frame(9, id, &[]),
            Self::Answer(Ok(answer)) => frame(10, id, &[&encode_answer(answer)]),
            Self::Answer(Err(failure)) => frame(11, id, &[&[*failure as u8]]),
            Self::ProvenPage { page } => frame(12, id, &[&page.to_le_bytes()]),
            Self::Snapshots => frame(14, id, &[]),
            Self::ForgetCached => frame(16, id, &[]),
            Self::FillAhead { offset, length } => {
                frame(15, id, &[&offset.to_le_bytes(), &length.to_le_bytes()])
            }
            Self::Space { call, need: Need { held, upkeep } } => {
                frame(13, id, &[&[*call as u8], &held.to_le_bytes(), &upkeep.to_le_bytes()])
            }
        }
    }

    /// A write as a frame, from borrowed bytes.
    pub fn encode_write(id: u64, offset: u64, data: &[u8]) -> Vec<u8> {
        frame(3, id, &[&offset.to_le_bytes(), data])
    }

    /// Reads a frame without its length. `None` when it is no request within the limits.
    pub fn decode(frame: &[u8]) -> Option<(u64, Self)> {
        let mut r = Reader(frame);
        let (kind, id) = (r.u8()?, r.u64()?);
        let request = match kind {
            1 => Self::Renew,
            2 => Self::Read { offset: r.u64()?, length: bounded(r.u32()?, DATA_BYTES_MAX)? },
            3 => {
                let (offset, data) = (r.u64()?, r.rest());
                bounded(u32::try_from(data.len()).ok()?, DATA_BYTES_MAX)?;
                offset.checked_add(data.len() as u64)?;
                Self::Write { offset, data: data.to_vec() }
            }
            4 => Self::Flush,
            5 => Self::Length,
            6 => Self::Punch { offset: r.u64()?, length: r.u64()? },
            7 => Self::Base { first: r.u64()?, count: bounded(r.u32()?, BASE_PAGES_MAX as usize)? },
            8 => {
                let (first, count) = (r.u64()?, r.u32()?);
                Self::Blocks { first, count: bounded(count, BASE_BLOCKS_MAX as usize)? }
            }
            9 => Self::Goodbye,
            10 => Self::Answer(Ok(decode_answer(&mut r)?)),
            11 => Self::Answer(Err(CallFailure::decode(r.u8()?)?)),
            12 => Self::ProvenPage { page: r.u64()? },
            13 => Self::Space {
                call: SpaceCall::decode(r.u8()?)?,
                need: Need { held: r.u64()?, upkeep: r.u64()? },
            },
            14 => Self::Snapshots,
            15 => Self::FillAhead { offset: r.u64()?, length: bounded(r.u32()?, DATA_BYTES_MAX)? },
            16 => Self::ForgetCached,
            _ => return None,
        };
        let in_range = match request {
            Self::Read { offset, length } | Self::FillAhead { offset, length } => {
                offset.checked_add(u64::from(length)).is_some()
            }
            Self::Punch { offset, length } => offset.checked_add(length).is_some(),
            Self::Base { first, count } | Self::Blocks { first, count } => {
                first.checked_add(u64::from(count)).is_some()
            }
            _ => true,
        };
        r.end((id, request)).filter(|_| in_range)
    }
}

/// A length that is not zero and not above its limit.
fn bounded(length: u32, max: usize) -> Option<u32> {
    (1..=max).contains(&(length as usize)).then_some(length)
}

impl Reply {
    /// The reply as a frame with its length.
    pub fn encode(&self, id: u64) -> Vec<u8> {
        match self {
            Self::Welcome(welcome) => welcome.encode(id),
            Self::Renewed(lease_ms) => frame(129, id, &[&lease_ms.to_le_bytes()]),
            Self::Done => frame(130, id, &[]),
            Self::Data(data) => frame(131, id, &[data]),
            Self::Length(length) => frame(132, id, &[&length.to_le_bytes()]),
            Self::Pages(pages) => frame(133, id, &[&encode_pages(pages)]),
            Self::Blocks(BlockSet(bits)) => frame(134, id, &[bits]),
            Self::Failed(failure) => frame(135, id, &[&[*failure as u8]]),
            Self::Fenced => frame(136, id, &[]),
            Self::LetGo => frame(137, id, &[]),
            Self::Call(call) => frame(138, id, &[&encode_call(*call)]),
            Self::Snapshots(list) => frame(140, id, &[&encode_snapshots(list)]),
            Self::Space { granted, is_short } => {
                frame(139, id, &[&[u8::from(*granted), u8::from(*is_short)]])
            }
        }
    }

    /// Reads a frame without its length. `None` when it is no reply within the limits.
    pub fn decode(frame: &[u8]) -> Option<(u64, Self)> {
        let mut r = Reader(frame);
        let (kind, id) = (r.u8()?, r.u64()?);
        let reply = match kind {
            128 => Self::Welcome(Box::new(Welcome::decode(&mut r)?)),
            129 => Self::Renewed(r.u32()?),
            130 => Self::Done,
            131 => {
                let data = r.rest();
                bounded(u32::try_from(data.len()).ok()?, DATA_BYTES_MAX)?;
                Self::Data(data.to_vec())
            }
            132 => Self::Length(r.u64()?),
            133 => Self::Pages(decode_pages(&mut r)?),
            134 => {
                let bits = r.rest();
                bounded(u32::try_from(bits.len()).ok()?, BASE_BLOCKS_MAX.div_ceil(8) as usize)?;
                Self::Blocks(BlockSet(bits.to_vec()))
            }
            135 => Self::Failed(Failure::decode(r.u8()?)?),
            136 => Self::Fenced,
            137 => Self::LetGo,
            138 => Self::Call(decode_call(&mut r)?),
            139 => Self::Space { granted: r.flag()?, is_short: r.flag()? },
            140 => Self::Snapshots(decode_snapshots(&mut r)?),
            _ => return None,
        };
        r.end((id, reply))
    }
}

impl Welcome {
    fn encode(&self, id: u64) -> Vec<u8> {
        let base = self.base.map(|base| base.as_str().as_bytes().to_vec()).unwrap_or_default();
        let key: &[u8] = self.plain_key.as_ref().map_or(&[], |key| &key.expose()[..]);
        frame(
            128,
            id,
            &[
                &[VERSION],
                &self.epoch.to_le_bytes(),
                &self.lease_ms.to_le_bytes(),
                self.structure.expose(),
                &[base.len() as u8],
                &base,
                &[u8::from(self.plain_key.is_some())],
                key,
            ],
        )
    }

    fn decode(r: &mut Reader<'_>) -> Option<Self> {
        if r.u8()? != VERSION {
            return None;
        }
        let (epoch, lease_ms) = (r.u64()?, r.u32()?);
        let mut structure = Secret::new([0; 32]);
        structure.expose_mut().copy_from_slice(r.bytes(32)?);
        let base = decode_name(r)?;
        let plain_key = match r.flag()? {
            false => None,
            true => {
                let mut key = Secret::new([0; 64]);
                key.expose_mut().copy_from_slice(r.bytes(64)?);
                Some(key)
            }
        };
        Some(Self { epoch, lease_ms, structure, base, plain_key })
    }
}

/// A name behind its length; none when that is 0.
fn decode_name(r: &mut Reader<'_>) -> Option<Option<CutId>> {
    match r.u8()? {
        0 => Some(None),
        length => {
            let name = std::str::from_utf8(r.bytes(usize::from(length))?).ok()?;
            CutId::new(name).map(Some)
        }
    }
}

fn put_name(bytes: &mut Vec<u8>, id: CutId) {
    bytes.push(id.as_str().len() as u8);
    bytes.extend_from_slice(id.as_str().as_bytes());
}

fn encode_call(call: EngineCall) -> Vec<u8> {
    let mut bytes = vec![kind_of(call)];
    match call {
        EngineCall::Cut(id)
        | EngineCall::ShowCut(id)
        | EngineCall::DropCut(id)
        | EngineCall::PrepareCut(id)
        | EngineCall::CutStill(id) => put_name(&mut bytes, id),
        EngineCall::NoteExport { cut, snapshot } => {
            put_name(&mut bytes, cut);
            bytes.extend_from_slice(&snapshot);
        }
        EngineCall::ExportedGeneration { snapshot } => bytes.extend_from_slice(&snapshot),
        EngineCall::Resize { size_bytes } => bytes.extend_from_slice(&size_bytes.to_le_bytes()),
        EngineCall::HoldState(name)
        | EngineCall::StateStands(name)
        | EngineCall::ReleaseState(name) => bytes.extend_from_slice(&name.to_le_bytes()),
        EngineCall::Cuts
        | EngineCall::StandStill
        | EngineCall::GoOn
        | EngineCall::LetGo
        | EngineCall::Size => {}
    }
    bytes
}

fn kind_of(call: EngineCall) -> u8 {
    match call {
        EngineCall::Cut(_) => 1,
        EngineCall::Cuts => 2,
        EngineCall::ShowCut(_) => 3,
        EngineCall::NoteExport { .. } => 4,
        EngineCall::ExportedGeneration { .. } => 5,
        EngineCall::DropCut(_) => 6,
        EngineCall::Resize { .. } => 7,
        EngineCall::PrepareCut(_) => 8,
        EngineCall::StandStill => 9,
        EngineCall::CutStill(_) => 10,
        EngineCall::GoOn => 11,
        EngineCall::HoldState(_) => 12,
        EngineCall::StateStands(_) => 13,
        EngineCall::ReleaseState(_) => 14,
        EngineCall::LetGo => 15,
        EngineCall::Size => 16,
    }
}

fn decode_call(r: &mut Reader<'_>) -> Option<EngineCall> {
    Some(match r.u8()? {
        1 => EngineCall::Cut(decode_name(r)??),
        2 => EngineCall::Cuts,
        3 => EngineCall::ShowCut(decode_name(r)??),
        4 => EngineCall::NoteExport { cut: decode_name(r)??, snapshot: r.array()? },
        5 => EngineCall::ExportedGeneration { snapshot: r.array()? },
        6 => EngineCall::DropCut(decode_name(r)??),
        7 => EngineCall::Resize { size_bytes: r.u64()? },
        8 => EngineCall::PrepareCut(decode_name(r)??),
        9 => EngineCall::StandStill,
        10 => EngineCall::CutStill(decode_name(r)??),
        11 => EngineCall::GoOn,
        12 => EngineCall::HoldState(r.u64()?),
        13 => EngineCall::StateStands(r.u64()?),
        14 => EngineCall::ReleaseState(r.u64()?),
        15 => EngineCall::LetGo,
        16 => EngineCall::Size,
        _ => return None,
    })
}

fn put_cut(bytes: &mut Vec<u8>, cut: &CutInfo) {
    put_name(bytes, cut.id);
    bytes.extend_from_slice(&cut.generation.to_le_bytes());
    bytes.extend_from_slice(&cut.volume_bytes.to_le_bytes());
}

fn decode_cut(r: &mut Reader<'_>) -> Option<CutInfo> {
    Some(CutInfo { id: decode_name(r)??, generation: r.u32()?, volume_bytes: r.u64()? })
}

fn encode_answer(answer: &EngineAnswer) -> Vec<u8> {
    let mut bytes = Vec::new();
    match answer {
        EngineAnswer::Done => bytes.push(1),
        EngineAnswer::Cut(cut) => {
            bytes.push(2);
            put_cut(&mut bytes, cut);
        }
        EngineAnswer::Cuts(cuts) => {
            bytes.push(3);
            bytes.extend_from_slice(&(cuts.len() as u32).to_le_bytes());
            cuts.iter().for_each(|cut| put_cut(&mut bytes, cut));
        }
        EngineAnswer::Generation(None) => bytes.push(4),
        EngineAnswer::Generation(Some(generation)) => {
            bytes.push(5);
            bytes.extend_from_slice(&generation.to_le_bytes());
        }
        EngineAnswer::Stands(stands) => bytes.extend([6, u8::from(*stands)]),
        EngineAnswer::Size(size) => {
            bytes.push(7);
            bytes.extend_from_slice(&size.to_le_bytes());
        }
    }
    bytes
}

fn decode_answer(r: &mut Reader<'_>) -> Option<EngineAnswer> {
    Some(match r.u8()? {
        1 => EngineAnswer::Done,
        2 => EngineAnswer::Cut(decode_cut(r)?),
        3 => {
            let count = r.u32()?;
            if count > CUTS_MAX {
                return None;
            }
            EngineAnswer::Cuts((0..count).map(|_| decode_cut(r)).collect::<Option<_>>()?)
        }
        4 => EngineAnswer::Generation(None),
        5 => EngineAnswer::Generation(Some(r.u32()?)),
        6 => EngineAnswer::Stands(r.flag()?),
        7 => EngineAnswer::Size(r.u64()?),
        _ => return None,
    })
}

fn encode_pages(pages: &[BasePage]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for page in pages {
        match page {
            BasePage::Zero => bytes.push(0),
            BasePage::Sealed(SealedPage { origin, tag, ciphertext }) => {
                bytes.push(1);
                bytes.extend_from_slice(&origin.salt.0);
                bytes.extend_from_slice(&origin.position.to_le_bytes());
                bytes.extend_from_slice(&tag.0);
                bytes.extend_from_slice(&ciphertext[..]);
            }
        }
    }
    bytes
}

fn decode_pages(r: &mut Reader<'_>) -> Option<Vec<BasePage>> {
    let mut pages = Vec::new();
    while !r.0.is_empty() {
        if pages.len() == BASE_PAGES_MAX as usize {
            return None;
        }
        pages.push(match r.flag()? {
            false => BasePage::Zero,
            true => BasePage::Sealed(SealedPage {
                origin: PageOrigin { salt: Salt(r.array()?), position: r.u32()? },
                tag: Tag(r.array()?),
                ciphertext: Box::new(r.array::<PAGE_BYTES>()?),
            }),
        });
    }
    Some(pages)
}

fn encode_snapshots(list: &SnapshotList) -> Vec<u8> {
    let mut bytes = Vec::new();
    match list.made_from {
        Some(id) => put_name(&mut bytes, id),
        None => bytes.push(0),
    }
    for (id, root) in list.taken.iter().take(SNAPSHOTS_MAX) {
        put_name(&mut bytes, *id);
        bytes.push(u8::from(root.is_some()));
        bytes.extend(root.iter().flatten());
    }
    bytes
}

fn decode_snapshots(r: &mut Reader<'_>) -> Option<SnapshotList> {
    let made_from = decode_name(r)?;
    let mut taken = Vec::new();
    while !r.0.is_empty() {
        if taken.len() == SNAPSHOTS_MAX {
            return None;
        }
        let id = decode_name(r)??;
        let root = if r.flag()? { Some(r.array()?) } else { None };
        taken.push((id, root));
    }
    Some(SnapshotList { taken, made_from })
}

#[cfg(test)]
mod tests;
