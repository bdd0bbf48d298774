//! Volumes from snapshots under another key or of another owner: usable at once, under their own key in
//! the end, and nothing of the other key left.

use super::leaks::{BLOCK, dies_at};
use super::{HERE, Stage, text};
use base::{Clock, VolumeId};
use ebs::ForeignBase;
use serde_json::{Value, json};

impl Stage {
    pub(super) async fn foreign(&self, volume: &str) -> Option<ForeignBase> {
        let (region, id) = (crate::testing::region(HERE), VolumeId::parse(volume).unwrap());
        let read = move |tx: &mut meta::Tx<'_>| ebs::foreign_base::get(tx, &region, &id);
        self.bench.world.db.read(read).await.unwrap()
    }

    async fn row(&self, volume: &str) -> ebs::Volume {
        let (region, id) = (crate::testing::region(HERE), VolumeId::parse(volume).unwrap());
        let read = move |tx: &mut meta::Tx<'_>| ebs::volume::get(tx, &region, &id);
        self.bench.world.db.read(read).await.unwrap().unwrap()
    }

    /// A snapshot of account 111… under a key, with blocks, shared with account 222… key and all.
    pub(super) async fn shared(&mut self, key: &str) -> String {
        let host = self.host(1, HERE, "source").await;
        let volume = self.encrypted(key).await;
        self.attach(1, HERE, &volume, &host).await;
        self.fill(&volume, 0..6, 1);
        let snapshot = self.snapshot(1, HERE, &volume).await;
        self.lend(key, &["kms:ReEncrypt*"]).await;
        self.share(&snapshot).await;
        for (name, input) in [
            ("DetachVolume", json!({ "VolumeId": volume })),
            ("DeleteVolume", json!({ "VolumeId": volume })),
        ] {
            self.ec2(name, input).await;
            self.settle().await;
        }
        snapshot
    }

    /// A volume of account 222… from a shared snapshot, made while no block can be read.
    pub(super) async fn made_unread(&mut self, snapshot: &str, key: &str) -> String {
        self.plan(HERE, dies_at(1));
        let extra = json!({ "SnapshotId": snapshot, "Encrypted": true, "KmsKeyId": key });
        let volume = self.volume(2, HERE, extra).await;
        let made = self.describe_volume(2, HERE, &volume).await;
        assert_eq!(made["State"], "available", "no block was needed: {made}");
        assert!(self.foreign(&volume).await.is_some());
        volume
    }

    async fn try_attach(&self, volume: &str, host: &str) -> Result<Value, String> {
        let input = json!({ "VolumeId": volume, "InstanceId": host, "Device": "/dev/sdf" });
        self.try_root(2, HERE, crate::Service::Ec2, "AttachVolume", input).await
    }

    fn block(&self, volume: &str, block: u64) -> Vec<u8> {
        self.bench.host.read(volume, block * BLOCK, 4)
    }

    /// The volume is all its own.
    pub(super) async fn assert_own(&self, volume: &str, key: &str) {
        assert_eq!(self.foreign(volume).await, None, "the base's key is forgotten");
        let filled = self.initialization(volume).await.unwrap();
        assert!(filled.completed.is_some() && filled.progress == 100, "{filled:?}");
        let row = self.row(volume).await;
        assert_ne!(row.base_root, row.first_base_root);
        assert!(row.first_base_root.is_some());
        let attached = usize::from(row.state == ebs::VolumeState::InUse);
        assert_eq!(self.grants(2, HERE, key).await, attached, "no other grant stays");
    }
}

#[tokio::test]
async fn a_volume_from_a_shared_snapshot_is_usable_before_its_bytes_moved() {
    let mut stage = Stage::new().await;
    let (key, own) = (stage.key(1, HERE).await, stage.key(2, HERE).await);
    let host = stage.host(2, HERE, "b").await;
    let snapshot = stage.shared(&key).await;
    let volume = stage.made_unread(&snapshot, &own).await;
    // The snapshot goes, and its key.
    stage.plan(HERE, Default::default());
    stage.delete(&snapshot).await;
    stage.kms(1, HERE, "DisableKey", json!({ "KeyId": key })).await;
    stage.try_attach(&volume, &host).await.unwrap();
    assert_eq!(stage.block(&volume, 2), [3; 4]);
    stage.fill(&volume, 3..4, 100);
    // A snapshot waits for the volume's own key, and has what was there when it was asked for.
    let input = json!({ "VolumeId": volume });
    let made = text(&stage.ec2_at(2, HERE, "CreateSnapshot", input).await, "SnapshotId");
    stage.fill(&volume, 4..5, 200);
    assert_eq!(stage.describe_snapshot(2, HERE, &made).await["State"], "pending");
    stage.recover().await;
    stage.assert_own(&volume, &own).await;
    assert_eq!(stage.describe_snapshot(2, HERE, &made).await["State"], "completed");
    // The open volume reads its new base; what the old one had goes.
    stage.days(9).await;
    stage.assert_no_leak("a foreign base").await;
    for (block, expected) in [(0, 1), (1, 2), (2, 3), (3, 103), (4, 204), (5, 6)] {
        assert_eq!(stage.block(&volume, block), [expected; 4], "{block}");
    }
    let events = stage.events(2, HERE).await;
    let told = events.iter().filter(|event| *event == "initializeVolume succeeded");
    assert_eq!(told.count(), 1, "{events:?}");

    let other = stage.host(2, HERE, "c").await;
    let restored = stage.volume(2, HERE, json!({ "SnapshotId": made })).await;
    stage.try_attach(&restored, &other).await.unwrap();
    for (block, expected) in [(0, 1), (2, 3), (3, 103), (4, 5), (5, 6)] {
        assert_eq!(stage.block(&restored, block), [expected; 4], "{block}");
    }
    // A second snapshot is incremental to the first.
    stage.fill(&volume, 5..6, 50);
    let second = stage.snapshot(2, HERE, &volume).await;
    assert_eq!(stage.describe_snapshot(2, HERE, &second).await["State"], "completed");
    // Detached and attached again it needs one key.
    stage.ec2_at(2, HERE, "DetachVolume", json!({ "VolumeId": volume })).await;
    stage.try_attach(&volume, &host).await.unwrap();
    assert_eq!(stage.block(&volume, 0), [1; 4]);
}

