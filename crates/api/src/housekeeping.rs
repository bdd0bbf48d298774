//! What a server does by itself, from time to time: unused space is given back, finished jobs are
//! forgotten, what volumes read first is written down, keys are rotated, temporary restores end, fast
//! restores that ended are forgotten.

use crate::error::Error;
use crate::operator::operator;
use crate::world::World;
use crate::{key_life, key_stores};
use lifecycle::kinds::enqueue_due_collections;
use lifecycle::workflow::fast_restore;
use std::sync::Arc;

/// How long a finished job is kept for whoever asks what became of it.
const FINISHED_JOBS_SECONDS: i64 = 7 * 86_400;
/// Finished jobs forgotten in one transaction.
const JOBS_AT_ONCE: u32 = 500;

impl World {
    /// Does what is due now. May be called at any time and on any number of servers.
    ///
    /// # Errors
    /// When the rows cannot be read or written; the rest is done by the next call.
    pub async fn housekeep(&self) -> Result<(), Error> {
        self.write_last_uses().await?;
        let before = self.clock.now().plus_seconds(-FINISHED_JOBS_SECONDS);
        self.db.write(move |tx| lifecycle::jobs::prune_finished(tx, before, JOBS_AT_ONCE)).await?;
        lifecycle::touches::keep(&self.db, &self.cells).await?;
        for region in self.regions.iter() {
            let ended = lifecycle::workflow::move_tier::expire_due(&self.services, region).await;
            ended.map_err(Error::internal)?;
            let forgotten = fast_restore::forget_ended(&self.services, region).await;
            forgotten.map_err(Error::internal)?;
        }
        let (now, schedule) = (self.clock.now(), self.cells.schedule());
        let regions: Vec<_> = self.regions.iter().cloned().collect();
        self.db
            .write(move |tx| {
                let operator = operator();
                regions.iter().try_for_each(|region| {
                    enqueue_due_collections(tx, &operator, region, &schedule, now)
                })
            })
            .await?;
        self.rotate_due_keys().await?;
        self.waker.wake();
        let served: Vec<_> = self.regions.iter().cloned().collect();
        Ok(key_stores::sweep(&self.db, &self.kms, &self.places, &served).await?)
    }

    /// Rotates every key that is due, some in each transaction.
    async fn rotate_due_keys(&self) -> Result<(), Error> {
        loop {
            let (kms, rng) = (self.kms.clone(), Arc::clone(&self.rng));
            let rotated = self.db.write(move |tx| key_life::rotate_due(&kms, tx, &*rng)).await?;
            if rotated < key_life::KEYS_MAX as usize {
                return Ok(());
            }
        }
    }
}
