//! `ec2:CreateVolume`: accepts a new volume, blank or from a snapshot; its key is fetched afterwards.

use crate::kms_port::capture;
use crate::refusal::Refusal;
use crate::rehearsal::Rehearsal;
use crate::storage::code::{
    IDEMPOTENT_PARAMETER_MISMATCH, INCORRECT_STATE, invalid_value, snapshot_archived,
    snapshot_not_found,
};
use crate::storage::condition::{self, VolumeFacts};
use crate::storage::find::{FoundSnapshot, parsed, zone_id};
use crate::storage::key::{Candidates, KeyTarget};
use crate::storage::shape::{TagSpecification, VolumeShape};
use crate::storage::{tagging, zone};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::code::{INVALID_PARAMETER_COMBINATION, MISSING_PARAMETER, UNSUPPORTED_OPERATION};
use awsproto::{ErrorSpec, Shape};
use base::{AccountId, Region, SnapshotId, Timestamp, VolumeId};
use ebs::client_token::{self, Claim, TOKEN_CHARS_MAX, TokenScope};
use ebs::encryption::{self, EncryptionRequest, VolumeSource};
use ebs::tag::{self, Tag};
use ebs::visibility::Visibility;
use ebs::volume_type::{Performance, VolumeSpec};
use ebs::{
    Initialization, Twin, Volume, VolumeState, VolumeType, arns, fast_restore, initialization,
    settings, snapshot, twin, volume,
};
use lifecycle::workflow::create_volume::{self, CreateVolume as Job, SourceSnapshot};

pub(crate) struct CreateVolume;

const INVALID_ZONE_NOT_FOUND: ErrorSpec = ErrorSpec::sender("InvalidZone.NotFound", 400);

/// What is seen of a volume whose key could not be used.
const VANISHES: &str = "the volume is accepted as creating, then vanishes: InvalidVolume.NotFound \
                        (events createVolume failed and deleteVolume)";

#[derive(Shape)]
#[shape(input, dry_run, unsupported(OutpostArn, Operator))]
pub(crate) struct Input {
    availability_zone: Option<String>,
    availability_zone_id: Option<String>,
    encrypted: Option<bool>,
    iops: Option<i32>,
    kms_key_id: Option<String>,
    size: Option<i32>,
    snapshot_id: Option<SnapshotId>,
    volume_type: Option<String>,
    #[shape(query = "TagSpecification")]
    tag_specifications: Vec<TagSpecification>,
    #[shape(default)]
    multi_attach_enabled: bool,
    throughput: Option<i32>,
    volume_initialization_rate: Option<i32>,
    client_token: Option<String>,
}

pub(crate) struct Plan {
    region: Region,
    account: AccountId,
    zone: String,
    zone_id: String,
    volume_type: VolumeType,
    size_gib: u32,
    performance: Performance,
    key: KeyTarget,
    snapshot: Option<FoundSnapshot>,
    initialization_rate_mib: Option<u32>,
    tags: Vec<Tag>,
    token: Option<Token>,
}

/// A client token and what it was sent with.
#[derive(Clone)]
struct Token {
    text: String,
    request_digest: String,
}

