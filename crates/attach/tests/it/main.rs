//! What a client sees of an export, with the crate's own client and with raw bytes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod exports;
mod guest;
mod hostile;
mod memory;
mod pieces;
mod session;
mod tls;
mod vhost_user;
mod volume;
