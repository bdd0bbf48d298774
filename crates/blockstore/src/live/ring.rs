//! A file's requests to the kernel through a ring (`io_uring`), for the one thread that owns it.
//!
//! A request's memory belongs to the table of requests here from before the kernel hears of it
//! until after the kernel is done with it.
#![expect(unsafe_code, reason = "the kernel is told addresses of buffers")]

use super::AlignedBuffer;
use super::disk::{ReadDone, ReadJob, ReadPart};
use super::region::Region;
use io_uring::{IoUring, opcode, squeue, types};
use rustix::event::PollFlags;
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

/// Entries of a ring.
const ENTRIES: u32 = 128;
/// Conditions of other files that can be waited for.
pub(super) const WATCHES: usize = 4;
/// Pieces of requests in the kernel's hands at once. Each watch may take two entries: it is armed,
/// and it is disarmed at the end.
const PIECES: usize = ENTRIES as usize - 2 * WATCHES;
/// Names of watches, from this one on.
const WATCH_NAMES: u64 = 1 << 32;
/// The name of requests whose answer says nothing.
const NO_NAME: u64 = u64::MAX;
/// What the kernel calls the region.
const REGION: u16 = 0;
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

/// What a ring is asked for. Reads wait behind all others: guests ask for any number of them at once.
pub(super) enum Job {
    Read(ReadJob),
    /// A read that a thread waits for. When it is the volume's thread, so does every guest.
    ReadFirst(ReadJob),
    Write(WriteJob),
}

impl Job {
    pub(super) fn fail(self) {
        match self {
            Self::Read(ReadJob { buffer, done, .. })
            | Self::ReadFirst(ReadJob { buffer, done, .. }) => done(Err(ended()), buffer),
            Self::Write(WriteJob { bytes, done, .. }) => done(Err(ended()), bytes),
        }
    }
}

