//! What happens to keys when their time comes, as durable jobs and passes over what is due: destruction, expiry of
//! imported material, automatic rotation, the end of replication and of a move of the primary key.
//!
//! A job looks at what is due, not at the key it was made for: a key whose deletion was cancelled is left alone, and
//! one that another job missed is taken along. Every pass may run on any server, at any time, and again.

use crate::key_events::{self, Moment};
use crate::world::World;
use base::{Rng, Timestamp};
use kms::{Key, Kms};
use lifecycle::jobs::{Done, Job, JobContext, JobError, JobKind, Kinds, NewJob, enqueue};
use meta::Tx;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Keys dealt with in one transaction.
pub(crate) const KEYS_MAX: u32 = 100;

/// Every kind of job this server runs.
pub fn job_kinds(world: &World) -> Kinds {
    let keys = Keys { kms: world.kms.clone(), rng: Arc::clone(&world.rng) };
    lifecycle::kinds::kinds(&world.services)
        .with(DestroyKeys(keys.clone()))
        .with(ExpireMaterials(keys.clone()))
        .with(SettleKey(keys))
}

#[derive(Clone)]
struct Keys {
    kms: Kms,
    rng: Arc<dyn Rng>,
}

/// Why a job exists, for people who look at it; [`SettleKey`] reads it too.
#[derive(Clone, Serialize, Deserialize)]
struct Due {
    key_arn: String,
}

fn job(key: &Key, verb: &str, now: Timestamp, at: Timestamp) -> NewJob {
    NewJob {
        account: key.account.clone(),
        region: key.region.clone(),
        id: format!("{verb}-{}-{}", key.id, at.0),
        now,
        run_after: at,
    }
}

fn due(key: &Key) -> Due {
    Due { key_arn: key.arn().to_string() }
}

/// Enqueues the destruction of a key in the transaction that schedules it.
pub(crate) fn destroy_at(
    tx: &mut Tx<'_>,
    key: &Key,
    now: Timestamp,
    at: Timestamp,
) -> meta::Result<()> {
    enqueue::<DestroyKeys>(tx, &job(key, "destroy", now, at), &due(key)).map(drop)
}

/// Enqueues the end of imported material in the transaction that imports it.
pub(crate) fn expire_at(
    tx: &mut Tx<'_>,
    key: &Key,
    now: Timestamp,
    at: Timestamp,
) -> meta::Result<()> {
    enqueue::<ExpireMaterials>(tx, &job(key, "expire", now, at), &due(key)).map(drop)
}

/// Enqueues what makes a key ready, in the transaction that left it unready.
pub(crate) fn settle(tx: &mut Tx<'_>, key: &Key, now: Timestamp) -> meta::Result<()> {
    let verb = format!("settle-{}", key.state);
    enqueue::<SettleKey>(tx, &job(key, &verb, now, now), &due(key)).map(drop)
}

/// Rotates keys that are due, at most [`KEYS_MAX`]. Returns how many.
pub(crate) fn rotate_due(kms: &Kms, tx: &mut Tx<'_>, rng: &dyn Rng) -> kms::Result<usize> {
    let all = kms.rotate_due(tx, KEYS_MAX)?;
    for rotated in &all {
        key_events::rotated(tx, rotated, &Moment { at: kms.present(), rng })?;
    }
    Ok(all.len())
}

struct DestroyKeys(Keys);

impl JobKind for DestroyKeys {
    const KIND: &'static str = "api.destroy-keys";
    type Payload = Due;

    async fn run(&self, _ctx: &JobContext, _payload: Due) -> Result<Done, JobError> {
        let Keys { kms, rng } = self.0.clone();
        Ok(Done::with(move |tx| {
            let destroyed = kms.destroy_expired(tx, KEYS_MAX).map_err(trouble)?;
            for key in &destroyed.keys {
                let at = key.deletion.unwrap_or(key.created);
                key_events::destroyed(tx, key, &Moment { at, rng: &*rng }).map_err(trouble)?;
            }
            for (primary, at) in &destroyed.primaries {
                destroy_at(tx, primary, kms.present(), *at)?;
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

struct ExpireMaterials(Keys);

impl JobKind for ExpireMaterials {
    const KIND: &'static str = "api.expire-key-material";
    type Payload = Due;

    async fn run(&self, _ctx: &JobContext, _payload: Due) -> Result<Done, JobError> {
        let Keys { kms, rng } = self.0.clone();
        Ok(Done::with(move |tx| {
            for expired in kms.expire_materials(tx, KEYS_MAX).map_err(trouble)? {
                let moment = Moment { at: expired.at, rng: &*rng };
                key_events::expired(tx, &expired.key, &moment).map_err(trouble)?;
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
        // Expired material does not open any more in any case; the next expiry takes it along.
        tracing::error!(key = payload.key_arn, cause, "expired key material was not deleted");
        Ok(())
    }
}

struct SettleKey(Keys);

impl JobKind for SettleKey {
    const KIND: &'static str = "api.settle-key";
    type Payload = Due;

    async fn run(&self, _ctx: &JobContext, payload: Due) -> Result<Done, JobError> {
        let Keys { kms, rng } = self.0.clone();
        Ok(Done::with(move |tx| {
            let key = match kms::key::of_arn(tx, &payload.key_arn) {
                // Destroyed before it was ready.
                Err(kms::Error::KeyNotFound { .. }) => return Ok(()),
                found => found.map_err(trouble)?,
            };
            kms.settle(tx, &key).map_err(trouble)?;
            let moment = Moment { at: kms.present(), rng: &*rng };
            key_events::synchronized(tx, &key, &moment).map_err(trouble)
        }))
    }

    fn give_up(
        &self,
        _tx: &mut Tx<'_>,
        _job: &Job,
        payload: &Due,
        cause: &str,
    ) -> meta::Result<()> {
        tracing::error!(key = payload.key_arn, cause, "a multi-Region key is not ready");
        Ok(())
    }
}

fn trouble(error: kms::Error) -> JobError {
    match error {
        kms::Error::Store(error) => error.into(),
        other => JobError::permanent(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::cloudtrail::lookup_events::LookupEvents;
    use crate::ops::kms::cancel_key_deletion::CancelKeyDeletion;
    use crate::ops::kms::create_key::CreateKey;
    use crate::ops::kms::describe_key::DescribeKey;
    use crate::ops::kms::schedule_key_deletion::ScheduleKeyDeletion;
    use crate::testing::{account, bench, region, run};
    use serde_json::json;

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
        let mut runner = bench.runner(job_kinds(&bench.world));
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

    /// Frozen: a key may wait for its end for a month.
    const PAYLOAD: &[u8] = br#"{"key_arn":"arn:aws:kms:us-east-1:111111111111:key/1"}"#;

    #[test]
    fn payloads_of_earlier_releases_are_read() {
        let read = serde_json::from_slice::<Due>(PAYLOAD).unwrap();
        assert_eq!(read.key_arn, "arn:aws:kms:us-east-1:111111111111:key/1");
    }

    fuzz::target!(
        /// Payloads of the jobs of keys. Whatever key one names, it is found or it is not.
        payloads,
        vec![PAYLOAD.to_vec()],
        |bytes: &[u8]| {
            let Ok(read) = serde_json::from_slice::<Due>(bytes) else { return };
            let written = serde_json::to_vec(&read).expect("plain data");
            let again: Due = serde_json::from_slice(&written).expect("just written");
            assert_eq!(again.key_arn, read.key_arn);
            if let Some(arn) = base::Arn::parse(&read.key_arn) {
                assert_eq!(arn.to_string(), read.key_arn);
            }
        }
    );
}
