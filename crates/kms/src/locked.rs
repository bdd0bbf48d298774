//! Memory for the few secrets that live as long as the process.
//!
//! Each [`Locked`] owns one anonymous page that is kept out of core dumps (`MADV_DONTDUMP`) and, where the
//! process's limit allows, out of swap (`mlock`). It is wiped before it is given back. Short-lived
//! secrets use [`base::Secret`] instead: a page and three system calls each would cost more than they give.

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mlock, mmap_anonymous, munmap};
use std::fmt;
use std::ptr::NonNull;
use zeroize::Zeroize;

/// Bytes mapped; the kernel rounds up to its page size, and rounds every later call alike.
const MAPPED_LEN: usize = 4096;

/// A fixed-size secret on a page of its own.
pub(crate) struct Locked<const N: usize> {
    page: NonNull<[u8; N]>,
}

impl<const N: usize> Locked<N> {
    /// Moves a secret onto a page of its own. The caller wipes its copy; [`base::Secret`] does on drop.
    ///
    /// # Errors
    /// When the kernel gives no page, or cannot keep it out of dumps.
    pub(crate) fn new(value: &[u8; N]) -> std::io::Result<Self> {
        const { assert!(N <= MAPPED_LEN, "a locked secret fits one page") };
        #[expect(unsafe_code, reason = "memory attributes need a mapping of our own")]
        // SAFETY: a null address lets the kernel choose, so no existing mapping is touched.
        let address = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                MAPPED_LEN,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )
        }?;
        let page =
            NonNull::new(address.cast::<[u8; N]>()).ok_or(std::io::ErrorKind::OutOfMemory)?;
        let mut locked = Self { page };
        #[expect(unsafe_code, reason = "memory attributes need a mapping of our own")]
        // SAFETY: `address` is the start of the live mapping of `MAPPED_LEN` bytes made above; the advice
        // only changes what a core dump holds.
        unsafe { madvise(address, MAPPED_LEN, Advice::LinuxDontDump) }?;
        #[expect(unsafe_code, reason = "memory attributes need a mapping of our own")]
        // SAFETY: as above; locking does not change the contents. A refusal (RLIMIT_MEMLOCK) leaves
        // the page usable, only swappable, and is accepted: swap is the operator's to encrypt.
        let _swappable = unsafe { mlock(address, MAPPED_LEN) };
        locked.expose_mut().copy_from_slice(value);
        Ok(locked)
    }

    /// The secret itself.
    pub(crate) fn expose(&self) -> &[u8; N] {
        #[expect(unsafe_code, reason = "memory attributes need a mapping of our own")]
        // SAFETY: the mapping is at least N bytes, zero-initialised by the kernel, aligned for bytes, lives
        // until drop, and `&self` excludes writers.
        unsafe {
            self.page.as_ref()
        }
    }

    fn expose_mut(&mut self) -> &mut [u8; N] {
        #[expect(unsafe_code, reason = "memory attributes need a mapping of our own")]
        // SAFETY: as in `expose`, and `&mut self` excludes every other reference.
        unsafe {
            self.page.as_mut()
        }
    }
}

impl<const N: usize> Drop for Locked<N> {
    fn drop(&mut self) {
        self.expose_mut().zeroize();
        #[expect(unsafe_code, reason = "memory attributes need a mapping of our own")]
        // SAFETY: the mapping is ours, made with this length, and no reference outlives `self`.
        let unmapped = unsafe { munmap(self.page.as_ptr().cast(), MAPPED_LEN) };
        debug_assert!(unmapped.is_ok());
    }
}

#[expect(unsafe_code, reason = "the page is plain bytes owned by this value")]
// SAFETY: the page is owned memory without thread affinity; moving the pointer moves the ownership.
unsafe impl<const N: usize> Send for Locked<N> {}
#[expect(unsafe_code, reason = "the page is plain bytes owned by this value")]
// SAFETY: shared access only reads, and writing needs `&mut self`.
unsafe impl<const N: usize> Sync for Locked<N> {}

impl<const N: usize> fmt::Debug for Locked<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Locked(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_the_value_and_is_left_out_of_dumps() {
        let locked = Locked::new(&[0xa5; 32]).unwrap();
        assert_eq!(locked.expose(), &[0xa5; 32]);
        assert_eq!(format!("{locked:?}"), "Locked(..)");
        // smaps lists each mapping with its flags; "dd" is MADV_DONTDUMP.
        let address = format!("{:x}-", locked.expose().as_ptr() as usize);
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let flags = smaps
            .lines()
            .skip_while(|line| !line.starts_with(&address))
            .find(|line| line.starts_with("VmFlags:"));
        // Neighbouring pages with the same flags may be merged into a mapping that begins earlier.
        if let Some(flags) = flags {
            assert!(flags.split(' ').any(|flag| flag == "dd"), "{flags}");
        }
        assert!(smaps.lines().any(|l| l.starts_with("VmFlags:") && l.contains(" dd")));
    }
}
