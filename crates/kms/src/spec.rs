//! Kinds of keys: what a key is made of, what it may be used for, and with which algorithms (KMS guide, "Key spec
//! reference"). Knows names and rules; makes nothing.

use crate::error::{Error, Result};
use std::fmt;

/// An enumeration of the API: its values and their words in one place.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$variant_meta])* $variant),+
        }

        impl $name {
            /// Every value.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word of the API.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text),+
                }
            }

            /// The value of a word.
            pub fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.as_str() == text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words! {
    /// `KeySpec`: what a key is made of. SM2, which AWS has in China only, is not among them.
    KeySpec {
        /// 256 bits for AES-GCM.
        SymmetricDefault = "SYMMETRIC_DEFAULT",
        /// 224 bits for HMAC-SHA-224.
        Hmac224 = "HMAC_224",
        /// 256 bits for HMAC-SHA-256.
        Hmac256 = "HMAC_256",
        /// 384 bits for HMAC-SHA-384.
        Hmac384 = "HMAC_384",
        /// 512 bits for HMAC-SHA-512.
        Hmac512 = "HMAC_512",
        /// An RSA key pair of 2,048 bits.
        Rsa2048 = "RSA_2048",
        /// An RSA key pair of 3,072 bits.
        Rsa3072 = "RSA_3072",
        /// An RSA key pair of 4,096 bits.
        Rsa4096 = "RSA_4096",
        /// A key pair on secp256r1.
        EccNistP256 = "ECC_NIST_P256",
        /// A key pair on secp384r1.
        EccNistP384 = "ECC_NIST_P384",
        /// A key pair on secp521r1.
        EccNistP521 = "ECC_NIST_P521",
        /// A key pair on secp256k1.
        EccSecgP256k1 = "ECC_SECG_P256K1",
        /// An Ed25519 key pair.
        EccNistEdwards25519 = "ECC_NIST_EDWARDS25519",
        /// An ML-DSA key pair of category 2 (FIPS 204).
        MlDsa44 = "ML_DSA_44",
        /// An ML-DSA key pair of category 3.
        MlDsa65 = "ML_DSA_65",
        /// An ML-DSA key pair of category 5.
        MlDsa87 = "ML_DSA_87",
        /// An ML-KEM key pair of category 1 (FIPS 203).
        MlKem512 = "ML_KEM_512",
        /// An ML-KEM key pair of category 3.
        MlKem768 = "ML_KEM_768",
        /// An ML-KEM key pair of category 5.
        MlKem1024 = "ML_KEM_1024",
    }
}

words! {
    /// `KeyUsage`: what a key may be used for; a key has one.
    KeyUsage {
        /// Encrypt, Decrypt, ReEncrypt, data keys.
        EncryptDecrypt = "ENCRYPT_DECRYPT",
        /// Sign and Verify.
        SignVerify = "SIGN_VERIFY",
        /// GenerateMac and VerifyMac.
        GenerateVerifyMac = "GENERATE_VERIFY_MAC",
        /// DeriveSharedSecret.
        KeyAgreement = "KEY_AGREEMENT",
        /// Encapsulate and Decapsulate.
        EncapsulateDecapsulate = "ENCAPSULATE_DECAPSULATE",
    }
}

words! {
    /// `EncryptionAlgorithm`.
    EncryptionAlgorithm {
        /// AES-256-GCM under a derived key.
        SymmetricDefault = "SYMMETRIC_DEFAULT",
        /// RSAES-OAEP (RFC 8017) with SHA-1, and MGF1 with SHA-1.
        RsaesOaepSha1 = "RSAES_OAEP_SHA_1",
        /// RSAES-OAEP with SHA-256, and MGF1 with SHA-256.
        RsaesOaepSha256 = "RSAES_OAEP_SHA_256",
    }
}

