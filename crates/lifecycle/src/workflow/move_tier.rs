//! Moves a snapshot between the standard tier and the archive, a turn at a time (spec 07).
//!
//! The blocks are written whole into the tier the snapshot goes to and are read back there; then one
//! transaction puts the new root in the place of the old, tells of it, and leaves the old for a
//! collection. Whenever the server dies before it, the snapshot is where it was and the work goes on at
//! its last checkpoint; afterwards it is where it goes to. Pages are moved as they are sealed, so no
//! key is asked for and a disabled key stops nothing.
//!
//! A copy that is being made of a snapshot is finished before the snapshot is taken from it.

use super::progress::{Target, reported, resume};
use super::{Turn, fast_restore};
use crate::jobs;
use crate::kinds::enqueue_collect;
use crate::port::blocks::{Repack, Repacked, Stored};
use crate::services::{INTERNAL_CAUSE, Services, Trouble};
use base::{AccountId, Region, SnapshotId, Timestamp};
use ebs::{Snapshot, StorageTier, Tiering, TieringOperation, snapshot, tiering};
use events::event::Envelope;
use events::notification::{self, ArnForm, Outcome, Span, TierEvent};
use events::{ServiceEvent, put_event};
use meta::Tx;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Seconds in a day.
const DAY_SECONDS: i64 = 86_400;

/// A snapshot to be moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveTier {
    /// Where.
    pub region: Region,
    /// Whose.
    pub account: AccountId,
    /// Which.
    pub snapshot: SnapshotId,
    /// Which of its moves, as its row counts them.
    pub number: u32,
}

/// When a temporary restore that is complete `now` ends.
pub fn expiry(now: Timestamp, days: u32) -> Timestamp {
    now.plus_seconds(i64::from(days) * DAY_SECONDS)
}

/// Does a turn of the work.
///
/// # Errors
/// When the work cannot go on now.
pub async fn run(services: &Arc<Services>, job: &MoveTier) -> Result<Turn, Trouble> {
    let wanted = job.clone();
    let found = services.db.read(move |tx| under_way(tx, &wanted)).await?;
    let Some((row, tiering)) = found else { return Ok(Turn::Last) };
    match repack(services, &row, &tiering).await {
        Ok(Repacked::InPart) => Ok(Turn::More),
        Ok(Repacked::Wholly(stored)) => {
            let (ended, here) = (Ended::new(services, tiering, Ok(stored)), Arc::clone(services));
            services.db.write(move |tx| ended.write(&here, tx)).await?;
            Ok(Turn::Last)
        }
        Err(trouble) if trouble.is_transient() => Err(trouble),
        Err(trouble) => {
            tracing::error!(
                snapshot = %job.snapshot,
                trouble = base::with_causes(&trouble),
                "a snapshot keeps its tier"
            );
            let ended = Ended::new(services, tiering, Err(trouble.event_cause()));
            let here = Arc::clone(services);
            services.db.write(move |tx| ended.write(&here, tx)).await?;
            Ok(Turn::Last)
        }
    }
}

/// The snapshot and its move, unless either is gone or the move has ended.
fn under_way(tx: &mut Tx<'_>, job: &MoveTier) -> ebs::Result<Option<(Snapshot, Tiering)>> {
    let row = snapshot::get(tx, &job.region, &job.snapshot)?;
    let tiering = tiering::get(tx, &job.region, &job.snapshot)?;
    let tiering = tiering.filter(|found| found.number == job.number && found.is_under_way());
    Ok(row.zip(tiering))
}

async fn repack(
    services: &Services,
    row: &Snapshot,
    tiering: &Tiering,
) -> Result<Repacked, Trouble> {
    let (table, column, root) = match tiering.operation.target() {
        StorageTier::Archive => ("ebs_snapshots", "root", &row.root),
        StorageTier::Standard => ("ebs_snapshot_tiers", "archive_root", &tiering.archive_root),
    };
    let root = root.clone().ok_or(ebs::Error::Corrupt { table, column })?;
    let (region, target) = (&row.region, Target::Tier(tiering.clone()));
    let repack = Repack {
        region: region.clone(),
        root,
        to: tiering.operation.target(),
        resume: resume(services, region, &target).await?,
    };
    let repacked = reported(services, region, target, |reporter| {
        let (blocks, repack) = (&services.blocks, &repack);
        async move { blocks.repack(repack, &reporter).await }
    });
    Ok(repacked.await?)
}

/// Ends a move that was tried too often.
///
/// # Errors
/// When the rows fail.
pub fn give_up(services: &Services, tx: &mut Tx<'_>, job: &MoveTier) -> Result<(), Trouble> {
    let Some((_, tiering)) = under_way(tx, job)? else { return Ok(()) };
    Ended::new(services, tiering, Err(INTERNAL_CAUSE.to_owned())).write(services, tx)
}

/// The end of a move, with all that is written at it.
struct Ended {
    tiering: Tiering,
    outcome: Result<Stored, String>,
    at: Timestamp,
    envelope: Envelope,
}

