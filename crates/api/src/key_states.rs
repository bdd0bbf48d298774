//! Every operation in every state a key can reach, against the guide's table (`crates/kms/tables`).

use crate::ops::kms::create_key::CreateKey;
use crate::ops::kms::encrypt::Encrypt;
use crate::testing::{Bench, CLUSTERS, account, bench, from_json, run, run_named};
use crate::{Call, Operation, Service, pipeline, registry};
use awsproto::{Blob, Shape, Value};
use kms::key::{LockoutCheck, NewKey, PolicyWriter};
use kms::key_store::{self, ConnectionState, KeyStore};
use kms::{Key, MaterialId, NewMaterial};
use serde_json::{Value as Json, json};

const TABLE: &str = include_str!("../../kms/tables/kms_key_states.json");
/// What an operation answers because of a key's state.
const OF_STATE: [&str; 3] =
    ["DisabledException", "KMSInvalidStateException", "UnsupportedOperationException"];
/// Operations that take ciphertexts, whose bytes these inputs cannot say; they share their check with the others.
const BYTES: [&str; 2] = ["Decrypt", "ReEncrypt"];

async fn call_kms(call: &Call, name: &str, input: Json) -> Result<Json, crate::Error> {
    run_named(call, Service::Kms, name, input).await
}

/// What CreateKey needs for a key that the operation is for.
fn kind(name: &str) -> Json {
    match name {
        "Sign" | "Verify" | "GetPublicKey" => {
            json!({"KeySpec": "ECC_NIST_P256", "KeyUsage": "SIGN_VERIFY"})
        }
        "DeriveSharedSecret" => json!({"KeySpec": "ECC_NIST_P256", "KeyUsage": "KEY_AGREEMENT"}),
        "GenerateMac" | "VerifyMac" => {
            json!({"KeySpec": "HMAC_256", "KeyUsage": "GENERATE_VERIFY_MAC"})
        }
        _ => json!({}),
    }
}

/// A new key for an operation, in a state, and a call in its region.
async fn key_in(bench: &Bench, name: &str, state: &str) -> (Call, String) {
    let (east, west) = (bench.root(&account(1), "us-east-1"), bench.root(&account(1), "eu-west-1"));
    let origin = if state == "PendingImport" { "EXTERNAL" } else { "AWS_KMS" };
    let mut new = kind(name);
    new["Origin"] = json!(origin);
    new["MultiRegion"] = json!(true);
    let made = run::<CreateKey>(&east, new).await.expect("made");
    let id = made["KeyMetadata"]["KeyId"].as_str().expect("an id").to_owned();
    let step = async |name: &str, more: Json| {
        let mut input = json!({"KeyId": id});
        more.as_object().expect("members").iter().for_each(|(k, v)| input[k] = v.clone());
        call_kms(&east, name, input).await.expect("allowed");
    };
    match state {
        "Disabled" => step("DisableKey", json!({})).await,
        "PendingDeletion" => step("ScheduleKeyDeletion", json!({})).await,
        "Creating" | "Updating" => {
            step("ReplicateKey", json!({"ReplicaRegion": "eu-west-1"})).await;
            if state == "Updating" {
                bench.run_due_jobs().await;
                step("UpdatePrimaryRegion", json!({"PrimaryRegion": "eu-west-1"})).await;
            }
            return (west, id);
        }
        _ => {}
    }
    (east, id)
}

