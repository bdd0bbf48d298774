//! Fast snapshot restore: makes twins of snapshots, a turn at a time, and ends what is not wanted any more
//! (spec 07).
//!
//! A twin is all of a snapshot once more, in a store of its own beside the live volumes. It is written and
//! proven as an archive is, as it is sealed, so no key is asked for and a disabled key stops nothing. There
//! is one for all accounts and zones that want it: the first begins it, the last that ends gives it up.
//!
//! What ends a wish is written in the transaction that ends its cause: the deletion of the snapshot, the
//! end of its sharing, its archival.

use super::Turn;
use super::progress::{Target, reported, resume};
use crate::kinds::{cancel_pin_twin, enqueue_collect, enqueue_end_fast_restore, enqueue_pin_twin};
use crate::port::blocks::{PinTwin as Pin, Pinned};
use crate::services::{Services, Trouble};
use base::{AccountId, Region, SnapshotId, Timestamp};
use ebs::fast_restore::{self, SHOWN_SECONDS};
use ebs::visibility::Visibility;
use ebs::{FastRestore, FastRestoreState, Snapshot, Twin, permission, snapshot, twin};
use events::notification::{self, ArnForm};
use events::put_event;
use meta::Tx;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Why a wish was accepted or its end begun (EBS guide, "View the fast snapshot restore state").
pub const BY_USER: &str = "Client.UserInitiated";
/// Why it went on by itself.
const BY_ITSELF: &str = "Client.UserInitiated - Lifecycle state transition";
/// The snapshot is gone, as its account sees it.
const GONE: &str = "Client.InvalidSnapshot.InvalidState - The requested snapshot was deleted or \
                    access permissions were revoked";
/// The snapshot is in the archive.
const ARCHIVED: &str = "Client.InvalidSnapshot.InvalidState - The requested snapshot was archived";
/// Its twin has no room.
const NO_ROOM: &str = "Server.InsufficientCapacity - There is not enough space for the snapshot";
/// Its twin cannot be made.
const INTERNAL: &str = "Server.InternalError - An internal error has occurred";

/// A twin to be made, or a wish for one that is there to be admitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinTwin {
    /// Where.
    pub region: Region,
    /// Whose snapshot.
    pub account: AccountId,
    /// Which.
    pub snapshot: SnapshotId,
    /// Which attempt at its twin: the request that asked.
    pub run: String,
}

/// A wish to be ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndFastRestore {
    /// Where.
    pub region: Region,
    /// Whose wish.
    pub account: AccountId,
    /// For which snapshot.
    pub snapshot: SnapshotId,
    /// In which zone.
    pub zone: String,
    /// The request that asked.
    pub run: String,
}

/// Accepts a wish; `run` is the request that brings it.
///
/// # Errors
/// When the rows fail.
pub fn enable(
    services: &Services,
    tx: &mut Tx<'_>,
    of: &Snapshot,
    wish: &FastRestore,
    run: &str,
) -> Result<(), Trouble> {
    let (region, now) = (&of.region, wish.enabling);
    write(services, tx, wish)?;
    let job = PinTwin {
        region: region.clone(),
        account: of.account.clone(),
        snapshot: of.id.clone(),
        run: run.to_owned(),
    };
    match twin::get(tx, region, &of.id)? {
        // The work that makes it serves this wish too.
        Some(Twin { root: None, .. }) => return Ok(()),
        Some(Twin { root: Some(_), .. }) => {}
        None => {
            let (table, column) = ("ebs_snapshots", "root");
            let root = of.root.clone().ok_or(ebs::Error::Corrupt { table, column })?;
            let twin = Twin {
                account: of.account.clone(),
                region: region.clone(),
                snapshot: of.id.clone(),
                run: run.to_owned(),
                progress: 0,
                source_root: root,
                root: None,
            };
            twin::insert(tx, &twin)?;
        }
    }
    Ok(enqueue_pin_twin(tx, &job, now)?)
}

/// Writes a wish and tells of its state.
fn write(services: &Services, tx: &mut Tx<'_>, wish: &FastRestore) -> Result<(), Trouble> {
    fast_restore::put(tx, wish)?;
    let envelope = services.envelope(&wish.account, &wish.region);
    let told = notification::fast_restore(
        envelope,
        ArnForm::Regular,
        &wish.snapshot,
        wish.state.as_str(),
        &wish.zone,
        &wish.reason,
    );
    Ok(put_event(tx, &told)?)
}

