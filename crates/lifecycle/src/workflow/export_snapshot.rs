//! Writes a cut out as a snapshot. No key is asked for, so a disabled key stops no snapshot.
//!
//! Snapshots of one volume are written in the order they were taken, each incremental to the one
//! before when that still exists.

use super::progress::{Target, reported, resume};
use super::remote;
use crate::jobs;
use crate::kinds::enqueue_collect;
use crate::port::blocks::{BaseRoot, BlockError, ExportCut, Root, Stored, VolumeBlocks};
use crate::port::kms::VolumeKey;
use crate::services::{INTERNAL_CAUSE, Services, Trouble};
use base::{GIB, Region, SnapshotId, Timestamp, VolumeId};
use ebs::snapshot_set::{self, SetOutcome};
use ebs::{ForeignBase, Snapshot, SnapshotState, Volume, foreign_base, snapshot, volume};
use events::event::Envelope;
use events::notification::{self, ArnForm, Outcome, SetMember, Span};
use events::{ServiceEvent, put_event};
use serde::{Deserialize, Serialize};

/// What is said of a snapshot that was taken together with one that failed.
const SET_FAILED: &str = "A snapshot that was taken together with this one could not be created";

/// A cut to be written out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportSnapshot {
    /// Where.
    pub region: Region,
    /// The snapshot; its row is `pending`.
    pub snapshot: SnapshotId,
    /// Bytes in the volume when it was cut.
    pub size_bytes: u64,
    /// What the volume read where it was never written.
    pub base_root: Option<Root>,
    /// The volume that was cut. Its row may be gone when the work is taken up, and the snapshot's too.
    #[serde(default)]
    pub volume: Option<VolumeId>,
}

/// Does the work. Errors are transient: run it again later.
///
/// # Errors
/// When the work cannot go on now.
pub async fn run(services: &Services, job: &ExportSnapshot) -> Result<(), Trouble> {
    let (region, id) = (job.region.clone(), job.snapshot.clone());
    let row = services.db.read(move |tx| snapshot::get(tx, &region, &id)).await?;
    let Some(row) = row else { return let_go_unnamed(services, job).await };
    if matches!(row.state, SnapshotState::Pending(_)) {
        match export(services, job, &row).await {
            Ok(stored) => finish(services, &row, Ok(stored)).await?,
            Err(trouble) if trouble.is_transient() => return Err(trouble),
            Err(trouble) => {
                tracing::error!(
                    snapshot = %row.id,
                    trouble = base::with_causes(&trouble),
                    "a snapshot could not be written"
                );
                finish(services, &row, Err(trouble.event_cause())).await?;
            }
        }
    }
    let_go(services, job, &row).await
}

/// Lets go of the cut of a snapshot that is written or given up; then a snapshot that was deleted
/// meanwhile goes. In this order, because the row knows the volume that holds the cut.
///
/// # Errors
/// When the work cannot go on now.
pub async fn release(services: &Services, job: &ExportSnapshot) -> Result<(), Trouble> {
    let (region, id) = (job.region.clone(), job.snapshot.clone());
    let row = services.db.read(move |tx| snapshot::get(tx, &region, &id)).await?;
    match row {
        Some(row) => let_go(services, job, &row).await,
        None => let_go_unnamed(services, job).await,
    }
}

/// Lets go of the cut of a snapshot whose row is gone: it was complete, and deleted before a server that
/// died had come to this.
async fn let_go_unnamed(services: &Services, job: &ExportSnapshot) -> Result<(), Trouble> {
    if let Some(volume) = &job.volume {
        let blocks = VolumeBlocks {
            region: job.region.clone(),
            volume: volume.clone(),
            size_bytes: job.size_bytes,
            base: None,
        };
        services.blocks.release_cut(&blocks, &job.snapshot).await?;
    }
    Ok(())
}

async fn let_go(services: &Services, job: &ExportSnapshot, row: &Snapshot) -> Result<(), Trouble> {
    let volume = volume_of(services, job, row).await?;
    services.blocks.release_cut(&volume, &job.snapshot).await?;
    let (row, now) = (row.clone(), services.clock.now());
    Ok(services.db.write(move |tx| remove_if_deleted(tx, &row, now)).await?)
}

