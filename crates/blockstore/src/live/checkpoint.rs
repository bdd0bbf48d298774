//! Merging frozen layers into the stored map, and making the result the volume's state.
//!
//! A merge visits the blocks of a layer, and of what is settled ([`super::settled`]), in order and
//! rewrites each leaf and the path above it. A layer of a few changes is not merged but settled. Both
//! run in steps, so that requests can be served in between; nothing of it is stored for good before
//! [`Engine::commit`] has stored a superblock that names the new root, or the new run. Space is given
//! back only after that.

use super::damage::lost_page;
use super::delta::{BlockDelta, Layer};
use super::dropping::Watch;
use super::engine::{Context, Engine};
use super::layout::{CHUNK_ENTRIES_MAX, Geometry, Location, SegmentIndex, byte_offset, height_for};
use super::log::ChunkEnd;
use super::map::{
    Nodes, Part, child, identity, leaf_entry, put_leaf_changed, put_leaf_entry, slot_of,
};
use super::run::RunRef;
use super::segment::{Accounting, SegmentKind, SegmentTable};
use super::settled::{Settled, Settling};
use super::superblock::{CutRecord, NodeRef, Root, Superblock, TableRef};
use super::{CutId, Disk, Error};
use crate::page::{
    PAGE_BYTES, PAGES_PER_BLOCK, Page, Salt, StructureKey, StructureKind, StructureSealer, Tag,
};
use base::Rng;
use std::sync::Arc;

/// Map pages gathered before they are written.
const MAP_BUFFER_PAGES: usize = 128;
/// Layers waiting to be merged before a cut has to wait for one.
const LAYERS_MAX: usize = 8;
/// Log bytes below which the smallest volume is not checkpointed.
const CHECKPOINT_LOG_BYTES_MIN: u64 = 256 << 20;
/// The part of what its live data may take that a volume's log may grow by between checkpoints.
const LOG_SHARE: u64 = 8;
/// But no checkpoint is made for less than this.
const LOG_BYTES_MIN: u64 = 64 << 20;
/// Segments' worth of discarded pages after which a checkpoint gives them back.
const DISCARDED_SEGMENTS: u64 = 4;
/// Blocks merged per call of [`Engine::maintain`].
pub(super) const MERGE_STEP_BLOCKS: usize = 32;

/// Writes map pages and table pages, one after the other, to segments of their own.
pub(super) struct MapWriter {
    open: Option<OpenMap>,
    buffer: Vec<u8>,
    buffer_first: Location,
}

struct OpenMap {
    index: SegmentIndex,
    sealer: StructureSealer,
    position: u32,
}

impl MapWriter {
    pub(super) fn new() -> Self {
        Self { open: None, buffer: Vec::new(), buffer_first: 0 }
    }

    /// The segment being filled; it must not be released.
    pub(super) fn segment(&self) -> Option<SegmentIndex> {
        self.open.as_ref().map(|open| open.index)
    }

    /// Makes sure that another page fits the segment being filled.
    fn reserve(
        &mut self,
        disk: &dyn Disk,
        structure: &StructureKey,
        rng: &dyn Rng,
        table: &mut SegmentTable,
        layer: u64,
    ) -> Result<(), Error> {
        if let Some(open) = &self.open
            && open.position < table.geometry.segment_pages
        {
            table.touch(open.index, layer);
            return Ok(());
        }
        self.write_out(disk)?;
        self.open = Some(OpenMap::new(structure, rng, table, layer)?);
        Ok(())
    }

    /// Seals a page at the next position. The segment must have room.
    fn push(
        &mut self,
        geometry: Geometry,
        kind: StructureKind,
        id: u64,
        page: &mut Page,
    ) -> (Location, Tag) {
        let open = self.open.as_mut().expect("reserve was called");
        let location = geometry.locate(open.index, open.position);
        let tag = open.sealer.seal_at(open.position, kind, id, page);
        if self.buffer.is_empty() {
            self.buffer_first = location;
        }
        self.buffer.extend_from_slice(page);
        open.position += 1;
        (location, tag)
    }

    /// Writes a map page for `layer`.
    fn write(
        &mut self,
        ctx: &Context,
        table: &mut SegmentTable,
        layer: u64,
        (kind, id): (StructureKind, u64),
        page: &Page,
    ) -> Result<(Location, Tag), Error> {
        if self.buffer.len() >= MAP_BUFFER_PAGES * PAGE_BYTES {
            self.write_out(&*ctx.disk)?;
        }
        self.reserve(&*ctx.disk, &ctx.structure, &*ctx.rng, table, layer)?;
        let mut sealed = *page;
        Ok(self.push(ctx.geometry, kind, id, &mut sealed))
    }

