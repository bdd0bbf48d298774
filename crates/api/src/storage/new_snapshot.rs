//! What CreateSnapshot and CreateSnapshots have in common: the row, the job, and the permissions.

use super::code::{
    INCORRECT_STATE, INSUFFICIENT_VOLUME_CAPACITY, invalid_value, no_space_left, volume_not_found,
};
use super::find::parsed;
use super::{condition, tagging};
use crate::call::Call;
use crate::error::Error;
use crate::pipeline::Ask;
use awsproto::ErrorSpec;
use base::{SnapshotId, Timestamp};
use ebs::tag::{self, Tag};
use ebs::{Snapshot, SnapshotState, Volume, VolumeState, arns, snapshot, volume};
use lifecycle::port::blocks::{BlockError, CutError, VolumeBlocks};
use lifecycle::workflow::export_snapshot::{self, ExportSnapshot};

const CONCURRENT_SNAPSHOT_LIMIT_EXCEEDED: ErrorSpec =
    ErrorSpec::sender("ConcurrentSnapshotLimitExceeded", 400);
/// What EC2 calls a temporary failure. Agents are often away for seconds, which clients wait for by
/// themselves; `IncorrectState` they would not try again.
const SERVICE_UNAVAILABLE: ErrorSpec = ErrorSpec::receiver("ServiceUnavailable", 503);
/// Longest description, in characters.
const DESCRIPTION_CHARS_MAX: usize = 255;

/// A description that may be kept.
///
/// # Errors
/// When it is too long or holds control characters.
pub(crate) fn check_description(description: Option<String>) -> Result<String, Error> {
    let description = description.unwrap_or_default();
    if description.chars().count() > DESCRIPTION_CHARS_MAX {
        return Err(invalid_value(format!(
            "The description must not be longer than {DESCRIPTION_CHARS_MAX} characters."
        )));
    }
    if description.chars().any(|c| c.is_control() && !matches!(c, '\t' | '\n' | '\r')) {
        return Err(invalid_value("The description contains characters that are not allowed."));
    }
    Ok(description)
}

/// Refuses places other than the volume's region.
///
/// # Errors
/// For any other place.
pub(crate) fn check_location(location: Option<&str>) -> Result<(), Error> {
    if location.is_some_and(|location| location != "regional") {
        return Err(invalid_value("Snapshots are stored in the region of their volume."));
    }
    Ok(())
}

/// The permissions on a snapshot that is about to be made, and on its tags.
pub(crate) fn asks(operation: &str, volume: &Volume, tags: &[Tag]) -> Vec<Ask> {
    let action = format!("ec2:{operation}");
    let Volume { region, account, id, size_gib, .. } = volume;
    let arn = parsed(&arns::new_snapshot_arn(region));
    let mut context = condition::of_region(region);
    context.set("ec2:ParentVolume", arns::volume_arn(region, account, id));
    context.set("ec2:VolumeSize", size_gib.to_string());
    context.set("ec2:SourceAvailabilityZone", volume.zone.as_str());
    context.set("ec2:Owner", account.as_str());
    let mut on_snapshot = context.clone();
    condition::set_request_tags(&mut on_snapshot, tags);
    let mut asks = vec![Ask::on(&action, &arn, account).with(on_snapshot)];
    asks.extend(tagging::ask_for_new(tags, &arn, account, operation, context));
    asks
}

/// A snapshot on its way into the rows.
#[derive(Clone)]
pub(crate) struct NewSnapshot {
    pub(crate) row: Snapshot,
    pub(crate) blocks: VolumeBlocks,
    pub(crate) tags: Vec<Tag>,
    volume: Volume,
    now: Timestamp,
}

