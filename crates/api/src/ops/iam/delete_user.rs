//! `iam:DeleteUser`: removes a user on which nothing hangs any more.

use super::shared::{self, Subject};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use identity::{Kind, entity};

pub(crate) struct DeleteUser;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    user_name: String,
}

impl Operation for DeleteUser {
    const SPEC: Spec = Spec::mutates(Service::Iam, "DeleteUser");
    type Input = Input;
    type Plan = Subject;
    type Output = ();

    async fn plan(call: &Call, input: Input) -> Result<Subject, Error> {
        Subject::named(call, Kind::User, input.user_name).await
    }

    fn asks(plan: &Subject) -> Vec<Ask> {
        vec![plan.ask("iam:DeleteUser")]
    }

    async fn act(call: &Call, plan: Granted<Subject>) -> Result<(), Error> {
        let user = plan.into_inner();
        shared::write(call, move |tx, _| entity::delete(tx, &user.account, user.kind, &user.name))
            .await
    }
}
