//! Opening, sharing, cutting and closing volumes.

use base::{OsRng, Secret, VolumeId};
use blockstore::live::{
    Base, CutId, Engine, EngineConfig, Error, ExtentState, OpenOptions, VolumeOptions,
};
use blockstore::page::{BLOCK_BYTES, CutPage, DataKey, KeyAtHand, PAGE_BYTES, SourceError};
use blockstore::snapshot::{
    self, Checkpoint, CopyJob, CopyKeys, Export, Observer, SnapshotReader, SnapshotRoot,
    SnapshotStore, Unobserved, copy,
};
use blockstore::store::{Store, StoreConfig, StoreError, Volume};
use objstore::MemoryStore;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, mpsc};
use tempfile::TempDir;

pub(crate) const SIZE: u64 = 64 << 20;

pub(crate) struct House {
    _folder: TempDir,
    pub(crate) store: Store,
    pub(crate) snapshots: SnapshotStore,
}

impl House {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config =
            StoreConfig { engine: EngineConfig::tiny(), queue_batches: 4, ..StoreConfig::server() };
        let service_key = || Secret::new([9; 32]);
        let store = Store::open(folder.path(), service_key(), Arc::new(OsRng), config).unwrap();
        let objects = Arc::new(MemoryStore::new(Arc::new(base::SystemClock)));
        let snapshots = SnapshotStore::new(objects, &service_key(), Arc::new(OsRng));
        Self { _folder: folder, store, snapshots }
    }

    pub(crate) fn volume(&self, name: &str) -> VolumeId {
        self.volume_on(name, None)
    }

    fn volume_on(&self, name: &str, base: Option<CutId>) -> VolumeId {
        let id = VolumeId::parse(name).unwrap();
        let options = VolumeOptions { size_bytes: SIZE, key_check: None, base };
        self.store.create_volume(&id, &options).unwrap();
        id
    }

    /// Exports a cut without any data key, on top of `parent`, and drops it.
    pub(crate) fn export(
        &self,
        id: &VolumeId,
        cut: CutId,
        parent: Option<&SnapshotRoot>,
        since: Option<u32>,
    ) -> SnapshotRoot {
        let source = self.store.open_cut(id, cut, since).unwrap();
        let (key_check, key) = (source.key_check(), &self.store.held_key(id));
        let job = Export { parent, key_check, resume: None, checkpoint_blocks: 64, key };
        let root = snapshot::export(&self.snapshots, &source, &job, &Unobserved).unwrap();
        let in_use = self.store.drop_cut(id, cut);
        assert!(matches!(in_use, Err(StoreError::CutInUse { .. })), "{in_use:?}");
        drop(source);
        self.store.note_export(id, cut, root.id()).unwrap();
        self.store.drop_cut(id, cut).unwrap();
        root
    }
}

pub(crate) fn key(seed: u8) -> DataKey {
    DataKey::new(&Secret::new([seed; 64]))
}

pub(crate) fn with_key(seed: u8) -> OpenOptions {
    OpenOptions { data_key: Some(key(seed)), ..OpenOptions::default() }
}

pub(crate) fn cut_id(name: &str) -> CutId {
    CutId::new(name).unwrap()
}

/// Bytes that differ from page to page.
pub(crate) fn pattern(seed: u8, length: usize) -> Vec<u8> {
    (0..length).map(|at| seed ^ (at / 512) as u8 ^ (at % 251) as u8).collect()
}

#[test]
fn what_was_written_is_read_after_closing_and_opening() {
    let house = House::new();
    let id = house.volume("vol-00000001");
    let volume = house.store.open_volume(&id, with_key(1)).unwrap();
    let bytes = pattern(3, 3 * BLOCK_BYTES + 700);
    volume.write(12_345, bytes.clone()).unwrap();
    assert_eq!(volume.read(12_345, bytes.len()).unwrap(), bytes);
    volume.flush().unwrap();
    volume.close().unwrap();

    let volume = house.store.open_volume(&id, with_key(1)).unwrap();
    assert_eq!(volume.read(12_345, bytes.len()).unwrap(), bytes);
    assert_eq!(volume.read(0, 12_345).unwrap(), vec![0; 12_345]);
    volume.discard(0, SIZE).unwrap();
    assert_eq!(volume.read(12_345, bytes.len()).unwrap(), vec![0; bytes.len()]);
    assert_eq!(volume.size(), SIZE);
    volume.close().unwrap();
}

