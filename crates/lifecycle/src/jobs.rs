//! Durable jobs: a row, a lease, idempotent steps and progress.
//!
//! A job is enqueued in the transaction that needs it, so it exists exactly when its cause does. A
//! [`Runner`] claims due jobs with a lease and a fence number that grows with every claim. All that
//! a job writes to rows through its [`JobContext`] checks the fence in the same transaction, so a
//! runner that lost its lease cannot write any more, however late it notices. What a job does
//! elsewhere (objects, other services) may happen twice and must be idempotent.
//!
//! A job ends once: [`Done`] and [`JobKind::give_up`] act in the transaction that ends it.

mod context;
mod kind;
mod lane;
mod rows;
mod runner;
mod settle;

pub use context::JobContext;
pub use kind::{Done, JobError, JobKind};
pub use lane::{Lane, Places};
pub use rows::{
    JOBS_PAGE_MAX, Job, JobState, NewJob, cancel, enqueue, get, hasten, list, prune_finished,
    release_held,
};
pub use runner::{Config, Kinds, LEASE_SECONDS, Runner, Waker};

pub(crate) use context::Interruption;
pub(crate) use rows::MIGRATION;
