//! The condition keys of storage resources (spec 20, A.7; spec/tables/actions.json).

use base::{Region, VolumeId};
use ebs::snapshot::NO_VOLUME;
use ebs::tag::Tag;
use ebs::visibility::Visibility;
use ebs::{Instance, Snapshot, Volume, arns};
use iam::Context;

/// Every EC2 action has the region.
pub(crate) fn of_region(region: &Region) -> Context {
    let mut context = Context::new();
    context.set("ec2:Region", region.as_str());
    context
}

/// The tags a resource has.
fn set_tags(context: &mut Context, tags: &[Tag]) {
    for (key, value) in tags {
        context.set(format!("aws:ResourceTag/{key}"), value.as_str());
        context.set(format!("ec2:ResourceTag/{key}"), value.as_str());
    }
}

/// The tags a request brings.
pub(crate) fn set_request_tags(context: &mut Context, tags: &[Tag]) {
    if tags.is_empty() {
        return;
    }
    for (key, value) in tags {
        context.set(format!("aws:RequestTag/{key}"), value.as_str());
    }
    context.set_multi("aws:TagKeys", tags.iter().map(|(key, _)| key.clone()));
}

/// What a policy may ask about a volume, whether it exists or is about to.
pub(crate) struct VolumeFacts<'a> {
    /// Where.
    pub(crate) region: &'a Region,
    /// Its zone.
    pub(crate) zone: &'a str,
    /// The zone's id.
    pub(crate) zone_id: &'a str,
    /// Its id, when it exists.
    pub(crate) id: Option<&'a VolumeId>,
    /// Its snapshot's ARN.
    pub(crate) parent_snapshot: Option<String>,
    /// Its key's ARN.
    pub(crate) kms_key_arn: Option<&'a str>,
    /// Size.
    pub(crate) size_gib: u32,
    /// Type.
    pub(crate) volume_type: &'a str,
    /// IOPS.
    pub(crate) iops: Option<u32>,
    /// Throughput.
    pub(crate) throughput_mib: Option<u32>,
    /// Whether it is encrypted.
    pub(crate) encrypted: bool,
}

impl VolumeFacts<'_> {
    /// The keys of the volume, without tags.
    pub(crate) fn context(&self) -> Context {
        let mut context = of_region(self.region);
        context.set("ec2:AvailabilityZone", self.zone);
        context.set("ec2:AvailabilityZoneId", self.zone_id);
        context.set_flag("ec2:Encrypted", self.encrypted);
        context.set_opt("ec2:KmsKeyId", self.kms_key_arn);
        context.set_opt("ec2:ParentSnapshot", self.parent_snapshot.as_deref());
        context.set_opt("ec2:VolumeID", self.id.map(VolumeId::as_str));
        context.set("ec2:VolumeSize", self.size_gib.to_string());
        context.set("ec2:VolumeType", self.volume_type);
        context.set_opt("ec2:VolumeIops", self.iops.map(|n| n.to_string()));
        context.set_opt("ec2:VolumeThroughput", self.throughput_mib.map(|n| n.to_string()));
        context
    }
}

/// The keys of a volume that exists.
pub(crate) fn of_volume(volume: &Volume, zone_id: &str, tags: &[Tag]) -> Context {
    let snapshot = volume.snapshot_id.as_ref();
    let mut context = VolumeFacts {
        region: &volume.region,
        zone: &volume.zone,
        zone_id,
        id: Some(&volume.id),
        parent_snapshot: snapshot.map(|id| arns::snapshot_arn(&volume.region, id)),
        kms_key_arn: volume.kms_key_arn.as_deref(),
        size_gib: volume.size_gib,
        volume_type: volume.volume_type.as_str(),
        iops: volume.iops,
        throughput_mib: volume.throughput_mib,
        encrypted: volume.is_encrypted(),
    }
    .context();
    set_tags(&mut context, tags);
    context
}

/// The keys of a snapshot that exists. Tags are the owner's and no one else's.
pub(crate) fn of_snapshot(snapshot: &Snapshot, seen: Visibility, tags: &[Tag]) -> Context {
    let mut context = of_region(&snapshot.region);
    context.set("ec2:Owner", snapshot.account.as_str());
    context.set("ec2:SnapshotID", snapshot.id.as_str());
    context.set("ec2:SnapshotTime", snapshot.started.iso_millis());
    context.set("ec2:VolumeSize", snapshot.size_gib.to_string());
    context.set_flag("ec2:Encrypted", snapshot.is_encrypted());
    if snapshot.volume_id.as_str() != NO_VOLUME {
        let (region, account) = (&snapshot.region, &snapshot.account);
        let parent = arns::volume_arn(region, account, &snapshot.volume_id);
        context.set("ec2:ParentVolume", parent);
    }
    if seen == Visibility::Owner {
        set_tags(&mut context, tags);
    }
    context
}

/// The keys of an instance.
pub(crate) fn of_instance(instance: &Instance, zone_id: &str, tags: &[Tag]) -> Context {
    let mut context = of_region(&instance.region);
    context.set("ec2:AvailabilityZone", instance.zone.as_str());
    context.set("ec2:AvailabilityZoneId", zone_id);
    context.set("ec2:InstanceID", instance.id.as_str());
    set_tags(&mut context, tags);
    context
}
