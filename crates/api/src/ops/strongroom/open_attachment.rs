//! `strongroom:OpenAttachment`: gives a volume to the machine it is attached to, under a new fencing
//! epoch, with what the machine needs to unwrap its data key itself. Whoever opened it before is waited
//! for, unless forced.

use super::shared::{Found, number, refusal};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::{Blob, Shape};
use base::VolumeId;
use lifecycle::port::host::Force;
use lifecycle::workflow::remote;
use std::collections::BTreeMap;

pub(crate) struct OpenAttachment;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    #[shape(default)]
    force: bool,
    volume_id: VolumeId,
}

pub(crate) struct Plan {
    found: Found,
    force: Force,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    base_wrapped_key: Option<Blob>,
    device: String,
    encryption_context: BTreeMap<String, String>,
    epoch: i64,
    instance_id: String,
    kms_key_id: Option<String>,
    #[shape(sensitive)]
    ticket: String,
    wrapped_key: Option<Blob>,
}

impl Operation for OpenAttachment {
    const SPEC: Spec = Spec::mutates(Service::Strongroom, "OpenAttachment");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let found = Found::find(call, &input.volume_id).await?;
        let force = if input.force { Force::Yes } else { Force::No };
        Ok(Plan { found, force })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.found.ask("strongroom:OpenAttachment")]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { found: Found { volume, attachment }, force } = plan.into_inner();
        let volume = volume.volume;
        let opened = remote::open(&call.world.services, &volume, &attachment, force).await;
        let opened = opened.map_err(refusal)?;
        let key = volume.data_key.as_ref().filter(|_| volume.is_encrypted());
        let context = key.map(|key| ("aws:ebs:id".to_owned(), key.context_id.clone()));
        let base_key = opened.base_key.as_ref();
        Ok(Output {
            base_wrapped_key: base_key.map(|key| Blob::from(&key.wrapped[..])),
            device: attachment.device,
            encryption_context: context.into_iter().collect(),
            epoch: number(opened.epoch),
            instance_id: attachment.instance.to_string(),
            kms_key_id: volume.kms_key_arn.clone(),
            ticket: opened.ticket.expose().clone(),
            wrapped_key: key.map(|key| Blob::from(&key.wrapped[..])),
        })
    }
}
