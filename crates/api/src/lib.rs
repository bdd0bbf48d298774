//! One file per operation, one pipeline for all of them.
//!
//! # Writing an operation
//!
//! Add `src/ops/<service>/<operation>.rs` with a struct named like the operation; the build script
//! registers it. What several operations of a service share goes to `src/ops/<service>/mod.rs`,
//! reached as `crate::ops::<service>::shared`. The layout of a file, top to bottom: one sentence with
//! the operation's name, the struct, its error constants, `Input`, `Output`, `Plan`, the
//! [`Operation`], helpers, tests.
//!
//! - `plan` resolves and validates; it only reads. Errors of the request itself come from here.
//! - `asks` lists every permission as data: action, resource ARN, condition keys, and the resource's
//!   own policy where it has one ([`Guard::Resource`]).
//! - `act` takes [`Granted`] and changes state in one transaction where it can; state is durable
//!   before it returns.
//! - `DryRun` is honoured by the pipeline for every input with a member of that name.
//! - Calls to another service go through [`Call::fork`] and [`pipeline::run`].

mod audit;
mod authenticate;
mod authorize;
pub mod backup;
mod bounds;
mod call;
pub mod channel;
pub mod compatibility;
mod decided;
mod decision;
mod direct;
mod directory;
mod error;
mod explain;
mod forge;
mod front;
mod housekeeping;
pub mod http;
mod inquiry;
pub mod issuer_keys;
mod key_events;
mod key_life;
#[cfg(test)]
mod key_states;
mod key_stores;
mod key_use;
mod kms_port;
mod last_use;
mod lint;
#[cfg(test)]
mod matrix;
#[cfg(test)]
mod modelled;
#[cfg(test)]
mod pages;
mod ops {
    include!(concat!(env!("OUT_DIR"), "/registry.rs"));
}
mod operator;
pub mod pipeline;
mod preflight;
mod refusal;
pub mod registry;
mod rehearsal;
#[cfg(test)]
mod revocation;
mod service;
mod storage;
mod suggest;
#[cfg(test)]
pub(crate) mod testing;
mod trail;
mod world;

pub use audit::Notes;
pub use call::{Call, Caller, Explain, Forwarded};
pub use error::{Error, INTERNAL};
pub use key_life::job_kinds;
pub use lifecycle::Enforcement;
pub use operator::{note_operator, operator};
pub use pipeline::{Ask, Granted, Guard, Http, Operation, Spec, run};
pub use rehearsal::Rehearsal;
pub use service::Service;
pub use trail::Trail;
pub use world::{ExplainIds, Parts, Regions, StartError, World};
