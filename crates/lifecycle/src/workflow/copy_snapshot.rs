//! Copies a snapshot into this region, under this account's key.
//!
//! Under the same key of the same account in the same region only the data key is wrapped again and
//! no block moves; otherwise every block is opened and sealed under a new data key (spec 02,
//! "CopySnapshot"; spec 20 §C.3). A copy that cannot be made ends in the state `error` with one of
//! three sentences (spec 20, C.6).

use super::export_snapshot::remove_if_deleted;
use super::keys::{FRONT_END, Keys, copier};
use super::progress::with_progress;
use crate::jobs;
use crate::port::blocks::{Reseal, Stored};
use crate::port::kms::{
    CapturedIdentity, GrantConstraint, GrantOperation, KEY_NOT_ACCESSIBLE, KmsFailure, VolumeKey,
};
use crate::services::{INTERNAL_CAUSE, Services, Trouble};
use base::{AccountId, Region, SnapshotId, Timestamp};
use ebs::visibility::Visibility;
use ebs::{Snapshot, SnapshotState, WrappedKey, permission, snapshot};
use events::ServiceEvent;
use events::notification::{self, ArnForm, Outcome, Span};
use events::put_event;
use serde::{Deserialize, Serialize};

/// A copy to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopySnapshot {
    /// Where the copy is.
    pub region: Region,
    /// Whose it is.
    pub account: AccountId,
    /// The copy; its row is `pending` and names source and key.
    pub snapshot: SnapshotId,
    /// Who asked.
    pub identity: CapturedIdentity,
}

const SOURCE_NOT_FOUND: &str = "Source snapshot is not found";
const MISSED_DURATION: &str = "The copy took longer than the requested completion duration";
const SOURCE_NOT_COMPLETE: &str = "Source snapshot is not complete";

/// A finished copy.
struct Copied {
    data_key: WrappedKey,
    stored: Stored,
    incremental: bool,
}

/// Why a copy ends in `error`.
struct Refused {
    state_message: &'static str,
    cause: String,
}

/// Does the work. Errors are transient: run it again later.
///
/// # Errors
/// When the work cannot go on now.
pub async fn run(services: &Services, job: &CopySnapshot) -> Result<(), Trouble> {
    let (region, id) = (job.region.clone(), job.snapshot.clone());
    let row = services.db.read(move |tx| snapshot::get(tx, &region, &id)).await?;
    let Some(row) = row.filter(|row| matches!(row.state, SnapshotState::Pending(_))) else {
        return Ok(());
    };
    let outcome = match find_source(services, &row).await? {
        Err(refused) => Err(refused),
        Ok(source) => match make(services, job, &row, &source).await {
            Ok(copied) => Ok(copied),
            Err(trouble) if trouble.is_transient() => return Err(trouble),
            Err(trouble) => {
                tracing::info!(snapshot = %row.id, %trouble, "a copy could not be made");
                Err(refusal(&trouble))
            }
        },
    };
    finish(services, row, outcome).await
}

fn refusal(trouble: &Trouble) -> Refused {
    let state_message = match trouble {
        Trouble::Kms(_) => KEY_NOT_ACCESSIBLE,
        Trouble::Blocks(_)
        | Trouble::PlainKey(_)
        | Trouble::Rows(_)
        | Trouble::Events(_)
        | Trouble::NotYet { .. } => INTERNAL_CAUSE,
    };
    Refused { state_message, cause: trouble.event_cause() }
}

/// The source, when the account still sees it; its root is pinned from here on.
async fn find_source(
    services: &Services,
    row: &Snapshot,
) -> Result<Result<Snapshot, Refused>, Trouble> {
    let row = row.clone();
    services
        .db
        .write(move |tx| {
            let not_found = || Refused {
                state_message: SOURCE_NOT_FOUND,
                cause: "Source snapshot ID is not valid".to_owned(),
            };
            // A source that could not be seen when the copy was asked for stays unseen, whatever
            // was shared since: its encryption was not considered in choosing the key.
            let Some(from) = row.copied_from.as_ref().filter(|from| from.account.is_some()) else {
                return Ok(Err(not_found()));
            };
            let copies = snapshot::list_copies(tx, &row.account, &row.region, &from.snapshot)?;
            let mut earlier = copies.iter().take_while(|copy| copy.id != row.id);
            if earlier.any(|copy| matches!(copy.state, SnapshotState::Pending(_))) {
                return Err(Trouble::NotYet { what: "an earlier copy of the same snapshot" });
            }
            let Some(source) = snapshot::get(tx, &from.region, &from.snapshot)? else {
                return Ok(Err(not_found()));
            };
            if permission::visibility_for(tx, &source, &row.account)? == Visibility::Hidden {
                return Ok(Err(not_found()));
            }
            let Some(root) = source.root.as_ref().filter(|_| source.is_completed()) else {
                let cause = SOURCE_NOT_COMPLETE.to_owned();
                return Ok(Err(Refused { state_message: SOURCE_NOT_COMPLETE, cause }));
            };
            snapshot::pin_root(tx, &row.region, &row.id, root)?;
            Ok(Ok(source))
        })
        .await
}