/// Brings a wish into another state.
fn step(
    services: &Services,
    tx: &mut Tx<'_>,
    wish: &FastRestore,
    (state, reason): (FastRestoreState, &str),
    now: Timestamp,
) -> Result<FastRestore, Trouble> {
    let next = wish.in_state(state, reason, now);
    write(services, tx, &next)?;
    Ok(next)
}

/// Begins the end of a wish; `run` is the request that asks.
///
/// # Errors
/// When the rows fail.
pub fn disable(
    services: &Services,
    tx: &mut Tx<'_>,
    wish: &FastRestore,
    run: &str,
    now: Timestamp,
) -> Result<FastRestore, Trouble> {
    let ending = step(services, tx, wish, (FastRestoreState::Disabling, BY_USER), now)?;
    let job = EndFastRestore {
        region: wish.region.clone(),
        account: wish.account.clone(),
        snapshot: wish.snapshot.clone(),
        zone: wish.zone.clone(),
        run: run.to_owned(),
    };
    enqueue_end_fast_restore(tx, &job, now)?;
    Ok(ending)
}

/// Does a turn of the making of a twin.
///
/// # Errors
/// When the work cannot go on now.
pub async fn run(services: &Arc<Services>, job: &PinTwin) -> Result<Turn, Trouble> {
    let (here, wanted) = (Arc::clone(services), job.clone());
    let begun = services.db.write(move |tx| begin(&here, tx, &wanted)).await?;
    let Some(twin) = begun else { return Ok(Turn::Last) };
    let outcome = match pin(services, &twin).await {
        Ok(Pinned::InPart) => return Ok(Turn::More),
        Ok(Pinned::Wholly(stored)) => Ok(stored.root),
        Ok(Pinned::NoRoom) => Err(NO_ROOM),
        Err(trouble) if trouble.is_transient() => return Err(trouble),
        Err(trouble) => {
            tracing::error!(
                snapshot = %job.snapshot,
                trouble = base::with_causes(&trouble),
                "a twin cannot be made"
            );
            Err(INTERNAL)
        }
    };
    let here = Arc::clone(services);
    let end = move |tx: &mut Tx<'_>| match &outcome {
        Ok(root) => made(&here, tx, &twin, root),
        Err(reason) => fail(&here, tx, &twin, reason),
    };
    services.db.write(end).await?;
    Ok(Turn::Last)
}

/// Has wishes show that their twin is being made. Answers the twin if there is something to do for it.
fn begin(services: &Services, tx: &mut Tx<'_>, job: &PinTwin) -> Result<Option<Twin>, Trouble> {
    let Some(twin) = twin::get(tx, &job.region, &job.snapshot)? else { return Ok(None) };
    if twin.root.is_some() {
        admit(services, tx, &twin)?;
        return Ok(None);
    }
    if twin.run != job.run {
        return Ok(None);
    }
    let now = services.clock.now();
    for wish in fast_restore::of_snapshot(tx, &twin.region, &twin.snapshot)? {
        if wish.state == FastRestoreState::Enabling {
            step(services, tx, &wish, (FastRestoreState::Optimizing, BY_ITSELF), now)?;
        }
    }
    Ok(Some(twin))
}

async fn pin(services: &Services, twin: &Twin) -> Result<Pinned, Trouble> {
    let (region, target) = (&twin.region, Target::Twin(twin.clone()));
    let pin = Pin {
        region: region.clone(),
        root: twin.source_root.clone(),
        resume: resume(services, region, &target).await?,
    };
    let pinned = reported(services, region, target, |reporter| {
        let (blocks, pin) = (&services.blocks, &pin);
        async move { blocks.pin_twin(pin, &reporter).await }
    });
    Ok(pinned.await?)
}

fn made(services: &Services, tx: &mut Tx<'_>, twin: &Twin, root: &[u8]) -> Result<(), Trouble> {
    if twin::set_made(tx, twin, root)? {
        return admit(services, tx, twin);
    }
    // Nobody waits for it any more.
    collect(services, tx, twin)
}

/// Every wish for a twin that is whole is fulfilled.
fn admit(services: &Services, tx: &mut Tx<'_>, twin: &Twin) -> Result<(), Trouble> {
    let now = services.clock.now();
    for wish in fast_restore::of_snapshot(tx, &twin.region, &twin.snapshot)? {
        let optimized = match wish.state {
            FastRestoreState::Enabling => {
                step(services, tx, &wish, (FastRestoreState::Optimizing, BY_ITSELF), now)?
            }
            FastRestoreState::Optimizing => wish,
            FastRestoreState::Enabled
            | FastRestoreState::Disabling
            | FastRestoreState::Disabled => continue,
        };
        step(services, tx, &optimized, (FastRestoreState::Enabled, BY_ITSELF), now)?;
    }
    Ok(())
}