#[tokio::test]
async fn initializations_that_die_anywhere_go_on_and_leave_nothing() {
    let mut stage = Stage::new().await;
    let (key, own) = (stage.key(1, HERE).await, stage.key(2, HERE).await);
    let host = stage.host(2, HERE, "b").await;
    let snapshot = stage.shared(&key).await;
    let mut died = 0;
    for call in 1..=9 {
        stage.plan(HERE, dies_at(call));
        let extra = json!({ "SnapshotId": snapshot, "Encrypted": true, "KmsKeyId": own });
        let volume = stage.volume(2, HERE, extra).await;
        assert_eq!(stage.describe_volume(2, HERE, &volume).await["State"], "available");
        died += usize::from(stage.bench.objects[HERE].crashed());
        // Every third is deleted before it is done.
        if call % 3 == 0 {
            stage.ec2_at(2, HERE, "DeleteVolume", json!({ "VolumeId": volume })).await;
            stage.recover().await;
            assert_eq!(stage.foreign(&volume).await, None);
            assert_eq!(stage.grants(2, HERE, &own).await, 0, "deleted with its grant");
            continue;
        }
        stage.recover().await;
        stage.assert_own(&volume, &own).await;
        stage.try_attach(&volume, &host).await.unwrap();
        assert_eq!(stage.block(&volume, 5), [6; 4]);
        for name in ["DetachVolume", "DeleteVolume"] {
            stage.ec2_at(2, HERE, name, json!({ "VolumeId": volume })).await;
            stage.settle().await;
        }
    }
    assert!(died >= 3, "{died}");
    stage.days(9).await;
    stage.assert_no_leak("initializations").await;
    stage.delete(&snapshot).await;
    stage.days(9).await;
    stage.assert_no_leak("initializations").await;
    assert_eq!(stage.objects(HERE), 0);
}

/// The rows as they are when the server dies between the new root and the end.
#[tokio::test]
async fn an_exchange_that_died_half_way_is_finished() {
    let mut stage = Stage::new().await;
    let (key, own) = (stage.key(1, HERE).await, stage.key(2, HERE).await);
    let host = stage.host(2, HERE, "b").await;
    let snapshot = stage.shared(&key).await;
    let volume = stage.made_unread(&snapshot, &own).await;
    let mut foreign = stage.foreign(&volume).await.unwrap();
    foreign.former_root = stage.row(&volume).await.base_root;
    stage.recover().await;
    stage.assert_own(&volume, &own).await;
    let region = crate::testing::region(HERE);
    let payload = lifecycle::workflow::initialize_volume::InitializeVolume {
        region: region.clone(),
        account: foreign.account.clone(),
        volume: foreign.volume.clone(),
        look: 7,
    };
    let (row, now) = (foreign.clone(), stage.bench.clock.now());
    let undo = move |tx: &mut meta::Tx<'_>| {
        ebs::foreign_base::insert(tx, &row)?;
        let sql = "UPDATE ebs_volume_initializations SET completed_ms = NULL WHERE region = $1";
        tx.execute(sql, meta::params![&region])?;
        lifecycle::kinds::enqueue_initialize_volume(tx, &payload, now)?;
        Ok::<_, ebs::Error>(())
    };
    stage.bench.world.db.write(undo).await.unwrap();
    // Attached in between, it needs its own key alone.
    stage.try_attach(&volume, &host).await.unwrap();
    assert_eq!(stage.block(&volume, 1), [2; 4]);
    stage.settle().await;
    stage.assert_own(&volume, &own).await;
    stage.delete(&snapshot).await;
    stage.days(9).await;
    stage.assert_no_leak("an exchange").await;
    assert_eq!(stage.block(&volume, 3), [4; 4]);
}

