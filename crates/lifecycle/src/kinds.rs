//! The workflows as durable jobs: names in the rows, enqueueing, and what giving up means.

use crate::jobs::{
    self, Done, JOBS_PAGE_MAX, Job, JobContext, JobError, JobKind, JobState, Kinds, Lane, NewJob,
    enqueue,
};
use crate::port::blocks::BlockError;
use crate::services::{INTERNAL_CAUSE, Services, Trouble};
use crate::workflow;
use crate::workflow::collect::{self, Collect, Schedule, Scope};
use crate::workflow::copy_snapshot::{self, CopySnapshot};
use crate::workflow::create_volume::{self, CreateVolume};
use crate::workflow::delete_volume::{self, DeleteVolume};
use crate::workflow::export_snapshot::{self, ExportSnapshot};
use crate::workflow::fast_restore::{self, EndFastRestore, PinTwin};
use crate::workflow::initialize_volume::{self, InitializeVolume, Turn};
use crate::workflow::modify_volume::{self, ModifyVolume};
use crate::workflow::move_tier::{self, MoveTier};
use crate::workflow::progress::interruptible;
use crate::workflow::watch_upload::{self, WatchUpload};
use base::{AccountId, Region, Timestamp};
use meta::Tx;
use std::future::Future;
use std::sync::Arc;

#[cfg(test)]
mod tests;

/// Every kind of this crate, for a runner.
pub fn kinds(services: &Arc<Services>) -> Kinds {
    Kinds::new()
        .with(CreateVolumeKind(Arc::clone(services)))
        .with(ExportSnapshotKind(Arc::clone(services)))
        .with(CopySnapshotKind(Arc::clone(services), copy_snapshot::OpenKeys::default()))
        .with(DeleteVolumeKind(Arc::clone(services)))
        .with(ModifyVolumeKind(Arc::clone(services)))
        .with(CollectKind(Arc::clone(services)))
        .with(WatchUploadKind(Arc::clone(services)))
        .with(InitializeVolumeKind(Arc::clone(services), initialize_volume::OpenKeys::default()))
        .with(ReleaseCutKind(Arc::clone(services)))
        .with(MoveTierKind(Arc::clone(services)))
        .with(PinTwinKind(Arc::clone(services)))
        .with(EndFastRestoreKind(Arc::clone(services)))
}

impl From<Trouble> for JobError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::NotYet { .. } => Self::Waiting { cause: trouble.to_string() },
            // No number of attempts makes room.
            Trouble::Blocks(error @ (BlockError::NoRoom(_) | BlockError::TooManyCuts(_))) => {
                Self::Waiting { cause: error.to_string() }
            }
            Trouble::Blocks(BlockError::TurnOver) => Self::Yielded,
            trouble if trouble.is_transient() => Self::retry(trouble),
            trouble => Self::permanent(trouble),
        }
    }
}

/// Rows that cannot be understood end a job for good; the database's own errors say it themselves.
fn rows_error(error: ebs::Error) -> meta::Error {
    match error {
        ebs::Error::Meta(error) => error,
        ebs::Error::Corrupt { .. } => meta::Error::Corrupt { detail: error.to_string() },
    }
}

/// Runs a workflow until it ends or the runner wants the job back.
async fn until_interrupted(
    ctx: &JobContext,
    work: impl Future<Output = Result<(), Trouble>>,
) -> Result<Done, JobError> {
    unless_interrupted(ctx, work).await.map(|()| Done::now())
}

/// As [`until_interrupted`], for work that has an outcome.
async fn unless_interrupted<T>(
    ctx: &JobContext,
    work: impl Future<Output = Result<T, Trouble>>,
) -> Result<T, JobError> {
    let work = interruptible(ctx.interruption(), work);
    tokio::select! {
        outcome = work => outcome.map_err(|trouble| match ctx.check() {
            // Work on threads of its own fails because it is interrupted.
            Err(reason) => reason,
            Ok(()) => trouble.into(),
        }),
        reason = ctx.interrupted() => Err(reason),
    }
}

fn new_job(account: &AccountId, region: &Region, id: String, now: Timestamp) -> NewJob {
    NewJob { account: account.clone(), region: region.clone(), id, now, run_after: now }
}

