//! Who can, and what if, over small worlds.

use crate::Service;
use crate::storage::tests::{HERE, Stage, text};
use serde_json::{Value, json};

impl Stage {
    async fn answer(&self, operation: &'static str, input: Value) -> (Value, String) {
        let reply = self.try_root(1, HERE, Service::Strongroom, operation, input).await.unwrap();
        (serde_json::from_str(&text(&reply, "Answer")).unwrap(), text(&reply, "Text"))
    }

    async fn who_can(&self, id: &str) -> (Value, String) {
        self.answer("WhoCanRead", json!({ "ResourceId": id })).await
    }
}

/// What somebody can: `copy yes, read no, …`.
fn can(answer: &Value, who: &str) -> String {
    let readers = answer["readers"].as_array().unwrap();
    let reader = readers.iter().find(|reader| reader["who"].as_str().unwrap().ends_with(who));
    let ways =
        reader.unwrap_or_else(|| panic!("no {who} in {answer:#}"))["ways"].as_array().unwrap();
    let ways = ways.iter().map(|way| format!("{} {}", text(way, "how"), text(way, "can")));
    ways.collect::<Vec<_>>().join(", ")
}

#[tokio::test]
async fn readers_are_found_by_their_chain() {
    let mut stage = Stage::new().await;
    let key = stage.key(1, HERE).await;
    let volume =
        stage.volume(1, HERE, json!({ "Size": 1, "Encrypted": true, "KmsKeyId": key })).await;
    let snapshot = stage.snapshot(1, HERE, &volume).await;
    let allow = |action: Value| json!([{ "Effect": "Allow", "Action": action, "Resource": "*" }]);
    stage.user(1, "reader", allow(json!(["ebs:GetSnapshotBlock", "kms:Decrypt"]))).await;
    stage.user(1, "keyless", allow(json!(["ec2:*", "ebs:*"]))).await;
    stage.share(&snapshot).await;

    let (answer, told) = stage.who_can(&snapshot).await;
    assert_eq!(can(&answer, "111111111111:root"), "read yes, copy yes, restore yes");
    assert_eq!(can(&answer, "user/reader"), "read yes, copy no, restore no");
    assert_eq!(can(&answer, "user/keyless"), "read no, copy no, restore no");
    assert_eq!(can(&answer, "222222222222:root"), "read no, copy no, restore no");
    let dead =
        "It is shared with 222222222222, and the policy of its key lets nobody there use it.";
    assert!(told.contains(dead), "{told}");

    stage.lend(&key, &["kms:CreateGrant"]).await;
    let (answer, told) = stage.who_can(&snapshot).await;
    let lent = "read no, copy up to its account, restore no";
    assert_eq!(can(&answer, "222222222222:root"), lent, "{told}");
    assert_eq!(answer["deadEnds"], json!([]));

    let (answer, _) = stage.who_can(&volume).await;
    assert_eq!(can(&answer, "user/keyless"), "attach no");
    assert_eq!(can(&answer, "111111111111:root"), "attach yes");
}

