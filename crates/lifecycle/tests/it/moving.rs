//! Jobs that move bytes, on real stores: what they leave, how they go on, and how fast they may be.

use base::{
    AccountId, InstanceId, ManualClock, OsRng, Region, Secret, SnapshotId, Timestamp, VolumeId,
};
use blockstore::snapshot::{SnapshotRoot, SnapshotStore};
use blockstore::store::{Store, StoreConfig, VolumeHandle};
use lifecycle::cells::{Cell, Cells};
use lifecycle::port::blocks::{
    BaseRoot, BlockError, Blocks, ExportCut, FillVolume, Filled, Root, Saved, Stored, VolumeBlocks,
    Watch,
};
use lifecycle::port::host::OpenVolume;
use lifecycle::{BandwidthLimits, MoverKind};
use objstore::LocalStore;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

pub(super) const BLOCK: u64 = 512 * 1024;
const SIZE: u64 = 1 << 30;

pub(super) struct Place {
    pub(super) cells: Cells,
    pub(super) region: Region,
    pub(super) directory: tempfile::TempDir,
}

impl Place {
    pub(super) fn new(limits: &BandwidthLimits) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let region = Region::parse("us-east-1").unwrap();
        let (rng, key) = (Arc::new(OsRng), Secret::new([7; 32]));
        let live = Store::open(directory.path(), key, rng.clone(), StoreConfig::server()).unwrap();
        let objects = Arc::new(LocalStore::open(&directory.path().join("objects")).unwrap());
        let snapshots = SnapshotStore::new(objects, &Secret::new([8; 32]), rng.clone());
        let archive = Arc::new(LocalStore::open(&directory.path().join("archive")).unwrap());
        let archive = SnapshotStore::new(archive, &Secret::new([9; 32]), rng.clone());
        let twins = Arc::new(LocalStore::open(&directory.path().join("twins")).unwrap());
        let twins = SnapshotStore::new(twins, &Secret::new([10; 32]), rng);
        let cells = [(region.clone(), Cell::new(live, snapshots, archive, twins))].into();
        let clock = Arc::new(ManualClock::new(Timestamp(1_800_000_000_000)));
        Self { cells: Cells::new(cells, clock, limits), region, directory }
    }

    pub(super) fn cell(&self) -> &Cell {
        self.cells.get(&self.region).unwrap()
    }

    pub(super) fn blocks_of(&self, volume: &VolumeId, base_root: Option<Root>) -> VolumeBlocks {
        let (region, volume) = (self.region.clone(), volume.clone());
        VolumeBlocks { region, volume, size_bytes: SIZE, base: base_root.map(of_root) }
    }

    fn open(&self, volume: &VolumeId, base_root: Option<Root>) -> VolumeHandle {
        self.cell().open(&self.request(volume, base_root.map(of_root))).unwrap()
    }

    /// What opens a volume, which is made if it is new.
    pub(super) fn request(&self, volume: &VolumeId, base: Option<BaseRoot>) -> OpenVolume {
        let blocks = VolumeBlocks { base: base.clone(), ..self.blocks_of(volume, None) };
        self.cell().make_volume(&blocks).unwrap();
        OpenVolume {
            account: AccountId::parse("111111111111").unwrap(),
            region: self.region.clone(),
            volume: volume.clone(),
            instance: InstanceId::generate(&OsRng),
            device: "/dev/sdf".to_owned(),
            attached: Timestamp(0),
            epoch: 1,
            base,
            twin: None,
            key: Secret::new([3; 64]),
            base_key: None,
        }
    }

    /// A volume with a page in each of so many blocks, cut for a snapshot.
    async fn cut(&self, blocks: u64) -> ExportCut {
        let (id, snapshot) = (VolumeId::generate(&OsRng), SnapshotId::generate(&OsRng));
        let volume = self.blocks_of(&id, None);
        let handle = self.open(&id, None);
        for block in 0..blocks {
            handle.write(block * BLOCK, stamp(block).to_vec()).unwrap();
        }
        self.cells.cut(&volume, &snapshot).await.unwrap();
        ExportCut { volume, snapshot, parent_root: None, resume: None, plain_key: None }
    }

    pub(super) async fn snapshot(&self, blocks: u64) -> Stored {
        let export = self.cut(blocks).await;
        self.cells.export(&export, &Watcher::default()).await.unwrap()
    }

    async fn fill(&self, fill: &mut FillVolume) -> Result<(), BlockError> {
        loop {
            match self.cells.fill_volume(fill, &Watcher::default()).await? {
                Filled::Wholly => return Ok(()),
                Filled::UpTo { resume, percent } => {
                    assert!(percent < 100);
                    fill.resume = Some(resume);
                }
            }
        }
    }
}

