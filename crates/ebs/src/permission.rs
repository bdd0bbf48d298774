//! `createVolumePermission`: whom a snapshot's owner lets make volumes and copies of it.

use crate::error::Result;
use crate::settings;
use crate::snapshot::{self, Snapshot};
use crate::visibility::{Sharing, Visibility, visibility};
use base::{AccountId, Region, SnapshotId};
use meta::{Tx, params};

/// The grantee of a public share, in the table and on the wire.
pub const GROUP_ALL: &str = "all";

/// The shares of one snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permissions {
    /// Accounts, by id.
    pub users: Vec<AccountId>,
    /// Whether the group `all` is named.
    pub public: bool,
}

/// Reads the shares of a snapshot.
///
/// # Errors
/// When the database fails.
pub fn get(tx: &mut Tx<'_>, snapshot: &Snapshot) -> Result<Permissions> {
    let rows = tx.query(
        "SELECT grantee FROM ebs_snapshot_permissions WHERE account_id = $1 AND region = $2 \
         AND snapshot_id = $3 ORDER BY grantee",
        params![&snapshot.account, &snapshot.region, &snapshot.id],
    )?;
    let mut permissions = Permissions::default();
    for row in &rows {
        let grantee: String = row.get(0)?;
        match AccountId::parse(&grantee) {
            Ok(account) => permissions.users.push(account),
            Err(_) => permissions.public = true,
        }
    }
    Ok(permissions)
}

/// Names one more account or the group. False when it was named already.
///
/// # Errors
/// When the database fails.
pub fn add(tx: &mut Tx<'_>, snapshot: &Snapshot, grantee: &str) -> Result<bool> {
    let added = tx.execute(
        "INSERT INTO ebs_snapshot_permissions (account_id, region, snapshot_id, grantee) \
         VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
        params![&snapshot.account, &snapshot.region, &snapshot.id, grantee],
    )?;
    Ok(added == 1)
}

/// Names one fewer.
///
/// # Errors
/// When the database fails.
pub fn remove(tx: &mut Tx<'_>, snapshot: &Snapshot, grantee: &str) -> Result<()> {
    tx.execute(
        "DELETE FROM ebs_snapshot_permissions WHERE account_id = $1 AND region = $2 \
         AND snapshot_id = $3 AND grantee = $4",
        params![&snapshot.account, &snapshot.region, &snapshot.id, grantee],
    )?;
    Ok(())
}

/// Names nobody.
///
/// # Errors
/// When the database fails.
pub fn clear(tx: &mut Tx<'_>, snapshot: &Snapshot) -> Result<()> {
    tx.execute(
        "DELETE FROM ebs_snapshot_permissions WHERE account_id = $1 AND region = $2 \
         AND snapshot_id = $3",
        params![&snapshot.account, &snapshot.region, &snapshot.id],
    )?;
    Ok(())
}

/// A snapshot, when it exists and the account sees it, and how.
///
/// # Errors
/// When the database fails.
pub fn find_seen(
    tx: &mut Tx<'_>,
    region: &Region,
    id: &SnapshotId,
    account: &AccountId,
) -> Result<Option<(Snapshot, Visibility)>> {
    let Some(found) = snapshot::get(tx, region, id)? else { return Ok(None) };
    Ok(match visibility_for(tx, &found, account)? {
        Visibility::Hidden => None,
        seen @ (Visibility::Owner | Visibility::Shared | Visibility::Public) => Some((found, seen)),
    })
}

/// How an account sees a snapshot. One on its way out is seen by nobody, an archived one by its owner
/// alone: its shares count again when it is restored (spec 00, "Resource visibility rule").
///
/// # Errors
/// When the database fails.
pub fn visibility_for(
    tx: &mut Tx<'_>,
    snapshot: &Snapshot,
    account: &AccountId,
) -> Result<Visibility> {
    if snapshot.delete_requested {
        return Ok(Visibility::Hidden);
    }
    if snapshot.is_archived() && snapshot.account != *account {
        return Ok(Visibility::Hidden);
    }
    let permissions = get(tx, snapshot)?;
    let block = settings::get(tx, &snapshot.account, &snapshot.region)?.public_access_block;
    let sharing = Sharing {
        owner: &snapshot.account,
        users: &permissions.users,
        public: permissions.public,
        block,
    };
    Ok(visibility(sharing, account))
}
