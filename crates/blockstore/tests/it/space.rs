//! Space: what is given back, what is refused, and how much memory a volume of 64 TiB takes.

use base::{OsRng, Rng, Secret, SeededRng, VolumeId};
use blockstore::live::{CutId, EngineConfig, Error, OpenOptions, VolumeOptions};
use blockstore::page::{DataKey, PAGE_BYTES};
use blockstore::store::{
    SpaceLevel, SpaceLimits, SpaceReport, SpaceWatcher, Store, StoreConfig, StoreError,
    VolumeHandle,
};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;

const MIB: u64 = 1 << 20;

#[derive(Default)]
struct Levels(Mutex<Vec<SpaceLevel>>);

impl SpaceWatcher for Levels {
    fn space_changed(&self, report: SpaceReport) {
        self.0.lock().unwrap().push(report.level);
    }
}

fn store(engine: EngineConfig, capacity_bytes: Option<u64>) -> (TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let space = SpaceLimits { capacity_bytes, reserve_bytes: 0, low_percent: 30 };
    let config = StoreConfig { engine, space, ..StoreConfig::server() };
    let store = Store::open(folder.path(), Secret::new([9; 32]), Arc::new(OsRng), config).unwrap();
    (folder, store)
}

fn volume(store: &Store, name: &str, size_bytes: u64) -> VolumeId {
    let id = VolumeId::parse(name).unwrap();
    let options = VolumeOptions { size_bytes, key_check: None, base: None };
    store.create_volume(&id, &options).unwrap();
    id
}

fn open(store: &Store, id: &VolumeId) -> VolumeHandle {
    let data_key = Some(DataKey::new(&Secret::new([3; 64])));
    store.open_volume(id, OpenOptions { data_key, base: None, writer: None }).unwrap()
}

/// Bytes the volumes' files take. Their tails have their space from the start and are not counted.
fn allocated(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder.join("volumes")).unwrap().map(Result::unwrap);
    let volumes = entries.filter(|entry| entry.path().extension().is_some_and(|e| e == "log"));
    volumes.map(|entry| entry.metadata().unwrap().blocks() * 512).sum()
}

fn noise(rng: &SeededRng, length: u64) -> Vec<u8> {
    let mut bytes = vec![0; length as usize];
    rng.fill(&mut bytes);
    bytes
}

#[test]
fn writes_beyond_the_space_are_refused_and_nothing_else_is() {
    let capacity = 24 * MIB;
    let (folder, store) = store(EngineConfig::tiny(), Some(capacity));
    let levels = Arc::new(Levels::default());
    store.watch_space(Arc::clone(&levels) as Arc<dyn SpaceWatcher>);
    let id = volume(&store, "vol-0000000a", 64 * MIB);
    let handle = open(&store, &id);
    let rng = SeededRng::new(1);
    let mut stored = Vec::new();
    let refusal = loop {
        let bytes = noise(&rng, MIB);
        match handle.write(stored.len() as u64 * MIB, bytes.clone()) {
            Ok(()) => stored.push(bytes),
            Err(error) => break error,
        }
    };
    assert!(matches!(refusal, StoreError::Volume(Error::Full)), "{refusal:?}");
    // The owner was warned while most of the space was still there to be used.
    assert_eq!(*levels.0.lock().unwrap(), [SpaceLevel::Low, SpaceLevel::Full]);
    assert!((11..18).contains(&stored.len()), "{} MiB of {capacity}", stored.len());
    handle.flush().unwrap();
    assert!(allocated(folder.path()) <= capacity);
    // What is smaller may still fit, until nothing does: then a cut, which keeps what is
    // overwritten, is refused as well.
    let small = (0..10_000).map(|at| handle.write(40 * MIB + at * 4096, noise(&rng, 4096)));
    let refusal = small.filter_map(Result::err).next();
    assert!(matches!(refusal, Some(StoreError::Volume(Error::Full))), "{refusal:?}");
    let cut = store.cut(&id, CutId::new("snap-1").unwrap());
    assert!(matches!(cut, Err(StoreError::Volume(Error::Full))), "{cut:?}");
    for (at, bytes) in (0..).zip(&stored) {
        assert_eq!(handle.read(at * MIB, MIB as usize).unwrap(), *bytes);
    }
    // Another volume of the store does not get what this one was refused.
    let other = open(&store, &volume(&store, "vol-0000000b", 64 * MIB));
    assert!(other.write(0, noise(&rng, 4 * MIB)).is_err());
    other.close().unwrap();
    handle.discard(0, 8 * MIB).unwrap();
    handle.write(0, noise(&rng, 4 * MIB)).unwrap();
    store.cut(&id, CutId::new("snap-1").unwrap()).unwrap();
    handle.close().unwrap();
    let handle = open(&store, &id);
    for (at, bytes) in (8..).zip(&stored[8..]) {
        assert_eq!(handle.read(at * MIB, MIB as usize).unwrap(), *bytes);
    }
    assert!(handle.read(4 * MIB, MIB as usize).unwrap().iter().all(|byte| *byte == 0));
}

