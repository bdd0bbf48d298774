//! A permission that was taken away is gone with the answer of the call that took it, although what decides is
//! kept in memory: under random changes, decisions from memory are those from the rows.

use crate::ops::kms::shared;
use crate::testing::{Bench, account, bench, run_named};
use crate::{Call, Service};
use base::{Rng, SeededRng};
use iam::Principal;
use identity::access_key::{self, Owner};
use kms::condition::Facts;
use kms::{Action, EncryptionContext};
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;

const CHANGES: usize = 300;
const POLICY_ARN: &str = "arn:aws:iam::111111111111:policy/p";

struct Subject {
    bench: Bench,
    root: Call,
    user: Call,
    key: String,
    access_key: (Owner, String),
    grants: Vec<String>,
}

async fn subject() -> Subject {
    let bench = bench().await;
    let root = bench.root(&account(1), "us-east-1");
    let allow = statement("Allow", "kms:Decrypt");
    let user = bench.user(&account(1), "ann", &allow).await;
    for (service, name, input) in [
        (Service::Iam, "CreateGroup", json!({"GroupName": "g"})),
        (
            Service::Iam,
            "PutGroupPolicy",
            json!({"GroupName": "g", "PolicyName": "g", "PolicyDocument": allow}),
        ),
        (Service::Iam, "CreatePolicy", json!({"PolicyName": "p", "PolicyDocument": allow})),
    ] {
        run_named(&root, service, name, input).await.expect("allowed");
    }
    let made = run_named(&root, Service::Kms, "CreateKey", json!({})).await.expect("allowed");
    let key = made["KeyMetadata"]["Arn"].as_str().expect("an ARN").to_owned();
    let identity = bench.world.identity.clone();
    let id = user.caller.principal.unique_id.clone();
    let made = bench.world.db.write(move |tx| {
        let owner = identity::entity::find_by_id(tx, &id)?.expect("the user was made");
        let owner = Owner::User(owner);
        let made = identity.create_access_key(tx, &owner)?;
        Ok::<_, identity::Error>((owner, made.key.id))
    });
    let access_key = made.await.expect("a new access key");
    Subject { bench, root, user, key, access_key, grants: Vec::new() }
}

fn statement(effect: &str, action: &str) -> String {
    let statement = json!({"Effect": effect, "Action": action, "Resource": "*"});
    json!({"Version": "2012-10-17", "Statement": statement}).to_string()
}

fn below(rng: &dyn Rng, limit: usize) -> usize {
    let mut byte = [0];
    rng.fill(&mut byte);
    usize::from(byte[0]) % limit
}

impl Subject {
    async fn change(&mut self, rng: &dyn Rng) -> String {
        let user = json!("ann");
        let effect = ["Allow", "Deny"][below(rng, 2)];
        let (service, name, input) = match below(rng, 15) {
            0 => (
                Service::Iam,
                "PutUserPolicy",
                json!({"UserName": user, "PolicyName": "test",
                    "PolicyDocument": statement(effect, "kms:Decrypt")}),
            ),
            1 => {
                (Service::Iam, "DeleteUserPolicy", json!({"UserName": user, "PolicyName": "test"}))
            }
            2 => (Service::Iam, "AddUserToGroup", json!({"UserName": user, "GroupName": "g"})),
            3 => (Service::Iam, "RemoveUserFromGroup", json!({"UserName": user, "GroupName": "g"})),
            4 => (
                Service::Iam,
                "AttachUserPolicy",
                json!({"UserName": user, "PolicyArn": POLICY_ARN}),
            ),
            5 => (
                Service::Iam,
                "DetachUserPolicy",
                json!({"UserName": user, "PolicyArn": POLICY_ARN}),
            ),
            6 => (
                Service::Iam,
                "PutUserPermissionsBoundary",
                json!({"UserName": user, "PermissionsBoundary": POLICY_ARN}),
            ),
            7 => (Service::Iam, "DeleteUserPermissionsBoundary", json!({"UserName": user})),
            8 => (
                Service::Iam,
                "TagUser",
                json!({"UserName": user, "Tags": [{"Key": "t", "Value": effect}]}),
            ),
            9 => (Service::Kms, "DisableKey", json!({"KeyId": self.key})),
            10 => (Service::Kms, "EnableKey", json!({"KeyId": self.key})),
            11 => (
                Service::Kms,
                "PutKeyPolicy",
                json!({"KeyId": self.key, "Policy": self.key_policy(effect)}),
            ),
            12 => (
                Service::Kms,
                "CreateGrant",
                json!({"KeyId": self.key, "Operations": ["Decrypt"],
                    "GranteePrincipal": self.user.caller.principal.arn}),
            ),
            13 => match self.grants.pop() {
                Some(id) => {
                    (Service::Kms, "RevokeGrant", json!({"KeyId": self.key, "GrantId": id}))
                }
                None => return "nothing".to_owned(),
            },
            _ => return self.switch_access_key(below(rng, 2) == 0).await,
        };
        // Some changes find nothing to change; then nothing may differ either.
        if let Ok(Json::Object(reply)) = run_named(&self.root, service, name, input).await
            && let Some(id) = reply.get("GrantId")
        {
            self.grants.push(id.as_str().expect("an id").to_owned());
        }
        format!("{name} {effect}")
    }

