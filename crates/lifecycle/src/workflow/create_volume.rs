//! Makes a volume that was accepted usable: its data key, and what opens its base. No block is read, so
//! it takes as long for a snapshot of 64 TiB as for an empty one.
//!
//! The calls are those of spec 20 §C.3 in their order, in the name of the user who asked. When one
//! fails for good the volume vanishes, and only events say why (spec 20, C.6).

use super::export_snapshot::blocks_of;
use super::initialize_volume::InitializeVolume;
use super::keys::{EBS_BACK_END, FRONT_END, Keys, OpenGrant};
use crate::kinds::enqueue_initialize_volume;
use crate::port::blocks::{BaseRoot, VolumeBlocks};
use crate::port::kms::{
    CapturedIdentity, GrantConstraint, GrantOperation, GrantSpec, KmsFailure, KmsPort, Probe,
};
use crate::services::{Enforcement, Services, Trouble};
use base::{AccountId, Region, VolumeId};
use ebs::arns::{ec2_service_principal, volume_arn};
use ebs::foreign_base::{self, ForeignBase, Guard};
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
    match make(&keys(services, &*services.kms, job), job, &row).await {
        Ok(made) => {
            // What it reads where it was never written is decided only now.
            let base = made.created.base_root.clone().map(|root| BaseRoot { root, first: None });
            services.blocks.make_volume(&VolumeBlocks { base, ..blocks_of(&row) }).await?;
            finish(services, job, made).await
        }
        Err(trouble) if trouble.is_transient() => Err(trouble),
        Err(trouble) => vanish(services, job, &trouble).await,
    }
}

/// What a volume becomes.
struct Made {
    created: Created,
    /// Present when its base is under another data key.
    foreign: Option<ForeignBase>,
}

impl Made {
    fn of(created: Created) -> Self {
        Self { created, foreign: None }
    }
}

fn keys<'a>(services: &'a Services, kms: &'a dyn KmsPort, job: &'a CreateVolume) -> Keys<'a> {
    Keys {
        services,
        kms,
        account: &job.account,
        identity: &job.identity,
        resource: volume_arn(&job.region, &job.account, &job.volume),
        service_name: EBS_BACK_END.to_owned(),
    }
}

/// Makes the decisions of a volume without making the volume: `row` is none that exists, and `kms`
/// only rehearses.
///
/// # Errors
/// What would stop the volume, or stopped the rehearsal.
pub async fn rehearse(
    services: &Services,
    kms: &dyn KmsPort,
    job: &CreateVolume,
    row: &Volume,
) -> Result<(), Trouble> {
    make(&keys(services, kms, job), job, row).await.map(drop)
}

/// Every KMS call of a volume, in order. It changes no row and no block: a rehearsal takes the same way.
async fn make(keys: &Keys<'_>, job: &CreateVolume, row: &Volume) -> Result<Made, Trouble> {
    match (&row.kms_key_arn, &job.source) {
        (None, None) => Ok(Made::of(plain_blank(keys.services, job))),
        (None, Some(source)) => Ok(Made::of(Created {
            // A plain volume reads a plain snapshot as it is: the service holds both keys.
            data_key: source.data_key.clone(),
            base_root: row.base_root.clone(),
            continues_snapshot: source.owned,
        })),
        (Some(key_arn), Some(source))
            if source.owned && source.kms_key_arn.as_ref() == Some(key_arn) =>
        {
            let context_id = job.volume.as_str();
            let data_key = keys.rewrap(&job.region, &source.data_key, key_arn, context_id).await?;
            let base_root = row.base_root.clone();
            Ok(Made::of(Created { data_key, base_root, continues_snapshot: true }))
        }
        (Some(key_arn), None) => blank(keys, job, key_arn).await,
        (Some(key_arn), Some(source)) => {
            if keys.services.enforcement == Enforcement::Documented {
                documented(keys, job, source).await?;
            }
            above_foreign_base(keys, job, row, key_arn, source).await
        }
    }
}

/// What the documentation asks of the caller on the key of another account's snapshot, besides the
/// calls that are made (fas_map_ec2.json, `snapshot-other-key-or-shared`, rows that are not enforced).
async fn documented(
    keys: &Keys<'_>,
    job: &CreateVolume,
    source: &SourceSnapshot,
) -> Result<(), KmsFailure> {
    let SourceSnapshot { owned: false, kms_key_arn: Some(key_arn), data_key } = source else {
        return Ok(());
    };
    let (region, context_id) = (&job.region, data_key.context_id.clone());
    keys.may(region, Probe::DescribeKey { key_arn }).await?;
    keys.may(region, Probe::Decrypt(data_key.into())).await?;
    let service = ec2_service_principal(region);
    let grant = GrantSpec {
        key_arn: key_arn.clone(),
        grantee: service.clone(),
        retiring: service,
        operation: GrantOperation::Decrypt,
        constraint: GrantConstraint::Equals(context_id),
        name: None,
    };
    keys.may(region, Probe::CreateGrant(grant)).await
}