/// Workflows wait for other snapshots and for KMS; they give up after days, not minutes.
const ATTEMPTS_MAX: u32 = 1_000;

struct CreateVolumeKind(Arc<Services>);

impl JobKind for CreateVolumeKind {
    const KIND: &'static str = "lifecycle.create-volume";
    const ATTEMPTS_MAX: u32 = ATTEMPTS_MAX;
    type Payload = CreateVolume;

    async fn run(&self, ctx: &JobContext, payload: CreateVolume) -> Result<Done, JobError> {
        until_interrupted(ctx, create_volume::run(&self.0, &payload)).await
    }

    fn give_up(
        &self,
        tx: &mut Tx<'_>,
        _job: &Job,
        payload: &CreateVolume,
        _cause: &str,
    ) -> meta::Result<()> {
        let events = create_volume::failure_events(&self.0, payload, INTERNAL_CAUSE);
        create_volume::vanish_in(tx, payload, &events).map_err(trouble_in_rows)
    }
}

/// Enqueues the creation of a volume in the transaction that accepts it.
///
/// # Errors
/// When the database fails.
pub fn enqueue_create_volume(
    tx: &mut Tx<'_>,
    payload: &CreateVolume,
    now: Timestamp,
) -> meta::Result<()> {
    let id = format!("create-{}", payload.volume);
    let job = new_job(&payload.account, &payload.region, id, now);
    enqueue::<CreateVolumeKind>(tx, &job, payload).map(drop)
}

struct ExportSnapshotKind(Arc<Services>);

impl JobKind for ExportSnapshotKind {
    const KIND: &'static str = "lifecycle.export-snapshot";
    const ATTEMPTS_MAX: u32 = ATTEMPTS_MAX;
    const LANE: Lane = Lane::Movers;
    type Payload = ExportSnapshot;

    async fn run(&self, ctx: &JobContext, payload: ExportSnapshot) -> Result<Done, JobError> {
        until_interrupted(ctx, export_snapshot::run(&self.0, &payload)).await
    }

    fn give_up(
        &self,
        tx: &mut Tx<'_>,
        job: &Job,
        payload: &ExportSnapshot,
        _cause: &str,
    ) -> meta::Result<()> {
        export_snapshot::give_up(&self.0, tx, payload).map_err(trouble_in_rows)?;
        // What was written is no root's any more and goes with the next sweep; the cut is held in
        // the volume's log until it is let go.
        let now = self.0.clock.now();
        let id = format!("release-{}", payload.snapshot);
        let release = new_job(&job.account, &payload.region, id, now);
        enqueue::<ReleaseCutKind>(tx, &release, payload).map(drop)
    }
}

struct ReleaseCutKind(Arc<Services>);

impl JobKind for ReleaseCutKind {
    const KIND: &'static str = "lifecycle.release-cut";
    const ATTEMPTS_MAX: u32 = ATTEMPTS_MAX;
    type Payload = ExportSnapshot;

    async fn run(&self, ctx: &JobContext, payload: ExportSnapshot) -> Result<Done, JobError> {
        until_interrupted(ctx, export_snapshot::release(&self.0, &payload)).await
    }

    fn give_up(
        &self,
        _tx: &mut Tx<'_>,
        _job: &Job,
        payload: &ExportSnapshot,
        cause: &str,
    ) -> meta::Result<()> {
        tracing::error!(snapshot = %payload.snapshot, cause, "a cut could not be let go");
        Ok(())
    }
}

/// Enqueues the export of a snapshot in the transaction that accepts it.
///
/// # Errors
/// When the database fails.
pub fn enqueue_export_snapshot(
    tx: &mut Tx<'_>,
    account: &AccountId,
    payload: &ExportSnapshot,
    now: Timestamp,
) -> meta::Result<()> {
    let id = format!("export-{}", payload.snapshot);
    let job = new_job(account, &payload.region, id, now);
    enqueue::<ExportSnapshotKind>(tx, &job, payload).map(drop)
}

struct CopySnapshotKind(Arc<Services>, copy_snapshot::OpenKeys);

impl JobKind for CopySnapshotKind {
    const KIND: &'static str = "lifecycle.copy-snapshot";
    const ATTEMPTS_MAX: u32 = ATTEMPTS_MAX;
    const LANE: Lane = Lane::Movers;
    type Payload = CopySnapshot;

