//! `ec2:DescribeSnapshotTierStatus`: the storage tiers of the account's snapshots, and how their last
//! move went.

use crate::storage::condition;
use crate::storage::page::{Paging, Selection};
use crate::storage::shape::{Filter, Tag as TagShape};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use base::{Region, SnapshotId, Timestamp, VolumeId};
use ebs::filter::Filterable;
use ebs::tag::{self, Tag};
use ebs::{Snapshot, StorageTier, Tiering, TieringStatus, snapshot, tiering};
use std::collections::BTreeMap;

pub(crate) struct DescribeSnapshotTierStatus;

#[derive(Shape)]
#[shape(input, dry_run)]
pub(crate) struct Input {
    #[shape(query = "Filter")]
    filters: Vec<Filter>,
    next_token: Option<String>,
    max_results: Option<i32>,
}

/// One snapshot.
#[derive(Shape)]
#[shape(output)]
pub(crate) struct SnapshotTierStatus {
    snapshot_id: SnapshotId,
    volume_id: VolumeId,
    status: String,
    owner_id: String,
    #[shape(xml = "tagSet")]
    tags: Vec<TagShape>,
    storage_tier: String,
    last_tiering_start_time: Option<Timestamp>,
    last_tiering_progress: Option<u32>,
    last_tiering_operation_status: Option<String>,
    last_tiering_operation_status_detail: Option<String>,
    archival_complete_time: Option<Timestamp>,
    restore_expiry_time: Option<Timestamp>,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    #[shape(xml = "snapshotTierStatusSet")]
    snapshot_tier_statuses: Vec<SnapshotTierStatus>,
    next_token: Option<String>,
}

pub(crate) struct Plan {
    region: Region,
    selection: Selection,
}

impl Operation for DescribeSnapshotTierStatus {
    const SPEC: Spec = Spec::reads(Service::Ec2, "DescribeSnapshotTierStatus");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let Input { filters, next_token, max_results } = input;
        let paging = Paging { max_results, next_token, ids_given: false };
        let selection = Selection::new::<Listed>(filters, paging, "snapshot tiers")?;
        Ok(Plan { region: call.region.clone(), selection })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        let context = condition::of_region(&plan.region);
        vec![Ask::any("ec2:DescribeSnapshotTierStatus").with(context)]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let listed = list(call).await?;
        let page = plan.selection.page(listed, |listed| listed.snapshot.id.as_str())?;
        let shown = page.items.into_iter().map(Listed::shown);
        Ok(Output { snapshot_tier_statuses: shown.collect(), next_token: page.next_token })
    }
}

/// A snapshot of the account, as filters see it.
struct Listed {
    snapshot: Snapshot,
    tiering: Option<Tiering>,
    tags: Vec<Tag>,
}

/// Every snapshot of the account, by id.
async fn list(call: &Call) -> Result<Vec<Listed>, Error> {
    let (account, region) = (call.account().clone(), call.region.clone());
    let listed = call.world.db.read(move |tx| {
        let moved = tiering::list_owned(tx, &account, &region)?.into_iter();
        let mut moved: BTreeMap<_, _> = moved.map(|row| (row.snapshot.clone(), row)).collect();
        let mut tags = tag::by_resource(tx, &account, &region)?;
        let own = snapshot::list_owned(tx, &account, &region)?.into_iter();
        let own = own.map(|snapshot| Listed {
            tiering: moved.remove(&snapshot.id),
            tags: tags.remove(snapshot.id.as_str()).unwrap_or_default(),
            snapshot,
        });
        Ok::<_, ebs::Error>(own.collect())
    });
    Ok(listed.await?)
}

impl Listed {
    fn shown(self) -> SnapshotTierStatus {
        let Self { snapshot, tiering, tags } = self;
        let last = tiering.as_ref();
        let detail = last.and_then(|last| match &last.status {
            TieringStatus::Failed { detail } => Some(detail.clone()),
            TieringStatus::InProgress | TieringStatus::Completed => None,
        });
        SnapshotTierStatus {
            storage_tier: StorageTier::of(&snapshot).as_str().to_owned(),
            status: snapshot.state.as_str().to_owned(),
            owner_id: snapshot.account.to_string(),
            tags: tags.into_iter().map(TagShape::from).collect(),
            last_tiering_start_time: last.map(|last| last.started),
            last_tiering_progress: last.map(|last| last.progress),
            last_tiering_operation_status: last.map(Tiering::state),
            last_tiering_operation_status_detail: detail,
            archival_complete_time: last.and_then(|last| last.archived),
            restore_expiry_time: last.and_then(|last| last.expires),
            snapshot_id: snapshot.id,
            volume_id: snapshot.volume_id,
        }
    }
}

impl Filterable for Listed {
    const NAMES: &'static [&'static str] = &["snapshot-id", "volume-id", "last-tiering-operation"];

    fn values(&self, name: &str) -> Vec<String> {
        match name {
            "snapshot-id" => vec![self.snapshot.id.to_string()],
            "volume-id" => vec![self.snapshot.volume_id.to_string()],
            "last-tiering-operation" => self.tiering.iter().map(Tiering::state).collect(),
            _ => Vec::new(),
        }
    }

    fn tags(&self) -> &[Tag] {
        &self.tags
    }
}
