//! The block stores of all regions, behind the port of the workflows.
//!
//! A region is a cell of its own: its live volumes, its snapshots, nothing shared. A volume's log is
//! made with the volume, which is all base then; one that is not there has been lost.

use crate::base_switch::BaseSwitches;
use crate::fair::{BandwidthLimits, Fairness, MoverKind, Share, in_background};
use crate::filling::Filling;
use crate::port::BoxFuture;
use crate::port::blocks::{
    BaseRoot, BlockError, Blocks, Collected, Collection, CutError, ExportCut, FillVolume, Filled,
    PinTwin, Pinned, Repack, Repacked, Reseal, ResealBase, Resealed, Root, Saved, Stored,
    VolumeBlocks, Watch,
};
use crate::port::host::{LendVolume, OpenVolume, Tenure};
use crate::repacking::{pin_for_a_turn, repack_for_a_turn};
use crate::resealing::reseal_for_a_turn;
use crate::workflow::collect::{Schedule, Scope};
use base::{Clock, Region, SnapshotId, VolumeId};
use blockstore::live::{self, Base, CutId, OpenOptions, VolumeOptions};
use blockstore::page::{BaseReader, DataKey, KeyAtHand};
use blockstore::snapshot::{
    self, CHECKPOINT_BLOCKS, Checkpoint, CollectPolicy, CopyJob, CopyKeys, EarlierCopy, Export,
    Nominated, Observer, SnapshotReader, SnapshotRoot, SnapshotStore, TwinReader,
};
use blockstore::store::{Borrower, Loan, Store, StoreError, VolumeHandle};
use ebs::StoreKind;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::Instant;

/// Threads that open and seal pages of one copy.
pub(crate) const RESEAL_THREADS: usize = 2;
/// How long work moves bytes before it makes room for others: what it does before is not for nothing.
const SHORTEST_TURN: Duration = Duration::from_secs(5);
/// Deleted roots that are compared with the others in one look.
pub(crate) const ROOTS_AT_ONCE_MAX: usize = 64;
/// Bytes in a MiB.
const MIB: u64 = 1 << 20;

/// One region's stores.
#[derive(Clone)]
pub struct Cell {
    /// The live volumes.
    pub live: Store,
    /// The snapshots.
    pub snapshots: SnapshotStore,
    /// The archived snapshots, whole and by themselves.
    pub archive: SnapshotStore,
    /// The twins of snapshots that are restored fast. A local disk.
    pub twins: SnapshotStore,
    /// The bases of open volumes.
    bases: BaseSwitches,
    /// Held by a collection: one at a time may run on the stores.
    collecting: Arc<Mutex<()>>,
}

/// All regions' stores.
pub struct Cells {
    cells: BTreeMap<Region, Cell>,
    clock: Arc<dyn Clock>,
    fairness: Fairness,
    schedule: Schedule,
    shortest_turn: Duration,
}

impl Cells {
    /// Puts the regions together. Every region that rows can name must be among them.
    pub fn new(
        cells: BTreeMap<Region, Cell>,
        clock: Arc<dyn Clock>,
        limits: &BandwidthLimits,
    ) -> Self {
        let (fairness, schedule) = (Fairness::new(limits), Schedule::server());
        Self { cells, clock, fairness, schedule, shortest_turn: SHORTEST_TURN }
    }

    /// What guests have asked of all regions.
    fn guest_work(&self) -> u64 {
        self.cells.values().map(|cell| cell.live.guest_work()).fold(0, u64::wrapping_add)
    }

