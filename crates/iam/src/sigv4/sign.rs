//! The client's side: what tests, the command line and presigned URLs sign with.

use super::{ALGORITHM, Parts, Scope, canonical, sha256_hex, signing_key, string_to_sign};
use base::{Secret, Timestamp};
use ring::hmac;

/// A credential together with what it signs for.
#[derive(Debug)]
pub struct Signer<'a> {
    /// `AKIA…` or `ASIA…`.
    pub access_key_id: &'a str,
    /// The secret access key.
    pub secret: &'a Secret<String>,
    /// The session token of temporary credentials.
    pub token: Option<&'a str>,
    /// The region addressed.
    pub region: &'a str,
    /// The service addressed: `ec2`, `kms`, `ebs`, `iam`, `sts`.
    pub service: &'a str,
}

impl Signer<'_> {
    /// The headers to add to a request: `x-amz-date`, `authorization` and, for temporary
    /// credentials, `x-amz-security-token`.
    ///
    /// All headers given are signed; `host` must be among them. A header `x-amz-content-sha256` is
    /// taken as the hash of the body.
    pub fn headers(&self, request: &Parts<'_>, now: Timestamp) -> Vec<(String, String)> {
        let mut added = vec![("x-amz-date".to_owned(), now.iso_basic())];
        if let Some(token) = self.token {
            added.push(("x-amz-security-token".to_owned(), token.to_owned()));
        }
        let all: Vec<_> = request.headers.iter().chain(&added).cloned().collect();
        let parts = Parts { headers: &all, ..*request };
        let signed = header_names(&parts);
        let pairs = canonical::query_pairs(request.query);
        let signature = self.signature(&parts, &pairs, &signed, now);
        let authorization = format!(
            "{ALGORITHM} Credential={}/{}, SignedHeaders={}, Signature={signature}",
            self.access_key_id,
            self.scope(now),
            signed.join(";"),
        );
        added.push(("authorization".to_owned(), authorization));
        added
    }

    /// The whole query string of a presigned URL: that of the request and the signature's.
    ///
    /// All headers given are signed; `host` must be among them.
    pub fn presign(&self, request: &Parts<'_>, now: Timestamp, expires_seconds: i64) -> String {
        let signed = header_names(request);
        let mut pairs = canonical::query_pairs(request.query);
        let mut add = |key: &str, value: String| pairs.push((key.to_owned(), value));
        add("X-Amz-Algorithm", ALGORITHM.to_owned());
        add("X-Amz-Credential", format!("{}/{}", self.access_key_id, self.scope(now)));
        add("X-Amz-Date", now.iso_basic());
        add("X-Amz-Expires", expires_seconds.to_string());
        add("X-Amz-SignedHeaders", signed.join(";"));
        if let Some(token) = self.token {
            add("X-Amz-Security-Token", token.to_owned());
        }
        let signature = self.signature(request, &pairs, &signed, now);
        format!("{}&X-Amz-Signature={signature}", canonical::query_string(&pairs))
    }

    fn scope(&self, now: Timestamp) -> Scope {
        Scope {
            date: now.iso_basic()[..8].to_owned(),
            region: self.region.to_owned(),
            service: self.service.to_owned(),
        }
    }

    fn signature(
        &self,
        parts: &Parts<'_>,
        query: &[(String, String)],
        signed: &[String],
        now: Timestamp,
    ) -> String {
        let given = parts.header_values("x-amz-content-sha256").next().map(str::to_owned);
        let hash = given.unwrap_or_else(|| sha256_hex(parts.body));
        let canonical = canonical::request(parts, query, signed, &hash);
        let scope = self.scope(now);
        let text = string_to_sign(now, &scope, &canonical);
        let key = signing_key(self.secret.expose(), &scope);
        hex::encode(hmac::sign(&key, text.as_bytes()))
    }
}

fn header_names(parts: &Parts<'_>) -> Vec<String> {
    let mut names: Vec<String> =
        parts.headers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
    names.sort();
    names.dedup();
    names
}
