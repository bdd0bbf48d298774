//! Numbers and layouts of ublk_cmd.h. Pure.

/// What the device is asked for and what the driver must have.
pub(crate) mod feature {
    /// Users of the device wait while nobody serves it.
    pub(crate) const USER_RECOVERY: u64 = 1 << 3;
    /// Unanswered requests are handed over again.
    pub(crate) const USER_RECOVERY_REISSUE: u64 = 1 << 4;
    /// Commands are numbered as ioctls are.
    pub(crate) const CMD_IOCTL_ENCODE: u64 = 1 << 6;
    /// Data goes through the character file.
    pub(crate) const USER_COPY: u64 = 1 << 7;

    pub(crate) const REQUIRED: u64 =
        USER_RECOVERY | USER_RECOVERY_REISSUE | CMD_IOCTL_ENCODE | USER_COPY;
}

const READ_WRITE: u32 = 3;
const READ: u32 = 2;
const CONTROL_BYTES: u32 = 32;
const IO_BYTES: u32 = 16;

/// `_IOR` and `_IOWR` of asm-generic/ioctl.h for the type 'u'.
const fn command(direction: u32, number: u32, bytes: u32) -> u32 {
    direction << 30 | bytes << 16 | (b'u' as u32) << 8 | number
}

/// Control commands.
pub(crate) mod control {
    use super::{CONTROL_BYTES, READ, READ_WRITE, command};

    pub(crate) const ADD_DEV: u32 = command(READ_WRITE, 0x04, CONTROL_BYTES);
    pub(crate) const DEL_DEV: u32 = command(READ_WRITE, 0x05, CONTROL_BYTES);
    pub(crate) const START_DEV: u32 = command(READ_WRITE, 0x06, CONTROL_BYTES);
    pub(crate) const STOP_DEV: u32 = command(READ_WRITE, 0x07, CONTROL_BYTES);
    pub(crate) const SET_PARAMS: u32 = command(READ_WRITE, 0x08, CONTROL_BYTES);
    pub(crate) const GET_DEV_INFO: u32 = command(READ, 0x02, CONTROL_BYTES);
    pub(crate) const START_USER_RECOVERY: u32 = command(READ_WRITE, 0x10, CONTROL_BYTES);
    pub(crate) const END_USER_RECOVERY: u32 = command(READ_WRITE, 0x11, CONTROL_BYTES);
    pub(crate) const GET_FEATURES: u32 = command(READ, 0x13, CONTROL_BYTES);
}

/// Takes the first request of a tag.
pub(crate) const FETCH: u32 = command(READ_WRITE, 0x20, IO_BYTES);
/// Answers a tag's request and takes its next.
pub(crate) const COMMIT_AND_FETCH: u32 = command(READ_WRITE, 0x21, IO_BYTES);

/// Bytes of a request's descriptor.
pub(crate) const DESCRIPTOR_BYTES: usize = 24;

/// Bytes of a sector, the unit of requests.
const SECTOR_BYTES: u64 = 512;

/// A device that waits for a process to serve it.
pub(crate) const STATE_QUIESCED: u16 = 2;

/// Where a tag's data lies in the character file, for queue 0.
pub(crate) fn data_offset(tag: u16) -> u64 {
    0x8000_0000 + (u64::from(tag) << 25)
}

/// The body of a control command (`struct ublksrv_ctrl_cmd`) in the space of an entry.
pub(crate) fn control_body(device: u32, address: u64, length: u16, data: u64) -> [u8; 80] {
    let mut body = [0; 80];
    body[..4].copy_from_slice(&device.to_ne_bytes());
    // No queue in particular.
    body[4..6].copy_from_slice(&u16::MAX.to_ne_bytes());
    body[6..8].copy_from_slice(&length.to_ne_bytes());
    body[8..16].copy_from_slice(&address.to_ne_bytes());
    body[16..24].copy_from_slice(&data.to_ne_bytes());
    body
}

/// The body of a request command (`struct ublksrv_io_cmd`) for queue 0.
pub(crate) fn io_body(tag: u16, result: i32) -> [u8; 16] {
    let mut body = [0; 16];
    body[2..4].copy_from_slice(&tag.to_ne_bytes());
    body[4..8].copy_from_slice(&result.to_ne_bytes());
    body
}

/// `struct ublksrv_ctrl_dev_info`, as far as it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Info {
    pub(crate) queues: u16,
    pub(crate) depth: u16,
    pub(crate) state: u16,
    pub(crate) payload_max: u32,
    pub(crate) id: u32,
    pub(crate) features: u64,
    /// The driver keeps it and does not look at it.
    pub(crate) mark: u64,
}

pub(crate) const INFO_BYTES: usize = 64;

impl Info {
    pub(crate) fn to_bytes(self) -> [u8; INFO_BYTES] {
        let mut bytes = [0; INFO_BYTES];
        bytes[..2].copy_from_slice(&self.queues.to_ne_bytes());
        bytes[2..4].copy_from_slice(&self.depth.to_ne_bytes());
        bytes[4..6].copy_from_slice(&self.state.to_ne_bytes());
        bytes[8..12].copy_from_slice(&self.payload_max.to_ne_bytes());
        bytes[12..16].copy_from_slice(&self.id.to_ne_bytes());
        bytes[24..32].copy_from_slice(&self.features.to_ne_bytes());
        bytes[32..40].copy_from_slice(&self.mark.to_ne_bytes());
        bytes
    }

