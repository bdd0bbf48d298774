//! Where the secret that seals the root of trust comes from.
//!
//! Every provider ends in the same way: a 32-byte secret, from which a sealing key and a check value are derived.
//! A key file is the secret, a passphrase is stretched into it; a token and a KMS keep a random one sealed, so that the
//! key that opens it never leaves them.

use super::SealError;
use super::file::{read_key, read_new_passphrase, read_passphrase, read_pin};
use super::header::{Parameters, Slot};
use crate::primitive::{self, KEY_LEN, Key};
use crate::token::{Token, TokenName};
use base::{Rng, Secret};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// The cost of stretching a passphrase. Stored in the header; used as given only when it is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Argon2Cost {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over that memory.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl Argon2Cost {
    /// RFC 9106, section 4, second recommended option: 64 MiB, three passes, four lanes. The first option's
    /// 2 GiB would keep a small server from starting.
    pub const RFC_9106: Self = Self { memory_kib: 64 * 1024, passes: 3, lanes: 4 };

    /// Above this a header asks for more than any release wrote; it would only stall the start.
    const LARGEST: Self = Self { memory_kib: 4 * 1024 * 1024, passes: 64, lanes: 64 };

    /// Whether a header's parameters are worth trying.
    pub(crate) fn is_plausible(&self) -> bool {
        self.memory_kib <= Self::LARGEST.memory_kib
            && self.passes <= Self::LARGEST.passes
            && self.lanes <= Self::LARGEST.lanes
    }
}

/// A key on a token, and how to log in.
#[derive(Clone, Debug)]
pub struct TokenKey {
    /// The token.
    pub token: TokenName,
    /// The key's label; it is made when a new seal needs it.
    pub key: String,
    /// Where the user's PIN is read from; one final newline is not part of it.
    pub pin_file: PathBuf,
}

/// A KMS that answers elsewhere: another server of this kind, or AWS. Owned here because the root of trust needs it
/// before anything else is open; implemented by whoever can reach the network.
pub trait RemoteKms: Send + Sync + fmt::Debug {
    /// Encrypts under a key, bound to the encryption context. May wait for the network.
    ///
    /// # Errors
    /// A sentence for the person who runs the server.
    fn encrypt(
        &self,
        key: &str,
        context: &[(String, String)],
        plaintext: &Secret<Vec<u8>>,
    ) -> Result<Vec<u8>, String>;

    /// Decrypts what [`RemoteKms::encrypt`] made.
    ///
    /// # Errors
    /// As there.
    fn decrypt(
        &self,
        key: &str,
        context: &[(String, String)],
        ciphertext: &[u8],
    ) -> Result<Secret<Vec<u8>>, String>;
}

/// A source of the sealing secret.
#[derive(Clone, Debug)]
pub enum Provider {
    /// A file with 32 random bytes, raw or as hexadecimal digits: a file of the operator's or a systemd
    /// credential.
    KeyFile(PathBuf),
    /// A file whose text is stretched with Argon2id.
    Passphrase {
        /// Where the passphrase is read from; one final newline is not part of it.
        file: PathBuf,
        /// The cost of a new header.
        cost: Argon2Cost,
    },
    /// A key on a PKCS#11 token.
    Token(TokenKey),
    /// A key of another KMS.
    RemoteKms {
        /// The key's ARN.
        key: String,
        /// How to reach it.
        kms: Arc<dyn RemoteKms>,
    },
}

/// What a provider's secret gives.
pub(super) struct SealingKeys {
    pub(super) sealing: Key,
    pub(super) check: [u8; 16],
}

impl SealingKeys {
    /// A value of its own derivation in the header tells a wrong secret from a damaged seal.
    pub(super) fn matches(&self, check: &[u8; 16]) -> bool {
        self.check.ct_eq(check).into()
    }
}

/// What the wrapped secret on a token is bound to.
fn token_context(root_id: &[u8; 16]) -> Vec<u8> {
    let mut aad = b"seal-token1".to_vec();
    primitive::push_field(&mut aad, root_id);
    aad
}