    async fn run(&self, ctx: &JobContext, payload: CopySnapshot) -> Result<Done, JobError> {
        until_interrupted(ctx, copy_snapshot::run(&self.0, &self.1, &payload)).await
    }

    fn give_up(
        &self,
        tx: &mut Tx<'_>,
        _job: &Job,
        payload: &CopySnapshot,
        _cause: &str,
    ) -> meta::Result<()> {
        copy_snapshot::give_up(&self.0, tx, payload).map_err(trouble_in_rows)
    }
}

/// Enqueues a copy in the transaction that accepts it.
///
/// # Errors
/// When the database fails.
pub fn enqueue_copy_snapshot(
    tx: &mut Tx<'_>,
    payload: &CopySnapshot,
    now: Timestamp,
) -> meta::Result<()> {
    let id = format!("copy-{}", payload.snapshot);
    let job = new_job(&payload.account, &payload.region, id, now);
    enqueue::<CopySnapshotKind>(tx, &job, payload).map(drop)
}

struct DeleteVolumeKind(Arc<Services>);

impl JobKind for DeleteVolumeKind {
    const KIND: &'static str = "lifecycle.delete-volume";
    const ATTEMPTS_MAX: u32 = ATTEMPTS_MAX;
    type Payload = DeleteVolume;

    async fn run(&self, ctx: &JobContext, payload: DeleteVolume) -> Result<Done, JobError> {
        until_interrupted(ctx, delete_volume::run(&self.0, &payload)).await
    }

    fn give_up(
        &self,
        _tx: &mut Tx<'_>,
        _job: &Job,
        payload: &DeleteVolume,
        cause: &str,
    ) -> meta::Result<()> {
        // The volume stays `deleting`, where people see it; its bytes are nobody's.
        tracing::error!(volume = %payload.volume, cause, "a volume could not be removed");
        Ok(())
    }
}

/// Enqueues the removal of a volume in the transaction that accepts it.
///
/// # Errors
/// When the database fails.
pub fn enqueue_delete_volume(
    tx: &mut Tx<'_>,
    payload: &DeleteVolume,
    now: Timestamp,
) -> meta::Result<()> {
    let id = format!("delete-{}", payload.volume);
    let job = new_job(&payload.account, &payload.region, id, now);
    enqueue::<DeleteVolumeKind>(tx, &job, payload).map(drop)
}

struct ModifyVolumeKind(Arc<Services>);

impl JobKind for ModifyVolumeKind {
    const KIND: &'static str = "lifecycle.modify-volume";
    const ATTEMPTS_MAX: u32 = ATTEMPTS_MAX;
    type Payload = ModifyVolume;

    async fn run(&self, ctx: &JobContext, payload: ModifyVolume) -> Result<Done, JobError> {
        until_interrupted(ctx, modify_volume::run(&self.0, &payload)).await
    }

    fn give_up(
        &self,
        tx: &mut Tx<'_>,
        _job: &Job,
        payload: &ModifyVolume,
        _cause: &str,
    ) -> meta::Result<()> {
        modify_volume::give_up(&self.0, tx, payload).map_err(trouble_in_rows)
    }
}

/// Enqueues a modification in the transaction that accepts it.
///
/// # Errors
/// When the database fails.
pub fn enqueue_modify_volume(
    tx: &mut Tx<'_>,
    payload: &ModifyVolume,
    now: Timestamp,
) -> meta::Result<()> {
    let id = format!("modify-{}-{}", payload.volume, payload.number);
    let job = new_job(&payload.account, &payload.region, id, now);
    enqueue::<ModifyVolumeKind>(tx, &job, payload).map(drop)
}

struct CollectKind(Arc<Services>);

impl JobKind for CollectKind {
    const KIND: &'static str = "lifecycle.collect-blocks";
    const LANE: Lane = Lane::Collections;
    type Payload = Collect;

    async fn run(&self, ctx: &JobContext, payload: Collect) -> Result<Done, JobError> {
        let next = unless_interrupted(ctx, collect::run(&self.0, &payload)).await?;
        let Some(run_after) = next else { return Ok(Done::now()) };
        let (account, now) = (ctx.job().account.clone(), ctx.clock().now());
        Ok(Done::with(move |tx| Ok(enqueue_next_look(tx, &account, &payload, now, run_after)?)))
    }

