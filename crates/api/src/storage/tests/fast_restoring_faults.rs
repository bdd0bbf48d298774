//! Twins that are interrupted, not wanted any more, without room or damaged.

use super::archiving::CONTENT;
use super::archiving_faults::check;
use super::leaks::dies_at;
use super::{HERE, Stage, text};
use base::SnapshotId;
use lifecycle::check::{Mode, Target};
use objstore::{FaultPlan, ObjectStore};
use serde_json::json;

const A: &str = "us-east-1a";

/// Every call to either store is the last one of a server, once; the work goes on afterwards.
#[tokio::test]
async fn a_twin_whose_making_dies_anywhere_is_made_and_leaves_nothing() {
    let mut stage = Stage::new().await;
    let host = stage.host(1, HERE, "a").await;
    let (_, [_, second, _]) = stage.three(&host).await;
    let mut deaths = 0;
    for call in 1.. {
        let mut died = false;
        for in_twins in [true, false] {
            if in_twins {
                stage.twin_plan(dies_at(call));
            } else {
                stage.plan(HERE, dies_at(call));
            }
            let input = json!({ "SourceSnapshotIds": [second], "AvailabilityZones": [A] });
            stage.ec2("EnableFastSnapshotRestores", input).await;
            stage.settle().await;
            died |= stage.bench.objects["us-east-1/twins"].crashed()
                || stage.bench.objects[HERE].crashed();
            let state = stage.fast_state(1, &second, A).await.0;
            deaths += u32::from(state == "optimizing");
            stage.twin_plan(FaultPlan::default());
            stage.recover().await;
            assert_eq!(stage.fast_state(1, &second, A).await.0, "enabled", "call {call}");
            let (volume, is_fast) = stage.restored(1, &second, json!({})).await;
            assert!(is_fast);
            stage.plan(HERE, dies_at(1));
            stage.attach(1, HERE, &volume, &host).await;
            assert_eq!(stage.read_blocks(&volume), CONTENT[1], "call {call}");
            stage.ec2("DetachVolume", json!({ "VolumeId": volume })).await;
            stage.settle().await;
            stage.recover().await;
            stage.drop_volume(1, &volume).await;
            stage.disable_fast(1, &second).await;
            stage.settle().await;
        }
        if !died {
            break;
        }
    }
    assert!(deaths > 4, "only {deaths} deaths");
    stage.days(9).await;
    stage.assert_no_leak("twins that died").await;
    assert_eq!(stage.twin_objects(), 0);
}

#[tokio::test]
async fn a_twin_that_nobody_wants_any_more_leaves_nothing() {
    let mut stage = Stage::new().await;
    let host = stage.host(1, HERE, "a").await;
    let volume = stage.filled(&host).await;
    for call in [None, Some(1), Some(2), Some(3), Some(4)] {
        for deleted in [false, true] {
            let snapshot = stage.snapshot(1, HERE, &volume).await;
            stage.twin_plan(call.map_or_else(FaultPlan::default, dies_at));
            let input = json!({ "SourceSnapshotIds": [snapshot], "AvailabilityZones": [A] });
            stage.ec2("EnableFastSnapshotRestores", input).await;
            if call.is_some() {
                stage.settle().await;
            }
            if deleted {
                stage.delete(&snapshot).await;
            } else {
                stage.disable_fast(1, &snapshot).await;
            }
            stage.twin_plan(FaultPlan::default());
            stage.recover().await;
            assert_eq!(stage.fast_state(1, &snapshot, A).await.0, "disabled", "{call:?} {deleted}");
        }
    }
    stage.days(9).await;
    stage.assert_no_leak("unwanted twins").await;
    assert_eq!(stage.twin_objects(), 0);
}

