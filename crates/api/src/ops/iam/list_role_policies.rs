//! `iam:ListRolePolicies`: names the inline policies of a role.

use super::shared::{self, Subject};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use identity::{Kind, Page, inline};

pub(crate) struct ListRolePolicies;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    role_name: String,
    marker: Option<String>,
    max_items: Option<i32>,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    policy_names: Vec<String>,
    is_truncated: bool,
    marker: Option<String>,
}

pub(crate) struct Plan {
    role: Subject,
    page: Page,
}

impl Operation for ListRolePolicies {
    const SPEC: Spec = Spec::reads(Service::Iam, "ListRolePolicies");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let page = shared::page(input.marker.as_ref(), input.max_items)?;
        Ok(Plan { role: Subject::named(call, Kind::Role, input.role_name).await?, page })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.role.ask("iam:ListRolePolicies")]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { role, page } = plan.into_inner();
        let listed = shared::read(call, move |tx| {
            let entity = role.find(tx)?;
            let names = inline::list(tx, &entity)?.into_iter().map(|policy| policy.name);
            Ok(shared::part(names.collect(), &page, |name: &String| name.to_lowercase()))
        });
        let listed = listed.await?;
        Ok(Output {
            is_truncated: listed.next.is_some(),
            marker: shared::marker(listed.next.as_ref()),
            policy_names: listed.items,
        })
    }
}
