//! `iam:ListUserTags`: lists the tags of a user.

use super::shared::{self, Subject, Tag};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use identity::{Kind, Page, tag};

pub(crate) struct ListUserTags;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    user_name: String,
    marker: Option<String>,
    max_items: Option<i32>,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    tags: Vec<Tag>,
    is_truncated: bool,
    marker: Option<String>,
}

pub(crate) struct Plan {
    user: Subject,
    page: Page,
}

impl Operation for ListUserTags {
    const SPEC: Spec = Spec::reads(Service::Iam, "ListUserTags");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let page = shared::page(input.marker.as_ref(), input.max_items)?;
        Ok(Plan { user: Subject::named(call, Kind::User, input.user_name).await?, page })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.user.ask("iam:ListUserTags")]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { user, page } = plan.into_inner();
        let listed = shared::read(call, move |tx| {
            let found = user.find(tx)?;
            let tags = tag::of(tx, &user.account, &found.unique_id)?;
            Ok(shared::part(tags.into_iter().collect(), &page, |(key, _): &(String, _)| {
                key.clone()
            }))
        });
        let listed = listed.await?;
        Ok(Output {
            is_truncated: listed.next.is_some(),
            marker: shared::marker(listed.next.as_ref()),
            tags: shared::tags_out(listed.items.into_iter().collect()),
        })
    }
}
