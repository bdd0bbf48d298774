//! Cuts: the volume as it was at a moment, kept until somebody has exported it.
//!
//! Taking one costs a chunk and a flush, whatever the volume's size: the chunk says that the layer
//! ends here, and the layer is frozen. A cut is part of the log from then on and of the superblock
//! from its merge on, so it survives power cuts like any acknowledged write. Reading one needs no
//! data key and no engine; its pages stay where they are until it is dropped.

mod compare;

use super::checkpoint::MERGE_STEP_BLOCKS;
use super::delta::split;
use super::engine::Engine;
use super::layout::{CUTS_MAX, GENERATION_MAX, Geometry, ZERO, byte_offset};
use super::map::{ChangedBlocks, Nodes, SaltList, leaf_entry};
use super::segment::SegmentTable;
use super::superblock::{CutRecord, EXPORTS_MAX, Superblock};
use super::{CutId, Disk, Error};
use crate::page::{
    BlockPages, CutPage, CutSource, KeyCheckValue, Lba, PAGE_BYTES, PAGES_PER_BLOCK, Page,
    PageOrigin, SealedPage, SourceError, StructureKey,
};
use compare::Compared;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Map pages a reader of a cut keeps in memory.
const READER_PAGES: usize = 256;
/// Segment keys a reader of a cut keeps in memory.
const READER_KEYS: usize = 256;
/// Bytes a reader of a cut asks the disk for at once: a guest's read that comes then waits for them.
const READ_BYTES_MAX: usize = 64 << 10;

/// A retained cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CutInfo {
    /// Its name.
    pub id: CutId,
    /// What the volume had been cut how often; an export of a later cut that names this generation
    /// finds what changed since.
    pub generation: u32,
    /// Bytes in the volume at that moment.
    pub volume_bytes: u64,
}

impl Engine {
    /// Takes a cut: everything acknowledged before is in it, nothing acknowledged later is. It is
    /// durable when this returns.
    ///
    /// # Errors
    /// When the id is taken, too many cuts are retained, there is no space for what a cut keeps, or
    /// the disk fails.
    pub fn cut(&mut self, id: CutId) -> Result<CutInfo, Error> {
        let info = self.mark_cut(id)?;
        self.mutate(Self::sync)?;
        Ok(info)
    }

    /// The moment of a cut, without its flush: the cut is in the log, and durable when a flush that
    /// begins after this is. What is written from now on is not in it.
    ///
    /// # Errors
    /// As [`Engine::cut`].
    pub fn mark_cut(&mut self, id: CutId) -> Result<CutInfo, Error> {
        self.check_cut(id)?;
        let (generation, volume_bytes) = (self.log.generation, self.size());
        self.mutate(|engine| engine.freeze(Some(id)))?;
        Ok(CutInfo { id, generation, volume_bytes })
    }

    /// Does beforehand what a cut of this name would have to wait for, and refuses what the cut
    /// would be refused for.
    ///
    /// # Errors
    /// As [`Engine::cut`].
    pub fn prepare_cut(&mut self, id: CutId) -> Result<(), Error> {
        self.check_cut(id)?;
        self.mutate(Self::make_room_for_layer)
    }

    fn check_cut(&self, id: CutId) -> Result<(), Error> {
        let cuts = self.retained_cuts();
        if self.is_dropping(id) {
            return Err(Error::CutIsDropped { id });
        }
        if cuts.iter().any(|cut| cut.id == id) {
            return Err(Error::CutExists { id });
        }
        if cuts.len() >= CUTS_MAX {
            return Err(Error::TooManyCuts { limit: CUTS_MAX });
        }
        if self.log.generation >= GENERATION_MAX {
            return Err(Error::Full);
        }
        self.check_space()
    }

    /// The retained cuts but for those that are being dropped, oldest first.
    pub fn cuts(&self) -> Vec<CutInfo> {
        let mut cuts = self.retained_cuts();
        cuts.retain(|cut| !self.is_dropping(cut.id));
        cuts
    }

    /// The generation of a cut that is retained, also while it is being dropped: another cut of its name
    /// has another.
    pub fn retained_generation(&self, id: CutId) -> Option<u32> {
        let found = self.retained_cuts().into_iter().find(|cut| cut.id == id);
        found.map(|cut| cut.generation)
    }

    fn retained_cuts(&self) -> Vec<CutInfo> {
        let merged = self.committed.cuts.iter().map(|cut| CutInfo {
            id: cut.id,
            generation: cut.generation,
            volume_bytes: cut.volume_bytes,
        });
        let pending = self.frozen.iter().filter_map(|layer| layer.cut).map(|cut| CutInfo {
            id: cut.id,
            generation: cut.generation,
            volume_bytes: cut.volume_bytes,
        });
        merged.chain(pending).collect()
    }

