//! What EBS tells about volumes and snapshots (spec 12; spec 20, D.2).

use crate::event::{Envelope, ServiceEvent};
use base::{AccountId, Arn, Region, SnapshotId, Timestamp, VolumeId};
use serde_json::{Map, Value, json};

const SOURCE: &str = "aws.ec2";
const VOLUME: &str = "EBS Volume Notification";
const SNAPSHOT: &str = "EBS Snapshot Notification";
const FAST_RESTORE: &str = "EBS Fast Snapshot Restore State-change Notification";
const SNAPSHOTS: &str = "EBS Multi-Volume Snapshots Completion Status";

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As asked.
    Succeeded,
    /// Not; with the cause as EBS words it, see [`KeyProblem::cause`].
    Failed(String),
}

impl Outcome {
    fn cause(&self) -> &str {
        match self {
            Self::Succeeded => "",
            Self::Failed(cause) => cause,
        }
    }

    fn result<'a>(&self, succeeded: &'a str) -> &'a str {
        match self {
            Self::Succeeded => succeeded,
            Self::Failed(_) => "failed",
        }
    }
}

/// What is wrong with a key that a volume or snapshot needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyProblem {
    /// Disabled.
    Disabled,
    /// Waits for its material.
    PendingImport,
    /// Scheduled for deletion.
    PendingDeletion,
}

impl KeyProblem {
    /// The cause in EBS's words.
    pub fn cause(self, key_arn: &str) -> String {
        match self {
            Self::Disabled => format!("{key_arn} is disabled."),
            Self::PendingImport => format!("{key_arn} is pending import."),
            Self::PendingDeletion => format!("{key_arn} is pending deletion."),
        }
    }
}

/// How snapshot events write ARNs. The published samples have an empty region field and the region where the
/// account belongs; current ones are well formed. Receivers split at the slash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArnForm {
    /// `arn:aws:ec2:<region>::snapshot/<id>`.
    Regular,
    /// `arn:aws:ec2::<region>:snapshot/<id>`.
    Historic,
}

impl ArnForm {
    fn write(self, region: &Region, resource: &str) -> String {
        match self {
            Self::Regular => Arn::unowned("ec2", region, resource).to_string(),
            Self::Historic => format!("arn:{}:ec2::{region}:{resource}", base::arn::PARTITION),
        }
    }

    fn snapshot(self, region: &Region, id: &SnapshotId) -> String {
        self.write(region, &format!("snapshot/{id}"))
    }
}

/// `createVolume`: available, or failed because of a key.
pub fn create_volume(
    envelope: Envelope,
    volume: &VolumeId,
    request_id: &str,
    outcome: &Outcome,
) -> ServiceEvent {
    let result = outcome.result("available");
    let detail = detail("createVolume", result, outcome.cause(), request_id);
    let resources = vec![volume_arn(&envelope, volume)];
    ServiceEvent::new(envelope, SOURCE, VOLUME, resources, detail)
}

/// `initializeVolume`: every block of the snapshot has arrived.
pub fn initialize_volume(envelope: Envelope, volume: &VolumeId) -> ServiceEvent {
    let detail = detail("initializeVolume", "succeeded", "", "");
    let resources = vec![volume_arn(&envelope, volume)];
    ServiceEvent::new(envelope, SOURCE, VOLUME, resources, detail)
}

/// `deleteVolume`: gone for good, also after a failed creation.
pub fn delete_volume(envelope: Envelope, volume: &VolumeId, request_id: &str) -> ServiceEvent {
    let detail = detail("deleteVolume", "deleted", "", request_id);
    let resources = vec![volume_arn(&envelope, volume)];
    ServiceEvent::new(envelope, SOURCE, VOLUME, resources, detail)
}

/// A step of a modification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModificationEvent {
    /// The volume is as asked for; the new size can be used.
    Optimizing,
    /// Done.
    Completed,
    /// It will not happen; with the cause.
    Failed(String),
}

/// `modifyVolume`: one for every step of a modification.
pub fn modify_volume(
    envelope: Envelope,
    volume: &VolumeId,
    event: &ModificationEvent,
) -> ServiceEvent {
    let (result, cause) = match event {
        ModificationEvent::Optimizing => ("optimizing", ""),
        ModificationEvent::Completed => ("completed", ""),
        ModificationEvent::Failed(cause) => ("failed", cause.as_str()),
    };
    let detail = detail("modifyVolume", result, cause, "");
    let resources = vec![volume_arn(&envelope, volume)];
    ServiceEvent::new(envelope, SOURCE, VOLUME, resources, detail)
}

