//! A server in memory for the tests of operations: manual clock, seeded randomness, no sockets.

use crate::audit::Notes;
use crate::channel::Channels;
use crate::key_life;
use crate::modelled;
use crate::pipeline::{self, Operation};
use crate::{Call, Caller, Enforcement, Error, Explain, ExplainIds, Parts, Regions, World};
use awsproto::{Blob, Fields, Kind, Schema, Shape, ToWire, Value};
use base::{AccountId, ManualClock, Region, Secret, SeededRng, Timestamp, VolumeId};
use blockstore::live::VolumeOptions;
use blockstore::snapshot::SnapshotStore;
use blockstore::store::{
    Borrower, EngineAnswer, EngineCall, Loan, Store, StoreConfig, StoreError, VolumeHandle,
};
use iam::Principal;
use kms::seal::Provider;
use lifecycle::BandwidthLimits;
use lifecycle::cells::{Cell, Cells};
use lifecycle::jobs::{Config, Kinds, Places, Runner};
use lifecycle::port::BoxFuture;
use lifecycle::port::blocks::BlockError;
use lifecycle::port::host::{
    AttachHost, CloseVolume, Force, HostError, KeepVolume, LendVolume, OpenVolume, Tenure,
};
use objstore::{FaultPlan, FaultyStore, MemoryStore};
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::watch;

#[path = "../../identity/tests/it/idp.rs"]
pub(crate) mod idp;

/// When every test begins: 2026-01-01T00:00:00Z.
pub(crate) const START: Timestamp = Timestamp(1_767_225_600_000);

/// A world and the handles its tests turn.
pub(crate) struct Bench {
    pub(crate) world: Arc<World>,
    pub(crate) clock: Arc<ManualClock>,
    /// What the host has open, for tests that read and write volumes.
    pub(crate) host: Arc<QuietHost>,
    /// What token issuers answer.
    pub(crate) issuers: Arc<Issuers>,
    /// What lies below the regions' snapshots, to be made to fail.
    pub(crate) objects: BTreeMap<&'static str, Arc<Objects>>,
    /// Removed when the bench goes.
    directory: tempfile::TempDir,
}

/// Objects in memory that fail when told.
pub(crate) type Objects = FaultyStore<MemoryStore>;

pub(crate) fn account(digit: u8) -> AccountId {
    AccountId::parse(&digit.to_string().repeat(12)).expect("twelve digits")
}

pub(crate) fn region(name: &str) -> Region {
    Region::parse(name).expect("a region name")
}

/// A new server with regions us-east-1 and eu-west-1, three zones each.
pub(crate) async fn bench() -> Bench {
    bench_with(Enforcement::Native).await
}

pub(crate) async fn bench_with(enforcement: Enforcement) -> Bench {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let rng = Arc::new(SeededRng::new(1));
    let provider = Provider::KeyFile(directory.path().join("seal.key"));
    let (seal, _) =
        kms::seal::Root::open_or_create(directory.path(), &provider, &*rng).expect("a new root");
    let clock = Arc::new(ManualClock::new(START));
    let regions = ["us-east-1", "eu-west-1"];
    // A region's archive and its twins are beside it.
    let objects: BTreeMap<_, _> = [
        "us-east-1",
        "us-east-1/archive",
        "us-east-1/twins",
        "eu-west-1",
        "eu-west-1/archive",
        "eu-west-1/twins",
    ]
    .map(|name| {
        let objects = MemoryStore::new(clock.clone());
        (name, Arc::new(FaultyStore::new(objects, 1, FaultPlan::default())))
    })
    .into();
    let cells = regions.map(|name| {
        let beside = |store: &str| Arc::clone(&objects[&*format!("{name}/{store}")]);
        let objects = [Arc::clone(&objects[name]), beside("archive"), beside("twins")];
        (region(name), cell(&directory.path().join(name), &rng, objects))
    });
    let cells = Cells::new(cells.into(), clock.clone(), &BandwidthLimits::new());
    // Turns end when the runner says so.
    let cells = Arc::new(cells.with_shortest_turn(Duration::ZERO));
    let host = Arc::new(QuietHost {
        cells: Arc::clone(&cells),
        open: Mutex::default(),
        lent: Mutex::default(),
        leased: watch::Sender::default(),
        lending: tokio::sync::Mutex::default(),
        damaged: Mutex::default(),
        is_full: AtomicBool::default(),
        lease_ms: AtomicU32::new(20_000),
        held_ms: AtomicU32::default(),
    });
    let issuers = Arc::new(Issuers::default());
    let parts = Parts {
        db: meta::Db::memory().expect("a database in memory"),
        clock: clock.clone(),
        rng,
        seal: Arc::new(seal),
        regions: Regions::new([(region("us-east-1"), 3), (region("eu-west-1"), 3)]),
        enforcement,
        explain_ids: ExplainIds::OnRequest,
        host: Arc::clone(&host) as _,
        channels: Arc::clone(&host) as _,
        issuers: Arc::clone(&issuers) as _,
        cells,
        trail: crate::Trail::Rows,
        clusters: CLUSTERS.into_iter().map(cluster).collect(),
    };
    let world = World::open(parts).await.expect("a world in memory opens");
    add_accounts(&world).await;
    Bench { world, clock, host, issuers, objects, directory }
}

