//! `ebs:StartSnapshot`: begins a snapshot that is written block by block.

use super::complete_snapshot::Status;
use crate::direct::code::{Reason, conflict, invalid, not_found, not_yours, too_many_uploads};
use crate::direct::find::{in_standard_tier, root};
use crate::direct::{BLOCK_BYTES, key};
use crate::pipeline::Http;
use crate::storage::condition::set_request_tags;
use crate::storage::find::{FoundSnapshot, parsed};
use crate::storage::key::{Candidates, KeyTarget};
use crate::storage::shape::SseType;
use crate::storage::tagging;
use crate::{Ask, Call, Error, Granted, Operation, Rehearsal, Service, Spec};
use awsproto::Shape;
use base::{SnapshotId, Timestamp, VolumeId};
use ebs::client_token::{self, Claim, TokenScope};
use ebs::encryption::{self, EncryptionRequest, StartParent};
use ebs::snapshot::{self, NO_VOLUME};
use ebs::upload::{self, UPLOADS_MAX, Upload};
use ebs::visibility::Visibility;
use ebs::{Snapshot, SnapshotState, arns, settings, tag};
use lifecycle::kinds::enqueue_watch_upload;
use lifecycle::workflow::watch_upload::WatchUpload;

pub(crate) struct StartSnapshot;

/// Sizes of volumes, in GiB.
const VOLUME_SIZES: std::ops::RangeInclusive<i64> = 1..=65_536;
/// `Timeout`, in minutes (spec 03, "StartSnapshot").
const TIMEOUTS: std::ops::RangeInclusive<i32> = 10..=4_320;
const TIMEOUT_DEFAULT: i32 = 60;
const DESCRIPTION_CHARS_MAX: usize = 255;
/// The model's limit; the guide says 64.
const TOKEN_CHARS_MAX: usize = 255;

/// A tag as this API has it.
#[derive(Shape)]
pub(crate) struct Tag {
    key: Option<String>,
    value: Option<String>,
}

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    volume_size: i64,
    parent_snapshot_id: Option<SnapshotId>,
    tags: Vec<Tag>,
    description: Option<String>,
    client_token: Option<String>,
    encrypted: Option<bool>,
    #[shape(sensitive)]
    kms_key_arn: Option<String>,
    timeout: Option<i32>,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    description: Option<String>,
    snapshot_id: SnapshotId,
    owner_id: String,
    status: Status,
    start_time: Timestamp,
    volume_size: i64,
    block_size: i32,
    tags: Option<Vec<Tag>>,
    parent_snapshot_id: Option<SnapshotId>,
    #[shape(sensitive)]
    kms_key_arn: Option<String>,
    sse_type: SseType,
}

pub(crate) struct Plan {
    region: base::Region,
    account: base::AccountId,
    size_gib: u32,
    parent: Option<FoundSnapshot>,
    tags: Vec<tag::Tag>,
    description: Option<String>,
    timeout_minutes: u32,
    key: KeyTarget,
    token: Option<Token>,
}

#[derive(Clone)]
struct Token {
    text: String,
    request_digest: String,
}

impl Operation for StartSnapshot {
    const SPEC: Spec = Spec {
        service: Service::Ebs,
        name: "StartSnapshot",
        mutates: true,
        http: Some(Http { method: "POST", path: "/snapshots", status: 201, data_event: false }),
    };
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let token = token(&input)?;
        let parent = match &input.parent_snapshot_id {
            Some(id) => Some(parent(call, id).await?),
            None => None,
        };
        let size_gib = size(input.volume_size, parent.as_ref())?;
        let timeout = input.timeout.unwrap_or(TIMEOUT_DEFAULT);
        let bad = |message: &str| invalid(Reason::InvalidParameterValue, message);
        if !TIMEOUTS.contains(&timeout) {
            return Err(bad("Timeout must be between 10 and 4320 minutes."));
        }
        if input.description.as_ref().is_some_and(|d| d.chars().count() > DESCRIPTION_CHARS_MAX) {
            return Err(bad("Description must have at most 255 characters."));
        }
        let key = choose_key(call, &input, parent.as_ref()).await?;
        let pair = |tag: Tag| (tag.key.unwrap_or_default(), tag.value.unwrap_or_default());
        let tags: Vec<tag::Tag> = input.tags.into_iter().map(pair).collect();
        tag::check_tags(&tags).map_err(|error| invalid(Reason::InvalidTag, error.to_string()))?;
        Ok(Plan {
            region: call.region.clone(),
            account: call.account().clone(),
            size_gib,
            parent,
            tags,
            description: input.description,
            timeout_minutes: timeout.unsigned_abs(),
            key,
            token,
        })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        let arn = parsed(&arns::new_snapshot_arn(&plan.region));
        let mut context = iam::Context::new();
        context.set("ebs:VolumeSize", plan.size_gib.to_string());
        context.set_opt("ebs:Description", plan.description.as_deref());
        let parent = plan.parent.as_ref().map(|found| &found.snapshot.id);
        let parent = parent.map(|id| arns::snapshot_arn(&plan.region, id));
        context.set_opt("ebs:ParentSnapshot", parent.as_deref());
        set_request_tags(&mut context, &plan.tags);
        let mut asks = vec![Ask::on("ebs:StartSnapshot", &arn, &plan.account).with(context)];
        let (name, empty) = ("StartSnapshot", iam::Context::new());
        asks.extend(tagging::ask_for_new(&plan.tags, &arn, &plan.account, name, empty));
        asks
    }

    async fn implied(call: &Call, plan: &Plan, rehearsal: &Rehearsal) -> Result<(), Error> {
        rehearsal.noted(row(call, plan).await.map(drop))
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let plan = plan.into_inner();
        if let Some(earlier) = earlier(call, &plan).await? {
            return Ok(earlier);
        }
        let row = row(call, &plan).await?;
        let upload = Upload {
            account: row.account.clone(),
            region: row.region.clone(),
            snapshot: row.id.clone(),
            timeout_minutes: plan.timeout_minutes,
            active: call.now,
        };
        let (tags, token, now) = (plan.tags, plan.token, call.now);
        let begin = move |tx: &mut meta::Tx<'_>| begin(tx, &row, &upload, &tags, &token, now);
        let (snapshot, tags) = call.world.db.write(begin).await?;
        call.world.wake_jobs();
        Ok(output(snapshot, tags))
    }
}

