//! `iam:ListRoles`: lists the roles of the account.

use super::shared::{self, Role};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use identity::{Kind, Page, role};

pub(crate) struct ListRoles;

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
    roles: Vec<Role>,
    is_truncated: bool,
    marker: Option<String>,
}

pub(crate) struct Plan {
    ask: Ask,
    path_prefix: String,
    page: Page,
}

impl Operation for ListRoles {
    const SPEC: Spec = Spec::reads(Service::Iam, "ListRoles");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let path_prefix = input.path_prefix.unwrap_or_else(|| "/".to_owned());
        let page = shared::page(input.marker.as_ref(), input.max_items)?;
        Ok(Plan { ask: shared::ask_list(call, "iam:ListRoles", Kind::Role), path_prefix, page })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.ask.clone()]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { path_prefix, page, .. } = plan.into_inner();
        let account = call.account().clone();
        shared::read(call, move |tx| {
            let listed = role::list(tx, &account, &path_prefix, &page)?;
            let roles = listed.items.iter().map(|role| Role::brief(tx, role));
            Ok(Output {
                roles: roles.collect::<identity::Result<_>>()?,
                is_truncated: listed.next.is_some(),
                marker: shared::marker(listed.next.as_ref()),
            })
        })
        .await
    }
}
