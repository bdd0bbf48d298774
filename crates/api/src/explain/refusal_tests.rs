//! Refusals that no policy decides (spec 20, C.5 and C.6): each has an id, and its explanation says whose rule it
//! is, what it wanted, what it found, and what to do.

use crate::Service;
use crate::storage::tests::{HERE, Stage, text};
use crate::testing::{account, run_named};
use ebs::settings::{self, Settings};
use ebs::visibility::PublicAccessBlock;
use iam::Principal;
use serde_json::{Value, json};

/// A request that is refused, and what its explanation says.
struct Row<'a> {
    service: Service,
    operation: &'a str,
    input: Value,
    layer: &'a str,
    /// Parts of what was found and of what to do.
    found: &'a str,
    remedy: &'a str,
}

fn row<'a>(operation: &'a str, input: Value, [layer, found, remedy]: [&'a str; 3]) -> Row<'a> {
    Row { service: Service::Ec2, operation, input, layer, found, remedy }
}

/// The lines of an explanation by their first word.
fn line<'a>(told: &'a str, name: &str) -> &'a str {
    let start = format!("  {name} ");
    told.lines()
        .find(|line| line.starts_with(&start))
        .unwrap_or_else(|| panic!("no {name} in\n{told}"))
}

impl Stage {
    /// Has a principal refused, and explains it by the id that came with the reply.
    async fn refuses(&self, who: &Principal, row: &Row<'_>) {
        let call = self.bench.call(who.clone(), HERE);
        let outcome = run_named(&call, row.service, row.operation, row.input.clone()).await;
        let error = outcome.expect_err(row.operation);
        let id = call.notes.explain_id().expect("every refusal has an id").to_owned();
        let told = self.explain(who, &id).await.unwrap();
        for (name, part) in [
            ("outcome", error.code()),
            ("layer", row.layer),
            ("found", row.found),
            ("remedy", row.remedy),
        ] {
            assert!(
                line(&told, name).contains(part),
                "{}: no {part} as {name} in\n{told}",
                row.operation
            );
        }
        assert!(line(&told, "layer").ends_with("no policy denied the call"), "{told}");
        assert!(line(&told, "wanted").len() > "  wanted   ".len(), "{told}");
        assert!(!told.contains("DENIED"), "{told}");
    }

    async fn refuses_all(&self, digit: u8, rows: Vec<Row<'_>>) {
        for row in rows {
            self.refuses(&Principal::root(&account(digit)), &row).await;
        }
    }

    async fn block_public_access(&self, block: PublicAccessBlock) {
        let region = base::Region::parse(HERE).unwrap();
        let put = move |tx: &mut meta::Tx<'_>| {
            let owner = account(1);
            let settings = settings::get(tx, &owner, &region)?;
            settings::put(tx, &owner, &region, &Settings { public_access_block: block, ..settings })
        };
        self.bench.world.db.write(put).await.unwrap();
    }
}

fn share(snapshot: &str, permission: Value) -> Value {
    json!({ "SnapshotId": snapshot, "CreateVolumePermission": permission })
}