/// Ends every wish for a twin that cannot be made.
fn fail(services: &Services, tx: &mut Tx<'_>, twin: &Twin, reason: &str) -> Result<(), Trouble> {
    let current = twin::get(tx, &twin.region, &twin.snapshot)?;
    if current.is_none_or(|current| current.run != twin.run || current.root.is_some()) {
        return Ok(());
    }
    let now = services.clock.now();
    for wish in fast_restore::of_snapshot(tx, &twin.region, &twin.snapshot)? {
        if wish.state.is_wanted() {
            step(services, tx, &wish, (FastRestoreState::Disabled, reason), now)?;
        }
    }
    drop_unwanted(services, tx, &twin.region, &twin.snapshot)
}

/// Ends what a job was for that was tried too often or cancelled.
///
/// # Errors
/// When the rows fail.
pub fn give_up(services: &Services, tx: &mut Tx<'_>, job: &PinTwin) -> Result<(), Trouble> {
    let twin = twin::get(tx, &job.region, &job.snapshot)?;
    match twin.filter(|twin| twin.run == job.run && twin.root.is_none()) {
        Some(twin) => fail(services, tx, &twin, INTERNAL),
        None => Ok(()),
    }
}

/// Ends a wish whose end was begun.
///
/// # Errors
/// When the rows fail.
pub fn end(services: &Services, tx: &mut Tx<'_>, job: &EndFastRestore) -> Result<(), Trouble> {
    let EndFastRestore { region, account, snapshot, zone, .. } = job;
    let wish = fast_restore::get(tx, account, region, snapshot, zone)?;
    if let Some(wish) = wish.filter(|wish| wish.state == FastRestoreState::Disabling) {
        let now = services.clock.now();
        step(services, tx, &wish, (FastRestoreState::Disabled, BY_ITSELF), now)?;
    }
    drop_unwanted(services, tx, region, snapshot)
}

/// Ends the wishes of accounts that cannot use a snapshot any more. To be called in every transaction
/// that deletes a snapshot, archives it or shares it with fewer, after that.
///
/// # Errors
/// When the rows fail.
pub fn end_unusable(
    services: &Services,
    tx: &mut Tx<'_>,
    region: &Region,
    id: &SnapshotId,
) -> Result<(), Trouble> {
    let wishes = fast_restore::of_snapshot(tx, region, id)?;
    if wishes.iter().all(|wish| wish.state == FastRestoreState::Disabled) {
        return Ok(());
    }
    let (row, now) = (snapshot::get(tx, region, id)?, services.clock.now());
    for wish in wishes {
        if wish.state == FastRestoreState::Disabled {
            continue;
        }
        let reason = match &row {
            None => GONE,
            Some(row) if row.is_archived() => ARCHIVED,
            Some(row) => match permission::visibility_for(tx, row, &wish.account)? {
                Visibility::Hidden => GONE,
                Visibility::Owner | Visibility::Shared | Visibility::Public => continue,
            },
        };
        step(services, tx, &wish, (FastRestoreState::Disabled, reason), now)?;
    }
    drop_unwanted(services, tx, region, id)
}

/// Gives up a twin that nobody wants.
fn drop_unwanted(
    services: &Services,
    tx: &mut Tx<'_>,
    region: &Region,
    id: &SnapshotId,
) -> Result<(), Trouble> {
    let wishes = fast_restore::of_snapshot(tx, region, id)?;
    if wishes.iter().any(|wish| wish.state.is_wanted()) {
        return Ok(());
    }
    let Some(twin) = twin::get(tx, region, id)? else { return Ok(()) };
    if twin.root.is_none() {
        let (account, run) = (twin.account.clone(), twin.run.clone());
        let job = PinTwin { region: region.clone(), account, snapshot: id.clone(), run };
        cancel_pin_twin(tx, &job, services.clock.now())?;
    }
    twin::remove(tx, region, id)?;
    collect(services, tx, &twin)
}

fn collect(services: &Services, tx: &mut Tx<'_>, twin: &Twin) -> Result<(), Trouble> {
    Ok(enqueue_collect(tx, &twin.account, &twin.region, services.clock.now())?)
}

/// Forgets the wishes of a region that ended long ago.
///
/// # Errors
/// When the rows fail.
pub async fn forget_ended(services: &Services, region: &Region) -> Result<(), Trouble> {
    let (here, before) = (region.clone(), services.clock.now().plus_seconds(-SHOWN_SECONDS));
    let forget = move |tx: &mut Tx<'_>| fast_restore::forget_ended(tx, &here, before);
    Ok(services.db.write(forget).await?)
}
