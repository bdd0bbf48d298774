//! Makes a volume that was accepted usable: its data key, and its base under that key.
//!
//! The calls are those of spec 20 §C.3 in their order, in the name of the user who asked. When one
//! fails for good the volume vanishes, and only events say why (spec 20, C.6).

use super::initialize_volume::InitializeVolume;
use super::keys::{EBS_BACK_END, FRONT_END, Keys};
use super::progress::{Target, reported, resume};
use crate::kinds::enqueue_initialize_volume;
use crate::port::blocks::Reseal;
use crate::port::kms::{CapturedIdentity, GrantConstraint, GrantOperation, KmsFailure};
use crate::services::{Services, Trouble};
use base::{AccountId, Region, VolumeId};
use ebs::volume::{self, Created};
use ebs::{Volume, VolumeState, WrappedKey, initialization};
use events::notification::{self, Outcome};
use events::{ServiceEvent, put_event};
use meta::Tx;
use serde::{Deserialize, Serialize};

/// A volume to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateVolume {
    /// Where.
    pub region: Region,
    /// Whose.
    pub account: AccountId,
    /// Which; its row is `creating`.
    pub volume: VolumeId,
    /// Who asked.
    pub identity: CapturedIdentity,
    /// The request that asked.
    pub request_id: String,
    /// The snapshot it comes from, as it was then.
    pub source: Option<SourceSnapshot>,
}

/// What is needed of a snapshot that may be gone by now; its root is in the volume's row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceSnapshot {
    /// Whether it belongs to the volume's owner.
    pub owned: bool,
    /// Its KMS key; absent when it is plain.
    pub kms_key_arn: Option<String>,
    /// Its data key.
    pub data_key: WrappedKey,
}

/// Does the work. Errors are transient: run it again later.
///
/// # Errors
/// When the work cannot go on now.
pub async fn run(services: &Services, job: &CreateVolume) -> Result<(), Trouble> {
    let (region, id) = (job.region.clone(), job.volume.clone());
    let row = services.db.read(move |tx| volume::get(tx, &region, &id)).await?;
    let Some(row) = row.filter(|row| row.state == VolumeState::Creating) else { return Ok(()) };
    match make(services, job, &row).await {
        Ok(created) => finish(services, job, created).await,
        Err(trouble) if trouble.is_transient() => Err(trouble),
        Err(trouble) => vanish(services, job, &trouble).await,
    }
}

async fn make(services: &Services, job: &CreateVolume, row: &Volume) -> Result<Created, Trouble> {
    let keys = Keys {
        services,
        account: &job.account,
        identity: &job.identity,
        service_name: EBS_BACK_END.to_owned(),
    };
    match (&row.kms_key_arn, &job.source) {
        (None, None) => Ok(plain_blank(services, job)),
        (None, Some(source)) => Ok(Created {
            // A plain volume reads a plain snapshot as it is: the service holds both keys.
            data_key: source.data_key.clone(),
            base_root: row.base_root.clone(),
            continues_snapshot: source.owned,
        }),
        (Some(key_arn), Some(source))
            if source.owned && source.kms_key_arn.as_ref() == Some(key_arn) =>
        {
            let context_id = job.volume.as_str();
            let data_key = keys.rewrap(&job.region, &source.data_key, key_arn, context_id).await?;
            let base_root = row.base_root.clone();
            Ok(Created { data_key, base_root, continues_snapshot: true })
        }
        (Some(key_arn), source) => under_new_key(&keys, job, row, key_arn, source.as_ref()).await,
    }
}

fn plain_blank(services: &Services, job: &CreateVolume) -> Created {
    let data_key = services.plain.generate(&*services.rng, job.volume.as_str());
    Created { data_key, base_root: None, continues_snapshot: false }
}

