//! The thread that owns a volume, and the thread that waits for its flushes.
//!
//! A volume is owned by its thread except for the moments in which somebody brings a small piece of
//! work and finds nothing queued and nobody at it: that work is done on the spot, because waking two
//! threads costs several times what a 4 KiB request does. Who holds the desk owns the volume.

use super::size::Size;
use crate::live::{Disk, Engine, Error};
use base::VolumeId;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender, TryRecvError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// A volume that is never idle cleans a segment after so many commands.
const COMMANDS_PER_CLEANING: u32 = 256;

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

/// Called once with the outcome of a flush, on the owner's or the flusher's thread.
pub type FlushDone = Box<dyn FnOnce(Result<(), Error>) + Send>;

/// A volume as its own thread sees it.
pub struct Volume {
    engine: Engine,
    flusher: Sender<FlushJob>,
    flushed: Arc<Flushed>,
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
            Ok(Some(sequence)) => {
                if let Err(mpsc::SendError(job)) = self.flusher.send(FlushJob { sequence, done }) {
                    (job.done)(Err(Error::Failed));
                }
            }
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

    /// Takes note of what the flusher achieved.
    fn absorb(&mut self) {
        if self.flushed.failed.load(Ordering::Acquire) {
            self.engine.note_failure();
        } else {
            self.engine.note_durable(self.flushed.sequence.load(Ordering::Acquire));
        }
    }
}

struct FlushJob {
    sequence: u64,
    done: FlushDone,
}

/// What the flusher tells the owner.
#[derive(Default)]
struct Flushed {
    sequence: AtomicU64,
    failed: AtomicBool,
}

pub(super) enum Command {
    Work(Box<dyn Work>),
    /// There are chores to do while nothing else is.
    Chores,
    /// Write everything out and end.
    Stop(SyncSender<Result<(), Error>>),
}

/// The way to a volume's thread.
#[derive(Clone)]
pub(super) struct Queue {
    sender: SyncSender<Command>,
    desk: Arc<Desk>,
    size: Arc<Size>,
    threads: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

/// Where the volume lies for whoever works on it.
struct Desk {
    /// `None` once the volume is closed.
    open: Mutex<Option<Open>>,
    /// Work that was handed over and is not done yet. While there is any, nobody works on the spot:
    /// what one caller hands over stays in order.
    queued: AtomicUsize,
}

struct Open {
    volume: Volume,
    chores: Chores,
    /// The flusher was asked to flush a log that has become long.
    flush_asked: Arc<AtomicBool>,
}

impl Open {
    /// Does a piece of work, and the chores that came due. Returns whether chores are left.
    fn work(&mut self, work: Box<dyn Work>) -> bool {
        self.volume.absorb();
        work.run(&mut self.volume);
        self.flush_long_log();
        self.chores.run(&mut self.volume.engine, false);
        self.chores.are_left()
    }

    /// Has a long log flushed before the engine must wait for that itself.
    fn flush_long_log(&mut self) {
        if self.volume.engine.is_flush_near() && !self.flush_asked.swap(true, Ordering::AcqRel) {
            let asked = Arc::clone(&self.flush_asked);
            // A failure reaches everybody through `Volume::absorb`.
            self.volume.flush_then(Box::new(move |_| asked.store(false, Ordering::Release)));
        }
    }

    /// Does a part of the chores. Returns whether some are left.
    fn idle(&mut self) -> bool {
        self.volume.absorb();
        self.chores.run(&mut self.volume.engine, true);
        self.chores.are_left()
    }
}

impl Queue {
    /// Starts the threads of a volume.
    pub(super) fn start(
        id: &VolumeId,
        engine: Engine,
        attached: bool,
        capacity: usize,
    ) -> io::Result<Self> {
        let (sender, receiver) = mpsc::sync_channel(capacity);
        let (flusher, jobs) = mpsc::channel();
        let flushed = Arc::new(Flushed::default());
        let (disk, shared) = (engine.disk(), Arc::clone(&flushed));
        let size = Size::new(engine.size());
        let flush = std::thread::Builder::new()
            .name(format!("{id} flush"))
            .spawn(move || flush_jobs(&*disk, &jobs, &shared))?;
        let volume = Volume { engine, flusher, flushed, size: Arc::clone(&size), attached };
        let chores = Chores { merging: false, cleaning: false, epoch: 0, commands: 0 };
        let open = Open { volume, chores, flush_asked: Arc::default() };
        let desk = Arc::new(Desk { open: Mutex::new(Some(open)), queued: AtomicUsize::new(0) });
        let own_desk = Arc::clone(&desk);
        let own = std::thread::Builder::new()
            .name(id.to_string())
            .spawn(move || own_volume(&own_desk, &receiver))?;
        Ok(Self { sender, desk, size, threads: Arc::new(Mutex::new(vec![own, flush])) })
    }

