//! Keys of every sort, brought into a state by the operations that lead there, and what each operation is asked on
//! them: requests that succeed where the state lets them.

use super::stores::{ciphertext_of, key_on_token, set_state, store_away};
use crate::ops::kms::shared::import_tests::{for_ever, import, pair, prepare};
use crate::testing::{Bench, account, from_json, run_named};
use crate::{Call, Service, registry};
use awsproto::{Blob, Value};
use kms::key_store::{ConnectionState, KeyStore};
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;

/// What a key's origin and family make of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Sort {
    /// Made here, of one Region.
    Own,
    /// Imported, of one Region.
    Imported,
    /// A primary key that was made here.
    Primary,
    /// A replica of one.
    Replica,
    /// A primary key with imported material.
    ImportedPrimary,
    /// A replica of one.
    ImportedReplica,
    /// In a custom key store whose token is nowhere.
    InStore,
}

impl Sort {
    pub(super) const ALL: [Self; 7] = [
        Self::Own,
        Self::Imported,
        Self::Primary,
        Self::Replica,
        Self::ImportedPrimary,
        Self::ImportedReplica,
        Self::InStore,
    ];

    /// Every state such a key can have.
    pub(super) fn states(self) -> &'static [&'static str] {
        match self {
            Self::Own => &["Enabled", "Disabled", "PendingDeletion"],
            Self::Imported => &["Enabled", "Disabled", "PendingDeletion", "PendingImport"],
            Self::Primary => {
                &["Enabled", "Disabled", "PendingDeletion", "PendingReplicaDeletion", "Updating"]
            }
            Self::Replica => &["Enabled", "Disabled", "PendingDeletion", "Creating", "Updating"],
            Self::ImportedPrimary => &["PendingReplicaDeletion", "PendingImport", "Updating"],
            Self::ImportedReplica => &["Enabled", "PendingImport", "Creating", "Updating"],
            Self::InStore => &["Enabled", "Disabled", "PendingDeletion", "Unavailable"],
        }
    }

    pub(super) fn origin(self) -> &'static str {
        match self {
            Self::Own | Self::Primary | Self::Replica => "AWS_KMS",
            Self::Imported | Self::ImportedPrimary | Self::ImportedReplica => "EXTERNAL",
            Self::InStore => "AWS_CLOUDHSM",
        }
    }

    fn is_family(self) -> bool {
        !matches!(self, Self::Own | Self::Imported | Self::InStore)
    }

    fn is_replica(self) -> bool {
        matches!(self, Self::Replica | Self::ImportedReplica)
    }

    /// The key spec and usage that an operation is for, as far as keys of this sort have them; families of imported
    /// keys are tried with one kind.
    pub(super) fn kind_for(self, name: &str) -> (&'static str, &'static str) {
        match name {
            _ if matches!(self, Self::InStore | Self::ImportedPrimary | Self::ImportedReplica) => {
                SYMMETRIC
            }
            "Sign" | "Verify" | "GetPublicKey" => ("ECC_NIST_P256", "SIGN_VERIFY"),
            "DeriveSharedSecret" => ("ECC_NIST_P256", "KEY_AGREEMENT"),
            // No such key has imported material.
            "Encapsulate" | "Decapsulate" if self == Self::Imported => SYMMETRIC,
            "Encapsulate" | "Decapsulate" => ("ML_KEM_512", "ENCAPSULATE_DECAPSULATE"),
            "GenerateMac" | "VerifyMac" => ("HMAC_256", "GENERATE_VERIFY_MAC"),
            _ => SYMMETRIC,
        }
    }
}

const SYMMETRIC: (&str, &str) = ("SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT");

/// A key in a state, and what was made with it before.
pub(super) struct Made {
    pub(super) sort: Sort,
    pub(super) state: &'static str,
    pub(super) kind: (&'static str, &'static str),
    pub(super) arn: String,
    /// In the key's region.
    pub(super) call: Call,
    id: String,
    /// One made here, of the same kind, and enabled; and what it has encrypted.
    another: Option<(String, Option<Value>)>,
    /// What it answered while it was enabled, by the name of the member.
    made: BTreeMap<&'static str, Value>,
    grants: Vec<String>,
    store: Option<KeyStore>,
}

async fn step(call: &Call, name: &str, id: &str, more: Json) -> Json {
    let mut input = json!({"KeyId": id});
    more.as_object().expect("members").iter().for_each(|(k, v)| input[k] = v.clone());
    let done = run_named(call, Service::Kms, name, input).await;
    done.unwrap_or_else(|error| panic!("{name}: {error}"))
}

