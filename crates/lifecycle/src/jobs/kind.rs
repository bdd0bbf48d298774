//! What a kind of job has to say about itself.

use crate::jobs::context::JobContext;
use crate::jobs::lane::Lane;
use crate::jobs::rows::Job;
use meta::Tx;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

/// A kind of job.
pub trait JobKind: Send + Sync + 'static {
    /// The name in the rows: `<crate>.<verb>-<noun>`, never changed once released.
    const KIND: &'static str;

    /// How often a job may start without making progress before it is given up.
    const ATTEMPTS_MAX: u32 = 20;

    /// Which jobs it waits behind.
    const LANE: Lane = Lane::Steps;

    /// What a job of this kind is told. Later versions must still read what earlier ones wrote.
    type Payload: Serialize + DeserializeOwned + Clone + Send + Sync + 'static;

    /// Does the work, or what is left of it: every step must bear being done again after a crash.
    /// Long work calls [`JobContext::check`] between steps, or waits on [`JobContext::interrupted`].
    ///
    /// # Errors
    /// See [`JobError`] for what becomes of each.
    fn run(
        &self,
        ctx: &JobContext,
        payload: Self::Payload,
    ) -> impl Future<Output = Result<Done, JobError>> + Send;

    /// Marks what the job was for as failed (or as cancelled), in the transaction that ends the job.
    /// Called for a permanent error, for too many attempts and for cancellation, never after success.
    ///
    /// # Errors
    /// The job then stays and is ended again later.
    fn give_up(
        &self,
        tx: &mut Tx<'_>,
        job: &Job,
        payload: &Self::Payload,
        cause: &str,
    ) -> meta::Result<()>;
}

type Finish = Arc<dyn Fn(&mut Tx<'_>) -> Result<(), JobError> + Send + Sync>;

/// The work is done.
pub struct Done {
    pub(crate) finish: Option<Finish>,
}

impl Done {
    /// Nothing is left to write.
    pub fn now() -> Self {
        Self { finish: None }
    }

    /// The last rows are written in the transaction that ends the job. May run more than once.
    pub fn with(
        finish: impl Fn(&mut Tx<'_>) -> Result<(), JobError> + Send + Sync + 'static,
    ) -> Self {
        Self { finish: Some(Arc::new(finish)) }
    }
}

impl fmt::Debug for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Done").field("writes", &self.finish.is_some()).finish()
    }
}

/// Why a job did not get done this time. Causes are shown to users: no secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JobError {
    /// It may work later: the job waits, longer each time, until the attempts are used up.
    #[error("{cause}")]
    Retry {
        /// What was in the way.
        cause: String,
    },
    /// Something else has to happen first: the job looks again, rarer the longer it waits, and no attempt
    /// counts. [`hasten`](crate::jobs::hasten) has it look at once.
    #[error("{cause}")]
    Waiting {
        /// What it waits for.
        cause: String,
    },
    /// It will never work: the job is given up.
    #[error("{cause}")]
    Permanent {
        /// What is wrong.
        cause: String,
    },
    /// Somebody cancelled the job: it is given up.
    #[error("the job was cancelled")]
    Cancelled,
    /// Others shall have their turn: the job waits in line, and the attempt does not count.
    #[error("the job lets others go first")]
    Yielded,
    /// The server stops: the job waits for the next one, and the attempt does not count.
    #[error("the server is stopping")]
    Stopped,
    /// Another runner has the job now: this one must not touch it any more.
    #[error("the lease of the job was lost")]
    LeaseLost,
}

impl JobError {
    /// It may work later.
    pub fn retry(cause: impl fmt::Display) -> Self {
        Self::Retry { cause: cause.to_string() }
    }

    /// It will never work.
    pub fn permanent(cause: impl fmt::Display) -> Self {
        Self::Permanent { cause: cause.to_string() }
    }
}

impl From<meta::Error> for JobError {
    fn from(error: meta::Error) -> Self {
        use meta::Error as E;
        match error {
            E::Unavailable { .. } | E::Serialization | E::OutcomeUnknown { .. } | E::Closed => {
                Self::retry(error)
            }
            E::UniqueViolation { .. }
            | E::Constraint { .. }
            | E::Corrupt { .. }
            | E::Sql { .. }
            | E::NotPortable { .. }
            | E::ReadOnly
            | E::Aborted
            | E::NulInText
            | E::TooManyRows { .. }
            | E::Column { .. }
            | E::MigrationChanged { .. }
            | E::Incompatible { .. }
            | E::Url { .. } => Self::permanent(error),
        }
    }
}

type RunFuture<'a> = Pin<Box<dyn Future<Output = Result<Done, JobError>> + Send + 'a>>;

/// A [`JobKind`] whose payload is still text, so that a runner can hold many kinds.
pub(crate) trait AnyKind: Send + Sync {
    fn attempts_max(&self) -> u32;
    fn lane(&self) -> Lane;
    fn run<'a>(&'a self, ctx: &'a JobContext) -> RunFuture<'a>;
    fn give_up(&self, tx: &mut Tx<'_>, job: &Job, cause: &str) -> meta::Result<()>;
}

impl<K: JobKind> AnyKind for K {
    fn attempts_max(&self) -> u32 {
        K::ATTEMPTS_MAX
    }

    fn lane(&self) -> Lane {
        K::LANE
    }

    fn run<'a>(&'a self, ctx: &'a JobContext) -> RunFuture<'a> {
        Box::pin(async move {
            let payload = read::<K>(ctx.job()).map_err(JobError::permanent)?;
            JobKind::run(self, ctx, payload).await
        })
    }

    fn give_up(&self, tx: &mut Tx<'_>, job: &Job, cause: &str) -> meta::Result<()> {
        match read::<K>(job) {
            Ok(payload) => JobKind::give_up(self, tx, job, &payload, cause),
            Err(error) => {
                // Nothing can be marked when it is not known what the job was for; the job's row tells.
                tracing::error!(job = job.id, kind = K::KIND, %error, "the payload cannot be read");
                Ok(())
            }
        }
    }
}

fn read<K: JobKind>(job: &Job) -> Result<K::Payload, serde_json::Error> {
    serde_json::from_str(&job.payload)
}
