//! Where a machine keeps the data key of a volume it has attached.
//!
//! The key lies alone on a page of secret memory (`memfd_secret`): the kernel takes the page out of its
//! own maps, so that neither a core dump, nor a debugger, nor another process as root reads it, and it
//! is never swapped. A kernel without it gives a locked page that is left out of dumps; which of the two
//! it is can be asked. Keys of single segments, derived from it, lie in ordinary memory: for them the
//! whole process is kept out of dumps and swap ([`harden_process`]).
#![expect(unsafe_code, reason = "secret memory is a mapping of our own")]

use base::Secret;
use blockstore::page::KeyCell;
use rustix::fs::ftruncate;
use rustix::mm::{
    Advice, MapFlags, MlockAllFlags, ProtFlags, madvise, mlock, mlockall, mmap, mmap_anonymous,
    munmap,
};
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use std::ffi::c_void;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr::{NonNull, null_mut};
use zeroize::Zeroize;

/// Bytes mapped; a page or a part of one.
const MAPPED_BYTES: usize = 4096;

/// What kind of memory holds the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// `memfd_secret`.
    SecretMemory,
    /// A locked page that core dumps leave out.
    LockedMemory,
}

impl Protection {
    /// The name for people and programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SecretMemory => "secret memory (memfd_secret)",
            Self::LockedMemory => "locked memory",
        }
    }
}

/// A key on a page of its own; wiped when dropped.
pub struct Vault {
    page: NonNull<[u8; 32]>,
    protection: Protection,
}

// SAFETY: the page belongs to the vault alone, is written only before the vault is shared and when it
// is dropped, and is not bound to a thread.
unsafe impl Send for Vault {}
// SAFETY: as above; shared access only reads.
unsafe impl Sync for Vault {}

impl Vault {
    /// Moves a key to a page of its own. The caller wipes its copy.
    ///
    /// # Errors
    /// When the kernel gives no page, or cannot keep it out of dumps and swap.
    pub fn new(key: &Secret<[u8; 32]>) -> io::Result<Self> {
        let (address, protection) = match secret_page() {
            Ok(address) => (address, Protection::SecretMemory),
            Err(error) => {
                tracing::debug!(%error, "no secret memory");
                (locked_page()?, Protection::LockedMemory)
            }
        };
        let page = NonNull::new(address.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        let mut vault = Self { page, protection };
        vault.page_mut().copy_from_slice(key.expose());
        Ok(vault)
    }

    /// What kind of memory it is.
    pub fn protection(&self) -> Protection {
        self.protection
    }

    fn page_mut(&mut self) -> &mut [u8; 32] {
        // SAFETY: the mapping is larger than the array, aligned for bytes, zeroed by the kernel, lives
        // until drop, and `&mut self` excludes every other reference.
        unsafe { self.page.as_mut() }
    }
}

impl KeyCell for Vault {
    fn expose(&self) -> &[u8; 32] {
        // SAFETY: as in `page_mut`, and `&self` excludes writers.
        unsafe { self.page.as_ref() }
    }
}

impl Drop for Vault {
    fn drop(&mut self) {
        self.page_mut().zeroize();
        // SAFETY: the mapping is ours, made with this length, and no reference outlives `self`.
        let unmapped = unsafe { munmap(self.page.as_ptr().cast(), MAPPED_BYTES) };
        debug_assert!(unmapped.is_ok());
    }
}

fn secret_page() -> io::Result<*mut c_void> {
    // SAFETY: the call takes one integer and touches no memory of ours.
    let fd = unsafe { libc::syscall(libc::SYS_memfd_secret, libc::O_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just given this descriptor to us, and nobody else knows it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    ftruncate(&fd, MAPPED_BYTES as u64)?;
    // SAFETY: a null address lets the kernel choose, so no existing mapping is touched.
    let address = unsafe {
        mmap(null_mut(), MAPPED_BYTES, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, &fd, 0)
    };
    // The mapping keeps the memory; without the descriptor nothing else can map it.
    Ok(address?)
}

fn locked_page() -> io::Result<*mut c_void> {
    // SAFETY: as in `secret_page`.
    let address = unsafe {
        mmap_anonymous(
            null_mut(),
            MAPPED_BYTES,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE,
        )
    }?;
    // SAFETY: `address` is the start of the live mapping of this length made above; the advice only
    // changes what a core dump holds, and locking does not change the contents.
    let kept = unsafe {
        madvise(address, MAPPED_BYTES, Advice::LinuxDontDump)
            .and_then(|()| mlock(address, MAPPED_BYTES))
    };
    if let Err(error) = kept {
        // SAFETY: the mapping made above, which nothing refers to.
        unsafe { munmap(address, MAPPED_BYTES) }?;
        let message = format!(
            "a key cannot be kept out of swap and dumps ({error}): let the process lock memory \
             (`LimitMEMLOCK=` of its unit, `ulimit -l` of its shell)"
        );
        return Err(io::Error::new(io::Error::from(error).kind(), message));
    }
    Ok(address)
}

/// Whether the process's memory can be swapped out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swap {
    /// It cannot.
    Locked,
    /// It can: the system's limit on locked memory is too low.
    Possible,
}

/// Keeps the whole process out of core dumps, out of reach of debuggers that are not root, and, where
/// the limits allow it, out of swap.
///
/// # Errors
/// When the kernel refuses to leave it out of dumps.
pub fn harden_process() -> io::Result<Swap> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    let all = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
    Ok(if mlockall(all).is_ok() { Swap::Locked } else { Swap::Possible })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel says of the mapping of this process that an address is in.
    fn mapping_of(address: usize) -> String {
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let holds = |line: &&str| {
            let (first, rest) = line.split_once('-').unwrap_or_default();
            let end = rest.split(' ').next().unwrap_or_default();
            let (first, end) = (usize::from_str_radix(first, 16), usize::from_str_radix(end, 16));
            first.is_ok_and(|first| first <= address) && end.is_ok_and(|end| address < end)
        };
        let from = maps.lines().skip_while(|line| !holds(line));
        let mut ours = String::new();
        for line in from {
            ours.extend([line, "\n"]);
            if line.starts_with("VmFlags:") {
                break;
            }
        }
        ours
    }

    #[test]
    fn a_key_is_kept_and_its_page_is_no_ordinary_memory() {
        let vault = Vault::new(&Secret::new([7; 32])).unwrap();
        assert_eq!(vault.expose(), &[7; 32]);
        let address = locked_page().unwrap();
        let ours = mapping_of(vault.page.as_ptr() as usize);
        assert_eq!(
            ours.contains("secretmem"),
            vault.protection() == Protection::SecretMemory,
            "{ours}"
        );
        let locked = mapping_of(address as usize);
        let flags = locked.lines().find_map(|line| line.strip_prefix("VmFlags:")).unwrap();
        assert!(flags.contains(" lo ") && flags.contains(" dd "), "{flags}");
        // SAFETY: the mapping made above, which nothing refers to.
        unsafe { munmap(address, MAPPED_BYTES) }.unwrap();
    }
}
