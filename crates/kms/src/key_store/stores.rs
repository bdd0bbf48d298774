//! Which tokens there are, and which of them this process is logged in to.

use super::work::{Answer, Performed, TokenWork};
use super::{ConnectionError, KeyStore};
use crate::error::{Error, Result};
use crate::service::Kms;
use crate::token::{Token, TokenError, TokenName};
use base::Secret;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A token that tenants may make a store of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// The token.
    pub token: TokenName,
    /// The certificate (DER) that a store's trust anchor must be; any when `None`.
    pub trust_anchor: Option<Vec<u8>>,
}

/// The tokens that the operator offers, by the `CloudHsmClusterId` that names each.
pub type Clusters = BTreeMap<String, Cluster>;

/// The first certificate of a PEM text, in DER. What is in it is not looked at.
pub fn certificate(pem: &str) -> Option<Vec<u8>> {
    let body = pem.split_once("-----BEGIN CERTIFICATE-----")?.1;
    let body = body.split_once("-----END CERTIFICATE-----")?.0;
    let text: String = body.split_ascii_whitespace().collect();
    STANDARD.decode(text).ok().filter(|der| der.first() == Some(&0x30))
}

/// Tokens in use, by the id of their store.
#[derive(Default)]
pub(crate) struct Stores {
    clusters: Clusters,
    open: Mutex<BTreeMap<String, Arc<Token>>>,
}

impl fmt::Debug for Stores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stores").field("clusters", &self.clusters).finish_non_exhaustive()
    }
}

impl Stores {
    pub(crate) fn new(clusters: Clusters) -> Self {
        Self { clusters, open: Mutex::default() }
    }

    pub(super) fn cluster(&self, id: &str) -> Option<&Cluster> {
        self.clusters.get(id)
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Token>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The token of a store, logged in. Waits for the device.
    fn token(
        &self,
        store: &str,
        cluster: &str,
        pin: &Secret<String>,
    ) -> Result<Arc<Token>, Absence> {
        if let Some(token) = self.open().get(store) {
            return Ok(Arc::clone(token));
        }
        let cluster = self.cluster(cluster).ok_or(Absence::NotConfigured)?;
        let pin = Secret::new(pin.expose().as_bytes().to_vec());
        let token = Arc::new(Token::open(&cluster.token, &pin)?);
        // Two callers may both have logged in; both are good, and the first one's is kept.
        Ok(Arc::clone(self.open().entry(store.to_owned()).or_insert(token)))
    }

    fn close(&self, store: &str) {
        self.open().remove(store);
    }
}

/// Why a store's token cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Absence {
    /// The operator no longer offers it.
    #[error("the cluster is not configured on this server")]
    NotConfigured,
    /// The token's own words.
    #[error(transparent)]
    Token(#[from] TokenError),
}

impl Absence {
    fn code(&self) -> ConnectionError {
        match self {
            Self::NotConfigured | Self::Token(TokenError::Absent { .. }) => {
                ConnectionError::ClusterNotFound
            }
            Self::Token(TokenError::PinWrong { .. } | TokenError::PinMalformed { .. }) => {
                ConnectionError::InvalidCredentials
            }
            Self::Token(TokenError::PinLocked { .. }) => ConnectionError::UserLockedOut,
            Self::Token(TokenError::Gone { .. }) => ConnectionError::NetworkErrors,
            Self::Token(_) => ConnectionError::InternalError,
        }
    }
}

impl Kms {
    /// Logs in to a store's token. Waits for the device: call it on a thread of its own.
    ///
    /// # Errors
    /// The reason, as the API says it; the token's words go to the log.
    pub fn connect_key_store(&self, store: &KeyStore) -> Result<(), ConnectionError> {
        // A login that is still open would hide a password that is wrong now.
        self.stores().close(&store.id);
        let pin = self.open_password(store).map_err(|_| ConnectionError::InternalError)?;
        match self.stores().token(&store.id, &store.cluster, &pin) {
            Ok(_) => Ok(()),
            Err(absence) => Err(absence.code()),
        }
    }

    /// Logs out of a store's token.
    pub fn disconnect_key_store(&self, id: &str) {
        self.stores().close(id);
    }

    /// Makes key material on a store's token. Waits for the device.
    ///
    /// # Errors
    /// [`Error::KeyStoreAway`].
    pub fn make_on_token(&self, store: &KeyStore, label: &str) -> Result<()> {
        self.on_token(store, |token| token.make_key(label))
    }

    /// Destroys key material on a store's token. Waits for the device.
    ///
    /// # Errors
    /// [`Error::KeyStoreAway`].
    pub fn destroy_on_token(&self, store: &KeyStore, label: &str) -> Result<()> {
        self.on_token(store, |token| token.destroy_key(label))
    }

    /// Random bytes made by a store's token. Waits for the device.
    ///
    /// # Errors
    /// [`Error::KeyStoreAway`].
    pub fn random_on_token(&self, store: &KeyStore, target: &mut [u8]) -> Result<()> {
        self.on_token(store, |token| token.random(target))
    }

    fn on_token<T>(
        &self,
        store: &KeyStore,
        work: impl FnOnce(&Token) -> Result<T, TokenError>,
    ) -> Result<T> {
        let pin = self.open_password(store)?;
        let away =
            |source: Absence| Error::KeyStoreAway { id: store.id.clone(), cause: Box::new(source) };
        let token = self.stores().token(&store.id, &store.cluster, &pin).map_err(away)?;
        work(&token).map_err(|error| {
            // The next caller logs in again; a token that came back is found that way.
            self.stores().close(&store.id);
            away(error.into())
        })
    }

    /// Does what an operation asked of a token. Waits for the device: call it on a thread of its own.
    ///
    /// # Errors
    /// [`Error::KeyStoreAway`], [`Error::InvalidCiphertext`].
    pub fn perform(&self, work: TokenWork) -> Result<Performed> {
        let TokenWork { store, label, task } = work;
        let answer: Answer = self.on_token(&store, |token| task.run(token, &label, self.rng()))?;
        Ok(Performed { label, task, answer })
    }
}