#[tokio::test]
async fn an_archived_snapshot_is_read_by_nobody_until_it_is_restored() {
    let mut stage = Stage::new().await;
    let key = stage.key(1, HERE).await;
    let volume =
        stage.volume(1, HERE, json!({ "Size": 1, "Encrypted": true, "KmsKeyId": key })).await;
    let snapshot = stage.snapshot(1, HERE, &volume).await;
    stage.share(&snapshot).await;
    stage.lend(&key, &["kms:CreateGrant"]).await;
    let then = |answer: &Value, who: &str| {
        let readers = answer["readers"].as_array().unwrap().iter();
        let mut of = readers.filter(|reader| text(reader, "who").contains(who));
        let ways = of.next().unwrap()["ways"].as_array().unwrap().clone();
        ways.iter().map(|way| way["onceRestored"].clone()).collect::<Vec<_>>()
    };
    let (answer, told) = stage.who_can(&snapshot).await;
    assert_eq!((&answer["archived"], answer["deadEnds"].clone()), (&json!(false), json!([])));
    assert_eq!(then(&answer, "111111111111"), [Value::Null, Value::Null, Value::Null], "{told}");

    stage.archived(&snapshot).await;
    let (answer, told) = stage.who_can(&snapshot).await;
    assert_eq!(answer["archived"], true);
    let dead = "It is archived: nobody can read it until it is restored.";
    assert_eq!(answer["deadEnds"], json!([dead]), "the share leads somewhere: {told}");
    for who in ["111111111111:root", "222222222222:root"] {
        assert_eq!(can(&answer, who), "read no, copy no, restore no");
    }
    assert_eq!(then(&answer, "111111111111"), ["yes", "yes", "yes"]);
    assert_eq!(then(&answer, "222222222222"), ["no", "up to its account", "no"]);
    assert!(told.contains("copy     no; once restored: up to its account"), "{told}");
}

#[tokio::test]
async fn the_managed_key_is_a_dead_end() {
    let mut stage = Stage::new().await;
    let volume = stage.volume(1, HERE, json!({ "Size": 1, "Encrypted": true })).await;
    let snapshot = stage.snapshot(1, HERE, &volume).await;
    let (answer, told) = stage.who_can(&snapshot).await;
    assert!(told.contains("DEAD END The key is aws/ebs of account 111111111111"), "{told}");
    assert_eq!(answer["shares"], json!([]));
    let refused = stage.try_root(
        2,
        HERE,
        Service::Strongroom,
        "WhoCanRead",
        json!({
            "ResourceId": snapshot,
        }),
    );
    assert!(refused.await.unwrap_err().starts_with("InvalidSnapshot.NotFound"));
}

#[tokio::test]
async fn changes_are_tried_on_what_was_decided() {
    let mut stage = Stage::new().await;
    let key = stage.key(1, HERE).await;
    let volume =
        stage.volume(1, HERE, json!({ "Size": 1, "Encrypted": true, "KmsKeyId": key })).await;
    let host = stage.host(1, HERE, "h").await;
    stage.attach(1, HERE, &volume, &host).await;
    let snapshot = stage.snapshot(1, HERE, &volume).await;

    let disabled = json!({ "KeyId": key, "Change": "disable-key" });
    let (answer, told) = stage.answer("WhatIf", disabled).await;
    let affected: Vec<String> =
        answer["affected"].as_array().unwrap().iter().map(|a| text(a, "resource")).collect();
    assert_eq!(affected, [volume.clone(), snapshot.clone()], "{told}");
    assert!(told.contains("it keeps running until it is detached"), "{told}");
    let changed = answer["changed"].as_array().unwrap();
    assert!(changed.iter().any(|change| change["action"] == "kms:Decrypt"), "{answer:#}");
    assert!(changed.iter().all(|change| change["wouldBeAllowed"] == false), "{answer:#}");

    // The grant of the attachment is what its host opens the volume with.
    let grants = stage.try_root(1, HERE, Service::Kms, "ListGrants", json!({ "KeyId": key })).await;
    let grant = text(&grants.unwrap()["Grants"][0], "GrantId");
    let revoked = json!({ "KeyId": key, "Change": "revoke-grant", "GrantId": grant });
    let (answer, told) = stage.answer("WhatIf", revoked).await;
    assert_eq!(answer["affected"][0]["resource"], volume, "{told}");
    let changed = answer["changed"].as_array().unwrap();
    assert_eq!(changed.len(), 1, "{answer:#}");
    assert!(text(&changed[0], "who").contains("aws:ec2-infrastructure"), "{answer:#}");

    let policy = |action: &str| {
        json!({ "Version": "2012-10-17", "Statement": [{
            "Effect": "Allow", "Principal": { "AWS": "111111111111" }, "Action": action,
            "Resource": "*",
        }] })
    };
    let candidate = |policy: Value| json!({ "KeyId": key, "Change": "put-key-policy", "Policy": policy.to_string() });
    let (answer, told) = stage.answer("WhatIf", candidate(policy("kms:*"))).await;
    assert_eq!((&answer["changed"], &answer["affected"]), (&json!([]), &json!([])), "{told}");
    assert!(answer["replayed"].as_u64().unwrap() > 3);
    // Root keeps nothing that the key's policy does not delegate.
    let (answer, told) = stage.answer("WhatIf", candidate(policy("kms:Put*"))).await;
    assert_eq!(answer["affected"][0]["resource"], volume, "{told}");
    assert!(told.contains("and kms:GenerateDataKeyWithoutPlaintext are denied"), "{told}");
    // Nothing was changed by asking.
    let shown = stage.try_root(1, HERE, Service::Kms, "DescribeKey", json!({ "KeyId": key })).await;
    assert_eq!(shown.unwrap()["KeyMetadata"]["KeyState"], "Enabled");

    for (grant, code) in [("a".repeat(64), "NotFoundException"), ("x".to_owned(), "InvalidGrantId")]
    {
        let input = json!({ "KeyId": key, "Change": "revoke-grant", "GrantId": grant });
        let error =
            stage.try_root(1, HERE, Service::Strongroom, "WhatIf", input).await.unwrap_err();
        assert!(error.starts_with(code), "a grant that is not there: {error}");
    }
    for bad in [
        json!({ "KeyId": key, "Change": "put-key-policy" }),
        json!({ "KeyId": key, "Change": "disable-key", "GrantId": "x" }),
        json!({ "KeyId": key, "Change": "disable-key", "Days": 0 }),
    ] {
        let error = stage.try_root(1, HERE, Service::Strongroom, "WhatIf", bad).await.unwrap_err();
        assert!(error.starts_with("ValidationException"), "{error}");
    }
}

