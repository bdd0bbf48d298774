//! `kms:EnableKeyRotation`: has a key's material replaced from time to time.

use super::shared::{self, Named, Target};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use kms::condition::Facts;
use kms::{Action, rotation};

pub(crate) struct EnableKeyRotation;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    key_id: String,
    rotation_period_in_days: Option<i32>,
}

pub(crate) struct Plan {
    target: Target,
    days: u32,
}

impl Operation for EnableKeyRotation {
    const SPEC: Spec = Spec::mutates(Service::Kms, "EnableKeyRotation");
    type Input = Input;
    type Plan = Plan;
    type Output = ();

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let days = rotation::check_period(input.rotation_period_in_days)?;
        let facts = Facts::EnableRotation { days };
        let named = Named { action: Action::EnableKeyRotation, key_id: &input.key_id, facts };
        Ok(Plan { target: shared::target(call, named).await?, days })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.target.ask.clone()]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<(), Error> {
        let Plan { target, days } = plan.into_inner();
        shared::change(call, Action::EnableKeyRotation, target.key, move |kms, tx, key| {
            rotation::check_made_here(key)?;
            rotation::check_primary(key)?;
            kms.enable_rotation(tx, key, days)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::kms::create_key::CreateKey;
    use crate::ops::kms::describe_key::DescribeKey;
    use crate::ops::kms::disable_key::DisableKey;
    use crate::ops::kms::disable_key_rotation::DisableKeyRotation;
    use crate::ops::kms::enable_key::EnableKey;
    use crate::ops::kms::get_key_rotation_status::GetKeyRotationStatus;
    use crate::ops::kms::list_key_rotations::ListKeyRotations;
    use crate::testing::{account, bench, run};
    use serde_json::json;

    const DAY: i64 = 86_400;

    #[tokio::test]
    async fn a_key_is_rotated_when_due_and_after_it_was_disabled() {
        let bench = bench().await;
        let call = || bench.root(&account(1), "us-east-1");
        let created = run::<CreateKey>(&call(), json!({})).await.expect("allowed");
        let id = json!({"KeyId": created["KeyMetadata"]["KeyId"]});
        let first = created["KeyMetadata"]["CurrentKeyMaterialId"].clone();
        let current = async || {
            let described = run::<DescribeKey>(&call(), id.clone()).await.expect("allowed");
            described["KeyMetadata"]["CurrentKeyMaterialId"].clone()
        };
        let enable = json!({"KeyId": id["KeyId"], "RotationPeriodInDays": 90});
        run::<EnableKeyRotation>(&call(), enable).await.expect("allowed");
        let status = run::<GetKeyRotationStatus>(&call(), id.clone()).await.expect("allowed");
        assert_eq!(status["NextRotationDate"], "2026-04-01T00:00:00.000Z");

        bench.clock.advance_seconds(90 * DAY - 1);
        bench.world.housekeep().await.expect("nothing fails");
        assert_eq!(current().await, first);
        bench.clock.advance_seconds(1);
        bench.world.housekeep().await.expect("nothing fails");
        let second = current().await;
        assert_ne!(second, first);

        // Missed while disabled, made up for once, with a rhythm that begins then.
        run::<DisableKey>(&call(), id.clone()).await.expect("allowed");
        bench.clock.advance_seconds(200 * DAY);
        bench.world.housekeep().await.expect("nothing fails");
        assert_eq!(current().await, second);
        run::<EnableKey>(&call(), id.clone()).await.expect("allowed");
        bench.world.housekeep().await.expect("nothing fails");
        bench.world.housekeep().await.expect("nothing fails");
        let listed = run::<ListKeyRotations>(&call(), id.clone()).await.expect("allowed");
        let rotations = listed["Rotations"].as_array().expect("a list");
        assert_eq!(rotations.len(), 2);
        assert!(rotations.iter().all(|rotation| rotation["RotationType"] == "AUTOMATIC"));
        assert_eq!(rotations[1]["KeyMaterialId"], current().await);

        run::<DisableKeyRotation>(&call(), id.clone()).await.expect("allowed");
        let status = run::<GetKeyRotationStatus>(&call(), id).await.expect("allowed");
        assert_eq!(status["KeyRotationEnabled"], false);
        let sent = bench.world.db.read(|tx| {
            events::list_events(tx, &account(1), &crate::testing::region("us-east-1"), None, 10)
        });
        let sent = sent.await.expect("events are read");
        assert_eq!(sent.len(), 2);
        assert!(sent.iter().all(|(_, event)| event.detail_type() == "KMS CMK Rotation"));
    }

    #[tokio::test]
    async fn periods_and_imported_keys_are_refused() {
        let bench = bench().await;
        let call = bench.root(&account(1), "us-east-1");
        let created = run::<CreateKey>(&call, json!({"Origin": "EXTERNAL"})).await.expect("made");
        let id = &created["KeyMetadata"]["KeyId"];
        let short = json!({"KeyId": id, "RotationPeriodInDays": 89});
        let error = run::<EnableKeyRotation>(&call, short).await.expect_err("refused");
        assert_eq!(error.code(), "ValidationException");
        let error = run::<EnableKeyRotation>(&call, json!({"KeyId": id})).await.expect_err("no");
        assert_eq!(error.code(), "UnsupportedOperationException");
        assert!(error.0.message.contains("origin is EXTERNAL"), "{error}");
    }
}
