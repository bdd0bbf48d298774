//! Which snapshots the changes of an attached volume can be told against.
//!
//! The rows know the volume's snapshots, its log knows at which generation it equalled some of them:
//! the cuts it still holds, and the last exports. A volume made from a snapshot equalled that one
//! before its first write.

use attach::{History, Milestone};
use base::{Region, VolumeId};
use blockstore::live::{CutId, Engine};
use blockstore::snapshot::SnapshotRoot;
use blockstore::store::VolumeHandle;
use ebs::{snapshot, volume};
use remote::{SnapshotList, Snapshots};
use std::sync::Arc;

/// The history of one open volume, wherever its snapshots are known.
pub(crate) struct VolumeHistory {
    pub(crate) snapshots: Arc<dyn Snapshots>,
    pub(crate) handle: VolumeHandle,
}

/// The snapshots of a volume, from the rows.
pub(crate) struct SnapshotRows {
    pub(crate) db: meta::Db,
    pub(crate) region: Region,
    pub(crate) volume: VolumeId,
}

impl SnapshotRows {
    fn read(&self) -> Result<SnapshotList, ebs::Error> {
        let (region, id) = (self.region.clone(), self.volume.clone());
        let (volume, snapshots) = self.db.read_blocking(move |tx| {
            let volume = volume::get(tx, &region, &id)?;
            Ok::<_, ebs::Error>((volume, snapshot::list_of_volume(tx, &region, &id)?))
        })?;
        let taken = snapshots.into_iter().filter_map(|snapshot| {
            // A root that cannot be read is found by whoever reads the snapshot; here it only
            // means that nothing can be told against it.
            let root = snapshot.root.and_then(|root| SnapshotRoot::from_bytes(&root).ok());
            Some((CutId::new(snapshot.id.as_str())?, root.map(|root| root.id())))
        });
        let made_from = volume.filter(|volume| volume.base_root.is_some());
        let made_from = made_from.and_then(|volume| volume.snapshot_id);
        Ok(SnapshotList {
            taken: taken.collect(),
            made_from: made_from.and_then(|id| CutId::new(id.as_str())),
        })
    }
}

impl Snapshots for SnapshotRows {
    fn list(&self) -> SnapshotList {
        self.read().unwrap_or_else(|error| {
            tracing::warn!(volume = %self.volume, %error, "the snapshots could not be listed");
            SnapshotList::default()
        })
    }
}

fn milestones(engine: &Engine, known: SnapshotList) -> Vec<Milestone> {
    let cuts = engine.cuts();
    let generation = |snapshot: CutId, root: Option<[u8; 16]>| {
        let cut = cuts.iter().find(|cut| cut.id == snapshot).map(|cut| cut.generation);
        cut.or_else(|| engine.exported_generation(root?))
    };
    let taken = known.taken.into_iter().filter_map(|(snapshot, root)| {
        let generation = generation(snapshot, root)?;
        Some(Milestone { snapshot: snapshot.as_str().to_owned(), generation })
    });
    let base = known
        .made_from
        .map(|snapshot| Milestone { snapshot: snapshot.as_str().to_owned(), generation: 0 });
    taken.chain(base).collect()
}

impl History for VolumeHistory {
    /// None when rows or volume cannot be asked: a client then sees no context and copies in full.
    fn milestones(&self) -> Vec<Milestone> {
        let known = self.snapshots.list();
        self.handle.ask(|engine| milestones(engine, known)).unwrap_or_else(|error| {
            tracing::warn!(%error, "the volume could not be asked");
            Vec::new()
        })
    }
}
