//! The engine's parts, its creation and its end.

use super::cache::Cache;
use super::check::Corrections;
use super::checkpoint::{MapWriter, Merge};
use super::clean::{Emptied, Round};
use super::cold::ColdStream;
use super::delta::Layer;
use super::dropping::Dropping;
use super::layout::{EngineConfig, Geometry, SegmentIndex, check_size};
use super::lifetimes::Lifetimes;
use super::log::{ChunkEnd, Log};
use super::map::{EMPTY, Nodes};
use super::order::Scattered;
use super::page_cache::PageCache;
use super::pin::Pin;
use super::release::Dead;
use super::run::RunRef;
use super::segment::{SegmentKind, SegmentTable};
use super::settled::Settled;
use super::space::{Grant, Space, Unlimited};
use super::superblock::{CutId, LogHead, Superblock, TableRef};
use super::{Disk, Error};
use crate::page::{
    BaseReader, DataKey, KeyCheckValue, PAGE_BYTES, PageOpener, Salt, StructureKey, Tag,
};
use base::Rng;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Weak};

/// Fewest pages in a segment: a header, a chunk of a few pages, and a page to close it.
const SEGMENT_PAGES_MIN: u32 = 8;
/// Keys kept for segments of a base.
const BASE_KEY_COUNT: usize = 1024;

/// What a new volume is.
#[derive(Clone, Copy, Debug)]
pub struct VolumeOptions {
    /// Its size in bytes, a multiple of the page.
    pub size_bytes: u64,
    /// The check value of its data key, if the key is at hand; otherwise the first opening with a
    /// key fixes it.
    pub key_check: Option<KeyCheckValue>,
    /// The snapshot it falls through to where nothing was written.
    pub base: Option<CutId>,
}

/// The snapshot a volume falls through to.
#[derive(Clone)]
pub struct Base {
    /// Its id, as given when the volume was created.
    pub id: CutId,
    /// What reads it.
    pub reader: Arc<dyn BaseReader>,
    /// The data key of its pages, when that is not the volume's. Pages may come sealed under either: a
    /// base is sealed anew, page by page, while the volume is open. Each page's tag tells.
    pub key: Option<Arc<DataKey>>,
}

/// With what a volume is opened. Everything may be absent: then it can be cut, exported and
/// checkpointed, but not read or written.
#[derive(Default)]
pub struct OpenOptions {
    /// The data key, for reading and writing pages.
    pub data_key: Option<DataKey>,
    /// The snapshot it was created from, for reading pages it does not have itself.
    pub base: Option<Base>,
    /// The fencing epoch of the attachment that opens it. Every superblock written from then on
    /// carries it, and an attachment with an older one is refused. Without one the volume's own
    /// stays.
    pub writer: Option<u64>,
}

/// How much of a volume's file is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Pages something refers to, as of the last checkpoint.
    pub live_pages: u64,
    /// Segments that hold something.
    pub used_segments: u32,
    /// Bytes in a segment.
    pub segment_bytes: u64,
}

/// Memory an engine holds, by what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// 56 bytes for each segment that exists.
    pub segment_table_bytes: usize,
    /// Changes that are not in leaves of the map yet.
    pub delta_bytes: usize,
    /// Map pages.
    pub map_cache_bytes: usize,
}

/// What every part of an engine needs.
pub(super) struct Context {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) structure: StructureKey,
    pub(super) data: Option<Arc<DataKey>>,
    pub(super) rng: Arc<dyn Rng>,
    pub(super) geometry: Geometry,
    pub(super) config: EngineConfig,
}