/// The encryption context of the wrapped secret at a KMS; its key policy and trail can tell it by that.
fn kms_context(root_id: &[u8; 16]) -> Vec<(String, String)> {
    vec![
        ("strongroom:purpose".to_owned(), "seal1".to_owned()),
        ("strongroom:root".to_owned(), hex::encode(root_id)),
    ]
}

impl Provider {
    /// The provider in words, with what tells it from others of its kind.
    pub fn describe(&self) -> String {
        match self {
            Self::KeyFile(file) => format!("key file {}", file.display()),
            Self::Passphrase { file, .. } => format!("passphrase in {}", file.display()),
            Self::Token(TokenKey { token, key, .. }) => format!("key '{key}' on {token}"),
            Self::RemoteKms { key, .. } => format!("KMS key {key}"),
        }
    }

    /// The kind, as a header names it.
    pub(super) fn noun(&self) -> &'static str {
        match self {
            Self::KeyFile(_) => "key file",
            Self::Passphrase { .. } => "passphrase",
            Self::Token(_) => "token",
            Self::RemoteKms { .. } => "KMS key",
        }
    }

    /// What a new slot stores, and its keys. Makes the key on the token if it is not there yet.
    pub(super) fn derive_new(
        &self,
        root_id: &[u8; 16],
        salt: &[u8; 32],
        rng: &dyn Rng,
    ) -> Result<(Parameters, SealingKeys), SealError> {
        match self {
            Self::KeyFile(path) => {
                Ok((Parameters::KeyFile, expand(read_key(path)?.expose(), salt)))
            }
            Self::Passphrase { file, cost } => {
                let key = stretch(&read_new_passphrase(file)?, salt, *cost)?;
                Ok((Parameters::Passphrase(*cost), expand(key.expose(), salt)))
            }
            Self::Token(at) => {
                let token = open_token(at)?;
                if !token.has_key(&at.key)? {
                    token.make_key(&at.key)?;
                }
                let secret = random(rng);
                let nonce = primitive::random_nonce(rng);
                let aad = token_context(root_id);
                let wrapped = token.seal(&at.key, nonce, &aad, secret.expose())?;
                let (token, key) = (at.token.label.clone(), at.key.clone());
                let keys = expand(fixed(secret.expose())?, salt);
                Ok((Parameters::Token { token, key, nonce, wrapped }, keys))
            }
            Self::RemoteKms { key, kms } => {
                let secret = random(rng);
                let wrapped = kms
                    .encrypt(key, &kms_context(root_id), &secret)
                    .map_err(|problem| SealError::RemoteKms { key: key.clone(), problem })?;
                let keys = expand(fixed(secret.expose())?, salt);
                Ok((Parameters::RemoteKms { key: key.clone(), wrapped }, keys))
            }
        }
    }

    /// Keys for a slot that exists, with the parameters it stores; `None` when it is of another kind.
    pub(super) fn derive_existing(
        &self,
        path: &Path,
        root_id: &[u8; 16],
        slot: &Slot,
    ) -> Result<Option<SealingKeys>, SealError> {
        let keys = match (self, &slot.parameters) {
            (Self::KeyFile(file), Parameters::KeyFile) => {
                if !file.exists() {
                    return Err(SealError::KeyFileMissing {
                        path: file.clone(),
                        header: path.to_owned(),
                    });
                }
                expand(read_key(file)?.expose(), &slot.salt)
            }
            (Self::Passphrase { file, .. }, Parameters::Passphrase(cost)) => {
                let key = stretch(&read_passphrase(file)?, &slot.salt, *cost)?;
                expand(key.expose(), &slot.salt)
            }
            (Self::Token(at), Parameters::Token { key, nonce, wrapped, .. }) => {
                let token = open_token(at)?;
                let opened = token.open_sealed(key, *nonce, &token_context(root_id), wrapped)?;
                let secret = opened.ok_or_else(|| SealError::WrongSecret {
                    secret: format!("key '{key}' on {}", at.token),
                    header: path.to_owned(),
                    kind: "key",
                })?;
                expand(fixed(secret.expose())?, &slot.salt)
            }
            (Self::RemoteKms { kms, .. }, Parameters::RemoteKms { key, wrapped }) => {
                let secret = kms
                    .decrypt(key, &kms_context(root_id), wrapped)
                    .map_err(|problem| SealError::RemoteKms { key: key.clone(), problem })?;
                expand(fixed(secret.expose())?, &slot.salt)
            }
            _ => return Ok(None),
        };
        Ok(Some(keys))
    }

    /// The token that takes part, logged in; for what else is kept on it.
    ///
    /// # Errors
    /// As the token answers.
    pub fn token(&self) -> Result<Option<Token>, SealError> {
        match self {
            Self::Token(at) => open_token(at).map(Some),
            _ => Ok(None),
        }
    }
}

