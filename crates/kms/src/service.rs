//! The key service: what every operation needs besides its transaction.

use crate::domain_key::DomainKeys;
use crate::key_store::stores::{Clusters, Stores};
use crate::key_store::work::Performed;
use crate::policy::Parsed;
use crate::primitive::Key;
use crate::seal::Root;
use crate::{key_store, rotation, usage};
use base::{AccountId, Clock, Region, Rng, Secret};
use meta::{Db, Tx};
use std::sync::Arc;

/// Who exists. Owned here because policies and grants name principals; answered by whoever keeps them.
pub trait Directory: Send + Sync {
    /// Whether the account exists.
    ///
    /// # Errors
    /// As the database answers.
    fn account_exists(&self, tx: &mut Tx<'_>, account: &AccountId) -> meta::Result<bool>;

    /// The unique id (`AIDA…`, `AROA…`) of the user or role with this ARN.
    ///
    /// # Errors
    /// As the database answers.
    fn unique_id(&self, tx: &mut Tx<'_>, arn: &str) -> meta::Result<Option<String>>;

    /// The ARN of the user or role with this unique id.
    ///
    /// # Errors
    /// As the database answers.
    fn arn_of(&self, tx: &mut Tx<'_>, unique_id: &str) -> meta::Result<Option<String>>;
}

/// What [`Kms::open`] is built from.
pub struct Config {
    /// The unsealed root of trust.
    pub root: Arc<Root>,
    /// The regions served; each gets a domain key.
    pub regions: Vec<Region>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness for keys, nonces and ids.
    pub rng: Arc<dyn Rng>,
    /// Who exists.
    pub directory: Arc<dyn Directory>,
    /// The tokens that tenants may make key stores of.
    pub clusters: Clusters,
}

/// Why the key service cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database was filled under another root of trust.
    #[error(
        "the keys in the database of region {region} were sealed under another root of trust: this \
         database belongs to another seal.json, put the two that belong together back"
    )]
    OtherRoot {
        /// The first region found so.
        region: Region,
    },
    /// A domain key of this root of trust does not open.
    #[error(
        "domain key {number} of region {region} is damaged: restore the database from a backup"
    )]
    DomainKeyDamaged {
        /// Its region.
        region: Region,
        /// Its number.
        number: u32,
    },
    /// The region is not one of this server's.
    #[error("region {region} is not served here")]
    NotServed {
        /// The region asked for.
        region: Region,
    },
    /// The database failed.
    #[error("the domain keys cannot be read: {0}")]
    Store(#[from] meta::Error),
}

/// The key service. Clones share it. All methods work inside the caller's transaction, so a key and what is
/// made with it become durable together.
#[derive(Clone)]
pub struct Kms {
    inner: Arc<Inner>,
    /// What tokens answered to the operation that this value is for.
    answers: Vec<Arc<Performed>>,
}

struct Inner {
    domain_keys: DomainKeys,
    stores: Stores,
    store_password_key: Key,
    grant_token_key: Secret<[u8; 32]>,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
    directory: Arc<dyn Directory>,
    parsed_policies: Parsed,
}

impl Kms {
    /// Makes missing domain keys and unwraps all of them. The tables must have been migrated.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn open(db: &Db, config: Config) -> Result<Self, StartError> {
        let Config { root, regions, clock, rng, directory, clusters } = config;
        let grant_token_key = root.service_key("kms-grant-token1");
        let mut store_password_key = Key::zero();
        store_password_key
            .expose_mut()
            .copy_from_slice(root.service_key("key-store-password1").expose());
        let domain_keys = DomainKeys::open(db, root, regions, &clock, &rng).await?;
        let now = clock.now();
        db.write(move |tx| {
            usage::begin_tracking(tx, now)?;
            key_store::adopt_keys(tx)?;
            rotation::adopt_managed_keys(tx)
        })
        .await?;
        let parsed_policies = Parsed::default();
        let stores = Stores::new(clusters);
        let inner = Inner {
            domain_keys,
            stores,
            store_password_key,
            grant_token_key,
            clock,
            rng,
            directory,
            parsed_policies,
        };
        Ok(Self { inner: Arc::new(inner), answers: Vec::new() })
    }

    pub(crate) fn stores(&self) -> &Stores {
        &self.inner.stores
    }

    pub(crate) fn store_password_key(&self) -> &[u8; 32] {
        self.inner.store_password_key.expose()
    }

    pub(crate) fn answers(&self) -> &[Arc<Performed>] {
        &self.answers
    }

    pub(crate) fn with_answers(&self, answers: Vec<Arc<Performed>>) -> Self {
        Self { inner: Arc::clone(&self.inner), answers }
    }

    pub(crate) fn domain_keys(&self) -> &DomainKeys {
        &self.inner.domain_keys
    }

    /// Makes a region's next domain key; material made from now on is sealed under it. What is there already is
    /// moved by [`Kms::rewrap_step`]. Returns its number.
    ///
    /// # Errors
    /// See [`StartError`]; a region that is not served has none to rotate.
    pub async fn rotate_domain_key(&self, db: &Db, region: &Region) -> Result<u32, StartError> {
        let Inner { domain_keys, clock, rng, .. } = &*self.inner;
        if domain_keys.newest(region).is_err() {
            return Err(StartError::NotServed { region: region.clone() });
        }
        domain_keys.rotate(db, region, clock, rng).await
    }

    pub(crate) fn grant_token_key(&self) -> &[u8; 32] {
        self.inner.grant_token_key.expose()
    }

    pub(crate) fn parsed_policies(&self) -> &Parsed {
        &self.inner.parsed_policies
    }

    /// The present moment, as this service tells time.
    pub fn present(&self) -> base::Timestamp {
        self.now()
    }

    pub(crate) fn now(&self) -> base::Timestamp {
        self.inner.clock.now()
    }

    pub(crate) fn rng(&self) -> &dyn Rng {
        &*self.inner.rng
    }

    pub(crate) fn directory(&self) -> &dyn Directory {
        &*self.inner.directory
    }
}
