//! Encrypted volumes and snapshots: which key, which calls, and what happens when one is denied.

use super::{HERE, Stage, THERE, merge, text};
use crate::Service;
use serde_json::{Value, json};

const KEY_STATEMENT_ACTIONS: [&str; 4] =
    ["kms:DescribeKey", "kms:CreateGrant", "kms:Decrypt", "kms:ReEncrypt*"];

impl Stage {
    /// A KMS call by the root of an account that succeeds.
    pub(crate) async fn kms(&self, digit: u8, at: &str, name: &str, input: Value) -> Value {
        match self.try_root(digit, at, Service::Kms, name, input).await {
            Ok(reply) => reply,
            Err(error) => panic!("{name}: {error}"),
        }
    }

    /// Makes a key; answers its ARN.
    pub(crate) async fn key(&self, digit: u8, at: &str) -> String {
        text(&self.kms(digit, at, "CreateKey", json!({})).await["KeyMetadata"], "Arn")
    }

    /// Lets account 222… use a key of account 111… for what `actions` say.
    pub(crate) async fn lend(&self, key: &str, actions: &[&str]) {
        let policy = json!({
            "Version": "2012-10-17",
            "Statement": [
                { "Effect": "Allow", "Principal": { "AWS": "arn:aws:iam::111111111111:root" },
                  "Action": "kms:*", "Resource": "*" },
                { "Effect": "Allow", "Principal": { "AWS": "arn:aws:iam::222222222222:root" },
                  "Action": actions, "Resource": "*" },
            ],
        });
        let input = json!({ "KeyId": key, "Policy": policy.to_string() });
        self.kms(1, HERE, "PutKeyPolicy", input).await;
    }

    /// The ids of the grants on a key.
    pub(crate) async fn grants(&self, digit: u8, at: &str, key: &str) -> usize {
        let reply = self.kms(digit, at, "ListGrants", json!({ "KeyId": key })).await;
        reply["Grants"].as_array().unwrap().len()
    }

    /// A volume of 1 GiB of account 111… under a key.
    pub(crate) async fn encrypted(&mut self, key: &str) -> String {
        self.volume(1, HERE, json!({ "Size": 1, "Encrypted": true, "KmsKeyId": key })).await
    }

    pub(crate) async fn share(&self, snapshot: &str) {
        let add = json!({ "Add": [{ "UserId": "222222222222" }] });
        let input = json!({ "SnapshotId": snapshot, "CreateVolumePermission": add });
        self.ec2("ModifySnapshotAttribute", input).await;
    }
}

