//! One 512 KiB block of a snapshot: the sealed pages it has, and the table that says how each was
//! sealed.
//!
//! The pages are the same ciphertext that the live log or another frame holds; a frame is made
//! and moved without the data key. The table is sealed under the service's structure key together
//! with a tag over the pages, so a frame can be checked whole without the data key too. Layout:
//! `docs/format.snapshots.md`.

use super::codec::{Fields, Malformed};
use super::reseal::Reseal;
use super::room::Room;
use crate::page::{
    BLOCK_BYTES, DataKey, OpenError, PAGE_BYTES, PAGES_PER_BLOCK, Page, PageOpener, PageOrigin,
    PageSealer, SUITE_AES_256_GCM, Salt, SealedPage, StructureKind, StructureOpener,
    StructureSealer, Tag, is_zero,
};
use aws_lc_rs::digest::{SHA256, digest};
use base::Rng;
use objstore::Bytes;
use zeroize::Zeroizing;

const FRAME_MAGIC: &[u8; 4] = b"SRFR";
const BODY_MAGIC: &[u8; 4] = b"SRFB";
pub(super) const FRAME_VERSION: u8 = 1;
const HEADER_BYTES: usize = 16;
const BODY_PREFIX_BYTES: usize = 16;
const FLAG_DIGEST: u8 = 1;
/// Where a frame sealed as a whole has its digest: after its pages.
const DIGEST_POSITION: u32 = PAGES_PER_BLOCK as u32;

/// SHA-256 of the 524,288 bytes of a block, as the EBS direct APIs use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Computes the digest of a block.
    pub fn of(block: &[u8]) -> Self {
        let hash = digest(&SHA256, block);
        Self(hash.as_ref().try_into().expect("SHA-256 gives 32 bytes"))
    }
}

/// A block in plaintext, wiped on drop.
pub struct PlainBlock {
    /// The 524,288 bytes.
    pub bytes: Zeroizing<Vec<u8>>,
    /// Their digest.
    pub digest: Digest,
}

impl std::fmt::Debug for PlainBlock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PlainBlock(..)")
    }
}

/// Why a frame did not give its plaintext.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FrameError {
    /// A page or the digest did not open.
    Page,
    /// The pages opened, but are together not the block that was digested.
    Digest,
}

impl From<OpenError> for FrameError {
    fn from(_: OpenError) -> Self {
        Self::Page
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    page: u8,
    origin: PageOrigin,
    tag: Tag,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SealedDigest {
    origin: PageOrigin,
    tag: Tag,
    sealed: [u8; 32],
}

impl SealedDigest {
    /// Seals a digest after the pages of its block.
    fn seal(block: u64, digest: Digest, sealer: &mut PageSealer) -> Self {
        let mut sealed = digest.0;
        let tag = sealer.seal_digest_at(DIGEST_POSITION, block, &mut sealed);
        let origin = PageOrigin { salt: sealer.salt(), position: DIGEST_POSITION };
        Self { origin, tag, sealed }
    }

    fn open(&self, block: u64, opener: &PageOpener) -> Result<Digest, OpenError> {
        let mut bytes = self.sealed;
        opener.open_digest(self.origin.position, block, &self.tag, &mut bytes)?;
        Ok(Digest(bytes))
    }
}

/// A block as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    block: u64,
    digest: Option<SealedDigest>,
    /// Ascending by page.
    entries: Vec<Entry>,
    /// The body as stored: prefix, then the pages of `entries`.
    body: Bytes,
}

impl Frame {
    /// A frame of pages that were sealed elsewhere, ascending by their number in the block.
    pub(super) fn assemble(block: u64, pages: &[(u8, SealedPage)]) -> Self {
        assert!(pages.is_sorted_by(|(a, _), (b, _)| a < b), "pages are not in address order");
        let entry = |(page, sealed): &(u8, SealedPage)| Entry {
            page: *page,
            origin: sealed.origin,
            tag: sealed.tag,
        };
        let mut body = begin_body(block, pages.len());
        for (_, sealed) in pages {
            body.extend_from_slice(&*sealed.ciphertext);
        }
        let entries = pages.iter().map(entry).collect();
        Self { block, digest: None, entries, body: body.into() }
    }

