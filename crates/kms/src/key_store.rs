//! Custom key stores: key material that is made on a PKCS#11 token and never leaves it.
//!
//! A store is one token. The API's `CloudHsmClusterId` names it; the person who runs the server says which
//! token that is ([`Clusters`]), so a tenant reaches no token that was not meant for tenants. `KeyStorePassword` is
//! the PIN of the token's user, kept sealed. A `TrustAnchorCertificate` is required as AWS requires it; it
//! is compared with the operator's where there is one, and otherwise kept and shown, no more: there is no
//! connection here that it could vouch for.
//!
//! This module is rows and rules. What a token is asked to do is in [`work`], and who is logged in where in [`stores`].

pub mod stores;
pub mod work;

use crate::error::{Error, Result};
use crate::key::{self, Key};
use crate::origin::KeyOrigin;
use crate::primitive::{self, NONCE_LEN, push_field};
use crate::service::Kms;
use crate::state::KeyState;
use base::{AccountId, Region, Secret, Timestamp};
use meta::{Row, Tx, params};
use stores::Cluster;

/// Stores per account and region (KMS guide, "Quotas": 10).
pub const STORES_MAX: u32 = 10;
/// Longest name (botocore: CustomKeyStoreNameType).
pub const NAME_CHARS_MAX: usize = 256;
/// Length of a password (botocore: KeyStorePasswordType).
pub const PASSWORD_CHARS: std::ops::RangeInclusive<usize> = 7..=32;

/// Whether a store's keys can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionState {
    /// They can.
    Connected,
    /// The token is being logged in to.
    Connecting,
    /// The last attempt failed, for this reason.
    Failed(ConnectionError),
    /// Nobody is to log in.
    Disconnected,
}

impl ConnectionState {
    /// The word of the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connected => "CONNECTED",
            Self::Connecting => "CONNECTING",
            Self::Failed(_) => "FAILED",
            Self::Disconnected => "DISCONNECTED",
        }
    }

    /// Why the last attempt failed.
    pub fn error(self) -> Option<ConnectionError> {
        match self {
            Self::Failed(error) => Some(error),
            Self::Connected | Self::Connecting | Self::Disconnected => None,
        }
    }

    fn parse(state: &str, error: Option<&str>) -> Option<Self> {
        Some(match (state, error) {
            ("CONNECTED", None) => Self::Connected,
            ("CONNECTING", None) => Self::Connecting,
            ("DISCONNECTED", None) => Self::Disconnected,
            ("FAILED", Some(error)) => Self::Failed(ConnectionError::parse(error)?),
            _ => return None,
        })
    }
}

/// `ConnectionErrorCode`, as far as a token gives cause for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionError {
    /// The PIN is refused.
    InvalidCredentials,
    /// The PIN may not be tried any more.
    UserLockedOut,
    /// The token is not there.
    ClusterNotFound,
    /// The token went away under way, or did not answer in time.
    NetworkErrors,
    /// Anything else.
    InternalError,
}

impl ConnectionError {
    const ALL: [Self; 5] = [
        Self::InvalidCredentials,
        Self::UserLockedOut,
        Self::ClusterNotFound,
        Self::NetworkErrors,
        Self::InternalError,
    ];

    /// The word of the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidCredentials => "INVALID_CREDENTIALS",
            Self::UserLockedOut => "USER_LOCKED_OUT",
            Self::ClusterNotFound => "CLUSTER_NOT_FOUND",
            Self::NetworkErrors => "NETWORK_ERRORS",
            Self::InternalError => "INTERNAL_ERROR",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|error| error.as_str() == text)
    }
}

/// A custom key store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyStore {
    /// Owner.
    pub account: AccountId,
    /// Where.
    pub region: Region,
    /// `cks-…`.
    pub id: String,
    /// What its owner calls it.
    pub name: String,
    /// `CloudHsmClusterId`.
    pub cluster: String,
    /// PEM, as given.
    pub trust_anchor: String,
    /// The PIN, sealed.
    password: Vec<u8>,
    /// Whether its keys can be used.
    pub state: ConnectionState,
    /// When it was made.
    pub created: Timestamp,
}

