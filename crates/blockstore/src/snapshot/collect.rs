//! Collection: giving back what no live snapshot names.
//!
//! Every collection marks all that the live roots and the open upload sessions name, then lists
//! what is stored. What is unused is *condemned*, that is, written down; it is deleted by a later
//! collection that still finds it unused when the grace period is over. So an object is safe
//! while it is younger than the grace period, however its writer, the control database and this
//! collection interleave: a writer must publish a root or a checkpoint within that time.
//!
//! A pack unused in part is rewritten without the unused items when enough of it is unused; see
//! `pack.rs` for why no manifest changes. No data key is needed for any of this.
//!
//! Collections do not see what happens between them. What one found unused may be used by the next but
//! for a deletion a moment before: so a deletion begins the grace period of all it leaves anew, and what
//! is deleted and was not looked at yet counts as used.
//!
//! Any failure to read a manifest, a session or a listing ends the collection before it deletes. One that
//! is not wanted any more ends wherever it is: what it would have written down is found again.

use super::Error;
use super::codec::Malformed;
use super::direct::{SESSIONS, list_sessions, session_writers};
use super::frame::Frame;
use super::ledger::{Condemned, LEDGER_ENTRIES_MAX, Ledger};
use super::mark::{Live, Marks};
use super::node::ROOT_ID;
use super::nominate::UNKNOWN;
use super::pack::{
    Directory, DirectoryEntry, PackId, PackKind, REVISIONS_MAX, WriterId, node_position, rewrite,
};
use super::root::SnapshotRoot;
use super::store::{SnapshotStore, retried};
use crate::page::StructureKind;
use base::Timestamp;
use objstore::{Bytes, put_settled};
use std::collections::{BTreeMap, HashSet};

/// All slots of a pack.
pub(super) const ALL: u64 = u64::MAX;

/// When to give back what.
#[derive(Clone, Copy, Debug)]
pub struct CollectPolicy {
    /// The present moment.
    pub now: Timestamp,
    /// How long something must be known to be unused before it is deleted. 24 hours is sensible;
    /// it must exceed the longest time between two checkpoints of an export or a copy.
    pub grace_seconds: i64,
    /// A pack is rewritten when less than this part of its items' bytes is in use. 50 is sensible;
    /// 0 never rewrites.
    pub rewrite_below_percent: u8,
}

/// What a collection did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CollectReport {
    /// Packs in which deleted snapshots had something to themselves.
    pub packs_nominated: u64,
    /// Packs deleted as a whole.
    pub packs_deleted: u64,
    /// Packs rewritten without their unused items.
    pub packs_rewritten: u64,
    /// Bytes given back by both.
    pub bytes_reclaimed: u64,
    /// Packs that wait for their grace period to end.
    pub packs_condemned: u64,
    /// Those of them that no deletion nominated: only another sweep gives them back.
    pub packs_unnominated: u64,
    /// Packs left as they are because the store failed or an item to keep is damaged.
    pub packs_postponed: u64,
    /// Deleted snapshots that could not be compared with the others yet.
    pub roots_postponed: u64,
}

/// Runs one collection. One at a time may run on a store.
///
/// `live_roots` are the roots of all snapshots, recycled and archived ones included, of all bases
/// that volumes still read from, of all checkpoints, and of all parents of unfinished exports,
/// copies and sessions. An error among them ends the collection.
///
/// `deleted` are roots that no [`collect_nominated`](super::collect_nominated) has looked at since they
/// were deleted. What they name counts as used: its grace period begins when it is nominated.
///
/// # Errors
/// [`Error::Roots`], or what reading gives; nothing was deleted then. An error of the store while
/// the ledger is written may come after deletions.
pub fn collect<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
    store: &SnapshotStore,
    live_roots: impl IntoIterator<Item = Result<SnapshotRoot, E>>,
    deleted: &[SnapshotRoot],
    policy: &CollectPolicy,
) -> Result<CollectReport, Error> {
    collect_while(store, live_roots, deleted, policy, &|| true)
}