fn token(input: &Input) -> Result<Option<Token>, Error> {
    let Some(text) = &input.client_token else { return Ok(None) };
    if text.is_empty() || text.len() > TOKEN_CHARS_MAX || !text.is_ascii() {
        let message = format!("ClientToken must have 1 to {TOKEN_CHARS_MAX} ASCII characters.");
        return Err(invalid(Reason::InvalidParameterValue, message));
    }
    let Input { volume_size, parent_snapshot_id, description, encrypted, .. } = input;
    let Input { kms_key_arn, timeout, tags, .. } = input;
    let tags: Vec<_> = tags.iter().map(|tag| (&tag.key, &tag.value)).collect();
    let parameters =
        (volume_size, parent_snapshot_id, description, encrypted, kms_key_arn, timeout);
    let request_digest = client_token::request_digest(&[&format!("{:?}", (parameters, tags))]);
    Ok(Some(Token { text: text.clone(), request_digest }))
}

/// The parent must be the caller's own and completed (spec 03, "StartSnapshot").
async fn parent(call: &Call, id: &SnapshotId) -> Result<FoundSnapshot, Error> {
    let found = FoundSnapshot::find_in(call, &call.region, id).await?;
    let found = found.ok_or_else(|| not_found(id))?;
    if found.seen != Visibility::Owner {
        return Err(not_yours("The parent snapshot must be your own."));
    }
    if !found.snapshot.is_completed() {
        return Err(invalid(Reason::InvalidSnapshotId, "The parent snapshot is not completed."));
    }
    in_standard_tier(&found)?;
    Ok(found)
}

fn size(size_gib: i64, parent: Option<&FoundSnapshot>) -> Result<u32, Error> {
    let bad = |message: String| invalid(Reason::InvalidVolumeSize, message);
    if !VOLUME_SIZES.contains(&size_gib) {
        return Err(bad("VolumeSize must be between 1 and 65536 GiB.".to_owned()));
    }
    match parent.map(|found| found.snapshot.size_gib) {
        Some(smallest) if size_gib < i64::from(smallest) => {
            Err(bad(format!("VolumeSize must not be below the parent's {smallest} GiB.")))
        }
        _ => Ok(u32::try_from(size_gib).expect("the range was checked")),
    }
}

