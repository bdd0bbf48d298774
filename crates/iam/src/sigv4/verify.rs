//! The server's side: taking a signed request apart and checking it.

use super::{
    ALGORITHM, AUTHORIZATION_BYTES_MAX, PRESIGNED_SECONDS_MAX, Part, Parts, Payload, Rejection,
    SIGNED_HEADERS_MAX, SKEW_SECONDS_MAX, Scope, TOKEN_BYTES_MAX, UNSIGNED_PAYLOAD, canonical,
    sha256_hex, signing_key, string_to_sign,
};
use base::{Secret, Timestamp};
use ring::hmac;

/// A request whose form, times and body are checked, and whose signature is not yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedRequest {
    /// `AKIA…` or `ASIA…`.
    pub access_key_id: String,
    /// The session token, when one was sent.
    pub token: Option<String>,
    /// What the signature is good for.
    pub scope: Scope,
    /// When the request was signed.
    pub signed_at: Timestamp,
    /// For a presigned URL, how many seconds it is good for.
    pub presigned_for: Option<i64>,
    /// Whether the body is covered.
    pub payload: Payload,
    string_to_sign: String,
    signature: Vec<u8>,
}

/// The parameters of a signature, wherever they stood.
struct Parameters {
    algorithm: String,
    credential: String,
    signed_headers: String,
    signature: String,
    date: String,
    token: Option<String>,
    presigned_for: Option<i64>,
    /// The query that is signed.
    query: Vec<(String, String)>,
    payload_hash: Option<String>,
}

/// Takes a request apart and checks everything but the signature itself.
///
/// # Errors
/// Why the request cannot be accepted.
pub fn read(parts: &Parts<'_>, now: Timestamp) -> Result<SignedRequest, Rejection> {
    let query = canonical::query_pairs(parts.query);
    let in_query =
        query.iter().any(|(key, _)| key == "X-Amz-Algorithm" || key == "X-Amz-Signature");
    let parameters = match (parts.header("authorization")?, in_query) {
        (None, false) => return Err(Rejection::MissingToken),
        (Some(_), true) => return Err(Rejection::Incomplete(Part::Twice)),
        (Some(header), false) => from_header(parts, header, query)?,
        (None, true) => from_query(parts, query)?,
    };
    if parameters.algorithm != ALGORITHM {
        return Err(Rejection::UnsupportedAlgorithm(parameters.algorithm));
    }
    let (access_key_id, scope) = credential(&parameters.credential)?;
    let malformed = |name| Rejection::Incomplete(Part::Malformed(name));
    let basic_form = parameters.date.len() == 16;
    let signed_at = Timestamp::parse_iso(&parameters.date)
        .filter(|_| basic_form)
        .ok_or_else(|| malformed("X-Amz-Date"))?;
    if scope.date != parameters.date[..8] {
        let date = parameters.date[..8].to_owned();
        return Err(Rejection::ScopeDate { scope: scope.date, date, date_time: parameters.date });
    }
    check_times(signed_at, parameters.presigned_for, now)?;
    let signed_headers = signed_headers(parts, &parameters.signed_headers)?;
    let (payload, hash) = payload(parts, parameters.payload_hash.as_deref())?;
    let signature = hex::decode(&parameters.signature)
        .ok()
        .filter(|bytes| bytes.len() == 32)
        .ok_or_else(|| malformed("Signature"))?;
    let canonical = canonical::request(parts, &parameters.query, &signed_headers, &hash);
    Ok(SignedRequest {
        access_key_id,
        token: parameters.token,
        string_to_sign: string_to_sign(signed_at, &scope, &canonical),
        scope,
        signed_at,
        presigned_for: parameters.presigned_for,
        payload,
        signature,
    })
}

