//! The thread that owns a volume, and the thread that waits for its flushes.

use crate::live::{Disk, Engine, Error};
use base::VolumeId;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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
    /// Write everything out and end.
    Stop(SyncSender<Result<(), Error>>),
}

/// The way to a volume's thread.
#[derive(Clone)]
pub(super) struct Queue {
    sender: SyncSender<Command>,
    threads: Arc<Mutex<Vec<JoinHandle<()>>>>,
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
        let flush = std::thread::Builder::new()
            .name(format!("{id} flush"))
            .spawn(move || flush_jobs(&*disk, &jobs, &shared))?;
        let volume = Volume { engine, flusher, flushed, attached };
        let own = std::thread::Builder::new()
            .name(id.to_string())
            .spawn(move || own_volume(volume, &receiver))?;
        Ok(Self { sender, threads: Arc::new(Mutex::new(vec![own, flush])) })
    }

    /// Hands work over; waits while the queue is full. Gives it back when the volume is closed.
    pub(super) fn submit(&self, work: Box<dyn Work>) -> Result<(), Box<dyn Work>> {
        self.sender.send(Command::Work(work)).map_err(|mpsc::SendError(command)| match command {
            Command::Work(work) => work,
            Command::Stop(_) => unreachable!("work was sent"),
        })
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

fn own_volume(mut volume: Volume, commands: &Receiver<Command>) {
    let mut chores = Chores { merging: false, cleaning: false, epoch: 0, commands: 0 };
    loop {
        let command = if chores.merging || chores.cleaning {
            match commands.try_recv() {
                Ok(command) => Some(command),
                Err(TryRecvError::Empty) => None,
                Err(TryRecvError::Disconnected) => return,
            }
        } else {
            match commands.recv() {
                Ok(command) => Some(command),
                Err(_) => return,
            }
        };
        volume.absorb();
        let idle = command.is_none();
        match command {
            Some(Command::Work(work)) => work.run(&mut volume),
            Some(Command::Stop(reply)) => {
                // The flusher ends with its channel; what it still has to do is covered here too.
                let Volume { engine, .. } = volume;
                // Whoever asked and is gone needs no answer.
                let _ = reply.send(engine.close());
                return;
            }
            None => {}
        }
        chores.run(&mut volume.engine, idle);
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