/// One open volume.
pub struct Engine {
    pub(super) ctx: Context,
    pub(super) table: SegmentTable,
    pub(super) nodes: Nodes,
    pub(super) log: Log,
    pub(super) map: MapWriter,
    /// What the superblock says.
    pub(super) committed: Superblock,
    /// Bytes in the volume; the superblock's number follows with the next merge.
    pub(super) size: u64,
    /// Changes since the newest frozen layer.
    pub(super) active: Layer,
    /// Changes not merged yet, oldest first. The first is being merged while `merge` is present.
    pub(super) frozen: VecDeque<Arc<Layer>>,
    pub(super) merge: Option<Merge>,
    /// Cuts that are to be dropped. The first is being compared.
    pub(super) dropping: VecDeque<Dropping>,
    /// Changes that are stored, but not in leaves yet: older than every layer, newer than the map.
    pub(super) settled: Settled,
    /// The newest layer that is part of the committed state.
    pub(super) merged: u64,
    pub(super) base: Option<Arc<dyn BaseReader>>,
    /// The data key of the base's pages, where it is another than the volume's.
    pub(super) base_key: Option<Arc<DataKey>>,
    pub(super) openers: Cache<SegmentIndex, Arc<PageOpener>>,
    pub(super) base_openers: Cache<Salt, PageOpener>,
    /// Opened pages, while the data key is present and memory for them can be locked.
    pub(super) pages: Option<Arc<PageCache>>,
    /// Where the cleaner's copies go.
    pub(super) cold: ColdStream,
    /// The round of cleaning that has begun.
    pub(super) round: Option<Round>,
    /// One that was put off because a write waited.
    pub(super) put_off: Option<Round>,
    /// Segments whose live pages were copied out.
    pub(super) cleaned: BTreeMap<SegmentIndex, Emptied>,
    /// Segments of which a round left something.
    pub(super) unemptied: BTreeSet<SegmentIndex>,
    /// Segments that nothing refers to, and that are not free yet.
    pub(super) dead: Dead,
    pub(super) lifetimes: Lifetimes,
    /// What should be put in order.
    pub(super) scattered: Scattered,
    /// Pages the cleaner should copy before the guest writes more.
    pub(super) owed_pages: u64,
    /// Pages the cleaner owes for each that the guest writes.
    pub(super) excess_share: u64,
    /// The checkpoint as of which that share was reckoned.
    pub(super) paced: u64,
    /// What the segments may take that hold the live pages of the last checkpoint.
    pub(super) allowed_bytes: u64,
    pub(super) space: Arc<dyn Space>,
    /// What it granted last.
    pub(super) granted: Option<Grant>,
    pub(super) failed: bool,
    /// Who reads the stored state beside this engine.
    pub(super) pin: Arc<Pin>,
}

impl Engine {
    /// Writes an empty volume to an empty disk. Nothing of the data key is needed.
    ///
    /// # Errors
    /// When the size is not possible or the disk fails.
    pub fn create(
        disk: &dyn Disk,
        structure: &StructureKey,
        rng: &dyn Rng,
        config: &EngineConfig,
        options: &VolumeOptions,
    ) -> Result<(), Error> {
        check_size(options.size_bytes)?;
        let segment_pages = config.segment_bytes / PAGE_BYTES as u32;
        assert!(segment_pages >= SEGMENT_PAGES_MIN, "segments of {segment_pages} pages are no use");
        let mut table = SegmentTable::new(Geometry { segment_pages });
        let salt = Salt::generate(rng);
        let segment = table.allocate(SegmentKind::Log, salt, 0, 1)?;
        let mut map = MapWriter::new();
        let stored = map.seal_table(disk, structure, rng, &mut table, 0)?;
        map.write_out(disk)?;
        let superblock = Superblock {
            slot: 0,
            epoch: 1,
            incarnation: 0,
            writer: 0,
            volume_bytes: options.size_bytes,
            segment_pages,
            root: EMPTY,
            runs: RunRef::NONE,
            head: LogHead {
                sequence: 1,
                previous: Tag([0; 16]),
                segment,
                position: 0,
                generation: 1,
            },
            table: stored,
            key_check: options.key_check,
            base: options.base,
            cuts: Vec::new(),
            exports: Vec::new(),
        };
        disk.flush().map_err(Error::disk("flush a new volume"))?;
        superblock.store(disk, structure, rng)
    }

    /// Opens a volume: finds the newest superblock, replays the log, and starts a new incarnation.
    ///
    /// # Errors
    /// When the volume is damaged, the disk fails, or a key or base is not the volume's.
    pub fn open(
        disk: Arc<dyn Disk>,
        structure: StructureKey,
        rng: Arc<dyn Rng>,
        config: EngineConfig,
        options: OpenOptions,
    ) -> Result<Self, Error> {
        let (pin, corrections) = (Arc::default(), Corrections::default());
        Self::open_pinned(disk, structure, rng, config, options, pin, &corrections)
    }

    /// As [`Engine::open`], beside readers who hold `pin`, and with the segment table corrected.
    ///
    /// # Errors
    /// As [`Engine::open`].
    pub fn open_pinned(
        disk: Arc<dyn Disk>,
        structure: StructureKey,
        rng: Arc<dyn Rng>,
        config: EngineConfig,
        options: OpenOptions,
        pin: Arc<Pin>,
        corrections: &Corrections,
    ) -> Result<Self, Error> {
        // Whatever is read below must not be lost by a power cut later.
        disk.flush().map_err(Error::disk("flush before recovery"))?;
        disk.forget_cached().map_err(Error::disk("read anew what was flushed"))?;
        let mut engine = Self::load(disk, structure, rng, config)?;
        engine.pin = pin;
        let loaded = engine.committed.clone();
        engine.committed.take_over(options.writer)?;
        // Not before a newer attachment's volume has refused this one.
        let ctx = &engine.ctx;
        loaded.store_in_other(&*ctx.disk, &ctx.structure, &*ctx.rng)?;
        engine.table.apply(&corrections.accounting())?;
        let unused = engine.table.release_unused(engine.committed.head.segment);
        if !unused.is_empty() {
            // They are written anew, and whoever reads what was stored may need them.
            engine.pin.overtake();
        }
        if let Some(base) = options.base {
            engine.attach_base(base)?;
        }
        engine.check_key(options.data_key.as_ref())?;
        engine.recover(options.data_key.as_ref().map(DataKey::check_value))?;
        engine.note_unused(unused);
        engine.hold_key(options.data_key);
        Ok(engine)
    }

