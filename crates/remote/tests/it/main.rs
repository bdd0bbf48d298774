//! Tests of the channel: leases over a network that drops and delays, and sessions over real streams.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod by_hand;
mod calls;
mod leases;
mod pieces;
mod resending;
mod sessions;
mod silence;
