//! Checking a whole volume: that everything referred to authenticates, and that the segment table
//! counts exactly what is referred to.
//!
//! The stored state is read beside the engine, without opening the volume and without writing: both
//! superblocks, the segment table, every map page of the volume and its cuts, every page of data,
//! every segment of the log. With the data key every page is opened; without it the pages are
//! compared with the checksums of the chunks they were written in, which notices damage but no
//! forger.
//!
//! Maps of one volume are compared side by side, each with the one taken after it, and what both
//! share is visited once: a pointer that was replaced never returns. So a check needs memory for
//! the segment table and a few numbers per segment, whatever the volume's size.

mod log;

use super::cache::NumberMap;
use super::delta::Entry;
use super::engine::Engine;
use super::layout::{
    FAN_OUT, FAN_OUT_BITS, LOST, Location, SLOT_BYTES, SLOT_COUNT, SegmentIndex, byte_offset,
};
use super::map::{Children, Part, child, leaf_changed, leaf_entry};
use super::pin::Hold;
use super::segment::{Accounting, SegmentKind};
use super::settled::RUN_PAGE;
use super::superblock::{NodeRef, Root, Superblock};
use super::{CutId, Disk, EngineConfig, Error};
use crate::check::{CheckWatch, Fault, Finding, Findings, Stopped, Unwatched};
use crate::page::{
    KeyAtHand, Lba, NoKey, PAGE_BYTES, PAGES_PER_BLOCK, Page, PageOrigin, SealedPage, StructureKey,
};
use base::Rng;
use std::sync::Arc;

/// A superblock that does not open is read again: its volume may be storing it just now.
const SLOT_READS_MAX: u32 = 20;

/// What a check found to be in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Map pages of all retained maps.
    pub map_pages: u64,
    /// Data pages of all retained maps.
    pub data_pages: u64,
    /// Data pages that were opened; 0 when the data key is absent.
    pub opened_pages: u64,
}

/// What an inspection of a volume saw.
#[derive(Clone, Debug, Default)]
pub struct VolumeReport {
    /// What the maps hold.
    pub pages: CheckReport,
    /// Pages compared with the checksum of their chunk, because the data key was absent.
    pub compared_pages: u64,
    /// Chunks of the log whose descriptors opened.
    pub chunks: u64,
    /// Segments in use.
    pub segments: u64,
    /// Retained cuts.
    pub cuts: u64,
    /// The snapshot the volume falls through to.
    pub base: Option<CutId>,
    /// What is wrong.
    pub findings: Findings,
    /// What would make the segment table right; empty when it is, or when that is not known.
    pub corrections: Corrections,
}

/// Differences between what a segment table counts and what is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Corrections(Vec<(SegmentIndex, i64)>);

impl Corrections {
    /// Whether there is nothing to correct.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many segments are counted wrongly.
    pub fn segments(&self) -> usize {
        self.0.len()
    }

    #[cfg(test)]
    pub(super) fn of(differences: Vec<(SegmentIndex, i64)>) -> Self {
        Self(differences)
    }

    pub(super) fn accounting(&self) -> Accounting {
        let mut changes = Accounting::default();
        self.0.iter().for_each(|(segment, pages)| changes.add(*segment, *pages));
        changes
    }
}

/// What to inspect, and with whom.
pub struct InspectJob<'a> {
    /// Names the volume and opens its structure.
    pub structure: StructureKey,
    /// Sizes of the caches.
    pub config: EngineConfig,
    /// The base the volume should have; `None` when that is not known.
    pub base: Option<Option<CutId>>,
    /// Opens pages, where it is at hand.
    pub key: &'a dyn KeyAtHand,
    /// Told how it goes.
    pub watch: &'a dyn CheckWatch,
    /// Keeps what is read in place. Must have been taken before.
    pub hold: &'a Hold,
}

