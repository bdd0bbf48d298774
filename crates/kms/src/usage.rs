//! When a key was last used, and for what (GetKeyLastUsage): one row per key, written from time to time and not with
//! every request. What is in these rows may be a little old, and never wrong.

use crate::error::Result;
use crate::key::Key;
use base::{AccountId, Region, Timestamp};
use meta::{Tx, params};

/// The moment since which uses are noted, in `kms_moments`.
const TRACKING: &str = "uses-are-tracked";
/// One use of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    /// The operation: `Decrypt`.
    pub operation: String,
    /// When it succeeded.
    pub at: Timestamp,
    /// The trail record in the owner's account.
    pub event_id: String,
    /// The request.
    pub request_id: String,
}

/// Names a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UsedKey {
    /// Owner.
    pub account: AccountId,
    /// Where.
    pub region: Region,
    /// Its id.
    pub id: String,
}

impl From<&Key> for UsedKey {
    fn from(key: &Key) -> Self {
        Self { account: key.account.clone(), region: key.region.clone(), id: key.id.clone() }
    }
}

/// Writes a use; a row that knows of a later one stays.
///
/// # Errors
/// As the database answers.
pub fn write(tx: &mut Tx<'_>, key: &UsedKey, used: &Use) -> Result<()> {
    tx.execute(
        "INSERT INTO kms_key_uses \
         (account_id, region, key_id, operation, used_at, event_id, request_id) \
         SELECT $1, $2, $3, $4, $5, $6, $7 FROM kms_keys \
         WHERE account_id = $1 AND region = $2 AND key_id = $3 \
         ON CONFLICT (account_id, region, key_id) DO UPDATE SET operation = $4, used_at = $5, \
         event_id = $6, request_id = $7 WHERE kms_key_uses.used_at <= $5",
        params![
            &key.account,
            &key.region,
            &key.id,
            &used.operation,
            used.at,
            &used.event_id,
            &used.request_id,
        ],
    )?;
    Ok(())
}

/// The last use that was written.
///
/// # Errors
/// As the database answers.
pub fn written(tx: &mut Tx<'_>, key: &Key) -> Result<Option<Use>> {
    let row = tx.query_opt(
        "SELECT operation, used_at, event_id, request_id FROM kms_key_uses \
         WHERE account_id = $1 AND region = $2 AND key_id = $3",
        params![&key.account, &key.region, &key.id],
    )?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Use {
        operation: row.get(0)?,
        at: row.get(1)?,
        event_id: row.get(2)?,
        request_id: row.get(3)?,
    }))
}

/// Since when the uses of a key are noted: its creation, or the first start of a release that does.
///
/// # Errors
/// As the database answers.
pub fn tracked_since(tx: &mut Tx<'_>, key: &Key) -> Result<Timestamp> {
    let row =
        tx.query_opt("SELECT happened_at FROM kms_moments WHERE name = $1", params![TRACKING])?;
    let since = row.map(|row| row.get::<Timestamp>(0)).transpose()?;
    Ok(since.map_or(key.created, |since| since.max(key.created)))
}

pub(crate) fn begin_tracking(tx: &mut Tx<'_>, now: Timestamp) -> meta::Result<()> {
    tx.execute(
        "INSERT INTO kms_moments (name, happened_at) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        params![TRACKING, now],
    )?;
    Ok(())
}