impl Operation for CreateVolume {
    const SPEC: Spec = Spec::mutates(Service::Ec2, "CreateVolume");
    type Input = Input;
    type Plan = Plan;
    type Output = VolumeShape;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let token = token(&input)?;
        let zone = zone(call, &input)?;
        let snapshot = match &input.snapshot_id {
            Some(id) => Some(usable(call, id).await?),
            None => None,
        };
        let spec = spec(&input, snapshot.as_ref())?;
        let performance = spec.check()?;
        if input.multi_attach_enabled {
            let message = "The parameter MultiAttachEnabled is not supported.";
            return Err(Error::new(UNSUPPORTED_OPERATION, message));
        }
        let initialization_rate_mib = initialization_rate(&input)?;
        let key = key(call, &input, snapshot.as_ref()).await?;
        let tags = tagging::of_new(input.tag_specifications, "volume")?;
        Ok(Plan {
            region: call.region.clone(),
            account: call.account().clone(),
            zone_id: zone_id(call, &zone),
            zone,
            volume_type: spec.volume_type,
            size_gib: u32::try_from(spec.size_gib).expect("the size has been checked"),
            performance,
            key,
            snapshot,
            initialization_rate_mib,
            tags,
            token,
        })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        let arn = parsed(&arns::new_volume_arn(&plan.region, &plan.account));
        let context = facts(plan);
        let mut on_volume = context.clone();
        condition::set_request_tags(&mut on_volume, &plan.tags);
        let action = "ec2:CreateVolume";
        let mut asks = vec![Ask::on(action, &arn, &plan.account).with(on_volume)];
        asks.extend(plan.snapshot.as_ref().map(|snapshot| snapshot.ask(action)));
        let name = "CreateVolume";
        asks.extend(tagging::ask_for_new(&plan.tags, &arn, &plan.account, name, context));
        asks
    }

    async fn implied(call: &Call, plan: &Plan, rehearsal: &Rehearsal) -> Result<(), Error> {
        let kms_key_arn = plan.key.obtain(call).await?;
        rehearsal.later(VANISHES);
        rehearsal.go_on();
        let row = row(call, plan, kms_key_arn);
        let (job, kms) = (job(call, plan, &row)?, call.kms());
        let rehearsed = create_volume::rehearse(&call.world.services, &*kms, &job, &row).await;
        rehearsed.map_err(Error::internal)?;
        if rehearsal.take_failure().is_some() {
            rehearsal.fails_later(VANISHES);
        }
        Ok(())
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<VolumeShape, Error> {
        let plan = plan.into_inner();
        let kms_key_arn = plan.key.obtain(call).await?;
        let row = row(call, &plan, kms_key_arn);
        let job = job(call, &plan, &row)?;
        let (tags, token, now) = (plan.tags.clone(), plan.token.clone(), call.now);
        let rate = plan.initialization_rate_mib;
        let accepted = call
            .world
            .db
            .write(move |tx| {
                if let Some(earlier) = repeated(tx, &row, token.as_ref(), now)? {
                    return Ok(earlier);
                }
                check_source(tx, &row)?;
                volume::insert(tx, &row)?;
                tag::set(tx, &row.account, &row.region, row.id.as_str(), &tags)??;
                // A rate that was asked for is the user's word (spec 01, "Lazy load").
                let is_fast = rate.is_none() && is_restored_fast(tx, &row, now)?;
                if let Some(filling) = initialization(&row, rate, is_fast.then_some(now)) {
                    initialization::insert(tx, &filling)?;
                }
                lifecycle::kinds::enqueue_create_volume(tx, &job, now)?;
                Ok::<_, Error>((row.clone(), tags.clone()))
            })
            .await?;
        call.world.wake_jobs();
        let (volume, tags) = accepted;
        Ok(VolumeShape::created(&volume, plan.zone_id, tags, rate))
    }
}

fn job(call: &Call, plan: &Plan, row: &Volume) -> Result<Job, Error> {
    Ok(Job {
        region: row.region.clone(),
        account: row.account.clone(),
        volume: row.id.clone(),
        identity: capture(call),
        request_id: call.request_id.clone(),
        source: plan.snapshot.as_ref().map(source).transpose()?,
    })
}

fn token(input: &Input) -> Result<Option<Token>, Error> {
    let Some(text) = &input.client_token else { return Ok(None) };
    if text.is_empty() || text.len() > TOKEN_CHARS_MAX || !text.is_ascii() {
        return Err(invalid_value(format!(
            "Client token must be 1 to {TOKEN_CHARS_MAX} ASCII characters."
        )));
    }
    let tags: Vec<_> = input
        .tag_specifications
        .iter()
        .flat_map(|list| &list.tags)
        .map(|tag| (&tag.key, &tag.value))
        .collect();
    let Input { availability_zone, availability_zone_id, encrypted, iops, kms_key_id, .. } = input;
    let Input { size, snapshot_id, volume_type, multi_attach_enabled, throughput, .. } = input;
    let rate = input.volume_initialization_rate;
    let parameters = format!(
        "{:?}",
        (
            (availability_zone, availability_zone_id, encrypted, iops, kms_key_id),
            (size, snapshot_id, volume_type, multi_attach_enabled, throughput, rate),
            tags,
        )
    );
    let request_digest = client_token::request_digest(&[&parameters]);
    Ok(Some(Token { text: text.clone(), request_digest }))
}

