//! What the operations on key pairs and HMAC keys share: the names of algorithms, and opening the key.

use super::{Named, Target, target, usable};
use crate::forge::aside;
use crate::{Call, Error};
use awsproto::string_enum;
use kms::condition::Facts;
use kms::spec::{self, Kind};
use kms::{Action, Key, Opened};

/// Largest signature or MAC accepted (botocore: CiphertextType).
pub(crate) const SIGNATURE_BYTES_MAX: usize = 6144;
/// Largest encapsulated secret accepted (botocore: CiphertextType).
pub(crate) const CIPHERTEXT_BYTES_MAX: usize = 6144;
/// Largest public key accepted (botocore: PublicKeyType).
pub(crate) const PUBLIC_KEY_BYTES_MAX: usize = 8192;

string_enum! {
    /// `SigningAlgorithm`.
    pub(crate) enum SigningAlgorithm {
        /// For RSA keys.
        RsassaPssSha256 = "RSASSA_PSS_SHA_256",
        /// For RSA keys.
        RsassaPssSha384 = "RSASSA_PSS_SHA_384",
        /// For RSA keys.
        RsassaPssSha512 = "RSASSA_PSS_SHA_512",
        /// For RSA keys.
        RsassaPkcs1V15Sha256 = "RSASSA_PKCS1_V1_5_SHA_256",
        /// For RSA keys.
        RsassaPkcs1V15Sha384 = "RSASSA_PKCS1_V1_5_SHA_384",
        /// For RSA keys.
        RsassaPkcs1V15Sha512 = "RSASSA_PKCS1_V1_5_SHA_512",
        /// For keys on secp256r1 and secp256k1.
        EcdsaSha256 = "ECDSA_SHA_256",
        /// For keys on secp384r1.
        EcdsaSha384 = "ECDSA_SHA_384",
        /// For keys on secp521r1.
        EcdsaSha512 = "ECDSA_SHA_512",
        /// For SM2 keys.
        Sm2dsa = "SM2DSA",
        /// For ML-DSA keys.
        MlDsaShake256 = "ML_DSA_SHAKE_256",
        /// For Ed25519 keys.
        Ed25519Sha512 = "ED25519_SHA_512",
        /// For Ed25519 keys.
        Ed25519PhSha512 = "ED25519_PH_SHA_512",
    }
}

string_enum! {
    /// `MessageType`.
    pub(crate) enum MessageType {
        /// The message.
        Raw = "RAW",
        /// Its digest.
        Digest = "DIGEST",
        /// The μ of ML-DSA.
        ExternalMu = "EXTERNAL_MU",
    }
}

string_enum! {
    /// `MacAlgorithm`.
    pub(crate) enum MacAlgorithm {
        /// For HMAC_224 keys.
        HmacSha224 = "HMAC_SHA_224",
        /// For HMAC_256 keys.
        HmacSha256 = "HMAC_SHA_256",
        /// For HMAC_384 keys.
        HmacSha384 = "HMAC_SHA_384",
        /// For HMAC_512 keys.
        HmacSha512 = "HMAC_SHA_512",
    }
}

string_enum! {
    /// `KeyAgreementAlgorithm`.
    pub(crate) enum KeyAgreementAlgorithm {
        /// For keys on the curves of NIST.
        Ecdh = "ECDH",
    }
}

string_enum! {
    /// `EncapsulationAlgorithm`.
    pub(crate) enum EncapsulationAlgorithm {
        /// For ML-KEM keys.
        MlKem = "ML_KEM",
    }
}

string_enum! {
    /// `KeyPairSpec` of a data key pair.
    pub(crate) enum DataKeyPairSpec {
        /// RSA, 2,048 bits.
        Rsa2048 = "RSA_2048",
        /// RSA, 3,072 bits.
        Rsa3072 = "RSA_3072",
        /// RSA, 4,096 bits.
        Rsa4096 = "RSA_4096",
        /// secp256r1.
        EccNistP256 = "ECC_NIST_P256",
        /// secp384r1.
        EccNistP384 = "ECC_NIST_P384",
        /// secp521r1.
        EccNistP521 = "ECC_NIST_P521",
        /// secp256k1.
        EccSecgP256k1 = "ECC_SECG_P256K1",
        /// SM2, in China only.
        Sm2 = "SM2",
        /// Ed25519.
        EccNistEdwards25519 = "ECC_NIST_EDWARDS25519",
        /// ML-KEM, category 1.
        MlKem512 = "ML_KEM_512",
        /// ML-KEM, category 3.
        MlKem768 = "ML_KEM_768",
        /// ML-KEM, category 5.
        MlKem1024 = "ML_KEM_1024",
    }
}

