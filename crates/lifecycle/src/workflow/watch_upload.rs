//! Ends uploads that went idle or whose snapshot was deleted, and lets go of what ended uploads
//! hold in the block store.
//!
//! One job per upload, from StartSnapshot until the upload has ended. It is the only thing that
//! fails an upload; completing one is the API's own work, and whichever removes the upload's row
//! first wins.

use super::export_snapshot::remove_if_deleted;
use crate::services::{Services, Trouble};
use base::{AccountId, Region, SnapshotId, Timestamp};
use ebs::{snapshot, upload};
use events::notification::{self, ArnForm, Outcome, Span};
use events::put_event;
use serde::{Deserialize, Serialize};

/// The upload to watch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchUpload {
    /// Where.
    pub region: Region,
    /// Whose.
    pub account: AccountId,
    /// The snapshot that blocks are put into.
    pub snapshot: SnapshotId,
    /// Counts the looks, to give each its own job.
    pub look: u64,
}

/// `StateMessage` of a snapshot whose client went away (spec 03, "StartSnapshot").
pub const TIMED_OUT: &str = "No data was written within the timeout of the snapshot";

/// Looks once. Answers when to look again, or `None` when the upload has ended.
///
/// # Errors
/// When the rows or the block store fail.
pub async fn run(services: &Services, job: &WatchUpload) -> Result<Option<Timestamp>, Trouble> {
    let now = services.clock.now();
    let envelope = services.envelope(&job.account, &job.region);
    let this = job.clone();
    let next = services
        .db
        .write(move |tx| {
            let Some(open) = upload::get(tx, &this.account, &this.region, &this.snapshot)? else {
                return Ok(None);
            };
            let row = snapshot::get(tx, &this.region, &this.snapshot)?;
            let deleted = row.as_ref().is_none_or(|row| row.delete_requested);
            if !deleted && !open.is_expired(now) {
                return Ok::<_, Trouble>(Some(open.expires()));
            }
            upload::remove(tx, &open)?;
            let Some(row) = row else { return Ok(None) };
            if snapshot::set_failed(tx, &row.region, &row.id, TIMED_OUT)? {
                let span = Span { start: row.started, end: now };
                let outcome = Outcome::Failed(TIMED_OUT.to_owned());
                let (form, id, volume) = (ArnForm::Regular, &row.id, &row.volume_id);
                let envelope = envelope.clone();
                let told =
                    notification::create_snapshot(envelope, form, id, volume, span, &outcome);
                put_event(tx, &told)?;
                remove_if_deleted(tx, &row, now)?;
            }
            Ok(None)
        })
        .await?;
    if next.is_none() {
        services.blocks.release_upload(&job.region, &job.snapshot).await?;
    }
    Ok(next)
}
