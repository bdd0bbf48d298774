//! What a volume lies on: bytes by offset, durable after a flush.

use super::{AlignedBuffer, Port};
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// How long a read that failed waits to be tried again.
pub const READ_PAUSE: Duration = Duration::from_millis(30);

/// A flat, sparse address space. All methods take `&self`: several threads may read one disk.
/// Offsets and lengths are multiples of a page.
pub trait Disk: Send + Sync {
    /// Fills `target` from `offset`. What was never written, also past the end, reads as zeros.
    /// Sees what [`Disk::start_write`] accepted.
    ///
    /// # Errors
    /// When the medium cannot say what it holds.
    fn read(&self, offset: u64, target: &mut [u8]) -> io::Result<()>;

    /// Stores `source` at `offset`. Until the next [`Disk::flush`] returns, any subset of its
    /// sectors may be lost.
    ///
    /// # Errors
    /// When the medium refuses; the range then holds anything.
    fn write(&self, offset: u64, source: &[u8]) -> io::Result<()>;

    /// As [`Disk::write`], but may return before the medium has the bytes: writes that were
    /// accepted reach it in any order, and an error comes with a later write or flush, which then
    /// all fail. Takes the buffer's bytes and leaves a buffer of the same length with any content.
    /// Waits when too much is under way.
    ///
    /// # Errors
    /// When the medium refuses this write or has refused one before.
    fn start_write(&self, offset: u64, buffer: &mut AlignedBuffer) -> io::Result<()> {
        self.write(offset, buffer)
    }

    /// Returns when the end of this process can no longer take what was written with [`Disk::write`]
    /// before, as a power cut may until a flush. Where the kernel has what a write was given, that is
    /// at once; elsewhere it may still be on its way.
    ///
    /// # Errors
    /// When that is not certain.
    fn hand_over(&self) -> io::Result<()> {
        Ok(())
    }

    /// Starts to read. `false` when the disk reads only while somebody waits; the job is then
    /// untouched.
    fn start_read(&self, _read: &mut Option<ReadJob>) -> bool {
        false
    }

    /// A way to read for the calling thread, which then waits for the disk and for its clients at
    /// once. `None` where there is none.
    fn port(self: Arc<Self>) -> Option<Port> {
        None
    }

    /// Fills several ranges, in parallel where the disk can.
    ///
    /// # Errors
    /// As [`Disk::read`], for the first range that fails.
    fn read_each(&self, ranges: &mut [(u64, &mut [u8])]) -> io::Result<()> {
        ranges.iter_mut().try_for_each(|(offset, target)| self.read(*offset, target))
    }

    /// Makes every earlier write durable, those that were only accepted included.
    ///
    /// # Errors
    /// When that is not certain. Earlier writes may then be lost for good.
    fn flush(&self) -> io::Result<()>;

    /// Has reads show what the medium holds from now on, and not what was kept of it before: neither of
    /// writes that it may have lost when a flush failed, nor of reads. Writes since the last flush are
    /// still seen. Called before a volume is read that is being opened, and before something is read
    /// again that was not what it should be.
    ///
    /// # Errors
    /// When that is not certain.
    fn forget_cached(&self) -> io::Result<()> {
        Ok(())
    }

    /// Waits a moment before a read that failed is tried again, [`READ_PAUSE`] where time passes. Nothing
    /// that is simulated takes time.
    fn pause(&self) {}

    /// Bytes up to the end of the last write, or of the space that was asked for.
    ///
    /// # Errors
    /// When the medium cannot say.
    fn len(&self) -> io::Result<u64>;

    /// Whether nothing was ever written.
    ///
    /// # Errors
    /// When the medium cannot say.
    fn is_empty(&self) -> io::Result<bool> {
        self.len().map(|length| length == 0)
    }

    /// Says that a range, which was never written or was given back, will be written soon. It only
    /// saves time.
    fn expect_writes(&self, _offset: u64, _length: u64) {}

    /// Fills a range that nothing was written to with zeros, so that it lies there already when it is
    /// written. It only saves time, and may come to nothing; but never after a later write of the range.
    ///
    /// # Errors
    /// As [`Disk::write`].
    fn fill_ahead(&self, offset: u64, length: u64) -> io::Result<()> {
        self.write(offset, &AlignedBuffer::zeroed(length as usize))
    }

    /// Has chunks lie in memory that outlives the process from now on: gives the first buffer, and
    /// leaves others like it in [`Disk::start_write`], each free again when the disk has its bytes. What
    /// an earlier process left is gone. `None` where there is no such memory.
    ///
    /// # Errors
    /// When the medium refuses.
    fn begin_tail(&self) -> io::Result<Option<AlignedBuffer>> {
        Ok(None)
    }

    /// What a process left that began a tail and ended neither it nor itself.
    ///
    /// # Errors
    /// When the medium cannot say.
    fn left_tail(&self) -> io::Result<Option<Vec<u8>>> {
        Ok(None)
    }

    /// Gives up the tail: every chunk is durable.
    ///
    /// # Errors
    /// When the medium refuses; nothing is lost but space.
    fn end_tail(&self) -> io::Result<()> {
        Ok(())
    }

    /// Gives the space of a range back. It reads as zeros or as before, then and after a crash; but
    /// nothing of it comes after a later write of the range.
    ///
    /// # Errors
    /// When the medium refuses; nothing is lost but space.
    fn punch(&self, offset: u64, length: u64) -> io::Result<()>;
}

/// A range of the disk and where in a buffer it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadPart {
    /// Where on the disk.
    pub offset: u64,
    /// Where in the buffer.
    pub at: usize,
    /// How many bytes.
    pub length: usize,
}

/// Reads that are under way together.
pub struct ReadJob {
    /// What to read. The parts lie inside the buffer and do not overlap.
    pub parts: Vec<ReadPart>,
    /// Where to.
    pub buffer: AlignedBuffer,
    /// Called once, on a thread of the disk or on that of a port. It must not make the thread wait
    /// for the disk.
    pub done: ReadDone,
}

/// Takes the outcome of a [`ReadJob`] and its buffer.
pub type ReadDone = Box<dyn FnOnce(io::Result<()>, AlignedBuffer) + Send>;
