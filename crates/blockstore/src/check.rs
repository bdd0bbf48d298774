//! What checks of volumes and of snapshots have in common: findings, and who watches the work.
//!
//! A check reads and compares, and changes nothing. It goes on after a finding, so that one run
//! names everything that is wrong.

use std::fmt;

/// Findings kept by one check; of more only the number is known.
pub const FINDINGS_MAX: usize = 1000;

/// What kind of thing is wrong. The codes are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// One superblock slot does not open; the other holds the same.
    SuperblockSlot,
    /// No superblock opens.
    Superblock,
    /// There is no file of the volume.
    VolumeMissing,
    /// A page of the segment table does not open.
    SegmentTable,
    /// The segment table counts other pages than the maps refer to.
    SegmentCount,
    /// A page of the map does not open, or contradicts the page above it.
    MapPage,
    /// A page of data is not what was written.
    DataPage,
    /// A header of a segment of the log does not open.
    LogHeader,
    /// A chunk of the log is missing or is not what was written.
    LogChunk,
    /// The volume falls through to another snapshot than it should, or to none.
    BaseReference,
    /// What a row keeps as a snapshot is none.
    Root,
    /// A snapshot's root record does not open or contradicts the row.
    RootRecord,
    /// A node of a manifest does not open or contradicts the one above.
    ManifestNode,
    /// A frame does not open, or its pages are not those that were stored.
    Frame,
    /// A page in a frame does not open with the data key.
    FramePage,
    /// The pages of a frame are not the block that was digested.
    Digest,
    /// A pack that something refers to is not in the store.
    PackMissing,
    /// A pack ends early.
    PackTruncated,
    /// A pack's header is damaged or another pack's.
    PackHeader,
    /// A pack's footer is damaged.
    PackFooter,
    /// A pack's directory does not open or contradicts the manifests.
    PackDirectory,
    /// The list of packs known to be unused does not open.
    Ledger,
    /// The disk or the store did not answer.
    Unreadable,
}

impl Fault {
    /// A word for machines.
    pub fn code(self) -> &'static str {
        match self {
            Self::SuperblockSlot => "superblock-slot",
            Self::Superblock => "superblock",
            Self::VolumeMissing => "volume-missing",
            Self::SegmentTable => "segment-table",
            Self::SegmentCount => "segment-count",
            Self::MapPage => "map-page",
            Self::DataPage => "data-page",
            Self::LogHeader => "log-header",
            Self::LogChunk => "log-chunk",
            Self::BaseReference => "base-reference",
            Self::Root => "root",
            Self::RootRecord => "root-record",
            Self::ManifestNode => "manifest-node",
            Self::Frame => "frame",
            Self::FramePage => "frame-page",
            Self::Digest => "digest",
            Self::PackMissing => "pack-missing",
            Self::PackTruncated => "pack-truncated",
            Self::PackHeader => "pack-header",
            Self::PackFooter => "pack-footer",
            Self::PackDirectory => "pack-directory",
            Self::Ledger => "ledger",
            Self::Unreadable => "unreadable",
        }
    }

    /// Whether the thing can be made anew from what it is an index of, without losing anything.
    pub fn is_derivable(self) -> bool {
        matches!(
            self,
            Self::SuperblockSlot
                | Self::SegmentCount
                | Self::PackHeader
                | Self::PackFooter
                | Self::PackDirectory
                | Self::Ledger
        )
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What kind.
    pub fault: Fault,
    /// Where it lies: an object with an item, or a page of the volume's file.
    pub place: String,
    /// The 512 KiB block of the volume or snapshot that is affected, if it is one.
    pub block: Option<u64>,
    /// The same for a person.
    pub detail: String,
}

/// What is wrong, in the order it was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    list: Vec<Finding>,
    more: u64,
}

impl Findings {
    /// Adds a finding.
    pub fn push(&mut self, finding: Finding) {
        if self.list.len() < FINDINGS_MAX {
            self.list.push(finding);
        } else {
            self.more += 1;
        }
    }

    /// Those that were kept.
    pub fn iter(&self) -> std::slice::Iter<'_, Finding> {
        self.list.iter()
    }

    /// How many were not kept.
    pub fn more(&self) -> u64 {
        self.more
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty() && self.more == 0
    }

    /// Whether something of a kind was found.
    pub fn has(&self, fault: Fault) -> bool {
        self.list.iter().any(|finding| finding.fault == fault)
    }
}

impl<'a> IntoIterator for &'a Findings {
    type Item = &'a Finding;
    type IntoIter = std::slice::Iter<'a, Finding>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Who asked for a check: hears how far it is, slows it down, and may end it.
pub trait CheckWatch: Sync {
    /// So many bytes more were read. May wait, to leave the disk to others.
    fn read(&self, bytes: u64);

    /// Whether the check should end. Asked after every block.
    fn is_cancelled(&self) -> bool;
}

/// Watches nothing and waits for nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unwatched;

impl CheckWatch for Unwatched {
    fn read(&self, _bytes: u64) {}

    fn is_cancelled(&self) -> bool {
        false
    }
}

/// Why a check ended before it had seen everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stopped {
    /// Whoever asked for it ended it.
    #[error("the check was cancelled")]
    Cancelled,
    /// The volume was written so much meanwhile that its old state could not be kept any longer.
    #[error("the volume changed faster than it could be checked")]
    Overtaken,
}
