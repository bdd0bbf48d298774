//! The encoded message of an EC2 denial: the decision, sealed, so that only somebody who may call
//! `sts:DecodeAuthorizationMessage` learns which policy decided (spec 20, A.9).
//!
//! What is sealed is the decision as the trail keeps it, in the words of an explanation to the caller's
//! account (RFD 15), under the members that decoded messages have on AWS.
//!
//! Layout before base64url: version 1 byte, nonce 12, ciphertext, tag 16. AES-256-GCM; the version
//! is authenticated. The nonce is random: 2^32 denials under one service key stay far from a
//! collision.

use crate::decided::{Decided, DecisionId, Decisions};
use crate::explain::View;
use crate::explain::story::DecisionStory;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use base::{Rng, Secret};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use iam::{ContextValue, Reason};
use serde_json::{Value, json};

const VERSION: u8 = 1;
/// An encoded message longer than this was never ours.
const ENCODED_BYTES_MAX: usize = 256 * 1024;

/// Where a message names the decision it carries.
pub(crate) const EXPLAIN_ID: &str = "explainId";

/// Seals and opens decisions.
pub(crate) struct DecisionSealer(LessSafeKey);

/// The denial among decisions with the members that decoded messages have on AWS (STS API,
/// DecodeAuthorizationMessage). `decision` is its explanation, and [`EXPLAIN_ID`] leads to its record.
fn message(decisions: &Decisions, decided: &Decided, id: Option<&DecisionId>) -> Value {
    let denying = match &decided.reason {
        Reason::ExplicitDeny(statement) => Some(statement),
        Reason::AllowedByStatement(_)
        | Reason::AllowedByGrant { .. }
        | Reason::AllowedAsRoot
        | Reason::ImplicitDeny(_) => None,
    };
    let matched = denying.map(|statement| {
        json!({ "statementId": statement.sid, "effect": "DENY", "policy": statement.policy })
    });
    let principal = &decisions.principal;
    let view = View::of_denied(&principal.account, &decided.resource);
    let id = id.map(ToString::to_string);
    let story =
        DecisionStory::of(id.clone().unwrap_or_default(), decided, &principal.account, &view);
    let conditions: Vec<_> = story.context.iter().map(condition).collect();
    let mut message = json!({
        "allowed": decided.allowed,
        "explicitDeny": denying.is_some(),
        "matchedStatements": { "items": matched.into_iter().collect::<Vec<_>>() },
        "failures": { "items": [] },
        "context": {
            "principal": { "id": principal.user_id, "arn": principal.arn },
            "action": decided.action,
            "resource": decided.resource,
            "conditions": { "items": conditions },
        },
        "decision": story,
    });
    if let Some(id) = id {
        message[EXPLAIN_ID] = Value::String(id);
    }
    message
}

fn condition((key, value): (&str, &ContextValue)) -> Value {
    let item = |value: &str| json!({ "value": value });
    let items: Vec<_> = match value {
        ContextValue::Single(value) => vec![item(value)],
        ContextValue::Multi(values) => values.iter().map(|value| item(value)).collect(),
    };
    json!({ "key": key, "values": { "items": items } })
}

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

    /// The first denial among decisions as the caller may see it, with the id it is recorded under if
    /// it is.
    pub(crate) fn seal(
        &self,
        rng: &dyn Rng,
        decisions: &Decisions,
        id: Option<&DecisionId>,
    ) -> String {
        let denial = decisions.asks.iter().find(|ask| !ask.allowed);
        let denial = denial.expect("only a denial is sealed");
        let message = message(decisions, denial, id);
        let mut text = serde_json::to_vec(&message).expect("a decision becomes JSON");
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

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: [u8; NONCE_LEN] = [5; NONCE_LEN];

    fn sealer() -> DecisionSealer {
        DecisionSealer::new(&Secret::new([7; 32]))
    }

    /// A message of any bytes, as [`DecisionSealer::seal`] writes them.
    fn sealed(text: &[u8]) -> String {
        let mut text = text.to_vec();
        let (nonce, aad) = (Nonce::assume_unique_for_key(NONCE), Aad::from([VERSION]));
        sealer().0.seal_in_place_append_tag(nonce, aad, &mut text).expect("a short text");
        URL_SAFE_NO_PAD.encode([&[VERSION][..], &NONCE, &text].concat())
    }

    fuzz::target!(
        /// No message but one that was sealed is opened.
        encoded_messages,
        vec![sealed(b"{}").into_bytes()],
        |bytes: &[u8]| {
            let Ok(text) = std::str::from_utf8(bytes) else { return };
            let opened = sealer().open(text);
            assert_eq!(opened.is_ok(), text == sealed(b"{}"), "{opened:?}");
        }
    );

    fuzz::target!(
        /// What the seal has opened is told as it is, and bytes that are no text are not.
        opened_messages,
        vec![b"{\"allowed\":false}".to_vec()],
        |bytes: &[u8]| {
            let told = sealer().open(&sealed(bytes));
            assert_eq!(told.ok().as_deref(), std::str::from_utf8(bytes).ok());
        }
    );
}
