//! `ec2:RestoreSnapshotTier`: brings an archived snapshot back, for some days or for good; of one that
//! is back for some days, changes for how long.

use super::modify_snapshot_attribute::check_owner;
use crate::storage::code::{invalid_value, snapshot_not_found};
use crate::storage::find::FoundSnapshot;
use crate::storage::tiering::{begin, refusal};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use awsproto::code::INVALID_PARAMETER_COMBINATION;
use base::{SnapshotId, Timestamp};
use ebs::tier_rules::{self, Restore};
use ebs::tiering::{self, RESTORE_DAYS, RESTORE_DAYS_DEFAULT};
use ebs::{TieringOperation, snapshot};
use lifecycle::workflow::move_tier;

pub(crate) struct RestoreSnapshotTier;

#[derive(Shape)]
#[shape(input, dry_run)]
pub(crate) struct Input {
    snapshot_id: SnapshotId,
    temporary_restore_days: Option<i32>,
    permanent_restore: Option<bool>,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    snapshot_id: SnapshotId,
    restore_start_time: Timestamp,
    restore_duration: Option<u32>,
    is_permanent_restore: bool,
}

pub(crate) struct Plan {
    found: FoundSnapshot,
    /// Absent for a restore for good.
    days: Option<u32>,
}

impl Operation for RestoreSnapshotTier {
    const SPEC: Spec = Spec::mutates(Service::Ec2, "RestoreSnapshotTier");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let days = days(&input)?;
        Ok(Plan { found: FoundSnapshot::find(call, &input.snapshot_id).await?, days })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.found.ask("ec2:RestoreSnapshotTier")]
    }

    async fn rehearse(_call: &Call, plan: &Plan) -> Result<(), Error> {
        check_owner(&plan.found)
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { found, days } = plan.into_inner();
        let (account, region) = (call.account().clone(), call.region.clone());
        let (id, now) = (found.snapshot.id.clone(), call.now);
        let services = std::sync::Arc::clone(&call.world.services);
        let restore = move |tx: &mut meta::Tx<'_>| {
            // Looked up again: what holds now decides, not what held when it was planned.
            let row = snapshot::get(tx, &region, &id)?.filter(|row| !row.delete_requested);
            let row = row.ok_or_else(|| snapshot_not_found(id.as_str()))?;
            let operation = match days {
                Some(_) => TieringOperation::TemporaryRestore,
                None => TieringOperation::PermanentRestore,
            };
            match tier_rules::may_restore(tx, &row, &account)?.map_err(refusal)? {
                Restore::Moves => begin(tx, &row, operation, days, now),
                Restore::IsHere => {
                    let expires = days.map(|days| move_tier::expiry(now, days));
                    let begun = tiering::restore_again(tx, &row, days, expires, now)?;
                    let told = move_tier::restored_again(&services, &begun, expires, now);
                    events::put_event(tx, &told)?;
                    lifecycle::kinds::enqueue_collect(tx, &account, &region, now)?;
                    Ok(begun)
                }
            }
        };
        let begun = call.world.db.write(restore).await?;
        call.world.wake_jobs();
        Ok(Output {
            snapshot_id: begun.snapshot,
            restore_start_time: begun.started,
            restore_duration: days,
            is_permanent_restore: days.is_none(),
        })
    }
}

/// For how many days, or `None` for good.
fn days(input: &Input) -> Result<Option<u32>, Error> {
    match (input.temporary_restore_days, input.permanent_restore) {
        (Some(_), Some(true)) => Err(Error::new(
            INVALID_PARAMETER_COMBINATION,
            "The parameters TemporaryRestoreDays and PermanentRestore cannot be used together.",
        )),
        (None, Some(true)) => Ok(None),
        (None, Some(false) | None) => Ok(Some(RESTORE_DAYS_DEFAULT)),
        (Some(days), Some(false) | None) => {
            let allowed = u32::try_from(days).ok().filter(|days| RESTORE_DAYS.contains(days));
            allowed.map(Some).ok_or_else(|| {
                invalid_value(format!(
                    "Value ({days}) for parameter temporaryRestoreDays is invalid. The number of \
                     days must be between {} and {}.",
                    RESTORE_DAYS.start(),
                    RESTORE_DAYS.end(),
                ))
            })
        }
    }
}
