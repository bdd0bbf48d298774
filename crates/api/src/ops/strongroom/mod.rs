//! What the operations of machines share: the attachment at the machine that calls.

use crate::error::Error;
use crate::pipeline::{Ask, Guard};
use crate::storage::find::FoundVolume;
use crate::{Call, Service};
use awsproto::ErrorSpec;
use base::{InstanceId, VolumeId};
use ebs::{Attachment, attachment};
use iam::{Policy, PolicyKind, PrincipalKind, ResourceLayer};
use lifecycle::workflow::attach::AttachFailure;
use std::sync::Arc;

/// The volume is not attached to the machine that calls, or not any more under its epoch.
const ATTACHMENT_NOT_FOUND: ErrorSpec = ErrorSpec::sender("AttachmentNotFoundException", 404);
/// A newer attachment has the volume, or it is being detached.
const FENCED: ErrorSpec = ErrorSpec::sender("FencedException", 409);
/// Whoever opened the attachment before may still use the volume.
const HELD: ErrorSpec = ErrorSpec::sender("AttachmentHeldException", 409);

/// An attachment and its volume.
pub(crate) struct Found {
    pub(crate) volume: FoundVolume,
    pub(crate) attachment: Attachment,
}

impl Found {
    /// The attachment of a volume at the machine that calls.
    pub(crate) async fn find(call: &Call, id: &VolumeId) -> Result<Self, Error> {
        let absent = || {
            let message = format!("The volume '{id}' is not attached to the machine that calls.");
            Error::new(ATTACHMENT_NOT_FOUND, message)
        };
        let instance = machine(call).ok_or_else(absent)?;
        let volume = FoundVolume::find(call, id).await.map_err(|_| absent())?;
        let (account, region) = (call.account().clone(), call.region.clone());
        let wanted = id.clone();
        let rows = call
            .world
            .db
            .read(move |tx| attachment::of_volume(tx, &account, &region, &wanted))
            .await?;
        let found = rows.into_iter().find(|row| row.instance == instance);
        Ok(Self { volume, attachment: found.ok_or_else(absent)? })
    }

    /// Permission for an action on the volume: the attachment itself is what permits it, to the machine
    /// it names and to nobody else, whatever policies say.
    pub(crate) fn ask(&self, action: &str) -> Ask {
        let Attachment { account, instance, .. } = &self.attachment;
        let machine = ebs::arns::infrastructure_session_arn(account, instance);
        let text = format!(
            r#"{{"Version":"2012-10-17","Statement":{{"Sid":"attachment","Effect":"Allow","Principal":{{"AWS":"{machine}"}},"Action":"strongroom:*","Resource":"*"}}}}"#
        );
        let policy = Policy::parse(&text, PolicyKind::KeyPolicy).expect("an ARN needs no escaping");
        let layer = ResourceLayer {
            policy: Arc::new(policy),
            name: "the attachment".to_owned(),
            mandatory: true,
        };
        self.volume.ask(action).guarded(Guard::Resource {
            layer,
            grants: Vec::new(),
            missed: Vec::new(),
        })
    }
}

/// The machine whose session of the infrastructure role calls.
fn machine(call: &Call) -> Option<InstanceId> {
    match &call.caller.principal.kind {
        PrincipalKind::AssumedRole { role_name, session_name, .. }
            if crate::authorize::is_infrastructure(role_name) =>
        {
            InstanceId::parse(session_name).ok()
        }
        _ => None,
    }
}

/// An epoch as it travels.
pub(crate) fn epoch(number: i64) -> Result<u64, Error> {
    u64::try_from(number).map_err(|_| {
        let spec = crate::error::invalid_parameter_of(Service::Strongroom);
        Error::new(spec, format!("The epoch {number} is negative."))
    })
}

/// An epoch as it travels.
pub(crate) fn number(epoch: u64) -> i64 {
    i64::try_from(epoch).expect("an epoch counts attachments")
}

/// A workflow's failure in the service's words.
pub(crate) fn refusal(failure: AttachFailure) -> Error {
    match failure {
        AttachFailure::NotAvailable => {
            let message = "The volume was given to a newer attachment, or is being detached.";
            Error::new(FENCED, message)
        }
        AttachFailure::Held => {
            let message = "Another opening of the attachment may still have the volume. It was \
                asked to close it; ask again until it has, or its lease has ended, or with Force.";
            Error::new(HELD, message)
        }
        AttachFailure::DeviceInUse
        | AttachFailure::Key(_)
        | AttachFailure::PlainKey(_)
        | AttachFailure::Base(_)
        | AttachFailure::Host(_)
        | AttachFailure::Rows(_)
        | AttachFailure::Events(_) => Error::internal(failure),
    }
}