/// A new data key; a base under another key or owner is opened and sealed again.
async fn under_new_key(
    keys: &Keys<'_>,
    job: &CreateVolume,
    row: &Volume,
    key_arn: &str,
    source: Option<&SourceSnapshot>,
) -> Result<Created, Trouble> {
    let (region, context_id) = (&job.region, job.volume.as_str());
    let rewrapped = match source {
        Some(source) if source.kms_key_arn.is_some() => {
            Some(keys.rewrap(region, &source.data_key, key_arn, context_id).await?)
        }
        Some(_) | None => None,
    };
    // Work that was interrupted goes on under the data key it began with.
    let data_key = match &row.data_key {
        Some(data_key) => data_key.clone(),
        None => {
            let data_key = keys.generate(region, key_arn, context_id).await?;
            remember_key(keys.services, job, data_key.clone()).await?;
            data_key
        }
    };
    let constraint = GrantConstraint::Subset(context_id.to_owned());
    let grant = keys.grant(region, FRONT_END, key_arn, GrantOperation::Decrypt, constraint).await?;
    let opened = async {
        let source_key = match &rewrapped {
            Some(rewrapped) => Some(keys.open(region, rewrapped).await?),
            None => None,
        };
        Ok::<_, KmsFailure>((keys.open(region, &data_key).await?, source_key))
    }
    .await;
    keys.retire([grant]).await;
    let (target_key, source_key) = opened?;
    let source_key = match (source_key, source) {
        (Some(key), _) => Some(key),
        (None, Some(source)) => Some(keys.services.plain.open(&source.data_key)?),
        (None, None) => None,
    };
    let base_root = match (source_key, &row.base_root) {
        (Some(source_key), Some(root)) => {
            let target = Target::Volume(job.volume.clone());
            let reseal = Reseal {
                source_region: region.clone(),
                source_root: root.clone(),
                source_key,
                target_region: region.clone(),
                target_key,
                target_id: context_id.to_owned(),
                earlier: None,
                resume: resume(keys.services, region, &target).await?,
            };
            let stored = reported(keys.services, region, target, |reporter| {
                let (blocks, reseal) = (&keys.services.blocks, &reseal);
                async move { blocks.reseal(reseal, &reporter).await }
            });
            Some(stored.await?.root)
        }
        (Some(_), None) | (None, Some(_)) | (None, None) => None,
    };
    Ok(Created { data_key, base_root, continues_snapshot: false })
}

async fn remember_key(
    services: &Services,
    job: &CreateVolume,
    data_key: WrappedKey,
) -> Result<(), Trouble> {
    let (region, id) = (job.region.clone(), job.volume.clone());
    services.db.write(move |tx| volume::set_data_key(tx, &region, &id, &data_key)).await?;
    Ok(())
}

async fn finish(services: &Services, job: &CreateVolume, created: Created) -> Result<(), Trouble> {
    let (job, envelope) = (job.clone(), services.envelope(&job.account, &job.region));
    let (filling, now) = (filling_of(&job), services.clock.now());
    let made =
        notification::create_volume(envelope, &job.volume, &job.request_id, &Outcome::Succeeded);
    services
        .db
        .write(move |tx| {
            if volume::set_created(tx, &job.region, &job.volume, &created)? {
                put_event(tx, &made)?;
                if initialization::get(tx, &job.region, &job.volume)?.is_some() {
                    enqueue_initialize_volume(tx, &filling, now)?;
                }
            }
            Ok(())
        })
        .await
}

/// What begins when the volume is usable.
fn filling_of(job: &CreateVolume) -> InitializeVolume {
    InitializeVolume {
        region: job.region.clone(),
        account: job.account.clone(),
        volume: job.volume.clone(),
    }
}

async fn vanish(services: &Services, job: &CreateVolume, trouble: &Trouble) -> Result<(), Trouble> {
    tracing::info!(volume = %job.volume, %trouble, "a volume could not be created");
    let (job, events) = (job.clone(), failure_events(services, job, &trouble.event_cause()));
    services.db.write(move |tx| vanish_in(tx, &job, &events)).await
}

/// What is told of a volume that could not be created: that, and that it is gone.
pub(crate) fn failure_events(
    services: &Services,
    job: &CreateVolume,
    cause: &str,
) -> [ServiceEvent; 2] {
    let envelope = || services.envelope(&job.account, &job.region);
    let outcome = Outcome::Failed(cause.to_owned());
    [
        notification::create_volume(envelope(), &job.volume, &job.request_id, &outcome),
        notification::delete_volume(envelope(), &job.volume, &job.request_id),
    ]
}

/// Removes the row and tells of it, unless the volume is no longer being created.
pub(crate) fn vanish_in(
    tx: &mut Tx<'_>,
    job: &CreateVolume,
    events: &[ServiceEvent],
) -> Result<(), Trouble> {
    if volume::remove(tx, &job.region, &job.volume, VolumeState::Creating)? {
        events.iter().try_for_each(|event| put_event(tx, event))?;
    }
    Ok(())
}
