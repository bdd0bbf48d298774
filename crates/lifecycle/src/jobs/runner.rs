//! Claims jobs, runs several at a time, renews their leases.

use crate::jobs::context::{JobContext, Signal};
use crate::jobs::kind::{AnyKind, JobError, JobKind};
use crate::jobs::lane::{Lane, Places};
use crate::jobs::rows::{self, Hold, Job};
use crate::jobs::settle;
use base::{Clock, Timestamp};
use meta::Db;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::{MissedTickBehavior, interval, timeout};

/// How long a claim holds without being renewed.
pub const LEASE_SECONDS: i64 = 60;
/// How often leases are renewed and jobs looked for when nobody calls [`Waker::wake`].
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// How long a stopping runner waits for its jobs to reach a safe place.
const GRACE: Duration = Duration::from_secs(20);

/// The kinds of job a runner knows. Jobs of other kinds are left to others.
#[derive(Clone, Default)]
pub struct Kinds(BTreeMap<&'static str, Arc<dyn AnyKind>>);

impl Kinds {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a kind.
    ///
    /// # Panics
    /// When there is one of this name already.
    #[must_use]
    pub fn with<K: JobKind>(mut self, kind: K) -> Self {
        let before = self.0.insert(K::KIND, Arc::new(kind));
        assert!(before.is_none(), "two kinds of job are named '{}'", K::KIND);
        self
    }

    /// The names of the kinds of a lane.
    fn of(&self, lane: Lane) -> Vec<&'static str> {
        self.0.iter().filter(|(_, kind)| kind.lane() == lane).map(|(name, _)| *name).collect()
    }
}

/// What a runner needs to know.
#[derive(Clone)]
pub struct Config {
    /// The rows.
    pub db: Db,
    /// Where the present moment comes from; leases are measured with it.
    pub clock: Arc<dyn Clock>,
    /// Names this runner in the rows, for people who look at them.
    pub owner: String,
    /// The most jobs at a time.
    pub places: Places,
}

/// Wakes the runner of this process, after a job was enqueued and committed.
#[derive(Clone, Default)]
pub struct Waker(Arc<Notify>);

impl Waker {
    /// A waker to hand to [`Runner::new`] and to whoever enqueues.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the runner look for jobs now. Cheap, and never lost: a busy runner looks right after.
    pub fn wake(&self) {
        self.0.notify_one();
    }
}

/// Runs jobs until told to stop.
pub struct Runner {
    config: Config,
    kinds: Kinds,
    waker: Waker,
    tasks: JoinSet<Result<(), JobError>>,
    active: HashMap<Id, Active>,
}

struct Active {
    kind: Arc<dyn AnyKind>,
    ctx: Arc<JobContext>,
    signal: watch::Sender<Signal>,
    abort: AbortHandle,
    since: Timestamp,
    lease_until: Timestamp,
}

type Ended = Result<(Id, Result<(), JobError>), JoinError>;

impl Runner {
    /// A runner that has not begun.
    pub fn new(config: Config, kinds: Kinds, waker: Waker) -> Self {
        Self { config, kinds, waker, tasks: JoinSet::new(), active: HashMap::new() }
    }

