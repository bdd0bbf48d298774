//! The public key in an X.509 certificate. A certificate in metadata is only a way to write down a
//! key: nobody asks who issued it or until when (SAML V2.0 Metadata Interoperability Profile, 2.6.1),
//! so nothing but the key is read.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    UnparsedPublicKey, VerificationAlgorithm,
};
use serde::{Deserialize, Serialize};

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OBJECT_IDENTIFIER: u8 = 0x06;
/// `[0]` constructed: the version of a certificate.
const VERSION: u8 = 0xa0;

/// 1.2.840.113549.1.1.1
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
/// 1.2.840.10045.2.1
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// 1.2.840.10045.3.1.7
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// 1.3.132.0.34
const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
/// 1.3.132.0.35
const P521: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x23];

/// The shortest RSA key whose signatures are believed.
const RSA_BITS_MIN: usize = 2048;
/// The longest.
const RSA_BITS_MAX: usize = 8192;

/// How a message was signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SignatureAlgorithm {
    RsaSha256,
    RsaSha384,
    RsaSha512,
    EcdsaSha256,
    EcdsaSha384,
    EcdsaSha512,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Kind {
    Rsa,
    P256,
    P384,
    P521,
}

/// A key that signatures are checked with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SigningKey {
    kind: Kind,
    /// SubjectPublicKeyInfo, DER.
    public: Vec<u8>,
}

impl SigningKey {
    /// The key in a certificate (DER).
    ///
    /// # Errors
    /// A sentence about what is wrong with it.
    pub(super) fn of_certificate(der: &[u8]) -> Result<Self, String> {
        let no_certificate = || "an X.509 certificate cannot be read".to_owned();
        let public = public_key(der).ok_or_else(no_certificate)?;
        let kind = match kind(public).ok_or_else(no_certificate)? {
            Found::Usable(kind) => kind,
            Found::RsaBits(bits) => {
                return Err(format!(
                    "an RSA key has {bits} bits, and signatures are believed from {RSA_BITS_MIN} to \
                     {RSA_BITS_MAX}"
                ));
            }
            Found::Other => {
                return Err("a key is neither RSA nor on P-256, P-384 or P-521".to_owned());
            }
        };
        Ok(Self { kind, public: public.to_vec() })
    }

    /// Whether the key has signed a message in this way.
    pub(super) fn has_signed(
        &self,
        algorithm: SignatureAlgorithm,
        message: &[u8],
        signature: &[u8],
    ) -> bool {
        let fitting: &'static dyn VerificationAlgorithm = match (self.kind, algorithm) {
            (Kind::Rsa, SignatureAlgorithm::RsaSha256) => &RSA_PKCS1_2048_8192_SHA256,
            (Kind::Rsa, SignatureAlgorithm::RsaSha384) => &RSA_PKCS1_2048_8192_SHA384,
            (Kind::Rsa, SignatureAlgorithm::RsaSha512) => &RSA_PKCS1_2048_8192_SHA512,
            (Kind::P256, SignatureAlgorithm::EcdsaSha256) => &ECDSA_P256_SHA256_FIXED,
            (Kind::P384, SignatureAlgorithm::EcdsaSha384) => &ECDSA_P384_SHA384_FIXED,
            (Kind::P521, SignatureAlgorithm::EcdsaSha512) => &ECDSA_P521_SHA512_FIXED,
            (Kind::Rsa | Kind::P256 | Kind::P384 | Kind::P521, _) => return false,
        };
        UnparsedPublicKey::new(fitting, &self.public).verify(message, signature).is_ok()
    }
}

enum Found {
    Usable(Kind),
    RsaBits(usize),
    Other,
}

/// One element: its tag, what is in it, it as a whole, and what follows.
struct Element<'a> {
    tag: u8,
    content: &'a [u8],
    whole: &'a [u8],
    rest: &'a [u8],
}

fn element(input: &[u8]) -> Option<Element<'_>> {
    let (&tag, after) = input.split_first()?;
    let (&first, after) = after.split_first()?;
    let (length, body) = if first < 0x80 {
        (usize::from(first), after)
    } else {
        let (digits, body) = after.split_at_checked(usize::from(first & 0x7f))?;
        // Certificates are far below 16 MiB.
        let fits = (1..=3).contains(&digits.len());
        let length = digits.iter().fold(0, |sum, digit| sum << 8 | usize::from(*digit));
        (fits.then_some(length)?, body)
    };
    let (content, rest) = body.split_at_checked(length)?;
    Some(Element { tag, content, whole: &input[..input.len() - rest.len()], rest })
}

fn expect(tag: u8, input: &[u8]) -> Option<Element<'_>> {
    element(input).filter(|element| element.tag == tag)
}

/// SubjectPublicKeyInfo of a certificate (RFC 5280, 4.1): the seventh part of what is signed, or the
/// sixth when there is no version.
fn public_key(der: &[u8]) -> Option<&[u8]> {
    let certificate = expect(SEQUENCE, der).filter(|outer| outer.rest.is_empty())?;
    let mut rest = expect(SEQUENCE, certificate.content)?.content;
    if let Some(version) = expect(VERSION, rest) {
        rest = version.rest;
    }
    // Serial number, signature algorithm, issuer, validity and subject.
    for tag in [INTEGER, SEQUENCE, SEQUENCE, SEQUENCE, SEQUENCE] {
        rest = expect(tag, rest)?.rest;
    }
    Some(expect(SEQUENCE, rest)?.whole)
}

fn kind(public: &[u8]) -> Option<Found> {
    let algorithm = expect(SEQUENCE, expect(SEQUENCE, public)?.content)?;
    let bits = expect(BIT_STRING, algorithm.rest)?.content.strip_prefix(&[0])?;
    let name = expect(OBJECT_IDENTIFIER, algorithm.content)?;
    if name.content == RSA {
        let modulus = expect(INTEGER, expect(SEQUENCE, bits)?.content)?.content;
        let digits =
            modulus.iter().position(|byte| *byte != 0).map_or(&[][..], |at| &modulus[at..]);
        let top = digits.first().map_or(0, |byte| byte.leading_zeros() as usize);
        let length = digits.len() * 8 - top;
        let fits = (RSA_BITS_MIN..=RSA_BITS_MAX).contains(&length);
        return Some(if fits { Found::Usable(Kind::Rsa) } else { Found::RsaBits(length) });
    }
    if name.content != EC {
        return Some(Found::Other);
    }
    let curve = expect(OBJECT_IDENTIFIER, name.rest)?.content;
    let known = [(P256, Kind::P256), (P384, Kind::P384), (P521, Kind::P521)];
    let found = known.into_iter().find(|(oid, _)| *oid == curve);
    Some(found.map_or(Found::Other, |(_, kind)| Found::Usable(kind)))
}
