//! The anchor: how far the rows have come, remembered outside them, so that a server does not start on older ones.
//!
//! Rows carry an epoch that grows with what changes. After a growth is durable, and only then, the epoch is written to
//! `anchor.json` in the data directory, and to the token that seals the root, if there is one. At a start the rows may be
//! ahead of the anchor (a power cut between the two), never behind: rows that are behind were put back.
//!
//! The file is authenticated: without the root key it cannot be given another epoch. An old file together
//! with old rows is an old machine; only the token tells it.

use crate::primitive::push_field;
use crate::seal::header::replace;
use crate::seal::{Root, SealError};
use crate::token::{Token, TokenError};
use aws_lc_rs::hmac;
use meta::{Tx, params};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};

/// Name of the anchor inside the data directory.
pub const ANCHOR_FILE: &str = "anchor.json";

const VERSION: u32 = 1;
/// No anchor is larger.
const BYTES_MAX: u64 = 4096;
const KEY_LABEL: &str = "anchor-1";

/// The one row there is.
const NAME: &str = "rows";

/// How far the rows are; 0 before the first growth.
///
/// # Errors
/// As the database answers.
pub fn epoch(tx: &mut Tx<'_>) -> meta::Result<u64> {
    let row = tx.query_opt("SELECT epoch FROM kms_epochs WHERE name = $1", params![NAME])?;
    row.map_or(Ok(0), |row| row.get(0))
}

/// Lets the epoch grow to the one behind `least` and behind its own; returns it. Durable with the transaction.
///
/// # Errors
/// As the database answers.
pub fn grow(tx: &mut Tx<'_>, least: u64) -> meta::Result<u64> {
    let grown = epoch(tx)?.max(least) + 1;
    let number = i64::try_from(grown).map_err(|_| meta::Error::Corrupt {
        detail: "the epoch of the rows is out of range".to_owned(),
    })?;
    tx.execute(
        "INSERT INTO kms_epochs (name, epoch) VALUES ($1, $2) \
         ON CONFLICT (name) DO UPDATE SET epoch = $2",
        params![NAME, number],
    )?;
    Ok(grown)
}

/// Why an anchor cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum AnchorError {
    /// The file cannot be read or written.
    #[error(transparent)]
    File(#[from] SealError),
    /// It is not an anchor of this root of trust.
    #[error("{} is damaged or belongs to another data directory", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// The token does not answer.
    #[error(transparent)]
    Token(#[from] TokenError),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    version: u32,
    root_id: String,
    epoch: u64,
    mac: String,
}

/// The anchor of a data directory.
pub struct Anchor {
    path: PathBuf,
    root_id: [u8; 16],
    key: hmac::Key,
    token: Option<Token>,
}

impl fmt::Debug for Anchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Anchor").field(&self.path).finish()
    }
}

impl Anchor {
    /// The anchor in `directory`, also kept on the token if one is given.
    pub fn new(directory: &Path, root: &Root, token: Option<Token>) -> Self {
        let key = root.service_key(KEY_LABEL);
        let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose());
        Self { path: directory.join(ANCHOR_FILE), root_id: *root.id(), key, token }
    }

    /// The epoch in the file; `None` when there is no file.
    ///
    /// # Errors
    /// [`AnchorError::Damaged`].
    pub fn in_file(&self) -> Result<Option<u64>, AnchorError> {
        let io = |source| SealError::Io { action: "read", path: self.path.clone(), source };
        let length = match std::fs::metadata(&self.path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io(error).into()),
        };
        let damaged = || AnchorError::Damaged { path: self.path.clone() };
        if length > BYTES_MAX {
            return Err(damaged());
        }
        let bytes = std::fs::read(&self.path).map_err(io)?;
        self.verified(&bytes).map(Some).ok_or_else(damaged)
    }

    /// The highest epoch on the token; `None` without a token, or when it holds none of this root.
    ///
    /// # Errors
    /// As the token answers.
    pub fn on_token(&self) -> Result<Option<u64>, AnchorError> {
        let Some(token) = &self.token else { return Ok(None) };
        let notes = token.notes(&self.label())?;
        Ok(notes.iter().filter_map(|note| self.verified(note)).max())
    }

    /// Remembers an epoch in the file. The rows must have reached it durably.
    ///
    /// # Errors
    /// When the file cannot be written; the one before it is still there then.
    pub fn remember(&self, epoch: u64) -> Result<(), AnchorError> {
        Ok(replace(&self.path, &self.text(epoch))?)
    }

    /// Remembers an epoch on the token, if there is one. The rows must have reached it durably.
    ///
    /// # Errors
    /// As the token answers.
    pub fn remember_on_token(&self, epoch: u64) -> Result<(), AnchorError> {
        match &self.token {
            Some(token) => Ok(token.set_note(&self.label(), &self.text(epoch))?),
            None => Ok(()),
        }
    }

    fn label(&self) -> String {
        format!("strongroom-anchor-{}", hex::encode(self.root_id))
    }

    pub(crate) fn text(&self, epoch: u64) -> Vec<u8> {
        let text = Text {
            version: VERSION,
            root_id: hex::encode(self.root_id),
            epoch,
            mac: hex::encode(hmac::sign(&self.key, &self.covered(epoch)).as_ref()),
        };
        serde_json::to_vec(&text).expect("strings and numbers always serialize")
    }

    pub(crate) fn verified(&self, bytes: &[u8]) -> Option<u64> {
        let text: Text = serde_json::from_slice(bytes).ok()?;
        let mac = hex::decode(&text.mac).ok()?;
        let ours = text.version == VERSION && text.root_id == hex::encode(self.root_id);
        let genuine = hmac::verify(&self.key, &self.covered(text.epoch), &mac).is_ok();
        (ours && genuine).then_some(text.epoch)
    }

    fn covered(&self, epoch: u64) -> Vec<u8> {
        let mut covered = b"anchor1".to_vec();
        push_field(&mut covered, &self.root_id);
        push_field(&mut covered, &epoch.to_be_bytes());
        covered
    }
}