fn zone(call: &Call, input: &Input) -> Result<String, Error> {
    let zones = call.world.regions.zones(&call.region);
    let (found, named) = match (&input.availability_zone, &input.availability_zone_id) {
        (Some(_), Some(_)) => {
            return Err(Error::new(
                INVALID_PARAMETER_COMBINATION,
                "The parameters AvailabilityZone and AvailabilityZoneId cannot be used together.",
            ));
        }
        (None, None) => {
            let message = "The request must contain the parameter availabilityZone";
            return Err(Error::new(MISSING_PARAMETER, message));
        }
        (Some(name), None) => (zones.iter().find(|zone| *zone == name), name),
        (None, Some(id)) => {
            let at = (0..zones.len()).find(|at| zone::zone_id(&call.region, *at) == *id);
            (at.map(|at| &zones[at]), id)
        }
    };
    found.cloned().ok_or_else(|| {
        Error::new(INVALID_ZONE_NOT_FOUND, format!("The zone '{named}' does not exist."))
    })
}

/// The rate asked for in MiB/s, checked (spec 01, "CreateVolume").
fn initialization_rate(input: &Input) -> Result<Option<u32>, Error> {
    let Some(rate) = input.volume_initialization_rate else { return Ok(None) };
    if input.snapshot_id.is_none() {
        let message = "The parameter VolumeInitializationRate can only be used with SnapshotId.";
        return Err(Error::new(INVALID_PARAMETER_COMBINATION, message));
    }
    let allowed = u32::try_from(rate).ok().filter(|rate| initialization::RATE_MIB.contains(rate));
    allowed.map(Some).ok_or_else(|| {
        invalid_value(format!(
            "Volume initialization rate of {rate} MiB/s is not between {} and {} MiB/s.",
            initialization::RATE_MIB.start(),
            initialization::RATE_MIB.end(),
        ))
    })
}

/// Takes a credit of fast snapshot restore for a new volume, if its account has one in its zone; the
/// volume then reads the snapshot's twin and is whole from the start.
fn is_restored_fast(tx: &mut meta::Tx<'_>, volume: &Volume, now: Timestamp) -> Result<bool, Error> {
    let Volume { account, region, zone, snapshot_id, .. } = volume;
    let Some(id) = snapshot_id else { return Ok(false) };
    let twin = twin::get(tx, region, id)?;
    let is_of_base = |twin: &Twin| Some(&twin.source_root) == volume.base_root.as_ref();
    let Some(root) = twin.filter(is_of_base).and_then(|twin| twin.root) else { return Ok(false) };
    if !fast_restore::take_credit(tx, account, region, id, zone, now)? {
        return Ok(false);
    }
    twin::note_volume(tx, volume, &root)?;
    Ok(true)
}

/// What begins with a volume from a snapshot; it may be done already.
fn initialization(
    volume: &Volume,
    rate_mib: Option<u32>,
    completed: Option<Timestamp>,
) -> Option<Initialization> {
    volume.snapshot_id.as_ref()?;
    Some(Initialization {
        account: volume.account.clone(),
        region: volume.region.clone(),
        volume: volume.id.clone(),
        rate_mib,
        progress: if completed.is_some() { 100 } else { 0 },
        checkpoint: None,
        started: volume.created,
        completed,
        waits_for: None,
        given_up: None,
    })
}

async fn usable(call: &Call, id: &SnapshotId) -> Result<FoundSnapshot, Error> {
    let found = FoundSnapshot::find(call, id).await?;
    if found.snapshot.is_archived() {
        return Err(snapshot_archived(id.as_str()));
    }
    if found.snapshot.is_completed() {
        return Ok(found);
    }
    let state = found.snapshot.state.as_str();
    let remedy = match state {
        "pending" => "wait until it is completed: ec2:DescribeSnapshots shows its progress",
        _ => "make the volume of another snapshot: this one will not become whole",
    };
    let refusal = Refusal::state("a snapshot that is completed", id.as_str(), state, remedy);
    let message = format!("Snapshot is in invalid state - {state}");
    Err(Error::new(INCORRECT_STATE, message).because(refusal))
}

