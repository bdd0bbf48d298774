//! Copies a snapshot into this region, under this account's key.
//!
//! Under the same key of the same account in the same region only the data key is wrapped again and
//! no block moves; otherwise every block is opened and sealed under a new data key (spec 02,
//! "CopySnapshot"; spec 20 §C.3). A copy that cannot be made ends in the state `error` with one of
//! three sentences (spec 20, C.6).

use super::export_snapshot::remove_if_deleted;
use super::keys::{FRONT_END, Keys, OpenGrant, copier};
use super::open_keys::{self, Opened};
use super::progress::{Target, reported, resume};
use crate::jobs;
use crate::port::blocks::{BlockError, EarlierReseal, Reseal, Stored};
use crate::port::kms::{
    CapturedIdentity, GrantConstraint, GrantOperation, KEY_NOT_ACCESSIBLE, KmsFailure, KmsPort,
    Probe, VolumeKey,
};
use crate::services::{Enforcement, INTERNAL_CAUSE, Services, Trouble};
use base::{AccountId, Region, SnapshotId, Timestamp};
use blockstore::snapshot::SnapshotRoot;
use ebs::arns::snapshot_source_arn;
use ebs::copy_base::{self, CopyBase};
use ebs::snapshot::NO_VOLUME;
use ebs::{Snapshot, SnapshotState, StateMessage, WrappedKey, permission, snapshot};
use events::ServiceEvent;
use events::notification::{self, ArnForm, Outcome, Span};
use events::put_event;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

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
    /// Where to ask why the request was accepted.
    #[serde(default)]
    pub explain_id: Option<String>,
}

const SOURCE_NOT_FOUND: &str = "Source snapshot is not found";
const MISSED_DURATION: &str = "The copy took longer than the requested completion duration";
const SOURCE_NOT_COMPLETE: &str = "Source snapshot is not complete";
const SOURCE_ARCHIVED: &str = "Source snapshot is archived";

/// A finished copy.
struct Copied {
    data_key: WrappedKey,
    stored: Stored,
    incremental: bool,
}

/// Why a copy ends in `error`.
struct Refused {
    state_message: Cow<'static, str>,
    cause: String,
    /// Where to ask why, when a key was the reason.
    explain_id: Option<String>,
}

/// The keys of snapshots that are being sealed again.
pub type OpenKeys = open_keys::OpenKeys<SnapshotId, ResealKeys>;

/// Does the work. Errors are transient: run it again later.
///
/// # Errors
/// When the work cannot go on now.
pub async fn run(
    services: &Services,
    open_keys: &OpenKeys,
    job: &CopySnapshot,
) -> Result<(), Trouble> {
    // However this turn ends, it has them alone.
    let open = open_keys.take(&job.snapshot);
    let (region, id) = (job.region.clone(), job.snapshot.clone());
    let row = services.db.read(move |tx| snapshot::get(tx, &region, &id)).await?;
    let Some(row) = row.filter(|row| matches!(row.state, SnapshotState::Pending(_))) else {
        return Ok(());
    };
    let outcome = match find_source(services, &row).await? {
        Err(refused) => Err(refused),
        Ok(source) => match make(services, job, &row, &source, open).await {
            Ok(Made::Whole(copied)) => Ok(copied),
            Ok(Made::UpToNow(open)) => {
                open_keys.keep(&row.id, open);
                return Err(BlockError::TurnOver.into());
            }
            Err(trouble) if trouble.is_transient() => return Err(trouble),
            Err(trouble) => {
                tracing::info!(
                    snapshot = %row.id,
                    trouble = base::with_causes(&trouble),
                    "a copy could not be made"
                );
                Err(refusal(&trouble))
            }
        },
    };
    // What was not a key's fault is explained with the request.
    let outcome = outcome.map_err(|refused| {
        let explain_id = refused.explain_id.or_else(|| job.explain_id.clone());
        Refused { explain_id, ..refused }
    });
    finish(services, row, outcome).await
}

