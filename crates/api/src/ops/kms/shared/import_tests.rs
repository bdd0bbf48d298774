//! Imported material through the pipeline: wrapped as its owner does it, for every kind of key.

use crate::ops::kms::create_key::CreateKey;
use crate::ops::kms::decrypt::Decrypt;
use crate::ops::kms::delete_imported_key_material::DeleteImportedKeyMaterial;
use crate::ops::kms::describe_key::DescribeKey;
use crate::ops::kms::generate_data_key::GenerateDataKey;
use crate::ops::kms::get_parameters_for_import::GetParametersForImport;
use crate::ops::kms::import_key_material::ImportKeyMaterial;
use crate::ops::kms::list_key_rotations::ListKeyRotations;
use crate::ops::kms::rotate_key_on_demand::RotateKeyOnDemand;
use crate::testing::{account, bench, run, run_named};
use crate::{Call, Error, Service};
use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrapPadded};
use aws_lc_rs::rsa::{
    KeySize, OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OaepAlgorithm, OaepPublicEncryptingKey,
    PublicEncryptingKey,
};
use awsproto::{Blob, Fields, Value};
use kms::import::wrapping::{WrappingAlgorithm, WrappingKeySpec};
use serde_json::{Value as Json, json};

fn input(members: &[(&'static str, Value)]) -> Value {
    let mut fields = Fields::default();
    members.iter().for_each(|(name, value)| fields.push(name, value.clone()));
    Value::Struct(fields)
}

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

fn oaep(public: &[u8], algorithm: &'static OaepAlgorithm, material: &[u8]) -> Vec<u8> {
    let key = PublicEncryptingKey::from_der(public).expect("a key");
    let key = OaepPublicEncryptingKey::new(key).expect("an RSA key");
    let mut wrapped = vec![0; key.ciphertext_size()];
    key.encrypt(algorithm, material, &mut wrapped, None).expect("fits").to_vec()
}

fn key_wrap(public: &[u8], algorithm: &'static OaepAlgorithm, material: &[u8]) -> Vec<u8> {
    let mut wrapped = oaep(public, algorithm, &[9; 32]);
    let mut body = vec![0; material.len() + 16];
    let key = AesKek::new(&AES_256, &[9; 32]).expect("a key");
    wrapped.extend_from_slice(key.wrap_with_padding(material, &mut body).expect("fits"));
    wrapped
}

fn wrap(public: &[u8], algorithm: &str, material: &[u8]) -> Vec<u8> {
    match algorithm {
        "RSAES_OAEP_SHA_1" => oaep(public, &OAEP_SHA1_MGF1SHA1, material),
        "RSAES_OAEP_SHA_256" => oaep(public, &OAEP_SHA256_MGF1SHA256, material),
        "RSA_AES_KEY_WRAP_SHA_1" => key_wrap(public, &OAEP_SHA1_MGF1SHA1, material),
        "RSA_AES_KEY_WRAP_SHA_256" => key_wrap(public, &OAEP_SHA256_MGF1SHA256, material),
        other => panic!("{other}"),
    }
}

/// Token and public key for an import.
pub(crate) async fn parameters(
    call: &Call,
    id: &str,
    algorithm: &str,
    spec: &str,
) -> Result<(Blob, Blob), Error> {
    let asked = input(&[
        ("KeyId", text(id)),
        ("WrappingAlgorithm", text(algorithm)),
        ("WrappingKeySpec", text(spec)),
    ]);
    let made = crate::pipeline::run::<GetParametersForImport>(call, asked).await?;
    Ok((made.import_token, made.public_key))
}

/// Token and wrapped material for a key.
pub(crate) async fn prepare(
    call: &Call,
    id: &str,
    algorithm: &str,
    material: &[u8],
) -> (Blob, Blob) {
    let (token, public) = parameters(call, id, algorithm, "RSA_2048").await.expect("allowed");
    (token, Blob::from(wrap(&public, algorithm, material)))
}

pub(crate) async fn import(
    call: &Call,
    id: &str,
    (token, wrapped): (Blob, Blob),
    more: &[(&'static str, Value)],
) -> Result<Option<String>, Error> {
    let mut members = vec![
        ("KeyId", text(id)),
        ("ImportToken", Value::Blob(token)),
        ("EncryptedKeyMaterial", Value::Blob(wrapped)),
    ];
    members.extend_from_slice(more);
    let done = crate::pipeline::run::<ImportKeyMaterial>(call, input(&members)).await;
    Ok(done?.key_material_id)
}

const FOR_EVER: (&str, &str) = ("ExpirationModel", "KEY_MATERIAL_DOES_NOT_EXPIRE");

pub(crate) fn for_ever() -> [(&'static str, Value); 1] {
    [(FOR_EVER.0, text(FOR_EVER.1))]
}

fn new_material() -> [(&'static str, Value); 2] {
    [(FOR_EVER.0, text(FOR_EVER.1)), ("ImportType", text("NEW_KEY_MATERIAL"))]
}

async fn external(call: &Call) -> String {
    external_of(call, "SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT").await
}

async fn external_of(call: &Call, spec: &str, usage: &str) -> String {
    let new = json!({"Origin": "EXTERNAL", "KeySpec": spec, "KeyUsage": usage});
    let created = run::<CreateKey>(call, new).await.expect("made");
    assert_eq!(created["KeyMetadata"]["KeyState"], "PendingImport");
    assert_eq!(created["KeyMetadata"]["CurrentKeyMaterialId"], Json::Null);
    created["KeyMetadata"]["KeyId"].as_str().expect("an id").to_owned()
}

async fn state(call: &Call, id: &str) -> Json {
    let described = run::<DescribeKey>(call, json!({"KeyId": id})).await.expect("allowed");
    described["KeyMetadata"]["KeyState"].clone()
}

async fn data_key(call: &Call, id: &str) -> Result<Blob, Error> {
    let asked = input(&[("KeyId", text(id)), ("NumberOfBytes", Value::Int(32))]);
    let made = crate::pipeline::run::<GenerateDataKey>(call, asked).await?;
    Ok(made.ciphertext_blob)
}

async fn decrypt(call: &Call, ciphertext: &Blob) -> Result<(), Error> {
    let asked = input(&[("CiphertextBlob", Value::Blob(ciphertext.clone()))]);
    crate::pipeline::run::<Decrypt>(call, asked).await.map(drop)
}

#[tokio::test]
async fn every_algorithm_brings_the_same_material() {
    let bench = bench().await;
    let call = bench.root(&account(1), "us-east-1");
    let id = external(&call).await;
    assert!(data_key(&call, &id).await.is_err());
    let mut ids = Vec::new();
    for algorithm in WrappingAlgorithm::ALL.map(WrappingAlgorithm::as_str) {
        for spec in WrappingKeySpec::ALL.map(WrappingKeySpec::as_str) {
            let (token, public) = parameters(&call, &id, algorithm, spec).await.expect("allowed");
            let prepared = (token, Blob::from(wrap(&public, algorithm, &[7; 32])));
            let imported = import(&call, &id, prepared, &for_ever()).await;
            ids.push(imported.unwrap_or_else(|error| panic!("{algorithm} {spec}: {error}")));
        }
    }
    assert_eq!(ids.len(), 12);
    ids.dedup();
    assert_eq!(ids.len(), 1, "the id follows from the material");
    let ciphertext = data_key(&call, &id).await.expect("usable");

    // Gone, and only the same comes back.
    run::<DeleteImportedKeyMaterial>(&call, json!({"KeyId": id})).await.expect("allowed");
    assert_eq!(state(&call, &id).await, "PendingImport");
    let error = decrypt(&call, &ciphertext).await.expect_err("no material");
    assert!(error.0.message.ends_with("is pending import."), "{error}");
    let other = prepare(&call, &id, "RSAES_OAEP_SHA_256", &[8; 32]).await;
    let error = import(&call, &id, other, &for_ever()).await.expect_err("other material");
    assert_eq!(error.code(), "IncorrectKeyMaterialException");
    let short = prepare(&call, &id, "RSAES_OAEP_SHA_256", &[7; 16]).await;
    let error = import(&call, &id, short, &for_ever()).await.expect_err("short");
    assert_eq!(error.code(), "IncorrectKeyMaterialException");
    let same = prepare(&call, &id, "RSAES_OAEP_SHA_256", &[7; 32]).await;
    import(&call, &id, same, &for_ever()).await.expect("imported");
    decrypt(&call, &ciphertext).await.expect("opens again");
}

#[tokio::test]
async fn tokens_belong_to_one_key_for_a_day() {
    let bench = bench().await;
    let call = bench.root(&account(1), "us-east-1");
    let (one, two) = (external(&call).await, external(&call).await);
    let (token, wrapped) = prepare(&call, &one, "RSAES_OAEP_SHA_256", &[7; 32]).await;
    let both = || (token.clone(), wrapped.clone());
    let error = import(&call, &two, both(), &for_ever()).await.expect_err("another key's");
    assert_eq!(error.code(), "InvalidImportTokenException");
    for index in [0, 3, 9, 13, 20, 60, token.len() - 1] {
        let mut bytes = token.to_vec();
        bytes[index] ^= 1;
        let altered = (Blob::from(bytes), wrapped.clone());
        let error = import(&call, &one, altered, &for_ever()).await.expect_err("altered");
        assert_eq!(error.code(), "InvalidImportTokenException", "byte {index}");
    }
    let mut bytes = wrapped.to_vec();
    bytes[5] ^= 1;
    let damaged = (token.clone(), Blob::from(bytes));
    let error = import(&call, &one, damaged, &for_ever()).await.expect_err("damaged");
    assert_eq!(error.code(), "InvalidCiphertextException");
    bench.clock.advance_seconds(24 * 3600);
    let later = bench.root(&account(1), "us-east-1");
    let error = import(&later, &one, both(), &for_ever()).await.expect_err("too late");
    assert_eq!(error.code(), "ExpiredImportTokenException");
}

#[tokio::test]
async fn material_expires_to_the_second_and_is_told() {
    let bench = bench().await;
    let call = || bench.root(&account(1), "us-east-1");
    let id = external(&call()).await;
    let prepared = prepare(&call(), &id, "RSAES_OAEP_SHA_256", &[7; 32]).await;
    let at = bench.world.clock.now().plus_seconds(60);
    let expires = [("ValidTo", Value::Timestamp(at))];
    import(&call(), &id, prepared, &expires).await.expect("imported");
    let described = run::<DescribeKey>(&call(), json!({"KeyId": id})).await.expect("allowed");
    assert_eq!(described["KeyMetadata"]["ExpirationModel"], "KEY_MATERIAL_EXPIRES");
    let ciphertext = data_key(&call(), &id).await.expect("usable");
    bench.clock.advance_seconds(60);
    let error = decrypt(&call(), &ciphertext).await.expect_err("expired, before any job ran");
    assert_eq!(error.code(), "KMSInvalidStateException");
    bench.run_due_jobs().await;
    assert_eq!(state(&call(), &id).await, "PendingImport");
    let sent = bench.world.db.read(|tx| {
        events::list_events(tx, &account(1), &crate::testing::region("us-east-1"), None, 10)
    });
    let sent = sent.await.expect("events are read");
    assert_eq!(sent[0].1.detail_type(), "KMS Imported Key Material Expiration");
}

#[tokio::test]
async fn imported_keys_rotate_to_imported_material() {
    let bench = bench().await;
    let call = bench.root(&account(1), "us-east-1");
    let id = external(&call).await;
    let first = prepare(&call, &id, "RSAES_OAEP_SHA_256", &[1; 32]).await;
    let first = import(&call, &id, first, &for_ever()).await.expect("imported").expect("an id");
    let old = data_key(&call, &id).await.expect("usable");
    let key = json!({"KeyId": id});
    let error = run::<RotateKeyOnDemand>(&call, key.clone()).await.expect_err("nothing");
    assert_eq!(error.code(), "KMSInvalidStateException");

    let second = prepare(&call, &id, "RSAES_OAEP_SHA_256", &[2; 32]).await;
    let second = import(&call, &id, second, &new_material()).await.expect("imported");
    let second = second.expect("an id");
    let third = prepare(&call, &id, "RSAES_OAEP_SHA_256", &[3; 32]).await;
    let error = import(&call, &id, third, &new_material()).await.expect_err("one at a time");
    assert_eq!(error.code(), "KMSInvalidStateException");
    let list = async || {
        let all = json!({"KeyId": id, "IncludeKeyMaterial": "ALL_KEY_MATERIAL"});
        let listed = run::<ListKeyRotations>(&call, all).await.expect("allowed");
        let entries = listed["Rotations"].as_array().expect("a list").clone();
        entries
            .iter()
            .map(|e| (e["KeyMaterialId"].clone(), e["KeyMaterialState"].clone()))
            .collect::<Vec<_>>()
    };
    let entry = |id: &str, state: &str| (json!(id), json!(state));
    assert_eq!(list().await, [entry(&first, "CURRENT"), entry(&second, "PENDING_ROTATION")]);
    run::<RotateKeyOnDemand>(&call, key).await.expect("allowed");
    assert_eq!(list().await, [entry(&first, "NON_CURRENT"), entry(&second, "CURRENT")]);
    decrypt(&call, &old).await.expect("old ciphertexts open");

    // Every version that ever encrypted is needed.
    let one = json!({"KeyId": id, "KeyMaterialId": first});
    run::<DeleteImportedKeyMaterial>(&call, one).await.expect("allowed");
    assert_eq!(state(&call, &id).await, "PendingImport");
}

/// A private key of a spec, and its public half.
pub(crate) fn pair(spec: &str) -> (Vec<u8>, Vec<u8>) {
    use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING, EcdsaKeyPair,
        Ed25519KeyPair, KeyPair, ML_DSA_44_SIGNING, PqdsaKeyPair,
    };
    fn der<'a>(key: &impl AsDer<PublicKeyX509Der<'a>>) -> Vec<u8> {
        key.as_der().expect("a public key").as_ref().to_vec()
    }
    let ec = |algorithm| {
        let pair = EcdsaKeyPair::generate(algorithm).expect("a pair");
        (pair.to_pkcs8v1().expect("a document").as_ref().to_vec(), der(pair.public_key()))
    };
    match spec {
        "ECC_NIST_P256" => ec(&ECDSA_P256_SHA256_ASN1_SIGNING),
        "ECC_NIST_P521" => ec(&ECDSA_P521_SHA512_ASN1_SIGNING),
        "ECC_NIST_EDWARDS25519" => {
            let pair = Ed25519KeyPair::from_seed_unchecked(&[5; 32]).expect("a pair");
            // The newer form, with the public key in it.
            (pair.to_pkcs8().expect("a document").as_ref().to_vec(), der(pair.public_key()))
        }
        "ML_DSA_44" => {
            let pair = PqdsaKeyPair::from_seed(&ML_DSA_44_SIGNING, &[5; 32]).expect("a pair");
            (pair.to_pkcs8v1().expect("a document").as_ref().to_vec(), der(pair.public_key()))
        }
        "RSA_2048" => {
            let pair = aws_lc_rs::rsa::KeyPair::generate(KeySize::Rsa2048).expect("a pair");
            let document = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).expect("a document");
            (document.as_ref().to_vec(), der(pair.public_key()))
        }
        other => panic!("{other}"),
    }
}

/// Imports a private key, and looks at the public half of the key that has it then.
async fn public_half(call: &Call, id: &str, algorithm: &str, private: &[u8]) -> Vec<u8> {
    let (token, public) = parameters(call, id, algorithm, "RSA_3072").await.expect("allowed");
    let wrapped = Blob::from(wrap(&public, algorithm, private));
    let named = import(call, id, (token, wrapped), &for_ever()).await.expect("imported");
    assert_eq!(named, None, "only symmetric encryption keys have several materials to tell apart");
    let asked = input(&[("KeyId", text(id))]);
    let operation = crate::registry::find(Service::Kms, "GetPublicKey").expect("registered");
    match operation.run(call, asked).await.expect("usable") {
        Value::Struct(fields) => match fields.get("PublicKey") {
            Some(Value::Blob(blob)) => blob.to_vec(),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn private_keys_of_every_family_are_imported() {
    let bench = bench().await;
    let call = bench.root(&account(1), "us-east-1");
    for (spec, algorithm) in [
        ("ECC_NIST_P256", "RSAES_OAEP_SHA_256"),
        ("ECC_NIST_P521", "RSAES_OAEP_SHA_1"),
        ("ECC_NIST_EDWARDS25519", "RSAES_OAEP_SHA_256"),
        ("ML_DSA_44", "RSA_AES_KEY_WRAP_SHA_1"),
        ("RSA_2048", "RSA_AES_KEY_WRAP_SHA_256"),
    ] {
        let id = external_of(&call, spec, "SIGN_VERIFY").await;
        let (private, public) = pair(spec);
        assert_eq!(public_half(&call, &id, algorithm, &private).await, public, "{spec}");
        let (signing, message_type) = match spec {
            "ECC_NIST_EDWARDS25519" => ("ED25519_PH_SHA_512", "DIGEST"),
            "ML_DSA_44" => ("ML_DSA_SHAKE_256", "EXTERNAL_MU"),
            _ => continue,
        };
        let mut asked = vec![
            ("KeyId", text(&id)),
            ("SigningAlgorithm", text(signing)),
            ("MessageType", text(message_type)),
            ("Message", Value::Blob(Blob::from(&[7; 64][..]))),
        ];
        let sign = crate::registry::find(Service::Kms, "Sign").expect("registered");
        let Value::Struct(signed) = sign.run(&call, input(&asked)).await.expect("signed") else {
            panic!("no structure");
        };
        asked.push(("Signature", signed.get("Signature").expect("a signature").clone()));
        let verify = crate::registry::find(Service::Kms, "Verify").expect("registered");
        verify.run(&call, input(&asked)).await.expect("valid");
    }
}

#[tokio::test]
async fn a_private_key_stays_the_one_it_was() {
    let bench = bench().await;
    let call = bench.root(&account(1), "us-east-1");
    let id = external_of(&call, "ECC_NIST_P256", "SIGN_VERIFY").await;
    let (private, public) = pair("ECC_NIST_P256");
    for wrong in [pair("ECC_NIST_P521").0, vec![1; 32], private[..private.len() - 1].to_vec()] {
        let prepared = prepare(&call, &id, "RSA_AES_KEY_WRAP_SHA_256", &wrong).await;
        let error = import(&call, &id, prepared, &for_ever()).await.expect_err("of another kind");
        assert_eq!(error.code(), "IncorrectKeyMaterialException");
    }
    assert_eq!(public_half(&call, &id, "RSAES_OAEP_SHA_256", &private).await, public);
    run::<DeleteImportedKeyMaterial>(&call, json!({"KeyId": id})).await.expect("allowed");
    let gone = json!({"KeyId": id});
    let error = run_named(&call, Service::Kms, "GetPublicKey", gone).await.expect_err("gone");
    assert!(error.0.message.ends_with("is pending import."), "{error}");
    let (other, _) = pair("ECC_NIST_P256");
    let prepared = prepare(&call, &id, "RSAES_OAEP_SHA_256", &other).await;
    let error = import(&call, &id, prepared, &for_ever()).await.expect_err("another key");
    assert_eq!(error.code(), "IncorrectKeyMaterialException");
    // It has no second material to rotate to.
    let prepared = prepare(&call, &id, "RSAES_OAEP_SHA_256", &private).await;
    let error = import(&call, &id, prepared, &new_material()).await.expect_err("not for pairs");
    assert_eq!(error.code(), "UnsupportedOperationException");
    assert_eq!(public_half(&call, &id, "RSAES_OAEP_SHA_256", &private).await, public);
    let rotate = json!({"KeyId": id});
    let error = run::<RotateKeyOnDemand>(&call, rotate).await.expect_err("a key pair");
    assert_eq!(error.code(), "UnsupportedOperationException");
}

#[tokio::test]
async fn hmac_keys_have_the_length_of_their_hash() {
    let bench = bench().await;
    let call = bench.root(&account(1), "us-east-1");
    for (bits, algorithm) in [
        (224, aws_lc_rs::hmac::HMAC_SHA224),
        (256, aws_lc_rs::hmac::HMAC_SHA256),
        (384, aws_lc_rs::hmac::HMAC_SHA384),
        (512, aws_lc_rs::hmac::HMAC_SHA512),
    ] {
        let id = external_of(&call, &format!("HMAC_{bits}"), "GENERATE_VERIFY_MAC").await;
        let short = prepare(&call, &id, "RSAES_OAEP_SHA_256", &vec![3; bits / 8 - 1]).await;
        let error = import(&call, &id, short, &for_ever()).await.expect_err("short");
        assert_eq!(error.code(), "IncorrectKeyMaterialException");
        let material = vec![3; bits / 8];
        let whole = prepare(&call, &id, "RSAES_OAEP_SHA_256", &material).await;
        import(&call, &id, whole, &for_ever()).await.expect("imported");
        let expected =
            aws_lc_rs::hmac::sign(&aws_lc_rs::hmac::Key::new(algorithm, &material), b"a message");
        let verify = input(&[
            ("KeyId", text(&id)),
            ("Message", Value::Blob(Blob::from(&b"a message"[..]))),
            ("Mac", Value::Blob(Blob::from(expected.as_ref()))),
            ("MacAlgorithm", text(&format!("HMAC_SHA_{bits}"))),
        ]);
        let operation = crate::registry::find(Service::Kms, "VerifyMac").expect("registered");
        operation.run(&call, verify).await.expect("the MAC of this key");
    }
}

#[tokio::test]
async fn what_does_not_fit_or_is_not_offered_is_refused_by_name() {
    let bench = bench().await;
    let call = bench.root(&account(1), "us-east-1");
    let symmetric = external(&call).await;
    let rsa = external_of(&call, "RSA_2048", "ENCRYPT_DECRYPT").await;
    let p521 = external_of(&call, "ECC_NIST_P521", "KEY_AGREEMENT").await;
    let made = run::<CreateKey>(&call, json!({})).await.expect("made");
    let made_here = made["KeyMetadata"]["KeyId"].as_str().expect("an id").to_owned();
    for (id, algorithm, spec, said) in [
        (&symmetric, "SM2PKE", "RSA_2048", "SM2PKE"),
        (&symmetric, "RSAES_OAEP_SHA_256", "SM2", "SM2"),
        (&symmetric, "RSAES_PKCS1_V1_5", "RSA_2048", "RSAES_PKCS1_V1_5"),
        (&rsa, "RSAES_OAEP_SHA_256", "RSA_4096", "RSA_2048; use an RSA_AES_KEY_WRAP"),
        (&p521, "RSAES_OAEP_SHA_1", "RSA_2048", "ECC_NIST_P521"),
        (&made_here, "RSAES_OAEP_SHA_256", "RSA_2048", "origin is AWS_KMS which is not valid"),
    ] {
        let error = parameters(&call, id, algorithm, spec).await.expect_err("refused");
        assert_eq!(error.code(), "UnsupportedOperationException", "{algorithm} {spec}");
        assert!(error.0.message.contains(said), "{error}");
    }
}
