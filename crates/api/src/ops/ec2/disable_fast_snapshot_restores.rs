//! `ec2:DisableFastSnapshotRestores`: ends fast snapshot restore of snapshots in some zones.

use crate::storage::code::INCORRECT_STATE;
use crate::storage::fast_restore::{Input, Outcomes, Output, Plan};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use base::SnapshotId;
use lifecycle::workflow::fast_restore;
use std::sync::Arc;

pub(crate) struct DisableFastSnapshotRestores;

impl Operation for DisableFastSnapshotRestores {
    const SPEC: Spec = Spec::mutates(Service::Ec2, "DisableFastSnapshotRestores");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        Plan::new(call, input).await
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
                    let ending = fast_restore::disable(&services, tx, &wish, &run, now);
                    outcomes.note(id, zone, Ok(ending.map_err(Error::internal)?));
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
