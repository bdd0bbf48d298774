//! A server that is killed: what it answered is there for the next one, flushed or not.

use crate::store::{SIZE, cut_id, key, with_key};
use base::{OsRng, Secret, VolumeId};
use blockstore::live::{Disk, Engine, EngineConfig, IoMode, OpenOptions, VolumeOptions};
use blockstore::store::{Borrower, EngineAnswer, EngineCall, Loan, Store, StoreConfig, StoreError};
use rustix::fs::{Advice, fadvise};
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;

const PAGE: u64 = 4096;

fn open(folder: &Path, io: IoMode) -> Store {
    let config = StoreConfig { engine: EngineConfig::tiny(), io, ..StoreConfig::server() };
    Store::open(folder, Secret::new([9; 32]), Arc::new(OsRng), config).unwrap()
}

fn volume() -> VolumeId {
    VolumeId::parse("vol-000000000000000aa").unwrap()
}

/// What there would be if the process that has the volume open ended now. Its thread waits meanwhile: it
/// would clean, and give back and write anew what was copied before.
fn killed(store: &Store, folder: &Path) -> TempDir {
    let folder = folder.to_owned();
    store.with_open(&volume(), move |_| Ok(copied(&folder))).unwrap().unwrap()
}

/// The files as they are, while nobody begins to change them. The tail first: what leaves it while the files
/// are copied is in the log by then.
fn copied(folder: &Path) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    std::fs::create_dir(copy.path().join("volumes")).unwrap();
    let entries = std::fs::read_dir(folder.join("volumes")).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
    names.sort_by_key(|name| Path::new(name).extension().is_none_or(|kind| kind != "tail"));
    for name in names {
        let path = Path::new("volumes").join(name);
        std::fs::copy(folder.join(&path), copy.path().join(&path)).unwrap();
    }
    copy
}

fn tail(folder: &Path) -> std::path::PathBuf {
    folder.join("volumes").join(format!("{}.tail", volume()))
}

/// What was answered is found again, whatever of it the disk had: small and large writes, zeros, more
/// than may be under way.
#[test]
fn a_killed_server_loses_nothing_it_answered() {
    for io in [IoMode::Buffered, IoMode::Direct, IoMode::Ring] {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path(), io);
        let options = VolumeOptions { size_bytes: SIZE, key_check: None, base: None };
        store.create_volume(&volume(), &options).unwrap();
        let handle = store.open_volume(&volume(), with_key(1)).unwrap();
        handle.write(0, vec![1; 3 << 20]).unwrap();
        handle.flush().unwrap();
        for page in 0..300 {
            handle.write(page * 2 * PAGE, vec![(page % 250) as u8 + 2; PAGE as usize]).unwrap();
            if page % 100 == 7 {
                handle.write(8 << 20, vec![page as u8; 1 << 20]).unwrap();
            }
        }
        handle.write_zeroes(600 * PAGE, 100 * PAGE).unwrap();
        handle.discard(701 * PAGE, 5 * PAGE).unwrap();
        handle.write(700 * PAGE + 512, vec![0xab; 512]).unwrap();
        let expected = handle.read(0, 16 << 20).unwrap();

        // Twice: the next server may be killed as well, before it has flushed anything.
        let copy = killed(&store, folder.path());
        let next = open(copy.path(), io);
        let again = next.open_volume(&volume(), with_key(1)).unwrap();
        assert!(again.read(0, 16 << 20).unwrap() == expected, "{io}");
        again.write(9 * PAGE, vec![0xcd; PAGE as usize]).unwrap();
        let last = killed(&next, copy.path());
        let next = open(last.path(), io);
        // The tail is used by whoever opens the volume first, with its key or without.
        next.cut(&volume(), cut_id("snap-1")).unwrap();
        assert!(!tail(last.path()).exists());
        let again = next.open_volume(&volume(), with_key(1)).unwrap();
        let mut expected = expected.clone();
        expected[9 * PAGE as usize..10 * PAGE as usize].fill(0xcd);
        assert!(again.read(0, 16 << 20).unwrap() == expected, "{io}");
    }
}

#[test]
fn a_tail_lives_as_long_as_the_volume_is_open_with_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), IoMode::Ring);
    let options = VolumeOptions { size_bytes: SIZE, key_check: None, base: None };
    store.create_volume(&volume(), &options).unwrap();
    store.cut(&volume(), cut_id("snap-1")).unwrap();
    assert!(!tail(folder.path()).exists());
    let handle = store.open_volume(&volume(), with_key(1)).unwrap();
    handle.write(0, vec![1; PAGE as usize]).unwrap();
    assert!(tail(folder.path()).exists());
    // Nothing of the guest's lies open in it, nor which page it wrote.
    let bytes = std::fs::read(tail(folder.path())).unwrap();
    assert!(!bytes.windows(16).any(|window| window == [1; 16]));
    handle.close().unwrap();
    assert!(!tail(folder.path()).exists());
    // What a killed server left goes with its volume.
    let handle = store.open_volume(&volume(), with_key(1)).unwrap();
    let copy = killed(&store, folder.path());
    drop(handle);
    let next = open(copy.path(), IoMode::Ring);
    assert!(tail(copy.path()).exists());
    next.delete_volume(&volume()).unwrap();
    assert_eq!(std::fs::read_dir(copy.path().join("volumes")).unwrap().count(), 0);
}

