//! `ec2:CreateSnapshots`: fixes the content of an instance's volumes at one moment.
//!
//! All volumes are held, cut and released together: no write that any of them acknowledged before is
//! missing, and none that depends on a missing one is there (spec 02, "CreateSnapshots").

use crate::storage::code::{invalid_value, volume_not_found};
use crate::storage::find::{FoundInstance, FoundVolume};
use crate::storage::new_snapshot::{self, NewSnapshot};
use crate::storage::shape::{SseType, Tag as TagShape, TagSpecification, progress};
use crate::storage::tagging;
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::{Shape, string_enum};
use base::{InstanceId, SnapshotId, Timestamp, VolumeId};
use ebs::tag::{self, Tag};
use ebs::{Attachment, Snapshot, attachment, snapshot, snapshot_set};

pub(crate) struct CreateSnapshots;

/// Volumes a request may leave out.
const EXCLUDED_MAX: usize = 40;
/// The device names a root volume has (spec 01, "Device names").
const ROOT_DEVICES: [&str; 2] = ["/dev/sda1", "/dev/xvda"];

string_enum! {
    /// Whose tags the snapshots get besides those of the request.
    pub(crate) enum CopyTagsFromSource {
        /// Their volume's.
        Volume = "volume",
    }
}

#[derive(Shape)]
#[shape(input, dry_run, unsupported(OutpostArn))]
pub(crate) struct Input {
    description: Option<String>,
    instance_specification: InstanceSpecification,
    #[shape(query = "TagSpecification")]
    tag_specifications: Vec<TagSpecification>,
    copy_tags_from_source: Option<CopyTagsFromSource>,
    location: Option<String>,
}

#[derive(Shape)]
#[shape(input)]
pub(crate) struct InstanceSpecification {
    instance_id: InstanceId,
    #[shape(default)]
    exclude_boot_volume: bool,
    #[shape(query = "ExcludeDataVolumeId")]
    exclude_data_volume_ids: Vec<VolumeId>,
}

/// A snapshot as this operation answers it.
#[derive(Shape)]
#[shape(output, omitted(OutpostArn, AvailabilityZone))]
pub(crate) struct SnapshotInfo {
    description: String,
    #[shape(xml = "tagSet")]
    tags: Vec<TagShape>,
    encrypted: bool,
    volume_id: VolumeId,
    state: String,
    volume_size: u32,
    start_time: Timestamp,
    progress: String,
    owner_id: String,
    snapshot_id: SnapshotId,
    sse_type: SseType,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    #[shape(xml = "snapshotSet")]
    snapshots: Vec<SnapshotInfo>,
}

pub(crate) struct Plan {
    instance: FoundInstance,
    members: Vec<Member>,
    description: String,
}

struct Member {
    found: FoundVolume,
    tags: Vec<Tag>,
}

impl Operation for CreateSnapshots {
    const SPEC: Spec = Spec::mutates(Service::Ec2, "CreateSnapshots");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let Input { description, instance_specification, tag_specifications, .. } = input;
        new_snapshot::check_location(input.location.as_deref())?;
        let description = new_snapshot::check_description(description)?;
        let tags = tagging::of_new(tag_specifications, "snapshot")?;
        let instance = FoundInstance::find(call, &instance_specification.instance_id).await?;
        let mut members = Vec::new();
        for volume in chosen(call, &instance, &instance_specification).await? {
            let found = FoundVolume::find(call, &volume).await?;
            let tags = match input.copy_tags_from_source {
                None => tags.clone(),
                Some(CopyTagsFromSource::Volume) => with_tags_of(&found, &tags),
            };
            tag::check_tags(&tags)?;
            members.push(Member { found, tags });
        }
        Ok(Plan { instance, members, description })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        let name = "CreateSnapshots";
        let action = "ec2:CreateSnapshots";
        let mut asks = vec![plan.instance.ask(action)];
        for Member { found, tags } in &plan.members {
            asks.push(found.ask(action));
            asks.extend(new_snapshot::asks(name, &found.volume, tags));
        }
        asks
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { members, description, .. } = plan.into_inner();
        let mut new = Vec::with_capacity(members.len());
        for Member { found, tags } in members {
            new.push(NewSnapshot::of(call, found.volume, description.clone(), tags)?);
        }
        let services = &call.world.services;
        // As for single snapshots: rows before cuts.
        let cuts: Vec<_> = new.iter().map(|one| (one.blocks.clone(), one.row.id.clone())).collect();
        let volumes = cuts.iter().map(|(blocks, _)| &blocks.volume);
        let turns = services.cuts.begin_all(&call.region, volumes).await;
        accept(call, &new).await?;
        if let Err(error) = services.blocks.cut_many(&call.region, &cuts).await {
            withdraw(call, &new).await?;
            return Err(new_snapshot::not_cut(error));
        }
        drop(turns);
        call.world.wake_jobs();
        let snapshots = new.into_iter().map(|NewSnapshot { row, tags, .. }| info(row, tags));
        Ok(Output { snapshots: snapshots.collect() })
    }
}

