//! The keys of token issuers: handed over by whoever runs the server, or fetched from the issuer and
//! kept for a while.
//!
//! Fetching is somebody else's: this crate opens no connection. What is fetched decides about
//! signatures only and is never shown to a caller, so that an account's administrator who names an
//! address inside the server's network learns no more than whether a key set is there.

use crate::error::Error;
use crate::registry::BoxFuture;
use crate::world::World;
use awsproto::ErrorSpec;
use base::{AccountId, Timestamp};
use identity::oidc::Provider;
use identity::web_identity::{KeySet, TokenError, Unverified};
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// How long fetched keys are used without asking again.
const FRESH_SECONDS: i64 = 300;
/// How long after a fetch the issuer is left alone, however many tokens name an unknown key.
const PAUSE_SECONDS: i64 = 10;
/// Issuers whose keys are kept; when there are more, all are forgotten.
const KEPT_MAX: usize = 1024;

const INVALID_TOKEN: ErrorSpec = ErrorSpec::sender("InvalidIdentityToken", 400);
const EXPIRED_TOKEN: ErrorSpec = ErrorSpec::sender("ExpiredTokenException", 400);
const REJECTED_CLAIM: ErrorSpec = ErrorSpec::sender("IDPRejectedClaim", 403);
const COMMUNICATION: ErrorSpec = ErrorSpec::sender("IDPCommunicationError", 400);

/// Fetches documents over HTTPS.
pub trait IssuerDocuments: Send + Sync {
    /// The text at an `https://` address, of at most [`identity::oidc::KEYS_BYTES_MAX`] bytes. No
    /// redirection is followed. The server's certificate has to rest on one of these thumbprints
    /// (SHA-1, hexadecimal, lower case) or on an authority that whoever runs the server trusts.
    ///
    /// # Errors
    /// A sentence about why there is no text.
    fn fetch<'a>(
        &'a self,
        url: &'a str,
        thumbprints: &'a [String],
    ) -> BoxFuture<'a, Result<String, String>>;
}

/// What was fetched, and when.
#[derive(Clone)]
struct Kept {
    at: Timestamp,
    /// `None` after a fetch that failed.
    keys: Option<Arc<KeySet>>,
}

/// For what keys were fetched: a provider made anew, or with other thumbprints, trusts anew.
type Trusted = (AccountId, String, Timestamp, Vec<String>);

/// Fetched keys.
pub(crate) struct IssuerKeys {
    documents: Arc<dyn IssuerDocuments>,
    kept: Mutex<HashMap<Trusted, Kept>>,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

impl IssuerKeys {
    pub(crate) fn new(documents: Arc<dyn IssuerDocuments>) -> Self {
        Self { documents, kept: Mutex::default() }
    }

    /// The keys that a token of this provider has to be checked with.
    pub(crate) async fn of(
        &self,
        world: &World,
        provider: &Provider,
        token: &Unverified<'_>,
    ) -> Result<Arc<KeySet>, Error> {
        if let Some(text) = &provider.keys {
            let keys = KeySet::parse(text).map_err(|why| Error::new(COMMUNICATION, why))?;
            return Ok(Arc::new(keys));
        }
        let Provider { account, issuer, settings, created_at, .. } = provider;
        let key = (account.clone(), issuer.clone(), *created_at, settings.thumbprints.clone());
        let now = world.clock.now();
        let kept = self.lock().get(&key).cloned();
        if let Some(kept) = kept {
            let fits = kept.keys.as_ref().is_some_and(|keys| token.fits(keys));
            let patience = if fits { FRESH_SECONDS } else { PAUSE_SECONDS };
            if now < kept.at.plus_seconds(patience) {
                return kept.keys.ok_or_else(unreachable_issuer);
            }
        }
        let fetched = self.fetch(provider).await;
        let keys = fetched.as_ref().ok().cloned();
        let mut all = self.lock();
        if all.len() >= KEPT_MAX {
            all.clear();
        }
        all.insert(key, Kept { at: now, keys });
        drop(all);
        fetched.map_err(|why| {
            tracing::warn!(issuer = provider.issuer, why, "the keys of an issuer were not fetched");
            unreachable_issuer()
        })
    }

    async fn fetch(&self, provider: &Provider) -> Result<Arc<KeySet>, String> {
        let url = provider.url();
        let thumbprints = &provider.settings.thumbprints;
        let discovery = format!("{url}/.well-known/openid-configuration");
        let text = self.documents.fetch(&discovery, thumbprints).await?;
        let keys = keys_of(&text, &url).map_err(|error| format!("{discovery}: {error}"))?;
        let text = self.documents.fetch(&keys, thumbprints).await?;
        Ok(Arc::new(KeySet::parse(&text)?))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Trusted, Kept>> {
        // Every change is one insertion: what a panicking thread left is whole.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where the keys of the issuer at `url` are, as its discovery document says.
fn keys_of(document: &str, url: &str) -> Result<String, String> {
    let Discovery { issuer, jwks_uri } =
        serde_json::from_str(document).map_err(|error| error.to_string())?;
    // OpenID Connect Discovery, 4.3: both have to be the same.
    if issuer.trim_end_matches('/') != url {
        return Err(format!("the document of {url} is that of {issuer}"));
    }
    if !jwks_uri.starts_with("https://") {
        return Err(format!("the keys of {url} are not at an https address"));
    }
    Ok(jwks_uri)
}

fn unreachable_issuer() -> Error {
    let message = "An error occurred while retrieving the keys of the identity provider.";
    Error::new(COMMUNICATION, message)
}

/// A refused token in the words of STS.
pub(crate) fn refusal(error: TokenError) -> Error {
    let spec = match &error {
        TokenError::Invalid(_) => INVALID_TOKEN,
        TokenError::Expired { .. } => EXPIRED_TOKEN,
        TokenError::RejectedClaim(_) => REJECTED_CLAIM,
    };
    Error::new(spec, error.to_string())
}

/// An issuer that the account does not know.
pub(crate) fn unknown_issuer(issuer: &str) -> Error {
    let message = format!("No OpenIDConnect provider found in your account for {issuer}");
    Error::new(INVALID_TOKEN, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = r#"{"issuer":"https://oidc.example.org/id/","jwks_uri":"https://oidc.example.org/keys",
        "id_token_signing_alg_values_supported":["RS256"]}"#;

    #[test]
    fn only_the_document_of_an_issuer_says_where_its_keys_are() {
        let found = |document: &str| keys_of(document, "https://oidc.example.org/id");
        assert_eq!(found(DOCUMENT).unwrap(), "https://oidc.example.org/keys");
        assert!(found(&DOCUMENT.replace("/id/", "/other")).is_err());
        assert!(
            found(&DOCUMENT.replace("https://oidc.example.org/keys", "http://a/keys")).is_err()
        );
    }

    fuzz::target!(
        /// Whatever an issuer answers, its keys are looked for where they cannot be exchanged, or not at all.
        discovery_documents,
        vec![DOCUMENT.as_bytes().to_vec()],
        |bytes: &[u8]| {
            let Ok(text) = std::str::from_utf8(bytes) else { return };
            if let Ok(keys) = keys_of(text, "https://oidc.example.org/id") {
                let document: serde_json::Value = serde_json::from_str(text).expect("it was read");
                let issuer = document["issuer"].as_str().unwrap_or_default();
                assert_eq!(issuer.trim_end_matches('/'), "https://oidc.example.org/id");
                assert!(keys.starts_with("https://"));
            }
        }
    );
}
