//! Memory for plaintext that outlives a request: never swapped out, not in core dumps, overwritten
//! before it is given back.
#![expect(unsafe_code, reason = "memory is taken from and given back to the system")]

use crate::page::{PAGE_BYTES, Page};
use rustix::mm::{self, Advice, MapFlags, MlockFlags, ProtFlags};
use std::io;
use std::ptr::NonNull;
use zeroize::Zeroize;

/// A fixed number of pages, zeros at first. Memory is used once a page is touched.
pub(super) struct LockedPages {
    first: NonNull<Page>,
    count: usize,
    /// Pages from this one on were never handed out for writing.
    touched: usize,
}

// SAFETY: the memory belongs to the value alone, and it is reached only through references to it.
unsafe impl Send for LockedPages {}

impl LockedPages {
    /// Takes memory for `count` pages.
    ///
    /// # Errors
    /// When the system does not let this process lock as much.
    pub(super) fn new(count: usize) -> io::Result<Self> {
        let length = count * PAGE_BYTES;
        let (access, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
        // SAFETY: a new mapping at an address of the system's choice touches no memory in use.
        let first = unsafe { mm::mmap_anonymous(std::ptr::null_mut(), length, access, flags) }?;
        let first = NonNull::new(first.cast()).expect("the system maps nothing at address 0");
        let pages = Self { first, count, touched: 0 };
        let start = pages.first.as_ptr().cast();
        // SAFETY: the range is the mapping made above; neither call changes what it holds. On an
        // error the mapping is given back by `drop`.
        unsafe {
            mm::mlock_with(start, length, MlockFlags::ONFAULT)?;
            mm::madvise(start, length, Advice::LinuxDontDump)?;
            mm::madvise(start, length, Advice::LinuxDontFork)?;
        }
        Ok(pages)
    }

    pub(super) fn page(&self, index: usize) -> &Page {
        assert!(index < self.count, "page {index} of {}", self.count);
        // SAFETY: the page lies in the mapping, which holds zeros or what was written, is aligned,
        // and lives as long as `self`; writing needs `&mut self`.
        unsafe { self.first.add(index).as_ref() }
    }

    pub(super) fn page_mut(&mut self, index: usize) -> &mut Page {
        assert!(index < self.count, "page {index} of {}", self.count);
        self.touched = self.touched.max(index + 1);
        // SAFETY: as for `page`, and `&mut self` makes the reference the only one.
        unsafe { self.first.add(index).as_mut() }
    }
}

impl Drop for LockedPages {
    fn drop(&mut self) {
        for index in 0..self.touched {
            self.page_mut(index).zeroize();
        }
        let length = self.count * PAGE_BYTES;
        // SAFETY: the mapping was made in `new` with this length and nothing refers to it any more.
        // It cannot fail for a range that is mapped.
        let _ = unsafe { mm::munmap(self.first.as_ptr().cast(), length) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_keep_what_is_written_and_are_kept_out_of_dumps() {
        let mut pages = LockedPages::new(9).unwrap();
        assert_eq!(*pages.page(8), [0; PAGE_BYTES]);
        pages.page_mut(8).fill(7);
        assert_eq!(*pages.page(8), [7; PAGE_BYTES]);
        assert_eq!(*pages.page(7), [0; PAGE_BYTES]);
        // What the kernel says of the mapping: locked ("lo") and "do not dump" ("dd").
        let start = format!("{:x}-", pages.first.as_ptr().addr());
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let entry = &maps[maps.find(&start).unwrap()..];
        let flags = entry.lines().find(|line| line.starts_with("VmFlags:")).unwrap();
        assert!(flags.contains(" lo") && flags.contains(" dd"), "{flags}");
    }
}