impl SigningAlgorithm {
    /// The algorithm; what this server does not have is refused by name.
    pub(crate) fn known(self) -> Result<spec::SigningAlgorithm, Error> {
        spec::SigningAlgorithm::parse(self.as_str())
            .ok_or_else(|| refused("SigningAlgorithm", self.as_str()))
    }
}

impl MessageType {
    /// The type; `RAW` when none is given.
    pub(crate) fn or_raw(given: Option<Self>) -> spec::MessageType {
        match given {
            None | Some(Self::Raw) => spec::MessageType::Raw,
            Some(Self::Digest) => spec::MessageType::Digest,
            Some(Self::ExternalMu) => spec::MessageType::ExternalMu,
        }
    }
}

impl MacAlgorithm {
    pub(crate) fn known(self) -> spec::MacAlgorithm {
        match self {
            Self::HmacSha224 => spec::MacAlgorithm::HmacSha224,
            Self::HmacSha256 => spec::MacAlgorithm::HmacSha256,
            Self::HmacSha384 => spec::MacAlgorithm::HmacSha384,
            Self::HmacSha512 => spec::MacAlgorithm::HmacSha512,
        }
    }
}

impl KeyAgreementAlgorithm {
    pub(crate) fn known(self) -> spec::KeyAgreementAlgorithm {
        match self {
            Self::Ecdh => spec::KeyAgreementAlgorithm::Ecdh,
        }
    }
}

impl EncapsulationAlgorithm {
    pub(crate) fn known(self) -> spec::EncapsulationAlgorithm {
        match self {
            Self::MlKem => spec::EncapsulationAlgorithm::MlKem,
        }
    }
}

/// What AWS has and this server has not. Operations with keys list no `UnsupportedOperationException`.
pub(crate) fn refused(member: &str, value: &str) -> Error {
    let message = format!("{member} {value} is not supported by this server.");
    kms::Error::Validation { message }.into()
}

/// What an operation on a key pair or HMAC key says about it.
pub(crate) struct Use<'a> {
    pub(crate) action: Action,
    pub(crate) key_id: &'a str,
    pub(crate) grant_tokens: &'a [String],
    pub(crate) facts: Facts,
}

/// The key of such an operation, with its side of the decision.
pub(crate) async fn find(call: &Call, wanted: Use<'_>) -> Result<Target, Error> {
    let Use { action, key_id, grant_tokens, facts } = wanted;
    call.world.kms.check_grant_tokens(grant_tokens)?;
    target(call, Named { action, key_id, facts }).await
}

/// Whether the key's state, usage and algorithms allow the operation, as it is now.
pub(crate) async fn rehearse(
    call: &Call,
    action: Action,
    key: &Key,
    fits: impl Fn(Kind) -> kms::Result<()> + Send + Sync + 'static,
) -> Result<(), Error> {
    let key = key.clone();
    super::read(call, move |_, tx, _| fits(usable(tx, action, &key)?.kind)).await
}

/// The same, and then the key's secret at work, off the threads that answer.
pub(crate) async fn work<T: Send + 'static>(
    call: &Call,
    action: Action,
    key: Key,
    fits: impl Fn(Kind) -> kms::Result<()> + Send + Sync + 'static,
    work: impl FnOnce(Opened) -> kms::Result<T> + Send + 'static,
) -> Result<T, Error> {
    let opened = super::read(call, move |kms, tx, _| {
        let key = usable(tx, action, &key)?;
        fits(key.kind)?;
        kms.open_key(tx, &key)
    })
    .await?;
    aside(move || work(opened)).await
}
