//! Copying: pages out of segments that are mostly dead, and pages of the base into the volume.
//!
//! Both seal again under the current segment's key, so both need the data key. Without it a volume
//! still gives back every segment that is wholly dead.

use super::delta::{Entry, split};
use super::engine::Engine;
use super::layout::{ABSENT, Location, SegmentIndex, byte_offset};
use super::log::{Descriptor, Record};
use super::segment::SegmentKind;
use super::superblock::NodeRef;
use super::{Error, map};
use crate::page::{BasePage, Lba, PAGE_BYTES, PAGES_PER_BLOCK, Page, Tag};

/// Used segments below which the log is not worth cleaning.
const SEGMENTS_MIN: u64 = 8;
/// Segments cleaned before a checkpoint gives them back.
const BATCH_SEGMENTS: usize = 4;
/// Share of live pages above which copying a segment costs more than it gives.
const LIVE_PERCENT_MAX: u32 = 50;

/// What a call of [`Engine::clean`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CleanReport {
    /// Segments whose live pages were copied out; the next checkpoint gives them back.
    pub segments: u32,
    /// Pages that were copied.
    pub pages: u32,
}

impl Engine {
    /// Copies the live pages out of up to `segments_max` segments of which at most
    /// `live_percent_max` percent is live, emptiest first. The segments are given back by a later
    /// checkpoint. While cuts are retained nothing is copied: what they refer to stays anyway.
    ///
    /// # Errors
    /// When the data key is absent, something read is damaged, or the disk fails.
    pub fn clean(
        &mut self,
        segments_max: usize,
        live_percent_max: u32,
    ) -> Result<CleanReport, Error> {
        if self.failed {
            return Err(Error::Failed);
        }
        if self.ctx.data.is_none() {
            return Err(Error::KeyAbsent);
        }
        let mut report = CleanReport::default();
        if !self.cuts().is_empty() {
            return Ok(report);
        }
        for (segment, kind) in self.victims(segments_max, live_percent_max) {
            report.pages += match kind {
                SegmentKind::Log => self.clean_log_segment(segment)?,
                SegmentKind::Map => self.clean_map_segment(segment)?,
                SegmentKind::Free => 0,
            };
            report.segments += 1;
            self.cleaned.insert(segment);
        }
        Ok(report)
    }

    /// Cleans one segment if the file holds more dead pages than live ones. Returns whether another
    /// call would find more to do. Does nothing without the data key.
    ///
    /// # Errors
    /// As [`Engine::clean`].
    pub fn clean_step(&mut self) -> Result<bool, Error> {
        if self.failed || self.ctx.data.is_none() || !self.cuts().is_empty() {
            return Ok(false);
        }
        let usage = self.usage();
        let used_pages =
            u64::from(usage.used_segments) * u64::from(self.ctx.geometry.segment_pages);
        let worth_it =
            u64::from(usage.used_segments) >= SEGMENTS_MIN && usage.live_pages * 2 < used_pages;
        if worth_it && self.cleaned.len() < BATCH_SEGMENTS {
            let report = self.clean(1, LIVE_PERCENT_MAX)?;
            if report.segments > 0 {
                return Ok(true);
            }
        }
        if self.cleaned.is_empty() {
            return Ok(false);
        }
        // The copies become the only ones; what remains of the segments is given back.
        self.checkpoint()?;
        Ok(false)
    }

    /// Copies one block's pages from the base, so that the base is not needed for it any more.
    /// They do not count as changes. Returns how many pages were copied.
    ///
    /// # Errors
    /// When key or base is absent, the base cannot be read, or the disk fails.
    pub fn hydrate(&mut self, block: u64) -> Result<u32, Error> {
        let base = match (&self.base, self.committed.base) {
            (_, None) => return Ok(0),
            (None, Some(_)) => return Err(Error::BaseAbsent),
            (Some(base), Some(_)) => std::sync::Arc::clone(base),
        };
        let first = block * PAGES_PER_BLOCK as u64;
        let end = (self.size() / PAGE_BYTES as u64).min(first + PAGES_PER_BLOCK as u64);
        let mut copied = 0;
        for lba in first..end {
            if self.entry(lba)?.location != ABSENT {
                continue;
            }
            if let BasePage::Sealed(sealed) = base.read_page(lba)? {
                let mut page = [0; PAGE_BYTES];
                self.open_base_page(lba, &sealed, &mut page)?;
                self.mutate(|engine| engine.append(lba, Some(0), &page))?;
                copied += 1;
            }
        }
        Ok(copied)
    }

