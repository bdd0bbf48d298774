//! What a simulated disk holds: pages by number, shared between the states of one disk.

use blockstore::page::{PAGE_BYTES, Page};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// What survives or is lost as a whole.
pub const SECTOR_BYTES: usize = 512;

/// Sectors in a page of the image.
const PAGE_SECTORS: usize = PAGE_BYTES / SECTOR_BYTES;

/// The content of a disk. A page that is absent holds zeros.
#[derive(Clone, Default)]
pub struct Image(BTreeMap<u64, Arc<Page>>);

/// One page of a write: which of its sectors were written, and the page with them in it.
#[derive(Clone)]
struct Part {
    page: u64,
    sectors: Range<usize>,
    /// `None` is a page of zeros.
    bytes: Option<Arc<Page>>,
}

/// One write, or one hole, as the disk took it.
#[derive(Clone)]
pub struct Write(Vec<Part>);

impl Image {
    /// Fills `target` from `offset`.
    pub fn read(&self, offset: u64, target: &mut [u8]) {
        let mut at = offset;
        let mut target = target;
        while !target.is_empty() {
            let within = (at % PAGE_BYTES as u64) as usize;
            let count = target.len().min(PAGE_BYTES - within);
            let (now, later) = target.split_at_mut(count);
            match self.0.get(&(at / PAGE_BYTES as u64)) {
                Some(page) => now.copy_from_slice(&page[within..within + count]),
                None => now.fill(0),
            }
            at += count as u64;
            target = later;
        }
    }

    /// Describes the write of `source` at `offset`, both multiples of a sector, without doing it.
    pub fn write(&self, offset: u64, source: &[u8]) -> Write {
        let aligned =
            offset.is_multiple_of(SECTOR_BYTES as u64) && source.len().is_multiple_of(SECTOR_BYTES);
        assert!(aligned, "an unaligned write of {} bytes at {offset}", source.len());
        let (mut at, mut source) = (offset, source);
        let mut parts = Vec::new();
        while !source.is_empty() {
            let (page, within) = (at / PAGE_BYTES as u64, (at % PAGE_BYTES as u64) as usize);
            let (now, later) = source.split_at(source.len().min(PAGE_BYTES - within));
            let mut bytes = match self.0.get(&page) {
                Some(held) if now.len() < PAGE_BYTES => **held,
                _ => [0; PAGE_BYTES],
            };
            bytes[within..within + now.len()].copy_from_slice(now);
            let is_zero = blockstore::page::is_zero(&bytes);
            let first = within / SECTOR_BYTES;
            parts.push(Part {
                page,
                sectors: first..first + now.len() / SECTOR_BYTES,
                bytes: (!is_zero).then(|| Arc::new(bytes)),
            });
            at += now.len() as u64;
            source = later;
        }
        Write(parts)
    }

    /// Describes a hole over the whole pages of a range: a write of zeros to what is there.
    pub fn hole(&self, offset: u64, length: u64) -> Write {
        let first = offset.div_ceil(PAGE_BYTES as u64);
        let end = (offset + length) / PAGE_BYTES as u64;
        let held = self.0.range(first..end.max(first)).map(|(page, _)| *page);
        Write(held.map(|page| Part { page, sectors: 0..PAGE_SECTORS, bytes: None }).collect())
    }

    /// Does a write as a whole. `self` must be what it was described on.
    pub fn apply(&mut self, write: &Write) {
        for part in &write.0 {
            self.set(part.page, part.bytes.clone());
        }
    }

    /// Does the sector of a write with this number, the first has 0.
    pub fn apply_sector(&mut self, write: &Write, sector: usize) {
        let mut before = 0;
        for part in &write.0 {
            if sector - before < part.sectors.len() {
                let at = (part.sectors.start + sector - before) * SECTOR_BYTES;
                let new = part.bytes.as_ref().map(|bytes| &bytes[at..at + SECTOR_BYTES]);
                let page = self.0.entry(part.page).or_insert_with(|| Arc::new([0; PAGE_BYTES]));
                let page = Arc::make_mut(page);
                page[at..at + SECTOR_BYTES].copy_from_slice(new.unwrap_or(&[0; SECTOR_BYTES]));
                return;
            }
            before += part.sectors.len();
        }
    }

    /// Takes over what `newer` holds where `write` wrote.
    pub fn settle(&mut self, write: &Write, newer: &Self) {
        for part in &write.0 {
            self.set(part.page, newer.0.get(&part.page).cloned());
        }
    }

    /// Bytes up to the end of the last page.
    pub fn len(&self) -> u64 {
        self.0.keys().next_back().map_or(0, |page| (page + 1) * PAGE_BYTES as u64)
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn set(&mut self, page: u64, bytes: Option<Arc<Page>>) {
        match bytes {
            Some(bytes) => self.0.insert(page, bytes),
            None => self.0.remove(&page),
        };
    }
}

impl Write {
    /// How many sectors it wrote.
    pub fn sectors(&self) -> usize {
        self.0.iter().map(|part| part.sectors.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_apply_whole_or_by_the_sector() {
        let mut image = Image::default();
        let first = image.write(512, &[1; 8192]);
        assert_eq!(first.sectors(), 16);
        image.apply(&first);
        let mut bytes = vec![9; 12288];
        image.read(0, &mut bytes);
        assert_eq!((bytes[511], bytes[512], bytes[8703], bytes[8704]), (0, 1, 1, 0));
        let second = image.write(4096, &[2; 4096]);
        let mut torn = image.clone();
        torn.apply_sector(&second, 3);
        torn.read(4096, &mut bytes[..4096]);
        assert_eq!((bytes[1535], bytes[1536], bytes[2047], bytes[2048]), (1, 2, 2, 1));
        // The image it came from is as it was.
        image.read(4096, &mut bytes[..4096]);
        assert!(bytes[..4096].iter().all(|byte| *byte == 1));
        let hole = image.hole(0, 12288);
        image.apply(&hole);
        assert!(image.is_empty());
    }
}
