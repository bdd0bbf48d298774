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
        alias::check_known(&alias_name)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::kms::create_alias::CreateAlias;
    use crate::ops::kms::create_key::CreateKey;
    use crate::ops::kms::describe_key::DescribeKey;
    use crate::testing::{account, bench, run};
    use serde_json::json;

    #[tokio::test]
    async fn a_name_keeps_the_type_and_the_use_of_its_key() {
        let bench = bench().await;
        let call = bench.root(&account(1), "us-east-1");
        let key = async |spec: &str, usage: &str| {
            let new = json!({"KeySpec": spec, "KeyUsage": usage});
            let made = run::<CreateKey>(&call, new).await.expect("allowed");
            made["KeyMetadata"]["KeyId"].clone()
        };
        let point = async |name: &str, id: &serde_json::Value| {
            run::<UpdateAlias>(&call, json!({"AliasName": name, "TargetKeyId": id})).await
        };
        let symmetric = key("SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT").await;
        let hmac = key("HMAC_256", "GENERATE_VERIFY_MAC").await;
        let signing = key("ECC_NIST_P256", "SIGN_VERIFY").await;
        let agreeing = key("ECC_NIST_P256", "KEY_AGREEMENT").await;
        for (name, id) in [("alias/s", &symmetric), ("alias/h", &hmac), ("alias/g", &signing)] {
            let new = json!({"AliasName": name, "TargetKeyId": id});
            run::<CreateAlias>(&call, new).await.expect("allowed");
        }
        for (name, id) in [
            ("alias/s", &hmac),
            ("alias/s", &signing),
            ("alias/h", &symmetric),
            ("alias/h", &signing),
            ("alias/g", &agreeing),
            ("alias/g", &symmetric),
        ] {
            let error = point(name, id).await.expect_err("another kind");
            assert_eq!(error.code(), "ValidationException", "{name}");
        }
        // Another spec of the same type and use is as good.
        for (name, id) in [
            ("alias/s", key("SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT").await),
            ("alias/h", key("HMAC_512", "GENERATE_VERIFY_MAC").await),
            ("alias/g", key("ECC_NIST_EDWARDS25519", "SIGN_VERIFY").await),
        ] {
            point(name, &id).await.expect("alike");
            let found = run::<DescribeKey>(&call, json!({"KeyId": name})).await.expect("allowed");
            assert_eq!(found["KeyMetadata"]["KeyId"], id, "{name}");
        }
    }
}