/// Tokens that key stores can be made of. Their module does not exist.
pub(crate) const CLUSTERS: [&str; 2] = ["cluster-abcdefghijk", "cluster-bcdefghijkl"];

fn cluster(id: &str) -> (String, kms::key_store::stores::Cluster) {
    let module = std::path::PathBuf::from("/nowhere/module.so");
    let token = kms::token::TokenName { module, label: id.to_owned() };
    (id.to_owned(), kms::key_store::stores::Cluster { token, trust_anchor: None })
}

/// Accounts 111… to 333… exist in every world.
async fn add_accounts(world: &World) {
    let identity = world.identity.clone();
    let made = world.db.write(move |tx| {
        for digit in 1..=3 {
            identity.create_account(tx, Some(&account(digit)), "test")?;
        }
        Ok::<_, identity::Error>(())
    });
    made.await.expect("the accounts are new");
}

impl Bench {
    /// Where a region's volumes are.
    pub(crate) fn directory(&self, in_region: &str) -> std::path::PathBuf {
        self.directory.path().join(in_region)
    }

    /// Runs jobs of these kinds, when the test says so.
    pub(crate) fn runner(&self, kinds: Kinds) -> Runner {
        self.runner_with(kinds, Places { turn_seconds: 10, steps: 4, movers: 4, collections: 1 })
    }

    /// As [`Bench::runner`], with so many places.
    pub(crate) fn runner_with(&self, kinds: Kinds, places: Places) -> Runner {
        let config = Config {
            db: self.world.db.clone(),
            clock: self.clock.clone(),
            owner: "test".to_owned(),
            places,
        };
        Runner::new(config, kinds, self.world.waker.clone())
    }

    /// Runs what is due now, of keys and of volumes, once.
    pub(crate) async fn run_due_jobs(&self) {
        let mut runner = self.runner(key_life::job_kinds(&self.world));
        for _ in 0..runner.tick().await.expect("jobs are found") {
            runner.join_next().await;
        }
    }

    /// A call by the root of an account.
    pub(crate) fn root(&self, account: &AccountId, in_region: &str) -> Call {
        self.call(Principal::root(account), in_region)
    }

    /// A call by a new user with one inline policy.
    pub(crate) async fn user(&self, account: &AccountId, name: &str, policy: &str) -> Call {
        let identity = self.world.identity.clone();
        let (owner, policy) = (account.clone(), policy.to_owned());
        let user_name = name.to_owned();
        let made = self.world.db.write(move |tx| {
            let tags = identity::tag::Tags::new();
            let user = identity.create_user(tx, &owner, &user_name, None, None, &tags)?;
            identity::inline::put(tx, &user, "test", &policy)?;
            Ok::<_, identity::Error>(user)
        });
        let user = made.await.expect("a new user");
        self.call(Principal::user(account, &user.path, &user.name, &user.unique_id), "us-east-1")
    }

    /// A call by any principal.
    pub(crate) fn call(&self, principal: Principal, in_region: &str) -> Call {
        Call {
            world: Arc::clone(&self.world),
            caller: Caller {
                principal,
                access_key_id: Some("AKIAIOSFODNN7EXAMPLE".to_owned()),
                session_policies: Vec::new(),
                source_ip: Some("192.0.2.1".to_owned()),
                secure_transport: true,
                user_agent: "test".to_owned(),
                forwarded: None,
            },
            region: region(in_region),
            request_id: base::id::uuid(&*self.world.rng),
            now: self.world.clock.now(),
            vouched: None,
            notes: Notes::default(),
            explain: Explain::Off,
            rehearsal: None,
        }
    }
}