pub(super) fn of_root(root: Root) -> BaseRoot {
    BaseRoot { root, first: None }
}

pub(super) fn stamp(block: u64) -> [u8; 4096] {
    std::array::from_fn(|at| (block as usize * 31 + at % 253 + 1) as u8)
}

/// Keeps what it is told, and stops the work after a number of checkpoints.
#[derive(Default)]
pub(super) struct Watcher {
    pub(super) stop_after: Option<usize>,
    pub(super) stopped: AtomicBool,
    pub(super) saved: Mutex<Vec<Saved>>,
    pub(super) least_percent: AtomicU64,
}

impl Watch for Watcher {
    fn is_wanted(&self) -> bool {
        !self.stopped.load(Ordering::SeqCst)
    }

    fn progress(&self, percent: u8) {
        if self.least_percent.load(Ordering::SeqCst) == 0 {
            self.least_percent.store(u64::from(percent), Ordering::SeqCst);
        }
    }

    fn checkpoint(&self, saved: Saved) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let mut all = self.saved.lock().unwrap();
        all.push(saved);
        self.stopped.store(self.stop_after == Some(all.len()), Ordering::SeqCst);
        Ok(())
    }
}

pub(super) fn packs(directory: &Path) -> u64 {
    let mut count = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let is_folder = entry.file_type().unwrap().is_dir();
        count += if is_folder { packs(&entry.path()) } else { entry.metadata().unwrap().len() };
    }
    count
}

#[tokio::test]
async fn an_interrupted_export_goes_on_where_it_stopped() {
    let place = Place::new(&BandwidthLimits::new());
    let mut export = place.cut(1500).await;
    let first = Watcher { stop_after: Some(1), ..Watcher::default() };
    let stopped = place.cells.export(&export, &first).await;
    assert!(matches!(stopped, Err(BlockError::Unavailable(_))), "it may be tried again");
    let objects = place.directory.path().join("objects");
    let before = packs(&objects);

    let saved = first.saved.lock().unwrap().remove(0);
    export.resume = Some(saved.state);
    let second = Watcher::default();
    let stored = place.cells.export(&export, &second).await.unwrap();
    assert_eq!(stored.full_bytes, 1500 * BLOCK);
    assert_eq!(second.least_percent.load(Ordering::SeqCst), 1024 * 100 / 1500);
    // About a third of the blocks was left to write.
    assert!(packs(&objects) - before < before * 2 / 3, "{before} bytes were there before");
    let copy = place.open(&VolumeId::generate(&OsRng), Some(stored.root));
    for block in [0, 1023, 1024, 1499] {
        assert_eq!(copy.read(block * BLOCK, 4096).unwrap(), stamp(block), "{block}");
    }
    place.cells.release_cut(&export.volume, &export.snapshot).await.unwrap();
}

/// Keeps what it is told; others always wait.
#[derive(Default)]
struct Crowded(Mutex<Option<Saved>>);

impl Watch for Crowded {
    fn is_wanted(&self) -> bool {
        true
    }

    fn is_turn_over(&self) -> bool {
        true
    }

    fn progress(&self, _percent: u8) {}

    fn checkpoint(&self, saved: Saved) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        *self.0.lock().unwrap() = Some(saved);
        Ok(())
    }
}

#[tokio::test]
async fn a_turn_is_long_enough_to_move_something() {
    let place = Place::new(&BandwidthLimits::new());
    let export = place.cut(20).await;
    // Others may wait, but not at once.
    let stored = place.cells.export(&export, &Crowded::default()).await.unwrap();
    assert_eq!(stored.full_bytes, 20 * BLOCK);

    let cells = place.cells.with_shortest_turn(Duration::ZERO);
    let crowded = Crowded::default();
    let mut export = export;
    for turn in 0..20 {
        let stopped = cells.export(&export, &crowded).await;
        assert!(matches!(stopped, Err(BlockError::TurnOver)), "turn {turn}");
        export.resume = crowded.0.lock().unwrap().take().map(|saved| saved.state);
    }
    let stored = cells.export(&export, &crowded).await.unwrap();
    assert_eq!(stored.full_bytes, 20 * BLOCK);
}