async fn make(
    services: &Services,
    job: &CopySnapshot,
    row: &Snapshot,
    source: &Snapshot,
) -> Result<Copied, Trouble> {
    let (Some(root), Some(source_key)) = (&source.root, &source.data_key) else {
        return Err(corrupt("root").into());
    };
    let same_region = source.region == row.region;
    let as_it_is = Stored { root: root.clone(), full_bytes: source.full_bytes };
    let keys = Keys {
        services,
        account: &job.account,
        identity: &job.identity,
        service_name: copier(&job.region),
    };
    match (&row.kms_key_arn, &source.kms_key_arn) {
        (None, None) if same_region => {
            Ok(Copied { data_key: source_key.clone(), stored: as_it_is, incremental: true })
        }
        (None, None) => {
            let opened = services.plain.open(source_key)?;
            let data_key = match &row.data_key {
                Some(data_key) => data_key.clone(),
                None => services.plain.generate(&*services.rng, row.id.as_str()),
            };
            remember_key(services, row, &data_key).await?;
            let target_key = services.plain.open(&data_key)?;
            let stored = reseal(services, row, source, root, opened, target_key).await?;
            Ok(Copied { data_key, stored, incremental: false })
        }
        (Some(target), Some(key))
            if target == key && same_region && source.account == row.account =>
        {
            let data_key = same_key(&keys, row, target, source_key).await?;
            Ok(Copied { data_key, stored: as_it_is, incremental: true })
        }
        (Some(target), source_arn) => {
            let data_key = match &row.data_key {
                Some(data_key) => data_key.clone(),
                None => keys.generate(&row.region, target, row.id.as_str()).await?,
            };
            remember_key(services, row, &data_key).await?;
            let source_arn = source_arn.as_deref();
            let (opened, target_key) =
                open_both(&keys, row, target, &data_key, source, source_arn).await?;
            let stored = reseal(services, row, source, root, opened, target_key).await?;
            Ok(Copied { data_key, stored, incremental: false })
        }
        // The outcome matrix never makes a plain copy of an encrypted snapshot.
        (None, Some(_)) => Err(corrupt("kms_key_arn").into()),
    }
}

fn corrupt(column: &'static str) -> ebs::Error {
    ebs::Error::Corrupt { table: "ebs_snapshots", column }
}

/// The same data key, wrapped again for the copy: two grants, Decrypt, Encrypt.
async fn same_key(
    keys: &Keys<'_>,
    row: &Snapshot,
    key_arn: &str,
    source_key: &WrappedKey,
) -> Result<WrappedKey, KmsFailure> {
    let region = &row.region;
    let equals = |id: &str| GrantConstraint::Equals(id.to_owned());
    let (decrypt, encrypt) = (GrantOperation::Decrypt, GrantOperation::Encrypt);
    let source_context = equals(&source_key.context_id);
    let reading = keys.grant(region, FRONT_END, key_arn, decrypt, source_context).await?;
    let target_context = equals(row.id.as_str());
    let writing = match keys.grant(region, FRONT_END, key_arn, encrypt, target_context).await {
        Ok(grant) => grant,
        Err(failure) => {
            keys.retire([reading]).await;
            return Err(failure);
        }
    };
    let answer = async {
        let opened = keys.open(region, source_key).await?;
        keys.seal(region, key_arn, &opened, source_key, row.id.as_str()).await
    }
    .await;
    keys.retire([reading, writing]).await;
    answer
}

