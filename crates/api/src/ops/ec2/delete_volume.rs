//! `ec2:DeleteVolume`: removes a volume that is attached to nothing.

use crate::storage::code::{INCORRECT_STATE, VOLUME_IN_USE};
use crate::storage::find::FoundVolume;
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use base::VolumeId;
use ebs::{VolumeState, attachment, volume};
use lifecycle::workflow::delete_volume::DeleteVolume as Job;

pub(crate) struct DeleteVolume;

#[derive(Shape)]
#[shape(input, dry_run)]
pub(crate) struct Input {
    volume_id: VolumeId,
}

pub(crate) struct Plan {
    found: FoundVolume,
}

impl Operation for DeleteVolume {
    const SPEC: Spec = Spec::mutates(Service::Ec2, "DeleteVolume");
    type Input = Input;
    type Plan = Plan;
    type Output = ();

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let Input { volume_id } = input;
        Ok(Plan { found: FoundVolume::find(call, &volume_id).await? })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.found.ask("ec2:DeleteVolume")]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<(), Error> {
        let volume = plan.into_inner().found.volume;
        let job = Job {
            region: volume.region.clone(),
            account: volume.account.clone(),
            volume: volume.id.clone(),
            request_id: call.request_id.clone(),
        };
        let now = call.now;
        call.world
            .db
            .write(move |tx| {
                let (from, to) = (VolumeState::Available, VolumeState::Deleting);
                if volume::set_state(tx, &job.region, &job.volume, from, to)? {
                    lifecycle::kinds::enqueue_delete_volume(tx, &job, now)?;
                    return Ok(());
                }
                Err(refusal(tx, &job)?)
            })
            .await?;
        call.world.wake_jobs();
        Ok(())
    }
}

/// Why the volume cannot go.
fn refusal(tx: &mut meta::Tx<'_>, job: &Job) -> Result<Error, Error> {
    let attachments = attachment::of_volume(tx, &job.account, &job.region, &job.volume)?;
    let id = &job.volume;
    Ok(match attachments.first() {
        Some(at) => Error::new(
            VOLUME_IN_USE,
            format!("Volume {id} is currently attached to {}", at.instance),
        ),
        None => Error::new(INCORRECT_STATE, format!("{id} is not 'available'.")),
    })
}
