//! Cuts through several volumes at one moment, and volumes that grow while they are used.

use base::{OsRng, Secret, VolumeId};
use blockstore::live::{CutId, EngineConfig, Error, OpenOptions, VolumeOptions};
use blockstore::page::{CutPage, CutSource, DataKey, PAGE_BYTES, Page};
use blockstore::store::{
    CUT_MEMBERS_MAX, CutWatch, Store, StoreConfig, StoreError, Volume, VolumeHandle,
};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;

const SIZE: u64 = 64 << 20;

fn store() -> (TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let config = StoreConfig { engine: EngineConfig::tiny(), ..StoreConfig::server() };
    let store = Store::open(folder.path(), Secret::new([9; 32]), Arc::new(OsRng), config).unwrap();
    (folder, store)
}

fn key() -> DataKey {
    DataKey::new(&Secret::new([3; 64]))
}

fn volume(store: &Store, name: &str) -> VolumeId {
    let id = VolumeId::parse(name).unwrap();
    let options = VolumeOptions { size_bytes: SIZE, key_check: None, base: None };
    store.create_volume(&id, &options).unwrap();
    id
}

fn open(store: &Store, id: &VolumeId) -> VolumeHandle {
    store.open_volume(id, OpenOptions { data_key: Some(key()), ..OpenOptions::default() }).unwrap()
}

fn cut_id(name: &str) -> CutId {
    CutId::new(name).unwrap()
}

/// The number a cut holds at its beginning.
fn number_in(store: &Store, id: &VolumeId, cut: CutId) -> u64 {
    let pages = store.open_cut(id, cut, None).unwrap().load_block(0).unwrap();
    match &pages.pages[0] {
        CutPage::Sealed(sealed) => {
            let mut page: Page = [0; PAGE_BYTES];
            sealed.open(&key().opener(sealed.origin.salt), 0, &mut page).unwrap();
            u64::from_le_bytes(page[..8].try_into().unwrap())
        }
        CutPage::Absent | CutPage::Zero => 0,
    }
}

fn page_of(number: u64) -> Vec<u8> {
    let mut page = vec![1; PAGE_BYTES];
    page[..8].copy_from_slice(&number.to_le_bytes());
    page
}

/// Stops writers however a test ends: one that fails must not wait for them.
struct Stopping<'a>(&'a AtomicBool);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Takes its time between one member's cut and the next, so that whoever is not kept out gets in.
struct Lingering;

impl CutWatch for Lingering {
    fn marked(&self, _volume: &VolumeId) {
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// One writer goes from volume to volume with a counter and writes the next number only when the
/// last one was acknowledged; others keep the volumes busy. In whatever moment a cut is taken, the
/// three volumes must hold three consecutive numbers.
#[test]
fn a_cut_through_three_volumes_never_has_an_effect_without_its_cause() {
    let (_folder, store) = store();
    let ids = ["vol-0000000a", "vol-0000000b", "vol-0000000c"].map(|name| volume(&store, name));
    let handles = [0, 1, 2].map(|at: usize| open(&store, &ids[at]));
    let (stop, written) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let _stopping = Stopping(&stop);
        scope.spawn(|| {
            for (number, handle) in (1..).zip(handles.iter().cycle()) {
                handle.write(0, page_of(number)).unwrap();
                written.store(number, Ordering::SeqCst);
                if stop.load(Ordering::SeqCst) {
                    return;
                }
            }
        });
        for handle in &handles {
            scope.spawn(|| {
                for number in 0.. {
                    handle.write(SIZE / 2 + number % 500 * 4096, page_of(number)).unwrap();
                    if stop.load(Ordering::SeqCst) {
                        return;
                    }
                }
            });
        }
        for round in 0..20 {
            let before = written.load(Ordering::SeqCst);
            let members: Vec<_> =
                ids.iter().map(|id| (id.clone(), cut_id(&format!("snap-{round:08x}")))).collect();
            let infos = store.cut_many_watched(&members, &(Arc::new(Lingering) as _)).unwrap();
            let after = written.load(Ordering::SeqCst);
            assert_eq!(infos.len(), 3);
            let mut numbers: Vec<u64> =
                members.iter().map(|(id, cut)| number_in(&store, id, *cut)).collect();
            numbers.sort_unstable();
            // While less than three numbers were written some volumes still hold none.
            let newest = numbers[2];
            let expected = [2, 1, 0].map(|back: u64| newest.saturating_sub(back));
            assert_eq!(numbers, expected, "round {round}");
            assert!((before..=after + 1).contains(&newest), "{before} {newest} {after}");
            for (id, cut) in &members {
                store.drop_cut(id, *cut).unwrap();
            }
        }
    });
}

/// Writes to the first member when the second is told to stand still.
struct Intruder {
    first: VolumeHandle,
    written: Mutex<Option<Receiver<()>>>,
}

impl CutWatch for Intruder {
    fn stands(&self, volume: &VolumeId) {
        if volume == self.first.id() {
            return;
        }
        let (say, written) = channel();
        let write = move |volume: &mut Volume| {
            volume.engine().write(0, &page_of(2)).unwrap();
            say.send(()).unwrap();
        };
        assert!(self.first.submit(Box::new(write)).is_ok());
        let early = written.recv_timeout(Duration::from_millis(100));
        assert!(early.is_err(), "a volume that was told to stand still took a write");
        *self.written.lock().unwrap() = Some(written);
    }
}

