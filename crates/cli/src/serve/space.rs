//! What the stores say about their space, put where events are.

use api::World;
use base::Region;
use blockstore::store::{SpaceLevel, SpaceReport, SpaceWatcher};
use lifecycle::workflow::storage_space;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Changes of level that wait to be written. There are a few in the life of a server.
const QUEUE: usize = 64;

/// Passes on what one region's store says, without holding up the volume that says it.
struct Teller {
    region: Region,
    sender: mpsc::Sender<(Region, SpaceLevel)>,
}

impl SpaceWatcher for Teller {
    fn space_changed(&self, report: SpaceReport) {
        if let Err(error) = self.sender.try_send((self.region.clone(), report.level)) {
            tracing::warn!(%error, region = %self.region, "a change of space is told to nobody");
        }
    }
}

/// Has every account with volumes in a region told when their storage runs out. Ends with the
/// stores.
pub(super) fn watch(world: &Arc<World>) {
    let (sender, mut told) = mpsc::channel(QUEUE);
    for (region, cell) in world.cells.iter() {
        let teller = Teller { region: region.clone(), sender: sender.clone() };
        cell.live.watch_space(Arc::new(teller));
    }
    let services = Arc::clone(&world.services);
    tokio::spawn(async move {
        while let Some((region, level)) = told.recv().await {
            if let Err(error) = storage_space::tell(&services, &region, level).await {
                tracing::error!(%error, %region, "an event about space could not be written");
            }
        }
    });
}
