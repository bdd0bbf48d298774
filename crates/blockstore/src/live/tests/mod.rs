//! Engines on a disk in memory that can be damaged, refuse to read, and outlive who writes it.

mod cleaning;
mod damage;
mod drops;
mod holds;
mod idle;

use super::delta::Entry;
use super::layout::{SLOT_BYTES, SLOT_COUNT, byte_offset};
use super::{
    AlignedBuffer, Disk, Engine, EngineConfig, Error, InspectJob, MemoryTail, Need, OpenOptions,
    Pin, Space, VolumeOptions, VolumeReport, inspect,
};
use crate::check::Unwatched;
use crate::page::{DataKey, KeyAtHand, Lba, NoKey, PAGE_BYTES, StructureKey};
use base::{Rng, Secret, SeededRng};
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Bytes of a volume.
const SIZE: u64 = 8 << 20;

/// `EIO`
const LOST_SECTOR: i32 = 5;
/// `ETIMEDOUT`
const TIMED_OUT: i32 = 110;

/// A disk in memory.
#[derive(Default)]
struct MemoryDisk {
    bytes: Mutex<Vec<u8>>,
    /// Pages of the file that cannot be read, and what is said then.
    unreadable: Mutex<BTreeMap<u64, i32>>,
    /// Pages of the file that are read from memory, whatever the medium has.
    cached: Mutex<BTreeMap<u64, Vec<u8>>>,
    /// Whether everything can be read after a moment.
    is_passing: AtomicBool,
    /// Whether nothing but superblocks can be written.
    is_full: AtomicBool,
    /// How often something was read, and how often that was refused.
    reads: AtomicU64,
    refusals: AtomicU64,
    tail: Mutex<Option<MemoryTail>>,
    left: Mutex<Option<Vec<u8>>>,
}

impl MemoryDisk {
    /// Changes a bit in the page at a location.
    fn damage(&self, location: u64) {
        self.bytes.lock().unwrap()[byte_offset(location) as usize + 99] ^= 4;
    }

    /// Has the medium lose the page at a location.
    fn refuse(&self, location: u64) {
        self.unreadable.lock().unwrap().insert(location, LOST_SECTOR);
    }

    /// Has every read fail for a reason that passes.
    fn disconnect(&self) {
        self.fail_everywhere(TIMED_OUT);
    }

    /// Has the medium say this of every page.
    fn fail_everywhere(&self, code: i32) {
        let pages = 0..self.bytes.lock().unwrap().len() / PAGE_BYTES;
        self.unreadable.lock().unwrap().extend(pages.map(|page| (page as u64, code)));
    }

    /// Reads the page at a location through a cache that keeps it.
    fn cache(&self, location: u64) {
        let mut page = vec![0; PAGE_BYTES];
        self.read(byte_offset(location), &mut page).unwrap();
        self.cached.lock().unwrap().insert(location, page);
    }

    fn connect(&self) {
        self.unreadable.lock().unwrap().clear();
    }
}

impl Disk for MemoryDisk {
    fn read(&self, offset: u64, target: &mut [u8]) -> io::Result<()> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let first = offset / PAGE_BYTES as u64;
        let pages = first..(offset + target.len() as u64).div_ceil(PAGE_BYTES as u64);
        if let Some(page) = self.cached.lock().unwrap().get(&first)
            && target.len() == PAGE_BYTES
        {
            target.copy_from_slice(page);
            return Ok(());
        }
        if let Some((_, code)) = self.unreadable.lock().unwrap().range(pages).next() {
            self.refusals.fetch_add(1, Ordering::Relaxed);
            return Err(io::Error::from_raw_os_error(*code));
        }
        let bytes = self.bytes.lock().unwrap();
        let held = bytes.get(offset as usize..).unwrap_or_default();
        let held = &held[..held.len().min(target.len())];
        target[..held.len()].copy_from_slice(held);
        target[held.len()..].fill(0);
        Ok(())
    }

    fn write(&self, offset: u64, source: &[u8]) -> io::Result<()> {
        if self.is_full.load(Ordering::Relaxed) && offset >= SLOT_COUNT * SLOT_BYTES as u64 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let mut bytes = self.bytes.lock().unwrap();
        let end = offset as usize + source.len();
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        bytes[offset as usize..end].copy_from_slice(source);
        let pages = offset / PAGE_BYTES as u64..end.div_ceil(PAGE_BYTES) as u64;
        self.cached.lock().unwrap().retain(|page, _| !pages.contains(page));
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn forget_cached(&self) -> io::Result<()> {
        self.cached.lock().unwrap().clear();
        Ok(())
    }

    fn pause(&self) {
        if self.is_passing.swap(false, Ordering::Relaxed) {
            self.connect();
        }
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes.lock().unwrap().len() as u64)
    }

    fn begin_tail(&self) -> io::Result<Option<AlignedBuffer>> {
        let tail = MemoryTail::new(1)?;
        let first = tail.buffers().pop();
        *self.left.lock().unwrap() = None;
        *self.tail.lock().unwrap() = Some(tail);
        Ok(first)
    }

    fn left_tail(&self) -> io::Result<Option<Vec<u8>>> {
        let mut left = self.left.lock().unwrap();
        if let Some(tail) = self.tail.lock().unwrap().take() {
            *left = Some(tail.copy().expect("the engine is gone"));
        }
        Ok(left.clone())
    }

    fn end_tail(&self) -> io::Result<()> {
        *self.left.lock().unwrap() = None;
        *self.tail.lock().unwrap() = None;
        Ok(())
    }

    fn punch(&self, offset: u64, length: u64) -> io::Result<()> {
        let mut bytes = self.bytes.lock().unwrap();
        let end = bytes.len().min((offset + length) as usize);
        if (offset as usize) < end {
            bytes[offset as usize..end].fill(0);
        }
        Ok(())
    }
}

