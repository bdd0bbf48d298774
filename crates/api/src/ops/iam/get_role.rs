//! `iam:GetRole`: shows a role with its trust policy.

use super::shared::{self, Role, Subject};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use identity::{Kind, role};

pub(crate) struct GetRole;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    role_name: String,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    role: Role,
}

impl Operation for GetRole {
    const SPEC: Spec = Spec::reads(Service::Iam, "GetRole");
    type Input = Input;
    type Plan = Subject;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Subject, Error> {
        Subject::named(call, Kind::Role, input.role_name).await
    }

    fn asks(plan: &Subject) -> Vec<Ask> {
        vec![plan.ask("iam:GetRole")]
    }

    async fn act(call: &Call, plan: Granted<Subject>) -> Result<Output, Error> {
        let wanted = plan.into_inner();
        shared::read(call, move |tx| {
            let found = role::find(tx, &wanted.account, &wanted.name)?;
            Ok(Output { role: Role::whole(tx, &found)? })
        })
        .await
    }
}
