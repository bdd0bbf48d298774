//! Collections, and the oracle of what they may and must leave.

use super::archiving::Tier;
use super::{House, HouseOutcome, Refused, Snapshot, refused};
use crate::model::Violation;
use base::Clock;
use blockstore::snapshot::{
    Checkpoint, CollectPolicy, Observer, SnapshotRoot, SnapshotStore, collect, verify,
};
use objstore::{Bytes, Error, FaultPlan, ObjectMeta, ObjectStore};
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A store that remembers which objects were read.
pub(super) struct Recorder<S> {
    inner: S,
    read: Mutex<BTreeSet<String>>,
    meddling: Mutex<Option<Arc<Meddling>>>,
}

impl<S: ObjectStore> Recorder<S> {
    pub(super) fn new(inner: S) -> Self {
        Self { inner, read: Mutex::default(), meddling: Mutex::default() }
    }

    pub(super) fn inner(&self) -> &S {
        &self.inner
    }

    /// Changes who meddles; returns who did.
    fn meddle(&self, meddling: Option<Arc<Meddling>>) -> Option<Arc<Meddling>> {
        let mut held = self.meddling.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut held, meddling)
    }

    fn take(&self) -> BTreeSet<String> {
        std::mem::take(&mut *self.read.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn note(&self, name: &str) {
        self.read.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
    }
}

impl<S: ObjectStore> ObjectStore for Recorder<S> {
    fn put(&self, name: &str, bytes: Bytes) -> Result<(), Error> {
        let put = self.inner.put(name, bytes);
        if is_pack(name) {
            // Taken away meanwhile, because a collection stores packs itself.
            let meddling = self.meddle(None);
            if let Some(meddling) = meddling {
                meddling.after_put();
                self.meddle(Some(meddling));
            }
        }
        put
    }

    fn get(&self, name: &str) -> Result<Bytes, Error> {
        self.note(name);
        self.inner.get(name)
    }

    fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes, Error> {
        self.note(name);
        self.inner.get_range(name, range)
    }

    fn delete(&self, name: &str) -> Result<(), Error> {
        self.inner.delete(name)
    }

    fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, Error> {
        self.inner.list(prefix)
    }

    fn head(&self, name: &str) -> Result<ObjectMeta, Error> {
        self.inner.head(name)
    }
}

/// Collects after packs were stored, in the middle of whatever stores them.
pub(super) struct Meddling {
    store: SnapshotStore,
    policy: CollectPolicy,
    /// Packs from one collection to the next.
    every: u64,
    seen: Mutex<Seen>,
}

/// What a meddling did and was told.
struct Seen {
    roots: Vec<SnapshotRoot>,
    puts: u64,
    collections: u64,
    failed: Option<Refused>,
}

impl Meddling {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn after_put(&self) {
        self.seen().puts += 1;
        if !self.seen().puts.is_multiple_of(self.every) {
            return;
        }
        // Twice: what the first condemns the second would delete, were there no grace.
        for _ in 0..2 {
            let roots = self.seen().roots.clone().into_iter().map(Ok::<_, Infallible>);
            let collected =
                collect(&self.store, roots, &[], &self.policy).map_err(refused("collect"));
            let mut seen = self.seen();
            seen.collections += 1;
            // A collection that fails with the store has deleted nothing it may not.
            if let Err(failed @ Refused::Violation(_)) = collected {
                seen.failed = Some(failed);
            }
        }
    }
}

/// Watches an export or a copy: keeps its checkpoints alive, and stops it sometimes.
pub(super) struct Watch<'a> {
    pub(super) meddling: &'a Meddling,
    /// Blocks until it stops the work.
    pub(super) stop_after: u64,
    pub(super) asked: AtomicU64,
    pub(super) checkpoint: Mutex<Option<Checkpoint>>,
}

impl Observer for Watch<'_> {
    fn progress(&self, _done: u64, _total: u64) {}

    fn checkpoint(
        &self,
        checkpoint: &Checkpoint,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        *self.checkpoint.lock().unwrap_or_else(PoisonError::into_inner) = Some(*checkpoint);
        self.meddling.seen().roots.push(*checkpoint.root());
        Ok(())
    }

    fn is_cancelled(&self) -> bool {
        self.asked.fetch_add(1, Ordering::Relaxed) >= self.stop_after
    }

    fn admit(&self, _bytes: u64) {}
}

impl House {
    pub(super) fn policy(&self) -> CollectPolicy {
        CollectPolicy {
            now: self.clock.now(),
            grace_seconds: self.told.grace_seconds,
            rewrite_below_percent: 60,
        }
    }