/// As [`collect`], for as long as `is_wanted` says so. Asked before each node that is read, each part that
/// is listed and each pack that is given back, so it must be cheap.
///
/// # Errors
/// As [`collect`]; [`Error::Cancelled`], which may come after deletions.
pub fn collect_while<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
    store: &SnapshotStore,
    live_roots: impl IntoIterator<Item = Result<SnapshotRoot, E>>,
    deleted: &[SnapshotRoot],
    policy: &CollectPolicy,
    is_wanted: &dyn Fn() -> bool,
) -> Result<CollectReport, Error> {
    let ledger = Ledger::load(store)?;
    // Sessions before roots: a session that ends in between has its root recorded first.
    let writers = session_packs(store)?;
    let mut marks = Marks::default();
    for root in live_roots {
        let root = root.map_err(|error| Error::Roots { source: error.into() })?;
        marks.mark(store, &root, is_wanted)?;
    }
    // After the live roots: what is marked in part would hide from them what it did not come to.
    for root in deleted {
        match marks.mark(store, root, is_wanted) {
            Err(Error::Cancelled) => return Err(Error::Cancelled),
            Err(error) if !error.is_transient() => {
                tracing::warn!(%error, "a deleted snapshot cannot be read");
            }
            marked => marked?,
        }
    }
    let mut pass = Pass::new(store, policy, is_wanted);
    for shard in list_shards(&pass)? {
        for (pack, revisions) in shard {
            if !writers.contains(&pack.writer()) {
                pass.check_wanted()?;
                pass.judge(pack, &revisions, marks.get(pack), ledger.entries.get(&pack));
            }
        }
    }
    let (report, kept) = pass.finish();
    ledger.replace(store, &kept)?;
    Ok(report)
}

/// Ends a collection that nobody waits for any more.
pub(super) fn check_wanted(is_wanted: &dyn Fn() -> bool) -> Result<(), Error> {
    if is_wanted() { Ok(()) } else { Err(Error::Cancelled) }
}

/// The writers of open upload sessions.
pub(super) fn session_packs(store: &SnapshotStore) -> Result<HashSet<WriterId>, Error> {
    let mut writers = HashSet::new();
    for name in list_sessions(store)? {
        let session = session_writers(store, &format!("{SESSIONS}/{name}"))?;
        writers.extend(session.into_iter().map(|(_, writer)| writer));
    }
    Ok(writers)
}

/// Size by revision.
pub(super) type Revisions = BTreeMap<u32, u64>;

/// Lists all packs before any is judged, in 256 parts.
fn list_shards(pass: &Pass<'_>) -> Result<Vec<BTreeMap<PackId, Revisions>>, Error> {
    let objects = pass.store.objects();
    let mut shards = Vec::with_capacity(256);
    for shard in 0..=255u8 {
        pass.check_wanted()?;
        let mut packs: BTreeMap<PackId, Revisions> = BTreeMap::new();
        for meta in retried(|| objects.list(&format!("packs/{shard:02x}")))? {
            // Whatever has another name is not ours to delete.
            if let Some((pack, revision)) = PackId::parse_object(&meta.name) {
                packs.entry(pack).or_default().insert(revision, meta.size);
            }
        }
        shards.push(packs);
    }
    Ok(shards)
}

/// One collection: what it did so far, and what the next has to know.
pub(super) struct Pass<'a> {
    pub(super) store: &'a SnapshotStore,
    pub(super) policy: &'a CollectPolicy,
    pub(super) report: CollectReport,
    is_wanted: &'a dyn Fn() -> bool,
    kept: BTreeMap<PackId, Condemned>,
}

impl<'a> Pass<'a> {
    pub(super) fn new(
        store: &'a SnapshotStore,
        policy: &'a CollectPolicy,
        is_wanted: &'a dyn Fn() -> bool,
    ) -> Self {
        Self { store, policy, report: CollectReport::default(), is_wanted, kept: BTreeMap::new() }
    }

    pub(super) fn check_wanted(&self) -> Result<(), Error> {
        check_wanted(self.is_wanted)
    }

