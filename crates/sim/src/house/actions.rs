//! What is asked of a house, and its end.

use super::archiving::Tier;
use super::collection::Watch;
use super::{House, HouseOutcome, Refused, Snapshot, Weather, refused, refused_by_volume};
use crate::model::Violation;
use blockstore::live::CutId;
use blockstore::page::{KeyAtHand, NoKey};
use blockstore::snapshot::{
    Checkpoint, CopyJob, CopyKeys, EarlierCopy, Export, SnapshotRoot, copy, export,
};
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};

/// Volumes at once.
const VOLUMES_MAX: usize = 4;
/// Snapshots at once.
const SNAPSHOTS_MAX: usize = 8;
/// Attempts at one export or copy before it is given up.
const ATTEMPTS: u64 = 4;

impl House {
    pub(super) fn step(&mut self) -> Result<(), Refused> {
        self.wait(self.rng.below(20) as i64);
        let volume = self.pick(self.volumes.len());
        let snapshot = self.pick(self.snapshots.len());
        match (self.rng.below(100), volume, snapshot) {
            (_, None, _) | (0..6, ..) if self.volumes.len() < VOLUMES_MAX => self.create_volume(),
            (0..37, Some(at), _) => self.write(at),
            (37..40, Some(at), _) => self.detach(at),
            (40..50, Some(at), _) => self.read(at),
            (50..61, Some(at), _) => self.snapshot_of(at),
            (61..63, _, Some(at)) => self.archive(at),
            (63..65, ..) => self.restore(),
            (65..70 | 78..80, _, Some(at)) => self.copy(at),
            (70..76, _, Some(at)) => {
                // Volumes made from it go on reading it; the root stays among the live ones.
                self.snapshots.swap_remove(at);
                Ok(())
            }
            (76..78, _, Some(at)) => self.compare(at),
            (80..82, Some(at), _) => self.hydrate(at),
            (82..84, Some(at), _) => self.reseal(at),
            (84..91, ..) => self.upload(),
            (91..93, _, Some(at)) => self.twin(at),
            (93, ..) => {
                self.give_up_twin();
                Ok(())
            }
            (94..96, Some(at), _) => {
                self.delete_volume(at);
                Ok(())
            }
            _ => self.collect(),
        }
    }

    /// A cut, and its export on top of the newest snapshot that the volume still knows.
    fn snapshot_of(&mut self, at: usize) -> Result<(), Refused> {
        if self.snapshots.len() >= SNAPSHOTS_MAX {
            return Ok(());
        }
        // A snapshot has pages of one key.
        self.reseal(at)?;
        if self.volumes[at].base_key != self.volumes[at].key {
            return Ok(());
        }
        let id = CutId::new(&self.name("snap")).expect("it is short and ASCII");
        let failed = refused_by_volume("cut");
        self.engine(at)?.cut(id).map_err(&failed)?;
        let content = self.volumes[at].content.clone();
        // Only a snapshot that exists is a parent.
        let alive: Vec<SnapshotRoot> = self.snapshots.iter().map(|s| s.root).collect();
        self.volumes[at].exported.retain(|root| alive.contains(root));
        let mut parent = self.volumes[at].exported.last().copied();
        let mut since = None;
        if let Some(root) = parent {
            since = self.engine(at)?.exported_generation(root.id());
            parent = parent.filter(|_| since.is_some());
        }
        if since.is_none() {
            parent = self.volumes[at].base.map(|(_, root)| root);
        }
        let key = self.volumes[at].key;
        let key_check = Some(self.keys[key].check_value());
        self.held.extend(parent.map(|parent| (Tier::Standard, parent)));
        let made = self.in_attempts(Tier::Standard, &mut |house, resume, watch| {
            let source = house.engine(at)?.open_cut(id, since).map_err(&failed)?;
            // Without the key pages are compared with their chunks.
            let is_odd = house.snapshots.len() % 2 == 1;
            let key: &dyn KeyAtHand = if is_odd { &NoKey } else { &house.keys[key] };
            let parent = parent.as_ref();
            let job = Export { parent, key_check, resume, checkpoint_blocks: 3, key };
            export(&house.store, &source, &job, watch).map_err(refused("export"))
        });
        self.held.clear();
        if let Ok(Some(root)) = &made {
            let engine = self.engine(at)?;
            engine.note_export(id, root.id()).map_err(&failed)?;
            self.volumes[at].exported.push(*root);
            self.snapshots.push(Snapshot { root: *root, key, content });
            self.outcome.exports += 1;
            self.outcome.increments += u64::from(since.is_some());
        }
        self.engine(at)?.drop_cut(id).map_err(&failed)?;
        if made?.is_some() { self.compare(self.snapshots.len() - 1) } else { Ok(()) }
    }

