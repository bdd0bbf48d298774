//! `iam:DeleteRolePolicy`: removes an inline policy of a role.

use super::shared::{self, Subject};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use identity::{Kind, inline};

pub(crate) struct DeleteRolePolicy;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    role_name: String,
    policy_name: String,
}

pub(crate) struct Plan {
    role: Subject,
    name: String,
}

impl Operation for DeleteRolePolicy {
    const SPEC: Spec = Spec::mutates(Service::Iam, "DeleteRolePolicy");
    type Input = Input;
    type Plan = Plan;
    type Output = ();

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let role = Subject::named(call, Kind::Role, input.role_name).await?;
        Ok(Plan { role, name: input.policy_name })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.role.ask("iam:DeleteRolePolicy")]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<(), Error> {
        let Plan { role, name } = plan.into_inner();
        shared::write(call, move |tx, _| {
            let entity = role.find(tx)?;
            inline::delete(tx, &entity, &name)
        })
        .await
    }
}
