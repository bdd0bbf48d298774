//! Collections: all that is unused goes, nothing else does.

use super::*;

/// Condemns and then deletes.
fn run_twice(store: &SnapshotStore, roots: &[SnapshotRoot], days: i64) -> CollectReport {
    sweep(store, roots, days);
    sweep(store, roots, days + 1)
}

fn stored_bytes(objects: &MemoryStore) -> u64 {
    objects.list("packs").unwrap().iter().map(|meta| meta.size).sum()
}

fn write_blocks(volume: &mut Volume, blocks: Range<u64>, stamp: u64) {
    write_pages(volume, 8, blocks, stamp);
}

#[test]
fn deleting_the_middle_of_three_frees_only_what_it_alone_had() {
    let objects = memory();
    let store = snapshots(objects.clone(), 1);
    let Three { volume, first, second, third } = Three::new(&store, 8);

    assert_eq!(run_twice(&store, &[first.0, second, third.0], 0), CollectReport::default());
    let before = stored_bytes(&objects);
    let report = run_twice(&store, &[first.0, third.0], 2);
    // Blocks 20..30 of the second snapshot and its nodes; 10..20 live on in the third.
    let unique = 10 * 8 * PAGE_BYTES as u64;
    assert!(report.bytes_reclaimed >= unique && report.bytes_reclaimed < unique + 20_000);
    assert_eq!(stored_bytes(&objects), before - report.bytes_reclaimed);
    assert_eq!((report.packs_rewritten, report.packs_postponed), (1, 0));
    for (root, model) in [&first, &third] {
        // A new store, so that nothing comes out of a cache.
        let store = snapshots(objects.clone(), 2);
        assert_holds(&store, root, model, &volume.key);
        verify(&store, root, Some(&volume.key)).unwrap();
        assert_holds(&snapshots(objects.clone(), 3), root, model, &volume.key);
    }
    assert_eq!(run_twice(&store, &[first.0, third.0], 5), CollectReport::default());
    let gone = SnapshotReader::open(&snapshots(objects, 2), &second);
    assert!(matches!(gone, Err(Error::Missing { .. })));
}

#[test]
fn a_root_shared_by_several_lives_as_long_as_one_of_them() {
    let objects = memory();
    let store = snapshots(objects.clone(), 1);
    let mut volume = Volume::new(GIB, 1, 1);
    write_blocks(&mut volume, 0..4, 1);
    let root = snapshot(&store, &mut volume, None);
    run_twice(&store, &[root, root], 0);
    run_twice(&store, &[root], 2);
    assert_holds(&store, &root, &volume.model, &volume.key);
    let report = run_twice(&store, &[], 4);
    assert_eq!(report.packs_deleted, 2);
    assert_eq!(stored_bytes(&objects), 0);
}

#[test]
fn nothing_goes_before_its_grace_is_over() {
    let objects = memory();
    let store = snapshots(objects.clone(), 1);
    let mut volume = Volume::new(GIB, 1, 1);
    write_blocks(&mut volume, 0..4, 1);
    let root = snapshot(&store, &mut volume, None);
    assert_eq!(sweep(&store, &[], 0).packs_condemned, 2);
    let early = CollectPolicy { now: START.plus_seconds(DAY - 1), ..policy(0) };
    let report = collect(&store, std::iter::empty::<Result<_, Error>>(), &[], &early).unwrap();
    assert_eq!((report.packs_deleted, report.packs_condemned), (0, 2));
    assert_holds(&store, &root, &volume.model, &volume.key);

    // In use again in between: the clock starts anew.
    assert_eq!(sweep(&store, &[root], 1), CollectReport::default());
    assert_eq!(sweep(&store, &[], 1).packs_deleted, 0);
    assert_holds(&store, &root, &volume.model, &volume.key);
    assert_eq!(sweep(&store, &[], 2).packs_deleted, 2);
}

#[test]
fn what_is_used_again_is_not_dropped_with_what_is_not() {
    let objects = memory();
    let store = snapshots(objects.clone(), 1);
    let mut volume = Volume::new(GIB, 1, 1);
    write_blocks(&mut volume, 0..30, 1_000);
    let first = snapshot(&store, &mut volume, None);
    write_blocks(&mut volume, 0..10, 2_000);
    let second = (snapshot(&store, &mut volume, Some(&first)), volume.model.clone());
    write_blocks(&mut volume, 10..20, 3_000);
    let third = (snapshot(&store, &mut volume, Some(&second.0)), volume.model.clone());
    // Condemned while only the third was known: blocks 0..20 of the first.
    sweep(&store, &[third.0], 0);
    // When the time is over, the second is known again and needs 10..20.
    let report = sweep(&store, &[second.0, third.0], 1);
    assert_eq!(report.packs_rewritten, 1);
    for (root, model) in [&second, &third] {
        assert_holds(&snapshots(objects.clone(), 2), root, model, &volume.key);
    }
}

