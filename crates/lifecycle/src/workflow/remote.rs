//! Attachments at machines that open their volumes themselves, over the network.
//!
//! `AttachVolume` makes the rows and the grant; the attachment is `attaching` until the machine comes,
//! takes a new fencing epoch, and reports that its engine is open. The data key of an encrypted volume
//! is unwrapped by the machine, on its grant, and never here.

use super::attach::{
    AWS_INTERNAL, AttachFailure, OpenedWith, announce, cause, give_up, is_same, key_of,
    opened_with, switch_if_resealed,
};
use super::export_snapshot::base_of;
use crate::port::blocks::VolumeBlocks;
use crate::port::host::{
    CloseVolume, Force, HostError, KeepVolume, LEASE_SECONDS_MAX, LendVolume, Tenure,
};
use crate::port::kms::{Authority, KmsCall, KmsFailure, Probe, Wrapped};
use crate::services::Services;
use base::{GIB, Secret};
use ebs::foreign_base::Guard;
use ebs::{Attachment, AttachmentState, Volume, WrappedKey, attachment, fence, instance, volume};
use events::notification::Attachment as AttachEvent;
use std::time::Duration;
use tokio::time::timeout;

/// How long an opening waits for whoever has the volume. A lease may be longer than a call should be.
const STOP_TIME: Duration = Duration::from_secs(3);

/// What a machine is given when it opens an attachment.
#[derive(Debug)]
pub struct Opened {
    /// The epoch it writes under; every earlier one is fenced.
    pub epoch: u64,
    /// For its first connection.
    pub ticket: Secret<String>,
    /// The base's data key, when it is another than the volume's: under the same KMS key, in the same
    /// context.
    pub base_key: Option<WrappedKey>,
}

/// Whether an attachment is at a machine that opens its volumes itself.
///
/// # Errors
/// When the rows cannot be read.
pub async fn is_remote(services: &Services, attachment: &Attachment) -> Result<bool, ebs::Error> {
    let Attachment { account, region, instance, .. } = attachment.clone();
    services.db.read(move |tx| instance::is_remote(tx, &account, &region, &instance)).await
}

/// Whether a volume is attached to a machine that opens it itself.
pub(super) async fn is_away(
    services: &Services,
    blocks: &VolumeBlocks,
) -> Result<bool, ebs::Error> {
    let VolumeBlocks { region, volume: id, .. } = blocks.clone();
    services
        .db
        .read(move |tx| {
            let Some(Volume { account, .. }) = volume::get(tx, &region, &id)? else {
                return Ok(false);
            };
            for row in attachment::of_volume(tx, &account, &region, &id)? {
                if instance::is_remote(tx, &account, &region, &row.instance)? {
                    return Ok(true);
                }
            }
            Ok(false)
        })
        .await
}

/// Gives the volume to its machine under a new epoch. Whoever opened it before is asked to close it,
/// and waited for until it has surely stopped; with force it is fenced at once.
///
/// # Errors
/// [`AttachFailure::Held`] when whoever has it goes on for longer than [`STOP_TIME`], or another opening
/// came first: the caller may ask again. [`AttachFailure::NotAvailable`] when the attachment is being
/// ended, or another opening came between.
pub async fn open(
    services: &Services,
    volume: &Volume,
    attachment: &Attachment,
    force: Force,
) -> Result<Opened, AttachFailure> {
    let turn = services.openings.begin(&volume.region, &volume.id);
    let _turn = match force {
        Force::No => timeout(STOP_TIME, turn).await.map_err(|_| AttachFailure::Held)?,
        Force::Yes => turn.await,
    };
    let row = attachment.clone();
    let standing = move |tx: &mut meta::Tx<'_>| {
        let epoch = fence::current(tx, &row.region, &row.volume)?;
        Ok::<_, ebs::Error>(is_standing(tx, &row)?.then_some(epoch))
    };
    let before = services.db.read(standing).await?.ok_or(AttachFailure::NotAvailable)?;
    // The epoch is raised after: until then, whoever has the volume may connect and write out.
    let stopped = timeout(STOP_TIME, take_back(services, attachment, force)).await;
    stopped.map_err(|_| AttachFailure::Held)??;
    let (row, lease_ms) = (attachment.clone(), services.host.lease_ms());
    let epoch = services
        .db
        .write(move |tx| {
            if !is_standing(tx, &row)? {
                return Err(AttachFailure::NotAvailable);
            }
            // Whoever opened it meanwhile was not asked to stop. A higher epoch would fence it, and be of no
            // use to this opening, which cannot have the volume.
            if force == Force::No && fence::current(tx, &row.region, &row.volume)? != before {
                return Err(AttachFailure::Held);
            }
            let epoch = fence::raise(tx, &row.region, &row.volume)?;
            fence::note_lease(tx, &row.region, &row.volume, lease_ms)?;
            Ok(epoch)
        })
        .await?;
    let opened = opened_with(services, volume).await?;
    let request = lend(services, &opened, (epoch, Tenure::New), force)?;
    let OpenedWith { volume, foreign, .. } = &opened;
    services.host.lend(request).await.map_err(|error| match error {
        HostError::Held => AttachFailure::Held,
        HostError::Superseded => AttachFailure::NotAvailable,
        error @ (HostError::WrongKey
        | HostError::NoRoom(_)
        | HostError::Storage(_)
        | HostError::Device(_)) => AttachFailure::Host(error),
    })?;
    switch_if_resealed(services, volume).await?;
    let ticket = services.host.ticket(&volume.region, &volume.id, epoch)?;
    let by_kms = foreign.as_ref().filter(|foreign| foreign.guard == Guard::Kms);
    let base_key = by_kms.map(|foreign| foreign.key.clone());
    Ok(Opened { epoch, ticket: ticket.ok_or(AttachFailure::NotAvailable)?, base_key })
}