/// Runs an operation through the whole pipeline: JSON by model names in, JSON out.
pub(crate) async fn run<O: Operation>(call: &Call, input: Json) -> Result<Json, Error> {
    let input = from_json(<O::Input as Shape>::SCHEMA, &input);
    let output = modelled::checked(&O::SPEC, pipeline::run::<O>(call, input).await)?;
    Ok(output.to_wire().map_or(Json::Null, |value| to_json(&value)))
}

/// Runs an operation found by its name, as [`run`] does one found by its type.
pub(crate) async fn run_named(
    call: &Call,
    service: crate::Service,
    name: &str,
    input: Json,
) -> Result<Json, Error> {
    let operation = crate::registry::find(service, name).unwrap_or_else(|| panic!("no {name}"));
    let input = from_json(operation.info().input, &input);
    Ok(to_json(&modelled::checked(operation.spec(), operation.run(call, input).await)?))
}

/// A structure from JSON whose keys are the model's member names.
pub(crate) fn from_json(schema: &'static Schema, json: &Json) -> Value {
    let object = json.as_object().expect("an input is an object");
    let mut fields = Fields::default();
    for (name, value) in object {
        let member = schema.member(name).unwrap_or_else(|| panic!("no member {name}"));
        fields.push(member.name, typed(&member.kind, value));
    }
    Value::Struct(fields)
}

fn typed(kind: &Kind, json: &Json) -> Value {
    match kind {
        Kind::Bool => Value::Bool(json.as_bool().expect("a boolean")),
        Kind::Integer | Kind::Long => Value::Int(json.as_i64().expect("an integer")),
        Kind::Double => Value::Float(json.as_f64().expect("a number")),
        Kind::String | Kind::Enum(_) => Value::String(json.as_str().expect("a string").to_owned()),
        Kind::Blob => Value::Blob(Blob::from(json.as_str().expect("a string").as_bytes())),
        Kind::Timestamp => Value::Timestamp(
            Timestamp::parse_iso(json.as_str().expect("a string")).expect("an instant"),
        ),
        Kind::List(item) => {
            Value::List(json.as_array().expect("a list").iter().map(|v| typed(item, v)).collect())
        }
        Kind::Map(item) => Value::Map(
            json.as_object()
                .expect("a map")
                .iter()
                .map(|(key, value)| (key.clone(), typed(item, value)))
                .collect(),
        ),
        Kind::Struct(schema) => from_json(schema, json),
    }
}

fn to_json(value: &Value) -> Json {
    match value {
        Value::Bool(value) => Json::from(*value),
        Value::Int(value) => Json::from(*value),
        Value::Float(value) => Json::from(*value),
        Value::String(value) => Json::from(value.as_str()),
        Value::Blob(value) => Json::from(&value[..]),
        Value::Timestamp(value) => Json::from(value.iso_millis()),
        Value::List(items) => items.iter().map(to_json).collect(),
        Value::Map(entries) => {
            Json::Object(entries.iter().map(|(k, v)| (k.clone(), to_json(v))).collect())
        }
        Value::Struct(fields) => {
            Json::Object(fields.iter().map(|(k, v)| (k.to_owned(), to_json(v))).collect())
        }
    }
}

/// Documents of token issuers, in memory, and how often each was asked for.
#[derive(Default)]
pub(crate) struct Issuers(Mutex<BTreeMap<String, (Option<String>, usize)>>);

impl Issuers {
    /// Sets what an address answers; `None` for an address that does not.
    pub(crate) fn set(&self, url: &str, text: Option<String>) {
        let mut all = self.0.lock().expect("no test panics while it holds the map");
        all.entry(url.to_owned()).or_default().0 = text;
    }

    /// How often an address was asked for.
    pub(crate) fn fetched(&self, url: &str) -> usize {
        let all = self.0.lock().expect("no test panics while it holds the map");
        all.get(url).map_or(0, |(_, count)| *count)
    }
}

