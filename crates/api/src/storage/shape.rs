//! Shapes that several storage operations carry.

use crate::call::Call;
use awsproto::{Shape, string_enum};
use base::{InstanceId, SnapshotId, Timestamp, VolumeId};
use ebs::attachment::Attachment;
use ebs::tag;
use ebs::{Snapshot, SnapshotState, StateMessage, StorageTier, Volume};

/// A tag as it is set and shown.
#[derive(Clone, Shape)]
pub(crate) struct Tag {
    #[shape(query = "Key")]
    pub(crate) key: String,
    #[shape(query = "Value", default)]
    pub(crate) value: String,
}

impl From<tag::Tag> for Tag {
    fn from((key, value): tag::Tag) -> Self {
        Self { key, value }
    }
}

/// Tags for a resource that is being created.
#[derive(Shape)]
#[shape(input)]
pub(crate) struct TagSpecification {
    pub(crate) resource_type: Option<String>,
    #[shape(query = "Tag")]
    pub(crate) tags: Vec<Tag>,
}

/// One filter of a `Describe` call.
#[derive(Clone, Shape)]
#[shape(input)]
pub(crate) struct Filter {
    pub(crate) name: Option<String>,
    #[shape(query = "Value")]
    pub(crate) values: Vec<String>,
}

string_enum! {
    /// Who protects a resource's data key.
    pub(crate) enum SseType {
        /// A KMS key.
        SseKms = "sse-kms",
        /// Nobody but the service.
        None = "none",
    }
}

impl SseType {
    pub(crate) fn of(encrypted: bool) -> Self {
        if encrypted { Self::SseKms } else { Self::None }
    }
}

/// One volume at one instance.
#[derive(Clone, Shape)]
#[shape(output, omitted(AssociatedResource, InstanceOwningService, EbsCardIndex))]
pub(crate) struct AttachmentShape {
    pub(crate) delete_on_termination: bool,
    pub(crate) volume_id: VolumeId,
    pub(crate) instance_id: InstanceId,
    pub(crate) device: String,
    #[shape(xml = "status")]
    pub(crate) state: String,
    pub(crate) attach_time: Timestamp,
}

impl AttachmentShape {
    /// The attachment as the rows have it.
    pub(crate) fn of(attachment: &Attachment) -> Self {
        Self::in_state(attachment, attachment.state.as_str())
    }

    /// The attachment on its way into or out of a state, as replies to requests show it.
    pub(crate) fn in_state(attachment: &Attachment, state: &str) -> Self {
        Self {
            delete_on_termination: attachment.delete_on_termination,
            volume_id: attachment.volume.clone(),
            instance_id: attachment.instance.clone(),
            device: attachment.device.clone(),
            state: state.to_owned(),
            attach_time: attachment.attached,
        }
    }
}

/// A volume.
#[derive(Clone, Shape)]
#[shape(output, omitted(OutpostArn, SourceVolumeId, Operator))]
pub(crate) struct VolumeShape {
    pub(crate) availability_zone: String,
    pub(crate) availability_zone_id: String,
    pub(crate) iops: Option<u32>,
    #[shape(xml = "tagSet")]
    pub(crate) tags: Vec<Tag>,
    pub(crate) volume_type: String,
    pub(crate) fast_restored: Option<bool>,
    pub(crate) multi_attach_enabled: bool,
    pub(crate) throughput: Option<u32>,
    pub(crate) sse_type: Option<SseType>,
    pub(crate) volume_id: VolumeId,
    pub(crate) size: u32,
    pub(crate) snapshot_id: String,
    #[shape(xml = "status")]
    pub(crate) state: String,
    pub(crate) create_time: Timestamp,
    #[shape(xml = "attachmentSet")]
    pub(crate) attachments: Option<Vec<AttachmentShape>>,
    pub(crate) encrypted: bool,
    pub(crate) kms_key_id: Option<String>,
    pub(crate) volume_initialization_rate: Option<u32>,
    pub(crate) owner_id: String,
    pub(crate) volume_arn: String,
}

impl VolumeShape {
    /// A volume as `CreateVolume` answers it: without what only time brings (spec 01).
    pub(crate) fn created(
        volume: &Volume,
        zone_id: String,
        tags: Vec<tag::Tag>,
        initialization_rate_mib: Option<u32>,
    ) -> Self {
        Self {
            availability_zone: volume.zone.clone(),
            availability_zone_id: zone_id,
            iops: volume.iops,
            tags: tags.into_iter().map(Tag::from).collect(),
            volume_type: volume.volume_type.to_string(),
            fast_restored: None,
            multi_attach_enabled: false,
            throughput: volume.throughput_mib,
            sse_type: None,
            volume_id: volume.id.clone(),
            size: volume.size_gib,
            snapshot_id: volume.snapshot_id.as_ref().map(ToString::to_string).unwrap_or_default(),
            state: volume.state.as_str().to_owned(),
            create_time: volume.created,
            attachments: None,
            encrypted: volume.is_encrypted(),
            kms_key_id: volume.kms_key_arn.clone(),
            volume_initialization_rate: initialization_rate_mib,
            owner_id: volume.account.to_string(),
            volume_arn: ebs::arns::volume_arn(&volume.region, &volume.account, &volume.id),
        }
    }

