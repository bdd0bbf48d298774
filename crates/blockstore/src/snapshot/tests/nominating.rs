//! Collections of what deletions nominated: the same goes as in a sweep, with less looking.

use super::*;
use objstore::{Bytes, ObjectMeta};
use std::sync::atomic::{AtomicU64, Ordering};

fn nominated(
    store: &SnapshotStore,
    deleted: &[SnapshotRoot],
    live: &[SnapshotRoot],
    days: i64,
) -> Nominated {
    let live = live.iter().map(|root| Ok::<_, Error>(*root));
    collect_nominated(store, deleted, deleted.len(), live, &policy(days)).unwrap()
}

fn write_blocks(volume: &mut Volume, blocks: Range<u64>, stamp: u64) {
    write_pages(volume, 1, blocks, stamp);
}

#[test]
fn a_deleted_snapshot_leaves_only_what_others_need() {
    let objects = memory();
    let store = snapshots(objects.clone(), 1);
    let Three { volume, first, second, third } = Three::new(&store, 1);
    let live = [first.0, third.0];

    let report = nominated(&store, &[second], &live, 0);
    assert_eq!(report.settled, [0]);
    // Its frames' pack and its nodes' pack.
    assert_eq!((report.report.packs_nominated, report.report.packs_condemned), (2, 2));
    let early = nominated(&store, &[], &live, 0).report;
    assert_eq!((early.packs_deleted, early.packs_rewritten, early.packs_condemned), (0, 0, 2));
    let report = nominated(&store, &[], &live, 1).report;
    assert_eq!((report.packs_deleted, report.packs_rewritten, report.packs_condemned), (1, 1, 0));
    assert!(report.bytes_reclaimed > 10 * PAGE_BYTES as u64);
    for (root, model) in [&first, &third] {
        assert_holds(&snapshots(objects.clone(), 2), root, model, &volume.key);
    }
    // A sweep has nothing to add.
    assert_eq!(sweep(&store, &live, 2), CollectReport::default());
    assert_eq!(sweep(&store, &live, 4), CollectReport::default());
}

/// What a deleted root had that was not looked at yet is given back after its own grace alone.
#[test]
fn what_was_not_looked_at_yet_is_in_use() {
    let store = snapshots(memory(), 1);
    let mut volume = Volume::new(GIB, 1, 1);
    write_blocks(&mut volume, 0..4, 1);
    let root = snapshot(&store, &mut volume, None);
    let mut other = Volume::new(GIB, 2, 2);
    write_blocks(&mut other, 0..4, 1);
    let first = snapshot(&store, &mut other, None);
    assert_eq!(nominated(&store, &[root], &[first], 0).report.packs_nominated, 2);
    let look = |looked_at: &[SnapshotRoot], roots_max, day| {
        let live = std::iter::empty::<Result<_, Error>>();
        collect_nominated(&store, looked_at, roots_max, live, &policy(day)).unwrap()
    };
    // Noted once more, and behind others.
    let later = look(&[first, root], 1, 2);
    assert_eq!((later.settled, later.report.packs_deleted), (vec![0], 0));
    assert_holds(&store, &root, &volume.model, &volume.key);
    assert_eq!(look(&[root], 1, 3).settled, [0]);
    assert_eq!(look(&[], 1, 4).report.packs_deleted, 2);
}

#[test]
fn a_copy_of_the_same_root_keeps_everything() {
    let store = snapshots(memory(), 1);
    let mut volume = Volume::new(GIB, 1, 1);
    write_blocks(&mut volume, 0..4, 1);
    let root = snapshot(&store, &mut volume, None);
    assert_eq!(nominated(&store, &[root], &[root], 0).report, CollectReport::default());
    assert_eq!(nominated(&store, &[root], &[], 1).report.packs_nominated, 2);
    // Needed again before the grace is over: it is looked for, and found.
    let report = nominated(&store, &[], &[root], 3).report;
    assert_eq!((report.packs_deleted, report.packs_condemned), (0, 0));
    assert_holds(&store, &root, &volume.model, &volume.key);
    nominated(&store, &[root], &[], 4);
    assert_eq!(nominated(&store, &[], &[], 5).report.packs_deleted, 2);
}

