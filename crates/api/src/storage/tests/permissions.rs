//! EC2 permissions of storage operations under their condition keys (spec 20, A.7 and C.4).

use super::{HERE, Stage, THERE, text};
use crate::Service;
use crate::testing::account;
use iam::Principal;
use serde_json::{Value, json};

impl Stage {
    /// Makes a user of an account with one policy.
    pub(crate) async fn user(&self, digit: u8, name: &str, statements: Value) -> Principal {
        let iam = |operation: &'static str, input: Value| {
            self.try_root(digit, HERE, Service::Iam, operation, input)
        };
        let made = iam("CreateUser", json!({ "UserName": name })).await.unwrap();
        let policy = json!({ "Version": "2012-10-17", "Statement": statements });
        let document = policy.to_string();
        let input = json!({ "UserName": name, "PolicyName": "p", "PolicyDocument": document });
        iam("PutUserPolicy", input).await.unwrap();
        Principal::user(&account(digit), "/", name, &text(&made["User"], "UserId"))
    }

    async fn denied(&self, who: &Principal, at: &str, name: &str, input: Value) -> bool {
        match self.try_as(who.clone(), at, Service::Ec2, name, input).await {
            Ok(_) => false,
            Err(error) => {
                assert!(error.starts_with("UnauthorizedOperation: You are not"), "{error}");
                true
            }
        }
    }
}

fn allow(action: Value, condition: Value) -> Value {
    json!({ "Effect": "Allow", "Action": action, "Resource": "*", "Condition": condition })
}

#[tokio::test]
async fn conditions_on_a_new_volume_hold() {
    let stage = Stage::new().await;
    let zone = "us-east-1a";
    let base = json!({ "AvailabilityZone": zone, "Size": 2 });
    for (condition, extra, denied) in [
        (json!({ "Bool": { "ec2:Encrypted": "true" } }), json!({}), true),
        (json!({ "Bool": { "ec2:Encrypted": "true" } }), json!({ "Encrypted": true }), false),
        (json!({ "NumericLessThanEquals": { "ec2:VolumeSize": "2" } }), json!({}), false),
        (json!({ "NumericLessThanEquals": { "ec2:VolumeSize": "1" } }), json!({}), true),
        (json!({ "StringEquals": { "ec2:VolumeType": "gp3" } }), json!({}), true),
        (
            json!({ "StringEquals": { "ec2:VolumeType": "gp3" } }),
            json!({ "VolumeType": "gp3" }),
            false,
        ),
        (json!({ "StringEquals": { "ec2:AvailabilityZone": zone } }), json!({}), false),
        (json!({ "StringEquals": { "ec2:Region": "eu-west-1" } }), json!({}), true),
        (json!({ "Null": { "ec2:ParentSnapshot": "true" } }), json!({}), false),
    ] {
        let name = format!("u{}", base::id::hex_digits(&*stage.bench.world.rng, 8));
        let statements = json!([allow(json!("ec2:CreateVolume"), condition.clone())]);
        let user = stage.user(1, &name, statements).await;
        let mut input = base.clone();
        super::merge(&mut input, extra);
        let got = stage.denied(&user, HERE, "CreateVolume", input.clone()).await;
        assert_eq!(got, denied, "{condition} {input}");
    }
}

#[tokio::test]
async fn tags_at_creation_need_their_own_permission() {
    let stage = Stage::new().await;
    let tags = json!([{ "ResourceType": "volume", "Tags": [{ "Key": "team", "Value": "a" }] }]);
    let tagged = json!({ "AvailabilityZone": "us-east-1a", "Size": 1, "TagSpecifications": tags });
    let create = allow(json!("ec2:CreateVolume"), json!({}));
    for (name, extra, denied) in [
        ("none", None, true),
        ("any", Some(json!({})), false),
        ("this", Some(json!({ "StringEquals": { "ec2:CreateAction": "CreateVolume" } })), false),
        ("that", Some(json!({ "StringEquals": { "ec2:CreateAction": "CreateSnapshot" } })), true),
        ("key", Some(json!({ "ForAllValues:StringEquals": { "aws:TagKeys": ["team"] } })), false),
        ("value", Some(json!({ "StringEquals": { "aws:RequestTag/team": "b" } })), true),
    ] {
        let mut statements = vec![create.clone()];
        statements.extend(extra.map(|condition| allow(json!("ec2:CreateTags"), condition)));
        let user = stage.user(1, name, json!(statements)).await;
        let got = stage.denied(&user, HERE, "CreateVolume", tagged.clone()).await;
        assert_eq!(got, denied, "{name}");
    }
}

