//! `ec2:DisableFastSnapshotRestores`: ends fast snapshot restore of snapshots in some zones.

use crate::storage::code::INCORRECT_STATE;
use crate::storage::fast_restore::{Outcomes, Output, Plan};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use base::SnapshotId;
use ebs::FastRestore;
use lifecycle::workflow::fast_restore::{self, EndFastRestore};
use std::sync::Arc;

pub(crate) struct DisableFastSnapshotRestores;

#[derive(Shape)]
#[shape(input, dry_run)]
pub(crate) struct Input {
    #[shape(query = "AvailabilityZone")]
    availability_zones: Vec<String>,
    #[shape(query = "AvailabilityZoneId")]
    availability_zone_ids: Vec<String>,
    #[shape(query = "SourceSnapshotId", required)]
    source_snapshot_ids: Vec<SnapshotId>,
}

impl Operation for DisableFastSnapshotRestores {
    const SPEC: Spec = Spec::mutates(Service::Ec2, "DisableFastSnapshotRestores");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let Input { availability_zones, availability_zone_ids, source_snapshot_ids } = input;
        Plan::new(call, source_snapshot_ids, availability_zones, availability_zone_ids).await
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        plan.asks("ec2:DisableFastSnapshotRestores")
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { snapshots, zones } = plan.into_inner();
        let services = Arc::clone(&call.world.services);
        let (account, region, now) = (call.account().clone(), call.region.clone(), call.now);
        let run = call.request_id.clone();
        let disable = move |tx: &mut meta::Tx<'_>| {
            let mut outcomes = Outcomes::default();
            for found in &snapshots {
                let id = &found.snapshot.id;
                for zone in &zones {
                    let found = ebs::fast_restore::get(tx, &account, &region, id, zone)?;
                    let wanted = found.filter(|wish| wish.state.is_wanted());
                    let Some(wish) = wanted else {
                        outcomes.note(id, zone, Err(not_enabled(id, zone)));
                        continue;
                    };
                    let ending = fast_restore::disable(&services, tx, &wish, now);
                    let ending = ending.map_err(Error::internal)?;
                    let job = end_of(&ending, &run);
                    lifecycle::kinds::enqueue_end_fast_restore(tx, &job, now)?;
                    outcomes.note(id, zone, Ok(ending));
                }
            }
            Ok::<_, Error>(outcomes)
        };
        let outcomes = call.world.db.write(disable).await?;
        call.world.wake_jobs();
        Ok(outcomes.shown(call))
    }
}

fn not_enabled(id: &SnapshotId, zone: &str) -> Error {
    let message = format!("The snapshot '{id}' is not enabled for fast restores in {zone}.");
    Error::new(INCORRECT_STATE, message)
}

fn end_of(wish: &FastRestore, run: &str) -> EndFastRestore {
    EndFastRestore {
        region: wish.region.clone(),
        account: wish.account.clone(),
        snapshot: wish.snapshot.clone(),
        zone: wish.zone.clone(),
        run: run.to_owned(),
    }
}
