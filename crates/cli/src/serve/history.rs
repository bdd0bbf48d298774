//! Which snapshots the changes of an attached volume can be told against.
//!
//! The rows know the volume's snapshots, its log knows at which generation it equalled some of them:
//! the cuts it still holds, and the last exports. A volume made from a snapshot equalled that one
//! before its first write.

use attach::{History, Milestone};
use base::{Region, VolumeId};
use blockstore::live::Engine;
use blockstore::snapshot::SnapshotRoot;
use blockstore::store::VolumeHandle;
use ebs::{snapshot, volume};

/// The history of one open volume.
pub(super) struct VolumeHistory {
    pub(super) db: meta::Db,
    pub(super) region: Region,
    pub(super) volume: VolumeId,
    pub(super) handle: VolumeHandle,
}

/// What the rows say.
struct Known {
    /// Snapshots of the volume, newest first, with the root's id once they are exported.
    snapshots: Vec<(String, Option<[u8; 16]>)>,
    /// The snapshot it was made from.
    base: Option<String>,
}

impl VolumeHistory {
    fn known(&self) -> Result<Known, ebs::Error> {
        let (region, id) = (self.region.clone(), self.volume.clone());
        let (volume, snapshots) = self.db.read_blocking(move |tx| {
            let volume = volume::get(tx, &region, &id)?;
            Ok::<_, ebs::Error>((volume, snapshot::list_of_volume(tx, &region, &id)?))
        })?;
        let snapshots = snapshots.into_iter().map(|snapshot| {
            // A root that cannot be read is found by whoever reads the snapshot; here it only
            // means that nothing can be told against it.
            let root = snapshot.root.and_then(|root| SnapshotRoot::from_bytes(&root).ok());
            (snapshot.id.to_string(), root.map(|root| root.id()))
        });
        let made_from = volume.filter(|volume| volume.base_root.is_some());
        Ok(Known {
            snapshots: snapshots.collect(),
            base: made_from.and_then(|volume| volume.snapshot_id).map(|id| id.to_string()),
        })
    }
}

fn milestones(engine: &Engine, known: Known) -> Vec<Milestone> {
    let cuts = engine.cuts();
    let generation = |snapshot: &str, root: Option<[u8; 16]>| {
        let cut = cuts.iter().find(|cut| cut.id.as_str() == snapshot).map(|cut| cut.generation);
        cut.or_else(|| engine.exported_generation(root?))
    };
    let taken = known.snapshots.into_iter().filter_map(|(snapshot, root)| {
        let generation = generation(&snapshot, root)?;
        Some(Milestone { snapshot, generation })
    });
    let base = known.base.map(|snapshot| Milestone { snapshot, generation: 0 });
    taken.chain(base).collect()
}

impl History for VolumeHistory {
    /// None when rows or volume cannot be asked: a client then sees no context and copies in full.
    fn milestones(&self) -> Vec<Milestone> {
        let known = match self.known() {
            Ok(known) => known,
            Err(error) => {
                tracing::warn!(volume = %self.volume, %error, "the snapshots could not be listed");
                return Vec::new();
            }
        };
        self.handle.ask(|engine| milestones(engine, known)).unwrap_or_else(|error| {
            tracing::warn!(volume = %self.volume, %error, "the volume could not be asked");
            Vec::new()
        })
    }
}
