//! The thread that owns a volume, and the thread that waits for its flushes.
//!
//! A volume is owned by its thread except for the moments in which somebody brings a small piece of
//! work and finds nothing queued and nobody at it: that work is done on the spot, because waking two
//! threads costs several times what a 4 KiB request does. Who holds the desk owns the volume.

use super::chores::{Chores, Guest, Pause, QUIET};
use super::crew::Crew;
use super::flusher::{FlushDone, FlushJob, Flusher};
use super::gate::{Closing, Gate};
use super::reader::{PlannedRead, Read, ReadThen, Reader};
use super::size::Size;
use crate::live::{AlignedBuffer, Disk, Engine, Error, Misses, Port};
use base::VolumeId;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long a guest is silent before its volume counts as idle: longer than the pauses of one that is at
/// work, such as those between the commits of a file system's journal.
pub(super) const IDLE: Duration = Duration::from_secs(10);

/// Bounds of what waits for a volume, and of how long it waits.
#[derive(Clone, Copy)]
pub(super) struct QueueLimits {
    /// Batches of work that wait before submitting does.
    pub(super) batches: usize,
    /// A volume that was asked for nothing in this time is idle.
    pub(super) idle: Duration,
}

/// Something to do on the thread that owns a volume: a batch of requests with their reply slots.
///
/// One allocation per batch; whatever the batch holds is the caller's business.
pub trait Work: Send {
    /// Does it. Must not wait for other work on the same volume.
    fn run(self: Box<Self>, volume: &mut Volume);

    /// Whether it is over so soon that it is better done by whoever brings it than handed over.
    fn is_small(&self) -> bool {
        false
    }
}

impl<F: FnOnce(&mut Volume) + Send> Work for F {
    fn run(self: Box<Self>, volume: &mut Volume) {
        self(volume);
    }
}

/// A volume as its own thread sees it.
pub struct Volume {
    engine: Engine,
    flusher: Arc<Flusher>,
    /// Flushes that were asked for and begin when the desk is free again.
    flushes: Vec<FlushJob>,
    /// Likewise reads.
    reads: Vec<PlannedRead>,
    reader: Arc<Reader>,
    size: Arc<Size>,
    /// Whether somebody has it open with its data key.
    pub(super) attached: bool,
}

impl Volume {
    /// The engine, for reading and writing.
    pub fn engine(&mut self) -> &mut Engine {
        &mut self.engine
    }

    /// Calls `done` when everything written so far is durable. Reads and writes go on meanwhile;
    /// flushes asked for while the disk is busy with one are answered together by the next.
    pub fn flush_then(&mut self, done: FlushDone) {
        match self.engine.seal() {
            Ok(None) => done(Ok(())),
            Ok(Some(sequence)) => self.flushes.push(FlushJob { sequence, done }),
            Err(error) => done(Err(error)),
        }
    }

    /// Makes the volume larger, and tells those who watch its size.
    ///
    /// # Errors
    /// As [`Engine::resize`].
    pub fn resize(&mut self, size_bytes: u64) -> Result<(), Error> {
        self.engine.resize(size_bytes)?;
        self.size.note(size_bytes);
        Ok(())
    }

    /// Calls `done` with the bytes at `offset`, as many as the buffer has, as of now. Other work goes
    /// on meanwhile.
    pub fn read_then(&mut self, offset: u64, mut buffer: AlignedBuffer, done: ReadThen) {
        // Where others wait for the disk as well, one does not wait here.
        let alone = self.reads.is_empty() && !self.reader.is_reading();
        let misses = if alone { Misses::Read } else { Misses::Report };
        match self.engine.plan_read(offset, &mut buffer, misses) {
            Ok(plan) => self.reads.push(self.reader.plan(plan, Read { offset, buffer, done })),
            Err(error) => {
                buffer.fill(0);
                done(Err(error), buffer);
            }
        }
    }

    /// Waits for reads under way: afterwards nobody else has keys of the volume.
    pub(super) fn await_reads(&self) {
        self.reader.await_all();
    }

    /// Takes note of what the flusher achieved.
    fn absorb(&mut self) {
        match self.flusher.durable() {
            Some(sequence) => self.engine.note_durable(sequence),
            None => self.engine.note_failure(),
        }
    }
}

