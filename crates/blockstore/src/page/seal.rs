//! Sealing and opening: AES-256-GCM with the position under a salt as nonce.

use super::gcm::{CipherLibrary, GcmKey};
use super::{Lba, PAGE_BYTES, Page, SUITE_AES_256_GCM};
use base::{Rng, Secret};
use std::fmt;

/// First bytes of the associated data of a page.
const PAGE_DOMAIN: &[u8; 2] = b"L1";
/// First bytes of the associated data of structure.
const STRUCTURE_DOMAIN: &[u8; 2] = b"S1";
/// Bytes of associated data of a page or of structure.
const AAD_BYTES: usize = 12;
/// The kind byte of a data page; no [`StructureKind`] has it.
const KIND_DATA: u8 = 1;
/// The kind byte of the digest of a block's plaintext.
const KIND_DIGEST: u8 = 2;

/// 32 random bytes that name a sealing key. Drawn anew for every segment, pack and superblock.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Salt(pub [u8; 32]);

impl Salt {
    /// A salt nobody has sealed with.
    pub fn generate(rng: &dyn Rng) -> Self {
        let mut bytes = [0; 32];
        rng.fill(&mut bytes);
        Self(bytes)
    }
}

impl fmt::Debug for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "Salt({a:02x}{b:02x}{c:02x}{d:02x}..)")
    }
}

/// The authentication tag of a sealed page. Kept in structure, never beside the ciphertext.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tag(pub [u8; 16]);

/// Where a page was sealed: enough, with its tag, its address and the data key, to open it
/// wherever the ciphertext is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PageOrigin {
    /// Names the sealing key.
    pub salt: Salt,
    /// The nonce under that key.
    pub position: u32,
}

/// A page in its sealed form, complete for anyone who knows its address.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedPage {
    /// Where it was sealed.
    pub origin: PageOrigin,
    /// What proves it.
    pub tag: Tag,
    /// The sealed bytes.
    pub ciphertext: Box<Page>,
}

impl SealedPage {
    /// Seals a copy of `plaintext` as page `lba` at the sealer's next position.
    ///
    /// # Panics
    /// When all 2^32 positions under the sealer's salt are used.
    pub fn seal(sealer: &mut PageSealer, lba: Lba, plaintext: &Page) -> Self {
        let mut ciphertext = Box::new(*plaintext);
        let position = sealer.next_position();
        let tag = sealer.seal_at(position, lba, &mut ciphertext);
        Self { origin: PageOrigin { salt: sealer.salt(), position }, tag, ciphertext }
    }

    /// Opens the page into `target`. `opener` must be that of `self.origin.salt`.
    ///
    /// # Errors
    /// When the ciphertext, tag, origin or address is not that of the page that was sealed;
    /// `target` then holds zeros.
    pub fn open(&self, opener: &PageOpener, lba: Lba, target: &mut Page) -> Result<(), OpenError> {
        if opener.salt() != self.origin.salt {
            target.fill(0);
            return Err(OpenError);
        }
        opener.open_into(self.origin.position, lba, &self.tag, &self.ciphertext, target)
    }
}

impl fmt::Debug for SealedPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealedPage({:?})", self.origin)
    }
}

/// The bytes are not those that were sealed here: damaged, moved, replayed, or under another key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("authentication failed")]
pub struct OpenError;

/// What a piece of structure is; authenticated with it, so that one kind is never read as another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum StructureKind {
    /// A superblock slot; identified by the slot's number.
    Superblock = 16,
    /// A segment header; identified by the segment's number.
    SegmentHeader = 17,
    /// A chunk descriptor; identified by the chunk's sequence number.
    Descriptor = 18,
    /// A map leaf; identified by the block it maps.
    MapLeaf = 19,
    /// An inner map node; identified by its height and first block.
    MapNode = 20,
    /// A page of the segment table; identified by its number in the table.
    SegmentTable = 21,
    /// A page of changes that are not in the map's leaves yet; identified by its number among those.
    MapRun = 22,
    /// A piece of a volume's tail; identified by its chunk's sequence number and its own in the chunk.
    Tail = 23,
    /// The page table of a snapshot frame; identified by the block it holds.
    FrameTable = 32,
    /// A node of a snapshot manifest; identified by its node index.
    ManifestNode = 33,
    /// The root record of a snapshot manifest.
    ManifestRoot = 34,
    /// The directory of a pack.
    PackDirectory = 35,
    /// The list of packs that a collection found unused; identified by its ordinal.
    Condemned = 36,
}

/// Opens data pages sealed with one salt.
pub struct PageOpener(Gcm);

impl PageOpener {
    pub(super) fn new(key: &Secret<[u8; 32]>, salt: Salt) -> Self {
        Self(Gcm { key: GcmKey::new(CipherLibrary::fastest(), key), salt })
    }