/// What the epochs say about the rows at a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing speaks against them.
    Current,
    /// They are older than what was seen.
    RolledBack {
        /// The highest epoch remembered.
        seen: u64,
    },
    /// They have grown before, but nothing outside them remembers how far.
    Unanchored,
}

/// Judges the rows' epoch by what the file and the token remember.
pub fn judge(rows: u64, file: Option<u64>, token: Option<u64>) -> Verdict {
    match file.max(token) {
        Some(seen) if rows < seen => Verdict::RolledBack { seen },
        Some(_) => Verdict::Current,
        None if rows > 0 => Verdict::Unanchored,
        None => Verdict::Current,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::Provider;
    use crate::token::softhsm;
    use base::SeededRng;
    use meta::Db;
    use std::fs;

    fn root(directory: &Path) -> Root {
        let provider = Provider::KeyFile(directory.join("seal.key"));
        Root::open_or_create(directory, &provider, &SeededRng::new(1)).unwrap().0
    }

    #[test]
    fn the_epoch_grows_behind_what_is_asked() {
        let db = Db::memory().unwrap();
        db.migrate_blocking(crate::MIGRATIONS).unwrap();
        assert_eq!(db.read_blocking(epoch).unwrap(), 0);
        for (least, expected) in [(0, 1), (0, 2), (9, 10), (3, 11)] {
            assert_eq!(db.write_blocking(move |tx| grow(tx, least)).unwrap(), expected);
            assert_eq!(db.read_blocking(epoch).unwrap(), expected);
        }
    }

    #[test]
    fn only_the_root_key_writes_an_anchor() {
        let dir = tempfile::tempdir().unwrap();
        let anchor = Anchor::new(dir.path(), &root(dir.path()), None);
        assert_eq!(anchor.in_file().unwrap(), None);
        anchor.remember(7).unwrap();
        assert_eq!(anchor.in_file().unwrap(), Some(7));
        let path = dir.path().join(ANCHOR_FILE);
        let text = fs::read_to_string(&path).unwrap();
        for bad in [
            text.replace(":7,", ":6,"),
            text.replace("\"version\":1", "\"version\":2"),
            String::new(),
        ] {
            fs::write(&path, &bad).unwrap();
            assert!(matches!(anchor.in_file(), Err(AnchorError::Damaged { .. })), "{bad}");
        }
        let other = tempfile::tempdir().unwrap();
        let provider = Provider::KeyFile(other.path().join("seal.key"));
        let (stranger, _) =
            Root::open_or_create(other.path(), &provider, &SeededRng::new(2)).unwrap();
        fs::write(&path, text).unwrap();
        let stranger = Anchor::new(dir.path(), &stranger, None);
        assert!(matches!(stranger.in_file(), Err(AnchorError::Damaged { .. })));
    }

    #[test]
    fn older_rows_are_told_from_a_power_cut() {
        assert_eq!(judge(0, None, None), Verdict::Current, "a new data directory");
        assert_eq!(judge(5, Some(5), None), Verdict::Current);
        assert_eq!(judge(6, Some(5), None), Verdict::Current, "cut before the file was written");
        assert_eq!(judge(6, Some(6), Some(5)), Verdict::Current, "cut before the token was");
        assert_eq!(judge(4, Some(5), None), Verdict::RolledBack { seen: 5 });
        assert_eq!(judge(4, Some(4), Some(5)), Verdict::RolledBack { seen: 5 }, "an old machine");
        assert_eq!(judge(4, None, Some(5)), Verdict::RolledBack { seen: 5 });
        assert_eq!(judge(5, None, Some(5)), Verdict::Current, "the token knows as well");
        assert_eq!(judge(1, None, None), Verdict::Unanchored, "the file was taken away");
    }

    #[test]
    fn a_token_remembers_too() {
        let Some(hsm) = softhsm::with("anchor::tests::a_token_remembers_too") else { return };
        let dir = tempfile::tempdir().unwrap();
        let token = Token::open(&hsm.token("one"), &softhsm::pin(softhsm::PIN)).unwrap();
        let anchor = Anchor::new(dir.path(), &root(dir.path()), Some(token));
        assert_eq!(anchor.on_token().unwrap(), None);
        anchor.remember_on_token(3).unwrap();
        anchor.remember_on_token(4).unwrap();
        assert_eq!(anchor.on_token().unwrap(), Some(4));
        assert_eq!(anchor.in_file().unwrap(), None);
    }
}