#[tokio::test]
async fn story_0_an_encrypted_snapshot_travels() {
    let mut stage = Stage::new().await;
    let (owner, receiver) = (stage.host(1, HERE, "a").await, stage.host(2, THERE, "b").await);
    let (key, own_key) = (stage.key(1, HERE).await, stage.key(2, THERE).await);
    let volume = stage.encrypted(&key).await;
    stage.attach(1, HERE, &volume, &owner).await;
    assert_eq!(stage.grants(1, HERE, &key).await, 1, "the host's");
    stage.bench.host.write(&volume, 8192, b"the crown jewels");
    let snapshot = stage.snapshot(1, HERE, &volume).await;
    let shown = stage.describe_snapshot(1, HERE, &snapshot).await;
    assert_eq!((&shown["Encrypted"], &shown["KmsKeyId"]), (&json!(true), &json!(key)));
    stage.lend(&key, &KEY_STATEMENT_ACTIONS).await;
    stage.share(&snapshot).await;

    let input = json!({
        "SourceRegion": HERE, "SourceSnapshotId": snapshot, "Encrypted": true, "KmsKeyId": own_key,
    });
    let copy = text(&stage.ec2_at(2, THERE, "CopySnapshot", input).await, "SnapshotId");
    stage.settle().await;
    let copied = stage.describe_snapshot(2, THERE, &copy).await;
    assert_eq!(copied["State"], "completed", "{copied}");
    assert_eq!(copied["KmsKeyId"], json!(own_key));
    assert_ne!(copied["DataEncryptionKeyId"], shown["DataEncryptionKeyId"]);
    assert_eq!(stage.grants(2, THERE, &own_key).await, 0, "the copier gave its grant back");
    assert_eq!(stage.grants(1, HERE, &key).await, 1, "only the host's is left");

    // The copy lives without the owner's key.
    stage.kms(1, HERE, "DisableKey", json!({ "KeyId": key })).await;
    let restored = stage.volume(2, THERE, json!({ "SnapshotId": copy })).await;
    let made = stage.describe_volume(2, THERE, &restored).await;
    assert_eq!((&made["State"], &made["KmsKeyId"]), (&json!("available"), &json!(own_key)));
    stage.attach(2, THERE, &restored, &receiver).await;
    assert_eq!(stage.bench.host.read(&restored, 8192, 16), b"the crown jewels");
    // The owner's volume goes on too, while it is attached.
    assert_eq!(stage.bench.host.read(&volume, 8192, 16), b"the crown jewels");
    stage.ec2("DetachVolume", json!({ "VolumeId": volume })).await;
    let input = json!({ "VolumeId": volume, "InstanceId": owner, "Device": "/dev/sdf" });
    let error = stage.ec2_error("AttachVolume", input.clone()).await;
    assert_eq!(
        error,
        format!(
            "Client.CustomerKeyHasBeenRevoked: Volume {volume} cannot be attached. The encrypted \
             volume was unable to access the KMS key."
        )
    );
    assert_eq!(stage.describe_volume(1, HERE, &volume).await["State"], "available");
    let failed = format!("attachVolume failed {key} is disabled.");
    assert!(stage.events(1, HERE).await.contains(&failed));
    stage.kms(1, HERE, "EnableKey", json!({ "KeyId": key })).await;
    stage.ec2("AttachVolume", input).await;
}

#[tokio::test]
async fn each_permission_of_a_copy_is_needed() {
    for (lent, state) in [
        (&["kms:CreateGrant"][..], "completed"),
        (&["kms:Decrypt", "kms:DescribeKey", "kms:ReEncrypt*"][..], "error"),
        (&[][..], "error"),
    ] {
        let mut stage = Stage::new().await;
        let (key, own_key) = (stage.key(1, HERE).await, stage.key(2, THERE).await);
        let volume = stage.encrypted(&key).await;
        let snapshot = stage.snapshot(1, HERE, &volume).await;
        stage.share(&snapshot).await;
        if !lent.is_empty() {
            stage.lend(&key, lent).await;
        }
        let input = json!({
            "SourceRegion": HERE, "SourceSnapshotId": snapshot, "Encrypted": true, "KmsKeyId": own_key,
        });
        let copy = text(&stage.ec2_at(2, THERE, "CopySnapshot", input).await, "SnapshotId");
        stage.settle().await;
        let shown = stage.describe_snapshot(2, THERE, &copy).await;
        assert_eq!(shown["State"], state, "{lent:?}");
        if state == "error" {
            assert_eq!(shown["StateMessage"], "Given key ID is not accessible");
            assert_eq!(shown["Progress"], "0%");
            let failed = "copySnapshot failed Given key ID is not accessible".to_owned();
            assert_eq!(stage.events(2, THERE).await, [failed]);
        }
        assert_eq!(stage.grants(2, THERE, &own_key).await, 0, "no grant stays");
    }
}