    /// The same snapshot once more, under its key or another, on top of an earlier copy if there
    /// is one that fits.
    fn copy(&mut self, at: usize) -> Result<(), Refused> {
        if self.snapshots.len() >= SNAPSHOTS_MAX {
            return Ok(());
        }
        let at = match self.neighbour_of_a_copied_one() {
            Some(neighbour) if self.rng.below(4) > 0 => neighbour,
            _ => at,
        };
        let (source, from) = (self.snapshots[at].root, self.snapshots[at].key);
        let content = self.snapshots[at].content.clone();
        let (to, fitting) = self.key_and_earlier_copies(source);
        let made = self.in_attempts(Tier::Standard, &mut |house, resume, watch| {
            // Whoever goes on may choose another one than before, and must not be led astray.
            let chosen = house.rng.below(1 + fitting.len() as u64).checked_sub(1);
            let earlier = chosen.map(|at| fitting[at as usize]);
            house.outcome.resumed_on_copies += u64::from(resume.is_some() && earlier.is_some());
            let keys = if from == to {
                CopyKeys::Same
            } else {
                CopyKeys::Change { source: &house.keys[from], target: &house.keys[to] }
            };
            let earlier = earlier.as_ref();
            let earlier = earlier.map(|(source, copy)| EarlierCopy { source, copy });
            let job = CopyJob {
                source: &source,
                keys,
                earlier,
                resume,
                checkpoint_blocks: 1,
                threads: 0,
            };
            copy(&house.store, &house.store, &job, watch).map_err(refused("copy"))
        });
        self.held.clear();
        let Some(root) = made? else { return Ok(()) };
        self.copied.push(Copied { source, copy: root, key: to });
        self.snapshots.push(Snapshot { root, key: to, content });
        self.outcome.copies += 1;
        self.compare(self.snapshots.len() - 1)
    }

    /// The snapshot with the most blocks of those whose volume has another that was copied.
    fn neighbour_of_a_copied_one(&self) -> Option<usize> {
        let is_one = |snapshot: &Snapshot| {
            let neighbours = |pair: &Copied| {
                pair.source.series() == snapshot.root.series() && pair.source != snapshot.root
            };
            self.copied.iter().any(neighbours)
        };
        let found = self.snapshots.iter().enumerate().filter(|(_, snapshot)| is_one(snapshot));
        found.max_by_key(|(_, snapshot)| snapshot.root.full_blocks()).map(|(at, _)| at)
    }

    /// A key to copy a snapshot to, and what a copy may add to: earlier copies under that key that are
    /// there, as is what they are copies of.
    fn key_and_earlier_copies(
        &self,
        source: SnapshotRoot,
    ) -> (usize, Vec<(SnapshotRoot, SnapshotRoot)>) {
        let is_there = |root| self.snapshots.iter().any(|s| s.root == root);
        let related = self.copied.iter().filter(|pair| {
            pair.source.series() == source.series() && is_there(pair.source) && is_there(pair.copy)
        });
        let related: Vec<_> = related.collect();
        let key = match related.last() {
            Some(pair) if self.rng.below(4) > 0 => pair.key,
            _ => self.rng.below(self.keys.len() as u64) as usize,
        };
        let fitting = related.into_iter().filter(|pair| pair.key == key);
        (key, fitting.map(|pair| (pair.source, pair.copy)).collect())
    }

