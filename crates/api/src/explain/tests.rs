//! What an explanation says, and what it keeps from whom.

use crate::Service;
use crate::storage::tests::{HERE, Stage, text};
use crate::testing::{account, run_named};
use iam::Principal;
use serde_json::{Value, json};

impl Stage {
    /// Explains an id to a principal: the text, or the error.
    pub(crate) async fn explain(&self, who: &Principal, id: &str) -> Result<String, String> {
        let input = json!({ "Id": id });
        let reply = self.try_as(who.clone(), HERE, Service::Strongroom, "Explain", input).await?;
        let document: Value = serde_json::from_str(&text(&reply, "Explanation")).unwrap();
        assert_eq!(document["version"], 1);
        Ok(text(&reply, "Text"))
    }
}

/// A copy to account 222… whose owner 111… forgot `kms:CreateGrant`: the id of the denial, and the key.
async fn forgotten_grant(stage: &mut Stage) -> (String, String) {
    let (key, own_key) = (stage.key(1, HERE).await, stage.key(2, HERE).await);
    let volume =
        stage.volume(1, HERE, json!({ "Size": 1, "Encrypted": true, "KmsKeyId": key })).await;
    let snapshot = stage.snapshot(1, HERE, &volume).await;
    stage.share(&snapshot).await;
    let statement = |sid: &str, who: u8, action: Value| {
        json!({ "Sid": sid, "Effect": "Allow", "Action": action, "Resource": "*",
                "Principal": { "AWS": format!("arn:aws:iam::{}:root", account(who)) } })
    };
    let used = json!(["kms:DescribeKey", "kms:ReEncrypt*"]);
    let statements = [statement("Ours", 1, json!("kms:*")), statement("SecretLoan", 2, used)];
    let policy = json!({ "Version": "2012-10-17", "Statement": statements }).to_string();
    let input = json!({ "KeyId": key, "Policy": policy });
    stage.try_root(1, HERE, Service::Kms, "PutKeyPolicy", input).await.unwrap();
    let admin = json!([{ "Sid": "Admin", "Effect": "Allow", "Action": "*", "Resource": "*" }]);
    let user = stage.user(2, "bob", admin).await;
    let input = json!({
        "SourceRegion": HERE, "SourceSnapshotId": snapshot, "Encrypted": true, "KmsKeyId": own_key,
    });
    stage.try_as(user, HERE, Service::Ec2, "CopySnapshot", input).await.unwrap();
    stage.settle().await;
    (stage.told(2, HERE).await, key)
}

#[tokio::test]
async fn each_side_learns_its_own_part() {
    let mut stage = Stage::new().await;
    let (id, key) = forgotten_grant(&mut stage).await;
    let root = |digit| Principal::root(&account(digit));

    let told = stage.explain(&root(2), &id).await.unwrap();
    for part in [
        "arn:aws:iam::222222222222:user/bob",
        "DENIED  kms:CreateGrant",
        &key,
        "account 111111111111",
        "layer  key policy",
        "the key owner's policy does not allow",
        "remedy account 111111111111 must allow kms:CreateGrant to account 222222222222",
        "via ec2.us-east-1.amazonaws.com",
        "mode     native",
    ] {
        assert!(told.contains(part), "no {part} in\n{told}");
    }
    assert!(!told.contains("SecretLoan") && !told.contains("ReEncrypt"), "{told}");

    let told = stage.explain(&root(1), &id).await.unwrap();
    let nearest = "Allow statement 2 \"SecretLoan\": is for kms:DescribeKey, kms:ReEncrypt*, the \
                   action is kms:CreateGrant";
    for part in ["no key policy allows it", nearest, "a principal of account 222222222222"] {
        assert!(told.contains(part), "no {part} in\n{told}");
    }
    assert!(!told.contains("bob") && !told.contains("Admin"), "{told}");

    let refused = stage.explain(&root(3), &id).await.unwrap_err();
    assert!(refused.starts_with("DecisionNotFoundException"), "{refused}");
}

#[tokio::test]
async fn who_may_not_read_the_key_policy_is_not_told_of_it() {
    let mut stage = Stage::new().await;
    let (id, _) = forgotten_grant(&mut stage).await;
    let allow = |action: &str| json!({ "Effect": "Allow", "Action": action, "Resource": "*" });
    let helper = stage.user(1, "helper", json!([allow("strongroom:Explain")])).await;
    let told = stage.explain(&helper, &id).await.unwrap();
    assert!(told.contains("the key owner's policy does not allow"), "{told}");
    assert!(!told.contains("SecretLoan"), "{told}");
    let nobody = stage.user(1, "nobody", json!([allow("kms:*")])).await;
    let refused = stage.explain(&nobody, &id).await.unwrap_err();
    assert!(refused.starts_with("AccessDeniedException"), "{refused}");
}

