//! Jobs under a clock that moves only when told, with crashes, stale runners and cancellation.

use base::{AccountId, Clock, ManualClock, Region, Timestamp};
use lifecycle::jobs::{
    Config, Done, Job, JobContext, JobError, JobKind, JobState, Kinds, LEASE_SECONDS, Lane, NewJob,
    Places, Runner, Waker, cancel, enqueue, get, list, prune_finished,
};
use meta::testing::{TestDb, engines};
use meta::{Db, Migration, Tx, params};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::Semaphore;

const MARKS: Migration = Migration {
    name: "test-001-marks",
    sql: "CREATE TABLE marks (id TEXT NOT NULL, text TEXT NOT NULL, PRIMARY KEY (id, text))",
};
const NOW: Timestamp = Timestamp(1_800_000_000_000);

const PLACES: Places = Places { turn_seconds: 10, steps: 4, movers: 4, collections: 4 };
const ONE_EACH: Places = Places { turn_seconds: 10, steps: 1, movers: 1, collections: 1 };

fn account() -> AccountId {
    AccountId::parse("111111111111").unwrap()
}

fn region() -> Region {
    Region::parse("us-east-1").unwrap()
}

fn databases() -> Vec<TestDb> {
    engines(&[lifecycle::MIGRATIONS, &[MARKS]].concat())
}

/// What the next runs of a job do, one entry per run; when they are used up it is done.
type Script = Arc<Mutex<Vec<Step>>>;

enum Step {
    Fail(JobError),
    Panic,
    /// Reports progress and goes on with the next entry.
    Progress(u32),
    /// Says it has come here, then waits for the gate or an interruption.
    Wait,
    /// Waits for the gate and hears no interruption.
    Hang,
    /// Works until others wait.
    UntilOthersWait,
    /// Writes a mark.
    Mark(&'static str),
}

/// A job that follows a script; `runs` counts its starts.
#[derive(Clone)]
struct Scripted {
    script: Script,
    runs: Arc<AtomicU32>,
    arrived: Arc<Semaphore>,
    gate: Arc<Semaphore>,
}

impl Scripted {
    fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        let mut steps: Vec<Step> = steps.into_iter().collect();
        steps.reverse();
        Self {
            script: Arc::new(Mutex::new(steps)),
            runs: Arc::default(),
            arrived: Arc::new(Semaphore::new(0)),
            gate: Arc::new(Semaphore::new(0)),
        }
    }

    fn runs(&self) -> u32 {
        self.runs.load(Ordering::SeqCst)
    }

    async fn has_arrived(&self) {
        self.arrived.acquire().await.unwrap().forget();
    }

    fn next(&self) -> Option<Step> {
        self.script.lock().unwrap().pop()
    }
}

fn mark(tx: &mut Tx<'_>, id: &str, text: &str) -> meta::Result<()> {
    tx.execute(
        "INSERT INTO marks (id, text) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        params![id, text],
    )?;
    Ok(())
}

impl JobKind for Scripted {
    const KIND: &'static str = "test.scripted";
    const ATTEMPTS_MAX: u32 = 3;
    type Payload = String;

    async fn run(&self, ctx: &JobContext, id: String) -> Result<Done, JobError> {
        self.runs.fetch_add(1, Ordering::SeqCst);
        while let Some(step) = self.next() {
            ctx.check()?;
            match step {
                Step::Fail(error) => return Err(error),
                Step::Panic => std::panic::resume_unwind(Box::new("on purpose")),
                Step::Progress(percent) => ctx.progress(percent).await?,
                Step::Wait => {
                    self.arrived.add_permits(1);
                    tokio::select! {
                        permit = self.gate.acquire() => permit.unwrap().forget(),
                        error = ctx.interrupted() => return Err(error),
                    }
                }
                Step::Hang => {
                    self.arrived.add_permits(1);
                    self.gate.acquire().await.unwrap().forget();
                }
                Step::UntilOthersWait => {
                    while !ctx.gives_way() {
                        tokio::task::yield_now().await;
                    }
                    return Err(JobError::Yielded);
                }
                Step::Mark(text) => {
                    let id = id.clone();
                    ctx.write(move |tx| Ok(mark(tx, &id, text)?)).await?;
                }
            }
        }
        Ok(Done::with(move |tx| Ok(mark(tx, &id, "done")?)))
    }

    fn give_up(&self, tx: &mut Tx<'_>, job: &Job, id: &String, cause: &str) -> meta::Result<()> {
        assert_eq!(&job.id, id);
        mark(tx, id, &format!("given up: {cause}"))
    }
}

