//! Signing and verifying: what Sign and Verify take, and the algorithms behind the names.

use super::native::{self, ED25519_KEY_LEN, MU_LEN};
use super::{Private, failed};
use crate::error::{Error, Result};
use crate::spec::{KeySpec, MessageType, SigningAlgorithm};
use aws_lc_rs::digest::{self, Digest};
use aws_lc_rs::encoding::AsBigEndian;
use aws_lc_rs::rsa::KeyPair as RsaKeyPair;
use aws_lc_rs::signature::{
    self, EcdsaKeyPair, Ed25519KeyPair, KeyPair, ParsedPublicKey, PqdsaKeyPair, RsaEncoding,
    VerificationAlgorithm,
};
use base::Secret;

/// Whether a message of this type and length can be signed with the algorithm (KMS API, Sign, `MessageType`).
///
/// # Errors
/// [`Error::Validation`] for a type the algorithm does not take and for digests of another length.
pub fn check_message(
    algorithm: SigningAlgorithm,
    message_type: MessageType,
    length: usize,
) -> Result<()> {
    let expected = match (message_type, algorithm) {
        // KMS API, Sign: "ED25519_PH_SHA_512 signing algorithm requires KMS MessageType:DIGEST".
        (MessageType::Raw, SigningAlgorithm::Ed25519PhSha512) => None,
        (MessageType::Raw, _) => Some(length),
        (MessageType::Digest, SigningAlgorithm::Ed25519PhSha512) => {
            Some(digest::SHA512.output_len())
        }
        (MessageType::Digest, _) => hash(algorithm).map(digest::Algorithm::output_len),
        (MessageType::ExternalMu, SigningAlgorithm::MlDsaShake256) => Some(MU_LEN),
        (MessageType::ExternalMu, _) => None,
    };
    match expected {
        Some(expected) if expected == length => Ok(()),
        Some(_) => {
            Err(Error::validation(format!("Digest is invalid length for algorithm {algorithm}.")))
        }
        None => Err(Error::validation(format!(
            "Algorithm {algorithm} does not support MessageType {message_type}."
        ))),
    }
}

/// The hash of an algorithm that signs digests.
fn hash(algorithm: SigningAlgorithm) -> Option<&'static digest::Algorithm> {
    use SigningAlgorithm as A;
    match algorithm {
        A::RsassaPkcs1V15Sha256 | A::RsassaPssSha256 | A::EcdsaSha256 => Some(&digest::SHA256),
        A::RsassaPkcs1V15Sha384 | A::RsassaPssSha384 | A::EcdsaSha384 => Some(&digest::SHA384),
        A::RsassaPkcs1V15Sha512 | A::RsassaPssSha512 | A::EcdsaSha512 => Some(&digest::SHA512),
        A::Ed25519Sha512 | A::Ed25519PhSha512 | A::MlDsaShake256 => None,
    }
}