    pub(crate) fn parse(bytes: &[u8; INFO_BYTES]) -> Self {
        Self {
            queues: half(bytes, 0),
            depth: half(bytes, 2),
            state: half(bytes, 4),
            payload_max: word(bytes, 8),
            id: word(bytes, 12),
            features: long(bytes, 24),
            mark: long(bytes, 32),
        }
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    *bytes[at..].first_chunk().expect("the field lies inside its structure")
}

fn half(bytes: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes(array(bytes, at))
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(array(bytes, at))
}

fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(array(bytes, at))
}

/// Bytes of `struct ublk_params` with its basic and discard parts.
pub(crate) const PARAMS_BYTES: usize = 64;

/// The parameters of a device of `size` bytes: a volatile cache with FUA, sectors of 512 bytes,
/// pages of 4096, ranges that can be given back.
pub(crate) fn params(size: u64, payload_max: u32, range_sectors_max: u32) -> [u8; PARAMS_BYTES] {
    const BASIC_AND_DISCARD: u32 = 0b11;
    const VOLATILE_CACHE_AND_FUA: u32 = 0b1100;
    const SECTOR_SHIFT: u8 = 9;
    const PAGE_SHIFT: u8 = 12;
    let mut bytes = [0; PARAMS_BYTES];
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    put(0, &(PARAMS_BYTES as u32).to_ne_bytes());
    put(4, &BASIC_AND_DISCARD.to_ne_bytes());
    put(8, &VOLATILE_CACHE_AND_FUA.to_ne_bytes());
    put(12, &[SECTOR_SHIFT, PAGE_SHIFT, PAGE_SHIFT, PAGE_SHIFT]);
    put(16, &(payload_max >> SECTOR_SHIFT).to_ne_bytes());
    put(24, &(size >> SECTOR_SHIFT).to_ne_bytes());
    put(44, &(1u32 << PAGE_SHIFT).to_ne_bytes());
    put(48, &range_sectors_max.to_ne_bytes());
    put(52, &range_sectors_max.to_ne_bytes());
    put(56, &1u16.to_ne_bytes());
    bytes
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Read,
    Write,
    Flush,
    Discard,
    WriteZeroes,
}

/// A request's descriptor (`struct ublksrv_io_desc`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Descriptor {
    /// `None` for one that was not offered.
    pub(crate) operation: Option<Operation>,
    /// The answer must be durable.
    pub(crate) forced: bool,
    /// Zeroed blocks stay allocated.
    pub(crate) no_unmap: bool,
    pub(crate) sectors: u32,
    pub(crate) first: u64,
}

impl Descriptor {
    pub(crate) fn parse(bytes: &[u8; DESCRIPTOR_BYTES]) -> Self {
        let word = word(bytes, 0);
        let operation = match word & 0xff {
            0 => Some(Operation::Read),
            1 => Some(Operation::Write),
            2 => Some(Operation::Flush),
            3 => Some(Operation::Discard),
            5 => Some(Operation::WriteZeroes),
            _ => None,
        };
        Self {
            operation,
            forced: word & 1 << 13 != 0,
            no_unmap: word & 1 << 15 != 0,
            sectors: self::word(bytes, 4),
            first: long(bytes, 8),
        }
    }

    /// First byte and number of bytes; `None` when they lie outside a device of `size` bytes.
    pub(crate) fn range(&self, size: u64) -> Option<(u64, u64)> {
        let offset = self.first.checked_mul(SECTOR_BYTES)?;
        let length = u64::from(self.sectors) * SECTOR_BYTES;
        let end = offset.checked_add(length)?;
        (end <= size).then_some((offset, length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_header() {
        // As a C compiler makes them of ublk_cmd.h.
        assert_eq!(control::ADD_DEV, 0xc020_7504);
        assert_eq!(control::GET_DEV_INFO, 0x8020_7502);
        assert_eq!(FETCH, 0xc010_7520);
        assert_eq!(data_offset(1), 0x8200_0000);
    }

    #[test]
    fn structures_come_back() {
        let info = Info {
            queues: 1,
            depth: 128,
            state: 2,
            payload_max: 1 << 20,
            id: 7,
            features: feature::REQUIRED,
            mark: 0x0102_0304_0506_0708,
        };
        assert_eq!(Info::parse(&info.to_bytes()), info);
        let mut bytes = [0; DESCRIPTOR_BYTES];
        bytes[..4].copy_from_slice(&(1u32 | 1 << 13).to_ne_bytes());
        bytes[4..8].copy_from_slice(&8u32.to_ne_bytes());
        bytes[8..16].copy_from_slice(&16u64.to_ne_bytes());
        let expected = Descriptor {
            operation: Some(Operation::Write),
            forced: true,
            no_unmap: false,
            sectors: 8,
            first: 16,
        };
        assert_eq!(Descriptor::parse(&bytes), expected);
        assert_eq!(expected.range(24 * 512), Some((8192, 4096)));
        assert_eq!(expected.range(24 * 512 - 1), None);
        let flush = Descriptor { first: u64::MAX, ..expected };
        assert_eq!(flush.range(u64::MAX), None, "a flush has an arbitrary place");
    }
}
