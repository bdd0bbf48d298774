//! `ec2:DeleteSnapshot`: removes a snapshot; blocks that others need stay.

use crate::storage::code::snapshot_not_found;
use crate::storage::find::FoundSnapshot;
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use awsproto::code::UNAUTHORIZED_OPERATION;
use base::SnapshotId;
use ebs::deletion::{self, DeletionRefused};
use ebs::{snapshot, tiering, usage};
use lifecycle::workflow::fast_restore;
use lifecycle::workflow::move_tier::MoveTier;
use std::sync::Arc;

pub(crate) struct DeleteSnapshot;

#[derive(Shape)]
#[shape(input, dry_run)]
pub(crate) struct Input {
    snapshot_id: SnapshotId,
}

pub(crate) struct Plan {
    found: FoundSnapshot,
}

impl Operation for DeleteSnapshot {
    const SPEC: Spec = Spec::mutates(Service::Ec2, "DeleteSnapshot");
    type Input = Input;
    type Plan = Plan;
    type Output = ();

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let Input { snapshot_id } = input;
        Ok(Plan { found: FoundSnapshot::find(call, &snapshot_id).await? })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.found.ask("ec2:DeleteSnapshot")]
    }

    async fn rehearse(call: &Call, plan: &Plan) -> Result<(), Error> {
        deletion::guard(&plan.found.snapshot, call.account()).map_err(refusal)
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<(), Error> {
        let (account, region) = (call.account().clone(), call.region.clone());
        let (id, now) = (plan.found.snapshot.id.clone(), call.now);
        let services = Arc::clone(&call.world.services);
        call.world
            .db
            .write(move |tx| {
                // Looked up again: what holds now decides, not what held when it was planned.
                let found = deletion::find(tx, &region, &id, &account)?.map_err(refusal)?;
                deletion::guard(&found, &account).map_err(refusal)?;
                if let Some(tiering) = tiering::get(tx, &region, &id)? {
                    let (region, account) = (region.clone(), account.clone());
                    let (snapshot, number) = (id.clone(), tiering.number);
                    let job = MoveTier { region, account, snapshot, number };
                    lifecycle::kinds::cancel_move_tier(tx, &job, now)?;
                }
                usage::note_end_of_archive(tx, &found, now)?;
                snapshot::delete(tx, &found)?;
                let ended = fast_restore::end_unusable(&services, tx, &region, &id);
                ended.map_err(Error::internal)?;
                lifecycle::kinds::enqueue_collect(tx, &account, &region, now)?;
                Ok::<_, Error>(())
            })
            .await?;
        call.world.wake_jobs();
        Ok(())
    }
}

fn refusal(refused: DeletionRefused) -> Error {
    match &refused {
        DeletionRefused::NotFound { snapshot } => snapshot_not_found(snapshot.as_str()),
        DeletionRefused::NotOwner => Error::new(UNAUTHORIZED_OPERATION, refused.to_string()),
    }
}
