//! A preflight says what executing does: for every variant of the table that is served, with
//! everything allowed and with each decision denied in turn, under both enforcement modes.

use super::{Preflight, rehearse, table};
use crate::storage::tests::{HERE, Stage, THERE, merge, text};
use crate::testing::{account, from_json, run_named};
use crate::{Call, Enforcement, Service, registry};
use iam::Principal;
use serde_json::{Value, json};

/// A request in a world made for it.
struct Scene {
    stage: Stage,
    user: Principal,
    at: &'static str,
    service: Service,
    operation: &'static str,
    input: Value,
    /// The key whose policy is changed to deny what a service does.
    keys: Vec<String>,
}

/// What is denied: an action on a resource, to the user or to services.
#[derive(Clone, Debug)]
struct Denial {
    action: String,
    resource: String,
    to_service: bool,
}

const KEY: &str = "kms:";

impl Scene {
    fn call(&self) -> Call {
        self.stage.bench.call(self.user.clone(), self.at)
    }

    async fn preflight(&self) -> Preflight {
        let operation = registry::find(self.service, self.operation).expect("it is served");
        let input = from_json(operation.info().input, &self.input);
        rehearse(&self.call(), operation, input).await.expect("a rehearsal")
    }

    /// What executing comes to: the error, or how the resource ends.
    async fn execute(&mut self) -> Result<(), String> {
        let call = self.call();
        let reply = run_named(&call, self.service, self.operation, self.input.clone()).await;
        let reply = reply.map_err(|error| super::without_blob(&error.to_string()))?;
        self.stage.settle().await;
        let by_owner = Principal::root(&self.user.account);
        match self.operation {
            "CreateVolume" => {
                let input = json!({ "VolumeIds": [reply["VolumeId"]] });
                let shown =
                    self.stage.try_as(by_owner, self.at, Service::Ec2, "DescribeVolumes", input);
                let shown = shown.await.map_err(|_| "later: vanishes".to_owned())?;
                assert_eq!(shown["Volumes"][0]["State"], "available");
            }
            "CopySnapshot" => {
                let input = json!({ "SnapshotIds": [reply["SnapshotId"]] });
                let shown =
                    self.stage.try_as(by_owner, self.at, Service::Ec2, "DescribeSnapshots", input);
                let shown = shown.await.expect("the copy is there")["Snapshots"][0].clone();
                if shown["State"] == "error" {
                    return Err(format!("later: \"{}\"", text(&shown, "StateMessage")));
                }
                assert_eq!(shown["State"], "completed", "{shown}");
            }
            _ => {}
        }
        Ok(())
    }

    /// Denies one decision.
    async fn deny(&mut self, denial: &Denial) {
        if denial.to_service {
            let key = self.keys.iter().find(|key| **key == denial.resource).expect("a key of ours");
            deny_services(&self.stage, key, &denial.action).await;
            return;
        }
        let deny = json!({
            "Effect": "Deny", "Action": denial.action, "Resource": denial.resource,
        });
        put_policy(&self.stage, &self.user, json!([everything(), deny])).await;
    }
}

fn everything() -> Value {
    json!({ "Effect": "Allow", "Action": "*", "Resource": "*" })
}

async fn put_policy(stage: &Stage, user: &Principal, statements: Value) {
    let document = json!({ "Version": "2012-10-17", "Statement": statements }).to_string();
    let name = user.username().expect("a user").to_owned();
    let input = json!({ "UserName": name, "PolicyName": "p", "PolicyDocument": document });
    let root = Principal::root(&user.account);
    stage.try_as(root, HERE, Service::Iam, "PutUserPolicy", input).await.expect("allowed");
}

/// Adds to a key's policy what stops callers that no service forwards: services and hosts.
async fn deny_services(stage: &Stage, key: &str, action: &str) {
    let owner = account(if key.contains("111111111111") { 1 } else { 2 });
    let at = if key.contains(HERE) { HERE } else { THERE };
    let kms = |operation, input| {
        stage.try_as(Principal::root(&owner), at, Service::Kms, operation, input)
    };
    let shown = kms("GetKeyPolicy", json!({ "KeyId": key })).await.expect("allowed");
    let mut policy: Value = serde_json::from_str(&text(&shown, "Policy")).expect("a policy");
    let deny = json!({
        "Effect": "Deny", "Principal": "*", "Action": action, "Resource": "*",
        "Condition": { "Null": { "kms:ViaService": "true" } },
    });
    policy["Statement"].as_array_mut().expect("statements").push(deny);
    let input = json!({ "KeyId": key, "Policy": policy.to_string() });
    kms("PutKeyPolicy", input).await.expect("allowed");
}