/// Reads everything the stored state of a volume names. The volume may be in use meanwhile.
///
/// # Errors
/// When the check was cancelled or overtaken. Damage is no error: it is in the report.
pub fn inspect(
    disk: &Arc<dyn Disk>,
    rng: Arc<dyn Rng>,
    job: InspectJob<'_>,
) -> Result<VolumeReport, Stopped> {
    let mut report = VolumeReport::default();
    check_slots(&**disk, &job.structure, &mut report.findings);
    let mut attempt = 1;
    let loaded = loop {
        let structure = job.structure.duplicate();
        match Engine::load(Arc::clone(disk), structure, Arc::clone(&rng), job.config) {
            Err(_) if attempt < SLOT_READS_MAX => attempt += 1,
            outcome => break outcome,
        }
    };
    let mut engine = match loaded {
        Ok(engine) => engine,
        Err(error) => {
            let fault = match &error {
                Error::Corrupt { what, .. } if *what == RUN_PAGE => Fault::MapPage,
                Error::Corrupt { .. } => Fault::SegmentTable,
                Error::Disk { .. } => Fault::Unreadable,
                _ => Fault::Superblock,
            };
            note(&mut report.findings, fault, &error, None);
            return Ok(report);
        }
    };
    report.base = engine.committed.base;
    report.cuts = engine.committed.cuts.len() as u64;
    if let Some(expected) = job.base.filter(|expected| *expected != engine.committed.base) {
        let name = |id: Option<CutId>| id.map_or("no snapshot".to_owned(), |id| id.to_string());
        let detail = format!(
            "the volume falls through to {}, and should to {}",
            name(engine.committed.base),
            name(expected)
        );
        let place = "superblock".to_owned();
        report.findings.push(Finding { fault: Fault::BaseReference, place, block: None, detail });
    }
    let key = job.key.if_noted(engine.committed.key_check);
    let mut walk = Walk::new(&mut engine, key, job.watch, Some(job.hold), report);
    walk.maps()?;
    walk.counts();
    walk.segments()?;
    walk.log()?;
    Ok(walk.report)
}

/// Both slots must open: one alone is one accident from none.
fn check_slots(disk: &dyn Disk, key: &StructureKey, findings: &mut Findings) {
    for slot in 0..SLOT_COUNT {
        let mut attempt = 1;
        let error = loop {
            let mut bytes = vec![0; SLOT_BYTES];
            let read = disk.read(slot * SLOT_BYTES as u64, &mut bytes);
            let read = read.map_err(Error::disk("read a superblock"));
            match read.and_then(|()| Superblock::open(slot, &mut bytes, key)) {
                Ok(_) => break None,
                Err(_) if attempt < SLOT_READS_MAX => attempt += 1,
                Err(error) => break Some(error),
            }
        };
        if let Some(error) = error {
            let place = format!("superblock slot {slot}");
            let detail = format!("superblock slot {slot} does not open: {error}");
            findings.push(Finding { fault: Fault::SuperblockSlot, place, block: None, detail });
        }
    }
}

fn note(findings: &mut Findings, fault: Fault, error: &Error, block: Option<u64>) {
    let (fault, place) = match error {
        Error::Corrupt { page, .. } => (fault, format!("page {page}")),
        Error::Disk { .. } => (Fault::Unreadable, "file".to_owned()),
        _ => (fault, "file".to_owned()),
    };
    findings.push(Finding { fault, place, block, detail: error.to_string() });
}

/// A walk over everything a loaded volume refers to.
struct Walk<'a> {
    engine: &'a mut Engine,
    key: &'a dyn KeyAtHand,
    watch: &'a dyn CheckWatch,
    hold: Option<&'a Hold>,
    report: VolumeReport,
    /// The first damage, for who wants an error.
    first: Option<Error>,
    counts: Accounting,
    /// The last position of each segment that something refers to.
    last: NumberMap<SegmentIndex, u32>,
    /// Every map page was read, so the counts are complete.
    complete: bool,
    /// Pages were met that nobody could open.
    keyless: bool,
    /// The map that is visited is the volume's, and what is settled hides parts of it.
    is_newest: bool,
}

impl Engine {
    /// Reads every map page of the last checkpoint and of every retained cut, and, when the data
    /// key is present, every data page. A checkpoint that has begun is ended first.
    ///
    /// # Errors
    /// The first damage, or a segment whose count is wrong.
    pub fn check(&mut self) -> Result<CheckReport, Error> {
        if self.merge.is_some() {
            self.mutate(|engine| engine.merge_steps(usize::MAX))?;
        }
        let key = self.ctx.data.clone();
        let key = key.as_deref().map_or(&NoKey as &dyn KeyAtHand, |key| key);
        let mut walk = Walk::new(self, key, &Unwatched, None, VolumeReport::default());
        walk.maps().expect("nobody cancels or overtakes it");
        walk.counts();
        let (first, pages) = (walk.first.take(), walk.report.pages);
        first.map_or(Ok(pages), Err)
    }

    /// Makes the segment table right and stores it, with both superblocks.
    ///
    /// # Errors
    /// When the corrections are not this volume's, or the disk fails.
    pub fn correct(&mut self, corrections: &Corrections) -> Result<(), Error> {
        let changes = corrections.accounting();
        self.mutate(|engine| {
            engine.table.apply(&changes)?;
            engine.commit()
        })
    }
}

