//! `iam:UntagPolicy`: removes tags of a managed policy.

use super::shared::{self, Target};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use identity::{managed, tag};

pub(crate) struct UntagPolicy;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    policy_arn: String,
    #[shape(required)]
    tag_keys: Vec<String>,
}

pub(crate) struct Plan {
    policy: Target,
    keys: Vec<String>,
}

impl Operation for UntagPolicy {
    const SPEC: Spec = Spec::mutates(Service::Iam, "UntagPolicy");
    type Input = Input;
    type Plan = Plan;
    type Output = ();

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        Ok(Plan { policy: Target::named(call, input.policy_arn).await?, keys: input.tag_keys })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![shared::also(plan.policy.ask("iam:UntagPolicy"), &shared::removed_tags(&plan.keys))]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<(), Error> {
        let Plan { policy, keys } = plan.into_inner();
        shared::write(call, move |tx, _| {
            let found = policy.find(tx)?;
            managed::customer(&found)?;
            tag::remove(tx, &policy.account, &found.policy_id, &keys)
        })
        .await
    }
}