/// The smallest request for an operation on a key.
fn input(name: &str, id: &str, unique: &str) -> Json {
    let mut input = json!({"KeyId": id});
    let more = match name {
        "CreateAlias" => return json!({"AliasName": unique, "TargetKeyId": id}),
        "DeleteAlias" => return json!({"AliasName": unique}),
        "UpdateAlias" => return json!({"AliasName": unique, "TargetKeyId": id}),
        "ReEncrypt" => return json!({"DestinationKeyId": id}),
        "CreateGrant" => json!({"GranteePrincipal": "222222222222", "Operations": ["Decrypt"]}),
        "Encrypt" => json!({"Plaintext": "x"}),
        "DeriveSharedSecret" => json!({"KeyAgreementAlgorithm": "ECDH", "PublicKey": "x"}),
        "GenerateDataKey" | "GenerateDataKeyWithoutPlaintext" => json!({"NumberOfBytes": 32}),
        "GenerateDataKeyPair" | "GenerateDataKeyPairWithoutPlaintext" => {
            json!({"KeyPairSpec": "ECC_NIST_P256"})
        }
        "GenerateMac" => json!({"Message": "x", "MacAlgorithm": "HMAC_SHA_256"}),
        "Sign" => json!({"Message": "x", "SigningAlgorithm": "ECDSA_SHA_256"}),
        "Verify" => {
            json!({"Message": "x", "Signature": "x", "SigningAlgorithm": "ECDSA_SHA_256"})
        }
        "VerifyMac" => json!({"Message": "x", "Mac": "x", "MacAlgorithm": "HMAC_SHA_256"}),
        "GetParametersForImport" => {
            json!({"WrappingAlgorithm": "RSAES_OAEP_SHA_256", "WrappingKeySpec": "RSA_2048"})
        }
        "ImportKeyMaterial" => json!({
            "ImportToken": "x", "EncryptedKeyMaterial": "x",
            "ExpirationModel": "KEY_MATERIAL_DOES_NOT_EXPIRE"}),
        "PutKeyPolicy" => json!({"Policy": kms::policy::default_policy(&account(1))}),
        "ReplicateKey" => json!({"ReplicaRegion": "eu-west-1"}),
        "RetireGrant" | "RevokeGrant" => json!({"GrantId": "0".repeat(64)}),
        "TagResource" => json!({"Tags": [{"TagKey": "a", "TagValue": "b"}]}),
        "UntagResource" => json!({"TagKeys": ["a"]}),
        "UpdateKeyDescription" => json!({"Description": "d"}),
        "UpdatePrimaryRegion" => json!({"PrimaryRegion": "us-east-1"}),
        _ => json!({}),
    };
    more.as_object().expect("members").iter().for_each(|(k, v)| input[k] = v.clone());
    input
}

/// The exceptions a cell allows; none for an operation that works.
fn expected(table: &Json, cell: &Json, state: &str) -> Vec<String> {
    let notes: Vec<_> =
        cell["notes"].as_array().into_iter().flatten().filter_map(Json::as_str).collect();
    let errors = notes.iter().filter_map(|note| table["notes"][note]["error"].as_str());
    let errors = errors.filter(|error| *error != "OK").map(str::to_owned);
    let made_here = state != "PendingImport";
    if notes.contains(&"9") && made_here {
        return vec![
            "UnsupportedOperationException".to_owned(),
            "KMSInvalidStateException".to_owned(),
        ];
    }
    if cell["ok"] == true || (cell["conditional"] == true && !notes.contains(&"10")) {
        return Vec::new();
    }
    if cell["na"] == true {
        return vec!["KMSInvalidStateException".to_owned()];
    }
    errors.collect()
}

