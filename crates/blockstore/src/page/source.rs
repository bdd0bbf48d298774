//! The two seams between live volumes and snapshots: what a new volume reads from, and what a
//! snapshot is made from. Both speak sealed pages, so neither side needs a data key for it.

use super::{Lba, PAGES_PER_BLOCK, SealedPage};

/// Why a page or block could not be had from the other side.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The stored bytes are not what was stored; reading again will not help.
    #[error("{what} of block {block} is damaged")]
    Corrupt {
        /// The structure that did not authenticate.
        what: &'static str,
        /// The 512 KiB block it belongs to.
        block: u64,
    },
    /// The storage behind the source did not answer; reading again may help.
    #[error("storage behind the source is unavailable")]
    Unavailable {
        /// What the storage said.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// What a base holds at an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BasePage {
    /// Zeros.
    Zero,
    /// A page sealed under a data key of the volume's lineage.
    Sealed(SealedPage),
}

/// A snapshot that a volume was created from and falls through to until it has its own pages.
pub trait BaseReader: Send + Sync {
    /// The page at `lba`. Addresses past the snapshot's end hold zeros.
    ///
    /// # Errors
    /// When the page exists but cannot be had. Damage is never reported as zeros.
    fn read_page(&self, lba: Lba) -> Result<BasePage, SourceError>;

    /// As [`BaseReader::read_page`], for a page that did not open: what is returned was found sound
    /// without the data key. A base that finds every page sound anyway returns the same again.
    ///
    /// # Errors
    /// As [`BaseReader::read_page`].
    fn read_page_proven(&self, lba: Lba) -> Result<BasePage, SourceError> {
        self.read_page(lba)
    }

    /// Whether the base stores anything in a 512 KiB block; a block it does not store is zeros.
    ///
    /// # Errors
    /// When the question cannot be answered.
    fn has_block(&self, block: u64) -> Result<bool, SourceError>;
}

/// What a cut holds at an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CutPage {
    /// The volume never wrote here: the base's page, or zeros without a base.
    Absent,
    /// The volume wrote zeros or discarded here; hides what the base holds.
    Zero,
    /// The volume wrote this page.
    Sealed(SealedPage),
}

/// All pages of one 512 KiB block at the moment of a cut: the whole block, not only its changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockPages {
    /// Which block: byte offset divided by `BLOCK_BYTES`.
    pub block: u64,
    /// Its pages in address order, [`PAGES_PER_BLOCK`] of them.
    pub pages: Vec<CutPage>,
}

impl BlockPages {
    /// A block of which nothing is known.
    pub fn absent(block: u64) -> Self {
        Self { block, pages: vec![CutPage::Absent; PAGES_PER_BLOCK] }
    }

    /// Whether every page reads as zeros without a base.
    pub fn is_zero(&self) -> bool {
        self.pages.iter().all(|page| !matches!(page, CutPage::Sealed(_)))
    }
}

/// A retained cut of a volume, readable without its data key while the volume goes on.
pub trait CutSource: Send {
    /// Bytes in the volume at the moment of the cut.
    fn volume_bytes(&self) -> u64;

    /// Blocks that may differ from the cut the source was opened against (all written blocks when
    /// it was opened against none), ascending.
    fn changed_blocks(&self) -> Box<dyn Iterator<Item = Result<u64, SourceError>> + Send + '_>;

    /// One block as of the cut.
    ///
    /// # Errors
    /// When its pages or the structure that names them cannot be read.
    fn load_block(&self, block: u64) -> Result<BlockPages, SourceError>;

    /// Compares what is stored of one block with what tells damage without the data key, if there is such a
    /// thing; returns the bytes that were read for it.
    ///
    /// # Errors
    /// As [`CutSource::load_block`].
    fn compare_block(&self, _block: u64) -> Result<u64, SourceError> {
        Ok(0)
    }
}
