//! A disk in memory that forgets.
//!
//! Writes are visible at once and durable after a flush. A power cut keeps, of every unflushed
//! write, any subset of its 512-byte sectors, independent of the order they were written in. A
//! punched hole behaves as a write of zeros.

use base::SeededRng;
use blockstore::live::Disk;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Magic of structures that begin with a clear header, and where their salt lies. Each of them is
/// sealed with a salt that nothing else is sealed with.
const SALTED: [(&[u8], usize); 2] = [(b"SRVOLUME", 16), (b"SRSG", 24)];

/// What survives or is lost as a whole.
const SECTOR_BYTES: u64 = 512;

type Sector = [u8; SECTOR_BYTES as usize];

#[derive(Default)]
struct State {
    /// What a power cut cannot take.
    durable: BTreeMap<u64, Sector>,
    /// Sectors written since the last flush, in order. `None` is a hole.
    pending: Vec<(u64, Option<Sector>)>,
    /// The newest pending write of each sector.
    visible: BTreeMap<u64, Option<Sector>>,
    /// Writes and flushes that are still allowed before power is lost.
    fuse: Option<u64>,
    operations: u64,
    /// Salts of everything ever written, through all power cuts.
    salts: BTreeSet<[u8; 32]>,
    salt_reused: bool,
}

/// The disk.
#[derive(Default)]
pub struct SimDisk(Mutex<State>);

impl SimDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets `operations` more writes and flushes happen; the one after fails, as do all later.
    pub fn cut_power_after(&self, operations: u64) {
        self.state().fuse = Some(operations);
    }

    /// Writes and flushes so far.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Whether a salt was ever written twice: a key and nonce may have sealed two texts.
    pub fn salt_reused(&self) -> bool {
        self.state().salt_reused
    }

    /// What is on the disk when power returns: everything flushed and a random part of the rest.
    #[must_use]
    pub fn after_power_cut(&self, rng: &SeededRng) -> Self {
        let mut state = self.state();
        let mut durable = state.durable.clone();
        // Sometimes nothing is lost, sometimes everything, mostly a part of each write.
        let keep_percent = [0, 10, 50, 90, 100][rng.below(5) as usize];
        let mut kept: Vec<_> =
            state.pending.iter().filter(|_| rng.below(100) < keep_percent).copied().collect();
        // Of two writes to one sector either may be the one that stays.
        if rng.below(2) == 0 {
            for at in (1..kept.len()).rev() {
                kept.swap(at, rng.below(at as u64 + 1) as usize);
            }
        }
        for (sector, bytes) in kept {
            match bytes {
                Some(bytes) => durable.insert(sector, bytes),
                None => durable.remove(&sector),
            };
        }
        state.fuse = Some(0);
        let (salts, salt_reused) = (state.salts.clone(), state.salt_reused);
        Self(Mutex::new(State { durable, salts, salt_reused, ..State::default() }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn settle(&mut self) {
        for (sector, bytes) in std::mem::take(&mut self.visible) {
            match bytes {
                Some(bytes) => self.durable.insert(sector, bytes),
                None => self.durable.remove(&sector),
            };
        }
        self.pending.clear();
    }

    fn spend(&mut self) -> io::Result<()> {
        if self.fuse == Some(0) {
            return Err(io::Error::new(io::ErrorKind::BrokenPipe, "power is off"));
        }
        self.fuse = self.fuse.map(|left| left - 1);
        self.operations += 1;
        Ok(())
    }

    fn watch(&mut self, source: &[u8]) {
        let salted = SALTED.iter().find(|(magic, _)| source.starts_with(magic));
        if let Some(salt) = salted.and_then(|(_, at)| source.get(*at..)?.first_chunk::<32>()) {
            self.salt_reused |= !self.salts.insert(*salt);
        }
    }

    fn put(&mut self, sector: u64, bytes: Option<Sector>) {
        self.pending.push((sector, bytes));
        self.visible.insert(sector, bytes);
    }
}

impl Disk for SimDisk {
    fn read(&self, offset: u64, target: &mut [u8]) -> io::Result<()> {
        assert!(offset.is_multiple_of(SECTOR_BYTES), "unaligned read at {offset}");
        let state = self.state();
        for (sector, bytes) in (offset / SECTOR_BYTES..).zip(target.chunks_mut(512)) {
            let held = match state.visible.get(&sector) {
                Some(pending) => pending.as_ref(),
                None => state.durable.get(&sector),
            };
            match held {
                Some(held) => bytes.copy_from_slice(&held[..bytes.len()]),
                None => bytes.fill(0),
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, source: &[u8]) -> io::Result<()> {
        assert!(offset.is_multiple_of(SECTOR_BYTES), "unaligned write at {offset}");
        let mut state = self.state();
        // The write that meets the power cut may have reached the disk in part.
        let spent = state.spend();
        state.watch(source);
        let (sectors, rest) = source.as_chunks::<512>();
        assert!(rest.is_empty(), "a write of {} bytes", source.len());
        for (sector, bytes) in (offset / SECTOR_BYTES..).zip(sectors) {
            state.put(sector, Some(*bytes));
        }
        spent
    }

    fn flush(&self) -> io::Result<()> {
        let mut state = self.state();
        state.spend()?;
        state.settle();
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        let state = self.state();
        let last = |sector: Option<&u64>| sector.map_or(0, |sector| (sector + 1) * SECTOR_BYTES);
        Ok(last(state.durable.keys().next_back()).max(last(state.visible.keys().next_back())))
    }

    fn punch(&self, offset: u64, length: u64) -> io::Result<()> {
        let mut state = self.state();
        state.spend()?;
        let range = offset / SECTOR_BYTES..(offset + length) / SECTOR_BYTES;
        let held: Vec<u64> =
            state.durable.range(range.clone()).map(|(sector, _)| *sector).collect();
        let unflushed: Vec<u64> = state.visible.range(range).map(|(sector, _)| *sector).collect();
        for sector in held.into_iter().chain(unflushed) {
            state.put(sector, None);
        }
        Ok(())
    }
}

/// A disk whose flushes do nothing: what a program that forgot to flush looks like. A simulation
/// over it must fail.
pub struct DropFlush(pub std::sync::Arc<SimDisk>);

impl Disk for DropFlush {
    fn read(&self, offset: u64, target: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, target)
    }

    fn write(&self, offset: u64, source: &[u8]) -> io::Result<()> {
        self.0.write(offset, source)
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn punch(&self, offset: u64, length: u64) -> io::Result<()> {
        self.0.punch(offset, length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_power_cut_takes_only_what_was_not_flushed() {
        let rng = SeededRng::new(1);
        let disk = SimDisk::new();
        disk.write(0, &[1; 1024]).unwrap();
        disk.flush().unwrap();
        disk.write(512, &[2; 1024]).unwrap();
        let (mut kept, mut lost) = (false, false);
        for _ in 0..64 {
            let after = disk.after_power_cut(&rng);
            let mut bytes = [0; 1536];
            after.read(0, &mut bytes).unwrap();
            assert_eq!(bytes[0], 1);
            assert!(matches!(bytes[512], 1 | 2) && matches!(bytes[1024], 0 | 2));
            kept |= bytes[512] == 2;
            lost |= bytes[512] == 1;
        }
        assert!(kept && lost);
    }
}