    /// Does work that moves bytes, with its share of the machine.
    async fn moving<T: Send>(
        &self,
        kind: MoverKind,
        rate: Option<u64>,
        work: impl FnOnce(&Share<'_>) -> T + Send,
    ) -> T {
        let guests = || self.guest_work();
        let share = self.fairness.share(kind, rate, &guests);
        blocking(|| in_background(|| work(&share))).await
    }

    fn watched<'a>(&self, watch: &'a dyn Watch, share: &'a Share<'a>) -> Watched<'a> {
        let (shortest_turn, moving_since) = (self.shortest_turn, OnceLock::new());
        Watched { watch, share, shortest_turn, moving_since }
    }

    /// Has work that others wait behind move bytes no longer than this before it makes room.
    #[must_use]
    pub fn with_shortest_turn(self, shortest_turn: Duration) -> Self {
        Self { shortest_turn, ..self }
    }

    /// Collects at other times than [`Schedule::server`] says.
    #[must_use]
    pub fn with_schedule(self, schedule: Schedule) -> Self {
        Self { schedule, ..self }
    }

    /// When collections are due.
    pub fn schedule(&self) -> Schedule {
        self.schedule
    }

    /// A region's stores; `None` when the region is not served any more.
    pub fn get(&self, region: &Region) -> Option<&Cell> {
        self.cells.get(region)
    }

    /// The regions and their stores.
    pub fn iter(&self) -> impl Iterator<Item = (&Region, &Cell)> {
        self.cells.iter()
    }

    fn cell(&self, region: &Region) -> Result<Cell, BlockError> {
        self.get(region).cloned().ok_or_else(|| {
            BlockError::Unavailable(Box::new(RegionNotServed { region: region.clone() }))
        })
    }
}

/// Rows name a region that the server was started without.
#[derive(Debug, thiserror::Error)]
#[error("the region {region} is not served")]
struct RegionNotServed {
    region: Region,
}