impl KeyStore {
    fn not_found(id: &str) -> Error {
        Error::KeyStoreNotFound { id: id.to_owned() }
    }

    /// # Errors
    /// [`Error::KeyStoreState`] unless nobody is or wants to be logged in.
    fn must_be_disconnected(&self) -> Result<()> {
        match self.state {
            ConnectionState::Disconnected => Ok(()),
            state => Err(Error::KeyStoreState { id: self.id.clone(), state: state.as_str() }),
        }
    }
}

/// What CreateCustomKeyStore is asked for.
#[derive(Debug)]
pub struct NewKeyStore<'a> {
    /// Owner.
    pub account: &'a AccountId,
    /// Where.
    pub region: &'a Region,
    /// What its owner calls it.
    pub name: &'a str,
    /// `CloudHsmClusterId`.
    pub cluster: &'a str,
    /// PEM.
    pub trust_anchor: &'a str,
    /// The PIN.
    pub password: &'a Secret<String>,
}

/// What UpdateCustomKeyStore changes.
#[derive(Debug, Default)]
pub struct Changes<'a> {
    /// `NewCustomKeyStoreName`.
    pub name: Option<&'a str>,
    /// `KeyStorePassword`.
    pub password: Option<&'a Secret<String>>,
    /// `CloudHsmClusterId`.
    pub cluster: Option<&'a str>,
}

const COLUMNS: &str = "account_id, region, store_id, name, cluster_id, trust_anchor, password, state, \
                       error, created_at";

fn read(row: &Row) -> Result<KeyStore> {
    let id: String = row.get(2)?;
    let (state, error): (String, Option<String>) = (row.get(7)?, row.get(8)?);
    let state = ConnectionState::parse(&state, error.as_deref());
    Ok(KeyStore {
        account: row.get(0)?,
        region: row.get(1)?,
        name: row.get(3)?,
        cluster: row.get(4)?,
        trust_anchor: row.get(5)?,
        password: row.get(6)?,
        state: state.ok_or_else(|| Error::RowDamaged { arn: id.clone(), what: "state" })?,
        created: row.get(9)?,
        id,
    })
}

/// The stores of an account in a region behind a name, by name.
///
/// # Errors
/// As the database answers.
pub fn list(
    tx: &mut Tx<'_>,
    account: &AccountId,
    region: &Region,
    after: &str,
    limit: u32,
) -> Result<Vec<KeyStore>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM kms_key_stores WHERE account_id = $1 AND region = $2 AND name > $3 \
         ORDER BY name LIMIT $4"
    );
    tx.query(&sql, params![account, region, after, limit])?.iter().map(read).collect()
}

/// Every store of a region.
///
/// # Errors
/// As the database answers.
pub fn of_region(tx: &mut Tx<'_>, region: &Region) -> Result<Vec<KeyStore>> {
    let sql = format!("SELECT {COLUMNS} FROM kms_key_stores WHERE region = $1 ORDER BY store_id");
    tx.query(&sql, params![region])?.iter().map(read).collect()
}

/// A store by its id.
///
/// # Errors
/// [`Error::KeyStoreNotFound`].
pub fn get(tx: &mut Tx<'_>, account: &AccountId, region: &Region, id: &str) -> Result<KeyStore> {
    let sql = format!(
        "SELECT {COLUMNS} FROM kms_key_stores WHERE account_id = $1 AND region = $2 AND store_id = $3"
    );
    let row = tx.query_opt(&sql, params![account, region, id])?;
    row.as_ref().map(read).transpose()?.ok_or_else(|| KeyStore::not_found(id))
}

/// A store by its name.
///
/// # Errors
/// [`Error::KeyStoreNotFound`].
pub fn named(
    tx: &mut Tx<'_>,
    account: &AccountId,
    region: &Region,
    name: &str,
) -> Result<KeyStore> {
    find_named(tx, account, region, name)?.ok_or_else(|| KeyStore::not_found(name))
}

