//! Checking snapshots: every node, frame, digest and pack that a set of roots names.
//!
//! Items that several roots share are read once; what is wrong with one is said of every root that
//! names it. Without a data key frames are proven as what was stored, by their tags under the
//! structure key; with it every page and digest is opened too.
//!
//! It needs memory for one entry per pack, as a collection does.

use super::Error;
use super::frame::{Frame, FrameError};
use super::ledger::Ledger;
use super::node::{Child, Children, FAN_OUT, Pointer};
use super::pack::{Directory, FOOTER_BYTES, Footer, Header, ItemRef, PackId, PackKind, WriterId};
use super::root::SnapshotRoot;
use super::store::{SnapshotStore, retried};
use super::{collect::check_item, direct};
use crate::check::{CheckWatch, Fault, Finding, Findings, Stopped};
use crate::page::KeyAtHand;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Damaged items whose damage is remembered for the other roots that name them.
const DAMAGED_ITEMS_MAX: usize = 65_536;

/// What the check of one root read.
#[derive(Clone, Debug, Default)]
pub struct SnapshotCheck {
    /// Manifest nodes, the root record among them, that no earlier root had named.
    pub nodes: u64,
    /// Frames that no earlier root had named.
    pub frames: u64,
    /// Frames opened with the data key.
    pub opened_frames: u64,
    /// Bytes of those nodes and frames.
    pub bytes: u64,
    /// What is wrong.
    pub findings: Findings,
}

/// What the check of packs read.
#[derive(Clone, Debug, Default)]
pub struct PackCheck {
    /// Packs that roots name.
    pub packs: u64,
    /// Packs of open upload sessions.
    pub session_packs: u64,
    /// Packs that nothing named at this moment: of work under way, or for a collection to find.
    pub unreferenced_packs: u64,
    /// Bytes of those.
    pub unreferenced_bytes: u64,
    /// Older revisions that the next collection deletes.
    pub superseded_revisions: u64,
    /// What is wrong.
    pub findings: Findings,
}

/// Which packs to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PackScope {
    /// Those that the roots checked so far name.
    Named,
    /// Everything in the store.
    Whole,
}

/// What roots say of a pack.
#[derive(Clone, Copy, Debug, Default)]
struct Named {
    slots: u64,
    /// Sums up slot, length and tag of those items, to compare with the directory.
    sum: u64,
}

/// Checks roots one after the other. Those whose data keys are at hand should come first.
pub struct SnapshotChecker<'a> {
    store: SnapshotStore,
    watch: &'a dyn CheckWatch,
    named: HashMap<PackId, Named>,
    damaged: HashMap<(PackId, u8), Finding>,
}

impl<'a> SnapshotChecker<'a> {
    /// Begins a check. What the store remembers is read again.
    pub fn new(store: &SnapshotStore, watch: &'a dyn CheckWatch) -> Self {
        Self { store: store.unremembered(), watch, named: HashMap::new(), damaged: HashMap::new() }
    }

    /// Checks everything below a root.
    ///
    /// # Errors
    /// When the check was cancelled. Damage is no error: it is in the report.
    pub fn check(
        &mut self,
        root: &SnapshotRoot,
        key: &dyn KeyAtHand,
    ) -> Result<SnapshotCheck, Stopped> {
        let key = key.if_noted(root.key_check());
        let mut visit = Visit { checker: self, key, report: SnapshotCheck::default() };
        visit.root(root)?;
        Ok(visit.report)
    }

    /// Checks headers, footers and directories of packs, against what the roots checked before say.
    ///
    /// # Errors
    /// When the check was cancelled.
    pub fn check_packs(&self, scope: PackScope) -> Result<PackCheck, Stopped> {
        let mut report = PackCheck::default();
        // Sessions before packs, so that no pack of one is taken for nobody's.
        let sessions = match self.session_writers() {
            Ok(sessions) => sessions,
            Err(error) => {
                report.findings.push(finding(Fault::Unreadable, None, &error));
                HashSet::new()
            }
        };
        let mut named: Vec<PackId> = self.named.keys().copied().collect();
        named.sort_unstable();
        for shard in 0..=255u8 {
            let first = named.partition_point(|pack| pack.0[0] < shard);
            let end = named.partition_point(|pack| pack.0[0] <= shard);
            if scope == PackScope::Named && first == end {
                continue;
            }
            match self.list(shard) {
                Ok(packs) => {
                    self.check_shard(&named[first..end], &packs, &sessions, scope, &mut report)?;
                }
                Err(error) => report.findings.push(finding(Fault::Unreadable, None, &error)),
            }
        }
        if scope == PackScope::Whole {
            match Ledger::is_whole(&self.store) {
                Ok(true) => {}
                Ok(false) => report.findings.push(Finding {
                    fault: Fault::Ledger,
                    place: "gc".to_owned(),
                    block: None,
                    detail: "the ledger of unused packs does not open".to_owned(),
                }),
                Err(error) => report.findings.push(finding(Fault::Unreadable, None, &error)),
            }
        }
        Ok(report)
    }

