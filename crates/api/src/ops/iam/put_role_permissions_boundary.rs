//! `iam:PutRolePermissionsBoundary`: bounds what the policies of a role can allow.

use super::shared::{self, Subject};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use identity::{Kind, entity};

pub(crate) struct PutRolePermissionsBoundary;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    role_name: String,
    permissions_boundary: String,
}

pub(crate) struct Plan {
    role: Subject,
    boundary: String,
}

impl Operation for PutRolePermissionsBoundary {
    const SPEC: Spec = Spec::mutates(Service::Iam, "PutRolePermissionsBoundary");
    type Input = Input;
    type Plan = Plan;
    type Output = ();

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let role = Subject::named(call, Kind::Role, input.role_name).await?;
        Ok(Plan { role, boundary: input.permissions_boundary })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        let context = shared::boundary_context(Some(&plan.boundary));
        vec![shared::also(plan.role.ask("iam:PutRolePermissionsBoundary"), &context)]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<(), Error> {
        let Plan { role, boundary } = plan.into_inner();
        shared::write(call, move |tx, _| {
            let entity = role.find(tx)?;
            entity::set_boundary(tx, &entity, Some(&boundary))
        })
        .await
    }
}
