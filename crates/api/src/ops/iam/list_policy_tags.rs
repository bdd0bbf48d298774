//! `iam:ListPolicyTags`: lists the tags of a managed policy.

use super::shared::{self, Tag, Target};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use identity::{Page, tag};

pub(crate) struct ListPolicyTags;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    policy_arn: String,
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
    policy: Target,
    page: Page,
}

impl Operation for ListPolicyTags {
    const SPEC: Spec = Spec::reads(Service::Iam, "ListPolicyTags");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let page = shared::page(input.marker.as_ref(), input.max_items)?;
        Ok(Plan { policy: Target::named(call, input.policy_arn).await?, page })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.policy.ask("iam:ListPolicyTags")]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { policy, page } = plan.into_inner();
        let listed = shared::read(call, move |tx| {
            let found = policy.find(tx)?;
            let tags = tag::of(tx, &policy.account, &found.policy_id)?;
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