/// A job that moves bytes.
struct Moving(Scripted);

impl JobKind for Moving {
    const KIND: &'static str = "test.moving";
    const LANE: Lane = Lane::Movers;
    type Payload = String;

    async fn run(&self, ctx: &JobContext, id: String) -> Result<Done, JobError> {
        self.0.run(ctx, id).await
    }

    fn give_up(&self, tx: &mut Tx<'_>, job: &Job, id: &String, cause: &str) -> meta::Result<()> {
        self.0.give_up(tx, job, id, cause)
    }
}

fn runner(db: &Db, clock: &Arc<ManualClock>, kind: &Scripted) -> Runner {
    let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(clock);
    let config = Config { db: db.clone(), clock, owner: "test".to_owned(), places: PLACES };
    Runner::new(config, Kinds::new().with(kind.clone()), Waker::new())
}

async fn add(db: &Db, id: &'static str, run_after: Timestamp) -> bool {
    add_of::<Scripted>(db, id, run_after).await
}

async fn add_of<K: JobKind<Payload = String>>(
    db: &Db,
    id: &'static str,
    run_after: Timestamp,
) -> bool {
    db.write(move |tx| {
        let job =
            NewJob { account: account(), region: region(), id: id.to_owned(), now: NOW, run_after };
        enqueue::<K>(tx, &job, &id.to_owned())
    })
    .await
    .unwrap()
}

async fn job(db: &Db, id: &'static str) -> Job {
    db.read(move |tx| get(tx, &account(), &region(), id)).await.unwrap().unwrap()
}

async fn marks(db: &Db) -> Vec<String> {
    db.read(|tx| {
        tx.query("SELECT text FROM marks ORDER BY text", params![])?
            .iter()
            .map(|r| r.get(0))
            .collect()
    })
    .await
    .unwrap_or_else(|error: meta::Error| panic!("{error}"))
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(NOW))
}

#[tokio::test]
async fn a_job_runs_once_when_due_and_ends_with_its_last_rows() {
    for db in databases() {
        let (clock, kind) = (clock(), Scripted::new([]));
        let mut runner = runner(&db, &clock, &kind);
        assert!(add(&db, "a", NOW.plus_seconds(5)).await);
        assert!(!add(&db, "a", NOW).await, "the same id is the same job");
        assert_eq!(runner.tick().await, Ok(0), "it is not due");
        clock.advance_seconds(5);
        assert_eq!(runner.tick().await, Ok(1));
        runner.join_next().await;
        let job = job(&db, "a").await;
        assert_eq!(
            (job.state, job.progress, job.due),
            (JobState::Succeeded, 100, None),
            "{}",
            db.name
        );
        assert_eq!(marks(&db).await, ["done"]);
        clock.advance_seconds(3600);
        assert_eq!(runner.tick().await, Ok(0));
        assert_eq!(kind.runs(), 1);
    }
}

#[tokio::test]
async fn a_job_of_a_failed_transaction_does_not_exist() {
    for db in databases() {
        let refused: meta::Result<()> = db
            .write(|tx| {
                let id = "a".to_owned();
                let job =
                    NewJob { account: account(), region: region(), id, now: NOW, run_after: NOW };
                enqueue::<Scripted>(tx, &job, &"a".to_owned())?;
                Err(meta::Error::Aborted)
            })
            .await;
        assert!(refused.is_err());
        let jobs = db.read(|tx| list(tx, &account(), &region(), "", 10)).await.unwrap();
        assert_eq!(jobs, [], "{}", db.name);
    }
}

#[tokio::test]
async fn failures_wait_longer_each_time_until_the_job_is_given_up() {
    for db in databases() {
        let fail = || Step::Fail(JobError::retry("no answer"));
        let (clock, kind) = (clock(), Scripted::new([fail(), fail(), fail()]));
        let mut runner = runner(&db, &clock, &kind);
        add(&db, "a", NOW).await;
        for wait in [1, 2] {
            assert_eq!(runner.tick().await, Ok(1));
            runner.join_next().await;
            let job = job(&db, "a").await;
            assert_eq!((job.state, job.error.as_deref()), (JobState::Queued, Some("no answer")));
            assert_eq!(job.due, Some(clock.now().plus_seconds(wait)));
            clock.advance_seconds(wait - 1);
            assert_eq!(runner.tick().await, Ok(0));
            clock.advance_seconds(1);
        }
        assert_eq!(runner.tick().await, Ok(1));
        runner.join_next().await;
        assert_eq!(job(&db, "a").await.state, JobState::Failed, "{}", db.name);
        assert_eq!(marks(&db).await, ["given up: gave up after too many attempts: no answer"]);
        assert_eq!(kind.runs(), 3);
    }
}

