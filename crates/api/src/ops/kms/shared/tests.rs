//! Keys of other kinds through the pipeline: what each operation does, refuses, asks for and records.

use crate::ops::kms::create_alias::CreateAlias;
use crate::ops::kms::create_grant::CreateGrant;
use crate::ops::kms::create_key::CreateKey;
use crate::ops::kms::describe_key::DescribeKey;
use crate::ops::kms::disable_key::DisableKey;
use crate::testing::{Bench, account, bench, run, run_named};
use crate::{Call, Error, Service};
use awsproto::{Blob, Fields, Value};
use serde_json::{Value as Json, json};

/// A key's ARN.
async fn key(call: &Call, spec: &str, usage: &str) -> String {
    let input = json!({"KeySpec": spec, "KeyUsage": usage});
    let created = run::<CreateKey>(call, input).await.expect("allowed");
    created["KeyMetadata"]["Arn"].as_str().expect("an ARN").to_owned()
}

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

fn bytes(bytes: &[u8]) -> Value {
    Value::Blob(Blob::from(bytes))
}

/// Runs an operation with members that JSON cannot write.
async fn call(call: &Call, name: &str, members: &[(&'static str, Value)]) -> Result<Fields, Error> {
    let mut fields = Fields::default();
    members.iter().for_each(|(name, value)| fields.push(name, value.clone()));
    let operation = crate::registry::find(Service::Kms, name).expect("a registered operation");
    match operation.run(call, Value::Struct(fields)).await? {
        Value::Struct(fields) => Ok(fields),
        other => panic!("no structure: {other:?}"),
    }
}

fn blob(reply: &Fields, name: &str) -> Vec<u8> {
    match reply.get(name) {
        Some(Value::Blob(blob)) => blob.to_vec(),
        other => panic!("no {name}: {other:?}"),
    }
}

async fn code(caller: &Call, name: &str, input: Json) -> String {
    let error = run_named(caller, Service::Kms, name, input.clone()).await;
    error.expect_err(&format!("{name} {input}")).code().to_owned()
}

#[tokio::test]
async fn metadata_says_what_a_key_can_do() {
    let bench = bench().await;
    let owner = bench.root(&account(1), "us-east-1");
    for (spec, usage, list, algorithms) in [
        ("HMAC_384", "GENERATE_VERIFY_MAC", "MacAlgorithms", json!(["HMAC_SHA_384"])),
        ("ECC_NIST_P521", "SIGN_VERIFY", "SigningAlgorithms", json!(["ECDSA_SHA_512"])),
        ("ECC_NIST_P256", "KEY_AGREEMENT", "KeyAgreementAlgorithms", json!(["ECDH"])),
        (
            "ECC_NIST_EDWARDS25519",
            "SIGN_VERIFY",
            "SigningAlgorithms",
            json!(["ED25519_SHA_512", "ED25519_PH_SHA_512"]),
        ),
        ("ML_DSA_65", "SIGN_VERIFY", "SigningAlgorithms", json!(["ML_DSA_SHAKE_256"])),
        ("ML_KEM_768", "ENCAPSULATE_DECAPSULATE", "EncapsulationAlgorithms", json!(["ML_KEM"])),
        (
            "RSA_2048",
            "ENCRYPT_DECRYPT",
            "EncryptionAlgorithms",
            json!(["RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256"]),
        ),
    ] {
        let arn = key(&owner, spec, usage).await;
        let reply = run::<DescribeKey>(&owner, json!({"KeyId": arn})).await.expect("allowed");
        let metadata = &reply["KeyMetadata"];
        let kind =
            (&metadata["KeySpec"], &metadata["CustomerMasterKeySpec"], &metadata["KeyUsage"]);
        assert_eq!(kind, (&json!(spec), &json!(spec), &json!(usage)));
        for other in [
            "EncryptionAlgorithms",
            "SigningAlgorithms",
            "MacAlgorithms",
            "KeyAgreementAlgorithms",
            "EncapsulationAlgorithms",
        ] {
            let expected = if other == list { &algorithms } else { &Json::Null };
            assert_eq!(&metadata[other], expected, "{spec} {other}");
        }
        assert_eq!(metadata["CurrentKeyMaterialId"], Json::Null);
    }
    for (input, expected) in [
        (json!({"KeySpec": "RSA_2048"}), "ValidationException"),
        (json!({"KeySpec": "HMAC_256", "KeyUsage": "SIGN_VERIFY"}), "ValidationException"),
        (json!({"KeyUsage": "GENERATE_VERIFY_MAC"}), "ValidationException"),
        (json!({"KeySpec": "RSA_1024", "KeyUsage": "SIGN_VERIFY"}), "ValidationException"),
        (json!({"KeySpec": "ML_KEM_512", "KeyUsage": "KEY_AGREEMENT"}), "ValidationException"),
        (
            json!({"KeySpec": "ML_KEM_512", "KeyUsage": "ENCAPSULATE_DECAPSULATE", "Origin": "EXTERNAL"}),
            "UnsupportedOperationException",
        ),
    ] {
        assert_eq!(code(&owner, "CreateKey", input).await, expected);
    }
}

#[tokio::test]
async fn signatures_and_macs_are_verified_or_are_errors() {
    let bench = bench().await;
    let owner = bench.root(&account(1), "us-east-1");
    for (sign, verify, out, valid, wrong, algorithm_name, algorithm, arn) in [
        (
            "Sign",
            "Verify",
            "Signature",
            "SignatureValid",
            "KMSInvalidSignatureException",
            "SigningAlgorithm",
            "ECDSA_SHA_256",
            key(&owner, "ECC_SECG_P256K1", "SIGN_VERIFY").await,
        ),
        (
            "GenerateMac",
            "VerifyMac",
            "Mac",
            "MacValid",
            "KMSInvalidMacException",
            "MacAlgorithm",
            "HMAC_SHA_256",
            key(&owner, "HMAC_256", "GENERATE_VERIFY_MAC").await,
        ),
    ] {
        let common = [("KeyId", text(&arn)), (algorithm_name, text(algorithm))];
        let with = |more: &[(&'static str, Value)]| [&common[..], more].concat();
        let made = call(&owner, sign, &with(&[("Message", bytes(b"m"))])).await.expect("allowed");
        let tag = blob(&made, out);
        let input = with(&[("Message", bytes(b"m")), (out, bytes(&tag))]);
        let reply = call(&owner, verify, &input).await.expect("it is valid");
        assert_eq!(reply.get(valid), Some(&Value::Bool(true)));
        assert_eq!(reply.get("KeyId"), Some(&text(&arn)));
        assert_eq!(reply.get(algorithm_name), Some(&text(algorithm)));
        let input = with(&[("Message", bytes(b"n")), (out, bytes(&tag))]);
        let refused = call(&owner, verify, &input).await.expect_err("refused");
        assert_eq!((refused.code(), refused.0.message.as_str()), (wrong, ""));
        for message in [&b""[..], &[0; 4097]] {
            let refused = call(&owner, sign, &with(&[("Message", bytes(message))])).await;
            assert_eq!(refused.expect_err("refused").code(), "ValidationException");
        }
        for operation in [sign, verify] {
            let mut input = with(&[("Message", bytes(b"m")), ("DryRun", Value::Bool(true))]);
            if operation == verify {
                input.push((out, bytes(b"x")));
            }
            let dry = call(&owner, operation, &input).await.expect_err("dry");
            assert_eq!(dry.code(), "DryRunOperationException");
        }
    }
}

#[tokio::test]
async fn message_types_fit_the_algorithm() {
    let bench = bench().await;
    let owner = bench.root(&account(1), "us-east-1");
    let p384 = key(&owner, "ECC_NIST_P384", "SIGN_VERIFY").await;
    let edwards = key(&owner, "ECC_NIST_EDWARDS25519", "SIGN_VERIFY").await;
    let mldsa = key(&owner, "ML_DSA_44", "SIGN_VERIFY").await;
    for (key, algorithm, message_type, length, expected) in [
        (&p384, "ECDSA_SHA_384", "DIGEST", 48, None),
        (&p384, "ECDSA_SHA_384", "DIGEST", 32, Some("ValidationException")),
        (&p384, "ECDSA_SHA_384", "EXTERNAL_MU", 64, Some("ValidationException")),
        (&p384, "ECDSA_SHA_256", "RAW", 3, Some("InvalidKeyUsageException")),
        (&p384, "ECDSA_SHA_256", "DIGEST", 3, Some("InvalidKeyUsageException")),
        (&edwards, "ED25519_SHA_512", "RAW", 64, None),
        (&edwards, "ED25519_SHA_512", "DIGEST", 64, Some("ValidationException")),
        (&edwards, "ED25519_SHA_512", "EXTERNAL_MU", 64, Some("ValidationException")),
        (&edwards, "ED25519_PH_SHA_512", "DIGEST", 64, None),
        (&edwards, "ED25519_PH_SHA_512", "DIGEST", 63, Some("ValidationException")),
        (&edwards, "ED25519_PH_SHA_512", "RAW", 64, Some("ValidationException")),
        (&p384, "ED25519_PH_SHA_512", "DIGEST", 64, Some("InvalidKeyUsageException")),
        (&mldsa, "ML_DSA_SHAKE_256", "RAW", 64, None),
        (&mldsa, "ML_DSA_SHAKE_256", "DIGEST", 64, Some("ValidationException")),
        (&mldsa, "ML_DSA_SHAKE_256", "EXTERNAL_MU", 64, None),
        (&mldsa, "ML_DSA_SHAKE_256", "EXTERNAL_MU", 65, Some("ValidationException")),
    ] {
        let message = "m".repeat(length);
        for dry_run in [false, true] {
            let input = json!({
                "KeyId": key, "SigningAlgorithm": algorithm, "MessageType": message_type,
                "Message": message, "DryRun": dry_run,
            });
            let outcome = run_named(&owner, Service::Kms, "Sign", input.clone()).await;
            let refused = outcome.err().map(|error| error.code());
            let dry = dry_run.then_some("DryRunOperationException");
            assert_eq!(refused, expected.or(dry), "{input}");
        }
    }
}

/// A key of a family in two regions: the same id in both.
async fn key_in_two_regions(bench: &Bench, kind: (&str, &str), region: &str) -> String {
    let owner = bench.root(&account(1), "us-east-1");
    let family = json!({"KeySpec": kind.0, "KeyUsage": kind.1, "MultiRegion": true});
    let primary = run::<CreateKey>(&owner, family).await.expect("allowed");
    let id = primary["KeyMetadata"]["KeyId"].as_str().expect("an id").to_owned();
    let input = json!({"KeyId": id, "ReplicaRegion": region});
    run_named(&owner, Service::Kms, "ReplicateKey", input).await.expect("allowed");
    bench.run_due_jobs().await;
    id
}

#[tokio::test]
async fn what_was_hashed_outside_is_signed_verified_decided_and_recorded() {
    let bench = bench().await;
    let owner = bench.root(&account(1), "us-east-1");
    let there = bench.root(&account(1), "eu-west-1");
    for (spec, algorithm, message_type) in [
        ("ECC_NIST_EDWARDS25519", "ED25519_PH_SHA_512", "DIGEST"),
        ("ML_DSA_65", "ML_DSA_SHAKE_256", "EXTERNAL_MU"),
    ] {
        let id = key_in_two_regions(&bench, (spec, "SIGN_VERIFY"), "eu-west-1").await;
        let asked = |message: [u8; 64], message_type| {
            vec![
                ("KeyId", text(&id)),
                ("SigningAlgorithm", text(algorithm)),
                ("MessageType", text(message_type)),
                ("Message", bytes(&message)),
            ]
        };
        let reply = call(&owner, "Sign", &asked([7; 64], message_type)).await.expect("allowed");
        assert_eq!(reply.get("SigningAlgorithm"), Some(&text(algorithm)));
        let with = |mut input: Vec<_>, signature: &[u8]| {
            input.push(("Signature", bytes(signature)));
            input
        };
        let signature = blob(&reply, "Signature");
        let good = with(asked([7; 64], message_type), &signature);
        let reply = call(&there, "Verify", &good).await.expect("the family has one key");
        assert_eq!(reply.get("SignatureValid"), Some(&Value::Bool(true)));
        for wrong in [
            with(asked([8; 64], message_type), &signature),
            with(asked([7; 64], message_type), &signature[1..]),
        ] {
            let refused = call(&there, "Verify", &wrong).await.expect_err("refused");
            assert_eq!(refused.code(), "KMSInvalidSignatureException");
        }
        for (condition, value, allowed) in [
            ("kms:MessageType", message_type, true),
            ("kms:MessageType", "RAW", false),
            ("kms:SigningAlgorithm", algorithm, true),
            ("kms:SigningAlgorithm", "ED25519_SHA_512", false),
        ] {
            let policy = json!({"Version": "2012-10-17", "Statement": [{
                "Effect": "Allow", "Action": "kms:Sign", "Resource": "*",
                "Condition": {"StringEquals": {condition: value}},
            }]});
            let name = format!("{spec}-{value}");
            let user = bench.user(&account(1), &name, &policy.to_string()).await;
            let outcome = call(&user, "Sign", &asked([7; 64], message_type)).await;
            assert_eq!(outcome.is_ok(), allowed, "{condition} {value}");
        }
        let found = json!({"MaxResults": 50});
        let reply = run_named(&owner, Service::CloudTrail, "LookupEvents", found).await;
        let reply = reply.expect("allowed");
        let record = reply["Events"].as_array().expect("a list").iter().find_map(|event| {
            let record: Json = serde_json::from_str(event["CloudTrailEvent"].as_str()?).ok()?;
            let named = record["requestParameters"]["messageType"] == message_type;
            (record["eventName"] == "Sign" && named).then_some(record)
        });
        let record = record.expect("it is recorded");
        assert_eq!(record["requestParameters"]["signingAlgorithm"], algorithm);
        assert!(!record.to_string().contains("BwcHBwcH"), "the digest is not");
    }
}

/// The public half of a key pair.
async fn public_key(caller: &Call, arn: &str) -> Vec<u8> {
    let reply = call(caller, "GetPublicKey", &[("KeyId", text(arn))]).await.expect("allowed");
    blob(&reply, "PublicKey")
}

#[tokio::test]
async fn both_sides_derive_one_secret() {
    let bench = bench().await;
    let owner = bench.root(&account(1), "us-east-1");
    let (one, two) = (
        key(&owner, "ECC_NIST_P256", "KEY_AGREEMENT").await,
        key(&owner, "ECC_NIST_P256", "KEY_AGREEMENT").await,
    );
    let derive = async |own: &str, peer: &[u8]| {
        let input = [
            ("KeyId", text(own)),
            ("KeyAgreementAlgorithm", text("ECDH")),
            ("PublicKey", bytes(peer)),
        ];
        call(&owner, "DeriveSharedSecret", &input).await
    };
    let secret = derive(&one, &public_key(&owner, &two).await).await.expect("allowed");
    let same = derive(&two, &public_key(&owner, &one).await).await.expect("allowed");
    assert_eq!(blob(&secret, "SharedSecret"), blob(&same, "SharedSecret"));
    assert_eq!(blob(&secret, "SharedSecret").len(), 32);
    assert_eq!(secret.get("KeyOrigin"), Some(&text("AWS_KMS")));
    let refused = derive(&one, b"no key").await.expect_err("refused");
    assert_eq!(refused.code(), "ValidationException");
}

#[tokio::test]
async fn what_is_encapsulated_is_decapsulated_with_the_same_key() {
    let bench = bench().await;
    let owner = bench.root(&account(1), "us-east-1");
    for (spec, length) in [("ML_KEM_512", 768), ("ML_KEM_768", 1088), ("ML_KEM_1024", 1568)] {
        let (one, two) = (
            key(&owner, spec, "ENCAPSULATE_DECAPSULATE").await,
            key(&owner, spec, "ENCAPSULATE_DECAPSULATE").await,
        );
        let named =
            |arn: &str| vec![("KeyId", text(arn)), ("EncapsulationAlgorithm", text("ML_KEM"))];
        let made = call(&owner, "Encapsulate", &named(&one)).await.expect("allowed");
        assert_eq!(made.get("KeyId"), Some(&text(&one)));
        assert_eq!(made.get("EncapsulationAlgorithm"), Some(&text("ML_KEM")));
        let (secret, sealed) =
            (blob(&made, "SharedSecret"), blob(&made, "SharedSecretCiphertextBlob"));
        assert_eq!((secret.len(), sealed.len()), (32, length));
        let again = call(&owner, "Encapsulate", &named(&one)).await.expect("allowed");
        assert_ne!(blob(&again, "SharedSecret"), secret);
        let open = async |arn: &str, sealed: &[u8], dry_run: bool| {
            let mut input = named(arn);
            input.push(("SharedSecretCiphertextBlob", bytes(sealed)));
            input.push(("DryRun", Value::Bool(dry_run)));
            let reply = call(&owner, "Decapsulate", &input).await;
            reply.map(|reply| blob(&reply, "SharedSecret")).map_err(|error| error.code().to_owned())
        };
        assert_eq!(open(&one, &sealed, false).await.as_ref(), Ok(&secret));
        // Another key gives another secret, and no error (FIPS 203, implicit rejection).
        assert_ne!(open(&two, &sealed, false).await.expect("a secret"), secret);
        for dry_run in [false, true] {
            let cut = open(&one, &sealed[1..], dry_run).await;
            assert_eq!(cut, Err("InvalidCiphertextException".to_owned()));
            let empty = open(&one, b"", dry_run).await;
            assert_eq!(empty, Err("ValidationException".to_owned()));
        }
        let dry = open(&one, &sealed, true).await;
        assert_eq!(dry, Err("DryRunOperationException".to_owned()));
    }
    let kind = ("ML_KEM_512", "ENCAPSULATE_DECAPSULATE");
    let id = key_in_two_regions(&bench, kind, "eu-west-1").await;
    let named = [("KeyId", text(&id)), ("EncapsulationAlgorithm", text("ML_KEM"))];
    let made = call(&owner, "Encapsulate", &named).await.expect("allowed");
    let sealed = bytes(&blob(&made, "SharedSecretCiphertextBlob"));
    let there = bench.root(&account(1), "eu-west-1");
    let named = [&named[..], &[("SharedSecretCiphertextBlob", sealed)]].concat();
    let opened = call(&there, "Decapsulate", &named).await.expect("the family has one material");
    assert_eq!(blob(&opened, "SharedSecret"), blob(&made, "SharedSecret"));

    let signing = key(&owner, "ML_DSA_44", "SIGN_VERIFY").await;
    let input = json!({"KeyId": signing, "EncapsulationAlgorithm": "ML_KEM"});
    assert_eq!(code(&owner, "Encapsulate", input).await, "InvalidKeyUsageException");
    let kem = key(&owner, "ML_KEM_512", "ENCAPSULATE_DECAPSULATE").await;
    let input = json!({"KeyId": kem, "SigningAlgorithm": "ML_DSA_SHAKE_256", "Message": "m"});
    assert_eq!(code(&owner, "Sign", input).await, "InvalidKeyUsageException");
    let input = json!({"KeyId": kem, "EncapsulationAlgorithm": "ML_KEM_768"});
    assert_eq!(code(&owner, "Encapsulate", input).await, "ValidationException");
}

#[tokio::test]
async fn data_key_pairs_are_opened_by_decrypt_under_their_context() {
    let bench = bench().await;
    let owner = bench.root(&account(1), "us-east-1");
    let arn = key(&owner, "SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT").await;
    let context = Value::Map([("a".to_owned(), text("b"))].into());
    let input = [
        ("KeyId", text(&arn)),
        ("KeyPairSpec", text("ECC_NIST_P384")),
        ("EncryptionContext", context.clone()),
    ];
    let made = call(&owner, "GenerateDataKeyPair", &input).await.expect("allowed");
    let private = blob(&made, "PrivateKeyPlaintext");
    let sealed = blob(&made, "PrivateKeyCiphertextBlob");
    let open = async |context: Value| {
        let input = [("CiphertextBlob", bytes(&sealed)), ("EncryptionContext", context)];
        call(&owner, "Decrypt", &input).await.map(|reply| blob(&reply, "Plaintext"))
    };
    assert_eq!(open(context).await.expect("allowed"), private);
    let refused = open(Value::Map(Default::default())).await.expect_err("refused");
    assert_eq!(refused.code(), "InvalidCiphertextException");

    let quiet = call(&owner, "GenerateDataKeyPairWithoutPlaintext", &input).await.expect("allowed");
    assert_eq!(quiet.get("PrivateKeyPlaintext"), None);
    assert_ne!(blob(&quiet, "PublicKey"), blob(&made, "PublicKey"));
    let refused = json!({"KeyId": arn, "KeyPairSpec": "SM2"});
    let refused = run_named(&owner, Service::Kms, "GenerateDataKeyPair", refused).await;
    let refused = refused.expect_err("not here");
    assert_eq!(refused.code(), "UnsupportedOperationException");
    assert!(refused.0.message.contains("SM2"), "{refused}");
}

#[tokio::test]
async fn ml_kem_data_key_pairs_are_seeds_that_decrypt_opens() {
    let bench = bench().await;
    let owner = bench.root(&account(1), "us-east-1");
    let arn = key(&owner, "SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT").await;
    for (spec, length) in [("ML_KEM_512", 800), ("ML_KEM_768", 1184), ("ML_KEM_1024", 1568)] {
        let input = [("KeyId", text(&arn)), ("KeyPairSpec", text(spec))];
        let made = call(&owner, "GenerateDataKeyPair", &input).await.expect("allowed");
        assert_eq!(made.get("KeyPairSpec"), Some(&text(spec)));
        let (public, private) = (blob(&made, "PublicKey"), blob(&made, "PrivateKeyPlaintext"));
        // What stands before an encapsulation key and before a seed (RFC 9935).
        assert_eq!((public.len(), private.len()), (22 + length, 22 + 64), "{spec}");
        let sealed = [("CiphertextBlob", bytes(&blob(&made, "PrivateKeyCiphertextBlob")))];
        let opened = call(&owner, "Decrypt", &sealed).await.expect("allowed");
        assert_eq!(blob(&opened, "Plaintext"), private);

        let quiet = call(&owner, "GenerateDataKeyPairWithoutPlaintext", &input).await;
        let quiet = quiet.expect("allowed");
        assert_eq!(quiet.get("PrivateKeyPlaintext"), None);
        assert_ne!(blob(&quiet, "PublicKey"), public, "each is new");
        let sealed = [("CiphertextBlob", bytes(&blob(&quiet, "PrivateKeyCiphertextBlob")))];
        let opened = call(&owner, "Decrypt", &sealed).await.expect("allowed");
        assert_eq!(blob(&opened, "Plaintext").len(), private.len());
    }
}

#[tokio::test]
async fn rsa_ciphertexts_need_their_key_and_algorithm_named() {
    let bench = bench().await;
    let owner = bench.root(&account(1), "us-east-1");
    let rsa = key(&owner, "RSA_2048", "ENCRYPT_DECRYPT").await;
    let symmetric = key(&owner, "SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT").await;
    let oaep = text("RSAES_OAEP_SHA_256");
    let encrypt = json!({"KeyId": rsa, "Plaintext": "x"});
    assert_eq!(code(&owner, "Encrypt", encrypt).await, "InvalidKeyUsageException");
    let large = json!({
        "KeyId": rsa, "Plaintext": "x".repeat(191), "EncryptionAlgorithm": "RSAES_OAEP_SHA_256",
    });
    assert_eq!(code(&owner, "Encrypt", large).await, "ValidationException");
    let input = [
        ("KeyId", text(&rsa)),
        ("Plaintext", bytes(b"hello")),
        ("EncryptionAlgorithm", oaep.clone()),
    ];
    let made = call(&owner, "Encrypt", &input).await.expect("allowed");
    assert_eq!(made.get("EncryptionAlgorithm"), Some(&oaep));
    let ciphertext = bytes(&blob(&made, "CiphertextBlob"));
    for (key, algorithm, expected) in [
        (Some(&rsa), Some("RSAES_OAEP_SHA_256"), None),
        (Some(&rsa), Some("RSAES_OAEP_SHA_1"), Some("InvalidCiphertextException")),
        (Some(&rsa), None, Some("InvalidKeyUsageException")),
        (Some(&symmetric), None, Some("InvalidCiphertextException")),
        (None, Some("RSAES_OAEP_SHA_256"), Some("InvalidCiphertextException")),
    ] {
        let mut input = vec![("CiphertextBlob", ciphertext.clone())];
        input.extend(key.map(|key| ("KeyId", text(key))));
        input.extend(algorithm.map(|name| ("EncryptionAlgorithm", text(name))));
        let outcome = call(&owner, "Decrypt", &input).await;
        let refused = outcome.as_ref().err().map(Error::code);
        assert_eq!(refused, expected, "{key:?} {algorithm:?}");
        if let Ok(reply) = outcome {
            assert_eq!(blob(&reply, "Plaintext"), b"hello");
            assert_eq!(reply.get("KeyMaterialId"), None);
        }
    }
    let input = [
        ("CiphertextBlob", ciphertext),
        ("SourceKeyId", text(&rsa)),
        ("SourceEncryptionAlgorithm", oaep),
        ("DestinationKeyId", text(&symmetric)),
    ];
    let moved = call(&owner, "ReEncrypt", &input).await.expect("allowed");
    let input = [("CiphertextBlob", bytes(&blob(&moved, "CiphertextBlob")))];
    let opened = call(&owner, "Decrypt", &input).await.expect("allowed");
    assert_eq!(blob(&opened, "Plaintext"), b"hello");
}

/// Every operation on a key of its own kind: what is asked for beside the key.
const USES: [(&str, &str, &str, &str); 10] = [
    (
        "Sign",
        "ECC_NIST_P256",
        "SIGN_VERIFY",
        r#"{"Message":"m","SigningAlgorithm":"ECDSA_SHA_256"}"#,
    ),
    (
        "Verify",
        "ECC_NIST_P256",
        "SIGN_VERIFY",
        r#"{"Message":"m","SigningAlgorithm":"ECDSA_SHA_256","Signature":"s"}"#,
    ),
    (
        "GenerateMac",
        "HMAC_224",
        "GENERATE_VERIFY_MAC",
        r#"{"Message":"m","MacAlgorithm":"HMAC_SHA_224"}"#,
    ),
    (
        "VerifyMac",
        "HMAC_224",
        "GENERATE_VERIFY_MAC",
        r#"{"Message":"m","MacAlgorithm":"HMAC_SHA_224","Mac":"s"}"#,
    ),
    ("GetPublicKey", "ML_DSA_44", "SIGN_VERIFY", "{}"),
    (
        "DeriveSharedSecret",
        "ECC_NIST_P521",
        "KEY_AGREEMENT",
        r#"{"KeyAgreementAlgorithm":"ECDH","PublicKey":"p"}"#,
    ),
    (
        "GenerateDataKeyPair",
        "SYMMETRIC_DEFAULT",
        "ENCRYPT_DECRYPT",
        r#"{"KeyPairSpec":"ECC_NIST_P256"}"#,
    ),
    (
        "GenerateDataKeyPairWithoutPlaintext",
        "SYMMETRIC_DEFAULT",
        "ENCRYPT_DECRYPT",
        r#"{"KeyPairSpec":"ECC_NIST_P256"}"#,
    ),
    (
        "Encapsulate",
        "ML_KEM_512",
        "ENCAPSULATE_DECAPSULATE",
        r#"{"EncapsulationAlgorithm":"ML_KEM"}"#,
    ),
    (
        "Decapsulate",
        "ML_KEM_768",
        "ENCAPSULATE_DECAPSULATE",
        r#"{"EncapsulationAlgorithm":"ML_KEM","SharedSecretCiphertextBlob":"s"}"#,
    ),
];

fn input(text: &str, key_id: &str) -> Json {
    let mut input: Json = serde_json::from_str(text).expect("a request");
    input["KeyId"] = json!(key_id);
    input
}

#[tokio::test]
async fn kinds_states_and_permissions_are_told_in_order() {
    let bench = bench().await;
    let owner = bench.root(&account(1), "us-east-1");
    let stranger = bench.root(&account(2), "us-east-1");
    let symmetric = key(&owner, "SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT").await;
    let hmac = key(&owner, "HMAC_512", "GENERATE_VERIFY_MAC").await;
    for (name, spec, usage, text) in USES {
        let own = key(&owner, spec, usage).await;
        let other = if spec == "SYMMETRIC_DEFAULT" { &hmac } else { &symmetric };
        let wrong = run_named(&owner, Service::Kms, name, input(text, other)).await;
        let wrong = wrong.expect_err("of another kind");
        let expected = match name {
            "GetPublicKey" => "UnsupportedOperationException",
            _ => "InvalidKeyUsageException",
        };
        assert_eq!(wrong.code(), expected, "{name}");
        assert!(wrong.0.message.ends_with(&format!("which is not valid for {name}.")), "{wrong}");
        assert_eq!(code(&stranger, name, input(text, &own)).await, "AccessDeniedException");
        let forged = {
            let mut forged = input(text, &own);
            forged["GrantTokens"] = json!(["forged"]);
            forged
        };
        assert_eq!(code(&owner, name, forged).await, "InvalidGrantTokenException");
        run::<DisableKey>(&owner, json!({"KeyId": own})).await.expect("allowed");
        assert_eq!(code(&owner, name, input(text, &own)).await, "DisabledException", "{name}");
    }
}

#[tokio::test]
async fn grants_fit_the_kind_and_open_each_operation() {
    let bench = bench().await;
    let owner = bench.root(&account(1), "us-east-1");
    let user = bench.user(&account(1), "u", r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"sts:*","Resource":"*"}]}"#).await;
    let grantee = &user.caller.principal.arn;
    for (name, spec, usage, text) in USES {
        let own = key(&owner, spec, usage).await;
        let before = code(&user, name, input(text, &own)).await;
        assert_eq!(before, "AccessDeniedException", "{name}");
        let grant = |operation: &str| json!({"KeyId": own, "GranteePrincipal": grantee, "Operations": [operation]});
        run::<CreateGrant>(&owner, grant(name)).await.expect("allowed");
        let after = run_named(&user, Service::Kms, name, input(text, &own)).await;
        let refused = after.err().map(|error| error.code());
        // What the request itself is wrong about is told once it is allowed.
        let expected = match name {
            "Verify" => Some("KMSInvalidSignatureException"),
            "VerifyMac" => Some("KMSInvalidMacException"),
            "DeriveSharedSecret" => Some("ValidationException"),
            "Decapsulate" => Some("InvalidCiphertextException"),
            _ => None,
        };
        assert_eq!(refused, expected, "{name}");
        let unfit = if spec == "SYMMETRIC_DEFAULT" { "Sign" } else { "GenerateDataKey" };
        assert_eq!(code(&owner, "CreateGrant", grant(unfit)).await, "ValidationException");
        let mut dry = grant(unfit);
        dry["DryRun"] = json!(true);
        assert_eq!(code(&owner, "CreateGrant", dry).await, "ValidationException");
        if spec != "SYMMETRIC_DEFAULT" {
            let mut constrained = grant(name);
            constrained["Constraints"] = json!({"EncryptionContextSubset": {"a": "b"}});
            assert_eq!(code(&owner, "CreateGrant", constrained).await, "ValidationException");
        }
    }
}

#[tokio::test]
async fn policies_see_what_is_asked_for() {
    let bench = bench().await;
    let owner = bench.root(&account(1), "us-east-1");
    for (index, condition, value, other) in [
        (0, "kms:SigningAlgorithm", "ECDSA_SHA_256", "ECDSA_SHA_384"),
        (0, "kms:MessageType", "RAW", "DIGEST"),
        (1, "kms:SigningAlgorithm", "ECDSA_SHA_256", "ECDSA_SHA_384"),
        (2, "kms:MacAlgorithm", "HMAC_SHA_224", "HMAC_SHA_256"),
        (3, "kms:MacAlgorithm", "HMAC_SHA_224", "HMAC_SHA_256"),
        (4, "kms:KeySpec", "ML_DSA_44", "ML_DSA_65"),
        (4, "kms:KeyUsage", "SIGN_VERIFY", "KEY_AGREEMENT"),
        (5, "kms:KeyAgreementAlgorithm", "ECDH", "X"),
        (6, "kms:DataKeyPairSpec", "ECC_NIST_P256", "ECC_NIST_P384"),
        (7, "kms:DataKeyPairSpec", "ECC_NIST_P256", "ML_KEM_512"),
        (8, "kms:KeyUsage", "ENCAPSULATE_DECAPSULATE", "KEY_AGREEMENT"),
        (9, "kms:KeySpec", "ML_KEM_768", "ML_KEM_512"),
        (7, "kms:EncryptionAlgorithm", "SYMMETRIC_DEFAULT", "RSAES_OAEP_SHA_1"),
    ] {
        let (name, spec, usage, text) = USES[index];
        let own = key(&owner, spec, usage).await;
        for (value, allowed) in [(value, true), (other, false)] {
            let policy = json!({"Version": "2012-10-17", "Statement": [{
                "Effect": "Allow", "Action": format!("kms:{name}"), "Resource": "*",
                "Condition": {"StringEquals": {condition: value}},
            }]});
            let user_name = format!("{name}{condition}{allowed}").replace(':', "-");
            let user = bench.user(&account(1), &user_name, &policy.to_string()).await;
            let outcome = run_named(&user, Service::Kms, name, input(text, &own)).await;
            let denied = outcome.is_err_and(|error| error.code() == "AccessDeniedException");
            assert_eq!(denied, !allowed, "{name} {condition} {value}");
        }
    }
}

#[tokio::test]
async fn random_bytes_come_in_the_number_asked_for() {
    let bench = bench().await;
    let owner = bench.root(&account(1), "us-east-1");
    let random = |input| run_named(&owner, Service::Kms, "GenerateRandom", input);
    for number in [1, 32, 1024] {
        let reply = random(json!({"NumberOfBytes": number})).await.expect("allowed");
        assert_eq!(reply["Plaintext"].as_array().map(Vec::len), Some(number));
    }
    let (one, two) = (random(json!({"NumberOfBytes": 32})), random(json!({"NumberOfBytes": 32})));
    assert_ne!(one.await.expect("allowed"), two.await.expect("allowed"));
    for input in [json!({}), json!({"NumberOfBytes": 0}), json!({"NumberOfBytes": 1025})] {
        assert_eq!(code(&owner, "GenerateRandom", input).await, "ValidationException");
    }
    let nobody = bench.user(&account(1), "n", r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"sts:*","Resource":"*"}]}"#).await;
    let input = json!({"NumberOfBytes": 1});
    assert_eq!(code(&nobody, "GenerateRandom", input).await, "AccessDeniedException");
}

