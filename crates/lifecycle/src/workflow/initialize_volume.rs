//! Fills a volume from the snapshot it came from, a turn at a time (spec 01, "Lazy load").
//!
//! The volume is usable all the while; what is not there yet is read through. Its row keeps the
//! snapshot's blocks alive, so the snapshot may be deleted meanwhile.
//!
//! Where the snapshot is damaged the work stands still, says so, and looks again: what is missing may be
//! back. The guest's reads of just those blocks fail meanwhile.
//!
//! A base under another data key is sealed anew under the volume's. The service opens both keys on the
//! grant of the volume's creation. Then, each step safe to be done again: the row gets the new root and
//! keeps the old one alive; whoever has the volume open reads from the new one; the grant is given back;
//! the row forgets the base's key and the old root.

use super::export_snapshot::blocks_of;
use super::keys::{EBS_BACK_END, OpenGrant, ServiceKeys};
use super::open_keys::{self, Opened};
use super::progress::{Target, Wanted, reported, resume};
use crate::jobs;
use crate::port::blocks::{BlockError, FillVolume, Filled, ResealBase, Resealed};
use crate::port::kms::VolumeKey;
use crate::services::{Services, Trouble};
use base::{AccountId, Region, Timestamp, VolumeId};
use ebs::arns::volume_arn;
use ebs::foreign_base::{self, ForeignBase, Guard};
use ebs::{Initialization, Volume, VolumeState, first_touch, initialization, volume};
use events::notification;
use events::put_event;
use serde::{Deserialize, Serialize};

/// When work that waits for a key, or for blocks that are damaged, looks again.
const LOOK_AGAIN_SECONDS: i64 = 60;

/// A volume to be filled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitializeVolume {
    /// Where.
    pub region: Region,
    /// Whose.
    pub account: AccountId,
    /// Which.
    pub volume: VolumeId,
    /// How often it has waited.
    #[serde(default)]
    pub look: u32,
}

/// Whether a turn was the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Nothing is left to do.
    Last,
    /// There is more.
    More,
    /// A key cannot be used at present, or blocks are damaged; look again then.
    Waits(Timestamp),
}

/// The keys of volumes whose bases are being sealed anew.
pub type OpenKeys = open_keys::OpenKeys<VolumeId, KeyPair>;

/// The keys of a volume and of its base.
pub struct KeyPair {
    volume: VolumeKey,
    base: VolumeKey,
}

/// Does a turn of the work.
///
/// # Errors
/// When the rows or the block store fail.
pub async fn run(
    services: &Services,
    open_keys: &OpenKeys,
    job: &InitializeVolume,
) -> Result<Turn, Trouble> {
    // However this turn ends, it has them alone.
    let open = open_keys.take(&job.volume);
    let (region, id) = (job.region.clone(), job.volume.clone());
    let found = services
        .db
        .read(move |tx| {
            let Some(row) = volume::get(tx, &region, &id)? else { return Ok(None) };
            let foreign = foreign_base::get(tx, &region, &id)?;
            // Snapshots of a deleted volume wait until its base is sealed, and for nothing else of this.
            let is_wanted = match row.state {
                VolumeState::Deleting => foreign.is_some() && volume::needs_base(tx, &row)?,
                _ => true,
            };
            let filling = initialization::get(tx, &region, &id)?.filter(|_| is_wanted);
            Ok::<_, ebs::Error>(filling.map(|filling| (row, filling, foreign)))
        })
        .await?;
    let Some((row, filling, foreign)) = found else { return Ok(Turn::Last) };
    // What was created with a credit is whole from the start, and yet may have a foreign base to seal.
    if filling.completed.is_some() && foreign.is_none() {
        return Ok(Turn::Last);
    }
    match foreign {
        None => fill(services, job, &row, filling).await,
        Some(foreign) if foreign.is_under_its_key() => {
            let sealing = Sealing { services, job, row: &row, foreign: &foreign };
            sealing.turn(open, open_keys, &filling).await
        }
        Some(foreign) => Sealing { services, job, row: &row, foreign: &foreign }.end().await,
    }
}

