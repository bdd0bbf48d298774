//! A volume's file.
//!
//! Where system and file system allow it, the file is read and written past the page cache
//! (`O_DIRECT`), and chunks and guests' reads go through a ring that a thread of their own serves.
//! Elsewhere every call waits for the kernel.

use super::ahead::{Keep, ReadAhead};
use super::aligned::is_aligned;
use super::disk::{READ_PAUSE, ReadJob, ReadPart};
use super::reactor::Reactor;
use super::ring::{Ring, WriteJob};
use super::tail::TailFile;
use super::writes::{Copied, Deferral, When, Writes};
use super::{AlignedBuffer, Disk, Port};
use crate::page::PAGE_BYTES;
use rustix::fs::OFlags;
use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Bytes that go through a buffer of our own at once where a caller's is not aligned.
const BOUNCE_BYTES: usize = 1 << 20;
/// A write up to this long waits for the next flush or write: whoever flushes after every small
/// write then does both itself, without waking another thread.
const SHORT_BYTES: usize = 64 << 10;

/// How a volume's file is read and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum IoMode {
    /// Through the page cache, one call at a time.
    Buffered,
    /// Past the page cache, one call at a time.
    Direct,
    /// Past the page cache, many at once through `io_uring`.
    Ring,
}

impl IoMode {
    /// The best of the modes up to `self` that works for files in `folder`, and why no better one
    /// does. Leaves no file behind.
    ///
    /// # Errors
    /// When no file can be made there.
    pub fn probe(self, folder: &Path) -> io::Result<(Self, Option<io::Error>)> {
        let path = folder.join("probe.new");
        File::options().write(true).create(true).truncate(true).open(&path)?.set_len(4096)?;
        let mut refusal = None;
        let mut mode = self;
        loop {
            match FileDisk::open(&path, mode).and_then(|disk| disk.try_out()) {
                Ok(()) => break,
                Err(error) if mode == Self::Buffered => {
                    std::fs::remove_file(&path)?;
                    return Err(error);
                }
                Err(error) => refusal = Some(error),
            }
            mode = if mode == Self::Ring { Self::Direct } else { Self::Buffered };
        }
        std::fs::remove_file(&path)?;
        Ok((mode, refusal))
    }
}

impl fmt::Display for IoMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Buffered => "page cache",
            Self::Direct => "direct I/O",
            Self::Ring => "direct I/O through io_uring",
        })
    }
}

/// A sparse file.
pub struct FileDisk {
    file: Arc<File>,
    tail: TailFile,
    mode: IoMode,
    writes: Arc<Writes>,
    /// Held while the system flushes. Writes do not wait for it.
    flushing: Mutex<()>,
    ahead: ReadAhead,
    /// Started with the first request that needs it.
    reactor: OnceLock<Option<Reactor>>,
}

impl FileDisk {
    /// Opens an existing file for reading and writing.
    ///
    /// # Errors
    /// What the file system says, also when it cannot do without the page cache.
    pub fn open(path: &Path, mode: IoMode) -> io::Result<Self> {
        let mut options = File::options();
        options.read(true).write(true);
        Self::new(&mut options, path, mode)
    }

    /// Creates a file that must not exist yet and makes its name durable.
    ///
    /// # Errors
    /// What the file system says, `AlreadyExists` among it.
    pub fn create(path: &Path, mode: IoMode) -> io::Result<Self> {
        let mut options = File::options();
        options.read(true).write(true).create_new(true);
        let disk = Self::new(&mut options, path, mode)?;
        if let Some(parent) = path.parent() {
            File::open(parent)?.sync_all()?;
        }
        Ok(disk)
    }

    fn new(options: &mut std::fs::OpenOptions, path: &Path, mode: IoMode) -> io::Result<Self> {
        if mode >= IoMode::Direct {
            options.custom_flags(OFlags::DIRECT.bits().cast_signed());
        }
        let file = Arc::new(options.open(path)?);
        Ok(Self::over(file, TailFile::of(path), mode))
    }

    fn over(file: Arc<File>, tail: TailFile, mode: IoMode) -> Self {
        Self {
            file,
            tail,
            mode,
            writes: Arc::default(),
            flushing: Mutex::default(),
            ahead: ReadAhead::default(),
            reactor: OnceLock::new(),
        }
    }

    /// Whether the mode works with this file.
    fn try_out(&self) -> io::Result<()> {
        let mut buffer = AlignedBuffer::zeroed(PAGE_BYTES);
        self.file.read_at(&mut buffer, 0)?;
        if self.mode == IoMode::Ring {
            Reactor::start(Arc::clone(&self.file))?;
        }
        Ok(())
    }