#[tokio::test]
async fn progress_begins_the_attempts_anew_and_never_falls() {
    for db in databases() {
        let fail = || Step::Fail(JobError::retry("no answer"));
        let steps = [Step::Progress(10), fail(), Step::Progress(20), fail(), fail(), fail()];
        let (clock, kind) = (clock(), Scripted::new(steps));
        let mut runner = runner(&db, &clock, &kind);
        add(&db, "a", NOW).await;
        let mut seen = Vec::new();
        while job(&db, "a").await.due.is_some() {
            clock.advance_seconds(300);
            assert_eq!(runner.tick().await, Ok(1));
            runner.join_next().await;
            seen.push(job(&db, "a").await.progress);
        }
        assert_eq!(
            seen,
            [10, 20, 20, 20],
            "{}: one attempt with progress, then three in all",
            db.name
        );
        assert_eq!(job(&db, "a").await.state, JobState::Failed);

        let again = Scripted::new([
            Step::Progress(60),
            Step::Progress(30),
            Step::Progress(100),
            Step::Wait,
        ]);
        let mut runner = self::runner(&db, &clock, &again);
        add(&db, "b", NOW).await;
        runner.tick().await.unwrap();
        again.has_arrived().await;
        assert_eq!(job(&db, "b").await.progress, 99, "the whole is reached only by ending");
    }
}

#[tokio::test]
async fn a_permanent_error_and_a_panic() {
    for db in databases() {
        let steps = [Step::Fail(JobError::permanent("the key is gone")), Step::Panic];
        let (clock, kind) = (clock(), Scripted::new(steps));
        let mut runner = runner(&db, &clock, &kind);
        add(&db, "a", NOW).await;
        runner.tick().await.unwrap();
        runner.join_next().await;
        let first = job(&db, "a").await;
        assert_eq!(
            (first.state, first.error.as_deref()),
            (JobState::Failed, Some("the key is gone"))
        );
        assert_eq!(marks(&db).await, ["given up: the key is gone"], "{}", db.name);
        add(&db, "b", NOW).await;
        runner.tick().await.unwrap();
        runner.join_next().await;
        let second = job(&db, "b").await;
        assert_eq!(
            (second.state, second.error.as_deref()),
            (JobState::Queued, Some("the job panicked"))
        );
    }
}

#[tokio::test]
async fn after_a_crash_the_job_goes_on_when_its_lease_has_run_out() {
    for db in databases() {
        let steps = [Step::Mark("one"), Step::Progress(50), Step::Hang, Step::Mark("two")];
        let (clock, kind) = (clock(), Scripted::new(steps));
        let mut first = runner(&db, &clock, &kind);
        add(&db, "a", NOW).await;
        first.tick().await.unwrap();
        kind.has_arrived().await;
        // Dropping the runner ends its tasks wherever they are, as a crash does.
        drop(first);
        let mut second = runner(&db, &clock, &kind);
        clock.advance_seconds(LEASE_SECONDS - 1);
        assert_eq!(second.tick().await, Ok(0), "{}: the lease holds", db.name);
        clock.advance_seconds(1);
        assert_eq!(second.tick().await, Ok(1));
        second.join_next().await;
        let job = job(&db, "a").await;
        assert_eq!((job.state, job.progress), (JobState::Succeeded, 100));
        assert_eq!(marks(&db).await, ["done", "one", "two"]);
        assert_eq!(kind.runs(), 2);
    }
}

#[tokio::test]
async fn a_job_that_brings_the_server_down_each_time_is_given_up() {
    for db in databases() {
        let (clock, kind) =
            (clock(), Scripted::new([Step::Hang, Step::Hang, Step::Hang, Step::Hang]));
        add(&db, "a", NOW).await;
        for _ in 0..3 {
            let mut runner = runner(&db, &clock, &kind);
            assert_eq!(runner.tick().await, Ok(1));
            kind.has_arrived().await;
            drop(runner);
            clock.advance_seconds(LEASE_SECONDS);
        }
        let mut runner = runner(&db, &clock, &kind);
        runner.tick().await.unwrap();
        runner.join_next().await;
        assert_eq!(job(&db, "a").await.state, JobState::Failed, "{}", db.name);
        assert_eq!(kind.runs(), 3);
    }
}

