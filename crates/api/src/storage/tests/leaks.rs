//! Nothing is left behind: whatever work failed, was cancelled or died half way, after the grace
//! period the store holds exactly what live roots reach, and volumes hold no cut nobody needs.

use super::{HERE, Stage, THERE, text};
use crate::Service;
use base::VolumeId;
use blockstore::check::Unwatched;
use blockstore::live::OpenOptions;
use blockstore::snapshot::{PackScope, SnapshotChecker, SnapshotRoot};
use ebs::{SnapshotState, StoreKind};
use objstore::{Bytes, FaultPlan, ObjectStore};
use serde_json::{Value, json};
use std::time::Duration;

const DAY_SECONDS: i64 = 86_400;
/// Blocks written where something must be there to be lost.
const BLOCKS: u64 = 6;
pub(super) const BLOCK: u64 = 524_288;

/// A store that dies during its `call`th call from now.
pub(super) fn dies_at(call: u64) -> FaultPlan {
    FaultPlan { crash_at_call: Some(call), ..FaultPlan::default() }
}

impl Stage {
    pub(super) fn plan(&self, at: &str, plan: FaultPlan) {
        self.bench.objects[at].restart(plan);
    }

    /// A volume with some blocks of data, attached.
    pub(super) async fn filled(&mut self, host: &str) -> String {
        let volume = self.volume(1, HERE, json!({ "Size": 1 })).await;
        self.attach(1, HERE, &volume, host).await;
        self.fill(&volume, 0..BLOCKS, 1);
        volume
    }

    pub(super) fn fill(&self, volume: &str, blocks: std::ops::Range<u64>, stamp: u8) {
        for block in blocks {
            self.bench.host.write(volume, block * BLOCK, &[stamp + block as u8; 8192]);
        }
    }

    /// Lets the work that waits try again, under stores that work.
    pub(super) async fn recover(&mut self) {
        for at in [HERE, THERE] {
            self.plan(at, FaultPlan::default());
        }
        for _ in 0..6 {
            self.bench.clock.advance_seconds(1200);
            self.settle().await;
        }
    }

    /// Weeks pass: no number of attempts is used up.
    pub(super) async fn weeks(&mut self) {
        for _ in 0..30 {
            self.bench.clock.advance_seconds(DAY_SECONDS);
            self.settle().await;
        }
    }

    /// Days pass, with everything that is due.
    pub(super) async fn days(&mut self, days: i64) {
        for _ in 0..days * 4 {
            self.bench.clock.advance_seconds(DAY_SECONDS / 4);
            self.bench.world.housekeep().await.unwrap();
            self.settle().await;
        }
    }

    async fn roots(&self, at: &str, store: StoreKind) -> Vec<SnapshotRoot> {
        let region = crate::testing::region(at);
        let read = move |tx: &mut meta::Tx<'_>| ebs::roots::live_roots(tx, &region, store);
        let roots = self.bench.world.db.read(read).await.unwrap();
        roots.iter().map(|root| SnapshotRoot::from_bytes(root).unwrap()).collect()
    }

    /// Everything live is whole.
    async fn assert_whole(&self, at: &str) -> u64 {
        let region = crate::testing::region(at);
        let cell = self.bench.world.cells.get(&region).unwrap();
        let mut useless = 0;
        for store in StoreKind::ALL {
            let mut checker = SnapshotChecker::new(cell.of_store(store), &Unwatched);
            for root in self.roots(at, store).await {
                let report = checker.check(&root, &blockstore::page::NoKey).unwrap();
                assert!(report.findings.is_empty(), "{at}: {:?}", report.findings);
            }
            let packs = checker.check_packs(PackScope::Whole).unwrap();
            assert!(packs.findings.is_empty(), "{at}: {:?}", packs.findings);
            useless += packs.unreferenced_packs + packs.superseded_revisions + packs.session_packs;
        }
        useless
    }

