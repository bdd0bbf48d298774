//! `iam:PutUserPermissionsBoundary`: bounds what the policies of a user can allow.

use super::shared::{self, Subject};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use identity::{Kind, entity};

pub(crate) struct PutUserPermissionsBoundary;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    user_name: String,
    permissions_boundary: String,
}

pub(crate) struct Plan {
    user: Subject,
    boundary: String,
}

impl Operation for PutUserPermissionsBoundary {
    const SPEC: Spec = Spec::mutates(Service::Iam, "PutUserPermissionsBoundary");
    type Input = Input;
    type Plan = Plan;
    type Output = ();

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let user = Subject::named(call, Kind::User, input.user_name).await?;
        Ok(Plan { user, boundary: input.permissions_boundary })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        let context = shared::boundary_context(Some(&plan.boundary));
        vec![shared::also(plan.user.ask("iam:PutUserPermissionsBoundary"), &context)]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<(), Error> {
        let Plan { user, boundary } = plan.into_inner();
        shared::write(call, move |tx, _| {
            let entity = user.find(tx)?;
            entity::set_boundary(tx, &entity, Some(&boundary))
        })
        .await
    }
}
