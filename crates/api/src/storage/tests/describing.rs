//! Lists: filters, pages, tags, regions and zones.

use super::{HERE, Stage, text};
use serde_json::{Value, json};

fn ids(reply: &Value, list: &str, id: &str) -> Vec<String> {
    reply[list].as_array().unwrap().iter().map(|item| text(item, id)).collect()
}

#[tokio::test]
async fn volumes_are_filtered_and_paged() {
    let mut stage = Stage::new().await;
    let host = stage.host(1, HERE, "db").await;
    let mut volumes = Vec::new();
    for size in 1..=7 {
        let tags = json!([{ "ResourceType": "volume", "Tags": [{ "Key": "n", "Value": size.to_string() }] }]);
        volumes
            .push(stage.volume(1, HERE, json!({ "Size": size, "TagSpecifications": tags })).await);
    }
    stage.volume(2, HERE, json!({ "Size": 1 })).await;
    stage.attach(1, HERE, &volumes[0], &host).await;
    for (filters, expected) in [
        (json!([{ "Name": "size", "Values": ["1", "3"] }]), vec![0, 2]),
        (
            json!([{ "Name": "tag:n", "Values": ["?"] }, { "Name": "size", "Values": ["2"] }]),
            vec![1],
        ),
        (json!([{ "Name": "tag-key", "Values": ["n*"] }]), vec![0, 1, 2, 3, 4, 5, 6]),
        (json!([{ "Name": "status", "Values": ["in-*"] }]), vec![0]),
        (json!([{ "Name": "attachment.instance-id", "Values": [host] }]), vec![0]),
        (json!([{ "Name": "attachment.device", "Values": ["/dev/sdg"] }]), vec![]),
        (json!([{ "Name": "volume-type", "Values": ["gp3"] }]), vec![]),
        (
            json!([{ "Name": "encrypted", "Values": ["false"] }, { "Name": "availability-zone-id", "Values": ["use1-az1"] }]),
            vec![0, 1, 2, 3, 4, 5, 6],
        ),
    ] {
        let reply = stage.ec2("DescribeVolumes", json!({ "Filters": filters })).await;
        let mut expected: Vec<String> =
            expected.into_iter().map(|n: usize| volumes[n].clone()).collect();
        expected.sort();
        assert_eq!(ids(&reply, "Volumes", "VolumeId"), expected, "{filters}");
    }
    let bad = json!({ "Filters": [{ "Name": "colour", "Values": ["x"] }] });
    let error = stage.ec2_error("DescribeVolumes", bad).await;
    assert_eq!(error, "InvalidParameterValue: The filter 'colour' is invalid");

    let first = stage.ec2("DescribeVolumes", json!({ "MaxResults": 5 })).await;
    let token = text(&first, "NextToken");
    let rest = stage.ec2("DescribeVolumes", json!({ "MaxResults": 5, "NextToken": token })).await;
    let mut all = ids(&first, "Volumes", "VolumeId");
    all.extend(ids(&rest, "Volumes", "VolumeId"));
    assert_eq!((all.len(), rest.get("NextToken")), (7, None));
    let error = stage.ec2_error("DescribeVolumes", json!({ "MaxResults": 4 })).await;
    assert!(error.starts_with("InvalidParameterValue: "), "{error}");
    let other = json!({ "NextToken": token, "Filters": [{ "Name": "size", "Values": ["1"] }] });
    let error = stage.ec2_error("DescribeVolumes", other).await;
    assert!(error.starts_with("InvalidNextToken: "), "{error}");
    let mixed = json!({ "MaxResults": 5, "VolumeIds": [volumes[0]] });
    let error = stage.ec2_error("DescribeVolumes", mixed).await;
    assert!(error.starts_with("InvalidParameterCombination: "), "{error}");
}

