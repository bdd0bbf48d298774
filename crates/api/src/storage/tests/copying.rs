//! Copies that are interrupted while their neighbours come and go.

use super::leaks::{BLOCK, dies_at};
use super::{HERE, Stage, THERE, text};
use base::SnapshotId;
use serde_json::json;

/// Enough for a checkpoint, and some more.
const BLOCKS: u64 = 2000;
/// Changed between the first snapshot and the second; the others between the second and the third.
const TAIL: std::ops::Range<u64> = 1800..BLOCKS;

impl Stage {
    fn stamp(&self, volume: &str, blocks: std::ops::Range<u64>, stamp: u8) {
        for block in blocks {
            self.bench.host.write(volume, block * BLOCK, &[stamp; 512]);
        }
    }

    async fn begin_copy(&self, source: &str) -> String {
        let input = json!({ "SourceRegion": HERE, "SourceSnapshotId": source });
        text(&self.ec2_at(1, THERE, "CopySnapshot", input).await, "SnapshotId")
    }

    /// How far a copy had come when it was interrupted.
    pub(super) async fn has_checkpoint(&self, copy: &str) -> bool {
        let (region, id) = (crate::testing::region(THERE), SnapshotId::parse(copy).unwrap());
        let read = move |tx: &mut meta::Tx<'_>| ebs::snapshot::checkpoint(tx, &region, &id);
        self.bench.world.db.read(read).await.unwrap().is_some()
    }
}

/// Three snapshots, the copy of the first, and a copy of the third that is interrupted.
struct Interrupted {
    stage: Stage,
    snapshots: Vec<String>,
    first_copy: String,
    copy: String,
}

impl Interrupted {
    async fn new() -> Self {
        let mut stage = Stage::new().await;
        let host = stage.host(1, HERE, "a").await;
        let volume = stage.volume(1, HERE, json!({ "Size": 1 })).await;
        stage.attach(1, HERE, &volume, &host).await;
        let mut snapshots = Vec::new();
        for (stamp, changed) in [(1, 0..BLOCKS), (2, TAIL), (3, 0..TAIL.start)] {
            stage.stamp(&volume, changed, stamp);
            snapshots.push(stage.snapshot(1, HERE, &volume).await);
        }
        let first_copy = stage.begin_copy(&snapshots[0]).await;
        stage.settle().await;

        // Of 64 blocks each, 32 objects; the checkpoint after 1024 blocks is one more.
        stage.plan(THERE, dies_at(28));
        let copy = stage.begin_copy(&snapshots[2]).await;
        stage.settle().await;
        assert!(stage.bench.objects[THERE].crashed() && stage.has_checkpoint(&copy).await);
        Self { stage, snapshots, first_copy, copy }
    }

    /// Lets the copy go on to its end, which is the content of the third snapshot.
    async fn goes_on(mut self) {
        let Self { stage, copy, .. } = &mut self;
        stage.recover().await;
        let shown = stage.describe_snapshot(1, THERE, copy).await;
        assert_eq!(shown["State"], "completed", "{shown}");
        let told = stage.events(1, THERE).await;
        assert_eq!(told.last().unwrap(), "copySnapshot succeeded incremental");

        stage.days(9).await;
        stage.assert_no_leak("copies of neighbours").await;
        let host = stage.host(1, THERE, "b").await;
        let restored = stage.volume(1, THERE, json!({ "SnapshotId": copy })).await;
        stage.attach(1, THERE, &restored, &host).await;
        for block in 0..BLOCKS {
            let stamp = if TAIL.contains(&block) { 2 } else { 3 };
            let found = stage.bench.host.read(&restored, block * BLOCK, 512);
            assert_eq!(found, [stamp; 512], "block {block}");
        }
    }
}

/// A copy leaves out what did not change since an earlier snapshot that was copied. After an
/// interruption that may not be another snapshot, though a later one has been copied by then.
#[tokio::test]
async fn an_interrupted_copy_goes_on_from_what_it_began_with() {
    let mut begun = Interrupted::new().await;
    begun.stage.plan(THERE, Default::default());
    let second_copy = begun.stage.begin_copy(&begun.snapshots[1]).await;
    begun.stage.settle().await;
    let shown = begun.stage.describe_snapshot(1, THERE, &second_copy).await;
    assert_eq!(shown["State"], "completed", "{shown}");
    begun.goes_on().await;
}

/// What it began with stays until it ends.
#[tokio::test]
async fn an_interrupted_copy_goes_on_when_what_it_began_with_is_deleted() {
    let mut begun = Interrupted::new().await;
    let Interrupted { stage, snapshots, first_copy, .. } = &mut begun;
    stage.delete(&snapshots[0]).await;
    let gone = json!({ "SnapshotId": first_copy });
    stage.ec2_at(1, THERE, "DeleteSnapshot", gone).await;
    stage.days(3).await;
    begun.goes_on().await;
}

/// So does what it is made from: hidden from then on, and gone when the copy has ended.
#[tokio::test]
async fn an_interrupted_copy_goes_on_when_its_source_is_deleted() {
    let mut begun = Interrupted::new().await;
    let Interrupted { stage, snapshots, .. } = &mut begun;
    let source = snapshots[2].clone();
    stage.delete(&source).await;
    let again = stage.ec2_error("DeleteSnapshot", json!({ "SnapshotId": source })).await;
    assert!(again.starts_with("InvalidSnapshot.NotFound"), "{again}");
    stage.days(3).await;
    begun.goes_on().await;
}
