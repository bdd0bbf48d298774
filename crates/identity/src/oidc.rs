//! OpenID Connect providers: issuers of tokens that an account trusts to say who somebody is.

use crate::Identity;
use crate::error::{Error, Result};
use crate::tag::{self, Tags};
use base::{AccountId, Arn, Timestamp};
use meta::{Row, Tx, params};
use serde::{Deserialize, Serialize};

/// How many an account may have (IAM guide, "IAM quotas").
pub const PROVIDERS_MAX: u64 = 100;
/// How many audiences a provider may be for.
const CLIENT_IDS_MAX: usize = 100;
/// How many certificates may be named.
const THUMBPRINTS_MAX: usize = 5;
/// Longest URL and longest client id (IAM API).
const TEXT_CHARS_MAX: usize = 255;
/// The longest key document that is kept or read.
pub const KEYS_BYTES_MAX: usize = 64 * 1024;

/// A provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provider {
    /// Whose.
    pub account: AccountId,
    /// The issuer without `https://`: `oidc.example.org/cluster/1`.
    pub issuer: String,
    /// What is kept with it.
    pub settings: Settings,
    /// When it was made.
    pub created_at: Timestamp,
    /// Its keys, when they were handed over instead of being fetched from the issuer.
    pub keys: Option<String>,
}

/// What can be changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// The audiences whose tokens are accepted.
    pub client_ids: Vec<String>,
    /// SHA-1 of certificates, in hex, one of which the issuer's has to rest on.
    pub thumbprints: Vec<String>,
}

impl Provider {
    /// `arn:aws:iam::111122223333:oidc-provider/oidc.example.org/cluster/1`.
    pub fn arn(&self) -> Arn {
        arn(&self.account, &self.issuer)
    }

    /// The issuer as tokens name it.
    pub fn url(&self) -> String {
        format!("https://{}", self.issuer)
    }
}

/// The ARN of an issuer in an account.
pub fn arn(account: &AccountId, issuer: &str) -> Arn {
    Arn::global("iam", account, &format!("oidc-provider/{issuer}"))
}

/// The issuer in an ARN of a provider of this account.
///
/// # Errors
/// [`Error::InvalidInput`] for what is no such ARN.
pub fn issuer_of(arn: &str) -> Result<String> {
    let parsed = Arn::parse(arn).filter(|arn| arn.service == "iam" && arn.region.is_empty());
    let issuer =
        parsed.and_then(|arn| Some(arn.resource.strip_prefix("oidc-provider/")?.to_owned()));
    issuer.filter(|issuer| !issuer.is_empty()).ok_or_else(|| Error::InvalidInput {
        message: format!("Invalid ARN: {arn} is not the ARN of an OpenID Connect provider."),
    })
}

/// The issuer of a URL as it stands in an ARN.
///
/// # Errors
/// [`Error::InvalidInput`] for what is no URL of an issuer: `https`, no query, no fragment.
pub fn issuer_of_url(url: &str) -> Result<String> {
    let invalid = |why: &str| Error::InvalidInput {
        message: format!("Invalid Open ID Connect Provider URL: {why}"),
    };
    if url.chars().count() > TEXT_CHARS_MAX {
        return Err(invalid("it is longer than 255 characters"));
    }
    let issuer =
        url.strip_prefix("https://").ok_or_else(|| invalid("it must begin with https://"))?;
    let issuer = issuer.trim_end_matches('/');
    let host = issuer.split('/').next().unwrap_or_default();
    let legal = |c: char| c.is_ascii_alphanumeric() || "-._~:/[]%@!$&'()*+,;=".contains(c);
    if host.is_empty() || host.contains('@') || !issuer.chars().all(legal) {
        return Err(invalid("it is not a host with a path, or it has a query or a fragment"));
    }
    Ok(issuer.to_owned())
}

fn check_client_id(id: &str) -> Result<()> {
    if (1..=TEXT_CHARS_MAX).contains(&id.chars().count()) && !id.chars().any(char::is_control) {
        return Ok(());
    }
    Err(Error::InvalidInput { message: "A client id has 1 to 255 characters.".to_owned() })
}

/// Checks what is kept with a provider; thumbprints are kept in lower case.
fn checked(settings: &Settings) -> Result<Settings> {
    for id in &settings.client_ids {
        check_client_id(id)?;
    }
    if settings.client_ids.len() > CLIENT_IDS_MAX {
        let message =
            format!("Cannot exceed quota for ClientIdsPerOpenIdConnectProvider: {CLIENT_IDS_MAX}");
        return Err(Error::LimitExceeded { message });
    }
    if settings.thumbprints.len() > THUMBPRINTS_MAX {
        let message = "Thumbprint list must contain fewer than 5 entries.".to_owned();
        return Err(Error::InvalidInput { message });
    }
    let thumbprint = |text: &String| {
        let legal = text.len() == 40 && text.bytes().all(|b| b.is_ascii_hexdigit());
        legal.then(|| text.to_ascii_lowercase()).ok_or_else(|| Error::InvalidInput {
            message: "A thumbprint is 40 hexadecimal digits.".to_owned(),
        })
    };
    let thumbprints = settings.thumbprints.iter().map(thumbprint).collect::<Result<_>>()?;
    let mut client_ids = settings.client_ids.clone();
    client_ids.sort();
    client_ids.dedup();
    Ok(Settings { client_ids, thumbprints })
}

fn to_text(settings: &Settings) -> String {
    serde_json::to_string(settings).expect("lists of texts serialize")
}

const COLUMNS: &str = "account_id, issuer, settings, created_at, keys";

