//! `iam:TagUser`: adds tags to a user or replaces their values.

use super::shared::{self, Subject, Tag};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use identity::{
    Kind,
    tag::{self, Tags},
};

pub(crate) struct TagUser;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    user_name: String,
    #[shape(required)]
    tags: Vec<Tag>,
}

pub(crate) struct Plan {
    user: Subject,
    tags: Tags,
}

impl Operation for TagUser {
    const SPEC: Spec = Spec::mutates(Service::Iam, "TagUser");
    type Input = Input;
    type Plan = Plan;
    type Output = ();

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let tags = shared::tags_in(input.tags)?;
        Ok(Plan { user: Subject::named(call, Kind::User, input.user_name).await?, tags })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![shared::also(plan.user.ask("iam:TagUser"), &shared::request_tags(&plan.tags))]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<(), Error> {
        let Plan { user, tags } = plan.into_inner();
        shared::write(call, move |tx, _| {
            let found = user.find(tx)?;
            tag::put(tx, &user.account, &found.unique_id, &tags)
        })
        .await
    }
}
