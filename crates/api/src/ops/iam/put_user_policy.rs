//! `iam:PutUserPolicy`: adds or replaces an inline policy of a user.

use super::shared::{self, Subject};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use identity::{Kind, inline};

pub(crate) struct PutUserPolicy;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    user_name: String,
    policy_name: String,
    policy_document: String,
}

pub(crate) struct Plan {
    user: Subject,
    name: String,
    document: String,
}

impl Operation for PutUserPolicy {
    const SPEC: Spec = Spec::mutates(Service::Iam, "PutUserPolicy");
    type Input = Input;
    type Plan = Plan;
    type Output = ();

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let user = Subject::named(call, Kind::User, input.user_name).await?;
        Ok(Plan { user, name: input.policy_name, document: input.policy_document })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.user.ask("iam:PutUserPolicy")]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<(), Error> {
        let Plan { user, name, document } = plan.into_inner();
        shared::write(call, move |tx, _| {
            let entity = user.find(tx)?;
            inline::put(tx, &entity, &name, &document)
        })
        .await
    }
}
