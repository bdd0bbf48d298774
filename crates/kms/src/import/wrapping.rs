//! How material is wrapped on its way here.

use crate::error::{Error, Result};
use crate::spec::{KeySpec, Kind};

/// `WrappingAlgorithm`: how material is encrypted under the public key (RFC 8017, NIST SP 800-56B).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WrappingAlgorithm {
    /// RSAES-OAEP with SHA-1.
    RsaesOaepSha1,
    /// RSAES-OAEP with SHA-256.
    RsaesOaepSha256,
    /// An AES key under RSAES-OAEP with SHA-1, and the material under that key (RFC 5649). For material that is
    /// longer than RSA takes.
    RsaAesKeyWrapSha1,
    /// The same with SHA-256.
    RsaAesKeyWrapSha256,
}

impl WrappingAlgorithm {
    /// Every algorithm.
    pub const ALL: [Self; 4] = [
        Self::RsaesOaepSha1,
        Self::RsaesOaepSha256,
        Self::RsaAesKeyWrapSha1,
        Self::RsaAesKeyWrapSha256,
    ];

    /// The word of the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RsaesOaepSha1 => "RSAES_OAEP_SHA_1",
            Self::RsaesOaepSha256 => "RSAES_OAEP_SHA_256",
            Self::RsaAesKeyWrapSha1 => "RSA_AES_KEY_WRAP_SHA_1",
            Self::RsaAesKeyWrapSha256 => "RSA_AES_KEY_WRAP_SHA_256",
        }
    }

    /// The algorithm of a word of the API.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for SM2PKE, which AWS has in China only, and for RSAES_PKCS1_V1_5, which it has ended
    /// (KMS API, GetParametersForImport).
    pub fn parse(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.as_str() == text).ok_or_else(|| {
            Error::Unsupported {
                message: format!("WrappingAlgorithm {text} is not supported by this server."),
            }
        })
    }

    /// The byte that stands for it in an import token.
    pub(super) const fn code(self) -> u8 {
        match self {
            Self::RsaesOaepSha1 => 1,
            Self::RsaesOaepSha256 => 2,
            Self::RsaAesKeyWrapSha1 => 3,
            Self::RsaAesKeyWrapSha256 => 4,
        }
    }

    pub(super) fn of_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.code() == code)
    }
}

/// `WrappingKeySpec`: the kind of public key that material is wrapped under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WrappingKeySpec {
    /// RSA, 2,048 bits.
    Rsa2048,
    /// RSA, 3,072 bits.
    Rsa3072,
    /// RSA, 4,096 bits.
    Rsa4096,
}

impl WrappingKeySpec {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Rsa2048, Self::Rsa3072, Self::Rsa4096];

    /// The word of the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rsa2048 => "RSA_2048",
            Self::Rsa3072 => "RSA_3072",
            Self::Rsa4096 => "RSA_4096",
        }
    }

    /// The kind of a word of the API.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for SM2, which AWS has in China only.
    pub fn parse(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|spec| spec.as_str() == text).ok_or_else(|| Error::Unsupported {
            message: format!("WrappingKeySpec {text} is not supported by this server."),
        })
    }
}

/// Whether key material of a kind can be wrapped so.
///
/// # Errors
/// [`Error::Unsupported`]: RSA alone wraps no RSA private key, and a short RSA key not one on P-521 (KMS API,
/// GetParametersForImport).
pub fn check_fits(
    kind: Kind,
    algorithm: WrappingAlgorithm,
    key_spec: WrappingKeySpec,
) -> Result<()> {
    let direct = match algorithm {
        WrappingAlgorithm::RsaesOaepSha1 | WrappingAlgorithm::RsaesOaepSha256 => true,
        WrappingAlgorithm::RsaAesKeyWrapSha1 | WrappingAlgorithm::RsaAesKeyWrapSha256 => false,
    };
    let spec = kind.spec();
    let too_long = match spec {
        KeySpec::EccNistP521 => key_spec == WrappingKeySpec::Rsa2048,
        _ => spec.takes_long(),
    };
    if direct && too_long {
        return Err(Error::Unsupported {
            message: format!(
                "WrappingAlgorithm {} with WrappingKeySpec {} is not supported for key material of KeySpec \
                 {spec}; use an RSA_AES_KEY_WRAP algorithm.",
                algorithm.as_str(),
                key_spec.as_str()
            ),
        });
    }
    Ok(())
}
