//! What is refused at once, and in which words (spec 01, spec 20 §C.5).

use super::{HERE, Stage};
use serde_json::{Value, json};

async fn check(stage: &Stage, name: &str, rows: &[(Value, &str)]) {
    for (input, expected) in rows {
        let error = stage.ec2_error(name, input.clone()).await;
        assert_eq!(error, *expected, "{name} {input}");
    }
}

#[tokio::test]
async fn create_volume_refuses_what_cannot_be() {
    let stage = Stage::new().await;
    let zone = "us-east-1a";
    check(
        &stage,
        "CreateVolume",
        &[
            (json!({ "Size": 1 }), "MissingParameter: The request must contain the parameter availabilityZone"),
            (json!({ "Size": 1, "AvailabilityZone": "us-east-1z" }), "InvalidZone.NotFound: The zone 'us-east-1z' does not exist."),
            (json!({ "AvailabilityZone": zone }), "MissingParameter: The request must contain the parameter size/snapshot"),
            (json!({ "AvailabilityZone": zone, "Size": 0 }), "InvalidParameterValue: Volume of 0GiB is too small for volume type gp2; minimum is 1GiB."),
            (json!({ "AvailabilityZone": zone, "Size": 1, "VolumeType": "gp9" }), "UnknownVolumeType: Unsupported volume type 'gp9' for volume creation."),
            (
                json!({ "AvailabilityZone": zone, "VolumeType": "gp3", "Size": 16384, "Iops": 200_000, "DryRun": true }),
                "InvalidParameterValue: Volume iops of 200000 is too high; maximum is 80000.",
            ),
            (
                json!({ "AvailabilityZone": zone, "Size": 1, "DryRun": true }),
                "DryRunOperation: Request would have succeeded, but DryRun flag is set.",
            ),
            (
                json!({ "AvailabilityZone": zone, "Size": 1, "KmsKeyId": "k" }),
                "InvalidParameterDependency: The parameter KmsKeyId requires the parameter Encrypted to be set.",
            ),
            (
                json!({ "AvailabilityZone": zone, "SnapshotId": "snap-12345678" }),
                "InvalidSnapshot.NotFound: The snapshot 'snap-12345678' does not exist.",
            ),
            (
                json!({ "AvailabilityZone": zone, "Size": 1, "VolumeInitializationRate": 200 }),
                "InvalidParameterCombination: The parameter VolumeInitializationRate can only be used with SnapshotId.",
            ),
            (
                json!({ "AvailabilityZone": zone, "Size": 4, "VolumeType": "io1", "Iops": 100, "MultiAttachEnabled": true }),
                "UnsupportedOperation: The parameter MultiAttachEnabled is not supported.",
            ),
            (
                json!({ "AvailabilityZone": zone, "Size": 1, "TagSpecifications": [{ "ResourceType": "snapshot", "Tags": [] }] }),
                "InvalidParameterValue: 'snapshot' is not a valid taggable resource type for this operation.",
            ),
        ],
    )
    .await;
    let listed = stage.ec2("DescribeVolumes", json!({})).await;
    assert_eq!(listed["Volumes"], json!([]), "nothing was made");
}

#[tokio::test]
async fn copy_snapshot_refuses_what_cannot_be() {
    let mut stage = Stage::new().await;
    let volume = stage.volume(1, HERE, json!({ "Size": 1 })).await;
    let snapshot = stage.snapshot(1, HERE, &volume).await;
    let with = |extra: Value| {
        let mut input = json!({ "SourceRegion": HERE, "SourceSnapshotId": snapshot });
        super::merge(&mut input, extra);
        input
    };
    for minutes in [1, 14, 20, 2895] {
        let input = with(json!({ "CompletionDurationMinutes": minutes }));
        let error = stage.ec2_error("CopySnapshot", input).await;
        assert!(error.starts_with("InvalidParameterValue: "), "{minutes} {error}");
    }
    check(
        &stage,
        "CopySnapshot",
        &[
            (with(json!({ "DestinationRegion": "eu-west-1" })), "InvalidParameterValue: DestinationRegion 'eu-west-1' does not match the current region (us-east-1)"),
            (with(json!({ "PresignedUrl": "ftp://x" })), "InvalidParameterValue: The protocol in PresignedUrl should be http or https"),
            (with(json!({ "KmsKeyId": "k" })), "InvalidParameterDependency: The parameter KmsKeyId requires the parameter Encrypted to be set."),
            (with(json!({ "SourceRegion": "mars-1" })), "InvalidParameterValue: Invalid source region: 'mars-1'"),
        ],
    )
    .await;
}

#[tokio::test]
async fn sharing_refuses_what_cannot_be() {
    let mut stage = Stage::new().await;
    let volume = stage.volume(1, HERE, json!({ "Size": 1 })).await;
    let snapshot = stage.snapshot(1, HERE, &volume).await;
    let permission = |add: Value, remove: Value| {
        let change = json!({ "Add": add, "Remove": remove });
        json!({ "SnapshotId": snapshot, "CreateVolumePermission": change })
    };
    let two = json!([{ "UserId": "222222222222" }]);
    let many: Vec<Value> = (0..501).map(|n| json!({ "UserId": format!("{n:012}") })).collect();
    check(
        &stage,
        "ModifySnapshotAttribute",
        &[
            (permission(two.clone(), two.clone()), "InvalidParameterCombination: One and only one operation type may be specified for createVolumePermissions"),
            (permission(json!(many), json!([])), "InvalidParameterValue: Modification size must not be greater than 500."),
            (permission(json!([{ "UserId": "x" }]), json!([])), "InvalidAMIAttributeItemValue: Invalid attribute item value \"x\" for user ID item type."),
            (json!({ "SnapshotId": snapshot }), "MissingParameter: The request must contain the parameter createVolumePermission"),
        ],
    )
    .await;
    let error =
        stage.ec2_error_at(2, HERE, "ModifySnapshotAttribute", permission(two, json!([]))).await;
    assert!(error.starts_with("InvalidSnapshot.NotFound: "), "not seen at all: {error}");
}