#[test]
fn a_first_collection_never_deletes_even_without_grace() {
    let store = snapshots(memory(), 1);
    let mut volume = Volume::new(GIB, 1, 1);
    write_blocks(&mut volume, 0..4, 1);
    let root = snapshot(&store, &mut volume, None);
    let hasty = CollectPolicy { grace_seconds: 0, ..policy(0) };
    let none = std::iter::empty::<Result<_, Error>>;
    assert_eq!(collect(&store, none(), &[], &hasty).unwrap().packs_deleted, 0);
    assert_holds(&store, &root, &volume.model, &volume.key);
    assert_eq!(collect(&store, none(), &[], &hasty).unwrap().packs_deleted, 2);
}

#[test]
fn an_unreadable_root_or_manifest_stops_everything() {
    let objects = memory();
    let store = snapshots(objects.clone(), 1);
    let mut volume = Volume::new(GIB, 1, 1);
    write_blocks(&mut volume, 0..4, 1);
    let kept = snapshot(&store, &mut volume, None);
    snapshot(&store, &mut Volume::new(GIB, 1, 2), None);
    sweep(&store, &[kept], 0);
    let before = objects.list("").unwrap();

    let unknown = [Ok(kept), Err("the database is away")];
    let refused = collect(&store, unknown, &[], &policy(3));
    assert!(matches!(refused, Err(Error::Roots { .. })));
    assert_eq!(objects.list("").unwrap(), before);

    let node = kept.record.pack.object(0);
    let bytes = objects.get(&node).unwrap();
    objects.delete(&node).unwrap();
    let refused = collect(&snapshots(objects.clone(), 2), [Ok::<_, Error>(kept)], &[], &policy(3));
    assert!(matches!(refused, Err(Error::Missing { .. })));
    objects.tamper(&node, bytes);
    assert_eq!(objects.list("").unwrap().len(), before.len());
    assert_eq!(sweep(&store, &[kept], 3).packs_deleted, 1);
}

#[test]
fn a_sweep_that_is_not_wanted_any_more_ends_wherever_it_is() {
    let objects = memory();
    let store = snapshots(objects.clone(), 1);
    let Three { volume, first, second, third } = Three::new(&store, 8);
    let sweep_while = |deleted: &[SnapshotRoot], day, is_wanted: &dyn Fn() -> bool| {
        let live = [first.0, third.0].map(Ok::<_, Error>);
        collect_while(&store, live, deleted, &policy(day), is_wanted)
    };
    let questions = Questions::default();
    let before = objects.list("").unwrap();
    while matches!(sweep_while(&[second], 0, &|| questions.answer()), Err(Error::Cancelled)) {
        assert_eq!(objects.list("").unwrap(), before);
        questions.begin_anew();
    }
    // Of three roots with a leaf each, the parts of the list, and two packs of each snapshot.
    assert_eq!(questions.wanted_for.get(), 3 * 2 + 256 + 3 * 2);

    assert_eq!(sweep(&store, &[first.0, third.0], 1).packs_condemned, 2);
    // It ends when one pack of two is given back.
    let packs = || objects.list("packs").unwrap();
    let untouched = packs();
    let ended = sweep_while(&[], 2, &|| packs() == untouched);
    assert!(matches!(ended, Err(Error::Cancelled)));
    let report = sweep(&store, &[first.0, third.0], 2);
    assert_eq!((report.packs_deleted + report.packs_rewritten, report.packs_condemned), (1, 0));
    for (root, model) in [&first, &third] {
        assert_holds(&snapshots(objects.clone(), 2), root, model, &volume.key);
    }
}