    /// Runs jobs until `stop` is ready, then lets them reach a safe place and puts them back.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        let mut poll = interval(POLL_INTERVAL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let waker = self.waker.clone();
        loop {
            tokio::select! {
                () = &mut stop => break,
                _ = poll.tick() => {}
                () = waker.0.notified() => {}
                Some(ended) = self.tasks.join_next_with_id() => self.reap(ended).await,
            }
            if let Err(error) = self.tick().await {
                tracing::warn!(%error, "jobs cannot be looked for");
            }
        }
        self.stop().await;
    }

    /// Renews the leases and starts jobs that are due, as many as there is room for. Returns how many it
    /// started. [`Runner::run`] calls it whenever there is a reason to; tests call it step by step.
    ///
    /// # Errors
    /// When the rows cannot be read or written. Jobs whose lease has run out meanwhile are stopped.
    pub async fn tick(&mut self) -> meta::Result<usize> {
        while let Some(ended) = self.tasks.try_join_next_with_id() {
            self.reap(ended).await;
        }
        let renewed = self.renew().await;
        self.drop_expired();
        renewed?;
        self.claim().await
    }

    /// Waits until a running job ends; returns at once when none runs.
    pub async fn join_next(&mut self) {
        if let Some(ended) = self.tasks.join_next_with_id().await {
            self.reap(ended).await;
        }
    }

    /// How many jobs run.
    pub fn running(&self) -> usize {
        self.active.len()
    }

    /// Tells all jobs to stop, waits for them a while, and puts back those that did not listen.
    pub async fn stop(mut self) {
        for active in self.active.values() {
            active.signal.send_replace(Signal::Stop);
        }
        let all = async {
            while let Some(ended) = self.tasks.join_next_with_id().await {
                self.reap(ended).await;
            }
        };
        if timeout(GRACE, all).await.is_ok() {
            return;
        }
        self.tasks.shutdown().await;
        for (_, active) in self.active.drain() {
            let result = settle::settle_failure(active.kind, &active.ctx, JobError::Stopped).await;
            if let Err(error) = result {
                tracing::warn!(%error, "a job could not be put back, its lease will run out");
            }
        }
    }

    async fn reap(&mut self, ended: Ended) {
        let id = match &ended {
            Ok((id, _)) => *id,
            Err(error) => error.id(),
        };
        let Some(active) = self.active.remove(&id) else { return };
        let result = match ended {
            Ok((_, result)) => result,
            // A lost job was stopped on purpose and is somebody else's now.
            Err(error) if error.is_cancelled() => Err(JobError::LeaseLost),
            Err(_) => {
                let panicked = JobError::retry("the job panicked");
                settle::settle_failure(active.kind, &active.ctx, panicked).await
            }
        };
        if let Err(error) = result {
            let job = active.ctx.job();
            tracing::warn!(job = job.id, kind = job.kind, %error, "the end of a job was not written");
        }
    }

    async fn renew(&mut self) -> meta::Result<()> {
        if self.active.is_empty() {
            return Ok(());
        }
        let until = self.config.clock.now().plus_seconds(LEASE_SECONDS);
        let (ids, jobs): (Vec<Id>, Vec<Job>) =
            self.active.iter().map(|(id, active)| (*id, active.ctx.job.clone())).unzip();
        let renew = move |tx: &mut meta::Tx<'_>| {
            jobs.iter().map(|job| rows::renew(tx, job, until)).collect::<meta::Result<Vec<Hold>>>()
        };
        let holds = self.config.db.write(renew).await?;
        for (id, hold) in ids.iter().zip(holds) {
            let Some(active) = self.active.get_mut(id) else { continue };
            match hold {
                Hold::Held => active.lease_until = until,
                Hold::CancelRequested => {
                    active.lease_until = until;
                    active.signal.send_replace(Signal::Cancel);
                }
                // It may have just ended by itself; then there is nothing left to stop.
                Hold::Lost => active.lose(),
            }
        }
        Ok(())
    }

    /// Stops jobs whose lease could not be renewed in time: another runner may have them by now.
    fn drop_expired(&mut self) {
        let now = self.config.clock.now();
        self.active.values().filter(|active| active.lease_until <= now).for_each(Active::lose);
    }

    async fn claim(&mut self) -> meta::Result<usize> {
        let lanes = Lane::ALL.map(|lane| (lane, self.kinds.of(lane), self.room(lane)));
        let (owner, now) = (self.config.owner.clone(), self.config.clock.now());
        let until = now.plus_seconds(LEASE_SECONDS);
        let claim = move |tx: &mut meta::Tx<'_>| {
            let mut jobs = Vec::new();
            let mut waiting_movers = 0;
            for (lane, kinds, room) in lanes.iter().filter(|(_, kinds, _)| !kinds.is_empty()) {
                jobs.extend(rows::claim(tx, kinds, &owner, now, until, *room)?);
                if *lane == Lane::Movers {
                    waiting_movers = rows::count_due(tx, kinds, now)?;
                }
            }
            Ok::<_, meta::Error>((jobs, waiting_movers))
        };
        let (jobs, waiting_movers) = self.config.db.write(claim).await?;
        let started = jobs.len();
        for job in jobs {
            self.start(job, until);
        }
        self.make_room(waiting_movers, now);
        Ok(started)
    }

    fn room(&self, lane: Lane) -> u32 {
        let taken = self.active.values().filter(|active| active.kind.lane() == lane).count();
        self.config.places.of(lane).saturating_sub(u32::try_from(taken).unwrap_or(u32::MAX))
    }

    /// Tells as many movers to give way as others wait, those first that are at it longest, if they have
    /// had their turn.
    fn make_room(&self, waiting: usize, now: Timestamp) {
        let movers = self.active.values().filter(|active| active.kind.lane() == Lane::Movers);
        let mut staying: Vec<&Active> = Vec::new();
        let mut leaving = 0;
        for active in movers {
            match *active.signal.borrow() {
                Signal::Go => staying.push(active),
                Signal::GiveWay | Signal::Stop | Signal::Cancel | Signal::Lost => leaving += 1,
            }
        }
        staying.retain(|active| active.since.plus_seconds(self.config.places.turn_seconds) <= now);
        staying.sort_by_key(|active| active.since);
        for active in staying.into_iter().take(waiting.saturating_sub(leaving)) {
            active.signal.send_replace(Signal::GiveWay);
        }
    }

    fn start(&mut self, job: Job, lease_until: Timestamp) {
        let kind =
            Arc::clone(self.kinds.0.get(job.kind.as_str()).expect("only known kinds are claimed"));
        let (signal, receiver) = watch::channel(Signal::Go);
        let Config { db, clock, .. } = &self.config;
        let ctx = JobContext { db: db.clone(), clock: Arc::clone(clock), job, signal: receiver };
        let ctx = Arc::new(ctx);
        let abort = self.tasks.spawn(settle::run(Arc::clone(&kind), Arc::clone(&ctx)));
        let id = abort.id();
        let since = self.config.clock.now();
        self.active.insert(id, Active { kind, ctx, signal, abort, since, lease_until });
    }
}

impl Active {
    fn lose(&self) {
        self.signal.send_replace(Signal::Lost);
        self.abort.abort();
    }
}