    /// Does long work that makes something in a tier until it is done or given up. Between attempts time
    /// passes, collections run and the process may have died. `None` when it was given up.
    pub(super) fn in_attempts(
        &mut self,
        tier: Tier,
        work: &mut Work<'_>,
    ) -> Result<Option<SnapshotRoot>, Refused> {
        let mut checkpoint: Option<Checkpoint> = None;
        for attempt in 0..ATTEMPTS {
            let more: Vec<_> = checkpoint.iter().map(|checkpoint| *checkpoint.root()).collect();
            let stop_after = if self.rng.below(2) == 0 { self.rng.below(6) } else { u64::MAX };
            let from = checkpoint;
            let made = self.meddled(tier, &more, |house, meddling| {
                let (asked, reached) = (AtomicU64::new(0), Mutex::default());
                let watch = Watch { meddling, stop_after, asked, checkpoint: reached };
                let made = work(house, from.as_ref(), &watch);
                let reached = watch.checkpoint.into_inner().unwrap_or_else(PoisonError::into_inner);
                checkpoint = reached.or(from);
                made
            });
            match made {
                Ok(root) => {
                    self.outcome.resumed += u64::from(attempt > 0);
                    return Ok(Some(root));
                }
                Err(Refused::Violation(violation)) => return Err(violation.into()),
                Err(Refused::Store) => {
                    if self.told.store == Weather::Foul {
                        self.after_a_failure()?;
                    }
                    // The checkpoint is kept, so it stays alive through this.
                    self.held.extend(checkpoint.map(|checkpoint| (tier, *checkpoint.root())));
                    self.wait(self.rng.below(2 * self.told.grace_seconds.max(1) as u64) as i64);
                    match self.collect() {
                        Err(Refused::Store) if self.told.store == Weather::Foul => {
                            self.after_a_failure()?;
                        }
                        collected => collected?,
                    }
                }
            }
        }
        Ok(None)
    }

    /// At the end everything is compared, then everything is given up, and nothing may be left.
    pub(super) fn finish(mut self) -> Result<HouseOutcome, Violation> {
        Tier::ALL.into_iter().for_each(|tier| self.restart(tier, objstore::FaultPlan::default()));
        let ended = self.end();
        ended.map_err(|refused| match refused {
            Refused::Violation(violation) => violation,
            Refused::Store => {
                let error = "the store does not fail now".to_owned();
                Violation::Failed { action: "end", error }
            }
        })?;
        self.outcome.digest = self.rng.next_u64();
        Ok(self.outcome)
    }

    fn end(&mut self) -> Result<(), Refused> {
        self.settle()?;
        for at in 0..self.snapshots.len() {
            self.compare(at)?;
        }
        for at in 0..self.archived.len() {
            self.compare_in(Tier::Archive, at)?;
        }
        for at in 0..self.twins.len() {
            self.compare_in(Tier::Twins, at)?;
        }
        self.check_volumes()?;
        for at in 0..self.uploads.len() {
            self.compare_upload(at)?;
        }
        self.give_up_uploads()?;
        self.settle()?;
        self.snapshots.clear();
        self.archived.clear();
        self.twins.clear();
        self.volumes.clear();
        self.settle()
    }
}

/// One attempt at long work, from a checkpoint if there is one.
type Work<'a> =
    dyn FnMut(&mut House, Option<&Checkpoint>, &Watch<'_>) -> Result<SnapshotRoot, Refused> + 'a;

/// A copy that was made, and of what.
pub(super) struct Copied {
    source: SnapshotRoot,
    copy: SnapshotRoot,
    key: usize,
}
