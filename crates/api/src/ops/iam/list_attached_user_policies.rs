//! `iam:ListAttachedUserPolicies`: lists the managed policies attached to a user.

use super::shared::{self, AttachedPolicy, Subject};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use identity::{Kind, Page};

pub(crate) struct ListAttachedUserPolicies;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    user_name: String,
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
    user: Subject,
    path_prefix: String,
    page: Page,
}

impl Operation for ListAttachedUserPolicies {
    const SPEC: Spec = Spec::reads(Service::Iam, "ListAttachedUserPolicies");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let page = shared::page(input.marker.as_ref(), input.max_items)?;
        let path_prefix = input.path_prefix.unwrap_or_else(|| "/".to_owned());
        let user = Subject::named(call, Kind::User, input.user_name).await?;
        Ok(Plan { user, path_prefix, page })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.user.ask("iam:ListAttachedUserPolicies")]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { user, path_prefix, page } = plan.into_inner();
        let listed = shared::read(call, move |tx| {
            let entity = user.find(tx)?;
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