/// Lends everything EBS may need of a key to account 222….
async fn lend_all(stage: &Stage, key: &str) {
    let actions = [
        "kms:DescribeKey",
        "kms:CreateGrant",
        "kms:Decrypt",
        "kms:ReEncrypt*",
        "kms:GenerateDataKey*",
    ];
    stage.lend(key, &actions).await;
}

/// The variants of the table that are served, and CreateSnapshot, which implies nothing.
const SCENES: [(&str, &str); 20] = [
    ("CreateVolume", "blank"),
    ("CreateVolume", "from-plain-snapshot"),
    ("CreateVolume", "own-snapshot-same-key"),
    ("CreateVolume", "snapshot-other-key-or-shared"),
    ("CreateVolume", "shared"),
    ("CreateSnapshot", "any"),
    ("CreateSnapshots", "any"),
    ("AttachVolume", "encrypted"),
    ("CopySnapshot", "plain-to-encrypted"),
    ("CopySnapshot", "encrypted-to-encrypted"),
    ("CopySnapshot", "shared"),
    ("CopySnapshot", "incremental-same-key"),
    ("ModifySnapshotAttribute", "encrypted-add"),
    ("StartSnapshot", "encrypted"),
    ("StartSnapshot", "encrypted-parent"),
    ("GetSnapshotBlock", "encrypted"),
    ("ListSnapshotBlocks", "encrypted-shared-recipient"),
    ("ListChangedBlocks", "encrypted-shared-recipient"),
    ("PutSnapshotBlock", "encrypted"),
    ("ModifyEbsDefaultKmsKeyId", "any"),
];

async fn scene(operation: &'static str, variant: &str, mode: Enforcement) -> Scene {
    let mut stage = Stage::with(mode).await;
    let key = stage.key(1, HERE).await;
    let other = stage.key(1, HERE).await;
    let foreign = stage.key(2, HERE).await;
    let encrypted = json!({ "Size": 1, "Encrypted": true, "KmsKeyId": key });
    let shared = matches!(variant, "shared" | "encrypted-shared-recipient");
    let digit = if shared { 2 } else { 1 };
    let user = stage.user(digit, "ann", json!([everything()])).await;
    let plain = matches!(variant, "from-plain-snapshot" | "plain-to-encrypted");
    let volume = match plain {
        true => stage.volume(1, HERE, json!({ "Size": 1 })).await,
        false => stage.volume(1, HERE, encrypted.clone()).await,
    };
    let host = stage.host(1, HERE, "h").await;
    let snapshot = if matches!(operation, "AttachVolume" | "CreateSnapshots") {
        String::new()
    } else {
        stage.attach(1, HERE, &volume, &host).await;
        stage.bench.host.write(&volume, 0, b"some bytes");
        stage.snapshot(1, HERE, &volume).await
    };
    if shared {
        stage.share(&snapshot).await;
        lend_all(&stage, &key).await;
    }
    let own = if shared { foreign.clone() } else { other.clone() };
    let parts = Parts { volume, host, snapshot, own };
    let at = if variant == "encrypted-to-encrypted" { THERE } else { HERE };
    let service = match operation {
        "StartSnapshot" | "GetSnapshotBlock" | "PutSnapshotBlock" => Service::Ebs,
        "ListSnapshotBlocks" | "ListChangedBlocks" => Service::Ebs,
        _ => Service::Ec2,
    };
    let input = match service {
        Service::Ebs => direct(&stage, operation, variant, &parts.snapshot, &key).await,
        _ => request(&mut stage, operation, variant, &parts, encrypted).await,
    };
    let mut keys = vec![key, other, foreign];
    if let Some(target) = input["KmsKeyId"].as_str().filter(|target| target.starts_with("arn:")) {
        keys.push(target.to_owned());
    }
    Scene { stage, user, at, service, operation, input, keys }
}

/// What a scene is made of.
struct Parts {
    volume: String,
    host: String,
    snapshot: String,
    /// The key of what is made.
    own: String,
}

