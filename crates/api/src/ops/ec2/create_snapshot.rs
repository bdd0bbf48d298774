//! `ec2:CreateSnapshot`: fixes a volume's content at this moment; the blocks are stored afterwards.
//!
//! No KMS call is made, now or later: the snapshot keeps the volume's wrapped key (spec 20, C.3).

use crate::storage::find::FoundVolume;
use crate::storage::new_snapshot::{self, NewSnapshot};
use crate::storage::shape::{SnapshotShape, TagSpecification};
use crate::storage::tagging;
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use base::VolumeId;
use ebs::snapshot;
use ebs::tag::Tag;
use lifecycle::port::blocks::CutError;

pub(crate) struct CreateSnapshot;

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
        new_snapshot::check_location(location.as_deref())?;
        let description = new_snapshot::check_description(description)?;
        let tags = tagging::of_new(tag_specifications, "snapshot")?;
        Ok(Plan { found: FoundVolume::find(call, &volume_id).await?, description, tags })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        let mut asks = vec![plan.found.ask("ec2:CreateSnapshot")];
        asks.extend(new_snapshot::asks("CreateSnapshot", &plan.found.volume, &plan.tags));
        asks
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<SnapshotShape, Error> {
        let Plan { found, description, tags } = plan.into_inner();
        let new = NewSnapshot::of(call, found.volume, description, tags)?;
        let turn = call.world.services.cuts.begin(&call.region, &new.blocks.volume).await;
        // Row and job first: should the server stop before the cut, it is made at the next start.
        let accepted = new.clone();
        call.world.db.write(move |tx| accepted.accept(tx)).await?;
        let NewSnapshot { row, blocks, tags, .. } = new;
        if let Err(error) = call.world.services.blocks.cut(&blocks, &row.id).await {
            let (region, id) = (row.region.clone(), row.id.clone());
            let undo = move |tx: &mut meta::Tx<'_>| snapshot::remove(tx, &region, &id);
            call.world.db.write(undo).await?;
            let volume = blocks.volume;
            return Err(new_snapshot::not_cut(CutError { volume, cause: error }));
        }
        drop(turn);
        call.world.wake_jobs();
        Ok(SnapshotShape::created(&row, tags))
    }
}
