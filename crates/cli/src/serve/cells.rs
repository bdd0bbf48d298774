//! The regions' stores below the data directory: `regions/<region>/{volumes,objects,archive,twins}`.

use super::cannot_start;
use super::data_dir::DataDir;
use crate::args::{VolumeArgs, VolumeIo};
use crate::exit::Failure;
use base::{Clock, OsRng, Region, Secret, SystemClock};
use blockstore::live::IoMode;
use blockstore::snapshot::SnapshotStore;
use blockstore::store::{Store, StoreConfig};
use kms::seal::Root;
use lifecycle::BandwidthLimits;
use lifecycle::cells::{Cell, Cells};
use objstore::LocalStore;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// What to do with uploads of objects that an earlier run did not finish.
#[derive(Clone, Copy)]
pub(super) enum Leftovers {
    /// This process has the directory to itself, so whatever is half written is nobody's.
    Remove,
    /// This process only looks.
    Keep,
}

/// How the stores are opened.
pub(super) struct Opening<'a> {
    /// How volumes use the machine.
    pub(super) volumes: &'a VolumeArgs,
    /// What jobs may move.
    pub(super) limits: &'a BandwidthLimits,
    /// What an earlier run did not finish.
    pub(super) leftovers: Leftovers,
}

/// Opens the stores of all regions.
pub(super) fn open<'a>(
    data_dir: &DataDir,
    seal: &Root,
    regions: impl Iterator<Item = &'a Region>,
    opening: &Opening<'_>,
) -> Result<Cells, Failure> {
    let mut cells = BTreeMap::new();
    let config = store_config(opening.volumes);
    for region in regions {
        let folder = data_dir.regions().join(region.as_str());
        let live_key = seal.service_key(&format!("blocks-live-1/{region}"));
        let live = Store::open(&folder, live_key, Arc::new(OsRng), config)
            .map_err(|error| cannot_start(format!("{}: {error}", folder.display())))?;
        let open = |name: &str, key: &str| {
            let key = seal.service_key(&format!("{key}/{region}"));
            let objects = folder.join(name);
            let store = snapshot_store(&objects, &key, opening.leftovers)?;
            let floor = live.floor(&objects);
            let floor =
                floor.map_err(|error| cannot_start(format!("{}: {error}", objects.display())))?;
            Ok::<_, Failure>(floor.map(|floor| store.leaving(floor)).unwrap_or(store))
        };
        let snapshots = open("objects", "blocks-snapshots-1")?;
        let archive = open("archive", "blocks-archive-1")?;
        let twins = open("twins", "blocks-twins-1")?;
        cells.insert(region.clone(), Cell::new(live, snapshots, archive, twins));
    }
    Ok(Cells::new(cells, Arc::new(SystemClock), opening.limits))
}

fn snapshot_store(
    folder: &Path,
    key: &Secret<[u8; 32]>,
    leftovers: Leftovers,
) -> Result<SnapshotStore, Failure> {
    let failed = |error| cannot_start(format!("{}: {error}", folder.display()));
    let objects = LocalStore::open(folder).map_err(failed)?;
    if let Leftovers::Remove = leftovers {
        objects.remove_stale_uploads(SystemClock.now()).map_err(failed)?;
    }
    Ok(SnapshotStore::new(Arc::new(objects), key, Arc::new(OsRng)))
}

fn store_config(volumes: &VolumeArgs) -> StoreConfig {
    let mut config = StoreConfig::server();
    config.io = match volumes.volume_io {
        VolumeIo::Ring => IoMode::Ring,
        VolumeIo::Direct => IoMode::Direct,
        VolumeIo::Buffered => IoMode::Buffered,
    };
    config.engine = volumes.engine.config();
    config.space.reserve_bytes = u64::from(volumes.volume_reserve_mib) << 20;
    config.space.capacity_bytes = volumes.volume_capacity_gib.map(|gib| u64::from(gib) << 30);
    config
}
