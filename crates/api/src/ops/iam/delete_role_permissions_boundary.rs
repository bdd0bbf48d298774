//! `iam:DeleteRolePermissionsBoundary`: lets the policies of a role allow whatever they say.

use super::shared::{self, Subject};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use identity::{Kind, entity};

pub(crate) struct DeleteRolePermissionsBoundary;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    role_name: String,
}

impl Operation for DeleteRolePermissionsBoundary {
    const SPEC: Spec = Spec::mutates(Service::Iam, "DeleteRolePermissionsBoundary");
    type Input = Input;
    type Plan = Subject;
    type Output = ();

    async fn plan(call: &Call, input: Input) -> Result<Subject, Error> {
        Subject::named(call, Kind::Role, input.role_name).await
    }

    fn asks(plan: &Subject) -> Vec<Ask> {
        vec![plan.ask("iam:DeleteRolePermissionsBoundary")]
    }

    async fn act(call: &Call, plan: Granted<Subject>) -> Result<(), Error> {
        let role = plan.into_inner();
        shared::write(call, move |tx, _| {
            let entity = role.find(tx)?;
            entity::set_boundary(tx, &entity, None)
        })
        .await
    }
}
