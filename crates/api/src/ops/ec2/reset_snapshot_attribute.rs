//! `ec2:ResetSnapshotAttribute`: makes a snapshot private again.

use super::modify_snapshot_attribute::{Attribute, check_owner};
use crate::storage::code::invalid_value;
use crate::storage::find::{FoundSnapshot, parsed};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use base::SnapshotId;
use ebs::{Snapshot, arns, permission};
use lifecycle::workflow::fast_restore;
use std::sync::Arc;

pub(crate) struct ResetSnapshotAttribute;

#[derive(Shape)]
#[shape(input, dry_run)]
pub(crate) struct Input {
    attribute: Attribute,
    snapshot_id: SnapshotId,
}

pub(crate) struct Plan {
    found: FoundSnapshot,
}

impl Operation for ResetSnapshotAttribute {
    const SPEC: Spec = Spec::mutates(Service::Ec2, "ResetSnapshotAttribute");
    type Input = Input;
    type Plan = Plan;
    type Output = ();

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let Input { attribute, snapshot_id } = input;
        if attribute == Attribute::ProductCodes {
            return Err(invalid_value("The attribute productCodes cannot be reset."));
        }
        Ok(Plan { found: FoundSnapshot::find(call, &snapshot_id).await? })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        let snapshot = &plan.found.snapshot;
        let mut context = plan.found.context();
        context.set("ec2:Attribute", Attribute::CreateVolumePermission.as_str());
        let arn = parsed(&arns::snapshot_arn(&snapshot.region, &snapshot.id));
        let action = "ec2:ResetSnapshotAttribute";
        vec![Ask::on(action, &arn, &snapshot.account).with(context)]
    }

    async fn rehearse(_call: &Call, plan: &Plan) -> Result<(), Error> {
        check_owner(&plan.found)
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<(), Error> {
        let Plan { found } = plan.into_inner();
        check_owner(&found)?;
        let services = Arc::clone(&call.world.services);
        let clear = move |tx: &mut meta::Tx<'_>| {
            let Snapshot { region, id, .. } = &found.snapshot;
            permission::clear(tx, &found.snapshot)?;
            let ended = fast_restore::end_unusable(&services, tx, region, id);
            ended.map_err(Error::internal)
        };
        call.world.db.write(clear).await?;
        call.world.wake_jobs();
        Ok(())
    }
}