    /// What was done, and the entries of the next ledger.
    pub(super) fn finish(mut self) -> (CollectReport, BTreeMap<PackId, Condemned>) {
        self.report.packs_condemned = self.kept.len() as u64;
        let found = self.kept.values().filter(|known| known.series == UNKNOWN);
        self.report.packs_unnominated = found.count() as u64;
        (self.report, self.kept)
    }

    /// Decides on one pack, and acts. A failure leaves the pack and what was known of it.
    fn judge(
        &mut self,
        pack: PackId,
        revisions: &Revisions,
        live: Live,
        known: Option<&Condemned>,
    ) {
        let outcome = if live.slots == 0 {
            self.judge_unused(pack, revisions, known)
        } else {
            self.judge_used(pack, revisions, live, known)
        };
        match outcome {
            Ok(None) => {}
            Ok(Some(condemned)) => self.keep(pack, condemned),
            Err(_) => {
                self.report.packs_postponed += 1;
                known.into_iter().for_each(|known| self.keep(pack, *known));
            }
        }
    }

    pub(super) fn keep(&mut self, pack: PackId, condemned: Condemned) {
        if self.kept.len() < LEDGER_ENTRIES_MAX {
            self.kept.insert(pack, condemned);
        }
    }

    /// Leaves a pack as it is, and what was known of it.
    pub(super) fn postpone(&mut self, pack: PackId, known: Condemned) {
        self.report.packs_postponed += 1;
        self.keep(pack, known);
    }

    pub(super) fn judge_unused(
        &mut self,
        pack: PackId,
        revisions: &Revisions,
        known: Option<&Condemned>,
    ) -> Result<Option<Condemned>, Error> {
        let whole = known.filter(|known| known.dead == ALL);
        match whole {
            Some(known) if self.is_ripe(known) => {
                for (revision, size) in revisions {
                    self.delete(pack, *revision)?;
                    self.report.bytes_reclaimed += size;
                }
                self.report.packs_deleted += 1;
                Ok(None)
            }
            Some(known) => Ok(Some(*known)),
            None => {
                Ok(Some(Condemned { since: self.policy.now, dead: ALL, series: series_of(known) }))
            }
        }
    }

    fn judge_used(
        &mut self,
        pack: PackId,
        revisions: &Revisions,
        live: Live,
        known: Option<&Condemned>,
    ) -> Result<Option<Condemned>, Error> {
        let (&newest, &size) = revisions.last_key_value().expect("it was listed");
        self.delete_superseded(pack, revisions, newest, live)?;
        let percent = u64::from(self.policy.rewrite_below_percent);
        // What is in use again, for instance by a copy of its root, is not dead.
        let known = known.map(|known| Condemned { dead: known.dead & !live.slots, ..*known });
        // What was nominated and is too little to rewrite for stays known: more may follow.
        let nominated = known.filter(|known| known.series != UNKNOWN && known.dead != 0);
        if live.bytes * 100 >= size * percent || newest + 1 >= REVISIONS_MAX {
            return Ok(nominated);
        }
        let directory = self.store.directory(pack, newest)?;
        let total: u64 = directory.entries.iter().map(|entry| u64::from(entry.length)).sum();
        if live.bytes * 100 >= total * percent {
            return Ok(nominated);
        }
        match known {
            Some(known) if self.is_ripe(&known) => {
                self.rewrite_and_delete(pack, newest, &directory, live, known.dead)?;
                Ok(None)
            }
            Some(known) => Ok(Some(known)),
            None => {
                let (since, dead) = (self.policy.now, !live.slots);
                Ok(Some(Condemned { since, dead, series: UNKNOWN }))
            }
        }
    }

    /// Older revisions remain after a crash. The newest has all that is in use, which is checked.
    fn delete_superseded(
        &mut self,
        pack: PackId,
        revisions: &Revisions,
        newest: u32,
        live: Live,
    ) -> Result<(), Error> {
        if revisions.len() == 1 {
            return Ok(());
        }
        let directory = self.store.directory(pack, newest)?;
        check_complete(pack, newest, &directory, live)?;
        for (revision, size) in revisions.range(..newest) {
            self.delete(pack, *revision)?;
            self.report.bytes_reclaimed += size;
        }
        Ok(())
    }

