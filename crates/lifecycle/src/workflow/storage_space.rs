//! Telling the owners of volumes that the storage below them runs out.

use crate::services::{Services, Trouble};
use base::Region;
use blockstore::store::SpaceLevel;
use ebs::volume;
use events::event::put_event;
use events::notification::{self, StorageSpace};

/// Puts an event on the bus of every account that has volumes in the region.
///
/// # Errors
/// When the rows cannot be read or written.
pub async fn tell(services: &Services, region: &Region, level: SpaceLevel) -> Result<(), Trouble> {
    let space = match level {
        SpaceLevel::Ample => StorageSpace::Ample,
        SpaceLevel::Low => StorageSpace::Low,
        SpaceLevel::Full => StorageSpace::Full,
    };
    let of = region.clone();
    let owners = services.db.read(move |tx| volume::owners(tx, &of)).await?;
    let events: Vec<_> = owners
        .iter()
        .map(|account| notification::storage_space(services.envelope(account, region), space))
        .collect();
    services
        .db
        .write(move |tx| {
            for event in &events {
                put_event(tx, event)?;
            }
            Ok(())
        })
        .await
}