/// Inputs of EC2.
async fn request(
    stage: &mut Stage,
    operation: &str,
    variant: &str,
    parts: &Parts,
    encrypted: Value,
) -> Value {
    let Parts { volume, host, snapshot, own } = parts;
    let zone = format!("{HERE}a");
    let copy = |snapshot: &str, key: &str| {
        json!({
            "SourceRegion": HERE, "SourceSnapshotId": snapshot, "Encrypted": true, "KmsKeyId": key,
        })
    };
    match (operation, variant) {
        ("CreateVolume", "blank") => {
            let mut input = json!({ "AvailabilityZone": zone });
            merge(&mut input, encrypted);
            input
        }
        ("CreateVolume", "own-snapshot-same-key") => {
            json!({ "AvailabilityZone": zone, "SnapshotId": snapshot })
        }
        ("CreateVolume", _) => json!({
            "AvailabilityZone": zone, "SnapshotId": snapshot, "Encrypted": true, "KmsKeyId": own,
        }),
        ("CreateSnapshot", _) => json!({ "VolumeId": volume }),
        ("CreateSnapshots", _) => {
            stage.attach(1, HERE, volume, host).await;
            json!({ "InstanceSpecification": { "InstanceId": host } })
        }
        ("AttachVolume", _) => {
            json!({ "VolumeId": volume, "InstanceId": host, "Device": "/dev/sdf" })
        }
        ("CopySnapshot", "incremental-same-key") => {
            stage.ec2("CopySnapshot", copy(snapshot, own)).await;
            stage.settle().await;
            stage.bench.host.write(volume, 1 << 20, b"more bytes");
            copy(&stage.snapshot(1, HERE, volume).await, own)
        }
        ("CopySnapshot", "encrypted-to-encrypted") => copy(snapshot, &stage.key(1, THERE).await),
        ("CopySnapshot", _) => copy(snapshot, own),
        ("ModifySnapshotAttribute", _) => json!({
            "SnapshotId": snapshot,
            "CreateVolumePermission": { "Add": [{ "UserId": "222222222222" }] },
        }),
        _ => json!({ "KmsKeyId": own }),
    }
}

/// Inputs of the EBS direct APIs.
async fn direct(stage: &Stage, operation: &str, variant: &str, snapshot: &str, key: &str) -> Value {
    let ebs = |operation: &'static str, input: Value| {
        stage.try_root(1, HERE, Service::Ebs, operation, input)
    };
    match (operation, variant) {
        ("StartSnapshot", "encrypted") => {
            json!({ "VolumeSize": 1, "Encrypted": true, "KmsKeyArn": key })
        }
        ("StartSnapshot", _) => json!({ "VolumeSize": 1, "ParentSnapshotId": snapshot }),
        ("GetSnapshotBlock", _) => {
            let listed =
                ebs("ListSnapshotBlocks", json!({ "SnapshotId": snapshot })).await.unwrap();
            let block = &listed["Blocks"][0];
            json!({
                "SnapshotId": snapshot, "BlockIndex": block["BlockIndex"],
                "BlockToken": block["BlockToken"],
            })
        }
        ("ListChangedBlocks", _) => json!({ "SecondSnapshotId": snapshot }),
        ("PutSnapshotBlock", _) => {
            let input = json!({ "VolumeSize": 1, "Encrypted": true, "KmsKeyArn": key });
            let begun = ebs("StartSnapshot", input).await.unwrap();
            json!({
                "SnapshotId": begun["SnapshotId"], "BlockIndex": 0,
                "BlockData": "x".repeat(512 << 10), "DataLength": 512 << 10,
                "Checksum": sha256_of_block(), "ChecksumAlgorithm": "SHA256",
            })
        }
        _ => json!({ "SnapshotId": snapshot }),
    }
}

fn sha256_of_block() -> String {
    use aws_lc_rs::digest::{SHA256, digest};
    use base64::Engine as _;
    let digest = digest(&SHA256, "x".repeat(512 << 10).as_bytes());
    base64::engine::general_purpose::STANDARD.encode(digest.as_ref())
}

/// The decisions of a preflight that can be denied, each once.
fn denials(found: &Preflight) -> Vec<Denial> {
    let mut denials: Vec<Denial> = Vec::new();
    for step in &found.steps {
        let denial = Denial {
            action: step.action.clone(),
            // New resources are asked for as `…/*`, which as a pattern means the same.
            resource: step.resource.clone(),
            to_service: step.action.starts_with(KEY) && step.via.is_none(),
        };
        let known = |d: &Denial| (&d.action, &d.resource) == (&denial.action, &denial.resource);
        if step.required && !denials.iter().any(known) {
            denials.push(denial);
        }
    }
    denials
}

/// Preflight and execution of a scene agree; answers the preflight.
async fn agree(scene: &mut Scene, what: &str) -> Preflight {
    let found = scene.preflight().await;
    let done = scene.execute().await;
    match (&found.ending, &done) {
        (None, Ok(())) => {}
        (Some(ending), Err(error)) if ending.when == "sync" => {
            assert_eq!(&format!("{}: {}", ending.code, ending.message), error, "{what}\n{found}");
        }
        (Some(ending), Err(error)) => {
            let later = error.strip_prefix("later: ").unwrap_or_else(|| panic!("{what}: {error}"));
            assert!(ending.message.contains(later), "{what}: {error}\n{found}");
        }
        (ending, done) => panic!("{what}: {ending:?} but {done:?}\n{found}"),
    }
    found
}

