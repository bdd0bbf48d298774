//! EC2 error codes that several storage operations share, and rules of `ebs` put into them.

use crate::error::Error;
use crate::refusal::{Layer, Refusal};
use awsproto::{ErrorSpec, code};

/// A volume that does not exist for the caller.
pub(crate) const INVALID_VOLUME_NOT_FOUND: ErrorSpec =
    ErrorSpec::sender("InvalidVolume.NotFound", 400);
/// A snapshot that does not exist for the caller.
pub(crate) const INVALID_SNAPSHOT_NOT_FOUND: ErrorSpec =
    ErrorSpec::sender("InvalidSnapshot.NotFound", 400);
/// An instance that does not exist for the caller.
pub(crate) const INVALID_INSTANCE_NOT_FOUND: ErrorSpec =
    ErrorSpec::sender("InvalidInstanceID.NotFound", 400);
/// A resource in a state that does not allow the request.
pub(crate) const INCORRECT_STATE: ErrorSpec = ErrorSpec::sender("IncorrectState", 400);
/// There is no space for what a volume would have to keep. Among EC2's server errors it is the one that is
/// about volumes, and clients try again after it, as they do after every 503.
pub(crate) const INSUFFICIENT_VOLUME_CAPACITY: ErrorSpec =
    ErrorSpec::receiver("InsufficientVolumeCapacity", 503);
/// A volume that is attached.
pub(crate) const VOLUME_IN_USE: ErrorSpec = ErrorSpec::sender("VolumeInUse", 400);
/// Something the resource's own rules forbid.
pub(crate) const OPERATION_NOT_PERMITTED: ErrorSpec =
    ErrorSpec::sender("OperationNotPermitted", 400);
/// A parameter that needs another.
pub(crate) const INVALID_PARAMETER_DEPENDENCY: ErrorSpec =
    ErrorSpec::sender("InvalidParameterDependency", 400);
/// A client token used for another request.
pub(crate) const IDEMPOTENT_PARAMETER_MISMATCH: ErrorSpec =
    ErrorSpec::sender("IdempotentParameterMismatch", 400);
/// A page token that was not made by this request.
pub(crate) const INVALID_NEXT_TOKEN: ErrorSpec = ErrorSpec::sender("InvalidNextToken", 400);
/// Too many tags on a resource.
const TAG_LIMIT_EXCEEDED: ErrorSpec = ErrorSpec::sender("TagLimitExceeded", 400);
/// A type of volume that does not exist.
const UNKNOWN_VOLUME_TYPE: ErrorSpec = ErrorSpec::sender("UnknownVolumeType", 400);

/// What to say with [`INSUFFICIENT_VOLUME_CAPACITY`]: what there is no space for, and what helps.
pub(crate) fn no_space_left(wanted: &str) -> String {
    format!(
        "There is no space left {wanted}. Delete volumes or snapshots that are not needed, or have space \
         added to the server's volumes, and try again."
    )
}

/// A parameter's value that is not accepted.
pub(crate) fn invalid_value(message: impl Into<String>) -> Error {
    Error::new(code::INVALID_PARAMETER_VALUE, message)
}

/// A snapshot that does not exist for the caller (spec 20, C.4).
pub(crate) fn snapshot_not_found(id: &str) -> Error {
    Error::new(INVALID_SNAPSHOT_NOT_FOUND, format!("The snapshot '{id}' does not exist."))
        .because(Refusal::unseen("snapshot", id))
}

/// A snapshot whose blocks are in the archive alone (spec 07).
pub(crate) fn snapshot_archived(id: &str) -> Error {
    let message =
        format!("The snapshot '{id}' is in the archive storage tier. Restore it before using it.");
    let wanted = "a snapshot in the standard tier";
    let remedy = "restore it first: ec2:RestoreSnapshotTier";
    Error::new(INCORRECT_STATE, message).because(Refusal::state(wanted, id, "archived", remedy))
}

/// A volume that does not exist for the caller.
pub(crate) fn volume_not_found(id: &str) -> Error {
    Error::new(INVALID_VOLUME_NOT_FOUND, format!("The volume '{id}' does not exist."))
        .because(Refusal::unseen("volume", id))
}

impl From<ebs::volume_type::VolumeSpecError> for Error {
    fn from(error: ebs::volume_type::VolumeSpecError) -> Self {
        use ebs::volume_type::VolumeSpecError as E;
        let spec = match &error {
            E::UnknownType { .. } => UNKNOWN_VOLUME_TYPE,
            E::IopsMissing => code::MISSING_PARAMETER,
            E::NotForType { .. }
            | E::IopsPerGib { .. }
            | E::ThroughputPerIops { .. }
            | E::Io2Limits => code::INVALID_PARAMETER_COMBINATION,
            E::TooSmall { .. }
            | E::TooLarge { .. }
            | E::IopsTooLow { .. }
            | E::IopsTooHigh { .. }
            | E::ThroughputTooLow { .. }
            | E::ThroughputTooHigh { .. } => code::INVALID_PARAMETER_VALUE,
        };
        debug_assert_eq!(spec.code, error.code());
        Self::new(spec, error.to_string())
    }
}

impl From<ebs::tag::TagError> for Error {
    fn from(error: ebs::tag::TagError) -> Self {
        let too_many = error == ebs::tag::TagError::TooMany;
        let spec = if too_many { TAG_LIMIT_EXCEEDED } else { code::INVALID_PARAMETER_VALUE };
        debug_assert_eq!(spec.code, error.code());
        let refusal = too_many.then(|| {
            let wanted = format!("at most {} tags on a resource", ebs::tag::TAGS_MAX);
            let remedy = "delete tags it no longer needs: ec2:DeleteTags";
            Refusal::new(
                Layer::Quota,
                wanted,
                "with the tags of the request it would have more",
                remedy,
            )
        });
        Self::new(spec, error.to_string()).because(refusal)
    }
}

impl From<ebs::encryption::EncryptionError> for Error {
    fn from(error: ebs::encryption::EncryptionError) -> Self {
        match error {
            ebs::encryption::EncryptionError::KeyWithoutEncrypted => {
                Self::new(INVALID_PARAMETER_DEPENDENCY, error.to_string()).because(Refusal::new(
                    Layer::Request,
                    "Encrypted=true with every KmsKeyId",
                    "KmsKeyId without it",
                    "add Encrypted=true, or leave KmsKeyId out",
                ))
            }
        }
    }
}

impl From<ebs::filter::FilterError> for Error {
    fn from(error: ebs::filter::FilterError) -> Self {
        invalid_value(error.to_string())
    }
}

impl From<ebs::page::BadToken> for Error {
    fn from(error: ebs::page::BadToken) -> Self {
        Self::new(INVALID_NEXT_TOKEN, error.to_string())
    }
}

impl From<ebs::device::BadDeviceName> for Error {
    fn from(error: ebs::device::BadDeviceName) -> Self {
        invalid_value(error.to_string())
    }
}

/// The caller may not use a key (spec 20, C.5).
pub(crate) const AUTH_FAILURE: ErrorSpec = ErrorSpec::sender("AuthFailure", 403);