impl SignedRequest {
    /// Compares the signature with the one this secret makes, in constant time.
    ///
    /// # Errors
    /// [`Rejection::Mismatch`].
    pub fn verify(&self, secret: &Secret<String>) -> Result<(), Rejection> {
        let key = signing_key(secret.expose(), &self.scope);
        hmac::verify(&key, self.string_to_sign.as_bytes(), &self.signature)
            .map_err(|_| Rejection::Mismatch)
    }
}

fn from_header(
    parts: &Parts<'_>,
    header: &str,
    query: Vec<(String, String)>,
) -> Result<Parameters, Rejection> {
    limit("the Authorization header", header.len(), AUTHORIZATION_BYTES_MAX)?;
    let (algorithm, rest) = header.split_once(' ').unwrap_or((header, ""));
    if algorithm != ALGORITHM {
        return Err(Rejection::UnsupportedAlgorithm(algorithm.to_owned()));
    }
    let fields: Vec<(&str, &str)> =
        rest.split(',').filter_map(|field| field.trim().split_once('=')).collect();
    let field = |name: &'static str| {
        let found = fields.iter().find(|(key, _)| *key == name);
        found.map(|(_, value)| (*value).to_owned()).ok_or_else(|| missing(name))
    };
    let token = parts.header("x-amz-security-token")?.map(str::to_owned);
    limit("the session token", token.as_ref().map_or(0, String::len), TOKEN_BYTES_MAX)?;
    Ok(Parameters {
        algorithm: algorithm.to_owned(),
        credential: field("Credential")?,
        signed_headers: field("SignedHeaders")?,
        signature: field("Signature")?,
        date: parts.header("x-amz-date")?.ok_or_else(|| missing("X-Amz-Date"))?.to_owned(),
        token,
        presigned_for: None,
        query,
        payload_hash: parts.header("x-amz-content-sha256")?.map(str::to_owned),
    })
}

fn from_query(
    parts: &Parts<'_>,
    mut query: Vec<(String, String)>,
) -> Result<Parameters, Rejection> {
    let find = |name: &'static str| -> Result<Option<String>, Rejection> {
        let mut found = query.iter().filter(|(key, _)| key == name);
        let first = found.next().map(|(_, value)| value.clone());
        match found.next() {
            None => Ok(first),
            Some(_) => Err(Rejection::Incomplete(Part::Malformed(name))),
        }
    };
    let need = |name: &'static str| find(name)?.ok_or_else(|| missing(name));
    let expires = need("X-Amz-Expires")?;
    let is_digits = expires.bytes().all(|b| b.is_ascii_digit());
    let expires = expires.parse::<i64>().ok().filter(|n| is_digits && *n <= PRESIGNED_SECONDS_MAX);
    let token = find("X-Amz-Security-Token")?;
    limit("the session token", token.as_ref().map_or(0, String::len), TOKEN_BYTES_MAX)?;
    let in_query = find("X-Amz-Content-Sha256")?;
    let payload_hash = match in_query {
        Some(hash) => Some(hash),
        None => parts.header("x-amz-content-sha256")?.map(str::to_owned),
    };
    let malformed = |name| Rejection::Incomplete(Part::Malformed(name));
    let parameters = Parameters {
        algorithm: need("X-Amz-Algorithm")?,
        credential: need("X-Amz-Credential")?,
        signed_headers: need("X-Amz-SignedHeaders")?,
        signature: need("X-Amz-Signature")?,
        date: need("X-Amz-Date")?,
        token,
        presigned_for: Some(expires.ok_or_else(|| malformed("X-Amz-Expires"))?),
        query: Vec::new(),
        payload_hash,
    };
    query.retain(|(key, _)| key != "X-Amz-Signature");
    Ok(Parameters { query, ..parameters })
}

fn missing(name: &'static str) -> Rejection {
    Rejection::Incomplete(Part::Missing(name))
}

fn limit(what: &'static str, value: usize, limit: usize) -> Result<(), Rejection> {
    match value > limit {
        true => Err(Rejection::Incomplete(Part::TooLarge { what, limit })),
        false => Ok(()),
    }
}

