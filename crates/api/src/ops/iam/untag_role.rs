//! `iam:UntagRole`: removes tags of a role.

use super::shared::{self, Subject};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use identity::{Kind, tag};

pub(crate) struct UntagRole;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    role_name: String,
    #[shape(required)]
    tag_keys: Vec<String>,
}

pub(crate) struct Plan {
    role: Subject,
    keys: Vec<String>,
}

impl Operation for UntagRole {
    const SPEC: Spec = Spec::mutates(Service::Iam, "UntagRole");
    type Input = Input;
    type Plan = Plan;
    type Output = ();

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        Ok(Plan {
            role: Subject::named(call, Kind::Role, input.role_name).await?,
            keys: input.tag_keys,
        })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![shared::also(plan.role.ask("iam:UntagRole"), &shared::removed_tags(&plan.keys))]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<(), Error> {
        let Plan { role, keys } = plan.into_inner();
        shared::write(call, move |tx, _| {
            let found = role.find(tx)?;
            tag::remove(tx, &role.account, &found.unique_id, &keys)
        })
        .await
    }
}
