//! What happened: the audit trail and the events services send.
//!
//! [`record`] is the shape of an audit record, [`trail`] keeps it: a call that changes something is
//! begun before it acts and finished with its outcome, so that not even a crash hides it.
//! [`event`] and [`notification`] are the bus: `EBS Volume Notification` and its like. This crate
//! does not decide what is recorded and never sees a secret it would have to keep: members that
//! carry key material are dropped when a record is written ([`scrub`]).

pub mod bundle;
mod decisions;
mod error;
pub mod event;
pub mod identity;
pub mod journal;
mod kept;
pub mod notification;
pub mod record;
pub mod scrub;
pub mod trail;

pub use error::{Error, Result};
pub use event::{ServiceEvent, latest_events, list_events, put_event};
pub use identity::{SessionIssuer, UserIdentity};
pub use kept::{REQUEST_SCAN_MAX, decided, of_request, stored};
pub use record::{Call, Category, Record, Resource};
pub use trail::{
    Cursor, Filter, Found, Lookup, Page, append, begin, finish, lookup, recover_unfinished,
};

use meta::Migration;

/// The tables of this crate.
pub const MIGRATIONS: &[Migration] = &[trail::MIGRATION, event::MIGRATION, bundle::MIGRATION];
