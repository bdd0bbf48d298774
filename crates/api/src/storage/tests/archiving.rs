//! Snapshots in the archive, and on their way into it and out of it (spec 07).

use super::leaks::BLOCK;
use super::{HERE, Stage, THERE, text};
use crate::Service;
use crate::testing::Objects;
use objstore::{FaultPlan, ObjectStore};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const HOUR_SECONDS: i64 = 3600;

impl Stage {
    /// Asks for a snapshot to be archived.
    pub(super) async fn archive(&self, snapshot: &str) -> Value {
        let input = json!({ "SnapshotId": snapshot, "StorageTier": "archive" });
        self.ec2("ModifySnapshotTier", input).await
    }

    /// Archives a snapshot and waits until it is.
    pub(crate) async fn archived(&mut self, snapshot: &str) {
        self.archive(snapshot).await;
        self.settle().await;
        assert_eq!(self.state(snapshot).await, ("archive".into(), "archival-completed".into()));
    }

    pub(super) async fn restore(&self, snapshot: &str, days: i64) -> Value {
        let input = json!({ "SnapshotId": snapshot, "TemporaryRestoreDays": days });
        self.ec2("RestoreSnapshotTier", input).await
    }

    pub(super) async fn restore_for_good(&self, snapshot: &str) -> Value {
        let input = json!({ "SnapshotId": snapshot, "PermanentRestore": true });
        self.ec2("RestoreSnapshotTier", input).await
    }

    pub(super) async fn tier(&self, snapshot: &str) -> Value {
        let filters = json!([{ "Name": "snapshot-id", "Values": [snapshot] }]);
        let input = json!({ "Filters": filters });
        let shown = self.ec2("DescribeSnapshotTierStatus", input).await;
        shown["SnapshotTierStatuses"][0].clone()
    }

    /// Tier and last operation, as both operations that show the tier agree on it.
    pub(super) async fn state(&self, snapshot: &str) -> (String, String) {
        let tier = self.tier(snapshot).await;
        let shown = self.describe_snapshot(1, HERE, snapshot).await;
        assert_eq!(tier["StorageTier"], shown["StorageTier"]);
        assert_eq!(tier["RestoreExpiryTime"], shown["RestoreExpiryTime"]);
        let last = tier["LastTieringOperationStatus"].as_str().unwrap_or_default();
        (text(&tier, "StorageTier"), last.to_owned())
    }

    /// The first bytes of some blocks of a volume made from a snapshot.
    pub(super) async fn content(&mut self, snapshot: &str, host: &str) -> Vec<u8> {
        let volume = self.volume(1, HERE, json!({ "SnapshotId": snapshot })).await;
        self.attach(1, HERE, &volume, host).await;
        let blocks = 0..6;
        let content =
            blocks.map(|block| self.bench.host.read(&volume, block * BLOCK, 1)[0]).collect();
        self.ec2("DetachVolume", json!({ "VolumeId": volume })).await;
        self.settle().await;
        self.ec2("DeleteVolume", json!({ "VolumeId": volume })).await;
        self.settle().await;
        content
    }

    /// Hours pass, with what is due at their end.
    pub(super) async fn hours(&mut self, hours: i64) {
        self.bench.clock.advance_seconds(hours * HOUR_SECONDS);
        self.bench.world.housekeep().await.unwrap();
        self.settle().await;
    }

    pub(super) fn below_archive(&self, at: &str) -> &Objects {
        &self.bench.objects[&*format!("{at}/archive")]
    }

    pub(super) fn archive_objects(&self, at: &str) -> usize {
        self.below_archive(at).inner().list("packs").unwrap().len()
    }

    pub(super) fn archive_plan(&self, at: &str, plan: FaultPlan) {
        self.below_archive(at).restart(plan);
    }