#[tokio::test]
async fn aliases_name_keys_of_every_kind() {
    let bench = bench().await;
    let owner = bench.root(&account(1), "us-east-1");
    for (name, spec, usage, text) in USES {
        let own = key(&owner, spec, usage).await;
        let alias = format!("alias/{name}");
        let input_alias = json!({"AliasName": alias, "TargetKeyId": own});
        run::<CreateAlias>(&owner, input_alias).await.expect("allowed");
        let outcome = run_named(&owner, Service::Kms, name, input(text, &alias)).await;
        if let Ok(reply) = outcome {
            assert_eq!(reply["KeyId"], json!(own), "{name}");
        }
    }
}

#[tokio::test]
async fn records_hold_names_and_no_secret() {
    let bench = bench().await;
    let owner = bench.root(&account(1), "us-east-1");
    let hmac = key(&owner, "HMAC_256", "GENERATE_VERIFY_MAC").await;
    let message = b"a message that is nobody else's";
    let common = [("KeyId", text(&hmac)), ("MacAlgorithm", text("HMAC_SHA_256"))];
    let input = [&common[..], &[("Message", bytes(message))]].concat();
    let made = call(&owner, "GenerateMac", &input).await.expect("allowed");
    let tag = blob(&made, "Mac");
    let input = [&input[..], &[("Mac", bytes(&tag))]].concat();
    call(&owner, "VerifyMac", &input).await.expect("valid");
    let random = [("NumberOfBytes", Value::Int(24))];
    let random =
        blob(&call(&owner, "GenerateRandom", &random).await.expect("allowed"), "Plaintext");
    let symmetric = key(&owner, "SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT").await;
    let input = [("KeyId", text(&symmetric)), ("KeyPairSpec", text("ECC_NIST_EDWARDS25519"))];
    let pair = call(&owner, "GenerateDataKeyPair", &input).await.expect("allowed");
    let kem = key(&owner, "ML_KEM_512", "ENCAPSULATE_DECAPSULATE").await;
    let input = [("KeyId", text(&kem)), ("EncapsulationAlgorithm", text("ML_KEM"))];
    let shared = call(&owner, "Encapsulate", &input).await.expect("allowed");
    let sealed = blob(&shared, "SharedSecretCiphertextBlob");
    let input = [&input[..], &[("SharedSecretCiphertextBlob", bytes(&sealed))]].concat();
    call(&owner, "Decapsulate", &input).await.expect("allowed");
    let shared = blob(&shared, "SharedSecret");
    let asked = json!({"MaxResults": 50});
    let reply = run_named(&owner, Service::CloudTrail, "LookupEvents", asked).await;
    let reply = reply.expect("allowed");
    let events = reply["Events"].as_array().expect("a list").iter();
    let record = |event: &Json| event["CloudTrailEvent"].as_str().map(serde_json::from_str);
    let records: Vec<Json> =
        events.map(|event| record(event).expect("a record").expect("JSON")).collect();
    for (name, key, member, value) in [
        ("GenerateMac", Some(&hmac), "macAlgorithm", json!("HMAC_SHA_256")),
        ("VerifyMac", Some(&hmac), "macAlgorithm", json!("HMAC_SHA_256")),
        ("GenerateRandom", None, "numberOfBytes", json!(24)),
        ("GenerateDataKeyPair", Some(&symmetric), "keyPairSpec", json!("ECC_NIST_EDWARDS25519")),
        ("Encapsulate", Some(&kem), "encapsulationAlgorithm", json!("ML_KEM")),
        ("Decapsulate", Some(&kem), "encapsulationAlgorithm", json!("ML_KEM")),
    ] {
        let record = records.iter().find(|record| record["eventName"] == name);
        let record = record.unwrap_or_else(|| panic!("{name} is recorded"));
        assert_eq!(record["requestParameters"][member], value, "{name}");
        assert_eq!((&record["readOnly"], &record["responseElements"]), (&json!(true), &Json::Null));
        assert_eq!(record["resources"][0]["ARN"], key.map_or(Json::Null, |key| json!(key)));
    }
    let all = Json::from(records).to_string();
    use base64::Engine as _;
    let encode = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    let private = blob(&pair, "PrivateKeyPlaintext");
    for secret in [&message[..], &tag, &random, &private, &shared, &sealed] {
        for shown in [encode(secret), hex::encode(secret), Json::from(secret).to_string()] {
            assert!(!all.contains(&shown), "{shown}");
        }
    }
    assert!(!all.contains(std::str::from_utf8(message).expect("words")));
}
