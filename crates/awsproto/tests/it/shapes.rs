//! Shapes modelled on real operations, declared as operation files declare them.

use awsproto::{Blob, OperationInfo, Protocol, Router, ServiceInfo, Shape};
use base::{Arn, Secret, SnapshotId, Timestamp, VolumeId};
use std::collections::BTreeMap;

awsproto::string_enum! {
    pub(crate) enum VolumeType { Gp2 = "gp2", Gp3 = "gp3", Io2 = "io2" }
}

#[derive(Shape, Clone, Debug, PartialEq)]
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
    dry_run,
    unsupported(
        OutpostArn,
        Operator,
        MultiAttachEnabled,
        AvailabilityZoneId,
        VolumeInitializationRate
    )
)]
pub(crate) struct CreateVolumeInput {
    pub(crate) availability_zone: Option<String>,
    pub(crate) encrypted: Option<bool>,
    pub(crate) iops: Option<i32>,
    pub(crate) throughput: Option<i32>,
    pub(crate) kms_key_id: Option<String>,
    pub(crate) size: Option<i32>,
    pub(crate) snapshot_id: Option<SnapshotId>,
    pub(crate) volume_type: Option<VolumeType>,
    #[shape(query = "TagSpecification")]
    pub(crate) tag_specifications: Vec<TagSpecification>,
    pub(crate) client_token: Option<String>,
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
#[shape(
    output,
    omitted(
        OutpostArn,
        SourceVolumeId,
        Iops,
        FastRestored,
        MultiAttachEnabled,
        Throughput,
        SseType,
        Operator,
        VolumeInitializationRate,
        OwnerId,
        VolumeArn,
        SnapshotId,
        AvailabilityZone,
        AvailabilityZoneId,
        KmsKeyId
    )
)]
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
#[shape(input)]
pub(crate) struct Filter {
    pub(crate) name: Option<String>,
    #[shape(query = "Value")]
    pub(crate) values: Vec<String>,
}

#[derive(Shape, Debug)]
#[shape(input, dry_run, unsupported(IncludeManagedResources))]
pub(crate) struct DescribeVolumesInput {
    #[shape(query = "VolumeId", xml = "volumeSet", list_item = "VolumeId")]
    pub(crate) volume_ids: Vec<VolumeId>,
    #[shape(query = "Filter", xml = "filterSet")]
    pub(crate) filters: Vec<Filter>,
    pub(crate) next_token: Option<String>,
    pub(crate) max_results: Option<i32>,
}

#[derive(Shape, Debug)]
#[shape(output)]
pub(crate) struct DescribeVolumesOutput {
    #[shape(xml = "volumeSet")]
    pub(crate) volumes: Vec<Volume>,
    pub(crate) next_token: Option<String>,
}

#[derive(Shape, Debug)]
#[shape(input)]
pub(crate) struct DeleteVolumeInput {
    pub(crate) volume_id: VolumeId,
}

#[derive(Shape, Debug)]
#[shape(input, unsupported(PermissionsBoundary, MaxSigninSessionDuration))]
pub(crate) struct CreateRoleInput {
    pub(crate) path: Option<String>,
    pub(crate) role_name: String,
    pub(crate) assume_role_policy_document: String,
    pub(crate) description: Option<String>,
    pub(crate) max_session_duration: Option<i32>,
    pub(crate) tags: Option<Vec<Tag>>,
}

#[derive(Shape, Debug)]
#[shape(
    output,
    omitted(
        PermissionsBoundary,
        RoleLastUsed,
        Description,
        MaxSessionDuration,
        MaxSigninSessionDuration,
        SourceRoleTemplate
    )
)]
pub(crate) struct Role {
    pub(crate) path: String,
    pub(crate) role_name: String,
    pub(crate) role_id: String,
    pub(crate) arn: Arn,
    pub(crate) create_date: Timestamp,
    pub(crate) assume_role_policy_document: Option<String>,
    pub(crate) tags: Vec<Tag>,
}

#[derive(Shape, Debug)]
#[shape(output)]
pub(crate) struct CreateRoleOutput {
    pub(crate) role: Role,
}

