//! Where things lie in a volume's file, and the numbers that bound them.
//!
//! `docs/format.md` describes every structure field by field; this module holds the arithmetic.

use super::Error;
use crate::page::{BLOCK_BYTES, PAGE_BYTES};

/// The format this program writes.
pub(super) const FORMAT_VERSION: u16 = 3;
/// The oldest format this program reads: 2 differs in having no runs.
pub(super) const FORMAT_VERSION_OLDEST: u16 = 2;
/// The format of segment headers and chunks, the same in both.
pub(super) const LOG_VERSION: u8 = 2;
/// Bytes of one superblock slot.
pub(super) const SLOT_BYTES: usize = 8192;
/// Superblock slots, at the beginning of the file, with equal content except while one is written.
pub(super) const SLOT_COUNT: u64 = 2;
/// Pages before the first segment.
const SEGMENT_BASE_PAGES: u64 = 16;
/// Entries a chunk's descriptor has room for; with its data at most 568 KiB.
pub(super) const CHUNK_ENTRIES_MAX: usize = 141;
/// Children of an inner map node.
pub(super) const FAN_OUT: u64 = 128;
/// Binary logarithm of [`FAN_OUT`].
pub(super) const FAN_OUT_BITS: u32 = 7;
/// Levels of inner nodes over 64 TiB.
pub(super) const HEIGHT_MAX: u8 = 4;
/// Largest volume: 64 TiB, the largest EBS volume (io2 Block Express).
pub const VOLUME_BYTES_MAX: u64 = 64 << 40;
/// Cuts a volume retains at once. EBS allows fewer pending snapshots of one volume at a time.
pub const CUTS_MAX: usize = 48;
/// Segments in a file: page addresses fit 38 bits.
const PAGE_ADDRESS_LIMIT: u64 = 1 << 38;
/// Generations are stored in 26 bits; each cut uses one.
pub(super) const GENERATION_MAX: u32 = (1 << 26) - 1;

/// A page of the file, counted from its beginning. 0, 1 and 2 never hold data (superblock slots lie
/// there) and mark absent, zero and lost pages in the map.
pub(super) type Location = u64;
/// The map's word for "never written".
pub(super) const ABSENT: Location = 0;
/// The map's word for "zeros were written".
pub(super) const ZERO: Location = 1;
/// The map's word for "what was said here is lost" ([`super::damage`]). It lies in no segment, so it is
/// read as damage everywhere.
pub(super) const LOST: Location = 2;

/// The number of a segment.
pub(super) type SegmentIndex = u32;

/// The division of a file into segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Geometry {
    /// Pages in a segment.
    pub(super) segment_pages: u32,
}

impl Geometry {
    /// The first page of a segment.
    pub(super) fn start(self, segment: SegmentIndex) -> Location {
        SEGMENT_BASE_PAGES + u64::from(segment) * u64::from(self.segment_pages)
    }

    /// The page at a position of a segment.
    pub(super) fn locate(self, segment: SegmentIndex, position: u32) -> Location {
        debug_assert!(position < self.segment_pages);
        self.start(segment) + u64::from(position)
    }

    /// Which segment a page lies in, and its position there.
    pub(super) fn split(self, location: Location) -> Option<(SegmentIndex, u32)> {
        let offset = location.checked_sub(SEGMENT_BASE_PAGES)?;
        let pages = u64::from(self.segment_pages);
        let segment = u32::try_from(offset / pages).ok()?;
        Some((segment, (offset % pages) as u32))
    }

