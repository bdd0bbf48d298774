//! `iam:UpdateLoginProfile`: changes the password of a user, or whether it has to be changed.

use super::shared::{self, Subject};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use base::Secret;
use identity::Kind;
use identity::login;

pub(crate) struct UpdateLoginProfile;

#[derive(Shape)]
#[shape(input, unsupported(MaxSigninSessionDuration, ResetMaxSigninSessionDuration))]
pub(crate) struct Input {
    user_name: String,
    #[shape(sensitive)]
    password: Option<Secret<String>>,
    password_reset_required: Option<bool>,
}

pub(crate) struct Plan {
    user: Subject,
    password: Option<Secret<String>>,
    reset: Option<login::Reset>,
}

impl Operation for UpdateLoginProfile {
    const SPEC: Spec = Spec::mutates(Service::Iam, "UpdateLoginProfile");
    type Input = Input;
    type Plan = Plan;
    type Output = ();

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let user = Subject::named(call, Kind::User, input.user_name).await?;
        if let Some(password) = &input.password {
            login::check_password(&user.name, password)?;
        }
        let reset = input.password_reset_required.map(|required| shared::reset(Some(required)));
        Ok(Plan { user, password: input.password, reset })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.user.ask("iam:UpdateLoginProfile")]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<(), Error> {
        let Plan { user, password, reset } = plan.into_inner();
        let hash = match password {
            Some(password) => Some(shared::hash(call, password).await?),
            None => None,
        };
        shared::write(call, move |tx, _| {
            let entity = user.find(tx)?;
            login::update(tx, &entity, hash.as_ref(), reset)
        })
        .await
    }
}