    /// A volume with three snapshots, of which each has something of its own and shares something
    /// with the others; the volume is detached.
    pub(super) async fn three(&mut self, host: &str) -> (String, [String; 3]) {
        let volume = self.filled(host).await;
        let first = self.snapshot(1, HERE, &volume).await;
        self.fill(&volume, 1..3, 50);
        let second = self.snapshot(1, HERE, &volume).await;
        self.fill(&volume, 2..4, 90);
        let third = self.snapshot(1, HERE, &volume).await;
        self.ec2("DetachVolume", json!({ "VolumeId": volume })).await;
        self.settle().await;
        (volume, [first, second, third])
    }
}

/// What [`Stage::three`] wrote.
pub(super) const CONTENT: [[u8; 6]; 3] =
    [[1, 2, 3, 4, 5, 6], [1, 51, 52, 4, 5, 6], [1, 51, 92, 93, 5, 6]];

#[tokio::test]
async fn the_middle_of_three_is_archived_and_comes_back() {
    let mut stage = Stage::new().await;
    let host = stage.host(1, HERE, "a").await;
    let (volume, [first, second, third]) = stage.three(&host).await;
    let before = stage.describe_snapshot(1, HERE, &second).await;
    let begun = stage.archive(&second).await;
    assert_eq!(begun["SnapshotId"], json!(second));
    let under_way = stage.tier(&second).await;
    assert_eq!(under_way["LastTieringStartTime"], begun["TieringStartTime"]);
    assert_eq!(stage.state(&second).await, ("standard".into(), "archival-in-progress".into()));
    assert_eq!(stage.content(&second, &host).await, CONTENT[1], "it is archived meanwhile");
    let tier = stage.tier(&second).await;
    assert_eq!(stage.state(&second).await, ("archive".into(), "archival-completed".into()));
    assert_eq!((&tier["LastTieringProgress"], &tier["Status"]), (&json!(100), &json!("completed")));
    assert_eq!((&tier["VolumeId"], &tier["OwnerId"]), (&json!(volume), &json!("111111111111")));
    assert!(tier["ArchivalCompleteTime"].is_string() && tier["RestoreExpiryTime"].is_null());
    // Nothing else of it changes.
    let mut after = stage.describe_snapshot(1, HERE, &second).await;
    after["StorageTier"] = json!("standard");
    assert_eq!(after, before);
    for (tier, expected) in [("archive", vec![&second]), ("standard", vec![&first, &third])] {
        let input = json!({ "Filters": [{ "Name": "storage-tier", "Values": [tier] }] });
        let shown = stage.ec2("DescribeSnapshots", input).await;
        let mut shown: Vec<_> =
            shown["Snapshots"].as_array().unwrap().iter().map(|s| text(s, "SnapshotId")).collect();
        shown.sort();
        let mut expected: Vec<_> = expected.into_iter().cloned().collect();
        expected.sort();
        assert_eq!(shown, expected, "{tier}");
    }
    // What it had to itself goes, what it shared stays.
    stage.days(9).await;
    stage.assert_no_leak("an archived snapshot").await;
    assert!(stage.archive_objects(HERE) > 0);
    for (snapshot, content) in [(&first, CONTENT[0]), (&third, CONTENT[2])] {
        assert_eq!(stage.content(snapshot, &host).await, content);
    }

    let begun = stage.restore_for_good(&second).await;
    assert_eq!(begun["IsPermanentRestore"], json!(true));
    assert_eq!(begun["RestoreDuration"], json!(null));
    stage.settle().await;
    let tier = stage.tier(&second).await;
    assert_eq!(
        stage.state(&second).await,
        ("standard".into(), "permanent-restore-completed".into())
    );
    assert!(tier["ArchivalCompleteTime"].is_null(), "{tier}");
    assert_eq!(stage.describe_snapshot(1, HERE, &second).await, before);
    stage.days(9).await;
    stage.assert_no_leak("a restored snapshot").await;
    assert_eq!(stage.archive_objects(HERE), 0);
    for (snapshot, content) in [&first, &second, &third].into_iter().zip(CONTENT) {
        assert_eq!(stage.content(snapshot, &host).await, content);
    }
    let told = stage.events(1, HERE).await;
    let of_tiers = |told: &&String| told.contains("rchive") || told.contains("estore");
    let told: Vec<_> = told.iter().filter(of_tiers).collect();
    assert_eq!(told, ["archiveSnapshot succeeded", "permanentRestoreSnapshot succeeded"]);
}