/// A ticket for another connection of the machine that holds an epoch.
///
/// # Errors
/// [`AttachFailure::NotAvailable`] when the epoch was fenced. An attachment that is being ended may
/// still connect, to write out what it has. [`AttachFailure::Host`] when the volume is kept for its
/// machine, but cannot be lent.
pub async fn resume(
    services: &Services,
    attachment: &Attachment,
    epoch: u64,
) -> Result<Secret<String>, AttachFailure> {
    let (region, id) = (attachment.region.clone(), attachment.volume.clone());
    let current = services.db.read(move |tx| fence::current(tx, &region, &id)).await?;
    if current != epoch {
        return Err(AttachFailure::NotAvailable);
    }
    let ticket = services.host.ticket(&attachment.region, &attachment.volume, epoch)?;
    ticket.ok_or(AttachFailure::NotAvailable)
}

/// The machine has the volume open: the attachment is `attached` when this returns.
///
/// # Errors
/// [`AttachFailure::NotAvailable`] when the epoch was fenced or the attachment is being ended.
pub async fn complete(
    services: &Services,
    attachment: &Attachment,
    epoch: u64,
) -> Result<(), AttachFailure> {
    let row = attachment.clone();
    services
        .db
        .write(move |tx| {
            if !is_standing(tx, &row)? || fence::current(tx, &row.region, &row.volume)? != epoch {
                return Err(AttachFailure::NotAvailable);
            }
            let (from, to) = (AttachmentState::Attaching, AttachmentState::Attached);
            attachment::set_state(tx, key_of(&row), from, to)?;
            Ok(attachment::set_impaired(tx, key_of(&row), None)?)
        })
        .await
}

/// KMS refused the machine the volume's key. What that does to the attachment is what it does to one of
/// this server's: a new one is taken back, one that stood before stays without a device, and an event
/// tells of a key in a state in which it cannot be used. The machine is not taken at its word: KMS is
/// asked whether it would refuse now, and when not, the machine may try again.
///
/// # Errors
/// [`AttachFailure::NotAvailable`] when the epoch was fenced or the attachment is being ended.
pub async fn key_refused(
    services: &Services,
    volume: &Volume,
    attachment: &Attachment,
    epoch: u64,
    request_id: String,
) -> Result<(), AttachFailure> {
    let row = attachment.clone();
    let is_current = move |tx: &mut meta::Tx<'_>| {
        Ok::<_, ebs::Error>(
            is_standing(tx, &row)? && fence::current(tx, &row.region, &row.volume)? == epoch,
        )
    };
    if !services.db.read(is_current).await? {
        return Err(AttachFailure::NotAvailable);
    }
    let OpenedWith { volume, foreign, .. } = opened_with(services, volume).await?;
    let call = KmsCall {
        authority: Authority::Host(volume.account.clone(), attachment.instance.clone()),
        region: volume.region.clone(),
        invoked_by: AWS_INTERNAL.to_owned(),
        request_id: Some(request_id),
    };
    let own = volume.data_key.iter().filter(|_| volume.is_encrypted());
    let of_base =
        foreign.iter().filter(|foreign| foreign.guard == Guard::Kms).map(|base| &base.key);
    let mut refused = None;
    for key in own.chain(of_base) {
        let wrapped = Wrapped { ciphertext: &key.wrapped, context_id: &key.context_id };
        let answer = services.kms.may(call.clone(), Probe::Decrypt(wrapped)).await;
        refused = refused.or(answer.err().filter(|failure| !KmsFailure::is_transient(failure)));
    }
    let Some(failure) = refused.map(AttachFailure::Key) else { return Ok(()) };
    tracing::error!(
        volume = %volume.id,
        failure = base::with_causes(&failure),
        "not opened by its machine"
    );
    match attachment.state {
        AttachmentState::Attaching => {
            give_up(services, attachment).await?;
            announce(services, &volume, AttachEvent::Attach, &failure).await
        }
        AttachmentState::Attached => {
            let (row, why) = (attachment.clone(), cause(&failure));
            let impair =
                move |tx: &mut meta::Tx<'_>| attachment::set_impaired(tx, key_of(&row), Some(&why));
            services.db.write(impair).await?;
            announce(services, &volume, AttachEvent::Reattach, &failure).await
        }
        AttachmentState::Detaching => Ok(()),
    }
}

