//! Attaching and detaching: rows first, then the key on a grant, then the device.
//!
//! The grant is made in the user's name; the host opens the data key on that grant alone, so it can
//! do so again after a restart without the user (spec 20, C.3). An attachment whose key is out of
//! reach after a restart stays in the rows, without a device (spec 04, last line of "IAM").

use super::export_snapshot::{base_of, blocks_of};
use super::keys::{EBS_BACK_END, FRONT_END};
use super::remote;
use crate::port::blocks::{BlockError, Root};
use crate::port::host::{CloseVolume, Force, HostError, OpenVolume};
use crate::port::kms::{
    Authority, CapturedIdentity, GrantConstraint, GrantOperation, GrantSpec, KmsCall, KmsFailure,
    KmsPort, VolumeKey,
};
use crate::services::Services;
use base::InstanceId;
use ebs::arns::{ec2_service_principal, infrastructure_session_arn, volume_arn};
use ebs::foreign_base::{self, ForeignBase, Guard};
use ebs::{
    Attachment, AttachmentKey, AttachmentState, Volume, VolumeState, WrappedKey, attachment, fence,
    twin, volume,
};
use events::notification::{self, Attachment as AttachEvent};
use events::put_event;
use std::sync::Arc;

/// The trail's name for what the infrastructure role does.
pub(super) const AWS_INTERNAL: &str = "AWS Internal";

