//! Which KMS calls each storage operation makes, in whose name and context (spec 20, §C.3 and §D.1).

use super::{HERE, Stage, THERE, text};
use crate::Service;
use lifecycle::jobs::Places;
use serde_json::{Value, json};
use std::collections::BTreeSet;

impl Stage {
    /// The KMS calls an account's trail has in a region beyond those in `seen`, each as `operation
    /// who context`, sorted: the bench's clock stands still within a step, so the trail has no order.
    pub(super) async fn kms_calls(
        &self,
        digit: u8,
        at: &str,
        seen: &mut BTreeSet<String>,
    ) -> Vec<String> {
        let attribute =
            json!({ "AttributeKey": "EventSource", "AttributeValue": "kms.amazonaws.com" });
        let input = json!({ "LookupAttributes": [attribute], "MaxResults": 50 });
        let reply = self.try_root(digit, at, Service::CloudTrail, "LookupEvents", input).await;
        let reply = reply.unwrap();
        let mut calls = Vec::new();
        for event in reply["Events"].as_array().unwrap() {
            if seen.insert(text(event, "EventId")) {
                let record = serde_json::from_str(&text(event, "CloudTrailEvent")).unwrap();
                calls.push(show(&record));
            }
        }
        calls.sort();
        calls
    }
}

/// Sorted, as [`Stage::kms_calls`] answers.
fn sorted<const N: usize>(mut calls: [String; N]) -> [String; N] {
    calls.sort();
    calls
}

fn show(call: &Value) -> String {
    let identity = &call["userIdentity"];
    let kind = identity["type"].as_str().unwrap_or_default();
    let invoked_by = identity["invokedBy"].as_str().unwrap_or("direct");
    let parameters = &call["requestParameters"];
    let context = [
        &parameters["encryptionContext"],
        &parameters["destinationEncryptionContext"],
        &parameters["constraints"]["encryptionContextSubset"],
        &parameters["constraints"]["encryptionContextEquals"],
    ];
    let context = context.into_iter().find_map(|context| context["aws:ebs:id"].as_str());
    let outcome = call["errorCode"].as_str().map(|code| format!(" {code}")).unwrap_or_default();
    format!(
        "{} {kind} {invoked_by} {}{outcome}",
        call["eventName"].as_str().unwrap_or_default(),
        context.unwrap_or("-"),
    )
}

#[tokio::test]
async fn every_operation_makes_the_calls_of_its_row() {
    let mut stage = Stage::new().await;
    let (key, other) = (stage.key(1, HERE).await, stage.key(1, HERE).await);
    let host = stage.host(1, HERE, "a").await;
    let mut seen = BTreeSet::new();
    stage.kms_calls(1, HERE, &mut seen).await;
    let front = "Root ec2-frontend-api.amazonaws.com";

    let encrypted = json!({ "Size": 1, "Encrypted": true, "KmsKeyId": key });
    let volume = stage.volume(1, HERE, encrypted).await;
    let expected = [
        format!("GenerateDataKeyWithoutPlaintext {front} {volume}"),
        format!("CreateGrant {front} {volume}"),
        format!("Decrypt AWSService ebs.amazonaws.com {volume}"),
        "RetireGrant AWSService ebs.amazonaws.com -".to_owned(),
    ];
    assert_eq!(stage.kms_calls(1, HERE, &mut seen).await, sorted(expected), "blank");

    stage.attach(1, HERE, &volume, &host).await;
    let expected = [
        format!("CreateGrant {front} {volume}"),
        format!("Decrypt AssumedRole AWS Internal {volume}"),
    ];
    assert_eq!(stage.kms_calls(1, HERE, &mut seen).await, sorted(expected), "attach");

    let snapshot = stage.snapshot(1, HERE, &volume).await;
    let none: [&str; 0] = [];
    assert_eq!(stage.kms_calls(1, HERE, &mut seen).await, none, "snapshot");

    stage.ec2("DetachVolume", json!({ "VolumeId": volume })).await;
    let expected = ["RetireGrant AWSService ebs.amazonaws.com -".to_owned()];
    assert_eq!(stage.kms_calls(1, HERE, &mut seen).await, sorted(expected), "detach");

    let same = stage.volume(1, HERE, json!({ "SnapshotId": snapshot })).await;
    let expected = [format!("ReEncrypt {front} {same}")];
    assert_eq!(stage.kms_calls(1, HERE, &mut seen).await, sorted(expected), "same key");

    let extra = json!({ "SnapshotId": snapshot, "Encrypted": true, "KmsKeyId": other });
    let changed = stage.volume(1, HERE, extra).await;
    let expected = [
        format!("ReEncrypt {front} {changed}"),
        format!("GenerateDataKeyWithoutPlaintext {front} {changed}"),
        format!("CreateGrant {front} {changed}"),
        format!("Decrypt AWSService ebs.amazonaws.com {changed}"),
        format!("Decrypt AWSService ebs.amazonaws.com {changed}"),
        "RetireGrant AWSService ebs.amazonaws.com -".to_owned(),
    ];
    assert_eq!(stage.kms_calls(1, HERE, &mut seen).await, sorted(expected), "other key");
}