#[derive(Shape, Debug)]
#[shape(input, dry_run)]
pub(crate) struct EncryptInput {
    pub(crate) key_id: String,
    #[shape(sensitive)]
    pub(crate) plaintext: Blob,
    pub(crate) encryption_context: BTreeMap<String, String>,
    pub(crate) grant_tokens: Vec<String>,
    pub(crate) encryption_algorithm: Option<String>,
}

#[derive(Shape, Debug)]
#[shape(output)]
pub(crate) struct EncryptOutput {
    pub(crate) ciphertext_blob: Blob,
    pub(crate) key_id: String,
    pub(crate) encryption_algorithm: String,
}

#[derive(Shape, Debug)]
#[shape(input)]
pub(crate) struct PutSnapshotBlockInput {
    #[shape(label)]
    pub(crate) snapshot_id: SnapshotId,
    #[shape(label)]
    pub(crate) block_index: i32,
    #[shape(header = "x-amz-Data-Length")]
    pub(crate) data_length: i32,
    #[shape(header = "x-amz-Progress")]
    pub(crate) progress: Option<i32>,
    #[shape(header = "x-amz-Checksum")]
    pub(crate) checksum: String,
    #[shape(header = "x-amz-Checksum-Algorithm")]
    pub(crate) checksum_algorithm: String,
    #[shape(payload, sensitive)]
    pub(crate) block_data: Blob,
}

#[derive(Shape, Debug)]
#[shape(output)]
pub(crate) struct PutSnapshotBlockOutput {
    #[shape(header = "x-amz-Checksum")]
    pub(crate) checksum: String,
    #[shape(header = "x-amz-Checksum-Algorithm")]
    pub(crate) checksum_algorithm: String,
}

#[derive(Shape, Debug)]
#[shape(input)]
pub(crate) struct ListSnapshotBlocksInput {
    #[shape(label)]
    pub(crate) snapshot_id: SnapshotId,
    #[shape(querystring = "pageToken")]
    pub(crate) next_token: Option<String>,
    #[shape(querystring)]
    pub(crate) max_results: Option<i32>,
    #[shape(querystring)]
    pub(crate) starting_block_index: Option<i32>,
}

#[derive(Shape, Debug)]
#[shape(output)]
pub(crate) struct Block {
    pub(crate) block_index: i32,
    pub(crate) block_token: String,
}

#[derive(Shape, Debug)]
#[shape(output)]
pub(crate) struct ListSnapshotBlocksOutput {
    #[shape(sensitive)]
    pub(crate) blocks: Vec<Block>,
    pub(crate) expiry_time: Timestamp,
    pub(crate) volume_size: i64,
    pub(crate) block_size: i32,
    pub(crate) next_token: Option<String>,
}

/// Every kind of member, for the properties of the document codecs.
#[derive(Shape)]
pub(crate) struct Everything {
    #[shape(text)]
    pub(crate) address: std::net::Ipv4Addr,
    #[shape(text)]
    pub(crate) maybe_address: Option<std::net::Ipv4Addr>,
    #[shape(text)]
    pub(crate) addresses: Option<Vec<std::net::Ipv4Addr>>,
    #[shape(text)]
    pub(crate) address_map: Option<BTreeMap<String, std::net::Ipv4Addr>>,
    #[shape(sensitive)]
    pub(crate) password: Option<Secret<String>>,
    #[shape(name = "KMSKey", query = "Key", xml = "theKey", json = "kmsKey")]
    pub(crate) r#type: Option<String>,
    #[shape(timestamp = "iso8601")]
    pub(crate) at: Option<Timestamp>,
    pub(crate) until: Timestamp,
    pub(crate) flag: Option<bool>,
    pub(crate) small: Option<i32>,
    pub(crate) large: Option<u64>,
    pub(crate) ratio: Option<f64>,
    pub(crate) bytes: Option<Blob>,
    #[shape(list_item = "Thing", query = "Thing")]
    pub(crate) things: Vec<Tag>,
    #[shape(flattened, xml = "flatItem")]
    pub(crate) flat: Vec<String>,
    pub(crate) nested: Option<Box<Nested>>,
    pub(crate) map: BTreeMap<String, Tag>,
}

#[derive(Shape)]
pub(crate) struct Nested {
    pub(crate) tag: Tag,
    pub(crate) matrix: Option<Vec<Vec<i64>>>,
}

