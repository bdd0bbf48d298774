//! Decisions are written down with the calls they decided, and lead from a failure to its reason.

use super::{HERE, Stage, text};
use crate::Service;
use crate::decided::{DecisionId, Decisions, Mode};
use crate::testing::{account, region, run_named};
use events::Record;
use iam::{Layer, Principal, Reason};
use serde_json::{Value, json};

impl Stage {
    /// The record that a decision's id names, as it is kept.
    async fn kept(&self, id: &str, at: &str) -> Record {
        let DecisionId { account, event_id, .. } = DecisionId::parse(id).expect("an id of ours");
        let at = region(at);
        let read = move |tx: &mut meta::Tx<'_>| events::stored(tx, &account, &at, &event_id);
        self.bench.world.db.read(read).await.unwrap().expect("a record")
    }

    /// The newest event of a bus that names an explanation: the id.
    pub(crate) async fn told(&self, digit: u8, at: &str) -> String {
        let (account, at) = (account(digit), region(at));
        let read = move |tx: &mut meta::Tx<'_>| events::list_events(tx, &account, &at, None, 1000);
        let events = self.bench.world.db.read(read).await.unwrap();
        let id = |event: &events::ServiceEvent| {
            event.detail().get("explain-id").and_then(Value::as_str).map(str::to_owned)
        };
        events.iter().rev().find_map(|(_, event)| id(event)).expect("an event with an id")
    }
}

fn decisions(record: &Record) -> Decisions {
    serde_json::from_str(record.decisions().expect("kept")).expect("decisions")
}

/// A copy between accounts whose owner forgot `kms:CreateGrant`; answers the copy.
async fn refused_copy(stage: &mut Stage) -> (String, String) {
    let (key, own_key) = (stage.key(1, HERE).await, stage.key(2, HERE).await);
    let volume =
        stage.volume(1, HERE, json!({ "Size": 1, "Encrypted": true, "KmsKeyId": key })).await;
    let snapshot = stage.snapshot(1, HERE, &volume).await;
    stage.share(&snapshot).await;
    stage.lend(&key, &["kms:DescribeKey"]).await;
    let input = json!({
        "SourceRegion": HERE, "SourceSnapshotId": snapshot, "Encrypted": true, "KmsKeyId": own_key,
    });
    let copy = text(&stage.ec2_at(2, HERE, "CopySnapshot", input).await, "SnapshotId");
    stage.settle().await;
    (copy, key)
}

#[tokio::test]
async fn a_copy_that_fails_later_names_the_decision() {
    let mut stage = Stage::new().await;
    let (copy, key) = refused_copy(&mut stage).await;
    let shown = stage.describe_snapshot(2, HERE, &copy).await;
    assert_eq!(shown["StateMessage"], "Given key ID is not accessible");

    let id = stage.told(2, HERE).await;
    let mut asking = stage.bench.root(&account(2), HERE);
    asking.explain = crate::Explain::Full;
    let input = json!({ "SnapshotIds": [copy] });
    let shown = run_named(&asking, Service::Ec2, "DescribeSnapshots", input).await.unwrap();
    let expected = format!("Given key ID is not accessible (explain-id {id})");
    assert_eq!(shown["Snapshots"][0]["StateMessage"], expected);

    let record = stage.kept(&id, HERE).await;
    let decisions = decisions(&record);
    assert_eq!(decisions.mode, Mode::Native);
    assert_eq!(decisions.denied(), Some(1));
    assert_eq!(decisions.origin.via_service.as_deref(), Some("ec2.us-east-1.amazonaws.com"));
    assert!(decisions.origin.cause.is_some());
    let denied = decisions.asks.last().expect("a denial");
    assert_eq!((denied.action.as_str(), &denied.resource), ("kms:CreateGrant", &key));
    assert_eq!(denied.reason, Reason::ImplicitDeny(Layer::Resource));
    let policies = &denied.trace.as_ref().expect("what was looked at").policies;
    assert!(policies.iter().any(|policy| policy.layer == Layer::Resource));
}

#[tokio::test]
async fn what_a_reader_of_the_trail_sees_quotes_no_policy() {
    let mut stage = Stage::new().await;
    let (_, key) = refused_copy(&mut stage).await;
    for digit in [1, 2] {
        let reply = stage.try_root(digit, HERE, Service::CloudTrail, "LookupEvents", json!({}));
        let reply = reply.await.unwrap();
        for event in reply["Events"].as_array().unwrap() {
            let record = text(event, "CloudTrailEvent");
            assert!(!record.contains("strongroomDecisions"), "{record}");
            let record: Value = serde_json::from_str(&record).unwrap();
            let id = record["additionalEventData"]["explainId"].as_str();
            // Whoever was called by nobody has decided nothing.
            assert_eq!(id.is_some(), record["eventType"] == "AwsApiCall", "{record}");
        }
    }
    // A copy of the record for the key's owner leads to the decision in the caller's trail.
    stage.try_root(2, HERE, Service::Kms, "DescribeKey", json!({ "KeyId": key })).await.unwrap();
    let mut copies = 0;
    let (one, here) = (account(1), region(HERE));
    let read =
        move |tx: &mut meta::Tx<'_>| events::decided(tx, &one, &here, base::Timestamp(0), 1000);
    for record in stage.bench.world.db.read(read).await.unwrap() {
        let of_two = record.explain_id().is_some_and(|id| id.starts_with("d-222222222222-"));
        if of_two && record.resources().iter().any(|resource| resource.arn == key) {
            assert!(record.decisions().is_none(), "{record:?}");
            copies += 1;
        }
    }
    assert_eq!(copies, 1);
}