    /// The ring, if there is one; a volume whose ring cannot be made does without.
    fn reactor(&self) -> Option<&Reactor> {
        if self.mode < IoMode::Ring {
            return None;
        }
        let started = self.reactor.get_or_init(|| {
            Reactor::start(Arc::clone(&self.file))
                .inspect_err(|error| tracing::warn!(%error, "a volume goes without io_uring"))
                .ok()
        });
        started.as_ref()
    }

    fn read_file(&self, offset: u64, target: &mut [u8]) -> io::Result<()> {
        if self.mode == IoMode::Buffered || (is_aligned(target) && is_page(offset)) {
            return read_whole(&self.file, offset, target);
        }
        let read_more = |buffer: &mut AlignedBuffer| {
            let touched = self.writes.touch(&range(offset, buffer.len()));
            let keep = if touched { Keep::No } else { Keep::Yes };
            read_whole(&self.file, offset, buffer).map(|()| keep)
        };
        if self.ahead.read(offset, target, read_more) {
            return Ok(());
        }
        let first = offset - offset % PAGE_BYTES as u64;
        let end = (offset + target.len() as u64).next_multiple_of(PAGE_BYTES as u64);
        let whole = (end - first) as usize;
        let mut bounce = AlignedBuffer::zeroed(whole.min(BOUNCE_BYTES));
        for at in (0..whole).step_by(BOUNCE_BYTES) {
            bounce.set_length(BOUNCE_BYTES.min(whole - at));
            let piece = first + at as u64;
            read_whole(&self.file, piece, &mut bounce)?;
            let wanted =
                piece.max(offset)..(piece + bounce.len() as u64).min(offset + target.len() as u64);
            let source = &bounce[(wanted.start - piece) as usize..(wanted.end - piece) as usize];
            target[(wanted.start - offset) as usize..][..source.len()].copy_from_slice(source);
        }
        Ok(())
    }

    fn write_file(&self, offset: u64, source: &[u8]) -> io::Result<()> {
        if self.mode == IoMode::Buffered || is_aligned(source) {
            return self.file.write_all_at(source, offset);
        }
        let mut bounce = AlignedBuffer::zeroed(source.len().min(BOUNCE_BYTES));
        for (piece, bytes) in (offset..).step_by(BOUNCE_BYTES).zip(source.chunks(BOUNCE_BYTES)) {
            bounce.set_length(bytes.len());
            bounce.copy_from_slice(bytes);
            self.file.write_all_at(&bounce, piece)?;
        }
        Ok(())
    }

    /// Carries out what waits, on this thread.
    fn write_deferred(&self) {
        for Deferral { ticket, offset, bytes } in self.writes.take_deferred() {
            let result = self.file.write_all_at(&bytes, offset);
            self.writes.finish(ticket, result, bytes);
        }
    }

    /// Waits until nothing is under way in a range.
    fn settle(&self, range: &Range<u64>) -> io::Result<()> {
        if self.writes.touch(range) {
            self.write_deferred();
        }
        self.writes.await_range(range)
    }

    /// Fills `target` if the range need not be read; waits if it cannot be read yet.
    fn copy_accepted(&self, offset: u64, target: &mut [u8]) -> io::Result<bool> {
        let copied = self.writes.copy(offset, target);
        if copied == Copied::Part {
            self.settle(&range(offset, target.len()))?;
        }
        Ok(copied == Copied::All)
    }

    /// Copies the parts that accepted writes hold, and leaves the others to be read.
    pub(super) fn copy_parts(
        &self,
        parts: &mut Vec<ReadPart>,
        buffer: &mut AlignedBuffer,
    ) -> io::Result<()> {
        let mut failure = Ok(());
        parts.retain(|part| {
            let target = &mut buffer[part.at..part.at + part.length];
            match self.copy_accepted(part.offset, target) {
                Ok(copied) => !copied,
                Err(error) => {
                    failure = Err(error);
                    false
                }
            }
        });
        failure
    }

    /// Has `sync` make durable what is written. Of two flushes at once Linux tells only one what it could
    /// not write, and takes it for clean: so they take turns, and one is refused after another has failed.
    fn sync_with(&self, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let _turn = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        sync().inspect_err(|error| self.writes.note_failure(error))?;
        self.writes.newest().map(drop)
    }

    /// Hands a write to the ring.
    fn hand_over(&self, reactor: &Reactor, deferral: Deferral) {
        let Deferral { ticket, offset, bytes } = deferral;
        let writes = Arc::clone(&self.writes);
        let done = Box::new(move |result, bytes| writes.finish(ticket, result, bytes));
        reactor.write(WriteJob { offset, bytes, done });
    }
}