    /// The stores hold what live roots reach, and volumes the cuts of pending snapshots.
    pub(super) async fn assert_no_leak(&self, what: &str) {
        for at in [HERE, THERE] {
            assert_eq!(self.assert_whole(at).await, 0, "{what}: objects are left in {at}");
            let region = crate::testing::region(at);
            let cell = self.bench.world.cells.get(&region).unwrap();
            let here = region.clone();
            let rows = self.bench.world.db.read(move |tx| {
                let volumes = ebs::volume::list_all(tx, &here)?;
                let snapshots = ebs::snapshot::list_all(tx, &here)?;
                let mut noted = Vec::new();
                for store in StoreKind::ALL {
                    noted.extend(ebs::garbage::deleted_roots(tx, &here, store)?);
                }
                Ok::<_, ebs::Error>((volumes, snapshots, noted))
            });
            let (volumes, snapshots, noted) = rows.await.unwrap();
            assert_eq!(noted.len(), 0, "{what}: deleted roots were not looked at");
            for volume in &volumes {
                if !cell.live.contains(&volume.id) {
                    continue;
                }
                let pending = snapshots.iter().filter(|row| {
                    row.volume_id == volume.id && matches!(row.state, SnapshotState::Pending(_))
                });
                let cuts = cell.live.cuts(&volume.id).unwrap();
                assert_eq!(cuts.len(), pending.count(), "{what}: {} keeps cuts", volume.id);
            }
            let names = std::fs::read_dir(self.bench.directory(at).join("volumes")).unwrap();
            for name in names {
                let name = name.unwrap().file_name().into_string().unwrap();
                // A volume's file, or what is beside it while the volume is open.
                let stem = name.strip_suffix(".log").or(name.strip_suffix(".tail"));
                let id = VolumeId::parse(stem.unwrap_or(&name));
                let known = id.is_ok_and(|id| volumes.iter().any(|volume| volume.id == id));
                assert!(known, "{what}: {name} belongs to no volume");
            }
        }
    }

    /// The objects by which uploads hold on to what they wrote.
    fn held_by_uploads(&self) -> Vec<(String, Bytes)> {
        let objects = &self.bench.objects[HERE];
        let held = objects.list("sessions").unwrap().into_iter();
        held.map(|meta| (meta.name.clone(), objects.get(&meta.name).unwrap())).collect()
    }

    pub(super) async fn delete(&self, snapshot: &str) {
        self.ec2("DeleteSnapshot", json!({ "SnapshotId": snapshot })).await;
    }

    pub(super) fn objects(&self, at: &str) -> usize {
        use objstore::ObjectStore;
        self.bench.objects[at].inner().list("packs").unwrap().len()
    }
}

#[tokio::test]
async fn an_export_that_dies_anywhere_leaves_nothing() {
    let mut stage = Stage::new().await;
    let host = stage.host(1, HERE, "a").await;
    let volume = stage.filled(&host).await;
    let kept = stage.snapshot(1, HERE, &volume).await;
    // An incremental export of few blocks stores two packs: its frames, then its nodes.
    for (round, call) in (1..).zip([1, 1, 2, 2]) {
        stage.fill(&volume, 0..BLOCKS, 10 * round);
        stage.plan(HERE, dies_at(call));
        let input = json!({ "VolumeId": volume });
        let made = text(&stage.ec2("CreateSnapshot", input).await, "SnapshotId");
        stage.settle().await;
        assert!(stage.bench.objects[HERE].crashed(), "call {call} was not reached");
        // Every other one is deleted while it is pending.
        if round % 2 == 0 {
            stage.delete(&made).await;
        }
        stage.recover().await;
        if round % 2 == 1 {
            assert_eq!(stage.describe_snapshot(1, HERE, &made).await["State"], "completed");
            stage.delete(&made).await;
        }
    }
    stage.days(9).await;
    stage.assert_no_leak("exports").await;
    stage.delete(&kept).await;
    stage.days(9).await;
    stage.assert_no_leak("exports").await;
    assert_eq!(stage.objects(HERE), 0, "the volume has no base");
}

#[tokio::test]
async fn copies_that_die_fail_or_are_deleted_leave_nothing() {
    let mut stage = Stage::new().await;
    let host = stage.host(1, HERE, "a").await;
    let volume = stage.filled(&host).await;
    let source = stage.snapshot(1, HERE, &volume).await;
    let input = || json!({ "SourceSnapshotId": source, "SourceRegion": HERE });
    for call in 1..=2 {
        stage.plan(THERE, dies_at(call));
        let made = stage.ec2_at(1, THERE, "CopySnapshot", input()).await;
        let made = text(&made, "SnapshotId");
        stage.settle().await;
        assert!(stage.bench.objects[THERE].crashed(), "call {call} was not reached");
        let input = json!({ "SnapshotId": made });
        stage.ec2_at(1, THERE, "DeleteSnapshot", input).await;
        stage.recover().await;
    }
    // The source goes while a copy is under way.
    stage.plan(THERE, dies_at(1));
    let made = stage.ec2_at(1, THERE, "CopySnapshot", input()).await;
    let made = text(&made, "SnapshotId");
    stage.settle().await;
    stage.delete(&source).await;
    stage.recover().await;
    stage.ec2_at(1, THERE, "DeleteSnapshot", json!({ "SnapshotId": made })).await;
    stage.days(9).await;
    stage.assert_no_leak("copies").await;
    assert_eq!((stage.objects(HERE), stage.objects(THERE)), (0, 0));
}

