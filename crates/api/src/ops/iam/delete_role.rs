//! `iam:DeleteRole`: removes a role on which nothing hangs any more.

use super::shared::{self, Subject};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use identity::{Kind, entity};

pub(crate) struct DeleteRole;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    role_name: String,
}

impl Operation for DeleteRole {
    const SPEC: Spec = Spec::mutates(Service::Iam, "DeleteRole");
    type Input = Input;
    type Plan = Subject;
    type Output = ();

    async fn plan(call: &Call, input: Input) -> Result<Subject, Error> {
        Subject::named(call, Kind::Role, input.role_name).await
    }

    fn asks(plan: &Subject) -> Vec<Ask> {
        vec![plan.ask("iam:DeleteRole")]
    }

    async fn act(call: &Call, plan: Granted<Subject>) -> Result<(), Error> {
        let role = plan.into_inner();
        shared::write(call, move |tx, _| entity::delete(tx, &role.account, role.kind, &role.name))
            .await
    }
}
