//! A disk in memory that forgets.
//!
//! Writes are visible at once and durable after a flush. A power cut keeps, of every unflushed
//! write, any subset of its 512-byte sectors, independent of the order they were written in. A
//! punched hole behaves as a write of zeros.
//!
//! Writes that were only started are visible at once too. They reach the disk later, in any order;
//! until then a power cut takes them whole or in part.

use crate::image::{Image, SECTOR_BYTES, Write};
use base::SeededRng;
use blockstore::live::{AlignedBuffer, Disk};
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
    /// Writes that were started and have not reached the disk.
    started: Vec<Write>,
    /// Power is off: what is started now reaches nothing.
    off: bool,
    /// What a read shows: everything pending and started is done.
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

    /// A disk that holds this instead, and remembers the salts that were written to this one.
    pub fn reborn(&self, image: Image) -> Self {
        let state = self.state();
        let (salts, salt_reused) = (state.salts.clone(), state.salt_reused);
        let visible = image.clone();
        let durable = image;
        Self(Mutex::new(State { durable, visible, salts, salt_reused, ..State::default() }))
    }

    /// Keeps every write and flush from now on for [`SimDisk::take_journal`].
    pub fn keep_journal(&self) {
        self.state().journal = Some(Vec::new());
    }

    /// What was done since [`SimDisk::keep_journal`].
    pub fn take_journal(&self) -> Vec<Operation> {
        self.state().journal.take().unwrap_or_default()
    }

    /// What a read shows.
    pub fn image(&self) -> Image {
        self.state().visible.clone()
    }

    /// Loses everything that was not flushed, as a flush that fails may.
    pub fn forget_pending(&self) {
        let mut state = self.state();
        state.pending.clear();
        state.started.clear();
        state.visible = state.durable.clone();
    }

    /// What no power cut takes.
    pub fn durable(&self) -> Image {
        self.state().durable.clone()
    }

    /// Lets `operations` more writes and flushes happen; the one after fails, as do all later.
    pub fn cut_power_after(&self, operations: u64) {
        self.state().fuse = Some(operations);
    }

    /// Writes and flushes so far.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// A flush that forgets what was only started.
    ///
    /// # Errors
    /// When power is off.
    pub fn flush_arrived(&self) -> io::Result<()> {
        let mut state = self.state();
        state.spend()?;
        state.settle_arrived();
        Ok(())
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
        // Of those under way, perhaps nothing arrived.
        for write in state.started.iter().filter(|_| rng.below(2) == 0) {
            for at in (0..write.sectors()).filter(|_| rng.below(100) < keep_percent) {
                durable.apply_sector(write, at);
            }
        }
        for (write, sector) in kept {
            durable.apply_sector(write, sector);
        }
        state.fuse = Some(0);
        state.off = true;
        let (salts, salt_reused) = (state.salts.clone(), state.salt_reused);
        let visible = durable.clone();
        Self(Mutex::new(State { durable, visible, salts, salt_reused, ..State::default() }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Lets some of the started writes reach the disk, in an order of the disk's own.
    fn go_on(&mut self) {
        for turn in 0..self.started.len() as u64 {
            let rolled = (self.operations + turn).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
            if rolled.is_multiple_of(4) {
                let at = (rolled >> 2) as usize % self.started.len();
                self.pending.push(self.started.swap_remove(at));
            }
        }
    }

    fn settle(&mut self) {
        self.pending.append(&mut self.started);
        self.settle_arrived();
    }

    /// Makes durable what has reached the disk, and only that.
    fn settle_arrived(&mut self) {
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
        self.go_on();
        Ok(())
    }

    fn watch(&mut self, source: &[u8]) {
        let salted = SALTED.iter().find(|(magic, _)| source.starts_with(magic));
        if let Some(salt) = salted.and_then(|(_, at)| source.get(*at..)?.first_chunk::<32>()) {
            self.salt_reused |= !self.salts.insert(*salt);
        }
    }

    fn put(&mut self, write: Write) {
        self.show(&write);
        self.pending.push(write);
    }

    fn show(&mut self, write: &Write) {
        self.visible.apply(write);
        if let Some(journal) = &mut self.journal {
            journal.push(Operation::Write(write.clone()));
        }
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

    /// Never refuses: that power is gone shows with the next call that waits for the disk.
    fn start_write(&self, offset: u64, buffer: &mut AlignedBuffer) -> io::Result<()> {
        let mut state = self.state();
        let on = state.spend().is_ok();
        state.watch(buffer);
        let write = state.visible.write(offset, buffer);
        state.show(&write);
        // The first write without power may have begun while there was some.
        if on || !state.off {
            state.started.push(write);
        }
        state.off |= !on;
        buffer.fill(0xee);
        Ok(())
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

    fn start_write(&self, offset: u64, buffer: &mut AlignedBuffer) -> io::Result<()> {
        self.0.start_write(offset, buffer)
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

/// A disk whose flushes forget the writes that were only started: what a program looks like that
/// does not wait for them. A simulation over it must fail.
pub struct EarlyFlush(pub std::sync::Arc<SimDisk>);

impl Disk for EarlyFlush {
    fn read(&self, offset: u64, target: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, target)
    }

    fn write(&self, offset: u64, source: &[u8]) -> io::Result<()> {
        self.0.write(offset, source)
    }

    fn start_write(&self, offset: u64, buffer: &mut AlignedBuffer) -> io::Result<()> {
        self.0.start_write(offset, buffer)
    }

    fn flush(&self) -> io::Result<()> {
        self.0.flush_arrived()
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

    #[test]
    fn a_started_write_is_seen_at_once_and_may_be_lost_whole() {
        let rng = SeededRng::new(2);
        let disk = SimDisk::new();
        let mut buffer = AlignedBuffer::zeroed(1024);
        buffer.fill(3);
        disk.start_write(4096, &mut buffer).unwrap();
        assert_eq!(buffer.len(), 1024);
        let held = |disk: &SimDisk| {
            let mut bytes = [0; 1024];
            disk.read(4096, &mut bytes).unwrap();
            (bytes[0], bytes[512])
        };
        assert_eq!(held(&disk), (3, 3));
        let outcomes: BTreeSet<_> = (0..64).map(|_| held(&disk.after_power_cut(&rng))).collect();
        assert!(outcomes.contains(&(0, 0)) && outcomes.contains(&(3, 3)), "{outcomes:?}");
        disk.cut_power_after(u64::MAX);
        disk.flush().unwrap();
        assert!((0..64).all(|_| held(&disk.after_power_cut(&rng)) == (3, 3)));
    }
}