impl NewSnapshot {
    /// A snapshot of a volume as it is at the call's moment.
    ///
    /// # Errors
    /// When the volume is in no state to be snapshotted.
    pub(crate) fn of(
        call: &Call,
        volume: Volume,
        description: String,
        tags: Vec<Tag>,
    ) -> Result<Self, Error> {
        if !matches!(volume.state, VolumeState::Available | VolumeState::InUse) {
            let (id, state) = (&volume.id, volume.state.as_str());
            let message = format!("The volume '{id}' is in the '{state}' state.");
            return Err(Error::new(INCORRECT_STATE, message));
        }
        let row = row(call, &volume, description);
        let blocks = export_snapshot::blocks_of(&volume);
        Ok(Self { row, blocks, tags, volume, now: call.now })
    }

    /// Adds row, tags and job.
    ///
    /// # Errors
    /// When too many snapshots of the volume are pending, the volume is gone, or the rows fail.
    pub(crate) fn accept(&self, tx: &mut meta::Tx<'_>) -> Result<(), Error> {
        let Self { row, blocks, tags, volume, now } = self;
        let job = ExportSnapshot {
            region: row.region.clone(),
            snapshot: row.id.clone(),
            size_bytes: blocks.size_bytes,
            base_root: volume.base_root.clone(),
            volume: Some(volume.id.clone()),
        };
        let Volume { account, region, id, .. } = volume;
        let pending = snapshot::count_pending_of_volume(tx, account, region, id)?;
        let allowed = volume.volume_type.pending_snapshots_max();
        if pending >= allowed {
            return Err(Error::new(
                CONCURRENT_SNAPSHOT_LIMIT_EXCEEDED,
                format!(
                    "Maximum allowed in-progress snapshots for a single volume exceeded. \
                     The limit is {allowed}."
                ),
            ));
        }
        let Some(current) = volume::get(tx, region, id)? else {
            return Err(volume_not_found(id.as_str()));
        };
        // A snapshot taken meanwhile is the nearer parent.
        let parent = current.latest_snapshot_id.or_else(|| row.parent.clone());
        snapshot::insert(tx, &Snapshot { parent, ..row.clone() })?;
        tag::set(tx, account, region, row.id.as_str(), tags)??;
        volume::set_latest_snapshot(tx, region, id, &row.id)?;
        Ok(lifecycle::kinds::enqueue_export_snapshot(tx, account, &job, *now)?)
    }
}

/// Why a volume could not be cut, with what its owner can do about it.
pub(crate) fn not_cut(error: CutError) -> Error {
    let id = &error.volume;
    let (spec, message) = match &error.cause {
        BlockError::NoRoom(_) => (
            INSUFFICIENT_VOLUME_CAPACITY,
            no_space_left(&format!("for a snapshot of volume '{id}'")),
        ),
        BlockError::TooManyCuts(_) => (
            CONCURRENT_SNAPSHOT_LIMIT_EXCEEDED,
            format!(
                "Too many snapshots of volume '{id}' are not stored yet. Try again when one of them is."
            ),
        ),
        BlockError::Silent(_) => (
            SERVICE_UNAVAILABLE,
            format!(
                "The machine that has volume '{id}' open did not answer in time. Start its agent \
                 (strongroom attach) if it does not run, or detach the volume, and try again."
            ),
        ),
        BlockError::Damaged(_) | BlockError::Unavailable(_) | BlockError::TurnOver => {
            return Error::internal(error);
        }
    };
    spec.error(message).with_cause(Box::new(error)).into()
}

fn row(call: &Call, volume: &Volume, description: String) -> Snapshot {
    let continued = volume.snapshot_id.clone().filter(|_| volume.continues_snapshot);
    Snapshot {
        id: SnapshotId::generate(&*call.world.rng),
        account: volume.account.clone(),
        region: volume.region.clone(),
        volume_id: volume.id.clone(),
        size_gib: volume.size_gib,
        state: SnapshotState::Pending(0),
        started: call.now,
        description,
        kms_key_arn: volume.kms_key_arn.clone(),
        data_key: volume.data_key.clone(),
        root: None,
        pinned_root: None,
        full_bytes: 0,
        parent: volume.latest_snapshot_id.clone().or(continued),
        copied_from: None,
        completion_minutes: None,
        delete_requested: false,
    }
}
