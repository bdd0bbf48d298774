//! The thread that serves a file's ring (`io_uring`).
//!
//! Requests come through a list under a lock; the thread alone touches the ring. A request's memory
//! belongs to the table of requests here from before the kernel hears of it until after the kernel
//! is done with it.
#![expect(unsafe_code, reason = "the kernel is told addresses of buffers")]

use super::AlignedBuffer;
use super::disk::{ReadDone, ReadJob, ReadPart};
use io_uring::{IoUring, opcode, squeue, types};
use rustix::event::{EventfdFlags, eventfd};
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;

/// Requests in the kernel's hands at once.
const ENTRIES: u32 = 128;
/// The request that waits for somebody to bring work.
const WAKE: u64 = u64::MAX;
/// Bytes asked for by one request, so that large reads go to the disk in several pieces.
const PIECE_BYTES: usize = 1 << 20;

/// Takes the outcome of a [`WriteJob`] and its bytes.
pub(super) type WriteDone = Box<dyn FnOnce(io::Result<()>, Arc<AlignedBuffer>) + Send>;

/// A write of a whole buffer.
pub(super) struct WriteJob {
    pub(super) offset: u64,
    pub(super) bytes: Arc<AlignedBuffer>,
    pub(super) done: WriteDone,
}

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

enum Job {
    Read(ReadJob),
    Write(WriteJob),
}

impl Job {
    fn fail(self) {
        match self {
            Self::Read(ReadJob { buffer, done, .. }) => done(Err(ended()), buffer),
            Self::Write(WriteJob { bytes, done, .. }) => done(Err(ended()), bytes),
        }
    }
}

fn ended() -> io::Error {
    io::Error::other("the disk's thread has ended")
}

