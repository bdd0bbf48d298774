//! What a provider's metadata document says: who it is, and with which keys it signs (SAML Metadata,
//! 2.3.2 and 2.4.3). Endpoints, contacts and the document's own signature are the account's affair,
//! which hands the document over.

use super::certificate::SigningKey;
use super::signature::{DS, base64_of};
use super::xml::{Text, named};
use base::Timestamp;
use roxmltree::Node;
use serde::{Deserialize, Serialize};

const MD: &str = "urn:oasis:names:tc:SAML:2.0:metadata";
const PROTOCOL: &str = "urn:oasis:names:tc:SAML:2.0:protocol";

/// The shortest and the longest document (IAM API, `SAMLMetadataDocument`).
const CHARS_MIN: usize = 1000;
const CHARS_MAX: usize = 10_000_000;
/// Longest name of a provider (SAML Core, 8.3.6).
const ENTITY_ID_CHARS_MAX: usize = 1024;
/// Keys of a provider (IAM guide, "IAM quotas": keys per SAML provider).
const KEYS_MAX: usize = 10;

/// What is kept of a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// Who signs: `entityID`.
    pub entity_id: String,
    /// With which keys.
    pub(super) keys: Vec<SigningKey>,
    /// Until when that is so, in milliseconds, if the document says.
    valid_until: Option<i64>,
}

impl Metadata {
    /// Reads a document.
    ///
    /// # Errors
    /// A sentence about what is wrong with it.
    pub fn read(text: &str) -> Result<Self, String> {
        let length = text.chars().count();
        if !(CHARS_MIN..=CHARS_MAX).contains(&length) {
            return Err(format!(
                "it has {length} characters, and has to have {CHARS_MIN} to {CHARS_MAX}"
            ));
        }
        let text = Text::new(text);
        let document = text.metadata()?;
        let entity = document.root_element();
        if !entity.has_tag_name((MD, "EntityDescriptor")) {
            return Err("it is not an EntityDescriptor".to_owned());
        }
        let entity_id = entity.attribute("entityID").unwrap_or_default();
        if !(1..=ENTITY_ID_CHARS_MAX).contains(&entity_id.chars().count()) {
            return Err("it has no entityID of 1 to 1024 characters".to_owned());
        }
        let mut until = instant(entity)?;
        let mut keys = Vec::new();
        let speaks = |node: &Node<'_, '_>| {
            let protocols = node.attribute("protocolSupportEnumeration").unwrap_or_default();
            protocols.split_whitespace().any(|protocol| protocol == PROTOCOL)
        };
        for descriptor in named(entity, (MD, "IDPSSODescriptor")).into_iter().filter(speaks) {
            until = match (until, instant(descriptor)?) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            };
            for key in keys_of(descriptor)? {
                if !keys.contains(&key) {
                    keys.push(key);
                }
            }
        }
        if keys.is_empty() {
            return Err("it has no IDPSSODescriptor of SAML 2.0 with a certificate for signatures"
                .to_owned());
        }
        if keys.len() > KEYS_MAX {
            return Err(format!("it has more than {KEYS_MAX} keys for signatures"));
        }
        let valid_until = until.map(|until| until.0);
        Ok(Self { entity_id: entity_id.to_owned(), keys, valid_until })
    }

    /// Until when the document says that it is true.
    pub fn valid_until(&self) -> Option<Timestamp> {
        self.valid_until.map(Timestamp)
    }
}

/// The keys for signatures: those for nothing else.
fn keys_of(descriptor: Node<'_, '_>) -> Result<Vec<SigningKey>, String> {
    let mut keys = Vec::new();
    for described in named(descriptor, (MD, "KeyDescriptor")) {
        if described.attribute("use").is_some_and(|purpose| purpose != "signing") {
            continue;
        }
        for info in named(described, (DS, "KeyInfo")) {
            for data in named(info, (DS, "X509Data")) {
                for certificate in named(data, (DS, "X509Certificate")) {
                    keys.push(SigningKey::of_certificate(&base64_of(certificate)?)?);
                }
            }
        }
    }
    Ok(keys)
}

fn instant(of: Node<'_, '_>) -> Result<Option<Timestamp>, String> {
    let Some(text) = of.attribute("validUntil") else { return Ok(None) };
    match Timestamp::parse_iso(text) {
        Some(until) => Ok(Some(until)),
        None => Err(format!("its validUntil {text:?} is not an instant")),
    }
}
