//! `createVolumePermission`: whom a snapshot's owner lets make volumes and copies of it.

use crate::among;
use crate::error::Result;
use crate::settings;
use crate::snapshot::{self, Snapshot};
use crate::visibility::{PublicAccessBlock, Sharing, Visibility, visibility};
use base::{AccountId, Region, SnapshotId};
use meta::{Tx, params};
use std::collections::BTreeMap;

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

impl Permissions {
    /// Takes one grantee from the table, which knows accounts and the group.
    fn read(&mut self, grantee: &str) {
        match AccountId::parse(grantee) {
            Ok(account) => self.users.push(account),
            Err(_) => self.public = true,
        }
    }
}

/// A snapshot that an account sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// How the account comes to see it; never [`Visibility::Hidden`].
    pub visibility: Visibility,
    /// Whom its owner shares it with.
    pub permissions: Permissions,
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
        permissions.read(&row.get::<String>(0)?);
    }
    Ok(permissions)
}

/// The shares of some snapshots of one owner; nothing for one that is not shared.
fn among(
    tx: &mut Tx<'_>,
    owner: &AccountId,
    region: &Region,
    snapshots: &[SnapshotId],
) -> Result<BTreeMap<SnapshotId, Permissions>> {
    let sql = "SELECT snapshot_id, grantee FROM ebs_snapshot_permissions WHERE account_id = $1 \
               AND region = $2 AND snapshot_id IN ({ids}) ORDER BY grantee";
    let mut permissions: BTreeMap<SnapshotId, Permissions> = BTreeMap::new();
    for row in among::query(tx, sql, params![owner, region], snapshots)? {
        let (snapshot, grantee): (_, String) = (row.get(0)?, row.get(1)?);
        permissions.entry(snapshot).or_default().read(&grantee);
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

/// Those among snapshots of a region that an account sees, in their order. Two queries for each of their
/// owners, however many there are of each.
///
/// # Errors
/// When the database fails.
pub fn all_seen(
    tx: &mut Tx<'_>,
    region: &Region,
    snapshots: Vec<Snapshot>,
    account: &AccountId,
) -> Result<Vec<Seen>> {
    let mut of_owners: BTreeMap<&AccountId, Vec<SnapshotId>> = BTreeMap::new();
    for snapshot in &snapshots {
        of_owners.entry(&snapshot.account).or_default().push(snapshot.id.clone());
    }
    let mut shares = BTreeMap::new();
    let mut blocks = BTreeMap::new();
    for (owner, ids) in of_owners {
        shares.append(&mut among(tx, owner, region, &ids)?);
        blocks.insert(owner.clone(), settings::get(tx, owner, region)?.public_access_block);
    }
    let seen = snapshots.into_iter().filter_map(|snapshot| {
        let permissions = shares.remove(&snapshot.id).unwrap_or_default();
        let block = blocks.get(&snapshot.account).copied().unwrap_or_default();
        let visibility = visibility_with(&snapshot, &permissions, block, account);
        (visibility != Visibility::Hidden).then_some(Seen { snapshot, visibility, permissions })
    });
    Ok(seen.collect())
}

/// How an account sees a snapshot.
///
/// # Errors
/// When the database fails.
pub fn visibility_for(
    tx: &mut Tx<'_>,
    snapshot: &Snapshot,
    account: &AccountId,
) -> Result<Visibility> {
    let permissions = get(tx, snapshot)?;
    let block = settings::get(tx, &snapshot.account, &snapshot.region)?.public_access_block;
    Ok(visibility_with(snapshot, &permissions, block, account))
}

/// A snapshot on its way out is seen by nobody, an archived one by its owner alone: its shares count again
/// when it is restored (spec 00, "Resource visibility rule").
fn visibility_with(
    snapshot: &Snapshot,
    permissions: &Permissions,
    block: PublicAccessBlock,
    account: &AccountId,
) -> Visibility {
    if snapshot.delete_requested || (snapshot.is_archived() && snapshot.account != *account) {
        return Visibility::Hidden;
    }
    let Permissions { users, public } = permissions;
    visibility(Sharing { owner: &snapshot.account, users, public: *public, block }, account)
}
