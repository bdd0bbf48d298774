//! `kms:RevokeGrant`: takes a grant back, by whom the key's policies let.

use super::shared::{self, Named, Target};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use kms::condition::Facts;
use kms::{Action, grant};

pub(crate) struct RevokeGrant;

#[derive(Shape)]
#[shape(input, dry_run)]
pub(crate) struct Input {
    key_id: String,
    grant_id: String,
}

pub(crate) struct Plan {
    target: Target,
    grant_id: String,
}

impl Operation for RevokeGrant {
    const SPEC: Spec = Spec::mutates(Service::Kms, "RevokeGrant");
    type Input = Input;
    type Plan = Plan;
    type Output = ();

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let action = Action::RevokeGrant;
        let named = Named { action, key_id: &input.key_id, facts: Facts::Grants };
        Ok(Plan { target: shared::target(call, named).await?, grant_id: input.grant_id })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.target.ask.clone()]
    }

    async fn rehearse(call: &Call, plan: &Plan) -> Result<(), Error> {
        let (key, grant_id) = (plan.target.key.clone(), plan.grant_id.clone());
        shared::read(call, move |_, tx, _| grant::of_key(tx, &key, &grant_id).map(drop)).await
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<(), Error> {
        let Plan { target, grant_id } = plan.into_inner();
        shared::change(call, Action::RevokeGrant, target.key, move |kms, tx, key| {
            // Whether there is such a grant is told only to whom may know.
            let grant = grant::of_key(tx, key, &grant_id)?;
            kms.delete_grant(tx, &grant)
        })
        .await
    }
}