#[tokio::test]
async fn a_volume_is_filled_at_its_rate_and_right_all_the_while() {
    let place = Place::new(&BandwidthLimits::new());
    let stored = place.snapshot(80).await;
    let id = VolumeId::generate(&OsRng);
    let volume = place.blocks_of(&id, Some(stored.root.clone()));
    let mut fill =
        FillVolume { volume, rate_mib: Some(100), first_touches: Vec::new(), resume: None };
    let begun = Instant::now();
    let handle = place.open(&id, Some(stored.root.clone()));
    assert_eq!(handle.read(40 * BLOCK, 4096).unwrap(), stamp(40));
    place.fill(&mut fill).await.unwrap();
    // 40 MiB of snapshot data at 100 MiB/s, less what may come at once.
    assert!(begun.elapsed() >= Duration::from_millis(200), "{:?}", begun.elapsed());
    // What was read before the filling is what the next volume is filled with first.
    let root = SnapshotRoot::from_bytes(&stored.root).unwrap();
    assert_eq!(place.cell().snapshots.first_touches(&root), [40]);
    for block in 0..80 {
        assert_eq!(handle.read(block * BLOCK, 4096).unwrap(), stamp(block), "{block}");
        // It was open with its key, so it has pages of its own now.
        let left = place.cell().live.with(&id, move |engine| engine.hydrate(block)).unwrap();
        assert_eq!(left, 0, "block {block} was not copied");
    }
}

#[tokio::test]
async fn a_volume_nobody_uses_is_filled_too_and_a_damaged_base_is_noticed() {
    let place = Place::new(&BandwidthLimits::new());
    let stored = place.snapshot(20).await;
    let id = VolumeId::generate(&OsRng);
    let volume = place.blocks_of(&id, Some(stored.root));
    let mut fill = FillVolume { volume, rate_mib: None, first_touches: Vec::new(), resume: None };
    place.fill(&mut fill).await.unwrap();
    assert!(!place.cell().live.contains(&id), "a volume that nobody opened is still all base");

    damage_largest(&place.directory.path().join("objects"));
    fill.resume = None;
    assert!(matches!(place.fill(&mut fill).await, Err(BlockError::Damaged(_))));
}

/// Wanted until somebody has asked once.
#[derive(Default)]
struct OneBatch(AtomicBool);

impl Watch for OneBatch {
    fn is_wanted(&self) -> bool {
        !self.0.swap(true, Ordering::SeqCst)
    }

    fn progress(&self, _percent: u8) {}

    fn checkpoint(&self, _saved: Saved) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        Ok(())
    }
}

#[tokio::test]
async fn what_was_written_down_is_filled_first() {
    let place = Place::new(&BandwidthLimits::new());
    let stored = place.snapshot(20).await;
    let volume = place.blocks_of(&VolumeId::generate(&OsRng), Some(stored.root));
    for (first_touches, percent) in [(vec![19], 5), (Vec::new(), 80), (vec![3, 19], 10)] {
        let fill =
            FillVolume { volume: volume.clone(), rate_mib: None, first_touches, resume: None };
        let filled = place.cells.fill_volume(&fill, &OneBatch::default()).await.unwrap();
        let Filled::UpTo { percent: done, .. } = filled else { panic!("there is more") };
        assert_eq!(done, percent, "{fill:?}");
    }
}

/// A server that is killed forgets what its guests touched in the last minute; others come in its place.
#[tokio::test]
async fn no_block_is_left_out_when_the_order_has_become_another() {
    let place = Place::new(&BandwidthLimits::new());
    let stored = place.snapshot(40).await;
    let id = VolumeId::generate(&OsRng);
    let volume = place.blocks_of(&id, Some(stored.root.clone()));
    let handle = place.open(&id, Some(stored.root));
    let mut fill = FillVolume { volume, rate_mib: None, first_touches: vec![3, 19], resume: None };
    for order in [vec![3, 19], vec![3], vec![3, 37]] {
        fill.first_touches = order;
        let filled = place.cells.fill_volume(&fill, &OneBatch::default()).await.unwrap();
        let Filled::UpTo { resume, .. } = filled else { panic!("there is more") };
        fill.resume = Some(resume);
    }
    place.fill(&mut fill).await.unwrap();
    for block in 0..40 {
        let left = place.cell().live.with(&id, move |engine| engine.hydrate(block)).unwrap();
        assert_eq!(left, 0, "block {block} was left out");
    }
    drop(handle);
}

pub(super) fn damage_largest(objects: &Path) {
    let mut files = Vec::new();
    let mut folders = vec![objects.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            match entry.file_type().unwrap().is_dir() {
                true => folders.push(entry.path()),
                false => files.push((entry.metadata().unwrap().len(), entry.path())),
            }
        }
    }
    let (length, path) = files.into_iter().max().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[length as usize / 2] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn a_kind_of_job_keeps_to_its_bandwidth() {
    let place = Place::new(&BandwidthLimits::from([(MoverKind::Export, 40 << 20)]));
    let export = place.cut(40).await;
    let begun = Instant::now();
    place.cells.export(&export, &Watcher::default()).await.unwrap();
    // 20 MiB of blocks at 40 MiB/s, less what may come at once.
    assert!(begun.elapsed() >= Duration::from_millis(300), "{:?}", begun.elapsed());
}
