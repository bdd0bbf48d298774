//! `strongroom:OpenAttachment`: gives a volume to the machine it is attached to, under a new fencing
//! epoch, with what the machine needs to unwrap its data key itself.

use super::shared::{Found, number, refusal};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::{Blob, Shape};
use base::VolumeId;
use lifecycle::workflow::remote;
use std::collections::BTreeMap;

pub(crate) struct OpenAttachment;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    volume_id: VolumeId,
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
    type Plan = Found;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Found, Error> {
        Found::find(call, &input.volume_id).await
    }

    fn asks(plan: &Found) -> Vec<Ask> {
        vec![plan.ask("strongroom:OpenAttachment")]
    }

    async fn act(call: &Call, plan: Granted<Found>) -> Result<Output, Error> {
        let Found { volume, attachment } = plan.into_inner();
        let volume = volume.volume;
        let opened = remote::open(&call.world.services, &volume, &attachment).await;
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