/// How the storage of a region's volumes stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StorageSpace {
    /// There is enough again.
    Ample,
    /// Little is left.
    Low,
    /// Writes that need more are refused.
    Full,
}

/// `storageSpace`: our extension. EBS has no end of space; the machine its volumes lie on has.
pub fn storage_space(envelope: Envelope, space: StorageSpace) -> ServiceEvent {
    let (result, cause) = match space {
        StorageSpace::Ample => ("ample", ""),
        StorageSpace::Low => ("low", "The storage of this region is nearly full."),
        StorageSpace::Full => {
            ("full", "The storage of this region is full. Writes to its volumes are refused.")
        }
    };
    let detail = detail("storageSpace", result, cause, "");
    ServiceEvent::new(envelope, SOURCE, VOLUME, Vec::new(), detail)
}

/// Which attachment failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attachment {
    /// The first one.
    Attach,
    /// The one after the machine or its host came back.
    Reattach,
}

/// `attachVolume` or `reattachVolume` failed because of a key.
pub fn attach_failed(
    envelope: Envelope,
    attachment: Attachment,
    volume: &VolumeId,
    key_arn: &str,
    problem: KeyProblem,
) -> ServiceEvent {
    let name = match attachment {
        Attachment::Attach => "attachVolume",
        Attachment::Reattach => "reattachVolume",
    };
    let detail = detail(name, "failed", &problem.cause(key_arn), "");
    let resources = vec![volume_arn(&envelope, volume), key_arn.to_owned()];
    ServiceEvent::new(envelope, SOURCE, VOLUME, resources, detail)
}

/// When work on a snapshot began and ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// When it was asked for.
    pub start: Timestamp,
    /// When it was done, or had failed.
    pub end: Timestamp,
}

/// `createSnapshot`: all bytes are stored, or not.
pub fn create_snapshot(
    envelope: Envelope,
    form: ArnForm,
    snapshot: &SnapshotId,
    volume: &VolumeId,
    span: Span,
    outcome: &Outcome,
) -> ServiceEvent {
    let source = form.write(&envelope.region, &format!("volume/{volume}"));
    snapshot_event(envelope, form, "createSnapshot", snapshot, &source, span, outcome)
}

/// A member of a set of snapshots that were taken together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetMember {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// The volume it shows.
    pub volume: VolumeId,
}

/// `createSnapshots`: every member is stored, or none counts.
pub fn create_snapshots(
    envelope: Envelope,
    form: ArnForm,
    members: &[SetMember],
    span: Span,
    outcome: &Outcome,
) -> ServiceEvent {
    let status = match outcome {
        Outcome::Succeeded => "completed",
        Outcome::Failed(_) => "error",
    };
    let region = envelope.region.clone();
    let arn = |member: &SetMember| form.snapshot(&region, &member.snapshot);
    let shown = |member: &SetMember| {
        let source = form.write(&region, &format!("volume/{}", member.volume));
        json!({ "snapshot_id": arn(member), "source": source, "status": status })
    };
    let mut detail = detail("createSnapshots", outcome.result("succeeded"), outcome.cause(), "");
    detail.insert("startTime".to_owned(), json!(span.start.iso_seconds()));
    detail.insert("endTime".to_owned(), json!(span.end.iso_seconds()));
    detail.insert("snapshots".to_owned(), members.iter().map(shown).collect());
    let resources = members.iter().map(arn).collect();
    ServiceEvent::new(envelope, SOURCE, SNAPSHOTS, resources, detail)
}

/// What a copy tells besides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// The snapshot that was copied.
    pub source: SnapshotId,
    /// The region it is in.
    pub source_region: Region,
    /// Whether only the difference to an earlier copy was stored.
    pub incremental: bool,
    /// For a copy with a completion duration: when the duration began to count, and why it was missed if it was.
    pub time_based: Option<(Timestamp, Option<String>)>,
}

/// `copySnapshot`, on the bus of the target region: all bytes are stored, or not.
pub fn copy_snapshot(
    envelope: Envelope,
    form: ArnForm,
    snapshot: &SnapshotId,
    copied: &Copied,
    span: Span,
    outcome: &Outcome,
) -> ServiceEvent {
    let source = form.snapshot(&copied.source_region, &copied.source);
    let mut event =
        snapshot_event(envelope, form, "copySnapshot", snapshot, &source, span, outcome);
    let mut add = |name: &str, value: Value| event.insert_detail(name, value);
    add("incremental", json!(copied.incremental.to_string()));
    add("transferType", json!(if copied.time_based.is_some() { "time-based" } else { "standard" }));
    if let Some((start, missed)) = &copied.time_based {
        add("completionDurationStartTime", json!(start.iso_seconds()));
        add("metCompletionDuration", json!(missed.is_none().to_string()));
        if let Some(cause) = missed {
            add("missedCompletionDurationCause", json!(cause));
        }
    }
    event
}

