//! A disk in memory that forgets.
//!
//! Writes are visible at once and durable after a flush. A power cut keeps, of every unflushed
//! write, any subset of its 512-byte sectors, independent of the order they were written in. A
//! punched hole behaves as a write of zeros.
//!
//! Writes that were only started are visible at once too. They reach the disk later, in any order;
//! until then a power cut takes them whole or in part.
//!
//! Where only the process is killed, what reached the disk stays, flushed or not, and of what was
//! started perhaps nothing arrives. If the disk is another machine's, the last writes may still have been
//! on their way to it, back to where it was last known to have them. The tail of the process is left as
//! it was; a power cut leaves any part of that.

use crate::image::{Image, SECTOR_BYTES, Write};
use base::SeededRng;
use blockstore::live::{AlignedBuffer, Disk, MemoryTail};
use blockstore::page::PAGE_BYTES;
use std::collections::BTreeSet;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Magic of structures that begin with a clear header, and where their salt lies. Each of them is
/// sealed with a salt that nothing else is sealed with.
const SALTED: [(&[u8], usize); 2] = [(b"SRVOLUME", 16), (b"SRSG", 24)];

/// Chunks of a tail: few, so that they are used again soon.
const TAIL_CHUNKS: usize = 2;

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
    /// How many of them the disk is known to have, also if it is another machine's.
    handed_over: usize,
    /// Writes that were started and have not reached the disk.
    started: Vec<Started>,
    /// Power is off: what is started now reaches nothing.
    off: bool,
    /// How many of the pending writes had been made when it went off.
    arrived: Option<usize>,
    tail: Option<SimTail>,
    /// What a process that was killed left in its tail.
    left: Option<Vec<u8>>,
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

/// A write under way, with the memory of a tail that it comes from.
struct Started {
    write: Write,
    buffer: Option<AlignedBuffer>,
}

