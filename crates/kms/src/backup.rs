//! The envelope of a backup: the root of trust and any records, sealed under a secret kept for recovery alone.
//!
//! A backup opens without the seal of the server it was made on: it holds the root key itself. So whoever has the
//! file and the recovery secret has everything the rows held; see `docs/format.kms.md`.
//!
//! ```text
//! header   magic, version, kind of recovery secret, cost, salt, check     in the clear, bound to every frame
//! frames   length, ciphertext ‖ tag; numbered, the last one marked         AES-256-GCM
//! ```
//!
//! Frames cannot be left out, swapped, repeated, or cut off at the end without notice.

mod read;
mod write;

pub use read::BackupReader;
pub use write::BackupWriter;

use crate::primitive::{self, KEY_LEN, Key, NONCE_LEN, TAG_LEN};
use crate::seal::file::{read_key, read_new_passphrase, read_passphrase};
use crate::seal::provider::stretch;
use crate::seal::{Argon2Cost, SealError};
use std::path::PathBuf;

const MAGIC: &[u8; 8] = b"SRBACKUP";
/// The only version written.
const VERSION: u8 = 1;
const HEADER_LEN: usize = 8 + 1 + 1 + 12 + 32 + 16;
/// Plaintext of every frame but the last.
const FRAME_LEN: usize = 64 * 1024;
/// No record is longer; a row has at most a few policies.
pub const RECORD_BYTES_MAX: usize = 16 << 20;

/// The secret that opens a backup, and nothing else.
#[derive(Clone, Debug)]
pub enum Recovery {
    /// A file with 32 random bytes, raw or as hexadecimal digits.
    KeyFile(PathBuf),
    /// A file whose text is stretched with Argon2id.
    Passphrase {
        /// Where the passphrase is read from; one final newline is not part of it.
        file: PathBuf,
        /// The cost of a new backup.
        cost: Argon2Cost,
    },
}

/// Why a backup cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The recovery secret cannot be read.
    #[error(transparent)]
    Secret(#[from] SealError),
    /// The file cannot be read or written.
    #[error("the backup cannot be read or written: {0}")]
    Io(#[from] std::io::Error),
    /// It is something else.
    #[error("this is no backup")]
    NoBackup,
    /// It was written by a later release.
    #[error("the backup has version {version}, which this release does not know: upgrade")]
    Version {
        /// Its version.
        version: u8,
    },
    /// It was sealed with the other kind of secret.
    #[error("the backup was sealed with a {sealed}, not a {given}")]
    OtherKind {
        /// What its header names.
        sealed: &'static str,
        /// What was given.
        given: &'static str,
    },
    /// The check value does not match.
    #[error("this is another {kind} than the one the backup was sealed with")]
    WrongSecret {
        /// `recovery key` or `recovery passphrase`.
        kind: &'static str,
    },
    /// A frame does not open, or the end is missing.
    #[error("the backup is damaged at byte {at}: {problem}")]
    Damaged {
        /// Where the frame begins.
        at: u64,
        /// What is wrong.
        problem: &'static str,
    },
    /// The root of trust cannot be put into protected memory.
    #[error("cannot get protected memory for the root key")]
    Memory(#[source] std::io::Error),
}

impl Recovery {
    fn noun(&self) -> &'static str {
        match self {
            Self::KeyFile(_) => "recovery key",
            Self::Passphrase { .. } => "recovery passphrase",
        }
    }
}

/// The clear beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    /// `None` for a key file.
    cost: Option<Argon2Cost>,
    salt: [u8; 32],
    check: [u8; 16],
}

const KIND_KEY_FILE: u8 = 1;
const KIND_PASSPHRASE: u8 = 2;

