//! What becomes of a job after a run.

use crate::jobs::context::JobContext;
use crate::jobs::kind::{AnyKind, Done, JobError};
use crate::jobs::rows::{self, Hold, JobState};
use std::sync::Arc;

/// The first wait after a failure; doubled each time.
const BACKOFF_SECONDS: i64 = 1;
/// The longest wait.
const BACKOFF_SECONDS_MAX: i64 = 300;

/// The longest time between two looks at what a job waits for.
const LOOK_SECONDS_MAX: i64 = 60;

/// Whether a run was an attempt that failed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Attempt {
    Counts,
    DoesNot,
}

/// Runs a claimed job and writes what became of it.
///
/// # Errors
/// When that could not be written: the lease runs out and the job is run again.
pub(crate) async fn run(kind: Arc<dyn AnyKind>, ctx: Arc<JobContext>) -> Result<(), JobError> {
    let job = ctx.job();
    let result = if job.cancel_requested {
        Err(JobError::Cancelled)
    } else if job.attempts > kind.attempts_max() {
        Err(JobError::permanent(last_words(job.error.as_deref())))
    } else {
        kind.run(&ctx).await
    };
    let result = match result {
        Ok(done) => succeed(&ctx, done).await,
        Err(error) => Err(error),
    };
    match result {
        Ok(()) => Ok(()),
        Err(error) => settle_failure(kind, &ctx, error).await,
    }
}

/// Writes what becomes of a job whose run ended with an error.
///
/// # Errors
/// When that could not be written.
pub(crate) async fn settle_failure(
    kind: Arc<dyn AnyKind>,
    ctx: &JobContext,
    error: JobError,
) -> Result<(), JobError> {
    let job = ctx.job();
    if error != JobError::Yielded {
        tracing::info!(job = job.id, kind = job.kind, %error, "a job did not get done");
    }
    match error {
        JobError::LeaseLost => Err(JobError::LeaseLost),
        JobError::Stopped | JobError::Yielded => put_back(ctx, 0, None, Attempt::DoesNot).await,
        JobError::Waiting { cause } => {
            let waited = (ctx.clock.now().0 - job.created.0) / 1000;
            let wait = (waited / 4).clamp(1, LOOK_SECONDS_MAX);
            put_back(ctx, wait, Some(cause), Attempt::DoesNot).await
        }
        JobError::Retry { cause } => {
            // Progress may have begun the attempts anew, so the row decides.
            let attempts = attempts(ctx).await?;
            if attempts >= kind.attempts_max() {
                return give_up(kind, ctx, JobState::Failed, last_words(Some(&cause))).await;
            }
            let wait = BACKOFF_SECONDS << (attempts.clamp(1, 16) - 1);
            let wait = wait.min(BACKOFF_SECONDS_MAX);
            put_back(ctx, wait, Some(cause), Attempt::Counts).await
        }
        JobError::Permanent { cause } => give_up(kind, ctx, JobState::Failed, cause).await,
        JobError::Cancelled => {
            give_up(kind, ctx, JobState::Cancelled, JobError::Cancelled.to_string()).await
        }
    }
}

fn last_words(cause: Option<&str>) -> String {
    format!("gave up after too many attempts: {}", cause.unwrap_or("the server stopped each time"))
}

async fn succeed(ctx: &JobContext, done: Done) -> Result<(), JobError> {
    let (job, now) = (ctx.job.clone(), ctx.clock.now());
    let finish = done.finish;
    ctx.write(move |tx| {
        if let Some(finish) = &finish {
            finish(tx)?;
        }
        Ok(rows::end(tx, &job, JobState::Succeeded, now, None)?)
    })
    .await
}

/// Ends the job together with what it was for, whether or not it was cancelled meanwhile.
async fn give_up(
    kind: Arc<dyn AnyKind>,
    ctx: &JobContext,
    state: JobState,
    cause: String,
) -> Result<(), JobError> {
    let (job, now) = (ctx.job.clone(), ctx.clock.now());
    ctx.db
        .write(move |tx| {
            if rows::hold(tx, &job)? == Hold::Lost {
                return Err(JobError::LeaseLost);
            }
            kind.give_up(tx, &job, &cause)?;
            Ok(rows::end(tx, &job, state, now, Some(&cause))?)
        })
        .await
}

async fn attempts(ctx: &JobContext) -> Result<u32, JobError> {
    let job = ctx.job.clone();
    let row = ctx.db.read(move |tx| rows::get(tx, &job.account, &job.region, &job.id)).await?;
    row.map(|row| row.attempts).ok_or(JobError::LeaseLost)
}

/// Puts the job back.
async fn put_back(
    ctx: &JobContext,
    wait_seconds: i64,
    cause: Option<String>,
    attempt: Attempt,
) -> Result<(), JobError> {
    let (job, due) = (ctx.job.clone(), ctx.clock.now().plus_seconds(wait_seconds));
    ctx.db
        .write(move |tx| {
            let Some(row) = rows::get(tx, &job.account, &job.region, &job.id)? else {
                return Err(JobError::LeaseLost);
            };
            let uncounted = u32::from(attempt == Attempt::DoesNot);
            let attempts = row.attempts.saturating_sub(uncounted);
            let error = cause.as_deref().or(row.error.as_deref());
            Ok(rows::put_back(tx, &job, due, attempts, error)?)
        })
        .await
}
