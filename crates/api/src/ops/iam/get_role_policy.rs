//! `iam:GetRolePolicy`: shows an inline policy of a role.

use super::shared::{self, Subject};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use identity::{Kind, inline};

pub(crate) struct GetRolePolicy;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    role_name: String,
    policy_name: String,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    role_name: String,
    policy_name: String,
    policy_document: String,
}

pub(crate) struct Plan {
    role: Subject,
    name: String,
}

impl Operation for GetRolePolicy {
    const SPEC: Spec = Spec::reads(Service::Iam, "GetRolePolicy");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let role = Subject::named(call, Kind::Role, input.role_name).await?;
        Ok(Plan { role, name: input.policy_name })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.role.ask("iam:GetRolePolicy")]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { role, name } = plan.into_inner();
        shared::read(call, move |tx| {
            let entity = role.find(tx)?;
            let policy = inline::find(tx, &entity, &name)?;
            Ok(Output {
                role_name: entity.name,
                policy_name: policy.name,
                policy_document: shared::encoded(&policy.document),
            })
        })
        .await
    }
}
