//! `iam:ListAccessKeys`: lists the access keys of a user, or of the caller.

use super::shared::{self, Whose};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use base::Timestamp;
use identity::Page;
use identity::access_key::{self, AccessKey};

pub(crate) struct ListAccessKeys;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    user_name: Option<String>,
    marker: Option<String>,
    max_items: Option<i32>,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct AccessKeyMetadata {
    user_name: String,
    access_key_id: String,
    status: String,
    create_date: Timestamp,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    access_key_metadata: Vec<AccessKeyMetadata>,
    is_truncated: bool,
    marker: Option<String>,
}

pub(crate) struct Plan {
    whose: Whose,
    page: Page,
}

impl Operation for ListAccessKeys {
    const SPEC: Spec = Spec::reads(Service::Iam, "ListAccessKeys");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let page = shared::page(input.marker.as_ref(), input.max_items)?;
        Ok(Plan { whose: Whose::resolve(call, input.user_name).await?, page })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.whose.ask("iam:ListAccessKeys")]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { whose, page } = plan.into_inner();
        let user_name = whose.user_name();
        let listed = shared::read(call, move |tx| {
            let owner = whose.owner(tx)?;
            let mut keys = access_key::list(tx, &owner)?;
            keys.sort_by_key(|key| key.id.clone());
            Ok(shared::part(keys, &page, |key: &AccessKey| key.id.clone()))
        });
        let listed = listed.await?;
        let metadata = |key: AccessKey| AccessKeyMetadata {
            user_name: user_name.clone(),
            access_key_id: key.id,
            status: if key.active { "Active" } else { "Inactive" }.to_owned(),
            create_date: key.created_at,
        };
        Ok(Output {
            is_truncated: listed.next.is_some(),
            marker: shared::marker(listed.next.as_ref()),
            access_key_metadata: listed.items.into_iter().map(metadata).collect(),
        })
    }
}