    fn session_writers(&self) -> Result<HashSet<WriterId>, Error> {
        let mut writers = HashSet::new();
        for name in direct::list_sessions(&self.store)? {
            let session = format!("{}/{name}", direct::SESSIONS);
            let found = direct::session_writers(&self.store, &session)?;
            writers.extend(found.into_iter().map(|(_, writer)| writer));
        }
        Ok(writers)
    }

    fn list(&self, shard: u8) -> Result<BTreeMap<PackId, BTreeMap<u32, u64>>, Error> {
        let mut packs: BTreeMap<PackId, BTreeMap<u32, u64>> = BTreeMap::new();
        for meta in retried(|| self.store.objects().list(&format!("packs/{shard:02x}")))? {
            if let Some((pack, revision)) = PackId::parse_object(&meta.name) {
                packs.entry(pack).or_default().insert(revision, meta.size);
            }
        }
        Ok(packs)
    }

    fn check_shard(
        &self,
        named: &[PackId],
        packs: &BTreeMap<PackId, BTreeMap<u32, u64>>,
        sessions: &HashSet<WriterId>,
        scope: PackScope,
        report: &mut PackCheck,
    ) -> Result<(), Stopped> {
        for pack in named {
            self.goes_on()?;
            report.packs += 1;
            let Some(revisions) = packs.get(pack) else {
                let object = pack.object(0);
                let error = Error::Missing { object };
                report.findings.push(finding(Fault::PackMissing, None, &error));
                continue;
            };
            report.superseded_revisions += revisions.len() as u64 - 1;
            for revision in revisions.keys() {
                self.check_revision(*pack, *revision, Some(self.named[pack]), report);
            }
        }
        if scope == PackScope::Named {
            return Ok(());
        }
        for (pack, revisions) in packs {
            self.goes_on()?;
            if self.named.contains_key(pack) {
                continue;
            }
            if sessions.contains(&pack.writer()) {
                report.session_packs += 1;
                revisions.keys().for_each(|at| self.check_revision(*pack, *at, None, report));
            } else {
                report.unreferenced_packs += 1;
                report.unreferenced_bytes += revisions.values().sum::<u64>();
            }
        }
        Ok(())
    }

