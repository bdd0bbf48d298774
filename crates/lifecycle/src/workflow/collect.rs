//! Gives back the space of blocks that nothing reaches any more.
//!
//! A deletion asks for a look at what it left; from time to time all of a region is swept, for what
//! nobody asked about: the remains of work that failed or was cancelled. Nothing is removed on the
//! strength of a request: what is live is read from the rows when the work runs.

use super::progress::Wanted;
use crate::cells::{ROOTS_AT_ONCE_MAX, of_snapshot};
use crate::collections::{self, Figures};
use crate::port::blocks::{Blocks, Collected, Collection, Watch};
use crate::services::{Services, Trouble};
use base::{Region, Timestamp};
use blockstore::snapshot;
use ebs::garbage::{deleted_roots, forget_root};
use ebs::roots::live_roots;
use ebs::{StoreKind, upload};
use meta::Db;
use serde::{Deserialize, Serialize};

/// A region to be looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collect {
    /// Where.
    pub region: Region,
    /// How thoroughly.
    #[serde(default)]
    pub scope: Scope,
}

/// Where unused blocks are looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scope {
    /// Where deletions left something.
    #[default]
    Nominated,
    /// Everywhere.
    Everything,
}

impl Scope {
    /// A word for ids and rows.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nominated => "nominated",
            Self::Everything => "everything",
        }
    }
}

/// When to collect. All of it follows the server's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// How long something must be known to be unused before it is deleted. It must exceed the
    /// longest time between two checkpoints of an export or a copy.
    pub grace_seconds: i64,
    /// How often what deletions left is looked at where nothing is deleted.
    pub collect_interval_seconds: i64,
    /// How often everything is.
    pub sweep_interval_seconds: i64,
    /// A pack that is used less than this is rewritten without what is unused.
    pub rewrite_below_percent: u8,
}

impl Schedule {
    /// 24 hours of grace, a look every hour, a sweep every week (data plane, "Deletion and GC").
    pub const fn server() -> Self {
        Self {
            grace_seconds: 24 * 3600,
            collect_interval_seconds: 3600,
            sweep_interval_seconds: 7 * 86_400,
            rewrite_below_percent: 50,
        }
    }
}

/// Does the work. Answers when to look again, if something waits that no other look would find.
///
/// # Errors
/// When the rows or the block store fail, or the job is interrupted.
pub async fn run(services: &Services, job: &Collect) -> Result<Option<Timestamp>, Trouble> {
    let started = services.clock.now();
    // One that is interrupted is begun again, and says then what it did.
    let done = collect_all(&services.db, &*services.blocks, job).await?;
    let error = done.trouble.as_ref().map(Trouble::to_string);
    let figures = Figures { error, ..done.figures };
    let (region, scope, ended) = (job.region.clone(), job.scope, services.clock.now());
    let kept = figures.clone();
    let record = move |tx: &mut meta::Tx<'_>| {
        collections::record(tx, &region, scope, (started, ended), &kept)
    };
    services.db.write(record).await?;
    if let Some(trouble) = done.trouble {
        return Err(trouble);
    }
    if figures != Figures::default() {
        let (region, scope) = (&job.region, job.scope.as_str());
        tracing::info!(%region, scope, ?figures, "unused space was looked for");
    }
    if done.has_more_roots {
        return Ok(Some(ended));
    }
    let waits = job.scope == Scope::Everything && done.packs_unnominated > 0;
    Ok(waits.then(|| ended.plus_seconds(services.blocks.grace_seconds() + 1)))
}

/// What was done in all stores.
#[derive(Default)]
struct Done {
    figures: Figures,
    packs_unnominated: u64,
    /// Whether a store had as many deleted roots as are compared in one look.
    has_more_roots: bool,
    /// The first failure.
    trouble: Option<Trouble>,
}

impl Done {
    fn add(&mut self, collected: &Collected) {
        let (report, compared) = (&collected.report, collected.settled.len() as u64);
        self.packs_unnominated += report.packs_unnominated;
        self.has_more_roots |= compared >= ROOTS_AT_ONCE_MAX as u64;
        let figures = &mut self.figures;
        figures.roots_compared += compared;
        figures.packs_nominated += report.packs_nominated;
        figures.packs_deleted += report.packs_deleted;
        figures.packs_rewritten += report.packs_rewritten;
        figures.bytes_reclaimed += report.bytes_reclaimed;
        figures.packs_condemned += report.packs_condemned;
        figures.packs_postponed += report.packs_postponed;
    }

