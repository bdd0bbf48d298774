//! Copies to other stores and other keys.

use super::direct::{announce, spec};
use super::*;
use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

fn copy_job<'a>(source: &'a SnapshotRoot, keys: CopyKeys<'a>) -> CopyJob<'a> {
    let checkpoint_blocks = CHECKPOINT_BLOCKS;
    CopyJob { source, keys, earlier: None, resume: None, checkpoint_blocks, threads: 2 }
}

fn change<'a>(source: &'a DataKey, target: &'a DataKey) -> CopyKeys<'a> {
    CopyKeys::Change { source, target }
}

/// Every 4 KiB of ciphertext: the bodies of all frames that a snapshot names.
fn ciphertext_pages(store: &SnapshotStore, root: &SnapshotRoot) -> HashSet<Vec<u8>> {
    use crate::page::{BasePage, BaseReader};
    let reader = SnapshotReader::open(store, root).unwrap();
    let mut pages = HashSet::new();
    for block in list(&reader) {
        for lba in block * PAGES_PER_BLOCK as u64..(block + 1) * PAGES_PER_BLOCK as u64 {
            if let BasePage::Sealed(page) = reader.read_page(lba).unwrap() {
                pages.insert(page.ciphertext.to_vec());
            }
        }
    }
    pages
}

#[test]
fn a_copy_under_another_key_holds_the_same_and_shares_no_ciphertext() {
    let (here, there) = (memory(), memory());
    let (source, target) = (snapshots(here, 1), snapshots(there.clone(), 2));
    let mut volume = Volume::new(2 * GIB, 1, 1);
    volume.random_writes(&SeededRng::new(8), 300, 100);
    volume.write(3000 * PAGES_PER_BLOCK as u64, 7);
    let root = snapshot(&source, &mut volume, None);
    let new_key = key(2);
    let job = copy_job(&root, change(&volume.key, &new_key));
    let copied = copy(&source, &target, &job, &Unobserved).unwrap();
    assert_holds(&target, &copied, &volume.model, &new_key);
    verify(&target, &copied, Some(&new_key)).unwrap();
    let old_key = SnapshotReader::open(&target, &copied).unwrap().read_block(0, &volume.key);
    assert!(matches!(old_key, Err(Error::WrongKey)));
    assert_ne!(copied.series(), root.series());

    let (a, b) = (ciphertext_pages(&source, &root), ciphertext_pages(&target, &copied));
    assert_eq!((a.len(), b.len()), (volume.model.len(), volume.model.len()));
    assert!(a.is_disjoint(&b));
    // Not even two copies under one key share a page.
    let again = copy(&source, &target, &job, &Unobserved).unwrap();
    assert!(ciphertext_pages(&target, &again).is_disjoint(&b));
    // An export has no digests, and copying it makes none.
    let reader = SnapshotReader::open(&target, &copied).unwrap();
    for block in list(&reader) {
        assert_eq!(reader.read_digest(block, &new_key).unwrap(), None);
    }
}

#[test]
fn digests_go_along_under_the_new_key() {
    let (source, target) = (snapshots(memory(), 1), snapshots(memory(), 2));
    let (old_key, new_key) = (key(1), key(2));
    let session = DirectSession::open(&source, spec("s", &old_key, None)).unwrap();
    let mut sparse = vec![0; BLOCK_BYTES];
    sparse[70_000] = 7;
    let blocks = [(0, block_of(4)), (9, sparse), (1500, vec![0; BLOCK_BYTES])];
    for (index, bytes) in &blocks {
        session.put_block(*index, bytes, None, &old_key).unwrap();
    }
    let root = session.complete(&announce(3)).unwrap();
    let job = copy_job(&root, change(&old_key, &new_key));
    let copied = copy(&source, &target, &job, &Unobserved).unwrap();
    let reader = SnapshotReader::open(&target, &copied).unwrap();
    for (index, bytes) in &blocks {
        assert_eq!(reader.read_digest(*index, &new_key).unwrap(), Some(Digest::of(bytes)));
        assert_eq!(*reader.read_block(*index, &new_key).unwrap().unwrap().bytes, *bytes);
    }
    verify(&target, &copied, Some(&new_key)).unwrap();
}