#[tokio::test]
async fn refusals_to_share_say_whose_rule_it_is() {
    let mut stage = Stage::new().await;
    let key = stage.key(1, HERE).await;
    let plain = stage.volume(1, HERE, json!({ "Size": 1 })).await;
    let plain = stage.snapshot(1, HERE, &plain).await;
    let encrypted = stage.encrypted(&key).await;
    let encrypted = stage.snapshot(1, HERE, &encrypted).await;
    let managed = stage.volume(1, HERE, json!({ "Size": 1, "Encrypted": true })).await;
    let managed = stage.snapshot(1, HERE, &managed).await;
    stage.block_public_access(PublicAccessBlock::NewSharing).await;
    let friend = json!([{ "UserId": "222222222222" }]);
    let everybody = json!({ "Add": [{ "Group": "all" }] });
    let many: Vec<Value> = (0..501).map(|n| json!({ "UserId": format!("{n:012}") })).collect();
    let name = "ModifySnapshotAttribute";
    let rows = vec![
        row(
            name,
            share(&managed, json!({ "Add": friend })),
            ["sharing rule", "aws/ebs", "ec2:CopySnapshot"],
        ),
        row(name, share(&encrypted, everybody.clone()), ["sharing rule", &key, "by their ids"]),
        row(
            name,
            share(&plain, everybody),
            ["block public access", "block-new-sharing", "by their ids"],
        ),
        row(
            name,
            share(&plain, json!({ "Add": friend, "Remove": friend })),
            ["request", "both", "in another"],
        ),
        row(name, share(&plain, json!({ "Add": many })), ["quota", "501", "several requests"]),
        row(
            name,
            share(&plain, json!({ "Add": [{ "UserId": "alice" }] })),
            ["request", "alice", "by their id alone"],
        ),
    ];
    stage.refuses_all(1, rows).await;
    stage.share(&plain).await;
    let not_mine = row(
        name,
        share(&plain, json!({ "Add": friend })),
        ["sharing rule", "does not own it", "its owner must do it"],
    );
    stage.refuses_all(2, vec![not_mine]).await;
    stage.archived(&plain).await;
    let archived = row(
        name,
        share(&plain, json!({ "Add": friend })),
        ["resource state", "archived", "ec2:RestoreSnapshotTier"],
    );
    stage.refuses_all(1, vec![archived]).await;
}

#[tokio::test]
async fn refusals_to_copy_say_what_does_not_fit() {
    let mut stage = Stage::new().await;
    let key = stage.key(1, HERE).await;
    let volume = stage.volume(1, HERE, json!({ "Size": 1 })).await;
    let snapshot = stage.snapshot(1, HERE, &volume).await;
    let copy = |more: Value| {
        let mut input = json!({ "SourceRegion": HERE, "SourceSnapshotId": snapshot });
        crate::storage::tests::merge(&mut input, more);
        input
    };
    let under = |key: &str| copy(json!({ "Encrypted": true, "KmsKeyId": key }));
    let name = "CopySnapshot";
    let url =
        |query: &str| copy(json!({ "PresignedUrl": format!("https://ec2.example/?{query}") }));
    let again = "sign the URL anew";
    let missing =
        key.rsplit_once('/').unwrap().0.to_owned() + "/00000000-0000-0000-0000-000000000000";
    let rows = vec![
        row(
            name,
            copy(json!({ "CompletionDurationMinutes": 20 })),
            ["request", "20", "round it up"],
        ),
        row(
            name,
            copy(json!({ "DestinationRegion": "eu-west-1" })),
            ["request", "eu-west-1", "endpoint of"],
        ),
        row(
            name,
            copy(json!({ "SourceRegion": "ap-south-2" })),
            ["request", "ap-south-2", "ec2:DescribeRegions"],
        ),
        row(name, copy(json!({ "PresignedUrl": "ftp://x" })), ["request", "ftp", again]),
        row(name, url("SourceSnapshotId=snap-1"), ["request", "snap-1", again]),
        row(name, url("DestinationRegion=eu-west-1"), ["request", "eu-west-1", again]),
        row(name, under(&missing), ["visibility", "does not exist", "name a key that exists"]),
        row(name, copy(json!({ "KmsKeyId": key })), ["request", "without it", "Encrypted=true"]),
    ];
    stage.refuses_all(1, rows).await;
    stage.kms(1, HERE, "DisableKey", json!({ "KeyId": key })).await;
    let disabled = row(name, under(&key), ["key state", "is disabled", "kms:EnableKey"]);
    stage.refuses_all(1, vec![disabled]).await;
    let ending = json!({ "KeyId": key, "PendingWindowInDays": 7 });
    stage.kms(1, HERE, "ScheduleKeyDeletion", ending).await;
    let ending =
        row(name, under(&key), ["key state", "is pending deletion", "kms:CancelKeyDeletion"]);
    stage.refuses_all(1, vec![ending]).await;
    for _ in 0..20 {
        stage.ec2(name, copy(json!({}))).await;
    }
    let full = row(name, copy(json!({})), ["quota", "has 20", "wait until one has ended"]);
    stage.refuses_all(1, vec![full]).await;
}

