//! The data plane: pages under encryption, live volumes, snapshots.
//!
//! This crate knows no AWS, no KMS, no clock and no network. It receives data keys, disks and
//! object stores, and gives back bytes that are either what was written or an error.

pub mod check;
pub mod live;
mod out_of_space;
pub mod page;
pub mod snapshot;
pub mod store;