#[test]
fn a_copy_under_the_same_key_needs_no_key() {
    let (source, target) = (snapshots(memory(), 1), snapshots(memory(), 2));
    let key = key(1);
    let session = DirectSession::open(&source, spec("s", &key, None)).unwrap();
    session.put_block(4, &block_of(4), None, &key).unwrap();
    let root = session.complete(&announce(1)).unwrap();
    let job = copy_job(&root, CopyKeys::Same);
    let copied = copy(&source, &target, &job, &Unobserved).unwrap();
    let reader = SnapshotReader::open(&target, &copied).unwrap();
    assert_eq!(*reader.read_block(4, &key).unwrap().unwrap().bytes, block_of(4));
    assert_eq!(reader.read_digest(4, &key).unwrap(), Some(Digest::of(&block_of(4))));
    assert_eq!(ciphertext_pages(&source, &root), ciphertext_pages(&target, &copied));
}

#[test]
fn later_copies_are_incremental() {
    let there = memory();
    let (source, target) = (snapshots(memory(), 1), snapshots(there.clone(), 2));
    let mut volume = Volume::new(GIB, 1, 1);
    (0..100).for_each(|block| volume.write(block * PAGES_PER_BLOCK as u64, block + 1));
    let new_key = key(2);
    let first = snapshot(&source, &mut volume, None);
    let job = copy_job(&first, change(&volume.key, &new_key));
    let first_copy = copy(&source, &target, &job, &Unobserved).unwrap();

    volume.write(50 * PAGES_PER_BLOCK as u64, 1);
    volume.zero(60 * PAGES_PER_BLOCK as u64);
    let second = snapshot(&source, &mut volume, Some(&first));
    let before = there.total_bytes();
    let earlier = EarlierCopy { source: &first, copy: &first_copy };
    let job =
        CopyJob { earlier: Some(earlier), ..copy_job(&second, change(&volume.key, &new_key)) };
    let second_copy = copy(&source, &target, &job, &Unobserved).unwrap();
    assert_holds(&target, &second_copy, &volume.model, &new_key);
    let cost = there.total_bytes() - before;
    assert!(cost < 12_000, "{cost} bytes for one page");
    assert_eq!(second_copy.incremental_blocks(), 1);
    let open = |root| SnapshotReader::open(&target, root).unwrap();
    let changed = changed(&open(&first_copy), &open(&second_copy));
    assert_eq!(changed.iter().map(|block| block.index).collect::<Vec<_>>(), [50, 60]);
}

#[test]
fn wrong_keys_and_foreign_copies_are_refused() {
    let store = snapshots(memory(), 1);
    let mut volume = Volume::new(GIB, 1, 1);
    volume.write(0, 1);
    let root = snapshot(&store, &mut volume, None);
    let (second, third) = (key(2), key(3));
    let wrong = copy(&store, &store, &copy_job(&root, change(&second, &third)), &Unobserved);
    assert!(matches!(wrong, Err(Error::WrongKey)));
    let job = copy_job(&root, change(&volume.key, &second));
    let copied = copy(&store, &store, &job, &Unobserved).unwrap();
    let other = snapshot(&store, &mut Volume::new(GIB, 1, 9), None);
    let refused = |earlier, key| {
        let job = copy_job(&root, change(&volume.key, key));
        copy(&store, &store, &CopyJob { earlier: Some(earlier), ..job }, &Unobserved)
    };
    let foreign = refused(EarlierCopy { source: &other, copy: &copied }, &second);
    assert!(matches!(foreign, Err(Error::Unrelated)));
    let other_key = refused(EarlierCopy { source: &root, copy: &copied }, &third);
    assert!(matches!(other_key, Err(Error::WrongKey)));
}

struct Stopper {
    limit: u64,
    done: AtomicU64,
    last: Mutex<Option<Checkpoint>>,
}

impl Observer for Stopper {
    fn progress(&self, done: u64, total: u64) {
        assert!(done <= total);
        self.done.store(done, Ordering::SeqCst);
    }

    fn checkpoint(
        &self,
        checkpoint: &Checkpoint,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        *self.last.lock().unwrap() = Some(*checkpoint);
        Ok(())
    }

    fn is_cancelled(&self) -> bool {
        self.done.load(Ordering::SeqCst) >= self.limit
    }

    fn admit(&self, _bytes: u64) {}
}

#[test]
fn a_cancelled_copy_goes_on_from_its_checkpoint() {
    let (source, target) = (snapshots(memory(), 1), snapshots(memory(), 2));
    let mut volume = Volume::new(GIB, 1, 1);
    (0..300).for_each(|block| volume.write(block * PAGES_PER_BLOCK as u64 + 5, block + 1));
    let root = snapshot(&source, &mut volume, None);
    let new_key = key(2);
    let first = CopyJob { checkpoint_blocks: 60, ..copy_job(&root, change(&volume.key, &new_key)) };
    let stopper = Stopper { limit: 200, done: AtomicU64::new(0), last: Mutex::default() };
    let stopped = copy(&source, &target, &first, &stopper);
    assert!(matches!(stopped, Err(Error::Cancelled)));
    let checkpoint = stopper.last.into_inner().unwrap().unwrap();
    assert_eq!(checkpoint.blocks_done(), 180);
    let rest = CopyJob { resume: Some(&checkpoint), ..first };
    let stopper = Stopper { limit: 1_000, done: AtomicU64::new(0), last: Mutex::default() };
    let copied = copy(&source, &target, &rest, &stopper).unwrap();
    assert_eq!(stopper.done.into_inner(), 300);
    assert_holds(&target, &copied, &volume.model, &new_key);
    assert_eq!(copied.incremental_blocks(), 300);
}