#[tokio::test]
async fn a_copy_that_cannot_come_about_says_so_at_once() {
    let mut stage = Stage::new().await;
    let volume = stage.volume(1, HERE, json!({ "Size": 1 })).await;
    let snapshot = stage.snapshot(1, HERE, &volume).await;
    let pending = stage.ec2("CreateSnapshot", json!({ "VolumeId": volume })).await;
    let pending = text(&pending, "SnapshotId");
    for (digit, source, layer, seen, found, remedy) in [
        (
            2,
            &snapshot,
            "visibility",
            "Source snapshot is not found",
            "is not shared",
            "its owner must share it",
        ),
        (
            1,
            &pending,
            "resource state",
            "Source snapshot is not complete",
            "pending",
            "then copy again",
        ),
    ] {
        let who = Principal::root(&account(digit));
        let call = stage.bench.call(who.clone(), HERE);
        let input = json!({ "SourceRegion": HERE, "SourceSnapshotId": source });
        run_named(&call, Service::Ec2, "CopySnapshot", input).await.expect("it is accepted");
        let told = stage.explain(&who, call.notes.explain_id().unwrap()).await.unwrap();
        for (name, part) in
            [("later", seen), ("layer", layer), ("found", found), ("remedy", remedy)]
        {
            assert!(line(&told, name).contains(part), "no {part} as {name} in\n{told}");
        }
        assert!(told.contains("allowed  ec2:CopySnapshot"), "{told}");
    }
    // What can be copied is told of nothing.
    let who = Principal::root(&account(1));
    let call = stage.bench.call(who.clone(), HERE);
    let input = json!({ "SourceRegion": HERE, "SourceSnapshotId": snapshot });
    run_named(&call, Service::Ec2, "CopySnapshot", input).await.unwrap();
    let told = stage.explain(&who, call.notes.explain_id().unwrap()).await.unwrap();
    assert!(!told.contains("  later ") && !told.contains("  remedy "), "{told}");
}

#[tokio::test]
async fn refusals_of_states_and_of_what_is_not_there_say_what_to_do() {
    let mut stage = Stage::new().await;
    let key = stage.key(1, HERE).await;
    let volume = stage.encrypted(&key).await;
    let (host, other) = (stage.host(1, HERE, "h").await, stage.host(1, HERE, "o").await);
    stage.attach(1, HERE, &volume, &host).await;
    let second = stage.encrypted(&key).await;
    let pending = stage.ec2("CreateSnapshot", json!({ "VolumeId": volume })).await;
    let pending = text(&pending, "SnapshotId");
    let attach = |volume: &str, host: &str, device: &str| json!({ "VolumeId": volume, "InstanceId": host, "Device": device });
    let of = |snapshot: &str| json!({ "AvailabilityZone": "us-east-1a", "SnapshotId": snapshot });
    let device = stage.describe_volume(1, HERE, &volume).await["Attachments"][0]["Device"].clone();
    let device = device.as_str().unwrap().to_owned();
    let nowhere = "snap-0123456789abcdef0";
    let rows = vec![
        row("CreateVolume", of(nowhere), ["visibility", nowhere, "must be shared"]),
        row("CreateVolume", of(&pending), ["resource state", "'pending'", "wait until"]),
        row(
            "AttachVolume",
            attach(&volume, &other, "/dev/sdf"),
            ["resource state", &volume, "ec2:DetachVolume"],
        ),
        row(
            "AttachVolume",
            attach(&second, &host, &device),
            ["resource state", &device, "another device"],
        ),
        row(
            "AttachVolume",
            attach("vol-0123456789abcdef0", &host, "/dev/sdf"),
            ["visibility", "vol-", "region"],
        ),
        Row {
            service: Service::Ebs,
            ..row(
                "ListSnapshotBlocks",
                json!({ "SnapshotId": nowhere }),
                ["visibility", nowhere, "region"],
            )
        },
    ];
    stage.refuses_all(1, rows).await;
    stage.kms(1, HERE, "DisableKey", json!({ "KeyId": key })).await;
    let start = json!({ "VolumeSize": 1, "Encrypted": true, "KmsKeyArn": key });
    let encrypt = json!({ "KeyId": key, "Plaintext": "x" });
    let enabled = |service, operation, input| Row {
        service,
        ..row(operation, input, ["key state", "is disabled", "account 111111111111 must enable it"])
    };
    let rows = vec![
        enabled(Service::Ec2, "AttachVolume", attach(&second, &host, "/dev/sdz")),
        enabled(Service::Ebs, "StartSnapshot", start),
        enabled(Service::Kms, "Encrypt", encrypt),
    ];
    stage.refuses_all(1, rows).await;
}

