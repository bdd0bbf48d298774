//! Keys in custom key stores whose token is nowhere, made by their rows.

use crate::ops::kms::create_key::CreateKey;
use crate::ops::kms::encrypt::Encrypt;
use crate::testing::{Bench, CLUSTERS, account, bench, from_json, run, run_named};
use crate::{Call, Operation, Service, pipeline};
use awsproto::{Blob, Shape};
use kms::key::{LockoutCheck, NewKey, PolicyWriter};
use kms::key_store::{self, ConnectionState, KeyStore};
use kms::{Key, MaterialId, NewMaterial};
use serde_json::{Value as Json, json};

async fn call_kms(call: &Call, name: &str, input: Json) -> Result<Json, crate::Error> {
    run_named(call, Service::Kms, name, input).await
}

/// A store whose token is nowhere.
pub(super) async fn store_away(bench: &Bench, call: &Call) -> KeyStore {
    let (owner, region) = (account(1), call.region.clone());
    let find = move |tx: &mut meta::Tx<'_>| key_store::named(tx, &owner, &region, "away");
    if let Ok(known) = bench.world.db.read(find.clone()).await {
        return known;
    }
    let new = json!({
        "CustomKeyStoreName": "away", "CloudHsmClusterId": CLUSTERS[0], "KeyStorePassword": "1234567",
        "TrustAnchorCertificate": "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n",
    });
    call_kms(call, "CreateCustomKeyStore", new).await.expect("allowed");
    bench.world.db.read(find).await.expect("it was just made")
}

pub(super) async fn set_state(bench: &Bench, store: &KeyStore, state: ConnectionState) {
    let store = store.clone();
    let set = move |tx: &mut meta::Tx<'_>| key_store::set_state(tx, &store, state);
    bench.world.db.write(set).await.expect("rows that are written");
}

/// A key whose material is on the token of a store, which is connected then. No device is asked: the rows
/// say that it is there.
pub(super) async fn key_on_token(bench: &Bench, call: &Call, store: &KeyStore) -> Key {
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
pub(super) async fn ciphertext_of(call: &Call, key: &Key) -> Blob {
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
