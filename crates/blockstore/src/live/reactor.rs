//! The thread that serves a file's ring for whoever has none of its own.
//!
//! Requests come through a list under a lock; the thread alone touches the ring.

use super::disk::ReadJob;
use super::ring::{Job, Ring, WriteJob};
use rustix::event::{EventfdFlags, PollFlags, eventfd};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;

/// The watch for somebody who brings work.
const WAKE: usize = 0;

/// The way to the thread. Dropping it ends the thread, after everything it was given is done.
pub(super) struct Reactor {
    desk: Arc<Desk>,
    thread: Option<JoinHandle<()>>,
}

struct Desk {
    incoming: Mutex<Incoming>,
    wake: OwnedFd,
}

#[derive(Default)]
struct Incoming {
    jobs: Vec<Job>,
    /// The thread waits for the kernel and must be woken.
    asleep: bool,
    stop: bool,
    /// The thread takes nothing any more.
    closed: bool,
}

impl Reactor {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system refuses a ring or a thread.
    pub(super) fn start(file: Arc<File>) -> io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let desk = Arc::new(Desk { incoming: Mutex::default(), wake });
        let (sender, receiver) = mpsc::sync_channel(1);
        let own = Arc::clone(&desk);
        let thread = std::thread::Builder::new().name("volume I/O".into()).spawn(move || {
            // A ring belongs to the thread that made it.
            let (ring, outcome) = match Ring::new(file) {
                Ok(ring) => (Some(ring), Ok(())),
                Err(error) => (None, Err(error)),
            };
            // `start` waits for it.
            let _ = sender.send(outcome);
            if let Some(ring) = ring {
                let mut server = Server { ring, desk: own };
                if let Err(error) = server.run() {
                    tracing::error!(%error, "io_uring failed under a volume");
                }
            }
        })?;
        receiver.recv().map_err(|_| io::Error::other("the disk's thread has ended"))??;
        Ok(Self { desk, thread: Some(thread) })
    }

    pub(super) fn read(&self, job: ReadJob) {
        self.desk.bring(Job::Read(job));
    }

    /// As [`Reactor::read`], before those that nobody waits for.
    pub(super) fn read_first(&self, job: ReadJob) {
        self.desk.bring(Job::ReadFirst(job));
    }

    pub(super) fn write(&self, job: WriteJob) {
        self.desk.bring(Job::Write(job));
    }
}

impl Drop for Reactor {
    fn drop(&mut self) {
        let mut incoming = self.desk.incoming();
        incoming.stop = true;
        drop(incoming);
        self.desk.rouse();
        let Some(thread) = self.thread.take() else { return };
        // The last user of a file may be the outcome of its last request.
        if thread.thread().id() != std::thread::current().id() {
            // A thread that panicked has said so; its requests are lost with it.
            let _ = thread.join();
        }
    }
}

impl Desk {
    fn incoming(&self) -> MutexGuard<'_, Incoming> {
        self.incoming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bring(&self, job: Job) {
        let mut incoming = self.incoming();
        if incoming.closed {
            drop(incoming);
            return job.fail();
        }
        incoming.jobs.push(job);
        let asleep = std::mem::take(&mut incoming.asleep);
        drop(incoming);
        if asleep {
            self.rouse();
        }
    }

    /// Takes no more; returns what was brought and not taken.
    fn close(&self) -> Vec<Job> {
        let mut incoming = self.incoming();
        incoming.closed = true;
        std::mem::take(&mut incoming.jobs)
    }

    fn rouse(&self) {
        // The counter cannot overflow: one is added per sleep and one for the end.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }
}

struct Server {
    ring: Ring,
    desk: Arc<Desk>,
}

impl Server {
    /// Serves until the end is asked for, or the kernel refuses to go on.
    fn run(&mut self) -> io::Result<()> {
        loop {
            let stop = self.take_jobs();
            if stop && !self.ring.is_busy() {
                return Ok(());
            }
            self.ring.watch(WAKE, self.desk.wake.as_fd(), PollFlags::IN);
            self.ring.enter(1, None)?;
            self.ring.act();
            if !self.ring.happened(WAKE).is_empty() {
                // Resets the counter; there is nothing to learn from it.
                let _ = rustix::io::read(&self.desk.wake, &mut [0; 8]);
            }
        }
    }

    /// Takes what was brought; goes to sleep. Returns whether the end is near.
    fn take_jobs(&mut self) -> bool {
        let mut incoming = self.desk.incoming();
        let jobs = std::mem::take(&mut incoming.jobs);
        incoming.asleep = true;
        let stop = incoming.stop;
        drop(incoming);
        for job in jobs {
            self.ring.admit(job);
        }
        stop
    }
}

impl Drop for Server {
    /// Refuses further work; what the kernel has is answered when the ring is dropped.
    fn drop(&mut self) {
        self.desk.close().into_iter().for_each(Job::fail);
    }
}
