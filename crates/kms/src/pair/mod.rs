//! Key pairs: making them, and what both halves can do. A private key is a PKCS #8 document everywhere outside this
//! module, a public key a `SubjectPublicKeyInfo`; both in DER.
//!
//! The public half is made from the private one each time it is needed. It is not kept beside it, so nobody who can
//! write rows can have a public key of their own handed out under the name of the key.

mod agree;
mod kem;
mod native;
mod oaep;
mod sign;
#[cfg(test)]
mod vectors;

pub(crate) use agree::shared_secret;
pub(crate) use kem::{decapsulate, encapsulate};
pub(crate) use oaep::{decrypt, encrypt, plaintext_max};
pub use sign::check_message;
pub(crate) use sign::{sign, verify};

use crate::error::{Error, Result};
use crate::spec::KeySpec;
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256K1_SHA256_ASN1_SIGNING,
    ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, ML_DSA_44_SIGNING, ML_DSA_65_SIGNING,
    ML_DSA_87_SIGNING, PqdsaKeyPair, PqdsaSigningAlgorithm,
};
use base::{Rng, Secret};

/// Bytes of the seed of an Ed25519 or ML-DSA key pair.
const SEED_LEN: usize = 32;

/// The algorithms of this family that the library has for a spec.
enum Family {
    Rsa(KeySize),
    Ec(&'static EcdsaSigningAlgorithm),
    Ed25519,
    MlDsa(&'static PqdsaSigningAlgorithm),
    MlKem(kem::ParameterSet),
}

impl Family {
    /// # Panics
    /// When the spec is no key pair.
    fn of(spec: KeySpec) -> Self {
        match spec {
            KeySpec::Rsa2048 => Self::Rsa(KeySize::Rsa2048),
            KeySpec::Rsa3072 => Self::Rsa(KeySize::Rsa3072),
            KeySpec::Rsa4096 => Self::Rsa(KeySize::Rsa4096),
            KeySpec::EccNistP256 => Self::Ec(&ECDSA_P256_SHA256_ASN1_SIGNING),
            KeySpec::EccNistP384 => Self::Ec(&ECDSA_P384_SHA384_ASN1_SIGNING),
            KeySpec::EccNistP521 => Self::Ec(&ECDSA_P521_SHA512_ASN1_SIGNING),
            KeySpec::EccSecgP256k1 => Self::Ec(&ECDSA_P256K1_SHA256_ASN1_SIGNING),
            KeySpec::EccNistEdwards25519 => Self::Ed25519,
            KeySpec::MlDsa44 => Self::MlDsa(&ML_DSA_44_SIGNING),
            KeySpec::MlDsa65 => Self::MlDsa(&ML_DSA_65_SIGNING),
            KeySpec::MlDsa87 => Self::MlDsa(&ML_DSA_87_SIGNING),
            KeySpec::MlKem512 => Self::MlKem(kem::KEM_512),
            KeySpec::MlKem768 => Self::MlKem(kem::KEM_768),
            KeySpec::MlKem1024 => Self::MlKem(kem::KEM_1024),
            KeySpec::SymmetricDefault
            | KeySpec::Hmac224
            | KeySpec::Hmac256
            | KeySpec::Hmac384
            | KeySpec::Hmac512 => panic!("{spec} is no key pair"),
        }
    }
}

/// A private key, taken apart.
enum Private {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    MlDsa(PqdsaKeyPair),
    MlKem(kem::PrivateKey),
}

impl Private {
    /// Reads a PKCS #8 document. Sealed beside it was that it is of this spec, so it can only be damaged.
    fn parse(spec: KeySpec, pkcs8: &[u8]) -> Result<Self> {
        let read = match Family::of(spec) {
            Family::Rsa(_) => RsaKeyPair::from_pkcs8(pkcs8).ok().map(Self::Rsa),
            Family::Ec(algorithm) => EcdsaKeyPair::from_pkcs8(algorithm, pkcs8).ok().map(Self::Ec),
            Family::Ed25519 => {
                Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8).ok().map(Self::Ed25519)
            }
            Family::MlDsa(algorithm) => {
                PqdsaKeyPair::from_pkcs8(algorithm, pkcs8).ok().map(Self::MlDsa)
            }
            Family::MlKem(set) => kem::PrivateKey::parse(set, pkcs8).map(Self::MlKem),
        };
        let private = read.ok_or_else(|| failed("reading a private key"))?;
        match (&private, spec.modulus_len()) {
            (Self::Rsa(pair), Some(length)) if pair.public_modulus_len() != length => {
                Err(failed("reading a private key"))
            }
            _ => Ok(private),
        }
    }

    /// As [`generate`] writes it.
    fn pkcs8(&self) -> std::result::Result<Secret<Vec<u8>>, aws_lc_rs::error::Unspecified> {
        Ok(match self {
            Self::Rsa(pair) => {
                let der: Pkcs8V1Der<'_> = pair.as_der()?;
                Secret::new(der.as_ref().to_vec())
            }
            Self::Ec(pair) => Secret::new(pair.to_pkcs8v1()?.as_ref().to_vec()),
            Self::Ed25519(pair) => Secret::new(pair.to_pkcs8v1()?.as_ref().to_vec()),
            Self::MlDsa(pair) => Secret::new(pair.to_pkcs8v1()?.as_ref().to_vec()),
            Self::MlKem(key) => key.pkcs8(),
        })
    }

    fn public_der(&self) -> Result<Vec<u8>> {
        let der: std::result::Result<PublicKeyX509Der<'_>, _> = match self {
            Self::Rsa(pair) => pair.public_key().as_der(),
            Self::Ec(pair) => pair.public_key().as_der(),
            Self::Ed25519(pair) => pair.public_key().as_der(),
            Self::MlDsa(pair) => pair.public_key().as_der(),
            Self::MlKem(key) => return Ok(key.public_der()),
        };
        Ok(der.map_err(|_| failed("writing a public key"))?.as_ref().to_vec())
    }
}

