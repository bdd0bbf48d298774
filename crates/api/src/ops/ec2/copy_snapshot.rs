//! `ec2:CopySnapshot`: copies a snapshot into this region; called where the copy is to be.
//!
//! Only the target key is looked at before the answer. A source that cannot be seen, or a key that
//! cannot be used, shows later as a copy in the state `error` (spec 20, C.6).

use crate::kms_port::capture;
use crate::refusal::{Layer, Refusal};
use crate::rehearsal::{Need, Rehearsal};
use crate::storage::code::{AUTH_FAILURE, invalid_value, snapshot_archived};
use crate::storage::condition;
use crate::storage::find::{FoundSnapshot, parsed};
use crate::storage::key::{Candidates, KeyTarget, describe_key};
use crate::storage::new_snapshot::check_description;
use crate::storage::shape::{Tag as TagShape, TagSpecification};
use crate::storage::tiering::RESOURCE_LIMIT_EXCEEDED;
use crate::storage::{presigned, tagging};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use base::{AccountId, Region, SnapshotId, VolumeId};
use ebs::encryption::{self, EncryptionRequest};
use ebs::snapshot::{self, CopySource, NO_VOLUME};
use ebs::tag::{self, Tag};
use ebs::{Snapshot, SnapshotState, arns, settings};
use lifecycle::port::kms::KmsFailure;
use lifecycle::workflow::copy_snapshot::{self, CopySnapshot as Job};

pub(crate) struct CopySnapshot;

/// Copies of an account that may be pending in one region (spec 02, "CopySnapshot").
const PENDING_COPIES_MAX: u64 = 20;
/// What is seen of a copy that could not be made.
const ENDS_IN_ERROR: &str = "the copy is accepted as pending, then ends in the state error (event \
                             copySnapshot failed) with the StateMessage";
/// Completion durations: from 15 minutes to two days in steps of 15.
const MINUTES_STEP: i32 = 15;
const MINUTES_MAX: i32 = 2_880;

#[derive(Shape)]
#[shape(input, dry_run, unsupported(DestinationOutpostArn, DestinationAvailabilityZone))]
pub(crate) struct Input {
    description: Option<String>,
    destination_region: Option<String>,
    encrypted: Option<bool>,
    kms_key_id: Option<String>,
    #[shape(sensitive)]
    presigned_url: Option<String>,
    source_region: Region,
    source_snapshot_id: SnapshotId,
    #[shape(query = "TagSpecification")]
    tag_specifications: Vec<TagSpecification>,
    completion_duration_minutes: Option<i32>,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    #[shape(xml = "tagSet")]
    tags: Vec<TagShape>,
    snapshot_id: SnapshotId,
}

pub(crate) struct Plan {
    region: Region,
    account: AccountId,
    source_region: Region,
    source_id: SnapshotId,
    /// Absent when the account does not see it.
    source: Option<FoundSnapshot>,
    key: KeyTarget,
    /// The key as the request named it, for messages.
    key_given: Option<String>,
    description: String,
    tags: Vec<Tag>,
    completion_minutes: Option<u32>,
}

