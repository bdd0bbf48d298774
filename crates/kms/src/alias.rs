//! Aliases: names for keys, unique per account and region (spec 20, B.7).

use crate::error::{Error, Result};
use crate::key::{self, Key};
use crate::managed;
use crate::service::Kms;
use base::{AccountId, Arn, Region, Timestamp};
use meta::{Row, Tx, params};

/// What every alias begins with.
pub const PREFIX: &str = "alias/";
/// What only a service's aliases begin with.
pub const RESERVED_PREFIX: &str = "alias/aws/";
/// Aliases per key.
pub const ALIASES_PER_KEY_MAX: usize = 50;
/// Longest alias, with its prefix (botocore: AliasNameType).
pub const ALIAS_CHARS_MAX: usize = 256;

/// One alias.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alias {
    /// Owner.
    pub account: AccountId,
    /// Where.
    pub region: Region,
    /// With its prefix: `alias/backup`.
    pub name: String,
    /// The key it stands for; `None` for a service's alias whose key nobody has needed yet.
    pub key_id: Option<String>,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// When it was last pointed elsewhere.
    pub updated: Option<Timestamp>,
}

impl Alias {
    /// The alias's ARN.
    pub fn arn(&self) -> Arn {
        arn(&self.account, &self.region, &self.name)
    }
}

/// The ARN of an alias.
pub fn arn(account: &AccountId, region: &Region, name: &str) -> Arn {
    Arn::regional("kms", region, account, name)
}

/// Whether CreateAlias takes this name.
///
/// # Errors
/// [`Error::InvalidAliasName`] for a reserved or misspelt name.
pub fn check_name(name: &str) -> Result<()> {
    let bad = |message: &str| Err(Error::InvalidAliasName { message: message.to_owned() });
    let Some(rest) = name.strip_prefix(PREFIX) else {
        return bad("Alias must start with the prefix \"alias/\". Please see \
                    http://docs.aws.amazon.com/kms/latest/developerguide/programming-aliases.html");
    };
    if name.starts_with(RESERVED_PREFIX) {
        return bad("Aliases beginning with alias/aws/ are reserved for AWS managed keys");
    }
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"/_-".contains(&b);
    if rest.is_empty() || name.len() > ALIAS_CHARS_MAX || !rest.bytes().all(legal) {
        return bad("Alias contains invalid characters or has an invalid length");
    }
    Ok(())
}

/// Whether UpdateAlias and DeleteAlias take this name. Their model lists no `InvalidAliasNameException`, so that
/// what is wrong with it is a `ValidationException`.
///
/// # Errors
/// [`Error::Validation`] for a reserved or misspelt name.
pub fn check_known(name: &str) -> Result<()> {
    check_name(name).map_err(|error| Error::validation(error.to_string()))
}

const COLUMNS: &str = "account_id, region, name, key_id, created_at, updated_at";

fn read(row: &Row) -> meta::Result<Alias> {
    Ok(Alias {
        account: row.get(0)?,
        region: row.get(1)?,
        name: row.get(2)?,
        key_id: Some(row.get(3)?),
        created: Some(row.get(4)?),
        updated: Some(row.get(5)?),
    })
}

/// Reads an alias.
///
/// # Errors
/// [`Error::AliasNotFound`].
pub fn get(tx: &mut Tx<'_>, account: &AccountId, region: &Region, name: &str) -> Result<Alias> {
    find(tx, account, region, name)?
        .ok_or_else(|| Error::AliasNotFound { arn: arn(account, region, name).to_string() })
}

pub(crate) fn find(
    tx: &mut Tx<'_>,
    account: &AccountId,
    region: &Region,
    name: &str,
) -> Result<Option<Alias>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM kms_aliases WHERE account_id = $1 AND region = $2 AND name = $3"
    );
    Ok(tx.query_opt(&sql, params![account, region, name])?.as_ref().map(read).transpose()?)
}

/// A page of an account's aliases, by name, with those that services reserve.
///
/// # Errors
/// As the database answers.
pub fn list(
    tx: &mut Tx<'_>,
    account: &AccountId,
    region: &Region,
    after: &str,
    limit: u32,
) -> Result<Vec<Alias>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM kms_aliases WHERE account_id = $1 AND region = $2 AND name > $3 \
         ORDER BY name LIMIT $4"
    );
    let rows = tx.query(&sql, params![account, region, after, limit])?;
    let mut aliases = rows.iter().map(read).collect::<meta::Result<Vec<_>>>()?;
    // A service's alias is listed without a key before the key exists (spec 20, B.5).
    let name = managed::EBS_ALIAS;
    if name > after && find(tx, account, region, name)?.is_none() {
        let position = aliases.partition_point(|alias| alias.name.as_str() < name);
        aliases.insert(
            position,
            Alias {
                account: account.clone(),
                region: region.clone(),
                name: name.to_owned(),
                key_id: None,
                created: None,
                updated: None,
            },
        );
        aliases.truncate(limit as usize);
    }
    Ok(aliases)
}

