//! The model check, on extracts of the real models.

use crate::shapes::{CreateRoleOutput, CreateVolumeInput, DeleteVolumeInput, Tag, Volume, find};
use awsproto::model::Model;
use awsproto::{OperationInfo, Protocol, Shape};
use expect_test::expect;

const EC2: &str = include_str!("../../../../tests/models/ec2.json");
const IAM: &str = include_str!("../../../../tests/models/iam.json");
const KMS: &str = include_str!("../../../../tests/models/kms.json");
const EBS: &str = include_str!("../../../../tests/models/ebs.json");

fn differences(model: &str, operation: &OperationInfo) -> String {
    Model::parse(model).unwrap().check(operation).join("\n")
}

#[test]
fn the_test_shapes_are_real() {
    for (model, service, name) in [
        (EC2, "ec2", "CreateVolume"),
        (EC2, "ec2", "DescribeVolumes"),
        (IAM, "iam", "CreateRole"),
        (KMS, "kms", "Encrypt"),
        (EBS, "ebs", "PutSnapshotBlock"),
        (EBS, "ebs", "ListSnapshotBlocks"),
    ] {
        assert_eq!(differences(model, find(service, name).1), "", "{name}");
    }
}

#[derive(Shape)]
#[shape(unsupported(Imagined, Size, AvailabilityZone, AvailabilityZoneId, Encrypted, Iops))]
struct Drifted {
    size: i64,
    volume_type: Option<DriftedType>,
    tag_specifications: Vec<Tag>,
    extra: Option<String>,
}

awsproto::string_enum! {
    enum DriftedType { Gp3 = "gp3", Gp9 = "gp9" }
}

#[derive(Shape)]
#[shape(output)]
struct DriftedVolumes {
    volumes: Vec<Tag>,
    #[shape(timestamp = "unix")]
    next_token: base::Timestamp,
}

