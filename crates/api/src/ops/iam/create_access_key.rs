//! `iam:CreateAccessKey`: makes an access key and shows its secret, once.

use super::shared::{self, Whose};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use base::{Secret, Timestamp};

pub(crate) struct CreateAccessKey;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    user_name: Option<String>,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct AccessKey {
    user_name: String,
    access_key_id: String,
    status: String,
    #[shape(sensitive)]
    secret_access_key: Secret<String>,
    create_date: Timestamp,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    access_key: AccessKey,
}

impl Operation for CreateAccessKey {
    const SPEC: Spec = Spec::mutates(Service::Iam, "CreateAccessKey");
    type Input = Input;
    type Plan = Whose;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Whose, Error> {
        Whose::resolve(call, input.user_name).await
    }

    fn asks(plan: &Whose) -> Vec<Ask> {
        vec![plan.ask("iam:CreateAccessKey")]
    }

    async fn act(call: &Call, plan: Granted<Whose>) -> Result<Output, Error> {
        let whose = plan.into_inner();
        let user_name = whose.user_name();
        let made = shared::write(call, move |tx, identity| {
            let owner = whose.owner(tx)?;
            identity.create_access_key(tx, &owner)
        });
        let made = made.await?;
        Ok(Output {
            access_key: AccessKey {
                user_name,
                access_key_id: made.key.id,
                status: "Active".to_owned(),
                secret_access_key: made.secret,
                create_date: made.key.created_at,
            },
        })
    }
}
