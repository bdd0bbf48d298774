//! `iam:TagRole`: adds tags to a role or replaces their values.

use super::shared::{self, Subject, Tag};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use identity::{
    Kind,
    tag::{self, Tags},
};

pub(crate) struct TagRole;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    role_name: String,
    #[shape(required)]
    tags: Vec<Tag>,
}

pub(crate) struct Plan {
    role: Subject,
    tags: Tags,
}

impl Operation for TagRole {
    const SPEC: Spec = Spec::mutates(Service::Iam, "TagRole");
    type Input = Input;
    type Plan = Plan;
    type Output = ();

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let tags = shared::tags_in(input.tags)?;
        Ok(Plan { role: Subject::named(call, Kind::Role, input.role_name).await?, tags })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![shared::also(plan.role.ask("iam:TagRole"), &shared::request_tags(&plan.tags))]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<(), Error> {
        let Plan { role, tags } = plan.into_inner();
        shared::write(call, move |tx, _| {
            let found = role.find(tx)?;
            tag::put(tx, &role.account, &found.unique_id, &tags)
        })
        .await
    }
}
