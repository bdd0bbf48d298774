//! The encoded message of an EC2 denial: the decision, sealed, so that only somebody who may call
//! `sts:DecodeAuthorizationMessage` learns which policy decided (spec 20, A.9).
//!
//! Layout before base64url: version 1 byte, nonce 12, ciphertext, tag 16. AES-256-GCM; the version
//! is authenticated. The nonce is random: 2^32 denials under one service key stay far from a
//! collision.

use crate::decided::DecisionId;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use base::{Rng, Secret};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use iam::Decision;
use serde::Serialize;

const VERSION: u8 = 1;
/// An encoded message longer than this was never ours.
const ENCODED_BYTES_MAX: usize = 256 * 1024;

/// What is sealed: the members of the decision, and where to ask why.
#[derive(Serialize)]
struct Sealed<'a> {
    #[serde(flatten)]
    decision: &'a Decision,
    #[serde(skip_serializing_if = "Option::is_none")]
    explain_id: Option<String>,
}

/// Seals and opens decisions.
pub(crate) struct DecisionSealer(LessSafeKey);

/// The text is no sealed decision of this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotOurs;

impl DecisionSealer {
    /// Uses a service key of its own.
    pub(crate) fn new(service_key: &Secret<[u8; 32]>) -> Self {
        let key =
            UnboundKey::new(&AES_256_GCM, service_key.expose()).expect("the cipher takes 32 bytes");
        Self(LessSafeKey::new(key))
    }

    /// The decision as the caller may see it, with the id it is recorded under if it is.
    pub(crate) fn seal(
        &self,
        rng: &dyn Rng,
        decision: &Decision,
        id: Option<&DecisionId>,
    ) -> String {
        let sealed = Sealed { decision, explain_id: id.map(ToString::to_string) };
        let mut text = serde_json::to_vec(&sealed).expect("a decision becomes JSON");
        let mut nonce = [0u8; NONCE_LEN];
        rng.fill(&mut nonce);
        let sealed = self.0.seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from([VERSION]),
            &mut text,
        );
        sealed.expect("a decision is below the cipher's limit");
        let bytes: Vec<u8> = [VERSION].into_iter().chain(nonce).chain(text).collect();
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The JSON text that was sealed.
    pub(crate) fn open(&self, encoded: &str) -> Result<String, NotOurs> {
        if encoded.len() > ENCODED_BYTES_MAX {
            return Err(NotOurs);
        }
        let bytes = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| NotOurs)?;
        let (head, sealed) = bytes.split_at_checked(1 + NONCE_LEN).ok_or(NotOurs)?;
        let (version, nonce) = head.split_first().ok_or(NotOurs)?;
        if *version != VERSION {
            return Err(NotOurs);
        }
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| NotOurs)?;
        let mut text = sealed.to_vec();
        let opened = self.0.open_in_place(nonce, Aad::from([VERSION]), &mut text);
        String::from_utf8(opened.map_err(|_| NotOurs)?.to_vec()).map_err(|_| NotOurs)
    }
}
