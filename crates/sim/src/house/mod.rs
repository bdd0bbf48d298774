//! A house of volumes and snapshots over one object store: the model-based test.
//!
//! Volumes are created, empty or from snapshots, written, cut, exported, copied under the same key
//! and another, moved into an archive and back, given twins, uploaded block by block, detached, attached elsewhere,
//! deleted and collected, and compared with arrays of stamps. The stores may fail, with the effect or without it, and die. Collections run in the middle of
//! exports and copies, and what they leave is compared with what reading everything needs.

mod actions;
mod archiving;
mod collection;
mod twins;
mod uploads;
mod volumes;

use crate::model::{Content, Violation, ZEROS, parse};
use actions::Copied;
use archiving::Tier;
use base::{ManualClock, Rng, Secret, SeededRng, Timestamp};
use blockstore::live;
use blockstore::page::{BaseReader, DataKey, Lba, PAGE_BYTES, SourceError};
use blockstore::snapshot::{self, SnapshotReader, SnapshotRoot, SnapshotStore};
use collection::Recorder;
use objstore::{FaultPlan, FaultyStore, MemoryStore};
use std::collections::BTreeMap;
use std::sync::Arc;
use twins::Twin;
use uploads::Upload;
use volumes::Volume;

/// Bytes of every volume.
const VOLUME_BYTES: u64 = 8 << 20;
/// Pages of every volume.
const PAGES: u64 = VOLUME_BYTES / PAGE_BYTES as u64;
/// Data keys in use.
const KEYS: u64 = 2;

/// What a run is told.
#[derive(Clone, Copy, Debug)]
pub struct HouseRun {
    /// Decides everything that happens.
    pub seed: u64,
    /// Requests before the run ends.
    pub steps: u64,
    /// Whether the store fails.
    pub store: Weather,
    /// The grace period of collections. Anything below the length of a run is too short.
    pub grace_seconds: i64,
}

/// How the object store behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    /// It never fails.
    Fair,
    /// Calls fail, also after they had their effect; deleted objects are listed for a while; and
    /// now and then the process dies.
    Foul,
}

/// What a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HouseOutcome {
    /// Snapshots made by export.
    pub exports: u64,
    /// Those of them that had a parent.
    pub increments: u64,
    /// Snapshots made by copying.
    pub copies: u64,
    /// Snapshots made by uploads.
    pub uploads: u64,
    /// Snapshots moved into the archive.
    pub archived: u64,
    /// Snapshots brought back.
    pub restored: u64,
    /// Twins made of snapshots.
    pub twins: u64,
    /// Volumes made from snapshots that read a twin.
    pub twin_volumes: u64,
    /// Volumes made from snapshots.
    pub lazy_volumes: u64,
    /// Times that a volume was detached, to be attached again, or cut and exported without.
    pub detached: u64,
    /// Bases of volumes sealed anew under the volume's key.
    pub resealed: u64,
    /// Exports, copies, moves and uploads that were stopped and went on later.
    pub resumed: u64,
    /// Of the copies among them, attempts that found a checkpoint and had an earlier copy to add to.
    pub resumed_on_copies: u64,
    /// Snapshots that were read as a whole and compared.
    pub compared: u64,
    /// Collections, those during exports and copies included.
    pub collections: u64,
    /// Packs that collections deleted.
    pub packs_deleted: u64,
    /// Packs that collections rewrote.
    pub packs_rewritten: u64,
    /// Requests that failed with the store.
    pub refused: u64,
    /// Deaths of the process.
    pub deaths: u64,
    /// Equal for equal runs.
    pub digest: u64,
}

type Objects = Arc<Recorder<FaultyStore<MemoryStore>>>;
type Pages = BTreeMap<Lba, Content>;

/// A snapshot that exists.
struct Snapshot {
    root: SnapshotRoot,
    key: usize,
    content: Pages,
}

/// Why a request did not succeed.
enum Refused {
    /// The store failed, or the process died.
    Store,
    Violation(Violation),
}

