//! Looking only where a deletion left something unused.
//!
//! What a deleted root alone had is found by comparing its tree with those of the live roots of its
//! series, position by position, leaving out whatever any of them shares: the work is that of the
//! changes, not of the snapshot. The items are *nominated*, that is, entered in the ledger. Once
//! their grace period is over they are looked for again in the live roots, along the paths to their
//! positions and no further, and what is still unused is given back.
//!
//! Roots of other series need no look. An item comes into a manifest by being stored for it or by
//! being taken over from the parent, and a child has its parent's series.
//!
//! A live root that cannot be read ends the work on its series, before anything of it is deleted.

use super::Error;
use super::collect::{ALL, CollectPolicy, CollectReport, Pass, Revisions, session_packs};
use super::ledger::{Condemned, Ledger};
use super::mark::Live;
use super::node::{Child, Children, FAN_OUT, Pointer, ROOT_ID, RootRecord, inner_id, leaf_id};
use super::pack::{Directory, ItemRef, PackId, PackKind, WriterId};
use super::root::SnapshotRoot;
use super::store::{SnapshotStore, retried};
use super::tree::find;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// What a collection of nominated items did.
#[derive(Clone, Debug, Default)]
pub struct Nominated {
    /// What was nominated, given back, and what waits.
    pub report: CollectReport,
    /// Deleted roots that need not be named again, by their place in the list given.
    pub settled: Vec<usize>,
}

/// Nominates what the first `roots_max` of the `deleted` roots alone had, and gives back what was nominated
/// before and is still unused after its grace period. What those roots have that were not looked at is
/// used: their grace has not begun. One collection at a time may run on a store.
///
/// `live_roots` are as for [`collect`](super::collect()).
///
/// # Errors
/// [`Error::Roots`], or what reading the ledger and the sessions gives; nothing was deleted then.
/// An error of the store while the ledger is written may come after deletions.
pub fn collect_nominated<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
    store: &SnapshotStore,
    deleted: &[SnapshotRoot],
    roots_max: usize,
    live_roots: impl IntoIterator<Item = Result<SnapshotRoot, E>>,
    policy: &CollectPolicy,
) -> Result<Nominated, Error> {
    let ledger = Ledger::load(store)?;
    let sessions = session_packs(store)?;
    let mut live: BTreeMap<Series, Vec<SnapshotRoot>> = BTreeMap::new();
    for root in live_roots {
        let root = root.map_err(|error| Error::Roots { source: error.into() })?;
        live.entry(root.series()).or_default().push(root);
    }
    let mut settled = Vec::new();
    let mut entries = ledger.entries.clone();
    let mut pass = Pass::new(store, policy);
    let (now, later) = deleted.split_at(roots_max.min(deleted.len()));
    let mut unseen = later.to_vec();
    for (at, root) in now.iter().enumerate() {
        let roots = live.get(&root.series()).map_or(&[][..], Vec::as_slice);
        match exclusive(store, root, roots) {
            Ok(items) => {
                pass.report.packs_nominated += enter(&mut entries, root, &items, policy);
                settled.push(at);
            }
            // The next one tries again.
            Err(error) if error.is_transient() => {
                pass.report.roots_postponed += 1;
                unseen.push(*root);
            }
            // A live root that is damaged stops this; a deleted one that is gone or damaged has
            // nothing to nominate. Either way a sweep is what finds the rest.
            Err(error) => {
                tracing::warn!(%error, "a deleted snapshot cannot be compared with the others");
                settled.push(at);
            }
        }
    }
    for root in unseen {
        live.entry(root.series()).or_default().push(root);
    }
    let mut ripe: BTreeMap<Series, Vec<(PackId, Condemned)>> = BTreeMap::new();
    for (pack, condemned) in &entries {
        let is_due = condemned.series != UNKNOWN && pass.is_ripe(condemned);
        if is_due && !sessions.contains(&pack.writer()) {
            ripe.entry(condemned.series).or_default().push((*pack, *condemned));
        } else {
            pass.keep(*pack, *condemned);
        }
    }
    for (series, packs) in ripe {
        let roots = live.get(&series).map_or(&[][..], Vec::as_slice);
        if let Err(error) = judge_series(&mut pass, roots, &packs) {
            tracing::warn!(%error, "unused packs stay, because what is in use cannot be read");
            pass.report.packs_postponed += packs.len() as u64;
            packs.iter().for_each(|(pack, condemned)| pass.keep(*pack, *condemned));
        }
    }
    let (report, kept) = pass.finish();
    if kept != ledger.entries {
        ledger.replace(store, &kept)?;
    }
    Ok(Nominated { report, settled })
}

type Series = [u8; 16];

/// The series of what a sweep found: only a sweep deletes it.
pub(super) const UNKNOWN: Series = [0; 16];