#[tokio::test]
async fn an_archived_snapshot_is_of_no_use_until_it_is_restored() {
    let mut stage = Stage::new().await;
    let host = stage.host(1, HERE, "a").await;
    let (_, [first, second, _]) = stage.three(&host).await;
    stage.share(&second).await;
    let seen = json!({ "RestorableByUserIds": ["self"] });
    let shows = |shown: Value| {
        let mut ids = shown["Snapshots"].as_array().unwrap().iter().map(|s| text(s, "SnapshotId"));
        ids.any(|id| id == second)
    };
    assert!(shows(stage.ec2_at(2, HERE, "DescribeSnapshots", seen.clone()).await));
    stage.archived(&second).await;
    for (at, name, input) in [
        (HERE, "CreateVolume", json!({ "AvailabilityZone": "us-east-1a", "SnapshotId": second })),
        (THERE, "CopySnapshot", json!({ "SourceRegion": HERE, "SourceSnapshotId": second })),
        (
            HERE,
            "ModifySnapshotAttribute",
            json!({ "SnapshotId": second, "CreateVolumePermission": { "Add": [{ "UserId": "333333333333" }] } }),
        ),
    ] {
        let error = stage.ec2_error_at(1, at, name, input).await;
        assert!(
            error.starts_with("IncorrectState: ") && error.contains(&second),
            "{name}: {error}"
        );
    }
    for (name, input) in [
        ("ListSnapshotBlocks", json!({ "SnapshotId": second })),
        ("ListChangedBlocks", json!({ "FirstSnapshotId": first, "SecondSnapshotId": second })),
        ("ListChangedBlocks", json!({ "FirstSnapshotId": second, "SecondSnapshotId": first })),
        (
            "GetSnapshotBlock",
            json!({ "SnapshotId": second, "BlockIndex": 0, "BlockToken": "AAAA" }),
        ),
        ("StartSnapshot", json!({ "VolumeSize": 1, "ParentSnapshotId": second })),
    ] {
        let error = stage.try_root(1, HERE, Service::Ebs, name, input).await.unwrap_err();
        assert!(error.starts_with("ValidationException: "), "{name}: {error}");
        assert!(error.contains("is archived"), "{name}: {error}");
    }
    // Its share is suspended, not lost.
    assert!(!shows(stage.ec2_at(2, HERE, "DescribeSnapshots", seen.clone()).await));
    let input = json!({ "AvailabilityZone": "us-east-1a", "SnapshotId": second });
    let error = stage.ec2_error_at(2, HERE, "CreateVolume", input.clone()).await;
    assert!(error.starts_with("InvalidSnapshot.NotFound: "), "{error}");
    let copy = json!({ "SourceRegion": HERE, "SourceSnapshotId": second });
    let copy = text(&stage.ec2_at(2, HERE, "CopySnapshot", copy).await, "SnapshotId");
    stage.settle().await;
    let shown = stage.describe_snapshot(2, HERE, &copy).await;
    assert_eq!(shown["StateMessage"], "Source snapshot is not found");
    let attribute = json!({ "SnapshotId": second, "Attribute": "createVolumePermission" });
    let shown = stage.ec2("DescribeSnapshotAttribute", attribute).await;
    assert_eq!(shown["CreateVolumePermissions"], json!([{ "UserId": "222222222222" }]));

    stage.restore(&second, 1).await;
    stage.settle().await;
    assert!(shows(stage.ec2_at(2, HERE, "DescribeSnapshots", seen).await));
    let grantee = stage.host(2, HERE, "b").await;
    let made = text(&stage.ec2_at(2, HERE, "CreateVolume", input).await, "VolumeId");
    stage.settle().await;
    stage.attach(2, HERE, &made, &grantee).await;
    assert_eq!(stage.bench.host.read(&made, 2 * BLOCK, 1), [CONTENT[1][2]]);
    stage.bench.host.forget_all();
}