fn from_row(row: &Row) -> Result<Provider> {
    let issuer: String = row.get(1)?;
    let settings = serde_json::from_str(&row.get::<String>(2)?)
        .map_err(|_| Error::damaged(format!("the provider {issuer}")))?;
    Ok(Provider {
        account: row.get(0)?,
        issuer,
        settings,
        created_at: row.get(3)?,
        keys: row.get(4)?,
    })
}

impl Identity {
    /// Makes a provider.
    ///
    /// # Errors
    /// URL, client ids, thumbprints, tags and quota as AWS checks them;
    /// [`Error::EntityAlreadyExists`].
    pub fn create_oidc_provider(
        &self,
        tx: &mut Tx<'_>,
        account: &AccountId,
        issuer: &str,
        settings: &Settings,
        tags: &Tags,
    ) -> Result<Provider> {
        let settings = checked(settings)?;
        tag::check(tags)?;
        let row = tx.query_opt(
            "SELECT COUNT(*) FROM iam_oidc_providers WHERE account_id = $1",
            params![account],
        )?;
        if row.map_or(Ok(0), |row| row.get::<u64>(0))? >= PROVIDERS_MAX {
            let message = format!(
                "Cannot exceed quota for OpenIdConnectProvidersPerAccount: {PROVIDERS_MAX}"
            );
            return Err(Error::LimitExceeded { message });
        }
        let created_at = self.now();
        let provider = Provider {
            account: account.clone(),
            issuer: issuer.to_owned(),
            settings,
            created_at,
            keys: None,
        };
        let inserted = tx.execute(
            "INSERT INTO iam_oidc_providers (account_id, issuer, settings, created_at) \
             VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
            params![account, issuer, to_text(&provider.settings), created_at],
        )?;
        if inserted == 0 {
            let url = provider.url();
            let message = format!("Provider with url {url} already exists.");
            return Err(Error::EntityAlreadyExists { message });
        }
        tag::put(tx, account, &tag_id(&provider), tags)?;
        Ok(provider)
    }
}

/// Under what the tags of a provider are kept: no unique id looks like an ARN.
pub fn tag_id(provider: &Provider) -> String {
    provider.arn().to_string()
}

/// The provider of an issuer.
///
/// # Errors
/// [`Error::NoSuchEntity`].
pub fn find(tx: &mut Tx<'_>, account: &AccountId, issuer: &str) -> Result<Provider> {
    let row = tx.query_opt(
        &format!("SELECT {COLUMNS} FROM iam_oidc_providers WHERE account_id = $1 AND issuer = $2"),
        params![account, issuer],
    )?;
    let missing = || {
        let arn = arn(account, issuer);
        Error::missing(format!("OpenIDConnect Provider not found for arn {arn}"))
    };
    from_row(&row.ok_or_else(missing)?)
}

/// The providers of an account, by issuer.
///
/// # Errors
/// As the database answers.
pub fn list(tx: &mut Tx<'_>, account: &AccountId) -> Result<Vec<Provider>> {
    let rows = tx.query(
        &format!("SELECT {COLUMNS} FROM iam_oidc_providers WHERE account_id = $1 ORDER BY issuer"),
        params![account],
    )?;
    rows.iter().map(from_row).collect()
}

/// Replaces what can be changed.
///
/// # Errors
/// As when it is made.
pub fn set(tx: &mut Tx<'_>, provider: &Provider, settings: &Settings) -> Result<()> {
    let settings = checked(settings)?;
    tx.execute(
        "UPDATE iam_oidc_providers SET settings = $1 WHERE account_id = $2 AND issuer = $3",
        params![to_text(&settings), &provider.account, &provider.issuer],
    )?;
    Ok(())
}

/// Hands over the issuer's keys, so that they are not fetched; `None` to have them fetched again.
///
/// # Errors
/// [`Error::InvalidInput`] for what is no key document.
pub fn set_keys(tx: &mut Tx<'_>, provider: &Provider, keys: Option<&str>) -> Result<()> {
    tx.execute(
        "UPDATE iam_oidc_providers SET keys = $1 WHERE account_id = $2 AND issuer = $3",
        params![keys, &provider.account, &provider.issuer],
    )?;
    Ok(())
}

/// The thumbprint of a certificate: SHA-1 in lower-case hexadecimal (IAM API, `ThumbprintList`).
pub fn thumbprint(certificate: &[u8]) -> String {
    let sha1 = &aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY;
    hex::encode(aws_lc_rs::digest::digest(sha1, certificate))
}

/// Removes a provider. Roles that trust it keep their policies, which then let nobody in.
///
/// # Errors
/// As the database answers.
pub fn delete(tx: &mut Tx<'_>, provider: &Provider) -> Result<()> {
    tag::delete_all(tx, &provider.account, &tag_id(provider))?;
    tx.execute(
        "DELETE FROM iam_oidc_providers WHERE account_id = $1 AND issuer = $2",
        params![&provider.account, &provider.issuer],
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_issuers() {
        assert_eq!(
            issuer_of_url("https://oidc.example.org/id/1/").unwrap(),
            "oidc.example.org/id/1"
        );
        assert_eq!(issuer_of_url("https://127.0.0.1:8443").unwrap(), "127.0.0.1:8443");
        for bad in [
            "http://a.org",
            "https://",
            "https:///x",
            "https://a.org?x",
            "https://a@b.org",
            "https://a b",
        ] {
            assert!(issuer_of_url(bad).is_err(), "{bad}");
        }
        let arn = "arn:aws:iam::111122223333:oidc-provider/oidc.example.org/id/1";
        assert_eq!(issuer_of(arn).unwrap(), "oidc.example.org/id/1");
        assert!(issuer_of("arn:aws:iam::111122223333:role/x").is_err());
    }
}
