//! `iam:DeleteUserPolicy`: removes an inline policy of a user.

use super::shared::{self, Subject};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use identity::{Kind, inline};

pub(crate) struct DeleteUserPolicy;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    user_name: String,
    policy_name: String,
}

pub(crate) struct Plan {
    user: Subject,
    name: String,
}

impl Operation for DeleteUserPolicy {
    const SPEC: Spec = Spec::mutates(Service::Iam, "DeleteUserPolicy");
    type Input = Input;
    type Plan = Plan;
    type Output = ();

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let user = Subject::named(call, Kind::User, input.user_name).await?;
        Ok(Plan { user, name: input.policy_name })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.user.ask("iam:DeleteUserPolicy")]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<(), Error> {
        let Plan { user, name } = plan.into_inner();
        shared::write(call, move |tx, _| {
            let entity = user.find(tx)?;
            inline::delete(tx, &entity, &name)
        })
        .await
    }
}
