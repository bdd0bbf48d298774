//! What can go wrong: one variant per exception of the IAM and STS APIs, with the text they show.

/// A refused or failed request.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `NoSuchEntity`.
    #[error("{message}")]
    NoSuchEntity {
        /// What does not exist.
        message: String,
    },
    /// `EntityAlreadyExists`.
    #[error("{message}")]
    EntityAlreadyExists {
        /// What exists.
        message: String,
    },
    /// `DeleteConflict`: something still hangs on it.
    #[error("{message}")]
    DeleteConflict {
        /// What.
        message: &'static str,
    },
    /// `LimitExceeded`.
    #[error("{message}")]
    LimitExceeded {
        /// Which quota.
        message: String,
    },
    /// `UnmodifiableEntity`: only a service may change it.
    #[error("{message}")]
    UnmodifiableEntity {
        /// What cannot be changed.
        message: String,
    },
    /// `PasswordPolicyViolation`.
    #[error("{message}")]
    PasswordPolicyViolation {
        /// What the password lacks; never the password.
        message: String,
    },
    /// `PolicyNotAttachable`: a policy of service-linked roles.
    #[error("{message}")]
    PolicyNotAttachable {
        /// Which.
        message: String,
    },
    /// `MalformedPolicyDocument`.
    #[error("{message}")]
    MalformedPolicy {
        /// What is wrong and where.
        message: String,
    },
    /// `InvalidInput`.
    #[error("{message}")]
    InvalidInput {
        /// What is wrong.
        message: String,
    },
    /// `ValidationError`: a parameter that is no legal value.
    #[error("{message}")]
    Validation {
        /// What is wrong.
        message: String,
    },
    /// `PackedPolicyTooLarge`: session policies and tags do not fit a session token.
    #[error("Packed policy consumes {percent}% of allotted space, please use smaller policy.")]
    PackedPolicyTooLarge {
        /// How much of the room they take.
        percent: usize,
    },
    /// A row does not hold what this program wrote.
    #[error("the row of {what} is damaged: restore the database from a backup")]
    RowDamaged {
        /// Of what.
        what: String,
    },
    /// The database failed.
    #[error(transparent)]
    Store(#[from] meta::Error),
}

/// The result of everything here.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn missing(message: impl Into<String>) -> Self {
        Self::NoSuchEntity { message: message.into() }
    }

    pub(crate) fn validation(message: impl Into<String>) -> Self {
        Self::Validation { message: message.into() }
    }

    pub(crate) fn damaged(what: impl Into<String>) -> Self {
        Self::RowDamaged { what: what.into() }
    }
}

/// Why a credential is not accepted. The text never says more than the caller knows.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// No such access key, an inactive one, or one whose owner is gone.
    #[error("The security token included in the request is invalid.")]
    Unknown,
    /// The session token does not belong to the access key, was altered, or is missing.
    #[error("The security token included in the request is invalid.")]
    InvalidToken,
    /// The session has ended.
    #[error("The security token included in the request is expired")]
    Expired,
    /// The record of the credential cannot be read.
    #[error("the credential cannot be read")]
    Unreadable(#[source] Error),
}

impl From<Error> for CredentialError {
    fn from(error: Error) -> Self {
        Self::Unreadable(error)
    }
}

impl From<meta::Error> for CredentialError {
    fn from(error: meta::Error) -> Self {
        Self::Unreadable(Error::Store(error))
    }
}