impl Header {
    fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8] = VERSION;
        bytes[9] = if self.cost.is_some() { KIND_PASSPHRASE } else { KIND_KEY_FILE };
        if let Some(Argon2Cost { memory_kib, passes, lanes }) = self.cost {
            for (at, number) in [memory_kib, passes, lanes].into_iter().enumerate() {
                bytes[10 + 4 * at..14 + 4 * at].copy_from_slice(&number.to_be_bytes());
            }
        }
        bytes[22..54].copy_from_slice(&self.salt);
        bytes[54..].copy_from_slice(&self.check);
        bytes
    }

    fn decode(bytes: &[u8; HEADER_LEN]) -> Result<Self, BackupError> {
        if &bytes[..8] != MAGIC {
            return Err(BackupError::NoBackup);
        }
        if bytes[8] != VERSION {
            return Err(BackupError::Version { version: bytes[8] });
        }
        let number =
            |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let (memory_kib, passes, lanes) = (number(10), number(14), number(18));
        let damaged =
            BackupError::Damaged { at: 9, problem: "its header is none that was written" };
        let cost = match bytes[9] {
            KIND_KEY_FILE if (memory_kib, passes, lanes) == (0, 0, 0) => None,
            KIND_PASSPHRASE => Some(Argon2Cost { memory_kib, passes, lanes }),
            _ => return Err(damaged),
        };
        if cost.is_some_and(|cost| !cost.is_plausible()) {
            return Err(damaged);
        }
        let salt = bytes[22..54].try_into().expect("32 bytes");
        let check = bytes[54..].try_into().expect("16 bytes");
        Ok(Self { cost, salt, check })
    }

    fn kind(&self) -> &'static str {
        if self.cost.is_some() { "recovery passphrase" } else { "recovery key" }
    }
}

/// What the recovery secret gives for one backup.
struct Keys {
    sealing: Key,
    check: [u8; 16],
}

fn keys(recovery: &Recovery, salt: &[u8; 32], cost: Option<Argon2Cost>) -> Result<Keys, SealError> {
    let secret = match (recovery, cost) {
        (Recovery::KeyFile(file), _) => read_key(file)?,
        (Recovery::Passphrase { file, .. }, Some(stored)) => {
            stretch(&read_passphrase(file)?, salt, stored)?
        }
        (Recovery::Passphrase { file, cost }, None) => {
            stretch(&read_new_passphrase(file)?, salt, *cost)?
        }
    };
    let mut sealing = Key::zero();
    primitive::hkdf_sha256(salt, secret.expose(), b"backup-key1", sealing.expose_mut());
    let mut check = [0; 16];
    primitive::hkdf_sha256(salt, secret.expose(), b"backup-check1", &mut check);
    Ok(Keys { sealing, check })
}

/// Whether more frames follow.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Inner,
    Last,
}

/// Number of the frame u64, then 1 for the last one and 0 for the others: no nonce is used twice under the
/// backup's key, which its random salt makes its own.
fn nonce(number: u64, place: Place) -> [u8; NONCE_LEN] {
    let mut nonce = [0; NONCE_LEN];
    nonce[..8].copy_from_slice(&number.to_be_bytes());
    nonce[11] = u8::from(place == Place::Last);
    nonce
}