impl Operation for CopySnapshot {
    const SPEC: Spec = Spec::mutates(Service::Ec2, "CopySnapshot");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        check_regions(call, &input)?;
        let completion_minutes = check_minutes(input.completion_duration_minutes)?;
        let (source_region, source_id) = (&input.source_region, &input.source_snapshot_id);
        let source = FoundSnapshot::find_in(call, source_region, source_id).await?;
        if source.as_ref().is_some_and(|found| found.snapshot.is_archived()) {
            return Err(snapshot_archived(source_id.as_str()));
        }
        let key = key(call, &input, source.as_ref()).await?;
        Ok(Plan {
            region: call.region.clone(),
            account: call.account().clone(),
            source,
            key,
            key_given: input.kms_key_id,
            description: check_description(input.description)?,
            tags: tagging::of_new(input.tag_specifications, "snapshot")?,
            completion_minutes,
            source_region: input.source_region,
            source_id: input.source_snapshot_id,
        })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        let action = "ec2:CopySnapshot";
        let on_source = match &plan.source {
            Some(found) => found.ask(action),
            None => {
                let arn = parsed(&arns::snapshot_arn(&plan.source_region, &plan.source_id));
                let context = condition::of_region(&plan.source_region);
                Ask::on(action, &arn, &plan.account).with(context)
            }
        };
        let arn = parsed(&arns::new_snapshot_arn(&plan.region));
        let mut context = condition::of_region(&plan.region);
        context.set("ec2:Owner", plan.account.as_str());
        context.set_flag("ec2:Encrypted", plan.key.is_encrypted());
        let parent = arns::snapshot_arn(&plan.source_region, &plan.source_id);
        context.set("ec2:ParentSnapshot", parent);
        if let Some(found) = &plan.source {
            context.set("ec2:VolumeSize", found.snapshot.size_gib.to_string());
        }
        let mut on_copy = context.clone();
        condition::set_request_tags(&mut on_copy, &plan.tags);
        let mut asks = vec![on_source, Ask::on(action, &arn, &plan.account).with(on_copy)];
        let name = "CopySnapshot";
        asks.extend(tagging::ask_for_new(&plan.tags, &arn, &plan.account, name, context));
        asks
    }

    async fn implied(call: &Call, plan: &Plan, rehearsal: &Rehearsal) -> Result<(), Error> {
        let kms_key_arn = plan.key.obtain(call).await?;
        if let Some(arn) = &kms_key_arn
            && let Err(error) = check_key(call, arn, plan.key_given.as_deref()).await
        {
            rehearsal.refused(&error);
        }
        rehearsal.later(ENDS_IN_ERROR);
        rehearsal.go_on();
        let row = row(call, plan, kms_key_arn);
        let (job, kms) = (job(call, &row), call.kms());
        let services = &call.world.services;
        let unseen = copy_snapshot::rehearse(services, &*kms, &job, &row).await;
        let sentence = unseen
            .map_err(Error::internal)?
            .or_else(|| rehearsal.take_failure().map(copy_snapshot::ending));
        if let Some(sentence) = sentence {
            rehearsal.fails_later(format!("{ENDS_IN_ERROR} \"{sentence}\""));
        }
        rehearsal.need(Need::Documented);
        let also = copy_snapshot::rehearse_documented(services, &*kms, &job, &row).await;
        also.map_err(Error::internal)
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let plan = plan.into_inner();
        let kms_key_arn = plan.key.obtain(call).await?;
        if let Some(arn) = &kms_key_arn {
            check_key(call, arn, plan.key_given.as_deref()).await?;
        }
        if let Some(refusal) = doomed(&plan) {
            call.notes.foresee(refusal);
        }
        let row = row(call, &plan, kms_key_arn);
        let job = job(call, &row);
        let (id, tags, now) = (row.id.clone(), plan.tags.clone(), call.now);
        call.world
            .db
            .write(move |tx| {
                let Snapshot { account, region, id, .. } = &row;
                if snapshot::count_pending_copies(tx, account, region)? >= PENDING_COPIES_MAX {
                    return Err(Error::new(
                        RESOURCE_LIMIT_EXCEEDED,
                        format!(
                            "Too many snapshot copies in progress. The limit is \
                             {PENDING_COPIES_MAX} for this destination region."
                        ),
                    )
                    .because(Refusal::new(
                        Layer::Quota,
                        format!("fewer than {PENDING_COPIES_MAX} copies pending in {region}"),
                        format!("account {account} has {PENDING_COPIES_MAX}"),
                        "wait until one has ended: ec2:DescribeSnapshots shows their progress",
                    )));
                }
                snapshot::insert(tx, &row)?;
                tag::set(tx, account, region, id.as_str(), &tags)??;
                Ok(lifecycle::kinds::enqueue_copy_snapshot(tx, &job, now)?)
            })
            .await?;
        call.world.wake_jobs();
        let tags = plan.tags.into_iter().map(TagShape::from).collect();
        Ok(Output { tags, snapshot_id: id })
    }
}

/// Why the copy will end in `error` though it is accepted (spec 20, C.6); keys are asked later.
fn doomed(plan: &Plan) -> Option<Refusal> {
    let (id, region) = (&plan.source_id, &plan.source_region);
    let refusal = match &plan.source {
        None => Refusal::new(
            Layer::Visibility,
            format!("a source snapshot in {region} that account {} may see", plan.account),
            format!("{id} is none: it does not exist there, was deleted, or is not shared"),
            format!(
                "look whether {region} is the region it was made in; its owner must share it with \
                 account {} by ec2:ModifySnapshotAttribute. Then copy again: this copy stays in error",
                plan.account
            ),
        )
        .seen_later("the copy ends in error: Source snapshot is not found"),
        Some(found) if !found.snapshot.is_completed() => {
            let state = found.snapshot.state.as_str();
            let remedy = "wait until it is completed, then copy again";
            Refusal::state("a source snapshot that is completed", id.as_str(), state, remedy)
                .seen_later("the copy ends in error if that is still so: Source snapshot is not complete")
        }
        Some(_) => return None,
    };
    Some(refusal)
}

fn job(call: &Call, row: &Snapshot) -> Job {
    Job {
        region: row.region.clone(),
        account: row.account.clone(),
        snapshot: row.id.clone(),
        identity: capture(call),
        explain_id: call.notes.explain_id().map(str::to_owned),
    }
}

fn check_regions(call: &Call, input: &Input) -> Result<(), Error> {
    let here = &call.region;
    if !call.world.regions.contains(&input.source_region) {
        let message = format!("Invalid source region: '{}'", input.source_region);
        return Err(invalid_value(message).because(Refusal::new(
            Layer::Request,
            "a source region that this server serves",
            input.source_region.as_str(),
            "ec2:DescribeRegions lists them; `strongroom serve --region` adds one",
        )));
    }
    if let Some(named) = &input.destination_region
        && named != here.as_str()
    {
        return Err(invalid_value(format!(
            "DestinationRegion '{named}' does not match the current region ({here})"
        ))
        .because(Refusal::new(
            Layer::Request,
            "the request in the region the copy is to be in",
            format!("it was sent to {here}, and names {named}"),
            format!("send it to the endpoint of {named}, or leave DestinationRegion out"),
        )));
    }
    match &input.presigned_url {
        Some(url) => presigned::check(url, &input.source_snapshot_id, here),
        None => Ok(()),
    }
}

