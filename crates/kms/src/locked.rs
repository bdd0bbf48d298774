//! Memory for secrets: pages of our own that are kept out of core dumps (`MADV_DONTDUMP`) and, where the
//! process's limit allows, out of swap (`mlock`).
//!
//! A [`Locked`] owns a page; it is for the few secrets that live as long as the process. A [`Slot`] is 32 bytes of
//! a page that many share; it is for keys that live as long as an operation. Both are wiped before they are given back.
//! How many pages could not be locked is counted, so that whoever starts a server can be told.

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mlock, mmap_anonymous, munmap};
use std::fmt;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use zeroize::Zeroize;

/// Bytes mapped; the kernel rounds up to its page size, and rounds every later call alike.
const MAPPED_LEN: usize = 4096;
/// Bytes of a slot.
const SLOT_LEN: usize = 32;

/// Pages that the limit on locked memory left swappable.
static UNLOCKED_PAGES: AtomicUsize = AtomicUsize::new(0);

/// How many pages that hold secrets could be swapped out, because the system's limit on locked memory is too low.
pub fn unlocked_pages() -> usize {
    UNLOCKED_PAGES.load(Ordering::Relaxed)
}

/// A page of zeros with both protections.
fn page() -> std::io::Result<NonNull<u8>> {
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
    #[expect(unsafe_code, reason = "memory attributes need a mapping of our own")]
    // SAFETY: `address` is the start of the live mapping of `MAPPED_LEN` bytes made above; the advice
    // only changes what a core dump holds.
    unsafe { madvise(address, MAPPED_LEN, Advice::LinuxDontDump) }?;
    #[expect(unsafe_code, reason = "memory attributes need a mapping of our own")]
    // SAFETY: as above; locking does not change the contents. A refusal (RLIMIT_MEMLOCK) leaves the page
    // usable, only swappable; it is counted and reported.
    let locked = unsafe { mlock(address, MAPPED_LEN) };
    if locked.is_err() {
        UNLOCKED_PAGES.fetch_add(1, Ordering::Relaxed);
    }
    NonNull::new(address.cast()).ok_or_else(|| std::io::ErrorKind::OutOfMemory.into())
}

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
        let mut locked = Self { page: page()?.cast() };
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

/// Slots that nobody has. All their bytes are zero. Pages are kept: as many as were ever needed at once.
static FREE: Mutex<Vec<Slot>> = Mutex::new(Vec::new());

/// 32 bytes of protected memory, zeros at first.
pub(crate) struct Slot {
    bytes: NonNull<[u8; SLOT_LEN]>,
}

impl Slot {
    /// Takes a free slot, or maps one more page of them.
    ///
    /// # Errors
    /// When the kernel gives no page, or cannot keep it out of dumps.
    pub(crate) fn zero() -> std::io::Result<Lent> {
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        if free.is_empty() {
            let page = page()?;
            for at in (0..MAPPED_LEN).step_by(SLOT_LEN) {
                #[expect(unsafe_code, reason = "slots are parts of a mapping of our own")]
                // SAFETY: `at` is inside the mapping, which is never unmapped.
                let bytes = unsafe { page.add(at) };
                free.push(Self { bytes: bytes.cast() });
            }
        }
        free.pop()
            .map(|slot| Lent(Some(slot)))
            .ok_or_else(|| std::io::ErrorKind::OutOfMemory.into())
    }
}

#[expect(unsafe_code, reason = "a slot is plain bytes owned by this value")]
// SAFETY: a slot is owned memory without thread affinity, and no two slots overlap.
unsafe impl Send for Slot {}
#[expect(unsafe_code, reason = "a slot is plain bytes owned by this value")]
// SAFETY: shared access only reads, and writing needs `&mut` of the one owner.
unsafe impl Sync for Slot {}

/// A slot in use; wiped and given back when dropped.
pub(crate) struct Lent(Option<Slot>);

impl Lent {
    pub(crate) fn expose(&self) -> &[u8; SLOT_LEN] {
        let slot = self.0.as_ref().expect("a slot is taken out by drop only");
        #[expect(unsafe_code, reason = "slots are parts of a mapping of our own")]
        // SAFETY: the slot's bytes are mapped for good, initialised, aligned for bytes, and this owner's
        // alone; `&self` excludes writers.
        unsafe {
            slot.bytes.as_ref()
        }
    }

    pub(crate) fn expose_mut(&mut self) -> &mut [u8; SLOT_LEN] {
        let slot = self.0.as_mut().expect("a slot is taken out by drop only");
        #[expect(unsafe_code, reason = "slots are parts of a mapping of our own")]
        // SAFETY: as in `expose`, and `&mut self` excludes every other reference.
        unsafe {
            slot.bytes.as_mut()
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.expose_mut().zeroize();
        if let Some(slot) = self.0.take() {
            FREE.lock().unwrap_or_else(PoisonError::into_inner).push(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The flags of the mapping that holds an address: "dd" is MADV_DONTDUMP, "lo" is mlock.
    fn flags(address: usize) -> Vec<String> {
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut inside = false;
        for line in smaps.lines() {
            let range = line.split(' ').next().and_then(|range| range.split_once('-'));
            let bound = |text: &str| usize::from_str_radix(text, 16).ok();
            if let Some((Some(start), Some(end))) = range.map(|(a, b)| (bound(a), bound(b))) {
                inside = (start..end).contains(&address);
            }
            if inside && let Some(flags) = line.strip_prefix("VmFlags:") {
                return flags.split_ascii_whitespace().map(str::to_owned).collect();
            }
        }
        panic!("nothing is mapped at {address:x}");
    }

    fn is_protected(address: usize) {
        let flags = flags(address);
        assert!(flags.iter().any(|flag| flag == "dd"), "{flags:?}");
        // In a process that may lock this much, which every default limit allows.
        if unlocked_pages() == 0 {
            assert!(flags.iter().any(|flag| flag == "lo"), "{flags:?}");
        }
    }

    #[test]
    fn a_page_is_locked_and_left_out_of_dumps() {
        let locked = Locked::new(&[0xa5; 32]).unwrap();
        assert_eq!(locked.expose(), &[0xa5; 32]);
        assert_eq!(format!("{locked:?}"), "Locked(..)");
        is_protected(locked.expose().as_ptr() as usize);
    }

    #[test]
    fn slots_are_protected_apart_and_come_back_wiped() {
        let mut slots: Vec<Lent> = (0..300).map(|_| Slot::zero().unwrap()).collect();
        for (number, slot) in slots.iter_mut().enumerate() {
            assert_eq!(slot.expose(), &[0; SLOT_LEN]);
            slot.expose_mut().fill(u8::try_from(number % 251).unwrap() + 1);
        }
        for (number, slot) in slots.iter().enumerate() {
            assert_eq!(slot.expose(), &[u8::try_from(number % 251).unwrap() + 1; SLOT_LEN]);
        }
        is_protected(slots[0].expose().as_ptr() as usize);
        is_protected(slots[299].expose().as_ptr() as usize);
        drop(slots);
        let again: Vec<Lent> = (0..300).map(|_| Slot::zero().unwrap()).collect();
        assert!(again.iter().all(|slot| slot.expose() == &[0; SLOT_LEN]));
    }
}
