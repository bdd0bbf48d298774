//! SAML providers: identity providers whose signed responses an account trusts to say who somebody is
//! (RFD 24).

mod attributes;
mod c14n;
mod certificate;
mod encrypted;
mod metadata;
pub mod private_key;
mod response;
mod signature;
mod xml;

#[cfg(test)]
mod tests;

pub use attributes::Values;
pub use metadata::Metadata;

use crate::Identity;
use crate::error::{Error, Result};
use crate::name::{UNIQUE_ID_TAIL, unique_id};
use crate::tag::{self, Tags};
use crate::vouched::Vouched;
use base::{AccountId, Arn, Secret, Timestamp};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use meta::{Row, Tx, params};
use private_key::PrivateKeys;
use std::collections::BTreeMap;

/// How many an account may have (IAM guide, "IAM quotas").
pub const PROVIDERS_MAX: u64 = 100;
/// Longest name (IAM API).
const NAME_CHARS_MAX: usize = 128;
/// Until when a provider is good whose metadata does not say.
const DEFAULT_YEARS: i64 = 100;
const YEAR_SECONDS: i64 = 31_557_600;
/// What begins the names of forms of names that replies and conditions show without it.
const FORMAT_PREFIX: &str = "urn:oasis:names:tc:SAML:2.0:nameid-format:";

/// Why a response is worth nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SamlError {
    /// `InvalidIdentityToken`.
    #[error("{0}")]
    Invalid(String),
    /// `ExpiredTokenException`.
    #[error("{0}")]
    Expired(String),
    /// `IDPRejectedClaim`: the provider itself, or an instant, speaks against it.
    #[error("{0}")]
    Rejected(String),
}

/// What a provider vouches for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// Who vouches: `Issuer`.
    pub issuer: String,
    /// Who it is: `NameID`.
    pub subject: String,
    /// In which form of name, as a URI.
    format: String,
    /// Where the response was sent to: `Recipient`.
    pub recipient: String,
    /// Roles that may be taken, each with the provider that has to be named with it.
    roles: Vec<(String, String)>,
    /// What sessions are called.
    pub session_name: String,
    /// The most seconds a session may last.
    pub seconds_max: Option<i64>,
    /// When a session ends at the latest.
    pub ends_by: Option<Timestamp>,
    /// Tags of the session.
    pub tags: Tags,
    /// Keys of tags that a further role inherits.
    pub transitive_tag_keys: Vec<String>,
    /// Who is behind it.
    pub source_identity: Option<String>,
    /// Values of condition keys that come from attributes.
    pub keys: BTreeMap<String, (Values, Vec<String>)>,
}

impl Claims {
    /// Whether it is for this role by this provider.
    pub fn is_for(&self, role_arn: &str, provider_arn: &str) -> bool {
        self.roles.iter().any(|(role, provider)| role == role_arn && provider == provider_arn)
    }

    /// The form of the name as replies show it: without the prefix of SAML 2.0 (STS API, `SubjectType`).
    pub fn subject_type(&self) -> &str {
        self.format.strip_prefix(FORMAT_PREFIX).unwrap_or(&self.format)
    }

    /// `saml:sub_type`: `persistent`, `transient`, or the whole URI.
    pub fn sub_type(&self) -> &str {
        match self.subject_type() {
            short @ ("persistent" | "transient") => short,
            _ => &self.format,
        }
    }
}

/// `AssertionEncryptionMode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncryptionMode {
    /// Every assertion has to be encrypted.
    Required,
    /// Assertions may be encrypted.
    Allowed,
}

impl EncryptionMode {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Required, Self::Allowed];

    /// The word of the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Required => "Required",
            Self::Allowed => "Allowed",
        }
    }
}

/// What a request says of encryption; what it does not name stays.
#[derive(Debug, Default)]
pub struct Encryption {
    /// Whether assertions have to be encrypted.
    pub mode: Option<EncryptionMode>,
    /// One more private key, in PEM.
    pub add: Option<Secret<String>>,
    /// The id of a private key to be forgotten.
    pub remove: Option<String>,
}

impl Encryption {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.mode.is_none() && self.add.is_none() && self.remove.is_none()
    }
}

/// A provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provider {
    /// Whose.
    pub account: AccountId,
    /// Its name in the account.
    pub name: String,
    /// `SAMLP…`; what its own sign-in address ends with.
    pub unique_id: String,
    /// What its metadata says.
    pub metadata: Metadata,
    /// Until when it is good.
    pub valid_until: Timestamp,
    /// When it was made.
    pub created_at: Timestamp,
    /// Whether assertions have to be encrypted; nobody has said so for most.
    pub encryption: Option<EncryptionMode>,
}

impl Provider {
    /// `arn:aws:iam::111122223333:saml-provider/ExampleCorp`.
    pub fn arn(&self) -> Arn {
        arn(&self.account, &self.name)
    }

