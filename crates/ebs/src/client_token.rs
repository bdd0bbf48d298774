//! Client tokens: a request sent twice is done once (spec 00, "Idempotency").
//!
//! A token is remembered for [`TOKEN_HOURS`] hours in its account, region and operation. A resource
//! that failed later has still used its token up.

use crate::error::Result;
use crate::page::digest;
use base::{AccountId, Region, Timestamp};
use meta::{Tx, params};

/// How long a token is remembered.
pub const TOKEN_HOURS: i64 = 12;
/// Longest token accepted, in ASCII characters (EC2 guide, "Ensuring idempotency").
pub const TOKEN_CHARS_MAX: usize = 64;

/// Where a token is unique.
#[derive(Clone, Copy, Debug)]
pub struct TokenScope<'a> {
    /// Whose.
    pub account: &'a AccountId,
    /// Where.
    pub region: &'a Region,
    /// `CreateVolume`.
    pub operation: &'a str,
}

/// What a token turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Not seen before: do the work for the resource that was offered.
    New,
    /// The same request was made: answer with this resource.
    Repeated {
        /// What the first request made.
        resource_id: String,
    },
    /// Another request used the token: `IdempotentParameterMismatch`.
    Mismatch,
}

/// A stable digest of a request's parameters.
pub fn request_digest(parts: &[&str]) -> String {
    let parts: Vec<&[u8]> = parts.iter().map(|part| part.as_bytes()).collect();
    format!("{:016x}", digest(&parts))
}

/// What a token would answer, without using it.
///
/// # Errors
/// When the database fails.
pub fn look_up(
    tx: &mut Tx<'_>,
    scope: TokenScope<'_>,
    token: &str,
    request_digest: &str,
    now: Timestamp,
) -> Result<Claim> {
    let row = tx.query_opt(
        "SELECT request_digest, resource_id FROM ebs_client_tokens WHERE account_id = $1 \
         AND region = $2 AND operation = $3 AND token = $4 AND used_ms > $5",
        params![scope.account, scope.region, scope.operation, token, forgotten_before(now)],
    )?;
    let Some(row) = row else { return Ok(Claim::New) };
    let (used_for, resource_id): (String, String) = (row.get(0)?, row.get(1)?);
    Ok(if used_for == request_digest { Claim::Repeated { resource_id } } else { Claim::Mismatch })
}

/// Uses a token for `resource_id`, or says what it was used for. Call it in the transaction that
/// makes the resource.
///
/// # Errors
/// When the database fails.
pub fn claim(
    tx: &mut Tx<'_>,
    scope: TokenScope<'_>,
    token: &str,
    request_digest: &str,
    resource_id: &str,
    now: Timestamp,
) -> Result<Claim> {
    tx.execute(
        "DELETE FROM ebs_client_tokens WHERE account_id = $1 AND region = $2 AND operation = $3 \
         AND token = $4 AND used_ms <= $5",
        params![scope.account, scope.region, scope.operation, token, forgotten_before(now)],
    )?;
    let added = tx.execute(
        "INSERT INTO ebs_client_tokens \
         (account_id, region, operation, token, request_digest, resource_id, used_ms) \
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
        params![
            scope.account,
            scope.region,
            scope.operation,
            token,
            request_digest,
            resource_id,
            now,
        ],
    )?;
    if added == 1 { Ok(Claim::New) } else { look_up(tx, scope, token, request_digest, now) }
}

fn forgotten_before(now: Timestamp) -> Timestamp {
    now.plus_seconds(-TOKEN_HOURS * 3600)
}
