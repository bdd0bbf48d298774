//! What runs beside the requests: durable jobs, and what is due from time to time.

use api::World;
use lifecycle::jobs::{Config, Places, Runner, release_held};
use lifecycle::workflow;
use lifecycle::workflow::collect::Schedule;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

/// Jobs at a time; the others wait in the rows. More movers would only share what there is, and each takes
/// memory: 128 MiB of packs for a copy under another key.
const PLACES: Places = Places { turn_seconds: 10, steps: 4, movers: 3, collections: 1 };
/// How often what is due is looked for, unless collections are wanted more often.
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_secs(60);
/// No interval that can be asked for is shorter.
const HOUSEKEEPING_INTERVAL_MIN: Duration = Duration::from_secs(1);
/// Between two batches of key material on their way to a new domain key.
const REWRAP_PAUSE: Duration = Duration::from_millis(20);

/// The running tasks.
pub(crate) struct Background {
    world: Arc<World>,
    jobs: JoinHandle<()>,
    housekeeping: JoinHandle<()>,
    rewrapping: JoinHandle<()>,
}

/// Why what an earlier run left could not be taken up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecoverError {
    #[error("jobs of the earlier run cannot be taken over: {0}")]
    Jobs(#[from] meta::Error),
    #[error("storage cannot go on where it stopped: {0}")]
    Storage(#[from] workflow::RecoverError),
}

/// Takes up what an earlier run of this server left: its jobs are due again, snapshots it had
/// accepted are cut, and its attached volumes are opened. Call it before requests are answered.
pub(crate) async fn recover(world: &Arc<World>) -> Result<(), RecoverError> {
    let (owner, now) = (world.server.clone(), world.clock.now());
    world.db.write(move |tx| release_held(tx, &owner, now)).await?;
    workflow::recover(&world.services).await?;
    Ok(())
}

/// Starts everything; it ends when `stopped` turns true.
pub(crate) fn start(
    world: &Arc<World>,
    stopped: &watch::Receiver<bool>,
    rewrap: Arc<Notify>,
) -> Background {
    let config = Config {
        db: world.db.clone(),
        clock: Arc::clone(&world.clock),
        owner: world.server.clone(),
        places: PLACES,
    };
    let runner = Runner::new(config, api::job_kinds(world), world.waker.clone());
    let mut stop = stopped.clone();
    let jobs = tokio::spawn(async move {
        let stopped = async move {
            // A sender that is gone means the same.
            let _ = stop.wait_for(|stopped| *stopped).await;
        };
        runner.run(stopped).await;
    });
    let housekeeping = tokio::spawn(housekeep(Arc::clone(world)));
    let rewrapping = tokio::spawn(rewrap_materials(Arc::clone(world), rewrap));
    Background { world: Arc::clone(world), jobs, housekeeping, rewrapping }
}

/// Moves key material to new domain keys: what an earlier run had begun, then whenever it is woken.
async fn rewrap_materials(world: Arc<World>, woken: Arc<Notify>) {
    loop {
        let regions: Vec<_> = world.regions.iter().cloned().collect();
        for region in &regions {
            loop {
                match world.rewrap_step(region).await {
                    Ok(Some(step)) if step.finished => {
                        tracing::info!(
                            %region, number = step.number, rewrapped = step.rewrapped,
                            "all key material is under the region's newest domain key"
                        );
                    }
                    // Requests come first.
                    Ok(Some(_)) => tokio::time::sleep(REWRAP_PAUSE).await,
                    Ok(None) => break,
                    Err(error) => {
                        tracing::error!(%region, %error, "key material cannot be moved; it is tried again");
                        break;
                    }
                }
            }
        }
        tokio::select! {
            () = woken.notified() => {}
            () = tokio::time::sleep(HOUSEKEEPING_INTERVAL) => {}
        }
    }
}

/// As often as the shortest interval between collections asks for.
fn housekeeping_interval(schedule: &Schedule) -> Duration {
    let shortest = schedule.collect_interval_seconds.min(schedule.sweep_interval_seconds);
    let wanted = Duration::from_secs(u64::try_from(shortest).unwrap_or_default());
    wanted.clamp(HOUSEKEEPING_INTERVAL_MIN, HOUSEKEEPING_INTERVAL)
}

async fn housekeep(world: Arc<World>) {
    let mut due = tokio::time::interval(housekeeping_interval(&world.cells.schedule()));
    // One that took long is not followed by all that it left out.
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        due.tick().await;
        if let Err(error) = world.housekeep().await {
            tracing::error!(%error, "what was due could not be done; it is tried again");
        }
    }
}

impl Background {
    /// Waits for the jobs to reach a safe place, and writes what was to be written later. `stopped`
    /// must be true already, and no request under way.
    pub(crate) async fn stop(self) {
        self.housekeeping.abort();
        self.rewrapping.abort();
        if let Err(error) = self.world.write_last_uses().await {
            tracing::error!(%error, "the last uses of keys could not be written");
        }
        if let Err(error) = self.jobs.await {
            tracing::error!(%error, "the jobs ended badly");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_is_looked_for_as_often_as_collections_are_wanted() {
        let every = |collect, sweep| {
            housekeeping_interval(&Schedule {
                collect_interval_seconds: collect,
                sweep_interval_seconds: sweep,
                ..Schedule::server()
            })
        };
        assert_eq!(every(3, 20), Duration::from_secs(3));
        assert_eq!(every(3600, 1), HOUSEKEEPING_INTERVAL_MIN);
        assert_eq!(every(3600, 7 * 86_400), HOUSEKEEPING_INTERVAL);
    }
}