    fn give_up(
        &self,
        _tx: &mut Tx<'_>,
        _job: &Job,
        payload: &Collect,
        cause: &str,
    ) -> meta::Result<()> {
        // The next deletion in the region asks again.
        tracing::error!(region = %payload.region, cause, "blocks were not collected");
        Ok(())
    }
}

/// Enqueues a collection of what was deleted in a region, once for any number of requests of one moment.
///
/// # Errors
/// When the database fails.
pub fn enqueue_collect(
    tx: &mut Tx<'_>,
    account: &AccountId,
    region: &Region,
    now: Timestamp,
) -> meta::Result<()> {
    let payload = Collect { region: region.clone(), scope: Scope::Nominated };
    let id = format!("collect-{}-{}", payload.scope.as_str(), now.0);
    enqueue::<CollectKind>(tx, &new_job(account, region, id, now), &payload).map(drop)
}

/// Enqueues another look, unless one waits for its time already: that one finds what this one left, and asks
/// for the next. If every look that leaves something had its own, each sweep would add one for every day.
fn enqueue_next_look(
    tx: &mut Tx<'_>,
    account: &AccountId,
    payload: &Collect,
    now: Timestamp,
    run_after: Timestamp,
) -> meta::Result<()> {
    // Moments have as many digits until the year 2286, so those to come are listed after this one.
    let looks = format!("collect-{}-", payload.scope.as_str());
    let id_at = |at: Timestamp| format!("{looks}{}", at.0);
    let to_come = jobs::list(tx, account, &payload.region, &id_at(now), JOBS_PAGE_MAX)?;
    let mut to_come = to_come.iter().take_while(|job| job.id.starts_with(&looks));
    if to_come.any(|job| job.state == JobState::Queued) {
        return Ok(());
    }
    let job = NewJob { run_after, ..new_job(account, &payload.region, id_at(run_after), now) };
    enqueue::<CollectKind>(tx, &job, payload).map(drop)
}

/// Enqueues the collections of a region that are due by the clock: one of each scope in every
/// interval, however often this is called and however often the server starts.
///
/// # Errors
/// When the database fails.
pub fn enqueue_due_collections(
    tx: &mut Tx<'_>,
    operator: &AccountId,
    region: &Region,
    schedule: &Schedule,
    now: Timestamp,
) -> meta::Result<()> {
    let intervals = [
        (Scope::Nominated, schedule.collect_interval_seconds),
        (Scope::Everything, schedule.sweep_interval_seconds),
    ];
    for (scope, interval_seconds) in intervals {
        let turn = now.0 / (interval_seconds.max(1) * 1000);
        let id = format!("due-{}-{interval_seconds}-{turn}", scope.as_str());
        let payload = Collect { region: region.clone(), scope };
        enqueue::<CollectKind>(tx, &new_job(operator, region, id, now), &payload)?;
    }
    Ok(())
}

struct WatchUploadKind(Arc<Services>);

impl JobKind for WatchUploadKind {
    const KIND: &'static str = "lifecycle.watch-upload";
    const ATTEMPTS_MAX: u32 = ATTEMPTS_MAX;
    type Payload = WatchUpload;

    async fn run(&self, ctx: &JobContext, payload: WatchUpload) -> Result<Done, JobError> {
        let next = tokio::select! {
            outcome = watch_upload::run(&self.0, &payload) => outcome?,
            reason = ctx.interrupted() => return Err(reason),
        };
        let Some(run_after) = next else { return Ok(Done::now()) };
        let now = ctx.clock().now();
        let payload = WatchUpload { look: payload.look + 1, ..payload };
        Ok(Done::with(move |tx| Ok(enqueue_watch_upload(tx, &payload, now, run_after)?)))
    }

    fn give_up(
        &self,
        _tx: &mut Tx<'_>,
        _job: &Job,
        payload: &WatchUpload,
        cause: &str,
    ) -> meta::Result<()> {
        tracing::error!(snapshot = %payload.snapshot, cause, "an upload is not watched any more");
        Ok(())
    }
}

