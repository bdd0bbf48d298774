//! Named limits of everything that is parsed. The size of a body is the caller's limit.

/// Parameters in one ec2Query or awsQuery request. EC2's widest request is 1,000 resources with
/// 50 tags of two parameters each.
pub const PARAMETERS_MAX: usize = 102_400;

/// Bytes in one parameter name, as sent.
pub const PARAMETER_NAME_BYTES_MAX: usize = 512;

/// Parts of one dotted parameter name, and nesting of XML replies. JSON documents have the parser's
/// limit of 128.
pub const DEPTH_MAX: usize = 32;

/// Items of one list and entries of one map.
pub const ITEMS_MAX: usize = 51_200;

/// Bytes of one path, query string or header value.
pub const HTTP_TEXT_BYTES_MAX: usize = 16_384;

/// Bytes of a refused value that an error message repeats.
pub const ECHO_BYTES_MAX: usize = 256;