/// The volume as it was cut; its base as it is now, which holds the same.
async fn volume_of(
    services: &Services,
    job: &ExportSnapshot,
    row: &Snapshot,
) -> Result<VolumeBlocks, Trouble> {
    let (region, id) = (job.region.clone(), row.volume_id.clone());
    let volume = services.db.read(move |tx| volume::get(tx, &region, &id)).await?;
    let base = match &volume {
        Some(volume) => base_of(volume),
        None => job.base_root.clone().map(|root| BaseRoot { root, first: None }),
    };
    Ok(VolumeBlocks {
        region: job.region.clone(),
        volume: row.volume_id.clone(),
        size_bytes: job.size_bytes,
        base,
    })
}

async fn export(
    services: &Services,
    job: &ExportSnapshot,
    row: &Snapshot,
) -> Result<Stored, Trouble> {
    cut(services, job, row).await?;
    until_under_own_key(services, row).await?;
    // Not before: what the volume's base is may have changed until now.
    let volume = volume_of(services, job, row).await?;
    let parent_root = parent_root(services, row).await?;
    let target = Target::Snapshot(job.snapshot.clone());
    let export = ExportCut {
        volume,
        snapshot: job.snapshot.clone(),
        parent_root,
        resume: resume(services, &job.region, &target).await?,
        plain_key: plain_key(services, row)?,
    };
    let stored = reported(services, &job.region, target, |reporter| {
        let (blocks, export) = (&services.blocks, &export);
        async move { blocks.export(export, &reporter).await }
    });
    Ok(stored.await?)
}

/// The data key of a snapshot that is not encrypted: its volume's.
fn plain_key(services: &Services, row: &Snapshot) -> Result<Option<VolumeKey>, Trouble> {
    let plain = row.data_key.as_ref().filter(|_| !row.is_encrypted());
    Ok(plain.map(|key| services.plain.open(key)).transpose()?)
}

/// Makes the cut, if whoever accepted the snapshot did not come to it. Snapshots that were taken together
/// are cut together, once all machines that have their volumes open are back.
async fn cut(services: &Services, job: &ExportSnapshot, row: &Snapshot) -> Result<(), Trouble> {
    let own = row.clone();
    let Some(set) = services.db.read(move |tx| set_of(tx, &own)).await? else {
        let volume = volume_of(services, job, row).await?;
        return Ok(services.blocks.cut(&volume, &row.id).await?);
    };
    // Whoever accepted the set may be at it, and may take it back.
    let volumes = set.iter().map(|member| &member.volume_id);
    let _turns = services.cuts.begin_all(&job.region, volumes).await;
    let (region, id) = (row.region.clone(), row.id.clone());
    let rows = services
        .db
        .read(move |tx| {
            let Some(row) = snapshot::get(tx, &region, &id)? else { return Ok(None) };
            let set = set_of(tx, &row)?.unwrap_or_else(|| vec![row]);
            Ok::<_, ebs::Error>(Some((to_cut(tx, &set)?, pending(&set).count())))
        })
        .await?;
    match rows {
        None => Err(Trouble::NotYet { what: "the end of the call it was accepted by" }),
        Some((members, pending)) if members.len() == pending => {
            let cut = services.blocks.cut_many(&row.region, &members).await;
            Ok(cut.map_err(|error| error.cause)?)
        }
        // A volume was deleted meanwhile, so all were cut.
        Some(_) => Ok(services.blocks.cut(&volume_of(services, job, row).await?, &row.id).await?),
    }
}

/// The volume has a base that cannot be sealed under the volume's key.
#[derive(Debug, thiserror::Error)]
#[error("the base of the volume is damaged")]
struct BaseDamaged;

/// A snapshot has pages of one data key: its volume's base must be sealed under the volume's first.
async fn until_under_own_key(services: &Services, row: &Snapshot) -> Result<(), Trouble> {
    let (region, id) = (row.region.clone(), row.volume_id.clone());
    let foreign = services.db.read(move |tx| foreign_base::get(tx, &region, &id)).await?;
    match foreign.filter(ForeignBase::is_under_its_key) {
        None => Ok(()),
        Some(base) if base.fails_snapshots => {
            Err(BlockError::Damaged(Box::new(BaseDamaged)).into())
        }
        Some(_) => Err(Trouble::NotYet { what: "the initialization of the volume" }),
    }
}

