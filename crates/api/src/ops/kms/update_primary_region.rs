//! `kms:UpdatePrimaryRegion`: makes a replica the primary key, and the primary key a replica. Needs permission on
//! both.

use super::shared::{self, Named, Target};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec, key_life};
use awsproto::Shape;
use base::{Arn, Region};
use kms::condition::Facts;
use kms::resolve::Resolved;
use kms::{Action, Key, multi_region};

pub(crate) struct UpdatePrimaryRegion;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    key_id: String,
    primary_region: String,
}

pub(crate) struct Plan {
    primary: Target,
    /// The key of the same id where the primary key moves to. Whether there is one is told to those
    /// alone who may move the primary key.
    replica: Option<Target>,
    region: Region,
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
        let wanted = region.clone();
        let replica = shared::read(call, move |kms, tx, from| {
            let key = match kms::key::get(tx, &account, &wanted, &id) {
                Err(kms::Error::KeyNotFound { .. }) => return Ok(None),
                found => found?,
            };
            let resolved = Resolved { key, request_alias: None };
            let ask = from.ask(kms, tx, action, &resolved, &facts)?;
            Ok(Some(Target { key: resolved.key, ask }))
        })
        .await?;
        Ok(Plan { primary, replica, region })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        let replica = plan.replica.iter().map(|replica| replica.ask.clone());
        std::iter::once(plan.primary.ask.clone()).chain(replica).collect()
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<(), Error> {
        let Plan { primary, replica, region } = plan.into_inner();
        let now = call.now;
        shared::write(call, move |kms, tx, _| {
            let primary = shared::usable(tx, Action::UpdatePrimaryRegion, &primary.key)?;
            if primary.region == region {
                return Err(already(&primary));
            }
            multi_region::check_primary(&primary)?;
            let Some(replica) = &replica else {
                let arn = Arn { region: region.to_string(), ..primary.arn().clone() }.to_string();
                return Err(kms::Error::KeyNotFound { arn });
            };
            let replica = shared::usable(tx, Action::UpdatePrimaryRegion, &replica.key)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::kms::create_key::CreateKey;
    use crate::ops::kms::replicate_key::ReplicateKey;
    use crate::testing::{account, bench, run};
    use serde_json::json;

    #[tokio::test]
    async fn whether_there_is_a_replica_is_not_told_to_strangers() {
        let bench = bench().await;
        let owner = || bench.root(&account(1), "us-east-1");
        let made = run::<CreateKey>(&owner(), json!({"MultiRegion": true})).await.expect("made");
        let arn = &made["KeyMetadata"]["Arn"];
        let ask = json!({"KeyId": arn, "PrimaryRegion": "eu-west-1"});
        let missing =
            run::<UpdatePrimaryRegion>(&owner(), ask.clone()).await.expect_err("no replica");
        assert_eq!(missing.code(), "NotFoundException", "{missing}");
        assert!(missing.0.message.contains("arn:aws:kms:eu-west-1:111111111111:key/mrk-"));
        let stranger = async || {
            let call = bench.root(&account(2), "us-east-1");
            let error = run::<UpdatePrimaryRegion>(&call, ask.clone()).await.expect_err("denied");
            assert_eq!(error.code(), "AccessDeniedException", "{error}");
            error.0.message
        };
        let without = stranger().await;
        let ask = json!({"KeyId": arn, "ReplicaRegion": "eu-west-1"});
        run::<ReplicateKey>(&owner(), ask).await.expect("allowed");
        assert_eq!(stranger().await, without);
    }
}
