//! `iam:ListInstanceProfilesForRole`: always empty, because there are no instance profiles here.
//!
//! Clients ask before they delete a role.

use super::shared::{self, Role, Subject, Tag};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use base::Timestamp;
use identity::Kind;

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
pub(crate) struct InstanceProfile {
    path: String,
    instance_profile_name: String,
    instance_profile_id: String,
    arn: String,
    create_date: Timestamp,
    roles: Vec<Role>,
    tags: Option<Vec<Tag>>,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    instance_profiles: Vec<InstanceProfile>,
    is_truncated: bool,
    marker: Option<String>,
}

impl Operation for ListInstanceProfilesForRole {
    const SPEC: Spec = Spec::reads(Service::Iam, "ListInstanceProfilesForRole");
    type Input = Input;
    type Plan = Subject;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Subject, Error> {
        shared::page(input.marker.as_ref(), input.max_items)?;
        Subject::named(call, Kind::Role, input.role_name).await
    }

    fn asks(plan: &Subject) -> Vec<Ask> {
        vec![plan.ask("iam:ListInstanceProfilesForRole")]
    }

    async fn act(call: &Call, plan: Granted<Subject>) -> Result<Output, Error> {
        let role = plan.into_inner();
        shared::read(call, move |tx| role.find(tx)).await?;
        Ok(Output { instance_profiles: Vec::new(), is_truncated: false, marker: None })
    }
}
