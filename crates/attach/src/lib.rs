//! Attached volumes as block devices: an NBD server over unix stream sockets and over TLS, and a small
//! client; [`vhost_user`], for the disks of virtual machines; [`ublk`], for block devices of this
//! machine.
//!
//! The server speaks fixed newstyle NBD (`doc/proto.md` of the NetworkBlockDevice project, cited
//! below as *NBD*) and knows nothing about encryption, snapshots or AWS: it turns bytes of a socket
//! into [`Request`]s for a [`BlockDevice`] and completions back into bytes.
//!
//! Invariants:
//! - A connection is owned by one thread. It submits everything the socket holds as one batch and
//!   sends everything that has completed with one gathering write; no lock is held while it does.
//! - Whatever a peer sends, a connection answers an error or closes. It never panics, never waits
//!   for ever in the handshake, and never holds more than the named limits in [`nbd`].
//! - A FLUSH or FUA is answered only after the device has answered it.

pub mod buffer;
pub mod client;
pub mod device;
pub mod export;
pub mod exports;
pub mod leased;
pub mod nbd;
pub mod tls;
pub mod ublk;
pub mod vault;
pub mod vhost_user;
pub mod volume;

pub use buffer::Buffer;
pub use device::{
    Answer, Answers, BlockDevice, Command, Completion, DeviceError, Durability, Extent,
    ExtentState, Hole, Milestone, Reply, Request, Sink, View, call,
};
pub use export::{Export, Stop, StopError};
pub use exports::{AttachError, Attached, DeviceName, DeviceNameError, Exports};
pub use leased::{Lease, LeasedDevice};
pub use ublk::{UblkDevice, UblkError, UblkStop};
pub use vault::{Protection, Swap, Vault, harden_process};
pub use vhost_user::{Disk, VhostExport};
pub use volume::{History, VolumeDevice};
