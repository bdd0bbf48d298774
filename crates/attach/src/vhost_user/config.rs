//! What the device tells its guest: features and configuration space (VIRTIO 5.2.3 and 5.2.4).

use virtio_bindings::bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::bindings::virtio_ring::{
    VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC,
};
use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_CONFIG_WCE, VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_FLUSH,
    VIRTIO_BLK_F_MQ, VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_SIZE_MAX, VIRTIO_BLK_F_TOPOLOGY,
    VIRTIO_BLK_F_WRITE_ZEROES,
};

use super::{
    QUEUES_MAX, RANGE_SECTORS_MAX, RANGES_MAX, SECTOR_BYTES, SEGMENT_BYTES_MAX, SEGMENTS_MAX,
};
use crate::device::Durability;

/// `VHOST_USER_F_PROTOCOL_FEATURES`: the additions to the protocol can be agreed on.
pub(crate) const PROTOCOL_FEATURES: u64 = 1 << 30;

/// What the device can do.
pub(crate) const FEATURES: u64 = PROTOCOL_FEATURES
    | 1 << VIRTIO_F_VERSION_1
    | 1 << VIRTIO_RING_F_INDIRECT_DESC
    | 1 << VIRTIO_RING_F_EVENT_IDX
    | 1 << VIRTIO_BLK_F_SIZE_MAX
    | 1 << VIRTIO_BLK_F_SEG_MAX
    | 1 << VIRTIO_BLK_F_BLK_SIZE
    | 1 << VIRTIO_BLK_F_FLUSH
    | 1 << VIRTIO_BLK_F_TOPOLOGY
    | 1 << VIRTIO_BLK_F_CONFIG_WCE
    | 1 << VIRTIO_BLK_F_MQ
    | 1 << VIRTIO_BLK_F_DISCARD
    | 1 << VIRTIO_BLK_F_WRITE_ZEROES;

/// Additions to the protocol, by bit (VU *Protocol features*).
pub(crate) mod protocol {
    /// More than one ring.
    pub(crate) const MQ: u64 = 1 << 0;
    /// Answers to messages that have none of their own.
    pub(crate) const REPLY_ACK: u64 = 1 << 3;
    /// A socket for messages of the back-end's own.
    pub(crate) const BACKEND_REQ: u64 = 1 << 5;
    /// Configuration space is kept by the back-end.
    pub(crate) const CONFIG: u64 = 1 << 9;
    /// The record of requests under way.
    pub(crate) const INFLIGHT_SHMFD: u64 = 1 << 12;
    /// The RESET_DEVICE message.
    pub(crate) const RESET_DEVICE: u64 = 1 << 13;
    /// Memory regions one by one.
    pub(crate) const CONFIGURE_MEM_SLOTS: u64 = 1 << 15;

    /// What is served.
    pub(crate) const SERVED: u64 =
        MQ | REPLY_ACK | BACKEND_REQ | CONFIG | INFLIGHT_SHMFD | RESET_DEVICE | CONFIGURE_MEM_SLOTS;
}

/// Bytes of configuration space that say something; the rest reads as zeroes.
const CONFIG_BYTES: usize = 60;

/// The only field a guest may change: whether completed writes may be volatile.
const WRITEBACK_OFFSET: u32 = 32;

/// Sectors of the encryption page, the block that costs nothing extra.
const PAGE_SECTORS: u32 = 8;

/// What the guest has chosen.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Choice {
    /// The features in use.
    pub(crate) features: u64,
    /// The cache mode that the guest believes in, where it may choose it. `None` while nobody has said
    /// which that is.
    pub(crate) cache: Option<Cache>,
}

/// The cache mode (VIRTIO `writeback`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cache {
    /// A completed write may be lost until a flush completes.
    Writeback,
    /// A completed write is durable.
    Writethrough,
}

impl Choice {
    /// Whether the guest uses the feature with this bit number.
    pub(crate) fn has(&self, bit: u32) -> bool {
        self.features & 1 << bit != 0
    }

    /// When a write may be answered. A guest that cannot flush gets a device that needs no flush
    /// (VIRTIO 5.2.5.2), and so does one that may believe that none is needed.
    pub(crate) fn durability(&self) -> Durability {
        let volatile = if self.has(VIRTIO_BLK_F_CONFIG_WCE) {
            self.cache == Some(Cache::Writeback)
        } else {
            self.has(VIRTIO_BLK_F_FLUSH)
        };
        if volatile { Durability::Buffered } else { Durability::Durable }
    }
}