    pub(super) fn live_roots(&self, tier: Tier) -> Vec<SnapshotRoot> {
        let root = |snapshot: &Snapshot| snapshot.root;
        let held = self.held.iter().filter(|(held_in, _)| *held_in == tier).map(|(_, root)| *root);
        match tier {
            Tier::Archive => self.archived.iter().map(root).chain(held).collect(),
            Tier::Twins => {
                let twins = self.twins.iter().map(|twin| twin.snapshot.root);
                let read = self.volumes.iter().filter_map(|volume| volume.twin);
                twins.chain(read).chain(held).collect()
            }
            Tier::Standard => {
                let snapshots = self.snapshots.iter().map(root);
                let bases = self.volumes.iter().filter_map(|volume| volume.base);
                let bases = bases.map(|(_, root)| root);
                let uploads = self.uploads.iter().filter_map(|upload| upload.parent());
                snapshots.chain(bases).chain(uploads).chain(held).collect()
            }
        }
    }

    pub(super) fn collect(&mut self) -> Result<(), Refused> {
        for tier in Tier::ALL {
            let roots = self.live_roots(tier).into_iter().map(Ok::<_, Infallible>);
            let collected = collect(self.store_of(tier), roots, &[], &self.policy());
            let report = collected.map_err(refused("collect"))?;
            let outcome: &mut HouseOutcome = &mut self.outcome;
            outcome.collections += 1;
            outcome.packs_deleted += report.packs_deleted;
            outcome.packs_rewritten += report.packs_rewritten;
        }
        Ok(())
    }

    /// Does work in a tier while collections of the tier run in its middle.
    pub(super) fn meddled<T>(
        &mut self,
        tier: Tier,
        more_roots: &[SnapshotRoot],
        work: impl FnOnce(&mut Self, &Meddling) -> Result<T, Refused>,
    ) -> Result<T, Refused> {
        let mut roots = self.live_roots(tier);
        roots.extend(more_roots);
        let seen = Seen { roots, puts: 0, collections: 0, failed: None };
        let meddling = Arc::new(Meddling {
            store: self.store_of(tier).clone(),
            policy: self.policy(),
            every: 1 + self.rng.below(3),
            seen: Mutex::new(seen),
        });
        self.objects_of(tier).meddle(Some(Arc::clone(&meddling)));
        let done = work(self, &meddling);
        self.objects_of(tier).meddle(None);
        let mut seen = meddling.seen();
        self.outcome.collections += seen.collections;
        seen.failed.take().map_or(done, Err)
    }

    pub(super) fn wait(&self, seconds: i64) {
        self.clock.advance_seconds(seconds);
    }

    /// Lets everything unused ripen and go. What is left must be exactly what reading every live
    /// root needs, found without any of the collection's code: by reading.
    pub(super) fn settle(&mut self) -> Result<(), Refused> {
        Tier::ALL.into_iter().for_each(|tier| self.restart(tier, FaultPlan::default()));
        for _ in 0..3 {
            self.collect()?;
            self.wait(self.told.grace_seconds + 1);
        }
        Tier::ALL.into_iter().try_for_each(|tier| self.compare_stored(tier))
    }

    fn compare_stored(&mut self, tier: Tier) -> Result<(), Refused> {
        let objects = Arc::clone(self.objects_of(tier));
        // A store of its own has nothing in its caches.
        let store = super::snapshot_store(tier, &objects, &self.rng);
        drop(objects.take());
        for root in self.live_roots(tier) {
            verify(&store, &root, None).map_err(refused("verify"))?;
        }
        let pack = |name: &str| name.split('.').next().unwrap_or(name).to_owned();
        let read: BTreeSet<String> =
            objects.take().iter().filter(|name| is_pack(name)).map(|n| pack(n)).collect();
        let held = objects.inner().list("packs").map_err(|error| Violation::Failed {
            action: "list packs",
            error: error.to_string(),
        })?;
        let mut held: BTreeSet<String> = held.iter().map(|meta| pack(&meta.name)).collect();
        // What open uploads wrote is nobody's yet.
        let writers: Vec<String> = match tier {
            Tier::Standard => self.upload_writers()?,
            Tier::Archive | Tier::Twins => Vec::new(),
        };
        held.retain(|name| read.contains(name) || !writers.iter().any(|w| name.contains(w)));
        match read.symmetric_difference(&held).next() {
            None => Ok(()),
            Some(name) => {
                let what = if held.contains(name) { "leaked" } else { "lost" };
                let error = format!("{what}: {name}");
                Err(Violation::Failed { action: "compare what is stored", error }.into())
            }
        }
    }
}

fn is_pack(name: &str) -> bool {
    name.starts_with("packs/")
}