/// Whichever comes first, and whatever comes in the middle of the other.
#[tokio::test]
async fn an_upload_that_is_deleted_while_it_is_completed_leaves_nothing() {
    let mut stage = Stage::new().await;
    for pause_ms in 0..16 {
        let ebs =
            |name: &'static str, input: Value| stage.try_root(1, HERE, Service::Ebs, name, input);
        let started = ebs("StartSnapshot", json!({ "VolumeSize": 1 })).await.unwrap();
        let id = text(&started, "SnapshotId");
        let complete =
            ebs("CompleteSnapshot", json!({ "SnapshotId": id, "ChangedBlocksCount": 0 }));
        let delete = async {
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
            let input = json!({ "SnapshotId": id });
            stage.try_root(1, HERE, Service::Ec2, "DeleteSnapshot", input).await.unwrap();
        };
        // Refused, if it came too late.
        let (_, ()) = tokio::join!(complete, delete);
        stage.settle().await;
        let wanted = base::SnapshotId::parse(&id).unwrap();
        let row = move |tx: &mut meta::Tx<'_>| {
            ebs::snapshot::get(tx, &crate::testing::region(HERE), &wanted)
        };
        let row = stage.bench.world.db.read(row).await.unwrap();
        assert!(row.is_none(), "after {pause_ms} ms: {row:?}");
    }
    stage.days(9).await;
    stage.assert_no_leak("uploads").await;
}

#[tokio::test]
async fn an_abandoned_upload_leaves_nothing() {
    let mut stage = Stage::new().await;
    for completes in [false, true] {
        let ebs =
            |name: &'static str, input: Value| stage.try_root(1, HERE, Service::Ebs, name, input);
        let started = ebs("StartSnapshot", json!({ "VolumeSize": 1 })).await.unwrap();
        let id = text(&started, "SnapshotId");
        let (bytes, digest) = ("u".repeat(BLOCK as usize), blockstore::snapshot::Digest::of);
        let checksum = {
            use base64::Engine;
            base64::engine::general_purpose::STANDARD.encode(digest(bytes.as_bytes()).0)
        };
        for block in 0..3 {
            let put = json!({
                "SnapshotId": id, "BlockIndex": block, "BlockData": bytes,
                "DataLength": BLOCK, "Checksum": checksum, "ChecksumAlgorithm": "SHA256",
            });
            ebs("PutSnapshotBlock", put).await.unwrap();
        }
        let held = stage.held_by_uploads();
        assert!(!held.is_empty());
        if completes {
            let input = json!({ "SnapshotId": id, "ChangedBlocksCount": 3 });
            ebs("CompleteSnapshot", input).await.unwrap();
        }
        stage.days(1).await;
        let shown = stage.describe_snapshot(1, HERE, &id).await;
        assert_eq!(shown["State"], if completes { "completed" } else { "error" });
        assert!(stage.held_by_uploads().is_empty());
        // As by a block that was on its way when the upload ended.
        for (name, bytes) in held {
            stage.bench.objects[HERE].put(&name, bytes).unwrap();
        }
        stage.delete(&id).await;
    }
    stage.days(9).await;
    stage.assert_no_leak("uploads").await;
    assert_eq!(stage.objects(HERE), 0);
}