pub(super) enum Command {
    Work(Box<dyn Work>),
    /// There are chores to do while nothing else is.
    Chores,
    /// Write everything out and end.
    Stop(SyncSender<Result<(), Error>>),
}

impl Command {
    fn into_work(self) -> Box<dyn Work> {
        match self {
            Self::Work(work) => work,
            Self::Chores | Self::Stop(_) => unreachable!("only work is asked back"),
        }
    }
}

/// The way to a volume's thread.
#[derive(Clone)]
pub(super) struct Queue {
    sender: Arc<SyncSender<Command>>,
    desk: Arc<Desk>,
    size: Arc<Size>,
    threads: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

/// Where the volume lies for whoever works on it.
struct Desk {
    disk: Arc<dyn Disk>,
    /// Before `open`: whoever has that and finds this closed leaves again.
    gate: Gate,
    /// `None` once the volume is closed.
    open: Mutex<Option<Open>>,
    /// Work that was handed over and is not done yet. While there is any, nobody works on the spot:
    /// what one caller hands over stays in order.
    queued: AtomicUsize,
}

pub(super) struct Open {
    volume: Volume,
    chores: Chores,
    /// The flusher was asked to flush a log that has become long.
    flush_asked: Arc<AtomicBool>,
    /// Pieces of work so far.
    works: u64,
}

/// What is left to do of a piece of work once the desk is free.
pub(super) struct Rest {
    flusher: Arc<Flusher>,
    flushes: Vec<FlushJob>,
    reader: Arc<Reader>,
    reads: Vec<PlannedRead>,
}

impl Rest {
    /// Has it done elsewhere.
    pub(super) fn hand_over(self) {
        self.reader.start(self.reads, None);
        self.flushes.into_iter().for_each(|job| self.flusher.hand_over(job));
    }

    /// Does it here if nobody else is at it: what waits for nothing else is done soonest by who
    /// asked for it. Reads go through who asks' own port, if it has one.
    fn finish(self, port: Option<&mut Port>) {
        let reading = self.reader.read_here(self.reads, port);
        if self.flushes.is_empty() {
            return;
        }
        if reading {
            // Who waits for reads as well is not kept waiting for a flush.
            self.flushes.into_iter().for_each(|job| self.flusher.hand_over(job));
        } else {
            self.flusher.flush_here(self.flushes);
        }
    }
}

impl Open {
    /// Does a piece of work, and the chores that came due.
    fn work_with_chores(&mut self, work: Box<dyn Work>, gate: &Gate) -> Rest {
        let rest = self.work(work);
        self.chores.run(&mut self.volume.engine, Guest::Busy, gate);
        rest
    }

    /// Does a piece of work.
    pub(super) fn work(&mut self, work: Box<dyn Work>) -> Rest {
        self.works += 1;
        self.volume.absorb();
        work.run(&mut self.volume);
        self.flush_long_log();
        let volume = &mut self.volume;
        Rest {
            flusher: Arc::clone(&volume.flusher),
            flushes: std::mem::take(&mut volume.flushes),
            reader: Arc::clone(&volume.reader),
            reads: std::mem::take(&mut volume.reads),
        }
    }

    /// Has a long log flushed before the engine must wait for that itself.
    fn flush_long_log(&mut self) {
        if self.volume.engine.is_flush_near() && !self.flush_asked.swap(true, Ordering::AcqRel) {
            let asked = Arc::clone(&self.flush_asked);
            // A failure reaches everybody through `Volume::absorb`.
            let done = Box::new(move |_| asked.store(false, Ordering::Release));
            match self.volume.engine.seal() {
                Ok(Some(sequence)) => self.volume.flusher.hand_over(FlushJob { sequence, done }),
                Ok(None) | Err(_) => done(Ok(())),
            }
        }
    }

    /// Does a part of the chores.
    fn idle(&mut self, guest: Guest, gate: &Gate) {
        self.volume.absorb();
        self.chores.run(&mut self.volume.engine, guest, gate);
    }
}

impl Desk {
    /// Waits for the desk; `None` when work that panicked has ended the volume.
    fn enter(&self) -> Option<MutexGuard<'_, Option<Open>>> {
        loop {
            let guard = self.open.lock().ok()?;
            if !self.gate.is_closed() {
                return Some(guard);
            }
            drop(guard);
            self.gate.pass();
        }
    }
}