const _: () = assert!(FRAME_LEN + TAG_LEN < u32::MAX as usize && KEY_LEN == 32);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::{HEADER_FILE, Provider, Root, make_key};
    use base::SeededRng;
    use std::fs;
    use std::path::Path;

    fn root(dir: &Path) -> Root {
        let provider = Provider::KeyFile(dir.join("seal.key"));
        Root::open_or_create(dir, &provider, &SeededRng::new(1)).unwrap().0
    }

    fn key(dir: &Path, name: &str, seed: u64) -> Recovery {
        let file = dir.join(name);
        make_key(&file, &SeededRng::new(seed)).unwrap();
        Recovery::KeyFile(file)
    }

    fn records() -> Vec<Vec<u8>> {
        vec![vec![], b"one".to_vec(), vec![7; 200_000], b"last".to_vec()]
    }

    fn written(root: &Root, recovery: &Recovery) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut writer = BackupWriter::new(&mut bytes, recovery, root, &SeededRng::new(3)).unwrap();
        records().iter().for_each(|record| writer.record(record).unwrap());
        writer.finish().unwrap();
        bytes
    }

    fn read(bytes: &[u8], recovery: &Recovery) -> Result<Vec<Vec<u8>>, BackupError> {
        let mut reader = BackupReader::new(bytes, recovery)?;
        let mut all = Vec::new();
        while let Some(record) = reader.record()? {
            all.push(record);
        }
        Ok(all)
    }

    #[test]
    fn what_was_written_comes_back_and_the_root_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let (root, recovery) = (root(dir.path()), key(dir.path(), "recovery", 2));
        let bytes = written(&root, &recovery);
        assert_eq!(read(&bytes, &recovery).unwrap(), records());

        // Sealed anew, by another provider, in another directory: the same root.
        let other = tempfile::tempdir().unwrap();
        let reader = BackupReader::new(&bytes[..], &recovery).unwrap();
        let provider = Provider::KeyFile(other.path().join("seal.key"));
        reader.seal_root(other.path(), &provider, &SeededRng::new(4)).unwrap();
        let (again, _) = Root::open_or_create(other.path(), &provider, &SeededRng::new(5)).unwrap();
        assert_eq!(again.id(), root.id());
        assert_eq!(again.service_key("x").expose(), root.service_key("x").expose());
        // A seal that is there is not replaced.
        let twice = reader.seal_root(other.path(), &provider, &SeededRng::new(6));
        assert!(matches!(twice, Err(SealError::Sealed { .. })));
        assert!(other.path().join(HEADER_FILE).exists());
    }

    #[test]
    fn a_passphrase_opens_what_it_sealed() {
        let dir = tempfile::tempdir().unwrap();
        let cost = Argon2Cost { memory_kib: 64, passes: 1, lanes: 1 };
        let words = |name: &str, text: &str| {
            let file = dir.path().join(name);
            fs::write(&file, text).unwrap();
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            fs::set_permissions(&file, mode).unwrap();
            Recovery::Passphrase { file, cost }
        };
        let (good, wrong) = (words("good", "the right words\n"), words("wrong", "two"));
        let bytes = written(&root(dir.path()), &good);
        assert_eq!(read(&bytes, &good).unwrap(), records());
        let error = read(&bytes, &wrong).unwrap_err();
        assert!(matches!(error, BackupError::WrongSecret { .. }), "{error}");
        let error = read(&bytes, &key(dir.path(), "k", 9)).unwrap_err();
        assert!(matches!(error, BackupError::OtherKind { .. }), "{error}");
    }

    #[test]
    fn no_byte_can_be_changed_left_out_or_added() {
        let dir = tempfile::tempdir().unwrap();
        let recovery = key(dir.path(), "recovery", 2);
        let bytes = written(&root(dir.path()), &recovery);
        for at in (0..HEADER_LEN + 40).chain((HEADER_LEN + 40..bytes.len()).step_by(997)) {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(read(&bad, &recovery).is_err(), "byte {at}");
        }
        for length in (0..bytes.len()).step_by(1009).chain([bytes.len() - 1]) {
            assert!(read(&bytes[..length], &recovery).is_err(), "{length} bytes");
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(read(&longer, &recovery).is_err());
        // A whole frame left out.
        let frame = 4 + FRAME_LEN + TAG_LEN;
        let mut shorter = bytes[..HEADER_LEN].to_vec();
        shorter.extend_from_slice(&bytes[HEADER_LEN + frame..]);
        assert!(read(&shorter, &recovery).is_err());
    }

    /// Made by an independent implementation, frozen: one record, `text`.
    #[test]
    fn the_frozen_backup_opens() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        fs::write(&file, (0..32).collect::<Vec<u8>>()).unwrap();
        fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let bytes = hex::decode(include_str!("../vectors/backup-v1.hex").trim()).unwrap();
        assert_eq!(read(&bytes, &Recovery::KeyFile(file)).unwrap(), [b"text"]);
    }
}