/// Every place restJson1 has.
#[derive(Shape)]
#[shape(unsupported(Later))]
pub(crate) struct Everywhere {
    #[shape(label)]
    pub(crate) name: String,
    #[shape(label = "day")]
    pub(crate) when: Timestamp,
    #[shape(querystring)]
    pub(crate) tag_keys: Option<Vec<String>>,
    #[shape(querystring)]
    pub(crate) since: Option<Timestamp>,
    #[shape(header = "X-Amz-Flag")]
    pub(crate) flag: Option<bool>,
    pub(crate) body: Everything,
}

#[derive(Shape)]
pub(crate) struct WholeDocument {
    #[shape(status_code)]
    pub(crate) status: i32,
    #[shape(payload)]
    pub(crate) document: Option<Tag>,
}

const EC2: ServiceInfo = ServiceInfo {
    name: "ec2",
    protocol: Protocol::Ec2Query,
    version: "2016-11-15",
    target_prefix: "",
    xml_namespace: "http://ec2.amazonaws.com/doc/2016-11-15/",
};
const IAM: ServiceInfo = ServiceInfo {
    name: "iam",
    protocol: Protocol::AwsQuery,
    version: "2010-05-08",
    target_prefix: "",
    xml_namespace: "https://iam.amazonaws.com/doc/2010-05-08/",
};
const KMS: ServiceInfo = ServiceInfo {
    name: "kms",
    protocol: Protocol::AwsJson11,
    version: "2014-11-01",
    target_prefix: "TrentService",
    xml_namespace: "",
};
const EBS: ServiceInfo = ServiceInfo {
    name: "ebs",
    protocol: Protocol::RestJson1,
    version: "2019-11-02",
    target_prefix: "",
    xml_namespace: "",
};

pub(crate) static SERVICES: [ServiceInfo; 4] = [EC2, IAM, KMS, EBS];

const fn operation<I: Shape, O: Shape>(
    service: &ServiceInfo,
    name: &'static str,
    http: Option<(&'static str, &'static str)>,
    success_status: u16,
) -> OperationInfo {
    OperationInfo {
        service: service.name,
        name,
        protocol: service.protocol,
        http,
        success_status,
        input: I::SCHEMA,
        output: O::SCHEMA,
    }
}

pub(crate) static OPERATIONS: [OperationInfo; 13] = [
    operation::<CreateVolumeInput, Volume>(&EC2, "CreateVolume", None, 200),
    operation::<DescribeVolumesInput, DescribeVolumesOutput>(&EC2, "DescribeVolumes", None, 200),
    operation::<DeleteVolumeInput, ()>(&EC2, "DeleteVolume", None, 200),
    operation::<Everything, Everything>(&EC2, "Everything", None, 200),
    operation::<CreateRoleInput, CreateRoleOutput>(&IAM, "CreateRole", None, 200),
    operation::<Everything, Everything>(&IAM, "Everything", None, 200),
    operation::<(), ()>(&IAM, "Nothing", None, 200),
    operation::<EncryptInput, EncryptOutput>(&KMS, "Encrypt", None, 200),
    operation::<Everything, Everything>(&KMS, "Everything", None, 200),
    operation::<PutSnapshotBlockInput, PutSnapshotBlockOutput>(
        &EBS,
        "PutSnapshotBlock",
        Some(("PUT", "/snapshots/{snapshotId}/blocks/{blockIndex}")),
        201,
    ),
    operation::<ListSnapshotBlocksInput, ListSnapshotBlocksOutput>(
        &EBS,
        "ListSnapshotBlocks",
        Some(("GET", "/snapshots/{snapshotId}/blocks")),
        200,
    ),
    operation::<Everywhere, WholeDocument>(
        &EBS,
        "Everywhere",
        Some(("POST", "/everywhere/{name}/at/{day}/?mark")),
        200,
    ),
    operation::<(), ()>(&EBS, "Fixed", Some(("POST", "/everywhere/fixed/at/{day}")), 204),
];

pub(crate) fn router() -> Router {
    Router::new(&SERVICES, &OPERATIONS)
}

pub(crate) fn find(service: &str, name: &str) -> (&'static ServiceInfo, &'static OperationInfo) {
    let router = router();
    (router.service(service).expect("listed"), router.operation(service, name).expect("listed"))
}
