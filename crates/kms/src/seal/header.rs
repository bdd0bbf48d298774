//! `seal.json`: the one small file that turns the operator's secret into the root of trust.
//!
//! Text, so that it can be inspected and backed up by hand. It has a slot for each secret that opens it: one, and while
//! the seal is being moved from one secret to another, both. Every field of a slot is covered by its seal's
//! additional data; slots do not vouch for each other, because whoever can add one holds the root key anyway.

use super::SealError;
use super::provider::Argon2Cost;
use crate::primitive::{NONCE_LEN, push_field};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Headers of the first release: one slot, key file or passphrase. Read, and replaced by the next rotation.
const FIRST_VERSION: u32 = 1;
/// The version written.
const VERSION: u32 = 2;
/// No header is larger.
const HEADER_BYTES_MAX: u64 = 64 * 1024;
/// A rotation that was cut short leaves two, each further one that is cut short one more.
pub(super) const SLOTS_MAX: usize = 4;
/// Root key, service secret and tag.
const SEALED_LEN: usize = 32 + 32 + 16;
/// Longest wrapped secret: KMS answers with at most this.
const WRAPPED_BYTES_MAX: usize = 6144;

/// How the secret becomes a sealing key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Parameters {
    /// The secret is the file.
    KeyFile,
    /// The secret is stretched.
    Passphrase(Argon2Cost),
    /// The secret is random and sealed by a key on a token.
    Token {
        /// The token's label.
        token: String,
        /// The key's label on it.
        key: String,
        /// Of the wrapped secret.
        nonce: [u8; NONCE_LEN],
        /// The secret, sealed.
        wrapped: Vec<u8>,
    },
    /// The secret is random and encrypted under a key of a KMS.
    RemoteKms {
        /// The key's ARN.
        key: String,
        /// The secret, as the KMS gave it back.
        wrapped: Vec<u8>,
    },
}

impl Parameters {
    pub(super) fn noun(&self) -> &'static str {
        match self {
            Self::KeyFile => "key file",
            Self::Passphrase(_) => "passphrase",
            Self::Token { .. } => "token",
            Self::RemoteKms { .. } => "KMS key",
        }
    }
}

/// The header's fields.
pub(super) struct Header {
    pub(super) root_id: [u8; 16],
    pub(super) slots: Vec<Slot>,
}

/// One secret that opens the header.
#[derive(Clone)]
pub(super) struct Slot {
    /// Which version's rule its additional data follows.
    layout: u32,
    pub(super) parameters: Parameters,
    pub(super) salt: [u8; 32],
    pub(super) check: [u8; 16],
    pub(super) nonce: [u8; NONCE_LEN],
    pub(super) sealed: Vec<u8>,
}

impl Slot {
    /// A slot to be filled.
    pub(super) fn new(parameters: Parameters, salt: [u8; 32], check: [u8; 16]) -> Self {
        let (nonce, sealed) = ([0; NONCE_LEN], Vec::new());
        Self { layout: VERSION, parameters, salt, check, nonce, sealed }
    }

    /// The version's label and every field but the nonce and what is sealed.
    pub(super) fn additional_data(&self, root_id: &[u8; 16]) -> Vec<u8> {
        let mut aad =
            if self.layout == FIRST_VERSION { b"seal1".to_vec() } else { b"seal2".to_vec() };
        push_field(&mut aad, root_id);
        push_field(&mut aad, self.parameters.noun().as_bytes());
        match &self.parameters {
            Parameters::KeyFile => {}
            Parameters::Passphrase(cost) => {
                for number in [cost.memory_kib, cost.passes, cost.lanes] {
                    push_field(&mut aad, &number.to_be_bytes());
                }
            }
            Parameters::Token { token, key, nonce, wrapped } => {
                let fields = [token.as_bytes(), key.as_bytes(), nonce, wrapped];
                fields.into_iter().for_each(|field| push_field(&mut aad, field));
            }
            Parameters::RemoteKms { key, wrapped } => {
                push_field(&mut aad, key.as_bytes());
                push_field(&mut aad, wrapped);
            }
        }
        push_field(&mut aad, &self.salt);
        push_field(&mut aad, &self.check);
        aad
    }
}

/// A header of the first version is its one slot.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FirstText {
    #[serde(rename = "version")]
    _version: u32,
    root_id: String,
    provider: ProviderText,
    salt: String,
    check: String,
    nonce: String,
    sealed: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    version: u32,
    root_id: String,
    slots: Vec<SlotText>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SlotText {
    layout: u32,
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
    Token { token: String, key: String, nonce: String, wrapped: String },
    RemoteKms { key: String, wrapped: String },
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
    decode(path, &bytes).map(Some)
}