#[tokio::test]
async fn a_temporary_restore_ends_by_the_clock() {
    let mut stage = Stage::new().await;
    let host = stage.host(1, HERE, "a").await;
    let (_, [first, _, _]) = stage.three(&host).await;
    stage.archived(&first).await;
    let begun = stage.restore(&first, 2).await;
    assert_eq!(begun["IsPermanentRestore"], json!(false));
    assert_eq!(begun["RestoreDuration"], json!(2));
    assert_eq!(stage.state(&first).await.1, "temporary-restore-in-progress");
    stage.settle().await;
    let shown = stage.describe_snapshot(1, HERE, &first).await;
    assert_eq!(
        stage.state(&first).await,
        ("standard".into(), "temporary-restore-completed".into())
    );
    assert!(shown["RestoreExpiryTime"].as_str().unwrap().starts_with("2026-01-03T00:0"), "{shown}");
    let volume = stage.volume(1, HERE, json!({ "SnapshotId": first })).await;
    stage.attach(1, HERE, &volume, &host).await;
    stage.hours(47).await;
    assert_eq!(stage.state(&first).await.0, "standard");
    stage.hours(2).await;
    assert_eq!(stage.state(&first).await, ("archive".into(), "temporary-restore-completed".into()));
    assert!(stage.tier(&first).await["RestoreExpiryTime"].is_null());
    let told = stage.events(1, HERE).await;
    let told = &told[told.len() - 4..];
    assert!(told.contains(&"temporaryRestoreSnapshot succeeded".to_owned()), "{told:?}");
    assert_eq!(told.last().unwrap(), "restoreExpiry succeeded");
    let input = json!({ "AvailabilityZone": "us-east-1a", "SnapshotId": first });
    let error = stage.ec2_error("CreateVolume", input).await;
    assert!(error.starts_with("IncorrectState: "), "{error}");
    // The volume made meanwhile keeps what it needs, and nothing else is kept.
    stage.days(9).await;
    stage.assert_no_leak("an ended restore").await;
    for (block, stamp) in (0..).zip(CONTENT[0]) {
        assert_eq!(stage.bench.host.read(&volume, block * BLOCK, 1), [stamp]);
    }
    stage.ec2("DetachVolume", json!({ "VolumeId": volume })).await;
    // The next restore moves the same bytes again.
    stage.restore(&first, 180).await;
    stage.settle().await;
    assert_eq!(stage.content(&first, &host).await, CONTENT[0]);
}

#[tokio::test]
async fn a_restore_is_asked_for_again() {
    let mut stage = Stage::new().await;
    let host = stage.host(1, HERE, "a").await;
    let (_, [first, _, _]) = stage.three(&host).await;
    stage.archived(&first).await;
    // Nothing said means a day.
    let begun = stage.ec2("RestoreSnapshotTier", json!({ "SnapshotId": first })).await;
    assert_eq!(begun["RestoreDuration"], json!(1));
    stage.settle().await;
    stage.hours(20).await;
    stage.restore(&first, 2).await;
    assert_eq!(
        stage.state(&first).await,
        ("standard".into(), "temporary-restore-completed".into())
    );
    stage.hours(47).await;
    assert_eq!(
        stage.state(&first).await.0,
        "standard",
        "two days count from when they were asked for"
    );
    // One day ends a longer one early.
    stage.restore(&first, 100).await;
    stage.restore(&first, 1).await;
    stage.hours(25).await;
    assert_eq!(stage.state(&first).await.0, "archive");
    stage.restore(&first, 1).await;
    stage.settle().await;
    let begun = stage.restore_for_good(&first).await;
    assert_eq!(begun["IsPermanentRestore"], json!(true));
    assert_eq!(
        stage.state(&first).await,
        ("standard".into(), "permanent-restore-completed".into())
    );
    stage.days(9).await;
    stage.assert_no_leak("a restore made permanent").await;
    assert_eq!(stage.archive_objects(HERE), 0);
    assert_eq!(stage.content(&first, &host).await, CONTENT[0]);
    // It may go to the archive once more.
    stage.archived(&first).await;
}