fn credential(text: &str) -> Result<(String, Scope), Rejection> {
    let fields: Vec<&str> = text.split('/').collect();
    let [key, date, region, service, "aws4_request"] = fields[..] else {
        return Err(Rejection::MalformedCredential(text.to_owned()));
    };
    let id = |t: &str| (4..=128).contains(&t.len()) && t.bytes().all(|b| b.is_ascii_alphanumeric());
    let name = |t: &str| {
        (1..=64).contains(&t.len()) && t.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let is_date = date.len() == 8 && date.bytes().all(|b| b.is_ascii_digit());
    if !id(key) || !is_date || !name(region) || !name(service) {
        return Err(Rejection::MalformedCredential(text.to_owned()));
    }
    let scope =
        Scope { date: date.to_owned(), region: region.to_owned(), service: service.to_owned() };
    Ok((key.to_owned(), scope))
}

fn check_times(
    signed_at: Timestamp,
    presigned_for: Option<i64>,
    now: Timestamp,
) -> Result<(), Rejection> {
    let latest = now.plus_seconds(SKEW_SECONDS_MAX);
    if signed_at > latest {
        return Err(Rejection::NotYetCurrent {
            signed_at: signed_at.iso_basic(),
            latest: latest.iso_basic(),
            now: now.iso_basic(),
        });
    }
    let (valid_seconds, tolerance) = match presigned_for {
        None => (SKEW_SECONDS_MAX, "5 min.".to_owned()),
        Some(seconds) => (seconds, format!("{seconds} s")),
    };
    let earliest = now.plus_seconds(-valid_seconds);
    if signed_at < earliest {
        return Err(Rejection::Expired {
            signed_at: signed_at.iso_basic(),
            earliest: earliest.iso_basic(),
            now: now.iso_basic(),
            tolerance,
        });
    }
    Ok(())
}

/// Headers that decide what a request means and therefore have to be signed when present.
const MUST_BE_SIGNED: &[&str] = &["host", "x-amz-date", "x-amz-target", "x-amz-content-sha256"];

fn signed_headers<'l>(parts: &Parts<'_>, list: &'l str) -> Result<Vec<&'l str>, Rejection> {
    let names: Vec<&str> = list.split(';').collect();
    limit("SignedHeaders", names.len(), SIGNED_HEADERS_MAX)?;
    let canonical =
        |name: &&str| !name.is_empty() && name.bytes().all(|byte| !byte.is_ascii_uppercase());
    if !names.iter().all(canonical) || !names.is_sorted_by(|a, b| a < b) {
        return Err(Rejection::Incomplete(Part::Malformed("SignedHeaders")));
    }
    if let Some(absent) = names.iter().find(|n| parts.header_values(n).next().is_none()) {
        return Err(Rejection::Incomplete(Part::Absent((*absent).to_owned())));
    }
    for name in MUST_BE_SIGNED {
        let needed = *name == "host" || parts.header_values(name).next().is_some();
        if needed && !names.contains(name) {
            return Err(Rejection::Incomplete(Part::NotSigned((*name).to_owned())));
        }
    }
    Ok(names)
}

/// The hash that stands in the canonical request, checked against the body.
fn payload(parts: &Parts<'_>, claimed: Option<&str>) -> Result<(Payload, String), Rejection> {
    match claimed {
        Some(UNSIGNED_PAYLOAD) => Ok((Payload::Unsigned, UNSIGNED_PAYLOAD.to_owned())),
        Some(streaming) if streaming.starts_with("STREAMING-") => {
            Err(Rejection::UnsupportedAlgorithm(streaming.to_owned()))
        }
        Some(claimed) => {
            let actual = sha256_hex(parts.body);
            match claimed == actual {
                true => Ok((Payload::Signed, actual)),
                false => Err(Rejection::PayloadMismatch),
            }
        }
        None => Ok((Payload::Signed, sha256_hex(parts.body))),
    }
}