/// Makes the decisions of a copy without making the copy: `row` is none that exists, and `kms` only
/// rehearses. Answers the sentence the copy would end with when its source is out of reach.
///
/// # Errors
/// What would stop the copy, or stopped the rehearsal.
pub async fn rehearse(
    services: &Services,
    kms: &dyn KmsPort,
    job: &CopySnapshot,
    row: &Snapshot,
) -> Result<Option<Cow<'static, str>>, Trouble> {
    let planned = row.clone();
    let found = services.db.read(move |tx| visible_source(tx, &planned)).await?;
    let source = match found {
        Ok(source) => source,
        Err(refused) => return Ok(Some(refused.state_message)),
    };
    let keys = keys(services, kms, job);
    prepare(&keys, row, &source).await?;
    Ok(None)
}

/// Makes the decisions that the guides ask for and this server's enforcement does not, after
/// [`rehearse`].
///
/// # Errors
/// What stopped the rehearsal.
pub async fn rehearse_documented(
    services: &Services,
    kms: &dyn KmsPort,
    job: &CopySnapshot,
    row: &Snapshot,
) -> Result<(), Trouble> {
    let planned = row.clone();
    let found = services.db.read(move |tx| visible_source(tx, &planned)).await?;
    let (Enforcement::Native, Ok(source), Some(target)) =
        (services.enforcement, found, &row.kms_key_arn)
    else {
        return Ok(());
    };
    if let (Some(arn), Some(wrapped)) = (&source.kms_key_arn, &source.data_key) {
        documented(&keys(services, kms, job), row, target, &source, arn, wrapped).await?;
    }
    Ok(())
}

/// The sentence a copy ends with when a key stops it.
pub fn ending(failure: KmsFailure) -> Cow<'static, str> {
    refusal(&Trouble::Kms(failure)).state_message
}

fn refusal(trouble: &Trouble) -> Refused {
    let cause = trouble.event_cause();
    let state_message = match trouble {
        Trouble::Kms(_) => KEY_NOT_ACCESSIBLE.into(),
        _ => cause.clone().into(),
    };
    let explain_id = trouble.explain_id().map(str::to_owned);
    Refused { state_message, cause, explain_id }
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
            if let Some(from) = &row.copied_from {
                let copies = snapshot::list_copies(tx, &row.account, &row.region, &from.snapshot)?;
                let mut earlier = copies.iter().take_while(|copy| copy.id != row.id);
                let seen = from.account.is_some();
                if seen && earlier.any(|copy| matches!(copy.state, SnapshotState::Pending(_))) {
                    return Err(Trouble::NotYet { what: "an earlier copy of the same snapshot" });
                }
            }
            let found = visible_source(tx, &row)?;
            if let Ok(Snapshot { root: Some(root), .. }) = &found {
                snapshot::pin_root(tx, &row.region, &row.id, root)?;
            }
            Ok(found)
        })
        .await
}

/// The source of a copy, when its account sees it and it is complete.
fn visible_source(
    tx: &mut meta::Tx<'_>,
    row: &Snapshot,
) -> Result<Result<Snapshot, Refused>, Trouble> {
    let not_found = || Refused {
        state_message: SOURCE_NOT_FOUND.into(),
        cause: "Source snapshot ID is not valid".to_owned(),
        explain_id: None,
    };
    // A source that could not be seen when the copy was asked for stays unseen, whatever was shared
    // since: its encryption was not considered in choosing the key.
    let Some(from) = row.copied_from.as_ref().filter(|from| from.account.is_some()) else {
        return Ok(Err(not_found()));
    };
    let source = match row.data_key {
        None => {
            let seen = permission::find_seen(tx, &from.region, &from.snapshot, &row.account)?;
            seen.map(|(source, _)| source)
        }
        // What was begun goes on when it is shared no more, in however many turns; its keys still decide.
        Some(_) => snapshot::get(tx, &from.region, &from.snapshot)?,
    };
    let Some(source) = source else { return Ok(Err(not_found())) };
    if source.root.is_none() || !source.is_completed() {
        let state_message =
            if source.is_archived() { SOURCE_ARCHIVED } else { SOURCE_NOT_COMPLETE };
        let cause = state_message.to_owned();
        return Ok(Err(Refused { state_message: state_message.into(), cause, explain_id: None }));
    }
    Ok(Ok(source))
}

/// What came of a turn.
enum Made {
    Whole(Copied),
    /// Others wait; the next turn takes the keys.
    UpToNow(Opened<ResealKeys>),
}