impl<'a> Walk<'a> {
    fn new(
        engine: &'a mut Engine,
        key: &'a dyn KeyAtHand,
        watch: &'a dyn CheckWatch,
        hold: Option<&'a Hold>,
        report: VolumeReport,
    ) -> Self {
        Self {
            engine,
            key,
            watch,
            hold,
            report,
            first: None,
            counts: Accounting::default(),
            last: NumberMap::default(),
            complete: true,
            keyless: false,
            is_newest: true,
        }
    }

    /// Visits the volume's map and those of its cuts, newest first, each beside the one before.
    fn maps(&mut self) -> Result<(), Stopped> {
        let newest = self.engine.committed.root;
        let cuts: Vec<Root> = self.engine.committed.cuts.iter().map(|cut| cut.root).collect();
        self.settled()?;
        let mut beside = None;
        for root in std::iter::once(newest).chain(cuts.into_iter().rev()) {
            let height = beside.map_or(root.height, |other: Root| other.height.max(root.height));
            let other = beside.map_or(Part::Absent, |other| Part::top(other, height));
            self.is_newest = beside.is_none();
            self.part(Part::top(root, height), other, height, 0)?;
            beside = Some(root);
        }
        Ok(())
    }

    /// Visits what no leaf has yet.
    fn settled(&mut self) -> Result<(), Stopped> {
        for location in self.engine.settled.pages.clone() {
            self.refer(location);
            self.report.pages.map_pages += 1;
        }
        let mut blocks: Vec<u64> = self.engine.settled.blocks.keys().copied().collect();
        blocks.sort_unstable();
        for block in blocks {
            self.goes_on()?;
            let mut pages = Vec::new();
            for at in 0..PAGES_PER_BLOCK {
                if let Some(entry) = self.engine.settled.get(block, at).copied() {
                    self.entry(block, at, &entry, &mut pages)?;
                }
            }
            self.prove(block, pages)?;
        }
        Ok(())
    }

    fn goes_on(&self) -> Result<(), Stopped> {
        if self.hold.is_some_and(|hold| !hold.stands()) {
            return Err(Stopped::Overtaken);
        }
        if self.watch.is_cancelled() { Err(Stopped::Cancelled) } else { Ok(()) }
    }

    /// Notes damage, unless what was read has moved on meanwhile.
    fn found(&mut self, fault: Fault, error: Error, block: Option<u64>) -> Result<(), Stopped> {
        self.goes_on()?;
        note(&mut self.report.findings, fault, &error, block);
        self.first.get_or_insert(error);
        Ok(())
    }

    fn part(&mut self, part: Part, beside: Part, level: u8, block: u64) -> Result<(), Stopped> {
        if part == Part::Absent || part == beside {
            return Ok(());
        }
        if let Part::Stored(node) = part {
            if node.location == LOST {
                // It refers to nothing, so what is counted is complete without it.
                return self.found(Fault::MapPage, Error::corrupt("map page", LOST), Some(block));
            }
            self.refer(node.location);
            self.report.pages.map_pages += 1;
        }
        if level == 0 {
            return match part {
                Part::Stored(node) => self.leaf(&node, beside, block),
                Part::Absent | Part::Above(_) => Ok(()),
            };
        }
        let Some(children) = self.children(part, level, block)? else { return Ok(()) };
        // Damage there was noted when it was walked.
        let engine = &mut *self.engine;
        let beside = engine.nodes.children(&engine.table, beside, level, block);
        let beside = beside.unwrap_or(Children::None);
        for slot in 0..FAN_OUT as usize {
            let first = block + ((slot as u64) << (FAN_OUT_BITS * u32::from(level - 1)));
            self.part(children.part(slot), beside.part(slot), level - 1, first)?;
        }
        Ok(())
    }

    /// The children of a part, or `None` when its page is damaged, which is noted.
    fn children(&mut self, part: Part, level: u8, block: u64) -> Result<Option<Children>, Stopped> {
        let engine = &mut *self.engine;
        let children = match engine.nodes.children(&engine.table, part, level, block) {
            Ok(children) => children,
            Err(error) => {
                self.complete = false;
                self.found(Fault::MapPage, error, Some(block))?;
                return Ok(None);
            }
        };
        if let (Part::Stored(node), Children::Of(page)) = (part, &children) {
            self.watch.read(PAGE_BYTES as u64);
            let newest = (0..FAN_OUT as usize).map(|slot| child(page, slot).changed).max();
            if newest.unwrap_or(0) != node.changed {
                self.found(Fault::MapPage, Error::corrupt("map page", node.location), Some(block))?;
            }
        }
        Ok(Some(children))
    }