    /// Checks what a pack says of itself. Without roots that name it, its items are read too.
    fn check_revision(
        &self,
        pack: PackId,
        revision: u32,
        named: Option<Named>,
        report: &mut PackCheck,
    ) {
        let object = pack.object(revision);
        let damaged = |fault: Fault, what: &'static str| {
            let error = Error::Corrupt { what, object: object.clone() };
            Finding { place: object.clone(), ..finding(fault, None, &error) }
        };
        let directory = match self.open_pack(pack, revision) {
            Ok(directory) => directory,
            // A collection rewrote or deleted it since it was listed.
            Err((_, Error::Missing { .. })) => return,
            Err((fault, error)) => {
                let found = finding(fault, None, &error);
                return report.findings.push(Finding { place: object, ..found });
            }
        };
        let Some(named) = named else {
            for entry in &directory.entries {
                self.watch.read(u64::from(entry.length));
                let item = self.store.fetch_range(&object, entry.offset, entry.length);
                let whole = item.map(|bytes| {
                    check_item(&self.store, pack, directory.kind, entry, &bytes).is_ok()
                });
                let block = (directory.kind == PackKind::Frames).then_some(entry.id);
                match whole {
                    Ok(true) => {}
                    Ok(false) => {
                        let found = damaged(Fault::Frame, "item");
                        report.findings.push(Finding { block, ..found });
                    }
                    Err(error) => report.findings.push(finding(fault_of(&error), block, &error)),
                }
            }
            return;
        };
        let mut held = Named::default();
        for entry in directory.entries.iter().filter(|entry| named.slots & 1 << entry.slot != 0) {
            let item = ItemRef {
                pack,
                slot: entry.slot,
                offset: entry.offset,
                length: entry.length,
                tag: entry.tag,
            };
            held.add(&item);
        }
        if (held.slots, held.sum) != (named.slots, named.sum) {
            report.findings.push(damaged(Fault::PackDirectory, "directory of what is in use"));
        }
    }

    fn open_pack(&self, pack: PackId, revision: u32) -> Result<Directory, (Fault, Error)> {
        let object = pack.object(revision);
        let corrupt = |what| Error::Corrupt { what, object: object.clone() };
        let read = |error: Error| (fault_of(&error), error);
        let size = retried(|| self.store.objects().head(&object)).map_err(read)?.size;
        self.watch.read((Header::BYTES + FOOTER_BYTES) as u64);
        let header = self.store.fetch_range(&object, 0, Header::BYTES as u32).map_err(read)?;
        let header = Header::decode(&header).filter(|header| header.is_of(pack, revision));
        let header = header.ok_or_else(|| (Fault::PackHeader, corrupt("pack header")))?;
        let footer_at = size.saturating_sub(FOOTER_BYTES as u64);
        let footer = retried(|| self.store.objects().get_range(&object, footer_at..size));
        let footer = Footer::decode(&footer.map_err(read)?);
        if footer.is_err() {
            return Err((Fault::PackFooter, corrupt("pack footer")));
        }
        let directory = self.store.directory(pack, revision).map_err(|error| match error {
            error @ Error::Corrupt { .. } => (Fault::PackDirectory, error),
            error => read(error),
        })?;
        if directory.kind == header.kind {
            Ok(directory)
        } else {
            Err((Fault::PackHeader, corrupt("pack header")))
        }
    }

    fn goes_on(&self) -> Result<(), Stopped> {
        if self.watch.is_cancelled() { Err(Stopped::Cancelled) } else { Ok(()) }
    }

    /// Whether the item is new.
    fn add(&mut self, item: &ItemRef) -> bool {
        self.named.entry(item.pack).or_default().add(item)
    }
}

impl Named {
    fn add(&mut self, item: &ItemRef) -> bool {
        let is_new = self.slots & 1 << item.slot == 0;
        if is_new {
            self.slots |= 1 << item.slot;
            let tag = u64::from_le_bytes(item.tag.0[..8].try_into().expect("a tag has 16 bytes"));
            self.sum ^= (tag ^ u64::from(item.length)).rotate_left(u32::from(item.slot));
        }
        is_new
    }
}

/// The check of one root.
struct Visit<'c, 'a> {
    checker: &'c mut SnapshotChecker<'a>,
    key: &'c dyn KeyAtHand,
    report: SnapshotCheck,
}

impl Visit<'_, '_> {
    fn root(&mut self, root: &SnapshotRoot) -> Result<(), Stopped> {
        self.enter(&root.record);
        let record = match self.checker.store.record(root) {
            Ok(record) => record,
            Err(error) => {
                self.damaged(Fault::RootRecord, &root.record, None, &error);
                return Ok(());
            }
        };
        let mut blocks = 0;
        for (inner, child) in &record.children {
            blocks += u64::from(child.blocks);
            self.inner(*inner, child)?;
        }
        if blocks != root.full_blocks() {
            let error = super::store::corrupt("block count", &root.record);
            self.damaged(Fault::RootRecord, &root.record, None, &error);
        }
        Ok(())
    }

    fn inner(&mut self, inner: u16, child: &Child) -> Result<(), Stopped> {
        if !self.enter(&child.node) {
            return Ok(());
        }
        let first = u64::from(inner) * (FAN_OUT * FAN_OUT) as u64;
        let leaves: Children = match self.checker.store.inner(inner, &child.node) {
            Ok(leaves) => (*leaves).clone(),
            Err(error) => {
                self.damaged(Fault::ManifestNode, &child.node, Some(first), &error);
                return Ok(());
            }
        };
        let blocks: u64 = leaves.iter().map(|(_, leaf)| u64::from(leaf.blocks)).sum();
        if blocks != u64::from(child.blocks) {
            let error = super::store::corrupt("block count", &child.node);
            self.damaged(Fault::ManifestNode, &child.node, Some(first), &error);
        }
        for (at, leaf) in &leaves {
            self.leaf(u32::from(inner) * FAN_OUT as u32 + u32::from(*at), leaf)?;
        }
        Ok(())
    }