#[tokio::test]
async fn later_copies_move_only_what_changed() {
    let mut stage = Stage::new().await;
    let (key, own_key) = (stage.key(1, HERE).await, stage.key(2, THERE).await);
    let (owner, receiver) = (stage.host(1, HERE, "a").await, stage.host(2, THERE, "b").await);
    let volume = stage.encrypted(&key).await;
    stage.lend(&key, &KEY_STATEMENT_ACTIONS).await;
    stage.attach(1, HERE, &volume, &owner).await;
    let mut copies = Vec::new();
    for bytes in [b"one", b"two"] {
        stage.bench.host.write(&volume, 1 << 21, bytes);
        let snapshot = stage.snapshot(1, HERE, &volume).await;
        stage.share(&snapshot).await;
        let input = json!({
            "SourceRegion": HERE, "SourceSnapshotId": snapshot, "Encrypted": true,
            "KmsKeyId": own_key,
        });
        copies.push(text(&stage.ec2_at(2, THERE, "CopySnapshot", input).await, "SnapshotId"));
        stage.settle().await;
    }
    let told = stage.events(2, THERE).await;
    assert_eq!(told, ["copySnapshot succeeded", "copySnapshot succeeded incremental"]);
    let lineage = |shown: &Value| text(shown, "DataEncryptionKeyId");
    let shown = [
        stage.describe_snapshot(2, THERE, &copies[0]).await,
        stage.describe_snapshot(2, THERE, &copies[1]).await,
    ];
    assert_eq!(lineage(&shown[0]), lineage(&shown[1]), "the copies share their data key");
    for (copy, expected) in copies.iter().zip([b"one", b"two"]) {
        let restored = stage.volume(2, THERE, json!({ "SnapshotId": copy })).await;
        stage.attach(2, THERE, &restored, &receiver).await;
        assert_eq!(stage.bench.host.read(&restored, 1 << 21, 3), expected);
        stage.ec2_at(2, THERE, "DetachVolume", json!({ "VolumeId": restored })).await;
    }
    assert_eq!(stage.grants(2, THERE, &own_key).await, 0, "no grant stays");
}

#[tokio::test]
async fn a_restart_brings_attachments_back_or_says_why_not() {
    let mut stage = Stage::new().await;
    let key = stage.key(1, HERE).await;
    let host = stage.host(1, HERE, "a").await;
    let volume = stage.encrypted(&key).await;
    stage.attach(1, HERE, &volume, &host).await;
    stage.bench.host.write(&volume, 0, b"before");
    stage.bench.host.forget_all();
    let services = std::sync::Arc::clone(&stage.bench.world.services);
    lifecycle::workflow::recover(&services).await.unwrap();
    assert_eq!(stage.bench.host.read(&volume, 0, 6), b"before");

    stage.bench.host.forget_all();
    stage.kms(1, HERE, "DisableKey", json!({ "KeyId": key })).await;
    lifecycle::workflow::recover(&services).await.unwrap();
    assert!(!stage.bench.host.has(&volume));
    let shown = stage.describe_volume(1, HERE, &volume).await;
    assert_eq!(shown["Attachments"][0]["State"], "attached", "still there, without a device");
    let failed = format!("reattachVolume failed {key} is disabled.");
    assert!(stage.events(1, HERE).await.contains(&failed));
    stage.ec2("DetachVolume", json!({ "VolumeId": volume })).await;
    assert_eq!(stage.describe_volume(1, HERE, &volume).await["State"], "available");
    assert_eq!(stage.grants(1, HERE, &key).await, 0);
}

#[tokio::test]
async fn a_copy_under_the_same_key_moves_nothing() {
    let mut stage = Stage::new().await;
    let key = stage.key(1, HERE).await;
    let host = stage.host(1, HERE, "a").await;
    let volume = stage.encrypted(&key).await;
    stage.attach(1, HERE, &volume, &host).await;
    stage.bench.host.write(&volume, 0, b"same");
    let snapshot = stage.snapshot(1, HERE, &volume).await;
    let input = json!({
        "SourceRegion": HERE, "SourceSnapshotId": snapshot, "Encrypted": true, "KmsKeyId": key,
    });
    let copy = text(&stage.ec2("CopySnapshot", input).await, "SnapshotId");
    stage.settle().await;
    let (from, to) = (
        stage.describe_snapshot(1, HERE, &snapshot).await,
        stage.describe_snapshot(1, HERE, &copy).await,
    );
    assert_eq!(to["State"], "completed");
    assert_eq!(from["DataEncryptionKeyId"], to["DataEncryptionKeyId"]);
    stage.ec2("DeleteSnapshot", json!({ "SnapshotId": snapshot })).await;
    stage.settle().await;
    let restored = stage.volume(1, HERE, json!({ "SnapshotId": copy })).await;
    let input = json!({ "VolumeId": restored, "InstanceId": host, "Device": "/dev/sdg" });
    stage.ec2("AttachVolume", input).await;
    assert_eq!(stage.bench.host.read(&restored, 0, 4), b"same");
    assert_eq!(stage.grants(1, HERE, &key).await, 2, "one for each attachment");
}

