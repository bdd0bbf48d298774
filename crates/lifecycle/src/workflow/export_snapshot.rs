//! Writes a cut out as a snapshot. No key is needed, so a disabled key stops no snapshot.
//!
//! Snapshots of one volume are written in the order they were taken, each incremental to the one
//! before when that still exists.

use super::progress::{Target, reported, resume};
use crate::jobs;
use crate::port::blocks::{ExportCut, Root, Stored, VolumeBlocks};
use crate::services::{Services, Trouble};
use base::{GIB, Region, SnapshotId};
use ebs::{Snapshot, SnapshotState, Volume, snapshot, volume};
use events::notification::{self, ArnForm, Outcome, Span};
use events::put_event;
use serde::{Deserialize, Serialize};

/// A cut to be written out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportSnapshot {
    /// Where.
    pub region: Region,
    /// The snapshot; its row is `pending`.
    pub snapshot: SnapshotId,
    /// Bytes in the volume when it was cut.
    pub size_bytes: u64,
    /// What the volume reads where it was never written.
    pub base_root: Option<Root>,
}

/// Does the work. Errors are transient: run it again later.
///
/// # Errors
/// When the work cannot go on now.
pub async fn run(services: &Services, job: &ExportSnapshot) -> Result<(), Trouble> {
    let (region, id) = (job.region.clone(), job.snapshot.clone());
    let row = services.db.read(move |tx| snapshot::get(tx, &region, &id)).await?;
    let Some(row) = row else { return Ok(()) };
    let volume = VolumeBlocks {
        region: job.region.clone(),
        volume: row.volume_id.clone(),
        size_bytes: job.size_bytes,
        base_root: job.base_root.clone(),
    };
    if matches!(row.state, SnapshotState::Pending(_)) {
        match export(services, job, &row, &volume).await {
            Ok(stored) => finish(services, &row, Ok(stored)).await?,
            Err(trouble) if trouble.is_transient() => return Err(trouble),
            Err(trouble) => {
                tracing::error!(snapshot = %row.id, %trouble, "a snapshot could not be written");
                finish(services, &row, Err(trouble.event_cause())).await?;
            }
        }
    }
    services.blocks.release_cut(&volume, &job.snapshot).await?;
    Ok(())
}

async fn export(
    services: &Services,
    job: &ExportSnapshot,
    row: &Snapshot,
    volume: &VolumeBlocks,
) -> Result<Stored, Trouble> {
    services.blocks.cut(volume, &row.id).await?;
    let parent_root = parent_root(services, row).await?;
    let target = Target::Snapshot(job.snapshot.clone());
    let export = ExportCut {
        volume: volume.clone(),
        snapshot: job.snapshot.clone(),
        parent_root,
        resume: resume(services, &job.region, &target).await?,
    };
    let stored = reported(services, &job.region, target, |reporter| {
        let (blocks, export) = (&services.blocks, &export);
        async move { blocks.export(export, &reporter).await }
    });
    Ok(stored.await?)
}

/// Makes the cuts of snapshots that were accepted just before the server stopped, in their order
/// and before any later one can be asked for. Call it once, before requests are served.
///
/// Nobody was answered, so nobody was promised an earlier moment. A cut that exists stays as it is.
///
/// # Errors
/// When the rows or the block store fail.
pub async fn recover(services: &Services) -> Result<(), Trouble> {
    for row in services.db.read(snapshot::list_pending_of_volumes).await? {
        let (region, id) = (row.region.clone(), row.volume_id.clone());
        let Some(volume) = services.db.read(move |tx| volume::get(tx, &region, &id)).await? else {
            continue;
        };
        services.blocks.cut(&blocks_of(&volume), &row.id).await?;
    }
    Ok(())
}

/// A volume as the block store knows it.
pub fn blocks_of(volume: &Volume) -> VolumeBlocks {
    VolumeBlocks {
        region: volume.region.clone(),
        volume: volume.id.clone(),
        size_bytes: u64::from(volume.size_gib) * GIB,
        base_root: volume.base_root.clone(),
    }
}

/// The root of the snapshot to be incremental to, pinned for as long as the export reads it.
async fn parent_root(services: &Services, row: &Snapshot) -> Result<Option<Root>, Trouble> {
    let Some(parent) = row.parent.clone() else { return Ok(None) };
    let row = row.clone();
    services
        .db
        .write(move |tx| {
            let Some(parent) = snapshot::get(tx, &row.region, &parent)? else { return Ok(None) };
            if let SnapshotState::Pending(_) = parent.state {
                return Err(Trouble::NotYet { what: "the snapshot before it" });
            }
            if let Some(root) = &parent.root {
                snapshot::pin_root(tx, &row.region, &row.id, root)?;
            }
            Ok(parent.root)
        })
        .await
}

async fn finish(
    services: &Services,
    row: &Snapshot,
    outcome: Result<Stored, String>,
) -> Result<(), Trouble> {
    let (row, ended) = (row.clone(), services.clock.now());
    let told = match &outcome {
        Ok(_) => Outcome::Succeeded,
        Err(cause) => Outcome::Failed(cause.clone()),
    };
    let envelope = services.envelope(&row.account, &row.region);
    let span = Span { start: row.started, end: ended };
    let (form, id, volume) = (ArnForm::Regular, &row.id, &row.volume_id);
    let done = notification::create_snapshot(envelope, form, id, volume, span, &told);
    services
        .db
        .write(move |tx| {
            let (region, id) = (&row.region, &row.id);
            let ended_now = match &outcome {
                Ok(Stored { root, full_bytes }) => {
                    snapshot::set_completed(tx, region, id, root, *full_bytes, ended)?
                }
                Err(cause) => snapshot::set_failed(tx, region, id, cause)?,
            };
            if ended_now {
                put_event(tx, &done)?;
                remove_if_deleted(tx, &row)?;
                jobs::hasten(tx, &row.account, &row.region, ended)?;
            }
            Ok(())
        })
        .await
}

/// A snapshot deleted while it was pending goes now (spec 02, "CreateSnapshot").
pub(super) fn remove_if_deleted(tx: &mut meta::Tx<'_>, row: &Snapshot) -> ebs::Result<()> {
    let deleted = snapshot::get(tx, &row.region, &row.id)?.is_some_and(|row| row.delete_requested);
    if deleted { snapshot::remove(tx, &row.region, &row.id) } else { Ok(()) }
}