#[tokio::test]
async fn leaving_the_archive_early_succeeds_and_is_charged_for() {
    let mut stage = Stage::new().await;
    let host = stage.host(1, HERE, "a").await;
    let (_, [first, second, third]) = stage.three(&host).await;
    for snapshot in [&first, &second, &third] {
        stage.archived(snapshot).await;
    }
    let lines = async |stage: &Stage| {
        let region = crate::testing::region(HERE);
        let read = move |tx: &mut meta::Tx<'_>| ebs::usage::early_deletions(tx, &region);
        let found = stage.bench.world.db.read(read).await.unwrap();
        let shown = |line: ebs::usage::EarlyDeletion| {
            (line.snapshot.to_string(), line.hours_left, line.bytes)
        };
        found.into_iter().map(shown).collect::<Vec<_>>()
    };
    stage.restore(&second, 1).await;
    stage.settle().await;
    stage.hours(240).await;
    assert_eq!(lines(&stage).await, [], "a temporary restore costs nothing of this");
    stage.delete(&first).await;
    let mut expected = vec![(first, 80 * 24, 6 * BLOCK)];
    assert_eq!(lines(&stage).await, expected);
    stage.hours(24).await;
    stage.restore_for_good(&second).await;
    stage.settle().await;
    expected.push((second, 79 * 24, 6 * BLOCK));
    assert_eq!(lines(&stage).await, expected);
    stage.hours(79 * 24).await;
    stage.delete(&third).await;
    assert_eq!(lines(&stage).await, expected, "after 90 days nothing is left");
}

#[tokio::test]
async fn what_may_not_be_moved_is_refused() {
    let mut stage = Stage::new().await;
    let host = stage.host(1, HERE, "a").await;
    let (volume, [first, second, _]) = stage.three(&host).await;
    let archive = |id: &str| json!({ "SnapshotId": id, "StorageTier": "archive" });
    let restore = |id: &str, days: i64| json!({ "SnapshotId": id, "TemporaryRestoreDays": days });
    for (name, input, expected) in [
        ("ModifySnapshotTier", json!({ "SnapshotId": first }), "MissingParameter: "),
        ("ModifySnapshotTier", archive("snap-0123456789abcdef0"), "InvalidSnapshot.NotFound: "),
        ("RestoreSnapshotTier", restore(&first, 0), "InvalidParameterValue: "),
        ("RestoreSnapshotTier", restore(&first, 181), "InvalidParameterValue: "),
        ("RestoreSnapshotTier", restore(&first, -1), "InvalidParameterValue: "),
        (
            "RestoreSnapshotTier",
            json!({ "SnapshotId": first, "TemporaryRestoreDays": 1, "PermanentRestore": true }),
            "InvalidParameterCombination: ",
        ),
        ("RestoreSnapshotTier", restore(&first, 1), "IncorrectState: "),
        (
            "RestoreSnapshotTier",
            json!({ "SnapshotId": first, "PermanentRestore": true }),
            "IncorrectState: ",
        ),
    ] {
        let error = stage.ec2_error(name, input.clone()).await;
        assert!(error.starts_with(expected), "{name} {input}: {error}");
    }
    // Another account sees it only when it is shared, and may not move it even then.
    let error = stage.ec2_error_at(2, HERE, "ModifySnapshotTier", archive(&first)).await;
    assert!(error.starts_with("InvalidSnapshot.NotFound: "), "{error}");
    stage.share(&first).await;
    let error = stage.ec2_error_at(2, HERE, "ModifySnapshotTier", archive(&first)).await;
    assert!(error.starts_with("UnauthorizedOperation: "), "{error}");

    let pending =
        text(&stage.ec2("CreateSnapshot", json!({ "VolumeId": volume })).await, "SnapshotId");
    let error = stage.ec2_error("ModifySnapshotTier", archive(&pending)).await;
    assert_eq!(error, "IncorrectState: Snapshot is in invalid state - pending");
    stage.settle().await;

    stage.archive(&first).await;
    for (name, input) in
        [("ModifySnapshotTier", archive(&first)), ("RestoreSnapshotTier", restore(&first, 1))]
    {
        let error = stage.ec2_error(name, input).await;
        let expected = format!(
            "IncorrectState: The snapshot '{first}' is in the tiering state 'archival-in-progress'."
        );
        assert_eq!(error, expected, "{name}");
    }
    stage.settle().await;
    let already = format!("IncorrectState: The snapshot '{first}' is already archived.");
    assert_eq!(stage.ec2_error("ModifySnapshotTier", archive(&first)).await, already);
    stage.restore(&first, 1).await;
    let error = stage.ec2_error("RestoreSnapshotTier", restore(&first, 1)).await;
    assert!(error.contains("'temporary-restore-in-progress'"), "{error}");
    stage.settle().await;
    assert_eq!(stage.ec2_error("ModifySnapshotTier", archive(&first)).await, already);
    let status = stage.ec2("DescribeSnapshotTierStatus", json!({})).await;
    let status = status["SnapshotTierStatuses"].as_array().unwrap();
    assert_eq!(status.len(), 4, "snapshots that never moved are there too");
    let unmoved = status.iter().find(|row| row["SnapshotId"] == json!(second)).unwrap();
    assert_eq!(unmoved["StorageTier"], "standard");
    assert_eq!(unmoved["LastTieringOperationStatus"], json!(null));
}