async fn every_decision_of(index: usize, mode: Enforcement) {
    let (operation, variant) = SCENES[index];
    let what = format!("{operation} {variant} {mode:?}");
    let mut allowed = scene(operation, variant, mode).await;
    let found = agree(&mut allowed, &what).await;
    assert_eq!(found.allowed, Some(true), "{what}\n{found}");
    let denials = denials(&found);
    assert!(!denials.is_empty(), "{what}");
    for denial in denials {
        let what = format!("{what} without {denial:?}");
        let mut scene = scene(operation, variant, mode).await;
        // The same part of another world.
        let twin = scene.preflight().await;
        let at = found
            .steps
            .iter()
            .position(|step| (&step.action, &step.resource) == (&denial.action, &denial.resource));
        let step = &twin.steps[at.expect("it is from there")];
        let denial = Denial { resource: step.resource.clone(), ..denial };
        scene.deny(&denial).await;
        let found = agree(&mut scene, &what).await;
        let hit = |step: &&super::StepStory| {
            (&step.action, &step.resource) == (&denial.action, &denial.resource)
        };
        let step = found.steps.iter().find(hit).unwrap_or_else(|| panic!("{what}\n{found}"));
        assert_eq!(step.verdict, "denied", "{what}\n{found}");
    }
}

macro_rules! scenes {
    ($($name:ident: $index:literal),+ $(,)?) => {
        $(#[tokio::test]
        async fn $name() {
            for mode in [Enforcement::Native, Enforcement::Documented] {
                every_decision_of($index, mode).await;
            }
        })+
    };
}

scenes! {
    create_volume_blank: 0,
    create_volume_from_plain: 1,
    create_volume_same_key: 2,
    create_volume_other_key: 3,
    create_volume_shared: 4,
    create_snapshot: 5,
    create_snapshots: 6,
    attach_volume: 7,
    copy_plain_to_encrypted: 8,
    copy_encrypted_to_other_region: 9,
    copy_shared: 10,
    copy_incremental: 11,
    modify_snapshot_attribute: 12,
    start_snapshot: 13,
    start_snapshot_with_parent: 14,
    get_snapshot_block: 15,
    list_snapshot_blocks_shared: 16,
    list_changed_blocks_shared: 17,
    put_snapshot_block: 18,
    modify_ebs_default_key: 19,
}

/// Every variant of the table is rehearsed, or planned from the table by name.
#[tokio::test]
async fn no_variant_is_forgotten() {
    let stage = Stage::new().await;
    let call = stage.bench.root(&account(1), HERE);
    let mut unserved = 0;
    for variant in &table::table().variants {
        let name = (variant.operation.as_str(), variant.variant.as_str());
        if SCENES.contains(&name) {
            continue;
        }
        let wanted = super::Wanted {
            service: variant.service.clone(),
            operation: variant.operation.clone(),
            parameters: json!({}),
        };
        let found = super::preflight(&call, wanted).await.expect("a plan");
        assert_eq!(found.allowed, None, "{name:?} is served");
        assert!(found.steps.iter().all(|step| step.source == "table"), "{name:?}");
        let known = table::UNSERVED.iter().find(|(operation, _, _)| *operation == name.0);
        let (operation, why, instead) = known.unwrap_or_else(|| panic!("{name:?}"));
        assert!(registry::find(Service::Ec2, operation).is_none(), "{operation} is served");
        let told = found.to_string();
        assert!(told.contains(&format!("{operation} is not served here: {why}.")), "{told}");
        for other in *instead {
            assert!(registry::find(Service::Ec2, other).is_some(), "{other} is not served");
            assert!(SCENES.iter().any(|(scene, _)| scene == other), "{other} is not executed");
        }
        unserved += 1;
    }
    assert_eq!((unserved, table::table().variants.len()), (4, 22));
}

/// The enforced calls of the table are those that are rehearsed.
#[tokio::test]
async fn rehearsals_make_the_calls_of_the_table() {
    for (operation, variant) in SCENES {
        let scene = scene(operation, variant, Enforcement::Native).await;
        let Some(row) = table::table()
            .variants
            .iter()
            .find(|row| (row.operation.as_str(), row.variant.as_str()) == (operation, variant))
        else {
            continue;
        };
        let found = scene.preflight().await;
        let made = |name: &str| {
            let steps = found.steps.iter().filter(|step| step.required);
            steps.filter(|step| step.service == "kms" && step.operation == name).count()
        };
        for implied in row.calls.iter().filter(|call| call.enforced != "no") {
            // Grants are given back whatever happens; nothing depends on it. A volume above a base under
            // another key is usable before the service opens either key: that happens at attaching.
            let later = implied.enforced == "by-grant"
                && matches!(variant, "from-plain-snapshot" | "snapshot-other-key-or-shared");
            if implied.operation != "RetireGrant" && !later {
                assert!(
                    made(&implied.operation) > 0,
                    "{operation} {variant}: {}\n{found}",
                    implied.operation
                );
            }
            assert!(!implied.by.is_empty() && !implied.key.is_empty());
        }
        assert!(row.calls.iter().any(|call| call.documented) || row.calls.len() < 2);
    }
}
