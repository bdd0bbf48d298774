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
//! A live root that cannot be read ends the work on its series, before anything of it is deleted. Neither
//! it nor a pack that cannot be read keeps anything else waiting.

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

/// Nominates what the first `roots_max` of the `deleted` roots that can be compared alone had, and gives
/// back what was nominated before and is still unused after its grace period. What those roots have that
/// were not compared is used: their grace has not begun. One collection at a time may run on a store.
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
    collect_nominated_while(store, deleted, roots_max, live_roots, policy, &|| true)
}

/// As [`collect_nominated`], for as long as `is_wanted` says so; it must be cheap.
///
/// # Errors
/// As [`collect_nominated`]; [`Error::Cancelled`], which may come after deletions. The roots given are to
/// be named again.
pub fn collect_nominated_while<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
    store: &SnapshotStore,
    deleted: &[SnapshotRoot],
    roots_max: usize,
    live_roots: impl IntoIterator<Item = Result<SnapshotRoot, E>>,
    policy: &CollectPolicy,
    is_wanted: &dyn Fn() -> bool,
) -> Result<Nominated, Error> {
    let ledger = Ledger::load(store)?;
    let sessions = session_packs(store)?;
    let mut live = LiveRoots::new();
    for root in live_roots {
        let root = root.map_err(|error| Error::Roots { source: error.into() })?;
        live.entry(root.series()).or_default().push(root);
    }
    let mut entries = ledger.entries.clone();
    let mut pass = Pass::new(store, policy, is_wanted);
    let Looked { settled, unseen } = look(&mut pass, &mut entries, deleted, roots_max, &live)?;
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
        match judge_series(&mut pass, roots, &packs) {
            Ok(()) => {}
            Err(Error::Cancelled) => return Err(Error::Cancelled),
            Err(error) => {
                tracing::warn!(%error, "unused packs stay, because what is in use cannot be read");
                packs.iter().for_each(|(pack, condemned)| pass.postpone(*pack, *condemned));
            }
        }
    }
    let (report, kept) = pass.finish();
    if kept != ledger.entries {
        ledger.replace(store, &kept)?;
    }
    Ok(Nominated { report, settled })
}

type Series = [u8; 16];
type LiveRoots = BTreeMap<Series, Vec<SnapshotRoot>>;

/// The series of what a sweep found: only a sweep deletes it.
pub(super) const UNKNOWN: Series = [0; 16];

/// Which deleted roots were looked at.
#[derive(Default)]
struct Looked {
    /// Need not be named again, by their place in the list given.
    settled: Vec<usize>,
    /// Were not compared: what they have counts as used.
    unseen: Vec<SnapshotRoot>,
}

/// Compares deleted roots until `roots_max` need no more, and enters what they alone had. One that
/// cannot be compared takes no other's place, or those that stay would in time take all of them.
fn look(
    pass: &mut Pass<'_>,
    entries: &mut BTreeMap<PackId, Condemned>,
    deleted: &[SnapshotRoot],
    roots_max: usize,
    live: &LiveRoots,
) -> Result<Looked, Error> {
    let mut looked = Looked::default();
    let mut survivors: BTreeMap<Series, Survivors<'_>> = BTreeMap::new();
    let mut unreadable: BTreeSet<Series> = BTreeSet::new();
    for (at, root) in deleted.iter().enumerate() {
        let series = root.series();
        if looked.settled.len() == roots_max {
            looked.unseen.push(*root);
            continue;
        }
        if unreadable.contains(&series) {
            pass.report.roots_postponed += 1;
            looked.unseen.push(*root);
            continue;
        }
        pass.check_wanted()?;
        let survivors = survivors.entry(series).or_insert_with(|| Survivors::of(live, series));
        match exclusive(pass, root, survivors) {
            Ok(items) => {
                pass.report.packs_nominated += enter(entries, root, &items, pass.policy);
                looked.settled.push(at);
            }
            Err(Uncompared::Unwanted) => return Err(Error::Cancelled),
            // The next look tries again.
            Err(uncompared) if uncompared.is_transient() => {
                if let Uncompared::Live(_) = uncompared {
                    unreadable.insert(series);
                }
                pass.report.roots_postponed += 1;
                looked.unseen.push(*root);
            }
            // A live root that is damaged stops this; a deleted one that is gone or damaged has
            // nothing to nominate. Either way a sweep is what finds the rest.
            Err(Uncompared::Live(error) | Uncompared::Deleted(error)) => {
                tracing::warn!(%error, "a deleted snapshot cannot be compared with the others");
                looked.settled.push(at);
            }
        }
    }
    Ok(looked)
}