    /// Hands gathered pages to the disk.
    pub(super) fn write_out(&mut self, disk: &dyn Disk) -> Result<(), Error> {
        if !self.buffer.is_empty() {
            disk.write(byte_offset(self.buffer_first), &self.buffer)
                .map_err(Error::disk("write map pages"))?;
            self.buffer.clear();
        }
        Ok(())
    }

    /// Seals the segment table, whose counts include the pages it is stored in. That of a large
    /// volume takes several segments.
    pub(super) fn seal_table(
        &mut self,
        disk: &dyn Disk,
        structure: &StructureKey,
        rng: &dyn Rng,
        table: &mut SegmentTable,
        layer: u64,
    ) -> Result<TableRef, Error> {
        let more = self.reserve_table(structure, rng, table, layer)?;
        let (geometry, pages) = (table.geometry, table.stored_pages());
        let opened = self.open.iter().chain(&more);
        let places = opened.flat_map(|open| {
            let free = open.position..geometry.segment_pages;
            free.map(|position| geometry.locate(open.index, position))
        });
        // Each page proves the one after it: the last is written first.
        let mut places: Vec<Location> = places.take(pages).collect();
        places.reverse();
        table.place(places)?;
        let mut more = more.into_iter();
        let mut next = None;
        for index in (0..pages).rev() {
            if self.buffer.len() >= MAP_BUFFER_PAGES * PAGE_BYTES {
                self.write_out(disk)?;
            }
            if self.room(geometry) == 0 {
                self.write_out(disk)?;
                self.open = more.next();
            }
            let open = self.open.as_ref().expect("there is room for all pages");
            let salt = open.sealer.salt();
            let mut page = table.encode_page(index, next);
            let (location, tag) =
                self.push(geometry, StructureKind::SegmentTable, index as u64, &mut page);
            next = Some(TableRef { location, tag, salt, count: table.len() as u32 });
        }
        Ok(next.unwrap_or(TableRef::NONE))
    }

    /// The segments that the table needs beside the one being filled. Each of them may add a page to
    /// it.
    fn reserve_table(
        &self,
        structure: &StructureKey,
        rng: &dyn Rng,
        table: &mut SegmentTable,
        layer: u64,
    ) -> Result<Vec<OpenMap>, Error> {
        let geometry = table.geometry;
        if let Some(open) = &self.open {
            table.touch(open.index, layer);
        }
        let mut more = Vec::new();
        let mut room = self.room(geometry) as usize;
        while table.stored_pages() > room {
            more.push(OpenMap::new(structure, rng, table, layer)?);
            room += geometry.segment_pages as usize;
        }
        Ok(more)
    }

    /// Pages that still fit the segment being filled.
    fn room(&self, geometry: Geometry) -> u32 {
        self.open.as_ref().map_or(0, |open| geometry.segment_pages - open.position)
    }
}

impl OpenMap {
    fn new(
        structure: &StructureKey,
        rng: &dyn Rng,
        table: &mut SegmentTable,
        layer: u64,
    ) -> Result<Self, Error> {
        let salt = Salt::generate(rng);
        let index = table.allocate(SegmentKind::Map, salt, layer, 0)?;
        Ok(Self { index, sealer: structure.sealer(salt), position: 0 })
    }
}

/// A layer on its way to be part of the stored state.
pub(super) enum Merge {
    Leaves(LeafMerge),
    Run(Settling),
}

/// A layer, and all that is settled, on their way into the stored map.
pub(super) struct LeafMerge {
    layer: Arc<Layer>,
    /// The blocks of both, ascending.
    blocks: Vec<u64>,
    next: usize,
    old: Root,
    /// Bytes of the volume that it maps.
    old_bytes: u64,
    height: u8,
    /// The generation written into new pages.
    generation: u32,
    /// Pages written in this generation or before belong to a retained cut.
    fence: u32,
    /// Inner nodes being filled, the top first.
    path: Vec<OpenNode>,
    accounting: Accounting,
    /// What is replaced and belongs to the newest cut, while that is being dropped.
    watch: Option<Watch>,
}

struct OpenNode {
    level: u8,
    /// The first block below it.
    first: u64,
    page: Box<Page>,
    part: Part,
}