/// The KMS calls of a copy of a snapshot of `volume`, there and here.
fn calls_of_copy(volume: &str, copy: &str) -> ([String; 5], [String; 3]) {
    let front = "Root ec2-frontend-api.amazonaws.com";
    let copier = "prod.kms-caller.ebs.eu-west-1.amazonaws.com";
    let there = [
        format!("DescribeKey {front} -"),
        format!("GenerateDataKeyWithoutPlaintext {front} {copy}"),
        format!("CreateGrant {front} {copy}"),
        format!("Decrypt AWSService {copier} {copy}"),
        format!("RetireGrant AWSService {copier} -"),
    ];
    // The source's context is the volume's, as CreateSnapshot left it.
    let here = [
        format!("CreateGrant Root {copier} {volume}"),
        format!("Decrypt AWSService {copier} {volume}"),
        format!("RetireGrant AWSService {copier} -"),
    ];
    (sorted(there), sorted(here))
}

#[tokio::test]
async fn a_copy_makes_the_calls_of_its_row() {
    let mut stage = Stage::new().await;
    let (key, own_key) = (stage.key(1, HERE).await, stage.key(1, THERE).await);
    let volume =
        stage.volume(1, HERE, json!({ "Size": 1, "Encrypted": true, "KmsKeyId": key })).await;
    let snapshot = stage.snapshot(1, HERE, &volume).await;
    let (mut here, mut there) = (BTreeSet::new(), BTreeSet::new());
    stage.kms_calls(1, HERE, &mut here).await;
    stage.kms_calls(1, THERE, &mut there).await;
    let input = json!({
        "SourceRegion": HERE, "SourceSnapshotId": snapshot, "Encrypted": true, "KmsKeyId": own_key,
    });
    let copy = text(&stage.ec2_at(1, THERE, "CopySnapshot", input).await, "SnapshotId");
    stage.settle().await;
    let (expected_there, expected_here) = calls_of_copy(&volume, &copy);
    assert_eq!(stage.kms_calls(1, THERE, &mut there).await, expected_there);
    assert_eq!(stage.kms_calls(1, HERE, &mut here).await, expected_here);
}

/// Two copies that take turns in one place open their keys once.
#[tokio::test]
async fn copies_in_turns_make_the_calls_of_their_rows_once() {
    let mut stage = Stage::new().await;
    let (key, own_key) = (stage.key(1, HERE).await, stage.key(1, THERE).await);
    let host = stage.host(1, HERE, "a").await;
    let mut sources = Vec::new();
    for stamp in 1..3 {
        let encrypted = json!({ "Size": 1, "Encrypted": true, "KmsKeyId": key });
        let volume = stage.volume(1, HERE, encrypted).await;
        stage.attach(1, HERE, &volume, &host).await;
        stage.bench.host.write(&volume, 0, &[stamp; 4096]);
        let snapshot = stage.snapshot(1, HERE, &volume).await;
        stage.ec2("DetachVolume", json!({ "VolumeId": volume })).await;
        stage.settle().await;
        sources.push((volume, snapshot));
    }
    let (mut here, mut there) = (BTreeSet::new(), BTreeSet::new());
    stage.kms_calls(1, HERE, &mut here).await;
    stage.kms_calls(1, THERE, &mut there).await;
    let mut copies = Vec::new();
    for (volume, snapshot) in &sources {
        let input = json!({
            "SourceRegion": HERE, "SourceSnapshotId": snapshot, "Encrypted": true,
            "KmsKeyId": own_key,
        });
        let copy = stage.ec2_at(1, THERE, "CopySnapshot", input).await;
        copies.push((volume, text(&copy, "SnapshotId")));
        stage.bench.clock.advance_seconds(1);
    }
    let places = Places { turn_seconds: 0, steps: 1, movers: 1, collections: 1 };
    let kinds = lifecycle::kinds::kinds(&stage.bench.world.services);
    stage.runner = stage.bench.runner_with(kinds, places);
    for (_, copy) in &copies {
        assert_eq!(stage.runner.tick().await, Ok(1));
        stage.runner.join_next().await;
        assert!(stage.has_checkpoint(copy).await, "its first turn is over");
        stage.bench.clock.advance_seconds(1);
    }
    stage.settle().await;
    let (mut expected_there, mut expected_here) = (Vec::new(), Vec::new());
    for (volume, copy) in &copies {
        assert_eq!(stage.describe_snapshot(1, THERE, copy).await["State"], "completed");
        let (there, here) = calls_of_copy(volume, copy);
        expected_there.extend(there);
        expected_here.extend(here);
    }
    expected_there.sort();
    expected_here.sort();
    assert_eq!(stage.kms_calls(1, THERE, &mut there).await, expected_there);
    assert_eq!(stage.kms_calls(1, HERE, &mut here).await, expected_here);
}