/// Enqueues a look at an upload: the first in the transaction that begins it.
///
/// # Errors
/// When the database fails.
pub fn enqueue_watch_upload(
    tx: &mut Tx<'_>,
    payload: &WatchUpload,
    now: Timestamp,
    run_after: Timestamp,
) -> meta::Result<()> {
    let id = format!("watch-{}-{}", payload.snapshot, payload.look);
    let job = NewJob { run_after, ..new_job(&payload.account, &payload.region, id, now) };
    enqueue::<WatchUploadKind>(tx, &job, payload).map(drop)
}

struct InitializeVolumeKind(Arc<Services>, initialize_volume::OpenKeys);

impl JobKind for InitializeVolumeKind {
    const KIND: &'static str = "lifecycle.initialize-volume";
    const ATTEMPTS_MAX: u32 = ATTEMPTS_MAX;
    const LANE: Lane = Lane::Movers;
    type Payload = InitializeVolume;

    async fn run(&self, ctx: &JobContext, payload: InitializeVolume) -> Result<Done, JobError> {
        let work = initialize_volume::run(&self.0, &self.1, &payload);
        match unless_interrupted(ctx, work).await? {
            Turn::Last => Ok(Done::now()),
            Turn::More => Err(JobError::Yielded),
            Turn::Waits(until) => {
                // A job of its own: waiting for somebody's key is no failed attempt.
                let now = ctx.clock().now();
                let payload = InitializeVolume { look: payload.look + 1, ..payload };
                Ok(Done::with(move |tx| Ok(enqueue_initialization(tx, &payload, now, until)?)))
            }
        }
    }

    fn give_up(
        &self,
        tx: &mut Tx<'_>,
        _job: &Job,
        payload: &InitializeVolume,
        cause: &str,
    ) -> meta::Result<()> {
        // The volume goes on reading through to its base.
        tracing::error!(volume = %payload.volume, cause, "a volume is not filled any further");
        let InitializeVolume { region, volume, .. } = payload;
        ebs::initialization::give_up(tx, region, volume, cause).map_err(rows_error)?;
        ebs::foreign_base::fail_snapshots(tx, region, volume, cause).map_err(rows_error)
    }
}

/// Enqueues the filling of a volume in the transaction that makes it usable.
///
/// # Errors
/// When the database fails.
pub fn enqueue_initialize_volume(
    tx: &mut Tx<'_>,
    payload: &InitializeVolume,
    now: Timestamp,
) -> meta::Result<()> {
    enqueue_initialization(tx, payload, now, now)
}

fn enqueue_initialization(
    tx: &mut Tx<'_>,
    payload: &InitializeVolume,
    now: Timestamp,
    run_after: Timestamp,
) -> meta::Result<()> {
    let id = match payload.look {
        0 => format!("initialize-{}", payload.volume),
        look => format!("initialize-{}-{look}", payload.volume),
    };
    let job = NewJob { run_after, ..new_job(&payload.account, &payload.region, id, now) };
    enqueue::<InitializeVolumeKind>(tx, &job, payload).map(drop)
}

struct MoveTierKind(Arc<Services>);

impl JobKind for MoveTierKind {
    const KIND: &'static str = "lifecycle.move-snapshot-tier";
    const ATTEMPTS_MAX: u32 = ATTEMPTS_MAX;
    const LANE: Lane = Lane::Movers;
    type Payload = MoveTier;

    async fn run(&self, ctx: &JobContext, payload: MoveTier) -> Result<Done, JobError> {
        match unless_interrupted(ctx, move_tier::run(&self.0, &payload)).await? {
            workflow::Turn::Last => Ok(Done::now()),
            workflow::Turn::More => Err(JobError::Yielded),
        }
    }

    fn give_up(
        &self,
        tx: &mut Tx<'_>,
        _job: &Job,
        payload: &MoveTier,
        _cause: &str,
    ) -> meta::Result<()> {
        move_tier::give_up(&self.0, tx, payload).map_err(trouble_in_rows)
    }
}

/// Enqueues a move between tiers in the transaction that accepts it.
///
/// # Errors
/// When the database fails.
pub fn enqueue_move_tier(tx: &mut Tx<'_>, payload: &MoveTier, now: Timestamp) -> meta::Result<()> {
    let job = new_job(&payload.account, &payload.region, move_tier_id(payload), now);
    enqueue::<MoveTierKind>(tx, &job, payload).map(drop)
}

