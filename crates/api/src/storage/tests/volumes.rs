//! Plain volumes from creation to deletion, with bytes.

use super::{HERE, Stage, text};
use crate::testing::region;
use base::VolumeId;
use ebs::Initialization;
use serde_json::json;
use std::sync::atomic::Ordering;

#[tokio::test]
async fn bytes_go_from_volume_to_snapshot_to_volume() {
    let mut stage = Stage::new().await;
    let host = stage.host(1, HERE, "db").await;
    let made = stage
        .ec2(
            "CreateVolume",
            json!({ "AvailabilityZone": "us-east-1a", "Size": 1, "VolumeType": "gp3" }),
        )
        .await;
    assert_eq!(made["State"], "creating");
    assert_eq!((&made["Iops"], &made["Throughput"]), (&json!(3000), &json!(125)));
    assert_eq!((&made["Encrypted"], &made["SnapshotId"]), (&json!(false), &json!("")));
    assert!(made.get("Attachments").is_none() && made.get("SseType").is_none());
    let volume = text(&made, "VolumeId");
    stage.settle().await;
    let shown = stage.describe_volume(1, HERE, &volume).await;
    assert_eq!((&shown["State"], &shown["SseType"]), (&json!("available"), &json!("none")));
    assert_eq!(shown["AvailabilityZoneId"], "use1-az1");

    let attached = stage.attach(1, HERE, &volume, &host).await;
    assert_eq!(attached["State"], "attaching");
    let shown = stage.describe_volume(1, HERE, &volume).await;
    assert_eq!(shown["State"], "in-use");
    assert_eq!(shown["Attachments"][0]["State"], "attached");
    assert_eq!(shown["Attachments"][0]["Device"], "/dev/sdf");
    assert_eq!(shown["Attachments"][0]["DeleteOnTermination"], false);
    stage.bench.host.write(&volume, 4096, b"first");

    let made = stage.ec2("CreateSnapshot", json!({ "VolumeId": volume, "Description": "d" })).await;
    assert_eq!((&made["State"], &made["Progress"]), (&json!("pending"), &json!("0%")));
    let first = text(&made, "SnapshotId");
    stage.bench.host.write(&volume, 4096, b"other");
    stage.settle().await;
    let second = stage.snapshot(1, HERE, &volume).await;
    let shown = stage.describe_snapshot(1, HERE, &first).await;
    assert_eq!((&shown["State"], &shown["Progress"]), (&json!("completed"), &json!("100%")));
    assert_eq!(shown["FullSnapshotSizeInBytes"], 524_288);
    assert_eq!((&shown["VolumeSize"], &shown["VolumeId"]), (&json!(1), &json!(volume)));

    for (snapshot, expected) in [(&first, b"first"), (&second, b"other")] {
        let restored = stage.volume(1, HERE, json!({ "SnapshotId": snapshot })).await;
        let input = json!({ "VolumeId": restored, "InstanceId": host, "Device": "/dev/sdg" });
        stage.ec2("AttachVolume", input).await;
        assert_eq!(stage.bench.host.read(&restored, 4096, 5), expected, "{snapshot}");
        assert_eq!(stage.bench.host.read(&restored, 0, 16), [0; 16]);
        stage.ec2("DetachVolume", json!({ "VolumeId": restored })).await;
    }

    // A middle snapshot's blocks stay while the later one needs them.
    stage.ec2("DeleteSnapshot", json!({ "SnapshotId": first })).await;
    stage.settle().await;
    let restored = stage.volume(1, HERE, json!({ "SnapshotId": second })).await;
    let input = json!({ "VolumeId": restored, "InstanceId": host, "Device": "/dev/sdg" });
    stage.ec2("AttachVolume", input).await;
    assert_eq!(stage.bench.host.read(&restored, 4096, 5), b"other");
    let events = stage.events(1, HERE).await;
    assert_eq!(events.iter().filter(|event| *event == "createSnapshot succeeded").count(), 2);
    assert_eq!(events[0], "createVolume available");
}

impl Stage {
    /// What its row says of a volume's initialization.
    pub(super) async fn initialization(&self, volume: &str) -> Option<Initialization> {
        let (region, id) = (region(HERE), VolumeId::parse(volume).unwrap());
        let read = move |tx: &mut meta::Tx<'_>| ebs::initialization::get(tx, &region, &id);
        self.bench.world.db.read(read).await.unwrap()
    }
}