#[test]
fn a_deletion_begins_the_grace_anew_of_what_a_sweep_had_found() {
    let store = snapshots(memory(), 1);
    let mut volume = Volume::new(GIB, 1, 1);
    write_blocks(&mut volume, 0..4, 1);
    let root = snapshot(&store, &mut volume, None);
    // As when it was being made: no root named its packs yet.
    assert_eq!(sweep(&store, &[], 0).packs_condemned, 2);
    assert_eq!(nominated(&store, &[], &[root], 1).report.packs_unnominated, 2);
    // Deleted when the sweep's grace has been over for a day.
    let report = nominated(&store, &[root], &[], 2).report;
    assert_eq!((report.packs_deleted, report.packs_condemned), (0, 2));
    assert_holds(&store, &root, &volume.model, &volume.key);
    assert_eq!(nominated(&store, &[], &[], 3).report.packs_deleted, 2);
}

#[test]
fn a_sweep_leaves_what_was_deleted_and_not_looked_at() {
    let store = snapshots(memory(), 1);
    let mut volume = Volume::new(GIB, 1, 1);
    write_blocks(&mut volume, 0..4, 1);
    let root = snapshot(&store, &mut volume, None);
    let mut other = Volume::new(GIB, 2, 2);
    write_blocks(&mut other, 0..4, 1);
    let gone = snapshot(&store, &mut other, None);
    let none = std::iter::empty::<Result<_, Error>>;
    assert_eq!(sweep(&store, &[], 0).packs_condemned, 4);
    let report = collect(&store, none(), &[root], &policy(2)).unwrap();
    assert_eq!((report.packs_deleted, report.packs_condemned), (2, 0));
    assert_holds(&store, &root, &volume.model, &volume.key);
    // One that is gone is no reason not to sweep.
    let report = collect(&store, none(), &[gone, root], &policy(2)).unwrap();
    assert_eq!(report, CollectReport::default());
    assert_eq!(nominated(&store, &[root], &[], 2).report.packs_deleted, 0);
    assert_eq!(nominated(&store, &[], &[], 3).report.packs_deleted, 2);
}

#[test]
fn what_cannot_be_read_keeps_everything_of_its_series() {
    let objects = memory();
    let store = snapshots(objects.clone(), 1);
    let mut volume = Volume::new(GIB, 1, 1);
    write_blocks(&mut volume, 0..4, 1);
    let first = snapshot(&store, &mut volume, None);
    write_blocks(&mut volume, 0..4, 9);
    let kept = snapshot(&store, &mut volume, Some(&first));
    let mut other = Volume::new(GIB, 2, 2);
    write_blocks(&mut other, 0..4, 1);
    let other = snapshot(&store, &mut other, None);
    assert_eq!(nominated(&store, &[first, other], &[kept], 0).report.packs_nominated, 4);

    let node = kept.record.pack.object(0);
    let bytes = objects.get(&node).unwrap();
    objects.delete(&node).unwrap();
    let report = nominated(&snapshots(objects.clone(), 2), &[], &[kept], 1).report;
    // The other series goes; this one waits.
    assert_eq!((report.packs_deleted, report.packs_postponed, report.packs_condemned), (2, 2, 2));
    objects.tamper(&node, bytes);
    let unknown = [Ok(kept), Err("the database is away")];
    let refused = collect_nominated(&store, &[], 0, unknown, &policy(3));
    assert!(matches!(refused, Err(Error::Roots { .. })));
    let report = nominated(&snapshots(objects, 3), &[], &[kept], 3).report;
    assert_eq!((report.packs_deleted, report.packs_postponed), (2, 0));
    assert_holds(&store, &kept, &volume.model, &volume.key);
}

#[test]
fn nominations_agree_with_sweeps_in_random_histories() {
    for seed in 0..12 {
        let rng = SeededRng::new(seed);
        let objects = memory();
        let store = snapshots(objects.clone(), seed);
        // Two branches of one series, as of a volume and one created from its snapshot.
        let mut volumes = [Volume::new(GIB, 1, seed), Volume::new(GIB, 1, seed + 100)];
        volumes[0].random_writes(&rng, 20, 20);
        let trunk = snapshot(&store, &mut volumes[0], None);
        volumes[1].model = volumes[0].model.clone();
        let mut last = [trunk, trunk];
        let mut alive: History = vec![(trunk, volumes[0].model.clone())];
        for day in 0..25 {
            let branch = rng.below(2) as usize;
            volumes[branch].random_writes(&rng, 8, 20);
            last[branch] = snapshot(&store, &mut volumes[branch], Some(&last[branch]));
            alive.push((last[branch], volumes[branch].model.clone()));
            let mut deleted = Vec::new();
            while alive.len() > 5 {
                let at = rng.below(alive.len() as u64) as usize;
                if !last.contains(&alive[at].0) {
                    deleted.push(alive.remove(at).0);
                }
            }
            let roots: Vec<SnapshotRoot> = alive.iter().map(|(root, _)| *root).collect();
            let done = nominated(&store, &deleted, &roots, day);
            assert_eq!(done.report.packs_postponed + done.report.roots_postponed, 0);
            let (root, model) = &alive[rng.below(alive.len() as u64) as usize];
            assert_holds(&snapshots(objects.clone(), 9), root, model, &volumes[0].key);
        }
        let roots: Vec<SnapshotRoot> = alive.iter().map(|(root, _)| *root).collect();
        nominated(&store, &[], &roots, 30);
        let before = objects.list("packs").unwrap();
        sweep(&store, &roots, 40);
        let left = sweep(&store, &roots, 42);
        assert_eq!(left, CollectReport::default(), "seed {seed}: a sweep found more");
        assert_eq!(objects.list("packs").unwrap(), before, "seed {seed}");
        for (root, model) in &alive {
            assert_holds(&snapshots(objects.clone(), 9), root, model, &volumes[0].key);
        }
    }
}