/// The stored root of a snapshot cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("a stored root is damaged")]
struct RootDamaged(#[source] snapshot::Error);

pub(crate) fn root_of(bytes: &[u8]) -> Result<SnapshotRoot, BlockError> {
    SnapshotRoot::from_bytes(bytes)
        .map_err(|error| BlockError::Damaged(Box::new(RootDamaged(error))))
}

pub(crate) fn checkpoint_of(bytes: &[u8]) -> Result<Checkpoint, BlockError> {
    Checkpoint::from_bytes(bytes).map_err(|error| BlockError::Damaged(Box::new(RootDamaged(error))))
}

pub(crate) fn of_snapshot(error: snapshot::Error) -> BlockError {
    // Work that was interrupted, or whose progress could not be written down, goes on later.
    let postponed =
        matches!(error, snapshot::Error::Cancelled | snapshot::Error::Checkpoint { .. });
    if matches!(error, snapshot::Error::TurnOver) {
        BlockError::TurnOver
    } else if error.is_out_of_space() {
        BlockError::NoRoom(Box::new(error))
    } else if postponed || error.is_transient() {
        BlockError::Unavailable(Box::new(error))
    } else {
        BlockError::Damaged(Box::new(error))
    }
}

pub(crate) fn of_store(error: StoreError) -> BlockError {
    use live::Error as E;
    let of_kind = match &error {
        StoreError::Volume(
            E::Corrupt { .. } | E::NoSuperblock | E::Version { .. } | E::WrongKey | E::WrongBase,
        ) => BlockError::Damaged,
        error if error.is_out_of_space() => BlockError::NoRoom,
        StoreError::Volume(E::TooManyCuts { .. }) => BlockError::TooManyCuts,
        StoreError::Away { .. } | StoreError::WentOn { .. } => BlockError::Silent,
        _ => BlockError::Unavailable,
    };
    of_kind(Box::new(error))
}

pub(crate) fn stored(root: &SnapshotRoot) -> Stored {
    Stored { root: root.to_bytes(), full_bytes: root.full_bytes() }
}

/// The base of the volume that is exported.
fn base_root(export: &ExportCut) -> Result<Option<SnapshotRoot>, BlockError> {
    export.volume.base.as_ref().map(|base| root_of(&base.root)).transpose()
}

/// The name a volume's log knows a snapshot's cut by.
fn cut_id(snapshot: &SnapshotId) -> CutId {
    CutId::new(snapshot.as_str()).expect("a snapshot id is short and visible ASCII")
}

/// The name a volume's log knows its base by: the id of its first root in hexadecimal.
fn base_id(base: &BaseRoot) -> Result<CutId, BlockError> {
    Ok(name_of(&root_of(base.first.as_ref().unwrap_or(&base.root))?))
}

/// The name of a base that was not sealed anew.
pub(crate) fn name_of(root: &SnapshotRoot) -> CutId {
    let digits: String = root.id().iter().map(|byte| format!("{byte:02x}")).collect();
    CutId::new(&digits).expect("16 bytes are 32 hexadecimal digits")
}

impl Cell {
    /// Puts a region's stores together.
    pub fn new(
        live: Store,
        snapshots: SnapshotStore,
        archive: SnapshotStore,
        twins: SnapshotStore,
    ) -> Self {
        let (bases, collecting) = (BaseSwitches::default(), Arc::default());
        Self { live, snapshots, archive, twins, bases, collecting }
    }

    /// One of the stores that have snapshots.
    pub fn of_store(&self, store: StoreKind) -> &SnapshotStore {
        match store {
            StoreKind::Standard => &self.snapshots,
            StoreKind::Archive => &self.archive,
            StoreKind::Twins => &self.twins,
        }
    }

    fn collect(
        &self,
        collection: &Collection,
        policy: &CollectPolicy,
        is_wanted: &dyn Fn() -> bool,
    ) -> Result<Collected, BlockError> {
        let _alone = self.collecting.lock().expect("a collection does not panic");
        let store = self.of_store(collection.store);
        let live = collection.live_roots.iter().map(|bytes| root_of(bytes));
        // A deleted root that cannot be read names nothing that could be looked for.
        let (mut settled, mut roots, mut of_roots) = (Vec::new(), Vec::new(), Vec::new());
        for bytes in &collection.deleted {
            match root_of(bytes) {
                Ok(root) => {
                    roots.push(root);
                    of_roots.push(bytes);
                }
                Err(_) => settled.push(bytes.clone()),
            }
        }
        let report = match collection.scope {
            Scope::Everything => snapshot::collect_while(store, live, &roots, policy, is_wanted),
            Scope::Nominated => {
                let roots_max = ROOTS_AT_ONCE_MAX;
                let nominated = snapshot::collect_nominated_while(
                    store, &roots, roots_max, live, policy, is_wanted,
                );
                nominated.map(|Nominated { report, settled: at }| {
                    settled.extend(at.iter().map(|at| of_roots[*at].clone()));
                    report
                })
            }
        };
        Ok(Collected { report: report.map_err(of_snapshot)?, settled })
    }

    /// Runs something that must not meet a collection.
    pub(crate) fn between_collections<T>(&self, work: impl FnOnce() -> T) -> T {
        let _alone = self.collecting.lock().expect("a collection does not panic");
        work()
    }

    /// Makes a new volume, if it is not there yet.
    ///
    /// # Errors
    /// When its base is none, or the storage fails.
    pub fn make_volume(&self, volume: &VolumeBlocks) -> Result<(), BlockError> {
        let base = volume.base.as_ref().map(base_id).transpose()?;
        let options = VolumeOptions { size_bytes: volume.size_bytes, key_check: None, base };
        match self.live.create_volume(&volume.volume, &options) {
            Ok(()) | Err(StoreError::Exists { .. }) => Ok(()),
            Err(error) => Err(of_store(error)),
        }
    }

    /// Opens a volume with its data key, falling through to its base.
    ///
    /// # Errors
    /// When the key or the base is not the volume's own, or the storage fails.
    pub fn open(&self, request: &OpenVolume) -> Result<VolumeHandle, BlockError> {
        let key = request.base_key.as_ref().map(|key| Arc::new(DataKey::new(key)));
        let base = request.base.as_ref();
        let base = base.map(|base| self.base(&request.volume, base, request.twin.as_ref(), key));
        let base = base.transpose()?;
        let options = OpenOptions {
            data_key: Some(DataKey::new(&request.key)),
            base,
            writer: Some(request.epoch),
        };
        self.live.open_volume(&request.volume, options).map_err(of_store)
    }

    /// Gives a volume to another machine, with the base it falls through to.
    ///
    /// # Errors
    /// When the base is damaged, the storage fails, or somebody keeps the volume open.
    pub fn lend(
        &self,
        request: &LendVolume,
        borrower: Arc<dyn Borrower>,
    ) -> Result<(Loan, Option<Base>), BlockError> {
        // Its keys are the borrower's business.
        let base = request.base.as_ref();
        let base = base.map(|base| self.base(&request.volume, base, request.twin.as_ref(), None));
        let base = base.transpose()?;
        let loan = match request.tenure {
            Tenure::New => self.live.lend(&request.volume, borrower),
            Tenure::Standing { .. } => {
                self.live.lend_again(&request.volume, request.epoch, borrower)
            }
        };
        let loan = loan.map_err(of_store)?;
        Ok((loan, base))
    }

    fn base(
        &self,
        volume: &VolumeId,
        base: &BaseRoot,
        twin: Option<&Root>,
        key: Option<Arc<DataKey>>,
    ) -> Result<Base, BlockError> {
        let root = root_of(&base.root)?;
        if let Some(key) = &key {
            root.check_key(key).map_err(of_snapshot)?;
        }
        let reader = match twin.and_then(|twin| self.twin(twin, &root)) {
            Some(twin) => twin,
            None => {
                let reader = SnapshotReader::open(&self.snapshots, &root);
                Arc::new(reader.map_err(of_snapshot)?)
            }
        };
        let reader = Arc::new(self.bases.serve(volume, reader));
        Ok(Base { id: base_id(base)?, reader, key })
    }

    /// The twin of a snapshot, if it can be read; the snapshot will do as well.
    fn twin(&self, twin: &Root, of: &SnapshotRoot) -> Option<Arc<dyn BaseReader>> {
        let opened = SnapshotRoot::from_bytes(twin)
            .and_then(|root| TwinReader::open(&self.twins, &root, (&self.snapshots, of)));
        match opened {
            Ok(twin) => Some(Arc::new(twin)),
            Err(error) => {
                tracing::error!(%error, "a twin cannot be opened, its snapshot is read instead");
                None
            }
        }
    }

    fn switch_base(&self, volume: &VolumeBlocks) -> Result<(), BlockError> {
        let Some(base) = &volume.base else { return Ok(()) };
        let root = root_of(&base.root)?;
        let reader = SnapshotReader::open(&self.snapshots, &root).map_err(of_snapshot)?;
        self.bases.switch(&volume.volume, Arc::new(reader));
        let forget = |engine: &mut blockstore::live::Engine| {
            engine.forget_base_key();
            Ok(())
        };
        match self.live.with_open(&volume.volume, forget) {
            Ok(_) | Err(StoreError::Closed { .. }) => Ok(()),
            Err(error) => Err(of_store(error)),
        }
    }

    fn cut(&self, volume: &VolumeBlocks, cut: CutId) -> Result<(), BlockError> {
        match self.live.cut(&volume.volume, cut) {
            Ok(_) | Err(StoreError::Volume(live::Error::CutExists { .. })) => Ok(()),
            Err(error) => Err(of_store(error)),
        }
    }

    /// Cuts that an interrupted attempt left on some members are of another moment: they go first.
    fn cut_many(&self, members: &[(VolumeBlocks, SnapshotId)]) -> Result<(), CutError> {
        let mut wanted = Vec::with_capacity(members.len());
        let mut present = Vec::new();
        for (blocks, snapshot) in members {
            let volume = &blocks.volume;
            let of_volume = |cause| CutError { volume: volume.clone(), cause };
            let cuts = self.live.cuts(volume).map_err(|error| of_volume(of_store(error)))?;
            let cut = cut_id(snapshot);
            if cuts.iter().any(|known| known.id == cut) {
                present.push((volume, cut));
            }
            wanted.push((volume.clone(), cut));
        }
        if present.len() == wanted.len() {
            return Ok(());
        }
        for (volume, cut) in present {
            let released = self.release_cut(volume, cut);
            released.map_err(|cause| CutError { volume: volume.clone(), cause })?;
        }
        match self.live.cut_many(&wanted) {
            Ok(_) => Ok(()),
            Err(StoreError::Member { id, cause }) => {
                Err(CutError { volume: id, cause: of_store(*cause) })
            }
            Err(error) => {
                let volume = wanted.swap_remove(0).0;
                Err(CutError { volume, cause: of_store(error) })
            }
        }
    }

    fn resize(&self, volume: &VolumeBlocks, size_bytes: u64) -> Result<(), BlockError> {
        if self.live.size(&volume.volume).map_err(of_store)? >= size_bytes {
            return Ok(());
        }
        self.live.resize(&volume.volume, size_bytes).map_err(of_store)
    }

    fn export(&self, export: &ExportCut, observer: &dyn Observer) -> Result<Stored, BlockError> {
        let (id, cut) = (&export.volume.volume, cut_id(&export.snapshot));
        let resume = export.resume.as_deref().map(checkpoint_of).transpose()?;
        let (mut parent, since) = self.parent(export)?;
        let mut source = self.live.open_cut(id, cut, since).map_err(of_store)?;
        if since.is_some_and(|since| source.info().generation <= since) {
            // The parent was accepted before and cut after: its volume was at a machine that was not
            // heard of. What changed since the parent says nothing of what was before it.
            parent = base_root(export)?;
            source = self.live.open_cut(id, cut, None).map_err(of_store)?;
        }
        let plain = export.plain_key.as_ref().map(DataKey::new);
        let held = self.live.held_key(id);
        let key = plain.as_ref().map_or(&held as &dyn KeyAtHand, |key| key);
        let job = Export {
            parent: parent.as_ref(),
            key_check: source.key_check(),
            resume: resume.as_ref(),
            checkpoint_blocks: CHECKPOINT_BLOCKS,
            key,
        };
        let root =
            snapshot::export(&self.snapshots, &source, &job, observer).map_err(of_snapshot)?;
        drop(source);
        self.live.note_export(id, cut, root.id()).map_err(of_store)?;
        Ok(stored(&root))
    }

    /// What an export starts from: the volume's last snapshot and the generation it was cut at, when
    /// the volume's log still knows it; otherwise the base, and everything the volume wrote.
    fn parent(
        &self,
        export: &ExportCut,
    ) -> Result<(Option<SnapshotRoot>, Option<u32>), BlockError> {
        if let Some(bytes) = &export.parent_root {
            let root = root_of(bytes)?;
            let since = self.live.exported_generation(&export.volume.volume, root.id());
            if let Some(since) = since.map_err(of_store)? {
                return Ok((Some(root), Some(since)));
            }
        }
        Ok((base_root(export)?, None))
    }

    fn release_cut(&self, volume: &VolumeId, cut: CutId) -> Result<(), BlockError> {
        match self.live.drop_cut(volume, cut) {
            Ok(())
            | Err(
                StoreError::NotFound { .. } | StoreError::Volume(live::Error::CutNotFound { .. }),
            ) => Ok(()),
            Err(error) => Err(of_store(error)),
        }
    }

    fn remove_volume(&self, volume: &VolumeId) -> Result<(), BlockError> {
        match self.live.delete_volume(volume) {
            Ok(()) | Err(StoreError::NotFound { .. }) => Ok(()),
            Err(error) => Err(of_store(error)),
        }
    }
}

/// Turns blocks done into percent, and checkpoints into bytes.
pub(crate) struct Watched<'a> {
    watch: &'a dyn Watch,
    share: &'a Share<'a>,
    shortest_turn: Duration,
    /// When the first bytes were moved.
    moving_since: OnceLock<Instant>,
}

