//! What a running job has to work with.

use crate::jobs::kind::JobError;
use crate::jobs::rows::{self, Hold, Job};
use base::Clock;
use meta::{Db, Tx};
use std::sync::Arc;
use tokio::sync::watch;

/// What the runner tells a running job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    Go,
    /// Others wait for its place.
    GiveWay,
    Stop,
    Cancel,
    Lost,
}

impl Signal {
    fn check(self) -> Result<(), JobError> {
        match self {
            Self::Go | Self::GiveWay => Ok(()),
            Self::Stop => Err(JobError::Stopped),
            Self::Cancel => Err(JobError::Cancelled),
            Self::Lost => Err(JobError::LeaseLost),
        }
    }
}

/// Tells threads that have no task to wait in whether their job may go on.
#[derive(Clone)]
pub(crate) struct Interruption(watch::Receiver<Signal>);

impl Interruption {
    pub(crate) fn is_interrupted(&self) -> bool {
        self.0.borrow().check().is_err()
    }

    pub(crate) fn gives_way(&self) -> bool {
        *self.0.borrow() == Signal::GiveWay
    }
}

/// A running job's view of itself.
pub struct JobContext {
    pub(crate) db: Db,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) job: Job,
    pub(crate) signal: watch::Receiver<Signal>,
}

impl JobContext {
    /// The job as it was when it was claimed.
    pub fn job(&self) -> &Job {
        &self.job
    }

    /// The rows, for reads. Writes go through [`JobContext::write`].
    pub fn db(&self) -> &Db {
        &self.db
    }

    /// Where the present moment comes from.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Asks whether the job may go on, without waiting. Call it between steps and return its error.
    ///
    /// # Errors
    /// [`JobError::Stopped`], [`JobError::Cancelled`] or [`JobError::LeaseLost`].
    pub fn check(&self) -> Result<(), JobError> {
        self.signal.borrow().check()
    }

    /// Waits until the job may not go on, for `select!` beside a long step. Returns why.
    pub async fn interrupted(&self) -> JobError {
        let mut signal = self.signal.clone();
        match signal.wait_for(|signal| signal.check().is_err()).await {
            Ok(signal) => signal.check().err().unwrap_or(JobError::Stopped),
            // The runner is gone, and its leases will run out.
            Err(_) => JobError::LeaseLost,
        }
    }

    /// Whether others wait for this job's place: work that can go on later without loss comes to a safe
    /// place and returns [`JobError::Yielded`].
    pub fn gives_way(&self) -> bool {
        self.interruption().gives_way()
    }

    /// A view of the interruption that threads of the work can ask.
    pub(crate) fn interruption(&self) -> Interruption {
        Interruption(self.signal.clone())
    }

    /// Writes rows, if this run still holds the job: the lease is checked in the same transaction.
    ///
    /// # Errors
    /// [`JobError::LeaseLost`], [`JobError::Cancelled`], or what the closure returns.
    pub async fn write<T: Send + 'static>(
        &self,
        f: impl Fn(&mut Tx<'_>) -> Result<T, JobError> + Send + 'static,
    ) -> Result<T, JobError> {
        let job = self.job.clone();
        self.db
            .write(move |tx| match rows::hold(tx, &job)? {
                Hold::Held => f(tx),
                Hold::CancelRequested => Err(JobError::Cancelled),
                Hold::Lost => Err(JobError::LeaseLost),
            })
            .await
    }

    /// Says how much is done, in percent. Progress never falls, and 100 is reached only by ending.
    ///
    /// # Errors
    /// As [`JobContext::write`].
    pub async fn progress(&self, percent: u32) -> Result<(), JobError> {
        let job = self.job.clone();
        self.write(move |tx| Ok(rows::advance(tx, &job, percent.min(99))?)).await
    }
}
