//! A world with one thing of everything, and requests about it.

use crate::direct::token::Tokens;
use crate::storage::tests::Stage;
use crate::testing::idp::Idp;
use crate::testing::{Bench, account, run_named};
use crate::{Call, Service};
use awsproto::{Blob, Fields, Kind, Member, OperationInfo, Schema, Value};
use base::{AccountId, Timestamp};
use blockstore::snapshot::ContentId;
use iam::Principal;
use serde_json::{Map, Value as Json, json};
use std::collections::BTreeMap;

/// Requests whose required members, filled in by name, do not say enough.
const REQUESTS: &str = include_str!("../../../../tests/permissions/requests.json");

/// Texts by the name of the member they are for.
const TEXTS: &[(&str, &str)] = &[
    ("AccountAlias", "matrix"),
    ("ActionNames", "kms:Decrypt"),
    ("AliasName", "alias/matrix"),
    ("AvailabilityZone", "us-east-1a"),
    ("AWSServiceName", "backup.amazonaws.com"),
    ("ClientID", "client"),
    ("GranteePrincipal", "arn:aws:iam::111111111111:user/subject"),
    ("GroupName", "group"),
    ("InstanceProfileName", "profile"),
    ("Key", "team"),
    ("NewPassword", "Correct-Horse2"),
    ("OldPassword", "Correct-Horse1"),
    ("OpenIDConnectProviderArn", "arn:aws:iam::111111111111:oidc-provider/oidc.example.org"),
    ("Operations", "Decrypt"),
    ("PermissionsBoundary", "arn:aws:iam::aws:policy/PowerUserAccess"),
    ("PolicyArn", "arn:aws:iam::111111111111:policy/policy"),
    ("PolicyName", "policy"),
    ("PolicySourceArn", "arn:aws:iam::111111111111:user/subject"),
    ("PrincipalArn", "arn:aws:iam::111111111111:saml-provider/corp"),
    ("RetiringPrincipal", "arn:aws:iam::111111111111:user/subject"),
    ("RoleArn", "arn:aws:iam::111111111111:role/role"),
    ("RoleName", "role"),
    ("RoleSessionName", "session"),
    ("SAMLProviderArn", "arn:aws:iam::111111111111:saml-provider/corp"),
    ("SourceRegion", "us-east-1"),
    ("TagKey", "team"),
    ("TagKeys", "team"),
    ("TagValue", "red"),
    ("ThumbprintList", "0123456789abcdef0123456789abcdef01234567"),
    ("Url", "https://oidc.example.com"),
    ("UserName", "subject"),
    ("Value", "red"),
    ("VersionId", "v1"),
];

pub(super) struct Fixtures {
    /// By placeholder, or by the name of a member.
    texts: BTreeMap<String, String>,
    bytes: BTreeMap<&'static str, Vec<u8>>,
    requests: BTreeMap<String, Map<String, Json>>,
    /// Users who hold grants.
    users: Vec<(&'static str, Principal)>,
}

fn document(statement: Json) -> String {
    json!({ "Version": "2012-10-17", "Statement": statement }).to_string()
}

/// Calls by the root of account 111… that have to succeed.
struct Maker<'a>(&'a Call);

impl Maker<'_> {
    async fn make(&self, service: Service, name: &str, input: Json) -> Json {
        let made = run_named(self.0, service, name, input).await;
        made.unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    async fn text(&self, service: Service, name: &str, input: Json, path: &str) -> String {
        let made = self.make(service, name, input).await;
        let text = made.pointer(path).and_then(Json::as_str);
        text.unwrap_or_else(|| panic!("{name} has no {path}: {made}")).to_owned()
    }
}

impl Fixtures {
    /// Makes the world.
    pub(super) async fn make(stage: &mut Stage) -> Self {
        let mut fixtures = Self {
            texts: TEXTS
                .iter()
                .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
                .collect(),
            bytes: BTreeMap::from([
                ("block", vec![0; 512 * 1024]),
                // Any bytes of this length are something to an ML-KEM-512 key.
                ("SharedSecretCiphertextBlob", vec![0; 768]),
            ]),
            requests: serde_json::from_str(REQUESTS)
                .expect("requests.json has objects by operation"),
            users: Vec::new(),
        };
        for (digit, name) in [(1, "holder"), (2, "grantee")] {
            let all = if digit == 1 { "NotAction" } else { "Action" };
            let policy = document(json!({ "Effect": "Allow", all: "*", "Resource": "*" }));
            let call = stage.bench.user(&account(digit), name, &policy).await;
            fixtures.users.push((name, call.caller.principal));
        }
        let root = stage.bench.root(&account(1), "us-east-1");
        let maker = Maker(&root);
        fixtures.people(&maker).await;
        fixtures.keys(&maker).await;
        fixtures.storage(stage, &maker).await;
        fixtures
    }

