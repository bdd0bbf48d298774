//! `iam:GetUser`: shows a user, or the caller itself.

use super::shared::{self, User, Whose};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use identity::{account, tag};

pub(crate) struct GetUser;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    user_name: Option<String>,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    user: User,
}

impl Operation for GetUser {
    const SPEC: Spec = Spec::reads(Service::Iam, "GetUser");
    type Input = Input;
    type Plan = Whose;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Whose, Error> {
        Whose::resolve(call, input.user_name).await
    }

    fn asks(plan: &Whose) -> Vec<Ask> {
        vec![plan.ask("iam:GetUser")]
    }

    async fn act(call: &Call, plan: Granted<Whose>) -> Result<Output, Error> {
        let whose = plan.into_inner();
        shared::read(call, move |tx| {
            let user = match &whose {
                Whose::Root(id) => {
                    let missing = || identity::Error::NoSuchEntity {
                        message: format!("The account {id} cannot be found."),
                    };
                    User::root(&account::find(tx, id)?.ok_or_else(missing)?)
                }
                Whose::User(user) => {
                    let entity = user.find(tx)?;
                    let tags = tag::of(tx, &entity.account, &entity.unique_id)?;
                    User::whole(&entity, tags)
                }
            };
            Ok(Output { user })
        })
        .await
    }
}
