//! Snapshots that are moved to the archive and back.

use super::*;
use objstore::{FaultPlan, FaultyStore};

fn job(source: &SnapshotRoot) -> RepackJob<'_> {
    RepackJob { source, resume: None, checkpoint_blocks: CHECKPOINT_BLOCKS, threads: 2 }
}

fn collect_all(store: &SnapshotStore, live: &[SnapshotRoot]) {
    for days in 0..3 {
        let now = START.plus_seconds(days * 86_400);
        let policy = CollectPolicy { now, grace_seconds: 3600, rewrite_below_percent: 50 };
        collect(store, live.iter().map(|root| Ok::<_, Error>(*root)), &policy).unwrap();
    }
}

#[test]
fn the_middle_of_three_goes_to_the_archive_and_comes_back_whole() {
    let (objects, cold_objects) = (memory(), memory());
    let standard = snapshots(objects.clone(), 1);
    let archive = snapshots(cold_objects.clone(), 2);
    let mut volume = Volume::new(GIB, 1, 1);
    let mut history = History::new();
    for seed in 0..3 {
        volume.random_writes(&SeededRng::new(seed), 60, 40);
        let parent = history.last().map(|(root, _)| *root);
        let root = snapshot(&standard, &mut volume, parent.as_ref());
        history.push((root, volume.model.clone()));
    }
    let (middle, model) = history.remove(1);
    let archived = repack(&standard, &archive, &job(&middle), &Unobserved).unwrap();
    // Only now may the standard root go; its neighbours keep what they share with it.
    let neighbours: Vec<_> = history.iter().map(|(root, _)| *root).collect();
    collect_all(&standard, &neighbours);
    for (root, model) in &history {
        assert_holds(&standard, root, model, &volume.key);
    }
    // The archive is self-contained: nothing of the standard store is needed.
    assert_holds(&archive, &archived, &model, &volume.key);
    let restored = repack(&archive, &standard, &job(&archived), &Unobserved).unwrap();
    collect_all(&archive, &[]);
    assert!(cold_objects.list("packs").unwrap().is_empty(), "the archive gives its space back");
    assert_holds(&standard, &restored, &model, &volume.key);
    assert_eq!(restored.full_bytes(), middle.full_bytes());
}

/// The process dies at every call in turn; the next one starts over.
#[test]
fn whenever_it_dies_one_whole_copy_is_there_and_no_other_stays() {
    let standard = snapshots(memory(), 1);
    let mut volume = Volume::new(GIB, 1, 1);
    volume.random_writes(&SeededRng::new(9), 150, 90);
    let root = snapshot(&standard, &mut volume, None);
    let mut deaths = 0;
    for call in 1.. {
        let plan = FaultPlan { crash_at_call: Some(call), ..FaultPlan::default() };
        let faulty = Arc::new(FaultyStore::new(memory(), call, plan));
        let first = repack(&standard, &snapshots(faulty.clone(), 2), &job(&root), &Unobserved);
        assert_holds(&standard, &root, &volume.model, &volume.key);
        if first.is_ok() {
            break;
        }
        deaths += 1;
        faulty.restart(FaultPlan::default());
        let archive = snapshots(faulty.clone(), 3);
        let archived = repack(&standard, &archive, &job(&root), &Unobserved).unwrap();
        collect_all(&archive, &[archived]);
        assert_holds(&archive, &archived, &volume.model, &volume.key);
        let whole = faulty.list("packs").unwrap().len();
        collect_all(&archive, &[]);
        assert!(faulty.list("packs").unwrap().is_empty());
        assert!(whole <= 4, "half of another copy stayed: {whole} packs");
    }
    assert!(deaths > 3, "only {deaths} deaths");
}