#[test]
fn a_member_takes_nothing_while_the_next_is_stopped_and_then_goes_on() {
    let (_folder, store) = store();
    let ids = ["vol-0000000a", "vol-0000000b"].map(|name| volume(&store, name));
    let first = open(&store, &ids[0]);
    first.write(0, page_of(1)).unwrap();
    let cut = cut_id("snap-1");
    let members = ids.clone().map(|id| (id, cut));
    let intruder = Arc::new(Intruder { first: first.clone(), written: Mutex::default() });
    store.cut_many_watched(&members, &(Arc::clone(&intruder) as _)).unwrap();
    intruder.written.lock().unwrap().take().unwrap().recv().unwrap();
    assert_eq!(first.read(0, PAGE_BYTES).unwrap(), page_of(2));
    assert_eq!(number_in(&store, &ids[0], cut), 1);
}

#[test]
fn when_one_member_cannot_be_cut_none_is() {
    let (_folder, store) = store();
    let ids = ["vol-0000000a", "vol-0000000b", "vol-0000000c"].map(|name| volume(&store, name));
    let cut = cut_id("snap-1");
    store.cut(&ids[1], cut).unwrap();
    let members: Vec<_> = ids.iter().map(|id| (id.clone(), cut)).collect();
    match store.cut_many(&members) {
        Err(StoreError::Member { id, cause }) => {
            assert_eq!(id, ids[1]);
            assert!(matches!(*cause, StoreError::Volume(Error::CutExists { .. })), "{cause:?}");
        }
        other => panic!("{other:?}"),
    }
    for id in [&ids[0], &ids[2]] {
        assert_eq!(store.cuts(id).unwrap(), []);
    }
    store.drop_cut(&ids[1], cut).unwrap();
    assert_eq!(store.cut_many(&members).unwrap().len(), 3);
    let missing = VolumeId::parse("vol-0000000d").unwrap();
    let gone = store.cut_many(&[(ids[0].clone(), cut_id("snap-2")), (missing.clone(), cut)]);
    assert!(matches!(gone, Err(StoreError::Member { id, .. }) if id == missing));
    assert_eq!(store.cuts(&ids[0]).unwrap().len(), 1);
    let twice = [(ids[0].clone(), cut_id("snap-3")), (ids[0].clone(), cut_id("snap-4"))];
    assert!(matches!(store.cut_many(&twice), Err(StoreError::Members { count: 2, .. })));
    let many = vec![(ids[0].clone(), cut); CUT_MEMBERS_MAX + 1];
    assert!(matches!(store.cut_many(&many), Err(StoreError::Members { .. })));
    assert_eq!(store.cut_many(&[]).unwrap(), []);
}

/// A member that is refused only when it already stands still: the others lose their cuts again.
#[test]
fn cuts_that_were_made_beside_a_failure_are_dropped() {
    let (_folder, store) = store();
    let ids = ["vol-0000000a", "vol-0000000b"].map(|name| volume(&store, name));
    let handles = [0, 1].map(|at: usize| open(&store, &ids[at]));
    let (first, second) = (cut_id("snap-1"), cut_id("snap-2"));
    // Both calls pass their checks before either cuts; who comes second finds the name taken.
    let members: Vec<_> = vec![(ids[0].clone(), second), (ids[1].clone(), first)];
    let rival = ids[1].clone();
    let mut outcomes = Vec::new();
    for _ in 0..200 {
        std::thread::scope(|scope| {
            let cut = scope.spawn(|| store.cut(&rival, first).map(drop));
            outcomes.push(store.cut_many(&members).map(drop));
            let _ = cut.join().unwrap();
        });
        let held = |id| store.cuts(id).unwrap().iter().map(|c| c.id).collect::<Vec<_>>();
        let made = outcomes.last().unwrap().is_ok();
        assert_eq!(held(&ids[0]), if made { vec![second] } else { vec![] });
        assert_eq!(held(&ids[1]), [first]);
        store.drop_cut(&ids[1], first).unwrap();
        if made {
            store.drop_cut(&ids[0], second).unwrap();
        }
    }
    drop(handles);
}

#[test]
fn a_volume_grows_while_it_is_written_to() {
    let (_folder, store) = store();
    let id = volume(&store, "vol-0000000a");
    let handle = open(&store, &id);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let watcher = Arc::clone(&seen);
    let watch = handle.watch_size(Box::new(move |bytes| watcher.lock().unwrap().push(bytes)));
    let early = cut_id("snap-1");
    store.cut(&id, early).unwrap();
    let larger = 3 << 40;
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for number in 0..2000 {
                handle.write(number % 4000 * 4096, page_of(number)).unwrap();
            }
        });
        store.resize(&id, larger).unwrap();
        assert_eq!(handle.size(), larger);
        handle.write(larger - 4096, page_of(77)).unwrap();
        writer.join().unwrap();
    });
    store.resize(&id, larger).unwrap();
    assert_eq!(*seen.lock().unwrap(), [larger]);
    let smaller = store.resize(&id, larger - 4096);
    assert!(matches!(smaller, Err(StoreError::Volume(Error::BadSize { .. }))), "{smaller:?}");
    drop(watch);
    store.resize(&id, larger + 4096).unwrap();
    assert_eq!(seen.lock().unwrap().len(), 1);
    handle.close().unwrap();
    let handle = open(&store, &id);
    assert_eq!(handle.size(), larger + 4096);
    assert_eq!(handle.read(larger - 4096, 4096).unwrap(), page_of(77));
    assert_eq!(handle.read(1999 * 4096, 4096).unwrap(), page_of(1999));
    assert_eq!(store.cuts(&id).unwrap()[0].volume_bytes, SIZE);
}
