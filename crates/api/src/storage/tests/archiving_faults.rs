//! Moves between tiers that are interrupted, deleted or damaged, and what of them a check sees.

use super::archiving::CONTENT;
use super::leaks::dies_at;
use super::{HERE, Stage, THERE, text};
use base::SnapshotId;
use blockstore::check::CheckWatch;
use lifecycle::check::{Mode, Report, Target, Watch};
use objstore::{FaultPlan, ObjectStore};
use serde_json::json;

/// Every call to either store is the last one of a server, once; the work goes on afterwards.
#[tokio::test]
async fn a_move_that_dies_anywhere_goes_on_and_leaves_nothing() {
    let mut stage = Stage::new().await;
    let host = stage.host(1, HERE, "a").await;
    let (_, [_, second, _]) = stage.three(&host).await;
    let mut deaths = 0;
    for call in 1.. {
        let mut died = false;
        for (is_archival, in_archive) in
            [(true, true), (false, false), (true, false), (false, true)]
        {
            let plan = dies_at(call);
            if in_archive {
                stage.archive_plan(HERE, plan)
            } else {
                stage.plan(HERE, plan)
            }
            if is_archival {
                stage.archive(&second).await;
            } else {
                stage.restore_for_good(&second).await;
            }
            stage.settle().await;
            died |= stage.below_archive(HERE).crashed() || stage.bench.objects[HERE].crashed();
            // It may also have died in a collection after the move.
            deaths += u32::from(stage.state(&second).await.1.ends_with("in-progress"));
            stage.archive_plan(HERE, FaultPlan::default());
            stage.recover().await;
            let (tier, last) = if is_archival {
                ("archive", "archival-completed")
            } else {
                ("standard", "permanent-restore-completed")
            };
            assert_eq!(
                stage.state(&second).await,
                (tier.to_owned(), last.to_owned()),
                "call {call}"
            );
        }
        assert_eq!(stage.content(&second, &host).await, CONTENT[1], "call {call}");
        if !died {
            break;
        }
    }
    assert!(deaths > 8, "only {deaths} deaths");
    stage.days(9).await;
    stage.assert_no_leak("moves that died").await;
    assert_eq!(stage.archive_objects(HERE), 0);
}

#[tokio::test]
async fn a_snapshot_deleted_on_its_way_leaves_nothing() {
    let mut stage = Stage::new().await;
    let host = stage.host(1, HERE, "a").await;
    let volume = stage.filled(&host).await;
    for (restores, call) in [(false, None), (false, Some(1)), (false, Some(2)), (false, Some(3))]
        .into_iter()
        .chain([(true, None), (true, Some(1)), (true, Some(2)), (true, Some(3))])
    {
        let snapshot = stage.snapshot(1, HERE, &volume).await;
        let plan = call.map_or_else(FaultPlan::default, dies_at);
        if restores {
            stage.archived(&snapshot).await;
            stage.plan(HERE, plan);
            stage.restore(&snapshot, 1).await;
        } else {
            stage.archive_plan(HERE, plan);
            stage.archive(&snapshot).await;
        }
        if call.is_some() {
            stage.settle().await;
        }
        stage.delete(&snapshot).await;
        stage.archive_plan(HERE, FaultPlan::default());
        stage.recover().await;
        let error =
            stage.ec2_error("DescribeSnapshots", json!({ "SnapshotIds": [snapshot] })).await;
        assert!(error.starts_with("InvalidSnapshot.NotFound: "), "{error}");
        assert!(stage.tier(&snapshot).await.is_null());
    }
    stage.days(9).await;
    stage.assert_no_leak("deleted on their way").await;
    assert_eq!((stage.objects(HERE), stage.archive_objects(HERE)), (0, 0));
}

#[tokio::test]
async fn deleting_an_archived_snapshot_gives_its_space_back_soon() {
    let mut stage = Stage::new().await;
    let host = stage.host(1, HERE, "a").await;
    let (_, [first, second, third]) = stage.three(&host).await;
    stage.archived(&second).await;
    stage.restore(&second, 30).await;
    stage.settle().await;
    stage.delete(&second).await;
    // Nominated by the deletion, so no sweep is needed.
    stage.days(2).await;
    assert_eq!(stage.archive_objects(HERE), 0);
    stage.days(7).await;
    stage.assert_no_leak("a deleted archive").await;
    for (snapshot, content) in [(&first, CONTENT[0]), (&third, CONTENT[2])] {
        assert_eq!(stage.content(snapshot, &host).await, content);
    }
}

#[tokio::test]
async fn a_copy_that_has_begun_is_finished_first() {
    let mut stage = Stage::new().await;
    let host = stage.host(1, HERE, "a").await;
    let (_, [first, second, _]) = stage.three(&host).await;
    for (snapshot, expires) in [(&first, false), (&second, true)] {
        if expires {
            stage.archived(snapshot).await;
            stage.restore(snapshot, 1).await;
            stage.settle().await;
        }
        stage.plan(THERE, dies_at(1));
        let input = json!({ "SourceRegion": HERE, "SourceSnapshotId": snapshot });
        let copy = text(&stage.ec2_at(1, THERE, "CopySnapshot", input).await, "SnapshotId");
        stage.settle().await;
        if expires {
            stage.hours(25).await;
        } else {
            stage.archive(snapshot).await;
            stage.settle().await;
            let tier = stage.tier(snapshot).await;
            assert_eq!(tier["LastTieringProgress"], json!(99), "all of it is there");
            // Asked again and again, nothing is moved again.
            let objects = stage.archive_objects(HERE);
            stage.hours(1).await;
            assert_eq!(stage.archive_objects(HERE), objects);
        }
        assert_eq!(stage.state(snapshot).await.0, "standard");
        stage.recover().await;
        stage.hours(1).await;
        assert_eq!(stage.describe_snapshot(1, THERE, &copy).await["State"], "completed");
        assert_eq!(stage.state(snapshot).await.0, "archive");
    }
}