/// What is named is read by its name, and what is not with everything: both have to show the same.
#[tokio::test]
async fn what_is_named_is_shown_as_it_is_in_the_whole_list() {
    let mut stage = Stage::new().await;
    let host = stage.host(1, HERE, "db").await;
    let tagged = json!([{ "ResourceType": "volume", "Tags": [{ "Key": "a", "Value": "1" }] }]);
    let source = stage.volume(1, HERE, json!({ "Size": 1 })).await;
    stage.attach(1, HERE, &source, &host).await;
    let snapshot = stage.snapshot(1, HERE, &source).await;
    let filled = json!({ "SnapshotId": snapshot, "VolumeInitializationRate": 200, "TagSpecifications": tagged });
    stage.volume(1, HERE, filled).await;
    stage.volume(1, HERE, json!({ "Size": 2 })).await;
    stage.snapshot(1, HERE, &source).await;
    let foreign = stage.volume(2, HERE, json!({ "Size": 1 })).await;
    let hidden = stage.snapshot(2, HERE, &foreign).await;
    let shared = stage.snapshot(2, HERE, &foreign).await;
    let share = json!({ "SnapshotId": shared, "Attribute": "createVolumePermission", "OperationType": "add", "GroupNames": ["all"] });
    stage.ec2_at(2, HERE, "ModifySnapshotAttribute", share).await;
    for (owner, id) in [(1, &snapshot), (2, &shared)] {
        let tags = json!({ "Resources": [id], "Tags": [{ "Key": "b", "Value": "2" }] });
        stage.ec2_at(owner, HERE, "CreateTags", tags).await;
    }

    for (operation, list, id, names) in [
        ("DescribeVolumes", "Volumes", "VolumeId", "VolumeIds"),
        ("DescribeSnapshots", "Snapshots", "SnapshotId", "SnapshotIds"),
    ] {
        let whole = stage.ec2(operation, json!({})).await;
        let mut named = ids(&whole, list, id);
        assert_eq!(named.len(), 3, "{whole}");
        for (one, at) in named.iter().zip(0..) {
            let shown = stage.ec2(operation, json!({ names: [one] })).await;
            assert_eq!(shown[list], json!([whole[list][at]]));
        }
        named.reverse();
        named.push(named[0].clone());
        assert_eq!(stage.ec2(operation, json!({ names: named })).await[list], whole[list]);
    }
    let theirs = json!({ "VolumeIds": [source, foreign] });
    let error = stage.ec2_error("DescribeVolumes", theirs).await;
    assert_eq!(error, format!("InvalidVolume.NotFound: The volume '{foreign}' does not exist."));
    let theirs = stage.ec2("DescribeSnapshots", json!({ "SnapshotIds": [hidden, snapshot] })).await;
    assert_eq!(ids(&theirs, "Snapshots", "SnapshotId"), [snapshot]);
}

#[tokio::test]
async fn tags_are_set_listed_and_removed() {
    let mut stage = Stage::new().await;
    let host = stage.host(1, HERE, "db").await;
    let volume = stage.volume(1, HERE, json!({ "Size": 1 })).await;
    let tags = json!([{ "Key": "a", "Value": "1" }, { "Key": "b", "Value": "2" }]);
    stage.ec2("CreateTags", json!({ "Resources": [volume, host], "Tags": tags })).await;
    let listed = stage.ec2("DescribeTags", json!({})).await;
    assert_eq!(listed["Tags"].as_array().unwrap().len(), 4);
    let filter = json!([{ "Name": "resource-type", "Values": ["instance"] }, { "Name": "key", "Values": ["a"] }]);
    let one = stage.ec2("DescribeTags", json!({ "Filters": filter })).await;
    assert_eq!(
        one["Tags"],
        json!([{ "Key": "a", "ResourceId": host, "ResourceType": "instance", "Value": "1" }])
    );
    let gone =
        json!({ "Resources": [volume], "Tags": [{ "Key": "a" }, { "Key": "b", "Value": "x" }] });
    stage.ec2("DeleteTags", gone).await;
    let shown = stage.describe_volume(1, HERE, &volume).await;
    assert_eq!(shown["Tags"], json!([{ "Key": "b", "Value": "2" }]));
    stage.ec2("DeleteTags", json!({ "Resources": [volume] })).await;
    assert_eq!(stage.describe_volume(1, HERE, &volume).await["Tags"], json!([]));
    for (input, expected) in [
        (json!({ "Resources": ["vol-12345678"], "Tags": tags }), "InvalidVolume.NotFound: "),
        (json!({ "Resources": ["xyz-1"], "Tags": tags }), "InvalidID: The ID 'xyz-1' is not valid"),
        (
            json!({ "Resources": [volume], "Tags": [{ "Key": "aws:x", "Value": "" }] }),
            "InvalidParameterValue: Tag keys starting with 'aws:'",
        ),
    ] {
        let error = stage.ec2_error("CreateTags", input).await;
        assert!(error.starts_with(expected), "{error}");
    }
}

#[tokio::test]
async fn machines_regions_and_zones_are_listed() {
    let stage = Stage::new().await;
    let host = stage.host(1, HERE, "db").await;
    let reply = stage.ec2("DescribeInstances", json!({ "InstanceIds": [host] })).await;
    let instance = &reply["Reservations"][0]["Instances"][0];
    assert_eq!(instance["State"], json!({ "Code": 16, "Name": "running" }));
    assert_eq!(instance["Placement"]["AvailabilityZone"], "us-east-1a");
    assert_eq!(instance["Tags"], json!([{ "Key": "Name", "Value": "db" }]));
    let error =
        stage.ec2_error("DescribeInstances", json!({ "InstanceIds": ["i-12345678"] })).await;
    assert_eq!(error, "InvalidInstanceID.NotFound: The instance ID 'i-12345678' does not exist");

    let regions = stage.ec2("DescribeRegions", json!({})).await;
    assert_eq!(ids(&regions, "Regions", "RegionName"), ["eu-west-1", "us-east-1"]);
    let zones = stage.ec2("DescribeAvailabilityZones", json!({ "ZoneIds": ["use1-az2"] })).await;
    assert_eq!(zones["AvailabilityZones"][0]["ZoneName"], "us-east-1b");
    let error = stage.ec2_error("DescribeAvailabilityZones", json!({ "ZoneNames": ["x"] })).await;
    assert_eq!(error, "InvalidParameterValue: Invalid availability zone: [x]");
}
