//! Which KMS calls each storage operation makes, in whose name and context (spec 20, §C.3 and §D.1).

use super::{HERE, Stage, THERE, text};
use crate::Service;
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
    let front = "Root ec2-frontend-api.amazonaws.com";
    let copier = "prod.kms-caller.ebs.eu-west-1.amazonaws.com";
    let expected = [
        format!("DescribeKey {front} -"),
        format!("GenerateDataKeyWithoutPlaintext {front} {copy}"),
        format!("CreateGrant {front} {copy}"),
        format!("Decrypt AWSService {copier} {copy}"),
        format!("RetireGrant AWSService {copier} -"),
    ];
    assert_eq!(stage.kms_calls(1, THERE, &mut there).await, sorted(expected));
    // The source's context is the volume's, as CreateSnapshot left it.
    let expected = [
        format!("CreateGrant Root {copier} {volume}"),
        format!("Decrypt AWSService {copier} {volume}"),
        format!("RetireGrant AWSService {copier} -"),
    ];
    assert_eq!(stage.kms_calls(1, HERE, &mut here).await, sorted(expected));
}
