//! Work that outlives a request: durable jobs and the services made of them.
//!
//! Whatever takes longer than an answer may wait (copying, archiving, deleting, scheduled policies)
//! is a job of [`jobs`], resumed by any server after a crash. No state of such work lives only in memory.

pub mod jobs;

use meta::Migration;

/// The tables of this crate.
pub const MIGRATIONS: &[Migration] = &[jobs::MIGRATION];
