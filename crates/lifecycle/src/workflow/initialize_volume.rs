//! Fills a volume from the snapshot it came from, a turn at a time (spec 01, "Lazy load").
//!
//! The volume is usable all the while; what is not there yet is read through. Its row keeps the
//! snapshot's blocks alive, so the snapshot may be deleted meanwhile.

use super::export_snapshot::blocks_of;
use super::progress::Wanted;
use crate::port::blocks::{FillVolume, Filled};
use crate::services::{Services, Trouble};
use base::{AccountId, Region, VolumeId};
use ebs::{VolumeState, initialization, volume};
use events::notification;
use events::put_event;
use serde::{Deserialize, Serialize};

/// A volume to be filled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitializeVolume {
    /// Where.
    pub region: Region,
    /// Whose.
    pub account: AccountId,
    /// Which.
    pub volume: VolumeId,
}

/// Whether a turn was the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Nothing is left to do.
    Last,
    /// There is more.
    More,
}

/// Does a turn of the work.
///
/// # Errors
/// When the rows or the block store fail.
pub async fn run(services: &Services, job: &InitializeVolume) -> Result<Turn, Trouble> {
    let (region, id) = (job.region.clone(), job.volume.clone());
    let found = services
        .db
        .read(move |tx| {
            let row = volume::get(tx, &region, &id)?;
            Ok::<_, ebs::Error>((row, initialization::get(tx, &region, &id)?))
        })
        .await?;
    let (Some(row), Some(filling)) = found else { return Ok(Turn::Last) };
    if row.state == VolumeState::Deleting || filling.completed.is_some() {
        return Ok(Turn::Last);
    }
    let fill = FillVolume {
        volume: blocks_of(&row),
        rate_mib: filling.rate_mib,
        resume: filling.checkpoint,
    };
    let filled = services.blocks.fill_volume(&fill, &Wanted::of_this_job()).await?;
    let (job, now) = (job.clone(), services.clock.now());
    let told =
        notification::initialize_volume(services.envelope(&job.account, &job.region), &job.volume);
    services
        .db
        .write(move |tx| match &filled {
            Filled::Wholly => {
                if initialization::complete(tx, &job.region, &job.volume, now)? {
                    put_event(tx, &told)?;
                }
                Ok(Turn::Last)
            }
            Filled::UpTo { resume, percent } => {
                let (region, volume, percent) = (&job.region, &job.volume, u32::from(*percent));
                let wanted = initialization::advance(tx, region, volume, percent, resume)?;
                Ok(if wanted { Turn::More } else { Turn::Last })
            }
        })
        .await
}
