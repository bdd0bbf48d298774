//! `iam:AttachRolePolicy`: attaches a managed policy to a role.

use super::shared::{self, Subject};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use identity::{Kind, attachment};

pub(crate) struct AttachRolePolicy;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    role_name: String,
    policy_arn: String,
}

pub(crate) struct Plan {
    role: Subject,
    policy_arn: String,
}

impl Operation for AttachRolePolicy {
    const SPEC: Spec = Spec::mutates(Service::Iam, "AttachRolePolicy");
    type Input = Input;
    type Plan = Plan;
    type Output = ();

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let role = Subject::named(call, Kind::Role, input.role_name).await?;
        Ok(Plan { role, policy_arn: input.policy_arn })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        let context = shared::policy_context(&plan.policy_arn);
        vec![shared::also(plan.role.ask("iam:AttachRolePolicy"), &context)]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<(), Error> {
        let Plan { role, policy_arn } = plan.into_inner();
        shared::write(call, move |tx, _| {
            let entity = role.find(tx)?;
            attachment::attach(tx, &entity, &policy_arn)
        })
        .await
    }
}
