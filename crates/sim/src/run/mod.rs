//! One simulated life of a volume: random requests, power cuts, recoveries, and checks.
//!
//! `requests` is what a guest and the upkeep of a volume ask for, `cuts` what is asked of cuts and
//! snapshots, `recovery` what must hold after a power cut and at the end, `lazy` the base of a
//! volume made from a snapshot.

mod cuts;
mod lazy;
mod recovery;
mod requests;

use crate::disk::SimDisk;
use crate::model::{Content, Model, Violation};
use crate::space::SimSpace;
use base::{ManualClock, Rng, Secret, SeededRng, Timestamp};
use blockstore::live::{
    Base, CutInfo, Disk, Engine, EngineConfig, Error, OpenOptions, Space, VolumeOptions,
};
use blockstore::page::{DataKey, Lba, PAGE_BYTES, StructureKey};
use blockstore::snapshot::{SnapshotRoot, SnapshotStore};
use lazy::make_base;
use objstore::MemoryStore;
use requests::Zeroing;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Pages per area that requests go to.
const AREA_PAGES: u64 = 200;
/// Areas per volume.
const AREAS: usize = 3;

/// What a run is told.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// Decides everything that happens.
    pub seed: u64,
    /// Requests before the run ends.
    pub steps: u64,
    /// Where the engine's salts come from.
    pub salts: Salts,
}

/// Where an engine takes randomness from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Salts {
    /// From the seed, different every time.
    Random,
    /// From a generator that starts anew with every incarnation, as one seeded badly would. A run
    /// with it must fail.
    Repeated,
}

/// What a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Power cuts, those during recovery included.
    pub power_cuts: u64,
    /// Times the server was killed while the power stayed.
    pub kills: u64,
    /// Cuts whose content was checked.
    pub cuts_checked: u64,
    /// Snapshots that were exported and compared.
    pub exports_checked: u64,
    /// Those of them that had a parent.
    pub increments_checked: u64,
    /// Segments the cleaner emptied.
    pub segments_cleaned: u64,
    /// Writes and cuts that were refused for want of space.
    pub refused: u64,
    /// Times the volume grew.
    pub grown: u64,
    /// Live pages the cleaner moved.
    pub pages_moved: u64,
    /// Rounds of putting pages in order that began.
    pub ordered: u64,
    /// Equal for equal runs.
    pub digest: u64,
}

/// Plays one run. `wrap` stands between the engine and the disk.
///
/// # Errors
/// The first violation, which `xtask sim --seed N` shows again.
pub fn run(run: Run, wrap: &dyn Fn(Arc<SimDisk>) -> Arc<dyn Disk>) -> Result<Outcome, Violation> {
    let mut world = World::new(run, wrap)?;
    for _ in 0..run.steps {
        let rolled = world.rng.below(100);
        let result = world.step(rolled).and_then(|()| Ok(world.check_space()?));
        match result {
            Ok(()) => world.model.answer(),
            Err(Stop::Violation(violation)) => return Err(violation),
            Err(Stop::PowerLost) => world.recover()?,
        }
    }
    world.disk.cut_power_after(u64::MAX);
    match world.finish() {
        Ok(()) if world.disk.salt_reused() => Err(Violation::SaltReused),
        Ok(()) => Ok(world.outcome),
        Err(Stop::Violation(violation)) => Err(violation),
        Err(Stop::PowerLost) => {
            Err(Violation::Failed { action: "finish", error: "the disk failed".to_owned() })
        }
    }
}

enum Stop {
    PowerLost,
    Violation(Violation),
}

impl From<Violation> for Stop {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

/// A failure of the disk is a power cut; any other failure is a finding.
fn stop(action: &'static str) -> impl Fn(Error) -> Stop {
    move |error| match error {
        Error::Disk { .. } | Error::Failed => Stop::PowerLost,
        other => Stop::Violation(Violation::Failed { action, error: other.to_string() }),
    }
}

/// A cut the volume should have.
struct TakenCut {
    info: CutInfo,
    content: BTreeMap<Lba, Content>,
}

struct World<'a> {
    rng: Arc<SeededRng>,
    wrap: &'a dyn Fn(Arc<SimDisk>) -> Arc<dyn Disk>,
    disk: Arc<SimDisk>,
    key: DataKey,
    structure: StructureKey,
    base: Option<Base>,
    /// `None` only while power is off.
    engine: Option<Engine>,
    model: Model,
    /// Acknowledged and not dropped.
    cuts: Vec<TakenCut>,
    /// Dropped ones, for their contents: changes are asked for relative to them.
    past: Vec<TakenCut>,
    /// Asked for and not acknowledged, with the number of unflushed writes before it.
    unsure_cut: Option<(TakenCut, usize)>,
    /// One that is being dropped.
    dropping: Option<TakenCut>,
    next_cut: u64,
    areas: [Lba; AREAS],
    size: u64,
    /// For some volumes, the place their file lies in.
    space: Option<Arc<SimSpace>>,
    /// A size asked for and not acknowledged, with the number of unflushed writes before it.
    unsure_size: Option<(u64, usize)>,
    outcome: Outcome,
    salts: Salts,
    snapshots: SnapshotStore,
    /// Snapshots of the volume: what they hold and when they were cut.
    exported: Vec<(SnapshotRoot, CutInfo, BTreeMap<Lba, Content>)>,
}

