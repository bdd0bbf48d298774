//! `iam:ListAttachedGroupPolicies`: lists the managed policies attached to a group.

use super::shared::{self, AttachedPolicy, Subject};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use identity::{Kind, Page};

pub(crate) struct ListAttachedGroupPolicies;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    group_name: String,
    path_prefix: Option<String>,
    marker: Option<String>,
    max_items: Option<i32>,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    attached_policies: Vec<AttachedPolicy>,
    is_truncated: bool,
    marker: Option<String>,
}

pub(crate) struct Plan {
    group: Subject,
    path_prefix: String,
    page: Page,
}

impl Operation for ListAttachedGroupPolicies {
    const SPEC: Spec = Spec::reads(Service::Iam, "ListAttachedGroupPolicies");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let page = shared::page(input.marker.as_ref(), input.max_items)?;
        let path_prefix = input.path_prefix.unwrap_or_else(|| "/".to_owned());
        let group = Subject::named(call, Kind::Group, input.group_name).await?;
        Ok(Plan { group, path_prefix, page })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.group.ask("iam:ListAttachedGroupPolicies")]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { group, path_prefix, page } = plan.into_inner();
        let listed = shared::read(call, move |tx| {
            let entity = group.find(tx)?;
            shared::attached(tx, &entity, &path_prefix, &page)
        });
        let listed = listed.await?;
        Ok(Output {
            is_truncated: listed.next.is_some(),
            marker: shared::marker(listed.next.as_ref()),
            attached_policies: listed.items,
        })
    }
}