impl Merge {
    fn is_done(&self) -> bool {
        match self {
            Self::Leaves(merge) => merge.is_done(),
            Self::Run(settling) => settling.is_done(),
        }
    }

    fn step(&mut self, parts: &mut Parts<'_>) -> Result<(), Error> {
        match self {
            Self::Leaves(merge) => merge.step(parts),
            Self::Run(settling) => settling.step(parts),
        }
    }

    /// Memory of what it notes beside the layer.
    pub(super) fn noted_bytes(&self) -> usize {
        match self {
            Self::Leaves(merge) => merge.watch.as_ref().map_or(0, Watch::bytes),
            Self::Run(_) => 0,
        }
    }
}

/// What a merge has come to.
struct Merged {
    layer: Arc<Layer>,
    root: Root,
    runs: RunRef,
    accounting: Accounting,
    /// Whether the map has lost something that only a merge into leaves replaces.
    met_loss: bool,
    watch: Option<Watch>,
}

impl LeafMerge {
    fn new(
        layer: Arc<Layer>,
        settled: &Settled,
        committed: &Superblock,
        fence: u32,
        watch: Option<Watch>,
    ) -> Self {
        let (old, old_bytes) = (committed.root, committed.volume_bytes);
        let end = layer.end.expect("only frozen layers are merged");
        let generation = layer.cut.map_or(end.generation, |cut| cut.generation);
        let mut blocks: Vec<u64> =
            layer.blocks.keys().chain(settled.blocks.keys()).copied().collect();
        blocks.sort_unstable();
        blocks.dedup();
        let height = height_for(layer.volume_bytes).max(old.height);
        // A map that grows gets its new top nodes above its first child, so that one is visited.
        if height > old.height && !old.node.is_absent() && blocks.first().is_some_and(|b| *b != 0) {
            blocks.insert(0, 0);
        }
        let accounting = Accounting::default();
        Self {
            layer,
            blocks,
            next: 0,
            old,
            old_bytes,
            height,
            generation,
            fence,
            path: Vec::new(),
            accounting,
            watch,
        }
    }

    fn is_done(&self) -> bool {
        self.next == self.blocks.len()
    }

    /// Merges one block.
    fn step(&mut self, parts: &mut Parts<'_>) -> Result<(), Error> {
        let block = self.blocks[self.next];
        self.descend(parts, block)?;
        let parent = self.path.last().expect("descend opens the path down to level 1");
        let slot = slot_of(block, 1);
        let old = child(&parent.page, slot);
        let nothing = BlockDelta::default();
        let layer = Arc::clone(&self.layer);
        let delta = layer.blocks.get(&block).unwrap_or(&nothing);
        let new = self.merge_leaf(parts, block, old, delta)?;
        let parent = self.path.last_mut().expect("as above");
        new.encode(&mut parent.page[..], slot * NodeRef::BYTES);
        self.next += 1;
        Ok(())
    }

    fn merge_leaf(
        &mut self,
        parts: &mut Parts<'_>,
        block: u64,
        old: NodeRef,
        delta: &BlockDelta,
    ) -> Result<NodeRef, Error> {
        let mut leaf = if old.is_absent() {
            Arc::new([0; PAGE_BYTES])
        } else {
            self.free(parts, 0, block, (old.location, old.written));
            let lost = || Arc::new(lost_page(&old, 0, block, self.old_bytes));
            parts.read_old(&old, 0, block)?.unwrap_or_else(lost)
        };
        let page = Arc::make_mut(&mut leaf);
        let mut changed = 0;
        for at in 0..PAGES_PER_BLOCK {
            let mut entry = leaf_entry(page, at);
            // What that hides was counted when it was settled.
            if let Some(settled) = parts.settled.get(block, at) {
                entry = *settled;
                put_leaf_entry(page, at, &entry);
            }
            if let Some(new) = delta.get(at) {
                if entry.is_stored() {
                    self.free(parts, 0, block, (entry.location, entry.written));
                }
                entry = *new;
                put_leaf_entry(page, at, &entry);
            }
            changed = entry.birth.max(changed);
        }
        put_leaf_changed(page, changed);
        let (location, tag) = parts.write(self.layer.id, identity(0, block), page)?;
        self.count(parts, location);
        let node = NodeRef { location, tag, written: self.generation, changed };
        parts.nodes.remember(&node, leaf);
        Ok(node)
    }