impl Reactor {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system refuses a ring or a thread.
    pub(super) fn start(file: Arc<File>) -> io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC)?;
        let desk = Arc::new(Desk { incoming: Mutex::default(), wake });
        let (sender, receiver) = mpsc::sync_channel(1);
        let own = Arc::clone(&desk);
        let thread = std::thread::Builder::new().name("volume I/O".into()).spawn(move || {
            // A ring with these flags belongs to the thread that made it.
            let (ring, outcome) = match make_ring() {
                Ok(ring) => (Some(ring), Ok(())),
                Err(error) => (None, Err(error)),
            };
            // `start` waits for it.
            let _ = sender.send(outcome);
            if let Some(ring) = ring {
                let mut server = Server::new(ring, file, own);
                if let Err(error) = server.run() {
                    tracing::error!(%error, "io_uring failed under a volume");
                }
            }
        })?;
        receiver.recv().map_err(|_| io::Error::other("the disk's thread has ended"))??;
        Ok(Self { desk, thread: Some(thread) })
    }

    pub(super) fn read(&self, job: ReadJob) {
        for part in &job.parts {
            assert!(part.at + part.length <= job.buffer.len(), "a part outside its buffer");
        }
        self.desk.bring(Job::Read(job));
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

fn make_ring() -> io::Result<IoUring> {
    let modern = IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(ENTRIES);
    // Older kernels have rings without these.
    modern.or_else(|_| IoUring::new(ENTRIES))
}

/// A job in the table.
enum Running {
    Read { buffer: AlignedBuffer, done: ReadDone, left: usize, result: io::Result<()> },
    Write { bytes: Arc<AlignedBuffer>, done: WriteDone },
}

impl Running {
    /// Answers with an error. A buffer the kernel may still have is never used again.
    fn fail(self, leaked: bool) {
        match self {
            Self::Read { buffer, done, .. } if leaked => {
                std::mem::forget(buffer);
                done(Err(ended()), AlignedBuffer::zeroed(0));
            }
            Self::Read { buffer, done, .. } => done(Err(ended()), buffer),
            Self::Write { bytes, done } => {
                if leaked {
                    std::mem::forget(Arc::clone(&bytes));
                }
                done(Err(ended()), bytes);
            }
        }
    }
}

/// Jobs by number.
#[derive(Default)]
struct Table {
    jobs: Vec<Option<Running>>,
    free: Vec<usize>,
}

impl Table {
    fn insert(&mut self, job: Running) -> usize {
        match self.free.pop() {
            Some(slot) => {
                self.jobs[slot] = Some(job);
                slot
            }
            None => {
                self.jobs.push(Some(job));
                self.jobs.len() - 1
            }
        }
    }

    fn remove(&mut self, slot: usize) -> Running {
        self.free.push(slot);
        self.jobs[slot].take().expect("a job is removed once, when its last piece is done")
    }
}

/// A piece of a job for the kernel.
#[derive(Clone, Copy)]
struct Piece {
    slot: usize,
    part: ReadPart,
}

struct Server {
    ring: IoUring,
    file: Arc<File>,
    desk: Arc<Desk>,
    table: Table,
    /// Pieces the kernel has not been told of.
    due: VecDeque<Piece>,
    /// Pieces in the kernel's hands, by the name it knows them by.
    told: Vec<Option<Piece>>,
    free: Vec<usize>,
    /// Where the kernel puts what it reads of [`Desk::wake`].
    counter: Box<[u8; 8]>,
    /// The kernel waits for somebody to be roused.
    armed: bool,
}

impl Server {
    fn new(ring: IoUring, file: Arc<File>, desk: Arc<Desk>) -> Self {
        let pieces = ENTRIES as usize - 1;
        Self {
            ring,
            file,
            desk,
            table: Table::default(),
            due: VecDeque::new(),
            told: vec![None; pieces],
            free: (0..pieces).collect(),
            counter: Box::default(),
            armed: false,
        }
    }

    /// Serves until the end is asked for, or the kernel refuses to go on.
    fn run(&mut self) -> io::Result<()> {
        loop {
            let stop = self.take_jobs();
            if stop && self.due.is_empty() && !self.is_waiting() {
                return Ok(());
            }
            if !stop && !self.armed {
                self.await_rousing();
            }
            while !self.due.is_empty()
                && let Some(name) = self.free.pop()
            {
                self.tell(name);
            }
            self.wait(Self::advance)?;
        }
    }

    /// Whether the kernel has memory of ours.
    fn is_waiting(&self) -> bool {
        self.armed || self.free.len() < self.told.len()
    }

    /// Waits for the kernel and takes its answers.
    fn wait(&mut self, answered: impl Fn(&mut Self, Piece, i32)) -> io::Result<()> {
        match self.ring.submit_and_wait(1) {
            Ok(_) => {}
            Err(error) if error.raw_os_error().is_some_and(|code| is_transient(-code)) => {}
            Err(error) => return Err(error),
        }
        let answers: Vec<(u64, i32)> =
            self.ring.completion().map(|entry| (entry.user_data(), entry.result())).collect();
        for (name, result) in answers {
            if name == WAKE {
                self.armed = false;
                continue;
            }
            let name = name as usize;
            let piece = self.told[name].take().expect("the kernel answers once");
            self.free.push(name);
            answered(self, piece, result);
        }
        Ok(())
    }

    /// Takes what was brought; goes to sleep if that is nothing. Returns whether the end is near.
    fn take_jobs(&mut self) -> bool {
        let mut incoming = self.desk.incoming();
        let jobs = std::mem::take(&mut incoming.jobs);
        incoming.asleep = true;
        let stop = incoming.stop;
        drop(incoming);
        for job in jobs {
            self.admit(job);
        }
        stop
    }

    fn admit(&mut self, job: Job) {
        match job {
            Job::Write(WriteJob { offset, bytes, done }) => {
                let part = ReadPart { offset, at: 0, length: bytes.len() };
                let slot = self.table.insert(Running::Write { bytes, done });
                self.due.push_back(Piece { slot, part });
            }
            Job::Read(ReadJob { parts, buffer, done }) => {
                if parts.is_empty() {
                    return done(Ok(()), buffer);
                }
                let pieces = || parts.iter().flat_map(|part| cut(*part));
                let left = pieces().count();
                let slot = self.table.insert(Running::Read { buffer, done, left, result: Ok(()) });
                self.due.extend(pieces().map(|part| Piece { slot, part }));
            }
        }
    }

    /// Tells the kernel of the next piece.
    fn tell(&mut self, name: usize) {
        let Some(piece) = self.due.pop_front() else { return self.free.push(name) };
        self.told[name] = Some(piece);
        let Piece { slot, part } = piece;
        let fd = types::Fd(self.file.as_raw_fd());
        let length = part.length as u32;
        let job = self.table.jobs[slot].as_mut().expect("a job stays until its pieces are done");
        let entry = match job {
            Running::Read { buffer, .. } => {
                let target = buffer[part.at..part.at + part.length].as_mut_ptr();
                opcode::Read::new(fd, target, length).offset(part.offset).build()
            }
            Running::Write { bytes, .. } => {
                let source = bytes[part.at..part.at + part.length].as_ptr();
                opcode::Write::new(fd, source, length).offset(part.offset).build()
            }
        };
        self.enqueue(&entry.user_data(name as u64));
    }

    fn await_rousing(&mut self) {
        self.armed = true;
        let fd = types::Fd(self.desk.wake.as_raw_fd());
        let entry = opcode::Read::new(fd, self.counter.as_mut_ptr(), 8).build();
        self.enqueue(&entry.user_data(WAKE));
    }

    fn enqueue(&mut self, entry: &squeue::Entry) {
        // SAFETY: the memory an entry points to lives until its completion: buffers of jobs stay in
        // the table, on the heap and untouched, until their last piece is done, and the counter is
        // boxed in `self`; dropping `self` waits for every completion, or leaks what the kernel may
        // still have. The file descriptors are open as long as `self`.
        let pushed = unsafe { self.ring.submission().push(entry) };
        pushed.expect("no more entries are used than the ring has");
    }

    /// Goes on after the kernel's answer to a piece.
    fn advance(&mut self, Piece { slot, part }: Piece, answer: i32) {
        let job = self.table.jobs[slot].as_mut().expect("a job stays until its pieces are done");
        let outcome = match usize::try_from(answer) {
            Err(_) if is_transient(answer) => Ok(0),
            Err(_) => Err(io::Error::from_raw_os_error(-answer)),
            Ok(0) => match job {
                // The end of the file: the rest was never written.
                Running::Read { buffer, .. } => {
                    buffer[part.at..part.at + part.length].fill(0);
                    Ok(part.length)
                }
                Running::Write { .. } => Err(io::ErrorKind::WriteZero.into()),
            },
            Ok(count) => Ok(count),
        };
        match outcome {
            Ok(count) if count < part.length => {
                let ReadPart { offset, at, length } = part;
                let rest = ReadPart {
                    offset: offset + count as u64,
                    at: at + count,
                    length: length - count,
                };
                self.due.push_back(Piece { slot, part: rest });
            }
            other => self.close(slot, other.map(drop)),
        }
    }

    /// Notes the end of a piece, and of the job if it was the last.
    fn close(&mut self, slot: usize, outcome: io::Result<()>) {
        let job = self.table.jobs[slot].as_mut().expect("a job stays until its pieces are done");
        if let Running::Read { left, result, .. } = job {
            *left -= 1;
            if result.is_ok() {
                *result = outcome;
            }
            if *left > 0 {
                return;
            }
            if let Running::Read { buffer, done, result, .. } = self.table.remove(slot) {
                done(result, buffer);
            }
        } else if let Running::Write { bytes, done } = self.table.remove(slot) {
            done(outcome, bytes);
        }
    }
}

impl Drop for Server {
    /// Refuses further work, takes everything back from the kernel, and answers who still waits.
    fn drop(&mut self) {
        let late = self.desk.close();
        self.desk.rouse();
        let mut leaked = false;
        while self.is_waiting() && !leaked {
            leaked = self.wait(|_, _, _| {}).is_err();
        }
        for running in self.table.jobs.drain(..).flatten() {
            running.fail(leaked);
        }
        late.into_iter().for_each(Job::fail);
        if leaked {
            std::mem::forget(std::mem::take(&mut self.counter));
        }
    }
}

/// Whether the same request may succeed when it is made again.
fn is_transient(answer: i32) -> bool {
    use rustix::io::Errno;
    [Errno::INTR, Errno::AGAIN, Errno::BUSY].iter().any(|errno| errno.raw_os_error() == -answer)
}

/// Divides a part into pieces for the kernel.
fn cut(part: ReadPart) -> impl Iterator<Item = ReadPart> {
    (0..part.length).step_by(PIECE_BYTES).map(move |from| ReadPart {
        offset: part.offset + from as u64,
        at: part.at + from,
        length: PIECE_BYTES.min(part.length - from),
    })
}
