//! The store of snapshots: objects, the structure key, and the two caches.

use super::Error;
use super::codec::Malformed;
use super::floor::{self, Floor};
use super::frame::{Frame, FrameTable};
use super::node::{Children, Leaf, ROOT_ID, RootRecord, decode_inner, inner_id, leaf_id};
use super::pack::{
    Directory, FOOTER_BYTES, Footer, ItemRef, PackBuilder, PackId, REVISIONS_MAX, node_position,
};
use super::root::SnapshotRoot;
use super::touch::FirstTouches;
use crate::page::{StructureKey, StructureKind};
use base::{Rng, Secret};
use objstore::{ATTEMPTS_MAX, Bytes, ObjectStore, put_settled};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

/// The most manifest nodes kept in memory, at up to about 60 KiB each.
const CACHED_NODES_MAX: usize = 256;
/// The most directories of rewritten packs kept in memory, at about 2 KiB each.
const CACHED_DIRECTORIES_MAX: usize = 1024;
/// The name under which the structure key of all frames and manifests of a store is derived.
const KEY_NAME: &str = "snapshots";

/// Snapshots in one object store, under one service key. Cloning is cheap; all methods may be
/// called from any thread, and block it.
#[derive(Clone)]
pub struct SnapshotStore(Arc<Inner>);

struct Inner {
    objects: Arc<dyn ObjectStore>,
    key: StructureKey,
    rng: Arc<dyn Rng>,
    nodes: Mutex<HashMap<ItemKey, Node>>,
    moved: Mutex<HashMap<PackId, Moved>>,
    touches: FirstTouches,
    floor: Option<Arc<dyn Floor>>,
}

type ItemKey = (PackId, u8);

#[derive(Clone)]
enum Node {
    Leaf(Arc<Leaf>),
    Inner(Arc<Children>),
}

/// Where a rewritten pack is found.
#[derive(Clone)]
struct Moved {
    revision: u32,
    directory: Arc<Directory>,
}

impl SnapshotStore {
    /// Opens the store in `objects`. `service_key` is the service's and must be the same for as
    /// long as the store lives; it opens no page.
    pub fn new(
        objects: Arc<dyn ObjectStore>,
        service_key: &Secret<[u8; 32]>,
        rng: Arc<dyn Rng>,
    ) -> Self {
        let key = StructureKey::derive(service_key, KEY_NAME);
        let (nodes, moved) = (Mutex::default(), Mutex::default());
        let touches = FirstTouches::default();
        Self(Arc::new(Inner { objects, key, rng, nodes, moved, touches, floor: None }))
    }

    /// The same store, which from now on stores new snapshots only while this stays free. It remembers
    /// nothing yet.
    #[must_use]
    pub fn leaving(&self, floor: Arc<dyn Floor>) -> Self {
        self.anew(Some(floor))
    }

    /// The blocks that volumes made from a snapshot read first, in that order, as far as this process
    /// has seen it; at most [`TOUCHES_MAX`](super::TOUCHES_MAX).
    pub fn first_touches(&self, root: &SnapshotRoot) -> Vec<u64> {
        self.0.touches.of(root.id())
    }

    /// The same of every snapshot of which more was read first since the last call.
    pub fn take_grown_touches(&self) -> Vec<(SnapshotRoot, Vec<u64>)> {
        self.0.touches.take_grown()
    }

    pub(super) fn touches(&self) -> &FirstTouches {
        &self.0.touches
    }

    /// The same store without what this one remembers: what is read is what is stored.
    pub(super) fn unremembered(&self) -> Self {
        self.anew(self.0.floor.clone())
    }

    fn anew(&self, floor: Option<Arc<dyn Floor>>) -> Self {
        let (objects, key, rng) = (&self.0.objects, &self.0.key, &self.0.rng);
        let (nodes, moved) = (Mutex::default(), Mutex::default());
        let (objects, rng) = (Arc::clone(objects), Arc::clone(rng));
        let (key, touches) = (key.duplicate(), FirstTouches::default());
        Self(Arc::new(Inner { objects, key, rng, nodes, moved, touches, floor }))
    }

    pub(super) fn objects(&self) -> &dyn ObjectStore {
        &*self.0.objects
    }

    pub(super) fn key(&self) -> &StructureKey {
        &self.0.key
    }

    pub(super) fn rng(&self) -> &dyn Rng {
        &*self.0.rng
    }