#[tokio::test]
async fn volumes_from_snapshots_end_under_the_right_key() {
    let mut stage = Stage::new().await;
    let (key, other) = (stage.key(1, HERE).await, stage.key(1, HERE).await);
    let host = stage.host(1, HERE, "a").await;
    let volume = stage.encrypted(&key).await;
    stage.attach(1, HERE, &volume, &host).await;
    stage.bench.host.write(&volume, 0, b"bytes");
    let sealed = stage.snapshot(1, HERE, &volume).await;
    let plain_volume = stage.volume(1, HERE, json!({ "Size": 1 })).await;
    let plain = stage.snapshot(1, HERE, &plain_volume).await;
    for (snapshot, extra, expected) in [
        (&sealed, json!({}), json!(key)),
        (&sealed, json!({ "Encrypted": true, "KmsKeyId": other }), json!(other)),
        (&plain, json!({}), Value::Null),
        (&plain, json!({ "Encrypted": true, "KmsKeyId": key }), json!(key)),
    ] {
        let mut input = json!({ "SnapshotId": snapshot });
        merge(&mut input, extra);
        let made = stage.volume(1, HERE, input).await;
        let shown = stage.describe_volume(1, HERE, &made).await;
        assert_eq!(shown["State"], "available", "{shown}");
        assert_eq!(shown.get("KmsKeyId").cloned().unwrap_or_default(), expected);
        let input = json!({ "VolumeId": made, "InstanceId": host, "Device": "/dev/sdg" });
        stage.ec2("AttachVolume", input).await;
        let expected: &[u8] = if snapshot == &sealed { b"bytes" } else { &[0; 5] };
        assert_eq!(stage.bench.host.read(&made, 0, 5), expected);
        stage.ec2("DetachVolume", json!({ "VolumeId": made })).await;
    }
    let mut defaulted = json!({ "AvailabilityZone": "us-east-1a", "Size": 1, "Encrypted": true });
    merge(&mut defaulted, json!({ "VolumeType": "gp3" }));
    let made = stage.ec2("CreateVolume", defaulted).await;
    let managed = text(&made, "KmsKeyId");
    let alias = stage.kms(1, HERE, "DescribeKey", json!({ "KeyId": "alias/aws/ebs" })).await;
    assert_eq!(alias["KeyMetadata"]["Arn"], json!(managed));
}

#[tokio::test]
async fn a_volume_under_an_unusable_key_vanishes() {
    let mut stage = Stage::new().await;
    let key = stage.key(1, HERE).await;
    stage.kms(1, HERE, "DisableKey", json!({ "KeyId": key })).await;
    let input = json!({
        "AvailabilityZone": "us-east-1a", "Size": 1, "Encrypted": true, "KmsKeyId": key,
        "ClientToken": "once",
    });
    let made = stage.ec2("CreateVolume", input.clone()).await;
    assert_eq!(made["State"], "creating");
    stage.settle().await;
    let id = text(&made, "VolumeId");
    let gone = stage.ec2_error("DescribeVolumes", json!({ "VolumeIds": [id] })).await;
    assert!(gone.starts_with("InvalidVolume.NotFound: "), "{gone}");
    let mut events = stage.events(1, HERE).await;
    events.sort();
    assert_eq!(
        events,
        [format!("createVolume failed {key} is disabled."), "deleteVolume deleted".to_owned()]
    );
    let error = stage.ec2_error("CreateVolume", input).await;
    assert!(error.contains("resource already deleted"), "{error}");
}

