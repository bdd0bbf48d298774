//! `iam:TagPolicy`: adds tags to a managed policy or replaces their values.

use super::shared::{self, Tag, Target};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use identity::{
    managed,
    tag::{self, Tags},
};

pub(crate) struct TagPolicy;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    policy_arn: String,
    #[shape(required)]
    tags: Vec<Tag>,
}

pub(crate) struct Plan {
    policy: Target,
    tags: Tags,
}

impl Operation for TagPolicy {
    const SPEC: Spec = Spec::mutates(Service::Iam, "TagPolicy");
    type Input = Input;
    type Plan = Plan;
    type Output = ();

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let tags = shared::tags_in(input.tags)?;
        Ok(Plan { policy: Target::named(call, input.policy_arn).await?, tags })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![shared::also(plan.policy.ask("iam:TagPolicy"), &shared::request_tags(&plan.tags))]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<(), Error> {
        let Plan { policy, tags } = plan.into_inner();
        shared::write(call, move |tx, _| {
            let found = policy.find(tx)?;
            managed::customer(&found)?;
            tag::put(tx, &policy.account, &found.policy_id, &tags)
        })
        .await
    }
}
