//! The sealed page: the one unit of encryption, from the live log to a snapshot frame.
//!
//! A volume is divided into pages of 4 KiB. A page is sealed once, when it is written, and travels
//! as the same ciphertext through the log, the cut, the export and the snapshot, until somebody
//! holding the volume's data key opens it. Whoever moves it needs only its [`PageOrigin`] and its
//! [`Tag`], which are kept apart from the ciphertext, in structure sealed under a
//! [`StructureKey`].
//!
//! Invariants:
//! - A pair (salt, position) seals at most one page, ever. Salts are 32 random bytes;
//!   [`PageSealer`] and [`StructureSealer`] refuse a position that does not grow.
//! - The address of a page is authenticated with it, so a page moved elsewhere does not open.
//! - A page that does not open leaves zeros in the buffer, never a part of the plaintext.
//!
//! It does not know where pages are stored, nor what a volume or a snapshot is.

mod at_hand;
mod gcm;
mod key;
mod seal;
mod source;
mod stack;
mod wiped;

pub use at_hand::{KeyAtHand, NoKey};
pub use gcm::CipherLibrary;
pub use key::{DataKey, KeyCell, KeyCheckValue, LineageId, StructureKey};
pub use seal::{
    OpenError, PageOpener, PageOrigin, PageSealer, Salt, SealedPage, StructureKind,
    StructureOpener, StructureSealer, Tag,
};
pub use source::{BasePage, BaseReader, BlockPages, CutPage, CutSource, SourceError};

/// Bytes in a page, the unit of encryption.
pub const PAGE_BYTES: usize = 4096;
/// Bytes in a block, the unit of snapshots (EBS direct APIs, `BlockSize`).
pub const BLOCK_BYTES: usize = 512 * 1024;
/// Pages in a block.
pub const PAGES_PER_BLOCK: usize = BLOCK_BYTES / PAGE_BYTES;
/// The cipher suite of this format version: HKDF-SHA-256 and AES-256-GCM.
pub const SUITE_AES_256_GCM: u8 = 1;

/// One page of plaintext or ciphertext.
pub type Page = [u8; PAGE_BYTES];

/// The number of a page in its volume: byte offset divided by [`PAGE_BYTES`].
pub type Lba = u64;

/// Whether every byte is zero. Zero pages are recorded, never stored.
pub fn is_zero(bytes: &[u8]) -> bool {
    // Whole lines at a time, so that the common answer "no" costs a few instructions.
    let (lines, rest) = bytes.as_chunks::<64>();
    lines.iter().all(|line| line.iter().fold(0, |all, byte| all | byte) == 0)
        && rest.iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bit_anywhere_is_not_zero() {
        let mut bytes = [0u8; 200];
        assert!(is_zero(&bytes));
        assert!(is_zero(&[]));
        for at in 0..bytes.len() {
            bytes[at] = 0x80;
            assert!(!is_zero(&bytes), "{at}");
            bytes[at] = 0;
        }
    }
}
