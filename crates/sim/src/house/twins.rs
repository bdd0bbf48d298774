//! Twins: snapshots written whole into a store of their own, which volumes then read.

use super::archiving::Tier;
use super::{House, Refused, Snapshot, refused};
use blockstore::page::BaseReader;
use blockstore::snapshot::{SnapshotRoot, TwinReader};
use std::sync::Arc;

/// Twins at once.
const TWINS_MAX: usize = 3;

/// A twin that new volumes may be made with.
pub(super) struct Twin {
    /// The root it is a twin of.
    of: SnapshotRoot,
    /// The same snapshot, as it lies among the twins.
    pub(super) snapshot: Snapshot,
}

impl House {
    /// A snapshot gets a twin, and a volume is made with it.
    pub(super) fn twin(&mut self, at: usize) -> Result<(), Refused> {
        let of = self.snapshots[at].root;
        if self.twins.len() >= TWINS_MAX || self.twin_of(&of).is_some() {
            return Ok(());
        }
        let (key, content) = (self.snapshots[at].key, self.snapshots[at].content.clone());
        let Some(root) = self.repacked(Tier::Twins, &of)? else { return Ok(()) };
        self.twins.push(Twin { of, snapshot: Snapshot { root, key, content } });
        self.outcome.twins += 1;
        self.compare_in(Tier::Twins, self.twins.len() - 1)?;
        if let Some(at) = self.pick(self.volumes.len()) {
            self.delete_volume(at);
        }
        let base = self.snapshots.iter().position(|snapshot| snapshot.root == of);
        self.create_volume_from(base)
    }

    /// Nobody wants a twin for new volumes any more. Those made with it go on reading it.
    pub(super) fn give_up_twin(&mut self) {
        if let Some(at) = self.pick(self.twins.len()) {
            self.twins.swap_remove(at);
        }
    }

    /// The twin of a snapshot, if it has one.
    pub(super) fn twin_of(&self, root: &SnapshotRoot) -> Option<SnapshotRoot> {
        self.twins.iter().find(|twin| twin.of == *root).map(|twin| twin.snapshot.root)
    }

    /// What a volume reads that was made with a twin.
    pub(super) fn twin_reader(
        &self,
        twin: &SnapshotRoot,
        of: &SnapshotRoot,
    ) -> Result<Arc<dyn BaseReader>, Refused> {
        let original = (self.store_of(Tier::Standard), of);
        let reader = TwinReader::open(self.store_of(Tier::Twins), twin, original);
        Ok(Arc::new(reader.map_err(refused("open a twin"))?))
    }
}
