//! `kms:RotateKeyOnDemand`: replaces a key's material now.

use super::shared::{self, Named, Target};
use crate::key_events::{self, Moment};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use kms::condition::Facts;
use kms::{Action, rotation};
use std::sync::Arc;

pub(crate) struct RotateKeyOnDemand;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    key_id: String,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    key_id: String,
}

impl Operation for RotateKeyOnDemand {
    const SPEC: Spec = Spec::mutates(Service::Kms, "RotateKeyOnDemand");
    type Input = Input;
    type Plan = Target;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Target, Error> {
        let action = Action::RotateKeyOnDemand;
        shared::target(call, Named { action, key_id: &input.key_id, facts: Facts::None }).await
    }

    fn asks(plan: &Target) -> Vec<Ask> {
        vec![plan.ask.clone()]
    }

    async fn act(call: &Call, plan: Granted<Target>) -> Result<Output, Error> {
        let key = plan.into_inner().key;
        let (key_id, rng) = (key.arn().to_string(), Arc::clone(&call.world.rng));
        shared::change(call, Action::RotateKeyOnDemand, key, move |kms, tx, key| {
            rotation::check_rotatable(key)?;
            rotation::check_primary(key)?;
            let rotated = kms.rotate_on_demand(tx, key)?;
            key_events::rotated(tx, &rotated, &Moment { at: kms.present(), rng: &*rng })
        })
        .await?;
        Ok(Output { key_id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::kms::create_key::CreateKey;
    use crate::ops::kms::enable_key_rotation::EnableKeyRotation;
    use crate::ops::kms::list_key_rotations::ListKeyRotations;
    use crate::testing::{account, bench, run};
    use serde_json::json;

    #[tokio::test]
    async fn twenty_five_times_and_no_more() {
        let bench = bench().await;
        let call = bench.root(&account(1), "us-east-1");
        let created = run::<CreateKey>(&call, json!({})).await.expect("allowed");
        let id = json!({"KeyId": created["KeyMetadata"]["KeyId"]});
        for _ in 0..25 {
            run::<RotateKeyOnDemand>(&call, id.clone()).await.expect("allowed");
        }
        let error = run::<RotateKeyOnDemand>(&call, id.clone()).await.expect_err("too often");
        assert_eq!(error.code(), "LimitExceededException");

        let page =
            json!({"KeyId": id["KeyId"], "Limit": 20, "IncludeKeyMaterial": "ALL_KEY_MATERIAL"});
        let first = run::<ListKeyRotations>(&call, page.clone()).await.expect("allowed");
        assert_eq!(
            (&first["Truncated"], first["Rotations"].as_array().map(Vec::len)),
            (&json!(true), Some(20))
        );
        let mut next = page;
        next["Marker"] = first["NextMarker"].clone();
        let second = run::<ListKeyRotations>(&call, next).await.expect("allowed");
        assert_eq!(second["Rotations"].as_array().map(Vec::len), Some(6));
        assert_eq!(second["Rotations"][5]["KeyMaterialState"], "CURRENT");
        assert_eq!(first["Rotations"][0]["RotationDate"], json!(null));
    }

    #[tokio::test]
    async fn not_right_before_an_automatic_rotation() {
        let bench = bench().await;
        let call = bench.root(&account(1), "us-east-1");
        let created = run::<CreateKey>(&call, json!({})).await.expect("allowed");
        let id = json!({"KeyId": created["KeyMetadata"]["KeyId"]});
        run::<EnableKeyRotation>(&call, id.clone()).await.expect("allowed");
        bench.clock.advance_seconds(365 * 86_400 - 20 * 60);
        let error = run::<RotateKeyOnDemand>(&call, id).await.expect_err("too close");
        assert_eq!(error.code(), "ConflictException");
    }
}
