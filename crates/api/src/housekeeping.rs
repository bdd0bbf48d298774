//! What a server does by itself, from time to time: keys whose window has passed are destroyed,
//! unused space is given back, finished jobs are forgotten.

use crate::error::Error;
use crate::world::World;
use base::{AccountId, Timestamp};
use events::{Category, Record, UserIdentity};
use kms::Key;
use lifecycle::kinds::enqueue_collect;
use lifecycle::workflow::collect::Collect;
use serde_json::json;

/// Keys destroyed in one transaction.
const KEYS_AT_ONCE: u32 = 100;
/// How long a finished job is kept for whoever asks what became of it.
const FINISHED_JOBS_SECONDS: i64 = 7 * 86_400;
/// Finished jobs forgotten in one transaction.
const JOBS_AT_ONCE: u32 = 500;
/// Under which account work for a whole region is filed; no tenant has this id.
const OPERATOR: &str = "000000000000";

impl World {
    /// Does what is due now. May be called at any time and on any number of servers.
    ///
    /// # Errors
    /// When the rows cannot be read or written; the rest is done by the next call.
    pub async fn housekeep(&self) -> Result<(), Error> {
        self.destroy_expired_keys().await?;
        let before = self.clock.now().plus_seconds(-FINISHED_JOBS_SECONDS);
        self.db.write(move |tx| lifecycle::jobs::prune_finished(tx, before, JOBS_AT_ONCE)).await?;
        Ok(())
    }

    /// Asks for a sweep of every region: what was condemned by an earlier one is deleted once its
    /// grace period is over.
    ///
    /// # Errors
    /// When the rows cannot be written.
    pub async fn sweep(&self) -> Result<(), Error> {
        let now = self.clock.now();
        let regions: Vec<_> = self.regions.iter().cloned().collect();
        self.db
            .write(move |tx| {
                let operator = AccountId::parse(OPERATOR).expect("twelve digits");
                for region in &regions {
                    let sweep = Collect { region: region.clone() };
                    enqueue_collect(tx, &operator, &sweep, now)?;
                }
                Ok::<_, meta::Error>(())
            })
            .await?;
        self.waker.wake();
        Ok(())
    }

    async fn destroy_expired_keys(&self) -> Result<(), Error> {
        loop {
            let (kms, now) = (self.kms.clone(), self.clock.now());
            let event_ids: Vec<String> =
                (0..KEYS_AT_ONCE).map(|_| base::id::uuid(&*self.rng)).collect();
            let destroyed = self
                .db
                .write(move |tx| {
                    let keys = kms.destroy_expired(tx, KEYS_AT_ONCE)?;
                    for (key, event_id) in keys.iter().zip(&event_ids) {
                        let record = deletion(key, event_id, now);
                        events::append(tx, &record).map_err(HousekeepingError::Trail)?;
                    }
                    Ok::<_, HousekeepingError>(keys.len())
                })
                .await
                .map_err(Error::internal)?;
            if destroyed == 0 {
                return Ok(());
            }
            tracing::warn!(keys = destroyed, "keys were destroyed after their waiting period");
        }
    }
}

/// Why something that was due could not be done.
#[derive(Debug, thiserror::Error)]
enum HousekeepingError {
    #[error("keys could not be destroyed")]
    Kms(#[from] kms::Error),
    #[error("the trail could not be written")]
    Trail(#[source] events::Error),
}

impl From<meta::Error> for HousekeepingError {
    fn from(error: meta::Error) -> Self {
        Self::Kms(error.into())
    }
}

/// `DeleteKey`, which nobody called (spec 20, D.1, "AwsServiceEvent").
fn deletion(key: &Key, event_id: &str, now: Timestamp) -> Record {
    let call = events::Call {
        event_id: event_id.to_owned(),
        time: now,
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
    Record::service_event(call, json!({"keyId": key.id}))
}

#[cfg(test)]
mod tests {
    use crate::ops::kms::create_key::CreateKey;
    use crate::ops::kms::describe_key::DescribeKey;
    use crate::ops::kms::schedule_key_deletion::ScheduleKeyDeletion;
    use crate::testing::{account, bench, run};
    use serde_json::json;

    #[tokio::test]
    async fn keys_go_after_their_window_and_not_before() {
        let bench = bench().await;
        let call = || bench.root(&account(1), "us-east-1");
        let made = run::<CreateKey>(&call(), json!({})).await.expect("made");
        let key = json!({"KeyId": made["KeyMetadata"]["KeyId"]});
        let input = json!({"KeyId": key["KeyId"], "PendingWindowInDays": 7});
        run::<ScheduleKeyDeletion>(&call(), input).await.expect("scheduled");

        bench.clock.advance_seconds(7 * 86_400 - 60);
        bench.world.housekeep().await.expect("done");
        run::<DescribeKey>(&call(), key.clone()).await.expect("still there");

        bench.clock.advance_seconds(120);
        bench.world.housekeep().await.expect("done");
        let gone = run::<DescribeKey>(&call(), key).await.expect_err("destroyed");
        assert_eq!(gone.code(), "NotFoundException");
    }
}
