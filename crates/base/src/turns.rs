//! Whose turn it is on a processor that several threads want.
//!
//! The scheduler gives a thread that wakes the processor at once when its slice would end before that of the thread
//! that runs. Slices are alike by default, some milliseconds, so where processors are wanted by others a thread often
//! waits for one as long. A thread may ask for another slice (`sched_setattr(2)`; Linux from 6.12 on looks at it,
//! others ignore it). It gets no other share of the processor by that, and needs no privilege. Whether it is given
//! changes how soon somebody is answered and nothing else, so nothing fails here.

/// For a thread that works for some hundredths of a millisecond at a stretch, and for whom others wait.
const SHORT_SLICE_NANOSECONDS: u64 = 100_000;
/// The longest there is: every other thread that wakes has a shorter one.
const LONG_SLICE_NANOSECONDS: u64 = 100_000_000;
/// Gets about a tenth of a processor that is wanted by another. Not the lowest priority, which gets a hundredth: whoever
/// waits for the work would be kept for minutes.
const BEHIND_NICE: i32 = 10;

/// Has the calling thread run soon after it could: for short work that every caller waits for.
pub fn run_soon() {
    #[cfg(target_os = "linux")]
    if let Err(error) = linux::set(None, SHORT_SLICE_NANOSECONDS) {
        tracing::debug!(%error, "a thread has the slice that all threads have");
    }
}

/// Has every other thread that wakes go before the calling one, which keeps its share. For work that somebody waits
/// for, in stretches of milliseconds, beside work that is shorter.
pub fn give_way() {
    #[cfg(target_os = "linux")]
    if let Err(error) = linux::set(None, LONG_SLICE_NANOSECONDS) {
        tracing::debug!(%error, "a thread has the slice that all threads have");
    }
}

/// Has the calling thread let others go first, at once when they wake, and for all of its life: a priority cannot be
/// raised again. For work that takes the processor for long while callers and guests are served beside it. Threads
/// that it starts later are treated alike.
pub fn run_behind() {
    #[cfg(target_os = "linux")]
    if let Err(error) = linux::set(Some(BEHIND_NICE), LONG_SLICE_NANOSECONDS) {
        tracing::debug!(%error, "a thread keeps its priority");
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::io;

    /// Sets slice and priority of the calling thread. Where slices are not known the priority is set all the same.
    pub(super) fn set(nice: Option<i32>, slice_nanoseconds: u64) -> io::Result<()> {
        let size = u32::try_from(size_of::<libc::sched_attr>()).expect("a structure of some bytes");
        let attributes = libc::sched_attr {
            size,
            // The number of SCHED_OTHER; a thread under another policy is left alone.
            sched_policy: 0,
            sched_flags: u64::from(libc::SCHED_FLAG_KEEP_POLICY.cast_unsigned()),
            // Of the calling thread, on Linux.
            sched_nice: match nice {
                Some(nice) => nice,
                None => rustix::process::getpriority_process(None)?,
            },
            sched_priority: 0,
            sched_runtime: slice_nanoseconds,
            sched_deadline: 0,
            sched_period: 0,
        };
        #[expect(unsafe_code, reason = "no library has this call")]
        // SAFETY: the kernel reads `size` bytes of a structure that lives until it returns, and writes nothing.
        let answer =
            unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0_u32) };
        if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    #[cfg(test)]
    mod tests {
        use super::super::{BEHIND_NICE, LONG_SLICE_NANOSECONDS, SHORT_SLICE_NANOSECONDS};
        use super::*;

        fn attributes() -> libc::sched_attr {
            let mut found = std::mem::MaybeUninit::<libc::sched_attr>::zeroed();
            let size =
                u32::try_from(size_of::<libc::sched_attr>()).expect("a structure of some bytes");
            #[expect(unsafe_code, reason = "no library has this call")]
            // SAFETY: the kernel writes at most `size` bytes into a structure of that size, of which all bytes are
            // integers and were zero.
            unsafe {
                let answer =
                    libc::syscall(libc::SYS_sched_getattr, 0, found.as_mut_ptr(), size, 0_u32);
                assert_eq!(answer, 0, "{}", io::Error::last_os_error());
                found.assume_init()
            }
        }

        /// A kernel that knows slices tells them.
        fn slice_told(before: &libc::sched_attr, wanted: u64) -> u64 {
            if before.sched_runtime > 0 { wanted } else { 0 }
        }

        #[test]
        fn a_thread_that_runs_soon_stays_what_it_is_otherwise() {
            let thread = std::thread::spawn(|| {
                rustix::process::setpriority_process(None, 3).unwrap();
                let before = attributes();
                set(None, SHORT_SLICE_NANOSECONDS).unwrap();
                let after = attributes();
                assert_eq!((after.sched_policy, after.sched_nice), (before.sched_policy, 3));
                assert_eq!(after.sched_runtime, slice_told(&before, SHORT_SLICE_NANOSECONDS));
            });
            thread.join().unwrap();
        }

        #[test]
        fn a_thread_that_runs_behind_has_a_long_slice_and_so_have_those_it_starts() {
            let thread = std::thread::spawn(|| {
                let before = attributes();
                super::super::run_behind();
                let child = std::thread::spawn(attributes);
                for after in [attributes(), child.join().unwrap()] {
                    assert_eq!(
                        (after.sched_policy, after.sched_nice),
                        (before.sched_policy, BEHIND_NICE)
                    );
                    assert_eq!(after.sched_runtime, slice_told(&before, LONG_SLICE_NANOSECONDS));
                }
            });
            thread.join().unwrap();
            assert_eq!(
                attributes().sched_nice,
                rustix::process::getpriority_process(None).unwrap()
            );
        }
    }
}