async fn shown_state(call: &Call, id: &str) -> String {
    let shown = step(call, "DescribeKey", id, json!({})).await;
    shown["KeyMetadata"]["KeyState"].as_str().expect("a state").to_owned()
}

async fn create(call: &Call, sort: Sort, kind: (&str, &str)) -> String {
    let new = json!({
        "Origin": sort.origin(), "MultiRegion": sort.is_family(),
        "KeySpec": kind.0, "KeyUsage": kind.1,
    });
    let made = run_named(call, Service::Kms, "CreateKey", new).await.expect("made");
    made["KeyMetadata"]["KeyId"].as_str().expect("an id").to_owned()
}

/// Gives a key its material. Returns what would do so again.
async fn bring(call: &Call, id: &str, material: &[u8]) -> (Blob, Blob) {
    let prepared = prepare(call, id, "RSAES_OAEP_SHA_256", material).await;
    import(call, id, prepared.clone(), &for_ever()).await.expect("imported");
    prepared
}

/// A key of a sort in a state, for an operation.
pub(super) async fn made(bench: &Bench, sort: Sort, state: &'static str, name: &str) -> Made {
    let kind = sort.kind_for(name);
    let (east, west) = (bench.root(&account(1), "us-east-1"), bench.root(&account(1), "eu-west-1"));
    if sort == Sort::InStore {
        return in_store(bench, east, state).await;
    }
    let id = create(&east, sort, kind).await;
    // While its primary key moves away, what was the primary key is the replica.
    let in_east = sort.is_replica() == (sort.is_family() && state == "Updating");
    let material = match kind.0 {
        "ECC_NIST_P256" => pair(kind.0).0,
        _ => vec![7; 32],
    };
    // Only a key that never had its material is without grants as well.
    let mut brought = None;
    if sort.origin() == "EXTERNAL" && (sort.is_family() || state != "PendingImport") {
        brought = Some(bring(&east, &id, &material).await);
    }
    let alone = ["Enabled", "Disabled", "PendingDeletion", "PendingImport"].contains(&state);
    let moves = name == "UpdatePrimaryRegion" && sort == Sort::Primary;
    let needs_replica = sort.is_replica() || !alone || (moves && state != "PendingDeletion");
    if sort.is_family() && needs_replica {
        step(&east, "ReplicateKey", &id, json!({"ReplicaRegion": "eu-west-1"})).await;
        // What other keys wait for comes first, a few at a time.
        let is_made = async || shown_state(&west, &id).await != "Creating";
        while state != "Creating" && !is_made().await {
            bench.run_due_jobs().await;
        }
        if sort.origin() == "EXTERNAL" && !["Creating", "PendingImport"].contains(&state) {
            let there = bring(&west, &id, &material).await;
            brought = if in_east { brought } else { Some(there) };
        }
    }
    let mut key = Made {
        sort,
        state,
        kind,
        arn: String::new(),
        call: bench.root(&account(1), if in_east { "us-east-1" } else { "eu-west-1" }),
        id,
        another: None,
        made: BTreeMap::new(),
        grants: Vec::new(),
        store: None,
    };
    if name == "ImportKeyMaterial" && state == "PendingImport" {
        brought = Some(prepare(&key.call, &key.id, "RSAES_OAEP_SHA_256", &material).await);
    }
    let brought = brought.into_iter().flat_map(|(token, wrapped)| {
        [("ImportToken", Value::Blob(token)), ("EncryptedKeyMaterial", Value::Blob(wrapped))]
    });
    key.made.extend(brought);
    key.prepare().await;
    match state {
        "Disabled" => drop(step(&key.call, "DisableKey", &key.id, json!({})).await),
        "PendingDeletion" | "PendingReplicaDeletion" => {
            step(&key.call, "ScheduleKeyDeletion", &key.id, json!({})).await;
        }
        "PendingImport" if sort == Sort::ImportedPrimary => {
            step(&key.call, "DeleteImportedKeyMaterial", &key.id, json!({})).await;
        }
        "Updating" => {
            step(&east, "UpdatePrimaryRegion", &key.id, json!({"PrimaryRegion": "eu-west-1"}))
                .await;
        }
        _ => {}
    }
    key
}