    /// Seals a whole block under a salt of its own. Zero pages are left out.
    pub(super) fn seal(
        block: u64,
        plaintext: &[u8],
        digest: Digest,
        key: &DataKey,
        rng: &dyn Rng,
    ) -> Self {
        assert_eq!(plaintext.len(), BLOCK_BYTES, "a block has one length");
        let mut sealer = key.sealer(Salt::generate(rng));
        let (pages, _) = plaintext.as_chunks::<PAGE_BYTES>();
        let mut body = begin_body(block, PAGES_PER_BLOCK);
        let mut entries = Vec::with_capacity(PAGES_PER_BLOCK);
        for (page, bytes) in (0u8..).zip(pages) {
            if is_zero(bytes) {
                continue;
            }
            let start = body.len();
            body.extend_from_slice(bytes);
            let target: &mut Page =
                (&mut body[start..]).try_into().expect("exactly one page was appended");
            let position = u32::from(page);
            let tag = sealer.seal_at(position, lba(block, page), target);
            let origin = PageOrigin { salt: sealer.salt(), position };
            entries.push(Entry { page, origin, tag });
        }
        let digest = Some(SealedDigest::seal(block, digest, &mut sealer));
        Self { block, digest, entries, body: body.into() }
    }

    /// How many pages are stored; the others are zeros.
    pub(super) fn page_count(&self) -> usize {
        self.entries.len()
    }

    /// One page, or `None` for zeros.
    pub(super) fn page(&self, page: u8) -> Option<SealedPage> {
        let at = self.entries.binary_search_by_key(&page, |entry| entry.page).ok()?;
        let Entry { origin, tag, .. } = self.entries[at];
        Some(SealedPage { origin, tag, ciphertext: Box::new(*self.ciphertext(at)) })
    }

    /// Whether both hold the very same sealed pages.
    pub(super) fn same_pages(&self, other: &Self) -> bool {
        self.entries == other.entries
    }

    /// Opens every page; compares with the digest if there is one.
    pub(super) fn open(&self, key: &DataKey) -> Result<PlainBlock, FrameError> {
        let mut bytes = Zeroizing::new(vec![0; BLOCK_BYTES]);
        let (pages, _) = bytes.as_chunks_mut::<PAGE_BYTES>();
        let mut opener: Option<PageOpener> = None;
        for (at, entry) in self.entries.iter().enumerate() {
            let (sealed, target) = (self.ciphertext(at), &mut pages[usize::from(entry.page)]);
            let opener = opener_of(key, entry.origin.salt, &mut opener);
            let (position, lba) = (entry.origin.position, lba(self.block, entry.page));
            opener.open_into(position, lba, &entry.tag, sealed, target)?;
        }
        let digest = Digest::of(&bytes);
        if let Some(recorded) = self.open_digest(key)?
            && recorded != digest
        {
            return Err(FrameError::Digest);
        }
        Ok(PlainBlock { bytes, digest })
    }

    /// The digest, if one was recorded when the block was sealed.
    pub(super) fn open_digest(&self, key: &DataKey) -> Result<Option<Digest>, OpenError> {
        let Some(sealed) = &self.digest else { return Ok(None) };
        sealed.open(self.block, &key.opener(sealed.origin.salt)).map(Some)
    }

    fn ciphertext(&self, at: usize) -> &Page {
        let (pages, _) = self.body[BODY_PREFIX_BYTES..].as_chunks();
        &pages[at]
    }

    /// Appends the bytes to store, sealed at the two positions of `slot`; returns the tag to point
    /// with.
    pub(super) fn encode_into(
        &self,
        sealer: &mut StructureSealer,
        slot: u8,
        out: &mut Room,
    ) -> Tag {
        let body_tag = sealer.authenticate_at(body_position(slot), &self.body);
        let mut table = self.encode_table(body_tag, self.body.len());
        let header = header(self.flags(), table.len(), self.body.len());
        let tag =
            sealer.seal_at(table_position(slot), StructureKind::FrameTable, self.block, &mut table);
        out.extend_from_slice(&header);
        out.extend_from_slice(&table);
        out.extend_from_slice(&self.body);
        tag
    }

    /// Appends the same block under another data key: each page is opened where it will lie and
    /// sealed there, so plaintext exists one page at a time. A recorded digest goes along, sealed
    /// anew; the tags of the pages and its own prove that they belong together, so nothing is
    /// hashed. A block without a digest stays without. Leaves `out` as it was on an error.
    pub(super) fn reseal_into(
        &self,
        keys: &mut Reseal<'_>,
        sealer: &mut StructureSealer,
        slot: u8,
        out: &mut Room,
    ) -> Result<Tag, FrameError> {
        let start = out.len();
        let resealed = self.reseal(keys, sealer, slot, out);
        if resealed.is_err() {
            out.truncate(start);
        }
        resealed
    }

