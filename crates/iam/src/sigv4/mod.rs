//! AWS Signature Version 4: verifying what clients sent, and signing as a client does.
//!
//! [`read`] takes a request apart and checks everything that needs no secret: form, scope, times and
//! the hash of the body. [`SignedRequest::verify`] then compares the signature. Which region and
//! service are served, and whether a body may go unsigned, is the caller's question.
//!
//! Source of the rules: IAM user guide, "AWS Signature Version 4 for API requests". The path is
//! normalised and URI-encoded once more than it was received, as every service but S3 wants it.

mod canonical;
mod sign;
mod verify;

pub use sign::Signer;
pub use verify::{SignedRequest, read};

use base::Timestamp;
use ring::{digest, hmac};

/// The only algorithm supported.
pub const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// In place of the body's hash: the body is not signed.
pub const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";

/// How far a client's clock may be off, in seconds.
pub const SKEW_SECONDS_MAX: i64 = 300;

/// The longest validity of a presigned URL, in seconds: seven days.
pub const PRESIGNED_SECONDS_MAX: i64 = 604_800;

/// The most headers a signature may cover.
pub const SIGNED_HEADERS_MAX: usize = 100;

/// The longest Authorization header, in bytes.
pub const AUTHORIZATION_BYTES_MAX: usize = 8_192;

/// The longest session token, in bytes.
pub const TOKEN_BYTES_MAX: usize = 16_384;

/// An HTTP request as it was received or is about to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// `POST`.
    pub method: &'a str,
    /// The path as it stands in the request line, not decoded.
    pub path: &'a str,
    /// The query string as it stands in the request line, without the question mark.
    pub query: &'a str,
    /// The headers in order; names in any case.
    pub headers: &'a [(String, String)],
    /// The whole body.
    pub body: &'a [u8],
}

impl Parts<'_> {
    /// The values of a header, in order.
    fn header_values<'b>(&'b self, name: &'b str) -> impl Iterator<Item = &'b str> + 'b {
        let matching = self.headers.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(name));
        matching.map(|(_, value)| value.as_str())
    }

    /// The value of a header that may stand once only.
    fn header(&self, name: &'static str) -> Result<Option<&str>, Rejection> {
        let mut values = self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        let first = values.next().map(|(_, value)| value.trim());
        match values.next() {
            None => Ok(first),
            Some(_) => Err(Rejection::Incomplete(Part::RepeatedHeader(name))),
        }
    }
}

/// `date/region/service/aws4_request`: what a signing key is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// `20150830`.
    pub date: String,
    /// `us-east-1`.
    pub region: String,
    /// `kms`.
    pub service: String,
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}/aws4_request", self.date, self.region, self.service)
    }
}

/// Whether the signature covers the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// The body's hash was checked.
    Signed,
    /// `UNSIGNED-PAYLOAD`: the body may have been changed on the way.
    Unsigned,
}

/// What is wrong with the form of a signature.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Part {
    /// A parameter is missing.
    #[error("Authorization requires the '{0}' parameter")]
    Missing(&'static str),
    /// A parameter has no legal value.
    #[error("the '{0}' parameter is malformed")]
    Malformed(&'static str),
    /// A header that may stand once stands more often.
    #[error("the header '{0}' may stand only once")]
    RepeatedHeader(&'static str),
    /// A header has to be covered by the signature.
    #[error("the header '{0}' must be a signed header")]
    NotSigned(String),
    /// The signature names a header that the request lacks.
    #[error("the signed header '{0}' is not in the request")]
    Absent(String),
    /// Something is larger than its limit.
    #[error("{what} exceeds the limit of {limit}")]
    TooLarge {
        /// What.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// Both an Authorization header and query parameters are given.
    #[error("only one way of signing may be used, found a header and query parameters")]
    Twice,
}

/// Why a request is not accepted as signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The request is anonymous.
    #[error("Missing Authentication Token")]
    MissingToken,
    /// Another algorithm: SigV4A, or a body signed in chunks.
    #[error("Unsupported AWS 'algorithm': '{0}'")]
    UnsupportedAlgorithm(String),
    /// The form is wrong.
    #[error("{0}")]
    Incomplete(Part),
    /// The credential is not `key/date/region/service/aws4_request`.
    #[error(
        "Credential must have exactly 5 slash-delimited elements, e.g. \
             keyid/date/region/service/term, got '{0}'"
    )]
    MalformedCredential(String),
    /// The scope's date is not the day of the signature.
    #[error(
        "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from \
             HTTP: '{scope}' != '{date}', from '{date_time}'."
    )]
    ScopeDate {
        /// The scope's date.
        scope: String,
        /// The day signed.
        date: String,
        /// The moment signed.
        date_time: String,
    },
    /// The signature is too old, or the presigned URL has expired.
    #[error("Signature expired: {signed_at} is now earlier than {earliest} ({now} - {tolerance})")]
    Expired {
        /// When it was signed.
        signed_at: String,
        /// The earliest moment still accepted.
        earliest: String,
        /// The present moment.
        now: String,
        /// How much is tolerated.
        tolerance: String,
    },
    /// The signature lies in the future.
    #[error("Signature not yet current: {signed_at} is still later than {latest} ({now} + 5 min.)")]
    NotYetCurrent {
        /// When it was signed.
        signed_at: String,
        /// The latest moment accepted.
        latest: String,
        /// The present moment.
        now: String,
    },
    /// The body is not what was signed.
    #[error("The provided 'x-amz-content-sha256' header does not match what was computed.")]
    PayloadMismatch,
    /// Another secret was used, or something was changed on the way.
    #[error(
        "The request signature we calculated does not match the signature you provided. Check \
             your AWS Secret Access Key and signing method. Consult the service documentation for \
             details."
    )]
    Mismatch,
}

/// The lower-case hexadecimal SHA-256 of some bytes.
pub fn sha256_hex(bytes: &[u8]) -> String {
    let mut text = [0; 64];
    hex::encode_to_slice(digest::digest(&digest::SHA256, bytes), &mut text)
        .expect("a digest has 32 bytes");
    str::from_utf8(&text).expect("digits are ASCII").to_owned()
}

/// The text that is signed for a canonical request.
fn string_to_sign(at: Timestamp, scope: &Scope, canonical: &str) -> String {
    let hash = sha256_hex(canonical.as_bytes());
    format!("{ALGORITHM}\n{}\n{scope}\n{hash}", at.iso_basic())
}

/// The key of one secret, day, region and service.
fn signing_key(secret: &str, scope: &Scope) -> hmac::Key {
    let key = |bytes: &[u8]| hmac::Key::new(hmac::HMAC_SHA256, bytes);
    let first = zeroize::Zeroizing::new(format!("AWS4{secret}"));
    let mut current = key(first.as_bytes());
    for part in [&scope.date, &scope.region, &scope.service, "aws4_request"] {
        current = key(hmac::sign(&current, part.as_bytes()).as_ref());
    }
    current
}