/// Makes the cuts of snapshots that were accepted just before the server stopped, in their order
/// and before any later one can be asked for. Call it once, before requests are served.
///
/// Nobody was answered, so nobody was promised an earlier moment. A cut that exists stays as it is. One
/// that cannot be made now is made by its job, or its snapshot fails: one volume keeps no server from
/// starting.
///
/// # Errors
/// When the rows fail.
pub async fn recover(services: &Services) -> Result<(), Trouble> {
    for row in services.db.read(snapshot::list_pending_of_volumes).await? {
        let members = services.db.read(move |tx| to_cut_with(tx, &row)).await?;
        let cut = match members.as_slice() {
            [] => Ok(()),
            // A machine has it open and is not back yet; the job cuts it when it is.
            members if is_any_away(services, members).await? => Ok(()),
            [(volume, snapshot)] => services.blocks.cut(volume, snapshot).await,
            [(first, _), ..] => {
                let cut = services.blocks.cut_many(&first.region, &members).await;
                cut.map_err(|error| error.cause)
            }
        };
        if let Err(error) = cut {
            let snapshots: Vec<_> = members.iter().map(|(_, snapshot)| snapshot.as_str()).collect();
            let error = base::with_causes(&error);
            tracing::error!(?snapshots, error, "accepted snapshots are not cut yet");
        }
    }
    Ok(())
}

