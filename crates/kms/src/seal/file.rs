//! Secrets that the operator keeps in files: keys, passphrases, PINs.

use super::SealError;
use super::header::sync_parent;
use crate::primitive::{KEY_LEN, Key};
use base::{Rng, Secret};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use zeroize::Zeroize;

/// Longest secret read from a file; keeps a wrong path (a device, a log) from being read whole.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// Fewest characters of a passphrase that something is sealed with: what NIST SP 800-63B-4 asks of a
/// password that is the only factor.
pub(crate) const PASSPHRASE_CHARS_MIN: usize = 15;

/// Makes a key file when there is none; says whether it did.
///
/// # Errors
/// When the file cannot be made.
pub fn make_key(path: &Path, rng: &dyn Rng) -> Result<bool, SealError> {
    let fail = |source| SealError::Io { action: "create", path: path.to_owned(), source };
    let mut file = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => return Ok(false),
        Err(e) => return Err(fail(e)),
    };
    let mut key = Key::zero();
    rng.fill(key.expose_mut());
    let mut text = hex::encode(key.expose());
    text.push('\n');
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    text.zeroize();
    written.map_err(fail)?;
    sync_parent(path)?;
    Ok(true)
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

/// 32 raw bytes or 64 hexadecimal digits.
pub(crate) fn read_key(path: &Path) -> Result<Key, SealError> {
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

/// A text without its final newline.
pub(crate) fn read_passphrase(path: &Path) -> Result<Secret<Vec<u8>>, SealError> {
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

/// As [`read_passphrase`], for what nothing is sealed with yet.
pub(crate) fn read_new_passphrase(path: &Path) -> Result<Secret<Vec<u8>>, SealError> {
    let text = read_passphrase(path)?;
    let bytes = text.expose();
    let chars = std::str::from_utf8(bytes).map_or(bytes.len(), |text| text.chars().count());
    if chars < PASSPHRASE_CHARS_MIN {
        return Err(SealError::PassphraseShort { path: path.to_owned() });
    }
    Ok(text)
}

/// As a passphrase, whose words do not fit.
pub(super) fn read_pin(path: &Path) -> Result<Secret<Vec<u8>>, SealError> {
    read_passphrase(path).map_err(|error| match error {
        SealError::PassphraseEmpty { path } => SealError::PinEmpty { path },
        error => error,
    })
}
