//! Memory that is more than memory: a ring knows it beforehand, so that the kernel need not find and
//! hold its pages anew for every request; or its pages are large; or it is a file's, and outlives the
//! process.
//!
//! A region is handed out in buffers of one size. It lives as long as any of them, and as the ring it
//! is registered with.
#![expect(unsafe_code, reason = "memory is taken from and given back to the system")]

use super::AlignedBuffer;
use crate::page::PAGE_BYTES;
use rustix::io::pwritev;
use rustix::mm::{self, Advice, MapFlags, ProtFlags};
use std::fs::File;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A large page, as x86-64 and AArch64 with 4 KiB pages have it.
pub(super) const LARGE_PAGE_BYTES: usize = 2 << 20;

/// Written to a file in one go as often as a slot takes.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// What a region consists of.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    pub(super) slots: usize,
    /// Bytes before each buffer, which go with it and are not part of it.
    pub(super) head_bytes: usize,
    pub(super) buffer_bytes: usize,
}

impl Layout {
    fn slot_bytes(self) -> usize {
        self.head_bytes + self.buffer_bytes
    }

    /// All of the memory.
    pub(super) fn length(self) -> usize {
        self.slots * self.slot_bytes()
    }
}

/// Has memory that nothing was written to yet made of large pages as it is used, as far as it has room
/// for them and the system has them.
pub(crate) fn prefer_large_pages(memory: &mut [MaybeUninit<u8>]) {
    let start: *mut u8 = memory.as_mut_ptr().cast();
    let before = start.addr().next_multiple_of(LARGE_PAGE_BYTES) - start.addr();
    let Some(length) = memory.len().checked_sub(before) else { return };
    let length = length - length % LARGE_PAGE_BYTES;
    if length > 0 {
        // SAFETY: the range lies in `memory`, which is borrowed for writing; the call changes neither
        // what it holds nor whose it is. A system without large pages refuses, and nothing is lost.
        let _ = unsafe { mm::madvise(start.add(before).cast(), length, Advice::LinuxHugepage) };
    }
}

/// Buffers side by side in memory, each of whole pages.
pub(super) struct Region {
    first: NonNull<u8>,
    layout: Layout,
    /// Buffers that nobody has.
    free: Mutex<Vec<usize>>,
    file: Option<Lender>,
}

/// The file whose memory a region is.
struct Lender {
    file: File,
    /// By slot: it has its pages.
    paged: Box<[AtomicBool]>,
}

// SAFETY: the memory belongs to the value alone. It is reached through slots only, each of which is
// handed out to one owner at a time, and whoever shares a slot only reads it.
unsafe impl Send for Region {}
// SAFETY: as above; the list of free slots has its own lock.
unsafe impl Sync for Region {}

