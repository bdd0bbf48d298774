//! Snapshots of several volumes at one moment.

use super::{HERE, Stage, text};
use serde_json::{Value, json};

impl Stage {
    /// A machine with a root volume and `count` data volumes; its id and the volumes, root first.
    async fn machine(&mut self, count: usize) -> (String, Vec<String>) {
        let host = self.host(1, HERE, "a").await;
        let mut volumes = Vec::new();
        for device in ["/dev/sda1", "/dev/sdf", "/dev/sdg", "/dev/sdh"].iter().take(1 + count) {
            let volume = self.volume(1, HERE, json!({ "Size": 1 })).await;
            let input = json!({ "VolumeId": volume, "InstanceId": host, "Device": device });
            self.ec2("AttachVolume", input).await;
            volumes.push(volume);
        }
        (host, volumes)
    }

    async fn together(&self, host: &str, extra: Value) -> Vec<Value> {
        let mut input = json!({ "InstanceSpecification": { "InstanceId": host } });
        super::merge(&mut input["InstanceSpecification"], extra);
        self.ec2("CreateSnapshots", input).await["Snapshots"].as_array().unwrap().clone()
    }
}

#[tokio::test]
async fn all_volumes_of_a_machine_at_one_moment() {
    let mut stage = Stage::new().await;
    let (host, volumes) = stage.machine(2).await;
    for volume in &volumes {
        stage.bench.host.write(volume, 0, b"before");
    }
    let made = stage.together(&host, json!({})).await;
    for volume in &volumes {
        stage.bench.host.write(volume, 0, b"after!");
    }
    let of: Vec<_> = made.iter().map(|one| text(one, "VolumeId")).collect();
    assert_eq!(of, volumes);
    let moment = &made[0]["StartTime"];
    assert!(made.iter().all(|one| one["StartTime"] == *moment && one["State"] == "pending"));
    stage.settle().await;
    for snapshot in made.iter().map(|one| text(one, "SnapshotId")) {
        assert_eq!(stage.describe_snapshot(1, HERE, &snapshot).await["State"], "completed");
        let copy = stage.volume(1, HERE, json!({ "SnapshotId": snapshot })).await;
        let input = json!({ "VolumeId": copy, "InstanceId": host, "Device": "/dev/sdp" });
        stage.ec2("AttachVolume", input).await;
        assert_eq!(stage.bench.host.read(&copy, 0, 6), b"before");
        stage.ec2("DetachVolume", json!({ "VolumeId": copy })).await;
    }
    let told = stage.events(1, HERE).await;
    let of_sets = told.iter().filter(|event| *event == "createSnapshots succeeded");
    assert_eq!(of_sets.count(), 1, "{told:?}");
}

#[tokio::test]
async fn volumes_can_be_left_out() {
    let mut stage = Stage::new().await;
    let (host, volumes) = stage.machine(2).await;
    let (root, data) = (&volumes[0], &volumes[1..]);
    let shown = |made: &[Value]| made.iter().map(|one| text(one, "VolumeId")).collect::<Vec<_>>();
    let made = stage.together(&host, json!({ "ExcludeBootVolume": true })).await;
    assert_eq!(shown(&made), data);
    let made = stage.together(&host, json!({ "ExcludeDataVolumeIds": [data[0]] })).await;
    assert_eq!(shown(&made), [root.clone(), data[1].clone()]);
    let other = stage.volume(1, HERE, json!({ "Size": 1 })).await;
    for (specification, expected) in [
        (json!({ "ExcludeDataVolumeIds": [root] }), "InvalidParameterValue: Volume"),
        (json!({ "ExcludeDataVolumeIds": [other] }), "InvalidVolume.NotFound: "),
        (
            json!({ "ExcludeBootVolume": true, "ExcludeDataVolumeIds": data }),
            "InvalidParameterValue: Instance",
        ),
        (json!({ "ExcludeDataVolumeIds": vec![root; 41] }), "InvalidParameterValue: At most 40"),
    ] {
        let mut input = json!({ "InstanceSpecification": { "InstanceId": host } });
        super::merge(&mut input["InstanceSpecification"], specification);
        let error = stage.ec2_error("CreateSnapshots", input).await;
        assert!(error.starts_with(expected), "{error}");
    }
}

