//! Errors as the caller sees them, and how the crates below are put into the services' words.

use crate::refusal::Refusal;
use crate::service::Service;
use awsproto::ErrorSpec;
use std::error::Error as StdError;
use std::fmt;

/// A failed call: what the wire shows with the cause for the log, and for who asks why, the rule that
/// refused it.
#[derive(Debug)]
pub struct Error(pub awsproto::Error, Option<Box<Refusal>>);

impl Error {
    /// An error of this kind with a message for the caller.
    pub fn new(spec: ErrorSpec, message: impl Into<String>) -> Self {
        spec.error(message).into()
    }

    /// A failure of ours; the caller learns only that, the log learns the cause.
    pub fn internal(cause: impl StdError + Send + Sync + 'static) -> Self {
        INTERNAL.error("An internal error has occurred.").with_cause(Box::new(cause)).into()
    }

    /// The same error with the rule behind it, for who asks why.
    #[must_use]
    pub(crate) fn because(self, refusal: impl Into<Option<Refusal>>) -> Self {
        Self(self.0, refusal.into().map(Box::new))
    }

    /// The rule behind it.
    pub(crate) fn refusal(&self) -> Option<&Refusal> {
        self.1.as_deref()
    }

    /// The error's code on the wire, for example `InvalidVolume.NotFound`.
    pub fn code(&self) -> &'static str {
        self.0.spec.code
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.spec.code, self.0.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.cause.as_ref().map(|cause| &**cause as &(dyn StdError + 'static))
    }
}

impl From<awsproto::Error> for Error {
    fn from(error: awsproto::Error) -> Self {
        Self(error, None)
    }
}

/// Our own failure, before [`of_service`] gives it the service's name for one.
pub const INTERNAL: ErrorSpec = ErrorSpec::receiver("InternalFailure", 500);

/// The service's name for a failure of its own (botocore models; for EC2 its list of error codes).
pub(crate) fn internal_of(service: Service) -> ErrorSpec {
    let code = match service {
        Service::Ec2 => "InternalError",
        Service::Ebs => "InternalServerException",
        Service::Kms => "KMSInternalException",
        Service::Iam | Service::Sts => "ServiceFailure",
        Service::CloudTrail | Service::Strongroom => "InternalFailure",
    };
    ErrorSpec::receiver(code, INTERNAL.status)
}

/// Gives our own failures the name the service has for them.
pub(crate) fn of_service(service: Service, error: Error) -> Error {
    if error.0.spec.code == INTERNAL.code {
        Error(awsproto::Error { spec: internal_of(service), ..error.0 }, error.1)
    } else {
        error
    }
}

/// The service's name for a value that cannot be accepted.
pub(crate) fn invalid_parameter_of(service: Service) -> ErrorSpec {
    match service {
        Service::Ec2 => awsproto::code::INVALID_PARAMETER_VALUE,
        Service::Iam | Service::Sts => awsproto::code::VALIDATION_ERROR,
        Service::Ebs | Service::Kms | Service::CloudTrail | Service::Strongroom => {
            awsproto::code::VALIDATION_EXCEPTION
        }
    }
}

/// The answer to an authorized call with `DryRun` (spec 20, A.9).
pub(crate) fn dry_run(service: Service) -> Error {
    match service {
        Service::Kms => Error::new(
            ErrorSpec::sender("DryRunOperationException", 400),
            "The request would have succeeded, but the DryRun option is set.",
        ),
        Service::Ec2
        | Service::Ebs
        | Service::Iam
        | Service::Sts
        | Service::CloudTrail
        | Service::Strongroom => Error::new(
            ErrorSpec::sender("DryRunOperation", 412),
            "Request would have succeeded, but DryRun flag is set.",
        ),
    }
}

/// Conversions of the crates below, each an exhaustive decision: what is ours alone is internal.
macro_rules! internal {
    ($($error:ty),+ $(,)?) => {
        $(impl From<$error> for Error {
            fn from(error: $error) -> Self {
                Self::internal(error)
            }
        })+
    };
}

internal!(ebs::Error, meta::Error, events::Error);

/// IAM and STS in their own words (botocore models; IAM API, "Errors" of each operation).
impl From<identity::Error> for Error {
    fn from(error: identity::Error) -> Self {
        use identity::Error as Failure;
        let spec = match &error {
            Failure::NoSuchEntity { .. } => ErrorSpec::sender("NoSuchEntity", 404),
            Failure::EntityAlreadyExists { .. } => ErrorSpec::sender("EntityAlreadyExists", 409),
            Failure::DeleteConflict { .. } => ErrorSpec::sender("DeleteConflict", 409),
            Failure::LimitExceeded { .. } => ErrorSpec::sender("LimitExceeded", 409),
            Failure::UnmodifiableEntity { .. } => ErrorSpec::sender("UnmodifiableEntity", 400),
            Failure::PasswordPolicyViolation { .. } => {
                ErrorSpec::sender("PasswordPolicyViolation", 400)
            }
            Failure::PolicyNotAttachable { .. } => ErrorSpec::sender("PolicyNotAttachable", 400),
            Failure::MalformedPolicy { .. } => ErrorSpec::sender("MalformedPolicyDocument", 400),
            Failure::InvalidInput { .. } => ErrorSpec::sender("InvalidInput", 400),
            Failure::Validation { .. } => awsproto::code::VALIDATION_ERROR,
            Failure::PackedPolicyTooLarge { .. } => ErrorSpec::sender("PackedPolicyTooLarge", 400),
            Failure::RowDamaged { .. } | Failure::Store(_) => return Self::internal(error),
        };
        Self::new(spec, error.to_string())
    }
}
