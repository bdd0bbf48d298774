//! Who waits for the disk's flushes: whoever asked, if nobody else is at it, or a thread.

use crate::live::{Disk, Error};
use base::VolumeId;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::thread::JoinHandle;

/// Called once with the outcome of a flush, on the thread that asked for it or on the flusher's.
pub type FlushDone = Box<dyn FnOnce(Result<(), Error>) + Send>;

/// A flush somebody waits for. The chunks it covers have been handed to the disk.
pub(super) struct FlushJob {
    /// The newest of them.
    pub(super) sequence: u64,
    pub(super) done: FlushDone,
}

/// Flushes a volume's disk, one flush at a time.
pub(super) struct Flusher {
    shared: Arc<Shared>,
    sender: Sender<FlushJob>,
}

struct Shared {
    disk: Arc<dyn Disk>,
    /// Held while the disk is flushed.
    turn: Mutex<()>,
    /// Jobs handed over and not begun.
    waiting: AtomicUsize,
    /// The newest chunk that is durable.
    sequence: AtomicU64,
    failed: AtomicBool,
}

impl Flusher {
    /// Starts the thread. It ends with the flusher, after what was handed over.
    pub(super) fn start(
        id: &VolumeId,
        disk: Arc<dyn Disk>,
    ) -> io::Result<(Arc<Self>, JoinHandle<()>)> {
        let (sender, jobs) = mpsc::channel();
        let shared = Arc::new(Shared {
            disk,
            turn: Mutex::default(),
            waiting: AtomicUsize::new(0),
            sequence: AtomicU64::new(0),
            failed: AtomicBool::new(false),
        });
        let own = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name(format!("{id} flush"))
            .spawn(move || flush_queued(&own, &jobs))?;
        Ok((Arc::new(Self { shared, sender }), thread))
    }

    /// Leaves a job to the thread. Jobs that wait for their turn are answered together.
    pub(super) fn hand_over(&self, job: FlushJob) {
        self.shared.waiting.fetch_add(1, Ordering::SeqCst);
        if let Err(mpsc::SendError(job)) = self.sender.send(job) {
            (job.done)(Err(Error::Failed));
        }
    }

    /// Flushes on this thread, unless another flush is under way.
    pub(super) fn flush_here(&self, jobs: Vec<FlushJob>) {
        let turn = match self.shared.turn.try_lock() {
            Ok(turn) => turn,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                return jobs.into_iter().for_each(|job| self.hand_over(job));
            }
        };
        if self.shared.waiting.load(Ordering::SeqCst) > 0 {
            drop(turn);
            return jobs.into_iter().for_each(|job| self.hand_over(job));
        }
        let result = self.shared.flush(&jobs);
        drop(turn);
        jobs.into_iter().for_each(|job| (job.done)(result.clone()));
    }

    /// What is durable by now: the newest chunk, or `None` when a flush has failed.
    pub(super) fn durable(&self) -> Option<u64> {
        let failed = self.shared.failed.load(Ordering::Acquire);
        (!failed).then(|| self.shared.sequence.load(Ordering::Acquire))
    }
}

impl Shared {
    fn flush(&self, jobs: &[FlushJob]) -> Result<(), Error> {
        let result = self.disk.flush().map_err(Error::disk("flush the log"));
        match &result {
            // Chunks are handed to the disk before their flush is asked for, in order.
            Ok(()) => {
                let newest = jobs.iter().map(|job| job.sequence).max().unwrap_or(0);
                self.sequence.fetch_max(newest, Ordering::AcqRel);
            }
            Err(_) => self.failed.store(true, Ordering::Release),
        }
        result
    }
}

fn flush_queued(shared: &Shared, jobs: &Receiver<FlushJob>) {
    while let Ok(first) = jobs.recv() {
        let turn = shared.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut round = vec![first];
        round.extend(jobs.try_iter());
        shared.waiting.fetch_sub(round.len(), Ordering::SeqCst);
        let result = shared.flush(&round);
        drop(turn);
        round.into_iter().for_each(|job| (job.done)(result.clone()));
    }
}