/// Asks that a move between tiers be given up, because its snapshot is gone.
///
/// # Errors
/// When the database fails.
pub fn cancel_move_tier(tx: &mut Tx<'_>, payload: &MoveTier, now: Timestamp) -> meta::Result<()> {
    let id = move_tier_id(payload);
    jobs::cancel(tx, &payload.account, &payload.region, &id, now).map(drop)
}

fn move_tier_id(payload: &MoveTier) -> String {
    format!("move-tier-{}-{}", payload.snapshot, payload.number)
}

struct PinTwinKind(Arc<Services>);

impl JobKind for PinTwinKind {
    const KIND: &'static str = "lifecycle.pin-twin";
    const ATTEMPTS_MAX: u32 = ATTEMPTS_MAX;
    const LANE: Lane = Lane::Movers;
    type Payload = PinTwin;

    async fn run(&self, ctx: &JobContext, payload: PinTwin) -> Result<Done, JobError> {
        match unless_interrupted(ctx, fast_restore::run(&self.0, &payload)).await? {
            workflow::Turn::Last => Ok(Done::now()),
            workflow::Turn::More => Err(JobError::Yielded),
        }
    }

    fn give_up(
        &self,
        tx: &mut Tx<'_>,
        _job: &Job,
        payload: &PinTwin,
        _cause: &str,
    ) -> meta::Result<()> {
        fast_restore::give_up(&self.0, tx, payload).map_err(trouble_in_rows)
    }
}

/// Enqueues the making of a twin in the transaction that asks for it.
///
/// # Errors
/// When the database fails.
pub fn enqueue_pin_twin(tx: &mut Tx<'_>, payload: &PinTwin, now: Timestamp) -> meta::Result<()> {
    let job = new_job(&payload.account, &payload.region, pin_twin_id(payload), now);
    enqueue::<PinTwinKind>(tx, &job, payload).map(drop)
}

/// Asks that the making of a twin be given up, because nobody wants it.
///
/// # Errors
/// When the database fails.
pub fn cancel_pin_twin(tx: &mut Tx<'_>, payload: &PinTwin, now: Timestamp) -> meta::Result<()> {
    let id = pin_twin_id(payload);
    jobs::cancel(tx, &payload.account, &payload.region, &id, now).map(drop)
}

fn pin_twin_id(payload: &PinTwin) -> String {
    format!("pin-{}-{}", payload.snapshot, payload.run)
}

struct EndFastRestoreKind(Arc<Services>);

impl JobKind for EndFastRestoreKind {
    const KIND: &'static str = "lifecycle.end-fast-restore";
    const ATTEMPTS_MAX: u32 = ATTEMPTS_MAX;
    type Payload = EndFastRestore;

    async fn run(&self, _ctx: &JobContext, payload: EndFastRestore) -> Result<Done, JobError> {
        let services = Arc::clone(&self.0);
        Ok(Done::with(move |tx| Ok(fast_restore::end(&services, tx, &payload)?)))
    }

    fn give_up(
        &self,
        _tx: &mut Tx<'_>,
        _job: &Job,
        payload: &EndFastRestore,
        cause: &str,
    ) -> meta::Result<()> {
        // It stays `disabling`, where people see it.
        tracing::error!(snapshot = %payload.snapshot, cause, "a fast restore could not be ended");
        Ok(())
    }
}

/// Enqueues the end of a fast restore in the transaction that begins it.
///
/// # Errors
/// When the database fails.
pub fn enqueue_end_fast_restore(
    tx: &mut Tx<'_>,
    payload: &EndFastRestore,
    now: Timestamp,
) -> meta::Result<()> {
    let id = format!("end-fast-{}-{}-{}", payload.snapshot, payload.zone, payload.run);
    let job = new_job(&payload.account, &payload.region, id, now);
    enqueue::<EndFastRestoreKind>(tx, &job, payload).map(drop)
}

fn trouble_in_rows(trouble: Trouble) -> meta::Error {
    match trouble {
        Trouble::Rows(error) => rows_error(error),
        Trouble::Kms(_)
        | Trouble::Blocks(_)
        | Trouble::PlainKey(_)
        | Trouble::Events(_)
        | Trouble::NotYet { .. } => meta::Error::Corrupt { detail: trouble.to_string() },
    }
}