impl Disk for FileDisk {
    fn read(&self, offset: u64, target: &mut [u8]) -> io::Result<()> {
        if self.copy_accepted(offset, target)? {
            return Ok(());
        }
        self.read_file(offset, target)
    }

    fn write(&self, offset: u64, source: &[u8]) -> io::Result<()> {
        let range = range(offset, source.len());
        self.settle(&range)?;
        let written = self.write_file(offset, source);
        self.ahead.forget(&range);
        written
    }

    fn start_write(&self, offset: u64, buffer: &mut AlignedBuffer) -> io::Result<()> {
        let Some(reactor) = self.reactor() else { return self.write(offset, buffer) };
        for deferral in self.writes.take_deferred() {
            self.hand_over(reactor, deferral);
        }
        let range = range(offset, buffer.len());
        let when = if buffer.len() <= SHORT_BYTES { When::Later } else { When::Now };
        let accepted = self.writes.accept(offset, buffer, when)?;
        self.ahead.forget(&range);
        if let Some(deferral) = accepted {
            self.hand_over(reactor, deferral);
        }
        Ok(())
    }

    fn start_read(&self, read: &mut Option<ReadJob>) -> bool {
        let Some(reactor) = self.reactor() else { return false };
        let Some(mut job) = read.take() else { return true };
        match self.copy_parts(&mut job.parts, &mut job.buffer) {
            Ok(()) => reactor.read(job),
            Err(error) => (job.done)(Err(error), job.buffer),
        }
        true
    }

    fn port(self: Arc<Self>) -> Option<Port> {
        if self.mode < IoMode::Ring {
            return None;
        }
        let ring = Ring::new(Arc::clone(&self.file));
        let ring = ring.inspect_err(|error| tracing::warn!(%error, "a client goes without a ring"));
        Some(Port::new(self, ring.ok()?))
    }

    fn read_each(&self, ranges: &mut [(u64, &mut [u8])]) -> io::Result<()> {
        let Some(reactor) = self.reactor().filter(|_| ranges.len() > 1) else {
            return ranges.iter_mut().try_for_each(|(offset, target)| self.read(*offset, target));
        };
        let (mut parts, mut at) = (Vec::with_capacity(ranges.len()), 0);
        for (offset, target) in ranges.iter() {
            parts.push(ReadPart { offset: *offset, at, length: target.len() });
            at += target.len();
        }
        let mut buffer = AlignedBuffer::zeroed(at);
        let mut missing = parts.clone();
        self.copy_parts(&mut missing, &mut buffer)?;
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        let done = Box::new(move |result: io::Result<()>, buffer| {
            // Whoever asked waits below.
            let _ = sender.send((result, buffer));
        });
        reactor.read_first(ReadJob { parts: missing, buffer, done });
        let (result, buffer) =
            receiver.recv().map_err(|_| io::Error::other("the disk's thread has ended"))?;
        result?;
        for (part, (_, target)) in parts.iter().zip(ranges) {
            target.copy_from_slice(&buffer[part.at..part.at + part.length]);
        }
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        let newest = self.writes.newest()?;
        self.write_deferred();
        self.writes.await_finished(newest)?;
        self.sync_with(|| self.file.sync_data())
    }

    /// When Linux cannot write a page back it takes it for clean, says so once, and goes on showing it: the
    /// next flush succeeds. What is clean by now is dropped; nothing else reads the file through the cache.
    fn forget_cached(&self) -> io::Result<()> {
        use rustix::fs::{Advice, fadvise};
        self.ahead.forget(&(0..u64::MAX));
        if self.mode == IoMode::Buffered {
            fadvise(&*self.file, 0, None, Advice::DontNeed)?;
        }
        Ok(())
    }

    fn pause(&self) {
        std::thread::sleep(READ_PAUSE);
    }

    fn len(&self) -> io::Result<u64> {
        let written = self.file.metadata()?.len();
        Ok(written.max(self.writes.end()))
    }

    fn expect_writes(&self, offset: u64, length: u64) {
        use rustix::fs::{FallocateFlags, fallocate};
        if self.mode >= IoMode::Direct {
            // A file system that cannot, or has no space, says so again when it is written to.
            let _ = fallocate(&*self.file, FallocateFlags::empty(), offset, length);
        }
    }

    fn begin_tail(&self) -> io::Result<Option<AlignedBuffer>> {
        let mut buffers = self.tail.begin()?;
        let first = buffers.pop();
        self.writes.offer(buffers);
        Ok(first)
    }

    fn left_tail(&self) -> io::Result<Option<Vec<u8>>> {
        self.tail.left()
    }

