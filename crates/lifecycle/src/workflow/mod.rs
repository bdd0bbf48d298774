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
pub mod fast_restore;
pub mod initialize_volume;
mod keys;
pub mod modify_volume;
pub mod move_tier;
pub mod open_keys;
pub(crate) mod progress;
pub mod remote;
pub mod storage_space;
mod volume_files;
pub mod watch_upload;

use crate::services::Services;
use std::sync::Arc;

/// Whether a turn of work that goes on in turns was the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Nothing is left to do.
    Last,
    /// There is more.
    More,
}

/// What an earlier run left could not be taken up.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// What volumes there are could not be read.
    #[error("volumes cannot be brought back")]
    Volumes(#[source] crate::services::Trouble),
    /// Snapshots that were accepted could not be cut.
    #[error("snapshots that were being taken cannot be cut")]
    Snapshots(#[from] crate::services::Trouble),
    /// Attachments could not be read or written.
    #[error("attachments cannot be brought back")]
    Attachments(#[from] attach::AttachFailure),
}

/// Takes up what an earlier run of the server left. Call it once, before requests are served and
/// before jobs run.
///
/// # Errors
/// When the rows or the block store fail. A volume whose key is out of reach is no error here.
pub async fn recover(services: &Arc<Services>) -> Result<(), RecoverError> {
    volume_files::make_missing(services).await.map_err(RecoverError::Volumes)?;
    // Before cuts: a volume that a machine has open must not be opened here to be cut.
    remote::recover(services).await?;
    export_snapshot::recover(services).await?;
    Ok(attach::recover(services).await?)
}