/// Whose key it is, is told to who asked; a viewer of another account sees whose rule it was and no more.
#[tokio::test]
async fn what_was_found_is_told_to_the_callers_account_alone() {
    let stage = Stage::new().await;
    let key = stage.key(1, HERE).await;
    stage.lend(&key, &["kms:Encrypt"]).await;
    stage.kms(1, HERE, "DisableKey", json!({ "KeyId": key })).await;
    let caller = Principal::root(&account(2));
    let call = stage.bench.call(caller.clone(), HERE);
    let input = json!({ "KeyId": key, "Plaintext": "x" });
    run_named(&call, Service::Kms, "Encrypt", input).await.expect_err("disabled");
    let id = call.notes.explain_id().unwrap();
    let told = stage.explain(&caller, id).await.unwrap();
    assert!(line(&told, "remedy").contains("account 111111111111 must enable it"), "{told}");
    let told = stage.explain(&Principal::root(&account(1)), id).await.unwrap();
    assert!(line(&told, "layer").contains("key"), "{told}");
    assert!(!told.contains("  found ") && !told.contains("  remedy "), "{told}");
}

/// A preflight foresees such a refusal with the rule behind it, and shows no table where nothing was decided.
#[tokio::test]
async fn a_preflight_names_the_rule_that_would_refuse() {
    let mut stage = Stage::new().await;
    let key = stage.key(1, HERE).await;
    let volume = stage.encrypted(&key).await;
    let snapshot = stage.snapshot(1, HERE, &volume).await;
    let asked = |operation: &'static str, parameters: Value| {
        let input = json!({ "Service": "ec2", "Operation": operation, "Parameters": parameters.to_string() });
        stage.try_root(1, HERE, Service::Strongroom, "Preflight", input)
    };
    let shared = share(&snapshot, json!({ "Add": [{ "Group": "all" }] }));
    let reply = asked("ModifySnapshotAttribute", shared).await.unwrap();
    let told = text(&reply, "Text");
    assert!(line(&told, "remedy").contains("by their ids"), "{told}");
    let document: Value = serde_json::from_str(&text(&reply, "Preflight")).unwrap();
    assert!(text(&document["ending"], "found").contains(&key), "{document:#}");
    let copy = json!({ "SourceRegion": HERE, "SourceSnapshotId": snapshot, "CompletionDurationMinutes": 20 });
    let told = text(&asked("CopySnapshot", copy).await.unwrap(), "Text");
    assert!(line(&told, "remedy").contains("round it up"), "{told}");
    assert!(!told.contains("verdict"), "there is no table: {told}");
}

/// Whatever else fails has an id as well, and says in the service's words what was wrong.
#[tokio::test]
async fn a_request_that_fails_before_anything_is_decided_has_an_id() {
    let stage = Stage::new().await;
    let root = Principal::root(&account(1));
    let call = stage.bench.call(root.clone(), HERE);
    let input = json!({ "AvailabilityZone": "us-east-1a", "Size": 1, "VolumeType": "gp9" });
    run_named(&call, Service::Ec2, "CreateVolume", input).await.expect_err("no such type");
    let told = stage.explain(&root, call.notes.explain_id().unwrap()).await.unwrap();
    assert!(line(&told, "outcome").contains("gp9"), "{told}");
    assert!(line(&told, "layer").contains("request"), "{told}");
}