    fn set(&mut self, name: &str, text: String) {
        self.texts.insert(name.to_owned(), text);
    }

    async fn people(&mut self, maker: &Maker<'_>) {
        let allow = document(json!({ "Effect": "Allow", "Action": "*", "Resource": "*" }));
        let trust = document(json!({ "Effect": "Allow", "Action": "sts:AssumeRole",
            "Principal": { "AWS": ["111111111111", "333333333333"] } }));
        let iam = async |name: &'static str, input| maker.make(Service::Iam, name, input).await;
        iam("CreateUser", json!({ "UserName": "subject" })).await;
        iam("CreateGroup", json!({ "GroupName": "group" })).await;
        iam("CreateRole", json!({ "RoleName": "role", "AssumeRolePolicyDocument": trust })).await;
        let all = json!({ "RoleName": "role", "PolicyName": "all", "PolicyDocument": allow });
        iam("PutRolePolicy", all).await;
        iam("CreatePolicy", json!({ "PolicyName": "policy", "PolicyDocument": allow })).await;
        iam("CreateInstanceProfile", json!({ "InstanceProfileName": "profile" })).await;
        let issuer = json!({ "Url": "https://oidc.example.org", "ClientIDList": ["client"] });
        iam("CreateOpenIDConnectProvider", issuer).await;
        let metadata = Idp::new().metadata();
        let provider = json!({ "Name": "corp", "SAMLMetadataDocument": metadata });
        iam("CreateSAMLProvider", provider).await;
        self.set("SAMLMetadataDocument", metadata);
        let linked =
            iam("CreateServiceLinkedRole", json!({ "AWSServiceName": "backup.amazonaws.com" }))
                .await;
        self.set("linked_role", linked["Role"]["RoleName"].as_str().expect("a name").to_owned());
        let key = iam("CreateAccessKey", json!({ "UserName": "subject" })).await;
        let key = key["AccessKey"]["AccessKeyId"].as_str().expect("an id").to_owned();
        self.set("AccessKeyId", key);
        self.set("AssumeRolePolicyDocument", trust);
        self.set("PolicyDocument", allow.clone());
        self.set("PolicyInputList", allow);
    }

    async fn keys(&mut self, maker: &Maker<'_>) {
        let policy = document(json!({ "Effect": "Allow", "Action": "kms:*", "Resource": "*",
            "Principal": { "AWS": ["111111111111", "333333333333"] } }));
        for (name, mut input, operations) in kinds_of_keys() {
            input["Policy"] = json!(policy);
            let key = maker.text(Service::Kms, "CreateKey", input, "/KeyMetadata/Arn").await;
            for (holder, principal) in self.users.clone() {
                let grant = json!({ "KeyId": key, "Operations": operations,
                    "GranteePrincipal": principal.arn });
                let id = maker.text(Service::Kms, "CreateGrant", grant, "/GrantId").await;
                self.set(&format!("{name}_grant_of_{holder}"), id);
            }
            self.set(name, key);
        }
        let multi = json!({ "MultiRegion": true, "Policy": policy });
        let multi = maker.text(Service::Kms, "CreateKey", multi, "/KeyMetadata/Arn").await;
        let replica = json!({ "KeyId": multi, "ReplicaRegion": "eu-west-1" });
        maker.make(Service::Kms, "ReplicateKey", replica).await;
        self.set("multi", multi);
        let key = self.texts["key"].clone();
        let alias = json!({ "AliasName": "alias/matrix", "TargetKeyId": key });
        maker.make(Service::Kms, "CreateAlias", alias).await;
        for name in ["KeyId", "TargetKeyId", "DestinationKeyId", "KmsKeyId"] {
            self.set(name, key.clone());
        }
        self.set("GrantId", self.texts["key_grant_of_grantee"].clone());
        let text = json!({ "KeyId": key, "Plaintext": "text" });
        let encrypted = maker.make(Service::Kms, "Encrypt", text).await;
        let bytes = encrypted["CiphertextBlob"].as_array().expect("bytes").iter();
        let bytes = bytes.map(|byte| u8::try_from(byte.as_u64().expect("a byte")).expect("one"));
        self.bytes.insert("CiphertextBlob", bytes.collect());
        self.set("Policy", policy);
    }

