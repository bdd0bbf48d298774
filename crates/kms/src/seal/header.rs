//! `seal.json`: the one small file that turns the operator's secret into the root of trust.
//!
//! Text, so that it can be inspected and backed up by hand. Every field is covered by the seal's additional data.

use super::SealError;
use super::provider::Argon2Cost;
use crate::primitive::{NONCE_LEN, push_field};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The only version written.
const VERSION: u32 = 1;
/// No header is larger.
const HEADER_BYTES_MAX: u64 = 16 * 1024;
/// Root key, service secret and tag.
const SEALED_LEN: usize = 32 + 32 + 16;

/// How the secret becomes a sealing key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parameters {
    KeyFile,
    Passphrase(Argon2Cost),
}

impl Parameters {
    pub(super) fn noun(self) -> &'static str {
        match self {
            Self::KeyFile => "key file",
            Self::Passphrase(_) => "passphrase",
        }
    }
}

/// The header's fields.
pub(super) struct Header {
    pub(super) root_id: [u8; 16],
    pub(super) parameters: Parameters,
    pub(super) salt: [u8; 32],
    pub(super) check: [u8; 16],
    pub(super) nonce: [u8; NONCE_LEN],
    pub(super) sealed: Vec<u8>,
}

impl Header {
    /// "seal1" and every field but the nonce and what is sealed.
    pub(super) fn additional_data(&self) -> Vec<u8> {
        let mut aad = b"seal1".to_vec();
        push_field(&mut aad, &self.root_id);
        push_field(&mut aad, self.parameters.noun().as_bytes());
        if let Parameters::Passphrase(cost) = self.parameters {
            for number in [cost.memory_kib, cost.passes, cost.lanes] {
                push_field(&mut aad, &number.to_be_bytes());
            }
        }
        push_field(&mut aad, &self.salt);
        push_field(&mut aad, &self.check);
        aad
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    version: u32,
    root_id: String,
    provider: ProviderText,
    salt: String,
    check: String,
    nonce: String,
    sealed: String,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
enum ProviderText {
    KeyFile,
    Passphrase { kdf: Kdf, memory_kib: u32, passes: u32, lanes: u32 },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kdf {
    Argon2id,
}

#[derive(Deserialize)]
struct VersionOnly {
    version: u32,
}

/// Reads the header; `None` when there is no such file.
pub(super) fn read(path: &Path) -> Result<Option<Header>, SealError> {
    let fail = |source| SealError::Io { action: "read", path: path.to_owned(), source };
    let damaged = |problem| SealError::HeaderDamaged { header: path.to_owned(), problem };
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.len() > HEADER_BYTES_MAX => {
            return Err(damaged("it is too large"));
        }
        Ok(_) => {}
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(fail(e)),
    }
    let bytes = std::fs::read(path).map_err(fail)?;
    if let Ok(VersionOnly { version }) = serde_json::from_slice(&bytes)
        && version != VERSION
    {
        return Err(SealError::HeaderVersion { header: path.to_owned(), version });
    }
    let text: Text =
        serde_json::from_slice(&bytes).map_err(|_| damaged("it is not a header's JSON"))?;
    parse(&text).map(Some).ok_or_else(|| damaged("a field is malformed"))
}

fn parse(text: &Text) -> Option<Header> {
    let parameters = match text.provider {
        ProviderText::KeyFile => Parameters::KeyFile,
        ProviderText::Passphrase { kdf: Kdf::Argon2id, memory_kib, passes, lanes } => {
            let cost = Argon2Cost { memory_kib, passes, lanes };
            if !cost.is_plausible() {
                return None;
            }
            Parameters::Passphrase(cost)
        }
    };
    let sealed = hex::decode(&text.sealed).ok()?;
    if sealed.len() != SEALED_LEN {
        return None;
    }
    Some(Header {
        root_id: fixed(&text.root_id)?,
        parameters,
        salt: fixed(&text.salt)?,
        check: fixed(&text.check)?,
        nonce: fixed(&text.nonce)?,
        sealed,
    })
}

fn fixed<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    Some(bytes)
}

/// Writes a new header so that a power cut leaves either none or all of it.
pub(super) fn write_new(path: &Path, header: &Header) -> Result<(), SealError> {
    let text = Text {
        version: VERSION,
        root_id: hex::encode(header.root_id),
        provider: match header.parameters {
            Parameters::KeyFile => ProviderText::KeyFile,
            Parameters::Passphrase(Argon2Cost { memory_kib, passes, lanes }) => {
                ProviderText::Passphrase { kdf: Kdf::Argon2id, memory_kib, passes, lanes }
            }
        },
        salt: hex::encode(header.salt),
        check: hex::encode(header.check),
        nonce: hex::encode(header.nonce),
        sealed: hex::encode(&header.sealed),
    };
    let bytes = serde_json::to_vec_pretty(&text).expect("strings and numbers always serialize");
    let temporary = path.with_extension("json.new");
    let fail =
        |action, path: &Path, source| SealError::Io { action, path: path.to_owned(), source };
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)
        .map_err(|e| fail("create", &temporary, e))?;
    file.write_all(&bytes)
        .and_then(|()| file.sync_all())
        .map_err(|e| fail("write", &temporary, e))?;
    std::fs::rename(&temporary, path).map_err(|e| fail("rename into place", path, e))?;
    sync_parent(path)
}

/// Makes a new name durable.
pub(super) fn sync_parent(path: &Path) -> Result<(), SealError> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(parent).and_then(|directory| directory.sync_all()).map_err(|source| SealError::Io {
        action: "sync",
        path: parent.to_owned(),
        source,
    })
}