    /// The salt this key belongs to.
    pub fn salt(&self) -> Salt {
        self.0.salt
    }

    /// Opens a page in place.
    ///
    /// # Errors
    /// When anything differs from what was sealed; `page` then holds zeros.
    pub fn open(
        &self,
        position: u32,
        lba: Lba,
        tag: &Tag,
        page: &mut Page,
    ) -> Result<(), OpenError> {
        self.0.open(position, &page_aad(lba), tag, page)
    }

    /// Opens `source` into `target`.
    ///
    /// # Errors
    /// When anything differs from what was sealed; `target` then holds zeros.
    pub fn open_into(
        &self,
        position: u32,
        lba: Lba,
        tag: &Tag,
        source: &Page,
        target: &mut Page,
    ) -> Result<(), OpenError> {
        if self.0.key.open_into(nonce(position), &page_aad(lba), &tag.0, source, target) {
            return Ok(());
        }
        target.fill(0);
        Err(OpenError)
    }

    /// Opens the digest of block `block` in place.
    ///
    /// # Errors
    /// When anything differs from what was sealed; `digest` then holds zeros.
    pub fn open_digest(
        &self,
        position: u32,
        block: u64,
        tag: &Tag,
        digest: &mut [u8; 32],
    ) -> Result<(), OpenError> {
        self.0.open(position, &aad(*PAGE_DOMAIN, KIND_DIGEST, block), tag, digest)
    }
}

/// Seals data pages with one salt, every position at most once.
pub struct PageSealer {
    opener: PageOpener,
    next: u64,
}

impl PageSealer {
    pub(super) fn new(opener: PageOpener) -> Self {
        Self { opener, next: 0 }
    }

    /// The salt this key belongs to.
    pub fn salt(&self) -> Salt {
        self.opener.salt()
    }

    /// The same key, for reading back.
    pub fn opener(&self) -> &PageOpener {
        &self.opener
    }

    /// The lowest position that may be sealed at.
    ///
    /// # Panics
    /// When none is left.
    pub fn next_position(&self) -> u32 {
        u32::try_from(self.next).expect("a salt is replaced long before 2^32 pages")
    }

    /// Seals a page in place at `position`.
    ///
    /// # Panics
    /// When the position is not above every position used before: sealing twice under one nonce
    /// would reveal both pages.
    pub fn seal_at(&mut self, position: u32, lba: Lba, page: &mut Page) -> Tag {
        self.take(position);
        self.opener.0.seal(position, &page_aad(lba), page)
    }

    /// Seals `source` into `target` at `position`.
    ///
    /// # Panics
    /// As [`PageSealer::seal_at`].
    pub fn seal_into(&mut self, position: u32, lba: Lba, source: &Page, target: &mut Page) -> Tag {
        self.take(position);
        let Gcm { key, .. } = &self.opener.0;
        Tag(key.seal_into(nonce(position), &page_aad(lba), source, target))
    }

    /// Uses a position up.
    fn take(&mut self, position: u32) {
        assert!(u64::from(position) >= self.next, "position {position} may have been used");
        self.next = u64::from(position) + 1;
    }

    /// Seals the digest of a block's plaintext in place at `position`. Digests are sealed because
    /// they tell who knows the contents that two blocks are equal.
    ///
    /// # Panics
    /// When the position is not above every position used before.
    pub fn seal_digest_at(&mut self, position: u32, block: u64, digest: &mut [u8; 32]) -> Tag {
        self.take(position);
        self.opener.0.seal(position, &aad(*PAGE_DOMAIN, KIND_DIGEST, block), digest)
    }
}

/// Opens structure sealed with one salt.
pub struct StructureOpener(Gcm);

impl StructureOpener {
    pub(super) fn new(key: &Secret<[u8; 32]>, salt: Salt) -> Self {
        // ring hashes associated data block by block, which takes longer than sealing as much.
        Self(Gcm { key: GcmKey::new(CipherLibrary::AwsLc, key), salt })
    }

    /// The salt this key belongs to.
    pub fn salt(&self) -> Salt {
        self.0.salt
    }

    /// Opens structure of any length in place.
    ///
    /// # Errors
    /// When anything differs from what was sealed; `bytes` then holds zeros.
    pub fn open(
        &self,
        position: u32,
        kind: StructureKind,
        id: u64,
        tag: &Tag,
        bytes: &mut [u8],
    ) -> Result<(), OpenError> {
        self.0.open(position, &structure_aad(kind, id), tag, bytes)
    }