#[tokio::test]
async fn two_runners_do_not_run_one_job_twice() {
    for db in databases() {
        let (clock, kind) = (clock(), Scripted::new((0..6).map(|_| Step::Wait)));
        let (mut first, mut second) = (runner(&db, &clock, &kind), runner(&db, &clock, &kind));
        for id in ["a", "b", "c", "d", "e", "f"] {
            add(&db, id, NOW).await;
        }
        let (one, two) = tokio::join!(first.tick(), second.tick());
        let more = first.tick().await.unwrap() + second.tick().await.unwrap();
        assert_eq!(one.unwrap() + two.unwrap() + more, 6, "{}", db.name);
        assert!(first.running() <= 4 && second.running() <= 4, "as many as were allowed");
        for _ in 0..6 {
            kind.has_arrived().await;
        }
        // Renewed leases hold for as long as their runner lives.
        for _ in 0..3 {
            clock.advance_seconds(LEASE_SECONDS - 1);
            assert_eq!((first.tick().await, second.tick().await), (Ok(0), Ok(0)));
        }
        kind.gate.add_permits(6);
        while first.running() + second.running() > 0 {
            first.join_next().await;
            second.join_next().await;
        }
        assert_eq!(kind.runs(), 6);
    }
}

#[tokio::test]
async fn a_runner_that_was_asleep_too_long_cannot_write_any_more() {
    for db in databases() {
        let stale = Scripted::new([Step::Hang, Step::Mark("stale")]);
        let fresh = Scripted::new([Step::Mark("fresh")]);
        let clock = clock();
        let (mut first, mut second) = (runner(&db, &clock, &stale), runner(&db, &clock, &fresh));
        add(&db, "a", NOW).await;
        first.tick().await.unwrap();
        stale.has_arrived().await;
        clock.advance_seconds(LEASE_SECONDS);
        assert_eq!(second.tick().await, Ok(1));
        second.join_next().await;
        // The first wakes up without having looked at its lease.
        stale.gate.add_permits(1);
        first.join_next().await;
        assert_eq!(marks(&db).await, ["done", "fresh"], "{}", db.name);
        assert_eq!(job(&db, "a").await.state, JobState::Succeeded);
    }
}

#[tokio::test]
async fn a_runner_that_finds_its_lease_lost_stops_the_job() {
    for db in databases() {
        let (stale, fresh) = (Scripted::new([Step::Hang]), Scripted::new([Step::Wait]));
        let clock = clock();
        let (mut first, mut second) = (runner(&db, &clock, &stale), runner(&db, &clock, &fresh));
        add(&db, "a", NOW).await;
        first.tick().await.unwrap();
        stale.has_arrived().await;
        clock.advance_seconds(LEASE_SECONDS);
        second.tick().await.unwrap();
        first.tick().await.unwrap();
        // No gate was opened: only being stopped ends it.
        first.join_next().await;
        assert_eq!((first.running(), second.running()), (0, 1), "{}", db.name);
        fresh.gate.add_permits(1);
        second.join_next().await;
        assert_eq!(job(&db, "a").await.state, JobState::Succeeded);
    }
}

#[tokio::test]
async fn cancelled_jobs_are_given_up_whether_they_wait_or_run() {
    for db in databases() {
        let (clock, kind) = (clock(), Scripted::new([Step::Wait]));
        let mut runner = runner(&db, &clock, &kind);
        let ask = |id: &'static str| db.write(move |tx| cancel(tx, &account(), &region(), id, NOW));
        add(&db, "running", NOW).await;
        runner.tick().await.unwrap();
        kind.has_arrived().await;
        add(&db, "waiting", NOW.plus_seconds(3600)).await;
        assert_eq!(
            (ask("running").await, ask("waiting").await, ask("none").await),
            (Ok(true), Ok(true), Ok(false))
        );
        runner.tick().await.unwrap();
        runner.join_next().await;
        runner.join_next().await;
        for id in ["running", "waiting"] {
            assert_eq!(job(&db, id).await.state, JobState::Cancelled, "{}: {id}", db.name);
        }
        assert_eq!(ask("running").await, Ok(false), "it has ended");
        assert_eq!(kind.runs(), 1, "the waiting one never ran");
        assert_eq!(marks(&db).await.len(), 2);
    }
}