/// The volumes of the instance that are wanted, by device.
async fn chosen(
    call: &Call,
    instance: &FoundInstance,
    wanted: &InstanceSpecification,
) -> Result<Vec<VolumeId>, Error> {
    let excluded = &wanted.exclude_data_volume_ids;
    if excluded.len() > EXCLUDED_MAX {
        return Err(invalid_value(format!(
            "At most {EXCLUDED_MAX} volumes can be excluded; {} were given.",
            excluded.len()
        )));
    }
    let (account, region) = (call.account().clone(), call.region.clone());
    let id = instance.instance.id.clone();
    let read = move |tx: &mut meta::Tx<'_>| attachment::of_instance(tx, &account, &region, &id);
    let attached: Vec<Attachment> = call.world.db.read(read).await?;
    let is_root = |one: &Attachment| ROOT_DEVICES.contains(&one.device.as_str());
    for id in excluded {
        let Some(found) = attached.iter().find(|one| one.volume == *id) else {
            return Err(volume_not_found(id.as_str()));
        };
        if is_root(found) {
            return Err(invalid_value(format!(
                "Volume '{id}' is the root volume of instance '{}'. Use ExcludeBootVolume to \
                 leave it out.",
                instance.instance.id
            )));
        }
    }
    let left_out = |one: &Attachment| {
        excluded.contains(&one.volume) || (wanted.exclude_boot_volume && is_root(one))
    };
    let left = attached.into_iter().filter(|one| !left_out(one));
    let left: Vec<VolumeId> = left.map(|one| one.volume).collect();
    if left.is_empty() {
        let id = &instance.instance.id;
        return Err(invalid_value(format!("Instance '{id}' has no volumes to take snapshots of.")));
    }
    Ok(left)
}

/// The request's tags, and those of the volume that it does not set.
fn with_tags_of(found: &FoundVolume, tags: &[Tag]) -> Vec<Tag> {
    let own = found.tags.iter().filter(|(key, _)| !tags.iter().any(|(given, _)| given == key));
    tags.iter().chain(own).cloned().collect()
}

async fn accept(call: &Call, new: &[NewSnapshot]) -> Result<(), Error> {
    let (new, account, region) = (new.to_vec(), call.account().clone(), call.region.clone());
    call.world
        .db
        .write(move |tx| {
            for one in &new {
                one.accept(tx)?;
            }
            let ids: Vec<_> = new.iter().map(|one| one.row.id.clone()).collect();
            Ok::<_, Error>(snapshot_set::insert(tx, &account, &region, &ids)?)
        })
        .await
}

/// Takes back what was accepted.
async fn withdraw(call: &Call, new: &[NewSnapshot]) -> Result<(), Error> {
    let rows: Vec<Snapshot> = new.iter().map(|one| one.row.clone()).collect();
    let undo = move |tx: &mut meta::Tx<'_>| {
        for row in &rows {
            snapshot::remove(tx, &row.region, &row.id)?;
        }
        match rows.first() {
            Some(first) => snapshot_set::remove(tx, &first.account, &first.region, &first.id),
            None => Ok(()),
        }
    };
    Ok(call.world.db.write(undo).await?)
}

fn info(row: Snapshot, tags: Vec<Tag>) -> SnapshotInfo {
    SnapshotInfo {
        tags: tags.into_iter().map(TagShape::from).collect(),
        encrypted: row.is_encrypted(),
        state: row.state.as_str().to_owned(),
        progress: progress(&row.state),
        sse_type: SseType::of(row.is_encrypted()),
        description: row.description,
        volume_id: row.volume_id,
        volume_size: row.size_gib,
        start_time: row.started,
        owner_id: row.account.to_string(),
        snapshot_id: row.id,
    }
}
