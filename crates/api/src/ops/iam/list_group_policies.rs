//! `iam:ListGroupPolicies`: names the inline policies of a group.

use super::shared::{self, Subject};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use identity::{Kind, Page, inline};

pub(crate) struct ListGroupPolicies;

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
    policy_names: Vec<String>,
    is_truncated: bool,
    marker: Option<String>,
}

pub(crate) struct Plan {
    group: Subject,
    page: Page,
}

impl Operation for ListGroupPolicies {
    const SPEC: Spec = Spec::reads(Service::Iam, "ListGroupPolicies");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let page = shared::page(input.marker.as_ref(), input.max_items)?;
        Ok(Plan { group: Subject::named(call, Kind::Group, input.group_name).await?, page })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.group.ask("iam:ListGroupPolicies")]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { group, page } = plan.into_inner();
        let listed = shared::read(call, move |tx| {
            let entity = group.find(tx)?;
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
