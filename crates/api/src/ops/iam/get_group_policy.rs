//! `iam:GetGroupPolicy`: shows an inline policy of a group.

use super::shared::{self, Subject};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use identity::{Kind, inline};

pub(crate) struct GetGroupPolicy;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    group_name: String,
    policy_name: String,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    group_name: String,
    policy_name: String,
    policy_document: String,
}

pub(crate) struct Plan {
    group: Subject,
    name: String,
}

impl Operation for GetGroupPolicy {
    const SPEC: Spec = Spec::reads(Service::Iam, "GetGroupPolicy");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let group = Subject::named(call, Kind::Group, input.group_name).await?;
        Ok(Plan { group, name: input.policy_name })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.group.ask("iam:GetGroupPolicy")]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { group, name } = plan.into_inner();
        shared::read(call, move |tx| {
            let entity = group.find(tx)?;
            let policy = inline::find(tx, &entity, &name)?;
            Ok(Output {
                group_name: entity.name,
                policy_name: policy.name,
                policy_document: shared::encoded(&policy.document),
            })
        })
        .await
    }
}
