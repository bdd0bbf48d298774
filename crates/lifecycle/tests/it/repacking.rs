//! Snapshots moved into the archive and out of it, on real stores.

use super::moving::{BLOCK, Place, Watcher, damage_largest, packs, stamp};
use base::{ManualClock, OsRng, Timestamp, VolumeId};
use blockstore::snapshot::{CollectPolicy, Floor, SnapshotRoot, collect};
use ebs::StorageTier;
use lifecycle::cells::{Cell, Cells};
use lifecycle::jobs::JobError;
use lifecycle::port::blocks::{
    BlockError, Blocks, PinTwin, Pinned, Repack, Repacked, Root, Stored,
};
use lifecycle::{BandwidthLimits, MoverKind, Trouble};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::time::Instant;

fn repack(place: &Place, root: &Root, to: StorageTier) -> Repack {
    Repack { region: place.region.clone(), root: root.clone(), to, resume: None }
}

/// Takes turns until it is done; answers also how many.
async fn moved(place: &Place, mut job: Repack) -> (Stored, u32) {
    let mut turns = 1;
    loop {
        let watcher = Watcher::default();
        let repacked = place.cells.repack(&job, &watcher).await.unwrap();
        match repacked {
            Repacked::Wholly(stored) => return (stored, turns),
            Repacked::InPart => turns += 1,
        }
        job.resume = watcher.saved.lock().unwrap().pop().map(|saved| saved.state);
    }
}

fn assert_holds(place: &Place, root: &Root, blocks: u64) {
    let base = super::moving::of_root(root.clone());
    let handle = place.cell().open(&place.request(&VolumeId::generate(&OsRng), Some(base)));
    let handle = handle.unwrap();
    for block in [0, 1, blocks / 2, blocks - 1] {
        assert_eq!(handle.read(block * BLOCK, 4096).unwrap(), stamp(block), "{block}");
    }
    handle.close().unwrap();
}

#[tokio::test]
async fn a_snapshot_goes_to_the_archive_and_back_in_turns_at_its_bandwidth() {
    let place = Place::new(&BandwidthLimits::from([(MoverKind::Archive, 300 << 20)]));
    let stored = place.snapshot(800).await;
    let begun = Instant::now();
    let (archived, turns) = moved(&place, repack(&place, &stored.root, StorageTier::Archive)).await;
    // 400 MiB are written and then read at 300 MiB/s, less what may come at once in each turn.
    assert!(turns > 1 && begun.elapsed().as_millis() >= 2200, "{turns} {:?}", begun.elapsed());
    assert_eq!(archived.full_bytes, stored.full_bytes);
    let (back, _) = moved(&place, repack(&place, &archived.root, StorageTier::Standard)).await;
    assert_eq!(back.full_bytes, stored.full_bytes);
    assert_holds(&place, &back.root, 800);
    // Nothing was stored twice: what is in the archive is as much as the snapshot was.
    let size = |name: &str| packs(&place.directory.path().join(name));
    let (objects, archive) = (size("objects"), size("archive"));
    assert!(objects.abs_diff(2 * archive) * 50 < objects, "{objects} {archive}");
}

#[tokio::test]
async fn it_goes_on_wherever_it_was_stopped() {
    let place = Place::new(&BandwidthLimits::new());
    let stored = place.snapshot(600).await;
    let mut job = repack(&place, &stored.root, StorageTier::Archive);
    let mut percents = Vec::new();
    let archived = loop {
        let watcher = Watcher { stop_after: Some(1), ..Watcher::default() };
        let repacked = place.cells.repack(&job, &watcher).await;
        percents.push(watcher.least_percent.load(Ordering::SeqCst));
        if let Some(saved) = watcher.saved.lock().unwrap().pop() {
            job.resume = Some(saved.state);
        }
        match repacked {
            Ok(Repacked::Wholly(archived)) => break archived,
            Ok(Repacked::InPart) => {}
            Err(BlockError::Unavailable(_)) => assert!(percents.len() < 20, "{percents:?}"),
            Err(error) => panic!("{error}"),
        }
    };
    assert!(percents.len() > 3 && percents.is_sorted(), "{percents:?}");
    assert!(percents.last() > Some(&80), "{percents:?}");
    let (back, _) = moved(&place, repack(&place, &archived.root, StorageTier::Standard)).await;
    assert_holds(&place, &back.root, 600);
    // Whole in one pack after the other: what was begun and stopped does not count.
    let root = SnapshotRoot::from_bytes(&archived.root).unwrap();
    // Listing needs a thread without a runtime.
    let unused = std::thread::scope(|scope| scope.spawn(|| unused_packs(&place, root)).join());
    let unused = unused.unwrap();
    assert!(unused < 12, "{unused} packs were made for nothing");
}