fn spec(input: &Input, snapshot: Option<&FoundSnapshot>) -> Result<VolumeSpec, Error> {
    let volume_type = match &input.volume_type {
        Some(text) => VolumeType::parse(text)?,
        // The API's default; the console's is another (spec 01).
        None => VolumeType::Gp2,
    };
    let smallest = snapshot.map(|found| i64::from(found.snapshot.size_gib));
    let size_gib = match (input.size.map(i64::from), smallest) {
        (Some(size), Some(smallest)) if size < smallest => {
            return Err(invalid_value(format!(
                "The volume size cannot be smaller than the snapshot size of {smallest}GiB."
            )));
        }
        (Some(size), _) => size,
        (None, Some(smallest)) => smallest,
        (None, None) => {
            let message = "The request must contain the parameter size/snapshot";
            return Err(Error::new(MISSING_PARAMETER, message));
        }
    };
    Ok(VolumeSpec {
        volume_type,
        size_gib,
        iops: input.iops.map(i64::from),
        throughput_mib: input.throughput.map(i64::from),
        multi_attach: input.multi_attach_enabled,
    })
}

async fn key(
    call: &Call,
    input: &Input,
    snapshot: Option<&FoundSnapshot>,
) -> Result<KeyTarget, Error> {
    let (account, region) = (call.account().clone(), call.region.clone());
    let read = move |tx: &mut meta::Tx<'_>| settings::get(tx, &account, &region);
    let settings = call.world.db.read(read).await?;
    let request = EncryptionRequest {
        encrypted: input.encrypted,
        key_given: input.kms_key_id.is_some(),
        by_default: settings.encryption_by_default,
    };
    let from = match snapshot {
        None => VolumeSource::Blank,
        Some(FoundSnapshot { snapshot, seen: Visibility::Owner, .. }) => {
            VolumeSource::Own { encrypted: snapshot.is_encrypted() }
        }
        Some(found) => VolumeSource::Shared { encrypted: found.snapshot.is_encrypted() },
    };
    let choice = encryption::create_volume(request, from)?;
    let (account, region) = (call.account().clone(), call.region.clone());
    let given = input.kms_key_id.clone();
    let source = snapshot.and_then(|found| found.snapshot.kms_key_arn.clone());
    let chosen = move |tx: &mut meta::Tx<'_>| {
        let among = Candidates {
            given: given.as_deref(),
            source: source.as_deref(),
            default: settings.default_key_arn.as_deref(),
        };
        KeyTarget::choose(tx, &account, &region, choice, &among)
    };
    call.world.db.read(chosen).await.map_err(Error::internal)
}

fn facts(plan: &Plan) -> iam::Context {
    let snapshot = plan.snapshot.as_ref().map(|found| &found.snapshot.id);
    let key = plan.key.condition_arn(&plan.account, &plan.region);
    VolumeFacts {
        region: &plan.region,
        zone: &plan.zone,
        zone_id: &plan.zone_id,
        id: None,
        parent_snapshot: snapshot.map(|id| arns::snapshot_arn(&plan.region, id)),
        kms_key_arn: key.as_deref(),
        size_gib: plan.size_gib,
        volume_type: plan.volume_type.as_str(),
        iops: plan.performance.iops,
        throughput_mib: plan.performance.throughput_mib,
        encrypted: plan.key.is_encrypted(),
    }
    .context()
}

