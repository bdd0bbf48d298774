//! Plain snapshots between accounts and regions.

use super::{HERE, Stage, THERE, text};
use lifecycle::workflow::copy_snapshot::{self, OpenKeys};
use serde_json::{Value, json};

fn listed(reply: &Value) -> Vec<String> {
    let snapshots = reply["Snapshots"].as_array().unwrap();
    snapshots.iter().map(|snapshot| text(snapshot, "SnapshotId")).collect()
}

async fn share(stage: &Stage, snapshot: &str, add: Value) {
    let input = json!({ "SnapshotId": snapshot, "CreateVolumePermission": { "Add": add } });
    stage.ec2("ModifySnapshotAttribute", input).await;
}

#[tokio::test]
async fn a_share_is_seen_without_tags_and_a_copy_outlives_it() {
    let mut stage = Stage::new().await;
    let owner = stage.host(1, HERE, "a").await;
    let volume = stage.volume(1, HERE, json!({ "Size": 1 })).await;
    stage.attach(1, HERE, &volume, &owner).await;
    stage.bench.host.write(&volume, 1 << 20, b"shared bytes");
    let snapshot = stage.snapshot(1, HERE, &volume).await;
    let tags = json!([{ "Key": "Name", "Value": "secret" }]);
    stage.ec2("CreateTags", json!({ "Resources": [snapshot], "Tags": tags })).await;
    let mine = json!({ "RestorableByUserIds": ["self"] });
    assert_eq!(listed(&stage.ec2_at(2, HERE, "DescribeSnapshots", mine.clone()).await), [""; 0]);

    share(&stage, &snapshot, json!([{ "UserId": "222222222222" }])).await;
    assert_eq!(stage.events(2, HERE).await, ["shareSnapshot succeeded"]);
    let seen = stage.ec2_at(2, HERE, "DescribeSnapshots", mine.clone()).await;
    assert_eq!(listed(&seen), std::slice::from_ref(&snapshot));
    assert_eq!(seen["Snapshots"][0]["Tags"], json!([]));
    let attribute = json!({ "SnapshotId": snapshot, "Attribute": "createVolumePermission" });
    let shown = stage.ec2("DescribeSnapshotAttribute", attribute.clone()).await;
    assert_eq!(shown["CreateVolumePermissions"], json!([{ "UserId": "222222222222" }]));
    let error = stage.ec2_error_at(2, HERE, "DescribeSnapshotAttribute", attribute.clone()).await;
    assert!(error.starts_with("UnauthorizedOperation: "), "{error}");
    let error =
        stage.ec2_error_at(2, HERE, "DeleteSnapshot", json!({ "SnapshotId": snapshot })).await;
    assert!(error.starts_with("UnauthorizedOperation: "), "{error}");

    let input = json!({ "SourceRegion": HERE, "SourceSnapshotId": snapshot });
    let copy = text(&stage.ec2_at(2, THERE, "CopySnapshot", input).await, "SnapshotId");
    stage.settle().await;
    let shown = stage.describe_snapshot(2, THERE, &copy).await;
    assert_eq!(
        (&shown["State"], &shown["VolumeId"]),
        (&json!("completed"), &json!("vol-ffffffff"))
    );
    assert_eq!((&shown["TransferType"], &shown["Tags"]), (&json!("standard"), &json!([])));
    assert_eq!(stage.events(2, THERE).await, ["copySnapshot succeeded"]);

    let reset = json!({ "SnapshotId": snapshot, "Attribute": "createVolumePermission" });
    stage.ec2("ResetSnapshotAttribute", reset).await;
    assert_eq!(listed(&stage.ec2_at(2, HERE, "DescribeSnapshots", mine).await), [""; 0]);
    stage.ec2("DeleteSnapshot", json!({ "SnapshotId": snapshot })).await;
    stage.settle().await;

    let receiver = stage.host(2, THERE, "b").await;
    let restored = stage.volume(2, THERE, json!({ "SnapshotId": copy })).await;
    stage.attach(2, THERE, &restored, &receiver).await;
    assert_eq!(stage.bench.host.read(&restored, 1 << 20, 12), b"shared bytes");
}

#[tokio::test]
async fn a_public_snapshot_is_everybodys() {
    let mut stage = Stage::new().await;
    let volume = stage.volume(1, HERE, json!({ "Size": 1 })).await;
    let snapshot = stage.snapshot(1, HERE, &volume).await;
    let input = json!({
        "SnapshotId": snapshot, "Attribute": "createVolumePermission",
        "OperationType": "add", "GroupNames": ["all"],
    });
    stage.ec2("ModifySnapshotAttribute", input).await;
    assert_eq!(stage.events(2, HERE).await, [""; 0], "public sharing tells nobody");
    for (input, expected) in [
        (json!({}), 1),
        (json!({ "RestorableByUserIds": ["all"] }), 1),
        (json!({ "RestorableByUserIds": ["self"] }), 0),
        (json!({ "OwnerIds": ["self"] }), 0),
        (json!({ "OwnerIds": ["111111111111"] }), 1),
    ] {
        let seen = listed(&stage.ec2_at(2, HERE, "DescribeSnapshots", input.clone()).await);
        assert_eq!(seen.len(), expected, "{input}");
    }
    stage.volume(2, HERE, json!({ "SnapshotId": snapshot })).await;
}

#[tokio::test]
async fn a_source_that_cannot_be_copied_ends_in_error() {
    let mut stage = Stage::new().await;
    let volume = stage.volume(1, HERE, json!({ "Size": 1 })).await;
    let private = stage.snapshot(1, HERE, &volume).await;
    let made = stage.ec2("CreateSnapshot", json!({ "VolumeId": volume })).await;
    let pending = text(&made, "SnapshotId");
    share(&stage, &pending, json!([{ "UserId": "222222222222" }])).await;
    for (source, message) in
        [(&private, "Source snapshot is not found"), (&pending, "Source snapshot is not complete")]
    {
        let input = json!({ "SourceRegion": HERE, "SourceSnapshotId": source });
        let reply = stage.ec2_at(2, HERE, "CopySnapshot", input).await;
        let copy = text(&reply, "SnapshotId");
        // Only the copy's own work runs, not that of the pending source.
        let job = lifecycle::workflow::copy_snapshot::CopySnapshot {
            region: crate::testing::region(HERE),
            account: crate::testing::account(2),
            snapshot: base::SnapshotId::parse(&copy).unwrap(),
            identity: lifecycle::port::kms::CapturedIdentity(String::new()),
            explain_id: None,
        };
        let services = &stage.bench.world.services;
        copy_snapshot::run(services, &OpenKeys::default(), &job).await.unwrap();
        let shown = stage.describe_snapshot(2, HERE, &copy).await;
        assert_eq!((&shown["State"], &shown["StateMessage"]), (&json!("error"), &json!(message)));
        assert_eq!(shown["Progress"], "0%");
    }
    let events = stage.events(2, HERE).await;
    assert!(events.contains(&"copySnapshot failed Source snapshot ID is not valid".to_owned()));
}
