//! Versions of a key's material, as rows: which there are, which of them encrypts, which are missing.
//!
//! A key has a first version, one more per rotation, and, when its owner imports them, at most one that waits for
//! its rotation. Material that was deleted or has expired leaves its row, with no token in it: only the same
//! material may come back.

use crate::error::Result;
use crate::key::{self, Key};
use crate::material::{self, MaterialId};
use crate::origin::KeyOrigin;
use crate::rotation::RotationType;
use crate::service::Kms;
use base::Timestamp;
use meta::{Row, Tx, params};

/// The first version of a key's material.
const FIRST: u32 = 1;

/// One version of a key's material, without the material.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Counts from one. The same in every region of a multi-Region key.
    pub number: u32,
    /// Its id.
    pub material_id: MaterialId,
    /// When it came here.
    pub created: Timestamp,
    /// When and how it became the one that encrypts; `None` for the first and for one that is not yet used.
    pub rotated: Option<(Timestamp, RotationType)>,
    /// What its owner said about it.
    pub description: Option<String>,
    /// When it is deleted, if its owner wants it to be.
    pub expires: Option<Timestamp>,
    /// Whether its material is here.
    pub is_present: bool,
}

impl Version {
    /// The first version of a key.
    pub(crate) fn first(key: &Key) -> Self {
        Self {
            number: FIRST,
            material_id: key.material_id,
            created: key.created,
            rotated: None,
            description: None,
            expires: None,
            is_present: true,
        }
    }

    /// Whether the version is imported for a rotation that has not happened yet. It may still be replaced.
    pub fn is_pending(&self) -> bool {
        self.number != FIRST && self.rotated.is_none()
    }
}

const COLUMNS: &str =
    "version, material_id, created_at, rotated_at, rotation_type, description, expires_at, token";

fn read(key: &Key, row: &Row) -> Result<Version> {
    let damaged = |what| crate::Error::RowDamaged { arn: key.arn().to_string(), what };
    let id: Vec<u8> = row.get(1)?;
    let (at, how): (Option<Timestamp>, Option<String>) = (row.get(3)?, row.get(4)?);
    let rotated = match (at, how) {
        (Some(at), Some(how)) => {
            Some((at, RotationType::parse(&how).ok_or_else(|| damaged("rotation type"))?))
        }
        _ => None,
    };
    Ok(Version {
        number: row.get(0)?,
        material_id: MaterialId(id.try_into().map_err(|_| damaged("material id"))?),
        created: row.get(2)?,
        rotated,
        description: row.get(5)?,
        expires: row.get(6)?,
        is_present: !row.get::<Vec<u8>>(7)?.is_empty(),
    })
}

/// Every version of a key, oldest first. There are few: 25 rotations on demand, and one per period.
///
/// # Errors
/// As the database answers.
pub fn all(tx: &mut Tx<'_>, key: &Key) -> Result<Vec<Version>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM kms_materials \
         WHERE account_id = $1 AND region = $2 AND key_id = $3 ORDER BY version"
    );
    let rows = tx.query(&sql, params![&key.account, &key.region, &key.id])?;
    rows.iter().map(|row| read(key, row)).collect()
}

/// Whether every version that ever encrypted is here, so that the key can be used.
pub(crate) fn is_complete(tx: &mut Tx<'_>, key: &Key) -> Result<bool> {
    if key.origin != KeyOrigin::External {
        return Ok(true);
    }
    let mut permanent =
        all(tx, key)?.into_iter().filter(|version| !version.is_pending()).peekable();
    Ok(permanent.peek().is_some() && permanent.all(|version| version.is_present))
}

/// Overwrites the material of a version with zeros, as many as it has bytes, so that a page that is freed holds nothing
/// sealed.
pub(crate) fn overwrite(tx: &mut Tx<'_>, key: &Key, number: u32) -> Result<()> {
    let row = tx.query_opt(
        "SELECT token FROM kms_materials \
         WHERE account_id = $1 AND region = $2 AND key_id = $3 AND version = $4",
        params![&key.account, &key.region, &key.id, number],
    )?;
    let Some(row) = row else { return Ok(()) };
    put(tx, key, number, vec![0; row.get::<Vec<u8>>(0)?.len()])
}

/// Forgets the material of a version, and keeps the row.
pub(crate) fn erase(tx: &mut Tx<'_>, key: &Key, number: u32) -> Result<()> {
    overwrite(tx, key, number)?;
    put(tx, key, number, Vec::new())
}