    /// The state of the last checkpoint, as it is stored. Nothing is written; the result is only
    /// for reading until [`Engine::recover`] has run.
    pub(super) fn load(
        disk: Arc<dyn Disk>,
        structure: StructureKey,
        rng: Arc<dyn Rng>,
        config: EngineConfig,
    ) -> Result<Self, Error> {
        let committed = Superblock::load(&*disk, &structure)?;
        let geometry = Geometry { segment_pages: committed.segment_pages };
        let (table_ref, head) = (committed.table, committed.head);
        let table = SegmentTable::load(geometry, table_ref, &*disk, &structure)?;
        let settled = Settled::load(&committed, &table, &*disk, &structure)?;
        let pages = (config.map_cache_bytes - config.settled_bytes_max()) / PAGE_BYTES;
        let nodes = Nodes::new(
            Arc::clone(&disk),
            structure.duplicate(),
            geometry,
            pages,
            config.key_cache_count,
        );
        let head_salt = table.get(head.segment).map(|segment| segment.salt);
        let head_salt =
            head_salt.ok_or_else(|| Error::corrupt("log head", geometry.start(head.segment)))?;
        Ok(Self {
            ctx: Context { disk, structure, data: None, rng, geometry, config },
            table,
            nodes,
            log: Log::new(LogHead { position: 0, ..head }, head_salt, committed.incarnation),
            map: MapWriter::new(),
            size: committed.volume_bytes,
            committed,
            active: Layer::new(1),
            settled,
            frozen: VecDeque::new(),
            merge: None,
            dropping: VecDeque::new(),
            merged: 0,
            base: None,
            base_key: None,
            openers: Cache::new(config.key_cache_count),
            base_openers: Cache::new(BASE_KEY_COUNT),
            pages: None,
            cold: ColdStream::default(),
            round: None,
            put_off: None,
            cleaned: BTreeMap::new(),
            unemptied: BTreeSet::new(),
            dead: Dead::default(),
            lifetimes: Lifetimes::default(),
            scattered: Scattered::default(),
            owed_pages: 0,
            excess_share: 0,
            paced: 0,
            allowed_bytes: 0,
            space: Arc::new(Unlimited),
            granted: None,
            failed: false,
            pin: Arc::default(),
        })
    }

    /// Through which others keep the space of the volume's stored state while they read it.
    pub fn pin(&self) -> Arc<Pin> {
        Arc::clone(&self.pin)
    }

    /// Gives the data key to a volume that was opened without it.
    ///
    /// # Errors
    /// When it is not the volume's key, or noting a first key fails.
    pub fn unlock(&mut self, key: DataKey) -> Result<(), Error> {
        self.check_key(Some(&key))?;
        if self.committed.key_check.is_none() {
            self.mutate(|engine| {
                engine.committed.key_check = Some(key.check_value());
                engine.commit()
            })?;
        }
        self.hold_key(Some(key));
        Ok(())
    }

    fn hold_key(&mut self, key: Option<DataKey>) {
        if key.is_some() && self.pages.is_none() {
            let cache = PageCache::new(self.ctx.config.read_cache_bytes).unwrap_or_else(|error| {
                tracing::warn!(%error, "a volume goes without a read cache: memory is not locked");
                None
            });
            self.pages = cache.map(Arc::new);
        }
        if key.is_some() && self.log.takes_tail() {
            match self.ctx.disk.begin_tail() {
                Ok(None) => {}
                Ok(Some(buffer)) => self.log.use_tail(&self.ctx, buffer),
                Err(error) => tracing::warn!(
                    %error,
                    "what is written and not flushed is lost if this process is killed: no tail"
                ),
            }
        }
        self.ctx.data = key.map(Arc::new);
    }

    /// Makes `writer` the attachment that the superblock names from now on.
    ///
    /// # Errors
    /// When a newer attachment has opened the volume, or the disk fails.
    pub fn take_over(&mut self, writer: Option<u64>) -> Result<(), Error> {
        let before = self.committed.writer;
        self.committed.take_over(writer)?;
        if self.committed.writer == before {
            return Ok(());
        }
        self.mutate(Self::commit)
    }

