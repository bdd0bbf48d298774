//! `iam:DeleteServiceLinkedRole`: removes the role that a service acted with. It is gone when this returns.

use super::shared::{self, Subject};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use identity::Kind;

pub(crate) struct DeleteServiceLinkedRole;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    role_name: String,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    deletion_task_id: String,
}

impl Operation for DeleteServiceLinkedRole {
    const SPEC: Spec = Spec::mutates(Service::Iam, "DeleteServiceLinkedRole");
    type Input = Input;
    type Plan = Subject;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Subject, Error> {
        Subject::named(call, Kind::Role, input.role_name).await
    }

    fn asks(plan: &Subject) -> Vec<Ask> {
        vec![plan.ask("iam:DeleteServiceLinkedRole")]
    }

    async fn act(call: &Call, plan: Granted<Subject>) -> Result<Output, Error> {
        let role = plan.into_inner();
        shared::write(call, move |tx, identity| {
            let deletion_task_id = identity.delete_linked_role(tx, &role.account, &role.name)?;
            Ok(Output { deletion_task_id })
        })
        .await
    }
}
