//! Twins: a volume that holds all of a snapshot, for other volumes to be cloned from.
//!
//! A volume made from a snapshot that has a twin takes the twin's cut for its base: it reads single
//! pages of a local log instead of whole blocks of the object store, from its first moment on. The
//! pages are under the same data key, so a clone costs nothing and needs no key. A clone is not tied
//! to the twin: it can be opened on the snapshot itself at any time, because both read the same.
//!
//! Making a twin copies the snapshot once, with its data key.

use super::{CutHandle, Store, StoreError};
use crate::live::{Base, CutId, Error, OpenOptions};
use crate::page::{
    BLOCK_BYTES, BasePage, BaseReader, CutPage, CutSource, DataKey, Lba, SourceError,
};
use base::VolumeId;

/// Why a twin could not be made.
#[derive(Debug, thiserror::Error)]
pub enum TwinError {
    /// The volume refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The snapshot cannot be read.
    #[error("the snapshot cannot be read")]
    Snapshot(#[from] SourceError),
    /// Whoever asked wants it no more.
    #[error("a twin is not wanted any more")]
    Unwanted,
}

/// A twin, open for reading. While it lives its volume cannot be deleted.
pub struct Twin {
    cut: CutHandle,
}

impl Twin {
    /// Fills a volume that was created on the snapshot, and cuts it as `cut`. Repeating it after a
    /// crash goes on; a twin that was made is only opened. `goes_on` is asked after every block.
    ///
    /// # Errors
    /// When the snapshot or the volume fails, or `goes_on` says no.
    pub fn make(
        store: &Store,
        volume: &VolumeId,
        cut: CutId,
        base: Base,
        key: DataKey,
        goes_on: &dyn Fn(u64) -> bool,
    ) -> Result<Self, TwinError> {
        if store.cuts(volume)?.iter().any(|made| made.id == cut) {
            return Ok(Self::open(store, volume, cut)?);
        }
        let reader = std::sync::Arc::clone(&base.reader);
        let handle = store.open_volume(
            volume,
            OpenOptions { data_key: Some(key), base: Some(base), writer: None },
        )?;
        let blocks = handle.size().div_ceil(BLOCK_BYTES as u64);
        for block in 0..blocks {
            if reader.has_block(block)? {
                store.with(volume, move |engine| engine.hydrate(block).map(drop))?;
                if !goes_on(block) {
                    return Err(TwinError::Unwanted);
                }
            }
        }
        // The cut is durable with everything before it.
        match store.cut(volume, cut) {
            Ok(_) | Err(StoreError::Volume(Error::CutExists { .. })) => {}
            Err(error) => return Err(error.into()),
        }
        handle.close()?;
        Ok(Self::open(store, volume, cut)?)
    }

    /// Opens a twin that was made.
    ///
    /// # Errors
    /// When it was not, or cannot be read.
    pub fn open(store: &Store, volume: &VolumeId, cut: CutId) -> Result<Self, StoreError> {
        Ok(Self { cut: store.open_cut(volume, cut, None)? })
    }
}

impl BaseReader for Twin {
    fn read_page(&self, lba: Lba) -> Result<BasePage, SourceError> {
        if lba >= self.cut.volume_bytes() / crate::page::PAGE_BYTES as u64 {
            return Ok(BasePage::Zero);
        }
        Ok(match self.cut.read_page(lba)? {
            CutPage::Sealed(page) => BasePage::Sealed(page),
            // Everything that is not zeros was copied before the cut.
            CutPage::Zero | CutPage::Absent => BasePage::Zero,
        })
    }

    fn has_block(&self, block: u64) -> Result<bool, SourceError> {
        if block >= self.cut.volume_bytes().div_ceil(BLOCK_BYTES as u64) {
            return Ok(false);
        }
        Ok(!self.cut.load_block(block)?.is_zero())
    }
}