/// Enters items as unused since now; how many packs that concerns.
fn enter(
    entries: &mut BTreeMap<PackId, Condemned>,
    root: &SnapshotRoot,
    items: &[ItemRef],
    policy: &CollectPolicy,
) -> u64 {
    let mut packs = BTreeSet::new();
    for item in items {
        packs.insert(item.pack);
        // Whatever was known of the pack: the item was in use until this deletion.
        let dead = entries.get(&item.pack).map_or(0, |known| known.dead) | 1 << item.slot;
        let condemned = Condemned { since: policy.now, dead, series: root.series() };
        entries.insert(item.pack, condemned);
    }
    packs.len() as u64
}

/// The items that `root` names and none of `live` does.
fn exclusive(
    store: &SnapshotStore,
    root: &SnapshotRoot,
    live: &[SnapshotRoot],
) -> Result<Vec<ItemRef>, Error> {
    if live.iter().any(|other| other.record == root.record) {
        return Ok(Vec::new());
    }
    let own = store.record(root)?;
    let records: Vec<RootRecord> =
        live.iter().map(|root| store.record(root)).collect::<Result<_, _>>()?;
    let mut items = vec![root.record];
    for (inner, child) in &own.children {
        let Some(others) = others(child, records.iter().map(|r| find(&r.children, *inner))) else {
            continue;
        };
        items.push(child.node);
        let leaves = store.inner(*inner, &child.node)?;
        let load = |child: &Child| store.inner(*inner, &child.node);
        let others = others.iter().map(load).collect::<Result<Vec<_>, _>>()?;
        for (at, leaf) in leaves.iter() {
            let number = u32::from(*inner) * FAN_OUT as u32 + u32::from(*at);
            let at_leaf = others.iter().map(|other| find(other, *at));
            exclusive_of_leaf(store, number, leaf, at_leaf, &mut items)?;
        }
    }
    Ok(items)
}

fn exclusive_of_leaf(
    store: &SnapshotStore,
    number: u32,
    leaf: &Child,
    live: impl Iterator<Item = Option<Child>>,
    items: &mut Vec<ItemRef>,
) -> Result<(), Error> {
    let Some(others) = others(leaf, live) else { return Ok(()) };
    items.push(leaf.node);
    let mut own: Vec<(u16, Pointer)> = store.leaf(number, &leaf.node)?.entries.clone();
    // One at a time, so that memory does not grow with the number of snapshots.
    for other in others {
        if own.is_empty() {
            break;
        }
        let other = store.leaf(number, &other.node)?;
        own.retain(|(at, pointer)| other.get(*at).is_none_or(|o| o.frame != pointer.frame));
    }
    items.extend(own.into_iter().map(|(_, pointer)| pointer.frame));
    Ok(())
}

/// What the live roots have in the place of `child`, each once; `None` when one has `child` itself.
fn others(child: &Child, live: impl Iterator<Item = Option<Child>>) -> Option<Vec<Child>> {
    let mut seen = HashSet::new();
    let mut others = Vec::new();
    for other in live.flatten() {
        if other.node == child.node {
            return None;
        }
        if seen.insert((other.node.pack, other.node.slot)) {
            others.push(other);
        }
    }
    Some(others)
}

/// A pack whose grace period is over.
struct Ripe {
    pack: PackId,
    condemned: Condemned,
    revisions: Revisions,
    newest: u32,
    directory: Directory,
}

/// Gives back what none of the series' live roots names. Nothing was deleted when this fails.
fn judge_series(
    pass: &mut Pass<'_>,
    live: &[SnapshotRoot],
    packs: &[(PackId, Condemned)],
) -> Result<(), Error> {
    let store = pass.store;
    let mut listed: BTreeMap<WriterId, BTreeMap<PackId, Revisions>> = BTreeMap::new();
    let (mut wanted, mut ripe) = (Wanted::default(), Vec::new());
    for (pack, condemned) in packs {
        let writer = pack.writer();
        if let Entry::Vacant(slot) = listed.entry(writer) {
            slot.insert(list_writer(store, writer)?);
        }
        // A pack that is gone needs no entry.
        let Some(revisions) = listed[&writer].get(pack) else { continue };
        let (&newest, _) = revisions.last_key_value().expect("it was listed");
        let directory = store.directory(*pack, newest)?;
        for entry in directory.entries.iter().filter(|entry| is_dead(condemned, entry.slot)) {
            wanted.add(directory.kind, entry.id, (*pack, entry.slot));
        }
        let (pack, condemned, revisions) = (*pack, *condemned, revisions.clone());
        ripe.push(Ripe { pack, condemned, revisions, newest, directory });
    }
    let used = wanted.find(store, live)?;
    for ripe in ripe {
        judge(pass, ripe, &used);
    }
    Ok(())
}

fn is_dead(condemned: &Condemned, slot: u8) -> bool {
    condemned.dead & 1 << slot != 0
}

