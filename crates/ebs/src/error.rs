//! What can go wrong with the rows of this crate.

/// Why rows could not be read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The database did not do what was asked.
    #[error("the database failed")]
    Meta(#[from] meta::Error),
    /// A stored row holds a value no version of this program writes.
    #[error("a row of {table} holds an impossible {column}")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// What could not be understood.
        column: &'static str,
    },
}

/// The result of this crate's row functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;