/// The configuration space of a device of `size` bytes.
pub(crate) fn space(size: u64, cache: Option<Cache>) -> [u8; CONFIG_BYTES] {
    let mut bytes = [0; CONFIG_BYTES];
    let mut put = |offset: usize, field: &[u8]| {
        bytes[offset..offset + field.len()].copy_from_slice(field);
    };
    put(0, &(size / SECTOR_BYTES).to_le_bytes());
    put(8, &SEGMENT_BYTES_MAX.to_le_bytes());
    put(12, &SEGMENTS_MAX.to_le_bytes());
    put(20, &(SECTOR_BYTES as u32).to_le_bytes());
    // The physical block is the page: 2^3 sectors, and so is the smallest good request.
    put(24, &[PAGE_SECTORS.ilog2() as u8, 0]);
    put(26, &(PAGE_SECTORS as u16).to_le_bytes());
    put(WRITEBACK_OFFSET as usize, &[u8::from(cache == Some(Cache::Writeback))]);
    put(34, &QUEUES_MAX.to_le_bytes());
    put(36, &RANGE_SECTORS_MAX.to_le_bytes());
    put(40, &RANGES_MAX.to_le_bytes());
    put(44, &PAGE_SECTORS.to_le_bytes());
    put(48, &RANGE_SECTORS_MAX.to_le_bytes());
    put(52, &RANGES_MAX.to_le_bytes());
    // Zeroing gives space back.
    put(56, &[1]);
    bytes
}

/// A window of the space; zeroes where there is nothing.
pub(crate) fn window(space: &[u8; CONFIG_BYTES], offset: u32, size: u32) -> Vec<u8> {
    (offset..offset.saturating_add(size))
        .map(|at| space.get(at as usize).copied().unwrap_or(0))
        .collect()
}

/// Whether a window of the space shows the cache mode.
pub(crate) fn shows_cache(offset: u32, size: u32) -> bool {
    (offset..offset.saturating_add(size)).contains(&WRITEBACK_OFFSET)
}

/// The cache mode that a guest's write to the space sets; `None` when it may not be written.
pub(crate) fn written(offset: u32, bytes: &[u8]) -> Option<Cache> {
    match (offset, bytes) {
        (WRITEBACK_OFFSET, [0]) => Some(Cache::Writethrough),
        (WRITEBACK_OFFSET, [1]) => Some(Cache::Writeback),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_space_is_what_virtio_says() {
        let space = space(10 << 20, Some(Cache::Writeback));
        assert_eq!(window(&space, 0, 8), 20480u64.to_le_bytes());
        assert_eq!(window(&space, 20, 4), 512u32.to_le_bytes());
        assert_eq!(window(&space, 32, 1), [1]);
        assert_eq!(window(&space, 34, 2), 16u16.to_le_bytes());
        assert_eq!(window(&space, 56, 8), [1, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn only_the_cache_mode_can_be_written() {
        assert_eq!(written(32, &[0]), Some(Cache::Writethrough));
        assert_eq!(written(32, &[1]), Some(Cache::Writeback));
        for (offset, bytes) in [(32, &[2][..]), (32, &[1, 0]), (0, &[0; 8]), (33, &[0])] {
            assert_eq!(written(offset, bytes), None);
        }
    }

    #[test]
    fn a_guest_that_cannot_flush_needs_no_flush() {
        let durability = |features: u64, cache| Choice { features, cache }.durability();
        let (flush, wce) = (1 << VIRTIO_BLK_F_FLUSH, 1 << VIRTIO_BLK_F_CONFIG_WCE);
        assert_eq!(durability(0, Some(Cache::Writeback)), Durability::Durable);
        assert_eq!(durability(flush, None), Durability::Buffered, "it has no choice");
        assert_eq!(durability(flush | wce, Some(Cache::Writeback)), Durability::Buffered);
        assert_eq!(durability(flush | wce, Some(Cache::Writethrough)), Durability::Durable);
        assert_eq!(durability(flush | wce, None), Durability::Durable, "it may have chosen");
    }

    #[test]
    fn a_window_shows_the_cache_mode_or_not() {
        assert!(shows_cache(0, 60) && shows_cache(32, 1) && shows_cache(31, 2));
        assert!(!shows_cache(0, 32) && !shows_cache(33, 8) && !shows_cache(32, 0));
    }
}
