//! `kms:CancelKeyDeletion`: keeps a key that was to be destroyed; it stays disabled.

use super::shared::{self, Named, Target};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use kms::Action;
use kms::condition::Facts;

pub(crate) struct CancelKeyDeletion;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    key_id: String,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    key_id: String,
}

impl Operation for CancelKeyDeletion {
    const SPEC: Spec = Spec::mutates(Service::Kms, "CancelKeyDeletion");
    type Input = Input;
    type Plan = Target;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Target, Error> {
        let action = Action::CancelKeyDeletion;
        let named = Named { action, key_id: &input.key_id, facts: Facts::None };
        shared::target(call, named).await
    }

    fn asks(plan: &Target) -> Vec<Ask> {
        vec![plan.ask.clone()]
    }

    async fn act(call: &Call, plan: Granted<Target>) -> Result<Output, Error> {
        let key = plan.into_inner().key;
        let key_id = key.arn().to_string();
        shared::change(call, Action::CancelKeyDeletion, key, |kms, tx, key| {
            kms.cancel_deletion(tx, key)
        })
        .await?;
        Ok(Output { key_id })
    }
}