impl<'a> World<'a> {
    fn new(told: Run, wrap: &'a dyn Fn(Arc<SimDisk>) -> Arc<dyn Disk>) -> Result<Self, Violation> {
        let rng = Arc::new(SeededRng::new(told.seed));
        let objects = Arc::new(MemoryStore::new(Arc::new(ManualClock::new(Timestamp(0)))));
        let service_key = Secret::new([7; 32]);
        let snapshots = SnapshotStore::new(objects, &service_key, Arc::clone(&rng) as Arc<dyn Rng>);
        let mut bytes = Secret::new([0; 64]);
        rng.fill(bytes.expose_mut());
        let key = DataKey::new(&bytes);
        let structure = StructureKey::derive(&service_key, "vol-00000000");
        // Sometimes small and dense, sometimes wide, so that the map has one to four levels.
        let size = [4 << 20, 300 << 20, 3 << 40][rng.below(3) as usize];
        let pages = size / PAGE_BYTES as u64;
        let areas = std::array::from_fn(|_| rng.below(pages - AREA_PAGES));
        let (base, base_content) = make_base(&rng, &key, &areas);
        let disk = Arc::new(SimDisk::new());
        let mut world = Self {
            wrap,
            key,
            structure,
            engine: None,
            model: Model::new(base_content),
            cuts: Vec::new(),
            past: Vec::new(),
            unsure_cut: None,
            dropping: None,
            next_cut: 0,
            areas,
            size,
            unsure_size: None,
            space: None,
            outcome: Outcome::default(),
            base,
            disk,
            rng,
            salts: told.salts,
            snapshots,
            exported: Vec::new(),
        };
        if world.rng.below(2) == 0 {
            world.space = Some(Arc::new(SimSpace::new((4 + world.rng.below(8)) << 20)));
        }
        let options = VolumeOptions {
            size_bytes: size,
            key_check: None,
            base: world.base.as_ref().map(|b| b.id),
        };
        let config = EngineConfig::tiny();
        Engine::create(
            &*(wrap)(Arc::clone(&world.disk)),
            &world.structure,
            &*world.rng,
            &config,
            &options,
        )
        .and_then(|()| world.open(true))
        .map_err(|error| Violation::Failed { action: "create", error: error.to_string() })?;
        world.arm();
        Ok(world)
    }

    /// Lets power fail after some more operations.
    fn arm(&self) {
        self.disk.cut_power_after(self.rng.below(400));
    }

    fn open(&mut self, with_key: bool) -> Result<(), Error> {
        self.engine = None;
        let options = OpenOptions {
            data_key: with_key.then(|| self.key.duplicate()),
            base: self.base.clone().filter(|_| with_key),
            writer: None,
        };
        let disk = (self.wrap)(Arc::clone(&self.disk));
        let rng: Arc<dyn Rng> = match self.salts {
            Salts::Random => Arc::clone(&self.rng) as Arc<dyn Rng>,
            Salts::Repeated => Arc::new(SeededRng::new(0)),
        };
        let structure = self.structure.duplicate();
        let mut engine = Engine::open(disk, structure, rng, EngineConfig::tiny(), options)?;
        if let Some(space) = &self.space {
            engine.limit_space(Arc::clone(space) as Arc<dyn Space>);
        }
        self.engine = Some(engine);
        Ok(())
    }

    fn engine(&mut self) -> &mut Engine {
        self.engine.as_mut().expect("requests are made while power is on")
    }

    fn lba(&self) -> Lba {
        self.areas[self.rng.below(AREAS as u64) as usize] + self.rng.below(AREA_PAGES)
    }

    /// A range inside the volume, in pages.
    fn range(&self, longest: u64) -> (Lba, u64) {
        let lba = self.lba();
        (lba, (1 + self.rng.below(longest)).min(self.size / PAGE_BYTES as u64 - lba))
    }

    fn step(&mut self, rolled: u64) -> Result<(), Stop> {
        match rolled {
            0..40 => self.write_pages(),
            40..48 => self.write_sectors(),
            48..52 => self.zero(Zeroing::Write),
            52..56 => self.zero(Zeroing::Discard),
            56..60 => self.zero(Zeroing::WriteZeroes),
            60..70 => self.read(),
            70..78 => self.flush(),
            78..85 => self.maintain(),
            85 => self.grow(),
            86..88 => self.checkpoint(),
            88..91 => self.cut(),
            91..94 => self.drop_cut(),
            94..96 => self.check_some_cut(),
            96 => self.clean(),
            97 => self.clean_steps(),
            98 => self.hydrate(),
            _ => self.reopen(),
        }
    }
}
