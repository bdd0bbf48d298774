//! Snapshots whose stored blocks are damaged or missing: whoever works on them says so, and goes on when
//! they are back.

use super::{HERE, Stage, text};
use objstore::{Bytes, ObjectStore};
use serde_json::json;

impl Stage {
    /// Takes all stored blocks of snapshots away.
    fn lose_packs(&self) -> Vec<(String, Bytes)> {
        let objects = self.bench.objects[HERE].inner();
        let packs = objects.list("packs").unwrap().into_iter();
        let taken = packs.map(|meta| (meta.name.clone(), objects.get(&meta.name).unwrap()));
        let taken: Vec<_> = taken.collect();
        taken.iter().for_each(|(name, _)| objects.delete(name).unwrap());
        assert!(!taken.is_empty());
        taken
    }

    fn bring_back(&self, packs: Vec<(String, Bytes)>) {
        let objects = self.bench.objects[HERE].inner();
        packs.into_iter().for_each(|(name, bytes)| objects.put(&name, bytes).unwrap());
    }
}

#[tokio::test]
async fn an_initialization_stands_still_while_blocks_are_missing() {
    let mut stage = Stage::new().await;
    let host = stage.host(1, HERE, "a").await;
    let source = stage.filled(&host).await;
    let snapshot = stage.snapshot(1, HERE, &source).await;
    let packs = stage.lose_packs();
    let volume = stage.volume(1, HERE, json!({ "SnapshotId": snapshot })).await;
    stage.weeks().await;
    let filling = stage.initialization(&volume).await.unwrap();
    let waits = filling.waits_for.unwrap();
    let words = (waits.starts_with("stored blocks are damaged: "), waits.ends_with(" the store"));
    assert_eq!((words, filling.completed, filling.given_up), ((true, true), None, None), "{waits}");
    stage.bring_back(packs);
    stage.recover().await;
    let filling = stage.initialization(&volume).await.unwrap();
    assert!(filling.completed.is_some() && filling.waits_for.is_none(), "{filling:?}");
    let events = stage.events(1, HERE).await;
    assert_eq!(events.last().unwrap(), "initializeVolume succeeded");
}

/// A snapshot of a volume whose base is damaged does not wait for it: nobody knows for how long.
#[tokio::test]
async fn a_base_under_another_key_stands_still_and_fails_snapshots_meanwhile() {
    let mut stage = Stage::new().await;
    let (key, own) = (stage.key(1, HERE).await, stage.key(2, HERE).await);
    let snapshot = stage.shared(&key).await;
    let volume = stage.made_unread(&snapshot, &own).await;
    stage.plan(HERE, Default::default());
    let packs = stage.lose_packs();
    stage.weeks().await;
    let base = stage.foreign(&volume).await.unwrap();
    assert!(base.fails_snapshots && base.waits_for.unwrap().contains("missing from the store"));
    let input = json!({ "VolumeId": volume });
    let made = text(&stage.ec2_at(2, HERE, "CreateSnapshot", input.clone()).await, "SnapshotId");
    stage.settle().await;
    let failed = stage.describe_snapshot(2, HERE, &made).await;
    assert_eq!(failed["State"], "error");
    assert_eq!(
        failed["StateMessage"],
        "Stored blocks are damaged: the base of the volume is damaged"
    );
    stage.bring_back(packs);
    stage.recover().await;
    stage.assert_own(&volume, &own).await;
    let made = text(&stage.ec2_at(2, HERE, "CreateSnapshot", input).await, "SnapshotId");
    stage.settle().await;
    assert_eq!(stage.describe_snapshot(2, HERE, &made).await["State"], "completed");
}

#[tokio::test]
async fn a_copy_says_what_is_missing() {
    let mut stage = Stage::new().await;
    let key = stage.key(1, HERE).await;
    let host = stage.host(1, HERE, "a").await;
    let source = stage.filled(&host).await;
    let snapshot = stage.snapshot(1, HERE, &source).await;
    let packs = stage.lose_packs();
    let input = json!({
        "SourceRegion": HERE, "SourceSnapshotId": snapshot, "Encrypted": true, "KmsKeyId": key,
    });
    let copy = text(&stage.ec2("CopySnapshot", input.clone()).await, "SnapshotId");
    stage.settle().await;
    let failed = stage.describe_snapshot(1, HERE, &copy).await;
    assert_eq!(failed["State"], "error");
    let message = text(&failed, "StateMessage");
    assert!(message.starts_with("Stored blocks are damaged: object "), "{message}");
    assert!(message.contains(" is missing from the store"), "{message}");
    stage.bring_back(packs);
    let copy = text(&stage.ec2("CopySnapshot", input).await, "SnapshotId");
    stage.recover().await;
    assert_eq!(stage.describe_snapshot(1, HERE, &copy).await["State"], "completed");
}
