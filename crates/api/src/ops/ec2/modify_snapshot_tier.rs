//! `ec2:ModifySnapshotTier`: archives a snapshot.

use super::modify_snapshot_attribute::check_owner;
use crate::storage::code::snapshot_not_found;
use crate::storage::find::FoundSnapshot;
use crate::storage::tiering::{begin, refusal};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::code::MISSING_PARAMETER;
use awsproto::{Shape, string_enum};
use base::{SnapshotId, Timestamp};
use ebs::{TieringOperation, snapshot, tier_rules};

pub(crate) struct ModifySnapshotTier;

string_enum! {
    /// Where snapshots can be moved by this operation.
    pub(crate) enum TargetTier {
        /// The archive.
        Archive = "archive",
    }
}

#[derive(Shape)]
#[shape(input, dry_run)]
pub(crate) struct Input {
    snapshot_id: SnapshotId,
    storage_tier: Option<TargetTier>,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    snapshot_id: SnapshotId,
    tiering_start_time: Timestamp,
}

pub(crate) struct Plan {
    found: FoundSnapshot,
    tier: TargetTier,
}

impl Operation for ModifySnapshotTier {
    const SPEC: Spec = Spec::mutates(Service::Ec2, "ModifySnapshotTier");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let Some(tier) = input.storage_tier else {
            let message = "The request must contain the parameter storageTier";
            return Err(Error::new(MISSING_PARAMETER, message));
        };
        Ok(Plan { found: FoundSnapshot::find(call, &input.snapshot_id).await?, tier })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        let mut context = plan.found.context();
        context.set("ec2:Attribute/StorageTier", plan.tier.to_string());
        context.set_multi("ec2:Attribute", ["StorageTier".to_owned()]);
        vec![plan.found.ask("ec2:ModifySnapshotTier").with(context)]
    }

    async fn rehearse(_call: &Call, plan: &Plan) -> Result<(), Error> {
        check_owner(&plan.found)
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let (account, region) = (call.account().clone(), call.region.clone());
        let (id, now) = (plan.found.snapshot.id.clone(), call.now);
        let archive = move |tx: &mut meta::Tx<'_>| {
            // Looked up again: what holds now decides, not what held when it was planned.
            let row = snapshot::get(tx, &region, &id)?.filter(|row| !row.delete_requested);
            let row = row.ok_or_else(|| snapshot_not_found(id.as_str()))?;
            tier_rules::may_archive(tx, &row, &account)?.map_err(refusal)?;
            begin(tx, &row, TieringOperation::Archival, None, now)
        };
        let begun = call.world.db.write(archive).await?;
        call.world.wake_jobs();
        Ok(Output { snapshot_id: begun.snapshot, tiering_start_time: begun.started })
    }
}