/// The key that proves them is the volume's own: it is there while the volume is open with it.
#[test]
fn pages_are_proven_while_the_volume_is_open_with_its_key() {
    let house = House::new();
    let id = house.volume("vol-00000001");
    let volume = house.store.open_volume(&id, with_key(1)).unwrap();
    volume.write(0, pattern(5, 3 * BLOCK_BYTES)).unwrap();
    let cut = cut_id("snap-00000001");
    volume.cut(cut).unwrap();
    let source = house.store.open_cut(&id, cut, None).unwrap();
    let CutPage::Sealed(page) = source.read_page(200).unwrap() else { panic!("it was written") };
    let held: &dyn KeyAtHand = &house.store.held_key(&id);
    let opens = |lba| held.with(|key| key.prove(&[(lba, &page)]));
    assert_eq!([opens(200), opens(201)], [Some(vec![true]), Some(vec![false])]);
    volume.close().unwrap();
    assert_eq!(opens(200), None);
    // Open for whoever needs no key.
    let reader = house.store.open_cut(&id, cut, None).unwrap();
    assert_eq!(opens(200), None);
    drop(reader);
    let volume = house.store.open_volume(&id, with_key(1)).unwrap();
    assert_eq!(opens(200), Some(vec![true]));

    // In the file one byte is another.
    let path = house.store.path_of(&id);
    let stored = std::fs::read(&path).unwrap();
    let at = stored.windows(64).position(|bytes| bytes == &page.ciphertext[..64]).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    let put = |byte: u8| file.write_all_at(&[byte], at as u64).unwrap();
    put(stored[at] ^ 1);
    let key_check = source.key_check();
    let export = || {
        let source = house.store.open_cut(&id, cut, None).unwrap();
        let job =
            Export { parent: None, key_check, resume: None, checkpoint_blocks: 64, key: held };
        snapshot::export(&house.snapshots, &source, &job, &Unobserved)
    };
    let damage = || match export() {
        Err(snapshot::Error::Source { source: SourceError::Corrupt { what, block } }) => {
            (what, block)
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(damage(), ("page", 1));
    volume.close().unwrap();
    // Without the key all of the chunk is in doubt.
    assert_eq!(damage().0, "chunk with data");
    put(stored[at]);
    export().unwrap();
}

#[test]
fn a_volume_is_opened_by_one_and_with_its_own_key() {
    let house = House::new();
    let id = house.volume("vol-00000001");
    let open = |options| house.store.open_volume(&id, options);
    let volume = open(with_key(1)).unwrap();
    assert!(matches!(open(with_key(1)), Err(StoreError::InUse { .. })));
    assert!(matches!(house.store.delete_volume(&id), Err(StoreError::InUse { .. })));
    let clone = volume.clone();
    clone.write(0, vec![7; PAGE_BYTES]).unwrap();
    volume.close().unwrap();
    // The clone still exists, and its key does not.
    let locked = clone.read(0, PAGE_BYTES);
    assert!(matches!(locked, Err(StoreError::Volume(Error::KeyAbsent))), "{locked:?}");
    drop(clone);
    assert!(matches!(open(with_key(2)), Err(StoreError::Volume(Error::WrongKey))));
    assert_eq!(open(with_key(1)).unwrap().read(0, 1).unwrap(), [7]);
    house.store.delete_volume(&id).unwrap();
    assert!(matches!(open(with_key(1)), Err(StoreError::NotFound { .. })));
    assert!(!house.store.contains(&id));
}

#[test]
fn a_second_process_is_kept_out() {
    let folder = tempfile::tempdir().unwrap();
    let open = || {
        let config =
            StoreConfig { engine: EngineConfig::tiny(), queue_batches: 4, ..StoreConfig::server() };
        Store::open(folder.path(), Secret::new([9; 32]), Arc::new(OsRng), config)
    };
    let first = open().unwrap();
    assert!(matches!(open(), Err(StoreError::Locked)));
    drop(first);
    open().unwrap();
}

#[test]
fn another_service_key_opens_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let id = VolumeId::parse("vol-00000001").unwrap();
    let open = |service: u8| {
        let config =
            StoreConfig { engine: EngineConfig::tiny(), queue_batches: 4, ..StoreConfig::server() };
        Store::open(folder.path(), Secret::new([service; 32]), Arc::new(OsRng), config).unwrap()
    };
    let options = VolumeOptions { size_bytes: SIZE, key_check: None, base: None };
    open(1).create_volume(&id, &options).unwrap();
    let refused = open(2).open_volume(&id, with_key(1)).err();
    assert!(matches!(refused, Some(StoreError::Volume(Error::NoSuperblock))), "{refused:?}");
}

/// A cut of an open volume and one of a closed volume become snapshots, without the data key; a
/// third volume starts from the second snapshot and reads what the first held.
#[test]
fn snapshots_need_no_data_key_and_become_volumes() {
    let house = House::new();
    let id = house.volume("vol-00000001");
    let volume = house.store.open_volume(&id, with_key(1)).unwrap();
    let old = pattern(1, 2 * BLOCK_BYTES);
    volume.write(BLOCK_BYTES as u64, old.clone()).unwrap();
    let first_cut = cut_id("snap-00000001");
    volume.cut(first_cut).unwrap();
    let new = pattern(2, 10 * PAGE_BYTES);
    volume.write(BLOCK_BYTES as u64 + 4096, new.clone()).unwrap();
    volume.discard(2 * BLOCK_BYTES as u64, 8192).unwrap();
    let first = house.export(&id, first_cut, None, None);
    volume.close().unwrap();

    let second_cut = cut_id("snap-00000002");
    house.store.cut(&id, second_cut).unwrap();
    assert_eq!(house.store.cuts(&id).unwrap().len(), 1);
    let since = house.store.exported_generation(&id, first.id()).unwrap();
    assert_eq!(since, Some(1));
    let second = house.export(&id, second_cut, Some(&first), since);
    assert!(house.store.cuts(&id).unwrap().is_empty());
    assert_eq!(second.key_check(), Some(key(1).check_value()));
    assert_eq!((first.full_blocks(), second.incremental_blocks()), (2, 2));

    let mut expected = old.clone();
    let restored = |root: &SnapshotRoot, name: &str, expected: &[u8]| {
        let base_id = cut_id("snap-base");
        let id = house.volume_on(name, Some(base_id));
        let reader = Arc::new(SnapshotReader::open(&house.snapshots, root).unwrap());
        let base = Some(Base { id: base_id, reader, key: None });
        let options = OpenOptions { data_key: Some(key(1)), base, ..OpenOptions::default() };
        let volume = house.store.open_volume(&id, options).unwrap();
        assert_eq!(volume.read(BLOCK_BYTES as u64, expected.len()).unwrap(), expected);
        volume.write(BLOCK_BYTES as u64 + 512, vec![0xaa; 512]).unwrap();
        let page = volume.read(BLOCK_BYTES as u64, PAGE_BYTES).unwrap();
        assert_eq!(page[..512], expected[..512]);
        assert_eq!(page[512..1024], [0xaa; 512]);
        assert_eq!(page[1024..], expected[1024..PAGE_BYTES]);
        volume.close().unwrap();
    };
    restored(&first, "vol-00000002", &expected);
    expected[4096..4096 + new.len()].copy_from_slice(&new);
    expected[BLOCK_BYTES..BLOCK_BYTES + 8192].fill(0);
    restored(&second, "vol-00000003", &expected);
}

/// Copies every block under another key.
fn resealed(house: &House, root: &SnapshotRoot, from: u8, to: u8) -> SnapshotRoot {
    let (source, target) = (key(from), key(to));
    let job = CopyJob {
        source: root,
        keys: CopyKeys::Change { source: &source, target: &target },
        earlier: None,
        resume: None,
        checkpoint_blocks: 1,
        threads: 1,
    };
    copy(&house.snapshots, &house.snapshots, &job, &Unobserved).unwrap()
}

#[test]
fn a_base_under_another_key_is_read_and_never_written_under() {
    let house = House::new();
    let source = house.volume("vol-00000001");
    let handle = house.store.open_volume(&source, with_key(1)).unwrap();
    for block in 0..3 {
        handle.write((block * BLOCK_BYTES) as u64, pattern(block as u8, PAGE_BYTES)).unwrap();
    }
    handle.close().unwrap();
    house.store.cut(&source, cut_id("snap")).unwrap();
    let root = house.export(&source, cut_id("snap"), None, None);

    let base_id = cut_id("snap-base");
    let id = house.volume_on("vol-00000002", Some(base_id));
    let on = |root: &SnapshotRoot, base_key: Option<u8>| {
        let reader = Arc::new(SnapshotReader::open(&house.snapshots, root).unwrap());
        let base = Base { id: base_id, reader, key: base_key.map(|seed| Arc::new(key(seed))) };
        OpenOptions { data_key: Some(key(2)), base: Some(base), ..OpenOptions::default() }
    };
    let at = |block: usize| (block * BLOCK_BYTES) as u64;
    let volume = house.store.open_volume(&id, on(&root, Some(1))).unwrap();
    for block in 0..3 {
        assert_eq!(volume.read(at(block), PAGE_BYTES).unwrap(), pattern(block as u8, PAGE_BYTES));
    }
    // A part of a page is completed from the base; what is written is under the volume's key.
    volume.write(at(1) + 512, vec![0xaa; 512]).unwrap();
    volume.ask(|engine| engine.hydrate(2)).unwrap().unwrap();
    volume.close().unwrap();

    // Without the base's key, what the volume has itself is there, and what it has not is refused.
    let volume = house.store.open_volume(&id, on(&root, None)).unwrap();
    assert_eq!(volume.read(at(1), PAGE_BYTES).unwrap()[512..1024], [0xaa; 512]);
    assert_eq!(volume.read(at(2), PAGE_BYTES).unwrap(), pattern(2, PAGE_BYTES));
    assert!(volume.read(at(0), PAGE_BYTES).is_err(), "the base is under another key");
    volume.close().unwrap();

    // Sealed anew under the volume's key, the base needs no other, and may be had with both.
    let own = resealed(&house, &root, 1, 2);
    for base_key in [Some(1), None] {
        let volume = house.store.open_volume(&id, on(&own, base_key)).unwrap();
        assert_eq!(volume.read(at(0), PAGE_BYTES).unwrap(), pattern(0, PAGE_BYTES));
        volume.ask(Engine::forget_base_key).unwrap();
        assert_eq!(volume.read(at(0), PAGE_BYTES).unwrap(), pattern(0, PAGE_BYTES));
        volume.close().unwrap();
    }
    // A snapshot of the volume on top of that base has pages of one key.
    house.store.cut(&id, cut_id("snap2")).unwrap();
    let made = house.export(&id, cut_id("snap2"), Some(&own), None);
    let reader = SnapshotReader::open(&house.snapshots, &made).unwrap();
    for block in 0..3 {
        assert!(reader.read_block(block, &key(2)).unwrap().is_some(), "{block}");
    }
}

#[test]
fn a_turn_of_a_copy_ends_with_all_it_began() {
    struct OneTurn(std::sync::Mutex<Vec<Checkpoint>>);
    impl Observer for OneTurn {
        fn progress(&self, _done: u64, _total: u64) {}
        fn checkpoint(
            &self,
            checkpoint: &Checkpoint,
        ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
            self.0.lock().unwrap().push(*checkpoint);
            Ok(())
        }
        fn is_cancelled(&self) -> bool {
            false
        }
        fn is_turn_over(&self) -> bool {
            true
        }
        fn admit(&self, _bytes: u64) {}
    }
    let house = House::new();
    let source = house.volume("vol-00000001");
    let handle = house.store.open_volume(&source, with_key(1)).unwrap();
    for block in 0..100 {
        handle.write((block * BLOCK_BYTES) as u64, pattern(block as u8, PAGE_BYTES)).unwrap();
    }
    handle.close().unwrap();
    house.store.cut(&source, cut_id("snap")).unwrap();
    let root = house.export(&source, cut_id("snap"), None, None);
    let (from, to) = (key(1), key(2));
    let (mut resume, mut turns) = (None, 0);
    let copied = loop {
        let job = CopyJob {
            source: &root,
            keys: CopyKeys::Change { source: &from, target: &to },
            earlier: None,
            resume: resume.as_ref(),
            checkpoint_blocks: 1 << 40,
            threads: 2,
        };
        let turn = OneTurn(std::sync::Mutex::default());
        match copy(&house.snapshots, &house.snapshots, &job, &turn) {
            Ok(root) => break root,
            Err(snapshot::Error::TurnOver) => {}
            Err(error) => panic!("{error}"),
        }
        let reached = turn.0.into_inner().unwrap().pop().unwrap();
        // A turn that is over still does one batch.
        let before = resume.map_or(0, |checkpoint: Checkpoint| checkpoint.blocks_done());
        assert!(reached.blocks_done() > before);
        (resume, turns) = (Some(reached), turns + 1);
    };
    assert!(turns >= 2, "{turns}");
    let reader = SnapshotReader::open(&house.snapshots, &copied).unwrap();
    for block in 0..100 {
        let read = reader.read_block(block, &to).unwrap().unwrap();
        assert_eq!(read.bytes[..PAGE_BYTES], pattern(block as u8, PAGE_BYTES)[..], "{block}");
    }
}

/// A cut waits for nobody's key: it is taken, exported and dropped while the volume is attached,
/// detached and attached again.
#[test]
fn an_export_outlives_the_attachment() {
    let house = House::new();
    let id = house.volume("vol-00000001");
    let volume = house.store.open_volume(&id, with_key(1)).unwrap();
    let bytes = pattern(5, BLOCK_BYTES);
    volume.write(0, bytes.clone()).unwrap();
    let cut = cut_id("snap-00000001");
    volume.cut(cut).unwrap();
    let source = house.store.open_cut(&id, cut, None).unwrap();
    volume.close().unwrap();
    assert!(matches!(house.store.delete_volume(&id), Err(StoreError::InUse { .. })));
    let volume = house.store.open_volume(&id, with_key(1)).unwrap();
    volume.write(0, vec![1; BLOCK_BYTES]).unwrap();
    let job = Export {
        parent: None,
        key_check: None,
        resume: None,
        checkpoint_blocks: 64,
        key: &house.store.held_key(&id),
    };
    let root = snapshot::export(&house.snapshots, &source, &job, &Unobserved).unwrap();
    let reader = SnapshotReader::open(&house.snapshots, &root).unwrap();
    let block = reader.read_block(0, &key(1)).unwrap().unwrap();
    assert_eq!(block.bytes[..], bytes[..]);
    drop(source);
    house.store.drop_cut(&id, cut).unwrap();
    volume.close().unwrap();
}

#[test]
fn flushes_are_answered_together_and_reads_go_on() {
    let house = House::new();
    let id = house.volume("vol-00000001");
    let handle = house.store.open_volume(&id, with_key(1)).unwrap();
    let (sender, receiver) = mpsc::channel();
    for round in 0..50u64 {
        let sender = sender.clone();
        let batch = move |volume: &mut Volume| {
            let bytes = [round as u8 + 1; PAGE_BYTES];
            volume.engine().write(round * 4096, &bytes).unwrap();
            volume.flush_then(Box::new(move |result| sender.send((round, result)).unwrap()));
            let mut back = [0; PAGE_BYTES];
            volume.engine().read(round * 4096, &mut back).unwrap();
            assert_eq!(back, bytes);
        };
        assert!(handle.submit(Box::new(batch)).is_ok());
    }
    drop(sender);
    let mut answered: Vec<u64> = receiver
        .iter()
        .map(|(round, result)| {
            result.unwrap();
            round
        })
        .collect();
    answered.sort_unstable();
    assert_eq!(answered, (0..50).collect::<Vec<_>>());
    handle.close().unwrap();
}

#[test]
fn block_status_tells_data_from_zeros() {
    let house = House::new();
    let id = house.volume("vol-00000001");
    let volume = house.store.open_volume(&id, with_key(1)).unwrap();
    volume.write(8192, pattern(1, 16384)).unwrap();
    volume.write(16384, vec![0; 4096]).unwrap();
    let status = |offset, length| {
        let extents = volume.block_status(offset, length).unwrap();
        extents.iter().map(|e| (e.length, e.state == ExtentState::Data)).collect::<Vec<_>>()
    };
    let rest = SIZE - 24576;
    let all = [(8192, false), (8192, true), (4096, false), (4096, true), (rest, false)];
    assert_eq!(status(0, SIZE), all);
    assert_eq!(status(8192 + 512, 4096), [(4096, true)]);
    let outside = volume.block_status(SIZE - 1, 2);
    assert!(matches!(outside, Err(StoreError::Volume(Error::OutOfRange { .. }))));
    volume.close().unwrap();
}

#[test]
fn a_volume_grows_and_never_shrinks() {
    let house = House::new();
    let id = house.volume("vol-00000001");
    let volume = house.store.open_volume(&id, with_key(1)).unwrap();
    volume.write(SIZE - 4096, vec![3; 4096]).unwrap();
    let larger = 5 << 40;
    house.store.resize(&id, larger).unwrap();
    assert_eq!(volume.size(), larger);
    volume.write(larger - 4096, vec![4; 4096]).unwrap();
    let refused = house.store.resize(&id, SIZE);
    assert!(matches!(refused, Err(StoreError::Volume(Error::BadSize { .. }))));
    volume.close().unwrap();
    let volume = house.store.open_volume(&id, with_key(1)).unwrap();
    assert_eq!(volume.read(SIZE - 4096, 1).unwrap(), [3]);
    assert_eq!(volume.read(larger - 4096, 1).unwrap(), [4]);
    assert_eq!(volume.read(1 << 40, 1).unwrap(), [0]);
    volume.close().unwrap();
}

/// Overwriting a small volume for long takes bounded space, although a few pages stay in every
/// old segment.
#[test]
fn space_is_given_back_while_writing_goes_on() {
    let house = House::new();
    let id = house.volume("vol-00000001");
    let volume = house.store.open_volume(&id, with_key(1)).unwrap();
    for round in 0..400u64 {
        // One page that stays, and sixty that are overwritten again and again.
        volume.write((200 + round) * 4096, vec![1; 4096]).unwrap();
        volume.write(0, pattern(round as u8, 60 * PAGE_BYTES)).unwrap();
    }
    volume.close().unwrap();
    let usage = house.store.with(&id, |engine| Ok(engine.usage())).unwrap();
    let used = u64::from(usage.used_segments) * usage.segment_bytes;
    assert!(usage.live_pages >= 460);
    assert!(used < 4 * usage.live_pages * 4096 + (4 << 20), "{usage:?}");
    house.store.with(&id, |engine| engine.check()).unwrap();
}

/// Cuts, attachments and questions from many threads at once: each gets an answer, and the volume
/// is whole afterwards.
#[test]
fn many_threads_share_a_volume() {
    let house = House::new();
    let id = house.volume("vol-00000001");
    let attached = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..6u8)
            .map(|thread| {
                let (store, id) = (house.store.clone(), id.clone());
                scope.spawn(move || {
                    let mut attached = 0u32;
                    for round in 0..8u8 {
                        let cut = cut_id(&format!("snap-{thread}-{round}"));
                        store.cut(&id, cut).unwrap();
                        if let Ok(volume) = store.open_volume(&id, with_key(1)) {
                            attached += 1;
                            let at = u64::from(thread) * 4096;
                            volume.write(at, vec![round + 1; 4096]).unwrap();
                            assert_eq!(volume.read(at, 4096).unwrap(), vec![round + 1; 4096]);
                            volume.close().unwrap();
                        }
                        assert!(store.cuts(&id).unwrap().iter().any(|held| held.id == cut));
                        store.drop_cut(&id, cut).unwrap();
                    }
                    attached
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum::<u32>()
    });
    assert!(attached > 0);
    assert!(house.store.cuts(&id).unwrap().is_empty());
    house.store.with(&id, |engine| engine.check()).unwrap();
}
