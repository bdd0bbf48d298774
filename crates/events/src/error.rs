//! What can go wrong with the trail.

use crate::journal::JournalError;

/// Why a record or event could not be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The rows cannot be reached or written: the call must not go on.
    #[error(transparent)]
    Rows(#[from] meta::Error),
    /// A stored record or event is not what this crate writes.
    #[error("the stored {what} '{id}' cannot be read")]
    Damaged {
        /// `record`, `intent` or `event`.
        what: &'static str,
        /// Its event id.
        id: String,
        /// Where the text departs.
        #[source]
        source: serde_json::Error,
    },
    /// A bundle of records is not what this crate writes.
    #[error("the bundle of records '{id}' is damaged")]
    Bundle {
        /// Its id.
        id: String,
    },
    /// The journal cannot be read or written: the call must not go on.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The token of a page is not one this crate gave out.
    #[error("the token is not valid")]
    Token,
}

/// The result of most calls of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
