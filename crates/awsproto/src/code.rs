//! Error codes that operations of one protocol share. A code of one operation sits in its file.

use crate::ErrorSpec;

/// EC2: a required parameter is absent.
pub const MISSING_PARAMETER: ErrorSpec = ErrorSpec::sender("MissingParameter", 400);
/// EC2: a parameter's value is not accepted.
pub const INVALID_PARAMETER_VALUE: ErrorSpec = ErrorSpec::sender("InvalidParameterValue", 400);
/// EC2: parameters that exclude each other.
pub const INVALID_PARAMETER_COMBINATION: ErrorSpec =
    ErrorSpec::sender("InvalidParameterCombination", 400);
/// EC2: a parameter that no operation of this name has.
pub const UNKNOWN_PARAMETER: ErrorSpec = ErrorSpec::sender("UnknownParameter", 400);
/// EC2: something real that is not offered here.
pub const UNSUPPORTED_OPERATION: ErrorSpec = ErrorSpec::sender("UnsupportedOperation", 400);
/// EC2: a text that is no instance id.
pub const INVALID_INSTANCE_ID_MALFORMED: ErrorSpec =
    ErrorSpec::sender("InvalidInstanceID.Malformed", 400);
/// EC2: the caller lacks a permission.
pub const UNAUTHORIZED_OPERATION: ErrorSpec = ErrorSpec::sender("UnauthorizedOperation", 403);
/// EC2: `DryRun` of a request that would have succeeded (spec 00, "Error envelope").
pub const DRY_RUN_OPERATION: ErrorSpec = ErrorSpec::sender("DryRunOperation", 412);
/// EC2 and Query services: the body or query string cannot be read.
pub const MALFORMED_QUERY_STRING: ErrorSpec = ErrorSpec::sender("MalformedQueryString", 400);
/// EC2: too many requests.
pub const REQUEST_LIMIT_EXCEEDED: ErrorSpec =
    ErrorSpec::sender("RequestLimitExceeded", 503).retryable();
/// EC2: the server failed.
pub const INTERNAL_ERROR: ErrorSpec = ErrorSpec::receiver("InternalError", 500);
/// Query services: no `Action`.
pub const MISSING_ACTION: ErrorSpec = ErrorSpec::sender("MissingAction", 400);
/// Query services: no operation of this name.
pub const INVALID_ACTION: ErrorSpec = ErrorSpec::sender("InvalidAction", 400);
/// Query services: an API version that is not served.
pub const NO_SUCH_VERSION: ErrorSpec = ErrorSpec::sender("NoSuchVersion", 400);

/// awsQuery: a value violates the model.
pub const VALIDATION_ERROR: ErrorSpec = ErrorSpec::sender("ValidationError", 400);
/// awsQuery: a value has the wrong type.
pub const MALFORMED_INPUT: ErrorSpec = ErrorSpec::sender("MalformedInput", 400);
/// awsQuery: the caller lacks a permission.
pub const ACCESS_DENIED: ErrorSpec = ErrorSpec::sender("AccessDenied", 403);
/// awsQuery and IAM: the server failed.
pub const SERVICE_FAILURE: ErrorSpec = ErrorSpec::receiver("ServiceFailure", 500);

/// JSON: a value violates the model.
pub const VALIDATION_EXCEPTION: ErrorSpec = ErrorSpec::sender("ValidationException", 400);
/// JSON: the document cannot be read, or a value has the wrong type.
pub const SERIALIZATION_EXCEPTION: ErrorSpec = ErrorSpec::sender("SerializationException", 400);
/// awsJson: no operation of this name.
pub const UNKNOWN_OPERATION: ErrorSpec = ErrorSpec::sender("UnknownOperationException", 400);
/// restJson: no operation at this path.
pub const UNKNOWN_PATH: ErrorSpec = ErrorSpec::sender("UnknownOperationException", 404);
/// awsJson: the caller lacks a permission. KMS answers 400 (spec 20, B.1).
pub const ACCESS_DENIED_EXCEPTION: ErrorSpec = ErrorSpec::sender("AccessDeniedException", 400);
/// restJson: the caller lacks a permission.
pub const ACCESS_DENIED_EXCEPTION_REST: ErrorSpec = ErrorSpec::sender("AccessDeniedException", 403);
/// JSON: the server failed.
pub const INTERNAL_FAILURE: ErrorSpec = ErrorSpec::receiver("InternalFailure", 500);
