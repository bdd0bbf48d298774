//! `iam:GetGroup`: shows a group and who is in it.

use super::shared::{self, Group, Subject, User};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use identity::{Entity, Kind, Page, group};

pub(crate) struct GetGroup;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    group_name: String,
    marker: Option<String>,
    max_items: Option<i32>,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    group: Group,
    users: Vec<User>,
    is_truncated: bool,
    marker: Option<String>,
}

pub(crate) struct Plan {
    group: Subject,
    page: Page,
}

impl Operation for GetGroup {
    const SPEC: Spec = Spec::reads(Service::Iam, "GetGroup");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let page = shared::page(input.marker.as_ref(), input.max_items)?;
        Ok(Plan { group: Subject::named(call, Kind::Group, input.group_name).await?, page })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.group.ask("iam:GetGroup")]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { group, page } = plan.into_inner();
        shared::read(call, move |tx| {
            let found = group.find(tx)?;
            let members = group::members_of(tx, &found)?;
            let listed = shared::part(members, &page, |user: &Entity| user.name.to_lowercase());
            Ok(Output {
                group: Group::from(&found),
                users: listed.items.iter().map(User::brief).collect(),
                is_truncated: listed.next.is_some(),
                marker: shared::marker(listed.next.as_ref()),
            })
        })
        .await
    }
}