    fn leaf(&mut self, number: u32, child: &Child) -> Result<(), Stopped> {
        if !self.enter(&child.node) {
            return Ok(());
        }
        let first = u64::from(number) * FAN_OUT as u64;
        let leaf = match self.checker.store.leaf(number, &child.node) {
            Ok(leaf) => leaf,
            Err(error) => {
                self.damaged(Fault::ManifestNode, &child.node, Some(first), &error);
                return Ok(());
            }
        };
        if leaf.entries.len() != child.blocks as usize {
            let error = super::store::corrupt("block count", &child.node);
            self.damaged(Fault::ManifestNode, &child.node, Some(first), &error);
        }
        for (at, pointer) in &leaf.entries {
            self.frame(first + u64::from(*at), pointer)?;
        }
        Ok(())
    }

    fn frame(&mut self, block: u64, pointer: &Pointer) -> Result<(), Stopped> {
        self.checker.goes_on()?;
        let item = &pointer.frame;
        if !self.checker.add(item) {
            self.repeat(item);
            return Ok(());
        }
        self.report.frames += 1;
        self.read(item);
        match self.checker.store.frame(block, item) {
            Ok(frame) => self.open(block, item, &frame),
            Err(error) => self.damaged(Fault::Frame, item, Some(block), &error),
        }
        Ok(())
    }

    fn open(&mut self, block: u64, item: &ItemRef, frame: &Frame) {
        let Some(opened) = self.key.with(|key| frame.open(key).map(drop)) else { return };
        self.report.opened_frames += 1;
        let (fault, what) = match opened {
            Ok(()) => return,
            Err(FrameError::Page) => (Fault::FramePage, "page"),
            Err(FrameError::Digest) => (Fault::Digest, "block digest"),
        };
        self.damaged(fault, item, Some(block), &super::store::corrupt(what, item));
    }

    /// Whether what is below a node needs a look: it is new, or something known to be damaged may
    /// be there again.
    fn enter(&mut self, item: &ItemRef) -> bool {
        let is_new = self.checker.add(item);
        if is_new {
            self.report.nodes += 1;
            self.read(item);
        } else {
            self.repeat(item);
        }
        is_new || !self.checker.damaged.is_empty()
    }

    fn read(&mut self, item: &ItemRef) {
        self.report.bytes += u64::from(item.length);
        self.checker.watch.read(u64::from(item.length));
    }

    /// What is wrong with an item that an earlier root named is wrong here too.
    fn repeat(&mut self, item: &ItemRef) {
        if let Some(known) = self.checker.damaged.get(&(item.pack, item.slot)) {
            self.report.findings.push(known.clone());
        }
    }

    fn damaged(&mut self, fault: Fault, item: &ItemRef, block: Option<u64>, error: &Error) {
        let fault = match fault_of(error) {
            Fault::Frame => fault,
            other => other,
        };
        let place = format!("{}, item {}", item.pack.object(0), item.slot);
        let found = Finding { place, ..finding(fault, block, error) };
        // Said once of each root, also when the node is met again below.
        if self.report.findings.iter().any(|known| *known == found) {
            return;
        }
        let damaged = &mut self.checker.damaged;
        if damaged.len() < DAMAGED_ITEMS_MAX {
            damaged.insert((item.pack, item.slot), found.clone());
        }
        self.report.findings.push(found);
    }
}

/// The kind of an error of the store; damage as such counts as a frame's.
fn fault_of(error: &Error) -> Fault {
    match error {
        Error::Missing { .. } => Fault::PackMissing,
        Error::Corrupt { what: "length", .. } => Fault::PackTruncated,
        Error::Corrupt { what: "pack directory", .. } => Fault::PackDirectory,
        Error::Store { .. } => Fault::Unreadable,
        _ => Fault::Frame,
    }
}

fn finding(fault: Fault, block: Option<u64>, error: &Error) -> Finding {
    let place = match error {
        Error::Corrupt { object, .. } | Error::Missing { object } => object.clone(),
        _ => "store".to_owned(),
    };
    Finding { fault, place, block, detail: error.to_string() }
}
