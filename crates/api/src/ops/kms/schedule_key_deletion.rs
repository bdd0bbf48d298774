//! `kms:ScheduleKeyDeletion`: destroys a key after a waiting time in which it is unusable.

use super::shared::{self, Named, Target};
use crate::key_life;
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use base::Timestamp;
use kms::condition::Facts;
use kms::key::{PENDING_WINDOW_DAYS_DEFAULT, check_pending_window};
use kms::{Action, KeyState};

pub(crate) struct ScheduleKeyDeletion;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    key_id: String,
    pending_window_in_days: Option<i32>,
}

pub(crate) struct Plan {
    target: Target,
    days: u32,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    key_id: String,
    deletion_date: Option<Timestamp>,
    key_state: &'static str,
    pending_window_in_days: i32,
}

impl Operation for ScheduleKeyDeletion {
    const SPEC: Spec = Spec::mutates(Service::Kms, "ScheduleKeyDeletion");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let days = match input.pending_window_in_days {
            None => PENDING_WINDOW_DAYS_DEFAULT,
            // A negative number of days is as wrong as none at all.
            Some(days) => u32::try_from(days).unwrap_or(0),
        };
        check_pending_window(days)?;
        let named = Named {
            action: Action::ScheduleKeyDeletion,
            key_id: &input.key_id,
            facts: Facts::ScheduleDeletion { days },
        };
        Ok(Plan { target: shared::target(call, named).await?, days })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.target.ask.clone()]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { target, days } = plan.into_inner();
        let (key_id, now) = (target.key.arn().to_string(), call.now);
        let deletion_date = shared::write(call, move |kms, tx, _| {
            let key = shared::usable(tx, Action::ScheduleKeyDeletion, &target.key)?;
            let at = kms.schedule_deletion(tx, &key, days)?;
            if let Some(at) = at {
                key_life::destroy_at(tx, &key, now, at)?;
            }
            Ok(at)
        })
        .await?;
        Ok(Output {
            key_id,
            deletion_date,
            // Without a date the key waits for its replicas first.
            key_state: match deletion_date {
                Some(_) => KeyState::PendingDeletion.as_str(),
                None => KeyState::PendingReplicaDeletion.as_str(),
            },
            pending_window_in_days: i32::try_from(days).expect("at most 30"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::kms::cancel_key_deletion::CancelKeyDeletion;
    use crate::ops::kms::create_key::CreateKey;
    use crate::ops::kms::describe_key::DescribeKey;
    use crate::ops::kms::tag_resource::TagResource;
    use crate::testing::{account, bench, run};
    use serde_json::json;

    #[tokio::test]
    async fn a_scheduled_key_waits_and_can_be_kept() {
        let bench = bench().await;
        let call = bench.root(&account(1), "us-east-1");
        let created = run::<CreateKey>(&call, json!({})).await.expect("allowed");
        let (id, arn) = (&created["KeyMetadata"]["KeyId"], &created["KeyMetadata"]["Arn"]);
        for days in [-1, 6, 31] {
            let input = json!({"KeyId": id, "PendingWindowInDays": days});
            let error = run::<ScheduleKeyDeletion>(&call, input).await.expect_err("refused");
            assert_eq!(error.code(), "ValidationException", "{days}");
        }
        let reply = run::<ScheduleKeyDeletion>(&call, json!({"KeyId": id})).await.expect("allowed");
        assert_eq!(
            reply,
            json!({
                "KeyId": arn,
                "DeletionDate": "2026-01-31T00:00:00.000Z",
                "KeyState": "PendingDeletion",
                "PendingWindowInDays": 30,
            })
        );
        let described = run::<DescribeKey>(&call, json!({"KeyId": id})).await.expect("allowed");
        assert_eq!(described["KeyMetadata"]["DeletionDate"], reply["DeletionDate"]);

        let again = run::<ScheduleKeyDeletion>(&call, json!({"KeyId": id})).await;
        assert_eq!(again.expect_err("twice").code(), "KMSInvalidStateException");
        let tags = json!({"KeyId": id, "Tags": [{"TagKey": "a", "TagValue": "b"}]});
        let tagged = run::<TagResource>(&call, tags).await;
        assert_eq!(tagged.expect_err("pending").code(), "KMSInvalidStateException");

        let cancelled = run::<CancelKeyDeletion>(&call, json!({"KeyId": id})).await;
        assert_eq!(cancelled.expect("allowed"), json!({"KeyId": arn}));
        let described = run::<DescribeKey>(&call, json!({"KeyId": id})).await.expect("allowed");
        assert_eq!(described["KeyMetadata"]["KeyState"], "Disabled");
        let again = run::<CancelKeyDeletion>(&call, json!({"KeyId": id})).await;
        let error = again.expect_err("not pending");
        assert!(error.0.message.ends_with("is not pending deletion."), "{error}");
    }
}
