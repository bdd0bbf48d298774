//! The regions' stores below the data directory: `regions/<region>/{volumes,objects}`.

use super::cannot_start;
use super::data_dir::DataDir;
use crate::exit::Failure;
use base::{Clock, OsRng, Region, SystemClock};
use blockstore::snapshot::SnapshotStore;
use blockstore::store::{Store, StoreConfig};
use kms::seal::Root;
use lifecycle::cells::{Cell, Cells};
use objstore::LocalStore;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Opens the stores of all regions.
pub(super) fn open<'a>(
    data_dir: &DataDir,
    seal: &Root,
    regions: impl Iterator<Item = &'a Region>,
) -> Result<Cells, Failure> {
    let mut cells = BTreeMap::new();
    for region in regions {
        let folder = data_dir.regions().join(region.as_str());
        let live_key = seal.service_key(&format!("blocks-live-1/{region}"));
        let live = Store::open(&folder, live_key, Arc::new(OsRng), StoreConfig::server())
            .map_err(|error| cannot_start(format!("{}: {error}", folder.display())))?;
        let objects = LocalStore::open(&folder.join("objects"))
            .map_err(|error| cannot_start(format!("{}: {error}", folder.display())))?;
        // This process has the directory to itself, so whatever is half written is nobody's.
        objects
            .remove_stale_uploads(SystemClock.now())
            .map_err(|error| cannot_start(format!("{}: {error}", folder.display())))?;
        let snapshots_key = seal.service_key(&format!("blocks-snapshots-1/{region}"));
        let snapshots = SnapshotStore::new(Arc::new(objects), &snapshots_key, Arc::new(OsRng));
        cells.insert(region.clone(), Cell::new(live, snapshots));
    }
    Ok(Cells::new(cells, Arc::new(SystemClock)))
}