#[tokio::test]
async fn changes_of_policies_are_tried_on_what_was_decided() {
    let mut stage = Stage::new().await;
    let key = stage.key(1, HERE).await;
    let allow = |action: Value| json!({ "Effect": "Allow", "Action": action, "Resource": "*" });
    let user = stage.user(1, "ann", json!([allow(json!(["ec2:*", "kms:*"]))])).await;
    let other = stage.user(1, "bob", json!([allow(json!("*"))])).await;
    let volume = json!({ "AvailabilityZone": "us-east-1a", "Size": 1, "Encrypted": true,
        "KmsKeyId": key });
    let made = stage.try_as(user.clone(), HERE, Service::Ec2, "CreateVolume", volume.clone()).await;
    let id = text(&made.unwrap(), "VolumeId");
    stage.try_as(other, HERE, Service::Ec2, "CreateVolume", volume).await.unwrap();
    stage.settle().await;
    stage.try_as(user.clone(), HERE, Service::Iam, "ListUsers", json!({})).await.unwrap_err();

    let policy =
        |statements: Value| json!({ "Version": "2012-10-17", "Statement": statements }).to_string();
    let what_if = async |more: Value| {
        let mut input = json!({ "PrincipalArn": user.arn });
        crate::storage::tests::merge(&mut input, more);
        stage.answer("WhatIf", input).await
    };
    // The same policy changes nothing.
    let put = |statements: Value| json!({ "Change": "put-policy", "PolicyName": "p", "Policy": policy(statements) });
    let (answer, told) = what_if(put(json!([allow(json!(["ec2:*", "kms:*"]))]))).await;
    assert_eq!((&answer["changed"], &answer["affected"]), (&json!([]), &json!([])), "{told}");
    assert!(answer["replayed"].as_u64().unwrap() >= 4, "{told}");
    assert_eq!(answer["principal"], user.arn);
    // Without the keys her volume could not be made; bob's is not looked at.
    let (answer, told) = what_if(put(json!([allow(json!(["ec2:*", "kms:Describe*"]))]))).await;
    let affected: Vec<String> =
        answer["affected"].as_array().unwrap().iter().map(|a| text(a, "resource")).collect();
    assert_eq!(affected, [id], "{told}");
    assert!(told.contains("and kms:GenerateDataKeyWithoutPlaintext are denied"), "{told}");
    let changed = answer["changed"].as_array().unwrap();
    assert!(changed.iter().all(|change| change["who"] == user.arn), "{answer:#}");
    // What was denied would be allowed.
    let attach = json!({ "Change": "attach-policy",
        "PolicyArn": "arn:aws:iam::aws:policy/IAMReadOnlyAccess" });
    let (answer, told) = what_if(attach).await;
    let changed = answer["changed"].as_array().unwrap();
    let opened = |change: &Value| (change["action"].clone(), change["wouldBeAllowed"].clone());
    assert_eq!(
        changed.iter().map(opened).collect::<Vec<_>>(),
        [(json!("iam:ListUsers"), json!(true))]
    );
    assert!(told.contains("iam:ListUsers"), "{told}");
    // A boundary limits, and a policy that goes takes all it allowed.
    let bound = json!({ "Change": "put-boundary",
        "PolicyArn": "arn:aws:iam::aws:policy/IAMReadOnlyAccess" });
    let (bounded, _) = what_if(bound).await;
    let (deleted, _) = what_if(json!({ "Change": "delete-policy", "PolicyName": "p" })).await;
    for answer in [bounded, deleted] {
        let changed = answer["changed"].as_array().unwrap();
        assert!(changed.iter().any(|change| change["action"] == "ec2:CreateVolume"), "{answer:#}");
        assert!(changed.iter().all(|change| change["wouldBeAllowed"] == false), "{answer:#}");
    }
    for bad in [
        json!({ "Change": "delete-policy", "PolicyName": "another" }),
        json!({ "Change": "detach-policy", "PolicyArn": "arn:aws:iam::aws:policy/IAMReadOnlyAccess" }),
        json!({ "Change": "put-policy", "PolicyName": "p" }),
        json!({ "Change": "delete-boundary", "KeyId": key }),
        json!({ "Change": "disable-key" }),
    ] {
        let mut input = json!({ "PrincipalArn": user.arn });
        crate::storage::tests::merge(&mut input, bad.clone());
        let error = stage.try_root(1, HERE, Service::Strongroom, "WhatIf", input).await;
        let error = error.expect_err(&bad.to_string());
        assert!(error.starts_with("Validation"), "{error}");
    }
}

