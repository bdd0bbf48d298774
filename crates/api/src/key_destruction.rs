//! Destroys keys whose waiting time has passed, as a durable job per scheduled deletion (spec 20, B.7).
//!
//! The job looks at what is due, not at the key it was made for: a key whose deletion was cancelled is left alone, and
//! one that another job missed is destroyed too.

use crate::world::World;
use base::{Rng, Timestamp};
use events::event::Envelope;
use events::{Category, Record, Resource, ServiceEvent, UserIdentity};
use kms::{Key, Kms};
use lifecycle::jobs::{Done, Job, JobContext, JobError, JobKind, Kinds, NewJob, enqueue};
use meta::Tx;
use serde::{Deserialize, Serialize};
use serde_json::{Map, json};
use std::sync::Arc;

/// Keys destroyed in one transaction.
const KEYS_MAX: u32 = 100;

/// Every kind of job this server runs.
pub fn job_kinds(world: &World) -> Kinds {
    let destroy = DestroyKeys { kms: world.kms.clone(), rng: Arc::clone(&world.rng) };
    lifecycle::kinds::kinds(&world.services).with(destroy)
}

/// Enqueues the destruction of a key in the transaction that schedules it.
pub(crate) fn enqueue_at(
    tx: &mut Tx<'_>,
    key: &Key,
    now: Timestamp,
    at: Timestamp,
) -> meta::Result<()> {
    let job = NewJob {
        account: key.account.clone(),
        region: key.region.clone(),
        id: format!("destroy-{}-{}", key.id, at.0),
        now,
        run_after: at,
    };
    enqueue::<DestroyKeys>(tx, &job, &Due { key_arn: key.arn().to_string() }).map(drop)
}

/// Why the job exists, for people who look at it.
#[derive(Clone, Serialize, Deserialize)]
struct Due {
    key_arn: String,
}

struct DestroyKeys {
    kms: Kms,
    rng: Arc<dyn Rng>,
}

impl JobKind for DestroyKeys {
    const KIND: &'static str = "api.destroy-keys";
    type Payload = Due;

    async fn run(&self, _ctx: &JobContext, _payload: Due) -> Result<Done, JobError> {
        let (kms, rng) = (self.kms.clone(), Arc::clone(&self.rng));
        Ok(Done::with(move |tx| {
            for key in kms.destroy_expired(tx, KEYS_MAX).map_err(trouble)? {
                announce(tx, &key, &*rng).map_err(JobError::retry)?;
            }
            Ok(())
        }))
    }

    fn give_up(
        &self,
        _tx: &mut Tx<'_>,
        _job: &Job,
        payload: &Due,
        cause: &str,
    ) -> meta::Result<()> {
        // The key stays unusable; the next scheduled deletion that ends takes it along.
        tracing::error!(key = payload.key_arn, cause, "a key was not destroyed");
        Ok(())
    }
}

fn trouble(error: kms::Error) -> JobError {
    match error {
        kms::Error::Store(error) => error.into(),
        other => JobError::permanent(other),
    }
}

/// The trail's `DeleteKey` and the bus's `KMS CMK Deletion` (spec 20, D.1 and D.2).
fn announce(tx: &mut Tx<'_>, key: &Key, rng: &dyn Rng) -> events::Result<()> {
    let arn = key.arn().to_string();
    let at = key.deletion.unwrap_or(key.created);
    let call = events::Call {
        event_id: base::id::uuid(rng),
        time: at,
        region: key.region.clone(),
        recipient: key.account.clone(),
        identity: UserIdentity::internal(&key.account),
        event_source: "kms.amazonaws.com".to_owned(),
        event_name: "DeleteKey".to_owned(),
        source_ip: String::new(),
        user_agent: String::new(),
        request_id: String::new(),
        read_only: false,
        category: Category::Management,
    };
    let record =
        Record::service_event(call, json!({ "keyId": key.id })).with_resources(vec![Resource {
            account_id: key.account.clone(),
            kind: "AWS::KMS::Key".to_owned(),
            arn: arn.clone(),
        }]);
    events::append(tx, &record)?;
    let envelope = Envelope {
        event_id: base::id::uuid(rng),
        account: key.account.clone(),
        region: key.region.clone(),
        time: at,
    };
    let detail = Map::from_iter([("key-id".to_owned(), json!(key.id))]);
    let event = ServiceEvent::new(envelope, "aws.kms", "KMS CMK Deletion", vec![arn], detail);
    events::put_event(tx, &event)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::cloudtrail::lookup_events::LookupEvents;
    use crate::ops::kms::cancel_key_deletion::CancelKeyDeletion;
    use crate::ops::kms::create_key::CreateKey;
    use crate::ops::kms::describe_key::DescribeKey;
    use crate::ops::kms::schedule_key_deletion::ScheduleKeyDeletion;
    use crate::testing::{Bench, account, bench, region, run};
    use lifecycle::jobs::{Config, Runner, Waker};

    fn runner(bench: &Bench) -> Runner {
        let config = Config {
            db: bench.world.db.clone(),
            clock: bench.clock.clone(),
            owner: "test".to_owned(),
            jobs_max: 4,
        };
        Runner::new(config, job_kinds(&bench.world), Waker::new())
    }

    #[tokio::test]
    async fn a_key_is_destroyed_when_its_time_has_come_unless_it_was_kept() {
        let bench = bench().await;
        let call = || bench.root(&account(1), "us-east-1");
        let mut keys = Vec::new();
        for _ in 0..2 {
            let created = run::<CreateKey>(&call(), json!({})).await.expect("allowed");
            let id = created["KeyMetadata"]["KeyId"].clone();
            let input = json!({"KeyId": id, "PendingWindowInDays": 7});
            run::<ScheduleKeyDeletion>(&call(), input).await.expect("allowed");
            keys.push(id);
        }
        run::<CancelKeyDeletion>(&call(), json!({"KeyId": keys[1]})).await.expect("allowed");
        let mut runner = runner(&bench);
        bench.clock.advance_seconds(7 * 86_400 - 1);
        assert_eq!(runner.tick().await, Ok(0));
        bench.clock.advance_seconds(1);
        assert_eq!(runner.tick().await, Ok(2));
        runner.join_next().await;
        runner.join_next().await;

        let described = |id: &serde_json::Value| json!({"KeyId": id});
        let gone = run::<DescribeKey>(&call(), described(&keys[0])).await;
        assert_eq!(gone.expect_err("gone").code(), "NotFoundException");
        let kept = run::<DescribeKey>(&call(), described(&keys[1])).await.expect("kept");
        assert_eq!(kept["KeyMetadata"]["KeyState"], "Disabled");

        let input = json!({"LookupAttributes": [
            {"AttributeKey": "EventName", "AttributeValue": "DeleteKey"}]});
        let found = run::<LookupEvents>(&call(), input).await.expect("allowed");
        let [event] = &found["Events"].as_array().expect("a list")[..] else {
            panic!("one deletion, one record: {found}");
        };
        let record = event["CloudTrailEvent"].as_str().expect("a record");
        assert!(
            record.contains("AwsServiceEvent") && record.contains(keys[0].as_str().expect("an id"))
        );
        let sent = bench
            .world
            .db
            .read(|tx| events::list_events(tx, &account(1), &region("us-east-1"), None, 10));
        let sent = sent.await.expect("events are read");
        assert_eq!(sent[0].1.detail_type(), "KMS CMK Deletion");
    }
}