fn find_named(
    tx: &mut Tx<'_>,
    account: &AccountId,
    region: &Region,
    name: &str,
) -> Result<Option<KeyStore>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM kms_key_stores WHERE account_id = $1 AND region = $2 AND name = $3"
    );
    tx.query_opt(&sql, params![account, region, name])?.as_ref().map(read).transpose()
}

/// The store that holds a key's material; `None` for a key without one.
///
/// # Errors
/// As the database answers.
pub fn of_key(tx: &mut Tx<'_>, key: &Key) -> Result<Option<KeyStore>> {
    let row = tx.query_opt(
        "SELECT store_id FROM kms_store_keys WHERE account_id = $1 AND region = $2 AND key_id = $3",
        params![&key.account, &key.region, &key.id],
    )?;
    match row {
        Some(row) => get(tx, &key.account, &key.region, &row.get::<String>(0)?).map(Some),
        None => Ok(None),
    }
}

/// The state of a key as it is shown and as operations meet it: unless the store that holds its material is
/// connected, a key is neither enabled nor disabled but unavailable (KMS guide, "Key states"). What the row says
/// comes back with the store.
///
/// # Errors
/// As the database answers.
pub fn shown_state(tx: &mut Tx<'_>, key: &Key) -> Result<KeyState> {
    match (key.origin, key.state) {
        (KeyOrigin::AwsCloudHsm, KeyState::Enabled | KeyState::Disabled) => {}
        (_, state) => return Ok(state),
    }
    let store = of_key(tx, key)?;
    let reachable = store.is_none_or(|store| store.state == ConnectionState::Connected);
    Ok(if reachable { key.state } else { KeyState::Unavailable })
}

/// Sets a store's state.
///
/// # Errors
/// As the database answers.
pub fn set_state(tx: &mut Tx<'_>, store: &KeyStore, state: ConnectionState) -> Result<()> {
    tx.execute(
        "UPDATE kms_key_stores SET state = $1, error = $2 \
         WHERE account_id = $3 AND region = $4 AND store_id = $5",
        params![
            state.as_str(),
            state.error().map(ConnectionError::as_str),
            &store.account,
            &store.region,
            &store.id,
        ],
    )?;
    Ok(())
}

/// ConnectCustomKeyStore, first half: the store is connecting. The token is to be asked afterwards, unless the
/// answer is `false`: then the store is connected, or somebody is at it.
///
/// # Errors
/// [`Error::KeyStoreState`] when the last attempt failed: the store is to be disconnected first (botocore:
/// CustomKeyStoreInvalidStateException), so that nobody tries a wrong PIN until the token locks its user out.
pub fn begin_connect(tx: &mut Tx<'_>, store: &KeyStore) -> Result<bool> {
    match store.state {
        ConnectionState::Disconnected => {
            set_state(tx, store, ConnectionState::Connecting)?;
            Ok(true)
        }
        ConnectionState::Connected | ConnectionState::Connecting => Ok(false),
        ConnectionState::Failed(_) => {
            Err(Error::KeyStoreState { id: store.id.clone(), state: store.state.as_str() })
        }
    }
}