/// Zeros need no key. Those that lie in the chunk being filled when the key comes are noted as well.
#[test]
fn zeros_from_before_the_key_are_noted_with_what_follows() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), IoMode::Ring);
    let options = VolumeOptions { size_bytes: SIZE, key_check: None, base: None };
    store.create_volume(&volume(), &options).unwrap();
    let handle = store.open_volume(&volume(), with_key(1)).unwrap();
    handle.write(0, vec![1; 8 * PAGE as usize]).unwrap();
    handle.close().unwrap();
    let at = folder.path().to_owned();
    let changed = store.with(&volume(), move |engine| {
        engine.discard(0, 4 * PAGE)?;
        engine.unlock(key(1))?;
        engine.write(6 * PAGE, &[2; PAGE as usize])?;
        Ok(copied(&at))
    });
    let copy = changed.unwrap();
    let next = open(copy.path(), IoMode::Ring);
    let again = next.open_volume(&volume(), with_key(1)).unwrap();
    let found = again.read(0, 8 * PAGE as usize).unwrap();
    let pages: Vec<u8> = found.iter().step_by(PAGE as usize).copied().collect();
    assert_eq!(pages, [0, 0, 0, 0, 1, 1, 2, 1]);
}

/// A tail is no way to another volume's or another time's content.
#[test]
fn a_tail_of_before_is_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), IoMode::Ring);
    let options = VolumeOptions { size_bytes: SIZE, key_check: None, base: None };
    store.create_volume(&volume(), &options).unwrap();
    let handle = store.open_volume(&volume(), with_key(1)).unwrap();
    handle.write(0, vec![1; 8 * PAGE as usize]).unwrap();
    let old = std::fs::read(tail(folder.path())).unwrap();
    handle.close().unwrap();
    let handle = store.open_volume(&volume(), with_key(1)).unwrap();
    handle.write(0, vec![2; 4 * PAGE as usize]).unwrap();
    handle.close().unwrap();
    drop(store);
    std::fs::write(tail(folder.path()), &old).unwrap();
    let store = open(folder.path(), IoMode::Ring);
    let options = OpenOptions { data_key: Some(key(1)), ..OpenOptions::default() };
    let handle = store.open_volume(&volume(), options).unwrap();
    let found = handle.read(0, 8 * PAGE as usize).unwrap();
    assert!(found[..4 * PAGE as usize].iter().all(|byte| *byte == 2));
    assert!(found[4 * PAGE as usize..].iter().all(|byte| *byte == 1));
}

/// A machine that is not heard of.
struct Silent;

impl Borrower for Silent {
    fn call(&self, _: EngineCall) -> Result<EngineAnswer, StoreError> {
        Err(StoreError::Away { id: volume() })
    }
}

/// The lender's disk as another machine has it: what lies beside the file does not come along.
struct Distant(Arc<dyn Disk>);

impl Disk for Distant {
    fn read(&self, offset: u64, target: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, target)
    }

    fn write(&self, offset: u64, source: &[u8]) -> io::Result<()> {
        self.0.write(offset, source)
    }

    fn flush(&self) -> io::Result<()> {
        self.0.flush()
    }

    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn punch(&self, offset: u64, length: u64) -> io::Result<()> {
        self.0.punch(offset, length)
    }
}

fn open_at_machine(loan: &Loan, writer: u64) -> Engine {
    let options =
        OpenOptions { data_key: Some(key(1)), writer: Some(writer), ..OpenOptions::default() };
    let (disk, structure) = (Arc::new(Distant(Arc::clone(&loan.disk))), loan.structure.duplicate());
    Engine::open(disk, structure, Arc::new(OsRng), EngineConfig::tiny(), options).unwrap()
}

fn first_byte(engine: &mut Engine) -> u8 {
    let mut found = [0; PAGE as usize];
    engine.read(0, &mut found).unwrap();
    found[0]
}

/// A server's volume, written and not flushed when the server was killed.
fn left_by_attachment(writer: u64) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), IoMode::Ring);
    let options = VolumeOptions { size_bytes: SIZE, key_check: None, base: None };
    store.create_volume(&volume(), &options).unwrap();
    let options =
        OpenOptions { data_key: Some(key(1)), writer: Some(writer), ..OpenOptions::default() };
    let handle = store.open_volume(&volume(), options).unwrap();
    handle.write(0, vec![7; PAGE as usize]).unwrap();
    killed(&store, folder.path())
}