    /// Segments the file can address.
    pub(super) fn segment_count_max(self) -> SegmentIndex {
        let count = (PAGE_ADDRESS_LIMIT - SEGMENT_BASE_PAGES) / u64::from(self.segment_pages);
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// Bytes in a segment.
    pub(super) fn segment_bytes(self) -> u64 {
        u64::from(self.segment_pages) * PAGE_BYTES as u64
    }
}

/// The byte offset of a page.
pub(super) fn byte_offset(location: Location) -> u64 {
    location * PAGE_BYTES as u64
}

/// Inner levels needed to map a volume; at least one.
pub(super) fn height_for(volume_bytes: u64) -> u8 {
    let blocks = volume_bytes.div_ceil(BLOCK_BYTES as u64);
    (1..HEIGHT_MAX)
        .find(|height| blocks <= 1 << (FAN_OUT_BITS * u32::from(*height)))
        .unwrap_or(HEIGHT_MAX)
}

/// Refuses sizes that no volume can have.
pub(super) fn check_size(volume_bytes: u64) -> Result<(), Error> {
    let possible = volume_bytes > 0
        && volume_bytes <= VOLUME_BYTES_MAX
        && volume_bytes.is_multiple_of(PAGE_BYTES as u64);
    if possible { Ok(()) } else { Err(Error::BadSize { size: volume_bytes }) }
}

/// Sizes and limits of an engine. Everything it holds in memory is bounded by a field here or by
/// a constant of this crate, except 56 bytes per segment that exists: 896 KiB per TiB of log.
#[derive(Clone, Copy, Debug)]
pub struct EngineConfig {
    /// Bytes in a segment of a volume that is created; an existing volume keeps its own.
    pub segment_bytes: u32,
    /// Memory of unmerged map changes at which a checkpoint starts; twice as much stalls writes.
    pub delta_bytes_max: usize,
    /// Memory of the stored map, bytes: a quarter for changes that checkpoints stored beside it, the
    /// rest for its pages.
    pub map_cache_bytes: usize,
    /// Opened pages kept in locked memory while the volume is attached, bytes; 0 keeps none.
    pub read_cache_bytes: usize,
    /// Percent of the pages of its segments that should be live, at most 95: with dead pages beyond
    /// that the log is cleaned, and when the store is short of space, writes that need more than
    /// that are refused.
    pub live_percent_max: u32,
    /// Derived segment keys kept in memory, count.
    pub key_cache_count: usize,
    /// Log bytes at which a checkpoint starts; bounds recovery. A volume smaller than this is
    /// checkpointed after as many bytes as it has.
    pub checkpoint_log_bytes: u64,
    /// Log bytes after which the disk is flushed although nobody asked; bounds what recovery must
    /// verify page by page.
    pub flush_log_bytes: u64,
    /// Bytes of a dead segment that are given back to the file system at a time: guests wait meanwhile.
    pub give_back_bytes: u64,
}

impl EngineConfig {
    /// Memory of changes that are stored, but not in leaves yet.
    pub(super) const fn settled_bytes_max(&self) -> usize {
        self.map_cache_bytes / 4
    }

    /// The sizes of a server: 64 MiB segments, about 220 MiB of memory per busy volume.
    pub const fn server() -> Self {
        Self {
            segment_bytes: 64 << 20,
            delta_bytes_max: 64 << 20,
            map_cache_bytes: 64 << 20,
            read_cache_bytes: 64 << 20,
            live_percent_max: 75,
            key_cache_count: 8192,
            checkpoint_log_bytes: 4 << 30,
            flush_log_bytes: 256 << 20,
            give_back_bytes: 4 << 20,
        }
    }

    /// Sizes that make a few hundred requests exercise every path: 128 KiB segments.
    pub const fn tiny() -> Self {
        Self {
            segment_bytes: 128 << 10,
            delta_bytes_max: 16 << 10,
            map_cache_bytes: 64 << 10,
            read_cache_bytes: 64 << 10,
            live_percent_max: 75,
            key_cache_count: 8,
            checkpoint_log_bytes: 1 << 20,
            flush_log_bytes: 256 << 10,
            give_back_bytes: 48 << 10,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heights_cover_their_volumes() {
        const BLOCK: u64 = BLOCK_BYTES as u64;
        assert_eq!(height_for(4096), 1);
        assert_eq!(height_for(128 * BLOCK), 1);
        assert_eq!(height_for(128 * BLOCK + 4096), 2);
        assert_eq!(height_for(1 << 40), 3);
        assert_eq!(height_for((1 << 40) + 4096), 4);
        assert_eq!(height_for(VOLUME_BYTES_MAX), 4);
    }

    #[test]
    fn locations_round_trip() {
        let geometry = Geometry { segment_pages: 32 };
        for (segment, position) in [(0, 0), (0, 31), (1, 0), (77, 5)] {
            let location = geometry.locate(segment, position);
            assert_eq!(geometry.split(location), Some((segment, position)));
        }
        assert_eq!(geometry.split(3), None);
        let largest = geometry.locate(geometry.segment_count_max() - 1, 31);
        assert!(largest < PAGE_ADDRESS_LIMIT);
    }
}