/// Has an object that the disk below cannot read, for now.
struct BadSector(Arc<MemoryStore>, String);

impl BadSector {
    fn check(&self, name: &str) -> Result<(), objstore::Error> {
        if name != self.1 {
            return Ok(());
        }
        let (name, source) = (name.to_owned(), "input/output error".into());
        Err(objstore::Error::Transient { operation: "get", name, source })
    }
}

impl ObjectStore for BadSector {
    fn put(&self, name: &str, bytes: Bytes) -> Result<(), objstore::Error> {
        self.0.put(name, bytes)
    }

    fn get(&self, name: &str) -> Result<Bytes, objstore::Error> {
        self.check(name)?;
        self.0.get(name)
    }

    fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes, objstore::Error> {
        self.check(name)?;
        self.0.get_range(name, range)
    }

    fn delete(&self, name: &str) -> Result<(), objstore::Error> {
        self.0.delete(name)
    }

    fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, objstore::Error> {
        self.0.list(prefix)
    }

    fn head(&self, name: &str) -> Result<ObjectMeta, objstore::Error> {
        self.0.head(name)
    }
}

#[test]
fn what_cannot_be_compared_takes_no_place_of_what_can() {
    let objects = memory();
    let store = snapshots(objects.clone(), 1);
    let mut volume = Volume::new(GIB, 1, 1);
    let mut history = Vec::new();
    for stamp in 0..4 {
        write_blocks(&mut volume, 0..4, stamp * 100);
        history.push(snapshot(&store, &mut volume, history.last()));
    }
    let [first, second, third, kept] = history[..] else { panic!("four were made") };
    let mut other = Volume::new(GIB, 2, 2);
    write_blocks(&mut other, 0..4, 1);
    let other = snapshot(&store, &mut other, None);
    let look = |unreadable: &SnapshotRoot, roots_max| {
        let objects = BadSector(objects.clone(), unreadable.record.pack.object(0));
        let deleted = [first, second, third, other];
        let (store, live) = (snapshots(Arc::new(objects), 2), [Ok::<_, Error>(kept)]);
        let done = collect_nominated(&store, &deleted, roots_max, live, &policy(0)).unwrap();
        (done.settled, done.report.roots_postponed)
    };
    // Of one that lives: its series waits, and only that.
    assert_eq!(look(&kept, 1), (vec![3], 3));
    // Of a deleted one: it waits alone.
    assert_eq!(look(&first, 3), (vec![1, 2, 3], 1));
    assert_eq!(look(&first, 1), (vec![1], 1));
}

#[test]
fn a_pack_that_cannot_be_read_keeps_no_other() {
    let objects = memory();
    let store = snapshots(objects.clone(), 1);
    let mut volume = Volume::new(GIB, 1, 1);
    write_blocks(&mut volume, 0..4, 1);
    let first = snapshot(&store, &mut volume, None);
    write_blocks(&mut volume, 0..4, 9);
    let kept = snapshot(&store, &mut volume, Some(&first));
    assert_eq!(nominated(&store, &[first], &[kept], 0).report.packs_nominated, 2);

    let nodes = first.record.pack.object(0);
    let bytes = objects.get(&nodes).unwrap();
    objects.tamper(&nodes, bytes.slice(..bytes.len() - 1));
    let report = nominated(&store, &[], &[kept], 1).report;
    assert_eq!((report.packs_deleted, report.packs_postponed, report.packs_condemned), (1, 1, 1));
    objects.tamper(&nodes, bytes);
    let report = nominated(&store, &[], &[kept], 2).report;
    assert_eq!((report.packs_deleted, report.packs_postponed, report.packs_condemned), (1, 0, 0));
    assert_holds(&snapshots(objects, 3), &kept, &volume.model, &volume.key);
}

