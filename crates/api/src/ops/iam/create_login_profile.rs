//! `iam:CreateLoginProfile`: gives a user a password.

use super::shared::{self, LoginProfile, Subject};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::{Shape, code};
use base::Secret;
use identity::login;

pub(crate) struct CreateLoginProfile;

#[derive(Shape)]
#[shape(input, unsupported(MaxSigninSessionDuration))]
pub(crate) struct Input {
    user_name: Option<String>,
    #[shape(sensitive)]
    password: Option<Secret<String>>,
    password_reset_required: Option<bool>,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    login_profile: LoginProfile,
}

pub(crate) struct Plan {
    user: Subject,
    password: Secret<String>,
    reset: login::Reset,
}

impl Operation for CreateLoginProfile {
    const SPEC: Spec = Spec::mutates(Service::Iam, "CreateLoginProfile");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let user = shared::named_or_own_user(call, input.user_name).await?;
        let Some(password) = input.password else {
            let message = "A login profile needs a Password.";
            return Err(Error::new(code::VALIDATION_ERROR, message));
        };
        login::check_password(&user.name, &password)?;
        Ok(Plan { user, password, reset: shared::reset(input.password_reset_required) })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.user.ask("iam:CreateLoginProfile")]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { user, password, reset } = plan.into_inner();
        let hash = shared::hash(call, password).await?;
        shared::write(call, move |tx, identity| {
            let entity = user.find(tx)?;
            let made = identity.create_login_profile(tx, &entity, &hash, reset)?;
            Ok(Output { login_profile: LoginProfile::new(&entity, &made) })
        })
        .await
    }
}
