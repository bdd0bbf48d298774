//! Where the secret that seals the root of trust comes from.

use super::SealError;
use super::header::{Header, Parameters};
use crate::primitive::{self, KEY_LEN, Key};
use base::{Rng, Secret};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

/// Longest secret read from a file; keeps a wrong path (a device, a log) from being read whole.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

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
    pub(super) fn is_plausible(&self) -> bool {
        self.memory_kib <= Self::LARGEST.memory_kib
            && self.passes <= Self::LARGEST.passes
            && self.lanes <= Self::LARGEST.lanes
    }
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

impl Provider {
    /// The file the secret is read from.
    pub fn file(&self) -> &Path {
        match self {
            Self::KeyFile(file) | Self::Passphrase { file, .. } => file,
        }
    }

    pub(super) fn secret_noun(&self) -> &'static str {
        match self {
            Self::KeyFile(_) => "key",
            Self::Passphrase { .. } => "passphrase",
        }
    }

    pub(super) fn parameters(&self) -> Parameters {
        match self {
            Self::KeyFile(_) => Parameters::KeyFile,
            Self::Passphrase { cost, .. } => Parameters::Passphrase(*cost),
        }
    }

    /// Keys for a new header.
    pub(super) fn derive_new(&self, salt: &[u8; 32]) -> Result<SealingKeys, SealError> {
        match self {
            Self::KeyFile(path) => Ok(expand(read_key(path)?.expose(), salt)),
            Self::Passphrase { file, cost } => {
                Ok(expand(stretch(&read_passphrase(file)?, salt, *cost)?.expose(), salt))
            }
        }
    }

    /// Keys for a header that exists, with the parameters it stores.
    pub(super) fn derive_existing(
        &self,
        path: &Path,
        header: &Header,
    ) -> Result<SealingKeys, SealError> {
        match (self, header.parameters) {
            (Self::KeyFile(file), Parameters::KeyFile) => {
                if !file.exists() {
                    return Err(SealError::KeyFileMissing {
                        path: file.clone(),
                        header: path.to_owned(),
                    });
                }
                self.derive_new(&header.salt)
            }
            (Self::Passphrase { file, .. }, Parameters::Passphrase(cost)) => {
                Self::Passphrase { file: file.clone(), cost }.derive_new(&header.salt)
            }
            (_, sealed) => Err(SealError::OtherProvider {
                header: path.to_owned(),
                sealed: sealed.noun(),
                configured: self.parameters().noun(),
            }),
        }
    }

    /// Makes the key file when it is missing; returns its path then.
    pub(super) fn create_key_file_if_missing(
        &self,
        rng: &dyn Rng,
    ) -> Result<Option<PathBuf>, SealError> {
        let Self::KeyFile(path) = self else { return Ok(None) };
        let fail = |source| SealError::Io { action: "create", path: path.clone(), source };
        let mut file = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
        {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => return Ok(None),
            Err(e) => return Err(fail(e)),
        };
        let mut key = Key::zero();
        rng.fill(key.expose_mut());
        let mut text = hex::encode(key.expose());
        text.push('\n');
        let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
        text.zeroize();
        written.map_err(fail)?;
        super::header::sync_parent(path)?;
        Ok(Some(path.clone()))
    }
}

fn read_secret(path: &Path) -> Result<Secret<Vec<u8>>, SealError> {
    let fail = |source| SealError::Io { action: "read", path: path.to_owned(), source };
    let file = File::open(path).map_err(fail)?;
    let metadata = file.metadata().map_err(fail)?;
    // Group access is left to the operator: secret mounts of container runtimes use it.
    if metadata.permissions().mode() & 0o007 != 0 {
        return Err(SealError::TooOpen { path: path.to_owned() });
    }
    let capacity = metadata.len().min(SECRET_BYTES_MAX) + 1;
    let mut bytes = Secret::new(Vec::with_capacity(usize::try_from(capacity).unwrap_or(0)));
    file.take(SECRET_BYTES_MAX).read_to_end(bytes.expose_mut()).map_err(fail)?;
    Ok(bytes)
}

fn read_key(path: &Path) -> Result<Key, SealError> {
    let bytes = read_secret(path)?;
    let mut key = Key::zero();
    if bytes.expose().len() == KEY_LEN {
        key.expose_mut().copy_from_slice(bytes.expose());
        return Ok(key);
    }
    hex::decode_to_slice(bytes.expose().trim_ascii(), key.expose_mut())
        .map_err(|_| SealError::KeyFileMalformed { path: path.to_owned() })?;
    Ok(key)
}

fn read_passphrase(path: &Path) -> Result<Secret<Vec<u8>>, SealError> {
    let mut text = read_secret(path)?;
    let bytes = text.expose();
    let end =
        bytes.strip_suffix(b"\n").map_or(bytes.len(), |b| b.strip_suffix(b"\r").unwrap_or(b).len());
    text.expose_mut().truncate(end);
    if text.expose().is_empty() {
        return Err(SealError::PassphraseEmpty { path: path.to_owned() });
    }
    Ok(text)
}

fn stretch(
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