words! {
    /// `SigningAlgorithm`.
    SigningAlgorithm {
        /// RSASSA-PKCS1-v1_5 (RFC 8017) with SHA-256.
        RsassaPkcs1V15Sha256 = "RSASSA_PKCS1_V1_5_SHA_256",
        /// RSASSA-PKCS1-v1_5 with SHA-384.
        RsassaPkcs1V15Sha384 = "RSASSA_PKCS1_V1_5_SHA_384",
        /// RSASSA-PKCS1-v1_5 with SHA-512.
        RsassaPkcs1V15Sha512 = "RSASSA_PKCS1_V1_5_SHA_512",
        /// RSASSA-PSS with SHA-256 in hash and mask, and a salt as long as the hash.
        RsassaPssSha256 = "RSASSA_PSS_SHA_256",
        /// RSASSA-PSS with SHA-384.
        RsassaPssSha384 = "RSASSA_PSS_SHA_384",
        /// RSASSA-PSS with SHA-512.
        RsassaPssSha512 = "RSASSA_PSS_SHA_512",
        /// ECDSA with SHA-256; signatures are DER.
        EcdsaSha256 = "ECDSA_SHA_256",
        /// ECDSA with SHA-384.
        EcdsaSha384 = "ECDSA_SHA_384",
        /// ECDSA with SHA-512.
        EcdsaSha512 = "ECDSA_SHA_512",
        /// Ed25519 (RFC 8032).
        Ed25519Sha512 = "ED25519_SHA_512",
        /// Ed25519ph (RFC 8032), with an empty context.
        Ed25519PhSha512 = "ED25519_PH_SHA_512",
        /// ML-DSA (FIPS 204), pure, with an empty context.
        MlDsaShake256 = "ML_DSA_SHAKE_256",
    }
}

words! {
    /// `MacAlgorithm`.
    MacAlgorithm {
        /// HMAC with SHA-224.
        HmacSha224 = "HMAC_SHA_224",
        /// HMAC with SHA-256.
        HmacSha256 = "HMAC_SHA_256",
        /// HMAC with SHA-384.
        HmacSha384 = "HMAC_SHA_384",
        /// HMAC with SHA-512.
        HmacSha512 = "HMAC_SHA_512",
    }
}

words! {
    /// `KeyAgreementAlgorithm`.
    KeyAgreementAlgorithm {
        /// The x coordinate of the shared point (NIST SP 800-56A, 5.7.1.2).
        Ecdh = "ECDH",
    }
}

words! {
    /// `EncapsulationAlgorithm`.
    EncapsulationAlgorithm {
        /// ML-KEM (FIPS 203) with the parameter set of the key.
        MlKem = "ML_KEM",
    }
}

words! {
    /// `MessageType`: what Sign and Verify are given.
    MessageType {
        /// The message, which is hashed here.
        Raw = "RAW",
        /// Its digest.
        Digest = "DIGEST",
        /// The 64 bytes μ that ML-DSA makes of public key and message (FIPS 204, 6.2).
        ExternalMu = "EXTERNAL_MU",
    }
}

/// The three types of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// For symmetric encryption.
    Symmetric,
    /// For MACs.
    Hmac,
    /// A key pair.
    Asymmetric,
}

impl KeySpec {
    /// The key's type.
    pub(crate) fn family(self) -> Family {
        match self {
            Self::SymmetricDefault => Family::Symmetric,
            Self::Hmac224 | Self::Hmac256 | Self::Hmac384 | Self::Hmac512 => Family::Hmac,
            pair => {
                debug_assert!(pair.is_pair(), "every other spec is a key pair");
                Family::Asymmetric
            }
        }
    }

