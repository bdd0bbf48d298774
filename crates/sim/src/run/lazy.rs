//! The base of a volume made from a snapshot.

use super::AREA_PAGES;
use crate::model::{Content, SECTORS, render};
use base::SeededRng;
use blockstore::live::{Base, CutId};
use blockstore::page::{
    BasePage, BaseReader, DataKey, Lba, PAGES_PER_BLOCK, Salt, SealedPage, SourceError,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The base of a lazy volume, in memory.
struct MemoryBase(BTreeMap<Lba, SealedPage>);

impl BaseReader for MemoryBase {
    fn read_page(&self, lba: Lba) -> Result<BasePage, SourceError> {
        Ok(self.0.get(&lba).map_or(BasePage::Zero, |page| BasePage::Sealed(page.clone())))
    }

    fn has_block(&self, block: u64) -> Result<bool, SourceError> {
        let first = block * PAGES_PER_BLOCK as u64;
        Ok(self.0.range(first..first + PAGES_PER_BLOCK as u64).next().is_some())
    }
}

/// For half of the seeds, a base with pages in and around the areas.
pub(super) fn make_base(
    rng: &SeededRng,
    key: &DataKey,
    areas: &[Lba],
) -> (Option<Base>, BTreeMap<Lba, Content>) {
    let (mut pages, mut contents) = (BTreeMap::new(), BTreeMap::new());
    if rng.below(2) == 0 {
        return (None, contents);
    }
    let mut sealer = key.sealer(Salt::generate(rng));
    for stamp in 1..120 {
        let lba = areas[rng.below(areas.len() as u64) as usize] + rng.below(AREA_PAGES);
        let content = [stamp; SECTORS];
        pages.insert(lba, SealedPage::seal(&mut sealer, lba, &render(lba, &content)));
        contents.insert(lba, content);
    }
    let id = CutId::new("snap-ba5e0000").expect("it is short and ASCII");
    (Some(Base { id, reader: Arc::new(MemoryBase(pages)), key: None }), contents)
}
