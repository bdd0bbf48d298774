//! Snapshots against a model that is only byte arrays.

mod archiving;
mod checking;
mod collecting;
mod copying;
mod direct;
mod exporting;
mod faults;
mod floor;
mod format;
mod nominating;
mod tampering;
mod twins;

use super::*;
use crate::page::{
    BLOCK_BYTES, BlockPages, CutPage, CutSource, DataKey, Lba, NoKey, PAGE_BYTES, PAGES_PER_BLOCK,
    Page, PageSealer, Salt, SealedPage, SourceError,
};
use base::{ManualClock, Secret, SeededRng, Timestamp};
use objstore::{MemoryStore, ObjectStore};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

pub(super) const GIB: u64 = 1 << 30;
pub(super) const START: Timestamp = Timestamp(1_800_000_000_000);

pub(super) fn memory() -> Arc<MemoryStore> {
    Arc::new(MemoryStore::new(Arc::new(ManualClock::new(START))))
}

pub(super) fn snapshots(objects: Arc<dyn ObjectStore>, seed: u64) -> SnapshotStore {
    SnapshotStore::new(objects, &Secret::new([0x5e; 32]), Arc::new(SeededRng::new(seed)))
}

pub(super) fn key(seed: u8) -> DataKey {
    DataKey::new(&Secret::new(std::array::from_fn(|i| seed.wrapping_add(i as u8))))
}

/// Recognisable plaintext: the stamp is repeated all over the page.
pub(super) fn page_of(stamp: u64) -> Page {
    let mut page = [0; PAGE_BYTES];
    for (at, chunk) in page.chunks_mut(16).enumerate() {
        chunk[..8].copy_from_slice(&stamp.to_le_bytes());
        chunk[8..].copy_from_slice(&(at as u64 ^ 0x706c_6169_6e74_6578).to_le_bytes());
    }
    page
}

/// A block of which every page carries a stamp.
pub(super) fn block_of(stamp: u64) -> Vec<u8> {
    (0..PAGES_PER_BLOCK as u64).flat_map(|page| page_of(stamp * 1000 + page)).collect()
}

pub(super) const DAY: i64 = 86_400;

/// Of a collection so many days after the start.
pub(super) fn policy(days: i64) -> CollectPolicy {
    let now = START.plus_seconds(days * DAY);
    CollectPolicy { now, grace_seconds: DAY, rewrite_below_percent: 100 }
}

/// Looks at everything.
pub(super) fn sweep(store: &SnapshotStore, live: &[SnapshotRoot], days: i64) -> CollectReport {
    collect(store, live.iter().map(|root| Ok::<_, Error>(*root)), &[], &policy(days)).unwrap()
}

/// Whether a collection is wanted: for so many questions.
#[derive(Default)]
pub(super) struct Questions {
    pub(super) wanted_for: Cell<u64>,
    asked: Cell<u64>,
}

impl Questions {
    pub(super) fn answer(&self) -> bool {
        self.asked.set(self.asked.get() + 1);
        self.asked.get() <= self.wanted_for.get()
    }

    /// The next collection may ask one more.
    pub(super) fn begin_anew(&self) {
        self.wanted_for.set(self.wanted_for.get() + 1);
        self.asked.set(0);
    }
}

/// Writes the first pages of blocks.
pub(super) fn write_pages(volume: &mut Volume, pages: u64, blocks: Range<u64>, stamp: u64) {
    for block in blocks {
        for page in 0..pages {
            volume.write(block * PAGES_PER_BLOCK as u64 + page, stamp + block * pages + page);
        }
    }
}

/// Three snapshots of one volume: the second and the third each change what the one before changed or
/// left. The middle one comes without what it holds.
pub(super) struct Three {
    pub(super) volume: Volume,
    pub(super) first: (SnapshotRoot, BTreeMap<Lba, u64>),
    pub(super) second: SnapshotRoot,
    pub(super) third: (SnapshotRoot, BTreeMap<Lba, u64>),
}

impl Three {
    /// With so many pages in every block that is written.
    pub(super) fn new(store: &SnapshotStore, pages: u64) -> Self {
        let mut volume = Volume::new(GIB, 1, 1);
        write_pages(&mut volume, pages, 0..40, 1_000);
        let first = (snapshot(store, &mut volume, None), volume.model.clone());
        write_pages(&mut volume, pages, 10..30, 2_000);
        let second = snapshot(store, &mut volume, Some(&first.0));
        write_pages(&mut volume, pages, 20..40, 3_000);
        let third = (snapshot(store, &mut volume, Some(&second)), volume.model.clone());
        Self { volume, first, second, third }
    }
}

/// Snapshots with what each must hold.
pub(super) type History = Vec<(SnapshotRoot, BTreeMap<Lba, u64>)>;

/// A volume in the form the live engine would give it to an export, with its plaintext beside.
pub(super) struct Volume {
    pub(super) key: DataKey,
    sealer: PageSealer,
    bytes: u64,
    pages: BTreeMap<Lba, CutPage>,
    /// What a reader must see, base included.
    pub(super) model: BTreeMap<Lba, u64>,
    changed: BTreeSet<u64>,
}

pub(super) struct Cut {
    bytes: u64,
    pages: BTreeMap<Lba, CutPage>,
    changed: BTreeSet<u64>,
}

impl Volume {
    pub(super) fn new(bytes: u64, key_seed: u8, salt_seed: u64) -> Self {
        let key = key(key_seed);
        let sealer = key.sealer(Salt::generate(&SeededRng::new(salt_seed)));
        let (pages, model, changed) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        Self { key, sealer, bytes, pages, model, changed }
    }

