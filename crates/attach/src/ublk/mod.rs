//! ublk: a volume as a block device of this machine, `/dev/ublkbN`, served from this process.
//!
//! The kernel's `ublk_drv` (Linux 6.5 and later for what is used here) hands requests to a process
//! over io_uring commands and takes the answers back the same way; cited below as *ublk_cmd.h*, the
//! kernel's header. Data is copied through the device's character file (`UBLK_F_USER_COPY`), so the
//! kernel never holds an address of this process.
//!
//! Invariants:
//! - A device outlives the process that serves it (`UBLK_F_USER_RECOVERY_REISSUE`): its users wait,
//!   and a new process takes it over and is given every unanswered request again.
//! - A device is taken over only for the volume it was made for; it carries that volume's mark.
//! - What the kernel sees as answered is what the block device answered: a flush or a forced write
//!   is answered after the device has answered it.
//!
//! The process that serves a device must not itself use it, nor hold file systems that do: writing
//! its own memory back could wait for itself.

pub(crate) mod abi;
pub(crate) mod control;
pub mod device;
pub(crate) mod queue;

pub use device::{UblkDevice, UblkStop};

use std::io;

/// Requests the kernel may hand over at once.
pub const QUEUE_DEPTH: u16 = 128;

/// Most data of one request.
pub const PAYLOAD_BYTES_MAX: u32 = 1 << 20;

/// Longest range of a discard or write-zeroes request, in sectors: 1 GiB.
pub const RANGE_SECTORS_MAX: u32 = 1 << 21;

/// How long the kernel may take to notice that the process before has gone.
pub const TAKE_OVER_SECONDS_MAX: u64 = 10;

/// Why a volume is not served as a block device of this machine.
#[derive(Debug, thiserror::Error)]
pub enum UblkError {
    /// The kernel has no ublk driver, or it is not loaded.
    #[error("the kernel has no ublk driver (/dev/ublk-control; module ublk_drv)")]
    NoDriver,
    /// The control file cannot be used.
    #[error("the ublk driver cannot be used")]
    Control(#[source] io::Error),
    /// The driver is older than what is used of it.
    #[error("the kernel's ublk driver is too old: it lacks features {missing:#x}")]
    TooOld {
        /// The missing bits of ublk_cmd.h `UBLK_F_*`.
        missing: u64,
    },
    /// The driver refused a command.
    #[error("the ublk driver refused to {what}")]
    Refused {
        /// What was asked.
        what: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Another living process serves the volume's device.
    #[error("/dev/ublkb{0} is served by another process")]
    InUse(u32),
    /// The link to the device, or a thread, cannot be made.
    #[error("the device cannot be set up")]
    SetUp(#[source] io::Error),
}

/// Whether the kernel has a ublk driver with everything that is used of it.
pub fn probe() -> Result<(), UblkError> {
    control::Control::open().map(drop)
}