#[tokio::test]
async fn operations_work_in_the_states_of_the_guide() {
    let bench = bench().await;
    let table: Json = serde_json::from_str(TABLE).expect("the table is JSON");
    let (mut ran, mut wrong) = (0, Vec::new());
    for (name, states) in table["ops"].as_object().expect("operations") {
        let served = registry::find(Service::Kms, name).is_some();
        if !served || BYTES.contains(&name.as_str()) || name == "ListRetirableGrants" {
            continue;
        }
        let known =
            ["Enabled", "Disabled", "PendingDeletion", "PendingImport", "Creating", "Updating"];
        for state in known {
            let (call, id) = key_in(&bench, name, state).await;
            let alias = format!("alias/{name}-{state}");
            if name == "DeleteAlias" || name == "UpdateAlias" {
                let holder = run::<CreateKey>(&call, json!({})).await.expect("made");
                let target = &holder["KeyMetadata"]["KeyId"];
                let input = json!({"AliasName": alias, "TargetKeyId": target});
                call_kms(&call, "CreateAlias", input).await.expect("allowed");
            }
            let mut allowed = expected(&table, &states[state], state);
            if (name.as_str(), state) == ("ListKeyRotations", "PendingImport") {
                // Inferred in the table; the API reference says it lists what is missing.
                allowed.clear();
            }
            if (name.as_str(), state) == ("UpdatePrimaryRegion", "Enabled") {
                // Refused because it is the primary key already; moves are tested with ReplicateKey.
                continue;
            }
            if (name.as_str(), state) == ("ImportKeyMaterial", "Updating") {
                // The state allows it; the origin of this key does not.
                allowed = vec!["UnsupportedOperationException".to_owned()];
            }
            let outcome = call_kms(&call, name, input(name, &id, &alias)).await;
            let code = outcome.as_ref().err().map(|error| error.code());
            let of_state = code.filter(|code| OF_STATE.contains(code));
            let fits = match of_state {
                None => allowed.is_empty(),
                Some(code) => allowed.iter().any(|allowed| allowed == code),
            };
            if !fits {
                wrong.push(format!("{name} in {state}: {code:?}, expected {allowed:?}"));
            }
            ran += 1;
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(ran >= 180, "{ran}");
}

/// What operations answer that are for kinds of keys a store does not hold: their cells have no verdict.
const OF_KIND: [(&str, &str); 9] = [
    ("DeleteImportedKeyMaterial", "UnsupportedOperationException"),
    ("DeriveSharedSecret", "InvalidKeyUsageException"),
    ("GenerateMac", "InvalidKeyUsageException"),
    ("GetPublicKey", "UnsupportedOperationException"),
    ("ReplicateKey", "UnsupportedOperationException"),
    ("Sign", "InvalidKeyUsageException"),
    ("UpdatePrimaryRegion", "UnsupportedOperationException"),
    ("Verify", "InvalidKeyUsageException"),
    ("VerifyMac", "InvalidKeyUsageException"),
];

/// A store whose token is nowhere.
async fn store_away(bench: &Bench, call: &Call) -> KeyStore {
    let new = json!({
        "CustomKeyStoreName": "away", "CloudHsmClusterId": CLUSTERS[0], "KeyStorePassword": "1234567",
        "TrustAnchorCertificate": "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n",
    });
    let made = call_kms(call, "CreateCustomKeyStore", new).await.expect("allowed");
    let id = made["CustomKeyStoreId"].as_str().expect("an id").to_owned();
    let found = move |tx: &mut meta::Tx<'_>| {
        key_store::get(tx, &account(1), &base::Region::parse("us-east-1").expect("one"), &id)
    };
    bench.world.db.read(found).await.expect("it was just made")
}

async fn set_state(bench: &Bench, store: &KeyStore, state: ConnectionState) {
    let store = store.clone();
    let set = move |tx: &mut meta::Tx<'_>| key_store::set_state(tx, &store, state);
    bench.world.db.write(set).await.expect("rows that are written");
}

/// A key whose material is on the token of a store, which is connected then. No device is asked: the rows
/// say that it is there.
async fn key_on_token(bench: &Bench, call: &Call, store: &KeyStore) -> Key {
    set_state(bench, store, ConnectionState::Connected).await;
    let (kms, owner, store) = (bench.world.kms.clone(), call.caller.clone(), store.clone());
    let material = NewMaterial::on_token(MaterialId::generate(&*bench.world.rng));
    let made = bench.world.db.write(move |tx| {
        let new = NewKey {
            account: &store.account,
            region: &store.region,
            material: &material,
            description: "",
            tags: &[],
            policy: None,
            multi_region: None,
            writer: PolicyWriter {
                principal: &owner.principal,
                context: &iam::Context::default(),
                lockout: LockoutCheck::Required,
            },
        };
        kms.create_key_in_store(tx, &new, &store.id)
    });
    made.await.expect("rows that are written")
}

/// A ciphertext that says it was made with a key's material on a token: another one's, with its header's
/// fields for version and suite changed (docs/format.kms.md).
async fn ciphertext_of(call: &Call, key: &Key) -> Blob {
    let made = run::<CreateKey>(call, json!({})).await.expect("made");
    let input = json!({"KeyId": made["KeyMetadata"]["KeyId"], "Plaintext": "x"});
    let input = from_json(<<Encrypt as Operation>::Input as Shape>::SCHEMA, &input);
    let made = pipeline::run::<Encrypt>(call, input).await.expect("allowed");
    let mut bytes = made.ciphertext_blob.to_vec();
    let id = key.current_material_id().expect("it has material").to_string();
    bytes[5..37].copy_from_slice(&hex::decode(id).expect("hexadecimal"));
    bytes[37] = 2;
    Blob::from(bytes)
}

/// The verdict of an operation on a key whose token is away.
fn expected_away(table: &Json, name: &str, cell: &Json, store: ConnectionState) -> Vec<String> {
    if cell["na"] == true {
        let known = OF_KIND.iter().find(|(operation, _)| *operation == name);
        return vec![known.unwrap_or_else(|| panic!("{name}")).1.to_owned()];
    }
    let codes = expected(table, cell, "Unavailable");
    let needs_token = cell["notes"] == json!(["11"]);
    match store {
        // A store that its owner believes connected: KMS API, KeyUnavailableException, "You can retry".
        ConnectionState::Connected if needs_token => vec!["KeyUnavailableException".to_owned()],
        _ => codes,
    }
}

#[tokio::test]
async fn operations_on_a_key_whose_token_is_away_answer_as_in_the_guide() {
    let table: Json = serde_json::from_str(TABLE).expect("the table is JSON");
    let (mut ran, mut wrong) = (0, Vec::new());
    for state in [ConnectionState::Disconnected, ConnectionState::Connected] {
        let bench = bench().await;
        let call = bench.root(&account(1), "us-east-1");
        let store = store_away(&bench, &call).await;
        for (name, states) in table["ops"].as_object().expect("operations") {
            if name == "ListRetirableGrants" {
                continue;
            }
            let key = key_on_token(&bench, &call, &store).await;
            let alias = format!("alias/{name}");
            if name == "DeleteAlias" || name == "UpdateAlias" {
                let named = json!({"AliasName": alias, "TargetKeyId": key.id});
                call_kms(&call, "CreateAlias", named).await.expect("allowed");
            }
            let blob = ciphertext_of(&call, &key).await;
            set_state(&bench, &store, state).await;
            let operation = registry::find(Service::Kms, name).expect("every operation is served");
            let mut fields = match from_json(operation.info().input, &input(name, &key.id, &alias))
            {
                Value::Struct(fields) => fields,
                other => panic!("{other:?}"),
            };
            if BYTES.contains(&name.as_str()) {
                fields.push("CiphertextBlob", Value::Blob(blob));
            }
            let outcome = operation.run(&call, Value::Struct(fields)).await;
            let code = outcome.as_ref().err().map(|error| error.code().to_owned());
            let allowed = expected_away(&table, name, &states["Unavailable"], state);
            // There is no such grant.
            let works = ["RetireGrant", "RevokeGrant"].contains(&name.as_str())
                && code.as_deref() == Some("NotFoundException");
            let fits = match &code {
                None => allowed.is_empty(),
                Some(code) => allowed.contains(code) || (works && allowed.is_empty()),
            };
            if !fits {
                wrong.push(format!("{name}, {state:?}: {code:?}, expected {allowed:?}"));
            }
            ran += 1;
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(ran, 2 * 43);
}

#[tokio::test]
async fn a_key_whose_token_is_away_is_switched_and_waits_for_its_end() {
    let bench = bench().await;
    let call = bench.root(&account(1), "us-east-1");
    let store = store_away(&bench, &call).await;
    let key = key_on_token(&bench, &call, &store).await;
    let id = json!({"KeyId": key.id});
    let shown = async || {
        let shown = call_kms(&call, "DescribeKey", id.clone()).await.expect("allowed");
        shown["KeyMetadata"]["KeyState"].as_str().expect("a state").to_owned()
    };
    let connect = async |state| set_state(&bench, &store, state).await;
    connect(ConnectionState::Disconnected).await;
    assert_eq!(shown().await, "Unavailable");
    // Note 12: accepted, and seen once the key is available. Note 13: the end is waited for all the same.
    call_kms(&call, "DisableKey", id.clone()).await.expect("accepted");
    assert_eq!(shown().await, "Unavailable");
    connect(ConnectionState::Connected).await;
    assert_eq!(shown().await, "Disabled");
    connect(ConnectionState::Disconnected).await;
    call_kms(&call, "EnableKey", id.clone()).await.expect("accepted");
    call_kms(&call, "ScheduleKeyDeletion", id.clone()).await.expect("allowed");
    assert_eq!(shown().await, "PendingDeletion");
    call_kms(&call, "CancelKeyDeletion", id.clone()).await.expect("allowed");
    connect(ConnectionState::Connected).await;
    assert_eq!(shown().await, "Disabled");
}