/// Why a deleted root was not compared with the live ones.
enum Uncompared {
    /// It cannot be read, which concerns no other.
    Deleted(Error),
    /// A live one cannot be read, which concerns its series.
    Live(Error),
    /// Nobody waits for it any more.
    Unwanted,
}

impl Uncompared {
    fn is_transient(&self) -> bool {
        match self {
            Self::Deleted(error) | Self::Live(error) => error.is_transient(),
            Self::Unwanted => false,
        }
    }
}

/// What the deleted roots of a series are compared with.
struct Survivors<'a> {
    roots: &'a [SnapshotRoot],
    /// Read when the first of the deleted roots needs them.
    records: Option<Vec<RootRecord>>,
}

impl<'a> Survivors<'a> {
    fn of(live: &'a LiveRoots, series: Series) -> Self {
        Self { roots: live.get(&series).map_or(&[][..], Vec::as_slice), records: None }
    }

    fn records(&mut self, pass: &Pass<'_>) -> Result<&[RootRecord], Uncompared> {
        if self.records.is_none() {
            let read = |root| {
                pass.check_wanted().map_err(|_| Uncompared::Unwanted)?;
                pass.store.record(root).map_err(Uncompared::Live)
            };
            self.records = Some(self.roots.iter().map(read).collect::<Result<_, _>>()?);
        }
        Ok(self.records.as_deref().expect("they were read just now"))
    }
}

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

/// The items that `root` names and no live root of its series does.
fn exclusive(
    pass: &Pass<'_>,
    root: &SnapshotRoot,
    survivors: &mut Survivors<'_>,
) -> Result<Vec<ItemRef>, Uncompared> {
    let store = pass.store;
    if survivors.roots.iter().any(|other| other.record == root.record) {
        return Ok(Vec::new());
    }
    let own = store.record(root).map_err(Uncompared::Deleted)?;
    let records = survivors.records(pass)?;
    let mut items = vec![root.record];
    for (inner, child) in &own.children {
        let Some(others) = others(child, records.iter().map(|r| find(&r.children, *inner))) else {
            continue;
        };
        items.push(child.node);
        let leaves = store.inner(*inner, &child.node).map_err(Uncompared::Deleted)?;
        let load = |child: &Child| store.inner(*inner, &child.node);
        let others = others.iter().map(load).collect::<Result<Vec<_>, _>>();
        let others = others.map_err(Uncompared::Live)?;
        for (at, leaf) in leaves.iter() {
            let number = u32::from(*inner) * FAN_OUT as u32 + u32::from(*at);
            let at_leaf = others.iter().map(|other| find(other, *at));
            exclusive_of_leaf(pass, number, leaf, at_leaf, &mut items)?;
        }
    }
    Ok(items)
}

