//! The snapshots of the EBS direct APIs: to read from, and to write to.

use super::code::{NOT_PENDING, Reason, invalid, not_found, not_yours};
use crate::call::Call;
use crate::error::Error;
use crate::storage::find::FoundSnapshot;
use base::SnapshotId;
use blockstore::snapshot::{SnapshotReader, SnapshotRoot, SnapshotStore};
use ebs::SnapshotState;
use ebs::upload::{self, Upload};
use ebs::visibility::Visibility;

/// A snapshot whose blocks the caller may ask for.
pub(crate) async fn readable(call: &Call, id: &SnapshotId) -> Result<FoundSnapshot, Error> {
    let found = seen(call, id).await?;
    match found.seen {
        Visibility::Owner | Visibility::Shared => {}
        // EBS guide, "Read EBS snapshots": public snapshots are not supported.
        Visibility::Public | Visibility::Hidden => {
            return Err(not_yours("Public snapshots cannot be read block by block."));
        }
    }
    if !found.snapshot.is_completed() {
        let message = format!("The snapshot '{id}' is not completed.");
        return Err(invalid(Reason::InvalidSnapshotId, message));
    }
    in_standard_tier(&found)?;
    Ok(found)
}

/// Archived snapshots are neither read nor built upon (spec 03, "Rules").
pub(crate) fn in_standard_tier(found: &FoundSnapshot) -> Result<(), Error> {
    if !found.snapshot.is_archived() {
        return Ok(());
    }
    let message = format!("The snapshot '{}' is archived.", found.snapshot.id);
    Err(invalid(Reason::InvalidSnapshotId, message))
}

async fn seen(call: &Call, id: &SnapshotId) -> Result<FoundSnapshot, Error> {
    FoundSnapshot::find_in(call, &call.region, id).await?.ok_or_else(|| not_found(id))
}

/// A snapshot that blocks may be put into.
pub(crate) struct Writable {
    pub(crate) found: FoundSnapshot,
    pub(crate) upload: Upload,
}

/// The caller's own pending upload.
pub(crate) async fn writable(call: &Call, id: &SnapshotId) -> Result<Writable, Error> {
    let found = seen(call, id).await?;
    if found.seen != Visibility::Owner {
        return Err(not_yours("Only the owner can write to a snapshot."));
    }
    let (account, region, wanted) = (call.account().clone(), call.region.clone(), id.clone());
    let open = call.world.db.read(move |tx| upload::get(tx, &account, &region, &wanted)).await?;
    match (&found.snapshot.state, open) {
        (SnapshotState::Pending(_), Some(upload)) if upload.is_expired(call.now) => {
            let message = "Nothing was written within the timeout of the snapshot.";
            Err(invalid(Reason::WriteRequestTimeout, message))
        }
        (SnapshotState::Pending(_), Some(upload)) => Ok(Writable { found, upload }),
        (_, _) => {
            call.world.uploads.forget(id);
            Err(invalid(Reason::InvalidSnapshotId, NOT_PENDING))
        }
    }
}

/// The region's snapshots.
pub(crate) fn store(call: &Call) -> Result<SnapshotStore, Error> {
    let cell = call.world.cells.get(&call.region);
    // The front door refuses regions that are not served.
    Ok(cell.expect("the region of a call is served").snapshots.clone())
}

/// Opens a completed snapshot. Blocks; see [`super::blocking`].
pub(crate) fn open(store: &SnapshotStore, root: &[u8]) -> Result<SnapshotReader, Error> {
    let root = SnapshotRoot::from_bytes(root).map_err(Error::internal)?;
    SnapshotReader::open(store, &root).map_err(Error::internal)
}

/// The root of a completed snapshot.
pub(crate) fn root(found: &FoundSnapshot) -> Result<Vec<u8>, Error> {
    found.snapshot.root.clone().ok_or_else(|| corrupt("root"))
}

/// A row that contradicts itself.
pub(crate) fn corrupt(column: &'static str) -> Error {
    ebs::Error::Corrupt { table: "ebs_snapshots", column }.into()
}
