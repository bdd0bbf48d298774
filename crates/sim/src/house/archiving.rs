//! Snapshots that go into the archive and come back, and the stores they move between.

use super::{House, Objects, Refused, Snapshot, refused};
use blockstore::snapshot::{RepackJob, SnapshotRoot, SnapshotStore, repack};

/// Archived snapshots at once.
const ARCHIVED_MAX: usize = 3;

/// One of the stores of a house.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tier {
    Standard,
    Archive,
    Twins,
}

impl Tier {
    pub(super) const ALL: [Self; 3] = [Self::Standard, Self::Archive, Self::Twins];
}

impl House {
    /// What lies below a tier.
    pub(super) fn objects_of(&self, tier: Tier) -> &Objects {
        match tier {
            Tier::Standard => &self.objects,
            Tier::Archive => &self.archive_objects,
            Tier::Twins => &self.twin_objects,
        }
    }

    pub(super) fn store_of(&self, tier: Tier) -> &SnapshotStore {
        match tier {
            Tier::Standard => &self.store,
            Tier::Archive => &self.archive_store,
            Tier::Twins => &self.twin_store,
        }
    }

    /// A snapshot goes into the archive: its root gives way to the archive's.
    pub(super) fn archive(&mut self, at: usize) -> Result<(), Refused> {
        if self.archived.len() >= ARCHIVED_MAX {
            let gone = self.rng.below(ARCHIVED_MAX as u64) as usize;
            self.archived.swap_remove(gone);
        }
        let source = self.snapshots[at].root;
        let Some(root) = self.repacked(Tier::Archive, &source)? else { return Ok(()) };
        let is_source = |snapshot: &Snapshot| snapshot.root == source;
        let at = self.snapshots.iter().position(is_source).expect("nothing else removes it");
        let Snapshot { key, content, .. } = self.snapshots.swap_remove(at);
        self.archived.push(Snapshot { root, key, content });
        self.outcome.archived += 1;
        self.compare_in(Tier::Archive, self.archived.len() - 1)
    }

    /// An archived snapshot comes back, for a while or for good. What ends the while is what deletes
    /// snapshots.
    pub(super) fn restore(&mut self) -> Result<(), Refused> {
        let Some(at) = self.pick(self.archived.len()) else { return Ok(()) };
        let archived = &self.archived[at];
        let (source, key, content) = (archived.root, archived.key, archived.content.clone());
        let Some(root) = self.repacked(Tier::Standard, &source)? else { return Ok(()) };
        self.snapshots.push(Snapshot { root, key, content });
        if self.rng.below(2) == 0 {
            self.archived.swap_remove(at);
        }
        self.outcome.restored += 1;
        self.compare(self.snapshots.len() - 1)
    }

    pub(super) fn repacked(
        &mut self,
        to: Tier,
        source: &SnapshotRoot,
    ) -> Result<Option<SnapshotRoot>, Refused> {
        let made = self.in_attempts(to, &mut |house, resume, watch| {
            let job = RepackJob { source, resume, checkpoint_blocks: 3, threads: 0 };
            let from = match to {
                Tier::Archive | Tier::Twins => house.store_of(Tier::Standard),
                Tier::Standard => house.store_of(Tier::Archive),
            };
            repack(from, house.store_of(to), &job, watch).map_err(refused("repack"))
        });
        self.held.clear();
        made
    }
}