/// `shareSnapshot`, on the bus of each account that was added; not sent for public sharing.
/// The envelope's account is the receiver.
pub fn share_snapshot(
    envelope: Envelope,
    form: ArnForm,
    snapshot: &SnapshotId,
    owner: &AccountId,
    span: Span,
) -> ServiceEvent {
    let outcome = Outcome::Succeeded;
    snapshot_event(envelope, form, "shareSnapshot", snapshot, owner.as_str(), span, &outcome)
}

/// What is told of a snapshot's storage tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TierEvent {
    /// It was moved into the archive.
    Archive,
    /// It was restored for some days; until then.
    TemporaryRestore {
        /// When it goes back; unknown when the restore failed.
        expires: Option<Timestamp>,
    },
    /// It was restored for good.
    PermanentRestore,
    /// Its temporary restore ended.
    RestoreExpiry,
}

/// `archiveSnapshot`, `temporaryRestoreSnapshot`, `permanentRestoreSnapshot`, `restoreExpiry`: these
/// name no source.
pub fn snapshot_tier(
    envelope: Envelope,
    form: ArnForm,
    snapshot: &SnapshotId,
    told: TierEvent,
    span: Span,
    outcome: &Outcome,
) -> ServiceEvent {
    let name = match told {
        TierEvent::Archive => "archiveSnapshot",
        TierEvent::TemporaryRestore { .. } => "temporaryRestoreSnapshot",
        TierEvent::PermanentRestore => "permanentRestoreSnapshot",
        TierEvent::RestoreExpiry => "restoreExpiry",
    };
    let arn = form.snapshot(&envelope.region, snapshot);
    let mut detail = detail(name, outcome.result("succeeded"), outcome.cause(), "");
    detail.insert("snapshot_id".to_owned(), json!(arn));
    detail.insert("startTime".to_owned(), json!(span.start.iso_seconds()));
    detail.insert("endTime".to_owned(), json!(span.end.iso_seconds()));
    if let TierEvent::TemporaryRestore { expires: Some(expires) } = told {
        detail.insert("restoreExpiryTime".to_owned(), json!(expires.iso_seconds()));
    }
    ServiceEvent::new(envelope, SOURCE, SNAPSHOT, vec![arn], detail)
}

/// Fast snapshot restore of a snapshot is in another state in a zone, on the bus of the account that
/// enabled it.
pub fn fast_restore(
    envelope: Envelope,
    form: ArnForm,
    snapshot: &SnapshotId,
    state: &str,
    zone: &str,
    message: &str,
) -> ServiceEvent {
    let arn = form.snapshot(&envelope.region, snapshot);
    let detail = [("snapshot-id", snapshot.as_str()), ("state", state), ("zone", zone)];
    let detail = detail.into_iter().chain([("message", message)]);
    let detail = detail.map(|(name, value)| (name.to_owned(), json!(value))).collect();
    ServiceEvent::new(envelope, SOURCE, FAST_RESTORE, vec![arn], detail)
}

fn snapshot_event(
    envelope: Envelope,
    form: ArnForm,
    name: &str,
    snapshot: &SnapshotId,
    source: &str,
    span: Span,
    outcome: &Outcome,
) -> ServiceEvent {
    let arn = form.snapshot(&envelope.region, snapshot);
    let mut detail = detail(name, outcome.result("succeeded"), outcome.cause(), "");
    detail.insert("snapshot_id".to_owned(), json!(arn));
    detail.insert("source".to_owned(), json!(source));
    detail.insert("startTime".to_owned(), json!(span.start.iso_seconds()));
    detail.insert("endTime".to_owned(), json!(span.end.iso_seconds()));
    ServiceEvent::new(envelope, SOURCE, SNAPSHOT, vec![arn], detail)
}

fn detail(event: &str, result: &str, cause: &str, request_id: &str) -> Map<String, Value> {
    let members =
        [("event", event), ("result", result), ("cause", cause), ("request-id", request_id)];
    members.into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect()
}

fn volume_arn(envelope: &Envelope, volume: &VolumeId) -> String {
    let Envelope { region, account, .. } = envelope;
    Arn::regional("ec2", region, account, &format!("volume/{volume}")).to_string()
}
