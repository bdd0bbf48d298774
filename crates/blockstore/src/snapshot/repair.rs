//! Making anew what is derived: the headers, footers and directories of packs, and the ledger.
//!
//! A pack whose items are whole is written again, as a revision of its own, with every item that a
//! root names; then the damaged revision is removed. Items prove themselves by the tags in the
//! manifests, so nothing is taken on trust. A pack that lost an item is left as it is.

use super::Error;
use super::collect::check_item;
use super::ledger::Ledger;
use super::mark::Marks;
use super::pack::{Directory, DirectoryEntry, PackId, PackKind, REVISIONS_MAX, rewrite};
use super::root::SnapshotRoot;
use super::store::{SnapshotStore, retried};
use crate::check::{Fault, Findings};
use objstore::{Bytes, put_settled};
use std::collections::{BTreeMap, BTreeSet};

/// What a repair did, or could not do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repair {
    /// The object that was damaged.
    pub place: String,
    /// Whether it is right now.
    pub done: bool,
    /// What was done, or why it was not.
    pub detail: String,
}

/// Repairs what of `findings` is derived from something else. `live_roots` are all roots, as for a
/// collection, which may not run meanwhile.
///
/// # Errors
/// When a root cannot be followed or the store fails. What was repaired until then stays.
pub fn repair(
    store: &SnapshotStore,
    live_roots: &[SnapshotRoot],
    findings: &Findings,
) -> Result<Vec<Repair>, Error> {
    let store = store.unremembered();
    let mut repairs = Vec::new();
    if findings.has(Fault::Ledger) {
        Ledger::load(&store)?.replace(&store, &BTreeMap::new())?;
        let detail = "an empty ledger was written; unused packs wait for their grace period anew";
        repairs.push(Repair { place: "gc".into(), done: true, detail: detail.into() });
    }
    let derived = [Fault::PackHeader, Fault::PackFooter, Fault::PackDirectory];
    let broken: BTreeSet<(PackId, u32)> = findings
        .iter()
        .filter(|finding| derived.contains(&finding.fault))
        .filter_map(|finding| PackId::parse_object(&finding.place))
        .collect();
    if broken.is_empty() {
        return Ok(repairs);
    }
    let mut named: BTreeMap<PackId, Named> = BTreeMap::new();
    let mut marks = Marks::default();
    for root in live_roots {
        marks.mark_with(&store, root, &mut |kind, id, item| {
            if broken.range((item.pack, 0)..=(item.pack, u32::MAX)).next().is_some() {
                let named = named.entry(item.pack).or_insert_with(|| Named::new(kind));
                let (slot, offset, length, tag) = (item.slot, item.offset, item.length, item.tag);
                named.entries.push(DirectoryEntry { slot, id, offset, length, tag });
            }
        })?;
    }
    for (pack, revision) in broken {
        let place = pack.object(revision);
        let Some(named) = named.get_mut(&pack) else {
            let detail = "no root names the pack: a collection removes it".to_owned();
            repairs.push(Repair { place, done: false, detail });
            continue;
        };
        named.entries.sort_unstable_by_key(|entry| entry.slot);
        repairs.push(rewrite_pack(&store, pack, revision, named)?);
    }
    Ok(repairs)
}

/// What roots name of a pack, with the places in revision 0.
struct Named {
    kind: PackKind,
    entries: Vec<DirectoryEntry>,
}

impl Named {
    fn new(kind: PackKind) -> Self {
        Self { kind, entries: Vec::new() }
    }

    /// Whether a directory has every item that is named.
    fn are_in(&self, directory: &Directory) -> bool {
        self.entries.iter().all(|entry| {
            let held = directory.entry(entry.slot);
            held.is_some_and(|held| (held.tag, held.length) == (entry.tag, entry.length))
        })
    }
}

fn rewrite_pack(
    store: &SnapshotStore,
    pack: PackId,
    revision: u32,
    named: &Named,
) -> Result<Repair, Error> {
    let place = pack.object(revision);
    let failed =
        |detail: &str| Repair { place: place.clone(), done: false, detail: detail.to_owned() };
    let entries = match store.directory(pack, revision) {
        Ok(directory) if named.are_in(&directory) => directory.entries,
        Ok(_) | Err(Error::Corrupt { .. } | Error::Missing { .. }) if revision == 0 => {
            named.entries.clone()
        }
        Ok(_) | Err(Error::Corrupt { .. } | Error::Missing { .. }) => {
            return Ok(failed("where a rewritten pack's items lie is only in its directory"));
        }
        Err(error) => return Err(error),
    };
    let mut items: Vec<(DirectoryEntry, Bytes)> = Vec::with_capacity(entries.len());
    for entry in entries {
        let bytes = match store.fetch_range(&place, entry.offset, entry.length) {
            Ok(bytes) => bytes,
            Err(Error::Store { source }) => return Err(Error::Store { source }),
            Err(_) => return Ok(failed("an item in use is missing from the pack")),
        };
        if check_item(store, pack, named.kind, &entry, &bytes).is_err() {
            return Ok(failed("an item in use is damaged"));
        }
        items.push((entry, bytes));
    }
    let newest = newest_revision(store, pack)?;
    let next = newest + 1;
    if newest > revision || next >= REVISIONS_MAX {
        return Ok(failed("the pack was rewritten meanwhile, or cannot be any more"));
    }
    let bytes = rewrite(pack, next, named.kind, &items, store.key(), store.rng());
    put_settled(store.objects(), &pack.object(next), &bytes)?;
    // Whoever still reads the old revision finds the new one, as after a collection.
    match retried(|| store.objects().delete(&place)) {
        Ok(()) | Err(Error::Missing { .. }) => {}
        Err(error) => return Err(error),
    }
    let detail = format!("written again as {} with {} items", pack.object(next), items.len());
    Ok(Repair { place, done: true, detail })
}

fn newest_revision(store: &SnapshotStore, pack: PackId) -> Result<u32, Error> {
    let objects = retried(|| store.objects().list(&pack.writer().directory()))?;
    let revisions = objects.iter().filter_map(|meta| PackId::parse_object(&meta.name));
    Ok(revisions.filter(|(found, _)| *found == pack).map(|(_, at)| at).max().unwrap_or(0))
}