/// The same in short: percent, and whether it has ended.
async fn initialization(stage: &Stage, volume: &str) -> Option<(u32, bool)> {
    let row = stage.initialization(volume).await;
    row.map(|row| (row.progress, row.completed.is_some()))
}

#[tokio::test]
async fn a_volume_from_a_snapshot_is_initialized_at_a_rate() {
    let mut stage = Stage::new().await;
    let host = stage.host(1, HERE, "db").await;
    let source = stage.volume(1, HERE, json!({ "Size": 1 })).await;
    assert_eq!(initialization(&stage, &source).await, None, "it came from nothing");
    stage.attach(1, HERE, &source, &host).await;
    stage.bench.host.write(&source, 4096, b"first");
    let snapshot = stage.snapshot(1, HERE, &source).await;

    let zone = "us-east-1a";
    for rate in [99, 301] {
        let input = json!({ "AvailabilityZone": zone, "SnapshotId": snapshot, "VolumeInitializationRate": rate });
        assert_eq!(
            stage.ec2_error("CreateVolume", input).await,
            format!(
                "InvalidParameterValue: Volume initialization rate of {rate} MiB/s is not between 100 and 300 MiB/s."
            ),
        );
    }
    let input = json!({ "AvailabilityZone": zone, "SnapshotId": snapshot, "VolumeInitializationRate": 300 });
    let made = stage.ec2("CreateVolume", input).await;
    assert_eq!(made["VolumeInitializationRate"], 300);
    let volume = text(&made, "VolumeId");
    assert_eq!(initialization(&stage, &volume).await, Some((0, false)));
    // Its source may go meanwhile.
    stage.ec2("DeleteSnapshot", json!({ "SnapshotId": snapshot })).await;
    stage.settle().await;
    assert_eq!(initialization(&stage, &volume).await, Some((100, true)));
    let shown = stage.describe_volume(1, HERE, &volume).await;
    assert_eq!(shown["VolumeInitializationRate"], 300);
    let events = stage.events(1, HERE).await;
    let told = events.iter().filter(|event| *event == "initializeVolume succeeded");
    assert_eq!(told.count(), 1);

    stage.ec2("DeleteVolume", json!({ "VolumeId": volume })).await;
    stage.settle().await;
    assert_eq!(initialization(&stage, &volume).await, None);
}

#[tokio::test]
async fn a_volume_goes_through_its_states() {
    let mut stage = Stage::new().await;
    let (host, other) = (stage.host(1, HERE, "a").await, stage.host(1, HERE, "b").await);
    let volume = stage.volume(1, HERE, json!({ "Size": 1 })).await;
    stage.attach(1, HERE, &volume, &host).await;
    stage.bench.host.write(&volume, 0, b"kept");

    let busy = stage.ec2_error("DeleteVolume", json!({ "VolumeId": volume })).await;
    assert_eq!(busy, format!("VolumeInUse: Volume {volume} is currently attached to {host}"));
    let input = json!({ "VolumeId": volume, "InstanceId": other, "Device": "/dev/sdf" });
    let twice = stage.ec2_error("AttachVolume", input.clone()).await;
    assert_eq!(twice, format!("VolumeInUse: {volume} is already attached to an instance"));
    let wrong = json!({ "VolumeId": volume, "InstanceId": other });
    let error = stage.ec2_error("DetachVolume", wrong).await;
    assert!(error.starts_with("InvalidAttachment.NotFound: "), "{error}");

    let detached = stage.ec2("DetachVolume", json!({ "VolumeId": volume })).await;
    assert_eq!(detached["State"], "detaching");
    assert!(!stage.bench.host.has(&volume), "the device is gone when the call returns");
    assert_eq!(stage.describe_volume(1, HERE, &volume).await["State"], "available");
    let error = stage.ec2_error("DetachVolume", json!({ "VolumeId": volume })).await;
    assert_eq!(error, format!("IncorrectState: Volume '{volume}' is in the 'available' state."));

    stage.ec2("AttachVolume", input).await;
    assert_eq!(stage.bench.host.read(&volume, 0, 4), b"kept");
    stage.ec2("DetachVolume", json!({ "VolumeId": volume })).await;
    stage.ec2("DeleteVolume", json!({ "VolumeId": volume })).await;
    stage.settle().await;
    let gone = stage.ec2_error("DescribeVolumes", json!({ "VolumeIds": [volume] })).await;
    assert_eq!(gone, format!("InvalidVolume.NotFound: The volume '{volume}' does not exist."));
    assert!(stage.events(1, HERE).await.contains(&"deleteVolume deleted".to_owned()));
}

