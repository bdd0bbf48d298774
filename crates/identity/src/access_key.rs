//! Access keys of users and of account roots. Secrets are kept sealed and shown once.

use crate::entity::Entity;
use crate::error::{Error, Result};
use crate::name::{ACCESS_KEY_TAIL, unique_id};
use crate::{Identity, last_use};
use base::{AccountId, InstanceId, Secret, Timestamp};
use base64::Engine as _;
use meta::{Row, Tx, params};

/// How many access keys a user or a root may have (IAM guide, "IAM quotas").
pub const KEYS_MAX: usize = 2;

/// Bytes of randomness in a secret; forty characters in base 64.
pub(crate) const SECRET_BYTES: usize = 30;

/// Whose a key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The root of an account.
    Root(AccountId),
    /// A user.
    User(Entity),
    /// A machine that attaches volumes itself: its session of the infrastructure role.
    Host(AccountId, InstanceId),
}

impl Owner {
    fn account(&self) -> &AccountId {
        match self {
            Self::Root(account) | Self::Host(account, _) => account,
            Self::User(user) => &user.account,
        }
    }

    fn id(&self) -> &str {
        match self {
            Self::Root(account) => account.as_str(),
            Self::User(user) => &user.unique_id,
            Self::Host(_, instance) => instance.as_str(),
        }
    }
}

/// An access key without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessKey {
    /// `AKIA…`.
    pub id: String,
    /// Whether it can be used.
    pub active: bool,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A key just made: the only time its secret is shown.
#[derive(Debug)]
pub struct NewAccessKey {
    /// The key.
    pub key: AccessKey,
    /// Its secret.
    pub secret: Secret<String>,
}

/// A key as it is stored.
pub(crate) struct StoredKey {
    pub(crate) account: AccountId,
    pub(crate) owner_id: String,
    pub(crate) active: bool,
    sealed: Vec<u8>,
}

/// The text form of thirty bytes of secret.
pub(crate) fn secret_text(bytes: &[u8]) -> Secret<String> {
    Secret::new(base64::engine::general_purpose::STANDARD.encode(&bytes[..SECRET_BYTES]))
}

fn aad(access_key_id: &str) -> Vec<u8> {
    format!("access-key|{access_key_id}").into_bytes()
}

impl Identity {
    /// Makes an access key.
    ///
    /// # Errors
    /// [`Error::LimitExceeded`] beyond [`KEYS_MAX`].
    pub fn create_access_key(&self, tx: &mut Tx<'_>, owner: &Owner) -> Result<NewAccessKey> {
        if list(tx, owner)?.len() >= KEYS_MAX {
            let message = format!("Cannot exceed quota for AccessKeysPerUser: {KEYS_MAX}");
            return Err(Error::LimitExceeded { message });
        }
        let mut random = Secret::new([0; SECRET_BYTES]);
        self.rng().fill(random.expose_mut());
        let secret = secret_text(random.expose());
        let key = AccessKey {
            id: unique_id(self.rng(), "AKIA", ACCESS_KEY_TAIL),
            active: true,
            created_at: self.now(),
        };
        let sealed = self.secrets_key().seal(self.rng(), &aad(&key.id), secret.expose().as_bytes());
        tx.execute(
            "INSERT INTO iam_access_keys \
             (account_id, access_key_id, owner_id, active, sealed, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6)",
            params![owner.account(), &key.id, owner.id(), true, sealed, key.created_at],
        )?;
        Ok(NewAccessKey { key, secret })
    }

    /// The secret of a stored key.
    pub(crate) fn open_secret(&self, id: &str, stored: &StoredKey) -> Result<Secret<String>> {
        let damaged = || Error::damaged(format!("the access key {id}"));
        let (bytes, _) =
            self.secrets_key().open(&aad(id), &stored.sealed).map_err(|_| damaged())?;
        let text = str::from_utf8(bytes.expose()).map_err(|_| damaged())?;
        Ok(Secret::new(text.to_owned()))
    }
}

pub(crate) fn find(tx: &mut Tx<'_>, id: &str) -> Result<Option<StoredKey>> {
    let row = tx.query_opt(
        "SELECT account_id, owner_id, active, sealed FROM iam_access_keys WHERE access_key_id = $1",
        params![id],
    )?;
    let stored = |row: Row| -> Result<StoredKey> {
        Ok(StoredKey {
            account: row.get(0)?,
            owner_id: row.get(1)?,
            active: row.get(2)?,
            sealed: row.get(3)?,
        })
    };
    row.map(stored).transpose()
}

/// The access keys of a user or root, oldest first.
///
/// # Errors
/// As the database answers.
pub fn list(tx: &mut Tx<'_>, owner: &Owner) -> Result<Vec<AccessKey>> {
    let rows = tx.query(
        "SELECT access_key_id, active, created_at FROM iam_access_keys \
         WHERE account_id = $1 AND owner_id = $2 ORDER BY created_at, access_key_id",
        params![owner.account(), owner.id()],
    )?;
    rows.iter()
        .map(|row| Ok(AccessKey { id: row.get(0)?, active: row.get(1)?, created_at: row.get(2)? }))
        .collect()
}

fn not_found(id: &str) -> Error {
    Error::missing(format!("The Access Key with id {id} cannot be found."))
}

/// Activates or deactivates a key.
///
/// # Errors
/// [`Error::NoSuchEntity`].
pub fn set_active(tx: &mut Tx<'_>, owner: &Owner, id: &str, active: bool) -> Result<()> {
    let changed = tx.execute(
        "UPDATE iam_access_keys SET active = $1 \
         WHERE account_id = $2 AND access_key_id = $3 AND owner_id = $4",
        params![active, owner.account(), id, owner.id()],
    )?;
    if changed == 0 { Err(not_found(id)) } else { Ok(()) }
}

/// Removes a key.
///
/// # Errors
/// [`Error::NoSuchEntity`].
pub fn delete(tx: &mut Tx<'_>, owner: &Owner, id: &str) -> Result<()> {
    let deleted = tx.execute(
        "DELETE FROM iam_access_keys \
         WHERE account_id = $1 AND access_key_id = $2 AND owner_id = $3",
        params![owner.account(), id, owner.id()],
    )?;
    last_use::forget(tx, owner.account(), id)?;
    if deleted == 0 { Err(not_found(id)) } else { Ok(()) }
}