#[tokio::test]
async fn a_copy_looks_at_its_key_before_it_answers() {
    let mut stage = Stage::new().await;
    let (key, foreign) = (stage.key(1, HERE).await, stage.key(2, HERE).await);
    let volume = stage.volume(1, HERE, json!({ "Size": 1 })).await;
    let snapshot = stage.snapshot(1, HERE, &volume).await;
    stage.kms(1, HERE, "DisableKey", json!({ "KeyId": key })).await;
    let missing = "11111111-2222-3333-4444-555555555555";
    for (given, expected) in [
        (key.as_str(), format!("InvalidParameterValue: The specified keyId {key} is disabled")),
        (missing, format!("InvalidParameterValue: The specified keyId {missing} is invalid")),
        (foreign.as_str(), format!("AuthFailure: Not authorized to use key {foreign} ")),
    ] {
        let input = json!({
            "SourceRegion": HERE, "SourceSnapshotId": snapshot, "Encrypted": true, "KmsKeyId": given,
        });
        assert_eq!(stage.ec2_error("CopySnapshot", input).await, expected);
    }
}

#[tokio::test]
async fn some_snapshots_cannot_be_shared() {
    let mut stage = Stage::new().await;
    let key = stage.key(1, HERE).await;
    let volume = stage.encrypted(&key).await;
    let own = stage.snapshot(1, HERE, &volume).await;
    let volume = stage.volume(1, HERE, json!({ "Size": 1, "Encrypted": true })).await;
    let managed = stage.snapshot(1, HERE, &volume).await;
    for (snapshot, entry, expected) in [
        (
            &managed,
            json!({ "UserId": "222222222222" }),
            "OperationNotPermitted: Encrypted snapshots with EBS default key cannot be shared",
        ),
        (
            &own,
            json!({ "Group": "all" }),
            "OperationNotPermitted: Encrypted snapshots cannot be shared publicly.",
        ),
    ] {
        let input = json!({ "SnapshotId": snapshot, "CreateVolumePermission": { "Add": [entry] } });
        assert_eq!(stage.ec2_error("ModifySnapshotAttribute", input).await, expected);
    }
}

#[tokio::test]
async fn defaults_decide_where_nobody_did() {
    let mut stage = Stage::new().await;
    let key = stage.key(1, HERE).await;
    let shown = stage.ec2("GetEbsDefaultKmsKeyId", json!({})).await;
    assert_eq!(shown["KmsKeyId"], "alias/aws/ebs");
    stage.kms(1, HERE, "CreateAlias", json!({ "AliasName": "alias/x", "TargetKeyId": key })).await;
    let set = stage.ec2("ModifyEbsDefaultKmsKeyId", json!({ "KmsKeyId": "alias/x" })).await;
    assert_eq!(set["KmsKeyId"], json!(key));
    let error = stage.ec2_error("ModifyEbsDefaultKmsKeyId", json!({ "KmsKeyId": "alias/y" })).await;
    assert_eq!(error, "InvalidParameterValue: The specified keyId alias/y is invalid");
    let on = stage.ec2("EnableEbsEncryptionByDefault", json!({})).await;
    assert_eq!(on["EbsEncryptionByDefault"], true);
    let elsewhere = stage.ec2_at(1, THERE, "GetEbsEncryptionByDefault", json!({})).await;
    assert_eq!(elsewhere["EbsEncryptionByDefault"], false);

    let other = text(&stage.kms(1, HERE, "CreateKey", json!({})).await["KeyMetadata"], "KeyId");
    let moved = json!({ "AliasName": "alias/x", "TargetKeyId": other });
    stage.kms(1, HERE, "UpdateAlias", moved).await;
    let volume = stage.volume(1, HERE, json!({ "Size": 1, "Encrypted": false })).await;
    let shown = stage.describe_volume(1, HERE, &volume).await;
    assert_eq!((&shown["Encrypted"], &shown["KmsKeyId"]), (&json!(true), &json!(key)));
    stage.ec2("DisableEbsEncryptionByDefault", json!({})).await;
    stage.ec2("ResetEbsDefaultKmsKeyId", json!({})).await;
    let volume = stage.volume(1, HERE, json!({ "Size": 1 })).await;
    assert_eq!(stage.describe_volume(1, HERE, &volume).await["Encrypted"], false);
}
