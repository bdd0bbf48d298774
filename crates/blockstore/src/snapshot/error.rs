//! What can go wrong with snapshots, one variant per case a caller handles differently.

use crate::out_of_space::says_full;
use crate::page::SourceError;

/// Why a snapshot operation did not finish.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Stored bytes are not what was stored. Nothing of them is used; reading again will not help.
    #[error("{what} in object {object} is damaged")]
    Corrupt {
        /// The structure that did not authenticate or does not make sense.
        what: &'static str,
        /// Where it was read.
        object: String,
    },
    /// An object that a live root names is not in the store.
    #[error("object {object} is missing from the store")]
    Missing {
        /// The object's name.
        object: String,
    },
    /// Written by a version of this software that this one does not know.
    #[error("{what} has format version {version}, which is not supported")]
    UnknownVersion {
        /// The structure.
        what: &'static str,
        /// Its version.
        version: u8,
    },
    /// The bytes given as a root, checkpoint or identifier are none.
    #[error("the bytes are no {what}")]
    Malformed {
        /// What they were taken for.
        what: &'static str,
    },
    /// The data key is not the one the snapshot was made under.
    #[error("the data key is not the snapshot's")]
    WrongKey,
    /// The object store failed; repeating the operation may help.
    #[error("the object store failed")]
    Store {
        /// What the store said.
        #[source]
        source: objstore::Error,
    },
    /// The volume behind an export failed.
    #[error("the source of the export failed")]
    Source {
        /// What it said.
        #[source]
        source: SourceError,
    },
    /// The observer could not record a checkpoint.
    #[error("the checkpoint could not be recorded")]
    Checkpoint {
        /// What the observer said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The caller could not name all live roots, so nothing may be deleted.
    #[error("the live roots could not be enumerated")]
    Roots {
        /// What the caller said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The observer asked to stop. The last checkpoint stands.
    #[error("cancelled")]
    Cancelled,
    /// The observer said that the turn is over. The last checkpoint has everything that was done.
    #[error("the turn is over")]
    TurnOver,
    /// The two snapshots do not descend from one another.
    #[error("the snapshots are of different series")]
    Unrelated,
    /// The block lies beyond the end of the volume.
    #[error("block {block} lies beyond the volume's {blocks} blocks")]
    BlockOutOfRange {
        /// The block asked for.
        block: u64,
        /// Blocks in the volume.
        blocks: u64,
    },
    /// A block is exactly 524,288 bytes.
    #[error("a block of {length} bytes was given")]
    BlockLength {
        /// The length given.
        length: usize,
    },
    /// The block's SHA-256 is not the one announced; nothing was stored.
    #[error("the block does not have the digest announced")]
    DigestMismatch,
    /// The number of blocks written is not the one announced; the session stays open.
    #[error("{expected} changed blocks were announced, {actual} were written")]
    CountMismatch {
        /// The number announced.
        expected: u64,
        /// The number of distinct blocks written.
        actual: u64,
    },
    /// The checksum over all written blocks is not the one announced; the session stays open.
    #[error("the written blocks do not have the checksum announced")]
    AggregateMismatch,
    /// The session was completed or aborted.
    #[error("the session takes no more blocks")]
    SessionClosed,
    /// The name is no session name.
    #[error("{name:?} is no session name")]
    SessionName {
        /// The name given.
        name: String,
    },
}

impl Error {
    /// Whether repeating the operation may help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Store { source } => source.is_transient(),
            Self::Source { source } => matches!(source, SourceError::Unavailable { .. }),
            _ => false,
        }
    }

    /// Whether the disk below the objects is full, or as full as snapshots may make it.
    pub fn is_out_of_space(&self) -> bool {
        says_full(self)
    }
}

impl From<objstore::Error> for Error {
    /// For calls on objects that must exist: their absence is damage.
    fn from(source: objstore::Error) -> Self {
        match source {
            objstore::Error::NotFound { name } => Self::Missing { object: name },
            objstore::Error::OutOfRange { name, .. } => {
                Self::Corrupt { what: "length", object: name }
            }
            source => Self::Store { source },
        }
    }
}

impl From<SourceError> for Error {
    fn from(source: SourceError) -> Self {
        Self::Source { source }
    }
}
