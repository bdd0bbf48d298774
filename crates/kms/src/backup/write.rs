//! Writing a backup.

use super::{
    BackupError, FRAME_LEN, HEADER_LEN, Header, Keys, Place, RECORD_BYTES_MAX, Recovery, keys,
    nonce,
};
use crate::primitive::{self, TAG_LEN};
use crate::seal::Root;
use base::{Rng, Secret};
use std::io::Write;

/// Seals records into a file. Nothing is complete before [`BackupWriter::finish`].
pub struct BackupWriter<W> {
    target: W,
    keys: Keys,
    header: [u8; HEADER_LEN],
    /// What waits for its frame to be full.
    pending: Secret<Vec<u8>>,
    frames: u64,
}

impl<W: Write> BackupWriter<W> {
    /// Begins a backup of this root of trust.
    ///
    /// # Errors
    /// When the recovery secret cannot be read, or the target not written.
    pub fn new(
        mut target: W,
        recovery: &Recovery,
        root: &Root,
        rng: &dyn Rng,
    ) -> Result<Self, BackupError> {
        let mut salt = [0; 32];
        rng.fill(&mut salt);
        let keys = keys(recovery, &salt, None)?;
        let cost = match recovery {
            Recovery::KeyFile(_) => None,
            Recovery::Passphrase { cost, .. } => Some(*cost),
        };
        let header = Header { cost, salt, check: keys.check }.encode();
        target.write_all(&header)?;
        let pending = Secret::new(Vec::with_capacity(FRAME_LEN + TAG_LEN));
        let mut writer = Self { target, keys, header, pending, frames: 0 };
        writer.put(root.id())?;
        let secrets = root.secrets();
        writer.put(secrets.expose())?;
        Ok(writer)
    }

    /// Adds a record.
    ///
    /// # Errors
    /// As the target answers.
    ///
    /// # Panics
    /// When the record is longer than [`RECORD_BYTES_MAX`].
    pub fn record(&mut self, record: &[u8]) -> Result<(), BackupError> {
        assert!(record.len() <= RECORD_BYTES_MAX, "a record fits");
        let length = u32::try_from(record.len()).expect("a record is short");
        self.put(&length.to_be_bytes())?;
        self.put(record)
    }

    /// Ends the backup and gives the target back; the caller makes it durable.
    ///
    /// # Errors
    /// As the target answers.
    pub fn finish(mut self) -> Result<W, BackupError> {
        self.frame(Place::Last)?;
        self.target.flush()?;
        Ok(self.target)
    }

    fn put(&mut self, mut bytes: &[u8]) -> Result<(), BackupError> {
        while !bytes.is_empty() {
            let room = FRAME_LEN - self.pending.expose().len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.pending.expose_mut().extend_from_slice(now);
            bytes = later;
            if self.pending.expose().len() == FRAME_LEN {
                self.frame(Place::Inner)?;
            }
        }
        Ok(())
    }

    fn frame(&mut self, place: Place) -> Result<(), BackupError> {
        let text = self.pending.expose_mut();
        let nonce = nonce(self.frames, place);
        primitive::seal(self.keys.sealing.expose(), nonce, &self.header, text);
        let length = u32::try_from(text.len()).expect("a frame is short");
        self.target.write_all(&length.to_be_bytes())?;
        self.target.write_all(text)?;
        text.clear();
        self.frames += 1;
        Ok(())
    }
}
