//! A guest's request (VIRTIO 5.2.6): what it asks of the device, or the answer it gets at once.

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_WRITE_ZEROES, VIRTIO_BLK_ID_BYTES, VIRTIO_BLK_S_IOERR,
    VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP, VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_FLUSH,
    VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_WRITE_ZEROES,
    VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
};
use vm_memory::{GuestAddress, GuestMemoryMmap};

use super::chain::{Chain, Segment, gather, length, scatter, take_front, take_last_byte};
use super::config::Choice;
use super::{PAYLOAD_BYTES_MAX, RANGE_SECTORS_MAX, RANGES_MAX, SECTOR_BYTES};
use crate::buffer::Pool;
use crate::device::{Command, Hole};

/// Bytes of a request's header: type, reserved, sector.
const HEADER_BYTES: usize = 16;

/// Bytes of a range of DISCARD and WRITE_ZEROES: sector, count, flags.
const RANGE_BYTES: usize = 16;

/// The last byte of every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Status {
    /// It took effect.
    Ok = VIRTIO_BLK_S_OK as u8,
    /// It failed, or asks for what lies outside the device.
    IoError = VIRTIO_BLK_S_IOERR as u8,
    /// The device does not know it.
    Unsupported = VIRTIO_BLK_S_UNSUPP as u8,
}

/// What the device is, as far as a request depends on it.
pub(crate) struct View<'a> {
    /// Its size in bytes, now.
    pub(crate) size: u64,
    /// Its serial number.
    pub(crate) serial: &'a [u8; VIRTIO_BLK_ID_BYTES as usize],
    /// What the guest has chosen.
    pub(crate) choice: Choice,
}

/// A request that was understood, and where its answer goes.
#[derive(Debug)]
pub(crate) struct Parsed {
    /// Where the status byte goes.
    pub(crate) status: GuestAddress,
    /// What to do.
    pub(crate) plan: Plan,
}

/// What to do about a request.
#[derive(Debug)]
pub(crate) enum Plan {
    /// Ask the device; the answer is that of all commands together.
    Submit {
        /// At least one.
        commands: Vec<Command>,
        /// Where the bytes of a read go.
        target: Vec<Segment>,
    },
    /// Answer at once. So many bytes were written for the guest, the status not counted.
    Answer(Status, u32),
}

/// The request has no place for its status: its ring cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a request has no header or no place for its status")]
pub(crate) struct NoStatus;

/// Understands a request. Data to write is copied out of the guest's memory here, once, so the
/// guest cannot change it while it is being sealed.
pub(crate) fn parse(
    memory: &GuestMemoryMmap<()>,
    chain: Chain,
    view: &View<'_>,
    pool: &mut Pool,
) -> Result<Parsed, NoStatus> {
    let Chain { mut readable, mut writable } = chain;
    let status = take_last_byte(&mut writable).ok_or(NoStatus)?;
    let head = take_front(&mut readable, HEADER_BYTES).ok_or(NoStatus)?;
    let mut header = [0; HEADER_BYTES];
    if !gather(memory, &head, &mut header) {
        return Err(NoStatus);
    }
    let [kind, _reserved] = words(&header);
    let sector = u64::from_le_bytes(last8(&header));
    let request = Data { memory, readable, writable, view };
    let plan = match kind {
        VIRTIO_BLK_T_IN => request.read(sector, pool),
        VIRTIO_BLK_T_OUT => request.write(sector, pool),
        VIRTIO_BLK_T_FLUSH => Ok(submit(vec![Command::Flush])),
        VIRTIO_BLK_T_GET_ID => request.serial(),
        VIRTIO_BLK_T_DISCARD if view.choice.has(VIRTIO_BLK_F_DISCARD) => request.ranges(kind),
        VIRTIO_BLK_T_WRITE_ZEROES if view.choice.has(VIRTIO_BLK_F_WRITE_ZEROES) => {
            request.ranges(kind)
        }
        _ => Err(Status::Unsupported),
    };
    Ok(Parsed { status, plan: plan.unwrap_or_else(|status| Plan::Answer(status, 0)) })
}

fn submit(commands: Vec<Command>) -> Plan {
    Plan::Submit { commands, target: Vec::new() }
}