#[tokio::test]
async fn quotas_hold() {
    let mut stage = Stage::new().await;
    let volume = stage.volume(1, HERE, json!({ "Size": 1 })).await;
    let mut snapshots = Vec::new();
    for _ in 0..26 {
        snapshots.push(stage.snapshot(1, HERE, &volume).await);
    }
    // Of a volume of its own, so that the first to be reached is the other limit.
    let other = stage.volume(1, HERE, json!({ "Size": 1 })).await;
    let other = stage.snapshot(1, HERE, &other).await;
    for snapshot in &snapshots[..25] {
        stage.archive(snapshot).await;
    }
    let input = |id: &str| json!({ "SnapshotId": id, "StorageTier": "archive" });
    let error = stage.ec2_error("ModifySnapshotTier", input(&other)).await;
    assert_eq!(
        error,
        "ResourceLimitExceeded: The limit of 25 snapshot archives in progress is reached."
    );
    let of_volume =
        "ResourceLimitExceeded: The limit of 25 archived snapshots per volume is reached.";
    assert_eq!(stage.ec2_error("ModifySnapshotTier", input(&snapshots[25])).await, of_volume);
    stage.settle().await;
    assert_eq!(stage.ec2_error("ModifySnapshotTier", input(&snapshots[25])).await, of_volume);
    stage.archive(&other).await;
    for snapshot in &snapshots[..5] {
        stage.restore(snapshot, 1).await;
    }
    let input = json!({ "SnapshotId": snapshots[5], "PermanentRestore": true });
    assert_eq!(
        stage.ec2_error("RestoreSnapshotTier", input).await,
        "ResourceLimitExceeded: The limit of 5 snapshot restores in progress is reached."
    );
    stage.settle().await;
    // Those that are here already need no move.
    for snapshot in &snapshots[..5] {
        stage.restore(snapshot, 2).await;
    }
    stage.restore_for_good(&snapshots[5]).await;
}

