//! How soon the journal's thread runs once it could.
//!
//! It sleeps in a flush most of the time, and every call waits for it. The scheduler gives a thread that wakes the
//! processor when its slice would end before that of the thread that runs; slices are alike by default, some
//! milliseconds, so where processors are wanted by others it often waited for one. It works for some hundredths of
//! a millisecond at a stretch and asks for a slice that says so (`sched_setattr(2)`; Linux from 6.12 on looks at it,
//! others ignore it). It gets no larger share of the processor by that, and needs no privilege.

/// The slice: longer than a batch takes, and far shorter than the default.
const SLICE_NANOSECONDS: u64 = 100_000;

/// Asks for the slice, for the calling thread. Whether it is given changes how fast calls are answered and nothing
/// else.
#[cfg(target_os = "linux")]
pub(super) fn ask_for_a_short_slice() {
    if let Err(error) = set_slice() {
        tracing::debug!(%error, "the trail's thread has the slice that all threads have");
    }
}

/// Nothing is known to ask elsewhere.
#[cfg(not(target_os = "linux"))]
pub(super) fn ask_for_a_short_slice() {}

#[cfg(target_os = "linux")]
fn set_slice() -> std::io::Result<()> {
    let size = u32::try_from(size_of::<libc::sched_attr>()).expect("a structure of some bytes");
    let attributes = libc::sched_attr {
        size,
        // The number of SCHED_OTHER; a thread under another policy is left alone.
        sched_policy: 0,
        sched_flags: u64::from(libc::SCHED_FLAG_KEEP_POLICY.cast_unsigned()),
        // Of the calling thread, on Linux; it stays as it is.
        sched_nice: rustix::process::getpriority_process(None)?,
        sched_priority: 0,
        sched_runtime: SLICE_NANOSECONDS,
        sched_deadline: 0,
        sched_period: 0,
    };
    #[expect(unsafe_code, reason = "no library has this call")]
    // SAFETY: the kernel reads `size` bytes of a structure that lives until it returns, and writes nothing.
    let answer = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0_u32) };
    if answer == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    fn attributes() -> libc::sched_attr {
        let mut found = std::mem::MaybeUninit::<libc::sched_attr>::zeroed();
        let size = u32::try_from(size_of::<libc::sched_attr>()).expect("a structure of some bytes");
        #[expect(unsafe_code, reason = "no library has this call")]
        // SAFETY: the kernel writes at most `size` bytes into a structure of that size, of which all bytes are
        // integers and were zero.
        unsafe {
            let answer = libc::syscall(libc::SYS_sched_getattr, 0, found.as_mut_ptr(), size, 0_u32);
            assert_eq!(answer, 0, "{}", std::io::Error::last_os_error());
            found.assume_init()
        }
    }

    #[test]
    fn a_thread_gets_its_slice_and_stays_what_it_is_otherwise() {
        std::thread::spawn(|| {
            rustix::process::setpriority_process(None, 3).unwrap();
            let before = attributes();
            set_slice().unwrap();
            let after = attributes();
            assert_eq!((after.sched_policy, after.sched_nice), (before.sched_policy, 3));
            // A kernel that knows slices tells them.
            let told = before.sched_runtime > 0;
            assert_eq!(after.sched_runtime, if told { SLICE_NANOSECONDS } else { 0 });
        })
        .join()
        .unwrap();
    }
}