    fn key_policy(&self, effect: &str) -> String {
        let root = "arn:aws:iam::111111111111:root";
        let user = &self.user.caller.principal.arn;
        let statement = |effect: &str, principal: &str, action: &str| json!({"Effect": effect, "Principal": {"AWS": principal}, "Action": action, "Resource": "*"});
        let statements =
            [statement("Allow", root, "kms:*"), statement(effect, user, "kms:Decrypt")];
        json!({"Version": "2012-10-17", "Statement": statements}).to_string()
    }

    async fn switch_access_key(&self, active: bool) -> String {
        let (owner, id) = self.access_key.clone();
        let switched = self.bench.world.db.write(move |tx| {
            access_key::set_active(tx, &owner, &id, active)?;
            Ok::<_, identity::Error>(())
        });
        switched.await.expect("the access key is there");
        format!("access key active: {active}")
    }

    /// Everything that decides a Decrypt of the user, from memory or from the rows.
    async fn view(&self, memory: bool) -> [String; 3] {
        let world = &self.bench.world;
        let id = self.access_key.1.clone();
        let identity = world.identity.clone();
        let principal: Principal = self.user.caller.principal.clone();
        let shown = |credential: Result<identity::Credential, _>| match credential {
            Ok(credential) => format!("{:?}", credential.principal),
            Err(error) => format!("{error:?}"),
        };
        let kms = world.kms.clone();
        let from = shared::Requester::of(&self.user);
        let key = self.key.clone();
        let target = move |tx: &mut meta::Tx<'_>| -> kms::Result<String> {
            let facts = Facts::Crypto {
                context: EncryptionContext::new(BTreeMap::new())?,
                algorithm: kms::spec::EncryptionAlgorithm::SymmetricDefault,
            };
            let resolved =
                kms::resolve::resolve(tx, Action::Decrypt, &from.caller, &from.region, &key)?;
            let ask = from.ask(&kms, tx, Action::Decrypt, &resolved, &facts)?;
            let usable = shared::usable(tx, Action::Decrypt, &resolved.key);
            Ok(format!("{ask:?} {:?}", usable.map(|key| key.state)))
        };
        if memory {
            let layers = world.identity_layers(&principal, &[]).await.expect("readable");
            let credential = shown(world.credential(&id, None).await);
            let target = world.db.read_often(target).await.expect("readable");
            return [credential, format!("{layers:?}"), target];
        }
        let (for_layers, for_credential) = (identity.clone(), identity);
        let layers = world.db.read(move |tx| for_layers.layers(tx, &principal, &[])).await;
        let credential = world.db.read(move |tx| for_credential.credential(tx, &id, None)).await;
        let target = world.db.read(target).await.expect("readable");
        [shown(credential), format!("{:?}", layers.expect("readable")), target]
    }
}

#[tokio::test]
async fn decisions_from_memory_are_those_from_the_rows() {
    let mut subject = subject().await;
    let rng = SeededRng::new(11);
    let mut differing = 0;
    let mut before = subject.view(true).await;
    for number in 0..CHANGES {
        let change = subject.change(&rng).await;
        let memory = subject.view(true).await;
        assert_eq!(memory, subject.view(false).await, "after change {number}: {change}");
        differing += usize::from(memory != before);
        before = memory;
    }
    assert!(differing > CHANGES / 4, "only {differing} changes changed anything");
}