#[tokio::test]
async fn damage_leaves_a_snapshot_where_it_is() {
    let mut stage = Stage::new().await;
    let host = stage.host(1, HERE, "a").await;
    let (_, [first, second, third]) = stage.three(&host).await;
    for snapshot in [&first, &second, &third] {
        stage.archived(snapshot).await;
    }
    let objects = stage.below_archive(HERE);
    for meta in objects.inner().list("packs").unwrap() {
        let mut bytes = objects.inner().get(&meta.name).unwrap().to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        objects.inner().tamper(&meta.name, bytes.into());
    }
    stage.restore(&first, 1).await;
    stage.settle().await;
    let tier = stage.tier(&first).await;
    assert_eq!(stage.state(&first).await, ("archive".into(), "temporary-restore-failed".into()));
    let detail = text(&tier, "LastTieringOperationStatusDetail");
    assert!(detail.starts_with("Stored blocks are damaged: "), "{detail}");
    let told = stage.events(1, HERE).await;
    assert_eq!(told.last().unwrap(), &format!("temporaryRestoreSnapshot failed {detail}"));
    // It may be tried again, and stays refused for use.
    stage.restore_for_good(&first).await;
    stage.settle().await;
    assert_eq!(stage.state(&first).await, ("archive".into(), "permanent-restore-failed".into()));
    let input = json!({ "AvailabilityZone": "us-east-1a", "SnapshotId": first });
    let error = stage.ec2_error("CreateVolume", input).await;
    assert!(error.starts_with("IncorrectState: "), "{error}");
    for snapshot in [&first, &second, &third] {
        stage.delete(snapshot).await;
    }
}

struct Unwatched;

impl CheckWatch for Unwatched {
    fn read(&self, _bytes: u64) {}

    fn is_cancelled(&self) -> bool {
        false
    }
}

impl Watch for Unwatched {
    fn begins(&self, _id: &str, _number: u64, _total: u64) {}
}

pub(super) async fn check(stage: &Stage, target: Target, mode: Mode) -> Report {
    let world = &stage.bench.world;
    let regions = [crate::testing::region(HERE)].into_iter();
    let survey = lifecycle::check::survey(&world.services, regions, target).await.unwrap();
    lifecycle::check::run(&world.services, &world.cells, &survey, mode, &Unwatched).unwrap()
}

#[tokio::test]
async fn a_check_walks_the_archive() {
    let mut stage = Stage::new().await;
    let host = stage.host(1, HERE, "a").await;
    let (_, [first, second, third]) = stage.three(&host).await;
    let kinds = |report: &Report| -> Vec<String> {
        report.subjects.iter().map(|subject| subject.kind.clone()).collect()
    };
    let report = check(&stage, Target::All, Mode::Report).await;
    assert_eq!(kinds(&report), ["snapshot", "snapshot", "snapshot", "volume", "store"]);
    stage.archived(&first).await;
    stage.archived(&second).await;
    stage.restore(&second, 1).await;
    stage.settle().await;
    // One that is on its way.
    stage.archive_plan(HERE, dies_at(3));
    stage.archive(&third).await;
    stage.settle().await;
    assert_eq!(stage.state(&third).await.1, "archival-in-progress");
    stage.archive_plan(HERE, FaultPlan::default());
    let report = check(&stage, Target::All, Mode::Report).await;
    let expected = ["snapshot", "snapshot", "snapshot", "volume", "work", "store", "archive"];
    assert_eq!(kinds(&report), expected);
    assert_eq!(report.damage(), 0);
    for subject in &report.subjects[..3] {
        assert_eq!(subject.compared, 0, "plain snapshots are opened in the archive too");
    }
    stage.recover().await;
    assert_eq!(stage.state(&third).await.0, "archive");

    // The directory of every pack is derived; what the items hold is not.
    let objects = stage.below_archive(HERE).inner();
    let names: Vec<_> = objects.list("packs").unwrap().into_iter().map(|meta| meta.name).collect();
    for name in &names {
        let mut bytes = objects.get(name).unwrap().to_vec();
        let footer = bytes.len() - 40;
        bytes[footer] ^= 1;
        objects.tamper(name, bytes.into());
    }
    let report =
        check(&stage, Target::Snapshot(SnapshotId::parse(&first).unwrap()), Mode::Report).await;
    assert_eq!(kinds(&report), ["snapshot", "store", "archive"]);
    assert!(report.subjects[2].findings.len() >= 2, "{report:?}");
    let report = check(&stage, Target::All, Mode::RepairIndex).await;
    assert_eq!(report.damage(), 0, "{report:?}");
    assert_eq!(check(&stage, Target::All, Mode::Report).await.damage(), 0);
    for (snapshot, content) in [(&first, CONTENT[0]), (&third, CONTENT[2])] {
        stage.restore(snapshot, 1).await;
        stage.settle().await;
        assert_eq!(stage.content(snapshot, &host).await, content);
    }
}