/// What cuts keep and discards leave to be merged is asked for as writes are.
#[test]
fn cuts_and_discards_alone_do_not_outgrow_the_space() {
    let capacity = 8 * MIB;
    let (folder, store) = store(EngineConfig::tiny(), Some(capacity));
    let id = volume(&store, "vol-0000000a", 256 * MIB);
    let handle = open(&store, &id);
    let rng = SeededRng::new(6);
    // A page in every block, so that each discard dirties a leaf of its own.
    let blocks = 512;
    for block in 0..blocks {
        handle.write(block * MIB / 2, noise(&rng, 4096)).unwrap();
    }
    let (mut cuts, mut refused) = (Vec::new(), 0);
    for round in 0..400 {
        let block = rng.below(blocks);
        let discarded = handle.discard(block * MIB / 2, 4096);
        refused += u64::from(matches!(discarded, Err(StoreError::Volume(Error::Full))));
        handle.flush().unwrap();
        let cut = CutId::new(&format!("snap-{round}")).unwrap();
        match store.cut(&id, cut) {
            Ok(_) => cuts.push(cut),
            Err(StoreError::Volume(Error::Full | Error::TooManyCuts { .. })) => refused += 1,
            Err(error) => panic!("{error:?}"),
        }
        if cuts.len() > 40 {
            store.drop_cut(&id, cuts.remove(0)).unwrap();
        }
        assert!(allocated(folder.path()) <= capacity, "round {round}");
    }
    assert!(refused > 0);
    for cut in cuts {
        store.drop_cut(&id, cut).unwrap();
    }
    store.with(&id, |engine| engine.checkpoint().and_then(|()| engine.check())).unwrap();
    for at in 0..8 {
        handle.write(at * 4096, noise(&rng, 4096)).unwrap();
    }
}

/// Three quarters of the space are live; the rest is enough to overwrite all of it for ever.
#[test]
fn a_volume_that_fits_is_overwritten_again_and_again() {
    let capacity = 48 * MIB;
    let (folder, store) = store(EngineConfig::tiny(), Some(capacity));
    let id = volume(&store, "vol-0000000a", 32 * MIB);
    let handle = open(&store, &id);
    let rng = SeededRng::new(2);
    for at in 0..256 {
        handle.write(at * MIB / 8, noise(&rng, MIB / 8)).unwrap();
    }
    let pages = 32 * MIB / PAGE_BYTES as u64;
    let mut newest = vec![None; pages as usize];
    for number in 0..5 * pages {
        let page = rng.below(pages);
        let mut bytes = vec![5; PAGE_BYTES];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        handle.write(page * PAGE_BYTES as u64, bytes).unwrap();
        newest[page as usize] = Some(number);
    }
    handle.flush().unwrap();
    assert!(allocated(folder.path()) <= capacity);
    for (page, number) in (0..).zip(newest) {
        let Some(number) = number else { continue };
        let bytes = handle.read(page * PAGE_BYTES as u64, 8).unwrap();
        assert_eq!(bytes, number.to_le_bytes());
    }
    store.with(&id, |engine| engine.checkpoint().and_then(|()| engine.check())).unwrap();
}

#[test]
fn discarded_space_is_given_back_while_the_volume_is_attached_and_idle() {
    let (folder, store) = store(EngineConfig::tiny(), None);
    let id = volume(&store, "vol-0000000a", 64 * MIB);
    let handle = open(&store, &id);
    let rng = SeededRng::new(3);
    for at in 0..32 {
        handle.write(at * MIB, noise(&rng, MIB)).unwrap();
    }
    handle.flush().unwrap();
    assert!(allocated(folder.path()) >= 32 * MIB);
    handle.discard(0, 64 * MIB).unwrap();
    // Nobody asks for anything; the volume's thread does it by itself.
    let tries = 0..200;
    let given_back = tries.into_iter().any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        allocated(folder.path()) < 2 * MIB
    });
    assert!(given_back, "{} bytes are left", allocated(folder.path()));
    assert!(handle.read(0, MIB as usize).unwrap().iter().all(|byte| *byte == 0));
}