async fn make(
    services: &Services,
    job: &CopySnapshot,
    row: &Snapshot,
    source: &Snapshot,
    open: Option<Opened<ResealKeys>>,
) -> Result<Made, Trouble> {
    let (data_key, open, earlier) = match (open, &row.data_key) {
        // Another turn of what has begun.
        (Some(open), Some(data_key)) => {
            (data_key.clone(), open, chosen_before(services, row).await?)
        }
        _ => match prepare(&keys(services, &*services.kms, job), row, source).await? {
            Prepared::AsItIs(copied) => return Ok(Made::Whole(copied)),
            Prepared::Reseal { data_key, keys, earlier } => (data_key, Opened::new(keys), earlier),
        },
    };
    remember(services, row, source, &data_key, earlier.as_ref()).await?;
    let incremental = earlier.is_some();
    match reseal(services, row, source, &open.keys, earlier).await {
        Ok(stored) => Ok(Made::Whole(Copied { data_key, stored, incremental })),
        Err(Trouble::Blocks(BlockError::TurnOver)) => Ok(Made::UpToNow(open)),
        Err(trouble) => Err(trouble),
    }
}

fn keys<'a>(services: &'a Services, kms: &'a dyn KmsPort, job: &'a CopySnapshot) -> Keys<'a> {
    Keys {
        services,
        kms,
        account: &job.account,
        identity: &job.identity,
        resource: snapshot_source_arn(&job.region, &job.account, &job.snapshot),
        service_name: copier(&job.region),
    }
}

/// A copy whose KMS calls have all been made.
enum Prepared {
    /// The source's blocks serve the copy as they are.
    AsItIs(Copied),
    /// They are to be opened and sealed again.
    Reseal { data_key: WrappedKey, keys: ResealKeys, earlier: Option<EarlierReseal> },
}

/// Every KMS call of a copy, in order. It changes no row and no block: a rehearsal takes the same way.
async fn prepare(keys: &Keys<'_>, row: &Snapshot, source: &Snapshot) -> Result<Prepared, Trouble> {
    let services = keys.services;
    let (Some(root), Some(source_key)) = (&source.root, &source.data_key) else {
        return Err(corrupt("root").into());
    };
    let same_region = source.region == row.region;
    let as_it_is = Stored { root: root.clone(), full_bytes: source.full_bytes };
    let unchanged =
        |data_key, stored| Prepared::AsItIs(Copied { data_key, stored, incremental: true });
    if let (Enforcement::Documented, Some(target), Some(key)) =
        (services.enforcement, &row.kms_key_arn, &source.kms_key_arn)
    {
        documented(keys, row, target, source, key, source_key).await?;
    }
    match (&row.kms_key_arn, &source.kms_key_arn) {
        (None, None) if same_region => Ok(unchanged(source_key.clone(), as_it_is)),
        (Some(target), Some(key))
            if target == key && same_region && source.account == row.account =>
        {
            let grant = keys.decrypting(&row.region, target, &source_key.context_id).await?;
            let data_key = keys.same_key(row, target, grant, source_key).await?.0;
            Ok(unchanged(data_key, as_it_is))
        }
        // The outcome matrix never makes a plain copy of an encrypted snapshot.
        (None, Some(_)) => Err(corrupt("kms_key_arn").into()),
        (target, _) => {
            let begins = row.data_key.is_none();
            let chosen = if begins { earlier_copy(services, row, source).await? } else { None };
            let (data_key, target_key, opened) = match target {
                None => plain_keys(services, row, source_key, chosen.as_ref())?,
                Some(target) => open_keys(keys, row, target, source, chosen.as_ref()).await?,
            };
            let keys = ResealKeys { source: opened, target: target_key };
            let earlier = match begins {
                true => chosen.map(|earlier| earlier.roots),
                // What was begun goes on from what it began with.
                false => chosen_before(services, row).await?,
            };
            Ok(Prepared::Reseal { data_key, keys, earlier })
        }
    }
}

