//! `strongroom:WhoCanRead`: who gets at the bytes of a snapshot or a volume, and by which chain.

use crate::error::{INTERNAL, invalid_parameter_of};
use crate::inquiry::who_can::{Subject, who_can};
use crate::storage::find::{FoundSnapshot, FoundVolume};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use base::{SnapshotId, VolumeId};
use ebs::visibility::Visibility;
use ebs::{arns, attachment, permission};
use kms::Action;

pub(crate) struct WhoCanRead;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    /// `snap-…` or `vol-…` of the caller's account.
    resource_id: String,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    /// A JSON document, described in `docs/explain.md`.
    answer: String,
    /// The same for people.
    text: String,
}

pub(crate) struct Plan {
    subject: Subject,
    ask: Ask,
}

const ACTION: &str = "strongroom:WhoCanRead";

impl Operation for WhoCanRead {
    const SPEC: Spec = Spec::reads(Service::Strongroom, "WhoCanRead");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let id = &input.resource_id;
        if let Ok(id) = SnapshotId::parse(id) {
            return of_snapshot(call, &id).await;
        }
        match VolumeId::parse(id) {
            Ok(id) => of_volume(call, &id).await,
            Err(_) => Err(bad(format!("'{id}' is neither a snapshot nor a volume."))),
        }
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.ask.clone()]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let found = who_can(call, &plan.subject).await?;
        let text = found.to_string();
        let answer = serde_json::to_string(&found)
            .map_err(|error| Error::from(INTERNAL.error("").with_cause(error)))?;
        Ok(Output { answer, text })
    }
}

fn bad(message: String) -> Error {
    Error::new(invalid_parameter_of(Service::Strongroom), message)
}

async fn of_snapshot(call: &Call, id: &SnapshotId) -> Result<Plan, Error> {
    let found = FoundSnapshot::find(call, id).await?;
    if found.seen != Visibility::Owner {
        return Err(bad(format!("The snapshot {id} is another account's; its owner can ask.")));
    }
    let row = found.snapshot.clone();
    let shares = call.world.db.read(move |tx| permission::get(tx, &row)).await?;
    let snapshot = &found.snapshot;
    // What is enforced of each way on the source's key (spec 20, C.7).
    let ways = vec![
        ("read", found.ask("ebs:GetSnapshotBlock"), Action::Decrypt),
        ("copy", found.ask("ec2:CopySnapshot"), Action::CreateGrant),
        ("restore", found.ask("ec2:CreateVolume"), Action::ReEncryptFrom),
    ];
    Ok(Plan {
        subject: Subject {
            resource: arns::snapshot_arn(&snapshot.region, id),
            region: snapshot.region.clone(),
            owner: snapshot.account.clone(),
            kms_key_arn: snapshot.kms_key_arn.clone(),
            data_key: snapshot.data_key.clone(),
            archived: snapshot.is_archived(),
            ways,
            shares: shares.users,
            public: shares.public,
            attached_to: Vec::new(),
        },
        ask: found.ask(ACTION),
    })
}

async fn of_volume(call: &Call, id: &VolumeId) -> Result<Plan, Error> {
    let found = FoundVolume::find(call, id).await?;
    let row = found.volume.clone();
    let attached =
        move |tx: &mut meta::Tx<'_>| attachment::of_volume(tx, &row.account, &row.region, &row.id);
    let attached = call.world.db.read(attached).await?;
    let volume = &found.volume;
    Ok(Plan {
        subject: Subject {
            resource: arns::volume_arn(&volume.region, &volume.account, id),
            region: volume.region.clone(),
            owner: volume.account.clone(),
            kms_key_arn: volume.kms_key_arn.clone(),
            data_key: volume.data_key.clone(),
            archived: false,
            ways: vec![("attach", found.ask("ec2:AttachVolume"), Action::CreateGrant)],
            shares: Vec::new(),
            public: false,
            attached_to: attached.iter().map(|row| row.instance.to_string()).collect(),
        },
        ask: found.ask(ACTION),
    })
}