impl crate::issuer_keys::IssuerDocuments for Issuers {
    fn fetch<'a>(
        &'a self,
        url: &'a str,
        _thumbprints: &'a [String],
    ) -> crate::registry::BoxFuture<'a, Result<String, String>> {
        let mut all = self.0.lock().expect("no test panics while it holds the map");
        let (text, count) = all.entry(url.to_owned()).or_default();
        *count += 1;
        let answer = text.clone().ok_or_else(|| format!("{url} does not answer"));
        Box::pin(async { answer })
    }
}

/// A region's stores: volumes in files, snapshots in memory.
fn cell(directory: &Path, rng: &Arc<SeededRng>, objects: [Arc<Objects>; 3]) -> Cell {
    let [objects, archive, twins] = objects;
    let config = StoreConfig::server();
    let (key, rng) = (Secret::new([7; 32]), Arc::clone(rng));
    let live = Store::open(directory, key.duplicate(), rng.clone(), config).expect("a new store");
    let archive = SnapshotStore::new(archive, &Secret::new([8; 32]), rng.clone());
    let twins = SnapshotStore::new(twins, &Secret::new([9; 32]), rng.clone());
    Cell::new(live, SnapshotStore::new(objects, &key, rng), archive, twins)
}

/// A host that opens every volume with its key, and offers it to nobody.
pub(crate) struct QuietHost {
    cells: Arc<Cells>,
    open: Mutex<BTreeMap<VolumeId, VolumeHandle>>,
    /// Volumes at machines of their own, and their epochs.
    lent: Mutex<BTreeMap<(Region, VolumeId), u64>>,
    /// Those whose machines may hold a lease.
    leased: watch::Sender<BTreeSet<VolumeId>>,
    /// Nothing is lent while this is held.
    pub(crate) lending: tokio::sync::Mutex<()>,
    /// Those that cannot be lent.
    pub(crate) damaged: Mutex<BTreeSet<VolumeId>>,
    /// Nothing that takes space can be opened.
    pub(crate) is_full: AtomicBool,
    /// How long their leases are.
    pub(crate) lease_ms: AtomicU32,
    /// The longest lease the last volume that was kept over a restart may have.
    pub(crate) held_ms: AtomicU32,
}

impl QuietHost {
    /// Writes to an attached volume, durably.
    pub(crate) fn write(&self, volume: &str, offset: u64, bytes: &[u8]) {
        self.with(volume, |open| {
            open.write(offset, bytes.to_vec()).expect("the volume takes writes");
            open.flush().expect("the volume flushes");
        });
    }

    /// Reads from an attached volume.
    pub(crate) fn read(&self, volume: &str, offset: u64, length: usize) -> Vec<u8> {
        self.with(volume, |open| open.read(offset, length).expect("the volume is readable"))
    }

    fn with<T>(&self, volume: &str, work: impl FnOnce(&VolumeHandle) -> T) -> T {
        let id = VolumeId::parse(volume).expect("a volume id");
        let volumes = self.volumes();
        work(volumes.get(&id).expect("the volume is attached"))
    }

    /// Closes everything, as a server that stops does.
    pub(crate) fn forget_all(&self) {
        for (_, open) in std::mem::take(&mut *self.volumes()) {
            open.close().expect("the volume closes");
        }
    }

    /// The machine that has a volume connects.
    pub(crate) fn machine_connects(&self, volume: &str) {
        let id = VolumeId::parse(volume).expect("a volume id");
        self.leased.send_modify(|leased| assert!(leased.insert(id), "it holds a lease"));
    }

    /// The machine that has a volume says goodbye, or its lease ends.
    pub(crate) fn machine_stops(&self, volume: &str) {
        let id = VolumeId::parse(volume).expect("a volume id");
        assert!(self.leased.send_if_modified(|leased| leased.remove(&id)), "it held no lease");
    }

    /// Whether anybody waits for machines to stop.
    pub(crate) fn is_waited_for(&self) -> bool {
        self.leased.receiver_count() > 0
    }

    /// Has a volume be at a machine that answers every call with a failure, until the loan is dropped.
    pub(crate) fn lend_to_failing(
        &self,
        in_region: &str,
        volume: &str,
        failure: impl Fn(VolumeId) -> StoreError + Send + Sync + 'static,
    ) -> Loan {
        let id = VolumeId::parse(volume).expect("a volume id");
        let cell = self.cells.get(&region(in_region)).expect("a region of the bench");
        let options = VolumeOptions { size_bytes: 1 << 30, key_check: None, base: None };
        match cell.live.create_volume(&id, &options) {
            Ok(()) | Err(StoreError::Exists { .. }) => {}
            Err(error) => panic!("the volume cannot be made: {error}"),
        }
        let failing = Arc::new(FailingMachine { id: id.clone(), failure: Box::new(failure) });
        cell.live.lend(&id, failing).expect("nobody has the volume")
    }