impl Ended {
    fn new(services: &Services, tiering: Tiering, outcome: Result<Stored, String>) -> Self {
        let envelope = services.envelope(&tiering.account, &tiering.region);
        Self { tiering, outcome, at: services.clock.now(), envelope }
    }

    fn write(&self, services: &Services, tx: &mut Tx<'_>) -> Result<(), Trouble> {
        let Self { tiering, outcome, at, .. } = self;
        let expires = match (outcome, tiering.restore_days) {
            (Ok(_), Some(days)) => Some(expiry(*at, days)),
            (Ok(_), None) | (Err(_), _) => None,
        };
        let ended_now = match (outcome, tiering.operation) {
            (Ok(stored), TieringOperation::Archival) => {
                until_not_copied(tx, &tiering.region, &tiering.snapshot)?;
                tiering::set_archived(tx, tiering, &stored.root, *at)?
            }
            (
                Ok(stored),
                TieringOperation::TemporaryRestore | TieringOperation::PermanentRestore,
            ) => tiering::set_restored(tx, tiering, &stored.root, expires, *at)?,
            (Err(cause), _) => tiering::set_failed(tx, tiering, cause)?,
        };
        if ended_now {
            put_event(tx, &self.event(expires))?;
            fast_restore::end_unusable(services, tx, &tiering.region, &tiering.snapshot)?;
        }
        // What is given up is looked at also when the snapshot was deleted meanwhile.
        enqueue_collect(tx, &tiering.account, &tiering.region, *at)?;
        jobs::hasten(tx, &tiering.account, &tiering.region, *at)?;
        Ok(())
    }

    fn event(&self, expires: Option<Timestamp>) -> ServiceEvent {
        let told = match self.tiering.operation {
            TieringOperation::Archival => TierEvent::Archive,
            TieringOperation::TemporaryRestore => TierEvent::TemporaryRestore { expires },
            TieringOperation::PermanentRestore => TierEvent::PermanentRestore,
        };
        let outcome = match &self.outcome {
            Ok(_) => Outcome::Succeeded,
            Err(cause) => Outcome::Failed(cause.clone()),
        };
        let span = Span { start: self.tiering.started, end: self.at };
        let (envelope, id) = (self.envelope.clone(), &self.tiering.snapshot);
        notification::snapshot_tier(envelope, ArnForm::Regular, id, told, span, &outcome)
    }
}

/// What is told of a restore that moved nothing, because the snapshot was restored already.
pub fn restored_again(
    services: &Services,
    tiering: &Tiering,
    expires: Option<Timestamp>,
    now: Timestamp,
) -> ServiceEvent {
    let told = match expires {
        Some(_) => TierEvent::TemporaryRestore { expires },
        None => TierEvent::PermanentRestore,
    };
    let envelope = services.envelope(&tiering.account, &tiering.region);
    let (span, outcome) = (Span { start: now, end: now }, Outcome::Succeeded);
    let (form, id) = (ArnForm::Regular, &tiering.snapshot);
    notification::snapshot_tier(envelope, form, id, told, span, &outcome)
}

fn until_not_copied(tx: &mut Tx<'_>, region: &Region, id: &SnapshotId) -> Result<(), Trouble> {
    match snapshot::count_pending_copies_of(tx, region, id)? {
        0 => Ok(()),
        _ => Err(Trouble::NotYet { what: "copies of the snapshot" }),
    }
}

/// Ends the temporary restores of a region that are due. One that a copy still reads is left for the
/// next time.
///
/// # Errors
/// When the rows fail; the rest is done by the next call.
pub async fn expire_due(services: &Arc<Services>, region: &Region) -> Result<(), Trouble> {
    let (here, now) = (region.clone(), services.clock.now());
    let due = services.db.read(move |tx| tiering::expired(tx, &here, now)).await?;
    for tiering in due {
        let ended = services.db.write(expiry_of(services, tiering, now)).await;
        match ended {
            Ok(()) | Err(Trouble::NotYet { .. }) => {}
            Err(trouble) => return Err(trouble),
        }
    }
    Ok(())
}

fn expiry_of(
    services: &Arc<Services>,
    tiering: Tiering,
    now: Timestamp,
) -> impl Fn(&mut Tx<'_>) -> Result<(), Trouble> + Send + 'static {
    let envelope = services.envelope(&tiering.account, &tiering.region);
    let span = Span { start: tiering.expires.unwrap_or(now), end: now };
    let (form, told, outcome) = (ArnForm::Regular, TierEvent::RestoreExpiry, Outcome::Succeeded);
    let event =
        notification::snapshot_tier(envelope, form, &tiering.snapshot, told, span, &outcome);
    let services = Arc::clone(services);
    move |tx| {
        until_not_copied(tx, &tiering.region, &tiering.snapshot)?;
        if tiering::expire(tx, &tiering, now)? {
            put_event(tx, &event)?;
            fast_restore::end_unusable(&services, tx, &tiering.region, &tiering.snapshot)?;
            enqueue_collect(tx, &tiering.account, &tiering.region, now)?;
        }
        Ok(())
    }
}