    /// What a key of this spec can be used for; the first is what it is used for when there is no choice.
    pub fn usages(self) -> &'static [KeyUsage] {
        match self {
            Self::SymmetricDefault => &[KeyUsage::EncryptDecrypt],
            Self::Hmac224 | Self::Hmac256 | Self::Hmac384 | Self::Hmac512 => {
                &[KeyUsage::GenerateVerifyMac]
            }
            Self::Rsa2048 | Self::Rsa3072 | Self::Rsa4096 => {
                &[KeyUsage::EncryptDecrypt, KeyUsage::SignVerify]
            }
            Self::EccNistP256 | Self::EccNistP384 | Self::EccNistP521 => {
                &[KeyUsage::SignVerify, KeyUsage::KeyAgreement]
            }
            Self::EccSecgP256k1
            | Self::EccNistEdwards25519
            | Self::MlDsa44
            | Self::MlDsa65
            | Self::MlDsa87 => &[KeyUsage::SignVerify],
            Self::MlKem512 | Self::MlKem768 | Self::MlKem1024 => {
                &[KeyUsage::EncapsulateDecapsulate]
            }
        }
    }

    /// Whether the key is a key pair, of which one half is public.
    pub fn is_pair(self) -> bool {
        match self {
            Self::SymmetricDefault
            | Self::Hmac224
            | Self::Hmac256
            | Self::Hmac384
            | Self::Hmac512 => false,
            Self::Rsa2048
            | Self::Rsa3072
            | Self::Rsa4096
            | Self::EccNistP256
            | Self::EccNistP384
            | Self::EccNistP521
            | Self::EccSecgP256k1
            | Self::EccNistEdwards25519
            | Self::MlDsa44
            | Self::MlDsa65
            | Self::MlDsa87
            | Self::MlKem512
            | Self::MlKem768
            | Self::MlKem1024 => true,
        }
    }

    /// Whether making a key of this spec takes up to seconds, not milliseconds.
    pub fn takes_long(self) -> bool {
        self.modulus_len().is_some()
    }

    /// The bytes of a secret that is not a key pair.
    pub(crate) fn secret_len(self) -> Option<usize> {
        match self {
            Self::SymmetricDefault | Self::Hmac256 => Some(32),
            Self::Hmac224 => Some(28),
            Self::Hmac384 => Some(48),
            Self::Hmac512 => Some(64),
            _ => {
                debug_assert!(self.is_pair(), "every other spec is a key pair");
                None
            }
        }
    }

    /// The bytes of an RSA key's modulus.
    pub(crate) fn modulus_len(self) -> Option<usize> {
        match self {
            Self::Rsa2048 => Some(256),
            Self::Rsa3072 => Some(384),
            Self::Rsa4096 => Some(512),
            _ => None,
        }
    }
}

/// What a key is: its material and its use, which fit each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Kind {
    spec: KeySpec,
    usage: KeyUsage,
}

impl Kind {
    /// AES-256-GCM, for data keys and small secrets.
    pub const SYMMETRIC: Self =
        Self { spec: KeySpec::SymmetricDefault, usage: KeyUsage::EncryptDecrypt };

    /// A spec and a usage that fit each other.
    pub fn new(spec: KeySpec, usage: KeyUsage) -> Option<Self> {
        spec.usages().contains(&usage).then_some(Self { spec, usage })
    }

    /// What the key is made of.
    pub fn spec(self) -> KeySpec {
        self.spec
    }

    /// What it may be used for.
    pub fn usage(self) -> KeyUsage {
        self.usage
    }

    /// Whether it is the kind that makes data keys and takes encryption contexts.
    pub fn is_symmetric(self) -> bool {
        self.spec == KeySpec::SymmetricDefault
    }

