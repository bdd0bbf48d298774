//! `ec2:AttachVolume`: gives an instance a volume as a block device.

use crate::kms_port::capture;
use crate::refusal::{Layer, Refusal};
use crate::rehearsal::Rehearsal;
use crate::storage::code::{
    INCORRECT_STATE, INSUFFICIENT_VOLUME_CAPACITY, VOLUME_IN_USE, invalid_value, no_space_left,
};
use crate::storage::find::{FoundInstance, FoundVolume};
use crate::storage::shape::AttachmentShape;
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::{ErrorSpec, Shape};
use base::{InstanceId, VolumeId};
use ebs::device::check_device_name;
use ebs::{VolumeState, attachment};
use lifecycle::port::blocks::BlockError;
use lifecycle::port::host::HostError;
use lifecycle::workflow::attach::{self, AttachFailure, AttachRequest};

pub(crate) struct AttachVolume;

const INVALID_VOLUME_ZONE_MISMATCH: ErrorSpec =
    ErrorSpec::sender("InvalidVolume.ZoneMismatch", 400);
const CUSTOMER_KEY_HAS_BEEN_REVOKED: ErrorSpec =
    ErrorSpec::sender("Client.CustomerKeyHasBeenRevoked", 400);

#[derive(Shape)]
#[shape(input, dry_run, unsupported(EbsCardIndex))]
pub(crate) struct Input {
    device: String,
    instance_id: InstanceId,
    volume_id: VolumeId,
}

pub(crate) struct Plan {
    volume: FoundVolume,
    instance: FoundInstance,
    device: String,
}

impl Operation for AttachVolume {
    const SPEC: Spec = Spec::mutates(Service::Ec2, "AttachVolume");
    type Input = Input;
    type Plan = Plan;
    type Output = AttachmentShape;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let Input { device, instance_id, volume_id } = input;
        check_device_name(&device)?;
        let volume = FoundVolume::find(call, &volume_id).await?;
        let instance = FoundInstance::find(call, &instance_id).await?;
        if volume.volume.zone != instance.instance.zone {
            return Err(Error::new(
                INVALID_VOLUME_ZONE_MISMATCH,
                format!(
                    "The volume '{volume_id}' is not in the same availability zone as instance \
                     '{instance_id}'"
                ),
            ));
        }
        Ok(Plan { volume, instance, device })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        let action = "ec2:AttachVolume";
        vec![plan.volume.ask(action), plan.instance.ask(action)]
    }

    async fn implied(call: &Call, plan: &Plan, rehearsal: &Rehearsal) -> Result<(), Error> {
        let Plan { volume, instance, device } = plan;
        let (volume, instance) = (&volume.volume, &instance.instance);
        if let Err(error) = check_free(call, volume, &instance.id, device).await {
            rehearsal.refused(&error);
        }
        rehearsal.go_on();
        let kms = call.kms();
        let request = request(call, volume, &instance.id, device);
        let refused = |failure| refusal(failure, volume, &instance.id, device);
        attach::rehearse(&call.world.services, &*kms, &request).await.map_err(refused)?;
        if let Some(failure) = rehearsal.take_failure() {
            rehearsal.refused(&refused(AttachFailure::Key(failure)));
        }
        Ok(())
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<AttachmentShape, Error> {
        let Plan { volume, instance, device } = plan.into_inner();
        let (volume, instance) = (volume.volume, instance.instance);
        check_free(call, &volume, &instance.id, &device).await?;
        let request = request(call, &volume, &instance.id, &device);
        let attached = attach::attach(&call.world.services, request).await;
        // The reply shows the attachment as it began; the device serves already.
        attached
            .map(|attachment| AttachmentShape::in_state(&attachment, "attaching"))
            .map_err(|failure| refusal(failure, &volume, &instance.id, &device))
    }
}

fn request(
    call: &Call,
    volume: &ebs::Volume,
    instance: &InstanceId,
    device: &str,
) -> AttachRequest {
    AttachRequest {
        volume: volume.clone(),
        instance: instance.clone(),
        device: device.to_owned(),
        identity: capture(call),
        request_id: call.request_id.clone(),
    }
}

/// The refusals that can be told apart before anything is reserved.
async fn check_free(
    call: &Call,
    volume: &ebs::Volume,
    instance: &InstanceId,
    device: &str,
) -> Result<(), Error> {
    let (account, region) = (volume.account.clone(), volume.region.clone());
    let (id, at) = (volume.id.clone(), instance.clone());
    let (of_volume, of_instance) = call
        .world
        .db
        .read(move |tx| {
            let of_volume = attachment::of_volume(tx, &account, &region, &id)?;
            let of_instance = attachment::of_instance(tx, &account, &region, &at)?;
            Ok::<_, ebs::Error>((of_volume, of_instance))
        })
        .await?;
    let id = &volume.id;
    if !of_volume.is_empty() {
        let message = format!("{id} is already attached to an instance");
        let remedy = "detach it there first: ec2:DetachVolume";
        let refusal =
            Refusal::state("a volume that is attached nowhere", id.as_str(), "in-use", remedy);
        return Err(Error::new(VOLUME_IN_USE, message).because(refusal));
    }
    if volume.state != VolumeState::Available {
        return Err(not_available(id));
    }
    if of_instance.iter().any(|attachment| attachment.device == device) {
        return Err(device_in_use(device));
    }
    Ok(())
}

fn not_available(id: &VolumeId) -> Error {
    Error::new(INCORRECT_STATE, format!("{id} is not 'available'.")).because(Refusal::new(
        Layer::ResourceState,
        "a volume in the state 'available'",
        format!("{id} is in another"),
        "ec2:DescribeVolumes shows its state; wait until it is made or detached",
    ))
}

fn device_in_use(device: &str) -> Error {
    invalid_value(format!(
        "Invalid value '{device}' for unixDevice. Attachment point {device} is already in use"
    ))
    .because(Refusal::new(
        Layer::ResourceState,
        "a device name that is free at the instance",
        format!("{device} is taken by another volume"),
        "name another device, or detach what is there",
    ))
}

fn refusal(
    failure: AttachFailure,
    volume: &ebs::Volume,
    instance: &InstanceId,
    device: &str,
) -> Error {
    let id = &volume.id;
    match failure {
        AttachFailure::NotAvailable => not_available(id),
        AttachFailure::DeviceInUse => device_in_use(device),
        AttachFailure::Key(cause) if !cause.is_transient() => {
            let refusal =
                Refusal::of_key(volume.kms_key_arn.as_deref().unwrap_or("of the volume"), &cause);
            let message = format!(
                "Volume {id} cannot be attached. The encrypted volume was unable to access the KMS \
                 key."
            );
            let error = CUSTOMER_KEY_HAS_BEEN_REVOKED.error(message).with_cause(Box::new(cause));
            Error::from(error).because(refusal)
        }
        AttachFailure::Host(HostError::NoRoom(_)) | AttachFailure::Base(BlockError::NoRoom(_)) => {
            let message = no_space_left(&format!("to open volume '{id}'"));
            INSUFFICIENT_VOLUME_CAPACITY.error(message).with_cause(Box::new(failure)).into()
        }
        AttachFailure::Key(_)
        | AttachFailure::PlainKey(_)
        | AttachFailure::Base(_)
        | AttachFailure::Host(_)
        | AttachFailure::Held
        | AttachFailure::Rows(_)
        | AttachFailure::Events(_) => {
            tracing::error!(volume = %id, %instance, %failure, "a volume was not attached");
            Error::internal(failure)
        }
    }
}
