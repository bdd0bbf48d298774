//! Look-ups of volumes, snapshots and instances, in EC2's words when there is nothing to find.

use super::{code, condition, zone};
use crate::call::Call;
use crate::error::Error;
use crate::pipeline::Ask;
use base::{Arn, InstanceId, Region, SnapshotId, VolumeId};
use ebs::tag::{self, Tag};
use ebs::visibility::Visibility;
use ebs::{Instance, Snapshot, Volume, arns, instance, permission, volume};

/// A volume of the caller's account, with its tags.
pub(crate) struct FoundVolume {
    pub(crate) volume: Volume,
    pub(crate) zone_id: String,
    pub(crate) tags: Vec<Tag>,
}

impl FoundVolume {
    /// The volume, when it exists and is the account's.
    pub(crate) async fn find(call: &Call, id: &VolumeId) -> Result<Self, Error> {
        let (region, account, wanted) = (call.region.clone(), call.account().clone(), id.clone());
        let found = call
            .world
            .db
            .read(move |tx| {
                let Some(row) = volume::get(tx, &region, &wanted)? else { return Ok(None) };
                let tags = tag::of_resource(tx, &account, &region, wanted.as_str())?;
                Ok::<_, ebs::Error>((row.account == account).then_some((row, tags)))
            })
            .await?;
        let (volume, tags) = found.ok_or_else(|| code::volume_not_found(id.as_str()))?;
        let zone_id = zone_id(call, &volume.zone);
        Ok(Self { volume, zone_id, tags })
    }

    /// The condition keys of the volume, for actions that add their own.
    pub(crate) fn context(&self) -> iam::Context {
        condition::of_volume(&self.volume, &self.zone_id, &self.tags)
    }

    /// Permission for an action on the volume.
    pub(crate) fn ask(&self, action: &str) -> Ask {
        let Volume { region, account, id, .. } = &self.volume;
        let arn = parsed(&arns::volume_arn(region, account, id));
        Ask::on(action, &arn, account).with(self.context())
    }
}

/// A snapshot the caller's account sees, and how.
pub(crate) struct FoundSnapshot {
    pub(crate) snapshot: Snapshot,
    pub(crate) seen: Visibility,
    tags: Vec<Tag>,
}

impl FoundSnapshot {
    /// The snapshot of a region, when it exists and the account sees it.
    pub(crate) async fn find_in(
        call: &Call,
        region: &Region,
        id: &SnapshotId,
    ) -> Result<Option<Self>, Error> {
        let (region, account, id) = (region.clone(), call.account().clone(), id.clone());
        let found = call
            .world
            .db
            .read(move |tx| {
                let found = permission::find_seen(tx, &region, &id, &account)?;
                let Some((snapshot, seen)) = found else { return Ok(None) };
                let tags = match seen {
                    Visibility::Owner => tag::of_resource(tx, &account, &region, id.as_str())?,
                    Visibility::Shared | Visibility::Public | Visibility::Hidden => Vec::new(),
                };
                Ok::<_, ebs::Error>(Some(Self { snapshot, seen, tags }))
            })
            .await?;
        Ok(found)
    }

    /// The snapshot of the call's region, when the account sees it.
    pub(crate) async fn find(call: &Call, id: &SnapshotId) -> Result<Self, Error> {
        let found = Self::find_in(call, &call.region, id).await?;
        found.ok_or_else(|| code::snapshot_not_found(id.as_str()))
    }

    /// The condition keys of the snapshot, for actions that add their own.
    pub(crate) fn context(&self) -> iam::Context {
        condition::of_snapshot(&self.snapshot, self.seen, &self.tags)
    }

    /// Permission for an action on the snapshot.
    pub(crate) fn ask(&self, action: &str) -> Ask {
        let Snapshot { region, account, id, .. } = &self.snapshot;
        Ask::on(action, &parsed(&arns::snapshot_arn(region, id)), account).with(self.context())
    }
}

/// A machine of the caller's account.
pub(crate) struct FoundInstance {
    pub(crate) instance: Instance,
    zone_id: String,
    tags: Vec<Tag>,
}

impl FoundInstance {
    /// The machine, when it exists and is the account's.
    pub(crate) async fn find(call: &Call, id: &InstanceId) -> Result<Self, Error> {
        let (region, account, wanted) = (call.region.clone(), call.account().clone(), id.clone());
        let found = call
            .world
            .db
            .read(move |tx| {
                let Some(row) = instance::get(tx, &account, &region, &wanted)? else {
                    return Ok(None);
                };
                let tags = tag::of_resource(tx, &account, &region, wanted.as_str())?;
                Ok::<_, ebs::Error>(Some((row, tags)))
            })
            .await?;
        let (instance, tags) = found.ok_or_else(|| {
            let message = format!("The instance ID '{id}' does not exist");
            Error::new(code::INVALID_INSTANCE_NOT_FOUND, message)
        })?;
        let zone_id = zone_id(call, &instance.zone);
        Ok(Self { instance, zone_id, tags })
    }

    /// Permission for an action on the machine.
    pub(crate) fn ask(&self, action: &str) -> Ask {
        let Instance { region, account, id, .. } = &self.instance;
        let context = condition::of_instance(&self.instance, &self.zone_id, &self.tags);
        Ask::on(action, &parsed(&arns::instance_arn(region, account, id)), account).with(context)
    }
}

/// The id of a zone of the call's region.
pub(crate) fn zone_id(call: &Call, name: &str) -> String {
    zone::id_of(call.world.regions.zones(&call.region), &call.region, name)
}

/// An ARN that this program has just written.
pub(crate) fn parsed(arn: &str) -> Arn {
    Arn::parse(arn).expect("an ARN made from its parts parses")
}