async fn in_store(bench: &Bench, call: Call, state: &'static str) -> Made {
    let store = store_away(bench, &call).await;
    let of_store = key_on_token(bench, &call, &store).await;
    let blob = ciphertext_of(&call, &of_store).await;
    let mut key = Made {
        sort: Sort::InStore,
        state,
        kind: SYMMETRIC,
        arn: String::new(),
        call,
        id: of_store.id.clone(),
        another: None,
        made: BTreeMap::new(),
        grants: Vec::new(),
        store: Some(store),
    };
    key.prepare().await;
    key.made.insert("CiphertextBlob", Value::Blob(blob));
    match state {
        // Without its store a key is unavailable also when it is disabled.
        "Disabled" | "Unavailable" => {
            drop(step(&key.call, "DisableKey", &key.id, json!({})).await);
        }
        "PendingDeletion" => drop(step(&key.call, "ScheduleKeyDeletion", &key.id, json!({})).await),
        _ => {}
    }
    key
}

impl Made {
    /// Connects and disconnects the store as the key's state wants it: the next key was made in it meanwhile. A key
    /// that waits for its end does so without its store too (note 13).
    pub(super) async fn settle_store(&self, bench: &Bench) {
        let Some(store) = &self.store else { return };
        set_state(bench, store, ConnectionState::Connected).await;
        if ["Unavailable", "PendingDeletion"].contains(&self.state) {
            let id = json!({"CustomKeyStoreId": store.id});
            let gone = run_named(&self.call, Service::Kms, "DisconnectCustomKeyStore", id).await;
            gone.expect("allowed");
        }
    }

    pub(super) fn has_grants(&self) -> bool {
        !self.grants.is_empty()
    }

    pub(super) async fn shown_state(&self) -> String {
        shown_state(&self.call, &self.id).await
    }

    /// What operations need that comes from the key while it can be used, and from others like it.
    async fn prepare(&mut self) {
        let shown = step(&self.call, "DescribeKey", &self.id, json!({})).await;
        self.arn = shown["KeyMetadata"]["Arn"].as_str().expect("an ARN").to_owned();
        let another = create(&self.call, Sort::Own, self.kind).await;
        for (alias, target) in
            [(self.alias("DeleteAlias"), &self.id), (self.alias("UpdateAlias"), &another)]
        {
            let named = json!({"AliasName": alias, "TargetKeyId": target});
            run_named(&self.call, Service::Kms, "CreateAlias", named).await.expect("allowed");
        }
        if self.kind.1 == "KEY_AGREEMENT" {
            let public = answer(&self.call, "GetPublicKey", json!({"KeyId": another}), "PublicKey");
            self.made.insert("PublicKey", public.await);
        }
        let sealed = match self.kind {
            SYMMETRIC => {
                let input = json!({"KeyId": another, "Plaintext": "x"});
                Some(answer(&self.call, "Encrypt", input, "CiphertextBlob").await)
            }
            _ => None,
        };
        self.another = Some((another, sealed));
        if shown["KeyMetadata"]["KeyState"] != "Enabled" {
            return;
        }
        for _ in 0..2 {
            let grant = json!({"GranteePrincipal": "222222222222", "Operations": ["DescribeKey"],
                "Name": self.grants.len().to_string()});
            let grant = step(&self.call, "CreateGrant", &self.id, grant).await;
            self.grants.push(grant["GrantId"].as_str().expect("an id").to_owned());
        }
        let (name, member) = match self.kind.1 {
            _ if self.sort == Sort::InStore => return,
            "ENCRYPT_DECRYPT" => ("Encrypt", "CiphertextBlob"),
            "SIGN_VERIFY" => ("Sign", "Signature"),
            "GENERATE_VERIFY_MAC" => ("GenerateMac", "Mac"),
            "ENCAPSULATE_DECAPSULATE" => ("Encapsulate", "SharedSecretCiphertextBlob"),
            _ => return,
        };
        let made = answer(&self.call, name, self.input(name), member).await;
        self.made.insert(member, made);
    }

    fn alias(&self, name: &str) -> String {
        format!("alias/{name}/{}", self.id)
    }