    fn reseal(
        &self,
        keys: &mut Reseal<'_>,
        sealer: &mut StructureSealer,
        slot: u8,
        out: &mut Room,
    ) -> Result<Tag, FrameError> {
        let digest = match &self.digest {
            Some(sealed) => Some(sealed.open(self.block, keys.opener(sealed.origin.salt))?),
            None => None,
        };
        let mut pages = keys.sealer();
        let salt = pages.salt();
        let mut frame =
            Self { block: self.block, digest: None, entries: Vec::new(), body: Bytes::new() };
        frame.entries.reserve_exact(self.entries.len());
        let table_bytes = table_bytes(self.entries.len(), usize::from(self.has_salts()), digest);
        let table_at = out.len() + HEADER_BYTES;
        out.extend_from_slice(&header(self.flags(), table_bytes, self.body.len()));
        out.take(table_bytes);
        let body_at = out.len();
        out.extend_from_slice(&self.body[..BODY_PREFIX_BYTES]);
        for (at, entry) in self.entries.iter().enumerate() {
            let page: &mut Page =
                out.take(PAGE_BYTES).try_into().expect("exactly one page was taken");
            let (origin, lba) = (entry.origin, lba(self.block, entry.page));
            let sealed = self.ciphertext(at);
            keys.opener(origin.salt).open_into(origin.position, lba, &entry.tag, sealed, page)?;
            let position = u32::from(entry.page);
            let tag = pages.seal_at(position, lba, page);
            let origin = PageOrigin { salt, position };
            frame.entries.push(Entry { page: entry.page, origin, tag });
        }
        frame.digest = digest.map(|digest| SealedDigest::seal(self.block, digest, &mut pages));
        let body_tag = sealer.authenticate_at(body_position(slot), out.written(body_at));
        let mut table = frame.encode_table(body_tag, self.body.len());
        let tag =
            sealer.seal_at(table_position(slot), StructureKind::FrameTable, self.block, &mut table);
        out.written(table_at)[..table_bytes].copy_from_slice(&table);
        Ok(tag)
    }

    /// Whether the table names any salt.
    fn has_salts(&self) -> bool {
        self.digest.is_some() || !self.entries.is_empty()
    }

    /// Bytes of the body of a frame with this many pages.
    pub(super) fn body_bytes(pages: usize) -> usize {
        BODY_PREFIX_BYTES + pages * PAGE_BYTES
    }

    fn flags(&self) -> u8 {
        if self.digest.is_some() { FLAG_DIGEST } else { 0 }
    }

    /// The table of a frame whose body has so many bytes.
    pub(super) fn encode_table(&self, body_tag: Tag, body_bytes: usize) -> Vec<u8> {
        let mut salts: Vec<Salt> = Vec::new();
        let mut salt_number = |salt: Salt| -> u8 {
            let at = salts.iter().position(|known| *known == salt).unwrap_or_else(|| {
                salts.push(salt);
                salts.len() - 1
            });
            u8::try_from(at).expect("128 pages and a digest have at most 129 salts")
        };
        let mut rest = Vec::with_capacity(self.entries.len() * ENTRY_BYTES + DIGEST_BYTES);
        if let Some(digest) = &self.digest {
            rest.push(salt_number(digest.origin.salt));
            rest.extend_from_slice(&digest.origin.position.to_le_bytes());
            rest.extend_from_slice(&digest.tag.0);
            rest.extend_from_slice(&digest.sealed);
        }
        for entry in &self.entries {
            rest.push(entry.page);
            rest.push(salt_number(entry.origin.salt));
            rest.extend_from_slice(&entry.origin.position.to_le_bytes());
            rest.extend_from_slice(&entry.tag.0);
        }
        let mut table =
            Vec::with_capacity(TABLE_HEAD_BYTES + salts.len() * SALT_BYTES + rest.len());
        table.push(FRAME_VERSION);
        table.push(self.flags());
        table.push(self.entries.len() as u8);
        table.push(salts.len() as u8);
        table.extend_from_slice(&(body_bytes as u32).to_le_bytes());
        table.extend_from_slice(&body_tag.0);
        for salt in &salts {
            table.extend_from_slice(&salt.0);
        }
        table.extend_from_slice(&rest);
        table
    }

