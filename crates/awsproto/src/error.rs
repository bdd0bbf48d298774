//! Errors as the caller sees them, and what can be wrong with a parameter.

use crate::code;
use crate::limits::ECHO_BYTES_MAX;
use crate::name::lower_first;
use crate::route::Protocol;
use std::fmt;

/// Whose fault an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The caller's.
    Sender,
    /// The server's.
    Receiver,
}

/// What a caller may branch on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorSpec {
    /// The error code: `InvalidVolume.NotFound`.
    pub code: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// Whose fault it is.
    pub fault: Fault,
    /// Whether the same request may succeed later.
    pub retryable: bool,
}

impl ErrorSpec {
    /// An error the caller caused.
    pub const fn sender(code: &'static str, status: u16) -> Self {
        Self { code, status, fault: Fault::Sender, retryable: false }
    }

    /// An error of the server, which the caller may retry.
    pub const fn receiver(code: &'static str, status: u16) -> Self {
        Self { code, status, fault: Fault::Receiver, retryable: true }
    }

    /// The same error, marked as worth retrying: throttling.
    pub const fn retryable(self) -> Self {
        Self { retryable: true, ..self }
    }

    /// This error with its message.
    pub fn error(self, message: impl Into<String>) -> Error {
        Error { spec: self, message: message.into(), cause: None, members: Vec::new() }
    }
}

/// A failed operation.
#[derive(Debug)]
pub struct Error {
    /// What the caller may branch on.
    pub spec: ErrorSpec,
    /// What the caller reads.
    pub message: String,
    /// What only the log sees.
    pub cause: Option<Box<dyn std::error::Error + Send + Sync>>,
    /// Further members of the modelled error, as `Reason` of the EBS direct APIs.
    pub members: Vec<(&'static str, String)>,
}

impl Error {
    /// Adds a member of the modelled error.
    #[must_use]
    pub fn with_member(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.members.push((name, value.into()));
        self
    }

    /// Adds what the log should know.
    #[must_use]
    pub fn with_cause(
        mut self,
        cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.cause = Some(cause.into());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.spec.code, self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_ref().map(|cause| &**cause as &(dyn std::error::Error + 'static))
    }
}

/// A request whose parameters cannot be read: which parameter, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterError {
    /// Member names and list positions from the outside in: `TagSpecifications`, `1`, `Tags`.
    pub path: Vec<String>,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong with a parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// It is required and absent.
    Missing,
    /// The text is no such id, number or instant.
    Invalid {
        /// What was sent; empty for sensitive members.
        value: String,
        /// What is accepted, as a sentence.
        expected: String,
        /// The id type's own EC2 error, where it has one.
        ec2: Option<ErrorSpec>,
    },
    /// The text is not one of the accepted ones.
    NotListed {
        /// What was sent; empty for sensitive members.
        value: String,
        /// What is accepted.
        accepted: &'static [&'static str],
    },
    /// The document has another type at this place.
    WrongType {
        /// The accepted type.
        expected: &'static str,
    },
    /// The service has no such parameter.
    Unknown,
    /// The service has this parameter and this implementation does not.
    Unsupported,
    /// One of [`crate::limits`] is exceeded.
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// How much is accepted.
        max: usize,
    },
    /// The body or query string is not a document of the protocol.
    Document {
        /// Why not.
        why: &'static str,
    },
}

impl ParameterError {
    /// An error about the value at hand; [`ParameterError::within`] adds where that is.
    pub fn new(problem: Problem) -> Self {
        Self { path: Vec::new(), problem }
    }

    /// A text that is not what it should be.
    pub fn invalid(value: impl Into<String>, expected: impl Into<String>) -> Self {
        Self::new(Problem::Invalid {
            value: shortened(value.into()),
            expected: expected.into(),
            ec2: None,
        })
    }

    /// A member that must be present.
    pub fn missing(name: &str) -> Self {
        Self::new(Problem::Missing).within(name)
    }

    /// The same error, seen from one level further out.
    #[must_use]
    pub fn within(mut self, name: impl Into<String>) -> Self {
        self.path.insert(0, name.into());
        self
    }

    /// The same error without the refused value.
    #[must_use]
    pub fn redacted(mut self) -> Self {
        match &mut self.problem {
            Problem::Invalid { value, expected, .. } => {
                value.clear();
                expected.clear();
            }
            Problem::NotListed { value, .. } => value.clear(),
            Problem::Missing
            | Problem::WrongType { .. }
            | Problem::Unknown
            | Problem::Unsupported
            | Problem::Limit { .. }
            | Problem::Document { .. } => {}
        }
        self
    }