/// The library failed at what cannot fail with sound inputs.
fn failed(what: &'static str) -> Error {
    Error::Cryptography { what }
}

/// A new key pair's private key. An RSA key pair of 4,096 bits takes seconds.
///
/// # Panics
/// When the spec is no key pair.
pub(crate) fn generate(spec: KeySpec, rng: &dyn Rng) -> Result<Secret<Vec<u8>>> {
    let expanding = |_| Error::Cryptography { what: "expanding a seed" };
    let failed = |_| failed("generating a key pair");
    let private = match Family::of(spec) {
        Family::Rsa(size) => Private::Rsa(RsaKeyPair::generate(size).map_err(failed)?),
        Family::Ec(algorithm) => Private::Ec(EcdsaKeyPair::generate(algorithm).map_err(failed)?),
        Family::Ed25519 => Private::Ed25519(
            Ed25519KeyPair::from_seed_unchecked(seed(rng).expose()).map_err(expanding)?,
        ),
        Family::MlDsa(algorithm) => Private::MlDsa(
            PqdsaKeyPair::from_seed(algorithm, seed(rng).expose()).map_err(expanding)?,
        ),
        Family::MlKem(set) => Private::MlKem(kem::PrivateKey::generate(set).map_err(failed)?),
    };
    private.pkcs8().map_err(failed)
}

fn seed(rng: &dyn Rng) -> Secret<Vec<u8>> {
    let mut seed = Secret::new(vec![0; SEED_LEN]);
    rng.fill(seed.expose_mut());
    seed
}

/// A new key pair for use elsewhere: the public half, and the private one in the form in which it is handed out.
///
/// # Errors
/// When the library fails.
///
/// # Panics
/// When the spec is no key pair.
pub(crate) fn generate_for_export(
    spec: KeySpec,
    rng: &dyn Rng,
) -> Result<(Vec<u8>, Secret<Vec<u8>>)> {
    if let Family::MlKem(set) = Family::of(spec) {
        return kem::seeded_pair(set, rng);
    }
    let private = generate(spec, rng)?;
    Ok((public_key(spec, private.expose())?, private))
}

/// A private key that was brought, in the one form in which it is kept: the same key always gives the same bytes.
///
/// # Errors
/// [`Error::IncorrectMaterial`] for bytes that are no private key of this spec.
///
/// # Panics
/// When the spec is no key pair.
pub(crate) fn canonical(spec: KeySpec, pkcs8: &[u8]) -> Result<Secret<Vec<u8>>> {
    let wrong = |_| Error::IncorrectMaterial;
    let private = Private::parse(spec, pkcs8).map_err(wrong)?;
    let der = private.pkcs8().map_err(|_| Error::IncorrectMaterial)?;
    // What is kept must open later, whatever form it came in.
    Private::parse(spec, der.expose()).map_err(wrong)?;
    Ok(der)
}

/// The public half of a private key.
///
/// # Panics
/// When the spec is no key pair.
pub(crate) fn public_key(spec: KeySpec, pkcs8: &[u8]) -> Result<Vec<u8>> {
    Private::parse(spec, pkcs8)?.public_der()
}
