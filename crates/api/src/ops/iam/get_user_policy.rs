//! `iam:GetUserPolicy`: shows an inline policy of a user.

use super::shared::{self, Subject};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use identity::{Kind, inline};

pub(crate) struct GetUserPolicy;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    user_name: String,
    policy_name: String,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    user_name: String,
    policy_name: String,
    policy_document: String,
}

pub(crate) struct Plan {
    user: Subject,
    name: String,
}

impl Operation for GetUserPolicy {
    const SPEC: Spec = Spec::reads(Service::Iam, "GetUserPolicy");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let user = Subject::named(call, Kind::User, input.user_name).await?;
        Ok(Plan { user, name: input.policy_name })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.user.ask("iam:GetUserPolicy")]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { user, name } = plan.into_inner();
        shared::read(call, move |tx| {
            let entity = user.find(tx)?;
            let policy = inline::find(tx, &entity, &name)?;
            Ok(Output {
                user_name: entity.name,
                policy_name: policy.name,
                policy_document: shared::encoded(&policy.document),
            })
        })
        .await
    }
}