    fn end_tail(&self) -> io::Result<()> {
        self.tail.end()
    }

    fn punch(&self, offset: u64, length: u64) -> io::Result<()> {
        use rustix::fs::{FallocateFlags, fallocate};
        self.settle(&(offset..offset + length))?;
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let punched = fallocate(&*self.file, flags, offset, length);
        self.ahead.forget(&(offset..offset + length));
        Ok(punched?)
    }
}

fn range(offset: u64, length: usize) -> Range<u64> {
    offset..offset + length as u64
}

fn is_page(offset: u64) -> bool {
    offset.is_multiple_of(PAGE_BYTES as u64)
}

/// Reads what there is; the rest is zeros.
pub(super) fn read_whole(file: &File, mut offset: u64, mut target: &mut [u8]) -> io::Result<()> {
    while !target.is_empty() {
        match file.read_at(target, offset) {
            Ok(0) => {
                target.fill(0);
                return Ok(());
            }
            Ok(count) => {
                offset += count as u64;
                target = &mut target[count..];
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;
    use std::sync::mpsc;
    use std::time::Duration;

    const MODES: [IoMode; 3] = [IoMode::Buffered, IoMode::Direct, IoMode::Ring];

    fn each_mode(check: impl Fn(FileDisk)) {
        for mode in MODES {
            let folder = tempfile::tempdir().unwrap();
            assert!(!folder.path().join("probe.new").exists());
            match FileDisk::create(&folder.path().join("disk"), mode) {
                Ok(disk) => check(disk),
                // A file system that knows no direct I/O.
                Err(error) => assert!(mode > IoMode::Buffered, "{error}"),
            }
            assert!(FileDisk::create(&folder.path().join("disk"), mode).is_err());
        }
    }

    #[test]
    fn unwritten_and_punched_ranges_read_as_zeros() {
        each_mode(|disk| {
            assert!(disk.is_empty().unwrap());
            disk.write(8192, &[7; 8192]).unwrap();
            disk.flush().unwrap();
            let mut bytes = [1; 16384];
            disk.read(4096, &mut bytes).unwrap();
            assert!(bytes[..4096].iter().all(|b| *b == 0));
            assert!(bytes[4096..12288].iter().all(|b| *b == 7));
            assert!(bytes[12288..].iter().all(|b| *b == 0));
            disk.punch(8192, 4096).unwrap();
            disk.read(8192, &mut bytes[..8192]).unwrap();
            assert!(bytes[..4096].iter().all(|b| *b == 0));
            assert!(bytes[4096..8192].iter().all(|b| *b == 7));
            assert_eq!(disk.len().unwrap(), 16384);
        });
    }

    /// Nothing is lost with what is cached, flushed or not.
    #[test]
    fn forgetting_what_is_cached_forgets_nothing_that_was_written() {
        each_mode(|disk| {
            disk.write(0, &[7; 8192]).unwrap();
            disk.flush().unwrap();
            let mut buffer = AlignedBuffer::zeroed(8192);
            buffer.fill(9);
            disk.start_write(8192, &mut buffer).unwrap();
            disk.forget_cached().unwrap();
            let mut bytes = [1; 16384];
            disk.read(0, &mut bytes).unwrap();
            assert!(bytes[..8192].iter().all(|byte| *byte == 7));
            assert!(bytes[8192..].iter().all(|byte| *byte == 9));
        });
    }

    /// What was read ahead is not what is read again.
    #[test]
    fn forgetting_what_is_cached_forgets_what_was_read_ahead() {
        each_mode(|disk| {
            disk.write(0, &[7; 16384]).unwrap();
            let first_byte = |offset| {
                // Memory that is not aligned.
                let mut bytes = [0; 4097];
                disk.read(offset, &mut bytes[1..]).unwrap();
                bytes[1]
            };
            assert_eq!(first_byte(0), 7);
            let mut other = AlignedBuffer::zeroed(4096);
            other.fill(8);
            disk.file.write_all_at(&other, 8192).unwrap();
            disk.forget_cached().unwrap();
            assert_eq!(first_byte(8192), 8);
        });
    }

    /// More writes than may be under way, long and short, are read back before and after a flush,
    /// one by one and together.
    #[test]
    fn accepted_writes_are_seen_at_once_and_after_a_flush() {
        const WRITES: usize = 120;
        const STRIDE: u64 = 256 << 10;
        let length = |index: usize| if index.is_multiple_of(3) { 8192 } else { 192 << 10 };
        each_mode(|disk| {
            for index in 0..WRITES {
                let mut buffer = AlignedBuffer::zeroed(length(index));
                buffer.fill(index as u8 + 1);
                disk.start_write(index as u64 * STRIDE, &mut buffer).unwrap();
                assert_eq!(buffer.len(), length(index));
                let mut page = [0; 4096];
                disk.read(index as u64 * STRIDE + 4096, &mut page).unwrap();
                assert_eq!(page, [index as u8 + 1; 4096]);
            }
            for _ in 0..2 {
                let mut pages = vec![[0u8; 8192]; WRITES];
                let offsets = (0..WRITES as u64).map(|index| index * STRIDE);
                let mut ranges: Vec<(u64, &mut [u8])> =
                    offsets.zip(pages.iter_mut().map(|page| &mut page[..])).collect();
                disk.read_each(&mut ranges).unwrap();
                for (index, page) in pages.iter().enumerate() {
                    assert_eq!(*page, [index as u8 + 1; 8192], "{index}");
                }
                disk.flush().unwrap();
            }
            let end = disk.len().unwrap();
            assert_eq!(end, (WRITES as u64 - 1) * STRIDE + length(WRITES - 1) as u64);
            // Past the end, in the middle of a page, into memory that is not aligned.
            let mut bytes = vec![9; 3 << 20];
            disk.read(end - 100, &mut bytes[1..]).unwrap();
            assert!(bytes[1..101].iter().all(|byte| *byte == WRITES as u8));
            assert!(bytes[101..].iter().all(|byte| *byte == 0));
        });
    }

    /// Whatever is under way, chunks are filled in the tail.
    #[test]
    fn buffers_of_the_tail_go_around() {
        each_mode(|disk| {
            let mut buffer = disk.begin_tail().unwrap().unwrap();
            for number in 1..80 {
                buffer.set_length(512 << 10);
                buffer.fill(number);
                disk.start_write(u64::from(number) << 20, &mut buffer).unwrap();
                assert!(buffer.head_mut().is_some(), "{number}");
            }
            disk.flush().unwrap();
            for number in 1..80 {
                let mut bytes = AlignedBuffer::zeroed(512 << 10);
                disk.read(u64::from(number) << 20, &mut bytes).unwrap();
                assert!(bytes.iter().all(|byte| *byte == number), "{number}");
            }
            assert!(disk.left_tail().unwrap().is_some());
            disk.end_tail().unwrap();
            assert!(disk.left_tail().unwrap().is_none());
        });
    }

    #[test]
    fn a_write_that_failed_late_fails_everything_later() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        FileDisk::create(&path, IoMode::Buffered).unwrap();
        // Opened for reading only: the medium refuses every write.
        let file = Arc::new(File::open(&path).unwrap());
        let disk = FileDisk::over(file, TailFile::of(&path), IoMode::Ring);
        if disk.reactor().is_none() {
            return;
        }
        let mut buffer = AlignedBuffer::zeroed(128 << 10);
        disk.start_write(0, &mut buffer).unwrap();
        assert!(disk.flush().is_err());
        assert!(disk.start_write(0, &mut buffer).is_err());
        assert!(disk.write(0, &buffer).is_err());
        assert!(disk.flush().is_err());
    }

    /// The writes of both may be among those that were lost. Who writes waits for neither.
    #[test]
    fn a_flush_beside_one_that_fails_fails_too() {
        let folder = tempfile::tempdir().unwrap();
        let disk = FileDisk::create(&folder.path().join("disk"), IoMode::Buffered).unwrap();
        let (begin, begun) = mpsc::channel();
        let (write, wrote) = mpsc::channel();
        let (end, ended) = mpsc::channel();
        std::thread::scope(|scope| {
            let disk = &disk;
            let failing = scope.spawn(move || {
                disk.sync_with(|| {
                    begin.send(()).unwrap();
                    wrote.recv_timeout(Duration::from_secs(10)).unwrap();
                    // A flush that does not wait for this one has ended by then.
                    let _ = ended.recv_timeout(Duration::from_millis(100));
                    Err(Errno::IO.into())
                })
            });
            begun.recv().unwrap();
            disk.write(0, &[7; 4096]).unwrap();
            write.send(()).unwrap();
            let beside = disk.sync_with(|| Ok(()));
            // The other has ended if it was waited for.
            let _ = end.send(());
            assert!(beside.is_err());
            assert!(failing.join().unwrap().is_err());
        });
        assert!(disk.flush().is_err());
    }

    #[test]
    fn the_probe_finds_a_mode_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        for mode in MODES {
            let (found, refusal) = mode.probe(folder.path()).unwrap();
            assert!(found == mode || refusal.is_some());
            assert!(found <= mode);
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
