//! Accounts: the tenants.

use crate::Identity;
use crate::access_key::{NewAccessKey, Owner};
use crate::error::{Error, Result};
use crate::name::check_length;
use base::{AccountId, Timestamp};
use meta::{Row, Tx, params};

/// A tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Twelve digits.
    pub id: AccountId,
    /// What people call it.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Longest name of an account (Organizations API, `AccountName`).
const NAME_LENGTH_MAX: usize = 50;

/// How often a random account id is tried before giving up.
const ATTEMPTS_MAX: usize = 16;

impl Identity {
    /// Makes an account and the first access key of its root. `id` is chosen when not given.
    ///
    /// # Errors
    /// [`Error::EntityAlreadyExists`] for an id that is taken; [`Error::Validation`] for the name.
    pub fn create_account(
        &self,
        tx: &mut Tx<'_>,
        id: Option<&AccountId>,
        name: &str,
    ) -> Result<(Account, NewAccessKey)> {
        if name.is_empty() || name.chars().any(char::is_control) {
            return Err(Error::validation("An account needs a name of printable characters."));
        }
        check_length("accountName", name, NAME_LENGTH_MAX)?;
        for _ in 0..ATTEMPTS_MAX {
            let chosen = id.cloned().unwrap_or_else(|| AccountId::generate(self.rng()));
            let account = Account { id: chosen, name: name.to_owned(), created_at: self.now() };
            let inserted = tx.execute(
                "INSERT INTO iam_accounts (account_id, name, created_at) VALUES ($1, $2, $3) \
                 ON CONFLICT DO NOTHING",
                params![&account.id, name, account.created_at],
            )?;
            if inserted == 1 {
                let key = self.create_access_key(tx, &Owner::Root(account.id.clone()))?;
                return Ok((account, key));
            }
            if id.is_some() {
                break;
            }
        }
        Err(Error::EntityAlreadyExists {
            message: format!("Account {} already exists.", id.map_or("", |id| id.as_str())),
        })
    }
}

/// The account with this id.
///
/// # Errors
/// As the database answers.
pub fn find(tx: &mut Tx<'_>, id: &AccountId) -> Result<Option<Account>> {
    let row = tx.query_opt(
        "SELECT account_id, name, created_at FROM iam_accounts WHERE account_id = $1",
        params![id],
    )?;
    row.map(|row| from_row(&row)).transpose()
}

/// All accounts by id.
///
/// # Errors
/// As the database answers.
pub fn list(tx: &mut Tx<'_>) -> Result<Vec<Account>> {
    let rows = tx.query(
        "SELECT account_id, name, created_at FROM iam_accounts ORDER BY account_id",
        params![],
    )?;
    rows.iter().map(from_row).collect()
}

fn from_row(row: &Row) -> Result<Account> {
    Ok(Account { id: row.get(0)?, name: row.get(1)?, created_at: row.get(2)? })
}
