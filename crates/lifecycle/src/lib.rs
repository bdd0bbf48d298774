//! Durable work behind the API: volumes made usable, snapshots written, copies made, devices opened.
//!
//! It owns the traits it needs from above ([`port`]): KMS through the front door, the block store,
//! the hosts. It knows no wire and no policy; a call it makes for a user carries the user's identity
//! and is decided where all calls are decided.

mod base_switch;
pub mod cells;
pub mod check;
pub mod collections;
mod fair;
mod filling;
pub mod jobs;
pub mod kinds;
pub mod plain_key;
pub mod port;
mod repacking;
mod resealing;
pub mod services;
pub mod touches;
mod turn;
mod volume_turns;
pub mod workflow;

pub use fair::{BandwidthLimits, MoverKind};
pub use services::{Enforcement, Services, Trouble};
pub use volume_turns::VolumeTurns;

use meta::Migration;

/// The tables of this crate.
pub const MIGRATIONS: &[Migration] = &[jobs::MIGRATION, collections::MIGRATION];
