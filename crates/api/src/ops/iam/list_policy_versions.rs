//! `iam:ListPolicyVersions`: lists the versions of a managed policy, newest first.

use super::shared::{self, PolicyVersion, Target};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use identity::{Page, managed};

pub(crate) struct ListPolicyVersions;

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
    versions: Vec<PolicyVersion>,
    is_truncated: bool,
    marker: Option<String>,
}

pub(crate) struct Plan {
    target: Target,
    page: Page,
}

impl Operation for ListPolicyVersions {
    const SPEC: Spec = Spec::reads(Service::Iam, "ListPolicyVersions");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let page = shared::page(input.marker.as_ref(), input.max_items)?;
        Ok(Plan { target: Target::named(call, input.policy_arn).await?, page })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.target.ask("iam:ListPolicyVersions")]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { target, page } = plan.into_inner();
        let listed = shared::read(call, move |tx| {
            let policy = target.find(tx)?;
            // Counted down, so that newer versions come first.
            let key = |v: &managed::PolicyVersion| format!("{:010}", u32::MAX - v.version);
            Ok(shared::part(managed::versions(tx, &policy)?, &page, key))
        });
        let listed = listed.await?;
        Ok(Output {
            is_truncated: listed.next.is_some(),
            marker: shared::marker(listed.next.as_ref()),
            versions: listed.items.iter().map(PolicyVersion::brief).collect(),
        })
    }
}