#[tokio::test]
async fn tags_come_from_the_request_and_from_the_volumes() {
    let mut stage = Stage::new().await;
    let (host, volumes) = stage.machine(1).await;
    for (volume, name) in volumes.iter().zip(["root", "data"]) {
        let tags = json!([{ "Key": "Name", "Value": name }, { "Key": "team", "Value": "a" }]);
        stage.ec2("CreateTags", json!({ "Resources": [volume], "Tags": tags })).await;
    }
    let given = json!([{ "ResourceType": "snapshot", "Tags": [{ "Key": "team", "Value": "b" }] }]);
    let input = json!({
        "InstanceSpecification": { "InstanceId": host },
        "TagSpecifications": given,
        "CopyTagsFromSource": "volume",
    });
    let made = stage.ec2("CreateSnapshots", input).await;
    for (one, name) in made["Snapshots"].as_array().unwrap().iter().zip(["root", "data"]) {
        let tags = json!([{ "Key": "team", "Value": "b" }, { "Key": "Name", "Value": name }]);
        assert_eq!(one["Tags"], tags);
    }
}

#[tokio::test]
async fn one_failure_fails_them_all() {
    let mut stage = Stage::new().await;
    let (host, volumes) = stage.machine(1).await;
    let made = stage.together(&host, json!({})).await;
    let ids: Vec<_> = made.iter().map(|one| text(one, "SnapshotId")).collect();
    // What damage in a volume's log leads to; how it is found is tested where it is found.
    let failed = base::SnapshotId::parse(&ids[0]).unwrap();
    let services = std::sync::Arc::clone(&stage.bench.world.services);
    let job = lifecycle::workflow::export_snapshot::ExportSnapshot {
        region: crate::testing::region(HERE),
        snapshot: failed,
        size_bytes: 1 << 30,
        base_root: None,
        volume: None,
    };
    let fail = move |tx: &mut meta::Tx<'_>| {
        lifecycle::workflow::export_snapshot::give_up(&services, tx, &job)
    };
    stage.bench.world.db.write(fail).await.unwrap();
    for id in &ids {
        let shown = stage.describe_snapshot(1, HERE, id).await;
        assert_eq!(shown["State"], "error", "{id}");
    }
    stage.settle().await;
    let told = stage.events(1, HERE).await;
    let of_sets: Vec<_> =
        told.iter().filter(|event| event.starts_with("createSnapshots")).collect();
    assert_eq!(of_sets.len(), 1, "{told:?}");
    assert!(of_sets[0].starts_with("createSnapshots failed A snapshot"), "{told:?}");
    // Nothing is left at the volumes that a later snapshot would stumble over.
    let again = stage.snapshot(1, HERE, &volumes[1]).await;
    assert_eq!(stage.describe_snapshot(1, HERE, &again).await["State"], "completed");
}

#[tokio::test]
async fn what_keeps_a_volume_from_being_cut_has_a_name_and_a_remedy() {
    use blockstore::live::Error;
    use blockstore::store::StoreError;
    type Failure = fn(base::VolumeId) -> StoreError;
    let cases: [(Failure, &str, &str); 4] = [
        (|_| Error::Full.into(), "InsufficientVolumeCapacity: ", "Delete volumes or snapshots"),
        (|_| Error::TooManyCuts { limit: 48 }.into(), "ConcurrentSnapshotLimitExceeded: ", "again"),
        (|id| StoreError::Away { id }, "ServiceUnavailable: ", "Start its agent"),
        (|id| StoreError::WentOn { id }, "ServiceUnavailable: ", "detach the volume"),
    ];
    let mut stage = Stage::new().await;
    let host = stage.host(1, HERE, "a").await;
    let volume = stage.volume(1, HERE, json!({ "Size": 1 })).await;
    let input = json!({ "VolumeId": volume, "InstanceId": host, "Device": "/dev/sdf" });
    stage.ec2("AttachVolume", input).await;
    stage.bench.host.forget_all();
    let one = json!({ "VolumeId": volume });
    let all = json!({ "InstanceSpecification": { "InstanceId": host } });
    for (failure, code, remedy) in cases {
        let loan = stage.bench.host.lend_to_failing(HERE, &volume, failure);
        for (operation, input) in [("CreateSnapshot", &one), ("CreateSnapshots", &all)] {
            let error = stage.ec2_error(operation, input.clone()).await;
            assert!(error.starts_with(code), "{operation}: {error}");
            assert!(error.contains(remedy) && error.contains(&volume), "{operation}: {error}");
        }
        drop(loan);
    }
    // None of them left anything behind.
    assert_eq!(stage.ec2("DescribeSnapshots", json!({})).await["Snapshots"], json!([]));
}