    /// The error a service of this protocol answers.
    pub fn into_error(self, protocol: Protocol) -> Error {
        match protocol {
            Protocol::Ec2Query => self.into_ec2(),
            Protocol::AwsQuery => {
                self.into_validation(code::VALIDATION_ERROR, code::MALFORMED_INPUT)
            }
            Protocol::AwsJson11 | Protocol::RestJson1 => {
                self.into_validation(code::VALIDATION_EXCEPTION, code::SERIALIZATION_EXCEPTION)
            }
        }
    }

    fn into_ec2(self) -> Error {
        let name = self.dotted(lower_first, "");
        let sent = self.dotted(str::to_owned, "");
        match self.problem {
            Problem::Missing => code::MISSING_PARAMETER
                .error(format!("The request must contain the parameter {name}")),
            Problem::Invalid { value, expected, ec2 } => ec2
                .unwrap_or(code::INVALID_PARAMETER_VALUE)
                .error(format!("Value ({value}) for parameter {name} is invalid. {expected}")),
            Problem::NotListed { value, accepted } => code::INVALID_PARAMETER_VALUE.error(format!(
                "Value ({value}) for parameter {name} is invalid. Expected one of: {}.",
                accepted.join(", ")
            )),
            Problem::WrongType { expected } => code::INVALID_PARAMETER_VALUE
                .error(format!("The parameter {sent} is invalid. Expected {expected}.")),
            Problem::Unknown => {
                code::UNKNOWN_PARAMETER.error(format!("The parameter {sent} is not recognized"))
            }
            Problem::Unsupported => {
                code::UNSUPPORTED_OPERATION.error(format!("The parameter {sent} is not supported."))
            }
            Problem::Limit { what, max } => code::INVALID_PARAMETER_VALUE
                .error(format!("The request has too much at '{sent}': {what}, at most {max}.")),
            Problem::Document { why } => {
                code::MALFORMED_QUERY_STRING.error(format!("The query string is malformed: {why}."))
            }
        }
    }

    /// The sentences of the framework behind IAM, KMS and the REST services (spec 20, B.2).
    fn into_validation(self, validation: ErrorSpec, document: ErrorSpec) -> Error {
        let name = self.dotted(lower_first, ".member");
        let constraint = |at: String, rule: String| {
            validation.error(format!(
                "1 validation error detected: Value {at} at '{name}' failed to satisfy constraint: {rule}"
            ))
        };
        match self.problem {
            Problem::Missing => constraint("null".to_owned(), "Member must not be null".to_owned()),
            Problem::Invalid { value, expected, .. } => constraint(format!("'{value}'"), expected),
            Problem::NotListed { value, accepted } => constraint(
                format!("'{value}'"),
                format!("Member must satisfy enum value set: [{}]", accepted.join(", ")),
            ),
            Problem::WrongType { expected } => {
                document.error(format!("The value at '{name}' is not {expected}."))
            }
            Problem::Unknown => {
                validation.error(format!("The parameter '{name}' is not recognized."))
            }
            Problem::Unsupported => {
                validation.error(format!("The parameter '{name}' is not supported."))
            }
            Problem::Limit { what, max } => {
                validation.error(format!("Too much at '{name}': {what}, at most {max}."))
            }
            Problem::Document { why } => {
                document.error(format!("The request is malformed: {why}."))
            }
        }
    }

    /// The path as text; `item` follows a list position.
    fn dotted(&self, case: fn(&str) -> String, item: &str) -> String {
        let mut text = String::new();
        for part in &self.path {
            let position = part.bytes().all(|b| b.is_ascii_digit());
            let separator = if text.is_empty() { "" } else { "." };
            let part = if position { format!("{part}{item}") } else { case(part) };
            text.push_str(separator);
            text.push_str(&shortened(part));
        }
        text
    }
}

impl fmt::Display for ParameterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "parameter '{}': {:?}", self.dotted(str::to_owned, ""), self.problem)
    }
}

impl std::error::Error for ParameterError {}

/// Cuts a client's text to what a message may repeat.
pub(crate) fn shortened(mut text: String) -> String {
    if text.len() > ECHO_BYTES_MAX {
        let end = (0..=ECHO_BYTES_MAX).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}
