//! `iam:DeleteGroupPolicy`: removes an inline policy of a group.

use super::shared::{self, Subject};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use identity::{Kind, inline};

pub(crate) struct DeleteGroupPolicy;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    group_name: String,
    policy_name: String,
}

pub(crate) struct Plan {
    group: Subject,
    name: String,
}

impl Operation for DeleteGroupPolicy {
    const SPEC: Spec = Spec::mutates(Service::Iam, "DeleteGroupPolicy");
    type Input = Input;
    type Plan = Plan;
    type Output = ();

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let group = Subject::named(call, Kind::Group, input.group_name).await?;
        Ok(Plan { group, name: input.policy_name })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.group.ask("iam:DeleteGroupPolicy")]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<(), Error> {
        let Plan { group, name } = plan.into_inner();
        shared::write(call, move |tx, _| {
            let entity = group.find(tx)?;
            inline::delete(tx, &entity, &name)
        })
        .await
    }
}
