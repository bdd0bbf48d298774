//! `strongroom:ResumeAttachment`: a ticket for another connection of the machine that holds an epoch.

use super::shared::{Found, epoch, refusal};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use base::VolumeId;
use lifecycle::workflow::remote;

pub(crate) struct ResumeAttachment;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    epoch: i64,
    volume_id: VolumeId,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    #[shape(sensitive)]
    ticket: String,
}

pub(crate) struct Plan {
    found: Found,
    epoch: u64,
}

impl Operation for ResumeAttachment {
    const SPEC: Spec = Spec::reads(Service::Strongroom, "ResumeAttachment");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let found = Found::find(call, &input.volume_id).await?;
        Ok(Plan { found, epoch: epoch(input.epoch)? })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.found.ask("strongroom:ResumeAttachment")]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { found, epoch } = plan.into_inner();
        let ticket = remote::resume(&call.world.services, &found.attachment, epoch).await;
        Ok(Output { ticket: ticket.map_err(refusal)?.expose().clone() })
    }
}