fn plain_blank(services: &Services, job: &CreateVolume) -> Created {
    let data_key = services.plain.generate(&*services.rng, job.volume.as_str());
    Created { data_key, base_root: None, continues_snapshot: false }
}

/// A new data key under the volume's KMS key, with nothing below it. The service opens it once, so that
/// a key that cannot be used fails the creation and not the first attachment.
async fn blank(keys: &Keys<'_>, job: &CreateVolume, key_arn: &str) -> Result<Made, Trouble> {
    let (data_key, grant) = new_key(keys, job, key_arn).await?;
    let opened = keys.open(&job.region, &data_key).await;
    keys.retire([grant]).await;
    opened?;
    Ok(Made::of(Created { data_key, base_root: None, continues_snapshot: false }))
}

/// A new data key above a base under another: the base's is wrapped for the volume, and the service is
/// granted what it needs to seal the base anew. Nothing is opened yet and no block is read.
async fn above_foreign_base(
    keys: &Keys<'_>,
    job: &CreateVolume,
    row: &Volume,
    key_arn: &str,
    source: &SourceSnapshot,
) -> Result<Made, Trouble> {
    let (key, guard) = match source.kms_key_arn {
        Some(_) => {
            let context_id = job.volume.as_str();
            let key = keys.rewrap(&job.region, &source.data_key, key_arn, context_id).await?;
            (key, Guard::Kms)
        }
        None => (source.data_key.clone(), Guard::Service),
    };
    let (data_key, grant) = new_key(keys, job, key_arn).await?;
    let foreign = ForeignBase {
        account: job.account.clone(),
        region: job.region.clone(),
        volume: job.volume.clone(),
        key,
        guard,
        grant_id: grant.id,
        former_root: None,
        waits_for: None,
        fails_snapshots: false,
    };
    let base_root = row.base_root.clone();
    let created = Created { data_key, base_root, continues_snapshot: false };
    Ok(Made { created, foreign: Some(foreign) })
}

/// F GenerateDataKeyWithoutPlaintext and F CreateGrant for the service. Repeated after a crash, the first
/// makes another key, under which nothing was sealed, and the second finds the grant it made.
async fn new_key(
    keys: &Keys<'_>,
    job: &CreateVolume,
    key_arn: &str,
) -> Result<(WrappedKey, OpenGrant), Trouble> {
    let (region, context_id) = (&job.region, job.volume.as_str());
    let data_key = keys.generate(region, key_arn, context_id).await?;
    let constraint = GrantConstraint::Subset(context_id.to_owned());
    let grant = keys.grant(region, FRONT_END, key_arn, GrantOperation::Decrypt, constraint).await?;
    Ok((data_key, grant))
}

async fn finish(services: &Services, job: &CreateVolume, made: Made) -> Result<(), Trouble> {
    let (job, envelope) = (job.clone(), services.envelope(&job.account, &job.region));
    let (filling, now) = (filling_of(&job), services.clock.now());
    let told =
        notification::create_volume(envelope, &job.volume, &job.request_id, &Outcome::Succeeded);
    services
        .db
        .write(move |tx| {
            if volume::set_created(tx, &job.region, &job.volume, &made.created)? {
                if let Some(foreign) = &made.foreign {
                    foreign_base::insert(tx, foreign)?;
                }
                put_event(tx, &told)?;
                let filling_row = initialization::get(tx, &job.region, &job.volume)?;
                let is_to_fill = filling_row.is_some_and(|row| row.completed.is_none());
                // A volume that is whole from the start still seals a foreign base anew.
                if is_to_fill || made.foreign.is_some() {
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
        look: 0,
    }
}

async fn vanish(services: &Services, job: &CreateVolume, trouble: &Trouble) -> Result<(), Trouble> {
    tracing::info!(
        volume = %job.volume,
        trouble = base::with_causes(&trouble),
        "a volume could not be created"
    );
    let mut events = failure_events(services, job, &trouble.event_cause());
    if let Some(id) = trouble.explain_id() {
        events = events.map(|event| event.with_explain_id(id));
    }
    // An attempt before may have made its file.
    services.blocks.remove_volume(&job.region, &job.volume).await?;
    let job = job.clone();
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
