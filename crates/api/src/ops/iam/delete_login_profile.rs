//! `iam:DeleteLoginProfile`: takes the password from a user.

use super::shared::{self, Subject};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use identity::login;

pub(crate) struct DeleteLoginProfile;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    user_name: Option<String>,
}

impl Operation for DeleteLoginProfile {
    const SPEC: Spec = Spec::mutates(Service::Iam, "DeleteLoginProfile");
    type Input = Input;
    type Plan = Subject;
    type Output = ();

    async fn plan(call: &Call, input: Input) -> Result<Subject, Error> {
        shared::named_or_own_user(call, input.user_name).await
    }

    fn asks(plan: &Subject) -> Vec<Ask> {
        vec![plan.ask("iam:DeleteLoginProfile")]
    }

    async fn act(call: &Call, plan: Granted<Subject>) -> Result<(), Error> {
        let user = plan.into_inner();
        shared::write(call, move |tx, _| {
            let entity = user.find(tx)?;
            login::delete(tx, &entity)
        })
        .await
    }
}