    /// A reader of a retained cut for another thread. With `since`, its changed blocks are those
    /// that changed after the cut of that generation; without, all that were ever written.
    ///
    /// # Errors
    /// When no such cut is retained, or it is being dropped, or the disk fails.
    pub fn open_cut(&mut self, id: CutId, since: Option<u32>) -> Result<CutReader, Error> {
        let cut = self.shown_cut(id)?;
        let structure = self.ctx.structure.duplicate();
        let disk = Arc::clone(&self.ctx.disk);
        let view = View { cut, since, key_check: self.committed.key_check };
        Ok(CutReader::new(disk, structure, &self.table, view))
    }

    /// Remembers that a retained cut became the snapshot of this id, so that the export of a later
    /// cut on top of that snapshot knows what changed since.
    ///
    /// # Errors
    /// When no such cut is retained, or it is being dropped, or the disk fails.
    pub fn note_export(&mut self, id: CutId, snapshot: [u8; 16]) -> Result<(), Error> {
        let cut = self.shown_cut(id)?;
        self.mutate(|engine| {
            let exports = &mut engine.committed.exports;
            exports.retain(|(known, _)| *known != snapshot);
            if exports.len() == EXPORTS_MAX {
                exports.remove(0);
            }
            exports.push((snapshot, cut.generation));
            engine.commit()
        })
    }

    /// The generation at which the volume equalled a snapshot; `None` when that is not known (any
    /// more) and an export on top of that snapshot would miss changes.
    pub fn exported_generation(&self, snapshot: [u8; 16]) -> Option<u32> {
        let exports = &self.committed.exports;
        exports.iter().find(|(known, _)| *known == snapshot).map(|(_, generation)| *generation)
    }

    /// Does a bounded part of what a retained cut takes before it can be opened: until it is merged, the
    /// superblock does not name it. Answers whether that is done.
    ///
    /// # Errors
    /// When no such cut is retained, or it is being dropped, or the disk fails.
    pub fn show_cut_step(&mut self, id: CutId) -> Result<bool, Error> {
        if !self.cuts().iter().any(|cut| cut.id == id) {
            return Err(Error::CutNotFound { id });
        }
        if self.merged_cut(id).is_err() {
            self.mutate(|engine| engine.merge_steps(MERGE_STEP_BLOCKS))?;
        }
        Ok(self.merged_cut(id).is_ok())
    }

    fn shown_cut(&mut self, id: CutId) -> Result<CutRecord, Error> {
        while !self.show_cut_step(id)? {}
        self.merged_cut(id).map(|(_, cut)| cut)
    }

    /// A cut that the superblock names, and where it is among them.
    pub(super) fn merged_cut(&self, id: CutId) -> Result<(usize, CutRecord), Error> {
        let mut cuts = self.committed.cuts.iter().copied().enumerate();
        cuts.find(|(_, cut)| cut.id == id).ok_or(Error::CutNotFound { id })
    }
}

/// A reader of a cut that the superblock on `disk` retains, while somebody else has the volume open
/// and writes it; `since` is as in [`Engine::open_cut`]. Nothing is written here.
///
/// # Errors
/// When no such cut is retained, or what is read does not belong together: its owner may have
/// changed it meanwhile, and reading again may help.
pub fn read_cut(
    disk: Arc<dyn Disk>,
    structure: StructureKey,
    id: CutId,
    since: Option<u32>,
) -> Result<CutReader, Error> {
    let committed = Superblock::load(&*disk, &structure)?;
    let cut = committed.cuts.iter().find(|cut| cut.id == id).copied();
    let cut = cut.ok_or(Error::CutNotFound { id })?;
    let geometry = Geometry { segment_pages: committed.segment_pages };
    let table = SegmentTable::load(geometry, committed.table, &*disk, &structure)?;
    let view = View { cut, since, key_check: committed.key_check };
    Ok(CutReader::new(disk, structure, &table, view))
}

/// What a reader shows.
struct View {
    cut: CutRecord,
    since: Option<u32>,
    key_check: Option<KeyCheckValue>,
}

/// Reads a retained cut. Independent of the engine, so that a volume can be attached, detached and
/// attached again while its snapshot is copied out.
pub struct CutReader {
    disk: Arc<dyn Disk>,
    cut: CutRecord,
    key_check: Option<KeyCheckValue>,
    since: Option<u32>,
    salts: SaltList,
    nodes: Mutex<Nodes>,
    compared: Mutex<Compared>,
}

impl CutReader {
    fn new(disk: Arc<dyn Disk>, structure: StructureKey, table: &SegmentTable, view: View) -> Self {
        let View { cut, since, key_check } = view;
        let geometry = table.geometry();
        let salts = table.iter().map(|(_, segment)| segment.salt).collect();
        let nodes = Nodes::new(Arc::clone(&disk), structure, geometry, READER_PAGES, READER_KEYS);
        let (salts, nodes) = (SaltList { geometry, salts }, Mutex::new(nodes));
        Self { disk, cut, key_check, since, salts, nodes, compared: Mutex::default() }
    }

    /// Which cut this is.
    pub fn info(&self) -> CutInfo {
        let CutRecord { id, generation, volume_bytes, .. } = self.cut;
        CutInfo { id, generation, volume_bytes }
    }

