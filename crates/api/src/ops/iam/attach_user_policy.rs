//! `iam:AttachUserPolicy`: attaches a managed policy to a user.

use super::shared::{self, Subject};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use identity::{Kind, attachment};

pub(crate) struct AttachUserPolicy;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    user_name: String,
    policy_arn: String,
}

pub(crate) struct Plan {
    user: Subject,
    policy_arn: String,
}

impl Operation for AttachUserPolicy {
    const SPEC: Spec = Spec::mutates(Service::Iam, "AttachUserPolicy");
    type Input = Input;
    type Plan = Plan;
    type Output = ();

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let user = Subject::named(call, Kind::User, input.user_name).await?;
        Ok(Plan { user, policy_arn: input.policy_arn })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        let context = shared::policy_context(&plan.policy_arn);
        vec![shared::also(plan.user.ask("iam:AttachUserPolicy"), &context)]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<(), Error> {
        let Plan { user, policy_arn } = plan.into_inner();
        shared::write(call, move |tx, _| {
            let entity = user.find(tx)?;
            attachment::attach(tx, &entity, &policy_arn)
        })
        .await
    }
}