    /// Opens the nodes that lead to `block`, after closing those that do not.
    fn descend(&mut self, parts: &mut Parts<'_>, block: u64) -> Result<(), Error> {
        let covers =
            |node: &OpenNode| identity(node.level, node.first) == identity(node.level, block);
        while self.path.last().is_some_and(|node| !covers(node)) {
            self.close_last(parts)?;
        }
        loop {
            let (level, part) = match self.path.last() {
                None => (self.height, Part::top(self.old, self.height)),
                Some(parent) if parent.level == 1 => return Ok(()),
                Some(parent) => {
                    (parent.level - 1, self.below(parent, slot_of(block, parent.level)))
                }
            };
            let page = match part {
                Part::Stored(node) => {
                    let found = parts.read_old(&node, level, block)?.map(|page| *page);
                    let lost = || lost_page(&node, level, block, self.old_bytes);
                    Box::new(found.unwrap_or_else(lost))
                }
                Part::Above(root) if root.height + 1 == level => {
                    // The old root becomes the first child as it is.
                    let mut page = Box::new([0; PAGE_BYTES]);
                    root.node.encode(&mut page[..], 0);
                    page
                }
                Part::Absent | Part::Above(_) => Box::new([0; PAGE_BYTES]),
            };
            self.path.push(OpenNode { level, first: block, page, part });
        }
    }

    fn below(&self, parent: &OpenNode, slot: usize) -> Part {
        match parent.part {
            Part::Above(root) if slot == 0 && root.height + 1 < parent.level => {
                Part::top(self.old, parent.level - 1)
            }
            _ => {
                let node = child(&parent.page, slot);
                if node.is_absent() { Part::Absent } else { Part::Stored(node) }
            }
        }
    }

    /// Writes the lowest open node and notes it in the one above.
    fn close_last(&mut self, parts: &mut Parts<'_>) -> Result<Root, Error> {
        let node = self.path.pop().expect("only called while a node is open");
        if let Part::Stored(old) = &node.part {
            self.free(parts, node.level, node.first, (old.location, old.written));
        }
        let children = (0..).map_while(|slot| {
            (slot < PAGE_BYTES / NodeRef::BYTES).then(|| child(&node.page, slot))
        });
        let changed = children.map(|child| child.changed).max().unwrap_or(0);
        let identity = identity(node.level, node.first);
        let (location, tag) = parts.write(self.layer.id, identity, &node.page)?;
        self.count(parts, location);
        let reference = NodeRef { location, tag, written: self.generation, changed };
        parts.nodes.remember(&reference, Arc::new(*node.page));
        if let Some(parent) = self.path.last_mut() {
            let slot = slot_of(node.first, parent.level);
            reference.encode(&mut parent.page[..], slot * NodeRef::BYTES);
        }
        Ok(Root { node: reference, height: node.level })
    }

    /// Closes everything that is open.
    fn finish(&mut self, parts: &mut Parts<'_>) -> Result<Root, Error> {
        let mut root = self.old;
        while !self.path.is_empty() {
            root = self.close_last(parts)?;
        }
        Ok(root)
    }

    /// Counts as dead what is replaced unless a cut still has it: a map page of a block at `level`, or a
    /// page below its leaf, and the generation it was written in.
    fn free(
        &mut self,
        parts: &Parts<'_>,
        level: u8,
        block: u64,
        (location, written): (Location, u32),
    ) {
        if written > self.fence {
            self.accounting.free(parts.table.geometry, location);
        } else if let Some(watch) = &mut self.watch {
            watch.note(level, block, location, written);
        }
    }

    fn count(&mut self, parts: &Parts<'_>, location: Location) {
        self.accounting.count(parts.table.geometry, location);
    }
}

/// The parts of an engine that a merge works with.
pub(super) struct Parts<'a> {
    pub(super) ctx: &'a Context,
    pub(super) table: &'a mut SegmentTable,
    pub(super) nodes: &'a mut Nodes,
    map: &'a mut MapWriter,
    pub(super) settled: &'a mut Settled,
}

impl Parts<'_> {
    pub(super) fn write(
        &mut self,
        layer: u64,
        identity: (StructureKind, u64),
        page: &Page,
    ) -> Result<(Location, Tag), Error> {
        self.map.write(self.ctx, self.table, layer, identity, page)
    }
}

