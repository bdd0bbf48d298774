//! `iam:ListGroups`: lists the groups of the account.

use super::shared::{self, Group};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use identity::{Kind, Page, entity};

pub(crate) struct ListGroups;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    path_prefix: Option<String>,
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
    ask: Ask,
    path_prefix: String,
    page: Page,
}

impl Operation for ListGroups {
    const SPEC: Spec = Spec::reads(Service::Iam, "ListGroups");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let path_prefix = input.path_prefix.unwrap_or_else(|| "/".to_owned());
        let page = shared::page(input.marker.as_ref(), input.max_items)?;
        Ok(Plan { ask: shared::ask_list(call, "iam:ListGroups", Kind::Group), path_prefix, page })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.ask.clone()]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { path_prefix, page, .. } = plan.into_inner();
        let account = call.account().clone();
        let listed = shared::read(call, move |tx| {
            entity::list(tx, &account, Kind::Group, &path_prefix, &page)
        });
        let listed = listed.await?;
        Ok(Output {
            is_truncated: listed.next.is_some(),
            marker: shared::marker(listed.next.as_ref()),
            groups: listed.items.iter().map(Group::from).collect(),
        })
    }
}