    /// Puts the next revision, without the dead items, in the place of the newest.
    pub(super) fn rewrite_and_delete(
        &mut self,
        pack: PackId,
        newest: u32,
        directory: &Directory,
        live: Live,
        dead: u64,
    ) -> Result<(), Error> {
        let size = retried(|| self.store.objects().head(&pack.object(newest)))?.size;
        if let Some(written) = self.rewrite(pack, newest, directory, live, dead)? {
            self.report.packs_rewritten += 1;
            self.report.bytes_reclaimed += size.saturating_sub(written);
            self.delete(pack, newest)?;
        }
        Ok(())
    }

    /// Stores the next revision without the dead items; its size, or `None` if nothing is dead.
    fn rewrite(
        &self,
        pack: PackId,
        newest: u32,
        directory: &Directory,
        live: Live,
        dead: u64,
    ) -> Result<Option<u64>, Error> {
        check_complete(pack, newest, directory, live)?;
        assert_eq!(dead & live.slots, 0, "what is in use is never dropped");
        let (store, object) = (self.store, pack.object(newest));
        let mut items: Vec<(DirectoryEntry, Bytes)> = Vec::new();
        for entry in directory.entries.iter().filter(|entry| dead & 1 << entry.slot == 0) {
            let bytes = store.fetch_range(&object, entry.offset, entry.length)?;
            check_item(store, pack, directory.kind, entry, &bytes).map_err(|Malformed| {
                Error::Corrupt { what: "item of a pack to rewrite", object: object.clone() }
            })?;
            items.push((*entry, bytes));
        }
        if items.len() == directory.entries.len() {
            return Ok(None);
        }
        let next = newest + 1;
        let bytes = rewrite(pack, next, directory.kind, &items, store.key(), store.rng());
        put_settled(store.objects(), &pack.object(next), &bytes)?;
        Ok(Some(bytes.len() as u64))
    }

    pub(super) fn is_ripe(&self, condemned: &Condemned) -> bool {
        condemned.since.plus_seconds(self.policy.grace_seconds) <= self.policy.now
    }

    fn delete(&self, pack: PackId, revision: u32) -> Result<(), Error> {
        match retried(|| self.store.objects().delete(&pack.object(revision))) {
            Ok(()) | Err(Error::Missing { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn series_of(known: Option<&Condemned>) -> [u8; 16] {
    known.map_or(UNKNOWN, |known| known.series)
}

/// Everything in use must be in the directory, or this revision is not what it should be.
fn check_complete(
    pack: PackId,
    revision: u32,
    directory: &Directory,
    live: Live,
) -> Result<(), Error> {
    let held = directory.entries.iter().fold(0u64, |held, entry| held | 1 << entry.slot);
    if live.slots & !held == 0 {
        Ok(())
    } else {
        Err(Error::Corrupt { what: "pack directory", object: pack.object(revision) })
    }
}

/// An item goes into a new revision only if it is what was stored.
pub(super) fn check_item(
    store: &SnapshotStore,
    pack: PackId,
    kind: PackKind,
    entry: &DirectoryEntry,
    bytes: &Bytes,
) -> Result<(), Malformed> {
    let opener = pack.opener(store.key());
    match kind {
        PackKind::Frames => {
            Frame::decode(bytes, &opener, entry.slot, entry.id, &entry.tag).map(|_| ())
        }
        PackKind::Nodes => {
            let kind = if entry.id == ROOT_ID {
                StructureKind::ManifestRoot
            } else {
                StructureKind::ManifestNode
            };
            let mut node = bytes.to_vec();
            let opened =
                opener.open(node_position(entry.slot), kind, entry.id, &entry.tag, &mut node);
            opened.map_err(|_| Malformed)
        }
    }
}