    /// What tells its subjects from those of others (STS API, `NameQualifier`). SHA-1 because the API
    /// says so; nothing rests on it.
    pub fn name_qualifier(&self) -> String {
        let sha1 = &aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY;
        let text = format!("{}{}/{}", self.metadata.entity_id, self.account, self.name);
        STANDARD.encode(aws_lc_rs::digest::digest(sha1, text.as_bytes()))
    }

    /// Checks a response (base64) and reads what it claims.
    ///
    /// # Errors
    /// [`SamlError`].
    pub fn check(
        &self,
        response: &str,
        private_keys: &PrivateKeys,
        now: Timestamp,
    ) -> std::result::Result<Vouched<Self, Claims>, SamlError> {
        if now >= self.valid_until {
            let message = "The metadata of the specified provider has expired";
            return Err(SamlError::Invalid(message.to_owned()));
        }
        let expected = response::Expected {
            entity_id: &self.metadata.entity_id,
            keys: &self.metadata.keys,
            private_keys,
            encryption: self.encryption,
            unique_id: &self.unique_id,
            now,
        };
        let claims = response::check(response, &expected)?;
        Ok(Vouched::new(self.clone(), claims))
    }
}

/// The ARN of a provider in an account.
pub fn arn(account: &AccountId, name: &str) -> Arn {
    Arn::global("iam", account, &format!("saml-provider/{name}"))
}

/// The account and the name in an ARN of a provider.
///
/// # Errors
/// [`Error::InvalidInput`] for what is no such ARN.
pub fn named(arn: &str) -> Result<(AccountId, String)> {
    let parsed = Arn::parse(arn).filter(|arn| arn.service == "iam" && arn.region.is_empty());
    let parts = parsed.and_then(|arn| {
        let name = arn.resource.strip_prefix("saml-provider/")?;
        Some((AccountId::parse(&arn.account).ok()?, name.to_owned()))
    });
    parts.filter(|(_, name)| is_name(name)).ok_or_else(|| Error::InvalidInput {
        message: format!("Invalid ARN: {arn} is not the ARN of a SAML provider."),
    })
}

fn is_name(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    (1..=NAME_CHARS_MAX).contains(&name.len()) && name.chars().all(legal)
}

const COLUMNS: &str =
    "account_id, name, unique_id, metadata, valid_until, created_at, encryption_mode";

fn from_row(row: &Row) -> Result<Provider> {
    let name: String = row.get(1)?;
    let damaged = || Error::damaged(format!("the SAML provider {name}"));
    let metadata = serde_json::from_str(&row.get::<String>(3)?).map_err(|_| damaged())?;
    let mode = |text: String| EncryptionMode::ALL.into_iter().find(|mode| mode.as_str() == text);
    let encryption: Option<String> = row.get(6)?;
    let encryption = encryption.map(|text| mode(text).ok_or_else(damaged)).transpose()?;
    Ok(Provider {
        account: row.get(0)?,
        name,
        unique_id: row.get(2)?,
        metadata,
        valid_until: row.get(4)?,
        created_at: row.get(5)?,
        encryption,
    })
}

fn to_text(metadata: &Metadata) -> String {
    serde_json::to_string(metadata).expect("texts and bytes serialize")
}

impl Identity {
    /// Reads a metadata document that has to be good from now on, and says until when it is.
    fn metadata(&self, document: &str) -> Result<(Metadata, Timestamp)> {
        let now = self.now();
        let read = Metadata::read(document).and_then(|metadata| {
            let until = metadata.valid_until();
            let until = until.unwrap_or_else(|| now.plus_seconds(DEFAULT_YEARS * YEAR_SECONDS));
            if until <= now {
                return Err(format!("it was valid until {}", until.iso_seconds()));
            }
            Ok((metadata, until))
        });
        read.map_err(|why| Error::InvalidInput {
            message: format!("Could not parse metadata: {why}"),
        })
    }

    /// Makes a provider.
    ///
    /// # Errors
    /// Name, document, encryption, tags and quota as AWS checks them; [`Error::EntityAlreadyExists`].
    pub fn create_saml_provider(
        &self,
        tx: &mut Tx<'_>,
        account: &AccountId,
        name: &str,
        document: &str,
        encryption: &Encryption,
        tags: &Tags,
    ) -> Result<Provider> {
        if !is_name(name) {
            return Err(Error::validation(format!(
                "1 validation error detected: Value '{name}' at 'name' failed to satisfy \
                 constraint: Member must satisfy regular expression pattern: [\\w._-]+"
            )));
        }
        let (metadata, valid_until) = self.metadata(document)?;
        tag::check(tags)?;
        let row = tx.query_opt(
            "SELECT COUNT(*) FROM iam_saml_providers WHERE account_id = $1",
            params![account],
        )?;
        if row.map_or(Ok(0), |row| row.get::<u64>(0))? >= PROVIDERS_MAX {
            let message =
                format!("Cannot exceed quota for SAMLProvidersPerAccount: {PROVIDERS_MAX}");
            return Err(Error::LimitExceeded { message });
        }
        let mut provider = Provider {
            account: account.clone(),
            name: name.to_owned(),
            unique_id: unique_id(self.rng(), "SAMLP", UNIQUE_ID_TAIL),
            metadata,
            valid_until,
            created_at: self.now(),
            encryption: None,
        };
        let inserted = tx.execute(
            "INSERT INTO iam_saml_providers \
             (account_id, name, unique_id, document, metadata, valid_until, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
            params![
                account,
                name,
                &provider.unique_id,
                document,
                to_text(&provider.metadata),
                valid_until,
                provider.created_at
            ],
        )?;
        if inserted == 0 {
            let message = format!("SAMLProvider with name {name} already exists.");
            return Err(Error::EntityAlreadyExists { message });
        }
        tag::put(tx, account, &tag_id(&provider), tags)?;
        self.encrypt_saml_provider(tx, &mut provider, encryption)?;
        Ok(provider)
    }

