//! Settings of an account in a region: encryption by default, its key, public access (spec 04).

use crate::column::Columns;
use crate::error::Result;
use crate::visibility::PublicAccessBlock;
use base::{AccountId, Region};
use meta::{Tx, params};

/// What holds for new resources of an account in a region. An account without a row has the default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Whether everything new is encrypted.
    pub encryption_by_default: bool,
    /// The ARN of the key used when a request names none; absent means the managed key `aws/ebs`.
    pub default_key_arn: Option<String>,
    /// Whether snapshots may be public.
    pub public_access_block: PublicAccessBlock,
}

/// The settings of an account in a region.
///
/// # Errors
/// When the database fails.
pub fn get(tx: &mut Tx<'_>, account: &AccountId, region: &Region) -> Result<Settings> {
    let row = tx.query_opt(
        "SELECT encryption_by_default, default_key_arn, public_access_block \
         FROM ebs_account_settings WHERE account_id = $1 AND region = $2",
        params![account, region],
    )?;
    let Some(row) = row else { return Ok(Settings::default()) };
    let mut columns = Columns::new("ebs_account_settings", &row);
    Ok(Settings {
        encryption_by_default: columns.take()?,
        default_key_arn: columns.take()?,
        public_access_block: columns.read("public_access_block", PublicAccessBlock::parse)?,
    })
}

/// Replaces the settings of an account in a region.
///
/// # Errors
/// When the database fails.
pub fn put(
    tx: &mut Tx<'_>,
    account: &AccountId,
    region: &Region,
    settings: &Settings,
) -> Result<()> {
    tx.execute(
        "INSERT INTO ebs_account_settings \
         (account_id, region, encryption_by_default, default_key_arn, public_access_block) \
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT (account_id, region) DO UPDATE SET \
         encryption_by_default = $3, default_key_arn = $4, public_access_block = $5",
        params![
            account,
            region,
            settings.encryption_by_default,
            settings.default_key_arn.clone(),
            settings.public_access_block.as_str(),
        ],
    )?;
    Ok(())
}
