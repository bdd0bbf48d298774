//! Twins that are read page by page, and what happens where one is damaged.

use super::*;
use crate::page::{BasePage, BaseReader};
use objstore::{Bytes, ObjectMeta};
use std::sync::atomic::{AtomicU64, Ordering};

/// A store that counts the bytes it is asked for.
struct Metered {
    objects: Arc<MemoryStore>,
    bytes: AtomicU64,
}

impl ObjectStore for Metered {
    fn put(&self, name: &str, bytes: Bytes) -> Result<(), objstore::Error> {
        self.objects.put(name, bytes)
    }

    fn get(&self, name: &str) -> Result<Bytes, objstore::Error> {
        self.objects.get(name)
    }

    fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes, objstore::Error> {
        self.bytes.fetch_add(range.end - range.start, Ordering::SeqCst);
        self.objects.get_range(name, range)
    }

    fn delete(&self, name: &str) -> Result<(), objstore::Error> {
        self.objects.delete(name)
    }

    fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, objstore::Error> {
        self.objects.list(prefix)
    }

    fn head(&self, name: &str) -> Result<ObjectMeta, objstore::Error> {
        self.objects.head(name)
    }
}

/// A snapshot with full and with sparse blocks, and its twin in a store of its own.
struct House {
    original: SnapshotStore,
    root: SnapshotRoot,
    twin_objects: Arc<MemoryStore>,
    twin: SnapshotRoot,
    model: BTreeMap<Lba, u64>,
    key: DataKey,
}

fn twins(objects: Arc<dyn ObjectStore>) -> SnapshotStore {
    SnapshotStore::new(objects, &Secret::new([0x7c; 32]), Arc::new(SeededRng::new(9)))
}

impl House {
    fn new() -> Self {
        let original = snapshots(memory(), 1);
        let mut volume = Volume::new(GIB, 1, 1);
        write_pages(&mut volume, PAGES_PER_BLOCK as u64, 0..3, 1_000);
        let first = snapshot(&original, &mut volume, None);
        // Blocks of two moments have pages under many salts.
        volume.random_writes(&SeededRng::new(4), 60, 40);
        let root = snapshot(&original, &mut volume, Some(&first));
        let twin_objects = memory();
        let store = twins(twin_objects.clone());
        let job = RepackJob {
            source: &root,
            resume: None,
            checkpoint_blocks: CHECKPOINT_BLOCKS,
            threads: 1,
        };
        let twin = repack(&original, &store, &job, &Unobserved).unwrap();
        let (model, key) = (volume.model.clone(), key(1));
        Self { original, root, twin_objects, twin, model, key }
    }

    fn open(&self, objects: Arc<dyn ObjectStore>) -> Result<TwinReader, Error> {
        TwinReader::open(&twins(objects), &self.twin, (&self.original, &self.root))
    }

    fn reader(&self) -> TwinReader {
        self.open(self.twin_objects.clone()).unwrap()
    }

    /// Whether the page is what it must be, as who has the data key sees it.
    fn opens(&self, lba: Lba, page: BasePage) -> bool {
        match (page, self.model.get(&lba)) {
            (BasePage::Zero, expected) => expected.is_none(),
            (BasePage::Sealed(_), None) => false,
            (BasePage::Sealed(sealed), Some(stamp)) => {
                let mut plain = [0; PAGE_BYTES];
                let opener = self.key.opener(sealed.origin.salt);
                sealed.open(&opener, lba, &mut plain).is_ok() && plain == page_of(*stamp)
            }
        }
    }
}

#[test]
fn every_page_is_read_alone_and_in_a_row() {
    let house = House::new();
    let lbas = 0..42 * PAGES_PER_BLOCK as u64;
    let in_a_row = house.reader();
    for lba in lbas.clone() {
        assert!(house.opens(lba, in_a_row.read_page(lba).unwrap()), "page {lba}");
    }
    let alone = house.reader();
    for lba in lbas.rev() {
        assert!(house.opens(lba, alone.read_page(lba).unwrap()), "page {lba}");
    }
    for block in 0..42 {
        assert_eq!(
            alone.has_block(block).unwrap(),
            model_blocks(&house.model).binary_search(&block).is_ok()
        );
    }
    let end = GIB / PAGE_BYTES as u64;
    assert_eq!(alone.read_page(end).unwrap(), BasePage::Zero);
}

#[test]
fn a_page_costs_a_table_and_a_page() {
    let house = House::new();
    let (objects, bytes) = (house.twin_objects.clone(), AtomicU64::new(0));
    let metered = Arc::new(Metered { objects, bytes });
    let reader = house.open(metered.clone()).unwrap();
    let cost = |lba: Lba| {
        let before = metered.bytes.load(Ordering::SeqCst);
        assert!(house.opens(lba, reader.read_page(lba).unwrap()));
        metered.bytes.load(Ordering::SeqCst) - before
    };
    let (table, page) = (3584, PAGE_BYTES as u64);
    // The first also finds the way to it.
    assert!(cost(0) > table + page);
    assert_eq!(cost(127), page);
    assert_eq!(cost(64), page);
    assert_eq!(cost(PAGES_PER_BLOCK as u64 + 9), table + page);
    // A run is read whole, once.
    assert_eq!((cost(10), cost(11), cost(12)), (page, page, page));
    assert!(cost(13) > 128 * page);
    assert_eq!((cost(14), cost(15)), (0, 0));
}

/// Every part of a twin may be lost or changed: what is read is right all the same.
#[test]
fn damage_is_read_around() {
    let house = House::new();
    let names: Vec<_> = house.twin_objects.list("packs").unwrap();
    let probes: Vec<Lba> = house.model.keys().copied().step_by(7).collect();
    let mut wrong = 0;
    for meta in &names {
        let good = house.twin_objects.get(&meta.name).unwrap();
        for at in (40..good.len()).step_by(good.len() / 40) {
            let mut bad = good.to_vec();
            bad[at] ^= 0x10;
            house.twin_objects.tamper(&meta.name, bad.into());
            // Without its root a twin is not opened at all.
            let Ok(reader) = house.open(house.twin_objects.clone()) else { continue };
            for lba in &probes {
                if house.opens(*lba, reader.read_page(*lba).unwrap()) {
                    continue;
                }
                wrong += 1;
                assert!(house.opens(*lba, reader.read_page_proven(*lba).unwrap()), "page {lba}");
            }
        }
        house.twin_objects.tamper(&meta.name, good);
    }
    assert!(wrong > 0, "no page was ever hit");
    let reader = house.reader();
    for meta in names {
        house.twin_objects.delete(&meta.name).unwrap();
    }
    for lba in probes {
        assert!(house.opens(lba, reader.read_page(lba).unwrap()));
    }
}

#[test]
fn a_twin_of_something_else_is_refused() {
    let mut house = House::new();
    let mut volume = Volume::new(GIB, 1, 2);
    write_pages(&mut volume, 1, 0..2, 5_000);
    house.root = snapshot(&house.original, &mut volume, None);
    let refused = house.open(house.twin_objects.clone());
    assert!(matches!(refused, Err(Error::Corrupt { what: "root of a twin", .. })));
}
