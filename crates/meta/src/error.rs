//! What can go wrong with rows, split by what a caller would do about it.

/// Why a statement or a transaction failed. Texts never carry parameter values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A row with this primary key or unique index entry exists already. Answer "already exists".
    #[error("a row with this key exists already: {detail}")]
    UniqueViolation {
        /// The constraint, as the engine names it.
        detail: String,
    },
    /// Any other constraint of the schema (`NOT NULL`, `CHECK`): a defect of the caller.
    #[error("a constraint of the schema is violated: {detail}")]
    Constraint {
        /// The constraint, as the engine names it.
        detail: String,
    },
    /// Concurrent transactions kept conflicting until the attempts were used up. Nothing was written.
    #[error("the transaction kept conflicting with others and was given up")]
    Serialization,
    /// The engine cannot be reached, is full, locked or cannot reach its disk. Nothing was written.
    #[error("the database is unavailable: {detail}")]
    Unavailable {
        /// What the engine said.
        detail: String,
    },
    /// The connection broke while the commit was under way: written wholly or not at all, not known which.
    #[error("the connection was lost during commit, its outcome is unknown: {detail}")]
    OutcomeUnknown {
        /// What the engine said.
        detail: String,
    },
    /// The stored rows are damaged. Stop writing and restore.
    #[error("the database is damaged: {detail}")]
    Corrupt {
        /// What the engine said.
        detail: String,
    },
    /// The engine refused the statement: a defect of the caller.
    #[error("the statement was refused: {detail}")]
    Sql {
        /// What the engine said.
        detail: String,
    },
    /// The statement works on one engine only: a defect of the caller, found in debug builds.
    #[error("the statement is not portable: {detail}")]
    NotPortable {
        /// The first rule it breaks.
        detail: String,
    },
    /// A write inside [`crate::Db::read`].
    #[error("a read transaction cannot write")]
    ReadOnly,
    /// An earlier statement of this transaction failed, so nothing of it can be kept.
    #[error("an earlier statement of the transaction failed")]
    Aborted,
    /// A text parameter holds a NUL character, which PostgreSQL cannot store.
    #[error("a text parameter holds a NUL character")]
    NulInText,
    /// A query found more rows than [`crate::ROWS_MAX`]: page through them.
    #[error("the query found more than {limit} rows")]
    TooManyRows {
        /// [`crate::ROWS_MAX`].
        limit: usize,
    },
    /// A column does not hold what the code reads from it.
    #[error("column {index} holds {found}, expected {expected}")]
    Column {
        /// Position in the row, from zero.
        index: usize,
        /// What the code asked for.
        expected: &'static str,
        /// What is there.
        found: &'static str,
    },
    /// A migration was edited after it had been applied.
    #[error("migration '{name}' differs from the text that was applied")]
    MigrationChanged {
        /// Its name.
        name: String,
    },
    /// The file is a database of another program or of a newer version of this one.
    #[error("'{path}' cannot be used: {reason}")]
    Incompatible {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// The server URL cannot be used.
    #[error("the database URL cannot be used: {reason}")]
    Url {
        /// Why, without repeating the URL, which may hold a password.
        reason: String,
    },
    /// The database has been closed.
    #[error("the database is closed")]
    Closed,
}

/// The result of most calls of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode as Code;
        let detail = error.to_string();
        let Some(code) = error.sqlite_error() else { return Self::Sql { detail } };
        match code.code {
            Code::ConstraintViolation => match code.extended_code {
                rusqlite::ffi::SQLITE_CONSTRAINT_PRIMARYKEY
                | rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE
                | rusqlite::ffi::SQLITE_CONSTRAINT_ROWID => Self::UniqueViolation { detail },
                _ => Self::Constraint { detail },
            },
            Code::DatabaseBusy
            | Code::DatabaseLocked
            | Code::DiskFull
            | Code::SystemIoFailure
            | Code::CannotOpen
            | Code::OutOfMemory
            | Code::ReadOnly
            | Code::PermissionDenied
            | Code::FileLockingProtocolFailed => Self::Unavailable { detail },
            Code::DatabaseCorrupt | Code::NotADatabase => Self::Corrupt { detail },
            _ => Self::Sql { detail },
        }
    }
}