    /// Whether the volume is open.
    pub(crate) fn has(&self, volume: &str) -> bool {
        VolumeId::parse(volume).is_ok_and(|id| self.volumes().contains_key(&id))
    }

    fn lent(&self) -> MutexGuard<'_, BTreeMap<(Region, VolumeId), u64>> {
        self.lent.lock().expect("no test panics while it holds the map")
    }

    fn volumes(&self) -> MutexGuard<'_, BTreeMap<VolumeId, VolumeHandle>> {
        self.open.lock().expect("no test panics while it holds the map")
    }
}

/// A machine that answers every call with a failure.
struct FailingMachine {
    id: VolumeId,
    failure: Box<dyn Fn(VolumeId) -> StoreError + Send + Sync>,
}

impl Borrower for FailingMachine {
    fn call(&self, _: EngineCall) -> Result<EngineAnswer, StoreError> {
        Err((self.failure)(self.id.clone()))
    }
}

impl AttachHost for QuietHost {
    fn open(&self, request: OpenVolume) -> BoxFuture<'_, Result<(), HostError>> {
        Box::pin(async move {
            if self.is_full.load(Ordering::SeqCst) {
                return Err(BlockError::NoRoom("the disk is full".into()).into());
            }
            let cell = self.cells.get(&request.region).expect("a region of the bench");
            let opened = cell.open(&request)?;
            self.volumes().insert(request.volume, opened);
            Ok(())
        })
    }

    fn close(&self, request: CloseVolume) -> BoxFuture<'_, Result<(), HostError>> {
        Box::pin(async move {
            match self.volumes().remove(&request.volume) {
                None => Ok(()),
                Some(open) => open.close().map_err(|error| HostError::Storage(Box::new(error))),
            }
        })
    }

    fn lend(&self, request: LendVolume) -> BoxFuture<'_, Result<(), HostError>> {
        Box::pin(async move {
            let _gate = self.lending.lock().await;
            let damaged = self.damaged.lock().expect("no test panics while it holds the set");
            if damaged.contains(&request.volume) {
                return Err(HostError::Storage("damaged".into()));
            }
            if let Tenure::Standing { lease_ms } = request.tenure {
                self.held_ms.store(lease_ms, Ordering::SeqCst);
                self.leased.send_if_modified(|leased| leased.insert(request.volume.clone()));
            }
            let (place, mut lent) = ((request.region, request.volume), self.lent());
            lent.insert(place, request.epoch);
            Ok(())
        })
    }

    fn keep(&self, request: KeepVolume) -> BoxFuture<'_, Result<(), HostError>> {
        self.held_ms.store(request.lease_ms, Ordering::SeqCst);
        self.leased.send_if_modified(|leased| leased.insert(request.volume.clone()));
        Box::pin(async { Ok(()) })
    }

    fn lease_ms(&self) -> u32 {
        self.lease_ms.load(Ordering::SeqCst)
    }

    fn ticket(
        &self,
        region: &Region,
        volume: &VolumeId,
        epoch: u64,
    ) -> Result<Option<Secret<String>>, HostError> {
        let lent = self.lent();
        let current = lent.get(&(region.clone(), volume.clone())) == Some(&epoch);
        Ok(current.then(|| Secret::new(format!("ticket {epoch}"))))
    }

    fn take_back(&self, request: CloseVolume) -> BoxFuture<'_, Result<(), HostError>> {
        let mut leased = self.leased.subscribe();
        Box::pin(async move {
            if request.force == Force::No {
                let stopped = leased.wait_for(|leased| !leased.contains(&request.volume)).await;
                drop(stopped.expect("the sender is the host's"));
            }
            self.leased.send_if_modified(|leased| leased.remove(&request.volume));
            let key = (request.region, request.volume);
            self.lent.lock().expect("no test panics while it holds the map").remove(&key);
            Ok(())
        })
    }
}

impl Channels for QuietHost {
    fn redeem(&self, _ticket: &str) -> Option<Arc<remote::Served>> {
        None
    }

    fn disconnect(&self, _region: &Region, _volume: &VolumeId) {}
}