/// A place with room for so many bytes.
struct Narrow(u64);

impl Space for Narrow {
    fn ask(&self, need: Need) -> bool {
        need.held + need.upkeep <= self.0
    }

    fn refused(&self) {}

    fn tell(&self, _: Need) {}

    fn is_short(&self) -> bool {
        true
    }
}

fn structure() -> StructureKey {
    StructureKey::derive(&Secret::new([1; 32]), "vol-00000001")
}

fn key() -> DataKey {
    DataKey::new(&Secret::new([2; 64]))
}

fn open(disk: &Arc<MemoryDisk>) -> Result<Engine, Error> {
    let options = OpenOptions { data_key: Some(key()), ..OpenOptions::default() };
    let (disk, rng) = (Arc::clone(disk) as Arc<dyn Disk>, Arc::new(rng(disk)));
    Engine::open(disk, structure(), rng, EngineConfig::tiny(), options)
}

/// Randomness that no earlier opening had.
fn rng(disk: &MemoryDisk) -> SeededRng {
    let seed = disk
        .bytes
        .lock()
        .unwrap()
        .iter()
        .fold(7, |sum: u64, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
    SeededRng::new(seed)
}

/// A new volume and its disk.
fn volume() -> (Arc<MemoryDisk>, Engine) {
    volume_of(SIZE)
}

fn volume_of(size_bytes: u64) -> (Arc<MemoryDisk>, Engine) {
    let disk = Arc::new(MemoryDisk::default());
    let options = VolumeOptions { size_bytes, key_check: None, base: None };
    let config = EngineConfig::tiny();
    Engine::create(&*disk, &structure(), &SeededRng::new(5), &config, &options).unwrap();
    let engine = open(&disk).unwrap();
    (disk, engine)
}

/// What [`fill`] writes to a page.
fn content(lba: Lba, seed: u8) -> Vec<u8> {
    (0..PAGE_BYTES).map(|at| seed ^ lba as u8 ^ (at >> 3) as u8).collect()
}

fn fill(engine: &mut Engine, pages: Range<Lba>, seed: u8) {
    for lba in pages {
        engine.write(lba * PAGE_BYTES as u64, &content(lba, seed)).unwrap();
    }
}

fn read(engine: &mut Engine, lba: Lba) -> Result<Vec<u8>, Error> {
    let mut page = vec![0; PAGE_BYTES];
    engine.read(lba * PAGE_BYTES as u64, &mut page).map(|()| page)
}

fn entry(engine: &mut Engine, lba: Lba) -> Entry {
    engine.entry(lba).unwrap()
}

/// Cleans and merges as a quiet volume does, until there is nothing to do.
fn clean_all(engine: &mut Engine) {
    for _ in 0..10_000 {
        if !engine.maintain().unwrap()
            && !engine.clean_step().unwrap()
            && !engine.give_back_step(false)
        {
            return;
        }
    }
    panic!("cleaning has no end");
}

fn inspected(disk: &Arc<MemoryDisk>, key: &dyn KeyAtHand) -> VolumeReport {
    let pin = Arc::new(Pin::default());
    let job = InspectJob {
        structure: structure(),
        config: EngineConfig::tiny(),
        base: Some(None),
        key,
        watch: &Unwatched,
        hold: &pin.hold(),
    };
    let disk = Arc::clone(disk) as Arc<dyn Disk>;
    inspect(&disk, Arc::new(SeededRng::new(7)) as Arc<dyn Rng>, job).unwrap()
}

/// What a check sees with the data key and what without.
fn reports(disk: &Arc<MemoryDisk>) -> [VolumeReport; 2] {
    [inspected(disk, &key()), inspected(disk, &NoKey)]
}
