//! Memory as direct I/O wants it: it begins at a multiple of a page.

use super::region::{LARGE_PAGE_BYTES, Layout, Region, Slot};
use crate::page::PAGE_BYTES;
use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// Bytes that begin at a multiple of [`PAGE_BYTES`] in memory. Dereferences to its length.
pub struct AlignedBuffer {
    memory: Memory,
    capacity: usize,
    length: usize,
}

enum Memory {
    /// The bytes and what was left over to align them.
    Own { bytes: Box<[u8]>, start: usize },
    /// A part of a region.
    Slot(Slot),
}

impl AlignedBuffer {
    /// `length` zeros, with room for more up to the next multiple of a page.
    pub fn zeroed(length: usize) -> Self {
        let capacity = length.next_multiple_of(PAGE_BYTES).max(PAGE_BYTES);
        if capacity.is_multiple_of(LARGE_PAGE_BYTES)
            && let Ok(Some(mut buffer)) = Self::in_large_pages(capacity).map(|mut all| all.pop())
        {
            buffer.set_length(length);
            return buffer;
        }
        let bytes = vec![0; capacity + PAGE_BYTES - 1].into_boxed_slice();
        let start = bytes.as_ptr().addr().next_multiple_of(PAGE_BYTES) - bytes.as_ptr().addr();
        Self { memory: Memory::Own { bytes, start }, capacity, length }
    }

    /// Buffers of `bytes` zeros side by side in large pages, where the system has them: as many as one
    /// page holds, or one buffer. Each is a buffer like any other; their memory is given back with the
    /// last of them.
    ///
    /// # Errors
    /// When the system has no memory.
    ///
    /// # Panics
    /// When neither `bytes` nor a large page is a multiple of the other, or `bytes` is less than a
    /// page.
    pub fn in_large_pages(bytes: usize) -> io::Result<Vec<Self>> {
        let slots = (LARGE_PAGE_BYTES / bytes).max(1);
        let layout = Layout { slots, head_bytes: 0, buffer_bytes: bytes };
        Region::of_large_pages(layout).map(|region| region.take_all())
    }

    /// Has memory that is a file's and was never used made ready.
    pub(super) fn page_in(&mut self) {
        if let Memory::Slot(slot) = &mut self.memory {
            slot.page_in();
        }
    }

    /// All of a slot.
    pub(super) fn of_slot(slot: Slot) -> Self {
        let capacity = slot.bytes().len();
        Self { memory: Memory::Slot(slot), capacity, length: capacity }
    }

    /// Whether it is a part of some region, which is handed out again and again.
    pub(super) fn is_of_a_region(&self) -> bool {
        matches!(self.memory, Memory::Slot(_))
    }

    /// What goes before it in its region and is not part of it.
    pub(super) fn head_mut(&mut self) -> Option<&mut [u8]> {
        match &mut self.memory {
            Memory::Own { .. } => None,
            Memory::Slot(slot) => Some(slot.head_mut()).filter(|head| !head.is_empty()),
        }
    }

    /// Whether it is a part of a region.
    pub(super) fn is_of(&self, region: &Arc<Region>) -> bool {
        matches!(&self.memory, Memory::Slot(slot) if Arc::ptr_eq(slot.region(), region))
    }

    /// Bytes it has room for.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Changes the length. What lies past the old one is arbitrary.
    ///
    /// # Panics
    /// When the length is above the capacity.
    pub fn set_length(&mut self, length: usize) {
        assert!(length <= self.capacity, "{length} bytes do not fit {}", self.capacity);
        self.length = length;
    }
}

impl Deref for AlignedBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.memory {
            Memory::Own { bytes, start } => &bytes[*start..*start + self.length],
            Memory::Slot(slot) => &slot.bytes()[..self.length],
        }
    }
}

impl DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut self.memory {
            Memory::Own { bytes, start } => &mut bytes[*start..*start + self.length],
            Memory::Slot(slot) => &mut slot.bytes_mut()[..self.length],
        }
    }
}

impl fmt::Debug for AlignedBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AlignedBuffer({} of {} bytes)", self.length, self.capacity)
    }
}

/// Whether memory begins and ends where direct I/O can use it.
pub(super) fn is_aligned(bytes: &[u8]) -> bool {
    bytes.as_ptr().addr().is_multiple_of(PAGE_BYTES) && bytes.len().is_multiple_of(PAGE_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_buffer_begins_at_a_page() {
        for length in [0, 1, 4096, 5000, 1 << 20] {
            let mut buffer = AlignedBuffer::zeroed(length);
            assert_eq!(buffer.len(), length);
            assert!(buffer.as_ptr().addr().is_multiple_of(PAGE_BYTES));
            buffer.fill(7);
            buffer.set_length(buffer.capacity());
            assert!(is_aligned(&buffer));
            assert!(buffer[length..].iter().all(|byte| *byte == 0));
        }
    }
}
