//! `kms:UpdatePrimaryRegion`: makes a replica the primary key, and the primary key a replica. Needs permission on
//! both.

use super::shared::{self, Named, Target};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec, key_life};
use awsproto::Shape;
use kms::condition::Facts;
use kms::resolve::Resolved;
use kms::{Action, Key};

pub(crate) struct UpdatePrimaryRegion;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    key_id: String,
    primary_region: String,
}

pub(crate) struct Plan {
    primary: Target,
    replica: Target,
}

impl Operation for UpdatePrimaryRegion {
    const SPEC: Spec = Spec::mutates(Service::Kms, "UpdatePrimaryRegion");
    type Input = Input;
    type Plan = Plan;
    type Output = ();

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let region = shared::served_region(call, "primaryRegion", &input.primary_region)?;
        let action = Action::UpdatePrimaryRegion;
        let facts = Facts::UpdatePrimary { region: region.clone() };
        let named = Named { action, key_id: &input.key_id, facts: facts.clone() };
        let primary = shared::target(call, named).await?;
        let (account, id) = (primary.key.account.clone(), primary.key.id.clone());
        let replica = shared::read(call, move |kms, tx, from| {
            let key = kms::key::get(tx, &account, &region, &id)?;
            let resolved = Resolved { key, request_alias: None };
            let ask = from.ask(kms, tx, action, &resolved, &facts)?;
            Ok(Target { key: resolved.key, ask })
        })
        .await?;
        Ok(Plan { primary, replica })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.primary.ask.clone(), plan.replica.ask.clone()]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<(), Error> {
        let Plan { primary, replica } = plan.into_inner();
        let now = call.now;
        shared::write(call, move |kms, tx, _| {
            let primary = shared::usable(tx, Action::UpdatePrimaryRegion, &primary.key)?;
            let replica = shared::usable(tx, Action::UpdatePrimaryRegion, &replica.key)?;
            if primary.region == replica.region {
                return Err(already(&primary));
            }
            kms.update_primary(tx, &primary, &replica)?;
            key_life::settle(tx, &primary, now)?;
            Ok(key_life::settle(tx, &replica, now)?)
        })
        .await?;
        call.world.waker.wake();
        Ok(())
    }
}

fn already(key: &Key) -> kms::Error {
    kms::Error::Unsupported { message: format!("{} is the primary key already.", key.arn()) }
}
