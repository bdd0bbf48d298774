//! Memory that a ring knows beforehand, so that the kernel need not find and hold its pages anew for
//! every request.
//!
//! A region is handed out in buffers of one size. It lives as long as any of them, and as the ring it
//! is registered with.
#![expect(unsafe_code, reason = "memory is taken from and given back to the system")]

use super::AlignedBuffer;
use crate::page::PAGE_BYTES;
use rustix::mm::{self, Advice, MapFlags, ProtFlags};
use std::io;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

/// Buffers side by side in memory, each of whole pages.
pub(super) struct Region {
    first: NonNull<u8>,
    slot_bytes: usize,
    slots: usize,
    /// Buffers that nobody has.
    free: Mutex<Vec<usize>>,
}

// SAFETY: the memory belongs to the value alone. It is reached through slots only, each of which is
// handed out to one owner at a time, and whoever shares a slot only reads it.
unsafe impl Send for Region {}
// SAFETY: as above; the list of free slots has its own lock.
unsafe impl Sync for Region {}

impl Region {
    /// Takes memory for `slots` buffers, zeros at first.
    ///
    /// # Errors
    /// When the system has none.
    pub(super) fn new(slots: usize, slot_bytes: usize) -> io::Result<Arc<Self>> {
        assert!(slot_bytes.is_multiple_of(PAGE_BYTES) && slots * slot_bytes > 0, "whole pages");
        let length = slots * slot_bytes;
        let (access, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
        // SAFETY: a new mapping at an address of the system's choice touches no memory in use.
        let first = unsafe { mm::mmap_anonymous(std::ptr::null_mut(), length, access, flags) }?;
        let start = first;
        let first = NonNull::new(first.cast()).expect("the system maps nothing at address 0");
        let free = Mutex::new((0..slots).rev().collect());
        let region = Self { first, slot_bytes, slots, free };
        // SAFETY: the range is the mapping made above; neither call changes what it holds. On an
        // error the mapping is given back by `drop`.
        unsafe {
            mm::madvise(start, length, Advice::LinuxDontDump)?;
            mm::madvise(start, length, Advice::LinuxDontFork)?;
        }
        Ok(Arc::new(region))
    }

    /// All of its memory.
    pub(super) fn memory(&self) -> (NonNull<u8>, usize) {
        (self.first, self.slots * self.slot_bytes)
    }

    /// All buffers that nobody has.
    pub(super) fn take_all(self: &Arc<Self>) -> Vec<AlignedBuffer> {
        let free = std::mem::take(&mut *self.free.lock().unwrap_or_else(PoisonError::into_inner));
        let slots = free.into_iter().map(|index| Slot { region: Arc::clone(self), index });
        slots.map(AlignedBuffer::of_slot).collect()
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        let (first, length) = self.memory();
        // SAFETY: the mapping was made in `new` with this length and nothing refers to it any more: a
        // slot holds its region. It cannot fail for a range that is mapped.
        let _ = unsafe { mm::munmap(first.as_ptr().cast(), length) };
    }
}

/// One buffer of a region. Dropped, it is free again.
pub(super) struct Slot {
    region: Arc<Region>,
    index: usize,
}

impl Slot {
    pub(super) fn region(&self) -> &Arc<Region> {
        &self.region
    }

    pub(super) fn bytes(&self) -> &[u8] {
        let Region { first, slot_bytes, .. } = *self.region;
        // SAFETY: the slot lies in the mapping, which holds zeros or what was written and lives as
        // long as the region. No other slot has its bytes, and writing needs `&mut self`.
        unsafe {
            NonNull::slice_from_raw_parts(first.add(self.index * slot_bytes), slot_bytes).as_ref()
        }
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        let Region { first, slot_bytes, .. } = *self.region;
        // SAFETY: as for `bytes`, and `&mut self` makes the reference the only one.
        unsafe {
            NonNull::slice_from_raw_parts(first.add(self.index * slot_bytes), slot_bytes).as_mut()
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.region.free.lock().unwrap_or_else(PoisonError::into_inner).push(self.index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_apart_and_come_back() {
        let region = Region::new(3, 2 * PAGE_BYTES).unwrap();
        let mut buffers = region.take_all();
        assert_eq!(buffers.len(), 3);
        assert!(region.take_all().is_empty());
        for (number, buffer) in (1..).zip(&mut buffers) {
            assert_eq!((buffer.len(), buffer.capacity()), (2 * PAGE_BYTES, 2 * PAGE_BYTES));
            assert!(buffer.iter().all(|byte| *byte == 0));
            assert!(buffer.as_ptr().addr().is_multiple_of(PAGE_BYTES));
            assert!(buffer.is_of(&region) && buffer.is_registered());
            buffer.fill(number);
        }
        for (number, buffer) in (1..).zip(&buffers) {
            assert!(buffer.iter().all(|byte| *byte == number));
        }
        buffers.pop();
        let mut again = region.take_all();
        assert_eq!(again.len(), 1);
        again[0].set_length(100);
        assert_eq!(again[0][..], [3; 100]);
        // The buffers hold the memory.
        drop(region);
        assert!(again[0].iter().chain(&buffers[0][..100]).all(|byte| *byte > 0));
    }
}