#[tokio::test]
async fn a_device_name_and_a_zone_hold() {
    let mut stage = Stage::new().await;
    let host = stage.host(1, HERE, "a").await;
    let first = stage.volume(1, HERE, json!({ "Size": 1 })).await;
    let second = stage.volume(1, HERE, json!({ "Size": 1 })).await;
    stage.attach(1, HERE, &first, &host).await;
    let input = json!({ "VolumeId": second, "InstanceId": host, "Device": "/dev/sdf" });
    let error = stage.ec2_error("AttachVolume", input).await;
    assert!(error.starts_with("InvalidParameterValue: ") && error.contains("is already in use"));
    assert_eq!(stage.describe_volume(1, HERE, &second).await["State"], "available");
    let far = stage.volume(1, HERE, json!({ "Size": 1, "AvailabilityZone": "us-east-1b" })).await;
    let input = json!({ "VolumeId": far, "InstanceId": host, "Device": "/dev/sdg" });
    let error = stage.ec2_error("AttachVolume", input).await;
    assert!(error.starts_with("InvalidVolume.ZoneMismatch: "), "{error}");
}

#[tokio::test]
async fn a_client_token_makes_one_volume() {
    let mut stage = Stage::new().await;
    let input = json!({ "AvailabilityZone": "us-east-1a", "Size": 1, "ClientToken": "t" });
    let first = stage.ec2("CreateVolume", input.clone()).await;
    let again = stage.ec2("CreateVolume", input.clone()).await;
    assert_eq!(first["VolumeId"], again["VolumeId"]);
    let other = json!({ "AvailabilityZone": "us-east-1a", "Size": 2, "ClientToken": "t" });
    let error = stage.ec2_error("CreateVolume", other).await;
    assert!(error.starts_with("IdempotentParameterMismatch: Arguments on this"), "{error}");
    stage.settle().await;
    stage.ec2("DeleteVolume", json!({ "VolumeId": first["VolumeId"] })).await;
    stage.settle().await;
    let error = stage.ec2_error("CreateVolume", input).await;
    assert!(error.contains("resource already deleted"), "{error}");
}

#[tokio::test]
async fn pending_snapshots_are_limited_and_can_be_deleted() {
    let mut stage = Stage::new().await;
    let volume = stage.volume(1, HERE, json!({ "Size": 1 })).await;
    let mut made = Vec::new();
    for _ in 0..5 {
        let reply = stage.ec2("CreateSnapshot", json!({ "VolumeId": volume })).await;
        made.push(text(&reply, "SnapshotId"));
    }
    let sixth = stage.ec2_error("CreateSnapshot", json!({ "VolumeId": volume })).await;
    assert!(sixth.starts_with("ConcurrentSnapshotLimitExceeded: "), "{sixth}");
    stage.ec2("DeleteSnapshot", json!({ "SnapshotId": made[1] })).await;
    let hidden = stage.ec2_error("DescribeSnapshots", json!({ "SnapshotIds": [made[1]] })).await;
    assert!(hidden.starts_with("InvalidSnapshot.NotFound: "), "{hidden}");
    stage.settle().await;
    stage.settle().await;
    let listed = stage.ec2("DescribeSnapshots", json!({ "OwnerIds": ["self"] })).await;
    let listed = listed["Snapshots"].as_array().unwrap();
    assert_eq!(listed.len(), 4);
    assert!(listed.iter().all(|snapshot| snapshot["State"] == "completed"), "{listed:?}");
}

#[tokio::test]
async fn a_volume_without_room_to_be_opened_stays_available_and_says_so() {
    let mut stage = Stage::new().await;
    let host = stage.host(1, HERE, "db").await;
    let volume = stage.volume(1, HERE, json!({ "Size": 1 })).await;
    let input = json!({ "VolumeId": volume, "InstanceId": host, "Device": "/dev/sdf" });
    stage.bench.host.is_full.store(true, Ordering::SeqCst);
    let error = stage.ec2_error("AttachVolume", input.clone()).await;
    assert!(error.starts_with("InsufficientVolumeCapacity: "), "{error}");
    assert!(error.contains("Delete volumes or snapshots") && error.contains(&volume), "{error}");
    assert_eq!(stage.describe_volume(1, HERE, &volume).await["State"], "available");
    stage.bench.host.is_full.store(false, Ordering::SeqCst);
    stage.ec2("AttachVolume", input).await;
    assert_eq!(stage.describe_volume(1, HERE, &volume).await["State"], "in-use");
}