fn exclusive_of_leaf(
    pass: &Pass<'_>,
    number: u32,
    leaf: &Child,
    live: impl Iterator<Item = Option<Child>>,
    items: &mut Vec<ItemRef>,
) -> Result<(), Uncompared> {
    let Some(others) = others(leaf, live) else { return Ok(()) };
    pass.check_wanted().map_err(|_| Uncompared::Unwanted)?;
    items.push(leaf.node);
    let own = pass.store.leaf(number, &leaf.node).map_err(Uncompared::Deleted)?;
    let mut own: Vec<(u16, Pointer)> = own.entries.clone();
    // One at a time, so that memory does not grow with the number of snapshots.
    for other in others {
        if own.is_empty() {
            break;
        }
        let other = pass.store.leaf(number, &other.node).map_err(Uncompared::Live)?;
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

/// Gives back what none of the series' live roots names. Nothing was deleted when this fails for another
/// reason than [`Error::Cancelled`].
fn judge_series(
    pass: &mut Pass<'_>,
    live: &[SnapshotRoot],
    packs: &[(PackId, Condemned)],
) -> Result<(), Error> {
    let store = pass.store;
    let mut listed: BTreeMap<WriterId, BTreeMap<PackId, Revisions>> = BTreeMap::new();
    let (mut wanted, mut ripe, mut unread) = (Wanted::default(), Vec::new(), Vec::new());
    for (pack, condemned) in packs {
        pass.check_wanted()?;
        let writer = pack.writer();
        if let Entry::Vacant(slot) = listed.entry(writer) {
            slot.insert(list_writer(store, writer)?);
        }
        // A pack that is gone needs no entry.
        let Some(revisions) = listed[&writer].get(pack) else { continue };
        let (&newest, _) = revisions.last_key_value().expect("it was listed");
        let directory = match store.directory(*pack, newest) {
            Ok(directory) => directory,
            Err(error) => {
                tracing::warn!(%error, ?pack, "an unused pack stays, because it cannot be read");
                unread.push((*pack, *condemned));
                continue;
            }
        };
        for entry in directory.entries.iter().filter(|entry| is_dead(condemned, entry.slot)) {
            wanted.add(directory.kind, entry.id, (*pack, entry.slot));
        }
        let (pack, condemned, revisions) = (*pack, *condemned, revisions.clone());
        ripe.push(Ripe { pack, condemned, revisions, newest, directory });
    }
    let used = wanted.find(pass, live)?;
    unread.into_iter().for_each(|(pack, condemned)| pass.postpone(pack, condemned));
    for ripe in ripe {
        pass.check_wanted()?;
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
            pass.postpone(pack, still);
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
    fn find(&self, pass: &Pass<'_>, live: &[SnapshotRoot]) -> Result<HashSet<Item>, Error> {
        let store = pass.store;
        let (used, visited) = (HashSet::new(), HashSet::new());
        let mut search = Search { pass, wanted: self, used, visited };
        for root in live {
            pass.check_wanted()?;
            search.meet(&self.nodes, ROOT_ID, &root.record);
            if !search.visits(&root.record) {
                continue;
            }
            for (inner, child) in &store.record(root)?.children {
                search.meet(&self.nodes, inner_id(*inner), &child.node);
                let first = u32::from(*inner) * FAN_OUT as u32;
                let is_of_use = self.has_leaves(first) || self.has_frames(first, FAN_OUT as u64);
                if is_of_use && search.visits(&child.node) {
                    search.leaves(first, &*store.inner(*inner, &child.node)?)?;
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
    pass: &'a Pass<'a>,
    wanted: &'a Wanted,
    used: HashSet<Item>,
    /// Nodes whose children were met, under whichever root.
    visited: HashSet<Item>,
}

impl Search<'_> {
    fn leaves(&mut self, first: u32, leaves: &Children) -> Result<(), Error> {
        for (at, leaf) in leaves {
            let number = first + u32::from(*at);
            self.meet(&self.wanted.nodes, leaf_id(number), &leaf.node);
            if self.wanted.has_frames(number, 1) && self.visits(&leaf.node) {
                self.pass.check_wanted()?;
                let first = u64::from(number) * FAN_OUT as u64;
                for (at, pointer) in &self.pass.store.leaf(number, &leaf.node)?.entries {
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