    /// A volume made from a snapshot: nothing of its own yet.
    pub(super) fn from_base(base: &BTreeMap<Lba, u64>, bytes: u64, key: u8, salt: u64) -> Self {
        Self { model: base.clone(), ..Self::new(bytes, key, salt) }
    }

    pub(super) fn write(&mut self, lba: Lba, stamp: u64) {
        let page = SealedPage::seal(&mut self.sealer, lba, &page_of(stamp));
        self.pages.insert(lba, CutPage::Sealed(page));
        self.model.insert(lba, stamp);
        self.changed.insert(lba / PAGES_PER_BLOCK as u64);
    }

    pub(super) fn zero(&mut self, lba: Lba) {
        self.pages.insert(lba, CutPage::Zero);
        self.model.remove(&lba);
        self.changed.insert(lba / PAGES_PER_BLOCK as u64);
    }

    /// Changes since the last cut.
    pub(super) fn cut(&mut self) -> Cut {
        let changed = std::mem::take(&mut self.changed);
        Cut { bytes: self.bytes, pages: self.pages.clone(), changed }
    }

    /// Everything ever written, for an export without a previous snapshot.
    pub(super) fn full_cut(&self) -> Cut {
        let changed = self.pages.keys().map(|lba| lba / PAGES_PER_BLOCK as u64).collect();
        Cut { bytes: self.bytes, pages: self.pages.clone(), changed }
    }

    pub(super) fn random_writes(&mut self, rng: &SeededRng, count: u64, blocks: u64) {
        for _ in 0..count {
            let lba = rng.below(blocks) * PAGES_PER_BLOCK as u64 + rng.below(3) * 60;
            match rng.below(5) {
                0 => self.zero(lba),
                _ => self.write(lba, rng.next_u64() | 1),
            }
        }
    }
}

impl CutSource for Cut {
    fn volume_bytes(&self) -> u64 {
        self.bytes
    }

    fn changed_blocks(&self) -> Box<dyn Iterator<Item = Result<u64, SourceError>> + Send + '_> {
        Box::new(self.changed.iter().map(|block| Ok(*block)))
    }

    fn load_block(&self, block: u64) -> Result<BlockPages, SourceError> {
        let first = block * PAGES_PER_BLOCK as u64;
        let lbas = first..first + PAGES_PER_BLOCK as u64;
        let page = |lba| self.pages.get(&lba).cloned().unwrap_or(CutPage::Absent);
        Ok(BlockPages { block, pages: lbas.map(page).collect() })
    }
}

pub(super) fn job<'a>(volume: &'a Volume, parent: Option<&'a SnapshotRoot>) -> Export<'a> {
    let (key_check, key) = (Some(volume.key.check_value()), &volume.key);
    Export { parent, key_check, resume: None, checkpoint_blocks: CHECKPOINT_BLOCKS, key }
}

/// Exports what changed since the last cut.
pub(super) fn snapshot(
    store: &SnapshotStore,
    volume: &mut Volume,
    parent: Option<&SnapshotRoot>,
) -> SnapshotRoot {
    let cut = volume.cut();
    export(store, &cut, &job(volume, parent), &Unobserved).unwrap()
}

/// The plaintext a snapshot must have at a block.
pub(super) fn expected_block(model: &BTreeMap<Lba, u64>, block: u64) -> Vec<u8> {
    let first = block * PAGES_PER_BLOCK as u64;
    let page = |lba| model.get(&lba).map_or([0; PAGE_BYTES], |stamp| page_of(*stamp));
    (first..first + PAGES_PER_BLOCK as u64).flat_map(page).collect()
}

/// Blocks of which the model has a page that is not zeros.
pub(super) fn model_blocks(model: &BTreeMap<Lba, u64>) -> Vec<u64> {
    let mut blocks: Vec<u64> = model.keys().map(|lba| lba / PAGES_PER_BLOCK as u64).collect();
    blocks.dedup();
    blocks
}

/// The snapshot holds exactly the model: listed, read, and by single pages.
pub(super) fn assert_holds(
    store: &SnapshotStore,
    root: &SnapshotRoot,
    model: &BTreeMap<Lba, u64>,
    key: &DataKey,
) {
    let reader = SnapshotReader::open(store, root).unwrap();
    let blocks = model_blocks(model);
    assert_eq!(list(&reader), blocks);
    assert_eq!(root.full_blocks(), blocks.len() as u64);
    for block in blocks {
        let plain = reader.read_block(block, key).unwrap().unwrap();
        assert!(*plain.bytes == expected_block(model, block), "block {block} differs");
        assert_eq!(plain.digest, Digest::of(&plain.bytes));
    }
}

/// Every block a snapshot lists, in pages of an odd size.
pub(super) fn list(reader: &SnapshotReader) -> Vec<u64> {
    let (mut found, mut next) = (Vec::new(), Some(0));
    while let Some(start) = next {
        let page = reader.list_blocks(start, 7).unwrap();
        assert!(page.blocks.len() == 7 || page.next.is_none());
        found.extend(page.blocks.iter().map(|block| block.index));
        next = page.next;
    }
    assert!(found.is_sorted_by(|a, b| a < b));
    found
}

/// The two must differ wherever the models do.
pub(super) fn changed(first: &SnapshotReader, second: &SnapshotReader) -> Vec<ChangedBlock> {
    let (changed, next) = second.changed_blocks(Some(first), 0..u64::MAX).unwrap();
    assert_eq!(next, None);
    assert!(changed.is_sorted_by(|a, b| a.index < b.index));
    changed
}

pub(super) fn whole_block() -> usize {
    BLOCK_BYTES
}
