//! `kms:GetKeyRotationStatus`: whether a key's material is replaced from time to time. It is not: no operation
//! here turns rotation on.

use super::shared::{self, Named, Target};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use kms::Action;
use kms::condition::Facts;

pub(crate) struct GetKeyRotationStatus;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    key_id: String,
}

#[derive(Shape)]
#[shape(output, omitted(RotationPeriodInDays, NextRotationDate, OnDemandRotationStartDate))]
pub(crate) struct Output {
    key_rotation_enabled: bool,
    key_id: String,
}

impl Operation for GetKeyRotationStatus {
    const SPEC: Spec = Spec::reads(Service::Kms, "GetKeyRotationStatus");
    type Input = Input;
    type Plan = Target;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Target, Error> {
        let action = Action::GetKeyRotationStatus;
        let named = Named { action, key_id: &input.key_id, facts: Facts::None };
        shared::target(call, named).await
    }

    fn asks(plan: &Target) -> Vec<Ask> {
        vec![plan.ask.clone()]
    }

    async fn act(call: &Call, plan: Granted<Target>) -> Result<Output, Error> {
        let key = plan.into_inner().key;
        let key = shared::read(call, move |_, tx, _| {
            shared::usable(tx, Action::GetKeyRotationStatus, &key)
        })
        .await?;
        Ok(Output { key_rotation_enabled: false, key_id: key.arn().to_string() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::kms::create_key::CreateKey;
    use crate::testing::{account, bench, run};
    use serde_json::json;

    #[tokio::test]
    async fn rotation_is_off() {
        let bench = bench().await;
        let call = bench.root(&account(1), "us-east-1");
        let created = run::<CreateKey>(&call, json!({})).await.expect("allowed");
        let arn = &created["KeyMetadata"]["Arn"];
        let reply = run::<GetKeyRotationStatus>(&call, json!({"KeyId": arn})).await;
        let expected = json!({"KeyRotationEnabled": false, "KeyId": arn});
        assert_eq!(reply.expect("allowed"), expected);
    }
}
