//! Making a new manifest out of an old one, and the packs that go with it.

use super::Error;
use super::frame::Frame;
use super::node::{
    BLOCKS_MAX, Child, Children, FAN_OUT, Facts, Leaf, Pointer, ROOT_ID, RootRecord, encode_inner,
    inner_id, leaf_id,
};
use super::pack::{ItemRef, PackBuilder, PackId, PackIds, PackKind, WriterId};
use super::root::SnapshotRoot;
use super::store::SnapshotStore;
use crate::page::StructureKind;
use std::collections::{BTreeMap, BTreeSet};

/// Writes one snapshot: frames into packs, pointers into a tree that shares what did not change.
///
/// Nothing refers to what it writes until [`SnapshotWriter::commit`] returns a root; by then all
/// of it is durable. Dropped without, it leaves objects that a collection removes;
/// [`SnapshotWriter::abandon`] removes them at once.
pub(super) struct SnapshotWriter<'a> {
    store: &'a SnapshotStore,
    ids: PackIds,
    frames: Option<PackBuilder>,
    nodes: Option<PackBuilder>,
    record: RootRecord,
    /// Inner nodes loaded so far, with their changes.
    inner: BTreeMap<u16, Children>,
    /// Which of them differ from what is stored.
    inner_changed: BTreeSet<u16>,
    leaf: Option<OpenLeaf>,
    /// Packs that are stored and that no root refers to yet; the next one will.
    loose: BTreeSet<PackId>,
}

struct OpenLeaf {
    number: u32,
    leaf: Leaf,
    changed: bool,
}

impl<'a> SnapshotWriter<'a> {
    /// Begins with an empty tree.
    pub(super) fn empty(store: &'a SnapshotStore, facts: Facts) -> Self {
        Self::begin(store, RootRecord { facts, children: Children::new() })
    }

    /// Begins with the content of `parent`, of which `facts` may differ.
    pub(super) fn child(
        store: &'a SnapshotStore,
        parent: &SnapshotRoot,
        facts: Facts,
    ) -> Result<Self, Error> {
        let children = store.record(parent)?.children;
        Ok(Self::begin(store, RootRecord { facts, children }))
    }

    fn begin(store: &'a SnapshotStore, record: RootRecord) -> Self {
        Self {
            store,
            ids: PackIds::new(WriterId::generate(store.rng())),
            frames: None,
            nodes: None,
            record,
            inner: BTreeMap::new(),
            inner_changed: BTreeSet::new(),
            leaf: None,
            loose: BTreeSet::new(),
        }
    }

    /// Where the block is found in the tree as it stands.
    pub(super) fn get(&mut self, block: u64) -> Result<Option<Pointer>, Error> {
        let (leaf, at) = locate(block);
        Ok(self.open_leaf(leaf)?.leaf.get(at).copied())
    }

    /// Stores a frame and points its block at it.
    pub(super) fn store_frame(&mut self, block: u64, frame: &Frame) -> Result<(), Error> {
        if self.frames.as_ref().is_some_and(PackBuilder::is_full) {
            self.flush_frames()?;
        }
        let (store, ids) = (self.store, &mut self.ids);
        let pack = self
            .frames
            .get_or_insert_with(|| PackBuilder::new(ids.next(), PackKind::Frames, store.key()));
        let item = pack.push_frame(block, frame);
        self.set_frame(block, item)
    }

    /// The id of a pack that the caller fills and stores itself, to [`SnapshotWriter::point`] at
    /// what is in it.
    pub(super) fn pack_id(&mut self) -> PackId {
        self.ids.next()
    }

    /// Points a block at a frame that is stored already. [`SnapshotWriter::abandon`] takes it to be stored
    /// for this writer alone.
    pub(super) fn point(&mut self, block: u64, frame: ItemRef) -> Result<(), Error> {
        self.loose.insert(frame.pack);
        self.set_frame(block, frame)
    }

    fn set_frame(&mut self, block: u64, frame: ItemRef) -> Result<(), Error> {
        let pointer = Pointer { frame, birth: self.record.facts.generation };
        self.set(block, Some(pointer))
    }

    /// Makes a block absent: all zeros.
    pub(super) fn clear(&mut self, block: u64) -> Result<(), Error> {
        self.set(block, None)
    }

    fn set(&mut self, block: u64, pointer: Option<Pointer>) -> Result<(), Error> {
        let (leaf, at) = locate(block);
        let generation = self.record.facts.generation;
        let open = self.open_leaf(leaf)?;
        let before = open.leaf.set(at, pointer);
        open.changed |= before != pointer;
        let facts = &mut self.record.facts;
        let own = |pointer: Option<Pointer>| pointer.is_some_and(|p| p.birth == generation);
        facts.full_blocks -= u64::from(before.is_some());
        facts.full_blocks += u64::from(pointer.is_some());
        facts.changed_blocks -= u64::from(own(before));
        facts.changed_blocks += u64::from(own(pointer));
        Ok(())
    }

    fn open_leaf(&mut self, number: u32) -> Result<&mut OpenLeaf, Error> {
        if self.leaf.as_ref().is_none_or(|open| open.number != number) {
            self.close_leaf()?;
            let (inner, at) = split_leaf(number);
            let child = find(self.inner_node(inner)?, at);
            let leaf = match child {
                Some(child) => (*self.store.leaf(number, &child.node)?).clone(),
                None => Leaf::default(),
            };
            self.leaf = Some(OpenLeaf { number, leaf, changed: false });
        }
        Ok(self.leaf.as_mut().expect("it was opened above"))
    }

