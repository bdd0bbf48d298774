//! Who is who: accounts, users, groups, roles, their policies and credentials.
//!
//! Rows and functions over a transaction of `meta`; the caller commits. Functions that only read or
//! that need nothing but rows are free; those that need time, randomness or the service's key are
//! methods of [`Identity`]. Names are resolved here, decisions are made by `iam`, and nothing here
//! knows the wire.
//!
//! Two things hold throughout. Everything that hangs on a user, group, role or policy is kept under its
//! unique id, so a re-created one inherits nothing. And nothing that decides is kept here except parsed
//! texts by their content, so a revoked permission is gone with the transaction that revokes it.

pub mod access_key;
pub mod account;
pub mod alias;
pub mod attachment;
mod aws_managed;
mod credential;
pub mod directory;
mod document;
pub mod entity;
mod error;
pub mod group;
pub mod inline;
pub mod instance_profile;
pub mod last_use;
mod layers;
pub mod linked_role;
pub mod login;
pub mod managed;
mod name;
pub mod oidc;
pub mod role;
pub mod saml;
mod schema;
mod seal;
pub mod session;
pub mod session_key;
pub mod summary;
pub mod tag;
pub mod vouched;
pub mod web_identity;

pub use credential::{Credential, host_principal};
pub use entity::{Entity, Kind};
pub use error::{CredentialError, Error, Result};
pub use layers::inline_name;
pub use name::{Listed, Page};
pub use schema::MIGRATIONS;

use base::{Clock, Rng, Secret, Timestamp};
use std::sync::Arc;

/// What [`Identity::new`] is built from.
pub struct Config {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness for ids, secrets and salts.
    pub rng: Arc<dyn Rng>,
    /// A key that is the same at every start and used for nothing else: secrets of access keys are
    /// sealed under it, and session tokens.
    pub service_key: Secret<[u8; 32]>,
}

/// What the functions that make credentials and ids share. Clones share it.
#[derive(Clone)]
pub struct Identity {
    inner: Arc<Inner>,
}

struct Inner {
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
    secrets_key: seal::SealingKey,
    tokens_key: seal::SealingKey,
    parsed: document::Parsed,
}

impl Identity {
    /// Puts the parts together. The tables must have been migrated before anything is called.
    pub fn new(config: Config) -> Self {
        let Config { clock, rng, service_key } = config;
        Self {
            inner: Arc::new(Inner {
                clock,
                rng,
                secrets_key: seal::SealingKey::new(&service_key, "identity-secrets1"),
                tokens_key: seal::SealingKey::new(&service_key, "identity-tokens1"),
                parsed: document::Parsed::default(),
            }),
        }
    }

    fn now(&self) -> Timestamp {
        self.inner.clock.now()
    }

    fn rng(&self) -> &dyn Rng {
        &*self.inner.rng
    }

    fn secrets_key(&self) -> &seal::SealingKey {
        &self.inner.secrets_key
    }

    fn tokens_key(&self) -> &seal::SealingKey {
        &self.inner.tokens_key
    }

    fn parsed(&self) -> &document::Parsed {
        &self.inner.parsed
    }
}
