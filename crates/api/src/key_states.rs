//! Every operation in every state a key can reach, against the guide's table (`crates/kms/tables`).

use crate::ops::kms::create_key::CreateKey;
use crate::testing::{Bench, account, bench, run, run_named};
use crate::{Call, Service, registry};
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
