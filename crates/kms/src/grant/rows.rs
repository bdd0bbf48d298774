//! Grants as rows.

use super::party::{self, Party, Strength};
use super::{GRANTS_PER_KEY_MAX, Grant};
use crate::error::{Error, Result};
use crate::key::Key;
use base::Region;
use iam::{Principal, PrincipalKind};
use meta::{Row, Tx, params};

const COLUMNS: &str = "account_id, region, key_id, grant_id, name, grantee, grantee_shown, retiring, \
                       retiring_shown, issuing_account, operations, constraints_json, created_at";

pub(super) fn insert(tx: &mut Tx<'_>, grant: &Grant) -> Result<()> {
    let json = "lists and maps of texts serialize";
    let sql = format!(
        "INSERT INTO kms_grants ({COLUMNS}) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)"
    );
    tx.execute(
        &sql,
        params![
            &grant.key_account,
            &grant.key_region,
            &grant.key_id,
            &grant.id,
            &grant.name,
            &grant.grantee.matched,
            &grant.grantee.shown,
            grant.retiring.as_ref().map(|party| party.matched.clone()),
            grant.retiring.as_ref().map(|party| party.shown.clone()),
            &grant.issuing_account,
            serde_json::to_string(&grant.operations).expect(json),
            serde_json::to_string(&grant.constraints).expect(json),
            grant.created,
        ],
    )?;
    Ok(())
}

fn read(row: &Row) -> Result<Grant> {
    let mut grant = Grant {
        key_account: row.get(0)?,
        key_region: row.get(1)?,
        key_id: row.get(2)?,
        id: row.get(3)?,
        name: row.get(4)?,
        grantee: Party { matched: row.get(5)?, shown: row.get(6)? },
        retiring: None,
        issuing_account: row.get(9)?,
        operations: Vec::new(),
        constraints: super::Constraints::default(),
        created: row.get(12)?,
    };
    let retiring: (Option<String>, Option<String>) = (row.get(7)?, row.get(8)?);
    if let (Some(matched), Some(shown)) = retiring {
        grant.retiring = Some(Party { shown, matched });
    }
    let arn = grant.key_arn().to_string();
    let damaged = |_| Error::RowDamaged { arn: arn.clone(), what: "grant" };
    grant.operations = serde_json::from_str(&row.get::<String>(10)?).map_err(damaged)?;
    grant.constraints = serde_json::from_str(&row.get::<String>(11)?).map_err(damaged)?;
    Ok(grant)
}

pub(super) fn delete(tx: &mut Tx<'_>, grant: &Grant) -> Result<()> {
    tx.execute(
        "DELETE FROM kms_grants \
         WHERE account_id = $1 AND region = $2 AND key_id = $3 AND grant_id = $4",
        params![&grant.key_account, &grant.key_region, &grant.key_id, &grant.id],
    )?;
    Ok(())
}

pub(super) fn is_full(tx: &mut Tx<'_>, key: &Key) -> Result<bool> {
    let rows = tx.query(
        "SELECT grant_id FROM kms_grants \
         WHERE account_id = $1 AND region = $2 AND key_id = $3 LIMIT $4",
        params![&key.account, &key.region, &key.id, GRANTS_PER_KEY_MAX],
    )?;
    Ok(rows.len() >= GRANTS_PER_KEY_MAX as usize)
}

pub(super) fn named(tx: &mut Tx<'_>, key: &Key, name: &str) -> Result<Vec<Grant>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM kms_grants \
         WHERE account_id = $1 AND region = $2 AND key_id = $3 AND name = $4"
    );
    let rows = tx.query(&sql, params![&key.account, &key.region, &key.id, name])?;
    rows.iter().map(read).collect()
}

/// The grant with this id in a region, on whatever key.
///
/// # Errors
/// [`Error::InvalidGrantId`] when it is no grant id, [`Error::GrantNotFound`] when there is none.
pub fn by_id(tx: &mut Tx<'_>, region: &Region, id: &str) -> Result<Grant> {
    if id.len() != 64 || !id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(Error::InvalidGrantId { grant_id: id.to_owned() });
    }
    let sql = format!("SELECT {COLUMNS} FROM kms_grants WHERE region = $1 AND grant_id = $2");
    let row = tx.query_opt(&sql, params![region, id])?;
    let row = row.ok_or_else(|| Error::GrantNotFound { grant_id: id.to_owned() })?;
    read(&row)
}

/// The grant of a key with this id.
///
/// # Errors
/// As [`by_id`]; a grant of another key is not found.
pub fn of_key(tx: &mut Tx<'_>, key: &Key, id: &str) -> Result<Grant> {
    let grant = by_id(tx, &key.region, id)?;
    if (&grant.key_account, &grant.key_id) != (&key.account, &key.id) {
        return Err(Error::GrantNotFound { grant_id: id.to_owned() });
    }
    Ok(grant)
}

/// A page of a key's grants, by id; only those of one grantee when one is given.
///
/// # Errors
/// As the database answers.
pub fn list(
    tx: &mut Tx<'_>,
    key: &Key,
    grantee: Option<&Party>,
    after: &str,
    limit: u32,
) -> Result<Vec<Grant>> {
    let of_key = "account_id = $1 AND region = $2 AND key_id = $3 AND grant_id > $4";
    let rows = match grantee {
        None => tx.query(
            &format!("SELECT {COLUMNS} FROM kms_grants WHERE {of_key} ORDER BY grant_id LIMIT $5"),
            params![&key.account, &key.region, &key.id, after, limit],
        )?,
        Some(party) => tx.query(
            &format!(
                "SELECT {COLUMNS} FROM kms_grants WHERE {of_key} AND grantee = $6 \
                 ORDER BY grant_id LIMIT $5"
            ),
            params![&key.account, &key.region, &key.id, after, limit, &party.matched],
        )?,
    };
    rows.iter().map(read).collect()
}

/// A page of the grants in a region that a principal may retire, on whatever keys, by id.
///
/// # Errors
/// As the database answers.
pub fn list_retirable(
    tx: &mut Tx<'_>,
    region: &Region,
    retiring: &Party,
    after: &str,
    limit: u32,
) -> Result<Vec<Grant>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM kms_grants WHERE region = $1 AND retiring = $2 AND grant_id > $3 \
         ORDER BY grant_id LIMIT $4"
    );
    let rows = tx.query(&sql, params![region, &retiring.matched, after, limit])?;
    rows.iter().map(read).collect()
}

/// The grants of a key whose grantee is the caller, and how strongly each names it.
pub(crate) fn of_caller(
    tx: &mut Tx<'_>,
    key: &Key,
    caller: &Principal,
) -> Result<Vec<(Grant, Strength)>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM kms_grants \
         WHERE account_id = $1 AND region = $2 AND key_id = $3 AND grantee = $4 ORDER BY grant_id"
    );
    let mut found = Vec::new();
    for (name, strength) in party::names(caller) {
        let whole_account = name.starts_with("account:");
        for row in tx.query(&sql, params![&key.account, &key.region, &key.id, name])? {
            let grant = read(&row)?;
            // A grant to a whole account delegates to that account's policies, which only a grant from another
            // account does; in its own account it means the root alone.
            let delegates = grant.issuing_account != caller.account;
            if !whole_account || caller.kind == PrincipalKind::Root || delegates {
                found.push((grant, strength));
            }
        }
    }
    Ok(found)
}