pub(super) fn ended() -> io::Error {
    io::Error::other("the disk's thread has ended")
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

/// A condition of another file.
#[derive(Clone, Copy)]
struct Watch {
    /// The kernel will say when it holds.
    armed: bool,
    /// What it said.
    happened: PollFlags,
}

/// The ring, and what the kernel has been told through it.
pub(super) struct Ring {
    ring: IoUring,
    file: Arc<File>,
    table: Table,
    /// Pieces the kernel has not been told of: those it is told of first, and the others.
    first: VecDeque<Piece>,
    due: VecDeque<Piece>,
    /// Pieces in the kernel's hands, by the name it knows them by.
    told: Vec<Option<Piece>>,
    free: Vec<usize>,
    watches: [Watch; WATCHES],
    /// The kernel's answers that nobody has acted on.
    answers: Vec<(usize, i32)>,
    /// Memory whose pages the kernel holds already.
    region: Option<Arc<Region>>,
}

impl Ring {
    /// A ring that belongs to the calling thread.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) fn new(file: Arc<File>) -> io::Result<Self> {
        let modern = IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(ENTRIES);
        // Older kernels have rings without these.
        let ring = modern.or_else(|_| IoUring::new(ENTRIES))?;
        let watch = Watch { armed: false, happened: PollFlags::empty() };
        Ok(Self {
            ring,
            file,
            table: Table::default(),
            first: VecDeque::new(),
            due: VecDeque::new(),
            told: vec![None; PIECES],
            free: (0..PIECES).collect(),
            watches: [watch; WATCHES],
            answers: Vec::with_capacity(ENTRIES as usize),
            region: None,
        })
    }

    /// Has the kernel hold the pages of a region, once, for all requests whose buffers are in it.
    ///
    /// # Errors
    /// When the system does not let this process have so much memory held, or knows no such thing.
    pub(super) fn register(&mut self, region: Arc<Region>) -> io::Result<()> {
        assert!(self.region.is_none(), "a ring has one region");
        let (first, length) = region.memory();
        let memory = libc::iovec { iov_base: first.as_ptr().cast(), iov_len: length };
        // SAFETY: the memory is mapped as long as the region, which stays in `self` from here on, or
        // else the kernel was told and forgets it with the ring. It holds the pages themselves, so
        // that not even a mapping that ended before would lend it memory of others.
        unsafe { self.ring.submitter().register_buffers(&[memory]) }?;
        self.region = Some(region);
        Ok(())
    }

    /// Whether the kernel must be told of something.
    pub(super) fn has_untold(&mut self) -> bool {
        self.has_due() || !self.ring.submission().is_empty()
    }

    /// Whether jobs are under way.
    pub(super) fn is_busy(&self) -> bool {
        self.has_due() || self.free.len() < PIECES
    }

    fn has_due(&self) -> bool {
        !self.first.is_empty() || !self.due.is_empty()
    }

    /// Begins a job. The kernel hears of it with the next [`Ring::enter`].
    pub(super) fn admit(&mut self, job: Job) {
        match job {
            Job::Write(WriteJob { offset, bytes, done }) => {
                let part = ReadPart { offset, at: 0, length: bytes.len() };
                let slot = self.table.insert(Running::Write { bytes, done });
                self.first.push_back(Piece { slot, part });
            }
            Job::Read(job) => admit_read(&mut self.table, &mut self.due, job),
            Job::ReadFirst(job) => admit_read(&mut self.table, &mut self.first, job),
        }
    }

    /// Has the kernel say when a condition of `file` holds, unless it was asked already and has not
    /// answered.
    pub(super) fn watch(&mut self, watch: usize, file: BorrowedFd<'_>, condition: PollFlags) {
        if std::mem::replace(&mut self.watches[watch].armed, true) {
            return;
        }
        let fd = types::Fd(file.as_raw_fd());
        let entry = opcode::PollAdd::new(fd, condition.bits().into()).build();
        self.enqueue(&entry.user_data(WATCH_NAMES + watch as u64));
    }

    /// What the kernel has said of a condition since this was last asked.
    pub(super) fn happened(&mut self, watch: usize) -> PollFlags {
        std::mem::replace(&mut self.watches[watch].happened, PollFlags::empty())
    }

    /// Tells the kernel what it was not told yet and waits until it has `want` answers, or for as
    /// long as `timeout`. Answers are acted on by [`Ring::act`].
    ///
    /// # Errors
    /// When the kernel refuses to go on.
    pub(super) fn enter(&mut self, want: usize, timeout: Option<Duration>) -> io::Result<()> {
        while self.has_due()
            && let Some(name) = self.free.pop()
        {
            self.tell(name);
        }
        let entered = match timeout {
            None => self.ring.submit_and_wait(want),
            Some(timeout) => {
                let until = types::Timespec::from(timeout);
                let arguments = types::SubmitArgs::new().timespec(&until);
                self.ring.submitter().submit_with_args(want, &arguments)
            }
        };
        match entered {
            Err(error) if !error.raw_os_error().is_some_and(|code| is_passing(-code)) => Err(error),
            _ => {
                self.take_answers();
                Ok(())
            }
        }
    }

    fn take_answers(&mut self) {
        for entry in self.ring.completion() {
            let (name, result) = (entry.user_data(), entry.result());
            if name < WATCH_NAMES {
                self.answers.push((name as usize, result));
            } else if name != NO_NAME {
                let watch = &mut self.watches[(name - WATCH_NAMES) as usize];
                watch.armed = false;
                let flags = u16::try_from(result).unwrap_or(PollFlags::ERR.bits());
                watch.happened |= PollFlags::from_bits_retain(flags);
            }
        }
    }

    /// Acts on the kernel's answers: jobs that are done are told so.
    pub(super) fn act(&mut self) {
        self.act_by(Self::advance);
    }

    fn act_by(&mut self, answered: impl Fn(&mut Self, Piece, i32)) {
        let mut answers = std::mem::take(&mut self.answers);
        for (name, result) in answers.drain(..) {
            let piece = self.told[name].take().expect("the kernel answers once");
            self.free.push(name);
            answered(self, piece, result);
        }
        self.answers = answers;
    }

    /// Tells the kernel of the next piece.
    fn tell(&mut self, name: usize) {
        let next = self.first.pop_front().or_else(|| self.due.pop_front());
        let Some(piece) = next else { return self.free.push(name) };
        self.told[name] = Some(piece);
        let Piece { slot, part } = piece;
        let fd = types::Fd(self.file.as_raw_fd());
        let length = part.length as u32;
        let job = self.table.jobs[slot].as_mut().expect("a job stays until its pieces are done");
        let held = |bytes: &AlignedBuffer| self.region.as_ref().is_some_and(|own| bytes.is_of(own));
        let entry = match job {
            Running::Read { buffer, .. } => {
                let is_held = held(buffer);
                let target = buffer[part.at..part.at + part.length].as_mut_ptr();
                if is_held {
                    opcode::ReadFixed::new(fd, target, length, REGION).offset(part.offset).build()
                } else {
                    opcode::Read::new(fd, target, length).offset(part.offset).build()
                }
            }
            Running::Write { bytes, .. } => {
                let source = bytes[part.at..part.at + part.length].as_ptr();
                if held(bytes) {
                    opcode::WriteFixed::new(fd, source, length, REGION).offset(part.offset).build()
                } else {
                    opcode::Write::new(fd, source, length).offset(part.offset).build()
                }
            }
        };
        self.enqueue(&entry.user_data(name as u64));
    }

    fn enqueue(&mut self, entry: &squeue::Entry) {
        // SAFETY: the memory an entry points to lives until its completion: buffers of jobs stay in
        // the table, on the heap and untouched, until their last piece is done; dropping `self`
        // waits for every completion, or leaks what the kernel may still have. The file is open as
        // long as `self`; of a watched file the kernel has a reference of its own.
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
                // It had its turn.
                self.first.push_back(Piece { slot, part: rest });
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

    /// Whether the kernel has something of ours, or is to say something.
    fn is_waiting(&self) -> bool {
        self.free.len() < PIECES || self.watches.iter().any(|watch| watch.armed)
    }

    fn disarm(&mut self) {
        for watch in 0..WATCHES {
            if self.watches[watch].armed {
                let entry = opcode::PollRemove::new(WATCH_NAMES + watch as u64).build();
                self.enqueue(&entry.user_data(NO_NAME));
            }
        }
    }
}

impl Drop for Ring {
    /// Takes everything back from the kernel and answers who still waits.
    fn drop(&mut self) {
        self.first.clear();
        self.due.clear();
        self.act_by(|_, _, _| {});
        self.disarm();
        let mut leaked = false;
        while self.is_waiting() && !leaked {
            leaked = self.enter(1, None).is_err();
            self.act_by(|_, _, _| {});
        }
        for running in self.table.jobs.drain(..).flatten() {
            running.fail(leaked);
        }
        if self.region.is_some() {
            // The end of a ring is the kernel's work for later; the next ring's region is counted now.
            // What is refused here happens then.
            let _ = self.ring.submitter().unregister_buffers();
        }
    }
}

/// Puts a read into the table and its pieces into a queue.
fn admit_read(table: &mut Table, queue: &mut VecDeque<Piece>, job: ReadJob) {
    let ReadJob { parts, buffer, done } = job;
    if parts.is_empty() {
        return done(Ok(()), buffer);
    }
    for part in &parts {
        assert!(part.at + part.length <= buffer.len(), "a part outside its buffer");
    }
    let pieces = || parts.iter().flat_map(|part| cut(*part));
    let left = pieces().count();
    let slot = table.insert(Running::Read { buffer, done, left, result: Ok(()) });
    queue.extend(pieces().map(|part| Piece { slot, part }));
}

/// Whether the same request may succeed when it is made again.
fn is_transient(answer: i32) -> bool {
    use rustix::io::Errno;
    [Errno::INTR, Errno::AGAIN, Errno::BUSY].iter().any(|errno| errno.raw_os_error() == -answer)
}

/// Whether the ring goes on after waiting for it ended like this.
fn is_passing(answer: i32) -> bool {
    is_transient(answer) || rustix::io::Errno::TIME.raw_os_error() == -answer
}

/// Divides a part into pieces for the kernel.
fn cut(part: ReadPart) -> impl Iterator<Item = ReadPart> {
    (0..part.length).step_by(PIECE_BYTES).map(move |from| ReadPart {
        offset: part.offset + from as u64,
        at: part.at + from,
        length: PIECE_BYTES.min(part.length - from),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::PAGE_BYTES;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Guests' reads are told to the kernel after what a thread waits for, however many there are.
    #[test]
    fn what_is_waited_for_is_not_behind_guests_reads() {
        const READS: usize = 3 * PIECES;
        let file = Arc::new(tempfile::tempfile().unwrap());
        let Ok(mut ring) = Ring::new(file) else { return };
        let ended = Arc::new(AtomicUsize::new(0));
        let read = || {
            let ended = Arc::clone(&ended);
            let part = ReadPart { offset: 0, at: 0, length: PAGE_BYTES };
            let done: ReadDone = Box::new(move |result, _| {
                result.unwrap();
                ended.fetch_add(1, Ordering::Relaxed);
            });
            ReadJob { parts: vec![part], buffer: AlignedBuffer::zeroed(PAGE_BYTES), done }
        };
        for _ in 0..READS {
            ring.admit(Job::Read(read()));
        }
        ring.admit(Job::ReadFirst(read()));
        let (also, bytes) = (Arc::clone(&ended), Arc::new(AlignedBuffer::zeroed(PAGE_BYTES)));
        let done: WriteDone = Box::new(move |result, _| {
            result.unwrap();
            also.fetch_add(1, Ordering::Relaxed);
        });
        ring.admit(Job::Write(WriteJob { offset: 0, bytes, done }));
        ring.enter(0, None).unwrap();
        assert!(ring.first.is_empty(), "the kernel has heard of them");
        assert_eq!(
            ring.due.len(),
            READS + 2 - PIECES,
            "and of as many reads as there was room for"
        );
        while ring.is_busy() {
            ring.enter(1, None).unwrap();
            ring.act();
        }
        assert_eq!(ended.load(Ordering::Relaxed), READS + 2);
    }
}