fn open_token(at: &TokenKey) -> Result<Token, SealError> {
    Ok(Token::open(&at.token, &read_pin(&at.pin_file)?)?)
}

fn random(rng: &dyn Rng) -> Secret<Vec<u8>> {
    let mut secret = Secret::new(vec![0; KEY_LEN]);
    rng.fill(secret.expose_mut());
    secret
}

fn fixed(secret: &[u8]) -> Result<&[u8; KEY_LEN], SealError> {
    secret.try_into().map_err(|_| SealError::SecretLength { bytes: secret.len() })
}

/// Stretches a passphrase; also of backups.
pub(crate) fn stretch(
    passphrase: &Secret<Vec<u8>>,
    salt: &[u8; 32],
    cost: Argon2Cost,
) -> Result<Key, SealError> {
    let fail = |e: argon2::Error| SealError::Stretch { problem: e.to_string() };
    let params = argon2::Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(KEY_LEN))
        .map_err(fail)?;
    let mut key = Key::zero();
    argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params)
        .hash_password_into(passphrase.expose(), salt, key.expose_mut())
        .map_err(fail)?;
    Ok(key)
}

fn expand(secret: &[u8; KEY_LEN], salt: &[u8; 32]) -> SealingKeys {
    let mut sealing = Key::zero();
    primitive::hkdf_sha256(salt, secret, b"seal-key1", sealing.expose_mut());
    let mut check = [0; 16];
    primitive::hkdf_sha256(salt, secret, b"seal-check1", &mut check);
    SealingKeys { sealing, check }
}

#[cfg(test)]
mod tests {
    /// RFC 9106, 5.3 (with secret and associated data), and the same inputs without them as OpenSSL's suite
    /// publishes it: the form used here.
    #[test]
    fn argon2id_passes_the_published_vectors() {
        use argon2::{Algorithm, Argon2, AssociatedData, ParamsBuilder, Version};
        let hash = |argon2: Argon2<'_>| {
            let mut tag = [0; 32];
            argon2.hash_password_into(&[1; 32], &[2; 16], &mut tag).unwrap();
            hex::encode(tag)
        };
        let mut builder = ParamsBuilder::new();
        builder.m_cost(32).t_cost(3).p_cost(4).output_len(32);
        let plain = Argon2::new(Algorithm::Argon2id, Version::V0x13, builder.build().unwrap());
        assert_eq!(hash(plain), "03aab965c12001c9d7d0d2de33192c0494b684bb148196d73c1df1acaf6d0c2e");

        builder.data(AssociatedData::new(&[4; 12]).unwrap());
        let params = builder.build().unwrap();
        let keyed =
            Argon2::new_with_secret(&[3; 8], Algorithm::Argon2id, Version::V0x13, params).unwrap();
        assert_eq!(hash(keyed), "0d640df58d78766c08c037a34a8b53c9d01ef0452d75b65eb52520e96b01e659");
    }
}
