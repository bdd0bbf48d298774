//! What the process's memory is exposed to: core dumps, debuggers, swap.

use crate::exit::Failure;
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit,
};

/// Which mappings the kernel, and a debugger that asks like it, puts into a core dump: none.
const COREDUMP_FILTER: &str = "/proc/self/coredump_filter";

/// Keeps the whole process out of core dumps and out of reach of debuggers that are not root. Keys lie on pages that are
/// protected by themselves; this is for what passes through ordinary memory: requests, replies, key schedules.
pub(super) fn harden() -> Result<(), Failure> {
    // Without /proc the other two still hold.
    if let Err(error) = std::fs::write(COREDUMP_FILTER, "0") {
        tracing::warn!(%error, "{COREDUMP_FILTER} cannot be set");
    }
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })
        .map_err(std::io::Error::from)?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(std::io::Error::from)?;
    Ok(())
}

/// Says so when keys could be swapped out.
pub(super) fn warn_of_swap() {
    let pages = kms::unlocked_pages();
    if pages == 0 {
        return;
    }
    let limit = match getrlimit(Resource::Memlock).current {
        Some(bytes) => format!("{} KiB", bytes / 1024),
        None => "unlimited".to_owned(),
    };
    tracing::warn!(
        pages,
        limit,
        "keys are in memory that may be swapped out: the limit on locked memory (RLIMIT_MEMLOCK) is too low. Raise it \
         (`ulimit -l`, or LimitMEMLOCK=64M in the systemd unit), or encrypt the swap"
    );
}
