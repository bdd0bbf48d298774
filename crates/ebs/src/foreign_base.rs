//! Bases under a data key that is not their volume's.
//!
//! A volume that comes from a snapshot under another key, or of another owner, is usable at once: it
//! reads the snapshot's blocks under the snapshot's data key, which was wrapped for the volume, while its
//! initialization seals them anew. The row exists from the volume's creation until that is done; with
//! it the wrapped key and the service's grant are gone.

use crate::column::Columns;
use crate::error::Result;
use crate::key::WrappedKey;
use crate::roots::StoreKind;
use crate::volume;
use base::{AccountId, Region, VolumeId};
use meta::{Param, Row, Tx, params};

const TABLE: &str = "ebs_foreign_bases";
const COLUMNS: &str = "account_id, region, volume_id, wrapped_key, context_id, lineage, guard, \
    grant_id, former_root, waits_for, given_up";

/// What a base's data key is wrapped under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// The volume's KMS key, in the volume's context.
    Kms,
    /// The service: the snapshot was not encrypted.
    Service,
}

impl Guard {
    fn as_str(self) -> &'static str {
        match self {
            Self::Kms => "kms",
            Self::Service => "service",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Kms, Self::Service].into_iter().find(|guard| guard.as_str() == text)
    }
}

/// The base of one volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignBase {
    /// Whose volume.
    pub account: AccountId,
    /// Where it is.
    pub region: Region,
    /// Which.
    pub volume: VolumeId,
    /// The base's data key.
    pub key: WrappedKey,
    /// What it is wrapped under.
    pub guard: Guard,
    /// The grant on which the service opens the volume's keys to seal the base anew.
    pub grant_id: String,
    /// The base as it was, once the volume has one under its own key: alive until nobody reads it.
    pub former_root: Option<Vec<u8>>,
    /// Why the base cannot be sealed anew at present.
    pub waits_for: Option<String>,
    /// Whether snapshots of the volume fail rather than wait for that: the base is damaged. Its column is
    /// `given_up`.
    pub fails_snapshots: bool,
}

impl ForeignBase {
    fn from_row(row: &Row) -> Result<Self> {
        let mut columns = Columns::new(TABLE, row);
        let (account, region, volume) = (columns.take()?, columns.take()?, columns.take()?);
        let key = WrappedKey::read(&mut columns)?;
        Ok(Self {
            account,
            region,
            volume,
            key: key.ok_or(columns.corrupt("wrapped_key"))?,
            guard: columns.read("guard", Guard::parse)?,
            grant_id: columns.take()?,
            former_root: columns.take()?,
            waits_for: columns.take()?,
            fails_snapshots: columns.take()?,
        })
    }

    /// Whether pages of the base may still come sealed under its own key.
    pub fn is_under_its_key(&self) -> bool {
        self.former_root.is_none()
    }
}

/// Adds the row of a volume that is created.
///
/// # Errors
/// When the volume has one or the database fails.
pub fn insert(tx: &mut Tx<'_>, row: &ForeignBase) -> Result<()> {
    tx.execute(
        &format!(
            "INSERT INTO {TABLE} ({COLUMNS}) VALUES \
             ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"
        ),
        params![
            &row.account,
            &row.region,
            &row.volume,
            row.key.wrapped.clone(),
            &row.key.context_id,
            &row.key.lineage,
            row.guard.as_str(),
            &row.grant_id,
            row.former_root.clone(),
            row.waits_for.clone(),
            row.fails_snapshots,
        ],
    )?;
    Ok(())
}

/// The foreign base of a volume, if it has one.
///
/// # Errors
/// When the database fails.
pub fn get(tx: &mut Tx<'_>, region: &Region, volume: &VolumeId) -> Result<Option<ForeignBase>> {
    let sql = format!("SELECT {COLUMNS} FROM {TABLE} WHERE region = $1 AND volume_id = $2");
    let row = tx.query_opt(&sql, params![region, volume])?;
    row.as_ref().map(ForeignBase::from_row).transpose()
}

/// Says why the base cannot be sealed anew at present, or that it can. Snapshots of the volume wait for it.
///
/// # Errors
/// When the database fails.
pub fn set_waits_for(
    tx: &mut Tx<'_>,
    region: &Region,
    volume: &VolumeId,
    cause: Option<&str>,
) -> Result<()> {
    tx.execute(
        "UPDATE ebs_foreign_bases SET waits_for = $3, given_up = 0 \
         WHERE region = $1 AND volume_id = $2",
        params![region, volume, cause],
    )?;
    Ok(())
}

/// Says why the base cannot be sealed anew, so that snapshots of the volume do not wait for it.
///
/// # Errors
/// When the database fails.
pub fn fail_snapshots(
    tx: &mut Tx<'_>,
    region: &Region,
    volume: &VolumeId,
    cause: &str,
) -> Result<()> {
    tx.execute(
        "UPDATE ebs_foreign_bases SET waits_for = $3, given_up = 1 \
         WHERE region = $1 AND volume_id = $2",
        params![region, volume, cause],
    )?;
    Ok(())
}

/// Gives a volume `root` for its base: the same content under the volume's own key. What it was stays
/// alive until [`remove`]. Returns whether something still needs it; if not, `root` is noted as
/// deleted.
///
/// # Errors
/// When the database fails.
pub fn set_resealed(tx: &mut Tx<'_>, region: &Region, id: &VolumeId, root: &[u8]) -> Result<bool> {
    let wanted = match volume::get(tx, region, id)? {
        Some(volume) if volume::needs_base(tx, &volume)? => volume.base_root,
        _ => None,
    };
    let (Some(former), Some(_)) = (wanted, get(tx, region, id)?) else {
        crate::garbage::note_root(tx, region, StoreKind::Standard, root)?;
        return Ok(false);
    };
    crate::garbage::note_checkpoint(tx, region, id)?;
    // The twin is under the former key.
    crate::twin::let_go(tx, region, id)?;
    tx.execute(
        "UPDATE ebs_foreign_bases SET former_root = $3, waits_for = NULL, given_up = 0 \
         WHERE region = $1 AND volume_id = $2",
        params![region, id, former],
    )?;
    volume::replace_base(tx, region, id, root)?;
    Ok(true)
}

/// Forgets the base's key and what the base was.
///
/// # Errors
/// When the database fails.
pub fn remove(tx: &mut Tx<'_>, region: &Region, volume: &VolumeId) -> Result<()> {
    crate::garbage::note_former(tx, region, volume)?;
    tx.execute(
        "DELETE FROM ebs_foreign_bases WHERE region = $1 AND volume_id = $2",
        params![region, volume],
    )?;
    Ok(())
}

/// What bases were whose volumes may still read them.
pub(crate) fn former_roots(tx: &mut Tx<'_>, region: &Region) -> Result<Vec<Vec<u8>>> {
    let sql = format!(
        "SELECT former_root FROM {TABLE} WHERE region = $1 AND former_root IS NOT NULL \
         ORDER BY volume_id"
    );
    let rows = tx.query(&sql, &[Param::from(region)])?;
    Ok(rows.iter().map(|row| row.get(0)).collect::<meta::Result<_>>()?)
}
