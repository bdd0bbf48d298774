//! The rows of jobs.

use crate::jobs::kind::JobKind;
use base::{AccountId, Region, Timestamp};
use meta::{Migration, Result, Row, Tx, params};

/// The most jobs of one page.
pub const JOBS_PAGE_MAX: u32 = 1000;

/// `due_ms` is when a runner may take the job: for one that waits, its time; for one that runs, the
/// end of the lease; NULL once it has ended. `fence` counts the claims.
pub(crate) const MIGRATION: Migration = Migration {
    name: "lifecycle-001-jobs",
    sql: "
        CREATE TABLE lifecycle_jobs (
            account_id TEXT NOT NULL, region TEXT NOT NULL, job_id TEXT NOT NULL,
            kind TEXT NOT NULL, payload TEXT NOT NULL, state TEXT NOT NULL,
            progress BIGINT NOT NULL, attempts BIGINT NOT NULL, fence BIGINT NOT NULL,
            lease_owner TEXT, due_ms BIGINT, cancel BIGINT NOT NULL,
            created_ms BIGINT NOT NULL, ended_ms BIGINT, error TEXT,
            PRIMARY KEY (account_id, region, job_id));
        CREATE INDEX lifecycle_jobs_due ON lifecycle_jobs (due_ms) WHERE due_ms IS NOT NULL;
        CREATE INDEX lifecycle_jobs_ended ON lifecycle_jobs (ended_ms) WHERE ended_ms IS NOT NULL;",
};

/// Where a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobState {
    /// Waits for its time or for a runner.
    Queued,
    /// A runner holds its lease, or held it and is gone.
    Running,
    /// Done.
    Succeeded,
    /// Given up.
    Failed,
    /// Given up because somebody asked to.
    Cancelled,
}

impl JobState {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

impl meta::FromColumn for JobState {
    const EXPECTED: &'static str = "the state of a job";
    fn from_column(value: &meta::Param) -> Option<Self> {
        let meta::Param::Text(text) = value else { return None };
        [Self::Queued, Self::Running, Self::Succeeded, Self::Failed, Self::Cancelled]
            .into_iter()
            .find(|state| state.as_str() == text)
    }
}

/// A job to be.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// The account it works for.
    pub account: AccountId,
    /// The region it works in.
    pub region: Region,
    /// Unique in account and region; enqueueing the same id twice makes one job.
    pub id: String,
    /// The present moment.
    pub now: Timestamp,
    /// Not before this moment.
    pub run_after: Timestamp,
}

/// A job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// The account it works for.
    pub account: AccountId,
    /// The region it works in.
    pub region: Region,
    /// Unique in account and region.
    pub id: String,
    /// [`JobKind::KIND`].
    pub kind: String,
    /// [`JobKind::Payload`] as JSON.
    pub payload: String,
    /// Where it is.
    pub state: JobState,
    /// Percent, never falling; 100 only when it succeeded.
    pub progress: u32,
    /// Starts since the last progress.
    pub attempts: u32,
    /// How often it was claimed.
    pub(crate) fence: i64,
    /// Whether somebody asked to cancel it.
    pub cancel_requested: bool,
    /// When a runner may take it; `None` once it has ended.
    pub due: Option<Timestamp>,
    /// When it was enqueued.
    pub created: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// Why it failed, or why it did not work the last time.
    pub error: Option<String>,
}

const COLUMNS: &str = "account_id, region, job_id, kind, payload, state, progress, attempts, fence,
    cancel, due_ms, created_ms, ended_ms, error";

impl Job {
    fn read(row: &Row) -> Result<Self> {
        Ok(Self {
            account: row.get(0)?,
            region: row.get(1)?,
            id: row.get(2)?,
            kind: row.get(3)?,
            payload: row.get(4)?,
            state: row.get(5)?,
            progress: row.get(6)?,
            attempts: row.get(7)?,
            fence: row.get(8)?,
            cancel_requested: row.get(9)?,
            due: row.get(10)?,
            created: row.get(11)?,
            ended: row.get(12)?,
            error: row.get(13)?,
        })
    }
}

/// Enqueues a job in the caller's transaction. Returns whether it is new.
/// After the commit, [`crate::jobs::Waker::wake`] makes a runner of this process look at once.
///
/// # Errors
/// When the row cannot be written.
///
/// # Panics
/// When the payload cannot be written as JSON: it has maps with other keys than texts.
pub fn enqueue<K: JobKind>(tx: &mut Tx<'_>, job: &NewJob, payload: &K::Payload) -> Result<bool> {
    let payload = serde_json::to_string(payload).expect("payloads are plain data");
    let rows = tx.execute(
        "INSERT INTO lifecycle_jobs (account_id, region, job_id, kind, payload, state, progress, attempts,
             fence, due_ms, cancel, created_ms)
         VALUES ($1, $2, $3, $4, $5, 'queued', 0, 0, 0, $6, 0, $7) ON CONFLICT DO NOTHING",
        params![&job.account, &job.region, &job.id, K::KIND, payload, job.run_after, job.now],
    )?;
    Ok(rows == 1)
}