/// What the documentation asks of the caller besides the calls that are made (fas_map_ec2.json,
/// `encrypted-to-encrypted`, rows with `DocumentedForCaller` that are not enforced).
async fn documented(
    keys: &Keys<'_>,
    row: &Snapshot,
    target: &str,
    source: &Snapshot,
    source_arn: &str,
    wrapped: &WrappedKey,
) -> Result<(), KmsFailure> {
    let new_id = row.id.as_str();
    let at_source = [Probe::DescribeKey { key_arn: source_arn }, Probe::Decrypt(wrapped.into())];
    for probe in at_source {
        keys.may(&source.region, probe).await?;
    }
    if source.region == row.region {
        let rewrap = Probe::ReEncrypt {
            source: wrapped.into(),
            target_key_arn: target,
            target_context_id: new_id,
        };
        keys.may(&row.region, rewrap).await?;
    } else {
        // No one call spans two regions: the source's half is asked with its own key as target.
        let from = Probe::ReEncrypt {
            source: wrapped.into(),
            target_key_arn: source_arn,
            target_context_id: new_id,
        };
        keys.may(&source.region, from).await?;
    }
    let fresh = Probe::GenerateDataKey { key_arn: target, context_id: new_id };
    keys.may(&row.region, fresh).await
}

/// A copy that stands, of an earlier snapshot of the same volume that stands, under the same key.
struct EarlierCopy {
    data_key: WrappedKey,
    roots: EarlierReseal,
}

/// The latest copy that the new one can be incremental to. Its data key becomes the new copy's.
async fn earlier_copy(
    services: &Services,
    row: &Snapshot,
    source: &Snapshot,
) -> Result<Option<EarlierCopy>, Trouble> {
    if source.volume_id.as_str() == NO_VOLUME {
        return Ok(None);
    }
    let (row, source) = (row.clone(), source.clone());
    let found = services
        .db
        .read(move |tx| {
            let copies =
                snapshot::list_completed_copies(tx, &row.account, &row.region, &source.region)?;
            for copy in copies.into_iter().filter(|copy| copy.kms_key_arn == row.kms_key_arn) {
                let (Some(target_root), Some(data_key)) = (copy.root, copy.data_key) else {
                    continue;
                };
                let Some(from) = copy.copied_from else { continue };
                let Some(older) = snapshot::get(tx, &from.region, &from.snapshot)? else {
                    continue;
                };
                // A snapshot that was in the archive is not of its neighbours' series any more.
                let related = older.volume_id == source.volume_id
                    && older.account == source.account
                    && !older.delete_requested
                    && are_comparable(&older, &source);
                if let (Some(source_root), true) = (older.root, related) {
                    let roots = EarlierReseal { source_root, target_root };
                    return Ok::<_, ebs::Error>(Some(EarlierCopy { data_key, roots }));
                }
            }
            Ok(None)
        })
        .await?;
    Ok(found)
}

/// What a copy that has begun adds to.
async fn chosen_before(
    services: &Services,
    row: &Snapshot,
) -> Result<Option<EarlierReseal>, Trouble> {
    let (region, id) = (row.region.clone(), row.id.clone());
    let base = services.db.read(move |tx| copy_base::get(tx, &region, &id)).await?;
    let roots = |base: CopyBase| EarlierReseal {
        source_root: base.source_root,
        target_root: base.copy_root,
    };
    Ok(base.map(roots))
}

/// Whether the difference between two snapshots can be told by their manifests.
fn are_comparable(a: &Snapshot, b: &Snapshot) -> bool {
    let series = |row: &Snapshot| {
        let root = SnapshotRoot::from_bytes(row.root.as_deref()?).ok()?;
        Some(root.series())
    };
    series(a).is_some() && series(a) == series(b)
}

/// The copy's wrapped key, the same key opened, and the source's key opened.
type OpenedKeys = (WrappedKey, VolumeKey, VolumeKey);

fn plain_keys(
    services: &Services,
    row: &Snapshot,
    source_key: &WrappedKey,
    earlier: Option<&EarlierCopy>,
) -> Result<OpenedKeys, Trouble> {
    let data_key = match (&row.data_key, earlier) {
        (Some(data_key), _) => data_key.clone(),
        (None, Some(earlier)) => earlier.data_key.clone(),
        (None, None) => services.plain.generate(&*services.rng, row.id.as_str()),
    };
    let target_key = services.plain.open(&data_key)?;
    Ok((data_key, target_key, services.plain.open(source_key)?))
}

fn corrupt(column: &'static str) -> ebs::Error {
    ebs::Error::Corrupt { table: "ebs_snapshots", column }
}

