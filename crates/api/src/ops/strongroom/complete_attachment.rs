//! `strongroom:CompleteAttachment`: the machine has the volume open and serves it.

use super::shared::{Found, epoch, refusal};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use base::VolumeId;
use lifecycle::workflow::remote;

pub(crate) struct CompleteAttachment;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    epoch: i64,
    volume_id: VolumeId,
}

pub(crate) struct Plan {
    found: Found,
    epoch: u64,
}

impl Operation for CompleteAttachment {
    const SPEC: Spec = Spec::mutates(Service::Strongroom, "CompleteAttachment");
    type Input = Input;
    type Plan = Plan;
    type Output = ();

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let found = Found::find(call, &input.volume_id).await?;
        Ok(Plan { found, epoch: epoch(input.epoch)? })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.found.ask("strongroom:CompleteAttachment")]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<(), Error> {
        let Plan { found, epoch } = plan.into_inner();
        remote::complete(&call.world.services, &found.attachment, epoch).await.map_err(refusal)
    }
}