async fn choose_key(
    call: &Call,
    input: &Input,
    parent: Option<&FoundSnapshot>,
) -> Result<KeyTarget, Error> {
    let (account, region) = (call.account().clone(), call.region.clone());
    let read = move |tx: &mut meta::Tx<'_>| settings::get(tx, &account, &region);
    let settings = call.world.db.read(read).await?;
    let request = EncryptionRequest {
        encrypted: input.encrypted,
        key_given: input.kms_key_arn.is_some(),
        by_default: settings.encryption_by_default,
    };
    let kind = match parent.map(|found| found.snapshot.is_encrypted()) {
        None => StartParent::None,
        Some(false) => StartParent::Plain,
        Some(true) => StartParent::Encrypted,
    };
    let choice = encryption::start_snapshot(request, kind)
        .map_err(|error| invalid(Reason::InvalidParameterValue, error.to_string()))?;
    let (account, region) = (call.account().clone(), call.region.clone());
    let given = input.kms_key_arn.clone();
    let source = parent.and_then(|found| found.snapshot.kms_key_arn.clone());
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

/// What an earlier request with the same token began; asked before KMS is.
async fn earlier(call: &Call, plan: &Plan) -> Result<Option<Output>, Error> {
    let Some(token) = plan.token.clone() else { return Ok(None) };
    let (account, region, now) = (plan.account.clone(), plan.region.clone(), call.now);
    let found = call
        .world
        .db
        .read(move |tx| {
            let scope = scope(&account, &region);
            let claim = client_token::look_up(tx, scope, &token.text, &token.request_digest, now)?;
            repeated(tx, &account, &region, claim)
        })
        .await?;
    Ok(found.map(|(snapshot, tags)| output(snapshot, tags)))
}

fn scope<'a>(account: &'a base::AccountId, region: &'a base::Region) -> TokenScope<'a> {
    TokenScope { account, region, operation: "StartSnapshot" }
}

type Begun = (Snapshot, Vec<tag::Tag>);

fn repeated(
    tx: &mut meta::Tx<'_>,
    account: &base::AccountId,
    region: &base::Region,
    claim: Claim,
) -> Result<Option<Begun>, Error> {
    let id = match claim {
        Claim::New => return Ok(None),
        Claim::Mismatch => return Err(conflict()),
        Claim::Repeated { resource_id } => resource_id,
    };
    let id = SnapshotId::parse(&id).map_err(Error::internal)?;
    // A snapshot that is gone has used its token up.
    let row = snapshot::get(tx, region, &id)?.ok_or_else(conflict)?;
    let tags = tag::of_resource(tx, account, region, id.as_str())?;
    Ok(Some((row, tags)))
}

async fn row(call: &Call, plan: &Plan) -> Result<Snapshot, Error> {
    let id = SnapshotId::generate(&*call.world.rng);
    let kms_key_arn = plan.key.obtain(call).await?;
    let parent = plan.parent.as_ref();
    let data_key = match parent {
        Some(parent) => key::rewrap(call, &parent.snapshot, id.as_str()).await?,
        None => key::generate(call, kms_key_arn.as_deref(), id.as_str()).await?,
    };
    Ok(Snapshot {
        id,
        account: plan.account.clone(),
        region: plan.region.clone(),
        volume_id: VolumeId::parse(NO_VOLUME).expect("the constant is an id"),
        size_gib: plan.size_gib,
        state: SnapshotState::Pending(0),
        started: call.now,
        description: plan.description.clone().unwrap_or_default(),
        kms_key_arn,
        data_key: Some(data_key),
        root: None,
        pinned_root: parent.map(root).transpose()?,
        full_bytes: 0,
        parent: parent.map(|found| found.snapshot.id.clone()),
        copied_from: None,
        completion_minutes: None,
        delete_requested: false,
    })
}

fn begin(
    tx: &mut meta::Tx<'_>,
    row: &Snapshot,
    upload: &Upload,
    tags: &[tag::Tag],
    token: &Option<Token>,
    now: Timestamp,
) -> Result<Begun, Error> {
    let (account, region, id) = (&row.account, &row.region, row.id.as_str());
    if let Some(Token { text, request_digest }) = token {
        let scope = scope(account, region);
        let claim = client_token::claim(tx, scope, text, request_digest, id, now)?;
        if let Some(earlier) = repeated(tx, account, region, claim)? {
            return Ok(earlier);
        }
    }
    if upload::count(tx, account, region)? >= UPLOADS_MAX {
        return Err(too_many_uploads());
    }
    if let Some(parent) = &row.parent {
        // It may have been deleted since it was found; its blocks would then not be pinned in time.
        snapshot::get(tx, region, parent)?
            .filter(|parent| !parent.delete_requested)
            .ok_or_else(|| not_found(parent))?;
    }
    snapshot::insert(tx, row)?;
    tag::set(tx, account, region, id, tags)?
        .map_err(|error| invalid(Reason::InvalidTag, error.to_string()))?;
    upload::insert(tx, upload)?;
    let watch = WatchUpload {
        region: region.clone(),
        account: account.clone(),
        snapshot: row.id.clone(),
        look: 0,
    };
    enqueue_watch_upload(tx, &watch, now, upload.expires())?;
    Ok((row.clone(), tags.to_vec()))
}

fn output(snapshot: Snapshot, tags: Vec<tag::Tag>) -> Output {
    let status = match snapshot.state {
        SnapshotState::Pending(_) => Status::Pending,
        SnapshotState::Completed { .. } => Status::Completed,
        SnapshotState::Error { .. } => Status::Error,
    };
    let tag = |(key, value)| Tag { key: Some(key), value: Some(value) };
    let sse_type = SseType::of(snapshot.is_encrypted());
    Output {
        description: Some(snapshot.description).filter(|text| !text.is_empty()),
        snapshot_id: snapshot.id,
        owner_id: snapshot.account.as_str().to_owned(),
        status,
        start_time: snapshot.started,
        volume_size: i64::from(snapshot.size_gib),
        block_size: BLOCK_BYTES,
        tags: (!tags.is_empty()).then(|| tags.into_iter().map(tag).collect()),
        parent_snapshot_id: snapshot.parent,
        kms_key_arn: snapshot.kms_key_arn,
        sse_type,
    }
}