/// The source's key and the copy's, each opened on a grant, in the order of spec 20 §C.3: a new data
/// key, or with an earlier copy that copy's, wrapped again.
async fn open_keys(
    keys: &Keys<'_>,
    row: &Snapshot,
    target_arn: &str,
    source: &Snapshot,
    earlier: Option<&EarlierCopy>,
) -> Result<OpenedKeys, Trouble> {
    let region = &row.region;
    // Work that was interrupted goes on under the data key it began with.
    let known = row.data_key.clone();
    let (data_key, target_key) = match (known, earlier) {
        (None, Some(earlier)) => {
            let context_id = &earlier.data_key.context_id;
            let grant = keys.decrypting(region, target_arn, context_id).await?;
            keys.same_key(row, target_arn, grant, &earlier.data_key).await?
        }
        (known, _) => {
            let data_key = match known {
                Some(data_key) => data_key,
                None => keys.generate(region, target_arn, row.id.as_str()).await?,
            };
            let grant = keys.decrypting(region, target_arn, row.id.as_str()).await?;
            // The source's grant is made before either key is opened, so that a caller who may not
            // use the source learns it before any key is.
            let opened = match open_source(keys, row, source).await {
                Ok(opened) => keys.open(region, &data_key).await.map(|key| (key, opened)),
                Err(Trouble::Kms(failure)) => Err(failure),
                Err(trouble) => {
                    keys.retire([grant]).await;
                    return Err(trouble);
                }
            };
            keys.retire([grant]).await;
            let (target_key, source_key) = opened?;
            return Ok((data_key, target_key, source_key));
        }
    };
    Ok((data_key, target_key, open_source(keys, row, source).await?))
}

/// The source's data key, opened on a grant of its key made by the copying user.
async fn open_source(
    keys: &Keys<'_>,
    row: &Snapshot,
    source: &Snapshot,
) -> Result<VolumeKey, Trouble> {
    let Some(wrapped) = &source.data_key else { return Err(corrupt("wrapped_key").into()) };
    let Some(arn) = &source.kms_key_arn else { return Ok(keys.services.plain.open(wrapped)?) };
    let constraint = GrantConstraint::Equals(wrapped.context_id.clone());
    let (region, invoked_by) = (&source.region, copier(&row.region));
    let decrypt = GrantOperation::Decrypt;
    let grant = keys.grant(region, &invoked_by, arn, decrypt, constraint).await?;
    let opened = keys.open(region, wrapped).await;
    keys.retire([grant]).await;
    Ok(opened?)
}

impl Keys<'_> {
    /// F CreateGrant [Decrypt] for one context.
    async fn decrypting(
        &self,
        region: &Region,
        key_arn: &str,
        context_id: &str,
    ) -> Result<OpenGrant, KmsFailure> {
        let constraint = GrantConstraint::Equals(context_id.to_owned());
        self.grant(region, FRONT_END, key_arn, GrantOperation::Decrypt, constraint).await
    }

    /// The same data key, wrapped again for the copy: besides the grant to open it a grant
    /// [Encrypt] on the new context, then S Decrypt and S Encrypt.
    async fn same_key(
        &self,
        row: &Snapshot,
        key_arn: &str,
        reading: OpenGrant,
        source: &WrappedKey,
    ) -> Result<(WrappedKey, VolumeKey), KmsFailure> {
        let (region, id) = (&row.region, row.id.as_str());
        let constraint = GrantConstraint::Equals(id.to_owned());
        let encrypt = GrantOperation::Encrypt;
        let writing = match self.grant(region, FRONT_END, key_arn, encrypt, constraint).await {
            Ok(grant) => grant,
            Err(failure) => {
                self.retire([reading]).await;
                return Err(failure);
            }
        };
        let answer = async {
            let opened = self.open(region, source).await?;
            Ok((self.seal(region, key_arn, &opened, source, id).await?, opened))
        }
        .await;
        self.retire([reading, writing]).await;
        answer
    }
}

