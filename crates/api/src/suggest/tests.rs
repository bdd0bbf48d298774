//! A suggestion is enough, and nothing in it is superfluous.

use crate::preflight::rehearse;
use crate::storage::tests::{HERE, Stage, text};
use crate::testing::{account, from_json};
use crate::{Enforcement, Service, registry};
use iam::Principal;
use serde_json::{Value, json};

/// A snapshot shared with account 222…, whose user may do what the suggestion says.
struct Shared {
    stage: Stage,
    user: Principal,
    key: String,
    suggestion: Value,
    operation: &'static str,
    input: Value,
}

async fn shared(purpose: &str, mode: Enforcement) -> Shared {
    let mut stage = Stage::with(mode).await;
    let (key, own_key) = (stage.key(1, HERE).await, stage.key(2, HERE).await);
    let volume =
        stage.volume(1, HERE, json!({ "Size": 1, "Encrypted": true, "KmsKeyId": key })).await;
    let snapshot = stage.snapshot(1, HERE, &volume).await;
    let input = json!({
        "SnapshotId": snapshot, "Recipient": "222222222222", "Purpose": purpose,
        "TargetKeyId": own_key,
    });
    let reply = stage.try_root(1, HERE, Service::Strongroom, "SuggestPolicy", input).await.unwrap();
    let suggestion: Value = serde_json::from_str(&text(&reply, "Suggestion")).unwrap();
    stage.ec2("ModifySnapshotAttribute", suggestion["snapshotAttribute"].clone()).await;
    let user = stage.user(2, "bob", suggestion["identityPolicy"]["Statement"].clone()).await;
    let (operation, input) = match purpose {
        "copy" => (
            "CopySnapshot",
            json!({ "SourceRegion": HERE, "SourceSnapshotId": snapshot, "Encrypted": true,
                    "KmsKeyId": own_key }),
        ),
        _ => (
            "CreateVolume",
            json!({ "AvailabilityZone": format!("{HERE}a"), "SnapshotId": snapshot,
                    "Encrypted": true, "KmsKeyId": own_key }),
        ),
    };
    Shared { stage, user, key, suggestion, operation, input }
}

impl Shared {
    /// Puts both policies in force.
    async fn apply(&self, suggestion: &Value) {
        let mut statements = vec![json!({
            "Effect": "Allow", "Principal": { "AWS": "arn:aws:iam::111111111111:root" },
            "Action": "kms:*", "Resource": "*",
        })];
        statements.extend(suggestion["keyPolicyStatements"].as_array().unwrap().iter().cloned());
        let policy = json!({ "Version": "2012-10-17", "Statement": statements }).to_string();
        let input = json!({ "KeyId": self.key, "Policy": policy });
        self.stage.try_root(1, HERE, Service::Kms, "PutKeyPolicy", input).await.unwrap();
        let document = suggestion["identityPolicy"].to_string();
        let input = json!({ "UserName": "bob", "PolicyName": "p", "PolicyDocument": document });
        self.stage.try_root(2, HERE, Service::Iam, "PutUserPolicy", input).await.unwrap();
    }

    /// Whether a preflight says that it works, and whether it does.
    async fn works(&mut self) -> (bool, bool) {
        let call = self.stage.bench.call(self.user.clone(), HERE);
        let operation = registry::find(Service::Ec2, self.operation).unwrap();
        let input = from_json(operation.info().input, &self.input);
        let foretold = rehearse(&call, operation, input).await.unwrap();
        let asked = (self.user.clone(), self.input.clone());
        let done = self.stage.try_as(asked.0, HERE, Service::Ec2, self.operation, asked.1).await;
        let Ok(reply) = done else { return (foretold.allowed == Some(true), false) };
        self.stage.settle().await;
        let (name, member, state) = match self.operation {
            "CopySnapshot" => ("DescribeSnapshots", "SnapshotIds", ("Snapshots", "completed")),
            _ => ("DescribeVolumes", "VolumeIds", ("Volumes", "available")),
        };
        let id = reply.get("SnapshotId").filter(|_| self.operation == "CopySnapshot");
        let id = id.unwrap_or(&reply["VolumeId"]).clone();
        let root = Principal::root(&account(2));
        let shown =
            self.stage.try_as(root, HERE, Service::Ec2, name, json!({ member: [id] })).await;
        let done = shown.is_ok_and(|shown| shown[state.0][0]["State"] == state.1);
        (foretold.allowed == Some(true), done)
    }
}

/// Every action of a list of statements: the place of the statement and of the action.
fn places(statements: &Value) -> Vec<(usize, usize)> {
    let statements = statements.as_array().unwrap().iter().enumerate();
    statements
        .flat_map(|(at, statement)| {
            (0..statement["Action"].as_array().unwrap().len()).map(move |action| (at, action))
        })
        .collect()
}

/// The suggestion without one action; a statement without actions goes with its last.
fn without(suggestion: &Value, pointer: &str, (at, action): (usize, usize)) -> Value {
    let mut less = suggestion.clone();
    let statements = less.pointer_mut(pointer).unwrap().as_array_mut().unwrap();
    let actions = statements[at]["Action"].as_array_mut().unwrap();
    actions.remove(action);
    if actions.is_empty() {
        statements.remove(at);
    }
    less
}