    /// A volume as `DescribeVolumes` answers it.
    pub(crate) fn described(
        volume: &Volume,
        zone_id: String,
        tags: Vec<tag::Tag>,
        initialization_rate_mib: Option<u32>,
        attachments: &[Attachment],
    ) -> Self {
        Self {
            fast_restored: Some(false),
            sse_type: Some(SseType::of(volume.is_encrypted())),
            attachments: Some(attachments.iter().map(AttachmentShape::of).collect()),
            ..Self::created(volume, zone_id, tags, initialization_rate_mib)
        }
    }
}

/// A snapshot.
#[derive(Clone, Shape)]
#[shape(output, omitted(OwnerAlias, OutpostArn, AvailabilityZone, AssociatedKmsKeys))]
pub(crate) struct SnapshotShape {
    #[shape(xml = "tagSet")]
    pub(crate) tags: Vec<Tag>,
    pub(crate) storage_tier: Option<String>,
    pub(crate) restore_expiry_time: Option<Timestamp>,
    pub(crate) sse_type: Option<SseType>,
    pub(crate) transfer_type: Option<String>,
    pub(crate) completion_duration_minutes: Option<u32>,
    pub(crate) completion_time: Option<Timestamp>,
    pub(crate) full_snapshot_size_in_bytes: Option<i64>,
    pub(crate) snapshot_id: SnapshotId,
    pub(crate) volume_id: VolumeId,
    #[shape(xml = "status")]
    pub(crate) state: String,
    #[shape(xml = "statusMessage")]
    pub(crate) state_message: Option<String>,
    pub(crate) start_time: Timestamp,
    pub(crate) progress: String,
    pub(crate) owner_id: String,
    pub(crate) description: String,
    pub(crate) volume_size: u32,
    pub(crate) encrypted: bool,
    pub(crate) kms_key_id: Option<String>,
    pub(crate) data_encryption_key_id: Option<String>,
}

impl SnapshotShape {
    /// A snapshot as `CreateSnapshot` answers it.
    pub(crate) fn created(snapshot: &Snapshot, tags: Vec<tag::Tag>) -> Self {
        Self {
            tags: tags.into_iter().map(Tag::from).collect(),
            storage_tier: None,
            restore_expiry_time: None,
            sse_type: None,
            transfer_type: None,
            completion_duration_minutes: None,
            completion_time: None,
            full_snapshot_size_in_bytes: None,
            snapshot_id: snapshot.id.clone(),
            volume_id: snapshot.volume_id.clone(),
            state: snapshot.state.as_str().to_owned(),
            state_message: None,
            start_time: snapshot.started,
            progress: progress(&snapshot.state),
            owner_id: snapshot.account.to_string(),
            description: snapshot.description.clone(),
            volume_size: snapshot.size_gib,
            encrypted: snapshot.is_encrypted(),
            kms_key_id: snapshot.kms_key_arn.clone(),
            data_encryption_key_id: None,
        }
    }

    /// A snapshot as `DescribeSnapshots` answers it. Only the owner sees tags, and where to ask why
    /// it failed.
    pub(crate) fn described(
        call: &Call,
        snapshot: &Snapshot,
        tags: Vec<tag::Tag>,
        restore_expires: Option<Timestamp>,
    ) -> Self {
        let explains = snapshot.account == *call.account() && call.shows_explain_ids();
        let state_message = match &snapshot.state {
            SnapshotState::Error { message, .. } if explains => Some(message.clone()),
            SnapshotState::Error { message, .. } => {
                Some(StateMessage::of_stored(message).sentence.to_owned())
            }
            SnapshotState::Pending(_) | SnapshotState::Completed { .. } => None,
        };
        let completion_time = match &snapshot.state {
            SnapshotState::Completed { at } => Some(*at),
            SnapshotState::Pending(_) | SnapshotState::Error { .. } => None,
        };
        let key = snapshot.data_key.as_ref().filter(|_| snapshot.is_encrypted());
        let full_bytes = snapshot.is_completed().then_some(snapshot.full_bytes);
        Self {
            storage_tier: Some(StorageTier::of(snapshot).as_str().to_owned()),
            restore_expiry_time: restore_expires,
            sse_type: Some(SseType::of(snapshot.is_encrypted())),
            transfer_type: snapshot.copied_from.as_ref().map(|_| transfer_type(snapshot)),
            completion_duration_minutes: snapshot.completion_minutes,
            completion_time,
            full_snapshot_size_in_bytes: full_bytes
                .map(|bytes| i64::try_from(bytes).expect("the column is a BIGINT")),
            state_message,
            data_encryption_key_id: key.map(|key| key.lineage.clone()),
            ..Self::created(snapshot, tags)
        }
    }
}

fn transfer_type(snapshot: &Snapshot) -> String {
    let time_based = snapshot.completion_minutes.is_some();
    if time_based { "time-based" } else { "standard" }.to_owned()
}

/// `37%`; a snapshot that failed before it moved anything shows `0%` (spec 20, C.6).
pub(crate) fn progress(state: &SnapshotState) -> String {
    format!("{}%", state.progress())
}