    async fn storage(&mut self, stage: &mut Stage, maker: &Maker<'_>) {
        let instance = stage.host(1, "us-east-1", "machine").await;
        let volume = json!({ "Size": 1, "Encrypted": true, "KmsKeyId": self.texts["key"] });
        let free = stage.volume(1, "us-east-1", volume.clone()).await;
        let attached = stage.volume(1, "us-east-1", volume).await;
        let snapshot = stage.snapshot(1, "us-east-1", &free).await;
        stage.attach(1, "us-east-1", &attached, &instance).await;
        let share = json!({ "SnapshotId": snapshot,
            "CreateVolumePermission": { "Add": [{ "UserId": "333333333333" }] } });
        maker.make(Service::Ec2, "ModifySnapshotAttribute", share).await;
        let size = json!({ "VolumeSize": 1 });
        let pending = maker.text(Service::Ebs, "StartSnapshot", size, "/SnapshotId").await;
        stage.settle().await;
        for digit in 1..=3 {
            let call = stage.bench.root(&account(digit), "us-east-1");
            let token = Tokens::of(&call).block(&snapshot, 0, ContentId::from_bytes(&[1; 17]));
            self.set(&format!("block_token@{}", account(digit)), token);
        }
        for name in ["SnapshotId", "SourceSnapshotId", "SecondSnapshotId", "FirstSnapshotId"] {
            self.set(name, snapshot.clone());
        }
        for name in ["VolumeId", "Resources", "ResourceId"] {
            self.set(name, free.clone());
        }
        self.set("InstanceId", instance);
        self.set("attached", attached);
        self.set("pending", pending);
        let bare = stage.bench.call(self.users[0].1.clone(), "us-east-1");
        let refused = run_named(&bare, Service::Ec2, "DescribeVolumes", json!({})).await;
        let sentence = refused.expect_err("a user without policies").0.message;
        let encoded = sentence.rsplit(' ').next().expect("the message ends the sentence");
        self.set("EncodedMessage", encoded.to_owned());
    }

    /// Calls of the users who hold grants.
    pub(super) fn users(&self, bench: &Bench) -> Vec<(&'static str, Call)> {
        let call = |principal: &Principal| bench.call(principal.clone(), "us-east-1");
        self.users.iter().map(|(name, principal)| (*name, call(principal))).collect()
    }

    /// An ARN with the names of things in place of their ids.
    pub(super) fn named(&self, arn: &str) -> String {
        const NAMED: [(&str, &str); 10] = [
            ("key", "KEY"),
            ("signer", "SIGNING-KEY"),
            ("agreement", "AGREEMENT-KEY"),
            ("kem", "KEM-KEY"),
            ("mac", "MAC-KEY"),
            ("multi", "MULTI-REGION-KEY"),
            ("SnapshotId", "SNAPSHOT"),
            ("VolumeId", "VOLUME"),
            ("attached", "ATTACHED-VOLUME"),
            ("InstanceId", "INSTANCE"),
        ];
        let mut text = arn.replace(&self.texts["pending"], "PENDING-SNAPSHOT");
        for (name, shown) in NAMED {
            let id = self.texts[name].rsplit('/').next().expect("a split has a part");
            text = text.replace(id, shown);
        }
        text
    }

    /// A request of an account: what is required, and what `requests.json` says.
    pub(super) fn request(&self, info: &OperationInfo, of: &AccountId) -> Value {
        let written = self.requests.get(&format!("{}:{}", info.service, info.name));
        Filling { fixtures: self, of }.structure(info.input, written.unwrap_or(&Map::new()))
    }
}