#[tokio::test]
async fn conditions_on_what_exists_hold() {
    let mut stage = Stage::new().await;
    let volume = stage.volume(1, HERE, json!({ "Size": 1 })).await;
    let snapshot = stage.snapshot(1, HERE, &volume).await;
    let tags = json!([{ "Key": "team", "Value": "a" }]);
    stage.ec2("CreateTags", json!({ "Resources": [volume, snapshot], "Tags": tags })).await;
    let share = |user: &str| {
        let add = json!({ "Add": [{ "UserId": user }] });
        json!({ "SnapshotId": snapshot, "CreateVolumePermission": add })
    };
    let added = json!({ "ForAllValues:StringEquals": { "ec2:Add/userId": ["222222222222"] } });
    let own_arn = format!("arn:aws:ec2:us-east-1:111111111111:volume/{volume}");
    for (name, action, condition, input, denied) in [
        (
            "tag",
            "DeleteVolume",
            json!({ "StringEquals": { "ec2:ResourceTag/team": "b" } }),
            json!({ "VolumeId": volume }),
            true,
        ),
        (
            "parent",
            "DeleteSnapshot",
            json!({ "ArnNotEquals": { "ec2:ParentVolume": own_arn } }),
            json!({ "SnapshotId": snapshot }),
            true,
        ),
        ("add1", "ModifySnapshotAttribute", added.clone(), share("222222222222"), false),
        ("add2", "ModifySnapshotAttribute", added, share("333333333333"), true),
        (
            "owner",
            "CreateSnapshot",
            json!({ "StringEquals": { "aws:ResourceTag/team": "a" } }),
            json!({ "VolumeId": volume }),
            true,
        ),
    ] {
        let statements = json!([allow(json!(format!("ec2:{action}")), condition)]);
        let user = stage.user(1, name, statements).await;
        assert_eq!(stage.denied(&user, HERE, action, input).await, denied, "{name}");
    }
}

#[tokio::test]
async fn a_dry_run_says_what_would_be() {
    let mut stage = Stage::new().await;
    let volume = stage.volume(1, HERE, json!({ "Size": 1 })).await;
    let nobody =
        stage.user(1, "nobody", json!([allow(json!("ec2:DescribeVolumes"), json!({}))])).await;
    let input = json!({ "VolumeId": volume, "DryRun": true });
    assert!(stage.denied(&nobody, HERE, "DeleteVolume", input.clone()).await);
    let error = stage.ec2_error("DeleteVolume", input).await;
    assert!(error.starts_with("DryRunOperation: "), "{error}");
    assert_eq!(stage.describe_volume(1, HERE, &volume).await["State"], "available");
}

#[tokio::test]
async fn each_permission_of_the_copying_user_is_needed() {
    for (missing, expected) in [
        (None, "completed"),
        (Some("kms:DescribeKey"), "AuthFailure: Not authorized to use key "),
        (Some("kms:GenerateDataKeyWithoutPlaintext"), "error"),
        (Some("kms:CreateGrant"), "error"),
        (Some("ec2:CopySnapshot"), "UnauthorizedOperation: "),
    ] {
        let mut stage = Stage::new().await;
        let (key, own_key) = (stage.key(1, HERE).await, stage.key(1, THERE).await);
        let volume =
            stage.volume(1, HERE, json!({ "Size": 1, "Encrypted": true, "KmsKeyId": key })).await;
        let snapshot = stage.snapshot(1, HERE, &volume).await;
        let all = [
            "kms:DescribeKey",
            "kms:GenerateDataKeyWithoutPlaintext",
            "kms:CreateGrant",
            "ec2:CopySnapshot",
        ];
        let left: Vec<&str> = all.into_iter().filter(|action| Some(*action) != missing).collect();
        let user = stage.user(1, "ann", json!([allow(json!(left), json!({}))])).await;
        let input = json!({
            "SourceRegion": HERE, "SourceSnapshotId": snapshot, "Encrypted": true, "KmsKeyId": own_key,
        });
        match stage.try_as(user, THERE, Service::Ec2, "CopySnapshot", input).await {
            Err(error) => assert!(error.starts_with(expected), "{missing:?} {error}"),
            Ok(reply) => {
                stage.settle().await;
                let copy = text(&reply, "SnapshotId");
                let shown = stage.describe_snapshot(1, THERE, &copy).await;
                assert_eq!(shown["State"], expected, "{missing:?}");
            }
        }
    }
}

/// Spec 20, C.7: what a recipient needs for a volume straight from a shared encrypted snapshot.
#[tokio::test]
async fn a_volume_from_a_share_needs_both_keys() {
    for (lent, state) in [("kms:ReEncryptFrom", Some("available")), ("kms:Decrypt", None)] {
        let mut stage = Stage::new().await;
        let (key, own_key) = (stage.key(1, HERE).await, stage.key(2, HERE).await);
        let (owner, receiver) = (stage.host(1, HERE, "a").await, stage.host(2, HERE, "b").await);
        let volume =
            stage.volume(1, HERE, json!({ "Size": 1, "Encrypted": true, "KmsKeyId": key })).await;
        stage.attach(1, HERE, &volume, &owner).await;
        stage.bench.host.write(&volume, 0, b"shared");
        let snapshot = stage.snapshot(1, HERE, &volume).await;
        stage.share(&snapshot).await;
        stage.lend(&key, &[lent]).await;
        let input = json!({ "SnapshotId": snapshot, "Encrypted": true, "KmsKeyId": own_key });
        let made = stage.volume(2, HERE, input).await;
        let Some(state) = state else {
            let input = json!({ "VolumeIds": [made] });
            let error = stage.ec2_error_at(2, HERE, "DescribeVolumes", input).await;
            assert!(error.starts_with("InvalidVolume.NotFound: "), "{error}");
            continue;
        };
        let shown = stage.describe_volume(2, HERE, &made).await;
        assert_eq!((&shown["State"], &shown["KmsKeyId"]), (&json!(state), &json!(own_key)));
        // What was deleted or disabled at the owner's does not reach the recipient's volume.
        stage.kms(1, HERE, "DisableKey", json!({ "KeyId": key })).await;
        stage.ec2("DeleteSnapshot", json!({ "SnapshotId": snapshot })).await;
        stage.settle().await;
        stage.attach(2, HERE, &made, &receiver).await;
        assert_eq!(stage.bench.host.read(&made, 0, 6), b"shared");
    }
}