/// ConnectCustomKeyStore, second half, unless somebody disconnected it meanwhile.
///
/// # Errors
/// As the database answers.
pub fn end_connect(tx: &mut Tx<'_>, store: &KeyStore, state: ConnectionState) -> Result<()> {
    match get(tx, &store.account, &store.region, &store.id) {
        Ok(now) if now.state == ConnectionState::Connecting => set_state(tx, store, state),
        Ok(_) | Err(Error::KeyStoreNotFound { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// DisconnectCustomKeyStore.
///
/// # Errors
/// [`Error::KeyStoreState`] when it is disconnected.
pub fn disconnect(tx: &mut Tx<'_>, store: &KeyStore) -> Result<()> {
    match store.state {
        ConnectionState::Disconnected => {
            Err(Error::KeyStoreState { id: store.id.clone(), state: store.state.as_str() })
        }
        _ => set_state(tx, store, ConnectionState::Disconnected),
    }
}

/// DeleteCustomKeyStore: the record goes; what is on the token stays there.
///
/// # Errors
/// [`Error::KeyStoreHasKeys`], [`Error::KeyStoreState`].
pub fn delete(tx: &mut Tx<'_>, store: &KeyStore) -> Result<()> {
    store.must_be_disconnected()?;
    let row = tx.query_opt(
        "SELECT key_id FROM kms_store_keys WHERE account_id = $1 AND region = $2 AND store_id = $3 \
         ORDER BY key_id LIMIT 1",
        params![&store.account, &store.region, &store.id],
    )?;
    if row.is_some() {
        return Err(Error::KeyStoreHasKeys { id: store.id.clone() });
    }
    for table in ["kms_key_stores", "kms_token_garbage"] {
        tx.execute(
            &format!("DELETE FROM {table} WHERE account_id = $1 AND region = $2 AND store_id = $3"),
            params![&store.account, &store.region, &store.id],
        )?;
    }
    Ok(())
}

/// Binds a key that was just made to the store that holds its material, in the same transaction.
pub(crate) fn bind(tx: &mut Tx<'_>, key: &Key, store: &KeyStore) -> Result<()> {
    tx.execute(
        "INSERT INTO kms_store_keys (account_id, region, key_id, store_id) VALUES ($1, $2, $3, $4)",
        params![&key.account, &key.region, &key.id, &store.id],
    )?;
    Ok(())
}

/// Gives keys in stores of earlier releases, whose rows did not say where material comes from, their origin.
pub(crate) fn adopt_keys(tx: &mut Tx<'_>) -> meta::Result<()> {
    tx.execute(
        "UPDATE kms_keys SET origin = $1 WHERE origin <> $1 AND EXISTS (SELECT 1 FROM kms_store_keys \
         WHERE kms_store_keys.account_id = kms_keys.account_id \
         AND kms_store_keys.region = kms_keys.region AND kms_store_keys.key_id = kms_keys.key_id)",
        params![KeyOrigin::AwsCloudHsm.as_str()],
    )?;
    Ok(())
}

/// Notes what is to be destroyed on the token, in the transaction that destroys the key's record.
pub(crate) fn release(tx: &mut Tx<'_>, key: &Key) -> Result<()> {
    let Some(store) = of_key(tx, key)? else { return Ok(()) };
    tx.execute(
        "INSERT INTO kms_token_garbage (account_id, region, store_id, label) VALUES ($1, $2, $3, $4) \
         ON CONFLICT DO NOTHING",
        params![&key.account, &key.region, &store.id, work::label(key.material_id)],
    )?;
    tx.execute(
        "DELETE FROM kms_store_keys WHERE account_id = $1 AND region = $2 AND key_id = $3",
        params![&key.account, &key.region, &key.id],
    )?;
    Ok(())
}

/// Labels of key material that a store's token still holds although its keys are destroyed.
///
/// # Errors
/// As the database answers.
pub fn garbage(tx: &mut Tx<'_>, store: &KeyStore, limit: u32) -> Result<Vec<String>> {
    let rows = tx.query(
        "SELECT label FROM kms_token_garbage WHERE account_id = $1 AND region = $2 AND store_id = $3 \
         ORDER BY label LIMIT $4",
        params![&store.account, &store.region, &store.id, limit],
    )?;
    Ok(rows.iter().map(|row| row.get(0)).collect::<meta::Result<_>>()?)
}

/// Forgets a label that the token no longer holds.
///
/// # Errors
/// As the database answers.
pub fn forget(tx: &mut Tx<'_>, store: &KeyStore, label: &str) -> Result<()> {
    tx.execute(
        "DELETE FROM kms_token_garbage \
         WHERE account_id = $1 AND region = $2 AND store_id = $3 AND label = $4",
        params![&store.account, &store.region, &store.id, label],
    )?;
    Ok(())
}

fn check_name(name: &str) -> Result<()> {
    if (1..=NAME_CHARS_MAX).contains(&name.chars().count()) {
        return Ok(());
    }
    Err(Error::validation(format!(
        "1 validation error detected: Value at 'customKeyStoreName' failed to satisfy constraint: \
         Member must have length between 1 and {NAME_CHARS_MAX}"
    )))
}

fn check_password(password: &Secret<String>) -> Result<()> {
    if PASSWORD_CHARS.contains(&password.expose().chars().count()) {
        return Ok(());
    }
    let (min, max) = (PASSWORD_CHARS.start(), PASSWORD_CHARS.end());
    Err(Error::validation(format!(
        "1 validation error detected: Value at 'keyStorePassword' failed to satisfy constraint: Member \
         must have length between {min} and {max}"
    )))
}

impl Kms {
    /// CreateCustomKeyStore: disconnected at first. The token is not asked.
    ///
    /// # Errors
    /// See the exceptions of the operation.
    pub fn create_key_store(&self, tx: &mut Tx<'_>, new: &NewKeyStore<'_>) -> Result<KeyStore> {
        check_name(new.name)?;
        check_password(new.password)?;
        let cluster = self.cluster(new.cluster)?;
        check_anchor(cluster, new.trust_anchor)?;
        self.check_free(tx, new.cluster, None)?;
        if find_named(tx, new.account, new.region, new.name)?.is_some() {
            return Err(Error::KeyStoreNameInUse { name: new.name.to_owned() });
        }
        if list(tx, new.account, new.region, "", STORES_MAX)?.len() >= STORES_MAX as usize {
            return Err(Error::LimitExceeded {
                message: format!("An account may have {STORES_MAX} custom key stores in a Region."),
            });
        }
        let mut suffix = [0; 9];
        self.rng().fill(&mut suffix);
        let mut store = KeyStore {
            account: new.account.clone(),
            region: new.region.clone(),
            id: format!("cks-{}", &hex::encode(suffix)[..17]),
            name: new.name.to_owned(),
            cluster: new.cluster.to_owned(),
            trust_anchor: new.trust_anchor.to_owned(),
            password: Vec::new(),
            state: ConnectionState::Disconnected,
            created: self.now(),
        };
        store.password = self.seal_password(&store, new.password);
        let sql = format!(
            "INSERT INTO kms_key_stores ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"
        );
        tx.execute(
            &sql,
            params![
                &store.account,
                &store.region,
                &store.id,
                &store.name,
                &store.cluster,
                &store.trust_anchor,
                store.password.clone(),
                store.state.as_str(),
                None::<String>,
                store.created,
            ],
        )?;
        Ok(store)
    }

    /// UpdateCustomKeyStore.
    ///
    /// # Errors
    /// See the exceptions of the operation.
    pub fn update_key_store(
        &self,
        tx: &mut Tx<'_>,
        store: &KeyStore,
        changes: &Changes<'_>,
    ) -> Result<()> {
        // A name may be changed while keys are used (botocore: NewCustomKeyStoreName); where the token is and how it
        // is logged in to may not.
        let renames_only =
            changes.name.is_some() && changes.password.is_none() && changes.cluster.is_none();
        if !(renames_only && store.state == ConnectionState::Connected) {
            store.must_be_disconnected()?;
        }
        let mut new = store.clone();
        if let Some(name) = changes.name {
            check_name(name)?;
            let taken = find_named(tx, &store.account, &store.region, name)?;
            if taken.is_some_and(|taken| taken.id != store.id) {
                return Err(Error::KeyStoreNameInUse { name: name.to_owned() });
            }
            new.name = name.to_owned();
        }
        let pin = match changes.password {
            Some(password) => {
                check_password(password)?;
                password.duplicate()
            }
            None => self.open_password(store)?,
        };
        if let Some(cluster) = changes.cluster {
            check_anchor(self.cluster(cluster)?, &store.trust_anchor)?;
            self.check_free(tx, cluster, Some(&store.id))?;
            // A cluster is related when it holds the same keys; that is seen when they are used.
            new.cluster = cluster.to_owned();
        }
        new.password = self.seal_password(&new, &pin);
        tx.execute(
            "UPDATE kms_key_stores SET name = $1, cluster_id = $2, password = $3 \
             WHERE account_id = $4 AND region = $5 AND store_id = $6",
            params![
                &new.name,
                &new.cluster,
                new.password,
                &store.account,
                &store.region,
                &store.id,
            ],
        )?;
        Ok(())
    }

    fn cluster(&self, id: &str) -> Result<&Cluster> {
        self.stores().cluster(id).ok_or_else(|| Error::ClusterNotFound { id: id.to_owned() })
    }

    /// A token serves one store, whoever owns it: two would see each other's keys.
    fn check_free(&self, tx: &mut Tx<'_>, cluster: &str, own: Option<&str>) -> Result<()> {
        let rows = tx.query(
            "SELECT store_id FROM kms_key_stores WHERE cluster_id = $1 ORDER BY store_id",
            params![cluster],
        )?;
        for row in &rows {
            if own != Some(row.get::<String>(0)?.as_str()) {
                return Err(Error::ClusterInUse { id: cluster.to_owned() });
            }
        }
        Ok(())
    }

    fn seal_password(&self, store: &KeyStore, password: &Secret<String>) -> Vec<u8> {
        let nonce = primitive::random_nonce(self.rng());
        let text = password.expose().as_bytes();
        let mut sealed = Vec::with_capacity(text.len() + primitive::TAG_LEN);
        sealed.extend_from_slice(text);
        let aad = password_context(store);
        primitive::seal(self.store_password_key(), nonce, &aad, &mut sealed);
        [&nonce[..], &sealed].concat()
    }

    pub(crate) fn open_password(&self, store: &KeyStore) -> Result<Secret<String>> {
        let damaged = || Error::RowDamaged { arn: store.id.clone(), what: "password" };
        let (nonce, sealed) =
            store.password.split_first_chunk::<NONCE_LEN>().ok_or_else(damaged)?;
        let aad = password_context(store);
        let opened = primitive::open(self.store_password_key(), *nonce, &aad, sealed);
        let opened = opened.map_err(|_| damaged())?;
        let text = std::str::from_utf8(opened.expose()).map_err(|_| damaged())?;
        Ok(Secret::new(text.to_owned()))
    }

    /// Makes a key in a store. Its material was made on the store's token before, under [`work::label`].
    ///
    /// # Errors
    /// As [`Kms::create_key`], and the store's state.
    pub fn create_key_in_store(
        &self,
        tx: &mut Tx<'_>,
        new: &key::NewKey<'_>,
        store_id: &str,
    ) -> Result<Key> {
        let store = get(tx, new.account, new.region, store_id)?;
        if store.state != ConnectionState::Connected {
            return Err(Error::KeyStoreState { id: store.id, state: store.state.as_str() });
        }
        let key = self.create_key(tx, new)?;
        bind(tx, &key, &store)?;
        Ok(key)
    }
}

fn password_context(store: &KeyStore) -> Vec<u8> {
    let mut aad = b"cks1".to_vec();
    push_field(&mut aad, store.account.as_str().as_bytes());
    push_field(&mut aad, store.region.as_str().as_bytes());
    push_field(&mut aad, store.id.as_bytes());
    push_field(&mut aad, store.cluster.as_bytes());
    aad
}

/// A certificate there must be; which one, only the operator can say.
fn check_anchor(cluster: &Cluster, given: &str) -> Result<()> {
    let wrong = || Error::IncorrectTrustAnchor;
    let given = stores::certificate(given).ok_or_else(wrong)?;
    match &cluster.trust_anchor {
        Some(expected) if *expected != given => Err(wrong()),
        _ => Ok(()),
    }
}