    /// Replaces what is given of a provider: its metadata document, whose keys are then the only ones that are
    /// trusted, and how assertions are encrypted.
    ///
    /// # Errors
    /// As when it is made; [`Error::NoSuchEntity`] for a private key that is not there.
    pub fn update_saml_provider(
        &self,
        tx: &mut Tx<'_>,
        provider: &mut Provider,
        document: Option<&str>,
        encryption: &Encryption,
    ) -> Result<()> {
        if let Some(document) = document {
            let (metadata, valid_until) = self.metadata(document)?;
            let text = to_text(&metadata);
            tx.execute(
                "UPDATE iam_saml_providers SET document = $1, metadata = $2, valid_until = $3 \
                 WHERE account_id = $4 AND name = $5",
                params![document, text, valid_until, &provider.account, &provider.name],
            )?;
        }
        self.encrypt_saml_provider(tx, provider, encryption)
    }

    /// A key is added before one is removed, so that no request leaves a moment without any.
    fn encrypt_saml_provider(
        &self,
        tx: &mut Tx<'_>,
        provider: &mut Provider,
        encryption: &Encryption,
    ) -> Result<()> {
        if encryption.is_empty() {
            return Ok(());
        }
        if let Some(pem) = &encryption.add {
            self.add_private_key(tx, provider, pem)?;
        }
        if let Some(id) = &encryption.remove {
            private_key::remove(tx, provider, id)?;
        }
        let with_key = encryption.add.as_ref().map(|_| EncryptionMode::Allowed);
        provider.encryption = encryption.mode.or(provider.encryption).or(with_key);
        let required = provider.encryption == Some(EncryptionMode::Required);
        if required && private_key::list(tx, provider)?.is_empty() {
            let message =
                "A provider that requires encrypted assertions has to have a private key.";
            return Err(Error::InvalidInput { message: message.to_owned() });
        }
        tx.execute(
            "UPDATE iam_saml_providers SET encryption_mode = $1 WHERE account_id = $2 AND name = $3",
            params![
                provider.encryption.map(EncryptionMode::as_str),
                &provider.account,
                &provider.name
            ],
        )?;
        Ok(())
    }
}

/// Under what the tags of a provider are kept: no unique id looks like an ARN.
pub fn tag_id(provider: &Provider) -> String {
    provider.arn().to_string()
}

/// The provider of a name.
///
/// # Errors
/// [`Error::NoSuchEntity`].
pub fn find(tx: &mut Tx<'_>, account: &AccountId, name: &str) -> Result<Provider> {
    let row = tx.query_opt(
        &format!("SELECT {COLUMNS} FROM iam_saml_providers WHERE account_id = $1 AND name = $2"),
        params![account, name],
    )?;
    let missing = || {
        let arn = arn(account, name);
        Error::missing(format!("Manifest not found for arn {arn}"))
    };
    from_row(&row.ok_or_else(missing)?)
}

/// A provider's metadata document, as it was handed over.
///
/// # Errors
/// As the database answers.
pub fn document(tx: &mut Tx<'_>, provider: &Provider) -> Result<String> {
    let row = tx.query_opt(
        "SELECT document FROM iam_saml_providers WHERE account_id = $1 AND name = $2",
        params![&provider.account, &provider.name],
    )?;
    let row = row.ok_or_else(|| Error::damaged(format!("the SAML provider {}", provider.name)))?;
    Ok(row.get(0)?)
}

/// The providers of an account, by name.
///
/// # Errors
/// As the database answers.
pub fn list(tx: &mut Tx<'_>, account: &AccountId) -> Result<Vec<Provider>> {
    let rows = tx.query(
        &format!("SELECT {COLUMNS} FROM iam_saml_providers WHERE account_id = $1 ORDER BY name"),
        params![account],
    )?;
    rows.iter().map(from_row).collect()
}

/// Removes a provider. Roles that trust it keep their policies, which then let nobody in.
///
/// # Errors
/// As the database answers.
pub fn delete(tx: &mut Tx<'_>, provider: &Provider) -> Result<()> {
    tag::delete_all(tx, &provider.account, &tag_id(provider))?;
    private_key::remove_all(tx, provider)?;
    tx.execute(
        "DELETE FROM iam_saml_providers WHERE account_id = $1 AND name = $2",
        params![&provider.account, &provider.name],
    )?;
    Ok(())
}
