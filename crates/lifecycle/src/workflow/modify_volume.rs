//! Makes a volume larger, or another type, while it is in use.
//!
//! The log grows first and the row follows, so that a row never promises bytes that are not there.
//! What a volume may do per second is a number in the rows: nothing has to move for it, and a
//! modification is `completed` as soon as it is `optimizing`.

use crate::services::{INTERNAL_CAUSE, Services, Trouble};
use crate::workflow::export_snapshot::blocks_of;
use base::{AccountId, GIB, Region, Timestamp, VolumeId};
use ebs::modification::{self, Modification, ModificationState, Step};
use ebs::{Volume, volume};
use events::notification::{self, ModificationEvent};
use events::{ServiceEvent, put_event};
use meta::Tx;
use serde::{Deserialize, Serialize};

/// A modification to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModifyVolume {
    /// The volume's owner.
    pub account: AccountId,
    /// Where.
    pub region: Region,
    /// The volume.
    pub volume: VolumeId,
    /// Which of its modifications.
    pub number: u32,
}

/// Does the work. Errors are transient: run it again later.
///
/// # Errors
/// When the work cannot go on now.
pub async fn run(services: &Services, job: &ModifyVolume) -> Result<(), Trouble> {
    let Some((volume, modification)) = read(services, job).await? else { return Ok(()) };
    if modification.state == ModificationState::Modifying {
        // A cut between the log's growth and the row's would be a snapshot larger than it says.
        let _turn = services.cuts.begin(&job.region, &job.volume).await;
        match grow(services, &volume, &modification).await {
            Ok(()) => apply(services, &modification).await?,
            Err(trouble) if trouble.is_transient() => return Err(trouble),
            Err(trouble) => {
                tracing::error!(
                    volume = %job.volume,
                    trouble = base::with_causes(&trouble),
                    "a volume could not be modified"
                );
                let written = failed(services, trouble.event_cause());
                return take(services, &modification, written).await;
            }
        }
    }
    complete(services, &modification).await
}

async fn read(
    services: &Services,
    job: &ModifyVolume,
) -> Result<Option<(Volume, Modification)>, Trouble> {
    let job = job.clone();
    services
        .db
        .read(move |tx| {
            let ModifyVolume { account, region, volume, number } = &job;
            let Some(row) = volume::get(tx, region, volume)? else { return Ok(None) };
            let history = modification::of_volume(tx, account, region, volume)?;
            let found = history.into_iter().find(|modification| modification.number == *number);
            Ok(found.map(|modification| (row, modification)))
        })
        .await
}

async fn grow(
    services: &Services,
    volume: &Volume,
    modification: &Modification,
) -> Result<(), Trouble> {
    if modification.target.size_gib > modification.original.size_gib {
        let size_bytes = u64::from(modification.target.size_gib) * GIB;
        services.blocks.resize(&blocks_of(volume), size_bytes).await?;
    }
    Ok(())
}

/// What one step writes, for whoever is in a transaction already.
struct Written {
    from: ModificationState,
    to: ModificationState,
    event: ModificationEvent,
    ended: Option<Timestamp>,
}

async fn apply(services: &Services, modification: &Modification) -> Result<(), Trouble> {
    let written = Written {
        from: ModificationState::Modifying,
        to: ModificationState::Optimizing,
        event: ModificationEvent::Optimizing,
        ended: None,
    };
    take(services, modification, written).await
}

async fn complete(services: &Services, modification: &Modification) -> Result<(), Trouble> {
    let written = Written {
        from: ModificationState::Optimizing,
        to: ModificationState::Completed,
        event: ModificationEvent::Completed,
        ended: Some(services.clock.now()),
    };
    take(services, modification, written).await
}

fn failed(services: &Services, cause: String) -> Written {
    Written {
        from: ModificationState::Modifying,
        to: ModificationState::Failed,
        event: ModificationEvent::Failed(cause),
        ended: Some(services.clock.now()),
    }
}

/// Ends a modification that was tried too often.
///
/// # Errors
/// When the rows fail.
pub(crate) fn give_up(
    services: &Services,
    tx: &mut Tx<'_>,
    job: &ModifyVolume,
) -> Result<(), Trouble> {
    let ModifyVolume { account, region, volume, number } = job;
    let history = modification::of_volume(tx, account, region, volume)?;
    let Some(found) = history.iter().find(|found| found.number == *number) else { return Ok(()) };
    let written = failed(services, INTERNAL_CAUSE.to_owned());
    let envelope = services.envelope(account, region);
    let told = notification::modify_volume(envelope, volume, &written.event);
    write(tx, found, &written, &told)
}

/// Takes one step, with all that belongs to it, once.
async fn take(
    services: &Services,
    modification: &Modification,
    written: Written,
) -> Result<(), Trouble> {
    let Modification { account, region, volume, .. } = modification;
    let envelope = services.envelope(account, region);
    let told = notification::modify_volume(envelope, volume, &written.event);
    let row = modification.clone();
    services.db.write(move |tx| write(tx, &row, &written, &told)).await
}

fn write(
    tx: &mut Tx<'_>,
    row: &Modification,
    written: &Written,
    told: &ServiceEvent,
) -> Result<(), Trouble> {
    let (from, to, ended) = (written.from, written.to, written.ended);
    let status_message = match &written.event {
        ModificationEvent::Failed(cause) => Some(cause.as_str()),
        ModificationEvent::Optimizing | ModificationEvent::Completed => None,
    };
    let progress = if to == ModificationState::Completed { 100 } else { 0 };
    if !modification::take_step(tx, row, &Step { from, to, status_message, progress, ended })? {
        return Ok(());
    }
    if to == ModificationState::Optimizing {
        volume::set_provision(tx, &row.region, &row.volume, &row.target)?;
    }
    Ok(put_event(tx, told)?)
}