fn put(tx: &mut Tx<'_>, key: &Key, number: u32, token: Vec<u8>) -> Result<()> {
    tx.execute(
        "UPDATE kms_materials SET token = $4, expires_at = NULL WHERE account_id = $1 \
         AND region = $2 AND key_id = $3 AND version = $5",
        params![&key.account, &key.region, &key.id, token, number],
    )?;
    Ok(())
}

/// Removes the row of a version that waits for its rotation.
pub(crate) fn forget(tx: &mut Tx<'_>, key: &Key, number: u32) -> Result<()> {
    erase(tx, key, number)?;
    tx.execute(
        "DELETE FROM kms_materials WHERE account_id = $1 AND region = $2 AND key_id = $3 \
         AND version = $4",
        params![&key.account, &key.region, &key.id, number],
    )?;
    Ok(())
}

/// Makes a version the one that encrypts.
pub(crate) fn make_current(
    tx: &mut Tx<'_>,
    key: &Key,
    version: &Version,
    rotated: (Timestamp, RotationType),
) -> Result<()> {
    let (at, how) = rotated;
    tx.execute(
        "UPDATE kms_materials SET rotated_at = $5, rotation_type = $6 WHERE account_id = $1 \
         AND region = $2 AND key_id = $3 AND version = $4",
        params![&key.account, &key.region, &key.id, version.number, at, how.as_str()],
    )?;
    set_current(tx, key, version.material_id)
}

/// Notes which version encrypts.
pub(crate) fn set_current(tx: &mut Tx<'_>, key: &Key, id: MaterialId) -> Result<()> {
    tx.execute(
        "UPDATE kms_keys SET material_id = $1 \
         WHERE account_id = $2 AND region = $3 AND key_id = $4",
        params![id.0.to_vec(), &key.account, &key.region, &key.id],
    )?;
    Ok(())
}

impl Kms {
    /// Writes a version with its material, sealed for this key in its region.
    pub(crate) fn add_version(
        &self,
        tx: &mut Tx<'_>,
        key: &Key,
        version: &Version,
        secret: &[u8],
    ) -> Result<()> {
        let token = self.sealed(key, version, secret)?;
        insert(tx, key, version, token)
    }

    /// Puts material into the row of a version that has none.
    pub(crate) fn restore(
        &self,
        tx: &mut Tx<'_>,
        key: &Key,
        version: &Version,
        secret: &[u8],
    ) -> Result<()> {
        let token = self.sealed(key, version, secret)?;
        tx.execute(
            "UPDATE kms_materials SET token = $5, description = $6, expires_at = $7 \
             WHERE account_id = $1 AND region = $2 AND key_id = $3 AND version = $4",
            params![
                &key.account,
                &key.region,
                &key.id,
                version.number,
                token,
                version.description.as_deref(),
                version.expires,
            ],
        )?;
        Ok(())
    }

    fn sealed(&self, key: &Key, version: &Version, secret: &[u8]) -> Result<Vec<u8>> {
        let (number, domain_key) = self.domain_keys().newest(&key.region)?;
        let binding = key::binding(key, version.material_id, version.created);
        Ok(material::wrap(domain_key.expose(), number, &binding, secret, self.rng()))
    }
}

/// Writes the row of a version whose material is not here.
pub(crate) fn insert_absent(tx: &mut Tx<'_>, key: &Key, version: &Version) -> Result<()> {
    insert(tx, key, version, Vec::new())
}

/// Writes the row of a version whose material is on a token, under the label that its id gives.
pub(crate) fn insert_on_token(tx: &mut Tx<'_>, key: &Key, version: &Version) -> Result<()> {
    insert(tx, key, version, vec![material::ON_TOKEN])
}

fn insert(tx: &mut Tx<'_>, key: &Key, version: &Version, token: Vec<u8>) -> Result<()> {
    tx.execute(
        "INSERT INTO kms_materials (account_id, region, key_id, version, material_id, token, \
         created_at, rotated_at, rotation_type, description, expires_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        params![
            &key.account,
            &key.region,
            &key.id,
            version.number,
            version.material_id.0.to_vec(),
            token,
            version.created,
            version.rotated.map(|(at, _)| at),
            version.rotated.map(|(_, how)| how.as_str()),
            version.description.as_deref(),
            version.expires,
        ],
    )?;
    Ok(())
}
