//! `iam:DetachGroupPolicy`: detaches a managed policy from a group.

use super::shared::{self, Subject};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use identity::{Kind, attachment};

pub(crate) struct DetachGroupPolicy;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    group_name: String,
    policy_arn: String,
}

pub(crate) struct Plan {
    group: Subject,
    policy_arn: String,
}

impl Operation for DetachGroupPolicy {
    const SPEC: Spec = Spec::mutates(Service::Iam, "DetachGroupPolicy");
    type Input = Input;
    type Plan = Plan;
    type Output = ();

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let group = Subject::named(call, Kind::Group, input.group_name).await?;
        Ok(Plan { group, policy_arn: input.policy_arn })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        let context = shared::policy_context(&plan.policy_arn);
        vec![shared::also(plan.group.ask("iam:DetachGroupPolicy"), &context)]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<(), Error> {
        let Plan { group, policy_arn } = plan.into_inner();
        shared::write(call, move |tx, _| {
            let entity = group.find(tx)?;
            attachment::detach(tx, &entity, &policy_arn)
        })
        .await
    }
}