impl Observer for Watched<'_> {
    fn progress(&self, done: u64, total: u64) {
        let percent = done.saturating_mul(100).checked_div(total).unwrap_or(100);
        self.watch.progress(u8::try_from(percent.min(100)).expect("at most 100"));
    }

    fn checkpoint(
        &self,
        checkpoint: &Checkpoint,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let root = checkpoint.root().to_bytes();
        self.watch.checkpoint(Saved { state: checkpoint.to_bytes(), root })
    }

    fn is_cancelled(&self) -> bool {
        !self.watch.is_wanted()
    }

    fn is_turn_over(&self) -> bool {
        let since = self.moving_since.get();
        let moved = since.map_or(Duration::ZERO, Instant::elapsed);
        moved >= self.shortest_turn && self.watch.is_turn_over()
    }

    fn admit(&self, bytes: u64) {
        self.moving_since.get_or_init(Instant::now);
        self.share.admit(bytes, &|| self.watch.is_wanted());
    }
}

/// Runs work that blocks and borrows from its caller, which `spawn_blocking` does not allow. Other
/// tasks move to other threads meanwhile; a runtime of one thread, as in tests, has to wait.
async fn blocking<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    if Handle::current().runtime_flavor() == tokio::runtime::RuntimeFlavor::MultiThread {
        tokio::task::block_in_place(work)
    } else {
        work()
    }
}