#[tokio::test]
async fn conditions_grants_and_requests_are_named() {
    let stage = Stage::new().await;
    let key = stage.key(1, HERE).await;
    let wrong = json!([
        { "Sid": "OnlyViaEc2", "Effect": "Allow", "Action": "kms:Encrypt", "Resource": "*",
          "Condition": { "StringEquals": { "kms:ViaService": "ec2.us-east-1.amazonaws.com" } } },
        { "Effect": "Allow", "Action": "ec2:Describe*", "Resource": "*" },
    ]);
    let user = stage.user(1, "ann", wrong).await;
    let call = stage.bench.call(user.clone(), HERE);
    let input = json!({ "KeyId": key, "Plaintext": "x" });
    run_named(&call, Service::Kms, "Encrypt", input).await.expect_err("denied");
    let root = Principal::root(&account(1));
    // By the decision, by the event and by the request.
    let id = call.notes.explain_id().unwrap().to_owned();
    let event = id["d-111111111111-".len()..][..36].to_owned();
    for id in [id, event, call.request_id.clone()] {
        let told = stage.explain(&root, &id).await.unwrap();
        let part = "identity-based policy p, Allow statement 1 \"OnlyViaEc2\": wants StringEquals \
                    kms:ViaService ec2.us-east-1.amazonaws.com, the request has no such key";
        assert!(told.contains(part), "{told}");
        assert!(told.contains("layer  identity-based policy"), "{told}");
    }
    // An EC2 denial carries its explanation in the sealed message.
    let error = stage.try_as(
        user,
        HERE,
        Service::Ec2,
        "CreateVolume",
        json!({
            "AvailabilityZone": "us-east-1a", "Size": 1,
        }),
    );
    let error = error.await.unwrap_err();
    let sealed = error.rsplit(": ").next().unwrap();
    let told = stage.explain(&root, sealed).await.unwrap();
    assert!(told.contains("DENIED  ec2:CreateVolume"), "{told}");
    for bad in ["nonsense", "d-111111111111-x", ""] {
        let refused = stage.explain(&root, bad).await.unwrap_err();
        assert!(refused.starts_with("ValidationException"), "{bad}: {refused}");
    }
}

