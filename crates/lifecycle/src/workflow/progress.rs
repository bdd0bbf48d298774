//! Progress and checkpoints of long work, written to the rows of what it makes.

use crate::jobs::Interruption;
use crate::port::blocks::{Saved, Watch};
use crate::services::Services;
use base::{Region, SnapshotId, VolumeId};
use ebs::{Tiering, Twin, tiering, twin};
use meta::Db;
use std::future::Future;
use tokio::sync::watch;

/// What the work makes.
#[derive(Clone)]
pub(crate) enum Target {
    Snapshot(SnapshotId),
    Volume(VolumeId),
    /// A snapshot in another tier.
    Tier(Tiering),
    /// A snapshot's twin.
    Twin(Twin),
}

/// Writes checkpoints at once, from the thread that does the work, and hands percentages to the
/// task beside it, which writes them at a pace rows can bear.
pub(crate) struct Reporter {
    db: Db,
    region: Region,
    target: Target,
    percent: watch::Sender<u8>,
    interruption: Option<Interruption>,
}

tokio::task_local! {
    /// What interrupts the job that this task runs.
    static INTERRUPTION: Interruption;
}

/// Runs a job's work so that its threads learn when the runner wants the job back.
pub(crate) async fn interruptible<F: Future>(interruption: Interruption, work: F) -> F::Output {
    INTERRUPTION.scope(interruption, work).await
}

/// Watches work that keeps its own checkpoints.
pub(crate) struct Wanted(Option<Interruption>);

impl Wanted {
    pub(crate) fn of_this_job() -> Self {
        Self(INTERRUPTION.try_with(Interruption::clone).ok())
    }
}

impl Watch for Wanted {
    fn is_wanted(&self) -> bool {
        !self.0.as_ref().is_some_and(Interruption::is_interrupted)
    }

    fn progress(&self, _percent: u8) {}

    fn checkpoint(&self, _saved: Saved) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        Ok(())
    }
}

/// The row is gone or finished: the work is no longer wanted.
#[derive(Debug, thiserror::Error)]
#[error("nothing waits for this work any more")]
struct Unwanted;

impl Watch for Reporter {
    fn is_wanted(&self) -> bool {
        !self.interruption.as_ref().is_some_and(Interruption::is_interrupted)
    }

    fn is_turn_over(&self) -> bool {
        self.interruption.as_ref().is_some_and(Interruption::gives_way)
    }

    fn progress(&self, percent: u8) {
        self.percent.send_if_modified(|current| std::mem::replace(current, percent) != percent);
    }

    fn checkpoint(&self, saved: Saved) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let (region, target) = (self.region.clone(), self.target.clone());
        let keep = move |tx: &mut meta::Tx<'_>| {
            let Saved { state, root } = &saved;
            match &target {
                Target::Snapshot(id) => ebs::snapshot::set_checkpoint(tx, &region, id, state, root),
                Target::Volume(id) => ebs::volume::set_checkpoint(tx, &region, id, state, root),
                Target::Tier(tiering) => tiering::set_checkpoint(tx, tiering, state, root),
                Target::Twin(twin) => twin::set_checkpoint(tx, twin, state, root),
            }
        };
        // A thread of its own, because a thread of the runtime must not wait for the database.
        let kept = std::thread::scope(|scope| {
            let written = scope.spawn(|| self.db.write_blocking(keep)).join();
            written.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })?;
        if kept { Ok(()) } else { Err(Box::new(Unwanted)) }
    }
}

/// The last checkpoint of an interrupted attempt.
pub(crate) async fn resume(
    services: &Services,
    region: &Region,
    target: &Target,
) -> ebs::Result<Option<Vec<u8>>> {
    let (region, target) = (region.clone(), target.clone());
    services
        .db
        .read(move |tx| match &target {
            Target::Snapshot(id) => ebs::snapshot::checkpoint(tx, &region, id),
            Target::Volume(id) => ebs::volume::checkpoint(tx, &region, id),
            Target::Tier(tiering) => tiering::checkpoint(tx, tiering),
            Target::Twin(twin) => twin::checkpoint(tx, twin),
        })
        .await
}

/// Runs `work` with a reporter for what it makes.
pub(crate) async fn reported<F, Fut>(
    services: &Services,
    region: &Region,
    target: Target,
    work: F,
) -> Fut::Output
where
    F: FnOnce(Reporter) -> Fut,
    Fut: Future,
{
    let (percent, receiver) = watch::channel(0);
    let reporter = Reporter {
        db: services.db.clone(),
        region: region.clone(),
        target: target.clone(),
        percent,
        interruption: INTERRUPTION.try_with(Interruption::clone).ok(),
    };
    // The work blocks its task, so the numbers are written by another, which ends with the reporter.
    let writer = write_percentages(services.db.clone(), region.clone(), target, receiver);
    let writer = tokio::spawn(writer);
    let output = work(reporter).await;
    if let Err(error) = writer.await {
        tracing::debug!(%error, "progress was not written");
    }
    output
}

/// A volume shows no percentage. The number is for people; the work does not depend on it.
async fn write_percentages(
    db: Db,
    region: Region,
    target: Target,
    mut percent: watch::Receiver<u8>,
) {
    if let Target::Volume(_) = target {
        return;
    }
    while percent.changed().await.is_ok() {
        let percent = *percent.borrow_and_update();
        let (region, target) = (region.clone(), target.clone());
        let write = move |tx: &mut meta::Tx<'_>| match &target {
            Target::Snapshot(id) => ebs::snapshot::set_progress(tx, &region, id, percent),
            Target::Tier(tiering) => tiering::set_progress(tx, tiering, percent),
            Target::Twin(twin) => twin::set_progress(tx, twin, percent),
            Target::Volume(_) => Ok(()),
        };
        let written = db.write(write).await;
        if let Err(error) = written {
            tracing::debug!(%error, "progress was not written");
        }
    }
}
