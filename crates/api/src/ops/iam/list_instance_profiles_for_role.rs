//! `iam:ListInstanceProfilesForRole`: shows the instance profiles that hold a role.

use super::shared::{self, InstanceProfile, Subject};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use identity::{Kind, Page, instance_profile};

pub(crate) struct ListInstanceProfilesForRole;

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
    instance_profiles: Vec<InstanceProfile>,
    is_truncated: bool,
    marker: Option<String>,
}

pub(crate) struct Plan {
    role: Subject,
    page: Page,
}

impl Operation for ListInstanceProfilesForRole {
    const SPEC: Spec = Spec::reads(Service::Iam, "ListInstanceProfilesForRole");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let page = shared::page(input.marker.as_ref(), input.max_items)?;
        Ok(Plan { role: Subject::named(call, Kind::Role, input.role_name).await?, page })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.role.ask("iam:ListInstanceProfilesForRole")]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { role, page } = plan.into_inner();
        shared::read(call, move |tx| {
            let listed = {
                let role = role.find(tx)?;
                instance_profile::of_role(tx, &role, &page)?
            };
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