/// Reads the bytes of a header; `path` is for errors.
fn decode(path: &Path, bytes: &[u8]) -> Result<Header, SealError> {
    let damaged = |problem| SealError::HeaderDamaged { header: path.to_owned(), problem };
    let no_json = |_| damaged("it is not a header's JSON");
    let VersionOnly { version } = serde_json::from_slice(bytes).map_err(no_json)?;
    let (root_id, slots) = match version {
        FIRST_VERSION => {
            let FirstText { root_id, provider, salt, check, nonce, sealed, .. } =
                serde_json::from_slice(bytes).map_err(no_json)?;
            (root_id, vec![SlotText { layout: version, provider, salt, check, nonce, sealed }])
        }
        VERSION => {
            let text: Text = serde_json::from_slice(bytes).map_err(no_json)?;
            (text.root_id, text.slots)
        }
        version => return Err(SealError::HeaderVersion { header: path.to_owned(), version }),
    };
    if !(1..=SLOTS_MAX).contains(&slots.len()) {
        return Err(damaged("it has no slot, or too many"));
    }
    let slots: Option<Vec<_>> = slots.iter().map(parse).collect();
    let header = fixed(&root_id).zip(slots).map(|(root_id, slots)| Header { root_id, slots });
    header.ok_or_else(|| damaged("a field is malformed"))
}

fn parse(text: &SlotText) -> Option<Slot> {
    if !(FIRST_VERSION..=VERSION).contains(&text.layout) {
        return None;
    }
    let wrapped =
        |text: &str| hex::decode(text).ok().filter(|wrapped| wrapped.len() <= WRAPPED_BYTES_MAX);
    let parameters = match &text.provider {
        ProviderText::KeyFile => Parameters::KeyFile,
        &ProviderText::Passphrase { kdf: Kdf::Argon2id, memory_kib, passes, lanes } => {
            let cost = Argon2Cost { memory_kib, passes, lanes };
            if !cost.is_plausible() {
                return None;
            }
            Parameters::Passphrase(cost)
        }
        ProviderText::Token { .. } | ProviderText::RemoteKms { .. }
            if text.layout == FIRST_VERSION =>
        {
            return None;
        }
        ProviderText::Token { token, key, nonce, wrapped: sealed } => Parameters::Token {
            token: token.clone(),
            key: key.clone(),
            nonce: fixed(nonce)?,
            wrapped: wrapped(sealed)?,
        },
        ProviderText::RemoteKms { key, wrapped: sealed } => {
            Parameters::RemoteKms { key: key.clone(), wrapped: wrapped(sealed)? }
        }
    };
    let sealed = hex::decode(&text.sealed).ok()?;
    if sealed.len() != SEALED_LEN {
        return None;
    }
    Some(Slot {
        layout: text.layout,
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

fn slot_text(slot: &Slot) -> SlotText {
    SlotText {
        layout: slot.layout,
        provider: match &slot.parameters {
            Parameters::KeyFile => ProviderText::KeyFile,
            &Parameters::Passphrase(Argon2Cost { memory_kib, passes, lanes }) => {
                ProviderText::Passphrase { kdf: Kdf::Argon2id, memory_kib, passes, lanes }
            }
            Parameters::Token { token, key, nonce, wrapped } => ProviderText::Token {
                token: token.clone(),
                key: key.clone(),
                nonce: hex::encode(nonce),
                wrapped: hex::encode(wrapped),
            },
            Parameters::RemoteKms { key, wrapped } => {
                ProviderText::RemoteKms { key: key.clone(), wrapped: hex::encode(wrapped) }
            }
        },
        salt: hex::encode(slot.salt),
        check: hex::encode(slot.check),
        nonce: hex::encode(slot.nonce),
        sealed: hex::encode(&slot.sealed),
    }
}

/// Writes the header so that a power cut leaves either what was there before or all of it.
pub(super) fn write(path: &Path, header: &Header) -> Result<(), SealError> {
    replace(path, &encode(header))
}

fn encode(header: &Header) -> Vec<u8> {
    let text = Text {
        version: VERSION,
        root_id: hex::encode(header.root_id),
        slots: header.slots.iter().map(slot_text).collect(),
    };
    serde_json::to_vec_pretty(&text).expect("strings and numbers always serialize")
}

/// For the fuzz targets: what would be written of a header that was read.
pub(crate) fn again(bytes: &[u8]) -> Option<Vec<u8>> {
    decode(Path::new("/"), bytes).ok().map(|header| encode(&header))
}

/// Replaces a small file: whole or not at all, and durable when this returns.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), SealError> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = Path::new(&temporary);
    let fail =
        |action, path: &Path, source| SealError::Io { action, path: path.to_owned(), source };
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(temporary)
        .map_err(|e| fail("create", temporary, e))?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(|e| fail("write", temporary, e))?;
    std::fs::rename(temporary, path).map_err(|e| fail("rename into place", path, e))?;
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
