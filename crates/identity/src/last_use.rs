//! When access keys and roles were last used. Written from time to time, not with every request: what is
//! in these rows may be a little old, and never wrong. A role is in them by its unique id.

use crate::access_key;
use crate::entity::{self, Entity, Kind};
use crate::error::{Error, Result};
use base::{AccountId, Timestamp};
use meta::{Tx, params};

/// The last request an access key signed, or a session of a role made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastUse {
    /// When.
    pub at: Timestamp,
    /// Of which service.
    pub service: String,
    /// In which region.
    pub region: String,
}

/// Whose an access key is, for whoever asks when it was used.
#[derive(Clone, Debug)]
pub enum KeyOwner {
    /// A root or a machine: they have no name.
    Nameless,
    /// A user.
    User(Box<Entity>),
}

/// Notes a use, unless a later one is noted.
///
/// # Errors
/// As the database answers.
pub fn note(tx: &mut Tx<'_>, account: &AccountId, key_id: &str, last: &LastUse) -> Result<()> {
    tx.execute(
        "INSERT INTO iam_access_key_uses (account_id, access_key_id, used_at, service, region) \
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT (account_id, access_key_id) DO UPDATE \
         SET used_at = excluded.used_at, service = excluded.service, region = excluded.region \
         WHERE iam_access_key_uses.used_at < excluded.used_at",
        params![account, key_id, last.at, &last.service, &last.region],
    )?;
    Ok(())
}

/// Forgets the uses of one that is deleted.
pub(crate) fn forget(tx: &mut Tx<'_>, account: &AccountId, key_id: &str) -> Result<()> {
    tx.execute(
        "DELETE FROM iam_access_key_uses WHERE account_id = $1 AND access_key_id = $2",
        params![account, key_id],
    )?;
    Ok(())
}

/// The last use that is noted.
///
/// # Errors
/// As the database answers.
pub fn of(tx: &mut Tx<'_>, account: &AccountId, key_id: &str) -> Result<Option<LastUse>> {
    let row = tx.query_opt(
        "SELECT used_at, service, region FROM iam_access_key_uses \
         WHERE account_id = $1 AND access_key_id = $2",
        params![account, key_id],
    )?;
    let last = row.map(|row| -> Result<LastUse> {
        Ok(LastUse { at: row.get(0)?, service: row.get(1)?, region: row.get(2)? })
    });
    last.transpose()
}

/// Whose an access key of this account is.
///
/// # Errors
/// [`Error::NoSuchEntity`], also for keys of other accounts.
pub fn owner(tx: &mut Tx<'_>, account: &AccountId, key_id: &str) -> Result<KeyOwner> {
    let missing = || Error::missing(format!("The Access Key with id {key_id} cannot be found."));
    let stored = access_key::find(tx, key_id)?.filter(|stored| stored.account == *account);
    let stored = stored.ok_or_else(missing)?;
    let entity = entity::find_by_id(tx, &stored.owner_id)?;
    Ok(match entity.filter(|entity| entity.kind == Kind::User) {
        Some(user) => KeyOwner::User(Box::new(user)),
        None => KeyOwner::Nameless,
    })
}

/// The account of an access key, whoever's it is.
///
/// # Errors
/// As the database answers.
pub fn account_of(tx: &mut Tx<'_>, key_id: &str) -> Result<Option<AccountId>> {
    Ok(access_key::find(tx, key_id)?.map(|stored| stored.account))
}