/// A world where Ann makes volumes by what a group and a managed policy give her, and Bob does not.
struct Makers {
    stage: Stage,
    ann: iam::Principal,
    bob: iam::Principal,
    key: String,
    /// The managed policy: `kms:*` in force, `kms:Describe*` in its version `v2`.
    keys: String,
    /// What Ann made.
    made: String,
}

const MAKERS: &str = "arn:aws:iam::111111111111:group/makers";

fn policy(actions: Value) -> String {
    let statement = json!({ "Effect": "Allow", "Action": actions, "Resource": "*" });
    json!({ "Version": "2012-10-17", "Statement": statement }).to_string()
}

impl Makers {
    async fn new() -> Self {
        let mut stage = Stage::new().await;
        let little = json!([{ "Effect": "Allow", "Action": "s3:List*", "Resource": "*" }]);
        let ann = stage.user(1, "ann", little.clone()).await;
        let bob = stage.user(1, "bob", little).await;
        let iam = async |operation: &'static str, input: Value| {
            stage.try_root(1, HERE, Service::Iam, operation, input).await.expect("allowed")
        };
        iam("CreateGroup", json!({ "GroupName": "makers" })).await;
        let all = json!({ "GroupName": "makers", "PolicyName": "g",
            "PolicyDocument": policy(json!("ec2:*")) });
        iam("PutGroupPolicy", all).await;
        iam("AddUserToGroup", json!({ "GroupName": "makers", "UserName": "ann" })).await;
        let made = json!({ "PolicyName": "keys", "PolicyDocument": policy(json!("kms:*")) });
        let keys = text(&iam("CreatePolicy", made).await["Policy"], "Arn");
        iam("AttachGroupPolicy", json!({ "GroupName": "makers", "PolicyArn": keys })).await;
        let version = policy(json!("kms:Describe*"));
        iam("CreatePolicyVersion", json!({ "PolicyArn": keys, "PolicyDocument": version })).await;
        let key = stage.key(1, HERE).await;
        let volume = json!({ "AvailabilityZone": "us-east-1a", "Size": 1, "Encrypted": true,
            "KmsKeyId": key });
        let by = async |who: &iam::Principal| {
            stage.try_as(who.clone(), HERE, Service::Ec2, "CreateVolume", volume.clone()).await
        };
        let made = text(&by(&ann).await.expect("allowed"), "VolumeId");
        by(&bob).await.expect_err("denied");
        stage.settle().await;
        Self { stage, ann, bob, key, keys, made }
    }

    fn of_keys(&self, change: &str, more: Value) -> Value {
        let mut input = json!({ "Change": change, "PolicyArn": self.keys });
        crate::storage::tests::merge(&mut input, more);
        input
    }

    async fn changed(&self, input: Value) -> (Value, Vec<Value>, String) {
        let (answer, told) = self.stage.answer("WhatIf", input).await;
        let changed = answer["changed"].as_array().expect("a list").clone();
        (answer, changed, told)
    }
}