/// One job.
///
/// # Errors
/// When the row cannot be read.
pub fn get(tx: &mut Tx<'_>, account: &AccountId, region: &Region, id: &str) -> Result<Option<Job>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM lifecycle_jobs WHERE account_id = $1 AND region = $2 AND job_id = $3"
    );
    tx.query_opt(&sql, params![account, region, id])?.as_ref().map(Job::read).transpose()
}

/// The jobs of an account in a region after an id, in the order of their ids.
///
/// # Errors
/// When the rows cannot be read.
pub fn list(
    tx: &mut Tx<'_>,
    account: &AccountId,
    region: &Region,
    after: &str,
    limit: u32,
) -> Result<Vec<Job>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM lifecycle_jobs WHERE account_id = $1 AND region = $2 AND job_id > $3
         ORDER BY job_id LIMIT $4"
    );
    let limit = limit.clamp(1, JOBS_PAGE_MAX);
    tx.query(&sql, params![account, region, after, limit])?.iter().map(Job::read).collect()
}

/// Makes the waiting jobs of an account in a region due now, because what some of them wait for has
/// happened. Those that wait for something else will wait again.
///
/// # Errors
/// When the rows cannot be written.
pub fn hasten(
    tx: &mut Tx<'_>,
    account: &AccountId,
    region: &Region,
    now: Timestamp,
) -> Result<u64> {
    tx.execute(
        "UPDATE lifecycle_jobs SET due_ms = $3
         WHERE account_id = $1 AND region = $2 AND state = 'queued' AND due_ms > $3",
        params![account, region, now],
    )
}

/// Asks that a job be given up; returns whether it had not ended. A waiting job becomes due at once.
///
/// # Errors
/// When the row cannot be written.
pub fn cancel(
    tx: &mut Tx<'_>,
    account: &AccountId,
    region: &Region,
    id: &str,
    now: Timestamp,
) -> Result<bool> {
    let rows = tx.execute(
        "UPDATE lifecycle_jobs
         SET cancel = 1, due_ms = CASE WHEN state = 'queued' AND due_ms > $4 THEN $4 ELSE due_ms END
         WHERE account_id = $1 AND region = $2 AND job_id = $3 AND due_ms IS NOT NULL",
        params![account, region, id, now],
    )?;
    Ok(rows == 1)
}

/// Forgets jobs that ended before a moment, at most `limit`. Returns how many.
///
/// # Errors
/// When the rows cannot be written.
pub fn prune_finished(tx: &mut Tx<'_>, before: Timestamp, limit: u32) -> Result<u64> {
    let sql = format!(
        "SELECT {COLUMNS} FROM lifecycle_jobs WHERE ended_ms < $1 ORDER BY ended_ms LIMIT $2"
    );
    let rows = tx.query(&sql, params![before, limit.clamp(1, JOBS_PAGE_MAX)])?;
    rows.iter().try_fold(0, |count, row| {
        let job = Job::read(row)?;
        let gone = tx.execute(
            "DELETE FROM lifecycle_jobs WHERE account_id = $1 AND region = $2 AND job_id = $3",
            params![&job.account, &job.region, &job.id],
        )?;
        Ok(count + gone)
    })
}

/// Makes due at once what a runner of this name held when it died. Call it before the first runner of
/// that name starts; nobody else may be using the name.
///
/// # Errors
/// As the database answers.
pub fn release_held(tx: &mut Tx<'_>, owner: &str, now: Timestamp) -> Result<u64> {
    tx.execute(
        "UPDATE lifecycle_jobs SET due_ms = $2 WHERE lease_owner = $1 AND state = 'running' AND due_ms > $2",
        params![owner, now],
    )
}

