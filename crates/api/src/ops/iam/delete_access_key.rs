//! `iam:DeleteAccessKey`: removes an access key.

use super::shared::{self, Whose};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use identity::access_key;

pub(crate) struct DeleteAccessKey;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    user_name: Option<String>,
    access_key_id: String,
}

pub(crate) struct Plan {
    whose: Whose,
    key_id: String,
}

impl Operation for DeleteAccessKey {
    const SPEC: Spec = Spec::mutates(Service::Iam, "DeleteAccessKey");
    type Input = Input;
    type Plan = Plan;
    type Output = ();

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let whose = Whose::resolve(call, input.user_name).await?;
        Ok(Plan { whose, key_id: input.access_key_id })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.whose.ask("iam:DeleteAccessKey")]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<(), Error> {
        let Plan { whose, key_id } = plan.into_inner();
        shared::write(call, move |tx, _| {
            let owner = whose.owner(tx)?;
            access_key::delete(tx, &owner, &key_id)
        })
        .await
    }
}
