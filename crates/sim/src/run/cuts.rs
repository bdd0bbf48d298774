//! Cuts, their exports, and the comparison of both with the model.

use super::{Stop, TakenCut, World, stop};
use crate::model::{Content, Violation, ZEROS, parse};
use blockstore::live::{CutId, CutInfo, Dropped, Error, Misses};
use blockstore::page::{
    BasePage, BaseReader, CutPage, CutSource, KeyAtHand, Lba, NoKey, PAGE_BYTES, PAGES_PER_BLOCK,
    SourceError,
};
use blockstore::snapshot::{self, Export, SnapshotReader, Unobserved};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Cuts after which the simulation drops one before it takes another.
const CUTS_KEPT: usize = 4;
impl World<'_> {
    pub(super) fn cut(&mut self) -> Result<(), Stop> {
        if self.cuts.len() >= CUTS_KEPT {
            return self.drop_cut();
        }
        self.next_cut += 1;
        let id = CutId::new(&format!("snap-{:08x}", self.next_cut)).expect("it is short and ASCII");
        let content = self.model.snapshot();
        let unsure = CutInfo { id, generation: 0, volume_bytes: self.size };
        let unflushed = self.model.unflushed();
        self.unsure_cut = Some((TakenCut { info: unsure, content: content.clone() }, unflushed));
        let info = match self.engine().cut(id) {
            Err(Error::Full) if self.space.is_some() => {
                self.unsure_cut = None;
                self.outcome.refused += 1;
                return Ok(());
            }
            taken => taken.map_err(stop("cut"))?,
        };
        self.unsure_cut = None;
        self.cuts.push(TakenCut { info, content });
        self.model.flushed();
        Ok(())
    }

    /// Begins to drop a cut, or goes on with it: to the end, or so far that others' requests come in
    /// between.
    pub(super) fn drop_cut(&mut self) -> Result<(), Stop> {
        if self.dropping.is_none() {
            if self.cuts.is_empty() {
                return Ok(());
            }
            let at = self.rng.below(self.cuts.len() as u64) as usize;
            self.check_cut(at)?;
            if self.base.is_none() && self.rng.below(2) == 0 {
                self.export(at)?;
            }
            self.dropping = Some(self.cuts.remove(at));
        }
        let steps = if self.rng.below(3) == 0 { u64::MAX } else { 1 + self.rng.below(8) };
        for _ in 0..steps {
            if self.drop_step().map_err(stop("drop a cut"))? {
                self.past.extend(self.dropping.take());
                break;
            }
        }
        self.engine().check().map(drop).map_err(stop("check"))
    }

    /// Answers whether the cut is gone.
    fn drop_step(&mut self) -> Result<bool, Error> {
        let Some(TakenCut { info, .. }) = &self.dropping else { return Ok(true) };
        let misses = [Misses::Read, Misses::Report][self.rng.below(2) as usize];
        let id = info.id;
        match self.engine().drop_cut_step(id, misses)? {
            Dropped::Whole => Ok(true),
            Dropped::InPart => Ok(false),
            Dropped::Needs(page) => {
                let part = page.part();
                let mut sealed = vec![0; part.length];
                let read = self.engine().disk().read(part.offset, &mut sealed);
                let action = "read a map page";
                read.map_err(|error| Error::Disk { action, cause: Arc::new(error) })?;
                self.engine().supply(&page, &sealed)?;
                Ok(false)
            }
        }
    }

    pub(super) fn check_some_cut(&mut self) -> Result<(), Stop> {
        if self.cuts.is_empty() {
            return Ok(());
        }
        let at = self.rng.below(self.cuts.len() as u64) as usize;
        self.check_cut(at)
    }

    /// Compares a cut, and its difference to an earlier one, with the model.
    pub(super) fn check_cut(&mut self, at: usize) -> Result<(), Stop> {
        let id = self.cuts[at].info.id;
        let generation = self.cuts[at].info.generation;
        let reader = self.engine().open_cut(id, None).map_err(stop("open a cut"))?;
        let source = |error: SourceError| match error {
            SourceError::Unavailable { .. } => Stop::PowerLost,
            other => Violation::Failed { action: "read a cut", error: other.to_string() }.into(),
        };
        let mut found = BTreeMap::new();
        for block in reader.changed_blocks() {
            let pages = reader.load_block(block.map_err(source)?).map_err(source)?;
            let first = pages.block * PAGES_PER_BLOCK as u64;
            for (lba, page) in (first..).zip(&pages.pages) {
                let content = self
                    .open_cut_page(lba, page)
                    .ok_or_else(|| Stop::from(Violation::WrongCut { id: id.to_string(), lba }))?;
                found.extend(content.map(|content| (lba, content)));
            }
        }
        let expected = &self.cuts[at].content;
        for lba in found.keys().chain(expected.keys()) {
            // A page without a statement shows the base; a statement must be the right one.
            let below = self.base_content(*lba);
            let want = expected.get(lba).copied().unwrap_or(below);
            if found.get(lba).copied().unwrap_or(below) != want {
                return Err(Violation::WrongCut { id: id.to_string(), lba: *lba }.into());
            }
        }
        self.outcome.cuts_checked += 1;
        let earlier: Vec<_> = self.cuts.iter().chain(&self.past).collect();
        let earlier: Vec<_> = earlier.iter().filter(|c| c.info.generation < generation).collect();
        let Some(since) = earlier.get(self.rng.below(earlier.len().max(1) as u64) as usize) else {
            return Ok(());
        };
        let shown = |content: &BTreeMap<Lba, Content>, lba: Lba| {
            content.get(&lba).copied().unwrap_or_else(|| self.base_content(lba))
        };
        let differs = |lba: &&Lba| shown(expected, **lba) != shown(&since.content, **lba);
        let mut changed: Vec<u64> =
            expected.keys().filter(differs).map(|lba| lba / PAGES_PER_BLOCK as u64).collect();
        changed.dedup();
        let since = since.info.generation;
        let reader = self.engine().open_cut(id, Some(since)).map_err(stop("open a cut"))?;
        let listed: Vec<u64> = reader.changed_blocks().collect::<Result<_, _>>().map_err(source)?;
        if let Some(missed) = changed.iter().find(|block| listed.binary_search(block).is_err()) {
            let lba = missed * PAGES_PER_BLOCK as u64;
            return Err(Violation::WrongCut { id: id.to_string(), lba }.into());
        }
        Ok(())
    }

    /// Makes a snapshot of a cut, on top of the newest one before it if the volume still knows when
    /// it equalled that, and compares the snapshot with the model.
    pub(super) fn export(&mut self, at: usize) -> Result<(), Stop> {
        let info = self.cuts[at].info;
        let before = |generation: u32| generation < info.generation;
        let parent = self.exported.iter().filter(|(_, cut, _)| before(cut.generation));
        let parent = parent.max_by_key(|(_, cut, _)| cut.generation).map(|(root, ..)| *root);
        let since = parent.and_then(|root| self.engine().exported_generation(root.id()));
        let parent = parent.filter(|_| since.is_some());
        let source = self.engine().open_cut(info.id, since).map_err(stop("open a cut"))?;
        let key_check = Some(self.key.check_value());
        // Without the key pages are compared with their chunks.
        let key: &dyn KeyAtHand =
            if info.generation.is_multiple_of(2) { &self.key } else { &NoKey };
        let base = parent.as_ref();
        let job = Export { parent: base, key_check, resume: None, checkpoint_blocks: 64, key };
        let failed = |error: snapshot::Error| {
            Stop::from(Violation::Failed { action: "export", error: error.to_string() })
        };
        let root = snapshot::export(&self.snapshots, &source, &job, &Unobserved).map_err(failed)?;
        self.exported.push((root, info, self.cuts[at].content.clone()));
        self.outcome.exports_checked += 1;
        self.outcome.increments_checked += u64::from(parent.is_some());
        self.check_snapshot(self.exported.len() - 1)?;
        self.engine().note_export(info.id, root.id()).map_err(stop("note an export"))
    }

    pub(super) fn check_snapshot(&self, at: usize) -> Result<(), Violation> {
        let (root, cut, expected) = &self.exported[at];
        let failed = |error: String| Violation::Failed { action: "read a snapshot", error };
        let reader =
            SnapshotReader::open(&self.snapshots, root).map_err(|e| failed(e.to_string()))?;
        let pages: BTreeSet<Lba> = expected.keys().copied().chain(self.model.pages()).collect();
        for lba in pages {
            let found = match reader.read_page(lba).map_err(|e| failed(e.to_string()))? {
                BasePage::Zero => Some(ZEROS),
                BasePage::Sealed(page) => self.open_cut_page(lba, &CutPage::Sealed(page)).flatten(),
            };
            if found != Some(expected.get(&lba).copied().unwrap_or(ZEROS)) {
                return Err(Violation::WrongSnapshot { id: cut.id.to_string(), lba });
            }
        }
        Ok(())
    }

    /// `None` when the page does not open as what it says it is.
    pub(super) fn open_cut_page(&self, lba: Lba, page: &CutPage) -> Option<Option<Content>> {
        match page {
            CutPage::Absent => Some(None),
            CutPage::Zero => Some(Some(ZEROS)),
            CutPage::Sealed(sealed) => {
                let mut bytes = [0; PAGE_BYTES];
                sealed.open(&self.key.opener(sealed.origin.salt), lba, &mut bytes).ok()?;
                parse(lba, &bytes).map(Some)
            }
        }
    }

    pub(super) fn base_content(&self, lba: Lba) -> Content {
        let Some(base) = &self.base else { return ZEROS };
        let Ok(BasePage::Sealed(sealed)) = base.reader.read_page(lba) else { return ZEROS };
        self.open_cut_page(lba, &CutPage::Sealed(sealed)).flatten().unwrap_or(ZEROS)
    }
}