#[tokio::test]
async fn a_volume_keeps_its_base_exactly_as_long_as_it_lives() {
    let mut stage = Stage::new().await;
    let host = stage.host(1, HERE, "a").await;
    let first = stage.filled(&host).await;
    let snapshot = stage.snapshot(1, HERE, &first).await;
    stage.ec2("DetachVolume", json!({ "VolumeId": first })).await;
    let lazy = stage.volume(1, HERE, json!({ "SnapshotId": snapshot })).await;
    stage.attach(1, HERE, &lazy, &host).await;
    assert_eq!(stage.bench.host.read(&lazy, 2 * BLOCK, 4), [3; 4]);
    stage.delete(&snapshot).await;
    stage.days(9).await;
    stage.assert_no_leak("a base").await;
    assert!(stage.objects(HERE) > 0);
    assert_eq!(stage.bench.host.read(&lazy, 5 * BLOCK, 4), [6; 4], "its base is still there");
    // Deleted while most of it was never read.
    stage.ec2("DetachVolume", json!({ "VolumeId": lazy })).await;
    stage.settle().await;
    for volume in [&first, &lazy] {
        stage.ec2("DeleteVolume", json!({ "VolumeId": volume })).await;
    }
    stage.settle().await;
    stage.days(9).await;
    stage.assert_no_leak("a base").await;
    assert_eq!(stage.objects(HERE), 0);
}

#[tokio::test]
async fn collections_that_die_or_read_errors_delete_nothing_that_is_needed() {
    let mut stage = Stage::new().await;
    let host = stage.host(1, HERE, "a").await;
    let volume = stage.filled(&host).await;
    let mut kept = Vec::new();
    for round in 0..6u8 {
        stage.fill(&volume, u64::from(round % 3)..BLOCKS, 20 * round);
        kept.push(stage.snapshot(1, HERE, &volume).await);
        if round % 2 == 1 {
            let gone = kept.remove(0);
            stage.delete(&gone).await;
        }
        let plan = match round % 3 {
            0 => FaultPlan { lost_per_mille: 400, ..FaultPlan::default() },
            1 => FaultPlan { happened_per_mille: 400, ..FaultPlan::default() },
            _ => dies_at(u64::from(3 * round)),
        };
        stage.plan(HERE, plan);
        stage.days(2).await;
        stage.plan(HERE, FaultPlan::default());
        stage.assert_whole(HERE).await;
    }
    stage.recover().await;
    stage.days(9).await;
    stage.assert_no_leak("broken collections").await;
    let lines = stage
        .bench
        .world
        .db
        .read(|tx| lifecycle::collections::latest(tx, &crate::testing::region(HERE), 500));
    let lines = lines.await.unwrap();
    assert!(lines.iter().any(|line| line.report.error.is_some()), "failures are recorded");
    assert!(lines.iter().any(|line| line.report.bytes_reclaimed > 0), "so is what was given back");
}

/// The server died between the end of an export and the release of its cut; the snapshot was deleted
/// before the next start.
#[tokio::test]
async fn a_cut_goes_also_when_its_snapshot_is_gone() {
    let mut stage = Stage::new().await;
    let host = stage.host(1, HERE, "a").await;
    let volume = stage.filled(&host).await;
    let kept = stage.snapshot(1, HERE, &volume).await;
    let (region, volume) = (crate::testing::region(HERE), VolumeId::parse(&volume).unwrap());
    let services = std::sync::Arc::clone(&stage.bench.world.services);
    let id = volume.clone();
    let row = services.db.read(move |tx| ebs::volume::get(tx, &region, &id)).await.unwrap();
    let blocks = lifecycle::workflow::export_snapshot::blocks_of(&row.unwrap());
    let gone = base::SnapshotId::generate(&*services.rng);
    services.blocks.cut(&blocks, &gone).await.unwrap();
    let cell = stage.bench.world.cells.get(&blocks.region).unwrap();
    assert_eq!(cell.live.cuts(&volume).unwrap().len(), 1);
    let job = lifecycle::workflow::export_snapshot::ExportSnapshot {
        region: blocks.region.clone(),
        snapshot: gone,
        size_bytes: blocks.size_bytes,
        base_root: None,
        volume: Some(volume.clone()),
    };
    lifecycle::workflow::export_snapshot::run(&services, &job).await.unwrap();
    assert!(cell.live.cuts(&volume).unwrap().is_empty());
    stage.delete(&kept).await;
}