impl Blocks for Cells {
    fn make_volume<'a>(
        &'a self,
        volume: &'a VolumeBlocks,
    ) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(async move {
            let cell = self.cell(&volume.region)?;
            blocking(|| cell.make_volume(volume)).await
        })
    }

    fn cut<'a>(
        &'a self,
        volume: &'a VolumeBlocks,
        snapshot: &'a SnapshotId,
    ) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(async move {
            let cell = self.cell(&volume.region)?;
            blocking(|| cell.cut(volume, cut_id(snapshot))).await
        })
    }

    fn cut_many<'a>(
        &'a self,
        region: &'a Region,
        members: &'a [(VolumeBlocks, SnapshotId)],
    ) -> BoxFuture<'a, Result<(), CutError>> {
        Box::pin(async move {
            let Some((first, _)) = members.first() else { return Ok(()) };
            let of_first = |cause| CutError { volume: first.volume.clone(), cause };
            let cell = self.cell(region).map_err(of_first)?;
            blocking(|| cell.cut_many(members)).await
        })
    }

    fn resize<'a>(
        &'a self,
        volume: &'a VolumeBlocks,
        size_bytes: u64,
    ) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(async move {
            let cell = self.cell(&volume.region)?;
            blocking(|| cell.resize(volume, size_bytes)).await
        })
    }

    fn export<'a>(
        &'a self,
        export: &'a ExportCut,
        watch: &'a dyn Watch,
    ) -> BoxFuture<'a, Result<Stored, BlockError>> {
        Box::pin(async move {
            let cell = self.cell(&export.volume.region)?;
            let export = |share: &Share<'_>| cell.export(export, &self.watched(watch, share));
            self.moving(MoverKind::Export, None, export).await
        })
    }

    fn release_cut<'a>(
        &'a self,
        volume: &'a VolumeBlocks,
        snapshot: &'a SnapshotId,
    ) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(async move {
            let cell = self.cell(&volume.region)?;
            blocking(|| cell.release_cut(&volume.volume, cut_id(snapshot))).await
        })
    }

    fn reseal<'a>(
        &'a self,
        reseal: &'a Reseal,
        watch: &'a dyn Watch,
    ) -> BoxFuture<'a, Result<Stored, BlockError>> {
        Box::pin(async move {
            let source = self.cell(&reseal.source_region)?;
            let target = self.cell(&reseal.target_region)?;
            let root = root_of(&reseal.source_root)?;
            let earlier = match &reseal.earlier {
                None => None,
                Some(earlier) => {
                    Some((root_of(&earlier.source_root)?, root_of(&earlier.target_root)?))
                }
            };
            let resume = reseal.resume.as_deref().map(checkpoint_of).transpose()?;
            let source_key = DataKey::new(&reseal.source_key);
            let target_key = DataKey::new(&reseal.target_key);
            let job = CopyJob {
                source: &root,
                keys: CopyKeys::Change { source: &source_key, target: &target_key },
                earlier: earlier.as_ref().map(|(source, copy)| EarlierCopy { source, copy }),
                resume: resume.as_ref(),
                checkpoint_blocks: CHECKPOINT_BLOCKS,
                threads: RESEAL_THREADS,
            };
            let copy = |share: &Share<'_>| {
                let observer = self.watched(watch, share);
                snapshot::copy(&source.snapshots, &target.snapshots, &job, &observer)
            };
            let copied = self.moving(MoverKind::Copy, None, copy).await;
            Ok(stored(&copied.map_err(of_snapshot)?))
        })
    }

    fn fill_volume<'a>(
        &'a self,
        fill: &'a FillVolume,
        watch: &'a dyn Watch,
    ) -> BoxFuture<'a, Result<Filled, BlockError>> {
        Box::pin(async move {
            let cell = self.cell(&fill.volume.region)?;
            let Some(base) = &fill.volume.base else { return Ok(Filled::Wholly) };
            let root = root_of(&base.root)?;
            let turn = |share: &Share<'_>| {
                let volume = &fill.volume.volume;
                let first = &fill.first_touches;
                let filling = Filling { cell: &cell, volume, root: &root, first, share, watch };
                filling.turn(fill.resume.as_deref())
            };
            let rate = fill.rate_mib.map(|rate| u64::from(rate) * MIB);
            self.moving(MoverKind::Initialize, rate, turn).await
        })
    }

    fn reseal_base<'a>(
        &'a self,
        reseal: &'a ResealBase,
        watch: &'a dyn Watch,
    ) -> BoxFuture<'a, Result<Resealed, BlockError>> {
        Box::pin(async move {
            let cell = self.cell(&reseal.volume.region)?;
            let turn = |share: &Share<'_>| {
                reseal_for_a_turn(&cell.snapshots, reseal, &self.watched(watch, share))
            };
            let rate = reseal.rate_mib.map(|rate| u64::from(rate) * MIB);
            self.moving(MoverKind::Initialize, rate, turn).await
        })
    }

    fn switch_base<'a>(
        &'a self,
        volume: &'a VolumeBlocks,
    ) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(async move {
            let cell = self.cell(&volume.region)?;
            blocking(|| cell.switch_base(volume)).await
        })
    }

    fn repack<'a>(
        &'a self,
        repack: &'a Repack,
        watch: &'a dyn Watch,
    ) -> BoxFuture<'a, Result<Repacked, BlockError>> {
        Box::pin(async move {
            let cell = self.cell(&repack.region)?;
            let turn =
                |share: &Share<'_>| repack_for_a_turn(&cell, repack, &self.watched(watch, share));
            self.moving(MoverKind::Archive, None, turn).await
        })
    }

    fn pin_twin<'a>(
        &'a self,
        pin: &'a PinTwin,
        watch: &'a dyn Watch,
    ) -> BoxFuture<'a, Result<Pinned, BlockError>> {
        Box::pin(async move {
            let cell = self.cell(&pin.region)?;
            let turn = |share: &Share<'_>| pin_for_a_turn(&cell, pin, &self.watched(watch, share));
            self.moving(MoverKind::FastRestore, None, turn).await
        })
    }

    fn remove_volume<'a>(
        &'a self,
        region: &'a Region,
        volume: &'a VolumeId,
    ) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(async move {
            let cell = self.cell(region)?;
            blocking(|| cell.remove_volume(volume)).await
        })
    }

    fn uploads<'a>(
        &'a self,
        region: &'a Region,
    ) -> BoxFuture<'a, Result<Vec<SnapshotId>, BlockError>> {
        Box::pin(async move {
            let cell = self.cell(region)?;
            let names = blocking(|| snapshot::list_sessions(&cell.snapshots)).await;
            // Whatever has another name is not ours to release.
            let ids = names.map_err(of_snapshot)?.into_iter();
            Ok(ids.filter_map(|name| SnapshotId::parse(&name).ok()).collect())
        })
    }

    fn release_upload<'a>(
        &'a self,
        region: &'a Region,
        snapshot: &'a SnapshotId,
    ) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(async move {
            let cell = self.cell(region)?;
            let release = || snapshot::release_session(&cell.snapshots, snapshot.as_str());
            blocking(release).await.map_err(of_snapshot)
        })
    }

    fn collect<'a>(
        &'a self,
        region: &'a Region,
        collection: Collection,
        watch: &'a dyn Watch,
    ) -> BoxFuture<'a, Result<Collected, BlockError>> {
        Box::pin(async move {
            let cell = self.cell(region)?;
            let policy = CollectPolicy {
                now: self.clock.now(),
                grace_seconds: self.schedule.grace_seconds,
                rewrite_below_percent: self.schedule.rewrite_below_percent,
            };
            blocking(|| cell.collect(&collection, &policy, &|| watch.is_wanted())).await
        })
    }

    fn grace_seconds(&self) -> i64 {
        self.schedule.grace_seconds
    }
}
