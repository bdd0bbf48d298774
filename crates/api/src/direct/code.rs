//! Errors of the EBS direct APIs, and what failures of the block store are called there.

use crate::error::Error;
use crate::refusal::Refusal;
use awsproto::ErrorSpec;
use awsproto::code::{ACCESS_DENIED_EXCEPTION_REST, VALIDATION_EXCEPTION};
use base::SnapshotId;
use blockstore::snapshot;

const RESOURCE_NOT_FOUND: ErrorSpec = ErrorSpec::sender("ResourceNotFoundException", 404);
const CONFLICT: ErrorSpec = ErrorSpec::sender("ConflictException", 409);
const CONCURRENT_LIMIT_EXCEEDED: ErrorSpec =
    ErrorSpec::sender("ConcurrentLimitExceededException", 400);

/// `Reason` of a `ValidationException`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    InvalidBlock,
    InvalidBlockToken,
    InvalidCustomerKey,
    InvalidDependencyRequest,
    InvalidPageToken,
    InvalidParameterValue,
    InvalidSnapshotId,
    InvalidTag,
    InvalidVolumeSize,
    UnrelatedSnapshots,
    WriteRequestTimeout,
}

impl Reason {
    fn as_str(self) -> &'static str {
        match self {
            Self::InvalidBlock => "INVALID_BLOCK",
            Self::InvalidBlockToken => "INVALID_BLOCK_TOKEN",
            Self::InvalidCustomerKey => "INVALID_CUSTOMER_KEY",
            Self::InvalidDependencyRequest => "INVALID_DEPENDENCY_REQUEST",
            Self::InvalidPageToken => "INVALID_PAGE_TOKEN",
            Self::InvalidParameterValue => "INVALID_PARAMETER_VALUE",
            Self::InvalidSnapshotId => "INVALID_SNAPSHOT_ID",
            Self::InvalidTag => "INVALID_TAG",
            Self::InvalidVolumeSize => "INVALID_VOLUME_SIZE",
            Self::UnrelatedSnapshots => "UNRELATED_SNAPSHOTS",
            Self::WriteRequestTimeout => "WRITE_REQUEST_TIMEOUT",
        }
    }
}

/// A request that cannot be carried out as it is.
pub(crate) fn invalid(reason: Reason, message: impl Into<String>) -> Error {
    VALIDATION_EXCEPTION.error(message).with_member("Reason", reason.as_str()).into()
}

/// A snapshot that does not exist for the caller.
pub(crate) fn not_found(id: &SnapshotId) -> Error {
    let message = format!("The snapshot '{id}' does not exist.");
    let error = RESOURCE_NOT_FOUND.error(message).with_member("Reason", "SNAPSHOT_NOT_FOUND");
    Error::from(error).because(Refusal::unseen("snapshot", id.as_str()))
}

/// A snapshot that is the caller's to see, but not to do this with.
pub(crate) fn not_yours(message: impl Into<String>) -> Error {
    denied(message, "UNAUTHORIZED_ACCOUNT")
}

/// The snapshot's key is not the caller's to use.
pub(crate) fn key_denied(message: impl Into<String>) -> Error {
    denied(message, "DEPENDENCY_ACCESS_DENIED")
}

fn denied(message: impl Into<String>, reason: &'static str) -> Error {
    ACCESS_DENIED_EXCEPTION_REST.error(message).with_member("Reason", reason).into()
}

/// A client token that was used for another request.
pub(crate) fn conflict() -> Error {
    Error::new(CONFLICT, "The client token was used with other parameters.")
}

/// Too many uploads at a time.
pub(crate) fn too_many_uploads() -> Error {
    Error::new(CONCURRENT_LIMIT_EXCEEDED, "You have reached the limit of pending snapshots.")
}

/// A block store's failure: what the client caused in the service's words, the rest as ours.
pub(crate) fn of_blocks(error: snapshot::Error) -> Error {
    use snapshot::Error as E;
    match &error {
        E::BlockLength { length } => {
            let message = format!("A block has 524288 bytes; {length} were sent.");
            invalid(Reason::InvalidBlock, message)
        }
        E::BlockOutOfRange { block, blocks } => {
            let message =
                format!("The block index {block} is not below the {blocks} of the volume.");
            invalid(Reason::InvalidParameterValue, message)
        }
        E::DigestMismatch => {
            invalid(Reason::InvalidBlock, "The checksum does not match the block data.")
        }
        E::CountMismatch { expected, actual } => {
            let message =
                format!("ChangedBlocksCount is {expected}, but {actual} blocks were written.");
            invalid(Reason::InvalidParameterValue, message)
        }
        E::AggregateMismatch => {
            let message = "The checksum does not match the blocks that were written.";
            invalid(Reason::InvalidParameterValue, message)
        }
        E::SessionClosed => invalid(Reason::InvalidSnapshotId, NOT_PENDING),
        E::Corrupt { .. }
        | E::Missing { .. }
        | E::UnknownVersion { .. }
        | E::Malformed { .. }
        | E::WrongKey
        | E::Store { .. }
        | E::Source { .. }
        | E::Checkpoint { .. }
        | E::Roots { .. }
        | E::Cancelled
        | E::TurnOver
        | E::Unrelated
        | E::SessionName { .. } => Error::internal(error),
    }
}

/// What is said of a snapshot that takes no blocks (any more).
pub(crate) const NOT_PENDING: &str = "The snapshot is not pending.";