/// With the sizes of a server: what is discarded is less than what makes a busy volume checkpoint.
#[test]
fn a_guest_that_discards_and_falls_silent_keeps_no_space() {
    let folder = tempfile::tempdir().unwrap();
    let idle = Duration::from_millis(50);
    let config = StoreConfig { idle, ..StoreConfig::server() };
    let store = Store::open(folder.path(), Secret::new([9; 32]), Arc::new(OsRng), config).unwrap();
    let id = volume(&store, "vol-0000000a", 1 << 30);
    let handle = open(&store, &id);
    for at in 0..200 {
        handle.write(at * MIB, vec![7; MIB as usize]).unwrap();
    }
    handle.flush().unwrap();
    assert!(allocated(folder.path()) >= 200 * MIB);
    handle.discard(0, 200 * MIB).unwrap();
    handle.flush().unwrap();
    // The segment that is being filled stays.
    let given_back = (0..200).any(|_| {
        std::thread::sleep(idle);
        allocated(folder.path()) < 2 * 64 * MIB
    });
    assert!(given_back, "{} bytes are left", allocated(folder.path()));
    let epoch = || store.with(&id, |engine| Ok(engine.epoch())).unwrap();
    let before = epoch();
    std::thread::sleep(10 * idle);
    assert_eq!(epoch(), before, "an idle volume has nothing to store");
}

/// Cleaning waits for a pause, but not for ever: what a volume takes is bounded by its live data.
#[test]
fn a_guest_that_never_pauses_is_cleaned_for_in_time() {
    const LIVE: u64 = 8 * MIB;
    let (_folder, store) = store(EngineConfig::tiny(), None);
    let id = volume(&store, "vol-0000000a", LIVE);
    let handle = open(&store, &id);
    let peak = handle.ask(|engine| {
        let rng = SeededRng::new(5);
        for at in (0..LIVE).step_by(MIB as usize) {
            engine.write(at, &noise(&rng, MIB)).unwrap();
        }
        let mut peak = 0;
        for _ in 0..8 * LIVE / (16 * PAGE_BYTES as u64) {
            for _ in 0..16 {
                let offset = rng.below(LIVE / PAGE_BYTES as u64) * PAGE_BYTES as u64;
                engine.write(offset, &noise(&rng, PAGE_BYTES as u64)).unwrap();
            }
            if !engine.maintain().unwrap() && engine.is_cleaning_due() {
                engine.clean_step().unwrap();
            }
            engine.give_back_step(true);
            let usage = engine.usage();
            peak = peak.max(u64::from(usage.used_segments) * usage.segment_bytes);
        }
        peak
    });
    let peak = peak.unwrap();
    assert!(2 * peak < 7 * LIVE, "{peak} bytes for {LIVE}");
    handle.close().unwrap();
}

fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[test]
fn a_volume_of_64_tib_stays_within_its_memory() {
    let engine = EngineConfig {
        map_cache_bytes: 1 << 20,
        delta_bytes_max: 1 << 20,
        ..EngineConfig::server()
    };
    let (_folder, store) = store(engine, None);
    let size = 64 << 40;
    let id = volume(&store, "vol-0000000a", size);
    let before = resident_bytes();
    let handle = open(&store, &id);
    let rng = SeededRng::new(4);
    let pages = size / PAGE_BYTES as u64;
    let mut places: Vec<u64> = (0..20_000).map(|_| rng.below(pages)).collect();
    places.extend([0, pages - 1]);
    for page in &places {
        let mut bytes = vec![6; PAGE_BYTES];
        bytes[..8].copy_from_slice(&page.to_le_bytes());
        handle.write(page * PAGE_BYTES as u64, bytes).unwrap();
    }
    let within_bounds = |store: &Store| {
        let memory = store.with(&id, |engine| Ok(engine.memory())).unwrap();
        assert!(memory.map_cache_bytes <= 1 << 20, "{memory:?}");
        assert!(memory.delta_bytes <= 4 << 20, "{memory:?}");
        assert!(memory.segment_table_bytes <= 64 * 56, "{memory:?}");
    };
    within_bounds(&store);
    store.cut(&id, CutId::new("snap-1").unwrap()).unwrap();
    handle.close().unwrap();
    let handle = open(&store, &id);
    for page in places.iter().rev().take(5000) {
        let bytes = handle.read(page * PAGE_BYTES as u64, 8).unwrap();
        assert_eq!(bytes, page.to_le_bytes());
    }
    within_bounds(&store);
    let cut = store.open_cut(&id, CutId::new("snap-1").unwrap(), None).unwrap();
    assert_eq!(cut.info().volume_bytes, size);
    // Other tests of this process run meanwhile.
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 512 << 20, "{grown} bytes more are resident");
}
