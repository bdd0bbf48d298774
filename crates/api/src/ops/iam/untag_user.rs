//! `iam:UntagUser`: removes tags of a user.

use super::shared::{self, Subject};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use identity::{Kind, tag};

pub(crate) struct UntagUser;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    user_name: String,
    #[shape(required)]
    tag_keys: Vec<String>,
}

pub(crate) struct Plan {
    user: Subject,
    keys: Vec<String>,
}

impl Operation for UntagUser {
    const SPEC: Spec = Spec::mutates(Service::Iam, "UntagUser");
    type Input = Input;
    type Plan = Plan;
    type Output = ();

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        Ok(Plan {
            user: Subject::named(call, Kind::User, input.user_name).await?,
            keys: input.tag_keys,
        })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![shared::also(plan.user.ask("iam:UntagUser"), &shared::removed_tags(&plan.keys))]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<(), Error> {
        let Plan { user, keys } = plan.into_inner();
        shared::write(call, move |tx, _| {
            let found = user.find(tx)?;
            tag::remove(tx, &user.account, &found.unique_id, &keys)
        })
        .await
    }
}