fn row(call: &Call, plan: &Plan, kms_key_arn: Option<String>) -> Volume {
    let snapshot = plan.snapshot.as_ref().map(|found| &found.snapshot);
    Volume {
        id: VolumeId::generate(&*call.world.rng),
        account: plan.account.clone(),
        region: plan.region.clone(),
        zone: plan.zone.clone(),
        size_gib: plan.size_gib,
        volume_type: plan.volume_type,
        iops: plan.performance.iops,
        throughput_mib: plan.performance.throughput_mib,
        state: VolumeState::Creating,
        kms_key_arn,
        data_key: None,
        snapshot_id: snapshot.map(|snapshot| snapshot.id.clone()),
        base_root: snapshot.and_then(|snapshot| snapshot.root.clone()),
        first_base_root: None,
        continues_snapshot: false,
        latest_snapshot_id: None,
        created: call.now,
    }
}

fn source(found: &FoundSnapshot) -> Result<SourceSnapshot, Error> {
    let snapshot = &found.snapshot;
    let Some(data_key) = snapshot.data_key.clone() else {
        let (table, column) = ("ebs_snapshots", "wrapped_key");
        return Err(ebs::Error::Corrupt { table, column }.into());
    };
    Ok(SourceSnapshot {
        owned: found.seen == Visibility::Owner,
        kms_key_arn: snapshot.kms_key_arn.clone(),
        data_key,
    })
}

/// The snapshot may be gone since it was looked up. A volume that was made of it all the same would read
/// blocks that nothing keeps.
fn check_source(tx: &mut meta::Tx<'_>, row: &Volume) -> Result<(), Error> {
    let Some(id) = &row.snapshot_id else { return Ok(()) };
    match snapshot::get(tx, &row.region, id)? {
        Some(found) if found.is_archived() => Err(snapshot_archived(id.as_str())),
        Some(found) if found.root == row.base_root && !found.delete_requested => Ok(()),
        _ => Err(snapshot_not_found(id.as_str())),
    }
}

/// What an earlier request with the same token made; uses the token up when there was none.
fn repeated(
    tx: &mut meta::Tx<'_>,
    row: &Volume,
    token: Option<&Token>,
    now: base::Timestamp,
) -> Result<Option<(Volume, Vec<Tag>)>, Error> {
    let Some(token) = token else { return Ok(None) };
    let scope =
        TokenScope { account: &row.account, region: &row.region, operation: "CreateVolume" };
    let Token { text, request_digest } = token;
    let mismatch = |message: &str| Error::new(IDEMPOTENT_PARAMETER_MISMATCH, message);
    match client_token::claim(tx, scope, text, request_digest, row.id.as_str(), now)? {
        Claim::New => Ok(None),
        Claim::Mismatch => Err(mismatch(
            "Arguments on this idempotent request are inconsistent with arguments used in \
             previous request(s).",
        )),
        Claim::Repeated { resource_id } => {
            let earlier = match VolumeId::parse(&resource_id) {
                Ok(id) => volume::get(tx, &row.region, &id)?,
                Err(_) => None,
            };
            let Some(earlier) = earlier.filter(|volume| volume.state != VolumeState::Deleting)
            else {
                return Err(mismatch(
                    "The client token you have provided is associated with a resource already \
                     deleted. Please use a different client token for the request.",
                ));
            };
            let tags = tag::of_resource(tx, &row.account, &row.region, earlier.id.as_str())?;
            Ok(Some((earlier, tags)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::tests::{HERE, Stage};
    use crate::testing::region;
    use serde_json::json;

    #[tokio::test]
    async fn a_snapshot_that_went_since_it_was_looked_up_makes_no_volume() {
        let mut stage = Stage::new().await;
        let volume = stage.volume(1, HERE, json!({ "Size": 1 })).await;
        let made = stage.snapshot(1, HERE, &volume).await;
        let restored = stage.volume(1, HERE, json!({ "SnapshotId": made })).await;
        let id = VolumeId::parse(&restored).unwrap();
        let db = &stage.bench.world.db;
        let row = db.read(move |tx| volume::get(tx, &region(HERE), &id)).await.unwrap().unwrap();
        let check = || {
            let row = row.clone();
            db.read(move |tx| check_source(tx, &row))
        };
        check().await.unwrap();
        stage.ec2("DeleteSnapshot", json!({ "SnapshotId": made })).await;
        assert_eq!(check().await.unwrap_err().code(), "InvalidSnapshot.NotFound");
    }
}