    fn leaf(&mut self, node: &NodeRef, beside: Part, block: u64) -> Result<(), Stopped> {
        self.goes_on()?;
        let engine = &mut *self.engine;
        let leaf = match engine.nodes.read(&engine.table, node, 0, block) {
            Ok(leaf) => leaf,
            Err(error) => {
                self.complete = false;
                return self.found(Fault::MapPage, error, Some(block));
            }
        };
        let beside = match beside {
            Part::Stored(other) => engine.nodes.read(&engine.table, &other, 0, block).ok(),
            Part::Absent | Part::Above(_) => None,
        };
        self.watch.read(PAGE_BYTES as u64);
        if leaf_changed(&leaf) != node.changed {
            self.found(Fault::MapPage, Error::corrupt("map page", node.location), Some(block))?;
        }
        let fence = self.engine.merged_fence();
        let (mut pages, mut is_lost) = (Vec::new(), false);
        for at in 0..PAGES_PER_BLOCK {
            let entry = leaf_entry(&leaf, at);
            let shared = |other: &Arc<Page>| leaf_entry(other, at).location == entry.location;
            // What is hidden is in use only if a cut has it.
            let hidden = self.is_newest
                && entry.written > fence
                && self.engine.settled.get(block, at).is_some();
            if hidden || beside.as_ref().is_some_and(shared) {
                continue;
            }
            if entry.location == LOST {
                is_lost = true;
            } else {
                self.entry(block, at, &entry, &mut pages)?;
            }
        }
        if is_lost {
            self.found(Fault::MapPage, Error::corrupt("map entry", node.location), Some(block))?;
        }
        self.prove(block, pages)
    }

    /// Counts an entry's page, if it has one, and notes it to be opened.
    fn entry(
        &mut self,
        block: u64,
        at: usize,
        entry: &Entry,
        pages: &mut Vec<(Lba, Location, SealedPage)>,
    ) -> Result<(), Stopped> {
        if !entry.is_stored() {
            return Ok(());
        }
        self.refer(entry.location);
        self.report.pages.data_pages += 1;
        let engine = &*self.engine;
        let segment = engine.ctx.geometry.split(entry.location);
        let segment = segment.and_then(|(segment, at)| Some((engine.table.get(segment)?, at)));
        match segment.filter(|(segment, at)| segment.kind == SegmentKind::Log && *at > 0) {
            Some((segment, position)) => {
                let origin = PageOrigin { salt: segment.salt, position };
                let ciphertext = Box::new([0; PAGE_BYTES]);
                let page = SealedPage { origin, tag: entry.tag, ciphertext };
                pages.push((block * PAGES_PER_BLOCK as u64 + at as u64, entry.location, page));
                Ok(())
            }
            None => {
                let error = Error::corrupt("map entry", entry.location);
                self.found(Fault::DataPage, error, Some(block))
            }
        }
    }

    /// Counts a reference.
    fn refer(&mut self, location: Location) {
        let geometry = self.engine.ctx.geometry;
        self.counts.count(geometry, location);
        if let Some((segment, position)) = geometry.split(location) {
            let last = self.last.entry(segment).or_default();
            *last = position.max(*last);
        }
    }

    /// Reads pages and has them opened. What nobody can open is compared with the chunks later.
    fn prove(
        &mut self,
        block: u64,
        mut pages: Vec<(Lba, Location, SealedPage)>,
    ) -> Result<(), Stopped> {
        if self.keyless || pages.is_empty() {
            return Ok(());
        }
        pages.sort_by_key(|(_, location, _)| *location);
        for run in pages.chunk_by_mut(|(_, a, _), (_, b, _)| a + 1 == *b) {
            let mut bytes = vec![0; run.len() * PAGE_BYTES];
            let read = self.engine.ctx.disk.read(byte_offset(run[0].1), &mut bytes);
            if let Err(error) = read.map_err(Error::disk("read data")) {
                return self.found(Fault::Unreadable, error, Some(block));
            }
            self.watch.read(bytes.len() as u64);
            let (chunks, _) = bytes.as_chunks::<PAGE_BYTES>();
            for ((_, _, page), bytes) in run.iter_mut().zip(chunks) {
                *page.ciphertext = *bytes;
            }
        }
        let sealed: Vec<_> = pages.iter().map(|(lba, _, page)| (*lba, page)).collect();
        let Some(proofs) = self.key.with(|key| key.prove(&sealed)) else {
            self.keyless = true;
            return Ok(());
        };
        self.report.pages.opened_pages += proofs.iter().filter(|proof| **proof).count() as u64;
        let locations = pages.iter().map(|(_, location, _)| location);
        for (location, _) in locations.zip(&proofs).filter(|(_, proof)| !**proof) {
            self.found(Fault::DataPage, Error::corrupt("data", *location), Some(block))?;
        }
        Ok(())
    }