    fn fail(&mut self, trouble: Trouble) {
        self.trouble.get_or_insert(trouble);
    }
}

/// Releases uploads that ended: a block that was on its way then takes hold of its pack once more.
async fn release_ended_uploads(
    db: &Db,
    blocks: &dyn Blocks,
    region: &Region,
) -> Result<(), Trouble> {
    // Before the rows: an upload has a row before it has a block.
    let held = blocks.uploads(region).await?;
    let (here, ids) = (region.clone(), held.clone());
    let open = db.read(move |tx| upload::among(tx, &here, &ids)).await?;
    for ended in held.iter().filter(|id| !open.contains(id)) {
        blocks.release_upload(region, ended).await?;
    }
    Ok(())
}

/// Looks through every store. They share nothing: one that fails, for weeks perhaps, keeps no other from
/// being looked through. Fails only when it is interrupted.
async fn collect_all(db: &Db, blocks: &dyn Blocks, job: &Collect) -> Result<Done, Trouble> {
    let wanted = Wanted::of_this_job();
    let mut done = Done::default();
    if job.scope == Scope::Everything
        && let Err(trouble) = release_ended_uploads(db, blocks, &job.region).await
    {
        done.fail(trouble);
    }
    for store in StoreKind::ALL {
        if !wanted.is_wanted() {
            return Err(of_snapshot(snapshot::Error::Cancelled).into());
        }
        match collect(db, blocks, job, store, &wanted).await {
            Ok(collected) => done.add(&collected),
            Err(trouble) if !wanted.is_wanted() => return Err(trouble),
            Err(trouble) => done.fail(trouble),
        }
    }
    Ok(done)
}