async fn fill(
    services: &Services,
    job: &InitializeVolume,
    row: &Volume,
    filling: Initialization,
) -> Result<Turn, Trouble> {
    let (region, root) = (row.region.clone(), row.base_root.clone().unwrap_or_default());
    let first_touches = services.db.read(move |tx| first_touch::get(tx, &region, &root)).await?;
    let fill = FillVolume {
        volume: blocks_of(row),
        rate_mib: filling.rate_mib,
        first_touches,
        resume: filling.checkpoint,
    };
    match services.blocks.fill_volume(&fill, &Wanted::of_this_job()).await {
        Ok(Filled::Wholly) => {
            complete(services, job).await?;
            Ok(Turn::Last)
        }
        Ok(Filled::UpTo { resume, percent }) => advance(services, job, percent, resume).await,
        Err(error @ BlockError::Damaged(_)) => {
            let cause = damage(job, &error, filling.waits_for.as_deref());
            let job = job.clone();
            let say = move |tx: &mut meta::Tx<'_>| {
                initialization::set_waits_for(tx, &job.region, &job.volume, &cause)
            };
            services.db.write(say).await?;
            Ok(look_again(services))
        }
        Err(error) => Err(error.into()),
    }
}

/// What is damaged, in the words the row has for it; logged where that is new.
fn damage(job: &InitializeVolume, error: &BlockError, said: Option<&str>) -> String {
    let cause = base::with_causes(error);
    if said != Some(&cause) {
        tracing::error!(volume = %job.volume, cause, "a volume cannot be filled any further");
    }
    cause
}

fn look_again(services: &Services) -> Turn {
    Turn::Waits(services.clock.now().plus_seconds(LOOK_AGAIN_SECONDS))
}

async fn advance(
    services: &Services,
    job: &InitializeVolume,
    percent: u8,
    resume: Vec<u8>,
) -> Result<Turn, Trouble> {
    let job = job.clone();
    let advance = move |tx: &mut meta::Tx<'_>| {
        let (region, volume, percent) = (&job.region, &job.volume, u32::from(percent));
        let wanted = initialization::advance(tx, region, volume, percent, &resume)?;
        Ok(if wanted { Turn::More } else { Turn::Last })
    };
    services.db.write(advance).await
}

/// Ends the initialization, and with it whatever the volume knew of a foreign base.
async fn complete(services: &Services, job: &InitializeVolume) -> Result<(), Trouble> {
    let (job, now) = (job.clone(), services.clock.now());
    let told =
        notification::initialize_volume(services.envelope(&job.account, &job.region), &job.volume);
    let complete = move |tx: &mut meta::Tx<'_>| {
        foreign_base::remove(tx, &job.region, &job.volume)?;
        if initialization::complete(tx, &job.region, &job.volume, now)? {
            put_event(tx, &told)?;
        }
        Ok(())
    };
    services.db.write(complete).await
}

/// A base to be sealed anew.
struct Sealing<'a> {
    services: &'a Services,
    job: &'a InitializeVolume,
    row: &'a Volume,
    foreign: &'a ForeignBase,
}