    pub(super) fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.rng().fill(&mut bytes);
        bytes
    }

    /// Stores a finished pack; durable on return. Gives back its memory for another, if the object
    /// store did not keep it.
    pub(super) fn put_pack(&self, pack: PackBuilder) -> Result<Vec<u8>, Error> {
        let (id, bytes) = pack.finish(self.key(), self.rng());
        self.put_new(&id.object(0), &bytes)?;
        Ok(if bytes.is_unique() { bytes.into() } else { Vec::new() })
    }

    /// Stores a pack that adds to what is stored.
    ///
    /// # Errors
    /// What [`put_settled`] gives, or that of a full disk where too little would stay free; nothing was
    /// stored then.
    pub(super) fn put_new(&self, name: &str, bytes: &Bytes) -> Result<(), objstore::Error> {
        floor::check(self.0.floor.as_deref(), self.objects(), name, bytes.len())?;
        put_settled(self.objects(), name, bytes)
    }

    /// Whether less than has to stay free would be left after so many bytes more.
    pub(super) fn is_near_floor(&self, bytes: u64) -> Result<bool, Error> {
        let Some(floor) = &self.0.floor else { return Ok(false) };
        let free = self.free_bytes()?;
        Ok(free.is_some_and(|free| free.saturating_sub(bytes) < floor.bytes()))
    }

    /// A frame, checked whole.
    pub(super) fn frame(&self, block: u64, item: &ItemRef) -> Result<Frame, Error> {
        let bytes = self.fetch(item)?;
        let opener = item.pack.opener(self.key());
        Frame::decode(&bytes, &opener, item.slot, block, &item.tag)
            .map_err(|Malformed| corrupt("frame", item))
    }

    /// A frame for who opens every page of it; see [`Frame::decode_to_open`].
    pub(super) fn frame_to_open(&self, block: u64, item: &ItemRef) -> Result<Frame, Error> {
        let bytes = self.fetch(item)?;
        let opener = item.pack.opener(self.key());
        Frame::decode_to_open(&bytes, &opener, item.slot, block, &item.tag)
            .map(|(frame, _)| frame)
            .map_err(|Malformed| corrupt("frame", item))
    }

    /// The table of a frame, checked, without its pages.
    pub(super) fn frame_table(&self, block: u64, item: &ItemRef) -> Result<FrameTable, Error> {
        let damaged = |Malformed| corrupt("frame table", item);
        let mut bytes = self.fetch_part(item, 0..FrameTable::GUESS_BYTES.min(item.length))?;
        let head = FrameTable::head_bytes(&bytes).map_err(damaged)?;
        if head > item.length {
            return Err(damaged(Malformed));
        }
        if head as usize > bytes.len() {
            bytes = self.fetch_part(item, 0..head)?;
        }
        let opener = item.pack.opener(self.key());
        FrameTable::decode(&bytes, item.length, &opener, item.slot, block, &item.tag)
            .map_err(damaged)
    }

    /// Bytes that the objects' own place can still take; `None` where nobody knows.
    pub fn free_bytes(&self) -> Result<Option<u64>, Error> {
        retried(|| self.objects().free_bytes())
    }

    pub(super) fn leaf(&self, leaf: u32, item: &ItemRef) -> Result<Arc<Leaf>, Error> {
        if let Some(Node::Leaf(found)) = self.cached(item) {
            return Ok(found);
        }
        let bytes = self.open_node(item, StructureKind::ManifestNode, leaf_id(leaf))?;
        let decoded = Leaf::decode(&bytes).map_err(|Malformed| corrupt("manifest leaf", item))?;
        let decoded = Arc::new(decoded);
        self.cache(item, Node::Leaf(Arc::clone(&decoded)));
        Ok(decoded)
    }

    pub(super) fn inner(&self, inner: u16, item: &ItemRef) -> Result<Arc<Children>, Error> {
        if let Some(Node::Inner(found)) = self.cached(item) {
            return Ok(found);
        }
        let bytes = self.open_node(item, StructureKind::ManifestNode, inner_id(inner))?;
        let decoded = decode_inner(&bytes).map_err(|Malformed| corrupt("manifest node", item))?;
        let decoded = Arc::new(decoded);
        self.cache(item, Node::Inner(Arc::clone(&decoded)));
        Ok(decoded)
    }

    /// Reads a root record and compares it with what the root says of it.
    pub(super) fn record(&self, root: &SnapshotRoot) -> Result<RootRecord, Error> {
        let item = &root.record;
        let bytes = self.open_node(item, StructureKind::ManifestRoot, ROOT_ID)?;
        let record = RootRecord::decode(&bytes);
        let record = record.map_err(|Malformed| corrupt("manifest root", item))?;
        if record.facts == root.facts { Ok(record) } else { Err(corrupt("manifest root", item)) }
    }

    fn open_node(&self, item: &ItemRef, kind: StructureKind, id: u64) -> Result<Vec<u8>, Error> {
        let mut bytes = self.fetch(item)?.to_vec();
        let opener = item.pack.opener(self.key());
        opener
            .open(node_position(item.slot), kind, id, &item.tag, &mut bytes)
            .map_err(|_| corrupt("manifest node", item))?;
        Ok(bytes)
    }

    // A node is immutable and its key unique, so a cached node is never stale. The number of the
    // node (which leaf it is) was authenticated when it was read; a reference to it from another
    // place of a tree could only come from a forged parent.
    fn cached(&self, item: &ItemRef) -> Option<Node> {
        self.nodes().get(&(item.pack, item.slot)).cloned()
    }

    fn cache(&self, item: &ItemRef, node: Node) {
        let mut nodes = self.nodes();
        if nodes.len() >= CACHED_NODES_MAX {
            nodes.clear();
        }
        nodes.insert((item.pack, item.slot), node);
    }

    fn nodes(&self) -> MutexGuard<'_, HashMap<ItemKey, Node>> {
        self.0.nodes.lock().expect("no code panics while it holds the cache")
    }

    fn moved(&self) -> MutexGuard<'_, HashMap<PackId, Moved>> {
        self.0.moved.lock().expect("no code panics while it holds the cache")
    }

    /// Reads an item from whichever revision of its pack exists.
    pub(super) fn fetch(&self, item: &ItemRef) -> Result<Bytes, Error> {
        self.fetch_part(item, 0..item.length)
    }

    /// Reads a part of an item, counted from its beginning. The part must lie in it.
    pub(super) fn fetch_part(&self, item: &ItemRef, part: Range<u32>) -> Result<Bytes, Error> {
        assert!(part.start <= part.end && part.end <= item.length, "the part lies in the item");
        let known = self.moved().get(&item.pack).cloned();
        if let Some(moved) = known {
            match self.fetch_moved(item, &part, &moved) {
                Err(Error::Missing { .. }) => self.moved().remove(&item.pack),
                outcome => return outcome,
            };
        }
        match self.fetch_range(&item.pack.object(0), item.offset + part.start, part.len() as u32) {
            Err(Error::Missing { .. }) => {}
            outcome => return outcome,
        }
        // Rewriting stores the new revision before it deletes the old one, so going upwards finds
        // one that exists.
        for revision in 1..=REVISIONS_MAX {
            match self.directory(item.pack, revision) {
                Err(Error::Missing { .. }) => {}
                Err(error) => return Err(error),
                Ok(directory) => {
                    let moved = Moved { revision, directory: Arc::new(directory) };
                    match self.fetch_moved(item, &part, &moved) {
                        Err(Error::Missing { .. }) => {}
                        outcome => {
                            self.remember_moved(item.pack, moved);
                            return outcome;
                        }
                    }
                }
            }
        }
        Err(Error::Missing { object: item.pack.object(0) })
    }

    fn remember_moved(&self, pack: PackId, found: Moved) {
        let mut moved = self.moved();
        if moved.len() >= CACHED_DIRECTORIES_MAX {
            moved.clear();
        }
        moved.insert(pack, found);
    }

    fn fetch_moved(
        &self,
        item: &ItemRef,
        part: &Range<u32>,
        moved: &Moved,
    ) -> Result<Bytes, Error> {
        let entry = moved.directory.entry(item.slot);
        let entry = entry.filter(|entry| entry.tag == item.tag && entry.length == item.length);
        let entry = entry.ok_or_else(|| corrupt("pack directory", item))?;
        let object = item.pack.object(moved.revision);
        self.fetch_range(&object, entry.offset + part.start, part.len() as u32)
    }

    /// Reads the directory of one revision of a pack.
    pub(super) fn directory(&self, pack: PackId, revision: u32) -> Result<Directory, Error> {
        let object = pack.object(revision);
        let corrupt = || Error::Corrupt { what: "pack directory", object: object.clone() };
        let size = retried(|| self.objects().head(&object))?.size;
        let footer_at = size.checked_sub(FOOTER_BYTES as u64).ok_or_else(corrupt)?;
        let bytes = retried(|| self.objects().get_range(&object, footer_at..size))?;
        let footer = Footer::decode(&bytes).map_err(|Malformed| corrupt())?;
        let sealed = self.fetch_range(&object, footer.offset, footer.length)?;
        let directory = footer.directory(pack, revision, &sealed, self.key());
        directory.map_err(|Malformed| corrupt())
    }

    pub(super) fn fetch_range(
        &self,
        object: &str,
        offset: u32,
        length: u32,
    ) -> Result<Bytes, Error> {
        let start = u64::from(offset);
        retried(|| self.objects().get_range(object, start..start + u64::from(length)))
    }
}

impl std::fmt::Debug for SnapshotStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SnapshotStore(..)")
    }
}

/// Repeats a read that failed for no lasting reason.
pub(super) fn retried<T>(read: impl Fn() -> Result<T, objstore::Error>) -> Result<T, Error> {
    let mut attempt = 1;
    loop {
        match read() {
            Err(error) if error.is_transient() && attempt < ATTEMPTS_MAX => attempt += 1,
            outcome => return Ok(outcome?),
        }
    }
}

pub(super) fn corrupt(what: &'static str, item: &ItemRef) -> Error {
    Error::Corrupt { what, object: format!("{}, item {}", item.pack.object(0), item.slot) }
}
