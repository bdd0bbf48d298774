//! A request's descriptors: what the guest points at, checked before anything is touched.

use virtio_queue::desc::RawDescriptor;
use virtio_queue::desc::split::Descriptor;
use vm_memory::{Address, Bytes, GuestAddress, GuestMemory, GuestMemoryMmap, Permissions};

use super::{PAYLOAD_BYTES_MAX, QUEUE_SIZE_MAX};

/// Bytes of a descriptor.
const DESCRIPTOR_BYTES: u32 = size_of::<RawDescriptor>() as u32;

/// Most bytes a chain may describe: the data, its header and its status, with room for a guest's
/// odd framing.
const CHAIN_BYTES_MAX: usize = PAYLOAD_BYTES_MAX + 4096;

/// Why a chain cannot be followed. The ring it came from is stopped: nobody knows what the guest
/// meant, and there may be no place for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ChainError {
    /// A descriptor's number is not one of its table's.
    #[error("descriptor {0} is outside its table")]
    Outside(u16),
    /// A descriptor cannot be read.
    #[error("a descriptor lies outside guest memory")]
    Unreadable,
    /// The chain does not end.
    #[error("a chain of descriptors has a loop")]
    Loop,
    /// A table within a table, one that goes on, or one of a wrong length.
    #[error("a table of descriptors is malformed")]
    BadTable,
    /// The data lies outside guest memory.
    #[error("a buffer lies outside guest memory")]
    BufferOutside,
    /// A buffer to read follows one to write.
    #[error("buffers to read follow buffers to write")]
    BadOrder,
    /// The chain describes more than any request has.
    #[error("a chain of descriptors is too long")]
    TooLong,
}

/// A run of guest memory that was checked to exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) address: GuestAddress,
    pub(crate) length: usize,
}

/// The buffers of a chain, in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Chain {
    /// What the guest wrote for the device.
    pub(crate) readable: Vec<Segment>,
    /// What the device writes for the guest.
    pub(crate) writable: Vec<Segment>,
}

/// A descriptor table.
#[derive(Clone, Copy)]
pub(crate) struct Table {
    pub(crate) address: GuestAddress,
    pub(crate) size: u16,
}

impl Table {
    fn read(&self, memory: &GuestMemoryMmap<()>, index: u16) -> Result<Descriptor, ChainError> {
        if index >= self.size {
            return Err(ChainError::Outside(index));
        }
        let offset = u64::from(index) * u64::from(DESCRIPTOR_BYTES);
        let address = self.address.checked_add(offset).ok_or(ChainError::Unreadable)?;
        let raw = memory.read_obj::<RawDescriptor>(address).map_err(|_| ChainError::Unreadable)?;
        Ok(raw.into())
    }
}

/// Whose descriptors are followed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    /// The ring's own.
    Ring,
    /// Those of a table that one of the ring's stands for.
    Table,
}

impl Chain {
    /// Follows the chain that starts at `head`. It may end in a table of its own (VIRTIO 2.7.5.3.2).
    pub(crate) fn follow(
        memory: &GuestMemoryMmap<()>,
        table: Table,
        head: u16,
    ) -> Result<Self, ChainError> {
        let mut chain = Self::default();
        let (mut descriptors, mut bytes) = (0, 0);
        let mut descriptor = table.read(memory, head)?;
        let mut table = table;
        let mut left = table.size;
        let mut level = Level::Ring;
        loop {
            if descriptor.refers_to_indirect_table() {
                if level == Level::Table {
                    return Err(ChainError::BadTable);
                }
                table = indirect(&descriptor)?;
                left = table.size;
                level = Level::Table;
                descriptor = table.read(memory, 0)?;
                continue;
            }
            left -= 1;
            descriptors += 1;
            bytes += descriptor.len() as usize;
            if descriptors > QUEUE_SIZE_MAX || bytes > CHAIN_BYTES_MAX {
                return Err(ChainError::TooLong);
            }
            chain.push(memory, &descriptor)?;
            if !descriptor.has_next() {
                return Ok(chain);
            }
            if left == 0 {
                return Err(ChainError::Loop);
            }
            descriptor = table.read(memory, descriptor.next())?;
        }
    }

    fn push(
        &mut self,
        memory: &GuestMemoryMmap<()>,
        descriptor: &Descriptor,
    ) -> Result<(), ChainError> {
        let segment = Segment { address: descriptor.addr(), length: descriptor.len() as usize };
        if segment.length == 0 {
            return Ok(());
        }
        if !memory.check_range(segment.address, segment.length, Permissions::ReadWrite) {
            return Err(ChainError::BufferOutside);
        }
        if descriptor.is_write_only() {
            self.writable.push(segment);
        } else if self.writable.is_empty() {
            self.readable.push(segment);
        } else {
            return Err(ChainError::BadOrder);
        }
        Ok(())
    }
}

/// The table that a descriptor stands for; nothing may follow it (VIRTIO 2.7.5.3.1).
fn indirect(descriptor: &Descriptor) -> Result<Table, ChainError> {
    let count = descriptor.len() / DESCRIPTOR_BYTES;
    let whole = descriptor.len().is_multiple_of(DESCRIPTOR_BYTES);
    if !whole || count == 0 || count > u32::from(QUEUE_SIZE_MAX) || descriptor.has_next() {
        return Err(ChainError::BadTable);
    }
    Ok(Table { address: descriptor.addr(), size: count as u16 })
}

/// Bytes of a list of segments.
pub(crate) fn length(segments: &[Segment]) -> usize {
    segments.iter().map(|segment| segment.length).sum()
}

/// Takes the first `count` bytes off the front; `None` when there are fewer.
pub(crate) fn take_front(segments: &mut Vec<Segment>, count: usize) -> Option<Vec<Segment>> {
    if length(segments) < count {
        return None;
    }
    let mut taken = Vec::new();
    let mut missing = count;
    while missing > 0 {
        let first = segments.first_mut()?;
        let length = first.length.min(missing);
        taken.push(Segment { address: first.address, length });
        missing -= length;
        if length == first.length {
            segments.remove(0);
        } else {
            first.address = first.address.unchecked_add(length as u64);
            first.length -= length;
        }
    }
    Some(taken)
}

/// Takes the last byte off the end; `None` when there is none.
pub(crate) fn take_last_byte(segments: &mut Vec<Segment>) -> Option<GuestAddress> {
    let last = segments.last_mut()?;
    last.length -= 1;
    let address = last.address.unchecked_add(last.length as u64);
    if last.length == 0 {
        segments.pop();
    }
    Some(address)
}

/// Copies out of guest memory; `bytes` is as long as the segments. `false` when the memory is gone.
#[must_use]
pub(crate) fn gather(memory: &GuestMemoryMmap<()>, segments: &[Segment], bytes: &mut [u8]) -> bool {
    let mut rest = bytes;
    for segment in segments {
        let (target, after) = rest.split_at_mut(segment.length);
        if memory.read_slice(target, segment.address).is_err() {
            return false;
        }
        rest = after;
    }
    true
}

/// Copies into guest memory; `bytes` is as long as the segments. `false` when the memory is gone.
#[must_use]
pub(crate) fn scatter(memory: &GuestMemoryMmap<()>, segments: &[Segment], bytes: &[u8]) -> bool {
    let mut rest = bytes;
    for segment in segments {
        let (source, after) = rest.split_at(segment.length);
        if memory.write_slice(source, segment.address).is_err() {
            return false;
        }
        rest = after;
    }
    true
}