impl Sealing<'_> {
    async fn turn(
        &self,
        open: Option<Opened<KeyPair>>,
        open_keys: &OpenKeys,
        filling: &Initialization,
    ) -> Result<Turn, Trouble> {
        let open = match open {
            Some(open) => open,
            None => match self.open_keys().await {
                Ok(keys) => Opened::new(keys),
                Err(Trouble::Kms(failure)) if !failure.is_transient() => {
                    return self.wait(failure.to_string()).await;
                }
                Err(trouble) => return Err(trouble),
            },
        };
        let (region, target) = (&self.job.region, Target::Volume(self.job.volume.clone()));
        let reseal = ResealBase {
            volume: blocks_of(self.row),
            base_key: open.keys.base.duplicate(),
            volume_key: open.keys.volume.duplicate(),
            rate_mib: filling.rate_mib,
            resume: resume(self.services, region, &target).await?,
        };
        let resealed = reported(self.services, region, target, |reporter| {
            let (blocks, reseal) = (&self.services.blocks, &reseal);
            async move { blocks.reseal_base(reseal, &reporter).await }
        });
        let resealed = match resealed.await {
            Ok(resealed) => resealed,
            Err(error @ BlockError::Damaged(_)) => {
                let cause = damage(self.job, &error, self.foreign.waits_for.as_deref());
                return self.stand_still(cause).await;
            }
            Err(error) => return Err(error.into()),
        };
        match resealed {
            Resealed::UpTo { percent } => {
                open_keys.keep(&self.job.volume, open);
                if filling.completed.is_some() {
                    return Ok(Turn::More);
                }
                advance(self.services, self.job, percent, Vec::new()).await
            }
            Resealed::Wholly(stored) => {
                let (job, root) = (self.job.clone(), stored.root);
                let set = move |tx: &mut meta::Tx<'_>| {
                    foreign_base::set_resealed(tx, &job.region, &job.volume, &root)
                };
                if self.services.db.write(set).await? { self.end().await } else { Ok(Turn::Last) }
            }
        }
    }

    /// S Decrypt of both keys; that of a plain base is the service's own.
    async fn open_keys(&self) -> Result<KeyPair, Trouble> {
        let Some(own) = &self.row.data_key else {
            let (table, column) = ("ebs_volumes", "wrapped_key");
            return Err(ebs::Error::Corrupt { table, column }.into());
        };
        let (kms, region) = (self.service_keys(), &self.job.region);
        let base = match self.foreign.guard {
            Guard::Kms => kms.open(region, &self.foreign.key).await?,
            Guard::Service => self.services.plain.open(&self.foreign.key)?,
        };
        let volume = kms.open(region, own).await?;
        if self.foreign.waits_for.is_some() {
            self.say(None).await?;
        }
        Ok(KeyPair { volume, base })
    }

    /// The volume stays usable where its own attachment has its keys; only this work waits.
    async fn wait(&self, cause: String) -> Result<Turn, Trouble> {
        tracing::warn!(volume = %self.job.volume, cause, "the base of a volume waits for its key");
        self.say(Some(cause)).await?;
        Ok(look_again(self.services))
    }

    /// Snapshots of the volume fail meanwhile.
    async fn stand_still(&self, cause: String) -> Result<Turn, Trouble> {
        let job = self.job.clone();
        let say = move |tx: &mut meta::Tx<'_>| {
            foreign_base::fail_snapshots(tx, &job.region, &job.volume, &cause)
        };
        self.services.db.write(say).await?;
        Ok(look_again(self.services))
    }

    async fn say(&self, cause: Option<String>) -> Result<(), Trouble> {
        let job = self.job.clone();
        let say = move |tx: &mut meta::Tx<'_>| {
            foreign_base::set_waits_for(tx, &job.region, &job.volume, cause.as_deref())
        };
        Ok(self.services.db.write(say).await?)
    }

    /// The volume has a base of its own: whatever still points to the other is taken back.
    async fn end(&self) -> Result<Turn, Trouble> {
        let (region, id) = (self.job.region.clone(), self.job.volume.clone());
        let row = self.services.db.read(move |tx| volume::get(tx, &region, &id)).await?;
        let Some(row) = row else { return Ok(Turn::Last) };
        self.services.blocks.switch_base(&blocks_of(&row)).await?;
        if let Some(grant) = grant_of(&row, self.foreign) {
            self.service_keys().retire(&grant).await;
        }
        complete(self.services, self.job).await?;
        let (account, region) = (self.job.account.clone(), self.job.region.clone());
        let now = self.services.clock.now();
        // Snapshots of the volume wait for this.
        self.services.db.write(move |tx| jobs::hasten(tx, &account, &region, now)).await?;
        Ok(Turn::Last)
    }

    fn service_keys(&self) -> ServiceKeys<'_> {
        let InitializeVolume { region, account, volume, .. } = self.job;
        let resource = volume_arn(region, account, volume);
        let service_name = EBS_BACK_END.to_owned();
        ServiceKeys { kms: &*self.services.kms, account, resource, service_name }
    }
}

/// The service's grant on the key of a volume with a foreign base.
pub(super) fn grant_of(row: &Volume, foreign: &ForeignBase) -> Option<OpenGrant> {
    let key_arn = row.kms_key_arn.clone()?;
    Some(OpenGrant { key_arn, region: row.region.clone(), id: foreign.grant_id.clone() })
}