#[test]
fn a_damaged_item_is_not_copied_and_its_pack_stays() {
    let objects = memory();
    let store = snapshots(objects.clone(), 1);
    let mut volume = Volume::new(GIB, 1, 1);
    write_blocks(&mut volume, 0..8, 1);
    let first = snapshot(&store, &mut volume, None);
    write_blocks(&mut volume, 0..7, 9);
    let second = snapshot(&store, &mut volume, Some(&first));
    sweep(&store, &[second], 0);

    let reader = SnapshotReader::open(&store, &second).unwrap();
    let content = reader.content(7).unwrap().unwrap().to_bytes();
    let pack = super::super::pack::PackId(content[..16].try_into().unwrap());
    let good = objects.get(&pack.object(0)).unwrap();
    let mut bad = good.to_vec();
    let item = store.directory(pack, 0).unwrap().entry(content[16]).unwrap().offset as usize;
    bad[item + 5_000] ^= 1;
    objects.tamper(&pack.object(0), bad.into());
    let report = sweep(&store, &[second], 1);
    assert_eq!((report.packs_rewritten, report.packs_postponed), (0, 1));
    objects.tamper(&pack.object(0), good);
    assert_eq!(sweep(&store, &[second], 2).packs_rewritten, 1);
    assert_holds(&store, &second, &volume.model, &volume.key);
}

#[test]
fn an_open_session_keeps_what_it_wrote() {
    let objects = memory();
    let store = snapshots(objects.clone(), 1);
    let key = key(1);
    let spec = SessionSpec {
        name: "snap-1".to_owned(),
        volume_bytes: GIB,
        parent: None,
        key_check: key.check_value(),
    };
    let session = DirectSession::open(&store, spec.clone()).unwrap();
    session.put_block(3, &block_of(1), None, &key).unwrap();
    run_twice(&store, &[], 0);
    let session = DirectSession::open(&store, spec).unwrap();
    assert_eq!(*session.read_block(3, &key).unwrap().unwrap().bytes, block_of(1));
    release_session(&store, "snap-1").unwrap();
    assert_eq!(run_twice(&store, &[], 5).packs_deleted, 1);
    assert_eq!(stored_bytes(&objects), 0);
}

#[test]
fn random_histories_of_snapshots_and_deletions() {
    for seed in 0..5 {
        let rng = SeededRng::new(seed);
        let objects = memory();
        let store = snapshots(objects.clone(), seed);
        let mut volume = Volume::new(GIB, 1, seed);
        let mut alive: History = Vec::new();
        let mut last = None;
        for day in 0..20 {
            volume.random_writes(&rng, 10, 20);
            let root = snapshot(&store, &mut volume, last.as_ref());
            last = Some(root);
            alive.push((root, volume.model.clone()));
            while alive.len() > 4 {
                // Never the last: the next export starts from it.
                alive.remove(rng.below(alive.len() as u64 - 1) as usize);
            }
            let roots: Vec<SnapshotRoot> = alive.iter().map(|(root, _)| *root).collect();
            assert_eq!(sweep(&store, &roots, day).packs_postponed, 0);
            let (root, model) = &alive[rng.below(alive.len() as u64) as usize];
            assert_holds(&snapshots(objects.clone(), 9), root, model, &volume.key);
        }
        let roots: Vec<SnapshotRoot> = alive.iter().map(|(root, _)| *root).collect();
        sweep(&store, &roots, 30);
        sweep(&store, &roots, 31);
        assert_only_reachable(&store, &objects, &roots);
        for (root, model) in &alive {
            assert_holds(&store, root, model, &volume.key);
        }
    }
}

/// Every item stored is one that a root names, found by another way than the collection's.
fn assert_only_reachable(store: &SnapshotStore, objects: &MemoryStore, roots: &[SnapshotRoot]) {
    use super::super::pack::{PackId, PackKind};
    let mut named: BTreeSet<[u8; 17]> = BTreeSet::new();
    for root in roots {
        let reader = SnapshotReader::open(store, root).unwrap();
        let blocks = reader.list_blocks(0, LIST_BLOCKS_MAX).unwrap().blocks;
        named.extend(blocks.iter().map(|block| block.content.to_bytes()));
    }
    for meta in objects.list("packs").unwrap() {
        let (pack, revision) = PackId::parse_object(&meta.name).unwrap();
        let directory = store.directory(pack, revision).unwrap();
        for entry in directory.entries.iter().filter(|_| directory.kind == PackKind::Frames) {
            let mut id = [0; 17];
            id[..16].copy_from_slice(&pack.0);
            id[16] = entry.slot;
            assert!(named.contains(&id), "{} slot {} is unused", meta.name, entry.slot);
        }
    }
}
