//! `iam:UpdateAccessKey`: activates or deactivates an access key.

use super::shared::{self, Whose};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::{Shape, string_enum};
use identity::access_key;

string_enum! {
    /// What a request may set; AWS's `Expired` is for keys that nothing here makes.
    pub(crate) enum Status {
        /// It can be used.
        Active = "Active",
        /// It cannot.
        Inactive = "Inactive",
    }
}

pub(crate) struct UpdateAccessKey;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    user_name: Option<String>,
    access_key_id: String,
    status: Status,
}

pub(crate) struct Plan {
    whose: Whose,
    key_id: String,
    status: Status,
}

impl Operation for UpdateAccessKey {
    const SPEC: Spec = Spec::mutates(Service::Iam, "UpdateAccessKey");
    type Input = Input;
    type Plan = Plan;
    type Output = ();

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let whose = Whose::resolve(call, input.user_name).await?;
        Ok(Plan { whose, key_id: input.access_key_id, status: input.status })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.whose.ask("iam:UpdateAccessKey")]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<(), Error> {
        let Plan { whose, key_id, status } = plan.into_inner();
        shared::write(call, move |tx, _| {
            let owner = whose.owner(tx)?;
            access_key::set_active(tx, &owner, &key_id, status == Status::Active)
        })
        .await
    }
}