fn of(arn: &str, change: &str, more: Value) -> Value {
    let mut input = json!({ "Change": change, "PrincipalArn": arn });
    crate::storage::tests::merge(&mut input, more);
    input
}

fn in_group() -> Value {
    json!({ "GroupName": "makers" })
}

#[tokio::test]
async fn what_groups_and_managed_policies_give_is_missed_by_those_who_have_it() {
    let makers = Makers::new().await;
    let (ann, keys) = (&makers.ann.arn, json!({ "PolicyArn": makers.keys }));
    // Without the key her volume could not be made, whichever way the key is taken from her.
    for input in [
        of(MAKERS, "detach-policy", keys),
        of(ann, "remove-from-group", in_group()),
        makers.of_keys("create-policy-version", json!({ "Policy": policy(json!("kms:List*")) })),
        makers.of_keys("set-default-policy-version", json!({ "VersionId": "v2" })),
    ] {
        let (answer, changed, told) = makers.changed(input).await;
        let affected = answer["affected"].as_array().unwrap();
        let resources: Vec<_> = affected.iter().map(|a| text(a, "resource")).collect();
        assert!(resources.contains(&makers.made), "{told}");
        assert!(told.contains("and kms:GenerateDataKeyWithoutPlaintext are denied"), "{told}");
        let denied = |c: &Value| c["who"] == *ann && c["wouldBeAllowed"] == false;
        assert!(changed.iter().all(denied), "{told}");
    }
    let little = policy(json!("ec2:Describe*"));
    for input in [
        of(MAKERS, "put-policy", json!({ "PolicyName": "g", "Policy": little })),
        of(MAKERS, "delete-policy", json!({ "PolicyName": "g" })),
    ] {
        let (answer, changed, told) = makers.changed(input).await;
        assert!(changed.iter().any(|change| change["action"] == "ec2:CreateVolume"), "{told}");
        assert_eq!(answer["principal"], MAKERS);
    }
}

