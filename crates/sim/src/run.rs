//! One simulated life of a volume: random requests, power cuts, recoveries, and checks.

use crate::disk::SimDisk;
use crate::model::{Content, Model, SECTORS, Violation, ZEROS, parse, render};
use base::{ManualClock, Rng, Secret, SeededRng, Timestamp};
use blockstore::live::{
    Base, CutId, CutInfo, Disk, Engine, EngineConfig, Error, OpenOptions, VolumeOptions,
};
use blockstore::page::{
    BasePage, BaseReader, CutPage, CutSource, DataKey, Lba, PAGE_BYTES, PAGES_PER_BLOCK, Page,
    Salt, SealedPage, SourceError, StructureKey,
};
use blockstore::snapshot::{self, Export, SnapshotReader, SnapshotRoot, SnapshotStore, Unobserved};
use objstore::MemoryStore;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Pages per area that requests go to.
const AREA_PAGES: u64 = 200;
/// Areas per volume.
const AREAS: usize = 3;
/// Cuts after which the simulation drops one before it takes another.
const CUTS_KEPT: usize = 4;

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
    /// Cuts whose content was checked.
    pub cuts_checked: u64,
    /// Snapshots that were exported and compared.
    pub exports_checked: u64,
    /// Those of them that had a parent.
    pub increments_checked: u64,
    /// Segments the cleaner emptied.
    pub segments_cleaned: u64,
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
        let result = world.step(rolled);
        match result {
            Ok(()) => {}
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

/// The base of a lazy volume, in memory.
struct MemoryBase(BTreeMap<Lba, SealedPage>);

impl BaseReader for MemoryBase {
    fn read_page(&self, lba: Lba) -> Result<BasePage, SourceError> {
        Ok(self.0.get(&lba).map_or(BasePage::Zero, |page| BasePage::Sealed(page.clone())))
    }

    fn has_block(&self, block: u64) -> Result<bool, SourceError> {
        let first = block * PAGES_PER_BLOCK as u64;
        Ok(self.0.range(first..first + PAGES_PER_BLOCK as u64).next().is_some())
    }
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
    unsure_drop: Option<CutId>,
    next_cut: u64,
    areas: [Lba; AREAS],
    size: u64,
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
            unsure_drop: None,
            next_cut: 0,
            areas,
            size,
            outcome: Outcome::default(),
            base,
            disk,
            rng,
            salts: told.salts,
            snapshots,
            exported: Vec::new(),
        };
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
        };
        let disk = (self.wrap)(Arc::clone(&self.disk));
        let rng: Arc<dyn Rng> = match self.salts {
            Salts::Random => Arc::clone(&self.rng) as Arc<dyn Rng>,
            Salts::Repeated => Arc::new(SeededRng::new(0)),
        };
        let structure = self.structure.duplicate();
        self.engine = Some(Engine::open(disk, structure, rng, EngineConfig::tiny(), options)?);
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
            78..86 => self.engine().maintain().map(drop).map_err(stop("maintain")),
            86..88 => self.checkpoint(),
            88..91 => self.cut(),
            91..94 => self.drop_cut(),
            94..96 => self.check_some_cut(),
            96..98 => self.clean(),
            98 => self.hydrate(),
            _ => self.reopen(),
        }
    }

    fn write_pages(&mut self) -> Result<(), Stop> {
        let (lba, count) = self.range(24);
        let mut bytes = Vec::new();
        for lba in lba..lba + count {
            let content =
                if self.rng.below(8) == 0 { ZEROS } else { [self.model.stamp(); SECTORS] };
            self.model.put(lba, content);
            bytes.extend_from_slice(&render(lba, &content));
        }
        self.engine().write(lba * PAGE_BYTES as u64, &bytes).map_err(stop("write"))
    }

    /// Writes a few sectors, which need not begin or end with a page.
    fn write_sectors(&mut self) -> Result<(), Stop> {
        let first = self.lba() * SECTORS as u64 + self.rng.below(SECTORS as u64);
        let count = (1 + self.rng.below(20)).min(self.size / 512 - first);
        let stamp = self.model.stamp();
        let mut bytes = Vec::new();
        let mut sector = first;
        while sector < first + count {
            let (lba, within) = (sector / SECTORS as u64, (sector % SECTORS as u64) as usize);
            let here = (SECTORS - within).min((first + count - sector) as usize);
            let mut content = self.model.get(lba);
            content[within..within + here].fill(stamp);
            self.model.put(lba, content);
            bytes.extend_from_slice(&render(lba, &content)[within * 512..(within + here) * 512]);
            sector += here as u64;
        }
        self.engine().write(first * 512, &bytes).map_err(stop("write sectors"))
    }

    fn zero(&mut self, how: Zeroing) -> Result<(), Stop> {
        let (lba, count) = self.range(300);
        for lba in lba..lba + count {
            self.model.put(lba, ZEROS);
        }
        let (offset, length) = (lba * PAGE_BYTES as u64, count * PAGE_BYTES as u64);
        match how {
            Zeroing::Write => self.engine().write(offset, &vec![0; length as usize]),
            Zeroing::Discard => self.engine().discard(offset, length),
            Zeroing::WriteZeroes => self.engine().write_zeroes(offset, length),
        }
        .map_err(stop("zero"))
    }

    fn read(&mut self) -> Result<(), Stop> {
        let (lba, count) = self.range(64);
        let mut bytes = vec![0xee; count as usize * PAGE_BYTES];
        self.engine().read(lba * PAGE_BYTES as u64, &mut bytes).map_err(stop("read"))?;
        for (lba, page) in (lba..).zip(bytes.as_chunks::<PAGE_BYTES>().0) {
            if parse(lba, page) != Some(self.model.get(lba)) {
                return Err(Violation::WrongRead { lba }.into());
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Stop> {
        self.engine().flush().map_err(stop("flush"))?;
        self.model.flushed();
        Ok(())
    }

    fn checkpoint(&mut self) -> Result<(), Stop> {
        self.engine().checkpoint().map_err(stop("checkpoint"))?;
        self.model.flushed();
        self.engine().check().map_err(stop("check"))?;
        Ok(())
    }

    fn cut(&mut self) -> Result<(), Stop> {
        if self.cuts.len() >= CUTS_KEPT {
            return self.drop_cut();
        }
        self.next_cut += 1;
        let id = CutId::new(&format!("snap-{:08x}", self.next_cut)).expect("it is short and ASCII");
        let content = self.model.snapshot();
        let unsure = CutInfo { id, generation: 0, volume_bytes: self.size };
        let unflushed = self.model.unflushed();
        self.unsure_cut = Some((TakenCut { info: unsure, content: content.clone() }, unflushed));
        let info = self.engine().cut(id).map_err(stop("cut"))?;
        self.unsure_cut = None;
        self.cuts.push(TakenCut { info, content });
        self.model.flushed();
        Ok(())
    }

    fn drop_cut(&mut self) -> Result<(), Stop> {
        if self.cuts.is_empty() {
            return Ok(());
        }
        let at = self.rng.below(self.cuts.len() as u64) as usize;
        self.check_cut(at)?;
        if self.base.is_none() && self.rng.below(2) == 0 {
            self.export(at)?;
        }
        let id = self.cuts[at].info.id;
        self.unsure_drop = Some(id);
        self.engine().drop_cut(id).map_err(stop("drop a cut"))?;
        self.unsure_drop = None;
        let cut = self.cuts.remove(at);
        self.past.push(cut);
        self.engine().check().map(drop).map_err(stop("check"))
    }

    fn check_some_cut(&mut self) -> Result<(), Stop> {
        if self.cuts.is_empty() {
            return Ok(());
        }
        let at = self.rng.below(self.cuts.len() as u64) as usize;
        self.check_cut(at)
    }

    /// Compares a cut, and its difference to an earlier one, with the model.
    fn check_cut(&mut self, at: usize) -> Result<(), Stop> {
        let id = self.cuts[at].info.id;
        let generation = self.cuts[at].info.generation;
        let reader = self.engine().open_cut(id, None).map_err(stop("open a cut"))?;
        let source = |error: SourceError| match error {
            SourceError::Unavailable { .. } => Stop::PowerLost,
            other => Violation::Failed { action: "read a cut", error: other.to_string() }.into(),
        };
        let mut found = BTreeMap::new();
        for block in reader.changed_blocks() {
            let pages = reader.load_block(block.map_err(source)?).map_err(source)?;
            let first = pages.block * PAGES_PER_BLOCK as u64;
            for (lba, page) in (first..).zip(&pages.pages) {
                let content = self
                    .open_cut_page(lba, page)
                    .ok_or_else(|| Stop::from(Violation::WrongCut { id: id.to_string(), lba }))?;
                found.extend(content.map(|content| (lba, content)));
            }
        }
        let expected = &self.cuts[at].content;
        for lba in found.keys().chain(expected.keys()) {
            // A page without a statement shows the base; a statement must be the right one.
            let below = self.base_content(*lba);
            let want = expected.get(lba).copied().unwrap_or(below);
            if found.get(lba).copied().unwrap_or(below) != want {
                return Err(Violation::WrongCut { id: id.to_string(), lba: *lba }.into());
            }
        }
        self.outcome.cuts_checked += 1;
        let earlier: Vec<_> = self.cuts.iter().chain(&self.past).collect();
        let earlier: Vec<_> = earlier.iter().filter(|c| c.info.generation < generation).collect();
        let Some(since) = earlier.get(self.rng.below(earlier.len().max(1) as u64) as usize) else {
            return Ok(());
        };
        let shown = |content: &BTreeMap<Lba, Content>, lba: Lba| {
            content.get(&lba).copied().unwrap_or_else(|| self.base_content(lba))
        };
        let differs = |lba: &&Lba| shown(expected, **lba) != shown(&since.content, **lba);
        let mut changed: Vec<u64> =
            expected.keys().filter(differs).map(|lba| lba / PAGES_PER_BLOCK as u64).collect();
        changed.dedup();
        let since = since.info.generation;
        let reader = self.engine().open_cut(id, Some(since)).map_err(stop("open a cut"))?;
        let listed: Vec<u64> = reader.changed_blocks().collect::<Result<_, _>>().map_err(source)?;
        if let Some(missed) = changed.iter().find(|block| listed.binary_search(block).is_err()) {
            let lba = missed * PAGES_PER_BLOCK as u64;
            return Err(Violation::WrongCut { id: id.to_string(), lba }.into());
        }
        Ok(())
    }

    /// Makes a snapshot of a cut, on top of the newest one before it if the volume still knows when
    /// it equalled that, and compares the snapshot with the model.
    fn export(&mut self, at: usize) -> Result<(), Stop> {
        let info = self.cuts[at].info;
        let before = |generation: u32| generation < info.generation;
        let parent = self.exported.iter().filter(|(_, cut, _)| before(cut.generation));
        let parent = parent.max_by_key(|(_, cut, _)| cut.generation).map(|(root, ..)| *root);
        let since = parent.and_then(|root| self.engine().exported_generation(root.id()));
        let parent = parent.filter(|_| since.is_some());
        let source = self.engine().open_cut(info.id, since).map_err(stop("open a cut"))?;
        let key_check = Some(self.key.check_value());
        let job =
            Export { parent: parent.as_ref(), key_check, resume: None, checkpoint_blocks: 64 };
        let failed = |error: snapshot::Error| {
            Stop::from(Violation::Failed { action: "export", error: error.to_string() })
        };
        let root = snapshot::export(&self.snapshots, &source, &job, &Unobserved).map_err(failed)?;
        self.exported.push((root, info, self.cuts[at].content.clone()));
        self.outcome.exports_checked += 1;
        self.outcome.increments_checked += u64::from(parent.is_some());
        self.check_snapshot(self.exported.len() - 1)?;
        self.engine().note_export(info.id, root.id()).map_err(stop("note an export"))
    }

    fn check_snapshot(&self, at: usize) -> Result<(), Violation> {
        let (root, cut, expected) = &self.exported[at];
        let failed = |error: String| Violation::Failed { action: "read a snapshot", error };
        let reader =
            SnapshotReader::open(&self.snapshots, root).map_err(|e| failed(e.to_string()))?;
        let pages: BTreeSet<Lba> = expected.keys().copied().chain(self.model.pages()).collect();
        for lba in pages {
            let found = match reader.read_page(lba).map_err(|e| failed(e.to_string()))? {
                BasePage::Zero => Some(ZEROS),
                BasePage::Sealed(page) => self.open_cut_page(lba, &CutPage::Sealed(page)).flatten(),
            };
            if found != Some(expected.get(&lba).copied().unwrap_or(ZEROS)) {
                return Err(Violation::WrongSnapshot { id: cut.id.to_string(), lba });
            }
        }
        Ok(())
    }

    /// `None` when the page does not open as what it says it is.
    fn open_cut_page(&self, lba: Lba, page: &CutPage) -> Option<Option<Content>> {
        match page {
            CutPage::Absent => Some(None),
            CutPage::Zero => Some(Some(ZEROS)),
            CutPage::Sealed(sealed) => {
                let mut bytes = [0; PAGE_BYTES];
                sealed.open(&self.key.opener(sealed.origin.salt), lba, &mut bytes).ok()?;
                parse(lba, &bytes).map(Some)
            }
        }
    }

    fn base_content(&self, lba: Lba) -> Content {
        let Some(base) = &self.base else { return ZEROS };
        let Ok(BasePage::Sealed(sealed)) = base.reader.read_page(lba) else { return ZEROS };
        self.open_cut_page(lba, &CutPage::Sealed(sealed)).flatten().unwrap_or(ZEROS)
    }

    fn clean(&mut self) -> Result<(), Stop> {
        let report = self.engine().clean(4, 60).map_err(stop("clean"))?;
        self.outcome.segments_cleaned += u64::from(report.segments);
        Ok(())
    }

    fn hydrate(&mut self) -> Result<(), Stop> {
        let block = self.lba() / PAGES_PER_BLOCK as u64;
        self.engine().hydrate(block).map(drop).map_err(stop("hydrate"))
    }

    /// Closes and opens again; sometimes a cut is taken in between, without the data key.
    fn reopen(&mut self) -> Result<(), Stop> {
        let engine = self.engine.take().expect("requests are made while power is on");
        engine.close().map_err(stop("close"))?;
        self.model.flushed();
        if self.rng.below(2) == 0 {
            self.open(false).map_err(stop("open without a key"))?;
            self.cut()?;
            let key = self.key.duplicate();
            let base = self.base.clone();
            self.engine().unlock(key).map_err(stop("unlock"))?;
            if let Some(base) = base {
                self.engine().attach_base(base).map_err(stop("attach the base"))?;
            }
            return Ok(());
        }
        self.open(true).map_err(stop("open"))
    }

    /// Power returns, perhaps to fail again before recovery is done.
    fn recover(&mut self) -> Result<(), Violation> {
        loop {
            self.engine = None;
            self.outcome.power_cuts += 1;
            self.disk = Arc::new(self.disk.after_power_cut(&self.rng));
            if self.rng.below(2) == 0 {
                self.disk.cut_power_after(self.rng.below(24));
            }
            match self.open(true) {
                Ok(()) => break,
                Err(Error::Disk { .. } | Error::Failed) => {}
                Err(other) => {
                    let error = other.to_string();
                    return Err(Violation::Failed { action: "recover", error });
                }
            }
        }
        self.disk.cut_power_after(u64::MAX);
        let least = self.settle_cuts()?;
        let mut found = BTreeMap::new();
        for lba in self.model.pages() {
            let mut page: Page = [0; PAGE_BYTES];
            self.engine()
                .read(lba * PAGE_BYTES as u64, &mut page)
                .map_err(|e| Violation::Failed { action: "read back", error: e.to_string() })?;
            found.insert(lba, parse(lba, &page).ok_or(Violation::WrongRead { lba })?);
        }
        self.model.settle(&found, least)?;
        self.engine()
            .check()
            .map_err(|e| Violation::Failed { action: "check", error: e.to_string() })?;
        self.arm();
        Ok(())
    }

    /// Compares the list of cuts; returns how many unflushed writes a surviving cut proves.
    fn settle_cuts(&mut self) -> Result<usize, Violation> {
        let held = self.engine().cuts();
        let mut least = 0;
        if let Some((mut cut, unflushed)) = self.unsure_cut.take()
            && let Some(info) = held.iter().find(|held| held.id == cut.info.id)
        {
            cut.info = *info;
            self.cuts.push(cut);
            least = unflushed;
        }
        if let Some(id) = self.unsure_drop.take()
            && !held.iter().any(|held| held.id == id)
        {
            let at = self.cuts.iter().position(|cut| cut.info.id == id);
            self.past.extend(at.map(|at| self.cuts.remove(at)));
        }
        let missing = self.cuts.iter().find(|cut| !held.contains(&cut.info));
        let extra = held.iter().find(|held| !self.cuts.iter().any(|cut| cut.info == **held));
        match missing.map(|cut| cut.info.id).or(extra.map(|held| held.id)) {
            Some(id) => Err(Violation::Cuts { id: id.to_string() }),
            None => Ok(least),
        }
    }

    fn finish(&mut self) -> Result<(), Stop> {
        if self.engine.is_none() {
            self.recover()?;
        }
        for at in 0..self.cuts.len() {
            self.check_cut(at)?;
        }
        while !self.cuts.is_empty() {
            self.drop_cut()?;
        }
        for at in 0..self.exported.len() {
            self.check_snapshot(at)?;
        }
        self.checkpoint()?;
        let pages = self.model.pages();
        for lba in &pages {
            let mut page: Page = [0; PAGE_BYTES];
            self.engine().read(lba * PAGE_BYTES as u64, &mut page).map_err(stop("read back"))?;
            if parse(*lba, &page) != Some(self.model.get(*lba)) {
                return Err(Violation::WrongRead { lba: *lba }.into());
            }
        }
        self.outcome.digest = pages.iter().fold(self.disk.operations(), |digest, lba| {
            digest.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ lba ^ self.model.get(*lba)[0]
        });
        Ok(())
    }
}

#[derive(Clone, Copy)]
enum Zeroing {
    Write,
    Discard,
    WriteZeroes,
}

/// For half of the seeds, a base with pages in and around the areas.
fn make_base(
    rng: &SeededRng,
    key: &DataKey,
    areas: &[Lba],
) -> (Option<Base>, BTreeMap<Lba, Content>) {
    let (mut pages, mut contents) = (BTreeMap::new(), BTreeMap::new());
    if rng.below(2) == 0 {
        return (None, contents);
    }
    let mut sealer = key.sealer(Salt::generate(rng));
    for stamp in 1..120 {
        let lba = areas[rng.below(areas.len() as u64) as usize] + rng.below(AREA_PAGES);
        let content = [stamp; SECTORS];
        pages.insert(lba, SealedPage::seal(&mut sealer, lba, &render(lba, &content)));
        contents.insert(lba, content);
    }
    let id = CutId::new("snap-ba5e0000").expect("it is short and ASCII");
    (Some(Base { id, reader: Arc::new(MemoryBase(pages)) }), contents)
}