/// The server died in the middle of a deletion or a growth, or somebody still has the volume open.
#[tokio::test]
async fn deletions_and_growths_that_were_interrupted_come_to_their_end() {
    let mut stage = Stage::new().await;
    let host = stage.host(1, HERE, "a").await;
    let region = crate::testing::region(HERE);
    let services = std::sync::Arc::clone(&stage.bench.world.services);
    let cell = stage.bench.world.cells.get(&region).unwrap().clone();
    let mut volumes = Vec::new();
    for _ in 0..3 {
        let volume = stage.filled(&host).await;
        stage.ec2("DetachVolume", json!({ "VolumeId": volume })).await;
        stage.settle().await;
        volumes.push(volume);
    }
    let ids: Vec<_> = volumes.iter().map(|volume| VolumeId::parse(volume).unwrap()).collect();

    let busy = cell.live.open_volume(&ids[0], OpenOptions::default()).unwrap();
    stage.ec2("DeleteVolume", json!({ "VolumeId": volumes[0] })).await;
    stage.settle().await;
    assert!(cell.live.contains(&ids[0]), "somebody has it open");
    assert_eq!(stage.describe_volume(1, HERE, &volumes[0]).await["State"], "deleting");
    busy.close().unwrap();

    // Its bytes are gone and its row is not.
    services.blocks.remove_volume(&region, &ids[1]).await.unwrap();
    stage.ec2("DeleteVolume", json!({ "VolumeId": volumes[1] })).await;

    // It has grown and its row says nothing of that.
    let (at, id) = (region.clone(), ids[2].clone());
    let row = services.db.read(move |tx| ebs::volume::get(tx, &at, &id)).await.unwrap().unwrap();
    let blocks = lifecycle::workflow::export_snapshot::blocks_of(&row);
    services.blocks.resize(&blocks, 2 * base::GIB).await.unwrap();
    stage.ec2("ModifyVolume", json!({ "VolumeId": volumes[2], "Size": 2 })).await;

    stage.recover().await;
    for gone in &volumes[..2] {
        let input = json!({ "VolumeIds": [gone] });
        let error = stage.ec2_error("DescribeVolumes", input).await;
        assert!(error.starts_with("InvalidVolume.NotFound: "), "{error}");
    }
    assert_eq!(stage.describe_volume(1, HERE, &volumes[2]).await["Size"], 2);
    stage.attach(1, HERE, &volumes[2], &host).await;
    assert_eq!(stage.bench.host.read(&volumes[2], 2 * base::GIB - 4, 4), [0; 4]);
    assert_eq!(stage.bench.host.read(&volumes[2], BLOCK, 4), [2; 4]);
    stage.days(1).await;
    stage.assert_no_leak("interrupted deletions").await;
}

#[tokio::test]
async fn what_volumes_read_first_is_written_down_and_forgotten_with_its_root() {
    let mut stage = Stage::new().await;
    let host = stage.host(1, HERE, "a").await;
    let first = stage.filled(&host).await;
    let snapshot = stage.snapshot(1, HERE, &first).await;
    stage.ec2("DetachVolume", json!({ "VolumeId": first })).await;
    stage.plan(HERE, dies_at(1));
    let lazy = stage.volume(1, HERE, json!({ "SnapshotId": snapshot })).await;
    stage.plan(HERE, FaultPlan::default());
    stage.attach(1, HERE, &lazy, &host).await;
    for block in [4, 1, 4] {
        stage.bench.host.read(&lazy, block * BLOCK, 4);
    }
    let root = stage.roots(HERE, StoreKind::Standard).await[0].to_bytes();
    let kept = |stage: &Stage| {
        let (region, root) = (crate::testing::region(HERE), root.clone());
        let db = stage.bench.world.db.clone();
        async move { db.read(move |tx| ebs::first_touch::get(tx, &region, &root)).await.unwrap() }
    };
    stage.bench.world.housekeep().await.unwrap();
    assert_eq!(kept(&stage).await, [4, 1]);
    stage.bench.host.read(&lazy, 2 * BLOCK, 4);
    stage.bench.world.housekeep().await.unwrap();
    assert_eq!(kept(&stage).await, [4, 1, 2]);
    // The volume keeps the root when the snapshot has gone, and nobody does when it has gone too.
    stage.delete(&snapshot).await;
    stage.bench.world.housekeep().await.unwrap();
    assert_eq!(kept(&stage).await, [4, 1, 2]);
    stage.ec2("DetachVolume", json!({ "VolumeId": lazy })).await;
    stage.settle().await;
    stage.ec2("DeleteVolume", json!({ "VolumeId": lazy })).await;
    stage.settle().await;
    stage.bench.world.housekeep().await.unwrap();
    assert!(kept(&stage).await.is_empty());
}
