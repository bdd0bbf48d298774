//! `iam:UpdateRole`: changes the description of a role and how long its sessions may last.

use super::shared::{self, Subject};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use identity::{Kind, role};

pub(crate) struct UpdateRole;

#[derive(Shape)]
#[shape(input, unsupported(MaxSigninSessionDuration, ResetMaxSigninSessionDuration))]
pub(crate) struct Input {
    role_name: String,
    description: Option<String>,
    max_session_duration: Option<i32>,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {}

pub(crate) struct Plan {
    role: Subject,
    description: Option<String>,
    max_session_seconds: Option<i64>,
}

impl Operation for UpdateRole {
    const SPEC: Spec = Spec::mutates(Service::Iam, "UpdateRole");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let role = Subject::named(call, Kind::Role, input.role_name).await?;
        let max_session_seconds = input.max_session_duration.map(i64::from);
        Ok(Plan { role, description: input.description, max_session_seconds })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.role.ask("iam:UpdateRole")]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { role: wanted, description, max_session_seconds } = plan.into_inner();
        shared::write(call, move |tx, _| {
            let role = role::find(tx, &wanted.account, &wanted.name)?;
            let description = description.as_ref().unwrap_or(&role.description);
            let seconds = max_session_seconds.unwrap_or(role.max_session_seconds);
            role::update(tx, &role, description, seconds)?;
            Ok(Output {})
        })
        .await
    }
}