    /// Requests for an operation, each of which works where the key's state lets it.
    pub(super) fn inputs(&self, name: &str) -> Vec<Value> {
        let (another, sealed) = self.another.as_ref().expect("it was made");
        match name {
            "ReEncrypt" => {
                let from = json!({"SourceKeyId": self.id, "DestinationKeyId": another});
                let to = json!({"SourceKeyId": another, "DestinationKeyId": self.id});
                let sealed = sealed.clone().expect("it encrypts");
                let anothers = BTreeMap::from([("CiphertextBlob", sealed)]);
                vec![with_bytes(name, &from, &self.made), with_bytes(name, &to, &anothers)]
            }
            "CreateAlias" | "DeleteAlias" | "UpdateAlias" => {
                let mut input = json!({"AliasName": self.alias(name)});
                if name != "DeleteAlias" {
                    input["TargetKeyId"] = json!(self.id);
                }
                vec![with_bytes(name, &input, &self.made)]
            }
            _ => vec![with_bytes(name, &self.input(name), &self.made)],
        }
    }

    /// The smallest request that says the key by its id.
    fn input(&self, name: &str) -> Json {
        let mut input = json!({"KeyId": self.id});
        let other_region = match self.call.region.as_str() {
            "us-east-1" => "eu-west-1",
            _ => "us-east-1",
        };
        let grant = |index: usize| json!({"GrantId": self.grants.get(index).cloned().unwrap_or_else(|| "0".repeat(64))});
        let more = match name {
            "CreateGrant" => {
                json!({"GranteePrincipal": "222222222222", "Operations": ["DescribeKey"]})
            }
            "Encrypt" => json!({"Plaintext": "x"}),
            "Encapsulate" | "Decapsulate" => json!({"EncapsulationAlgorithm": "ML_KEM"}),
            "DeriveSharedSecret" => json!({"KeyAgreementAlgorithm": "ECDH"}),
            "GenerateDataKey" | "GenerateDataKeyWithoutPlaintext" => json!({"NumberOfBytes": 32}),
            "GenerateDataKeyPair" | "GenerateDataKeyPairWithoutPlaintext" => {
                json!({"KeyPairSpec": "ECC_NIST_P256"})
            }
            "GenerateMac" | "VerifyMac" => json!({"Message": "x", "MacAlgorithm": "HMAC_SHA_256"}),
            "Sign" | "Verify" => json!({"Message": "x", "SigningAlgorithm": "ECDSA_SHA_256"}),
            "GetParametersForImport" => {
                json!({"WrappingAlgorithm": "RSAES_OAEP_SHA_256", "WrappingKeySpec": "RSA_2048"})
            }
            "ImportKeyMaterial" => json!({"ExpirationModel": "KEY_MATERIAL_DOES_NOT_EXPIRE"}),
            "PutKeyPolicy" => json!({"Policy": kms::policy::default_policy(&account(1))}),
            "ReplicateKey" => json!({"ReplicaRegion": other_region}),
            "RetireGrant" => grant(0),
            "RevokeGrant" => grant(1),
            "TagResource" => json!({"Tags": [{"TagKey": "a", "TagValue": "b"}]}),
            "UntagResource" => json!({"TagKeys": ["a"]}),
            "UpdateKeyDescription" => json!({"Description": "d"}),
            "UpdatePrimaryRegion" => json!({"PrimaryRegion": other_region}),
            _ => json!({}),
        };
        more.as_object().expect("members").iter().for_each(|(k, v)| input[k] = v.clone());
        input
    }
}

/// Members that are asked for as bytes which only the key itself could have made.
const BYTES: [&str; 7] = [
    "CiphertextBlob",
    "EncryptedKeyMaterial",
    "ImportToken",
    "Mac",
    "PublicKey",
    "SharedSecretCiphertextBlob",
    "Signature",
];

/// A request with those bytes, or with some that nothing made.
fn with_bytes(name: &str, input: &Json, made: &BTreeMap<&str, Value>) -> Value {
    let schema = registry::find(Service::Kms, name).expect("served").info().input;
    let Value::Struct(mut fields) = from_json(schema, input) else {
        panic!("an input is a structure");
    };
    for member in BYTES.into_iter().filter_map(|member| schema.member(member)) {
        let made = made.get(member.name).cloned();
        let nobodys = || Value::Blob(Blob::from(&b"x"[..]));
        fields.push(member.name, made.unwrap_or_else(nobodys));
    }
    Value::Struct(fields)
}

/// One member of an operation's answer, with its bytes.
async fn answer(call: &Call, name: &str, input: Json, member: &str) -> Value {
    let operation = registry::find(Service::Kms, name).expect("served");
    let input = from_json(operation.info().input, &input);
    match operation.run(call, input).await.expect("allowed") {
        Value::Struct(fields) => fields.get(member).expect("it is answered").clone(),
        other => panic!("{other:?}"),
    }
}