impl From<Violation> for Refused {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

/// Failures of the store are its right; everything else is a finding.
fn refused(action: &'static str) -> impl Fn(snapshot::Error) -> Refused {
    move |error| match error {
        snapshot::Error::Store { source } if source.is_transient() => Refused::Store,
        snapshot::Error::Cancelled | snapshot::Error::TurnOver => Refused::Store,
        snapshot::Error::Source { source: SourceError::Unavailable { .. } } => Refused::Store,
        other => Violation::Failed { action, error: format!("{other:?}") }.into(),
    }
}

/// The same for volumes, whose own disks never fail here.
fn refused_by_volume(action: &'static str) -> impl Fn(live::Error) -> Refused {
    move |error| match &error {
        live::Error::Base { cause } if matches!(**cause, SourceError::Unavailable { .. }) => {
            Refused::Store
        }
        other => Violation::Failed { action, error: format!("{other:?}") }.into(),
    }
}

struct House {
    told: HouseRun,
    rng: Arc<SeededRng>,
    clock: Arc<ManualClock>,
    objects: Objects,
    store: SnapshotStore,
    archive_objects: Objects,
    archive_store: SnapshotStore,
    twin_objects: Objects,
    twin_store: SnapshotStore,
    keys: Vec<DataKey>,
    volumes: Vec<Volume>,
    snapshots: Vec<Snapshot>,
    archived: Vec<Snapshot>,
    twins: Vec<Twin>,
    uploads: Vec<Upload>,
    /// Uploads that have ended and may hold what they wrote.
    ended: Vec<String>,
    copied: Vec<Copied>,
    /// Roots of checkpoints and parents of work that was stopped.
    held: Vec<(Tier, SnapshotRoot)>,
    next_stamp: u64,
    next_name: u64,
    outcome: HouseOutcome,
}

/// Plays one run.
///
/// # Errors
/// The first violation, which `cargo xtask sim --kind houses --seed N` shows again.
pub fn house(told: HouseRun) -> Result<HouseOutcome, Violation> {
    let mut house = House::new(told);
    for _ in 0..told.steps {
        match house.step() {
            Ok(()) => {}
            Err(Refused::Store) if told.store == Weather::Foul => house.after_a_failure()?,
            Err(Refused::Store) => {
                let error = "the store never fails".to_owned();
                return Err(Violation::Failed { action: "serve", error });
            }
            Err(Refused::Violation(violation)) => return Err(violation),
        }
    }
    house.finish()
}

impl House {
    fn new(told: HouseRun) -> Self {
        let rng = Arc::new(SeededRng::new(told.seed));
        let clock = Arc::new(ManualClock::new(Timestamp(1_000_000)));
        let new_objects = || -> Objects {
            let inner = MemoryStore::new(Arc::clone(&clock) as Arc<dyn base::Clock>);
            let faulty = FaultyStore::new(inner, rng.next_u64(), FaultPlan::default());
            Arc::new(Recorder::new(faulty))
        };
        let (objects, archive_objects, twin_objects) =
            (new_objects(), new_objects(), new_objects());
        let store = snapshot_store(Tier::Standard, &objects, &rng);
        let archive_store = snapshot_store(Tier::Archive, &archive_objects, &rng);
        let twin_store = snapshot_store(Tier::Twins, &twin_objects, &rng);
        let keys = (0..KEYS).map(|key| DataKey::new(&Secret::new([key as u8 + 1; 64]))).collect();
        let house = Self {
            told,
            rng,
            clock,
            objects,
            store,
            archive_objects,
            archive_store,
            twin_objects,
            twin_store,
            keys,
            volumes: Vec::new(),
            snapshots: Vec::new(),
            archived: Vec::new(),
            twins: Vec::new(),
            uploads: Vec::new(),
            ended: Vec::new(),
            copied: Vec::new(),
            held: Vec::new(),
            next_stamp: 0,
            next_name: 0,
            outcome: HouseOutcome::default(),
        };
        house.new_weather();
        house
    }