/// A page of one key's aliases, by name.
///
/// # Errors
/// As the database answers.
pub fn of_key(tx: &mut Tx<'_>, key: &Key, after: &str, limit: u32) -> Result<Vec<Alias>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM kms_aliases \
         WHERE account_id = $1 AND region = $2 AND key_id = $3 AND name > $4 ORDER BY name LIMIT $5"
    );
    let rows = tx.query(&sql, params![&key.account, &key.region, &key.id, after, limit])?;
    Ok(rows.iter().map(read).collect::<meta::Result<_>>()?)
}

impl Kms {
    /// CreateAlias.
    ///
    /// # Errors
    /// A bad or taken name, or too many aliases of the key.
    pub fn create_alias(&self, tx: &mut Tx<'_>, name: &str, key: &Key) -> Result<()> {
        check_name(name)?;
        check_quota(tx, key)?;
        self.insert_alias(tx, name, key)
    }

    pub(crate) fn insert_alias(&self, tx: &mut Tx<'_>, name: &str, key: &Key) -> Result<()> {
        let now = self.now();
        let sql = format!(
            "INSERT INTO kms_aliases ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6) \
             ON CONFLICT DO NOTHING"
        );
        let inserted =
            tx.execute(&sql, params![&key.account, &key.region, name, &key.id, now, now])?;
        if inserted == 0 {
            let arn = arn(&key.account, &key.region, name).to_string();
            return Err(Error::AliasExists { arn });
        }
        Ok(())
    }

    /// UpdateAlias: points an alias at another key of the same account and region. Type and usage stay.
    ///
    /// # Errors
    /// [`Error::Validation`] when the keys differ in them, [`Error::LimitExceeded`] when the new key has too many
    /// aliases already.
    pub fn update_alias(&self, tx: &mut Tx<'_>, alias: &Alias, key: &Key) -> Result<()> {
        match &alias.key_id {
            Some(id) if *id == key.id => {}
            Some(id) => {
                check_alike(&key::get(tx, &alias.account, &alias.region, id)?, key)?;
                check_quota(tx, key)?;
            }
            None => check_quota(tx, key)?,
        }
        tx.execute(
            "UPDATE kms_aliases SET key_id = $1, updated_at = $2 \
             WHERE account_id = $3 AND region = $4 AND name = $5",
            params![&key.id, self.now(), &alias.account, &alias.region, &alias.name],
        )?;
        Ok(())
    }

    /// DeleteAlias.
    ///
    /// # Errors
    /// As the database answers.
    pub fn delete_alias(&self, tx: &mut Tx<'_>, alias: &Alias) -> Result<()> {
        tx.execute(
            "DELETE FROM kms_aliases WHERE account_id = $1 AND region = $2 AND name = $3",
            params![&alias.account, &alias.region, &alias.name],
        )?;
        Ok(())
    }
}

/// Whether two keys can stand behind one name (KMS API, UpdateAlias): both symmetric, both HMAC or both key pairs,
/// and for the same use, so that code which uses the name goes on working.
fn check_alike(old: &Key, new: &Key) -> Result<()> {
    let of = |key: &Key| (key.kind.spec().family(), key.kind.usage());
    if of(old) == of(new) {
        return Ok(());
    }
    let shown =
        |key: &Key| format!("{} is of {} for {}", key.arn(), key.kind.spec(), key.kind.usage());
    Err(Error::validation(format!(
        "The current and the new key of an alias must have the same type and key usage: {}, {}.",
        shown(old),
        shown(new)
    )))
}

fn check_quota(tx: &mut Tx<'_>, key: &Key) -> Result<()> {
    let limit = u32::try_from(ALIASES_PER_KEY_MAX).expect("a small constant");
    if of_key(tx, key, "", limit)?.len() >= ALIASES_PER_KEY_MAX {
        return Err(Error::LimitExceeded {
            message: format!("A key may have {ALIASES_PER_KEY_MAX} aliases."),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["alias/a", "alias/Team_1/data-key", "alias/aws-like", "alias/awsx/y"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        let long = format!("alias/{}", "x".repeat(251));
        for bad in ["", "alias/", "a", "alias/a b", "alias/a:b", "alias/aws/ebs", "alias/é", &long]
        {
            assert!(matches!(check_name(bad), Err(Error::InvalidAliasName { .. })), "{bad}");
        }
    }
}
