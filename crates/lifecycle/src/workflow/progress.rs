//! Progress of long work, written to the snapshot's row at a pace rows can bear.

use crate::services::Services;
use base::{Region, SnapshotId};
use std::future::Future;
use tokio::sync::watch;

/// Runs `work`, writing each percent it reports to the snapshot's row.
pub(crate) async fn with_progress<F, Fut>(
    services: &Services,
    region: &Region,
    snapshot: &SnapshotId,
    work: F,
) -> Fut::Output
where
    F: FnOnce(watch::Sender<u8>) -> Fut,
    Fut: Future,
{
    let (sender, mut receiver) = watch::channel(0);
    let work = work(sender);
    tokio::pin!(work);
    loop {
        tokio::select! {
            biased;
            output = &mut work => return output,
            Ok(()) = receiver.changed() => {
                let percent = *receiver.borrow_and_update();
                let (region, id) = (region.clone(), snapshot.clone());
                let written = services
                    .db
                    .write(move |tx| ebs::snapshot::set_progress(tx, &region, &id, percent))
                    .await;
                if let Err(error) = written {
                    // The number is for people; the work itself does not depend on it.
                    tracing::debug!(%error, "progress was not written");
                }
            }
        }
    }
}
