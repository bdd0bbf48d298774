//! `kms:UpdateAlias`: points a name at another key. Needs permission on the name and on both keys (spec 20, A.3).

use super::shared;
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use kms::alias::{self, Alias};
use kms::condition::Facts;
use kms::{Action, Key, resolve};

pub(crate) struct UpdateAlias;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    alias_name: String,
    target_key_id: String,
}

pub(crate) struct Plan {
    found: Alias,
    new_key: Key,
    asks: Vec<Ask>,
}

impl Operation for UpdateAlias {
    const SPEC: Spec = Spec::mutates(Service::Kms, "UpdateAlias");
    type Input = Input;
    type Plan = Plan;
    type Output = ();

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let Input { alias_name, target_key_id } = input;
        alias::check_name(&alias_name)?;
        let action = Action::UpdateAlias;
        let (found, new_key, keys) = shared::read(call, move |kms, tx, from| {
            let found = alias::get(tx, &from.caller.account, &from.region, &alias_name)?;
            let old_id = found.key_id.as_deref().unwrap_or_default();
            let old = resolve::resolve(tx, action, &from.caller, &from.region, old_id)?;
            let new = resolve::resolve(tx, action, &from.caller, &from.region, &target_key_id)?;
            let keys = [&old, &new]
                .into_iter()
                .map(|key| from.ask(kms, tx, action, key, &Facts::None))
                .collect::<kms::Result<Vec<_>>>()?;
            Ok((found, new.key, keys))
        })
        .await?;
        let mut asks = vec![
            Ask::on(action.iam_name(), &found.arn(), call.account()).with(shared::context(call)),
        ];
        asks.extend(keys);
        Ok(Plan { found, new_key, asks })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        plan.asks.clone()
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<(), Error> {
        let Plan { found, new_key, .. } = plan.into_inner();
        // Only the new key's state matters, and as for CreateAlias (KMS guide, key states, note 10).
        shared::change(call, Action::CreateAlias, new_key, move |kms, tx, key| {
            let now = alias::get(tx, &found.account, &found.region, &found.name)?;
            kms.update_alias(tx, &now, key)
        })
        .await
    }
}