impl Queue {
    /// Starts the threads of a volume.
    pub(super) fn start(
        id: &VolumeId,
        engine: Engine,
        attached: bool,
        limits: QueueLimits,
        crew: &Arc<Crew>,
    ) -> io::Result<Self> {
        let (sender, receiver) = mpsc::sync_channel(limits.batches);
        let sender = Arc::new(sender);
        let size = Size::new(engine.size());
        let disk = engine.disk();
        let (flusher, flush) = Flusher::start(id, engine.disk())?;
        let reader =
            Arc::new(Reader::new(engine.disk(), Arc::downgrade(&sender), Arc::clone(crew)));
        let again = Arc::clone(&reader);
        let volume = Volume {
            engine,
            flusher,
            flushes: Vec::new(),
            reads: Vec::new(),
            reader,
            size: Arc::clone(&size),
            attached,
        };
        let open =
            Open { volume, chores: Chores::default(), flush_asked: Arc::default(), works: 0 };
        let (open, queued) = (Mutex::new(Some(open)), AtomicUsize::new(0));
        let desk = Arc::new(Desk { disk, gate: Gate::default(), open, queued });
        let own_desk = Arc::clone(&desk);
        let own = std::thread::Builder::new()
            .name(id.to_string())
            .spawn(move || own_volume(&own_desk, &receiver, &again, limits.idle))?;
        Ok(Self { sender, desk, size, threads: Arc::new(Mutex::new(vec![own, flush])) })
    }

    /// Does small work on the spot if nobody else is at the volume, or hands it over; waits while
    /// the queue is full. Gives it back when the volume is closed. What is read on the spot goes
    /// through `port`, if there is one.
    pub(super) fn submit(
        &self,
        work: Box<dyn Work>,
        mut port: Option<&mut Port>,
    ) -> Result<(), Box<dyn Work>> {
        let work =
            if work.is_small() { self.on_the_spot(work, port.as_deref_mut()) } else { Some(work) };
        let Some(work) = work else { return Ok(()) };
        self.desk.queued.fetch_add(1, Ordering::SeqCst);
        let command = match self.sender.try_send(Command::Work(work)) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Disconnected(command)) => return Err(command.into_work()),
            Err(TrySendError::Full(command)) => command,
        };
        // The volume's thread may be waiting for reads of this one.
        if let Some(port) = port {
            port.settle();
        }
        self.sender.send(command).map_err(|mpsc::SendError(command)| command.into_work())
    }

    /// The volume's disk, whoever is at the volume.
    pub(super) fn disk(&self) -> &Arc<dyn Disk> {
        &self.desk.disk
    }

    /// A port to the volume's disk for the calling thread.
    pub(super) fn port(&self) -> Option<Port> {
        Arc::clone(&self.desk.disk).port()
    }

    /// Gives the work back when it has to be handed over.
    fn on_the_spot(&self, work: Box<dyn Work>, port: Option<&mut Port>) -> Option<Box<dyn Work>> {
        if self.desk.queued.load(Ordering::SeqCst) > 0 {
            return Some(work);
        }
        let Ok(mut guard) = self.desk.open.try_lock() else { return Some(work) };
        if self.desk.gate.is_closed() {
            return Some(work);
        }
        let Some(open) = &mut *guard else { return Some(work) };
        let before = open.chores.left();
        let rest = open.work_with_chores(work, &self.desk.gate);
        let left = open.chores.left();
        drop(guard);
        if left > before {
            self.see_to_chores();
        }
        rest.finish(port);
        None
    }

    /// What keeps everybody from the volume.
    pub(super) fn gate(&self) -> &Gate {
        &self.desk.gate
    }

    /// Does something with the volume while its gate is closed, once what had begun before is done.
    /// `None` when the gate was opened since, or the volume is closed.
    pub(super) fn at_rest<T>(
        &self,
        closing: Closing,
        action: impl FnOnce(&mut Open) -> T,
    ) -> Option<T> {
        let mut guard = self.desk.open.lock().ok()?;
        if !self.desk.gate.is_closed_by(closing) {
            return None;
        }
        guard.as_mut().map(action)
    }

    /// Has the volume's thread look for chores.
    pub(super) fn see_to_chores(&self) {
        // A full queue wakes the thread as well.
        let _ = self.sender.try_send(Command::Chores);
    }

    /// The volume's size, whoever is at it.
    pub(super) fn size(&self) -> &Arc<Size> {
        &self.size
    }

    /// Ends the threads; `None` when they had ended before.
    pub(super) fn stop(&self) -> Option<Result<(), Error>> {
        let (sender, receiver) = mpsc::sync_channel(1);
        self.sender.send(Command::Stop(sender)).ok()?;
        let result = receiver.recv().ok();
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            if thread.join().is_err() {
                return None;
            }
        }
        result
    }
}