    /// Recognises the volume's data key; `None` when the volume was never opened with one.
    pub fn key_check(&self) -> Option<KeyCheckValue> {
        self.key_check
    }

    fn nodes(&self) -> MutexGuard<'_, Nodes> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leaf(&self, block: u64) -> Result<Option<Arc<Page>>, Error> {
        self.nodes().leaf(&self.salts, self.cut.root, block)
    }

    fn load(&self, block: u64) -> Result<BlockPages, Error> {
        let mut pages = BlockPages::absent(block);
        let Some(leaf) = self.leaf(block)? else { return Ok(pages) };
        let mut at = 0;
        while at < PAGES_PER_BLOCK {
            let entry = leaf_entry(&leaf, at);
            if entry.is_stored() {
                at += self.load_run(&leaf, at, &mut pages)?;
            } else {
                if entry.location == ZERO {
                    pages.pages[at] = CutPage::Zero;
                }
                at += 1;
            }
        }
        Ok(pages)
    }

    /// One page as of the cut.
    ///
    /// # Errors
    /// When it or the structure that names it cannot be read.
    pub fn read_page(&self, lba: Lba) -> Result<CutPage, SourceError> {
        self.load_page(lba).map_err(|error| source_error(error, split(lba).0))
    }

    fn load_page(&self, lba: Lba) -> Result<CutPage, Error> {
        let (block, at) = split(lba);
        let Some(leaf) = self.leaf(block)? else { return Ok(CutPage::Absent) };
        let entry = leaf_entry(&leaf, at);
        if !entry.is_stored() {
            return Ok(if entry.location == ZERO { CutPage::Zero } else { CutPage::Absent });
        }
        let damaged = || Error::corrupt("map entry", entry.location);
        let (segment, position) = self.salts.geometry.split(entry.location).ok_or_else(damaged)?;
        let salt = *self.salts.salts.get(segment as usize).ok_or_else(damaged)?;
        let mut ciphertext = Box::new([0; PAGE_BYTES]);
        let at = byte_offset(entry.location);
        self.disk.read(at, &mut *ciphertext).map_err(Error::disk("read data"))?;
        let origin = PageOrigin { salt, position };
        Ok(CutPage::Sealed(SealedPage { origin, tag: entry.tag, ciphertext }))
    }

    /// Reads pages that lie side by side; returns how many.
    fn load_run(&self, leaf: &Page, first: usize, pages: &mut BlockPages) -> Result<usize, Error> {
        let start = leaf_entry(leaf, first).location;
        let geometry = self.salts.geometry;
        let damaged = || Error::corrupt("map entry", start);
        let (segment, position) = geometry.split(start).ok_or_else(damaged)?;
        let salt = *self.salts.salts.get(segment as usize).ok_or_else(damaged)?;
        let room = (geometry.segment_pages - position) as usize;
        let run = (first..PAGES_PER_BLOCK)
            .zip(start..)
            .take(room)
            .take_while(|(at, location)| leaf_entry(leaf, *at).location == *location)
            .count();
        let mut bytes = vec![0; run * PAGE_BYTES];
        let parts = bytes.chunks_mut(READ_BYTES_MAX);
        for (offset, part) in (byte_offset(start)..).step_by(READ_BYTES_MAX).zip(parts) {
            self.disk.read(offset, part).map_err(Error::disk("read data"))?;
        }
        let (chunks, _) = bytes.as_chunks::<PAGE_BYTES>();
        for (at, ciphertext) in chunks.iter().enumerate() {
            pages.pages[first + at] = CutPage::Sealed(SealedPage {
                origin: PageOrigin { salt, position: position + at as u32 },
                tag: leaf_entry(leaf, first + at).tag,
                ciphertext: Box::new(*ciphertext),
            });
        }
        Ok(run)
    }
}

impl CutSource for CutReader {
    fn volume_bytes(&self) -> u64 {
        self.cut.volume_bytes
    }

    fn changed_blocks(&self) -> Box<dyn Iterator<Item = Result<u64, SourceError>> + Send + '_> {
        let mut walk = Some(ChangedBlocks::new(self.cut.root, self.since));
        Box::new(std::iter::from_fn(move || {
            let under_way = walk.as_mut()?;
            let next = under_way.next(&mut self.nodes(), &self.salts);
            let next = next.map_err(|error| source_error(error, under_way.place()));
            if next.is_err() {
                walk = None;
            }
            next.transpose()
        }))
    }

    fn load_block(&self, block: u64) -> Result<BlockPages, SourceError> {
        self.load(block).map_err(|error| source_error(error, block))
    }

    fn compare_block(&self, block: u64) -> Result<u64, SourceError> {
        self.compare(block).map_err(|error| source_error(error, block))
    }
}

fn source_error(error: Error, block: u64) -> SourceError {
    match error {
        Error::Corrupt { what, .. } => SourceError::Corrupt { what, block },
        other => SourceError::Unavailable { cause: Box::new(other) },
    }
}
