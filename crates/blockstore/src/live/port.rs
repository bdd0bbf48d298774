//! A ring for a thread that serves clients: it waits for its sockets and for the disk at once, and
//! what it reads passes through no other thread.

use super::AlignedBuffer;
use super::disk::ReadJob;
use super::file::FileDisk;
use super::region::{Layout, Region};
use super::ring::{Job, Ring, WATCHES};
use crate::page::PAGE_BYTES;
use rustix::event::PollFlags;
use std::io;
use std::marker::PhantomData;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

/// Files one port waits for at most; each may be waited for in two directions.
pub const PORT_FILES_MAX: usize = WATCHES / 2;

/// Buffers that a port's ring knows beforehand, and bytes in each: small reads, as deep as clients go.
const BUFFERS: usize = 128;
const BUFFER_BYTES: usize = PAGE_BYTES;

/// A file to wait for, and what has become of it: as of `poll(2)`.
pub struct Awaited<'a> {
    /// The file.
    pub file: BorrowedFd<'a>,
    /// What is waited for: nothing, `IN`, `OUT` or both.
    pub wanted: PollFlags,
    /// What happened: something that was wanted, or that the file ended.
    pub happened: PollFlags,
}

impl<'a> Awaited<'a> {
    /// Waits for `wanted` of a file.
    pub fn new(file: BorrowedFd<'a>, wanted: PollFlags) -> Self {
        Self { file, wanted, happened: PollFlags::empty() }
    }
}

/// Reads of one volume by the thread that made the port. It must come back to [`Port::wait`] for as
/// long as reads are under way, and must not wait for the volume in between.
pub struct Port {
    disk: Arc<FileDisk>,
    ring: Ring,
    /// The ring belongs to its thread.
    _thread: PhantomData<*const ()>,
}

impl Port {
    pub(super) fn new(disk: Arc<FileDisk>, ring: Ring) -> Self {
        Self { disk, ring, _thread: PhantomData }
    }

    /// Buffers of a page that reads through this port go into at less cost than into others, where
    /// the system lets the process have them. They are given out once.
    pub fn buffers(&mut self) -> Vec<AlignedBuffer> {
        let region =
            Region::new(Layout { slots: BUFFERS, head_bytes: 0, buffer_bytes: BUFFER_BYTES });
        let registered =
            region.and_then(|region| self.ring.register(Arc::clone(&region)).map(|()| region));
        match registered {
            Ok(region) => region.take_all(),
            Err(error) => {
                tracing::info!(%error, "a client's reads go without registered buffers");
                Vec::new()
            }
        }
    }

    /// Begins a read. `done` is called by [`Port::answer`] or [`Port::settle`], or at once when
    /// there is nothing to read. The disk hears of it with the next [`Port::wait`] or
    /// [`Port::push`].
    pub fn read(&mut self, mut job: ReadJob) {
        match self.disk.copy_parts(&mut job.parts, &mut job.buffer) {
            Ok(()) => self.ring.admit(Job::Read(job)),
            Err(error) => (job.done)(Err(error), job.buffer),
        }
    }

    /// Whether reads are under way.
    pub fn is_reading(&self) -> bool {
        self.ring.is_busy()
    }

    /// Tells the disk what is to be read, without waiting.
    ///
    /// # Errors
    /// When the system refuses to go on.
    pub fn push(&mut self) -> io::Result<()> {
        if self.ring.has_untold() { self.ring.enter(0, None) } else { Ok(()) }
    }

    /// Waits until a read is done, one of the files is as wanted, or the time is over.
    ///
    /// # Errors
    /// When the system refuses to go on.
    pub fn wait(&mut self, files: &mut [Awaited<'_>], timeout: Option<Duration>) -> io::Result<()> {
        assert!(files.len() <= PORT_FILES_MAX, "a port waits for {PORT_FILES_MAX} files");
        const DIRECTIONS: [PollFlags; 2] = [PollFlags::IN, PollFlags::OUT];
        for (at, file) in files.iter().enumerate() {
            for (watch, direction) in (2 * at..).zip(DIRECTIONS) {
                if file.wanted.contains(direction) {
                    self.ring.watch(watch, file.file, direction);
                }
            }
        }
        self.ring.enter(1, timeout)?;
        for (at, file) in files.iter_mut().enumerate() {
            file.happened = self.ring.happened(2 * at) | self.ring.happened(2 * at + 1);
        }
        Ok(())
    }

    /// Ends the reads that are done.
    pub fn answer(&mut self) {
        self.ring.act();
    }

    /// Waits until no read is under way.
    pub fn settle(&mut self) {
        while self.ring.is_busy() {
            if let Err(error) = self.ring.enter(1, None) {
                // The reads are answered when the port is dropped.
                tracing::error!(%error, "io_uring failed under a connection");
                return;
            }
            self.ring.act();
        }
    }
}

impl Drop for Port {
    /// Whoever reads is answered.
    fn drop(&mut self) {
        self.settle();
    }
}