    /// Checks bytes that were authenticated without being sealed.
    ///
    /// # Errors
    /// When anything differs from what was authenticated.
    pub fn check(&self, position: u32, tag: &Tag, bytes: &[u8]) -> Result<(), OpenError> {
        let expected = self.authenticate(position, bytes);
        aws_lc_rs::constant_time::verify_slices_are_equal(&expected.0, &tag.0)
            .map_err(|_| OpenError)
    }

    /// GMAC: the tag of nothing, under associated data.
    fn authenticate(&self, position: u32, bytes: &[u8]) -> Tag {
        self.0.seal(position, bytes, &mut [])
    }
}

/// Seals structure with one salt, every position at most once.
pub struct StructureSealer {
    opener: StructureOpener,
    next: u64,
}

impl StructureSealer {
    pub(super) fn new(opener: StructureOpener) -> Self {
        Self { opener, next: 0 }
    }

    /// The salt this key belongs to.
    pub fn salt(&self) -> Salt {
        self.opener.salt()
    }

    /// The same key, for reading back.
    pub fn opener(&self) -> &StructureOpener {
        &self.opener
    }

    /// Seals structure of any length in place at `position`.
    ///
    /// # Panics
    /// When the position is not above every position used before.
    pub fn seal_at(
        &mut self,
        position: u32,
        kind: StructureKind,
        id: u64,
        bytes: &mut [u8],
    ) -> Tag {
        assert!(u64::from(position) >= self.next, "position {position} may have been used");
        self.next = u64::from(position) + 1;
        self.opener.0.seal(position, &structure_aad(kind, id), bytes)
    }

    /// Authenticates bytes that stay as they are (GMAC): ciphertext of pages, which whoever holds
    /// no data key can then still tell from damaged ciphertext. The bytes must begin with what
    /// they are and must be more than the 12 bytes that sealed structure is bound to.
    ///
    /// # Panics
    /// When the position is not above every position used before.
    pub fn authenticate_at(&mut self, position: u32, bytes: &[u8]) -> Tag {
        assert!(u64::from(position) >= self.next, "position {position} may have been used");
        assert!(bytes.len() > AAD_BYTES, "{} bytes could be taken for structure", bytes.len());
        self.next = u64::from(position) + 1;
        self.opener.authenticate(position, bytes)
    }
}

/// The cipher under one derived key.
struct Gcm {
    key: GcmKey,
    salt: Salt,
}

impl Gcm {
    fn seal(&self, position: u32, aad: &[u8], bytes: &mut [u8]) -> Tag {
        Tag(self.key.seal(nonce(position), aad, bytes))
    }

    fn open(
        &self,
        position: u32,
        aad: &[u8],
        tag: &Tag,
        bytes: &mut [u8],
    ) -> Result<(), OpenError> {
        if self.key.open(nonce(position), aad, &tag.0, bytes) {
            return Ok(());
        }
        bytes.fill(0);
        Err(OpenError)
    }
}

fn nonce(position: u32) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[..4].copy_from_slice(&position.to_be_bytes());
    bytes
}

fn page_aad(lba: Lba) -> [u8; AAD_BYTES] {
    aad(*PAGE_DOMAIN, KIND_DATA, lba)
}

fn structure_aad(kind: StructureKind, id: u64) -> [u8; AAD_BYTES] {
    aad(*STRUCTURE_DOMAIN, kind as u8, id)
}

fn aad(domain: [u8; 2], kind: u8, id: u64) -> [u8; AAD_BYTES] {
    let mut bytes = [0; AAD_BYTES];
    bytes[..2].copy_from_slice(&domain);
    bytes[2] = SUITE_AES_256_GCM;
    bytes[3] = kind;
    bytes[4..].copy_from_slice(&id.to_le_bytes());
    bytes
}