fn check_minutes(minutes: Option<i32>) -> Result<Option<u32>, Error> {
    let Some(minutes) = minutes else { return Ok(None) };
    if !(MINUTES_STEP..=MINUTES_MAX).contains(&minutes) || minutes % MINUTES_STEP != 0 {
        return Err(invalid_value(format!(
            "Value ({minutes}) for parameter completionDurationMinutes is invalid. The duration \
             must be between {MINUTES_STEP} and {MINUTES_MAX} minutes, in steps of {MINUTES_STEP}."
        ))
        .because(Refusal::new(
            Layer::Request,
            format!("a multiple of {MINUTES_STEP} from {MINUTES_STEP} to {MINUTES_MAX} minutes"),
            format!("{minutes}"),
            "round it up to the next step, or leave it out for a copy as fast as it goes",
        )));
    }
    Ok(Some(u32::try_from(minutes).expect("the range has been checked")))
}

async fn key(
    call: &Call,
    input: &Input,
    source: Option<&FoundSnapshot>,
) -> Result<KeyTarget, Error> {
    let (account, region) = (call.account().clone(), call.region.clone());
    let read = move |tx: &mut meta::Tx<'_>| settings::get(tx, &account, &region);
    let settings = call.world.db.read(read).await?;
    let request = EncryptionRequest {
        encrypted: input.encrypted,
        key_given: input.kms_key_id.is_some(),
        by_default: settings.encryption_by_default,
    };
    let encrypted = source.is_some_and(|found| found.snapshot.is_encrypted());
    let choice = encryption::copy_snapshot(request, encrypted)?;
    let (account, region) = (call.account().clone(), call.region.clone());
    let given = input.kms_key_id.clone();
    let chosen = move |tx: &mut meta::Tx<'_>| {
        let default = settings.default_key_arn.as_deref();
        let among = Candidates { given: given.as_deref(), source: None, default };
        KeyTarget::choose(tx, &account, &region, choice, &among)
    };
    call.world.db.read(chosen).await.map_err(Error::internal)
}

/// The one KMS call made before the answer: DescribeKey in the caller's name (spec 20, C.5).
async fn check_key(call: &Call, arn: &str, given: Option<&str>) -> Result<(), Error> {
    let id = given.unwrap_or(arn);
    let not_authorized = || Error::new(AUTH_FAILURE, format!("Not authorized to use key {arn} "));
    let state = |state: &str| Refusal::key_state(arn, state);
    let disabled = || invalid_value(format!("The specified keyId {id} is disabled"));
    let invalid = || invalid_value(format!("The specified keyId {id} is invalid"));
    match describe_key(call, arn).await {
        Ok(facts) if !facts.symmetric => Err(invalid().because(Refusal::new(
            Layer::KeyUse,
            "a symmetric key that encrypts and decrypts",
            format!("{arn} is none"),
            "name another key",
        ))),
        Ok(facts) => match facts.state.as_str() {
            "Enabled" => Ok(()),
            "Disabled" => Err(disabled().because(state("is disabled"))),
            "PendingDeletion" => Err(invalid().because(state("is pending deletion"))),
            "PendingImport" => Err(invalid().because(state("is pending import"))),
            other => Err(invalid().because(state(&format!("is in the state {other}")))),
        },
        Err(failure) => {
            let error = match &failure {
                KmsFailure::Denied { .. } => not_authorized(),
                KmsFailure::State { .. } => disabled(),
                KmsFailure::NotFound { .. } | KmsFailure::Unusable { .. } => invalid(),
                KmsFailure::Unavailable { .. } => Error::internal(failure.clone()),
            };
            Err(error.because(Refusal::of_key(arn, &failure)))
        }
    }
}

fn row(call: &Call, plan: &Plan, kms_key_arn: Option<String>) -> Snapshot {
    let source = plan.source.as_ref().map(|found| &found.snapshot);
    Snapshot {
        id: SnapshotId::generate(&*call.world.rng),
        account: plan.account.clone(),
        region: plan.region.clone(),
        volume_id: VolumeId::parse(NO_VOLUME).expect("the constant is a volume id"),
        size_gib: source.map_or(0, |source| source.size_gib),
        state: SnapshotState::Pending(0),
        started: call.now,
        description: plan.description.clone(),
        kms_key_arn,
        data_key: None,
        root: None,
        pinned_root: source.and_then(|source| source.root.clone()),
        full_bytes: 0,
        parent: None,
        copied_from: Some(CopySource {
            snapshot: plan.source_id.clone(),
            region: plan.source_region.clone(),
            account: source.map(|source| source.account.clone()),
        }),
        completion_minutes: plan.completion_minutes,
        delete_requested: false,
    }
}
