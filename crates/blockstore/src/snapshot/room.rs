//! Memory that is filled from its beginning.

use crate::live::prefer_large_pages;

/// Bytes that are written once each, in memory that may have been used before: what lies behind them is
/// left as it was, so that room which is written at once need not be zeroed first.
pub(super) struct Room {
    /// As long as what was ever written here.
    bytes: Vec<u8>,
    len: usize,
}

impl Room {
    /// Empty, in the memory of `used`, with room for `bytes` in all.
    pub(super) fn new(mut used: Vec<u8>, bytes: usize) -> Self {
        let before = used.capacity();
        used.reserve(bytes.saturating_sub(used.len()));
        if used.capacity() > before {
            // 32 MiB are touched for the first time, by each thread that makes packs.
            prefer_large_pages(used.spare_capacity_mut());
        }
        Self { bytes: used, len: 0 }
    }

    /// Bytes written.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The next bytes, which the caller writes: they may hold anything.
    pub(super) fn take(&mut self, count: usize) -> &mut [u8] {
        let start = self.len;
        self.len += count;
        if self.bytes.len() < self.len {
            self.bytes.resize(self.len, 0);
        }
        &mut self.bytes[start..self.len]
    }

    /// Writes `part` next.
    pub(super) fn extend_from_slice(&mut self, part: &[u8]) {
        self.take(part.len()).copy_from_slice(part);
    }

    /// Forgets what was written from `len` on.
    pub(super) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// What was written from `start` on.
    pub(super) fn written(&mut self, start: usize) -> &mut [u8] {
        &mut self.bytes[start..self.len]
    }

    /// What was written.
    pub(super) fn into_bytes(mut self) -> Vec<u8> {
        self.bytes.truncate(self.len);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn used_memory_holds_what_was_written_and_no_more() {
        let mut room = Room::new(vec![9; 5], 8);
        room.extend_from_slice(&[1, 2]);
        room.take(4).copy_from_slice(&[3, 4, 5, 6]);
        assert_eq!((room.len(), &*room.written(1)), (6, &[2, 3, 4, 5, 6][..]));
        room.truncate(3);
        room.extend_from_slice(&[7]);
        assert_eq!(room.into_bytes(), [1, 2, 3, 7]);
    }

    #[test]
    fn a_large_room_keeps_what_is_written() {
        let first: Vec<u8> = (0..3 << 20).map(|at| (at / 5) as u8).collect();
        let mut room = Room::new(Vec::new(), first.len());
        room.extend_from_slice(&first);
        // It grows, and its memory may move.
        let mut room = Room::new(room.into_bytes(), 9 << 20);
        assert_eq!(room.take(first.len()), first);
        room.take(6 << 20).fill(8);
        let bytes = room.into_bytes();
        assert_eq!(bytes.len(), 9 << 20);
        assert!(bytes[..first.len()] == first && bytes[first.len()..].iter().all(|b| *b == 8));
    }
}