    /// Compares the segment table's counts with what was visited.
    fn counts(&mut self) {
        let table = &self.engine.table;
        table.count_stored(&mut self.counts);
        let used = table.iter().filter(|(_, segment)| segment.kind != SegmentKind::Free);
        self.report.segments = used.count() as u64;
        if !self.complete {
            return;
        }
        let differences = table.differences(&self.counts);
        for (segment, difference) in &differences {
            let page = self.engine.ctx.geometry.start(*segment);
            let live = table.get(*segment).map_or(0, |segment| segment.live);
            let detail = format!(
                "the segment table counts {live} pages in use in segment {segment}, there are {}",
                i64::from(live) + difference
            );
            let place = format!("page {page}");
            let fault = Fault::SegmentCount;
            self.report.findings.push(Finding { fault, place, block: None, detail });
            self.first.get_or_insert(Error::corrupt("segment table", page));
        }
        self.report.corrections = Corrections(differences);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::{FileDisk, IoMode, OpenOptions, Pin, VolumeOptions};
    use crate::page::DataKey;
    use base::{Secret, SeededRng};

    fn structure() -> StructureKey {
        StructureKey::derive(&Secret::new([1; 32]), "vol-00000001")
    }

    fn rng() -> Arc<SeededRng> {
        Arc::new(SeededRng::new(3))
    }

    fn open(disk: &Arc<dyn Disk>, corrections: &Corrections) -> Result<Engine, Error> {
        let data_key = Some(DataKey::new(&Secret::new([2; 64])));
        let options = OpenOptions { data_key, base: None, writer: None };
        let (disk, config) = (Arc::clone(disk), EngineConfig::tiny());
        let pin = Arc::new(Pin::default());
        Engine::open_pinned(disk, structure(), rng(), config, options, pin, corrections)
    }

    fn inspected(disk: &Arc<dyn Disk>) -> VolumeReport {
        let pin = Arc::new(Pin::default());
        let job = InspectJob {
            structure: structure(),
            config: EngineConfig::tiny(),
            base: Some(None),
            key: &NoKey,
            watch: &Unwatched,
            hold: &pin.hold(),
        };
        inspect(disk, rng(), job).unwrap()
    }

    #[test]
    fn a_wrong_count_is_named_and_made_right() {
        let folder = tempfile::tempdir().unwrap();
        let disk: Arc<dyn Disk> =
            Arc::new(FileDisk::create(&folder.path().join("disk"), IoMode::Buffered).unwrap());
        let options = VolumeOptions { size_bytes: 8 << 20, key_check: None, base: None };
        let config = EngineConfig::tiny();
        Engine::create(&*disk, &structure(), &*rng(), &config, &options).unwrap();
        let mut engine = open(&disk, &Corrections::default()).unwrap();
        for page in 0..200 {
            engine.write(page * 7 * PAGE_BYTES as u64, &[page as u8 | 1; PAGE_BYTES]).unwrap();
        }
        engine.checkpoint().unwrap();
        engine.check().unwrap();
        let used = engine.table.iter().find(|(_, segment)| segment.live > 5).unwrap().0;
        engine.correct(&Corrections(vec![(used, -2)])).unwrap();
        assert!(engine.check().is_err());

        let report = inspected(&disk);
        assert_eq!(report.findings.iter().count(), 1, "{:?}", report.findings);
        assert!(report.findings.has(Fault::SegmentCount));
        assert_eq!(report.corrections, Corrections(vec![(used, 2)]));
        // Beside an open engine, or in front of one.
        let mut beside = engine;
        beside.correct(&report.corrections).unwrap();
        beside.check().unwrap();
        assert!(inspected(&disk).findings.is_empty());
        beside.correct(&Corrections(vec![(used, -2)])).unwrap();
        drop(beside);
        let mut engine = open(&disk, &report.corrections).unwrap();
        engine.check().unwrap();
        engine.close().unwrap();
        let report = inspected(&disk);
        assert!(report.findings.is_empty(), "{:?}", report.findings);
        assert_eq!(report.pages.data_pages, 200);
        assert!(report.compared_pages >= 200);
    }
}
