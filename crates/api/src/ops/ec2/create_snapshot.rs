//! `ec2:CreateSnapshot`: fixes a volume's content at this moment; the blocks are stored afterwards.
//!
//! No KMS call is made, now or later: the snapshot keeps the volume's wrapped key (spec 20, C.3).

use crate::storage::code::{INCORRECT_STATE, invalid_value, volume_not_found};
use crate::storage::condition;
use crate::storage::find::{FoundVolume, parsed};
use crate::storage::shape::{SnapshotShape, TagSpecification};
use crate::storage::tagging;
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::{ErrorSpec, Shape};
use base::{SnapshotId, VolumeId};
use ebs::tag::{self, Tag};
use ebs::{Snapshot, SnapshotState, Volume, VolumeState, arns, snapshot, volume};
use lifecycle::port::blocks::VolumeBlocks;
use lifecycle::workflow::export_snapshot::{self, ExportSnapshot};

pub(crate) struct CreateSnapshot;

const CONCURRENT_SNAPSHOT_LIMIT_EXCEEDED: ErrorSpec =
    ErrorSpec::sender("ConcurrentSnapshotLimitExceeded", 400);
/// Longest description, in characters.
const DESCRIPTION_CHARS_MAX: usize = 255;

#[derive(Shape)]
#[shape(input, dry_run, unsupported(OutpostArn))]
pub(crate) struct Input {
    description: Option<String>,
    volume_id: VolumeId,
    #[shape(query = "TagSpecification")]
    tag_specifications: Vec<TagSpecification>,
    location: Option<String>,
}

pub(crate) struct Plan {
    found: FoundVolume,
    description: String,
    tags: Vec<Tag>,
}

impl Operation for CreateSnapshot {
    const SPEC: Spec = Spec::mutates(Service::Ec2, "CreateSnapshot");
    type Input = Input;
    type Plan = Plan;
    type Output = SnapshotShape;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let Input { description, volume_id, tag_specifications, location } = input;
        if location.is_some_and(|location| location != "regional") {
            return Err(invalid_value("Snapshots are stored in the region of their volume."));
        }
        let description = check_description(description)?;
        let tags = tagging::of_new(tag_specifications, "snapshot")?;
        Ok(Plan { found: FoundVolume::find(call, &volume_id).await?, description, tags })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        let action = "ec2:CreateSnapshot";
        let Volume { region, account, id, size_gib, .. } = &plan.found.volume;
        let arn = parsed(&arns::new_snapshot_arn(region));
        let mut context = condition::of_region(region);
        context.set("ec2:ParentVolume", arns::volume_arn(region, account, id));
        context.set("ec2:VolumeSize", size_gib.to_string());
        context.set("ec2:SourceAvailabilityZone", plan.found.volume.zone.as_str());
        context.set("ec2:Owner", account.as_str());
        let mut on_snapshot = context.clone();
        condition::set_request_tags(&mut on_snapshot, &plan.tags);
        let mut asks =
            vec![plan.found.ask(action), Ask::on(action, &arn, account).with(on_snapshot)];
        asks.extend(tagging::ask_for_new(&plan.tags, &arn, account, "CreateSnapshot", context));
        asks
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<SnapshotShape, Error> {
        let Plan { found, description, tags } = plan.into_inner();
        let volume = found.volume;
        if !matches!(volume.state, VolumeState::Available | VolumeState::InUse) {
            let (id, state) = (&volume.id, volume.state.as_str());
            let message = format!("The volume '{id}' is in the '{state}' state.");
            return Err(Error::new(INCORRECT_STATE, message));
        }
        let row = row(call, &volume, description);
        let blocks = export_snapshot::blocks_of(&volume);
        // One at a time, so that cuts are made in the order of the rows: a snapshot is incremental
        // to the one before it.
        let gate = call.world.services.snapshot_gate.lock().await;
        // Row and job first: should the server stop before the cut, it is made at the next start.
        accept(call, &volume, &row, &blocks, &tags).await?;
        if let Err(error) = call.world.services.blocks.cut(&blocks, &row.id).await {
            let (region, id) = (row.region.clone(), row.id.clone());
            let undo = move |tx: &mut meta::Tx<'_>| snapshot::remove(tx, &region, &id);
            call.world.db.write(undo).await?;
            return Err(Error::internal(error));
        }
        drop(gate);
        call.world.wake_jobs();
        Ok(SnapshotShape::created(&row, tags))
    }
}

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

/// Adds row, tags and job, unless too many snapshots of the volume are pending.
async fn accept(
    call: &Call,
    volume: &Volume,
    row: &Snapshot,
    blocks: &VolumeBlocks,
    tags: &[Tag],
) -> Result<(), Error> {
    let job = ExportSnapshot {
        region: row.region.clone(),
        snapshot: row.id.clone(),
        size_bytes: blocks.size_bytes,
        base_root: blocks.base_root.clone(),
    };
    let (volume, row, tags, now) = (volume.clone(), row.clone(), tags.to_vec(), call.now);
    call.world
        .db
        .write(move |tx| {
            let Volume { account, region, id, .. } = &volume;
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
            tag::set(tx, account, region, row.id.as_str(), &tags)??;
            volume::set_latest_snapshot(tx, region, id, &row.id)?;
            Ok(lifecycle::kinds::enqueue_export_snapshot(tx, account, &job, now)?)
        })
        .await
}
