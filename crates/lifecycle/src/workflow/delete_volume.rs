//! Removes a volume that was accepted for deletion: its bytes, then its row.

use super::initialize_volume::grant_of;
use super::keys::{EBS_BACK_END, ServiceKeys};
use crate::kinds::enqueue_collect;
use crate::services::{Services, Trouble};
use base::{AccountId, Region, VolumeId};
use ebs::arns::volume_arn;
use ebs::{VolumeState, foreign_base, snapshot, volume};
use events::{notification, put_event};
use serde::{Deserialize, Serialize};

/// A volume to be removed; its row is `deleting`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteVolume {
    /// Where.
    pub region: Region,
    /// Whose.
    pub account: AccountId,
    /// Which.
    pub volume: VolumeId,
    /// The request that asked.
    pub request_id: String,
}

/// Does the work. Errors are transient: run it again later.
///
/// # Errors
/// When the work cannot go on now.
pub async fn run(services: &Services, job: &DeleteVolume) -> Result<(), Trouble> {
    // Its pending snapshots are still read out of it.
    let cut = job.clone();
    let pending = services
        .db
        .read(move |tx| {
            snapshot::count_pending_of_volume(tx, &cut.account, &cut.region, &cut.volume)
        })
        .await?;
    if pending > 0 {
        return Err(Trouble::NotYet { what: "snapshots of the volume" });
    }
    retire_grant(services, job).await?;
    services.blocks.remove_volume(&job.region, &job.volume).await?;
    let job = job.clone();
    let now = services.clock.now();
    let envelope = services.envelope(&job.account, &job.region);
    let deleted = notification::delete_volume(envelope, &job.volume, &job.request_id);
    services
        .db
        .write(move |tx| {
            if volume::remove(tx, &job.region, &job.volume, VolumeState::Deleting)? {
                put_event(tx, &deleted)?;
                // Its base may have been the last to need a deleted snapshot's blocks.
                enqueue_collect(tx, &job.account, &job.region, now)?;
            }
            Ok(())
        })
        .await
}

/// Gives back what the volume's initialization would have needed.
async fn retire_grant(services: &Services, job: &DeleteVolume) -> Result<(), Trouble> {
    let (region, id) = (job.region.clone(), job.volume.clone());
    let read = move |tx: &mut meta::Tx<'_>| {
        let row = volume::get(tx, &region, &id)?;
        Ok::<_, ebs::Error>(row.zip(foreign_base::get(tx, &region, &id)?))
    };
    let found = services.db.read(read).await?;
    if let Some(grant) = found.and_then(|(row, foreign)| grant_of(&row, &foreign)) {
        let service_name = EBS_BACK_END.to_owned();
        let (kms, account) = (&*services.kms, &job.account);
        let resource = volume_arn(&job.region, account, &job.volume);
        ServiceKeys { kms, account, resource, service_name }.retire(&grant).await;
    }
    Ok(())
}