fn own_volume(desk: &Desk, commands: &Receiver<Command>, reader: &Arc<Reader>, idle: Duration) {
    // However it ends, nobody waits for reads to be made again.
    let _closing = reader.close_at_the_end();
    let (mut pause, mut guest, mut seen) = (Pause::Long, Guest::Busy, 0);
    loop {
        let command = match pause {
            Pause::Long => commands.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Pause::Idle => commands.recv_timeout(idle),
            Pause::Quiet => commands.recv_timeout(QUIET),
            Pause::None => commands.recv_timeout(Duration::ZERO),
        };
        let (command, waited) = match command {
            Ok(command) => (command, Pause::None),
            Err(RecvTimeoutError::Timeout) => (Command::Chores, pause),
            Err(RecvTimeoutError::Disconnected) => return,
        };
        // Work that panicked on the spot has ended the volume, as it does on this thread.
        let Some(mut guard) = desk.enter() else { return };
        let Some(open) = &mut *guard else { return };
        reader.repeat(&mut open.volume.engine);
        match command {
            Command::Work(work) => {
                guest = Guest::Busy;
                let rest = open.work_with_chores(work, &desk.gate);
                seen = open.works;
                pause = open.chores.pause(guest, &desk.gate);
                drop(guard);
                desk.queued.fetch_sub(1, Ordering::SeqCst);
                rest.hand_over();
            }
            Command::Chores => {
                let asked = std::mem::replace(&mut seen, open.works) != open.works;
                guest = guest.after(waited, asked || reader.is_reading());
                open.idle(guest, &desk.gate);
                pause = open.chores.pause(guest, &desk.gate);
            }
            Command::Stop(reply) => {
                let closing = guard.take();
                drop(guard);
                // The flusher ends with its channel; what it still has to do is covered here too.
                let result = closing.map_or(Ok(()), |open| open.volume.engine.close());
                // Whoever asked and is gone needs no answer.
                let _ = reply.send(result);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::{EngineConfig, FileDisk, IoMode, OpenOptions, ReadJob, VolumeOptions};
    use crate::page::{DataKey, PAGE_BYTES, StructureKey};
    use base::{Secret, SeededRng};

    const PAGES: u64 = 1024;

    /// A disk that keeps what it is asked to read until it is told to go on.
    struct Held {
        file: FileDisk,
        reads: Mutex<Vec<ReadJob>>,
        writes: AtomicUsize,
    }

    impl Held {
        fn go_on(&self) {
            for ReadJob { parts, mut buffer, done } in
                std::mem::take(&mut *self.reads.lock().unwrap())
            {
                let result = parts.iter().try_for_each(|part| {
                    self.file.read(part.offset, &mut buffer[part.at..part.at + part.length])
                });
                done(result, buffer);
            }
        }
    }

    impl Disk for Held {
        fn read(&self, offset: u64, target: &mut [u8]) -> io::Result<()> {
            self.file.read(offset, target)
        }

        fn start_read(&self, read: &mut Option<ReadJob>) -> bool {
            self.reads.lock().unwrap().extend(read.take());
            true
        }

        fn write(&self, offset: u64, source: &[u8]) -> io::Result<()> {
            self.writes.fetch_add(1, Ordering::SeqCst);
            self.file.write(offset, source)
        }

        fn flush(&self) -> io::Result<()> {
            self.file.flush()
        }

        fn len(&self) -> io::Result<u64> {
            self.file.len()
        }

        fn punch(&self, offset: u64, length: u64) -> io::Result<()> {
            self.file.punch(offset, length)
        }
    }

    /// A volume whose pages lie anywhere but side by side.
    fn scattered(disk: &Arc<Held>) -> Engine {
        let structure = || StructureKey::from_bytes(Secret::new([4; 32]));
        let (config, rng) = (EngineConfig::tiny(), SeededRng::new(5));
        let size_bytes = PAGES * PAGE_BYTES as u64;
        let options = VolumeOptions { size_bytes, key_check: None, base: None };
        Engine::create(&**disk, &structure(), &rng, &config, &options).unwrap();
        let data_key = Some(DataKey::new(&Secret::new([3; 64])));
        let options = OpenOptions { data_key, ..OpenOptions::default() };
        let disk = Arc::clone(disk) as Arc<dyn Disk>;
        let mut engine = Engine::open(disk, structure(), Arc::new(rng), config, options).unwrap();
        for page in 0..PAGES {
            let offset = page * 37 % PAGES * PAGE_BYTES as u64;
            engine.write(offset, &[page as u8; PAGE_BYTES]).unwrap();
        }
        engine.checkpoint().unwrap();
        assert!(!engine.clean_step().unwrap(), "all of it is live");
        engine
    }

    fn held() -> (tempfile::TempDir, Arc<Held>) {
        let folder = tempfile::tempdir().unwrap();
        let file = FileDisk::create(&folder.path().join("disk"), IoMode::Buffered).unwrap();
        let disk = Held { file, reads: Mutex::default(), writes: AtomicUsize::new(0) };
        (folder, Arc::new(disk))
    }

    fn served(engine: Engine) -> Queue {
        let limits = QueueLimits { batches: 4, idle: IDLE };
        let (id, crew) = ("vol-00000001".parse().unwrap(), Arc::new(Crew::start().unwrap()));
        Queue::start(&id, engine, true, limits, &crew).unwrap()
    }

    /// Whoever planned a read has keys of the volume, if the desk is free and nothing is being read yet.
    #[test]
    fn a_planned_read_is_waited_for_until_it_is_answered_or_dropped() {
        let (_folder, disk) = held();
        let queue = served(scattered(&disk));
        let planned = |length| {
            let closing = queue.gate().close();
            let (sender, answer) = mpsc::channel();
            let read = move |volume: &mut Volume| {
                let done = Box::new(move |result, _| sender.send(result).unwrap());
                volume.read_then(0, AlignedBuffer::zeroed(length), done);
            };
            let rest = queue.at_rest(closing, |open| open.work(Box::new(read))).unwrap();
            queue.gate().open(closing);
            (rest, answer)
        };
        let awaited = || {
            let (sender, receiver) = mpsc::channel();
            let wait = move |volume: &mut Volume| {
                volume.await_reads();
                sender.send(()).unwrap();
            };
            assert!(queue.submit(Box::new(wait), None).is_ok());
            receiver
        };
        for length in [PAGE_BYTES, 512 << 10, 0] {
            let (rest, answer) = planned(length);
            let waiting = awaited();
            assert!(waiting.recv_timeout(QUIET).is_err(), "{length}");
            rest.hand_over();
            disk.go_on();
            waiting.recv().unwrap();
            answer.recv().unwrap().unwrap();

            let (rest, answer) = planned(length);
            drop(rest);
            awaited().recv().unwrap();
            assert!(answer.recv().is_err());
        }
        queue.stop().unwrap().unwrap();
    }

    /// What was read in pieces is put in order, but not while it is still being read: the reads of that
    /// would come between the guest's, and whoever asks for more would wait for both.
    #[test]
    fn a_volume_that_is_being_read_is_not_quiet() {
        let (_folder, disk) = held();
        let engine = scattered(&disk);
        let before = disk.writes.load(Ordering::SeqCst);
        let queue = served(engine);
        let (sender, answer) = mpsc::channel();
        let read = move |volume: &mut Volume| {
            let done = Box::new(move |result, _| sender.send(result).unwrap());
            volume.read_then(0, AlignedBuffer::zeroed(512 << 10), done);
        };
        assert!(queue.submit(Box::new(read), None).is_ok());
        for _ in 0..10 {
            std::thread::sleep(QUIET);
            queue.see_to_chores();
        }
        assert_eq!(disk.writes.load(Ordering::SeqCst), before);
        disk.go_on();
        answer.recv().unwrap().unwrap();
        let mut pauses = 0;
        while disk.writes.load(Ordering::SeqCst) == before {
            assert!(pauses < 3_000, "a quiet volume is put in order");
            std::thread::sleep(QUIET);
            disk.go_on();
            pauses += 1;
        }
        disk.go_on();
        queue.stop().unwrap().unwrap();
    }
}
