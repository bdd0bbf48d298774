//! `iam:ListInstanceProfiles`: shows the instance profiles below a path.

use super::shared::{self, InstanceProfile};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use base::{AccountId, Arn};
use identity::{Page, instance_profile};

pub(crate) struct ListInstanceProfiles;

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
    instance_profiles: Vec<InstanceProfile>,
    is_truncated: bool,
    marker: Option<String>,
}

pub(crate) struct Plan {
    account: AccountId,
    path_prefix: String,
    page: Page,
}

impl Operation for ListInstanceProfiles {
    const SPEC: Spec = Spec::reads(Service::Iam, "ListInstanceProfiles");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let page = shared::page(input.marker.as_ref(), input.max_items)?;
        let path_prefix = input.path_prefix.unwrap_or_else(|| "/".to_owned());
        Ok(Plan { account: call.account().clone(), path_prefix, page })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![Ask::on(
            "iam:ListInstanceProfiles",
            &Arn::global("iam", &plan.account, "instance-profile/"),
            &plan.account,
        )]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { account, path_prefix, page } = plan.into_inner();
        shared::read(call, move |tx| {
            let listed = instance_profile::list(tx, &account, &path_prefix, &page)?;
            let shown = listed.items.iter().map(|profile| InstanceProfile::brief(tx, profile));
            Ok(Output {
                instance_profiles: shown.collect::<identity::Result<_>>()?,
                is_truncated: listed.next.is_some(),
                marker: shared::marker(listed.next.as_ref()),
            })
        })
        .await
    }
}
