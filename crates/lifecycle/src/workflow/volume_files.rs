//! Every volume has its file from the moment it is usable: one that is not there has been lost.
//!
//! Servers before this made it when the volume was first opened.

use super::export_snapshot::blocks_of;
use crate::services::{Services, Trouble};
use ebs::volume;

/// Makes the files that an earlier release had not made yet. Call it before anything is opened.
///
/// # Errors
/// When the rows fail. A volume whose file cannot be made is no error here: it can be made at the next start.
pub(super) async fn make_missing(services: &Services) -> Result<(), Trouble> {
    for volume in services.db.read(volume::without_file).await? {
        if let Err(error) = services.blocks.make_volume(&blocks_of(&volume)).await {
            let error = base::with_causes(&error);
            tracing::error!(volume = %volume.id, error, "a volume's file was not made");
            continue;
        }
        services.db.write(move |tx| volume::note_file(tx, &volume.region, &volume.id)).await?;
    }
    Ok(())
}