/// Both data keys, each opened on a grant of its own key, in the order of spec 20 §C.3.
async fn open_both(
    keys: &Keys<'_>,
    row: &Snapshot,
    target_arn: &str,
    target: &WrappedKey,
    source: &Snapshot,
    source_arn: Option<&str>,
) -> Result<(VolumeKey, VolumeKey), Trouble> {
    let decrypt = GrantOperation::Decrypt;
    let constraint = GrantConstraint::Equals(row.id.to_string());
    let target_grant = keys.grant(&row.region, FRONT_END, target_arn, decrypt, constraint).await?;
    let Some(source_key) = &source.data_key else { return Err(corrupt("wrapped_key").into()) };
    let Some(source_arn) = source_arn else {
        let opened = keys.open(&row.region, target).await;
        keys.retire([target_grant]).await;
        return Ok((keys.services.plain.open(source_key)?, opened?));
    };
    let constraint = GrantConstraint::Equals(source_key.context_id.clone());
    let invoked_by = copier(&row.region);
    let granted = keys.grant(&source.region, &invoked_by, source_arn, decrypt, constraint).await;
    let source_grant = match granted {
        Ok(grant) => grant,
        Err(failure) => {
            keys.retire([target_grant]).await;
            return Err(failure.into());
        }
    };
    let opened = async {
        let source_key = keys.open(&source.region, source_key).await?;
        Ok::<_, KmsFailure>((source_key, keys.open(&row.region, target).await?))
    }
    .await;
    keys.retire([target_grant, source_grant]).await;
    Ok(opened?)
}

/// Written before any block is sealed under it, so that interrupted work goes on.
async fn remember_key(
    services: &Services,
    row: &Snapshot,
    data_key: &WrappedKey,
) -> Result<(), Trouble> {
    let (region, id, key) = (row.region.clone(), row.id.clone(), data_key.clone());
    services.db.write(move |tx| snapshot::set_data_key(tx, &region, &id, &key)).await?;
    Ok(())
}

async fn reseal(
    services: &Services,
    row: &Snapshot,
    source: &Snapshot,
    source_root: &[u8],
    source_key: VolumeKey,
    target_key: VolumeKey,
) -> Result<Stored, Trouble> {
    let reseal = Reseal {
        source_region: source.region.clone(),
        source_root: source_root.to_vec(),
        source_key,
        target_region: row.region.clone(),
        target_key,
        target_id: row.id.to_string(),
    };
    let stored = with_progress(services, &row.region, &row.id, |sender| {
        let (blocks, reseal) = (&services.blocks, &reseal);
        async move {
            let report = move |percent| {
                sender.send_replace(percent);
            };
            blocks.reseal(reseal, &report).await
        }
    })
    .await?;
    Ok(stored)
}

async fn finish(
    services: &Services,
    row: Snapshot,
    outcome: Result<Copied, Refused>,
) -> Result<(), Trouble> {
    let ended = services.clock.now();
    let done = event(services, &row, &outcome, ended);
    services
        .db
        .write(move |tx| {
            let (region, id) = (&row.region, &row.id);
            let ended_now = match &outcome {
                Ok(Copied { data_key, stored, .. }) => {
                    snapshot::set_data_key(tx, region, id, data_key)?;
                    let Stored { root, full_bytes } = stored;
                    snapshot::set_completed(tx, region, id, root, *full_bytes, ended)?
                }
                Err(refused) => snapshot::set_failed(tx, region, id, refused.state_message)?,
            };
            if ended_now {
                done.iter().try_for_each(|done| put_event(tx, done))?;
                remove_if_deleted(tx, &row)?;
                jobs::hasten(tx, &row.account, &row.region, ended)?;
            }
            Ok(())
        })
        .await
}

fn event(
    services: &Services,
    row: &Snapshot,
    outcome: &Result<Copied, Refused>,
    ended: Timestamp,
) -> Option<ServiceEvent> {
    let from = row.copied_from.as_ref()?;
    let copied = notification::Copied {
        source: from.snapshot.clone(),
        source_region: from.region.clone(),
        incremental: outcome.as_ref().is_ok_and(|copied| copied.incremental),
        time_based: row.completion_minutes.map(|minutes| {
            let late = ended > row.started.plus_seconds(i64::from(minutes) * 60);
            (row.started, late.then(|| MISSED_DURATION.to_owned()))
        }),
    };
    let told = match outcome {
        Ok(_) => Outcome::Succeeded,
        Err(refused) => Outcome::Failed(refused.cause.clone()),
    };
    let envelope = services.envelope(&row.account, &row.region);
    let span = Span { start: row.started, end: ended };
    let form = ArnForm::Regular;
    Some(notification::copy_snapshot(envelope, form, &row.id, &copied, span, &told))
}