    /// `EncryptionAlgorithms`, in AWS's order; empty for other usages.
    pub fn encryption_algorithms(self) -> &'static [EncryptionAlgorithm] {
        use EncryptionAlgorithm as A;
        match self.usage {
            KeyUsage::EncryptDecrypt if self.is_symmetric() => &[A::SymmetricDefault],
            KeyUsage::EncryptDecrypt => &[A::RsaesOaepSha1, A::RsaesOaepSha256],
            KeyUsage::SignVerify
            | KeyUsage::GenerateVerifyMac
            | KeyUsage::KeyAgreement
            | KeyUsage::EncapsulateDecapsulate => &[],
        }
    }

    /// `SigningAlgorithms`, in AWS's order; empty for other usages.
    pub fn signing_algorithms(self) -> &'static [SigningAlgorithm] {
        use SigningAlgorithm as A;
        if self.usage != KeyUsage::SignVerify {
            return &[];
        }
        match self.spec {
            KeySpec::Rsa2048 | KeySpec::Rsa3072 | KeySpec::Rsa4096 => &[
                A::RsassaPkcs1V15Sha256,
                A::RsassaPkcs1V15Sha384,
                A::RsassaPkcs1V15Sha512,
                A::RsassaPssSha256,
                A::RsassaPssSha384,
                A::RsassaPssSha512,
            ],
            KeySpec::EccNistP256 | KeySpec::EccSecgP256k1 => &[A::EcdsaSha256],
            KeySpec::EccNistP384 => &[A::EcdsaSha384],
            KeySpec::EccNistP521 => &[A::EcdsaSha512],
            KeySpec::EccNistEdwards25519 => &[A::Ed25519Sha512, A::Ed25519PhSha512],
            KeySpec::MlDsa44 | KeySpec::MlDsa65 | KeySpec::MlDsa87 => &[A::MlDsaShake256],
            KeySpec::SymmetricDefault
            | KeySpec::Hmac224
            | KeySpec::Hmac256
            | KeySpec::Hmac384
            | KeySpec::Hmac512
            | KeySpec::MlKem512
            | KeySpec::MlKem768
            | KeySpec::MlKem1024 => &[],
        }
    }

    /// `MacAlgorithms`; empty for other usages.
    pub fn mac_algorithms(self) -> &'static [MacAlgorithm] {
        match self.spec {
            KeySpec::Hmac224 => &[MacAlgorithm::HmacSha224],
            KeySpec::Hmac256 => &[MacAlgorithm::HmacSha256],
            KeySpec::Hmac384 => &[MacAlgorithm::HmacSha384],
            KeySpec::Hmac512 => &[MacAlgorithm::HmacSha512],
            _ => &[],
        }
    }

    /// `KeyAgreementAlgorithms`; empty for other usages.
    pub fn key_agreement_algorithms(self) -> &'static [KeyAgreementAlgorithm] {
        match self.usage {
            KeyUsage::KeyAgreement => &[KeyAgreementAlgorithm::Ecdh],
            KeyUsage::EncryptDecrypt
            | KeyUsage::SignVerify
            | KeyUsage::GenerateVerifyMac
            | KeyUsage::EncapsulateDecapsulate => &[],
        }
    }

    /// `EncapsulationAlgorithms`; empty for other usages.
    pub fn encapsulation_algorithms(self) -> &'static [EncapsulationAlgorithm] {
        match self.usage {
            KeyUsage::EncapsulateDecapsulate => &[EncapsulationAlgorithm::MlKem],
            KeyUsage::EncryptDecrypt
            | KeyUsage::SignVerify
            | KeyUsage::GenerateVerifyMac
            | KeyUsage::KeyAgreement => &[],
        }
    }

    /// Reads CreateKey's `KeySpec` and `KeyUsage`. A symmetric encryption key needs neither.
    ///
    /// # Errors
    /// [`Error::Validation`] for words that do not exist, a usage that is missing or does not fit;
    /// [`Error::Unsupported`] for SM2.
    pub fn parse(spec: Option<&str>, usage: Option<&str>) -> Result<Self> {
        let spec = match spec {
            None => KeySpec::SymmetricDefault,
            Some("SM2") => {
                return Err(Error::Unsupported {
                    message: "KeySpec SM2 is available in China Regions only.".to_owned(),
                });
            }
            Some(text) => KeySpec::parse(text).ok_or_else(|| {
                not_listed("keySpec", text, KeySpec::ALL.iter().map(|s| s.as_str()))
            })?,
        };
        let usage = match usage {
            None if spec == KeySpec::SymmetricDefault => KeyUsage::EncryptDecrypt,
            None => {
                return Err(Error::validation(
                    "You must specify a KeyUsage value for all KMS keys except for symmetric encryption keys.",
                ));
            }
            Some(text) => KeyUsage::parse(text).ok_or_else(|| {
                not_listed("keyUsage", text, KeyUsage::ALL.iter().map(|u| u.as_str()))
            })?,
        };
        Self::new(spec, usage).ok_or_else(|| {
            Error::validation(format!("KeyUsage {usage} is not compatible with KeySpec {spec}"))
        })
    }
}

