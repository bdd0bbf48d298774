//! `kms:UpdateKeyDescription`: replaces what a key's owner says about it.

use super::shared::{self, Named, Target};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use kms::Action;
use kms::condition::Facts;

pub(crate) struct UpdateKeyDescription;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    key_id: String,
    description: String,
}

pub(crate) struct Plan {
    target: Target,
    description: String,
}

impl Operation for UpdateKeyDescription {
    const SPEC: Spec = Spec::mutates(Service::Kms, "UpdateKeyDescription");
    type Input = Input;
    type Plan = Plan;
    type Output = ();

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let action = Action::UpdateKeyDescription;
        let named = Named { action, key_id: &input.key_id, facts: Facts::None };
        let target = shared::target(call, named).await?;
        Ok(Plan { target, description: input.description })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.target.ask.clone()]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<(), Error> {
        let Plan { target, description } = plan.into_inner();
        shared::change(call, Action::UpdateKeyDescription, target.key, move |kms, tx, key| {
            kms.set_description(tx, key, &description)
        })
        .await
    }
}
