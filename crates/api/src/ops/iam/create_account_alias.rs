//! `iam:CreateAccountAlias`: gives the account an alias, in place of the one it has.

use super::shared;
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use identity::alias;

pub(crate) struct CreateAccountAlias;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    account_alias: String,
}

impl Operation for CreateAccountAlias {
    const SPEC: Spec = Spec::mutates(Service::Iam, "CreateAccountAlias");
    type Input = Input;
    type Plan = String;
    type Output = ();

    async fn plan(_call: &Call, input: Input) -> Result<String, Error> {
        Ok(input.account_alias)
    }

    fn asks(_plan: &String) -> Vec<Ask> {
        vec![Ask::any("iam:CreateAccountAlias")]
    }

    async fn act(call: &Call, plan: Granted<String>) -> Result<(), Error> {
        let (account, wanted) = (call.account().clone(), plan.into_inner());
        shared::write(call, move |tx, _| alias::set(tx, &account, &wanted)).await
    }
}
