//! A disk in memory that forgets.
//!
//! Writes are visible at once and durable after a flush. A power cut keeps, of every unflushed
//! write, any subset of its 512-byte sectors, independent of the order they were written in. A
//! punched hole behaves as a write of zeros.

use crate::image::{Image, SECTOR_BYTES, Write};
use base::SeededRng;
use blockstore::live::Disk;
use std::collections::BTreeSet;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Magic of structures that begin with a clear header, and where their salt lies. Each of them is
/// sealed with a salt that nothing else is sealed with.
const SALTED: [(&[u8], usize); 2] = [(b"SRVOLUME", 16), (b"SRSG", 24)];

/// What the disk was asked for, in order.
#[derive(Clone)]
pub enum Operation {
    /// A write or a hole.
    Write(Write),
    /// Everything before it is durable.
    Flush,
}

#[derive(Default)]
struct State {
    /// What a power cut cannot take.
    durable: Image,
    /// Writes since the last flush, in order.
    pending: Vec<Write>,
    /// What a read shows: everything pending is done.
    visible: Image,
    /// Writes and flushes that are still allowed before power is lost.
    fuse: Option<u64>,
    operations: u64,
    /// Everything that was done, if somebody wants to know.
    journal: Option<Vec<Operation>>,
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

    /// A disk that holds this, all of it durable.
    pub fn holding(image: Image) -> Self {
        let visible = image.clone();
        Self(Mutex::new(State { durable: image, visible, ..State::default() }))
    }

    /// Keeps every write and flush from now on for [`SimDisk::take_journal`].
    pub fn keep_journal(&self) {
        self.state().journal = Some(Vec::new());
    }

    /// What was done since [`SimDisk::keep_journal`].
    pub fn take_journal(&self) -> Vec<Operation> {
        self.state().journal.take().unwrap_or_default()
    }

    /// What a read would show.
    pub fn image(&self) -> Image {
        self.state().visible.clone()
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
        let written = state.pending.iter();
        let written = written.flat_map(|write| (0..write.sectors()).map(move |at| (write, at)));
        let mut kept: Vec<_> = written.filter(|_| rng.below(100) < keep_percent).collect();
        // Of two writes to one sector either may be the one that stays.
        if rng.below(2) == 0 {
            for at in (1..kept.len()).rev() {
                kept.swap(at, rng.below(at as u64 + 1) as usize);
            }
        }
        for (write, sector) in kept {
            durable.apply_sector(write, sector);
        }
        state.fuse = Some(0);
        let (salts, salt_reused) = (state.salts.clone(), state.salt_reused);
        let visible = durable.clone();
        Self(Mutex::new(State { durable, visible, salts, salt_reused, ..State::default() }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn settle(&mut self) {
        for write in std::mem::take(&mut self.pending) {
            self.durable.settle(&write, &self.visible);
        }
        self.journal.iter_mut().for_each(|journal| journal.push(Operation::Flush));
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

    fn put(&mut self, write: Write) {
        self.visible.apply(&write);
        if let Some(journal) = &mut self.journal {
            journal.push(Operation::Write(write.clone()));
        }
        self.pending.push(write);
    }
}

impl Disk for SimDisk {
    fn read(&self, offset: u64, target: &mut [u8]) -> io::Result<()> {
        assert!(offset.is_multiple_of(SECTOR_BYTES as u64), "unaligned read at {offset}");
        self.state().visible.read(offset, target);
        Ok(())
    }

    fn write(&self, offset: u64, source: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        // The write that meets the power cut may have reached the disk in part.
        let spent = state.spend();
        state.watch(source);
        let write = state.visible.write(offset, source);
        state.put(write);
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
        Ok(state.durable.len().max(state.visible.len()))
    }

    fn punch(&self, offset: u64, length: u64) -> io::Result<()> {
        let mut state = self.state();
        state.spend()?;
        let write = state.visible.hole(offset, length);
        state.put(write);
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