struct SimTail {
    memory: MemoryTail,
    /// Buffers that nothing is under way in, and that the engine does not have.
    free: Vec<AlignedBuffer>,
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
        self.state().reborn(image, None)
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
        state.handed_over = 0;
        state.started.clear();
        state.visible = state.durable.clone();
    }

    /// Loses everything that was not flushed and goes on showing it, as Linux does where it cannot write a
    /// page back.
    pub fn forget_unseen(&self) {
        let mut state = self.state();
        state.pending.clear();
        state.handed_over = 0;
        state.started.clear();
    }

    /// Accepts a write and cannot make it: only so many of its bytes arrive. The memory of a tail that it
    /// comes from stays as it is until it is used again.
    pub fn start_and_lose(&self, offset: u64, buffer: &mut AlignedBuffer, arriving: usize) {
        let mut state = self.state();
        if arriving > 0 {
            let write = state.visible.write(offset, &buffer[..arriving]);
            state.put(write);
        }
        if let Some(mut spare) = state.spare() {
            spare.set_length(buffer.len());
            let held = std::mem::replace(buffer, spare);
            if let Some(tail) = &mut state.tail {
                tail.free.insert(0, held);
            }
        }
        buffer.fill(0xee);
    }

    /// What no power cut takes.
    pub fn durable(&self) -> Image {
        self.state().durable.clone()
    }

    /// Lets `operations` more writes and flushes happen; the one after fails, as do all later.
    pub fn cut_power_after(&self, operations: u64) {
        let mut state = self.state();
        (state.fuse, state.arrived) = (Some(operations), None);
    }

    /// Whether power was asked for when there was none.
    pub fn has_failed(&self) -> bool {
        self.state().arrived.is_some()
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
        for Started { write, .. } in state.started.iter().filter(|_| rng.below(2) == 0) {
            for at in (0..write.sectors()).filter(|_| rng.below(100) < keep_percent) {
                durable.apply_sector(write, at);
            }
        }
        for (write, sector) in kept {
            durable.apply_sector(write, sector);
        }
        state.fuse = Some(0);
        state.off = true;
        let left = state.abandon_tail().and_then(|left| weather(left, rng));
        state.reborn(durable, left)
    }

    /// What is there when power returns that failed when the disk had all it was sent, but perhaps not what
    /// was under way, of a tail that lost one of the pages that something was in. `None` where there is no
    /// tail, or nothing in it.
    pub fn after_loss_of_a_tail_page(&self, rng: &SeededRng) -> Option<Self> {
        let mut state = self.state();
        let mut left = state.abandon_tail()?;
        let pages = left.chunks_mut(PAGE_BYTES).filter(|page| page.iter().any(|byte| *byte != 0));
        let mut pages: Vec<_> = pages.collect();
        let lost = (!pages.is_empty()).then(|| rng.below(pages.len() as u64) as usize)?;
        pages[lost].fill(0);
        let mut durable = state.durable.clone();
        for Started { write, .. } in state.started.iter().filter(|_| rng.below(2) == 0) {
            durable.apply(write);
        }
        let arrived = state.arrived.unwrap_or(state.pending.len());
        state.pending[..arrived].iter().for_each(|write| durable.apply(write));
        Some(state.reborn(durable, Some(left)))
    }

    /// What the next process finds after one was killed. Its engine must be gone.
    #[must_use]
    pub fn after_kill(&self, rng: &SeededRng) -> Self {
        let mut state = self.state();
        let mut pending = state.pending.clone();
        // The write it was killed in may have been made.
        let whole = state.arrived.map(|arrived| arrived + rng.below(2) as usize);
        pending.truncate(whole.unwrap_or(pending.len()));
        if rng.below(2) == 0 {
            let on_their_way = pending.len().saturating_sub(state.handed_over);
            pending.truncate(pending.len() - rng.below(on_their_way as u64 + 1) as usize);
        }
        let mut durable = state.durable.clone();
        for Started { write, .. } in &state.started {
            // What is under way is the kernel's: it arrives as a whole, in part, or not at all.
            let percent = [0, 50, 100][rng.below(3) as usize];
            for at in (0..write.sectors()).filter(|_| rng.below(100) < percent) {
                durable.apply_sector(write, at);
            }
        }
        let mut visible = durable.clone();
        pending.iter().for_each(|write| visible.apply(write));
        let left = state.abandon_tail();
        let (salts, salt_reused) = (state.salts.clone(), state.salt_reused);
        Self(Mutex::new(State {
            durable,
            handed_over: pending.len(),
            pending,
            visible,
            left,
            salts,
            salt_reused,
            ..State::default()
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// A disk after a power cut, that remembers the salts that were written to this one.
    fn reborn(&self, durable: Image, left: Option<Vec<u8>>) -> SimDisk {
        let (salts, salt_reused) = (self.salts.clone(), self.salt_reused);
        let visible = durable.clone();
        SimDisk(Mutex::new(State {
            durable,
            visible,
            left,
            salts,
            salt_reused,
            ..State::default()
        }))
    }

    /// Lets some of the started writes reach the disk, in an order of the disk's own.
    fn go_on(&mut self) {
        for turn in 0..self.started.len() as u64 {
            let rolled = (self.operations + turn).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
            if rolled.is_multiple_of(4) {
                self.arrive((rolled >> 2) as usize % self.started.len());
            }
        }
    }

    /// Has a started write reach the disk.
    fn arrive(&mut self, at: usize) {
        let Started { write, buffer } = self.started.swap_remove(at);
        // What began while there was power is among what had been made then.
        let made = self.arrived.as_mut().map(|arrived| std::mem::replace(arrived, *arrived + 1));
        self.pending.insert(made.unwrap_or(self.pending.len()), write);
        if let (Some(tail), Some(buffer)) = (&mut self.tail, buffer) {
            // Nothing is left of it but what the disk has, and that has what was sent before.
            self.handed_over = made.map_or(self.pending.len(), |made| made + 1);
            tail.free.push(buffer);
        }
    }

    fn settle(&mut self) {
        while !self.started.is_empty() {
            self.arrive(0);
        }
        self.settle_arrived();
    }

    /// What the tail holds, when the engine that had it is gone.
    fn abandon_tail(&mut self) -> Option<Vec<u8>> {
        if let Some(SimTail { memory, free }) = self.tail.take() {
            drop(free);
            self.started.iter_mut().for_each(|started| started.buffer = None);
            self.left = Some(memory.copy().expect("the engine is gone"));
        }
        self.left.clone()
    }

    /// Makes durable what has reached the disk, and only that.
    fn settle_arrived(&mut self) {
        self.handed_over = 0;
        for write in std::mem::take(&mut self.pending) {
            self.durable.settle(&write, &self.visible);
        }
        self.journal.iter_mut().for_each(|journal| journal.push(Operation::Flush));
    }

    fn refuse(&mut self) -> io::Error {
        self.arrived.get_or_insert(self.pending.len());
        io::Error::new(io::ErrorKind::BrokenPipe, "power is off")
    }

    fn spend(&mut self) -> io::Result<()> {
        if self.fuse == Some(0) {
            return Err(self.refuse());
        }
        self.fuse = self.fuse.map(|left| left - 1);
        self.operations += 1;
        self.go_on();
        Ok(())
    }

    /// Another buffer of the tail, if there is a tail. When all are under way, one arrives.
    fn spare(&mut self) -> Option<AlignedBuffer> {
        if self.tail.as_ref()?.free.is_empty() {
            let at = self.started.iter().position(|started| started.buffer.is_some());
            self.arrive(at.expect("a buffer is free, under way, or the engine's"));
        }
        self.tail.as_mut()?.free.pop()
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

/// What a power cut makes of a tail, which nobody flushed: of each of its pages this, or nothing.
fn weather(mut left: Vec<u8>, rng: &SeededRng) -> Option<Vec<u8>> {
    let kept = [0, 0, 0, 50, 90, 100][rng.below(6) as usize];
    for page in left.chunks_mut(PAGE_BYTES).filter(|_| rng.below(100) >= kept) {
        page.fill(0);
    }
    (kept > 0).then_some(left)
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
            let spare = state.spare();
            let buffer = spare.map(|mut spare| {
                spare.set_length(buffer.len());
                std::mem::replace(buffer, spare)
            });
            state.started.push(Started { write, buffer });
        }
        state.off |= !on;
        buffer.fill(0xee);
        Ok(())
    }

    fn hand_over(&self) -> io::Result<()> {
        let mut state = self.state();
        if state.fuse == Some(0) {
            return Err(state.refuse());
        }
        state.handed_over = state.pending.len();
        Ok(())
    }

    fn begin_tail(&self) -> io::Result<Option<AlignedBuffer>> {
        let mut state = self.state();
        let memory = MemoryTail::new(TAIL_CHUNKS)?;
        let mut free = memory.buffers();
        let first = free.pop();
        // Who is dead changes nothing any more.
        if state.arrived.is_none() {
            state.tail = Some(SimTail { memory, free });
            state.left = None;
        }
        Ok(first)
    }

    fn left_tail(&self) -> io::Result<Option<Vec<u8>>> {
        Ok(self.state().abandon_tail())
    }

    fn end_tail(&self) -> io::Result<()> {
        let mut state = self.state();
        if state.fuse == Some(0) {
            return Err(state.refuse());
        }
        (state.tail, state.left) = (None, None);
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        let mut state = self.state();
        state.spend()?;
        state.settle();
        Ok(())
    }

    fn forget_cached(&self) -> io::Result<()> {
        let mut state = self.state();
        let mut held = state.durable.clone();
        let written =
            state.pending.iter().chain(state.started.iter().map(|started| &started.write));
        written.for_each(|write| held.apply(write));
        state.visible = held;
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

    fn forget_cached(&self) -> io::Result<()> {
        self.0.forget_cached()
    }

    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn hand_over(&self) -> io::Result<()> {
        self.0.hand_over()
    }

    fn begin_tail(&self) -> io::Result<Option<AlignedBuffer>> {
        self.0.begin_tail()
    }

    fn left_tail(&self) -> io::Result<Option<Vec<u8>>> {
        self.0.left_tail()
    }

    fn end_tail(&self) -> io::Result<()> {
        self.0.end_tail()
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

    fn forget_cached(&self) -> io::Result<()> {
        self.0.forget_cached()
    }

    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn hand_over(&self) -> io::Result<()> {
        self.0.hand_over()
    }

    fn begin_tail(&self) -> io::Result<Option<AlignedBuffer>> {
        self.0.begin_tail()
    }

    fn left_tail(&self) -> io::Result<Option<Vec<u8>>> {
        self.0.left_tail()
    }

    fn end_tail(&self) -> io::Result<()> {
        self.0.end_tail()
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
