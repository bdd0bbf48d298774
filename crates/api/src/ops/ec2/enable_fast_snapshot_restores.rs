//! `ec2:EnableFastSnapshotRestores`: has volumes of snapshots whole from the start, in some zones.

use crate::storage::code::snapshot_not_found;
use crate::storage::fast_restore::{Input, Outcomes, Output, Plan, refusal};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use base::{AccountId, Timestamp};
use ebs::fast_restore_rules::may_enable;
use ebs::{FastRestore, FastRestoreState, Snapshot, permission};
use lifecycle::workflow::fast_restore::{self, BY_USER};
use std::sync::Arc;

pub(crate) struct EnableFastSnapshotRestores;

impl Operation for EnableFastSnapshotRestores {
    const SPEC: Spec = Spec::mutates(Service::Ec2, "EnableFastSnapshotRestores");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        Plan::new(call, input).await
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        plan.asks("ec2:EnableFastSnapshotRestores")
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { snapshots, zones } = plan.into_inner();
        let services = Arc::clone(&call.world.services);
        let (account, region, now) = (call.account().clone(), call.region.clone(), call.now);
        let run = call.request_id.clone();
        let enable = move |tx: &mut meta::Tx<'_>| {
            let mut outcomes = Outcomes::default();
            for found in &snapshots {
                let id = &found.snapshot.id;
                // Looked up again: what holds now decides, not what held when it was planned.
                let row = permission::find_seen(tx, &region, id, &account)?;
                for zone in &zones {
                    let Some((row, _)) = &row else {
                        outcomes.note(id, zone, Err(snapshot_not_found(id.as_str())));
                        continue;
                    };
                    let outcome = match may_enable(tx, row, &account, zone)? {
                        Err(refused) => Err(refusal(refused)),
                        Ok(Some(present)) => Ok(present),
                        Ok(None) => {
                            let wish = wish(row, &account, zone, now);
                            let enabled = fast_restore::enable(&services, tx, row, &wish, &run);
                            enabled.map_err(Error::internal)?;
                            Ok(wish)
                        }
                    };
                    outcomes.note(id, zone, outcome);
                }
            }
            Ok::<_, Error>(outcomes)
        };
        let outcomes = call.world.db.write(enable).await?;
        call.world.wake_jobs();
        Ok(outcomes.shown(call))
    }
}

fn wish(of: &Snapshot, account: &AccountId, zone: &str, now: Timestamp) -> FastRestore {
    FastRestore {
        account: account.clone(),
        region: of.region.clone(),
        snapshot: of.id.clone(),
        zone: zone.to_owned(),
        size_gib: of.size_gib,
        state: FastRestoreState::Enabling,
        reason: BY_USER.to_owned(),
        enabling: now,
        optimizing: None,
        enabled: None,
        disabling: None,
        disabled: None,
        empty: None,
    }
}