/// Why a volume could not be attached, or a device not closed.
#[derive(Debug, thiserror::Error)]
pub enum AttachFailure {
    /// The volume was taken, or is not available, in the meantime.
    #[error("the volume is not available")]
    NotAvailable,
    /// The device name is taken.
    #[error("the device name is taken")]
    DeviceInUse,
    /// The volume's key could not be used. `Client.CustomerKeyHasBeenRevoked` (spec 20, C.5).
    #[error("the volume's key could not be used")]
    Key(#[source] KmsFailure),
    /// The stored key of a plain volume is damaged.
    #[error("the volume's stored key is damaged")]
    PlainKey(#[from] crate::plain_key::PlainKeyError),
    /// The base the volume was given meanwhile could not be opened.
    #[error("the base of the volume failed")]
    Base(#[from] BlockError),
    /// The device could not be opened or closed.
    #[error("the device failed")]
    Host(#[from] HostError),
    /// Another opening may still have the volume.
    #[error("another opening of the attachment may still have the volume")]
    Held,
    /// The rows could not be read or written.
    #[error("the rows could not be read or written")]
    Rows(#[from] ebs::Error),
    /// An event could not be written.
    #[error("an event could not be written")]
    Events(#[from] events::Error),
}

impl From<meta::Error> for AttachFailure {
    fn from(error: meta::Error) -> Self {
        Self::Rows(error.into())
    }
}

/// An attachment to make.
#[derive(Clone, Debug)]
pub struct AttachRequest {
    /// The volume, as it was when the request was authorized.
    pub volume: Volume,
    /// The instance.
    pub instance: InstanceId,
    /// `/dev/sdf`.
    pub device: String,
    /// Who asks.
    pub identity: CapturedIdentity,
    /// The request; the trail shows the host's Decrypt under it too (spec 20, D.1).
    pub request_id: String,
}

pub(super) fn key_of(attachment: &Attachment) -> AttachmentKey<'_> {
    AttachmentKey {
        account: &attachment.account,
        region: &attachment.region,
        volume: &attachment.volume,
        instance: &attachment.instance,
    }
}

/// Attaches a volume. The device serves when this returns; at a machine that opens its volumes itself,
/// it serves when that machine has done so.
///
/// # Errors
/// When it cannot be attached; nothing stays behind.
pub async fn attach(
    services: &Services,
    request: AttachRequest,
) -> Result<Attachment, AttachFailure> {
    let attachment = Attachment {
        account: request.volume.account.clone(),
        region: request.volume.region.clone(),
        volume: request.volume.id.clone(),
        instance: request.instance.clone(),
        device: request.device.clone(),
        state: AttachmentState::Attaching,
        attached: services.clock.now(),
        delete_on_termination: false,
        grant_id: None,
        impaired: None,
    };
    reserve(services, &attachment).await?;
    let is_remote = remote::is_remote(services, &attachment).await?;
    let opened = match grant_for(services, &request, &attachment).await {
        Ok(()) if !is_remote => open_for(services, &request, &attachment).await,
        granted => granted,
    };
    match opened {
        Ok(()) if is_remote => Ok(attachment),
        Ok(()) => {
            let row = attachment.clone();
            let (from, to) = (AttachmentState::Attaching, AttachmentState::Attached);
            let moved =
                move |tx: &mut meta::Tx<'_>| attachment::set_state(tx, key_of(&row), from, to);
            services.db.write(moved).await?;
            Ok(attachment)
        }
        Err(failure) => {
            give_up(services, &attachment).await?;
            announce(services, &request.volume, AttachEvent::Attach, &failure).await?;
            Err(failure)
        }
    }
}

/// Takes the volume and the device name, both or neither.
async fn reserve(services: &Services, attachment: &Attachment) -> Result<(), AttachFailure> {
    let row = attachment.clone();
    services
        .db
        .write(move |tx| {
            let (from, to) = (VolumeState::Available, VolumeState::InUse);
            if !volume::set_state(tx, &row.region, &row.volume, from, to)? {
                return Err(AttachFailure::NotAvailable);
            }
            if attachment::insert(tx, &row)? { Ok(()) } else { Err(AttachFailure::DeviceInUse) }
        })
        .await
}

async fn grant_for(
    services: &Services,
    request: &AttachRequest,
    attachment: &Attachment,
) -> Result<(), AttachFailure> {
    if let Some(key_arn) = &request.volume.kms_key_arn {
        let kms = &*services.kms;
        let id = create_grant(kms, request, key_arn).await.map_err(AttachFailure::Key)?;
        let row = attachment.clone();
        services.db.write(move |tx| attachment::set_grant(tx, key_of(&row), &id)).await?;
    }
    Ok(())
}

async fn open_for(
    services: &Services,
    request: &AttachRequest,
    attachment: &Attachment,
) -> Result<(), AttachFailure> {
    let request_id = Some(request.request_id.clone());
    open(services, &request.volume, attachment, request_id).await
}

/// Makes the decisions of an attachment without attaching anything: `kms` only rehearses.
///
/// # Errors
/// What would stop the attachment, or stopped the rehearsal.
pub async fn rehearse(
    services: &Services,
    kms: &dyn KmsPort,
    request: &AttachRequest,
) -> Result<(), AttachFailure> {
    if let Some(key_arn) = &request.volume.kms_key_arn {
        create_grant(kms, request, key_arn).await.map_err(AttachFailure::Key)?;
    }
    let request_id = Some(request.request_id.clone());
    let OpenedWith { volume, foreign, .. } = &opened_with(services, &request.volume).await?;
    let opener = Opener { services, kms, volume, instance: &request.instance, request_id };
    opener.data_key().await?;
    if let Some(foreign) = foreign {
        opener.base_key(foreign).await?;
    }
    Ok(())
}

async fn create_grant(
    kms: &dyn KmsPort,
    request: &AttachRequest,
    key_arn: &str,
) -> Result<String, KmsFailure> {
    let Volume { account, region, id, .. } = &request.volume;
    let call = KmsCall {
        authority: Authority::User(request.identity.clone()),
        region: region.clone(),
        invoked_by: FRONT_END.to_owned(),
        request_id: Some(request.request_id.clone()),
    };
    let grant = GrantSpec {
        key_arn: key_arn.to_owned(),
        grantee: infrastructure_session_arn(account, &request.instance),
        retiring: ec2_service_principal(region),
        operation: GrantOperation::Decrypt,
        constraint: GrantConstraint::Subset(id.to_string()),
        name: None,
    };
    kms.create_grant(call, grant).await
}

/// Opens the data key as the host, and the device with it.
async fn open(
    services: &Services,
    volume: &Volume,
    attachment: &Attachment,
    request_id: Option<String>,
) -> Result<(), AttachFailure> {
    let OpenedWith { volume, foreign, twin } = &opened_with(services, volume).await?;
    let (kms, instance) = (&*services.kms, &attachment.instance);
    let opener = Opener { services, kms, volume, instance, request_id };
    let key = opener.data_key().await?;
    let base_key = match foreign {
        Some(foreign) => Some(opener.base_key(foreign).await?),
        None => None,
    };
    let (region, id) = (volume.region.clone(), volume.id.clone());
    let epoch = services.db.write(move |tx| fence::raise(tx, &region, &id)).await?;
    let request = OpenVolume {
        account: volume.account.clone(),
        region: volume.region.clone(),
        volume: volume.id.clone(),
        instance: attachment.instance.clone(),
        device: attachment.device.clone(),
        attached: attachment.attached,
        base: base_of(volume),
        twin: twin.clone(),
        epoch,
        key,
        base_key,
    };
    services.host.open(request).await?;
    switch_if_resealed(services, volume).await
}

/// What a volume is opened with.
pub(super) struct OpenedWith {
    pub(super) volume: Volume,
    /// Present while its base is under another key.
    pub(super) foreign: Option<ForeignBase>,
    /// The twin of its base, when it was created with a credit.
    pub(super) twin: Option<Root>,
}

/// The volume with all it reads, as they are now. The base's key is not needed any more where the
/// volume has a base of its own.
pub(super) async fn opened_with(
    services: &Services,
    volume: &Volume,
) -> Result<OpenedWith, AttachFailure> {
    let before = volume.clone();
    let read = move |tx: &mut meta::Tx<'_>| {
        let foreign = foreign_base::get(tx, &before.region, &before.id)?;
        let row = volume::get(tx, &before.region, &before.id)?;
        Ok::<_, ebs::Error>((row, foreign, twin::read_by(tx, &before.region, &before.id)?))
    };
    match services.db.read(read).await? {
        (Some(volume), foreign, twin) => {
            let foreign = foreign.filter(ForeignBase::is_under_its_key);
            Ok(OpenedWith { volume, foreign, twin })
        }
        (None, ..) => Err(AttachFailure::NotAvailable),
    }
}

/// The volume's base may have been sealed anew between the reading of its row and now. Who seals it
/// changes the row first and open volumes after, so that one of the two sees the other.
pub(super) async fn switch_if_resealed(
    services: &Services,
    opened: &Volume,
) -> Result<(), AttachFailure> {
    let (region, id) = (opened.region.clone(), opened.id.clone());
    let row = services.db.read(move |tx| volume::get(tx, &region, &id)).await?;
    if let Some(row) = row.filter(|row| row.base_root != opened.base_root) {
        services.blocks.switch_base(&blocks_of(&row)).await?;
    }
    Ok(())
}

/// Opens keys as the host.
struct Opener<'a> {
    services: &'a Services,
    kms: &'a dyn KmsPort,
    volume: &'a Volume,
    instance: &'a InstanceId,
    request_id: Option<String>,
}

impl Opener<'_> {
    async fn data_key(&self) -> Result<VolumeKey, AttachFailure> {
        let Some(key) = &self.volume.data_key else {
            let (table, column) = ("ebs_volumes", "wrapped_key");
            return Err(ebs::Error::Corrupt { table, column }.into());
        };
        if self.volume.is_encrypted() {
            self.decrypt(key).await
        } else {
            Ok(self.services.plain.open(key)?)
        }
    }

    async fn base_key(&self, foreign: &ForeignBase) -> Result<VolumeKey, AttachFailure> {
        match foreign.guard {
            Guard::Kms => self.decrypt(&foreign.key).await,
            Guard::Service => Ok(self.services.plain.open(&foreign.key)?),
        }
    }

    async fn decrypt(&self, key: &WrappedKey) -> Result<VolumeKey, AttachFailure> {
        let call = KmsCall {
            authority: Authority::Host(self.volume.account.clone(), self.instance.clone()),
            region: self.volume.region.clone(),
            invoked_by: AWS_INTERNAL.to_owned(),
            request_id: self.request_id.clone(),
        };
        let opened = self.kms.decrypt(call, &key.wrapped, &key.context_id).await;
        opened.map_err(AttachFailure::Key)
    }
}

/// Undoes what [`attach`] did so far: device, grant, rows.
pub(super) async fn give_up(
    services: &Services,
    attachment: &Attachment,
) -> Result<(), AttachFailure> {
    let row = attachment.clone();
    let current = services
        .db
        .read(move |tx| attachment::of_volume(tx, &row.account, &row.region, &row.volume))
        .await?;
    let Some(current) = current.into_iter().find(|row| is_same(row, attachment)) else {
        return Ok(());
    };
    detach(services, &current, Force::Yes).await
}

/// Whether two rows of a volume are of one attachment, and not of two at the same instance.
pub(super) fn is_same(row: &Attachment, other: &Attachment) -> bool {
    row.instance == other.instance && row.attached == other.attached
}

/// Detaches a volume. The device is gone and the key wiped when this returns.
///
/// # Errors
/// When the device cannot be closed; the attachment then stays `detaching` and the next call, or
/// the next start of the server, goes on.
pub async fn detach(
    services: &Services,
    attachment: &Attachment,
    force: Force,
) -> Result<(), AttachFailure> {
    let row = attachment.clone();
    let stands = services
        .db
        .write(move |tx| {
            let rows = attachment::of_volume(tx, &row.account, &row.region, &row.volume)?;
            if !rows.iter().any(|found| is_same(found, &row)) {
                return Ok(false);
            }
            // A machine of its own may never have come.
            for from in [AttachmentState::Attaching, AttachmentState::Attached] {
                attachment::set_state(tx, key_of(&row), from, AttachmentState::Detaching)?;
            }
            Ok::<_, ebs::Error>(true)
        })
        .await?;
    if stands { close(services, attachment, force).await } else { Ok(()) }
}

/// Closes the device, retires the grant and removes the rows, whatever of these is there.
async fn close(
    services: &Services,
    attachment: &Attachment,
    force: Force,
) -> Result<(), AttachFailure> {
    let is_remote = remote::is_remote(services, attachment).await?;
    if is_remote {
        // One that found the attachment standing may be lending the volume; later ones find it detaching.
        drop(services.openings.begin(&attachment.region, &attachment.volume).await);
        remote::take_back(services, attachment, force).await?;
    } else {
        let request = CloseVolume {
            region: attachment.region.clone(),
            volume: attachment.volume.clone(),
            instance: attachment.instance.clone(),
            device: attachment.device.clone(),
            attached: attachment.attached,
            force,
        };
        services.host.close(request).await?;
    }
    let (region, id) = (attachment.region.clone(), attachment.volume.clone());
    let volume = services.db.read(move |tx| volume::get(tx, &region, &id)).await?;
    let key_arn = volume.and_then(|volume| volume.kms_key_arn);
    if let (Some(key_arn), Some(grant_id)) = (key_arn, &attachment.grant_id) {
        retire_grant(services, attachment, &key_arn, grant_id).await;
    }
    let row = attachment.clone();
    services
        .db
        .write(move |tx| {
            // Another call may have ended it meanwhile, and a new one begun.
            let rows = attachment::of_volume(tx, &row.account, &row.region, &row.volume)?;
            if !rows.iter().any(|found| is_same(found, &row)) {
                return Ok(());
            }
            if is_remote {
                // It has stopped: the next attachment waits for nobody.
                fence::note_lease(tx, &row.region, &row.volume, 0)?;
            }
            attachment::remove(tx, key_of(&row))?;
            let left = attachment::of_volume(tx, &row.account, &row.region, &row.volume)?;
            if left.is_empty() {
                let (from, to) = (VolumeState::InUse, VolumeState::Available);
                volume::set_state(tx, &row.region, &row.volume, from, to)?;
            }
            Ok::<_, ebs::Error>(())
        })
        .await?;
    Ok(())
}

/// A grant that cannot be given back keeps no volume attached; it stays visible in `ListGrants`.
async fn retire_grant(services: &Services, attachment: &Attachment, key_arn: &str, grant_id: &str) {
    let Attachment { account, region, volume, .. } = attachment;
    let call = KmsCall {
        authority: Authority::Service(account.clone(), volume_arn(region, account, volume)),
        region: region.clone(),
        invoked_by: EBS_BACK_END.to_owned(),
        request_id: None,
    };
    if let Err(failure) = services.kms.retire_grant(call, key_arn, grant_id).await {
        tracing::warn!(
            key = key_arn,
            grant = grant_id,
            failure = base::with_causes(&failure),
            "grant stays"
        );
    }
}

/// Brings attachments back after a start of the server: finishes what was half done, and opens what
/// was attached. Call it once, before requests are served. What waits for a machine goes on after it
/// returns.
///
/// # Errors
/// When the rows cannot be read or written. A volume that cannot be opened is no error here.
pub async fn recover(services: &Arc<Services>) -> Result<(), AttachFailure> {
    for attachment in services.db.read(attachment::list_all).await? {
        let is_remote = remote::is_remote(services, &attachment).await?;
        match attachment.state {
            AttachmentState::Attached | AttachmentState::Attaching if is_remote => {}
            AttachmentState::Attached => reattach(services, &attachment).await?,
            AttachmentState::Detaching if is_remote => {
                // The machine may be writing out, and can connect only when requests are served.
                let services = Arc::clone(services);
                tokio::spawn(async move { finish(&services, &attachment, Force::No).await });
            }
            AttachmentState::Attaching | AttachmentState::Detaching => {
                finish(services, &attachment, Force::Yes).await;
            }
        }
    }
    Ok(())
}

/// Goes on with a detachment that an earlier run began. One that does not end is gone on with by the
/// next call, or the next start.
async fn finish(services: &Services, attachment: &Attachment, force: Force) {
    if let Err(failure) = close(services, attachment, force).await {
        tracing::error!(
            volume = %attachment.volume,
            failure = base::with_causes(&failure),
            "not closed"
        );
    }
}

async fn reattach(services: &Services, attachment: &Attachment) -> Result<(), AttachFailure> {
    let (region, id) = (attachment.region.clone(), attachment.volume.clone());
    let Some(volume) = services.db.read(move |tx| volume::get(tx, &region, &id)).await? else {
        return Ok(());
    };
    let impaired = match open(services, &volume, attachment, None).await {
        Ok(()) => None,
        Err(failure) => {
            tracing::error!(
                volume = %volume.id,
                failure = base::with_causes(&failure),
                "not attached again"
            );
            announce(services, &volume, AttachEvent::Reattach, &failure).await?;
            Some(cause(&failure))
        }
    };
    let row = attachment.clone();
    services
        .db
        .write(move |tx| attachment::set_impaired(tx, key_of(&row), impaired.as_deref()))
        .await?;
    Ok(())
}

/// Why an attachment has no device, for the operator.
pub(super) fn cause(failure: &AttachFailure) -> String {
    match failure {
        AttachFailure::Key(failure) => failure.event_cause(),
        other => base::with_causes(other),
    }
}

/// The event of a key that is in a state in which it cannot be used; other failures have none.
pub(super) async fn announce(
    services: &Services,
    volume: &Volume,
    event: AttachEvent,
    failure: &AttachFailure,
) -> Result<(), AttachFailure> {
    let AttachFailure::Key(KmsFailure::State { problem, key_arn, explain_id, .. }) = failure else {
        return Ok(());
    };
    let envelope = services.envelope(&volume.account, &volume.region);
    let mut failed = notification::attach_failed(envelope, event, &volume.id, key_arn, *problem);
    if let Some(id) = explain_id {
        failed = failed.with_explain_id(id);
    }
    services.db.write(move |tx| put_event(tx, &failed)).await?;
    Ok(())
}