#[tokio::test]
async fn tags_of_a_role_are_its_owners_business() {
    let stage = Stage::new().await;
    let trust = json!({ "Version": "2012-10-17", "Statement": [{ "Effect": "Allow",
        "Principal": { "AWS": "222222222222" }, "Action": "sts:AssumeRole",
        "Condition": { "StringEquals": { "iam:ResourceTag/open": "yes" } } }] });
    let role = json!({ "RoleName": "r", "AssumeRolePolicyDocument": trust.to_string(),
        "Tags": [{ "Key": "team", "Value": "payroll" }, { "Key": "open", "Value": "never" }] });
    let made = stage.try_root(1, HERE, Service::Iam, "CreateRole", role).await.unwrap();
    let arn = made["Role"]["Arn"].clone();
    let allow = json!([{ "Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "*" }]);
    let user = stage.user(2, "guest", allow).await;
    let call = stage.bench.call(user, HERE);
    let input = json!({ "RoleArn": arn, "RoleSessionName": "visit" });
    run_named(&call, Service::Sts, "AssumeRole", input).await.expect_err("another tag");
    let id = json!({ "Id": call.notes.explain_id().unwrap() });
    let seen_by = async |number: u8| {
        let viewer = Principal::root(&account(number));
        let reply = stage.try_as(viewer, HERE, Service::Strongroom, "Explain", id.clone()).await;
        reply.map(|reply| text(&reply, "Explanation"))
    };
    let told = seen_by(2).await.unwrap();
    assert!(told.contains("sts:RoleSessionName") && !told.contains("ResourceTag"), "{told}");
    assert!(!told.contains("never") && !told.contains("payroll"), "{told}");
}

#[tokio::test]
async fn a_key_in_the_wrong_state_is_told_from_a_policy() {
    let mut stage = Stage::new().await;
    let key = stage.key(1, HERE).await;
    let volume =
        stage.volume(1, HERE, json!({ "Size": 1, "Encrypted": true, "KmsKeyId": key })).await;
    let host = stage.host(1, HERE, "h").await;
    stage.try_root(1, HERE, Service::Kms, "DisableKey", json!({ "KeyId": key })).await.unwrap();
    let input = json!({ "VolumeId": volume, "InstanceId": host, "Device": "/dev/sdf" });
    let error = stage.ec2_error("AttachVolume", input).await;
    assert!(error.starts_with("Client.CustomerKeyHasBeenRevoked"), "{error}");
    let id = stage.told(1, HERE).await;
    let told = stage.explain(&Principal::root(&account(1)), &id).await.unwrap();
    for part in ["kms:CreateGrant", &key, "layer    key state", "DisabledException", "allowed"] {
        assert!(told.contains(part), "no {part} in\n{told}");
    }
}

/// Rows of spec 20, C.5 and C.6: a request that fails, and what its explanation names.
struct Row {
    operation: &'static str,
    service: Service,
    input: Value,
    /// What is denied to the user; nothing when the key or the request is at fault.
    denied: &'static str,
    disabled: bool,
    layer: &'static str,
}

/// Explains a failure by the id of its request: with it come the calls made for it, now and later.
async fn explained(stage: &mut Stage, row: &Row, key: &str) -> String {
    let mut statements = vec![json!({ "Effect": "Allow", "Action": "*", "Resource": "*" })];
    if !row.denied.is_empty() {
        statements.push(json!({ "Effect": "Deny", "Action": row.denied, "Resource": "*" }));
    }
    let name = format!("u{}", base::id::hex_digits(&*stage.bench.world.rng, 8));
    let user = stage.user(1, &name, json!(statements)).await;
    let switch =
        |operation| stage.try_root(1, HERE, Service::Kms, operation, json!({ "KeyId": key }));
    if row.disabled {
        switch("DisableKey").await.unwrap();
    }
    let call = stage.bench.call(user, HERE);
    let outcome = run_named(&call, row.service, row.operation, row.input.clone()).await;
    let _ = outcome.map_err(|error| assert!(!error.code().starts_with("Internal"), "{error}"));
    stage.settle().await;
    let told = stage.explain(&Principal::root(&account(1)), &call.request_id).await.unwrap();
    if row.disabled {
        stage.try_root(1, HERE, Service::Kms, "EnableKey", json!({ "KeyId": key })).await.unwrap();
    }
    told
}

#[tokio::test]
async fn every_failure_names_account_key_action_and_layer() {
    let mut stage = Stage::new().await;
    let key = stage.key(1, HERE).await;
    let encrypted = json!({ "Size": 1, "Encrypted": true, "KmsKeyId": key });
    let volume = stage.volume(1, HERE, encrypted.clone()).await;
    let snapshot = stage.snapshot(1, HERE, &volume).await;
    let host = stage.host(1, HERE, "h").await;
    let mut create = json!({ "AvailabilityZone": "us-east-1a" });
    crate::storage::tests::merge(&mut create, encrypted);
    let copy = json!({
        "SourceRegion": HERE, "SourceSnapshotId": snapshot, "Encrypted": true, "KmsKeyId": key,
    });
    let share = json!({
        "SnapshotId": snapshot, "CreateVolumePermission": { "Add": [{ "UserId": "222222222222" }] },
    });
    let attach = json!({ "VolumeId": volume, "InstanceId": host, "Device": "/dev/sdf" });
    let start = json!({ "VolumeSize": 1, "Encrypted": true, "KmsKeyArn": key });
    let written =
        stage.volume(1, HERE, json!({ "Size": 1, "Encrypted": true, "KmsKeyId": key })).await;
    let writer = stage.host(1, HERE, "w").await;
    stage.attach(1, HERE, &written, &writer).await;
    stage.bench.host.write(&written, 0, b"some bytes");
    let listed_of = stage.snapshot(1, HERE, &written).await;
    let listed = json!({ "SnapshotId": listed_of });
    let listed = stage.try_root(1, HERE, Service::Ebs, "ListSnapshotBlocks", listed).await.unwrap();
    let block = &listed["Blocks"][0];
    let get = json!({
        "SnapshotId": listed_of, "BlockIndex": block["BlockIndex"], "BlockToken": block["BlockToken"],
    });
    let default = json!({ "KmsKeyId": key });
    let (ec2, ebs, identity) = (Service::Ec2, Service::Ebs, "identity-based policy");
    let state = "key state";
    let row = |service, operation, input: &Value, denied, disabled, layer| Row {
        service,
        operation,
        input: input.clone(),
        denied,
        disabled,
        layer,
    };
    for row in [
        row(ec2, "CopySnapshot", &copy, "kms:DescribeKey", false, identity),
        row(ec2, "CopySnapshot", &copy, "", true, state),
        row(ec2, "CopySnapshot", &copy, "kms:CreateGrant", false, identity),
        row(ec2, "CreateVolume", &create, "kms:GenerateDataKeyWithoutPlaintext", false, identity),
        row(ec2, "CreateVolume", &create, "kms:CreateGrant", false, identity),
        row(ec2, "CreateVolume", &create, "", true, state),
        row(ec2, "ModifySnapshotAttribute", &share, "kms:ReEncryptFrom", false, identity),
        row(ec2, "AttachVolume", &attach, "kms:CreateGrant", false, identity),
        row(ec2, "AttachVolume", &attach, "", true, state),
        row(ebs, "StartSnapshot", &start, "kms:GenerateDataKey", false, identity),
        row(ebs, "StartSnapshot", &start, "", true, state),
        row(ebs, "GetSnapshotBlock", &get, "kms:Decrypt", false, identity),
        row(ebs, "GetSnapshotBlock", &get, "", true, state),
        row(ec2, "ModifyEbsDefaultKmsKeyId", &default, "kms:DescribeKey", false, identity),
    ] {
        let told = explained(&mut stage, &row, &key).await;
        for part in [&key, "account 111111111111", row.operation, row.denied, row.layer] {
            assert!(told.contains(part), "{}: no {part} in\n{told}", row.operation);
        }
        assert_eq!(told.contains("DENIED"), !row.denied.is_empty(), "{told}");
        assert!(told.contains("kms:"), "{told}");
    }
}

#[tokio::test]
async fn a_source_that_cannot_be_seen_is_explained_with_its_request() {
    let mut stage = Stage::new().await;
    let key = stage.key(1, HERE).await;
    let input = json!({ "Size": 1, "Encrypted": true, "KmsKeyId": key });
    let volume = stage.volume(1, HERE, input).await;
    let snapshot = stage.snapshot(1, HERE, &volume).await;
    let input = json!({ "SourceRegion": HERE, "SourceSnapshotId": snapshot });
    stage.ec2_at(2, HERE, "CopySnapshot", input).await;
    stage.settle().await;
    let id = stage.told(2, HERE).await;
    let told = stage.explain(&Principal::root(&account(2)), &id).await.unwrap();
    assert!(told.contains("ec2:CopySnapshot in us-east-1"), "{told}");
    assert!(told.contains("allowed  ec2:CopySnapshot"), "{told}");
    assert!(!told.contains(&key), "a source that is hidden stays hidden: {told}");
}

#[tokio::test]
async fn who_may_retire_a_grant_is_told() {
    let stage = Stage::new().await;
    let key = stage.key(1, HERE).await;
    let all = json!([{ "Effect": "Allow", "Action": "*", "Resource": "*" }]);
    let (ann, bob) = (stage.user(1, "ann", all.clone()).await, stage.user(2, "bob", all).await);
    let grant = json!({ "KeyId": key, "GranteePrincipal": bob.arn, "RetiringPrincipal": ann.arn,
        "Operations": ["Decrypt"] });
    let made = stage.try_root(1, HERE, Service::Kms, "CreateGrant", grant).await.unwrap();
    let call = stage.bench.call(bob, HERE);
    let input = json!({ "KeyId": key, "GrantId": made["GrantId"] });
    run_named(&call, Service::Kms, "RetireGrant", input).await.expect_err("he may only decrypt");
    let id = call.notes.explain_id().unwrap();
    // A key policy that allowed it would change nothing, so nobody is told to write one.
    let told = stage.explain(&Principal::root(&account(2)), id).await.unwrap();
    for part in ["layer  grant", "the grant does not allow", "its retiring principal"] {
        assert!(told.contains(part), "no {part} in\n{told}");
    }
    assert!(!told.contains("key policy") && !told.contains("user/ann"), "{told}");
    let told = stage.explain(&Principal::root(&account(1)), id).await.unwrap();
    let who = format!("is retired by whom account 111111111111 lets, and by {}", ann.arn);
    assert!(told.contains(&who), "no {who} in\n{told}");
}
