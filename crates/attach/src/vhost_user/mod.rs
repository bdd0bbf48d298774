//! vhost-user-blk: a volume as a virtio disk of a virtual machine on the same host.
//!
//! The virtual machine monitor (the *front-end*) connects to a unix socket, hands over the memory
//! of its guest and the virtqueues in it, and from then on the guest's requests are read from that
//! memory and answered into it. The message format is the vhost-user specification of the QEMU
//! project, cited below as *VU*; the queues and requests are those of the virtio 1.2 specification
//! (section 5.2 for block devices), cited as *VIRTIO*.
//!
//! Invariants:
//! - One thread owns a socket and its front-end. It takes requests off the rings in batches; the
//!   device's own thread writes the answers into guest memory and rings the guest, so an answered
//!   request wakes nobody on this side.
//! - Every address, length, index and sector that a guest writes is checked when it is read. A
//!   request that is wrong in itself is answered with an error; a ring that cannot be answered is
//!   stopped. Neither harms another ring or another volume.
//! - A ring is quiet before it is handed back: no write to guest memory follows the answer to
//!   GET_VRING_BASE, RESET_DEVICE or a closed socket.
//! - Which requests were taken and not answered is kept in memory the front-end holds
//!   ([`inflight`]), so that a new process does them again after this one died.
//!
//! The front-end is trusted with its own guest only: it can end its own session, and it must not
//! shrink the memory it has handed over while it is mapped here (seal it, as QEMU's
//! `memory-backend-memfd` does), because touching pages that are gone ends a process.

pub(crate) mod chain;
pub(crate) mod config;
pub mod export;
pub(crate) mod inflight;
pub(crate) mod memory;
pub mod message;
pub(crate) mod request;
pub(crate) mod ring;
pub(crate) mod session;
pub(crate) mod socket;

pub use export::{Disk, VhostExport};

/// Queues a front-end may use, one for each virtual processor at best.
pub const QUEUES_MAX: u16 = 16;

/// Longest queue, in descriptors; what QEMU allows at most.
pub const QUEUE_SIZE_MAX: u16 = 1024;

/// Data segments of one request (VIRTIO `seg_max`): a queue of 128 descriptors less header and
/// status.
pub const SEGMENTS_MAX: u32 = 126;

/// Longest data segment (VIRTIO `size_max`).
pub const SEGMENT_BYTES_MAX: u32 = 256 << 10;

/// Most data of one request: what the two limits above come to.
pub const PAYLOAD_BYTES_MAX: usize = SEGMENTS_MAX as usize * SEGMENT_BYTES_MAX as usize;

/// Data of one front-end's unanswered requests; the rings are not read past it. One request is
/// always admitted.
pub const BYTES_IN_FLIGHT_MAX: usize = 64 << 20;

/// Requests that go to the device at once.
pub const BATCH_REQUESTS_MAX: usize = 64;

/// Ranges of one DISCARD or WRITE_ZEROES request.
pub const RANGES_MAX: u32 = 32;

/// Longest range of a DISCARD or WRITE_ZEROES request, in sectors: 1 GiB.
pub const RANGE_SECTORS_MAX: u32 = 1 << 21;

/// Bytes of a sector, the unit of addresses (VIRTIO 5.2.4).
pub const SECTOR_BYTES: u64 = 512;

/// Pieces of memory a front-end may hand over; more are needed only for memory hot-plug.
pub const MEMORY_REGIONS_MAX: usize = 32;
