//! Account aliases: a name for an account that is unique on the server. An account has one at most.

use crate::error::{Error, Result};
use base::AccountId;
use meta::{Tx, params};

/// Checks an alias (IAM API, `CreateAccountAlias`, `AccountAlias`).
///
/// # Errors
/// [`Error::Validation`].
fn check(alias: &str) -> Result<()> {
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let edges = alias.starts_with('-') || alias.ends_with('-') || alias.contains("--");
    let digits_only = alias.len() == 12 && alias.bytes().all(|b| b.is_ascii_digit());
    if (3..=63).contains(&alias.len()) && alias.chars().all(legal) && !edges && !digits_only {
        return Ok(());
    }
    Err(Error::validation(format!(
        "1 validation error detected: Value '{alias}' at 'accountAlias' failed to satisfy constraint: \
         Member must satisfy regular expression pattern: ^[a-z0-9]([a-z0-9]|-(?!-)){{1,61}}[a-z0-9]$"
    )))
}

/// Gives an account an alias; one that it had is replaced.
///
/// # Errors
/// [`Error::EntityAlreadyExists`] for an alias that is taken, [`Error::Validation`] for its form.
pub fn set(tx: &mut Tx<'_>, account: &AccountId, alias: &str) -> Result<()> {
    check(alias)?;
    let taken = tx.query_opt("SELECT 1 FROM iam_aliases WHERE alias = $1", params![alias])?;
    if taken.is_some() {
        let message = format!("The account alias {alias} already exists.");
        return Err(Error::EntityAlreadyExists { message });
    }
    tx.execute("DELETE FROM iam_aliases WHERE account_id = $1", params![account])?;
    tx.execute(
        "INSERT INTO iam_aliases (alias, account_id) VALUES ($1, $2)",
        params![alias, account],
    )?;
    Ok(())
}

/// Takes an alias from its account.
///
/// # Errors
/// [`Error::NoSuchEntity`] when the account has another one or none.
pub fn remove(tx: &mut Tx<'_>, account: &AccountId, alias: &str) -> Result<()> {
    check(alias)?;
    let deleted = tx.execute(
        "DELETE FROM iam_aliases WHERE alias = $1 AND account_id = $2",
        params![alias, account],
    )?;
    match deleted {
        0 => Err(Error::missing(format!("The account alias {alias} cannot be found."))),
        _ => Ok(()),
    }
}

/// The alias of an account.
///
/// # Errors
/// As the database answers.
pub fn of(tx: &mut Tx<'_>, account: &AccountId) -> Result<Option<String>> {
    let row =
        tx.query_opt("SELECT alias FROM iam_aliases WHERE account_id = $1", params![account])?;
    Ok(row.map(|row| row.get(0)).transpose()?)
}