/// A text that an enumeration of the API lacks.
fn not_listed(member: &str, value: &str, known: impl Iterator<Item = &'static str>) -> Error {
    let known = known.collect::<Vec<_>>().join(", ");
    Error::validation(format!(
        "1 validation error detected: Value '{value}' at '{member}' failed to satisfy constraint: \
         Member must satisfy enum value set: [{known}]"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_algorithms_of_its_usage_and_no_other() {
        let mut kinds = 0;
        for &spec in KeySpec::ALL {
            for &usage in KeyUsage::ALL {
                let Some(kind) = Kind::new(spec, usage) else { continue };
                kinds += 1;
                let counts = [
                    (KeyUsage::EncryptDecrypt, kind.encryption_algorithms().len()),
                    (KeyUsage::SignVerify, kind.signing_algorithms().len()),
                    (KeyUsage::GenerateVerifyMac, kind.mac_algorithms().len()),
                    (KeyUsage::KeyAgreement, kind.key_agreement_algorithms().len()),
                    (KeyUsage::EncapsulateDecapsulate, kind.encapsulation_algorithms().len()),
                ];
                for (of, count) in counts {
                    assert_eq!(count > 0, of == usage, "{spec} {usage}: {of}");
                }
            }
        }
        assert_eq!(kinds, 25);
    }

    #[test]
    fn requests_name_a_kind() {
        let kind = |spec, usage| Kind::parse(spec, usage).map(|k| (k.spec(), k.usage()));
        let symmetric = (KeySpec::SymmetricDefault, KeyUsage::EncryptDecrypt);
        assert_eq!(kind(None, None).unwrap(), symmetric);
        assert_eq!(kind(Some("SYMMETRIC_DEFAULT"), Some("ENCRYPT_DECRYPT")).unwrap(), symmetric);
        assert_eq!(
            kind(Some("ECC_NIST_P384"), Some("KEY_AGREEMENT")).unwrap(),
            (KeySpec::EccNistP384, KeyUsage::KeyAgreement)
        );
        for (spec, usage, said) in [
            (Some("RSA_2048"), None, "You must specify a KeyUsage value"),
            (Some("HMAC_256"), None, "You must specify a KeyUsage value"),
            (None, Some("SIGN_VERIFY"), "SIGN_VERIFY is not compatible with KeySpec SYMMETRIC"),
            (Some("ECC_SECG_P256K1"), Some("KEY_AGREEMENT"), "is not compatible with KeySpec"),
            (Some("ECC_NIST_P256"), Some("ENCRYPT_DECRYPT"), "is not compatible with KeySpec"),
            (Some("ML_KEM_768"), Some("KEY_AGREEMENT"), "is not compatible with KeySpec"),
            (Some("ML_KEM_768"), None, "You must specify a KeyUsage value"),
            (Some("RSA_1024"), Some("SIGN_VERIFY"), "enum value set: [SYMMETRIC_DEFAULT, HMAC_224"),
            (Some("RSA_2048"), Some("SIGN"), "enum value set: [ENCRYPT_DECRYPT, SIGN_VERIFY"),
        ] {
            let error = Kind::parse(spec, usage).unwrap_err();
            assert!(
                matches!(&error, Error::Validation { message } if message.contains(said)),
                "{error}"
            );
        }
        let sm2 = Kind::parse(Some("SM2"), Some("SIGN_VERIFY"));
        assert!(matches!(sm2, Err(Error::Unsupported { .. })));
    }
}
