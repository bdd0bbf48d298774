//! Signing and verifying: what Sign and Verify take, and the algorithms behind the names.

use super::{Private, failed};
use crate::error::{Error, Result};
use crate::spec::{KeySpec, MessageType, SigningAlgorithm};
use aws_lc_rs::digest::{self, Digest};
use aws_lc_rs::rsa::KeyPair as RsaKeyPair;
use aws_lc_rs::signature::{
    self, EcdsaKeyPair, ParsedPublicKey, RsaEncoding, VerificationAlgorithm,
};

/// Bytes of the μ of ML-DSA.
const MU_LEN: usize = 64;

/// Whether a message of this type and length can be signed with the algorithm (KMS API, Sign, `MessageType`).
///
/// # Errors
/// [`Error::Validation`] for a type the algorithm does not take and for digests of another length;
/// [`Error::Validation`] for `EXTERNAL_MU`, which is not offered here: Sign lists no exception for that.
pub fn check_message(
    algorithm: SigningAlgorithm,
    message_type: MessageType,
    length: usize,
) -> Result<()> {
    let refused = || {
        Error::validation(format!(
            "Algorithm {algorithm} does not support MessageType {message_type}."
        ))
    };
    match (message_type, hash(algorithm)) {
        (MessageType::Raw, _) => Ok(()),
        (MessageType::Digest, Some(hash)) if hash.output_len() == length => Ok(()),
        (MessageType::Digest, Some(_)) => {
            Err(Error::validation(format!("Digest is invalid length for algorithm {algorithm}.")))
        }
        (MessageType::Digest, None) => Err(refused()),
        (MessageType::ExternalMu, _) if algorithm != SigningAlgorithm::MlDsaShake256 => {
            Err(refused())
        }
        (MessageType::ExternalMu, _) if length != MU_LEN => {
            Err(Error::validation(format!("Digest is invalid length for algorithm {algorithm}.")))
        }
        (MessageType::ExternalMu, _) => Err(Error::Validation {
            message: "MessageType EXTERNAL_MU is not supported by this server; RAW is.".to_owned(),
        }),
    }
}

/// The hash of an algorithm that signs digests.
fn hash(algorithm: SigningAlgorithm) -> Option<&'static digest::Algorithm> {
    use SigningAlgorithm as A;
    match algorithm {
        A::RsassaPkcs1V15Sha256 | A::RsassaPssSha256 | A::EcdsaSha256 => Some(&digest::SHA256),
        A::RsassaPkcs1V15Sha384 | A::RsassaPssSha384 | A::EcdsaSha384 => Some(&digest::SHA384),
        A::RsassaPkcs1V15Sha512 | A::RsassaPssSha512 | A::EcdsaSha512 => Some(&digest::SHA512),
        A::Ed25519Sha512 | A::MlDsaShake256 => None,
    }
}

/// The digest that is signed.
pub(super) fn digest_of(
    algorithm: SigningAlgorithm,
    message_type: MessageType,
    message: &[u8],
) -> Result<Option<Digest>> {
    check_message(algorithm, message_type, message.len())?;
    let Some(hash) = hash(algorithm) else { return Ok(None) };
    Ok(Some(match message_type {
        MessageType::Digest => Digest::import_less_safe(message, hash)
            .map_err(|_| failed("taking a digest whose length was checked"))?,
        MessageType::Raw | MessageType::ExternalMu => digest::digest(hash, message),
    }))
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
    let digest = digest_of(algorithm, message_type, message)?;
    match (Private::parse(spec, pkcs8)?, digest) {
        (Private::Rsa(pair), Some(digest)) => sign_rsa(&pair, algorithm, &digest),
        (Private::Ec(pair), Some(digest)) => sign_ec(&pair, &digest),
        (Private::Ed25519(pair), None) => {
            let signature = pair.try_sign(message).map_err(|_| failed("signing"))?;
            Ok(signature.as_ref().to_vec())
        }
        (Private::MlDsa(pair), None) => {
            let mut signature = vec![0; pair.algorithm().signature_len()];
            let length = pair.sign(message, &mut signature).map_err(|_| failed("signing"))?;
            signature.truncate(length);
            Ok(signature)
        }
        (Private::Rsa(_) | Private::Ec(_), None)
        | (Private::Ed25519(_) | Private::MlDsa(_), Some(_))
        | (Private::MlKem(_), _) => Err(failed("signing with an algorithm of another key")),
    }
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
        A::EcdsaSha256 | A::EcdsaSha384 | A::EcdsaSha512 | A::Ed25519Sha512 | A::MlDsaShake256 => {
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
    let digest = digest_of(algorithm, message_type, message)?;
    let public = super::public_key(spec, pkcs8)?;
    verify_with(&public, verification(spec, algorithm), message, digest.as_ref(), signature)
}

pub(super) fn verify_with(
    public: &[u8],
    algorithm: &'static dyn VerificationAlgorithm,
    message: &[u8],
    digest: Option<&Digest>,
    signature: &[u8],
) -> Result<()> {
    let key =
        ParsedPublicKey::new(algorithm, public).map_err(|_| failed("reading a public key"))?;
    match digest {
        Some(digest) => key.verify_digest_sig(digest, signature),
        None => key.verify_sig(message, signature),
    }
    .map_err(|_| Error::InvalidSignature)
}

pub(super) fn verification(
    spec: KeySpec,
    algorithm: SigningAlgorithm,
) -> &'static dyn VerificationAlgorithm {
    use SigningAlgorithm as A;
    match algorithm {
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
        A::MlDsaShake256 => match spec {
            KeySpec::MlDsa44 => &signature::ML_DSA_44,
            KeySpec::MlDsa65 => &signature::ML_DSA_65,
            _ => &signature::ML_DSA_87,
        },
    }
}