/// Written before any block is sealed under the key, so that interrupted work goes on as it began.
async fn remember(
    services: &Services,
    row: &Snapshot,
    source: &Snapshot,
    data_key: &WrappedKey,
    earlier: Option<&EarlierReseal>,
) -> Result<(), Trouble> {
    if row.data_key.is_some() {
        return Ok(());
    }
    let (region, id, key) = (row.region.clone(), row.id.clone(), data_key.clone());
    let base = earlier.map(|earlier| CopyBase {
        source_region: source.region.clone(),
        source_root: earlier.source_root.clone(),
        copy_root: earlier.target_root.clone(),
    });
    let write = move |tx: &mut meta::Tx<'_>| {
        if snapshot::set_data_key(tx, &region, &id, &key)?
            && let Some(base) = &base
        {
            copy_base::insert(tx, &region, &id, base)?;
        }
        Ok::<_, ebs::Error>(())
    };
    Ok(services.db.write(write).await?)
}

/// Both data keys, opened.
pub struct ResealKeys {
    source: VolumeKey,
    target: VolumeKey,
}

async fn reseal(
    services: &Services,
    row: &Snapshot,
    source: &Snapshot,
    keys: &ResealKeys,
    earlier: Option<EarlierReseal>,
) -> Result<Stored, Trouble> {
    let target = Target::Snapshot(row.id.clone());
    let reseal = Reseal {
        source_region: source.region.clone(),
        source_root: source.root.clone().ok_or_else(|| corrupt("root"))?,
        source_key: keys.source.duplicate(),
        target_region: row.region.clone(),
        target_key: keys.target.duplicate(),
        target_id: row.id.to_string(),
        earlier,
        resume: resume(services, &row.region, &target).await?,
    };
    let stored = reported(services, &row.region, target, |reporter| {
        let (blocks, reseal) = (&services.blocks, &reseal);
        async move { blocks.reseal(reseal, &reporter).await }
    });
    Ok(stored.await?)
}

/// Ends a copy that was tried too often.
///
/// # Errors
/// When the rows fail.
pub fn give_up(
    services: &Services,
    tx: &mut meta::Tx<'_>,
    job: &CopySnapshot,
) -> Result<(), Trouble> {
    let Some(row) = snapshot::get(tx, &job.region, &job.snapshot)? else { return Ok(()) };
    let explain_id = job.explain_id.clone();
    let cause = INTERNAL_CAUSE.to_owned();
    let refused = Refused { state_message: INTERNAL_CAUSE.into(), cause, explain_id };
    Ended::new(services, row, Err(refused)).write(tx)
}

async fn finish(
    services: &Services,
    row: Snapshot,
    outcome: Result<Copied, Refused>,
) -> Result<(), Trouble> {
    let ended = Ended::new(services, row, outcome);
    services.db.write(move |tx| ended.write(tx)).await
}

/// The end of a copy, with all that is written at it.
struct Ended {
    row: Snapshot,
    outcome: Result<Copied, Refused>,
    at: Timestamp,
    event: Option<ServiceEvent>,
}

impl Ended {
    fn new(services: &Services, row: Snapshot, outcome: Result<Copied, Refused>) -> Self {
        let at = services.clock.now();
        let event = event(services, &row, &outcome, at);
        Self { row, outcome, at, event }
    }

    fn write(&self, tx: &mut meta::Tx<'_>) -> Result<(), Trouble> {
        let (row, at) = (&self.row, self.at);
        let (region, id) = (&row.region, &row.id);
        let ended_now = match &self.outcome {
            Ok(Copied { data_key, stored, .. }) => {
                snapshot::set_data_key(tx, region, id, data_key)?;
                let Stored { root, full_bytes } = stored;
                snapshot::set_completed(tx, region, id, root, *full_bytes, at)?
            }
            Err(Refused { state_message, explain_id, .. }) => {
                let message = StateMessage::new(state_message, explain_id.as_deref());
                snapshot::set_failed(tx, region, id, &message.stored())?
            }
        };
        if ended_now {
            self.event.iter().try_for_each(|event| put_event(tx, event))?;
            remove_if_deleted(tx, row, at)?;
            jobs::hasten(tx, &row.account, region, at)?;
        }
        Ok(())
    }
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
    let event = notification::copy_snapshot(envelope, form, &row.id, &copied, span, &told);
    let explain_id = outcome.as_ref().err().and_then(|refused| refused.explain_id.as_deref());
    Some(match explain_id {
        Some(id) => event.with_explain_id(id),
        None => event,
    })
}
