//! `kms:DisableKey`: makes a key unusable until it is enabled again.

use super::shared::{self, Named, Target};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use kms::Action;
use kms::condition::Facts;
use kms::key::Switch;

pub(crate) struct DisableKey;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    key_id: String,
}

impl Operation for DisableKey {
    const SPEC: Spec = Spec::mutates(Service::Kms, "DisableKey");
    type Input = Input;
    type Plan = Target;
    type Output = ();

    async fn plan(call: &Call, input: Input) -> Result<Target, Error> {
        let named = Named { action: Action::DisableKey, key_id: &input.key_id, facts: Facts::None };
        shared::target(call, named).await
    }

    fn asks(plan: &Target) -> Vec<Ask> {
        vec![plan.ask.clone()]
    }

    async fn act(call: &Call, plan: Granted<Target>) -> Result<(), Error> {
        let key = plan.into_inner().key;
        shared::change(call, Action::DisableKey, key, |kms, tx, key| {
            kms.set_enabled(tx, key, Switch::Off)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::kms::create_key::CreateKey;
    use crate::ops::kms::enable_key::EnableKey;
    use crate::ops::kms::encrypt::Encrypt;
    use crate::testing::{account, bench, run};
    use serde_json::json;

    #[tokio::test]
    async fn a_disabled_key_encrypts_nothing() {
        let bench = bench().await;
        let call = bench.root(&account(1), "us-east-1");
        let reply = run::<CreateKey>(&call, json!({})).await.expect("allowed");
        let key = json!({"KeyId": reply["KeyMetadata"]["KeyId"]});
        let encrypt = json!({"KeyId": reply["KeyMetadata"]["KeyId"], "Plaintext": "x"});
        run::<DisableKey>(&call, key.clone()).await.expect("allowed");
        let error = run::<Encrypt>(&call, encrypt.clone()).await.expect_err("disabled");
        assert_eq!(error.code(), "DisabledException");
        let arn = reply["KeyMetadata"]["Arn"].as_str().expect("an ARN");
        assert_eq!(error.0.message, format!("{arn} is disabled."));
        run::<EnableKey>(&call, key).await.expect("allowed");
        run::<Encrypt>(&call, encrypt).await.expect("enabled again");
    }
}
