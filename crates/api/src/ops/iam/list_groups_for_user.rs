//! `iam:ListGroupsForUser`: lists the groups a user is in.

use super::shared::{self, Group, Subject};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use identity::{Entity, Kind, Page, group};

pub(crate) struct ListGroupsForUser;

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
    groups: Vec<Group>,
    is_truncated: bool,
    marker: Option<String>,
}

pub(crate) struct Plan {
    user: Subject,
    page: Page,
}

impl Operation for ListGroupsForUser {
    const SPEC: Spec = Spec::reads(Service::Iam, "ListGroupsForUser");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let page = shared::page(input.marker.as_ref(), input.max_items)?;
        Ok(Plan { user: Subject::named(call, Kind::User, input.user_name).await?, page })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.user.ask("iam:ListGroupsForUser")]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { user, page } = plan.into_inner();
        let listed = shared::read(call, move |tx| {
            let entity = user.find(tx)?;
            let groups = group::groups_of(tx, &entity)?;
            Ok(shared::part(groups, &page, |group: &Entity| group.name.to_lowercase()))
        });
        let listed = listed.await?;
        Ok(Output {
            is_truncated: listed.next.is_some(),
            marker: shared::marker(listed.next.as_ref()),
            groups: listed.items.iter().map(Group::from).collect(),
        })
    }
}
