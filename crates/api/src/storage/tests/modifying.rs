//! Modifications: what may be asked for, what comes of it, and how often.

use super::{HERE, Stage};
use serde_json::{Value, json};

impl Stage {
    async fn modified(&self, volume: &str) -> Value {
        let input = json!({ "VolumeIds": [volume] });
        self.ec2("DescribeVolumesModifications", input).await["VolumesModifications"][0].clone()
    }
}

#[tokio::test]
async fn a_volume_grows_while_it_is_attached() {
    let mut stage = Stage::new().await;
    let host = stage.host(1, HERE, "a").await;
    let volume = stage.volume(1, HERE, json!({ "Size": 1 })).await;
    stage.attach(1, HERE, &volume, &host).await;
    stage.bench.host.write(&volume, 4096, b"kept");
    let reply = stage.ec2("ModifyVolume", json!({ "VolumeId": volume, "Size": 2 })).await;
    let reply = &reply["VolumeModification"];
    assert_eq!(reply["ModificationState"], "modifying");
    assert_eq!((&reply["OriginalSize"], &reply["TargetSize"]), (&json!(1), &json!(2)));
    let error = stage.ec2_error("ModifyVolume", json!({ "VolumeId": volume, "Size": 3 })).await;
    assert!(error.starts_with("IncorrectModificationState: "), "{error}");
    assert_eq!(stage.describe_volume(1, HERE, &volume).await["Size"], 1);

    stage.settle().await;
    let shown = stage.modified(&volume).await;
    assert_eq!(
        (&shown["ModificationState"], &shown["Progress"]),
        (&json!("completed"), &json!(100))
    );
    assert_eq!(stage.describe_volume(1, HERE, &volume).await["Size"], 2);
    let told = stage.events(1, HERE).await;
    for step in ["modifyVolume optimizing", "modifyVolume completed"] {
        assert_eq!(told.iter().filter(|event| *event == step).count(), 1, "{step}");
    }

    // The new part is there at once, and what was there before still is.
    let late = (3 << 29) + 8192;
    stage.bench.host.write(&volume, late, b"new");
    assert_eq!(stage.bench.host.read(&volume, late - 1, 5), b"\0new\0");
    assert_eq!(stage.bench.host.read(&volume, 4096, 4), b"kept");
    let snapshot = stage.snapshot(1, HERE, &volume).await;
    assert_eq!(stage.describe_snapshot(1, HERE, &snapshot).await["VolumeSize"], 2);
    let copy = stage.volume(1, HERE, json!({ "SnapshotId": snapshot })).await;
    let input = json!({ "VolumeId": copy, "InstanceId": host, "Device": "/dev/sdg" });
    stage.ec2("AttachVolume", input).await;
    assert_eq!(stage.bench.host.read(&copy, late, 3), b"new");
}

#[tokio::test]
async fn a_volume_that_was_never_opened_grows_too() {
    let mut stage = Stage::new().await;
    let host = stage.host(1, HERE, "a").await;
    let volume = stage.volume(1, HERE, json!({ "Size": 1 })).await;
    stage.ec2("ModifyVolume", json!({ "VolumeId": volume, "Size": 3 })).await;
    stage.settle().await;
    stage.attach(1, HERE, &volume, &host).await;
    stage.bench.host.write(&volume, (3 << 30) - 4, b"last");
    assert_eq!(stage.bench.host.read(&volume, (3 << 30) - 4, 4), b"last");
}

#[tokio::test]
async fn types_bring_their_own_numbers() {
    let mut stage = Stage::new().await;
    let volume = stage.volume(1, HERE, json!({ "Size": 100 })).await;
    for (input, iops, throughput) in [
        (json!({ "VolumeType": "gp3" }), json!(3000), json!(125)),
        (json!({ "Iops": 4000, "Throughput": 500 }), json!(4000), json!(500)),
        (json!({ "Size": 101 }), json!(4000), json!(500)),
        (json!({ "VolumeType": "st1", "Size": 125 }), Value::Null, Value::Null),
    ] {
        let mut request = json!({ "VolumeId": volume });
        super::merge(&mut request, input.clone());
        let reply = stage.ec2("ModifyVolume", request).await;
        let reply = &reply["VolumeModification"];
        assert_eq!(
            (&reply["TargetIops"], &reply["TargetThroughput"]),
            (&iops, &throughput),
            "{input}"
        );
        stage.settle().await;
        let shown = stage.describe_volume(1, HERE, &volume).await;
        assert_eq!((&shown["Iops"], &shown["Throughput"]), (&iops, &throughput), "{input}");
    }
    // That was the fourth within a day.
    let error = stage.ec2_error("ModifyVolume", json!({ "VolumeId": volume, "Size": 126 })).await;
    assert!(error.starts_with("VolumeModificationRateExceeded: You've reached"), "{error}");
    assert!(error.ends_with("is possible at 2026-01-02T00:00:06Z."), "{error}");
    stage.bench.clock.advance_seconds(24 * 3600);
    stage.ec2("ModifyVolume", json!({ "VolumeId": volume, "Size": 126 })).await;
}

#[tokio::test]
async fn refusals_say_why() {
    let mut stage = Stage::new().await;
    let volume = stage.volume(1, HERE, json!({ "Size": 10, "VolumeType": "gp3" })).await;
    for (input, expected) in [
        (json!({ "Size": 9 }), "InvalidParameterValue: New size cannot be smaller than existing"),
        (json!({}), "MissingParameter: "),
        (json!({ "VolumeType": "gp9" }), "UnknownVolumeType: "),
        (json!({ "VolumeType": "st1" }), "InvalidParameterValue: Volume of 10GiB is too small"),
        (json!({ "Iops": 90000 }), "InvalidParameterValue: Volume iops of 90000 is too high"),
        (json!({ "VolumeType": "gp2", "Iops": 100 }), "InvalidParameterCombination: "),
        (json!({ "MultiAttachEnabled": true }), "UnsupportedOperation: "),
        (json!({ "Size": 11, "DryRun": true }), "DryRunOperation: "),
    ] {
        let mut request = json!({ "VolumeId": volume });
        super::merge(&mut request, input.clone());
        let error = stage.ec2_error("ModifyVolume", request).await;
        assert!(error.starts_with(expected), "{input}: {error}");
    }
    let input = json!({ "VolumeIds": [volume] });
    let error = stage.ec2_error("DescribeVolumesModifications", input).await;
    assert!(error.starts_with("InvalidVolumeModification.NotFound: "), "{error}");
    stage.ec2("ModifyVolume", json!({ "VolumeId": volume, "Size": 11 })).await;
    stage.settle().await;
    for (name, value, found) in [
        ("modification-state", "completed", 1),
        ("modification-state", "modifying", 0),
        ("target-size", "11", 1),
        ("original-size", "11", 0),
        ("original-volume-type", "gp3", 1),
    ] {
        let input = json!({ "Filters": [{ "Name": name, "Values": [value] }] });
        let listed = stage.ec2("DescribeVolumesModifications", input).await;
        let listed = listed["VolumesModifications"].as_array().unwrap();
        assert_eq!(listed.len(), found, "{name} {value}");
    }
}