#[tokio::test]
async fn ec2_by_itself_says_what_it_works_for() {
    let mut stage = Stage::new().await;
    let key = stage.key(1, HERE).await;
    let encrypted = json!({ "Size": 1, "Encrypted": true, "KmsKeyId": key });
    let volume = stage.volume(1, HERE, encrypted.clone()).await;
    let (one, here) = (account(1), region(HERE));
    let read =
        move |tx: &mut meta::Tx<'_>| events::decided(tx, &one, &here, base::Timestamp(0), 1000);
    let mut sources = Vec::new();
    for record in stage.bench.world.db.read(read).await.unwrap() {
        if record.event_name() == "Decrypt" {
            sources.push(decisions(&record).origin.source_arn.expect("a resource"));
        }
    }
    assert_eq!(sources, [format!("arn:aws:ec2:us-east-1:111111111111:volume/{volume}")]);

    // The key policy sees it.
    let policy = |like: &str| {
        json!({ "Version": "2012-10-17", "Statement": [
            { "Effect": "Allow", "Principal": { "AWS": "111111111111" }, "Action": "kms:*",
              "Resource": "*" },
            { "Effect": "Deny", "Principal": { "Service": "ec2.us-east-1.amazonaws.com" },
              "Action": "kms:Decrypt", "Resource": "*", "Condition": {
                  "ArnLike": { "aws:SourceArn": like },
                  "StringEquals": { "aws:SourceAccount": "111111111111" } } }] })
    };
    for (like, made) in [("arn:aws:ec2:*:*:snapshot/*", true), ("arn:aws:ec2:*:*:volume/*", false)]
    {
        let put = json!({ "KeyId": key, "Policy": policy(like).to_string() });
        stage.try_root(1, HERE, Service::Kms, "PutKeyPolicy", put).await.unwrap();
        let mut input = encrypted.clone();
        input["AvailabilityZone"] = json!("us-east-1a");
        let id = text(&stage.ec2("CreateVolume", input).await, "VolumeId");
        stage.settle().await;
        let found = json!({ "VolumeIds": [id] });
        let shown = stage.try_root(1, HERE, Service::Ec2, "DescribeVolumes", found).await;
        assert_eq!(shown.is_ok(), made, "{like}: {shown:?}");
    }
}

#[tokio::test]
async fn an_allowed_call_keeps_what_allowed_it() {
    let stage = Stage::new().await;
    let key = stage.key(1, HERE).await;
    let call = stage.bench.call(Principal::root(&account(1)), HERE);
    run_named(&call, Service::Kms, "DescribeKey", json!({ "KeyId": key })).await.unwrap();
    let id = call.notes.explain_id().expect("an id");
    let decisions = decisions(&stage.kept(id, HERE).await);
    assert_eq!(decisions.denied(), None);
    let [allowed] = &decisions.asks[..] else { panic!("{decisions:?}") };
    assert_eq!(allowed.action, "kms:DescribeKey");
    assert_eq!(allowed.reason, Reason::AllowedAsRoot);
    assert!(allowed.trace.is_none());
    assert!(allowed.context.get("kms:KeyUsage").is_some());
}

#[tokio::test]
async fn grants_that_do_not_fit_say_why() {
    let stage = Stage::new().await;
    let key = stage.key(1, HERE).await;
    let nothing = json!([{ "Effect": "Allow", "Action": "iam:*", "Resource": "*" }]);
    let user = stage.user(1, "ann", nothing).await;
    let grant = |operations: Value, context: &str| {
        let equals = json!({ "EncryptionContextEquals": { "aws:ebs:id": context } });
        let base = json!({ "KeyId": key, "GranteePrincipal": user.arn, "Operations": operations });
        let mut input = base;
        super::merge(&mut input, json!({ "Constraints": equals }));
        stage.try_root(1, HERE, Service::Kms, "CreateGrant", input)
    };
    grant(json!(["Decrypt"]), "vol-a").await.unwrap();
    grant(json!(["GenerateDataKey"]), "vol-a").await.unwrap();
    let call = stage.bench.call(user.clone(), HERE);
    let input = json!({
        "KeyId": key, "NumberOfBytes": 64, "EncryptionContext": { "aws:ebs:id": "vol-b" },
    });
    let error = run_named(&call, Service::Kms, "GenerateDataKey", input).await.expect_err("denied");
    assert_eq!(error.code(), "AccessDeniedException");
    let id = call.notes.explain_id().expect("an id");
    assert!(id.ends_with("-1"), "{id}");
    let decisions = decisions(&stage.kept(id, HERE).await);
    let missed = serde_json::to_value(&decisions.asks[0].missed).unwrap();
    let reasons: Vec<&Value> = missed.as_array().unwrap().iter().map(|m| &m["why"]).collect();
    assert!(reasons.contains(&&json!({ "Operation": { "granted": ["Decrypt"] } })), "{missed}");
    let context = json!({ "Context": {
        "wanted": { "equals": { "aws:ebs:id": "vol-a" } }, "found": { "aws:ebs:id": "vol-b" },
    } });
    assert!(reasons.contains(&&context), "{missed}");
}