    /// The emptiest segments that nothing in memory depends on.
    fn victims(&self, count: usize, live_percent_max: u32) -> Vec<(SegmentIndex, SegmentKind)> {
        let pages = u64::from(self.ctx.geometry.segment_pages);
        let mut kept = self.log.segments().to_vec();
        kept.extend(self.map.segment());
        kept.push(self.committed.head.segment);
        let mut found: Vec<_> = self
            .table
            .iter()
            .filter(|(index, segment)| {
                segment.kind != SegmentKind::Free
                    && segment.live > 0
                    && segment.newest_layer <= self.merged
                    && u64::from(segment.live) * 100 <= pages * u64::from(live_percent_max)
                    && !kept.contains(index)
                    && !self.cleaned.contains(index)
            })
            .map(|(index, segment)| (segment.live, index, segment.kind))
            .collect();
        found.sort_unstable_by_key(|(live, index, _)| (*live, *index));
        found.into_iter().take(count).map(|(_, index, kind)| (index, kind)).collect()
    }

    /// Follows the segment's own descriptors and copies what the map still refers to.
    fn clean_log_segment(&mut self, segment: SegmentIndex) -> Result<u32, Error> {
        let geometry = self.ctx.geometry;
        let damaged =
            |position| Error::corrupt("chunk descriptor", geometry.locate(segment, position));
        let salt = self.table.get(segment).ok_or_else(|| damaged(0))?.salt;
        let opener = self.ctx.structure.opener(salt);
        let (mut position, mut copied) = (1, 0);
        while position < geometry.segment_pages {
            let mut page = [0; PAGE_BYTES];
            let at = byte_offset(geometry.locate(segment, position));
            self.ctx.disk.read(at, &mut page).map_err(Error::disk("read the log"))?;
            let Some(descriptor) = Descriptor::open(page, &opener, position) else { break };
            let mut location = geometry.locate(segment, position);
            for record in descriptor.records() {
                match record.ok_or_else(|| damaged(position))? {
                    Record::Data { lba, .. } | Record::Copy { lba, .. } => {
                        location += 1;
                        copied += u32::from(self.copy_if_live(lba, location)?);
                    }
                    Record::Zero { .. } => {}
                }
            }
            position += 1 + descriptor.data_pages();
        }
        Ok(copied)
    }

    fn copy_if_live(&mut self, lba: Lba, location: Location) -> Result<bool, Error> {
        // A volume never shrinks, so the address is still inside it.
        let entry = self.entry(lba)?;
        if entry.location != location {
            return Ok(false);
        }
        let mut page: Page = [0; PAGE_BYTES];
        self.read(lba * PAGE_BYTES as u64, &mut page)?;
        self.mutate(|engine| engine.append(lba, Some(entry.birth), &page))?;
        Ok(true)
    }

    /// Has every map page in the segment rewritten by the next merge.
    fn clean_map_segment(&mut self, segment: SegmentIndex) -> Result<u32, Error> {
        let root = self.committed.root;
        let mut found = Vec::new();
        if !root.node.is_absent() {
            self.find_nodes(root.node, root.height, 0, segment, &mut found)?;
        }
        for block in &found {
            self.active.rewrite(*block);
        }
        Ok(found.len() as u32)
    }

    /// Collects, for every map page in `segment`, a block whose path goes through it.
    fn find_nodes(
        &mut self,
        node: NodeRef,
        level: u8,
        block: u64,
        segment: SegmentIndex,
        found: &mut Vec<u64>,
    ) -> Result<(), Error> {
        let is_here = |node: &NodeRef, engine: &Self| {
            engine.ctx.geometry.split(node.location).is_some_and(|(index, _)| index == segment)
        };
        if is_here(&node, self) {
            found.push(block);
        }
        if level == 0 {
            return Ok(());
        }
        let page = self.nodes.read(&self.table, &node, level, block)?;
        for slot in 0..super::layout::FAN_OUT as usize {
            let child = map::child(&page, slot);
            if child.is_absent() {
                continue;
            }
            let shift = super::layout::FAN_OUT_BITS * u32::from(level - 1);
            self.find_nodes(child, level - 1, block + ((slot as u64) << shift), segment, found)?;
        }
        Ok(())
    }

    fn entry(&mut self, lba: Lba) -> Result<Entry, Error> {
        let (block, page) = split(lba);
        let mut entry = [Entry { location: ABSENT, tag: Tag([0; 16]), birth: 0, written: 0 }];
        self.resolve(block, page, &mut entry)?;
        Ok(entry[0])
    }
}
