//! Gives back the space of blocks that nothing reaches any more.
//!
//! Asked for whenever a snapshot or volume is gone. Nothing is removed on the strength of that
//! request: what is live is read from the rows when the work runs.

use crate::services::{Services, Trouble};
use base::Region;
use ebs::roots::live_roots;
use serde::{Deserialize, Serialize};

/// A region to be swept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collect {
    /// Where.
    pub region: Region,
}

/// Does the work.
///
/// # Errors
/// When the rows or the block store fail.
pub async fn run(services: &Services, job: &Collect) -> Result<(), Trouble> {
    let region = job.region.clone();
    let roots = services.db.read(move |tx| live_roots(tx, &region)).await?;
    services.blocks.collect(&job.region, roots).await?;
    Ok(())
}
