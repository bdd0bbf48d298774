//! What can go wrong with a live volume.

use super::CutId;
use crate::page::SourceError;
use std::io;
use std::sync::Arc;

/// Why a volume did not do what it was asked. None of the variants carries data of the volume.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The disk refused; what it was doing is in `action`.
    #[error("the volume's disk failed to {action}")]
    Disk {
        /// What was asked of the disk.
        action: &'static str,
        /// What the disk answered. Shared, because one failed flush fails many requests.
        #[source]
        cause: Arc<io::Error>,
    },
    /// Stored bytes are not what was stored there: damaged, moved, replayed or torn.
    #[error("{what} at page {page} of the volume's file is damaged")]
    Corrupt {
        /// The structure or content that did not authenticate.
        what: &'static str,
        /// Where, in pages from the beginning of the file.
        page: u64,
    },
    /// Neither superblock opens: not a volume, not this volume, or not this service's key.
    #[error("no superblock of this volume is readable")]
    NoSuperblock,
    /// Another program wrote the volume, as a rule a newer one.
    #[error("format version {found} is not supported")]
    Version {
        /// The version the volume says it has.
        found: u16,
    },
    /// The data key is not the one the volume was written with.
    #[error("the data key is not this volume's data key")]
    WrongKey,
    /// The operation needs the data key, and the volume is open without it.
    #[error("the volume is open without its data key")]
    KeyAbsent,
    /// The page lies in the snapshot the volume was made from, and that was not given.
    #[error("the volume is open without the snapshot it was created from")]
    BaseAbsent,
    /// The given base is not the snapshot the volume was made from.
    #[error("the volume was not created from the given snapshot")]
    WrongBase,
    /// Reading the base failed.
    #[error("the snapshot the volume was created from cannot be read")]
    Base {
        /// Why.
        #[source]
        cause: Arc<SourceError>,
    },
    /// The range is not inside the volume.
    #[error("bytes {offset}+{length} are outside the volume of {size} bytes")]
    OutOfRange {
        /// First byte asked for.
        offset: u64,
        /// Bytes asked for.
        length: u64,
        /// Bytes in the volume.
        size: u64,
    },
    /// A size is zero, no multiple of the page, above the limit, or below the present size.
    #[error("a volume of {size} bytes is not possible here")]
    BadSize {
        /// The size asked for.
        size: u64,
    },
    /// An earlier write or flush failed; nothing more is accepted until the volume is reopened.
    #[error("the volume stopped accepting writes after its disk failed")]
    Failed,
    /// There is no space for the write, the file cannot address more segments, or generations are
    /// exhausted. A write that is refused for want of space changes nothing, and may be tried again.
    #[error("there is no space for what the volume would have to store")]
    Full,
    /// No retained cut has this id.
    #[error("cut {id} does not exist")]
    CutNotFound {
        /// The id asked for.
        id: CutId,
    },
    /// A retained cut has this id already.
    #[error("cut {id} exists already")]
    CutExists {
        /// The id asked for.
        id: CutId,
    },
    /// A cut of this id is being dropped: there may be another one afterwards.
    #[error("cut {id} is being dropped; try again later")]
    CutIsDropped {
        /// The id asked for.
        id: CutId,
    },
    /// As many cuts as possible are retained; export or drop one first.
    #[error("the volume already retains {limit} cuts")]
    TooManyCuts {
        /// The limit.
        limit: usize,
    },
    /// A newer attachment has opened the volume.
    #[error("attachment epoch {given} was fenced: the volume is at {newest}")]
    Fenced {
        /// The epoch it was opened with.
        given: u64,
        /// The epoch its superblock names.
        newest: u64,
    },
}

impl Error {
    pub(crate) fn disk(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |cause| Self::Disk { action, cause: Arc::new(cause) }
    }

    pub(crate) fn corrupt(what: &'static str, page: u64) -> Self {
        Self::Corrupt { what, page }
    }
}

impl From<SourceError> for Error {
    fn from(cause: SourceError) -> Self {
        Self::Base { cause: Arc::new(cause) }
    }
}