/// What the algorithm is given, once the type of the message was taken into account.
pub(super) enum Subject<'a> {
    /// A digest; for RSA and ECDSA.
    Digest(Digest),
    /// The message; for Ed25519 and ML-DSA.
    Message(&'a [u8]),
    /// What Ed25519ph hashes. It is a digest already, and is hashed once more (KMS API, Sign, `MessageType`: "This
    /// means the input is hashed twice: once by you and once by KMS").
    Prehashed(&'a [u8]),
    /// The μ of ML-DSA.
    Mu(&'a [u8; MU_LEN]),
}

impl<'a> Subject<'a> {
    /// # Errors
    /// As [`check_message`].
    pub(super) fn new(
        algorithm: SigningAlgorithm,
        message_type: MessageType,
        message: &'a [u8],
    ) -> Result<Self> {
        check_message(algorithm, message_type, message.len())?;
        let unfit = || failed("taking a digest whose length was checked");
        Ok(match (message_type, hash(algorithm)) {
            (MessageType::ExternalMu, _) => Self::Mu(message.try_into().map_err(|_| unfit())?),
            (MessageType::Raw, Some(hash)) => Self::Digest(digest::digest(hash, message)),
            (MessageType::Digest, Some(hash)) => {
                Self::Digest(Digest::import_less_safe(message, hash).map_err(|_| unfit())?)
            }
            (MessageType::Raw, None) => Self::Message(message),
            (MessageType::Digest, None) => Self::Prehashed(message),
        })
    }
}

/// Signs. The caller has checked that the algorithm is one of the key's.
///
/// # Errors
/// As [`check_message`], or when the library fails.
pub(crate) fn sign(
    spec: KeySpec,
    pkcs8: &[u8],
    algorithm: SigningAlgorithm,
    message_type: MessageType,
    message: &[u8],
) -> Result<Vec<u8>> {
    let subject = Subject::new(algorithm, message_type, message)?;
    match (Private::parse(spec, pkcs8)?, subject) {
        (Private::Rsa(pair), Subject::Digest(digest)) => sign_rsa(&pair, algorithm, &digest),
        (Private::Ec(pair), Subject::Digest(digest)) => sign_ec(&pair, &digest),
        (Private::Ed25519(pair), Subject::Message(message)) => {
            let signature = pair.try_sign(message).map_err(|_| failed("signing"))?;
            Ok(signature.as_ref().to_vec())
        }
        (Private::Ed25519(pair), Subject::Prehashed(message)) => {
            let signature = native::sign_ed25519ph(ed25519_seed(&pair)?.expose(), message);
            Ok(signature.ok_or_else(|| failed("signing"))?.to_vec())
        }
        (Private::MlDsa(pair), Subject::Message(message)) => sign_ml_dsa(&pair, message),
        (Private::MlDsa(_), Subject::Mu(mu)) => {
            let key = native::MlDsa::parse(pkcs8).ok_or_else(|| failed("reading a private key"))?;
            key.sign(mu).ok_or_else(|| failed("signing"))
        }
        (Private::Rsa(_) | Private::Ec(_) | Private::MlKem(_), _)
        | (Private::Ed25519(_), Subject::Digest(_) | Subject::Mu(_))
        | (Private::MlDsa(_), Subject::Digest(_) | Subject::Prehashed(_)) => {
            Err(failed("signing with an algorithm of another key"))
        }
    }
}

fn ed25519_seed(pair: &Ed25519KeyPair) -> Result<Secret<[u8; ED25519_KEY_LEN]>> {
    let failed = || failed("writing a private key");
    let bytes = pair.seed().and_then(|seed| seed.as_be_bytes()).map_err(|_| failed())?;
    let mut seed = Secret::new([0; ED25519_KEY_LEN]);
    let same_length = bytes.as_ref().len() == ED25519_KEY_LEN;
    same_length.then(|| seed.expose_mut().copy_from_slice(bytes.as_ref())).ok_or_else(failed)?;
    Ok(seed)
}

fn sign_ml_dsa(pair: &PqdsaKeyPair, message: &[u8]) -> Result<Vec<u8>> {
    let mut signature = vec![0; pair.algorithm().signature_len()];
    let length = pair.sign(message, &mut signature).map_err(|_| failed("signing"))?;
    signature.truncate(length);
    Ok(signature)
}

fn sign_ec(pair: &EcdsaKeyPair, digest: &Digest) -> Result<Vec<u8>> {
    let signature = pair.sign_digest(digest).map_err(|_| failed("signing"))?;
    Ok(signature.as_ref().to_vec())
}

fn sign_rsa(pair: &RsaKeyPair, algorithm: SigningAlgorithm, digest: &Digest) -> Result<Vec<u8>> {
    use SigningAlgorithm as A;
    let encoding: &'static dyn RsaEncoding = match algorithm {
        A::RsassaPkcs1V15Sha256 => &signature::RSA_PKCS1_SHA256,
        A::RsassaPkcs1V15Sha384 => &signature::RSA_PKCS1_SHA384,
        A::RsassaPkcs1V15Sha512 => &signature::RSA_PKCS1_SHA512,
        A::RsassaPssSha256 => &signature::RSA_PSS_SHA256,
        A::RsassaPssSha384 => &signature::RSA_PSS_SHA384,
        A::RsassaPssSha512 => &signature::RSA_PSS_SHA512,
        A::EcdsaSha256
        | A::EcdsaSha384
        | A::EcdsaSha512
        | A::Ed25519Sha512
        | A::Ed25519PhSha512
        | A::MlDsaShake256 => {
            return Err(failed("signing with an algorithm of another key"));
        }
    };
    let mut signature = vec![0; pair.public_modulus_len()];
    pair.sign_digest(encoding, digest, &mut signature).map_err(|_| failed("signing"))?;
    Ok(signature)
}

/// Whether a signature is the key's and the message's. The caller has checked that the algorithm is one of the
/// key's.
///
/// # Errors
/// As [`check_message`], [`Error::InvalidSignature`], or damaged material.
pub(crate) fn verify(
    spec: KeySpec,
    pkcs8: &[u8],
    algorithm: SigningAlgorithm,
    message_type: MessageType,
    message: &[u8],
    signature: &[u8],
) -> Result<()> {
    let subject = Subject::new(algorithm, message_type, message)?;
    let verifies = match subject {
        Subject::Digest(_) | Subject::Message(_) => {
            let public = super::public_key(spec, pkcs8)?;
            return verify_with(&public, verification(spec, algorithm)?, &subject, signature);
        }
        Subject::Prehashed(message) => {
            let Private::Ed25519(pair) = Private::parse(spec, pkcs8)? else {
                return Err(failed("verifying with an algorithm of another key"));
            };
            let public = pair.public_key().as_ref().try_into();
            let public = public.map_err(|_| failed("writing a public key"))?;
            signature
                .try_into()
                .is_ok_and(|signature| native::verifies_ed25519ph(public, message, signature))
        }
        Subject::Mu(mu) => {
            let key = native::MlDsa::parse(pkcs8).ok_or_else(|| failed("reading a private key"))?;
            key.verifies(mu, signature)
        }
    };
    if verifies { Ok(()) } else { Err(Error::InvalidSignature) }
}

pub(super) fn verify_with(
    public: &[u8],
    algorithm: &'static dyn VerificationAlgorithm,
    subject: &Subject<'_>,
    signature: &[u8],
) -> Result<()> {
    let key =
        ParsedPublicKey::new(algorithm, public).map_err(|_| failed("reading a public key"))?;
    match subject {
        Subject::Digest(digest) => key.verify_digest_sig(digest, signature),
        Subject::Message(message) => key.verify_sig(message, signature),
        Subject::Prehashed(_) | Subject::Mu(_) => {
            return Err(failed("verifying with an algorithm of another key"));
        }
    }
    .map_err(|_| Error::InvalidSignature)
}

/// The library's safe algorithm; Ed25519ph has none.
pub(super) fn verification(
    spec: KeySpec,
    algorithm: SigningAlgorithm,
) -> Result<&'static dyn VerificationAlgorithm> {
    use SigningAlgorithm as A;
    Ok(match algorithm {
        A::RsassaPkcs1V15Sha256 => &signature::RSA_PKCS1_2048_8192_SHA256,
        A::RsassaPkcs1V15Sha384 => &signature::RSA_PKCS1_2048_8192_SHA384,
        A::RsassaPkcs1V15Sha512 => &signature::RSA_PKCS1_2048_8192_SHA512,
        A::RsassaPssSha256 => &signature::RSA_PSS_2048_8192_SHA256,
        A::RsassaPssSha384 => &signature::RSA_PSS_2048_8192_SHA384,
        A::RsassaPssSha512 => &signature::RSA_PSS_2048_8192_SHA512,
        A::EcdsaSha256 if spec == KeySpec::EccSecgP256k1 => &signature::ECDSA_P256K1_SHA256_ASN1,
        A::EcdsaSha256 => &signature::ECDSA_P256_SHA256_ASN1,
        A::EcdsaSha384 => &signature::ECDSA_P384_SHA384_ASN1,
        A::EcdsaSha512 => &signature::ECDSA_P521_SHA512_ASN1,
        A::Ed25519Sha512 => &signature::ED25519,
        A::Ed25519PhSha512 => return Err(failed("verifying with an algorithm of another key")),
        A::MlDsaShake256 => match spec {
            KeySpec::MlDsa44 => &signature::ML_DSA_44,
            KeySpec::MlDsa65 => &signature::ML_DSA_65,
            _ => &signature::ML_DSA_87,
        },
    })
}