    /// The stores come back, and will fail in a new way.
    fn new_weather(&self) {
        for tier in Tier::ALL {
            let foul = FaultPlan {
                lost_per_mille: [0, 10, 100][self.rng.below(3) as usize],
                happened_per_mille: [0, 10, 100][self.rng.below(3) as usize],
                late_list_per_mille: [0, 300][self.rng.below(2) as usize],
                crash_at_call: (self.rng.below(2) == 0).then(|| 1 + self.rng.below(3000)),
                ..FaultPlan::default()
            };
            let is_foul = self.told.store == Weather::Foul;
            self.restart(tier, if is_foul { foul } else { FaultPlan::default() });
        }
    }

    fn restart(&self, tier: Tier, plan: FaultPlan) {
        self.objects_of(tier).inner().restart(plan);
    }

    /// A request failed. If the process died, another one begins with what is stored.
    fn after_a_failure(&mut self) -> Result<(), Violation> {
        self.outcome.refused += 1;
        if Tier::ALL.into_iter().any(|tier| self.objects_of(tier).inner().crashed()) {
            self.outcome.deaths += 1;
            Tier::ALL.into_iter().for_each(|tier| self.restart(tier, FaultPlan::default()));
            self.store = snapshot_store(Tier::Standard, &self.objects, &self.rng);
            self.archive_store = snapshot_store(Tier::Archive, &self.archive_objects, &self.rng);
            self.twin_store = snapshot_store(Tier::Twins, &self.twin_objects, &self.rng);
            for upload in &mut self.uploads {
                upload.forget_session();
            }
            self.reopen_volumes()?;
        }
        self.new_weather();
        Ok(())
    }

    fn pick(&self, count: usize) -> Option<usize> {
        (count > 0).then(|| self.rng.below(count as u64) as usize)
    }

    fn stamp(&mut self) -> u64 {
        self.next_stamp += 1;
        self.next_stamp
    }

    fn name(&mut self, prefix: &str) -> String {
        self.next_name += 1;
        format!("{prefix}-{:08x}", self.next_name)
    }

    /// Reads a whole snapshot and compares it.
    fn compare(&mut self, at: usize) -> Result<(), Refused> {
        self.compare_in(Tier::Standard, at)
    }

    fn compare_in(&mut self, tier: Tier, at: usize) -> Result<(), Refused> {
        let snapshot = match tier {
            Tier::Standard => &self.snapshots[at],
            Tier::Archive => &self.archived[at],
            Tier::Twins => &self.twins[at].snapshot,
        };
        let failed = refused("read a snapshot");
        let store = self.store_of(tier);
        let reader = SnapshotReader::open(store, &snapshot.root).map_err(&failed)?;
        let key = &self.keys[snapshot.key];
        let per_block = blockstore::page::PAGES_PER_BLOCK as u64;
        for block in 0..PAGES / per_block {
            let plain = reader.read_block(block, key).map_err(&failed)?;
            for page in 0..per_block {
                let lba = block * per_block + page;
                let found = match &plain {
                    None => Some(ZEROS),
                    Some(plain) => {
                        let start = page as usize * PAGE_BYTES;
                        let bytes = &plain.bytes[start..start + PAGE_BYTES];
                        parse(lba, bytes.as_array().expect("a page is cut out"))
                    }
                };
                if found != Some(shown(&snapshot.content, lba)) {
                    let id = format!("{at} {tier:?}");
                    return Err(Violation::WrongSnapshot { id, lba }.into());
                }
            }
        }
        self.outcome.compared += 1;
        Ok(())
    }
}

fn snapshot_store(tier: Tier, objects: &Objects, rng: &Arc<SeededRng>) -> SnapshotStore {
    let key = match tier {
        Tier::Standard => Secret::new([7; 32]),
        Tier::Archive => Secret::new([8; 32]),
        Tier::Twins => Secret::new([9; 32]),
    };
    let objects = Arc::clone(objects) as Arc<dyn objstore::ObjectStore>;
    SnapshotStore::new(objects, &key, Arc::clone(rng) as Arc<dyn Rng>)
}

fn shown(content: &Pages, lba: Lba) -> Content {
    content.get(&lba).copied().unwrap_or(ZEROS)
}

fn reader(store: &SnapshotStore, root: &SnapshotRoot) -> Result<Arc<dyn BaseReader>, Refused> {
    let reader = SnapshotReader::open(store, root).map_err(refused("open a base"))?;
    Ok(Arc::new(reader))
}
