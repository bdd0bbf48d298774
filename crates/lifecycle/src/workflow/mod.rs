//! The storage service's own work: what goes on after a request was answered, and attachments.
//!
//! Every workflow can be run again from its beginning at any time: it reads where it stands from the
//! rows, each step is idempotent, and what must not happen twice is one transaction.

pub mod attach;
pub mod collect;
pub mod copy_snapshot;
pub mod create_volume;
pub mod delete_volume;
pub mod export_snapshot;
mod keys;
mod progress;
pub mod watch_upload;