#[tokio::test]
async fn copies_and_snapshots_after_an_archive_are_whole() {
    let mut stage = Stage::new().await;
    let host = stage.host(1, HERE, "a").await;
    let (volume, [first, second, third]) = stage.three(&host).await;
    let copied = async |stage: &mut Stage, source: &str| {
        let input = json!({ "SourceRegion": HERE, "SourceSnapshotId": source });
        let copy = text(&stage.ec2_at(1, THERE, "CopySnapshot", input).await, "SnapshotId");
        stage.settle().await;
        let shown = stage.describe_snapshot(1, THERE, &copy).await;
        assert_eq!(shown["State"], "completed", "{shown}");
        copy
    };
    copied(&mut stage, &first).await;
    // The source of the earlier copy comes back without its relations.
    stage.archived(&first).await;
    stage.restore_for_good(&first).await;
    stage.settle().await;
    let copy = copied(&mut stage, &second).await;
    let elsewhere = stage.host(1, THERE, "b").await;
    let input = json!({ "AvailabilityZone": "eu-west-1a", "SnapshotId": copy });
    let made = text(&stage.ec2_at(1, THERE, "CreateVolume", input).await, "VolumeId");
    stage.settle().await;
    stage.attach(1, THERE, &made, &elsewhere).await;
    for (block, stamp) in (0..).zip(CONTENT[1]) {
        assert_eq!(stage.bench.host.read(&made, block * BLOCK, 1), [stamp]);
    }
    // The volume's next snapshot has its predecessor in the archive.
    stage.archived(&third).await;
    stage.attach(1, HERE, &volume, &host).await;
    stage.fill(&volume, 0..1, 200);
    let next = stage.snapshot(1, HERE, &volume).await;
    stage.ec2("DetachVolume", json!({ "VolumeId": volume })).await;
    stage.settle().await;
    let mut content = CONTENT[2];
    content[0] = 200;
    assert_eq!(stage.content(&next, &host).await, content);
    stage.bench.host.forget_all();
    stage.days(9).await;
    stage.assert_no_leak("after archives").await;
}

#[tokio::test]
async fn a_disabled_key_stops_no_move_and_none_is_asked_for() {
    let mut stage = Stage::new().await;
    let host = stage.host(1, HERE, "a").await;
    let key = stage.key(1, HERE).await;
    let volume = stage.encrypted(&key).await;
    stage.attach(1, HERE, &volume, &host).await;
    stage.fill(&volume, 0..6, 1);
    let snapshot = stage.snapshot(1, HERE, &volume).await;
    stage.ec2("DetachVolume", json!({ "VolumeId": volume })).await;
    stage.settle().await;
    stage.kms(1, HERE, "DisableKey", json!({ "KeyId": key })).await;
    let mut seen = BTreeSet::new();
    stage.kms_calls(1, HERE, &mut seen).await;
    stage.archived(&snapshot).await;
    stage.restore(&snapshot, 3).await;
    stage.settle().await;
    assert_eq!(stage.state(&snapshot).await.1, "temporary-restore-completed");
    assert_eq!(stage.kms_calls(1, HERE, &mut seen).await, [""; 0]);
    stage.kms(1, HERE, "EnableKey", json!({ "KeyId": key })).await;
    assert_eq!(stage.content(&snapshot, &host).await, CONTENT[0]);
}

#[tokio::test]
async fn moves_need_their_own_permissions() {
    let mut stage = Stage::new().await;
    let volume = stage.volume(1, HERE, json!({ "Size": 1 })).await;
    let snapshot = stage.snapshot(1, HERE, &volume).await;
    let allow = |action: &str, condition: Value| json!([{ "Effect": "Allow", "Action": action, "Resource": "*", "Condition": condition }]);
    let archive = json!({ "SnapshotId": snapshot, "StorageTier": "archive", "DryRun": true });
    let restore = json!({ "SnapshotId": snapshot, "DryRun": true });
    let status = json!({ "DryRun": true });
    let tier = |tier: &str| json!({ "StringEquals": { "ec2:Attribute/StorageTier": tier } });
    for (user, statements, name, input, denied) in [
        ("a", allow("ec2:ModifySnapshotTier", json!({})), "ModifySnapshotTier", &archive, false),
        (
            "b",
            allow("ec2:ModifySnapshotTier", tier("archive")),
            "ModifySnapshotTier",
            &archive,
            false,
        ),
        ("c", allow("ec2:ModifySnapshotTier", tier("other")), "ModifySnapshotTier", &archive, true),
        ("d", allow("ec2:RestoreSnapshotTier", json!({})), "ModifySnapshotTier", &archive, true),
        ("e", allow("ec2:RestoreSnapshotTier", json!({})), "RestoreSnapshotTier", &restore, false),
        ("f", allow("ec2:ModifySnapshotTier", json!({})), "RestoreSnapshotTier", &restore, true),
        (
            "g",
            allow("ec2:DescribeSnapshotTierStatus", json!({})),
            "DescribeSnapshotTierStatus",
            &status,
            false,
        ),
        (
            "h",
            allow("ec2:DescribeSnapshots", json!({})),
            "DescribeSnapshotTierStatus",
            &status,
            true,
        ),
    ] {
        let user = stage.user(1, user, statements).await;
        let answer = stage.try_as(user, HERE, Service::Ec2, name, input.clone()).await;
        let expected = if denied { "UnauthorizedOperation: " } else { "DryRunOperation: " };
        let error = answer.unwrap_err();
        assert!(error.starts_with(expected), "{name} {input}: {error}");
    }
    assert_eq!(stage.state(&snapshot).await, ("standard".into(), String::new()));
}