/// Packs that collections delete when the archive holds one snapshot.
fn unused_packs(place: &Place, root: SnapshotRoot) -> u64 {
    let collected = (0..3).map(|days| {
        let now = Timestamp(1_800_000_000_000).plus_seconds(days * 86_400);
        let policy = CollectPolicy { now, grace_seconds: 3600, rewrite_below_percent: 0 };
        let live = [Ok::<_, Infallible>(root)];
        collect(&place.cell().archive, live, &[], &policy).unwrap().packs_deleted
    });
    collected.sum()
}

#[tokio::test]
async fn damage_on_either_side_is_said() {
    let place = Place::new(&BandwidthLimits::new());
    let stored = place.snapshot(20).await;
    let job = repack(&place, &stored.root, StorageTier::Archive);
    let (archived, _) = moved(&place, job.clone()).await;
    for (folder, job) in
        [("archive", repack(&place, &archived.root, StorageTier::Standard)), ("objects", job)]
    {
        damage_largest(&place.directory.path().join(folder));
        let repacked = place.cells.repack(&job, &Watcher::default()).await;
        assert!(matches!(repacked, Err(BlockError::Damaged(_))), "{folder}: {repacked:?}");
    }
}

/// Volumes that leave nothing for anybody.
struct Greedy;

impl Floor for Greedy {
    fn bytes(&self) -> u64 {
        u64::MAX
    }

    fn refused(&self) {}

    fn admitted(&self) {}
}

#[tokio::test]
async fn a_snapshot_for_which_there_is_no_room_waits_for_it() {
    let place = Place::new(&BandwidthLimits::default());
    let stored = place.snapshot(3).await;
    let cell = place.cell();
    let archive = cell.archive.leaving(Arc::new(Greedy));
    let full = Cell::new(cell.live.clone(), cell.snapshots.clone(), archive, cell.twins.clone());
    let clock = Arc::new(ManualClock::new(Timestamp(1_800_000_000_000)));
    let cells =
        Cells::new([(place.region.clone(), full)].into(), clock, &BandwidthLimits::default());
    let job = repack(&place, &stored.root, StorageTier::Archive);
    let refused = cells.repack(&job, &Watcher::default()).await.unwrap_err();
    assert!(matches!(refused, BlockError::NoRoom(_)) && refused.is_transient(), "{refused:?}");
    // However often it is tried, it is not given up for that.
    let outcome = JobError::from(Trouble::from(refused));
    assert!(matches!(outcome, JobError::Waiting { .. }), "{outcome:?}");
    moved(&place, job).await;
}

#[tokio::test]
async fn a_twin_is_made_in_turns_at_its_bandwidth_and_is_enough_for_a_volume() {
    let place = Place::new(&BandwidthLimits::from([(MoverKind::FastRestore, 250 << 20)]));
    let stored = place.snapshot(600).await;
    let (begun, mut turns) = (Instant::now(), 0);
    let mut pin = PinTwin { region: place.region.clone(), root: stored.root.clone(), resume: None };
    let twin = loop {
        turns += 1;
        let watcher = Watcher::default();
        match place.cells.pin_twin(&pin, &watcher).await.unwrap() {
            Pinned::Wholly(twin) => break twin,
            Pinned::InPart => {}
            Pinned::NoRoom => panic!("there is room"),
        }
        pin.resume = watcher.saved.lock().unwrap().pop().map(|saved| saved.state);
    };
    // 300 MiB are written and then read at 250 MiB/s, less what may come at once in each turn.
    assert!(turns > 1 && begun.elapsed().as_millis() >= 2000, "{turns} {:?}", begun.elapsed());
    assert_eq!(twin.full_bytes, stored.full_bytes);
    // Nothing of the snapshot's own store is needed any more.
    let objects = place.directory.path().join("objects");
    std::fs::rename(objects.join("packs"), objects.join("gone")).unwrap();
    let base = super::moving::of_root(stored.root);
    let mut request = place.request(&VolumeId::generate(&OsRng), Some(base));
    request.twin = Some(twin.root);
    let handle = place.cell().open(&request).unwrap();
    for block in [0, 1, 300, 599] {
        assert_eq!(handle.read(block * BLOCK, 4096).unwrap(), stamp(block), "{block}");
    }
    handle.close().unwrap();
}