async fn collect(
    db: &Db,
    blocks: &dyn Blocks,
    job: &Collect,
    store: StoreKind,
    watch: &dyn Watch,
) -> Result<Collected, Trouble> {
    let (region, scope) = (job.region.clone(), job.scope);
    let read = move |tx: &mut meta::Tx<'_>| {
        let deleted = deleted_roots(tx, &region, store)?;
        Ok::<_, ebs::Error>((deleted, live_roots(tx, &region, store)?))
    };
    let (noted, live_roots) = db.read(read).await?;
    let deleted = noted.iter().map(|noted| noted.root.clone()).collect();
    let collection = Collection { store, scope, deleted, live_roots };
    let collected = blocks.collect(&job.region, collection, watch).await?;
    let (region, settled) = (job.region.clone(), collected.settled.clone());
    let forget = move |tx: &mut meta::Tx<'_>| {
        let seen = noted.iter().filter(|noted| settled.contains(&noted.root));
        seen.into_iter().try_for_each(|noted| forget_root(tx, &region, noted))
    };
    db.write(forget).await?;
    Ok(collected)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BandwidthLimits;
    use crate::cells::{Cell, Cells};
    use crate::jobs::{
        self, Config, Job, JobContext, JobError, JobKind, Kinds, NewJob, Places, Runner, Waker,
    };
    use crate::workflow::progress::interruptible;
    use base::{AccountId, ManualClock, OsRng, Secret};
    use blockstore::page::DataKey;
    use blockstore::snapshot::{DirectSession, SessionSpec, SnapshotStore, release_session};
    use blockstore::store::{Store, StoreConfig};
    use meta::testing::{TestDb, engines};
    use objstore::{FaultPlan, FaultyStore, MemoryStore, ObjectStore};
    use std::sync::{Arc, Mutex};

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    /// A region with something unused in its archive.
    struct Place {
        cells: Cells,
        standard: Arc<FaultyStore<MemoryStore>>,
        _directory: tempfile::TempDir,
    }

    impl Place {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let (clock, rng) = (Arc::new(ManualClock::new(NOW)), Arc::new(OsRng));
            let objects =
                || FaultyStore::new(MemoryStore::new(clock.clone()), 1, FaultPlan::default());
            let standard = Arc::new(objects());
            let of = |objects: Arc<dyn ObjectStore>| {
                SnapshotStore::new(objects, &Secret::new([8; 32]), rng.clone())
            };
            let (archive, twins) = (of(Arc::new(objects())), of(Arc::new(objects())));
            leave_unused(&archive);
            let key = Secret::new([7; 32]);
            let live = Store::open(directory.path(), key, rng.clone(), StoreConfig::server());
            let cell = Cell::new(live.unwrap(), of(standard.clone()), archive, twins);
            let limits = BandwidthLimits::new();
            let cells = Cells::new([(sweep().region, cell)].into(), clock, &limits);
            Self { cells, standard, _directory: directory }
        }
    }

    /// What an upload wrote that came to nothing.
    fn leave_unused(store: &SnapshotStore) {
        let key = DataKey::new(&Secret::new([3; 64]));
        let (name, key_check) = ("snap-1".to_owned(), key.check_value());
        let spec = SessionSpec { name, volume_bytes: 1 << 30, parent: None, key_check };
        let session = DirectSession::open(store, spec).unwrap();
        session.put_block(0, &[1; 512 * 1024], None, &key).unwrap();
        release_session(store, "snap-1").unwrap();
    }

    fn sweep() -> Collect {
        Collect { region: Region::parse("us-east-1").unwrap(), scope: Scope::Everything }
    }

    fn databases() -> Vec<TestDb> {
        engines(&[crate::MIGRATIONS, ebs::MIGRATIONS].concat())
    }

    #[tokio::test]
    async fn a_store_that_fails_keeps_no_other_from_being_swept() {
        for db in databases() {
            let place = Place::new();
            place.standard.restart(FaultPlan { lost_per_mille: 1000, ..FaultPlan::default() });
            let done = collect_all(&db, &place.cells, &sweep()).await.unwrap();
            assert!(matches!(done.trouble, Some(Trouble::Blocks(_))), "{}", db.name);
            assert_eq!((done.figures.packs_condemned, done.packs_unnominated), (1, 1));
        }
    }

    /// Sweeps once its runner wants it back, and keeps what came of it.
    struct Late {
        place: Place,
        outcome: Arc<Mutex<Option<Result<Done, Trouble>>>>,
    }

    impl JobKind for Late {
        const KIND: &'static str = "test.late-sweep";
        type Payload = ();

        async fn run(&self, ctx: &JobContext, (): ()) -> Result<jobs::Done, JobError> {
            let reason = ctx.interrupted().await;
            let job = sweep();
            let work = collect_all(ctx.db(), &self.place.cells, &job);
            let outcome = interruptible(ctx.interruption(), work).await;
            *self.outcome.lock().unwrap() = Some(outcome);
            Err(reason)
        }

        fn give_up(&self, _: &mut meta::Tx<'_>, _: &Job, (): &(), _: &str) -> meta::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_server_that_stops_begins_no_sweep() {
        for db in databases() {
            let (place, outcome) = (Place::new(), Arc::default());
            let standard = Arc::clone(&place.standard);
            let kinds = Kinds::new().with(Late { place, outcome: Arc::clone(&outcome) });
            let job = NewJob {
                account: AccountId::parse("111111111111").unwrap(),
                region: sweep().region,
                id: "late".to_owned(),
                now: NOW,
                run_after: NOW,
            };
            db.write(move |tx| jobs::enqueue::<Late>(tx, &job, &())).await.unwrap();
            let config = Config {
                db: db.clone(),
                clock: Arc::new(ManualClock::new(NOW)),
                owner: "a".to_owned(),
                places: Places { turn_seconds: 10, steps: 1, movers: 1, collections: 1 },
            };
            let mut runner = Runner::new(config, kinds, Waker::new());
            assert_eq!(runner.tick().await, Ok(1), "{}", db.name);
            // Only the uploads are asked for.
            let asked = standard.calls() + 1;
            runner.stop().await;
            let outcome = outcome.lock().unwrap().take().unwrap();
            assert!(matches!(outcome, Err(Trouble::Blocks(_))), "{}", db.name);
            assert_eq!(standard.calls(), asked);
        }
    }
}