#[tokio::test]
async fn without_room_it_ends_with_the_reason_and_gives_back_what_it_took() {
    let mut stage = Stage::new().await;
    let host = stage.host(1, HERE, "a").await;
    let (_, [first, _, _]) = stage.three(&host).await;
    let no_room = "Server.InsufficientCapacity - There is not enough space for the snapshot";
    for plan in [
        FaultPlan { is_full: true, ..FaultPlan::default() },
        FaultPlan { free_bytes: Some(512 << 20), ..FaultPlan::default() },
    ] {
        stage.twin_plan(plan);
        let input = json!({ "SourceSnapshotIds": [first], "AvailabilityZones": [A, "us-east-1b"] });
        stage.ec2("EnableFastSnapshotRestores", input).await;
        stage.settle().await;
        for zone in [A, "us-east-1b"] {
            let state = stage.fast_state(1, &first, zone).await;
            assert_eq!(state, ("disabled".into(), no_room.into()));
        }
    }
    // It had begun when the space ended.
    stage.twin_plan(dies_at(1));
    stage
        .ec2(
            "EnableFastSnapshotRestores",
            json!({ "SourceSnapshotIds": [first], "AvailabilityZones": [A] }),
        )
        .await;
    stage.settle().await;
    assert_eq!(stage.fast_state(1, &first, A).await.0, "optimizing");
    stage.twin_plan(FaultPlan { is_full: true, ..FaultPlan::default() });
    stage.recover().await;
    assert_eq!(stage.fast_state(1, &first, A).await, ("disabled".into(), no_room.into()));
    stage.twin_plan(FaultPlan::default());
    stage.days(9).await;
    stage.assert_no_leak("twins without room").await;
    assert_eq!(stage.twin_objects(), 0);
    stage.twin_plan(FaultPlan { free_bytes: Some(1 << 30), ..FaultPlan::default() });
    stage.fast(1, &first).await;
}

#[tokio::test]
async fn damage_in_a_twin_is_found_by_a_check_and_read_around() {
    let mut stage = Stage::new().await;
    let host = stage.host(1, HERE, "a").await;
    let (_, [first, second, third]) = stage.three(&host).await;
    stage.fast(1, &second).await;
    stage.fast(1, &third).await;
    stage.bench.clock.advance_seconds(3600);
    let (volume, is_fast) = stage.restored(1, &second, json!({})).await;
    assert!(is_fast);
    // The volume alone keeps its twin.
    stage.disable_fast(1, &second).await;
    stage.settle().await;
    let kinds = |report: &lifecycle::check::Report| -> Vec<String> {
        report.subjects.iter().map(|subject| subject.kind.clone()).collect()
    };
    let report = check(&stage, Target::All, Mode::Report).await;
    assert_eq!(report.damage(), 0, "{report:?}");
    let mut found = kinds(&report);
    found.sort();
    assert_eq!(
        found,
        ["snapshot", "snapshot", "snapshot", "store", "twin", "twins", "volume", "volume"]
    );
    let of_one = |id: &str| Target::Snapshot(SnapshotId::parse(id).unwrap());
    let report = check(&stage, of_one(&first), Mode::Report).await;
    assert_eq!(kinds(&report), ["snapshot", "store"]);
    let report = check(&stage, of_one(&third), Mode::Report).await;
    assert_eq!(kinds(&report), ["snapshot", "twin", "store", "twins"]);

    let objects = stage.bench.objects["us-east-1/twins"].inner();
    for meta in objects.list("packs").unwrap() {
        let mut bytes = objects.get(&meta.name).unwrap().to_vec();
        let middle = bytes.len() / 2;
        bytes[middle..middle + 64].fill(0xee);
        objects.tamper(&meta.name, bytes.into());
    }
    let report = check(&stage, Target::All, Mode::Report).await;
    assert!(report.damage() > 0);
    let of_volume = report.subjects.iter().find(|subject| subject.id == volume).unwrap();
    assert!(!of_volume.findings.is_empty(), "{report:?}");
    stage.attach(1, HERE, &volume, &host).await;
    assert_eq!(stage.read_blocks(&volume), CONTENT[1]);
    // Without its twin a volume can be opened too.
    stage.ec2("DetachVolume", json!({ "VolumeId": volume })).await;
    stage.settle().await;
    let objects = stage.bench.objects["us-east-1/twins"].inner();
    for meta in objects.list("packs").unwrap() {
        objects.delete(&meta.name).unwrap();
    }
    stage.attach(1, HERE, &volume, &host).await;
    assert_eq!(stage.read_blocks(&volume), CONTENT[1]);
    assert_eq!(text(&stage.describe_volume(1, HERE, &volume).await, "State"), "in-use");
}