#[test]
fn a_look_that_is_not_wanted_any_more_ends_wherever_it_is() {
    let objects = memory();
    let store = snapshots(objects.clone(), 1);
    let Three { volume, first, second, third } = Three::new(&store, 1);
    let live = || [first.0, third.0].map(Ok::<_, Error>);
    let look = |deleted: &[SnapshotRoot], day, is_wanted: &dyn Fn() -> bool| {
        collect_nominated_while(&store, deleted, 1, live(), &policy(day), is_wanted)
    };
    let questions = Questions::default();
    let before = objects.list("").unwrap();
    while matches!(look(&[second], 0, &|| questions.answer()), Err(Error::Cancelled)) {
        assert_eq!(objects.list("").unwrap(), before);
        questions.begin_anew();
    }
    // Of the root, the two it is compared with, and the leaf.
    assert_eq!(questions.wanted_for.get(), 4);
    // Nominated now. It ends when one pack of two is given back.
    let packs = || objects.list("packs").unwrap();
    let untouched = packs();
    let ended = look(&[], 1, &|| packs() == untouched);
    assert!(matches!(ended, Err(Error::Cancelled)));
    let report = nominated(&store, &[], &[first.0, third.0], 1).report;
    assert_eq!((report.packs_deleted + report.packs_rewritten, report.packs_condemned), (1, 0));
    for (root, model) in [&first, &third] {
        assert_holds(&snapshots(objects.clone(), 2), root, model, &volume.key);
    }
}

/// Counts reads.
struct Counted(Arc<MemoryStore>, AtomicU64);

impl ObjectStore for Counted {
    fn put(&self, name: &str, bytes: Bytes) -> Result<(), objstore::Error> {
        self.0.put(name, bytes)
    }

    fn get(&self, name: &str) -> Result<Bytes, objstore::Error> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.get(name)
    }

    fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes, objstore::Error> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.get_range(name, range)
    }

    fn delete(&self, name: &str) -> Result<(), objstore::Error> {
        self.0.delete(name)
    }

    fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, objstore::Error> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.list(prefix)
    }

    fn head(&self, name: &str) -> Result<ObjectMeta, objstore::Error> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.head(name)
    }
}

/// Reads of a collection after the middle of three snapshots of a volume with so many full leaves
/// is deleted, each of which changed one leaf.
fn reads(leaves: u64) -> u64 {
    let objects = memory();
    let store = snapshots(objects.clone(), 1);
    let mut volume = Volume::new(64 * GIB, 1, 1);
    (0..leaves).for_each(|leaf| write_blocks(&mut volume, leaf * 1024..leaf * 1024 + 4, 1));
    let first = snapshot(&store, &mut volume, None);
    write_blocks(&mut volume, 0..2, 5);
    let second = snapshot(&store, &mut volume, Some(&first));
    write_blocks(&mut volume, 0..2, 7);
    let third = snapshot(&store, &mut volume, Some(&second));
    let counted = Arc::new(Counted(objects, AtomicU64::new(0)));
    let store = snapshots(counted.clone(), 2);
    nominated(&store, &[second], &[first, third], 0);
    let report = nominated(&snapshots(counted.clone(), 3), &[], &[first, third], 1).report;
    assert_eq!(report.packs_deleted, 2);
    counted.1.load(Ordering::Relaxed)
}

#[test]
fn the_work_follows_the_change_and_not_the_snapshot() {
    let (small, large) = (reads(2), reads(100));
    assert_eq!(small, large);
    assert!(small < 40, "{small} reads");
}

#[test]
fn the_live_roots_of_a_series_are_read_once_for_all_its_deleted() {
    let objects = memory();
    let store = snapshots(objects.clone(), 1);
    let mut volume = Volume::new(GIB, 1, 1);
    let mut history = Vec::new();
    for stamp in 0..20 {
        write_blocks(&mut volume, 0..1, stamp);
        history.push(snapshot(&store, &mut volume, history.last()));
    }
    let reads = |deleted: &[SnapshotRoot]| {
        let counted = Arc::new(Counted(objects.clone(), AtomicU64::new(0)));
        let done = nominated(&snapshots(counted.clone(), 2), deleted, &history[10..], 0);
        assert_eq!(done.settled.len(), deleted.len());
        counted.1.load(Ordering::Relaxed)
    };
    let (one, ten) = (reads(&history[..1]), reads(&history[..10]));
    // Each has a root record, an inner node and a leaf of its own.
    assert!(ten <= one + 9 * 3 + 2, "{one} {ten}");
}
