//! `kms:GetKeyRotationStatus`: whether a key's material is replaced from time to time, and when next.

use super::shared::{self, Named, Target};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use base::Timestamp;
use kms::condition::Facts;
use kms::{Action, rotation};

pub(crate) struct GetKeyRotationStatus;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    key_id: String,
}

/// `OnDemandRotationStartDate` is never returned: a rotation on demand is done when its call is answered.
#[derive(Shape)]
#[shape(output, omitted(OnDemandRotationStartDate))]
pub(crate) struct Output {
    key_rotation_enabled: bool,
    key_id: String,
    rotation_period_in_days: Option<i32>,
    next_rotation_date: Option<Timestamp>,
}

impl Operation for GetKeyRotationStatus {
    const SPEC: Spec = Spec::reads(Service::Kms, "GetKeyRotationStatus");
    type Input = Input;
    type Plan = Target;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Target, Error> {
        let action = Action::GetKeyRotationStatus;
        shared::target(call, Named { action, key_id: &input.key_id, facts: Facts::None }).await
    }

    fn asks(plan: &Target) -> Vec<Ask> {
        vec![plan.ask.clone()]
    }

    async fn act(call: &Call, plan: Granted<Target>) -> Result<Output, Error> {
        let key = plan.into_inner().key;
        let action = Action::GetKeyRotationStatus;
        let key = shared::read(call, move |_, tx, _| shared::usable(tx, action, &key)).await?;
        rotation::check_made_here(&key)?;
        let schedule = rotation::status(&key);
        Ok(Output {
            key_rotation_enabled: schedule.is_some(),
            key_id: key.arn().to_string(),
            rotation_period_in_days: schedule.map(|s| i32::try_from(s.days).unwrap_or(i32::MAX)),
            next_rotation_date: schedule.map(|schedule| schedule.next),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::kms::create_key::CreateKey;
    use crate::testing::{account, bench, run};
    use serde_json::json;

    #[tokio::test]
    async fn rotation_is_off_until_it_is_asked_for() {
        let bench = bench().await;
        let call = bench.root(&account(1), "us-east-1");
        let created = run::<CreateKey>(&call, json!({})).await.expect("allowed");
        let arn = &created["KeyMetadata"]["Arn"];
        let reply = run::<GetKeyRotationStatus>(&call, json!({"KeyId": arn})).await;
        let expected = json!({"KeyRotationEnabled": false, "KeyId": arn});
        assert_eq!(reply.expect("allowed"), expected);
    }
}
