//! Reading a backup.

use super::{
    BackupError, FRAME_LEN, HEADER_LEN, Header, Keys, Place, RECORD_BYTES_MAX, Recovery, keys,
    nonce,
};
use crate::primitive::{self, KEY_LEN, TAG_LEN};
use crate::seal::{Provider, Root, SealError};
use base::{Rng, Secret};
use std::io::Read;
use std::path::Path;
use subtle::ConstantTimeEq;

const ROOT_ID_LEN: usize = 16;

/// Opens the records of a backup one after another. Nothing of a frame is given out before it has opened; whether the
/// backup is whole is known when [`BackupReader::record`] has returned `None`.
pub struct BackupReader<R> {
    frames: Frames<R>,
    /// The frame being given out, and how much of it was.
    opened: Secret<Vec<u8>>,
    taken: usize,
    root: Root,
}

impl<R: Read> BackupReader<R> {
    /// Opens the beginning of a backup.
    ///
    /// # Errors
    /// See [`BackupError`].
    pub fn new(source: R, recovery: &Recovery) -> Result<Self, BackupError> {
        let mut frames = Frames::begin(source, recovery)?;
        let missing = |at| BackupError::Damaged { at, problem: "the root of trust is missing" };
        let opened = frames.next()?.ok_or(missing(frames.at))?;
        let taken = ROOT_ID_LEN + 2 * KEY_LEN;
        let (id, secrets) = opened
            .expose()
            .get(..taken)
            .and_then(|root| root.split_first_chunk::<ROOT_ID_LEN>())
            .ok_or(missing(frames.at))?;
        let root = Root::recovered(*id, secrets).map_err(BackupError::Memory)?;
        Ok(Self { frames, opened, taken, root })
    }

    /// The next record; `None` behind the last one of a backup that is whole.
    ///
    /// # Errors
    /// [`BackupError::Damaged`].
    pub fn record(&mut self) -> Result<Option<Vec<u8>>, BackupError> {
        let Some(length) = self.take(4)? else { return Ok(None) };
        let length = u32::from_be_bytes(length[..].try_into().expect("four bytes"));
        let problem = |problem| BackupError::Damaged { at: self.frames.at, problem };
        let length = usize::try_from(length).ok().filter(|length| *length <= RECORD_BYTES_MAX);
        let length = length.ok_or(problem("a record is too long"))?;
        let cut = problem("a record ends early");
        self.take(length)?.map(Some).ok_or(cut)
    }

    /// Seals the root of trust of the backup in a directory that has none.
    ///
    /// # Errors
    /// See [`SealError`].
    pub fn seal_root(
        &self,
        directory: &Path,
        provider: &Provider,
        rng: &dyn Rng,
    ) -> Result<(), SealError> {
        self.root.seal_new(directory, provider, rng)
    }

    /// The root of trust of the backup.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// Exactly so many bytes; `None` when the backup ends before the first of them.
    fn take(&mut self, length: usize) -> Result<Option<Vec<u8>>, BackupError> {
        let mut bytes = Vec::with_capacity(length.min(FRAME_LEN));
        while bytes.len() < length {
            if self.taken == self.opened.expose().len() {
                match self.frames.next()? {
                    Some(frame) => (self.opened, self.taken) = (frame, 0),
                    None if bytes.is_empty() => return Ok(None),
                    None => return Err(self.frames.damaged("it ends inside a record")),
                }
                continue;
            }
            let rest = &self.opened.expose()[self.taken..];
            let part = rest.len().min(length - bytes.len());
            bytes.extend_from_slice(&rest[..part]);
            self.taken += part;
        }
        Ok(Some(bytes))
    }
}

struct Frames<R> {
    source: R,
    keys: Keys,
    header: [u8; HEADER_LEN],
    number: u64,
    /// Where the next frame begins.
    at: u64,
    ended: bool,
}

impl<R: Read> Frames<R> {
    fn begin(mut source: R, recovery: &Recovery) -> Result<Self, BackupError> {
        let mut bytes = [0; HEADER_LEN];
        source.read_exact(&mut bytes).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => BackupError::NoBackup,
            _ => error.into(),
        })?;
        let header = Header::decode(&bytes)?;
        if header.kind() != recovery.noun() {
            let (sealed, given) = (header.kind(), recovery.noun());
            return Err(BackupError::OtherKind { sealed, given });
        }
        let keys = keys(recovery, &header.salt, header.cost)?;
        if !bool::from(keys.check.ct_eq(&header.check)) {
            return Err(BackupError::WrongSecret { kind: recovery.noun() });
        }
        let at = HEADER_LEN as u64;
        Ok(Self { source, keys, header: bytes, number: 0, at, ended: false })
    }

    /// The next frame, opened; `None` behind the last one, when nothing follows it.
    fn next(&mut self) -> Result<Option<Secret<Vec<u8>>>, BackupError> {
        if self.ended {
            return Ok(None);
        }
        let mut length = [0; 4];
        self.exactly(&mut length)?;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if !(TAG_LEN..=FRAME_LEN + TAG_LEN).contains(&length) {
            return Err(self.damaged("a frame has an impossible length"));
        }
        let mut sealed = vec![0; length];
        self.exactly(&mut sealed)?;
        // All frames but the last are full.
        let place = if length == FRAME_LEN + TAG_LEN { Place::Inner } else { Place::Last };
        let key = self.keys.sealing.expose();
        let opened = primitive::open(key, nonce(self.number, place), &self.header, &sealed);
        let opened = opened.map_err(|_| self.damaged("a frame does not open"))?;
        self.number += 1;
        self.at += 4 + length as u64;
        if place == Place::Last {
            self.ended = true;
            if self.source.read(&mut [0; 1])? != 0 {
                return Err(self.damaged("something follows its end"));
            }
        }
        Ok(Some(opened))
    }

    fn exactly(&mut self, target: &mut [u8]) -> Result<(), BackupError> {
        self.source.read_exact(target).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => self.damaged("its end is missing"),
            _ => error.into(),
        })
    }

    fn damaged(&self, problem: &'static str) -> BackupError {
        BackupError::Damaged { at: self.at, problem }
    }
}