    fn close_leaf(&mut self) -> Result<(), Error> {
        let Some(open) = self.leaf.take().filter(|open| open.changed) else { return Ok(()) };
        let (inner, at) = split_leaf(open.number);
        let blocks = open.leaf.entries.len() as u32;
        let child = if blocks == 0 {
            None
        } else {
            let node = open.leaf.encode();
            let id = leaf_id(open.number);
            Some(Child { node: self.store_node(StructureKind::ManifestNode, id, node)?, blocks })
        };
        self.inner_changed.insert(inner);
        set_child(self.inner_node(inner)?, at, child);
        Ok(())
    }

    fn inner_node(&mut self, number: u16) -> Result<&mut Children, Error> {
        use std::collections::btree_map::Entry;
        match self.inner.entry(number) {
            Entry::Occupied(found) => Ok(found.into_mut()),
            Entry::Vacant(vacant) => {
                let children = match find(&self.record.children, number) {
                    Some(child) => (*self.store.inner(number, &child.node)?).clone(),
                    None => Children::new(),
                };
                Ok(vacant.insert(children))
            }
        }
    }

    fn store_node(
        &mut self,
        kind: StructureKind,
        id: u64,
        node: Vec<u8>,
    ) -> Result<ItemRef, Error> {
        if self.nodes.as_ref().is_some_and(PackBuilder::is_full) {
            self.flush_nodes()?;
        }
        let (store, ids) = (self.store, &mut self.ids);
        let pack = self
            .nodes
            .get_or_insert_with(|| PackBuilder::new(ids.next(), PackKind::Nodes, store.key()));
        Ok(pack.push_node(kind, id, node))
    }

    fn flush_frames(&mut self) -> Result<(), Error> {
        self.frames.take().map_or(Ok(()), |pack| self.put(pack))
    }

    fn flush_nodes(&mut self) -> Result<(), Error> {
        self.nodes.take().map_or(Ok(()), |pack| self.put(pack))
    }

    fn put(&mut self, pack: PackBuilder) -> Result<(), Error> {
        let id = pack.id();
        self.store.put_pack(pack)?;
        self.loose.insert(id);
        Ok(())
    }

    /// Makes all so far durable and returns its root. Writing may go on; a later commit returns a
    /// root of its own.
    pub(super) fn commit(&mut self) -> Result<SnapshotRoot, Error> {
        self.flush_frames()?;
        self.close_leaf()?;
        for number in std::mem::take(&mut self.inner_changed) {
            let children = &self.inner[&number];
            let blocks = children.iter().map(|(_, child)| child.blocks).sum();
            let child = if children.is_empty() {
                None
            } else {
                let node = encode_inner(children);
                let id = inner_id(number);
                Some(Child {
                    node: self.store_node(StructureKind::ManifestNode, id, node)?,
                    blocks,
                })
            };
            set_child(&mut self.record.children, number, child);
        }
        let total: u64 = self.record.children.iter().map(|(_, c)| u64::from(c.blocks)).sum();
        assert_eq!(total, self.record.facts.full_blocks, "the tree and its counts agree");
        self.record.facts.id = self.store.random();
        let node = self.record.encode();
        let record = self.store_node(StructureKind::ManifestRoot, ROOT_ID, node)?;
        self.flush_nodes()?;
        self.loose.clear();
        Ok(SnapshotRoot { record, facts: self.record.facts })
    }

    /// Gives back at once what no root refers to, and `others` that were stored for it and that it has
    /// not pointed at. A pack of which it is not known whether it was stored is left to a collection: where
    /// storing was refused, it is somebody else's. So is what cannot be removed now.
    pub(super) fn abandon(self, others: impl IntoIterator<Item = PackId>) {
        for pack in self.loose.into_iter().chain(others) {
            if let Err(error) = self.store.objects().delete(&pack.object(0)) {
                tracing::debug!(%error, "an unfinished pack is left to a collection");
            }
        }
    }
}

/// The leaf of a block, and its place there.
pub(super) fn locate(block: u64) -> (u32, u16) {
    assert!(block < BLOCKS_MAX, "block {block} is beyond the largest volume");
    ((block / FAN_OUT as u64) as u32, (block % FAN_OUT as u64) as u16)
}

/// The inner node of a leaf, and its place there.
pub(super) fn split_leaf(leaf: u32) -> (u16, u16) {
    ((leaf / FAN_OUT as u32) as u16, (leaf % FAN_OUT as u32) as u16)
}

pub(super) fn find(children: &Children, number: u16) -> Option<Child> {
    let at = children.binary_search_by_key(&number, |(number, _)| *number).ok()?;
    Some(children[at].1)
}

fn set_child(children: &mut Children, number: u16, child: Option<Child>) {
    match (children.binary_search_by_key(&number, |(number, _)| *number), child) {
        (Ok(at), Some(child)) => children[at].1 = child,
        (Ok(at), None) => {
            children.remove(at);
        }
        (Err(at), Some(child)) => children.insert(at, (number, child)),
        (Err(_), None) => {}
    }
}