impl Engine {
    /// Does a bounded part of the work that is due: merging, and flushing a long log.
    ///
    /// Returns whether more is due. Call it after requests and while idle.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn maintain(&mut self) -> Result<bool, Error> {
        self.mutate(|engine| {
            let config = engine.ctx.config;
            if engine.log.bytes_since_flush > config.flush_log_bytes {
                engine.sync()?;
            }
            // What a small volume overwrites is given back before its log is many times its size,
            // or much longer than what its live data may take.
            let log_bytes_max = config
                .checkpoint_log_bytes
                .min(engine.size().max(CHECKPOINT_LOG_BYTES_MIN))
                .min(engine.allowed_bytes / LOG_SHARE)
                .max(LOG_BYTES_MIN.min(config.checkpoint_log_bytes));
            let due = engine.active.bytes > config.delta_bytes_max
                || engine.log.bytes_since_checkpoint > log_bytes_max
                || engine.active.zeroed_pages > engine.discarded_pages_max()
                || engine.is_space_wanted();
            // A second full layer may not grow while another is merged: writers wait here.
            let steps =
                if due && !engine.frozen.is_empty() { usize::MAX } else { MERGE_STEP_BLOCKS };
            if due && engine.frozen.is_empty() {
                engine.freeze(None)?;
            }
            engine.merge_steps(steps)?;
            Ok(!engine.frozen.is_empty())
        })
    }

    fn discarded_pages_max(&self) -> u64 {
        DISCARDED_SEGMENTS * u64::from(self.ctx.geometry.segment_pages)
    }

    /// Whether a flush elsewhere would soon save [`Engine::maintain`] from flushing itself, for
    /// which everybody has to wait.
    pub fn is_flush_near(&self) -> bool {
        self.log.bytes_since_flush > self.ctx.config.flush_log_bytes / 2
    }

    /// Merges or settles everything, stores a superblock after which nothing needs replay, and gives back
    /// what is dead.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn checkpoint(&mut self) -> Result<(), Error> {
        self.mutate(|engine| {
            let resized = engine.size != engine.committed.volume_bytes;
            if resized || !engine.active.is_empty() || !engine.log.is_chunk_empty() {
                engine.freeze(None)?;
            }
            engine.merge_all()?;
            engine.give_back_all();
            Ok(())
        })
    }

    /// Ends the active layer, with a cut or without.
    pub(super) fn freeze(&mut self, cut: Option<CutId>) -> Result<(), Error> {
        self.make_room_for_layer()?;
        if cut.is_some() || !self.log.is_chunk_empty() {
            let end = cut.map_or(ChunkEnd::Plain, ChunkEnd::Cut);
            self.log.write_chunk(&self.ctx, &mut self.table, self.active.id, end)?;
        }
        self.seal_layer(cut);
        if cut.is_some() {
            // What follows is merged by itself.
            self.granted = None;
        }
        self.log.bytes_since_checkpoint = 0;
        Ok(())
    }

    /// Merges until another layer may be frozen.
    pub(super) fn make_room_for_layer(&mut self) -> Result<(), Error> {
        while self.frozen.len() >= LAYERS_MAX {
            self.merge_steps(usize::MAX)?;
        }
        Ok(())
    }

    /// The part of [`Engine::freeze`] that replay shares: the chunk is in the log already.
    pub(super) fn seal_layer(&mut self, cut: Option<CutId>) {
        let next = Layer::new(self.active.id + 1);
        let mut layer = std::mem::replace(&mut self.active, next);
        layer.cut = cut.map(|id| super::delta::PendingCut {
            id,
            generation: self.log.generation,
            volume_bytes: self.size,
        });
        self.log.generation += u32::from(cut.is_some());
        let head = self.log.head();
        layer.end = Some(head);
        layer.volume_bytes = self.size;
        self.table.touch(head.segment, self.active.id);
        self.frozen.push_back(Arc::new(layer));
    }

    /// Merges every frozen layer.
    pub(super) fn merge_all(&mut self) -> Result<(), Error> {
        while !self.frozen.is_empty() {
            self.merge_steps(usize::MAX)?;
        }
        Ok(())
    }

    /// Merges or settles up to `steps` blocks of the oldest frozen layer, and commits when it is done.
    pub(super) fn merge_steps(&mut self, steps: usize) -> Result<(), Error> {
        let mut merge = match self.merge.take() {
            Some(merge) => merge,
            None => match self.frozen.front() {
                Some(layer) => self.begin_merge(Arc::clone(layer)),
                None => return Ok(()),
            },
        };
        let mut parts = Parts {
            ctx: &self.ctx,
            table: &mut self.table,
            nodes: &mut self.nodes,
            map: &mut self.map,
            settled: &mut self.settled,
        };
        for _ in 0..steps {
            if merge.is_done() {
                break;
            }
            merge.step(&mut parts)?;
        }
        if !merge.is_done() {
            self.merge = Some(merge);
            return Ok(());
        }
        let merged = match merge {
            Merge::Run(mut settling) => {
                let (root, runs) = (self.committed.root, settling.finish(&mut parts)?);
                let Settling { layer, accounting, met_loss, .. } = settling;
                Merged { layer, root, runs, accounting, met_loss, watch: None }
            }
            Merge::Leaves(mut merge) => {
                let (root, runs) = (merge.finish(&mut parts)?, RunRef::NONE);
                let LeafMerge { layer, accounting, watch, .. } = merge;
                Merged { layer, root, runs, accounting, met_loss: false, watch }
            }
        };
        self.adopt(merged)?;
        self.commit()
    }

    fn begin_merge(&self, layer: Arc<Layer>) -> Merge {
        let fence = self.merged_fence();
        let (root, settled) = (self.committed.root, &self.settled);
        let admits = settled.admits(&layer, self.ctx.config.settled_bytes_max());
        if admits && self.dropping.is_empty() {
            Merge::Run(Settling::new(layer, root, self.committed.runs, fence))
        } else {
            let watch = self.watch_for_dropping();
            Merge::Leaves(LeafMerge::new(layer, settled, &self.committed, fence, watch))
        }
    }

    /// What was written in this generation or before belongs to a cut that is merged; 0 without one.
    pub(super) fn merged_fence(&self) -> u32 {
        self.committed.cuts.last().map_or(0, |cut| cut.generation)
    }

    /// Merges everything, so that nothing is settled only.
    pub(super) fn empty_settled(&mut self) -> Result<(), Error> {
        self.merge_all()?;
        if !self.settled.is_empty() {
            self.active.is_for_leaves = true;
            self.freeze(None)?;
            self.merge_all()?;
        }
        Ok(())
    }

    fn adopt(&mut self, merged: Merged) -> Result<(), Error> {
        let Merged { layer, root, runs, mut accounting, met_loss, watch } = merged;
        if let (Some(dropping), Some(watch)) = (self.dropping.front_mut(), watch) {
            dropping.overtake(self.ctx.geometry, &watch);
        }
        self.active.is_for_leaves |= met_loss;
        accounting.absorb(&layer.accounting);
        if runs == RunRef::NONE {
            // Their changes are in leaves now.
            for location in std::mem::take(&mut self.settled).pages {
                accounting.free(self.ctx.geometry, location);
            }
        }
        let round = self.round.as_ref();
        let is_emptied = |segment| {
            self.cleaned.contains_key(&segment)
                || round.is_some_and(|round| round.copies_from(segment))
        };
        self.lifetimes.note(&self.table, &accounting, is_emptied);
        self.table.apply(&accounting)?;
        self.committed.root = root;
        self.committed.runs = runs;
        self.committed.volume_bytes = layer.volume_bytes;
        self.committed.head = layer.end.expect("only frozen layers are merged");
        if let Some(cut) = layer.cut {
            self.committed.cuts.push(CutRecord {
                id: cut.id,
                generation: cut.generation,
                volume_bytes: cut.volume_bytes,
                root,
            });
        }
        self.merged = layer.id;
        self.frozen.pop_front();
        Ok(())
    }

    /// Stores the superblock with everything it refers to, then releases what it no longer does.
    pub(super) fn commit(&mut self) -> Result<(), Error> {
        let ctx = &self.ctx;
        let (disk, structure, rng) = (&*ctx.disk, &ctx.structure, &*ctx.rng);
        self.committed.table =
            self.map.seal_table(disk, structure, rng, &mut self.table, self.merged)?;
        self.map.write_out(disk)?;
        disk.flush().map_err(Error::disk("flush a checkpoint"))?;
        self.log.note_durable(self.log.written());
        self.committed.epoch += 1;
        self.committed.store(disk, structure, rng)?;
        self.settle_cleaned();
        self.note_dead();
        // What is dead is known anew: the cleaner looks at it soon.
        self.owed_pages += CHUNK_ENTRIES_MAX as u64;
        self.space.tell(self.need(0, 0));
        Ok(())
    }

    /// Segments that are being filled, or about to be, or that replay would begin in.
    pub(super) fn kept_segments(&self) -> Vec<SegmentIndex> {
        let mut kept = self.log.segments().to_vec();
        kept.extend(self.map.segment());
        kept.extend(self.cold.segment());
        kept.push(self.committed.head.segment);
        kept
    }
}