/// A volume that is attached to a host, and whose base waits: its own key was disabled since. The host,
/// the key and the volume.
async fn waiting_for_its_key() -> (Stage, String, String, String) {
    let mut stage = Stage::new().await;
    let (key, own) = (stage.key(1, HERE).await, stage.key(2, HERE).await);
    let host = stage.host(2, HERE, "b").await;
    let snapshot = stage.shared(&key).await;
    let volume = stage.made_unread(&snapshot, &own).await;
    stage.plan(HERE, Default::default());
    stage.try_attach(&volume, &host).await.unwrap();
    stage.kms(2, HERE, "DisableKey", json!({ "KeyId": own })).await;
    (stage, host, own, volume)
}

#[tokio::test]
async fn an_initialization_waits_for_its_key_and_says_so() {
    let (mut stage, host, own, volume) = waiting_for_its_key().await;
    let input = json!({ "VolumeId": volume });
    let made = text(&stage.ec2_at(2, HERE, "CreateSnapshot", input).await, "SnapshotId");
    stage.weeks().await;
    let waits = stage.foreign(&volume).await.unwrap().waits_for.unwrap();
    assert_eq!(waits, format!("{own} is disabled."));
    assert_eq!(stage.describe_snapshot(2, HERE, &made).await["State"], "pending");
    // The attached volume goes on meanwhile; a detached one cannot be attached.
    assert_eq!(stage.block(&volume, 4), [5; 4]);
    stage.fill(&volume, 4..5, 70);
    stage.ec2_at(2, HERE, "DetachVolume", json!({ "VolumeId": volume })).await;
    let refused = stage.try_attach(&volume, &host).await.unwrap_err();
    assert!(refused.starts_with("Client.CustomerKeyHasBeenRevoked: "), "{refused}");
    stage.kms(2, HERE, "EnableKey", json!({ "KeyId": own })).await;
    stage.recover().await;
    stage.assert_own(&volume, &own).await;
    assert_eq!(stage.describe_snapshot(2, HERE, &made).await["State"], "completed");
    stage.try_attach(&volume, &host).await.unwrap();
    assert_eq!((stage.block(&volume, 4), stage.block(&volume, 0)), (vec![74; 4], vec![1; 4]));
}

/// A deleted volume stays until its snapshot is read out of it, and that waits for the volume's base.
#[tokio::test]
async fn a_snapshot_of_a_volume_that_is_deleted_before_its_base_is_sealed() {
    let (mut stage, host, own, volume) = waiting_for_its_key().await;
    stage.fill(&volume, 4..5, 70);
    let input = json!({ "VolumeId": volume });
    let made = text(&stage.ec2_at(2, HERE, "CreateSnapshot", input.clone()).await, "SnapshotId");
    for name in ["DetachVolume", "DeleteVolume"] {
        stage.ec2_at(2, HERE, name, input.clone()).await;
    }
    stage.days(1).await;
    assert_eq!(stage.describe_snapshot(2, HERE, &made).await["State"], "pending");
    assert_eq!(stage.describe_volume(2, HERE, &volume).await["State"], "deleting");
    stage.kms(2, HERE, "EnableKey", json!({ "KeyId": own })).await;
    stage.recover().await;
    assert_eq!(stage.describe_snapshot(2, HERE, &made).await["State"], "completed");
    assert_eq!(stage.foreign(&volume).await, None);
    assert_eq!(stage.grants(2, HERE, &own).await, 0);
    stage.days(9).await;
    stage.assert_no_leak("a deleted volume's base").await;
    let restored = stage.volume(2, HERE, json!({ "SnapshotId": made })).await;
    stage.try_attach(&restored, &host).await.unwrap();
    assert_eq!((stage.block(&restored, 4), stage.block(&restored, 0)), (vec![74; 4], vec![1; 4]));
}

#[tokio::test]
async fn a_plain_snapshot_becomes_an_encrypted_volume_at_once() {
    let mut stage = Stage::new().await;
    let key = stage.key(1, HERE).await;
    let host = stage.host(1, HERE, "a").await;
    let source = stage.filled(&host).await;
    let snapshot = stage.snapshot(1, HERE, &source).await;
    stage.ec2("DetachVolume", json!({ "VolumeId": source })).await;
    stage.plan(HERE, dies_at(1));
    let extra = json!({ "SnapshotId": snapshot, "Encrypted": true, "KmsKeyId": key });
    let volume = stage.volume(1, HERE, extra).await;
    stage.plan(HERE, Default::default());
    assert_eq!(stage.foreign(&volume).await.unwrap().guard, ebs::foreign_base::Guard::Service);
    stage.attach(1, HERE, &volume, &host).await;
    assert_eq!(stage.block(&volume, 5), [6; 4]);
    // The server stops and starts in between.
    stage.bench.host.forget_all();
    lifecycle::workflow::recover(&stage.bench.world.services).await.unwrap();
    assert_eq!(stage.block(&volume, 4), [5; 4]);
    stage.recover().await;
    assert_eq!(stage.foreign(&volume).await, None);
    assert_eq!(stage.grants(1, HERE, &key).await, 1, "the host's");
    assert_eq!(stage.block(&volume, 3), [4; 4]);
}
