//! Keys of every kind: stored, opened, used.

use crate::world::{World, account, region, world};
use base::OsRng;
use iam::{Context, Principal};
use kms::cipher::Located;
use kms::key::{LockoutCheck, NewKey, PolicyWriter};
use kms::spec::{
    EncryptionAlgorithm, KeySpec, KeyUsage, Kind, MacAlgorithm, MessageType, SigningAlgorithm,
};
use kms::{EncryptionContext, Error, Key, KeyFacts, NewMaterial, Opened};

fn key(world: &World, spec: KeySpec, usage: KeyUsage) -> Key {
    let kind = Kind::new(spec, usage).unwrap();
    let material = NewMaterial::generate(kind, &OsRng).unwrap();
    world
        .write(move |kms, tx| {
            let principal = Principal::root(&account("1"));
            kms.create_key(
                tx,
                &NewKey {
                    account: &account("1"),
                    region: &region("us-east-1"),
                    material: &material,
                    description: "",
                    tags: &[],
                    policy: None,
                    multi_region: None,
                    writer: PolicyWriter {
                        principal: &principal,
                        context: &Context::new(),
                        lockout: LockoutCheck::Bypassed,
                    },
                },
            )
        })
        .unwrap()
}

/// The key as a later request finds it, opened.
fn open(world: &World, key: &Key) -> Opened {
    let key = key.clone();
    world
        .write(move |kms, tx| {
            let stored = kms::key::get(tx, &key.account, &key.region, &key.id)?;
            assert_eq!(stored, key);
            kms.open_key(tx, &stored)
        })
        .unwrap()
}

#[test]
fn key_pairs_sign_what_they_verify() {
    let world = world();
    for spec in [
        KeySpec::Rsa2048,
        KeySpec::EccNistP256,
        KeySpec::EccNistP384,
        KeySpec::EccNistP521,
        KeySpec::EccSecgP256k1,
        KeySpec::EccNistEdwards25519,
        KeySpec::MlDsa44,
        KeySpec::MlDsa65,
        KeySpec::MlDsa87,
    ] {
        let key = key(&world, spec, KeyUsage::SignVerify);
        let opened = open(&world, &key);
        for &algorithm in key.kind.signing_algorithms() {
            match algorithm {
                SigningAlgorithm::Ed25519PhSha512 => signs_digests_alone(&opened),
                _ => signs_what_it_verifies(&opened, algorithm),
            }
            let mu = key.kind.spec().as_str().starts_with("ML_DSA");
            for length in [32, 63, 64, 65] {
                let signed = opened.sign(algorithm, MessageType::ExternalMu, &vec![7; length]);
                assert_eq!(signed.is_ok(), mu && length == 64, "{algorithm} {length}");
            }
        }
    }
}

fn signs_what_it_verifies(key: &Opened, algorithm: SigningAlgorithm) {
    let raw = MessageType::Raw;
    let signature = key.sign(algorithm, raw, b"message").unwrap();
    key.verify(algorithm, raw, b"message", &signature).unwrap();
    let mut altered = signature.clone();
    *altered.last_mut().unwrap() ^= 1;
    for (message, signature) in [(&b"massage"[..], &signature), (b"message", &altered)] {
        let refused = key.verify(algorithm, raw, message, signature);
        assert!(matches!(refused, Err(Error::InvalidSignature)), "{algorithm}");
    }
    let digest = |length| key.sign(algorithm, MessageType::Digest, &vec![7; length]);
    let hash = match algorithm.as_str() {
        name if name.ends_with("SHA_256") => Some(32),
        name if name.ends_with("SHA_384") => Some(48),
        name if name.ends_with("SHA_512") && !name.starts_with("ED") => Some(64),
        _ => None,
    };
    for length in [31, 32, 48, 64] {
        let signed = digest(length);
        assert_eq!(signed.is_ok(), hash == Some(length), "{algorithm} {length}");
        if let Ok(signature) = signed {
            key.verify(algorithm, MessageType::Digest, &vec![7; length], &signature).unwrap();
            let as_message = key.verify(algorithm, raw, &vec![7; length], &signature);
            assert!(matches!(as_message, Err(Error::InvalidSignature)), "{algorithm}");
        }
    }
}

fn signs_digests_alone(key: &Opened) {
    let (ed25519, prehashed) = (SigningAlgorithm::Ed25519Sha512, SigningAlgorithm::Ed25519PhSha512);
    let (raw, digest) = (MessageType::Raw, MessageType::Digest);
    for (message_type, length) in [(raw, 64), (raw, 3), (digest, 63), (digest, 65), (digest, 32)] {
        let refused = key.sign(prehashed, message_type, &vec![7; length]);
        assert!(matches!(refused, Err(Error::Validation { .. })), "{message_type} {length}");
    }
    let signature = key.sign(prehashed, digest, &[7; 64]).unwrap();
    key.verify(prehashed, digest, &[7; 64], &signature).unwrap();
    let ordinary = key.sign(ed25519, raw, &[7; 64]).unwrap();
    for (algorithm, message_type, message, signature) in [
        (prehashed, digest, [8; 64], &signature[..]),
        (prehashed, digest, [7; 64], &signature[1..]),
        (prehashed, digest, [7; 64], &ordinary),
        (ed25519, raw, [7; 64], &signature),
    ] {
        let refused = key.verify(algorithm, message_type, &message, signature);
        assert!(matches!(refused, Err(Error::InvalidSignature)), "{algorithm}");
    }
}

