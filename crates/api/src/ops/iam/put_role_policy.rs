//! `iam:PutRolePolicy`: adds or replaces an inline policy of a role.

use super::shared::{self, Subject};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use identity::{Kind, inline};

pub(crate) struct PutRolePolicy;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    role_name: String,
    policy_name: String,
    policy_document: String,
}

pub(crate) struct Plan {
    role: Subject,
    name: String,
    document: String,
}

impl Operation for PutRolePolicy {
    const SPEC: Spec = Spec::mutates(Service::Iam, "PutRolePolicy");
    type Input = Input;
    type Plan = Plan;
    type Output = ();

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let role = Subject::named(call, Kind::Role, input.role_name).await?;
        Ok(Plan { role, name: input.policy_name, document: input.policy_document })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.role.ask("iam:PutRolePolicy")]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<(), Error> {
        let Plan { role, name, document } = plan.into_inner();
        shared::write(call, move |tx, _| {
            let entity = role.find(tx)?;
            inline::put(tx, &entity, &name, &document)
        })
        .await
    }
}
