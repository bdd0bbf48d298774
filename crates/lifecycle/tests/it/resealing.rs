//! Bases under another key, sealed anew while their volumes are read.

use super::moving::{BLOCK, Place, Watcher, of_root, stamp};
use base::{OsRng, Secret, VolumeId};
use lifecycle::BandwidthLimits;
use lifecycle::port::blocks::{
    BaseRoot, BlockError, Blocks, ExportCut, ResealBase, Resealed, Root, VolumeBlocks,
};

const OWN_KEY: [u8; 64] = [4; 64];
const BASE_KEY: [u8; 64] = [3; 64];

fn reseal(place: &Place, id: &VolumeId, root: &Root) -> ResealBase {
    ResealBase {
        volume: place.blocks_of(id, Some(root.clone())),
        base_key: Secret::new(BASE_KEY),
        volume_key: Secret::new(OWN_KEY),
        rate_mib: None,
        resume: None,
    }
}

#[tokio::test]
async fn a_base_is_sealed_anew_under_an_open_volume() {
    let place = Place::new(&BandwidthLimits::new());
    let stored = place.snapshot(600).await;
    let id = VolumeId::generate(&OsRng);
    let mut job = reseal(&place, &id, &stored.root);
    let mut request = place.request(&id, Some(of_root(stored.root.clone())));
    request.key = Secret::new(OWN_KEY);
    request.base_key = Some(Secret::new([9; 64]));
    assert!(matches!(place.cell().open(&request), Err(BlockError::Damaged(_))), "a wrong key");
    request.base_key = Some(Secret::new(BASE_KEY));
    let handle = place.cell().open(&request).unwrap();
    assert_eq!(handle.read(7 * BLOCK, 4096).unwrap(), stamp(7));
    handle.write(8 * BLOCK, stamp(1000).to_vec()).unwrap();

    // Stopped after a checkpoint, it goes on from there.
    let first = Watcher { stop_after: Some(1), ..Watcher::default() };
    let stopped = place.cells.reseal_base(&job, &first).await;
    assert!(matches!(stopped, Err(BlockError::Unavailable(_))), "{stopped:?}");
    job.resume = Some(first.saved.lock().unwrap().remove(0).state);
    assert_eq!(handle.read(9 * BLOCK, 4096).unwrap(), stamp(9));
    let second = Watcher::default();
    let Resealed::Wholly(own) = place.cells.reseal_base(&job, &second).await.unwrap() else {
        panic!("a few blocks take no turn");
    };
    assert!(second.least_percent.load(std::sync::atomic::Ordering::SeqCst) >= 256 * 100 / 600);
    assert_eq!(own.full_bytes, stored.full_bytes);

    let base = BaseRoot { root: own.root, first: Some(stored.root) };
    let volume = VolumeBlocks { base: Some(base.clone()), ..job.volume };
    place.cells.switch_base(&volume).await.unwrap();
    // The base's key is forgotten, so this comes from the new base.
    for block in [0, 7, 9, 255, 256, 599] {
        assert_eq!(handle.read(block * BLOCK, 4096).unwrap(), stamp(block), "{block}");
    }
    handle.close().unwrap();

    // Its log knows its base by the first name, under which alone it opens.
    request.base = Some(base);
    request.base_key = None;
    let handle = place.cell().open(&request).unwrap();
    assert_eq!(handle.read(8 * BLOCK, 4096).unwrap(), stamp(1000));
    assert_eq!(handle.read(10 * BLOCK, 4096).unwrap(), stamp(10));
    handle.close().unwrap();
    let snapshot = base::SnapshotId::generate(&OsRng);
    place.cells.cut(&volume, &snapshot).await.unwrap();
    let export = ExportCut { volume, snapshot, parent_root: None, resume: None, plain_key: None };
    let made = place.cells.export(&export, &Watcher::default()).await.unwrap();
    let mut copy = place.request(&VolumeId::generate(&OsRng), Some(of_root(made.root)));
    copy.key = Secret::new(OWN_KEY);
    let copy = place.cell().open(&copy).unwrap();
    assert_eq!(copy.read(8 * BLOCK, 4096).unwrap(), stamp(1000));
    assert_eq!(copy.read(599 * BLOCK, 4096).unwrap(), stamp(599));
}

#[tokio::test]
async fn a_base_is_sealed_anew_at_its_rate_in_turns() {
    let place = Place::new(&BandwidthLimits::new());
    let stored = place.snapshot(1500).await;
    let mut job = reseal(&place, &VolumeId::generate(&OsRng), &stored.root);
    job.rate_mib = Some(200);
    let (mut turns, begun) = (0, tokio::time::Instant::now());
    loop {
        let watcher = Watcher::default();
        let resealed = place.cells.reseal_base(&job, &watcher).await.unwrap();
        job.resume = watcher.saved.lock().unwrap().pop().map(|saved| saved.state);
        match resealed {
            Resealed::Wholly(own) => break assert_eq!(own.full_bytes, stored.full_bytes),
            Resealed::UpTo { percent } => assert!((20..100).contains(&percent), "{percent}"),
        }
        turns += 1;
    }
    assert!((1..3).contains(&turns), "{turns}");
    // 750 MiB at 200 MiB/s, less what may come at once in each turn.
    assert!(begun.elapsed().as_millis() >= 3000, "{:?}", begun.elapsed());
}