#[tokio::test]
async fn what_is_in_force_already_changes_nothing_and_what_is_given_opens() {
    let makers = Makers::new().await;
    let (ann, bob) = (&makers.ann.arn, &makers.bob.arn);
    let same = json!({ "PolicyName": "g", "Policy": policy(json!("ec2:*")) });
    for input in [
        of(MAKERS, "put-policy", same),
        of(MAKERS, "attach-policy", json!({ "PolicyArn": makers.keys })),
        of(ann, "add-to-group", in_group()),
        of(bob, "remove-from-group", in_group()),
        makers.of_keys("set-default-policy-version", json!({ "VersionId": "v1" })),
    ] {
        let (answer, changed, told) = makers.changed(input).await;
        assert_eq!((changed, &answer["affected"]), (Vec::new(), &json!([])), "{told}");
        assert!(answer["replayed"].as_u64().unwrap() > 0, "{told}");
    }
    let (_, opened, told) = makers.changed(of(bob, "add-to-group", in_group())).await;
    assert!(opened.iter().all(|c| c["who"] == *bob && c["wouldBeAllowed"] == true), "{told}");
    assert!(opened.iter().any(|change| change["action"] == "ec2:CreateVolume"), "{told}");
    // A policy nobody has is about nobody.
    let new = json!({ "PolicyName": "unused", "PolicyDocument": policy(json!("kms:*")) });
    let made = makers.stage.try_root(1, HERE, Service::Iam, "CreatePolicy", new).await;
    let unused = text(&made.expect("allowed")["Policy"], "Arn");
    let none = json!({ "Change": "create-policy-version", "PolicyArn": unused,
        "Policy": policy(json!("s3:*")) });
    let (answer, _, told) = makers.changed(none).await;
    assert_eq!((&answer["replayed"], &answer["policy"]), (&json!(0), &json!(unused)), "{told}");
}

#[tokio::test]
async fn changes_that_cannot_be_made_and_askers_who_may_not_know_are_refused() {
    let makers = Makers::new().await;
    let text = |document: String| json!({ "Policy": document });
    let mut both = text(policy(json!("ec2:*")));
    both["KeyId"] = json!(makers.key);
    let aws = json!({ "Change": "create-policy-version", "Policy": policy(json!("ec2:*")),
        "PolicyArn": "arn:aws:iam::aws:policy/IAMReadOnlyAccess" });
    for bad in [
        of(MAKERS, "put-boundary", json!({ "PolicyArn": makers.keys })),
        of(MAKERS, "add-to-group", in_group()),
        of(MAKERS, "delete-policy", json!({ "PolicyName": "another" })),
        makers.of_keys("create-policy-version", json!({})),
        makers.of_keys("create-policy-version", both),
        makers.of_keys("create-policy-version", text("{".to_owned())),
        makers.of_keys("create-policy-version", text(policy(json!("a".repeat(7000))))),
        makers.of_keys("set-default-policy-version", json!({ "VersionId": "v9" })),
        aws,
    ] {
        let asked = makers.stage.try_root(1, HERE, Service::Strongroom, "WhatIf", bad.clone());
        asked.await.expect_err(&bad.to_string());
    }
    // The right to ask about one user is not the right to ask about everybody's policy.
    let bob = &makers.bob.arn;
    let may = json!([
        { "Effect": "Allow", "Action": "strongroom:WhatIf", "Resource": "*" },
        { "Effect": "Allow", "Action": "iam:SimulatePrincipalPolicy", "Resource": bob },
    ]);
    let asker = makers.stage.user(1, "asker", may).await;
    let asked = async |input| {
        makers.stage.try_as(asker.clone(), HERE, Service::Strongroom, "WhatIf", input).await
    };
    asked(of(bob, "delete-boundary", json!({}))).await.expect("allowed");
    for denied in [
        of(bob, "add-to-group", in_group()),
        of(MAKERS, "delete-policy", json!({ "PolicyName": "g" })),
        makers.of_keys("set-default-policy-version", json!({ "VersionId": "v2" })),
    ] {
        let error = asked(denied).await.expect_err("denied");
        assert!(error.starts_with("AccessDenied"), "{error}");
    }
}