#[tokio::test]
async fn tier_statuses_are_filtered_and_paged() {
    let mut stage = Stage::new().await;
    let mut snapshots = Vec::new();
    for number in 0..7 {
        let volume = stage.volume(1, HERE, json!({ "Size": 1 })).await;
        let snapshot = stage.snapshot(1, HERE, &volume).await;
        let tags = json!([{ "Key": "n", "Value": number.to_string() }]);
        stage.ec2("CreateTags", json!({ "Resources": [snapshot], "Tags": tags })).await;
        snapshots.push((volume, snapshot));
    }
    stage.archived(&snapshots[2].1).await;
    stage.archived(&snapshots[3].1).await;
    stage.restore(&snapshots[3].1, 1).await;
    stage.settle().await;
    for (filter, values, expected) in [
        ("snapshot-id", json!([snapshots[0].1, snapshots[5].1]), vec![0, 5]),
        ("volume-id", json!([snapshots[1].0]), vec![1]),
        ("last-tiering-operation", json!(["archival-completed"]), vec![2]),
        ("last-tiering-operation", json!(["*-completed"]), vec![2, 3]),
        ("last-tiering-operation", json!(["archival-failed"]), vec![]),
        ("tag:n", json!(["4"]), vec![4]),
    ] {
        let input = json!({ "Filters": [{ "Name": filter, "Values": values }] });
        let reply = stage.ec2("DescribeSnapshotTierStatus", input).await;
        let mut expected: Vec<_> =
            expected.into_iter().map(|at: usize| snapshots[at].1.clone()).collect();
        expected.sort();
        assert_eq!(ids(&reply), expected, "{filter}");
    }
    let input = json!({ "Filters": [{ "Name": "storage-tier", "Values": ["x"] }] });
    let error = stage.ec2_error("DescribeSnapshotTierStatus", input).await;
    assert_eq!(error, "InvalidParameterValue: The filter 'storage-tier' is invalid");
    let first = stage.ec2("DescribeSnapshotTierStatus", json!({ "MaxResults": 5 })).await;
    let input = json!({ "MaxResults": 5, "NextToken": text(&first, "NextToken") });
    let rest = stage.ec2("DescribeSnapshotTierStatus", input).await;
    let all = [ids(&first), ids(&rest)].concat();
    let mut expected: Vec<_> = snapshots.into_iter().map(|(_, snapshot)| snapshot).collect();
    expected.sort();
    assert_eq!(all, expected);
    assert_eq!(rest["NextToken"], json!(null));
    // Others see nothing of it.
    let others = stage.ec2_at(2, HERE, "DescribeSnapshotTierStatus", json!({})).await;
    assert_eq!(ids(&others), [""; 0]);
}

fn ids(reply: &Value) -> Vec<String> {
    let rows = reply["SnapshotTierStatuses"].as_array().unwrap();
    rows.iter().map(|row| text(row, "SnapshotId")).collect()
}