    /// Does small work on the spot if nobody else is at the volume, or hands it over; waits while
    /// the queue is full. Gives it back when the volume is closed.
    pub(super) fn submit(&self, work: Box<dyn Work>) -> Result<(), Box<dyn Work>> {
        let work = if work.is_small() { self.on_the_spot(work) } else { Some(work) };
        let Some(work) = work else { return Ok(()) };
        self.desk.queued.fetch_add(1, Ordering::SeqCst);
        self.sender.send(Command::Work(work)).map_err(|mpsc::SendError(command)| match command {
            Command::Work(work) => work,
            Command::Chores | Command::Stop(_) => unreachable!("work was sent"),
        })
    }

    /// Gives the work back when it has to be handed over.
    fn on_the_spot(&self, work: Box<dyn Work>) -> Option<Box<dyn Work>> {
        if self.desk.queued.load(Ordering::SeqCst) > 0 {
            return Some(work);
        }
        let Ok(mut guard) = self.desk.open.try_lock() else { return Some(work) };
        let Some(open) = &mut *guard else { return Some(work) };
        let before = open.chores.are_left();
        let left = open.work(work);
        drop(guard);
        if left && !before {
            // A full queue wakes the thread as well.
            let _ = self.sender.try_send(Command::Chores);
        }
        None
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

fn own_volume(desk: &Desk, commands: &Receiver<Command>) {
    let mut left = false;
    loop {
        let command = if left {
            match commands.try_recv() {
                Ok(command) => command,
                Err(TryRecvError::Empty) => Command::Chores,
                Err(TryRecvError::Disconnected) => return,
            }
        } else {
            match commands.recv() {
                Ok(command) => command,
                Err(_) => return,
            }
        };
        // Work that panicked on the spot has ended the volume, as it does on this thread.
        let Ok(mut guard) = desk.open.lock() else { return };
        let Some(open) = &mut *guard else { return };
        match command {
            Command::Work(work) => {
                left = open.work(work);
                desk.queued.fetch_sub(1, Ordering::SeqCst);
            }
            Command::Chores => left = open.idle(),
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

/// What a volume's thread does between requests.
struct Chores {
    /// A layer is being merged.
    merging: bool,
    /// Segments may be worth cleaning.
    cleaning: bool,
    /// The checkpoint after which cleaning was last considered.
    epoch: u64,
    /// Commands since the last cleaning.
    commands: u32,
}

impl Chores {
    fn are_left(&self) -> bool {
        self.merging || self.cleaning
    }

    fn run(&mut self, engine: &mut Engine, idle: bool) {
        self.merging = engine.maintain().unwrap_or_else(|error| {
            tracing::error!(%error, "a volume's checkpoint failed");
            false
        });
        // Only a checkpoint changes what is dead.
        if engine.epoch() != self.epoch {
            self.epoch = engine.epoch();
            self.cleaning = true;
        }
        self.commands += 1;
        let turn = idle || self.commands >= COMMANDS_PER_CLEANING;
        if self.cleaning && !self.merging && turn {
            self.commands = 0;
            self.cleaning = engine.clean_step().unwrap_or_else(|error| {
                tracing::error!(%error, "cleaning a volume failed");
                false
            });
        }
    }
}

fn flush_jobs(disk: &dyn Disk, jobs: &Receiver<FlushJob>, flushed: &Flushed) {
    while let Ok(first) = jobs.recv() {
        let mut round = vec![first];
        round.extend(jobs.try_iter());
        let result = disk.flush().map_err(Error::disk("flush the log"));
        match &result {
            // Chunks are handed to the disk before their flush is asked for, in order.
            Ok(()) => {
                let newest = round.iter().map(|job| job.sequence).max().unwrap_or(0);
                flushed.sequence.fetch_max(newest, Ordering::AcqRel);
            }
            Err(_) => flushed.failed.store(true, Ordering::Release),
        }
        for job in round {
            (job.done)(result.clone());
        }
    }
}