    /// Reads what was written for this block at this slot of this pack, and checks all of it.
    pub(super) fn decode(
        bytes: &Bytes,
        opener: &StructureOpener,
        slot: u8,
        block: u64,
        tag: &Tag,
    ) -> Result<Self, Malformed> {
        let (frame, body_tag) = Self::decode_to_open(bytes, opener, slot, block, tag)?;
        opener.check(body_position(slot), &body_tag, &frame.body).map_err(|OpenError| Malformed)?;
        Ok(frame)
    }

    /// As [`Frame::decode`] for who opens every page: their tags prove the body, so its own is
    /// returned unchecked.
    pub(super) fn decode_to_open(
        bytes: &Bytes,
        opener: &StructureOpener,
        slot: u8,
        block: u64,
        tag: &Tag,
    ) -> Result<(Self, Tag), Malformed> {
        let mut fields = Fields::new(bytes);
        let (table_bytes, body_bytes, flags) = decode_header(&mut fields)?;
        let mut table = fields.bytes(table_bytes)?.to_vec();
        let body = bytes.slice_ref(fields.bytes(body_bytes)?);
        fields.finish()?;
        opener
            .open(table_position(slot), StructureKind::FrameTable, block, tag, &mut table)
            .map_err(|OpenError| Malformed)?;
        Self::decode_table(block, flags, &table, body)
    }

    pub(super) fn decode_table(
        block: u64,
        flags: u8,
        table: &[u8],
        body: Bytes,
    ) -> Result<(Self, Tag), Malformed> {
        let (digest, entries, body_tag) = decode_entries(flags, table, body.len())?;
        Ok((Self { block, digest, entries, body }, body_tag))
    }
}

/// What a table says of a body of so many bytes: its digest, its pages, its tag.
fn decode_entries(
    flags: u8,
    table: &[u8],
    body_length: usize,
) -> Result<(Option<SealedDigest>, Vec<Entry>, Tag), Malformed> {
    let mut fields = Fields::new(table);
    fields.expect(&[FRAME_VERSION, flags])?;
    let page_count = usize::from(fields.u8()?);
    let salt_count = usize::from(fields.u8()?);
    let body_bytes = fields.u32()? as usize;
    let body_tag = Tag(fields.array()?);
    let body_expected = Frame::body_bytes(page_count);
    if page_count > PAGES_PER_BLOCK || body_bytes != body_length || body_bytes != body_expected {
        return Err(Malformed);
    }
    let salts = (0..salt_count).map(|_| fields.array().map(Salt));
    let salts: Vec<Salt> = salts.collect::<Result<_, _>>()?;
    let salt = |number: u8| salts.get(usize::from(number)).copied().ok_or(Malformed);
    let digest = if flags == FLAG_DIGEST {
        let origin = PageOrigin { salt: salt(fields.u8()?)?, position: fields.u32()? };
        Some(SealedDigest { origin, tag: Tag(fields.array()?), sealed: fields.array()? })
    } else if flags == 0 {
        None
    } else {
        return Err(Malformed);
    };
    let mut entries: Vec<Entry> = Vec::with_capacity(page_count);
    for _ in 0..page_count {
        let page = fields.u8()?;
        let ascending = entries.last().is_none_or(|last| last.page < page);
        if !ascending || usize::from(page) >= PAGES_PER_BLOCK {
            return Err(Malformed);
        }
        let origin = PageOrigin { salt: salt(fields.u8()?)?, position: fields.u32()? };
        entries.push(Entry { page, origin, tag: Tag(fields.array()?) });
    }
    fields.finish()?;
    Ok((digest, entries, body_tag))
}

/// The table of a frame whose body was not read: enough to find and open single pages of it. The table
/// is proven by the tag that points to the frame, and each page by its own tag, which the table has.
pub(super) struct FrameTable {
    entries: Vec<Entry>,
    /// Where the first page lies in the frame.
    pages_at: u32,
}

/// Where one page lies in its frame.
pub(super) struct PagePlace {
    /// The first of its bytes.
    pub(super) offset: u32,
    pub(super) origin: PageOrigin,
    pub(super) tag: Tag,
}

impl FrameTable {
    /// Bytes of a frame's beginning that have the whole table of most frames, and say how long it is
    /// in any: room for a table of 128 pages with sixteen salts.
    pub(super) const GUESS_BYTES: u32 = 3584;

    /// How many bytes a frame has before its body, from its first ones.
    pub(super) fn head_bytes(bytes: &[u8]) -> Result<u32, Malformed> {
        let (table, _, _) = decode_header(&mut Fields::new(bytes))?;
        u32::try_from(HEADER_BYTES + table).map_err(|_| Malformed)
    }