impl Region {
    /// Takes memory of its own, zeros at first.
    ///
    /// # Errors
    /// When the system has none.
    pub(super) fn new(layout: Layout) -> io::Result<Arc<Self>> {
        let (access, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
        let (anywhere, length) = (std::ptr::null_mut(), layout.length());
        // SAFETY: a new mapping at an address of the system's choice touches no memory in use.
        let start = unsafe { mm::mmap_anonymous(anywhere, length, access, flags) }?;
        // SAFETY: the mapping was just made, and nobody else knows of it.
        unsafe { Self::over(start.cast(), layout, None) }
    }

    /// As [`Region::new`], of large pages where the system has them: the first use of one costs a
    /// quarter of what that of 512 small ones does, and the kernel finds and holds it for a disk as
    /// one. The length must be a multiple of [`LARGE_PAGE_BYTES`].
    ///
    /// # Errors
    /// As [`Region::new`].
    pub(super) fn of_large_pages(layout: Layout) -> io::Result<Arc<Self>> {
        let length = layout.length();
        assert!(length.is_multiple_of(LARGE_PAGE_BYTES), "{length} bytes are no large pages");
        let (access, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
        let anywhere = std::ptr::null_mut();
        // SAFETY: a new mapping at an address of the system's choice touches no memory in use.
        let mapped =
            unsafe { mm::mmap_anonymous(anywhere, length + LARGE_PAGE_BYTES, access, flags) }?;
        let mapped: *mut u8 = mapped.cast();
        let before = mapped.addr().next_multiple_of(LARGE_PAGE_BYTES) - mapped.addr();
        // SAFETY: both ends lie in the mapping that was just made, and nobody refers to them; what
        // remains between them begins at a large page, is as long as the layout, and is told to nobody
        // else.
        unsafe {
            let start = mapped.add(before);
            if before > 0 {
                mm::munmap(mapped.cast(), before)?;
            }
            if before < LARGE_PAGE_BYTES {
                mm::munmap(start.add(length).cast(), LARGE_PAGE_BYTES - before)?;
            }
            // A kernel without large pages refuses; the memory is as good as any other then.
            let _ = mm::madvise(start.cast(), length, Advice::LinuxHugepage);
            Self::over(start, layout, None)
        }
    }

    /// Takes the memory of a file that nobody else uses and that has room for all of it: what is
    /// written to it is there for whoever opens the file later, also when this process is killed.
    ///
    /// # Errors
    /// When the system cannot map the file.
    pub(super) fn of_file(file: &File, layout: Layout) -> io::Result<Arc<Self>> {
        let (access, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        let (anywhere, length) = (std::ptr::null_mut(), layout.length());
        // SAFETY: a new mapping at an address of the system's choice touches no memory in use.
        let start = unsafe { mm::mmap(anywhere, length, access, flags, file, 0) }?;
        let paged = (0..layout.slots).map(|_| AtomicBool::new(false)).collect();
        let lender = file.try_clone().map(|file| Lender { file, paged });
        // SAFETY: the mapping was just made, and nobody else knows of it.
        unsafe { Self::over(start.cast(), layout, lender.ok()) }
    }

    /// # Safety
    /// `start` begins a mapping of the layout's length that may be read and written and that the
    /// region alone has from now on.
    unsafe fn over(start: *mut u8, layout: Layout, file: Option<Lender>) -> io::Result<Arc<Self>> {
        let Layout { slots, head_bytes, buffer_bytes } = layout;
        assert!([head_bytes, buffer_bytes].iter().all(|n| n.is_multiple_of(PAGE_BYTES)));
        let first = NonNull::new(start).expect("the system maps nothing at address 0");
        let region = Self { first, layout, free: Mutex::new((0..slots).rev().collect()), file };
        // SAFETY: the range is the mapping; neither call changes what it holds. On an error the mapping
        // is given back by `drop`.
        unsafe {
            mm::madvise(start.cast(), layout.length(), Advice::LinuxDontDump)?;
            mm::madvise(start.cast(), layout.length(), Advice::LinuxDontFork)?;
        }
        Ok(Arc::new(region))
    }

    /// All of its memory.
    pub(super) fn memory(&self) -> (NonNull<u8>, usize) {
        (self.first, self.layout.length())
    }

    /// A copy of all of it, if nobody has a buffer.
    pub(super) fn copy(&self) -> Option<Vec<u8>> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < self.layout.slots {
            return None;
        }
        let (first, length) = self.memory();
        // SAFETY: the mapping lives as long as the region; every slot is free and stays so while the
        // list is locked, so nobody writes to it.
        Some(unsafe { NonNull::slice_from_raw_parts(first, length).as_ref() }.to_vec())
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
        // SAFETY: the buffer lies in the mapping, which holds zeros or what was written and lives as
        // long as the region. No other slot has its bytes, and writing needs `&mut self`.
        unsafe { self.part(self.region.layout.head_bytes).as_ref() }
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for `bytes`, and `&mut self` makes the reference the only one.
        unsafe { self.part(self.region.layout.head_bytes).as_mut() }
    }

    /// What goes before the buffer.
    pub(super) fn head_mut(&mut self) -> &mut [u8] {
        let head_bytes = self.region.layout.head_bytes;
        // SAFETY: as for `bytes_mut`; the head and the buffer are apart.
        let slot = unsafe { self.part(0).as_mut() };
        &mut slot[..head_bytes]
    }

    /// Has the file's memory under an unused slot made of pages as large as its file system can, by
    /// writing the zeros that are there anyway; page by page, as they are first touched, they would be
    /// small, cost more to make, and more whenever a disk is to write from them. Does nothing for
    /// memory that is no file's, or from the second time on.
    pub(super) fn page_in(&mut self) {
        let Some(Lender { file, paged }) = &self.region.file else { return };
        if paged[self.index].swap(true, Ordering::Relaxed) {
            return;
        }
        let length = self.region.layout.slot_bytes();
        let zeros: Vec<IoSlice<'_>> = (0..length)
            .step_by(ZEROS.len())
            .map(|at| IoSlice::new(&ZEROS[..ZEROS.len().min(length - at)]))
            .collect();
        // Less than all of it, or nothing, leaves the rest as it would have been.
        if let Err(error) = pwritev(file, &zeros, (self.index * length) as u64) {
            tracing::info!(%error, "memory of a volume's tail is made as it is used");
        }
    }

    /// The slot from `at` on.
    fn part(&self, at: usize) -> NonNull<[u8]> {
        let (first, layout) = (self.region.first, self.region.layout);
        let slot_bytes = layout.slot_bytes();
        // SAFETY: slot and offset lie in the mapping.
        let start = unsafe { first.add(self.index * slot_bytes + at) };
        NonNull::slice_from_raw_parts(start, slot_bytes - at)
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
        let layout = Layout { slots: 3, head_bytes: PAGE_BYTES, buffer_bytes: 2 * PAGE_BYTES };
        let region = Region::new(layout).unwrap();
        let mut buffers = region.take_all();
        assert_eq!(buffers.len(), 3);
        assert!(region.take_all().is_empty());
        for (number, buffer) in (1..).zip(&mut buffers) {
            assert_eq!((buffer.len(), buffer.capacity()), (2 * PAGE_BYTES, 2 * PAGE_BYTES));
            assert!(buffer.iter().all(|byte| *byte == 0));
            assert!(buffer.as_ptr().addr().is_multiple_of(PAGE_BYTES));
            assert!(buffer.is_of(&region) && buffer.is_of_a_region());
            buffer.head_mut().unwrap().fill(!number);
            buffer.fill(number);
        }
        for (number, buffer) in (1..).zip(&buffers) {
            assert!(buffer.iter().all(|byte| *byte == number));
        }
        assert_eq!(region.copy(), None);
        buffers.pop();
        let mut again = region.take_all();
        assert_eq!(again.len(), 1);
        again[0].set_length(100);
        assert_eq!(again[0][..], [3; 100]);
        // The buffers hold the memory.
        drop(region);
        assert!(again[0].iter().chain(&buffers[0][..100]).all(|byte| *byte > 0));
    }

    #[test]
    fn large_pages_are_memory_like_any_other() {
        for bytes in [256 << 10, LARGE_PAGE_BYTES, 2 * LARGE_PAGE_BYTES] {
            let mut buffers = AlignedBuffer::in_large_pages(bytes).unwrap();
            assert_eq!(buffers.len(), (LARGE_PAGE_BYTES / bytes).max(1));
            let first = buffers.iter().map(|buffer| buffer.as_ptr().addr()).min().unwrap();
            assert!(first.is_multiple_of(LARGE_PAGE_BYTES));
            for (number, buffer) in (1..).zip(&mut buffers) {
                assert_eq!((buffer.len(), buffer.capacity()), (bytes, bytes));
                assert!(buffer.iter().all(|byte| *byte == 0));
                buffer.fill(number);
            }
            for (number, buffer) in (1..).zip(&buffers) {
                assert!(buffer.iter().all(|byte| *byte == number));
            }
        }
    }

    #[test]
    fn a_slot_of_a_file_is_written_with_zeros_once() {
        let slot_bytes = PAGE_BYTES + 20 * PAGE_BYTES;
        let layout = Layout { slots: 3, head_bytes: PAGE_BYTES, buffer_bytes: 20 * PAGE_BYTES };
        let file = tempfile::tempfile().unwrap();
        // What is there shows what is written.
        let before = vec![5; layout.length()];
        std::os::unix::fs::FileExt::write_all_at(&file, &before, 0).unwrap();
        let region = Region::of_file(&file, layout).unwrap();
        let mut buffers = region.take_all();
        buffers.sort_unstable_by_key(|buffer| buffer.as_ptr().addr());
        buffers[1].page_in();
        drop(buffers);
        let mut expected = before;
        expected[slot_bytes..2 * slot_bytes].fill(0);
        assert!(region.copy().is_some_and(|copy| copy == expected));
        for mut buffer in region.take_all() {
            buffer.page_in();
            buffer.fill(7);
            buffer.page_in();
            assert!(buffer.iter().all(|byte| *byte == 7), "what was used is left alone");
        }
    }

    #[test]
    fn what_a_file_lends_is_in_the_file() {
        let layout = Layout { slots: 2, head_bytes: PAGE_BYTES, buffer_bytes: PAGE_BYTES };
        let file = tempfile::tempfile().unwrap();
        file.set_len(layout.length() as u64).unwrap();
        let region = Region::of_file(&file, layout).unwrap();
        for (number, buffer) in (1..).zip(&mut region.take_all()) {
            buffer.head_mut().unwrap().fill(number);
            buffer.fill(number + 10);
        }
        let mut found = vec![0; layout.length()];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut found, 0).unwrap();
        let pages: Vec<u8> = found.chunks(PAGE_BYTES).map(|page| page[17]).collect();
        assert!(pages == [1, 11, 2, 12] || pages == [2, 12, 1, 11], "{pages:?}");
        assert!(region.copy().is_some_and(|copy| copy == found));
    }
}