async fn is_any_away(services: &Services, members: &[Cut]) -> Result<bool, ebs::Error> {
    for (volume, _) in members {
        if remote::is_away(services, volume).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A volume to be cut for a snapshot.
type Cut = (VolumeBlocks, SnapshotId);

/// A pending snapshot, and those taken together with it, with the volumes to cut for them. Empty for
/// every member of a set but one, which stands for all.
fn to_cut_with(tx: &mut meta::Tx<'_>, row: &Snapshot) -> Result<Vec<Cut>, ebs::Error> {
    let set = snapshot_set::of_snapshot(tx, &row.account, &row.region, &row.id)?;
    match set {
        Some(set) if set != row.id => Ok(Vec::new()),
        _ => {
            let rows = set_of(tx, row)?.unwrap_or_else(|| vec![row.clone()]);
            to_cut(tx, &rows)
        }
    }
}

/// The snapshots that were taken together with one, itself included.
fn set_of(tx: &mut meta::Tx<'_>, row: &Snapshot) -> Result<Option<Vec<Snapshot>>, ebs::Error> {
    let set = snapshot_set::of_snapshot(tx, &row.account, &row.region, &row.id)?;
    let set = set.map(|set| snapshot_set::members(tx, &row.account, &row.region, &set));
    set.transpose()
}

fn pending(rows: &[Snapshot]) -> impl Iterator<Item = &Snapshot> {
    rows.iter().filter(|row| matches!(row.state, SnapshotState::Pending(_)))
}

/// The pending ones whose volumes have rows.
fn to_cut(tx: &mut meta::Tx<'_>, rows: &[Snapshot]) -> Result<Vec<Cut>, ebs::Error> {
    let mut members = Vec::with_capacity(rows.len());
    for row in pending(rows) {
        if let Some(volume) = volume::get(tx, &row.region, &row.volume_id)? {
            members.push((blocks_of(&volume), row.id.clone()));
        }
    }
    Ok(members)
}

/// A volume as the block store knows it.
pub fn blocks_of(volume: &Volume) -> VolumeBlocks {
    VolumeBlocks {
        region: volume.region.clone(),
        volume: volume.id.clone(),
        size_bytes: u64::from(volume.size_gib) * GIB,
        base: base_of(volume),
    }
}

/// What a volume reads where it was never written.
pub(crate) fn base_of(volume: &Volume) -> Option<BaseRoot> {
    let root = volume.base_root.clone()?;
    Some(BaseRoot { root, first: volume.first_base_root.clone() })
}

/// The root of the snapshot to be incremental to, pinned for as long as the export reads it.
async fn parent_root(services: &Services, row: &Snapshot) -> Result<Option<Root>, Trouble> {
    let Some(parent) = row.parent.clone() else { return Ok(None) };
    let row = row.clone();
    services
        .db
        .write(move |tx| {
            let mut next = Some(parent.clone());
            while let Some(id) = next.take()
                && let Some(parent) = snapshot::get(tx, &row.region, &id)?
            {
                if let SnapshotState::Pending(_) = parent.state {
                    return Err(Trouble::NotYet { what: "the snapshot before it" });
                }
                if let Some(root) = parent.root {
                    snapshot::pin_root(tx, &row.region, &row.id, &root)?;
                    return Ok(Some(root));
                }
                // One that failed, or lies in the archive, is passed over.
                next = parent.parent;
            }
            Ok(None)
        })
        .await
}

/// Ends a snapshot that was tried too often.
///
/// # Errors
/// When the rows fail.
pub fn give_up(
    services: &Services,
    tx: &mut meta::Tx<'_>,
    job: &ExportSnapshot,
) -> Result<(), Trouble> {
    let Some(row) = snapshot::get(tx, &job.region, &job.snapshot)? else { return Ok(()) };
    Ended::new(services, row, Err(INTERNAL_CAUSE.to_owned())).write(tx)
}

async fn finish(
    services: &Services,
    row: &Snapshot,
    outcome: Result<Stored, String>,
) -> Result<(), Trouble> {
    let ended = Ended::new(services, row.clone(), outcome);
    services.db.write(move |tx| ended.write(tx)).await
}

/// The end of a snapshot's way, with all that is written at it.
struct Ended {
    row: Snapshot,
    outcome: Result<Stored, String>,
    at: Timestamp,
    event: ServiceEvent,
    /// Of the event of its set.
    envelope: Envelope,
}

impl Ended {
    fn new(services: &Services, row: Snapshot, outcome: Result<Stored, String>) -> Self {
        let told = match &outcome {
            Ok(_) => Outcome::Succeeded,
            Err(cause) => Outcome::Failed(cause.clone()),
        };
        let envelope = || services.envelope(&row.account, &row.region);
        let at = services.clock.now();
        let span = Span { start: row.started, end: at };
        let (form, id, volume) = (ArnForm::Regular, &row.id, &row.volume_id);
        let event = notification::create_snapshot(envelope(), form, id, volume, span, &told);
        let envelope = envelope();
        Self { row, outcome, at, event, envelope }
    }

    fn write(&self, tx: &mut meta::Tx<'_>) -> Result<(), Trouble> {
        let (row, at) = (&self.row, self.at);
        let (region, id) = (&row.region, &row.id);
        let ended_now = match &self.outcome {
            Ok(Stored { root, full_bytes }) => {
                snapshot::set_completed(tx, region, id, root, *full_bytes, at)?
            }
            Err(cause) => snapshot::set_failed(tx, region, id, cause)?,
        };
        if ended_now {
            put_event(tx, &self.event)?;
            settle_set(tx, row, &self.envelope, at)?;
            jobs::hasten(tx, &row.account, region, at)?;
        }
        Ok(())
    }
}

/// Ends the set a snapshot belongs to, once that is decided: with the last member that completes, or
/// the first that fails, which takes the others along (spec 02, "CreateSnapshots").
fn settle_set(
    tx: &mut meta::Tx<'_>,
    row: &Snapshot,
    envelope: &Envelope,
    ended: Timestamp,
) -> Result<(), Trouble> {
    let (account, region) = (&row.account, &row.region);
    let Some(set) = snapshot_set::of_snapshot(tx, account, region, &row.id)? else {
        return Ok(());
    };
    let (members, outcome) = match snapshot_set::outcome(tx, account, region, &set)? {
        SetOutcome::Pending => return Ok(()),
        SetOutcome::Completed(members) => (members, Outcome::Succeeded),
        SetOutcome::Failed(members) => {
            for member in &members {
                snapshot::fail_with_set(tx, region, &member.id, SET_FAILED)?;
            }
            (members, Outcome::Failed(SET_FAILED.to_owned()))
        }
    };
    snapshot_set::remove(tx, account, region, &set)?;
    let shown =
        |row: &Snapshot| SetMember { snapshot: row.id.clone(), volume: row.volume_id.clone() };
    let span = Span { start: row.started, end: ended };
    let shown: Vec<_> = members.iter().map(shown).collect();
    let form = ArnForm::Regular;
    let event = notification::create_snapshots(envelope.clone(), form, &shown, span, &outcome);
    Ok(put_event(tx, &event)?)
}

/// A snapshot deleted while it was pending goes now (spec 02, "CreateSnapshot"). In the transaction that
/// ends it, or later.
///
/// # Errors
/// When the rows fail.
pub fn remove_if_deleted(tx: &mut meta::Tx<'_>, row: &Snapshot, now: Timestamp) -> ebs::Result<()> {
    let deleted = snapshot::get(tx, &row.region, &row.id)?.is_some_and(|row| row.delete_requested);
    if deleted {
        snapshot::remove(tx, &row.region, &row.id)?;
        enqueue_collect(tx, &row.account, &row.region, now)?;
    }
    Ok(())
}