const _: () = assert!(PAGE_BYTES == size_of::<Page>());

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::{DataKey, StructureKey};

    fn data_key(seed: u8) -> DataKey {
        DataKey::new(&Secret::new(std::array::from_fn(|i| seed.wrapping_add(i as u8))))
    }

    fn pattern() -> Page {
        std::array::from_fn(|i| (i * 7 % 251) as u8)
    }

    /// Frozen: computed by an independent implementation. A change here is a change of format.
    #[test]
    fn sealed_page_is_frozen() {
        let mut sealer = data_key(0).sealer(Salt([0xa5; 32]));
        let mut page = pattern();
        let tag = sealer.seal_at(0x0102_0304, 0x0a0b_0c0d_0e0f, &mut page);
        assert_eq!(hex::encode(tag.0), "c3b43237eaf32d819ceba2617f2fb740");
        assert_eq!(hex::encode(&page[..16]), "f04e725c5c587ed0b91bd220fc62a2e8");
        let mut apart = [0; PAGE_BYTES];
        let mut sealer = data_key(0).sealer(Salt([0xa5; 32]));
        assert_eq!(sealer.seal_into(0x0102_0304, 0x0a0b_0c0d_0e0f, &pattern(), &mut apart), tag);
        assert_eq!(apart, page);

        let key = StructureKey::derive(&Secret::new([0x5a; 32]), "vol-0123456789abcdef0");
        let mut bytes = *b"structure";
        let tag = key.sealer(Salt([0xa5; 32])).seal_at(9, StructureKind::MapLeaf, 77, &mut bytes);
        assert_eq!(hex::encode(tag.0), "f5e2d0ebfe4b775dbda8647eb6c6337c");
        assert_eq!(hex::encode(bytes), "4693efc8e4cd852c4e");
    }

    #[test]
    fn a_page_opens_only_as_itself() {
        let mut sealer = data_key(0).sealer(Salt([1; 32]));
        let sealed = SealedPage::seal(&mut sealer, 5, &pattern());
        let mut out = [0; PAGE_BYTES];
        sealed.open(sealer.opener(), 5, &mut out).unwrap();
        assert_eq!(out, pattern());

        let refused = |page: &SealedPage, opener: &PageOpener, lba| {
            let mut out = [9; PAGE_BYTES];
            assert_eq!(page.open(opener, lba, &mut out), Err(OpenError));
            assert!(crate::page::is_zero(&out));
        };
        refused(&sealed, sealer.opener(), 6);
        refused(&sealed, &data_key(1).opener(Salt([1; 32])), 5);
        refused(&sealed, &data_key(0).opener(Salt([2; 32])), 5);
        let mut moved = sealed.clone();
        moved.origin.position += 1;
        refused(&moved, sealer.opener(), 5);
        for byte in 0..16 {
            let mut damaged = sealed.clone();
            damaged.tag.0[byte] ^= 1;
            refused(&damaged, sealer.opener(), 5);
        }
        for byte in (0..PAGE_BYTES).step_by(97) {
            let mut damaged = sealed.clone();
            damaged.ciphertext[byte] ^= 0x40;
            refused(&damaged, sealer.opener(), 5);
        }
    }

    #[test]
    fn a_digest_is_not_a_page_and_opens_only_as_its_block() {
        let mut sealer = data_key(0).sealer(Salt([1; 32]));
        let mut sealed = [7; 32];
        let tag = sealer.seal_digest_at(128, 9, &mut sealed);
        let open = |position, block| {
            let mut bytes = sealed;
            sealer.opener().open_digest(position, block, &tag, &mut bytes).map(|()| bytes)
        };
        assert_eq!(open(128, 9), Ok([7; 32]));
        assert_eq!(open(128, 8), Err(OpenError));
        assert_eq!(open(127, 9), Err(OpenError));
    }

    #[test]
    fn authenticated_bytes_are_checked_whole() {
        let key = StructureKey::derive(&Secret::new([3; 32]), "snapshots");
        let mut sealer = key.sealer(Salt([1; 32]));
        let bytes = *b"sixteen or more bytes";
        let tag = sealer.authenticate_at(2, &bytes);
        assert_eq!(sealer.opener().check(2, &tag, &bytes), Ok(()));
        assert_eq!(sealer.opener().check(3, &tag, &bytes), Err(OpenError));
        for at in 0..bytes.len() {
            let mut damaged = bytes;
            damaged[at] ^= 1;
            assert_eq!(sealer.opener().check(2, &tag, &damaged), Err(OpenError));
        }
        assert_eq!(sealer.opener().check(2, &tag, &bytes[..20]), Err(OpenError));
    }

    #[test]
    fn structure_opens_only_as_its_kind_and_id() {
        let key = StructureKey::derive(&Secret::new([3; 32]), "vol-00000001");
        let mut sealer = key.sealer(Salt([1; 32]));
        let mut sealed = *b"where the pages are";
        let tag = sealer.seal_at(0, StructureKind::MapLeaf, 1, &mut sealed);
        let open = |kind, id| {
            let mut bytes = sealed;
            sealer.opener().open(0, kind, id, &tag, &mut bytes).map(|()| bytes)
        };
        assert_eq!(open(StructureKind::MapLeaf, 1), Ok(*b"where the pages are"));
        assert_eq!(open(StructureKind::MapLeaf, 2), Err(OpenError));
        assert_eq!(open(StructureKind::MapNode, 1), Err(OpenError));
    }

    #[test]
    #[should_panic(expected = "may have been used")]
    fn a_position_is_never_sealed_twice() {
        let mut sealer = data_key(0).sealer(Salt([1; 32]));
        sealer.seal_at(4, 0, &mut pattern());
        sealer.seal_at(4, 1, &mut pattern());
    }
}