/// Claims up to `limit` due jobs of the given kinds until `lease_until`, the longest due first.
pub(crate) fn claim(
    tx: &mut Tx<'_>,
    kinds: &[&'static str],
    owner: &str,
    now: Timestamp,
    lease_until: Timestamp,
    limit: u32,
) -> Result<Vec<Job>> {
    let names: Vec<String> = (3..kinds.len() + 3).map(|n| format!("${n}")).collect();
    let sql = format!(
        "SELECT {COLUMNS} FROM lifecycle_jobs WHERE due_ms <= $1 AND kind IN ({})
         ORDER BY due_ms LIMIT $2",
        names.join(", ")
    );
    let mut values = params![now, limit].to_vec();
    values.extend(kinds.iter().map(|kind| meta::Param::from(*kind)));
    let mut claimed = Vec::new();
    for row in tx.query(&sql, &values)? {
        let mut job = Job::read(&row)?;
        let rows = tx.execute(
            "UPDATE lifecycle_jobs
             SET state = 'running', lease_owner = $5, due_ms = $6, fence = fence + 1, attempts = attempts + 1
             WHERE account_id = $1 AND region = $2 AND job_id = $3 AND fence = $4 AND due_ms <= $7",
            params![&job.account, &job.region, &job.id, job.fence, owner, lease_until, now],
        )?;
        if rows == 1 {
            job.fence += 1;
            job.attempts += 1;
            (job.state, job.due) = (JobState::Running, Some(lease_until));
            claimed.push(job);
        }
    }
    Ok(claimed)
}

/// How many jobs of the given kinds are due and not claimed.
pub(crate) fn count_due(tx: &mut Tx<'_>, kinds: &[&'static str], now: Timestamp) -> Result<usize> {
    let names: Vec<String> = (2..kinds.len() + 2).map(|n| format!("${n}")).collect();
    let sql = format!(
        "SELECT COUNT(*) FROM lifecycle_jobs WHERE due_ms <= $1 AND kind IN ({})",
        names.join(", ")
    );
    let mut values = params![now].to_vec();
    values.extend(kinds.iter().map(|kind| meta::Param::from(*kind)));
    let count: Option<i64> = tx.query_opt(&sql, &values)?.map(|row| row.get(0)).transpose()?;
    Ok(usize::try_from(count.unwrap_or_default()).unwrap_or_default())
}

/// Whether a claim still holds, and whether the job is to be cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    Held,
    CancelRequested,
    Lost,
}

/// Extends the lease of a claim.
pub(crate) fn renew(tx: &mut Tx<'_>, job: &Job, lease_until: Timestamp) -> Result<Hold> {
    tx.execute(
        "UPDATE lifecycle_jobs SET due_ms = $5
         WHERE account_id = $1 AND region = $2 AND job_id = $3 AND fence = $4 AND state = 'running'",
        params![&job.account, &job.region, &job.id, job.fence, lease_until],
    )?;
    hold(tx, job)
}

/// Looks whether a claim still holds, as part of a transaction that depends on it.
pub(crate) fn hold(tx: &mut Tx<'_>, job: &Job) -> Result<Hold> {
    let current = get(tx, &job.account, &job.region, &job.id)?;
    Ok(match current {
        Some(row) if row.fence == job.fence && row.state == JobState::Running => {
            if row.cancel_requested { Hold::CancelRequested } else { Hold::Held }
        }
        Some(_) | None => Hold::Lost,
    })
}

/// Raises the progress of a claimed job; a smaller value changes nothing. Progress begins the attempts anew.
pub(crate) fn advance(tx: &mut Tx<'_>, job: &Job, percent: u32) -> Result<()> {
    tx.execute(
        "UPDATE lifecycle_jobs SET progress = $5, attempts = 1
         WHERE account_id = $1 AND region = $2 AND job_id = $3 AND fence = $4 AND progress < $5",
        params![&job.account, &job.region, &job.id, job.fence, percent],
    )?;
    Ok(())
}

/// Puts a claimed job back until `due`. `attempts` is what the next claim counts on from.
pub(crate) fn put_back(
    tx: &mut Tx<'_>,
    job: &Job,
    due: Timestamp,
    attempts: u32,
    error: Option<&str>,
) -> Result<()> {
    tx.execute(
        "UPDATE lifecycle_jobs SET state = 'queued', lease_owner = NULL, due_ms = $5, attempts = $6, error = $7
         WHERE account_id = $1 AND region = $2 AND job_id = $3 AND fence = $4 AND state = 'running'",
        params![&job.account, &job.region, &job.id, job.fence, due, attempts, error],
    )?;
    Ok(())
}

/// Ends a claimed job.
pub(crate) fn end(
    tx: &mut Tx<'_>,
    job: &Job,
    state: JobState,
    now: Timestamp,
    error: Option<&str>,
) -> Result<()> {
    tx.execute(
        "UPDATE lifecycle_jobs
         SET state = $5, lease_owner = NULL, due_ms = NULL, ended_ms = $6, error = $7,
             progress = CASE WHEN $5 = 'succeeded' THEN 100 ELSE progress END
         WHERE account_id = $1 AND region = $2 AND job_id = $3 AND fence = $4 AND state = 'running'",
        params![&job.account, &job.region, &job.id, job.fence, state.as_str(), now, error],
    )?;
    Ok(())
}