fn words(bytes: &[u8; 16]) -> [u32; 2] {
    let word =
        |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    [word(0), word(4)]
}

fn last8(bytes: &[u8; 16]) -> [u8; 8] {
    *bytes.last_chunk().expect("sixteen bytes have a last eight")
}

/// A request without its header and its status.
struct Data<'a> {
    memory: &'a GuestMemoryMmap<()>,
    readable: Vec<Segment>,
    writable: Vec<Segment>,
    view: &'a View<'a>,
}

impl Data<'_> {
    fn read(self, sector: u64, pool: &mut Pool) -> Result<Plan, Status> {
        let length = length(&self.writable);
        let offset = self.range(sector, length)?;
        let commands = vec![Command::Read { offset, buffer: pool.take(length) }];
        Ok(Plan::Submit { commands, target: self.writable })
    }

    fn write(self, sector: u64, pool: &mut Pool) -> Result<Plan, Status> {
        let length = length(&self.readable);
        let offset = self.range(sector, length)?;
        let mut data = pool.take(length);
        if !gather(self.memory, &self.readable, &mut data) {
            return Err(Status::IoError);
        }
        let durability = self.view.choice.durability();
        Ok(submit(vec![Command::Write { offset, data, durability }]))
    }

    /// Where a transfer of `length` bytes begins.
    fn range(&self, sector: u64, length: usize) -> Result<u64, Status> {
        if length == 0
            || length > PAYLOAD_BYTES_MAX
            || !(length as u64).is_multiple_of(SECTOR_BYTES)
        {
            return Err(Status::IoError);
        }
        self.place(sector, length as u64)
    }

    fn place(&self, sector: u64, length: u64) -> Result<u64, Status> {
        let offset = sector.checked_mul(SECTOR_BYTES).ok_or(Status::IoError)?;
        let end = offset.checked_add(length).ok_or(Status::IoError)?;
        if end <= self.view.size { Ok(offset) } else { Err(Status::IoError) }
    }

    /// Writes the serial number, cut to what the guest has room for.
    fn serial(mut self) -> Result<Plan, Status> {
        let room = length(&self.writable).min(self.view.serial.len());
        let target = take_front(&mut self.writable, room).ok_or(Status::IoError)?;
        if scatter(self.memory, &target, &self.view.serial[..room]) {
            Ok(Plan::Answer(Status::Ok, room as u32))
        } else {
            Err(Status::IoError)
        }
    }

    fn ranges(self, kind: u32) -> Result<Plan, Status> {
        let bytes = length(&self.readable);
        let count = bytes / RANGE_BYTES;
        if count == 0 || count > RANGES_MAX as usize || !bytes.is_multiple_of(RANGE_BYTES) {
            return Err(Status::IoError);
        }
        let mut ranges = vec![0; bytes];
        if !gather(self.memory, &self.readable, &mut ranges) {
            return Err(Status::IoError);
        }
        let (ranges, _) = ranges.as_chunks::<RANGE_BYTES>();
        let commands: Result<Vec<Command>, Status> =
            ranges.iter().map(|range| self.command(kind, range)).collect();
        Ok(submit(commands?))
    }

    fn command(&self, kind: u32, range: &[u8; RANGE_BYTES]) -> Result<Command, Status> {
        let sector = u64::from_le_bytes(*range.first_chunk().expect("a range has sixteen bytes"));
        let tail = last8(range);
        let count = u32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]);
        let flags = u32::from_le_bytes([tail[4], tail[5], tail[6], tail[7]]);
        let allowed = match kind {
            VIRTIO_BLK_T_WRITE_ZEROES => VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
            _ => 0,
        };
        if flags & !allowed != 0 {
            return Err(Status::Unsupported);
        }
        if count == 0 || count > RANGE_SECTORS_MAX {
            return Err(Status::IoError);
        }
        let length = u64::from(count) * SECTOR_BYTES;
        let offset = self.place(sector, length)?;
        let durability = self.view.choice.durability();
        Ok(match kind {
            VIRTIO_BLK_T_WRITE_ZEROES => {
                let hole = if flags == 0 { Hole::Refused } else { Hole::Allowed };
                Command::WriteZeroes { offset, length, hole, durability }
            }
            _ => Command::Trim { offset, length, durability },
        })
    }
}