#[test]
fn what_a_killed_server_answered_is_there_for_the_machine_that_gets_the_volume() {
    let left = left_by_attachment(3);
    let store = open(left.path(), IoMode::Ring);
    let loan = store.lend(&volume(), Arc::new(Silent)).unwrap();
    assert!(!tail(left.path()).exists());
    assert_eq!(first_byte(&mut open_at_machine(&loan, 4)), 7);

    // Also where the server was killed again between giving the volume to the machine and lending it.
    let left = left_by_attachment(3);
    let store = open(left.path(), IoMode::Ring);
    let loan = store.lend_again(&volume(), 4, Arc::new(Silent)).unwrap();
    assert_eq!(first_byte(&mut open_at_machine(&loan, 4)), 7);
}

/// A tail that cannot be removed would be put back under the machine.
#[test]
fn a_volume_whose_tail_stays_is_not_lent() {
    let left = left_by_attachment(3);
    // A link is no file that the engine made.
    let elsewhere = left.path().join("elsewhere");
    std::fs::rename(tail(left.path()), &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, tail(left.path())).unwrap();
    let store = open(left.path(), IoMode::Ring);
    for lent in [
        store.lend(&volume(), Arc::new(Silent)).err(),
        store.lend_again(&volume(), 4, Arc::new(Silent)).err(),
    ] {
        assert!(matches!(lent, Some(StoreError::File { .. })), "{lent:?}");
    }
    std::fs::remove_file(tail(left.path())).unwrap();
    let loan = store.lend(&volume(), Arc::new(Silent)).unwrap();
    assert_eq!(first_byte(&mut open_at_machine(&loan, 4)), 7);
}

/// A machine that has the volume open goes on with its log when the server is back.
#[test]
fn a_tail_is_left_alone_once_a_machine_has_opened_the_volume() {
    let left = left_by_attachment(3);
    let old = std::fs::read(tail(left.path())).unwrap();
    let store = open(left.path(), IoMode::Ring);
    let loan = store.lend(&volume(), Arc::new(Silent)).unwrap();
    let mut machine = open_at_machine(&loan, 4);
    machine.write(0, &[8; PAGE as usize]).unwrap();
    machine.flush().unwrap();
    drop(loan);
    // One that could not be removed.
    std::fs::write(tail(left.path()), &old).unwrap();
    let loan = store.lend_again(&volume(), 4, Arc::new(Silent)).unwrap();
    machine.write(0, &[9; PAGE as usize]).unwrap();
    machine.flush().unwrap();
    drop(machine);
    assert_eq!(first_byte(&mut open_at_machine(&loan, 5)), 9);
}

/// Whether the file's first mebibyte is in the page cache; `None` where that cannot be told.
fn is_cached(file: &File) -> Option<bool> {
    let mut bytes = vec![0; 1 << 20];
    let buffers = &mut [io::IoSliceMut::new(&mut bytes)];
    match preadv2(file, buffers, 0, ReadWriteFlags::NOWAIT) {
        Ok(count) => Some(count == 1 << 20),
        Err(Errno::AGAIN) => Some(false),
        Err(_) => None,
    }
}

/// A failed flush leaves pages in the cache that the disk does not have. No machine gets to see those,
/// whether it gets the volume for the first time or goes on with it.
#[test]
fn a_machine_reads_the_disk_and_not_what_is_cached() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), IoMode::Buffered);
    let options = VolumeOptions { size_bytes: SIZE, key_check: None, base: None };
    store.create_volume(&volume(), &options).unwrap();
    let handle = store.open_volume(&volume(), with_key(1)).unwrap();
    handle.write(0, vec![1; 3 << 20]).unwrap();
    handle.close().unwrap();
    let path = folder.path().join("volumes").join(format!("{}.log", volume()));
    let file = File::open(&path).unwrap();
    let cache = || {
        std::fs::read(&path).unwrap();
        is_cached(&file) == Some(true)
    };
    // A file system that keeps its files in memory, or does not tell.
    let is_known = cache();
    fadvise(&file, 0, None, Advice::DontNeed).unwrap();
    if !is_known || is_cached(&file) != Some(false) {
        return;
    }
    assert!(cache());
    let loan = store.lend(&volume(), Arc::new(Silent)).unwrap();
    assert_eq!(is_cached(&file), Some(false));
    drop(loan);
    assert!(cache());
    let loan = store.lend_again(&volume(), 4, Arc::new(Silent)).unwrap();
    assert_eq!(is_cached(&file), Some(false));
    drop(loan);
}
