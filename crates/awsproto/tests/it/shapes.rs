//! Shapes modelled on real operations.

use awsproto::{Blob, FromWire, Shape, ToWire};
use base::{Secret, SnapshotId, Timestamp, VolumeId};
use std::collections::BTreeMap;

awsproto::string_enum! {
    /// A part of the real list.
    pub(crate) enum VolumeType { Gp2 = "gp2", Gp3 = "gp3", Io2 = "io2" }
}

#[derive(Shape, Debug, PartialEq, Clone)]
pub(crate) struct Tag {
    pub(crate) key: String,
    pub(crate) value: String,
}

#[derive(Shape, Debug, PartialEq)]
#[shape(input)]
pub(crate) struct TagSpecification {
    pub(crate) resource_type: Option<String>,
    #[shape(query = "Tag")]
    pub(crate) tags: Vec<Tag>,
}

#[derive(Shape, Debug)]
#[shape(
    input,
    unsupported(
        OutpostArn,
        Operator,
        MultiAttachEnabled,
        AvailabilityZoneId,
        Throughput,
        VolumeInitializationRate
    )
)]
pub(crate) struct CreateVolumeInput {
    pub(crate) availability_zone: Option<String>,
    pub(crate) encrypted: Option<bool>,
    pub(crate) iops: Option<i32>,
    pub(crate) kms_key_id: Option<String>,
    pub(crate) size: Option<i32>,
    pub(crate) snapshot_id: Option<SnapshotId>,
    pub(crate) volume_type: Option<VolumeType>,
    #[shape(query = "TagSpecification")]
    pub(crate) tag_specifications: Vec<TagSpecification>,
    pub(crate) client_token: Option<String>,
    #[shape(default)]
    pub(crate) dry_run: bool,
}

#[derive(Shape, Debug)]
#[shape(output, omitted(AssociatedResource, InstanceOwningService, EbsCardIndex))]
pub(crate) struct VolumeAttachment {
    pub(crate) device: Option<String>,
    pub(crate) instance_id: Option<String>,
    #[shape(xml = "status")]
    pub(crate) state: Option<String>,
    pub(crate) volume_id: VolumeId,
    pub(crate) attach_time: Option<Timestamp>,
    pub(crate) delete_on_termination: bool,
}

#[derive(Shape, Debug)]
#[shape(output)]
pub(crate) struct Volume {
    pub(crate) volume_id: VolumeId,
    pub(crate) size: i32,
    #[shape(xml = "status")]
    pub(crate) state: String,
    pub(crate) create_time: Timestamp,
    #[shape(xml = "attachmentSet")]
    pub(crate) attachments: Vec<VolumeAttachment>,
    #[shape(xml = "tagSet")]
    pub(crate) tags: Option<Vec<Tag>>,
    pub(crate) encrypted: bool,
    pub(crate) volume_type: VolumeType,
}

#[derive(Shape, Debug)]
#[shape(output)]
pub(crate) struct DescribeVolumesOutput {
    #[shape(xml = "volumeSet")]
    pub(crate) volumes: Vec<Volume>,
    pub(crate) next_token: Option<String>,
}

#[derive(Shape, Debug)]
pub(crate) struct CreateRoleInput {
    pub(crate) path: Option<String>,
    pub(crate) role_name: String,
    pub(crate) assume_role_policy_document: String,
    pub(crate) max_session_duration: Option<i32>,
    pub(crate) tags: Option<Vec<Tag>>,
}

#[derive(Shape, Debug)]
pub(crate) struct EncryptInput {
    pub(crate) key_id: String,
    #[shape(sensitive)]
    pub(crate) plaintext: Blob,
    pub(crate) encryption_context: BTreeMap<String, String>,
    pub(crate) grant_tokens: Vec<String>,
}

#[derive(Shape, Debug)]
pub(crate) struct PutSnapshotBlockInput {
    #[shape(label)]
    pub(crate) snapshot_id: SnapshotId,
    #[shape(label)]
    pub(crate) block_index: i32,
    #[shape(header = "x-amz-Data-Length")]
    pub(crate) data_length: i32,
    #[shape(header = "x-amz-Checksum")]
    pub(crate) checksum: String,
    #[shape(payload, sensitive)]
    pub(crate) block_data: Blob,
}

#[derive(Shape, Debug)]
pub(crate) struct Odd {
    #[shape(text)]
    pub(crate) one: std::net::Ipv4Addr,
    #[shape(text)]
    pub(crate) maybe: Option<std::net::Ipv4Addr>,
    #[shape(text)]
    pub(crate) many: Option<Vec<std::net::Ipv4Addr>>,
    #[shape(text, required)]
    pub(crate) map: BTreeMap<String, std::net::Ipv4Addr>,
    #[shape(sensitive)]
    pub(crate) password: Option<Secret<String>>,
    #[shape(name = "KMSKey")]
    pub(crate) r#type: Option<String>,
    #[shape(timestamp = "iso8601", json = "when")]
    pub(crate) at: Option<Timestamp>,
}

#[test]
fn a_shape_knows_its_members() {
    let names: Vec<_> = Odd::SCHEMA.members.iter().map(|m| (m.name, m.required)).collect();
    let expected = [
        ("One", true),
        ("Maybe", false),
        ("Many", false),
        ("Map", true),
        ("Password", false),
        ("KMSKey", false),
        ("At", false),
    ];
    assert_eq!(names, expected);
    let value = EncryptInput {
        key_id: "k".into(),
        plaintext: vec![1].into(),
        encryption_context: BTreeMap::new(),
        grant_tokens: vec![],
    }
    .to_wire()
    .unwrap();
    assert_eq!(EncryptInput::from_wire(value).unwrap().plaintext.len(), 1);
}
