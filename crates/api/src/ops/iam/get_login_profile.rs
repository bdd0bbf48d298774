//! `iam:GetLoginProfile`: tells whether a user has a password, and since when.

use super::shared::{self, LoginProfile, Subject};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use identity::login;

pub(crate) struct GetLoginProfile;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    user_name: Option<String>,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    login_profile: LoginProfile,
}

impl Operation for GetLoginProfile {
    const SPEC: Spec = Spec::reads(Service::Iam, "GetLoginProfile");
    type Input = Input;
    type Plan = Subject;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Subject, Error> {
        shared::named_or_own_user(call, input.user_name).await
    }

    fn asks(plan: &Subject) -> Vec<Ask> {
        vec![plan.ask("iam:GetLoginProfile")]
    }

    async fn act(call: &Call, plan: Granted<Subject>) -> Result<Output, Error> {
        let user = plan.into_inner();
        shared::read(call, move |tx| {
            let entity = user.find(tx)?;
            let profile = login::find(tx, &entity)?;
            Ok(Output { login_profile: LoginProfile::new(&entity, &profile) })
        })
        .await
    }
}
