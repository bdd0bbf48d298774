//! Volumes whose segment table does not fit one segment.

use base::{OsRng, Rng, Secret, SeededRng, VolumeId};
use blockstore::live::{CutId, EngineConfig, OpenOptions, VolumeOptions};
use blockstore::page::DataKey;
use blockstore::store::{Store, StoreConfig, VolumeHandle};
use std::path::Path;
use std::sync::Arc;

const MIB: u64 = 1 << 20;
const SIZE: u64 = 32 * MIB;
/// Pages of a segment, the fewest there may be.
const SEGMENT_PAGES: u32 = 8;
/// Entries in a page of the table (docs/format.md).
const ENTRIES: u32 = 84;

fn store(folder: &Path) -> Store {
    let engine = EngineConfig { segment_bytes: SEGMENT_PAGES * 4096, ..EngineConfig::tiny() };
    let config = StoreConfig { engine, ..StoreConfig::server() };
    Store::open(folder, Secret::new([9; 32]), Arc::new(OsRng), config).unwrap()
}

fn open(store: &Store, id: &VolumeId) -> VolumeHandle {
    let data_key = Some(DataKey::new(&Secret::new([3; 64])));
    store.open_volume(id, OpenOptions { data_key, base: None, writer: None }).unwrap()
}

fn content(rng: &SeededRng) -> Vec<Vec<u8>> {
    let part = |_| {
        let mut bytes = vec![0; MIB as usize];
        rng.fill(&mut bytes);
        bytes
    };
    (0..SIZE / MIB).map(part).collect()
}

fn write(handle: &VolumeHandle, content: &[Vec<u8>]) {
    for (at, bytes) in (0..).zip(content) {
        handle.write(at * MIB, bytes.clone()).unwrap();
    }
    handle.flush().unwrap();
}

fn assert_content(handle: &VolumeHandle, content: &[Vec<u8>]) {
    for (at, bytes) in (0..).zip(content) {
        assert!(handle.read(at * MIB, MIB as usize).unwrap() == *bytes, "MiB {at}");
    }
}

/// Checkpoints, has everything counted anew, and answers how many segments are used.
fn checked(store: &Store, id: &VolumeId) -> u32 {
    let checked = store.with(id, |engine| {
        engine.checkpoint()?;
        engine.check()?;
        Ok(engine.usage().used_segments)
    });
    checked.unwrap()
}

#[test]
fn a_volume_with_more_segments_than_one_can_list_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (id, rng) = (VolumeId::parse("vol-0000000a").unwrap(), SeededRng::new(1));
    let in_one = SEGMENT_PAGES * ENTRIES;
    let first = content(&rng);
    let cut = CutId::new("snap-1").unwrap();
    {
        let store = store(folder.path());
        let options = VolumeOptions { size_bytes: SIZE, key_check: None, base: None };
        store.create_volume(&id, &options).unwrap();
        let handle = open(&store, &id);
        write(&handle, &first);
        let used = checked(&store, &id);
        assert!(used > 3 * in_one / 2, "{used} segments");
        store.cut(&id, cut).unwrap();
        handle.close().unwrap();
    }
    // A new process reads the table from several segments, and what a cut keeps makes it longer.
    let second = content(&rng);
    {
        let store = store(folder.path());
        let handle = open(&store, &id);
        assert_content(&handle, &first);
        write(&handle, &second);
        assert!(checked(&store, &id) > 3 * in_one);
        handle.close().unwrap();
    }
    let store = store(folder.path());
    let reader = store.open_cut(&id, cut, None).unwrap();
    assert_eq!(reader.info().volume_bytes, SIZE);
    drop(reader);
    let handle = open(&store, &id);
    assert_content(&handle, &second);
    // It becomes short again.
    store.drop_cut(&id, cut).unwrap();
    handle.discard(0, SIZE).unwrap();
    handle.flush().unwrap();
    assert!(checked(&store, &id) < in_one);
    handle.close().unwrap();
    let handle = open(&store, &id);
    assert!(handle.read(0, SIZE as usize).unwrap().iter().all(|byte| *byte == 0));
    handle.close().unwrap();
}
