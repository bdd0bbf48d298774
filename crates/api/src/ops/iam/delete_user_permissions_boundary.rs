//! `iam:DeleteUserPermissionsBoundary`: lets the policies of a user allow whatever they say.

use super::shared::{self, Subject};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use identity::{Kind, entity};

pub(crate) struct DeleteUserPermissionsBoundary;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    user_name: String,
}

impl Operation for DeleteUserPermissionsBoundary {
    const SPEC: Spec = Spec::mutates(Service::Iam, "DeleteUserPermissionsBoundary");
    type Input = Input;
    type Plan = Subject;
    type Output = ();

    async fn plan(call: &Call, input: Input) -> Result<Subject, Error> {
        Subject::named(call, Kind::User, input.user_name).await
    }

    fn asks(plan: &Subject) -> Vec<Ask> {
        vec![plan.ask("iam:DeleteUserPermissionsBoundary")]
    }

    async fn act(call: &Call, plan: Granted<Subject>) -> Result<(), Error> {
        let user = plan.into_inner();
        shared::write(call, move |tx, _| {
            let entity = user.find(tx)?;
            entity::set_boundary(tx, &entity, None)
        })
        .await
    }
}
