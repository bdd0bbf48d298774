//! Reused byte buffers, so that steady I/O allocates nothing.

use std::ops::{Deref, DerefMut};

use blockstore::live::AlignedBuffer;

/// Largest capacity class a [`Pool`] keeps; a larger buffer is freed after use.
const POOLED_CAPACITY_MAX: usize = 4 << 20;

/// Buffers of this capacity and above lie in large pages, several in one: they are where a disk reads
/// to, and the kernel finds a large page at the cost of a small one.
const LARGE_CAPACITY_MIN: usize = 256 << 10;

/// Free bytes one [`Pool`] keeps.
const POOLED_BYTES_MAX: usize = 16 << 20;

/// Smallest capacity handed out.
const CAPACITY_MIN: usize = 4096;

/// Number of capacity classes a pool keeps: powers of two from the smallest to the largest.
const CLASS_COUNT: usize = (POOLED_CAPACITY_MAX / CAPACITY_MIN).ilog2() as usize + 1;

/// A byte buffer whose length is at most its power-of-two capacity. It dereferences to its length.
///
/// A buffer from a [`Pool`] holds bytes of an earlier request of the same connection until they are
/// overwritten, so whoever answers a read must write all of it.
#[derive(Debug)]
pub struct Buffer(AlignedBuffer);

impl Buffer {
    /// A zeroed buffer of `length` bytes.
    pub fn zeroed(length: usize) -> Self {
        let capacity = length.next_power_of_two().max(CAPACITY_MIN);
        let mut bytes = AlignedBuffer::zeroed(capacity);
        bytes.set_length(length);
        Self(bytes)
    }

    /// The bytes, for a disk.
    pub(crate) fn into_aligned(self) -> AlignedBuffer {
        self.0
    }

    /// Bytes that came from [`Buffer::into_aligned`].
    pub(crate) fn from_aligned(bytes: AlignedBuffer) -> Self {
        Self(bytes)
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

/// Free buffers by capacity class. Owned by one connection: buffers never cross volumes.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    free: [Vec<AlignedBuffer>; CLASS_COUNT],
    free_bytes: usize,
}

impl Pool {
    /// A pool that begins with some buffers.
    pub(crate) fn with(buffers: Vec<AlignedBuffer>) -> Self {
        let mut pool = Self::default();
        buffers.into_iter().for_each(|bytes| pool.give(Buffer(bytes)));
        pool
    }

    /// A buffer of `length` bytes with arbitrary content.
    pub(crate) fn take(&mut self, length: usize) -> Buffer {
        let pooled = class(length).and_then(|class| self.free[class].pop());
        match pooled {
            Some(mut bytes) => {
                self.free_bytes -= bytes.capacity();
                bytes.set_length(length);
                Buffer(bytes)
            }
            None => self.make(length),
        }
    }

    fn make(&mut self, length: usize) -> Buffer {
        let capacity = length.next_power_of_two();
        if !(LARGE_CAPACITY_MIN..=POOLED_CAPACITY_MAX).contains(&capacity) {
            return Buffer::zeroed(length);
        }
        // Without memory for several there may be some for one; if not, the process ends as ever.
        let mut made = AlignedBuffer::in_large_pages(capacity).unwrap_or_default();
        let Some(mut own) = made.pop() else { return Buffer::zeroed(length) };
        made.into_iter().for_each(|other| self.give(Buffer(other)));
        own.set_length(length);
        Buffer(own)
    }

    /// Takes a buffer back for reuse.
    pub(crate) fn give(&mut self, buffer: Buffer) {
        let capacity = buffer.0.capacity();
        if self.free_bytes + capacity > POOLED_BYTES_MAX {
            return;
        }
        if let Some(class) = class(capacity) {
            self.free_bytes += capacity;
            self.free[class].push(buffer.0);
        }
    }
}

/// The class that serves `length`, or `None` when it is too large to keep.
fn class(length: usize) -> Option<usize> {
    let capacity = length.next_power_of_two().max(CAPACITY_MIN);
    (capacity <= POOLED_CAPACITY_MAX).then(|| (capacity / CAPACITY_MIN).ilog2() as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_by_class() {
        let mut pool = Pool::default();
        let mut buffer = pool.take(5000);
        assert_eq!(buffer.len(), 5000);
        buffer.fill(7);
        pool.give(buffer);
        assert_eq!(pool.free_bytes, 8192);
        assert!(pool.take(4096).iter().all(|&b| b == 0), "a smaller class is another buffer");
        let again = pool.take(8192);
        assert_eq!(again.len(), 8192);
        assert_eq!(again[0], 7, "the same memory is reused");
        assert_eq!(pool.free_bytes, 0);
    }

    #[test]
    fn large_buffers_come_several_at_once() {
        let mut pool = Pool::default();
        let first = pool.take((512 << 10) - 5);
        assert_eq!(first.len(), (512 << 10) - 5);
        assert_eq!(pool.free_bytes, 3 * (512 << 10), "the rest of a large page");
        let others: Vec<Buffer> = (0..3).map(|_| pool.take(512 << 10)).collect();
        assert_eq!(pool.free_bytes, 0);
        for (at, buffer) in others.iter().enumerate() {
            assert!(buffer.as_ptr().addr().abs_diff(first.as_ptr().addr()) < 2 << 20, "{at}");
        }
    }

    #[test]
    fn the_pool_is_bounded() {
        let mut pool = Pool::default();
        let taken: Vec<Buffer> = (0..10).map(|_| pool.take(POOLED_CAPACITY_MAX)).collect();
        taken.into_iter().for_each(|buffer| pool.give(buffer));
        assert_eq!(pool.free_bytes, POOLED_BYTES_MAX);
        pool = Pool::default();
        let large = pool.take(POOLED_CAPACITY_MAX + 1);
        pool.give(large);
        assert_eq!(pool.free_bytes, 0);
    }
}