/// Three snapshots of a volume, of which the first is copied: the second changes the upper half of the
/// blocks, the third the lower, and gives three blocks of the first back.
struct Series {
    volume: Volume,
    roots: [SnapshotRoot; 3],
    first_copy: SnapshotRoot,
}

impl Series {
    const BLOCKS: u64 = 200;

    fn new(source: &SnapshotStore, target: &SnapshotStore, new_key: &DataKey) -> Self {
        let page = |block: u64| block * PAGES_PER_BLOCK as u64;
        let half = Self::BLOCKS / 2;
        let mut volume = Volume::new(GIB, 1, 1);
        (0..Self::BLOCKS).for_each(|block| volume.write(page(block), block + 1));
        let first = snapshot(source, &mut volume, None);
        let job = copy_job(&first, change(&volume.key, new_key));
        let first_copy = copy(source, target, &job, &Unobserved).unwrap();
        (half..Self::BLOCKS).for_each(|block| volume.write(page(block), 1000 + block));
        let second = snapshot(source, &mut volume, Some(&first));
        (0..half).for_each(|block| volume.write(page(block), 2000 + block));
        [half + 20, half + 50, Self::BLOCKS - 1]
            .into_iter()
            .for_each(|block| volume.zero(page(block)));
        let third = snapshot(source, &mut volume, Some(&second));
        Self { volume, roots: [first, second, third], first_copy }
    }

    /// Copies the third snapshot, and stops half way.
    fn stopped(
        &self,
        stores: [&SnapshotStore; 2],
        new_key: &DataKey,
        earlier: Option<EarlierCopy<'_>>,
    ) -> Checkpoint {
        let job = copy_job(&self.roots[2], change(&self.volume.key, new_key));
        let job = CopyJob { earlier, checkpoint_blocks: 60, ..job };
        let stopper = Stopper { limit: 100, done: AtomicU64::new(0), last: Mutex::default() };
        let stopped = copy(stores[0], stores[1], &job, &stopper);
        assert!(matches!(stopped, Err(Error::Cancelled)));
        stopper.last.into_inner().unwrap().unwrap()
    }
}

fn on<'a>(earlier: Option<[&'a SnapshotRoot; 2]>) -> Option<EarlierCopy<'a>> {
    let [source, copy] = earlier?;
    Some(EarlierCopy { source, copy })
}

#[test]
fn a_copy_goes_on_only_on_top_of_what_it_began_on() {
    let (source, target) = (snapshots(memory(), 1), snapshots(memory(), 2));
    let new_key = key(2);
    let series = Series::new(&source, &target, &new_key);
    let Series { volume, roots: [first, second, third], first_copy } = &series;
    let job = copy_job(second, change(&volume.key, &new_key));
    let job = CopyJob { earlier: on(Some([first, first_copy])), ..job };
    let second_copy = copy(&source, &target, &job, &Unobserved).unwrap();
    let finish = |earlier, resume: &Checkpoint| {
        let job = copy_job(third, change(&volume.key, &new_key));
        let job = CopyJob { earlier, resume: Some(resume), ..job };
        copy(&source, &target, &job, &Unobserved).unwrap()
    };

    // Each way to begin, each way to go on, and each way to have written the checkpoint down.
    let ways = [Some([first, first_copy]), Some([second, &second_copy]), None];
    for began in ways {
        let checkpoint = series.stopped([&source, &target], &new_key, on(began));
        let read = Checkpoint::from_bytes(&checkpoint.to_bytes()).unwrap();
        assert_eq!(read, checkpoint);
        let of_old = Checkpoint { added_to: None, ..checkpoint };
        assert_eq!(Checkpoint::from_bytes(&of_old.to_bytes()).unwrap(), of_old);
        for goes_on in ways {
            for checkpoint in [&read, &of_old] {
                let copied = finish(on(goes_on), checkpoint);
                assert_holds(&target, &copied, &volume.model, &new_key);
                assert_eq!(copied.full_blocks(), third.full_blocks());
            }
        }
    }
}
