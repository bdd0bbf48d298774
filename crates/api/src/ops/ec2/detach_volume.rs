//! `ec2:DetachVolume`: takes a volume away from an instance.

use crate::storage::code::{INCORRECT_STATE, INVALID_INSTANCE_NOT_FOUND};
use crate::storage::find::{FoundInstance, FoundVolume};
use crate::storage::shape::AttachmentShape;
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::{ErrorSpec, Shape};
use base::{InstanceId, VolumeId};
use ebs::{Attachment, AttachmentState, Volume, attachment};
use lifecycle::port::host::Force;
use lifecycle::workflow::{attach, remote};
use std::sync::Arc;
use std::time::Duration;

pub(crate) struct DetachVolume;

/// How long the reply waits for the detachment.
const ANSWER_TIME: Duration = Duration::from_secs(3);

const INVALID_ATTACHMENT_NOT_FOUND: ErrorSpec =
    ErrorSpec::sender("InvalidAttachment.NotFound", 400);

#[derive(Shape)]
#[shape(input, dry_run)]
pub(crate) struct Input {
    device: Option<String>,
    #[shape(default)]
    force: bool,
    instance_id: Option<InstanceId>,
    volume_id: VolumeId,
}

pub(crate) struct Plan {
    volume: FoundVolume,
    /// Absent when the machine is gone: detaching must work all the same.
    instance: Option<FoundInstance>,
    attachment: Attachment,
    force: Force,
}

impl Operation for DetachVolume {
    const SPEC: Spec = Spec::mutates(Service::Ec2, "DetachVolume");
    type Input = Input;
    type Plan = Plan;
    type Output = AttachmentShape;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let volume = FoundVolume::find(call, &input.volume_id).await?;
        let attachment = find(call, &volume.volume, &input).await?;
        let instance = match FoundInstance::find(call, &attachment.instance).await {
            Ok(instance) => Some(instance),
            Err(error) if error.code() == INVALID_INSTANCE_NOT_FOUND.code => None,
            Err(error) => return Err(error),
        };
        let force = if input.force { Force::Yes } else { Force::No };
        Ok(Plan { volume, instance, attachment, force })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        let action = "ec2:DetachVolume";
        let on_instance = plan.instance.as_ref().map(|instance| instance.ask(action));
        std::iter::once(plan.volume.ask(action)).chain(on_instance).collect()
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<AttachmentShape, Error> {
        let Plan { attachment, force, .. } = plan.into_inner();
        let (services, row) = (Arc::clone(&call.world.services), attachment.clone());
        // On its own, so that it goes on when the caller has gone.
        let detaching = tokio::spawn(async move {
            let detached = attach::detach(&services, &row, force).await;
            if let Err(failure) = &detached {
                tracing::error!(volume = %row.volume, %failure, "a volume was not detached");
            }
            detached
        });
        match tokio::time::timeout(ANSWER_TIME, detaching).await {
            Ok(Ok(detached)) => detached.map_err(Error::internal)?,
            Ok(Err(panicked)) => return Err(Error::internal(panicked)),
            // A machine of its own that does not answer: it is waited for until its lease ends.
            Err(_) => {}
        }
        // The reply shows the detachment as it began; mostly, the device is gone already.
        Ok(AttachmentShape::in_state(&attachment, "detaching"))
    }
}

async fn find(call: &Call, volume: &Volume, input: &Input) -> Result<Attachment, Error> {
    let (account, region) = (volume.account.clone(), volume.region.clone());
    let id = volume.id.clone();
    let read = move |tx: &mut meta::Tx<'_>| attachment::of_volume(tx, &account, &region, &id);
    let attachments = call.world.db.read(read).await?;
    let id = &volume.id;
    if attachments.is_empty() {
        let state = volume.state.as_str();
        let message = format!("Volume '{id}' is in the '{state}' state.");
        return Err(Error::new(INCORRECT_STATE, message));
    }
    let matches = |attachment: &&Attachment| {
        input.instance_id.as_ref().is_none_or(|wanted| attachment.instance == *wanted)
            && input.device.as_ref().is_none_or(|wanted| attachment.device == *wanted)
    };
    let found = attachments.iter().find(matches).ok_or_else(|| {
        let instance = input.instance_id.as_ref().map(ToString::to_string).unwrap_or_default();
        let device = input.device.clone().unwrap_or_default();
        Error::new(
            INVALID_ATTACHMENT_NOT_FOUND,
            format!(
                "The volume '{id}' is not attached to instance '{instance}' as device '{device}'."
            ),
        )
    })?;
    let is_remote = remote::is_remote(&call.world.services, found).await?;
    if found.state == AttachmentState::Attaching && !is_remote {
        let message = format!("Volume '{id}' is in the 'attaching' state.");
        return Err(Error::new(INCORRECT_STATE, message));
    }
    Ok(found.clone())
}