/// A key of each kind: its name here, how it is made, and what grants on it allow.
fn kinds_of_keys() -> [(&'static str, Json, Json); 5] {
    [
        (
            "key",
            json!({}),
            json!([
                "Decrypt",
                "Encrypt",
                "GenerateDataKey",
                "GenerateDataKeyWithoutPlaintext",
                "GenerateDataKeyPair",
                "GenerateDataKeyPairWithoutPlaintext",
                "ReEncryptFrom",
                "ReEncryptTo",
                "CreateGrant",
                "RetireGrant",
                "DescribeKey"
            ]),
        ),
        (
            "signer",
            json!({ "KeySpec": "ECC_NIST_P256", "KeyUsage": "SIGN_VERIFY" }),
            json!(["Sign", "Verify", "GetPublicKey"]),
        ),
        (
            "agreement",
            json!({ "KeySpec": "ECC_NIST_P256", "KeyUsage": "KEY_AGREEMENT" }),
            json!(["DeriveSharedSecret"]),
        ),
        (
            "kem",
            json!({ "KeySpec": "ML_KEM_512", "KeyUsage": "ENCAPSULATE_DECAPSULATE" }),
            json!(["Encapsulate", "Decapsulate"]),
        ),
        (
            "mac",
            json!({ "KeySpec": "HMAC_256", "KeyUsage": "GENERATE_VERIFY_MAC" }),
            json!(["GenerateMac", "VerifyMac"]),
        ),
    ]
}

/// Fills in the requests of one account.
struct Filling<'a> {
    fixtures: &'a Fixtures,
    of: &'a AccountId,
}

impl Filling<'_> {
    fn structure(&self, schema: &'static Schema, written: &Map<String, Json>) -> Value {
        let mut fields = Fields::default();
        for Member { name, kind, required, .. } in schema.members {
            let given = written.get(*name);
            if *required || given.is_some() {
                fields.push(name, self.value(name, kind, given));
            }
        }
        for name in written.keys() {
            assert!(schema.member(name).is_some(), "requests.json: there is no member {name}");
        }
        Value::Struct(fields)
    }

    fn value(&self, name: &str, kind: &Kind, given: Option<&Json>) -> Value {
        match kind {
            Kind::Bool => Value::Bool(given.and_then(Json::as_bool).unwrap_or(false)),
            Kind::Integer | Kind::Long => Value::Int(given.and_then(Json::as_i64).unwrap_or(1)),
            Kind::Double => Value::Float(1.0),
            Kind::Timestamp => Value::Timestamp(Timestamp(1_798_761_600_000)),
            Kind::String => {
                Value::String(self.text(name, given).unwrap_or_else(|| name.to_owned()))
            }
            Kind::Enum(texts) => {
                let known = self.text(name, given).filter(|text| texts.contains(&text.as_str()));
                Value::String(known.unwrap_or_else(|| texts[0].to_owned()))
            }
            Kind::Blob => {
                let name = given.and_then(Json::as_str).unwrap_or(name);
                let bytes = self.fixtures.bytes.get(name.trim_start_matches('$'));
                Value::Blob(Blob::from(bytes.map_or(&b"bytes"[..], Vec::as_slice)))
            }
            Kind::List(item) => {
                let given = given.map(|given| given.as_array().expect("a list"));
                Value::List(match given {
                    Some(items) => {
                        items.iter().map(|one| self.value(name, item, Some(one))).collect()
                    }
                    None => vec![self.value(name, item, None)],
                })
            }
            Kind::Map(item) => {
                Value::Map([("key".to_owned(), self.value(name, item, None))].into())
            }
            Kind::Struct(schema) => {
                let nothing = Map::new();
                let given = given.map_or(&nothing, |given| given.as_object().expect("an object"));
                self.structure(schema, given)
            }
        }
    }

    /// What is written, with `$name` filled in, or what the member's name stands for.
    fn text(&self, name: &str, given: Option<&Json>) -> Option<String> {
        let texts = &self.fixtures.texts;
        let find = |name: &str| {
            let own = texts.get(&format!("{name}@{}", self.of));
            own.or_else(|| texts.get(name)).cloned()
        };
        match given.map(|given| given.as_str().expect("a text")) {
            None => find(name),
            Some(text) => Some(match text.strip_prefix('$') {
                Some(placeholder) => find(placeholder).unwrap_or_else(|| panic!("what is {text}?")),
                None => text.to_owned(),
            }),
        }
    }
}