    /// Reads the table from the beginning of a frame of `length` bytes.
    pub(super) fn decode(
        bytes: &[u8],
        length: u32,
        opener: &StructureOpener,
        slot: u8,
        block: u64,
        tag: &Tag,
    ) -> Result<Self, Malformed> {
        let mut fields = Fields::new(bytes);
        let (table_bytes, body_bytes, flags) = decode_header(&mut fields)?;
        let mut table = fields.bytes(table_bytes)?.to_vec();
        let body_at = HEADER_BYTES + table_bytes;
        if body_at + body_bytes != length as usize {
            return Err(Malformed);
        }
        opener
            .open(table_position(slot), StructureKind::FrameTable, block, tag, &mut table)
            .map_err(|OpenError| Malformed)?;
        let (_, entries, _) = decode_entries(flags, &table, body_bytes)?;
        let pages_at = u32::try_from(body_at + BODY_PREFIX_BYTES).map_err(|_| Malformed)?;
        Ok(Self { entries, pages_at })
    }

    /// One page, or `None` for zeros.
    pub(super) fn page(&self, page: u8) -> Option<PagePlace> {
        let at = self.entries.binary_search_by_key(&page, |entry| entry.page).ok()?;
        let Entry { origin, tag, .. } = self.entries[at];
        Some(PagePlace { offset: self.pages_at + (at * PAGE_BYTES) as u32, origin, tag })
    }
}

/// Reads a header: the lengths of table and body, and the flags.
fn decode_header(fields: &mut Fields<'_>) -> Result<(usize, usize, u8), Malformed> {
    fields.expect(FRAME_MAGIC)?;
    fields.expect(&[FRAME_VERSION, SUITE_AES_256_GCM])?;
    let flags = fields.u8()?;
    fields.expect(&[0])?;
    Ok((fields.u32()? as usize, fields.u32()? as usize, flags))
}

const TABLE_HEAD_BYTES: usize = 24;
const SALT_BYTES: usize = 32;
const ENTRY_BYTES: usize = 22;
const DIGEST_BYTES: usize = 53;

fn table_bytes(pages: usize, salts: usize, digest: Option<Digest>) -> usize {
    let digest = digest.map_or(0, |_| DIGEST_BYTES);
    TABLE_HEAD_BYTES + salts * SALT_BYTES + digest + pages * ENTRY_BYTES
}

/// The most bytes one frame takes.
pub(super) const FRAME_BYTES_MAX: usize = HEADER_BYTES
    + TABLE_HEAD_BYTES
    + (PAGES_PER_BLOCK + 1) * SALT_BYTES
    + DIGEST_BYTES
    + PAGES_PER_BLOCK * ENTRY_BYTES
    + BODY_PREFIX_BYTES
    + BLOCK_BYTES;

fn lba(block: u64, page: u8) -> u64 {
    block * PAGES_PER_BLOCK as u64 + u64::from(page)
}

fn opener_of<'a>(key: &DataKey, salt: Salt, cached: &'a mut Option<PageOpener>) -> &'a PageOpener {
    // Pages written together share a salt, so remembering the last one saves nearly all work.
    if cached.as_ref().is_none_or(|opener| opener.salt() != salt) {
        *cached = None;
    }
    cached.get_or_insert_with(|| key.opener(salt))
}

fn header(flags: u8, table_bytes: usize, body_bytes: usize) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..4].copy_from_slice(FRAME_MAGIC);
    header[4] = FRAME_VERSION;
    header[5] = SUITE_AES_256_GCM;
    header[6] = flags;
    header[8..12].copy_from_slice(&(table_bytes as u32).to_le_bytes());
    header[12..].copy_from_slice(&(body_bytes as u32).to_le_bytes());
    header
}

/// The body's prefix says what is authenticated: pages of this block, in this version.
fn begin_body(block: u64, pages: usize) -> Vec<u8> {
    let mut body = Vec::with_capacity(BODY_PREFIX_BYTES + pages * PAGE_BYTES);
    body.extend_from_slice(BODY_MAGIC);
    body.extend_from_slice(&[FRAME_VERSION, SUITE_AES_256_GCM, 0, 0]);
    body.extend_from_slice(&block.to_le_bytes());
    body
}

fn body_position(slot: u8) -> u32 {
    u32::from(slot) * 2
}

fn table_position(slot: u8) -> u32 {
    u32::from(slot) * 2 + 1
}
