//! A volume's file at the server and its engine at another machine: the channel between them.
//!
//! The machine that attaches a volume holds its data key and runs its engine; the server holds its
//! file. Between them travel sealed pages, sealed structure and positions, never a page in the clear
//! and never the data key ([`wire`]). Who may write is decided by a fence ([`gate`]), how long a machine
//! may go on without hearing from the server by a lease ([`lease`]).
//!
//! Invariants:
//! - A write reaches the file only while the gate is open for the session it came in, and the gate
//!   is held through the disk call: once the fence is taken, nothing of an older epoch follows.
//! - A machine acknowledges nothing after its lease, which ends by its own clock before it ends by the
//!   server's, whatever the two clocks drift within [`lease::DRIFT_PERCENT`].
//! - What a connection lost is sent again on the next one, in order, before anything new; requests
//!   of an older connection are refused from the moment a newer one begins.
//!
//! The crate knows no AWS, no KMS, no HTTP and no TLS: it is given streams.

pub mod client;
mod codec;
pub mod disk;
pub mod gate;
mod heard;
pub mod lease;
pub mod server;
pub mod space;
pub mod wire;

pub use client::{Dial, DialError, Link, Loss, Stream};
pub use disk::{RemoteBase, RemoteDisk};
pub use gate::Gate;
pub use lease::{BootClock, SteadyClock};
pub use server::{Away, Served, Snapshots};
pub use space::RemoteSpace;
pub use wire::SnapshotList;

/// A boxed future, as object-safe traits need it.
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn std::future::Future<Output = T> + Send + 'a>>;