/// Whether an attachment is still the one it was, and not being ended.
fn is_standing(tx: &mut meta::Tx<'_>, attachment: &Attachment) -> ebs::Result<bool> {
    let Attachment { account, region, volume, .. } = attachment;
    let rows = attachment::of_volume(tx, account, region, volume)?;
    Ok(rows.iter().any(|row| is_same(row, attachment) && row.state != AttachmentState::Detaching))
}

fn lend(
    services: &Services,
    opened: &OpenedWith,
    (epoch, tenure): (u64, Tenure),
    force: Force,
) -> Result<LendVolume, AttachFailure> {
    let OpenedWith { volume, foreign, twin } = opened;
    let of_base = foreign.as_ref().filter(|foreign| foreign.guard == Guard::Service);
    let plain_key = match &volume.data_key {
        Some(key) if !volume.is_encrypted() => Some(services.plain.open(key)?),
        Some(_) => of_base.map(|foreign| services.plain.open(&foreign.key)).transpose()?,
        None => {
            let (table, column) = ("ebs_volumes", "wrapped_key");
            return Err(ebs::Error::Corrupt { table, column }.into());
        }
    };
    Ok(LendVolume {
        region: volume.region.clone(),
        volume: volume.id.clone(),
        size_bytes: u64::from(volume.size_gib) * GIB,
        base: base_of(volume),
        twin: twin.clone(),
        epoch,
        tenure,
        force,
        plain_key,
    })
}

/// Takes the volume back from its machine, and the epoch with it.
pub(super) async fn take_back(
    services: &Services,
    attachment: &Attachment,
    force: Force,
) -> Result<(), AttachFailure> {
    let request = CloseVolume {
        region: attachment.region.clone(),
        volume: attachment.volume.clone(),
        instance: attachment.instance.clone(),
        device: attachment.device.clone(),
        attached: attachment.attached,
        force,
    };
    Ok(services.host.take_back(request).await?)
}

/// Keeps volumes that machines had open when the server stopped for those machines, so that nobody
/// here opens them, also those that were being detached: their machines may still write out what they
/// have, and those whose machines have not reported yet: they serve before they report. One that cannot
/// be lent again is impaired, and kept from everybody.
pub(super) async fn recover(services: &Services) -> Result<(), AttachFailure> {
    for attachment in services.db.read(attachment::list_all).await? {
        if !is_remote(services, &attachment).await? {
            continue;
        }
        let is_open = match attachment.state {
            AttachmentState::Attached | AttachmentState::Detaching => true,
            AttachmentState::Attaching => {
                let (at, id) = (attachment.region.clone(), attachment.volume.clone());
                let noted = services.db.read(move |tx| fence::lease_ms(tx, &at, &id)).await?;
                // With 0 no machine has opened it.
                noted != Some(0)
            }
        };
        if is_open {
            hold(services, &attachment).await?;
        }
    }
    Ok(())
}

async fn hold(services: &Services, attachment: &Attachment) -> Result<(), AttachFailure> {
    let (at, wanted) = (attachment.region.clone(), attachment.volume.clone());
    let present_ms = services.host.lease_ms();
    let found = services
        .db
        .write(move |tx| {
            let volume = volume::get(tx, &at, &wanted)?;
            // The lease may have been made shorter since; one that was granted is as long as it was, and
            // may still run at a further start.
            let noted = fence::lease_ms(tx, &at, &wanted)?.unwrap_or(LEASE_SECONDS_MAX * 1000);
            let lease_ms = noted.max(present_ms);
            fence::note_lease(tx, &at, &wanted, lease_ms)?;
            Ok::<_, ebs::Error>((volume, fence::current(tx, &at, &wanted)?, lease_ms))
        })
        .await?;
    let (Some(volume), epoch, lease_ms) = found else { return Ok(()) };
    let Err(failure) = lend_again(services, &volume, epoch, lease_ms).await else { return Ok(()) };
    // One volume stops no server. Its machine may have it open all the same.
    tracing::error!(volume = %volume.id, failure = base::with_causes(&failure), "not lent again");
    let Volume { region, id, .. } = volume;
    services.host.keep(KeepVolume { region, volume: id, epoch, lease_ms }).await?;
    let (row, why) = (attachment.clone(), cause(&failure));
    let impair =
        move |tx: &mut meta::Tx<'_>| attachment::set_impaired(tx, key_of(&row), Some(&why));
    Ok(services.db.write(impair).await?)
}

async fn lend_again(
    services: &Services,
    volume: &Volume,
    epoch: u64,
    lease_ms: u32,
) -> Result<(), AttachFailure> {
    let opened = opened_with(services, volume).await?;
    let request = lend(services, &opened, (epoch, Tenure::Standing { lease_ms }), Force::No)?;
    services.host.lend(request).await?;
    switch_if_resealed(services, &opened.volume).await
}