#[test]
fn drift_is_told() {
    let mut operation = *find("ec2", "CreateVolume").1;
    operation.input = Drifted::SCHEMA;
    operation.output = <()>::SCHEMA;
    operation.success_status = 201;
    expect![[r#"
        CreateVolume: success is 200, not 201
        CreateVolume.Input.Size: is integer in the model, not i64
        CreateVolume.Input.TagSpecifications: is called 'TagSpecification' on the wire, not 'TagSpecifications'
        CreateVolume.Input.TagSpecifications.item: Tag lacks, and does not list as unsupported: ResourceType, Tags
        CreateVolume.Input.TagSpecifications.item: 'Key' is not a member of TagSpecification
        CreateVolume.Input.TagSpecifications.item: 'Value' is not a member of TagSpecification
        CreateVolume.Input.VolumeType: 'gp9' is not in the model's enumeration
        CreateVolume.Input: Drifted lacks, and does not list as unsupported: ClientToken, DryRun, KmsKeyId, MultiAttachEnabled, Operator, OutpostArn, SnapshotId, Throughput, VolumeInitializationRate
        CreateVolume.Input: 'Extra' is not a member of CreateVolumeRequest
        CreateVolume.Input: 'Imagined' is not a member of CreateVolumeRequest
        CreateVolume.Input: 'Size' is both a member and listed as absent
        CreateVolume.Output: () lacks, and does not list as omitted: Attachments, AvailabilityZone, AvailabilityZoneId, CreateTime, Encrypted, FastRestored, Iops, KmsKeyId, MultiAttachEnabled, Operator, OutpostArn, OwnerId, Size, SnapshotId, SourceVolumeId, SseType, State, Tags, Throughput, VolumeArn, VolumeId, VolumeInitializationRate, VolumeType"#]].assert_eq(&differences(EC2, &operation));

    let mut operation = *find("ec2", "DescribeVolumes").1;
    operation.output = DriftedVolumes::SCHEMA;
    expect![[r#"
        DescribeVolumes.Output.NextToken: is string in the model, not Timestamp
        DescribeVolumes.Output.Volumes: is called 'volumeSet' on the wire, not 'volumes'
        DescribeVolumes.Output.Volumes.item: Tag lacks, and does not list as omitted: Attachments, AvailabilityZone, AvailabilityZoneId, CreateTime, Encrypted, FastRestored, Iops, KmsKeyId, MultiAttachEnabled, Operator, OutpostArn, OwnerId, Size, SnapshotId, SourceVolumeId, SseType, State, Tags, Throughput, VolumeArn, VolumeId, VolumeInitializationRate, VolumeType
        DescribeVolumes.Output.Volumes.item: 'Key' is not a member of Volume
        DescribeVolumes.Output.Volumes.item: 'Value' is not a member of Volume"#]].assert_eq(&differences(EC2, &operation));
}

#[test]
fn drift_of_the_other_protocols_is_told() {
    let mut operation = *find("iam", "CreateRole").1;
    operation.input = DeleteVolumeInput::SCHEMA;
    operation.output = <()>::SCHEMA;
    operation.protocol = Protocol::AwsJson11;
    expect![[r#"
        CreateRole: the protocol is query
        CreateRole.Input: DeleteVolumeInput lacks, and does not list as unsupported: AssumeRolePolicyDocument, Description, MaxSessionDuration, MaxSigninSessionDuration, Path, PermissionsBoundary, RoleName, Tags
        CreateRole.Input: 'VolumeId' is not a member of CreateRoleRequest
        CreateRole.Output: replies have a result element: use a structure without members
        CreateRole.Output: () lacks, and does not list as omitted: Role"#]].assert_eq(&differences(IAM, &operation));

    let mut operation = *find("ebs", "ListSnapshotBlocks").1;
    operation.http = Some(("GET", "/elsewhere"));
    operation.input = CreateVolumeInput::SCHEMA;
    operation.output = CreateRoleOutput::SCHEMA;
    expect![[r#"
        ListSnapshotBlocks: the method and path are GET /snapshots/{snapshotId}/blocks, not GET /elsewhere
        ListSnapshotBlocks.Input.SnapshotId: is in the path as 'snapshotId', not in the body as 'SnapshotId'
        ListSnapshotBlocks.Input.SnapshotId: is required in the model
        ListSnapshotBlocks.Input: CreateVolumeInput lacks, and does not list as unsupported: MaxResults, NextToken, StartingBlockIndex
        ListSnapshotBlocks.Input: 'AvailabilityZone' is not a member of ListSnapshotBlocksRequest
        ListSnapshotBlocks.Input: 'Encrypted' is not a member of ListSnapshotBlocksRequest
        ListSnapshotBlocks.Input: 'Iops' is not a member of ListSnapshotBlocksRequest
        ListSnapshotBlocks.Input: 'Throughput' is not a member of ListSnapshotBlocksRequest
        ListSnapshotBlocks.Input: 'KmsKeyId' is not a member of ListSnapshotBlocksRequest
        ListSnapshotBlocks.Input: 'Size' is not a member of ListSnapshotBlocksRequest
        ListSnapshotBlocks.Input: 'VolumeType' is not a member of ListSnapshotBlocksRequest
        ListSnapshotBlocks.Input: 'TagSpecifications' is not a member of ListSnapshotBlocksRequest
        ListSnapshotBlocks.Input: 'ClientToken' is not a member of ListSnapshotBlocksRequest
        ListSnapshotBlocks.Input: 'DryRun' is not a member of ListSnapshotBlocksRequest
        ListSnapshotBlocks.Input: 'OutpostArn' is not a member of ListSnapshotBlocksRequest
        ListSnapshotBlocks.Input: 'Operator' is not a member of ListSnapshotBlocksRequest
        ListSnapshotBlocks.Input: 'MultiAttachEnabled' is not a member of ListSnapshotBlocksRequest
        ListSnapshotBlocks.Input: 'AvailabilityZoneId' is not a member of ListSnapshotBlocksRequest
        ListSnapshotBlocks.Input: 'VolumeInitializationRate' is not a member of ListSnapshotBlocksRequest
        ListSnapshotBlocks.Output: CreateRoleOutput lacks, and does not list as omitted: BlockSize, Blocks, ExpiryTime, NextToken, VolumeSize
        ListSnapshotBlocks.Output: 'Role' is not a member of ListSnapshotBlocksResponse"#]].assert_eq(&differences(EBS, &operation));

    let mut operation = *find("ec2", "CreateVolume").1;
    operation.name = "Imagine";
    operation.output = Volume::SCHEMA;
    expect!["Imagine: the model has no such operation"].assert_eq(&differences(EC2, &operation));
    assert!(Model::parse("{}").is_err() && Model::parse("{").is_err());
}
