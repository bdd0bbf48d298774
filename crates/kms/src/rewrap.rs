//! Moving key material to a region's newest domain key, a batch at a time.
//!
//! Where a move stands is a row, committed with each batch: a server that dies goes on where it was. A token is sealed
//! anew only where it opens, and replaced only if it is still the one that was read, so a move never loses
//! material and meets nobody who uses a key meanwhile: old domain keys are kept, and open what was not reached.

use crate::error::{Error, Result};
use crate::key::{self, Key};
use crate::material::{self, MaterialId};
use crate::service::Kms;
use base::{AccountId, Region, Timestamp};
use meta::{Row, Tx, params};

/// Tokens looked at in one transaction.
const BATCH: u32 = 100;

/// Where a move stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Whose material moves.
    pub region: Region,
    /// The domain key it moves to.
    pub number: u32,
    /// Versions of material looked at so far.
    pub looked_at: u64,
    /// How many of them were sealed anew.
    pub rewrapped: u64,
    /// Whether all were looked at.
    pub finished: bool,
}

/// Notes that a region's material has to move, in the transaction that makes the domain key. Earlier moves of the
/// region have nothing left to do.
pub(crate) fn begin(tx: &mut Tx<'_>, region: &Region, number: u32) -> meta::Result<()> {
    tx.execute("UPDATE kms_rewraps SET finished = 1 WHERE region = $1", params![region])?;
    tx.execute(
        "INSERT INTO kms_rewraps (region, number, position, looked_at, rewrapped, finished) \
         VALUES ($1, $2, $3, 0, 0, 0) ON CONFLICT DO NOTHING",
        params![region, number, Vec::<u8>::new()],
    )?;
    Ok(())
}

const COLUMNS: &str = "region, number, looked_at, rewrapped, finished";

/// Every move there was, by region and number.
///
/// # Errors
/// As the database answers.
pub fn progress(tx: &mut Tx<'_>) -> meta::Result<Vec<Progress>> {
    let sql = format!("SELECT {COLUMNS} FROM kms_rewraps ORDER BY region, number");
    tx.query(&sql, params![])?.iter().map(read).collect()
}

fn read(row: &Row) -> meta::Result<Progress> {
    Ok(Progress {
        region: row.get(0)?,
        number: row.get(1)?,
        looked_at: row.get(2)?,
        rewrapped: row.get(3)?,
        finished: row.get(4)?,
    })
}

struct Stored {
    account: AccountId,
    key_id: String,
    material_id: MaterialId,
    token: Vec<u8>,
    created: Timestamp,
}

impl Kms {
    /// Moves the next batch of a region's material; `None` when no move is under way there.
    ///
    /// # Errors
    /// As the database answers. Material that does not open is left as it is, and logged by who asks for the key.
    pub fn rewrap_step(&self, tx: &mut Tx<'_>, region: &Region) -> Result<Option<Progress>> {
        let sql = format!(
            "SELECT {COLUMNS}, position FROM kms_rewraps WHERE region = $1 AND finished = 0 \
             ORDER BY number LIMIT 1"
        );
        let Some(row) = tx.query_opt(&sql, params![region])? else { return Ok(None) };
        let mut progress = read(&row)?;
        let position: Vec<u8> = row.get(5)?;
        let batch = next(tx, region, &position)?;
        for stored in &batch {
            progress.looked_at += 1;
            if self.rewrap(tx, region, stored)? {
                progress.rewrapped += 1;
            }
        }
        progress.finished = batch.len() < BATCH as usize;
        let position = batch.last().map_or(position, |last| last.material_id.0.to_vec());
        let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        tx.execute(
            "UPDATE kms_rewraps SET position = $1, looked_at = $2, rewrapped = $3, finished = $4 \
             WHERE region = $5 AND number = $6",
            params![
                position,
                count(progress.looked_at),
                count(progress.rewrapped),
                progress.finished,
                region,
                progress.number,
            ],
        )?;
        Ok(Some(progress))
    }

    /// Says whether the token was sealed anew.
    fn rewrap(&self, tx: &mut Tx<'_>, region: &Region, stored: &Stored) -> Result<bool> {
        let (newest, new_key) = self.domain_keys().newest(region)?;
        let Some(number) = material::domain_key_number(&stored.token) else { return Ok(false) };
        if number == newest {
            return Ok(false);
        }
        let key: Key = match key::get(tx, &stored.account, region, &stored.key_id) {
            Ok(key) => key,
            Err(Error::Store(error)) => return Err(error.into()),
            Err(_) => return Ok(false),
        };
        let old_key = self.domain_keys().numbered(tx, region, number)?;
        let binding = key::binding(&key, stored.material_id, stored.created);
        let Ok(plain) = material::unwrap(old_key.expose(), &binding, &stored.token) else {
            return Ok(false);
        };
        let token = material::wrap(new_key.expose(), newest, &binding, plain.bytes(), self.rng());
        let replaced = tx.execute(
            "UPDATE kms_materials SET token = $1 WHERE region = $2 AND material_id = $3 AND token = $4",
            params![token, region, stored.material_id.0.to_vec(), stored.token.clone()],
        )?;
        Ok(replaced > 0)
    }
}

fn next(tx: &mut Tx<'_>, region: &Region, position: &[u8]) -> Result<Vec<Stored>> {
    let rows = tx.query(
        "SELECT account_id, key_id, material_id, token, created_at FROM kms_materials \
         WHERE region = $1 AND material_id > $2 ORDER BY material_id LIMIT $3",
        params![region, position, BATCH],
    )?;
    let mut batch = Vec::with_capacity(rows.len());
    for row in &rows {
        let (account, key_id): (AccountId, String) = (row.get(0)?, row.get(1)?);
        let id: Vec<u8> = row.get(2)?;
        let damaged = || Error::RowDamaged {
            arn: key::key_arn(&account, region, &key_id).to_string(),
            what: "material id",
        };
        let material_id = MaterialId(id.try_into().map_err(|_| damaged())?);
        let (token, created) = (row.get(3)?, row.get(4)?);
        batch.push(Stored { account, key_id, material_id, token, created });
    }
    Ok(batch)
}