    /// Wipes the data key, every key derived from it, and what was opened with them; see
    /// [`Engine::weak_key`]. Cuts and exports go on. Plans of reads must have been carried out.
    pub fn lock(&mut self) {
        self.ctx.data = None;
        self.base_key = None;
        self.pages = None;
        self.log.forget_key();
        self.cold.close();
        (self.round, self.put_off) = (None, None);
        self.openers.clear();
        self.base_openers.clear();
    }

    /// Gives the base to a volume that was opened without it.
    ///
    /// # Errors
    /// When the volume was not created from it.
    pub fn attach_base(&mut self, base: Base) -> Result<(), Error> {
        if self.committed.base != Some(base.id) {
            return Err(Error::WrongBase);
        }
        self.base = Some(base.reader);
        self.base_key = base.key;
        self.base_openers.clear();
        Ok(())
    }

    /// Wipes the base's data key: from now on the base gives pages under the volume's own.
    pub fn forget_base_key(&mut self) {
        self.base_key = None;
        self.base_openers.clear();
    }

    /// Writes everything out and merges it, so that the next opening replays nothing.
    ///
    /// # Errors
    /// When the disk fails; what was flushed before is safe.
    pub fn close(mut self) -> Result<(), Error> {
        self.active.is_for_leaves = true;
        self.checkpoint()?;
        self.mutate(Self::empty_settled)?;
        self.give_back_all();
        self.end_tail();
        Ok(())
    }

    /// Every chunk is durable and part of the committed state.
    pub(super) fn end_tail(&self) {
        if let Err(error) = self.ctx.disk.end_tail() {
            tracing::warn!(%error, "a volume's tail stays behind; it takes space and nothing else");
        }
    }

    /// Bytes in the volume.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Makes the volume larger. The new part reads as zeros. It costs a chunk and a flush, like a
    /// cut; a volume that has the size already stays as it is.
    ///
    /// # Errors
    /// When the size is smaller than now, not possible, or the disk fails.
    pub fn resize(&mut self, size_bytes: u64) -> Result<(), Error> {
        check_size(size_bytes)?;
        if size_bytes < self.size() {
            return Err(Error::BadSize { size: size_bytes });
        }
        if size_bytes == self.size() {
            return Ok(());
        }
        self.mutate(|engine| {
            let end = ChunkEnd::Resize(size_bytes);
            engine.log.write_chunk(&engine.ctx, &mut engine.table, engine.active.id, end)?;
            engine.sync()?;
            // Not before it is durable: nothing may be acknowledged that lies behind the old end.
            engine.size = size_bytes;
            Ok(())
        })
    }

    /// The snapshot the volume falls through to.
    pub fn base_id(&self) -> Option<CutId> {
        self.committed.base
    }

    /// Whether the data key is present.
    pub fn is_unlocked(&self) -> bool {
        self.ctx.data.is_some()
    }

    /// The data key, if it is present, for who proves pages in another thread: it ends with
    /// [`Engine::lock`], or with the proof that is being made then.
    pub fn weak_key(&self) -> Option<Weak<DataKey>> {
        self.ctx.data.as_ref().map(Arc::downgrade)
    }

    /// Grows with every checkpoint.
    pub fn epoch(&self) -> u64 {
        self.committed.epoch
    }

    /// How much of the file is used.
    pub fn usage(&self) -> Usage {
        Usage {
            live_pages: self.table.live(),
            used_segments: self.table.used(),
            segment_bytes: self.ctx.geometry.segment_bytes(),
        }
    }

    /// The memory that grows with the volume or with what is written to it. Each part has its bound:
    /// [`EngineConfig`] says which.
    pub fn memory(&self) -> Memory {
        let layers = self.frozen.iter().map(|layer| layer.bytes);
        let noted = self.merge.as_ref().map_or(0, Merge::noted_bytes);
        Memory {
            segment_table_bytes: self.table.memory_bytes(),
            delta_bytes: self.active.bytes + layers.sum::<usize>() + self.settled.bytes + noted,
            map_cache_bytes: self.nodes.memory_bytes(),
        }
    }

    /// Runs something that changes the disk. After a failure nothing more is accepted: positions
    /// may have been used and earlier writes may be lost.
    pub(super) fn mutate<T>(
        &mut self,
        change: impl FnOnce(&mut Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        if self.failed {
            return Err(Error::Failed);
        }
        let result = change(self);
        self.failed |=
            matches!(result, Err(Error::Disk { .. } | Error::Corrupt { .. } | Error::Full));
        result
    }

    fn check_key(&self, key: Option<&DataKey>) -> Result<(), Error> {
        match (key, self.committed.key_check) {
            (Some(key), Some(expected)) if key.check_value() != expected => Err(Error::WrongKey),
            _ => Ok(()),
        }
    }
}

impl TableRef {
    pub(super) const NONE: Self =
        Self { location: 0, tag: Tag([0; 16]), salt: Salt([0; 32]), count: 0 };
}