async fn is_minimal(purpose: &str, mode: Enforcement, actions: usize) {
    let mut shared = shared(purpose, mode).await;
    let suggestion = shared.suggestion.clone();
    let mut kms = 0;
    for pointer in ["/keyPolicyStatements", "/identityPolicy/Statement"] {
        for place in places(suggestion.pointer(pointer).unwrap()) {
            let less = without(&suggestion, pointer, place);
            shared.apply(&less).await;
            let works = shared.works().await;
            assert_eq!(works, (false, false), "{purpose} {mode:?} {pointer} {place:?}: {less:#}");
            let action = &suggestion.pointer(pointer).unwrap()[place.0]["Action"][place.1];
            let of_identity = pointer.starts_with("/identity");
            kms += usize::from(of_identity && action.as_str().unwrap().starts_with("kms:"));
        }
    }
    assert_eq!(kms, actions, "{suggestion:#}");
    // Last, because a copy that continues an earlier one needs less.
    shared.apply(&suggestion).await;
    assert_eq!(shared.works().await, (true, true), "{purpose} {mode:?}: {suggestion:#}");
}

#[tokio::test]
async fn a_copy_needs_four_permissions_or_nine() {
    is_minimal("copy", Enforcement::Native, 4).await;
    is_minimal("copy", Enforcement::Documented, 9).await;
}

#[tokio::test]
async fn a_restore_needs_four_permissions_or_seven() {
    is_minimal("restore", Enforcement::Native, 4).await;
    is_minimal("restore", Enforcement::Documented, 7).await;
}

#[tokio::test]
async fn grants_are_for_ec2_alone() {
    let shared = shared("copy", Enforcement::Native).await;
    shared.apply(&shared.suggestion).await;
    // The same permission does not let the user make a grant itself.
    let input = json!({
        "KeyId": shared.key, "GranteePrincipal": shared.user.arn, "Operations": ["Decrypt"],
    });
    let made = shared.stage.try_as(shared.user.clone(), HERE, Service::Kms, "CreateGrant", input);
    assert!(made.await.unwrap_err().starts_with("AccessDeniedException"));
}

#[tokio::test]
async fn a_launch_by_auto_scaling_has_its_role_granted() {
    let mut stage = Stage::new().await;
    let key = stage.key(1, HERE).await;
    let volume =
        stage.volume(1, HERE, json!({ "Size": 1, "Encrypted": true, "KmsKeyId": key })).await;
    let snapshot = stage.snapshot(1, HERE, &volume).await;
    let input = json!({
        "SnapshotId": snapshot, "Recipient": "222222222222", "Purpose": "launch",
        "AutoScaling": true,
    });
    let reply = stage.try_root(1, HERE, Service::Strongroom, "SuggestPolicy", input).await.unwrap();
    let suggestion: Value = serde_json::from_str(&text(&reply, "Suggestion")).unwrap();
    let grant = &suggestion["serviceLinkedRoleGrant"];
    assert!(text(grant, "GranteePrincipal").ends_with("/AWSServiceRoleForAutoScaling"));
    let statements = suggestion["keyPolicyStatements"].as_array().unwrap();
    let of_role = statements.iter().find(|s| s["Sid"] == "GrantToAutoScaling").unwrap();
    let condition = &of_role["Condition"]["StringEquals"]["kms:GranteePrincipal"];
    assert_eq!(condition, &grant["GranteePrincipal"]);
    assert!(text(&reply, "Text").contains("4. 222222222222 grants to the role"));
}

#[tokio::test]
async fn what_cannot_work_is_not_suggested() {
    let mut stage = Stage::new().await;
    let key = stage.key(1, HERE).await;
    let volume = stage.encrypted(&key).await;
    let snapshot = stage.snapshot(1, HERE, &volume).await;
    let (here, away) =
        ("arn:aws:kms:us-east-1:222222222222:key/k", "arn:aws:kms:eu-west-1:222222222222:key/k");
    let asked = |purpose: &str, more: Value| {
        let mut input =
            json!({ "SnapshotId": snapshot, "Recipient": "222222222222", "Purpose": purpose });
        crate::storage::tests::merge(&mut input, more);
        stage.try_root(1, HERE, Service::Strongroom, "SuggestPolicy", input)
    };
    for (purpose, more, why) in [
        (
            "copy",
            json!({ "TargetKeyId": here, "TargetRegion": "eu-west-1" }),
            "the target region is eu-west-1",
        ),
        ("copy", json!({ "TargetKeyId": "k" }), "not named by the ARN of a key"),
        (
            "copy",
            json!({ "TargetKeyId": "arn:aws:kms:us-east-1:222222222222:alias/a" }),
            "not named by the ARN",
        ),
        (
            "restore",
            json!({ "TargetKeyId": away }),
            "Volumes are made in the region of their snapshot",
        ),
        (
            "launch",
            json!({ "TargetRegion": "eu-west-1" }),
            "Volumes are made in the region of their snapshot",
        ),
        (
            "copy",
            json!({ "Recipient": "arn:aws:iam::222222222222:group/g" }),
            "nor the ARN of a user or role",
        ),
    ] {
        let error = asked(purpose, more.clone()).await.unwrap_err();
        assert!(error.starts_with("ValidationException") && error.contains(why), "{more}: {error}");
    }
    // The region of the copy is that of the key it is under.
    let reply = asked("copy", json!({ "TargetKeyId": away })).await.unwrap();
    let suggestion: Value = serde_json::from_str(&text(&reply, "Suggestion")).unwrap();
    let statements = suggestion["identityPolicy"]["Statement"].as_array().unwrap();
    let own = statements.iter().find(|statement| statement["Sid"] == "UseOwnKey").unwrap();
    let via = &own["Condition"]["StringEquals"]["kms:ViaService"];
    assert_eq!(via, "ec2.eu-west-1.amazonaws.com");
}