fn judge(pass: &mut Pass<'_>, ripe: Ripe, used: &HashSet<Item>) {
    let Ripe { pack, condemned, revisions, newest, directory } = ripe;
    let (mut dead, mut live, mut total) = (0, Live::default(), 0);
    for entry in &directory.entries {
        total += u64::from(entry.length);
        if is_dead(&condemned, entry.slot) && !used.contains(&(pack, entry.slot)) {
            dead |= 1 << entry.slot;
        } else {
            live.slots |= 1 << entry.slot;
            live.bytes += u64::from(entry.length);
        }
    }
    let percent = u64::from(pass.policy.rewrite_below_percent);
    let still = Condemned { dead, ..condemned };
    let outcome = if dead == 0 {
        return;
    } else if live.slots == 0 {
        pass.judge_unused(pack, &revisions, Some(&Condemned { dead: ALL, ..condemned }))
    } else if live.bytes * 100 < total * percent {
        pass.rewrite_and_delete(pack, newest, &directory, live, dead).map(|()| None)
    } else {
        // Too much of it is in use; more may be nominated.
        Ok(Some(still))
    };
    match outcome {
        Ok(None) => {}
        Ok(Some(still)) => pass.keep(pack, still),
        Err(error) => {
            tracing::warn!(%error, ?pack, "an unused pack stays for now");
            pass.report.packs_postponed += 1;
            pass.keep(pack, still);
        }
    }
}

fn list_writer(
    store: &SnapshotStore,
    writer: WriterId,
) -> Result<BTreeMap<PackId, Revisions>, Error> {
    let mut packs: BTreeMap<PackId, Revisions> = BTreeMap::new();
    for meta in retried(|| store.objects().list(&writer.directory()))? {
        if let Some((pack, revision)) = PackId::parse_object(&meta.name) {
            packs.entry(pack).or_default().insert(revision, meta.size);
        }
    }
    Ok(packs)
}

type Item = (PackId, u8);

/// Items to look for, by where in a tree they would be.
#[derive(Default)]
struct Wanted {
    nodes: BTreeMap<u64, Vec<Item>>,
    frames: BTreeMap<u64, Vec<Item>>,
}

impl Wanted {
    fn add(&mut self, kind: PackKind, id: u64, item: Item) {
        let of_kind = match kind {
            PackKind::Nodes => &mut self.nodes,
            PackKind::Frames => &mut self.frames,
        };
        of_kind.entry(id).or_default().push(item);
    }

    /// Those of the items that a root names.
    fn find(&self, store: &SnapshotStore, live: &[SnapshotRoot]) -> Result<HashSet<Item>, Error> {
        let mut search = Search { wanted: self, used: HashSet::new(), visited: HashSet::new() };
        for root in live {
            search.meet(&self.nodes, ROOT_ID, &root.record);
            if !search.visits(&root.record) {
                continue;
            }
            for (inner, child) in &store.record(root)?.children {
                search.meet(&self.nodes, inner_id(*inner), &child.node);
                let first = u32::from(*inner) * FAN_OUT as u32;
                let is_of_use = self.has_leaves(first) || self.has_frames(first, FAN_OUT as u64);
                if is_of_use && search.visits(&child.node) {
                    search.leaves(store, first, &*store.inner(*inner, &child.node)?)?;
                }
            }
        }
        Ok(search.used)
    }

    fn has_leaves(&self, first: u32) -> bool {
        let leaves = leaf_id(first)..leaf_id(first + FAN_OUT as u32);
        self.nodes.range(leaves).next().is_some()
    }

    /// Whether frames of so many leaves from `first` on are wanted.
    fn has_frames(&self, first: u32, leaves: u64) -> bool {
        let first = u64::from(first) * FAN_OUT as u64;
        self.frames.range(first..first + leaves * FAN_OUT as u64).next().is_some()
    }
}

struct Search<'a> {
    wanted: &'a Wanted,
    used: HashSet<Item>,
    /// Nodes whose children were met, under whichever root.
    visited: HashSet<Item>,
}

impl Search<'_> {
    fn leaves(
        &mut self,
        store: &SnapshotStore,
        first: u32,
        leaves: &Children,
    ) -> Result<(), Error> {
        for (at, leaf) in leaves {
            let number = first + u32::from(*at);
            self.meet(&self.wanted.nodes, leaf_id(number), &leaf.node);
            if self.wanted.has_frames(number, 1) && self.visits(&leaf.node) {
                let first = u64::from(number) * FAN_OUT as u64;
                for (at, pointer) in &store.leaf(number, &leaf.node)?.entries {
                    self.meet(&self.wanted.frames, first + u64::from(*at), &pointer.frame);
                }
            }
        }
        Ok(())
    }

    fn visits(&mut self, node: &ItemRef) -> bool {
        self.visited.insert((node.pack, node.slot))
    }

    fn meet(&mut self, wanted: &BTreeMap<u64, Vec<Item>>, id: u64, item: &ItemRef) {
        let item = (item.pack, item.slot);
        if wanted.get(&id).is_some_and(|items| items.contains(&item)) {
            self.used.insert(item);
        }
    }
}