#[test]
fn hmac_keys_make_what_they_verify() {
    let world = world();
    for (spec, algorithm, length) in [
        (KeySpec::Hmac224, MacAlgorithm::HmacSha224, 28),
        (KeySpec::Hmac256, MacAlgorithm::HmacSha256, 32),
        (KeySpec::Hmac384, MacAlgorithm::HmacSha384, 48),
        (KeySpec::Hmac512, MacAlgorithm::HmacSha512, 64),
    ] {
        let key = open(&world, &key(&world, spec, KeyUsage::GenerateVerifyMac));
        let tag = key.mac(algorithm, b"message");
        assert_eq!(tag.len(), length);
        key.verify_mac(algorithm, b"message", &tag).unwrap();
        for (message, tag) in [(&b"massage"[..], &tag[..]), (b"message", &tag[..length - 1])] {
            assert!(matches!(key.verify_mac(algorithm, message, tag), Err(Error::InvalidMac)));
        }
    }
}

#[test]
fn both_sides_agree_on_a_secret() {
    let world = world();
    let pair = |spec| open(&world, &key(&world, spec, KeyUsage::KeyAgreement));
    for (spec, length) in
        [(KeySpec::EccNistP256, 32), (KeySpec::EccNistP384, 48), (KeySpec::EccNistP521, 66)]
    {
        let (one, two) = (pair(spec), pair(spec));
        let secret = one.shared_secret(&two.public_key().unwrap()).unwrap();
        let same = two.shared_secret(&one.public_key().unwrap()).unwrap();
        assert_eq!(secret.expose(), same.expose());
        assert_eq!(secret.expose().len(), length);
        let other =
            if spec == KeySpec::EccNistP256 { KeySpec::EccNistP384 } else { KeySpec::EccNistP256 };
        let point = &one.public_key().unwrap()[..];
        for peer in
            [&pair(other).public_key().unwrap()[..], &point[point.len() - 2 * length - 1..], b"x"]
        {
            assert!(matches!(one.shared_secret(peer), Err(Error::Validation { .. })));
        }
    }
}

#[test]
fn rsa_keys_open_what_they_encrypt_up_to_a_size() {
    let world = world();
    let key = key(&world, KeySpec::Rsa2048, KeyUsage::EncryptDecrypt);
    let none = EncryptionContext::default();
    for (algorithm, max) in
        [(EncryptionAlgorithm::RsaesOaepSha1, 214), (EncryptionAlgorithm::RsaesOaepSha256, 190)]
    {
        let encrypt = |size: usize| {
            let (key, none) = (key.clone(), none.clone());
            world.write(move |kms, tx| kms.encrypt(tx, &key, algorithm, &none, &vec![5; size]))
        };
        let ciphertext = encrypt(max).unwrap();
        assert_eq!(ciphertext.len(), 256);
        let decrypt = |ciphertext: &[u8], algorithm, context: &EncryptionContext| {
            let (located, context) = (Located::under(&key, ciphertext), context.clone());
            world.write(move |kms, tx| {
                Ok(kms.decrypt(tx, &located, algorithm, &context)?.expose().clone())
            })
        };
        assert_eq!(decrypt(&ciphertext, algorithm, &none).unwrap(), vec![5; max]);
        let mut altered = ciphertext.clone();
        altered[200] ^= 1;
        for wrong in [&altered[..], &ciphertext[1..], b"x"] {
            assert!(matches!(decrypt(wrong, algorithm, &none), Err(Error::InvalidCiphertext)));
        }
        let context = EncryptionContext::ebs("vol-a");
        let refused = decrypt(&ciphertext, algorithm, &context);
        assert!(matches!(refused, Err(Error::Validation { .. })));
        let refused = decrypt(&ciphertext, EncryptionAlgorithm::SymmetricDefault, &none);
        assert!(matches!(refused, Err(Error::InvalidKeyUsage { .. })));
        let refused = encrypt(max + 1).unwrap_err();
        assert!(refused.to_string().ends_with(&format!("larger than {max} bytes.")), "{refused}");
    }
}

#[test]
fn what_a_row_says_of_a_key_is_sealed_with_it() {
    let world = world();
    let signing = key(&world, KeySpec::EccNistP256, KeyUsage::SignVerify);
    for (spec, usage) in [
        (KeySpec::EccNistP256, KeyUsage::KeyAgreement),
        (KeySpec::EccNistP384, KeyUsage::SignVerify),
        (KeySpec::SymmetricDefault, KeyUsage::EncryptDecrypt),
    ] {
        let kind = Kind::new(spec, usage).unwrap();
        let relabelled = Key::from(KeyFacts { kind, ..KeyFacts::clone(&signing) });
        let opened = world.write(move |kms, tx| kms.open_key(tx, &relabelled).map(drop));
        assert!(matches!(opened, Err(Error::MaterialDamaged { .. })), "{spec} {usage}");
    }
}