#[tokio::test]
async fn movers_hold_up_nobody_else_and_each_other_for_a_turn() {
    for db in databases() {
        let (clock, short) = (clock(), Scripted::new([]));
        let long = Scripted::new([Step::UntilOthersWait, Step::Wait]);
        let config = Config {
            db: db.clone(),
            clock: Arc::<ManualClock>::clone(&clock),
            owner: "test".to_owned(),
            places: ONE_EACH,
        };
        let kinds = Kinds::new().with(short.clone()).with(Moving(long.clone()));
        let mut runner = Runner::new(config, kinds, Waker::new());
        add_of::<Moving>(&db, "a", NOW).await;
        assert_eq!(runner.tick().await, Ok(1));
        clock.advance_seconds(1);
        add_of::<Moving>(&db, "b", clock.now()).await;
        add(&db, "short", clock.now()).await;
        assert_eq!(runner.tick().await, Ok(1), "the short one has a place of its own");
        runner.join_next().await;
        assert_eq!(job(&db, "short").await.state, JobState::Succeeded, "{}", db.name);
        clock.advance_seconds(8);
        assert_eq!(runner.tick().await, Ok(0), "the first one's turn is not over");
        clock.advance_seconds(1);
        assert_eq!(runner.tick().await, Ok(0), "now it is told");
        runner.join_next().await;
        let first = job(&db, "a").await;
        assert_eq!((first.state, first.attempts), (JobState::Queued, 0), "{}", db.name);
        assert_eq!(runner.tick().await, Ok(1));
        long.has_arrived().await;
        assert_eq!(job(&db, "b").await.state, JobState::Running, "{}", db.name);
        long.gate.add_permits(1);
        runner.join_next().await;
        assert_eq!(runner.tick().await, Ok(1), "the first one goes on");
        runner.join_next().await;
        assert_eq!(job(&db, "a").await.state, JobState::Succeeded, "{}", db.name);
    }
}

#[tokio::test]
async fn a_mover_that_nobody_waits_for_goes_on() {
    for db in databases() {
        let (clock, long) = (clock(), Scripted::new([Step::Wait]));
        let config = Config {
            db: db.clone(),
            clock: Arc::<ManualClock>::clone(&clock),
            owner: "test".to_owned(),
            places: ONE_EACH,
        };
        let mut runner = Runner::new(config, Kinds::new().with(Moving(long.clone())), Waker::new());
        add_of::<Moving>(&db, "a", NOW).await;
        runner.tick().await.unwrap();
        long.has_arrived().await;
        for _ in 0..10 {
            clock.advance_seconds(30);
            runner.tick().await.unwrap();
        }
        long.gate.add_permits(1);
        runner.join_next().await;
        assert_eq!(long.runs(), 1, "{}", db.name);
    }
}

#[tokio::test]
async fn a_stopping_runner_puts_its_jobs_back_and_wakes_find_new_ones() {
    for db in databases() {
        let (clock, kind) = (clock(), Scripted::new([Step::Progress(40), Step::Wait]));
        let waker = Waker::new();
        let shared: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
        let config =
            Config { db: db.clone(), clock: shared, owner: "test".to_owned(), places: ONE_EACH };
        let runner = Runner::new(config, Kinds::new().with(kind.clone()), waker.clone());
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let running = tokio::spawn(runner.run(async { drop(stopped.await) }));
        add(&db, "a", NOW).await;
        waker.wake();
        kind.has_arrived().await;
        stop.send(()).unwrap();
        running.await.unwrap();
        let job = job(&db, "a").await;
        assert_eq!(
            (job.state, job.progress, job.due),
            (JobState::Queued, 40, Some(NOW)),
            "{}",
            db.name
        );
        assert_eq!(job.attempts, 0, "a planned stop is no attempt");
    }
}

#[tokio::test]
async fn other_kinds_are_left_alone_and_ended_jobs_can_be_forgotten() {
    for db in databases() {
        let (clock, kind) = (clock(), Scripted::new([]));
        add(&db, "a", NOW).await;
        let config = Config {
            db: db.clone(),
            clock: Arc::<ManualClock>::clone(&clock),
            owner: String::new(),
            places: ONE_EACH,
        };
        assert_eq!(
            Runner::new(config, Kinds::new(), Waker::new()).tick().await,
            Ok(0),
            "{}",
            db.name
        );
        let mut runner = runner(&db, &clock, &kind);
        runner.tick().await.unwrap();
        runner.join_next().await;
        add(&db, "b", NOW).await;
        let later = NOW.plus_seconds(1);
        assert_eq!(db.write(move |tx| prune_finished(tx, NOW, 10)).await, Ok(0));
        assert_eq!(db.write(move |tx| prune_finished(tx, later, 10)).await, Ok(1));
        let left = db.read(|tx| list(tx, &account(), &region(), "", 10)).await.unwrap();
        assert_eq!(left.iter().map(|job| job.id.as_str()).collect::<Vec<_>>(), ["b"]);
    }
}

#[test]
fn the_schema_is_portable() {
    for migration in lifecycle::MIGRATIONS {
        assert_eq!(meta::portable::check(migration.sql), [], "{}", migration.name);
    }
}
