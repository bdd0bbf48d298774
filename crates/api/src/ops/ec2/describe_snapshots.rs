//! `ec2:DescribeSnapshots`: lists the snapshots the account owns or may make volumes from.

use crate::storage::code::{invalid_value, snapshot_not_found};
use crate::storage::condition;
use crate::storage::page::{Paging, Selection};
use crate::storage::shape::{Filter, SnapshotShape, progress};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use base::{AccountId, Region, SnapshotId, Timestamp};
use ebs::filter::Filterable;
use ebs::permission::{self, GROUP_ALL, Seen};
use ebs::tag::{self, Tag};
use ebs::visibility::Visibility;
use ebs::{Snapshot, StorageTier, Tiering, snapshot, tiering};
use meta::Tx;
use std::collections::BTreeMap;

pub(crate) struct DescribeSnapshots;

const SELF: &str = "self";
const AMAZON: &str = "amazon";

#[derive(Shape)]
#[shape(input, dry_run)]
pub(crate) struct Input {
    max_results: Option<i32>,
    next_token: Option<String>,
    #[shape(query = "Owner")]
    owner_ids: Vec<String>,
    #[shape(query = "RestorableBy")]
    restorable_by_user_ids: Vec<String>,
    #[shape(query = "SnapshotId")]
    snapshot_ids: Vec<SnapshotId>,
    #[shape(query = "Filter")]
    filters: Vec<Filter>,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    next_token: Option<String>,
    #[shape(xml = "snapshotSet")]
    snapshots: Vec<SnapshotShape>,
}

pub(crate) struct Plan {
    region: Region,
    ids: Vec<SnapshotId>,
    owners: Vec<String>,
    restorable_by: Vec<String>,
    selection: Selection,
}

/// A snapshot as one account sees it.
struct Listed {
    seen: Seen,
    tags: Vec<Tag>,
    /// When its temporary restore ends; for its owner.
    restore_expires: Option<Timestamp>,
}

impl Operation for DescribeSnapshots {
    const SPEC: Spec = Spec::reads(Service::Ec2, "DescribeSnapshots");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let Input { max_results, next_token, snapshot_ids: ids, filters, .. } = input;
        let (owners, restorable_by) = (input.owner_ids, input.restorable_by_user_ids);
        check_accounts(&owners, "owner", &[SELF, AMAZON, "aws-marketplace"])?;
        check_accounts(&restorable_by, "restorableBy", &[SELF, GROUP_ALL])?;
        let paging = Paging { max_results, next_token, ids_given: !ids.is_empty() };
        let selectors = format!("snapshots|{owners:?}|{restorable_by:?}");
        let selection = Selection::new::<Listed>(filters, paging, &selectors)?;
        Ok(Plan { region: call.region.clone(), ids, owners, restorable_by, selection })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![Ask::any("ec2:DescribeSnapshots").with(condition::of_region(&plan.region))]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let account = call.account();
        let mut listed = list(call, &plan.ids).await?;
        listed.retain(|listed| is_selected(listed, &plan, account));
        let page = plan.selection.page(listed, |listed| listed.seen.snapshot.id.as_str())?;
        let snapshots = page.items.into_iter();
        let snapshots = snapshots.map(|listed| {
            let Listed { seen, tags, restore_expires } = listed;
            SnapshotShape::described(call, &seen.snapshot, tags, restore_expires)
        });
        Ok(Output { snapshots: snapshots.collect(), next_token: page.next_token })
    }
}

fn check_accounts(texts: &[String], parameter: &str, words: &[&str]) -> Result<(), Error> {
    let is_known =
        |text: &&String| words.contains(&text.as_str()) || AccountId::parse(text).is_ok();
    match texts.iter().find(|text| !is_known(text)) {
        None => Ok(()),
        Some(bad) => Err(invalid_value(format!(
            "Value ({bad}) for parameter {parameter} is invalid. Expected {} or an account ID.",
            words.join(", ")
        ))),
    }
}

/// Every snapshot the account sees, or those with these ids that it sees, by id. A name for which no
/// snapshot exists is an error; one that exists and cannot be seen is left out (spec 02,
/// "DescribeSnapshots").
async fn list(call: &Call, ids: &[SnapshotId]) -> Result<Vec<Listed>, Error> {
    let (account, region, ids) = (call.account().clone(), call.region.clone(), ids.to_vec());
    let read = call.world.db.read(move |tx| match ids.as_slice() {
        [] => list_all(tx, &account, &region).map(Ok),
        ids => find(tx, &account, &region, ids),
    });
    read.await?.map_err(|missing| snapshot_not_found(missing.as_str()))
}

/// A query for each table, and two for each owner.
fn list_all(tx: &mut Tx<'_>, account: &AccountId, region: &Region) -> ebs::Result<Vec<Listed>> {
    let own = snapshot::list_owned(tx, account, region)?;
    let shared = snapshot::list_granted(tx, region, account.as_str())?;
    let public = snapshot::list_granted(tx, region, GROUP_ALL)?;
    let all = own.into_iter().chain(shared).chain(public);
    let by_id: BTreeMap<SnapshotId, Snapshot> = all.map(|row| (row.id.clone(), row)).collect();
    let seen = permission::all_seen(tx, region, by_id.into_values().collect(), account)?;
    let tags = tag::by_resource(tx, account, region)?;
    Ok(listed(seen, tags, tiering::list_owned(tx, account, region)?))
}

/// The same for the snapshots with these ids, so that it does not matter how many others there are; or the
/// first that does not exist.
fn find(
    tx: &mut Tx<'_>,
    account: &AccountId,
    region: &Region,
    ids: &[SnapshotId],
) -> ebs::Result<Result<Vec<Listed>, SnapshotId>> {
    let mut snapshots = snapshot::among(tx, region, ids)?;
    snapshots.retain(|snapshot| !snapshot.delete_requested);
    snapshots.sort_by(|one, other| one.id.cmp(&other.id));
    let found = |id: &SnapshotId| snapshots.binary_search_by(|row| row.id.cmp(id)).is_ok();
    if let Some(missing) = ids.iter().find(|id| !found(id)) {
        return Ok(Err(missing.clone()));
    }
    let seen = permission::all_seen(tx, region, snapshots, account)?;
    let tags = tag::among(tx, account, region, ids)?;
    Ok(Ok(listed(seen, tags, tiering::among(tx, region, ids)?)))
}

/// Snapshots with what their owner alone is told.
fn listed(
    seen: Vec<Seen>,
    mut tags: BTreeMap<String, Vec<Tag>>,
    tierings: Vec<Tiering>,
) -> Vec<Listed> {
    let expiries = tierings.into_iter().filter_map(|row| Some((row.snapshot, row.expires?)));
    let mut expiries: BTreeMap<SnapshotId, Timestamp> = expiries.collect();
    let listed = seen.into_iter().map(|seen| {
        let id = &seen.snapshot.id;
        let (tags, restore_expires) = match seen.visibility {
            Visibility::Owner => (tags.remove(id.as_str()), expiries.remove(id)),
            Visibility::Shared | Visibility::Public | Visibility::Hidden => (None, None),
        };
        Listed { seen, tags: tags.unwrap_or_default(), restore_expires }
    });
    listed.collect()
}

fn is_selected(listed: &Listed, plan: &Plan, account: &AccountId) -> bool {
    let Seen { snapshot, visibility, permissions } = &listed.seen;
    let owner = &snapshot.account;
    let owned_by = |text: &String| match text.as_str() {
        SELF => owner == account,
        text => owner.as_str() == text,
    };
    let restorable_by = |text: &String| match text.as_str() {
        GROUP_ALL => permissions.public,
        // What the caller may use without everybody being able to: its own and those shared with it.
        SELF => *visibility != Visibility::Public,
        text => {
            owner.as_str() == text || permissions.users.iter().any(|user| user.as_str() == text)
        }
    };
    (plan.owners.is_empty() || plan.owners.iter().any(owned_by))
        && (plan.restorable_by.is_empty() || plan.restorable_by.iter().any(restorable_by))
}

impl Filterable for Listed {
    const NAMES: &'static [&'static str] = &[
        "description",
        "encrypted",
        "owner-alias",
        "owner-id",
        "progress",
        "snapshot-id",
        "start-time",
        "status",
        "storage-tier",
        "transfer-type",
        "volume-id",
        "volume-size",
    ];

    fn values(&self, name: &str) -> Vec<String> {
        let snapshot = &self.seen.snapshot;
        vec![match name {
            "description" => snapshot.description.clone(),
            "encrypted" => snapshot.is_encrypted().to_string(),
            "owner-id" => snapshot.account.to_string(),
            "progress" => progress(&snapshot.state),
            "snapshot-id" => snapshot.id.to_string(),
            "start-time" => snapshot.started.iso_millis(),
            "status" => snapshot.state.as_str().to_owned(),
            "storage-tier" => StorageTier::of(snapshot).as_str().to_owned(),
            "transfer-type" if snapshot.copied_from.is_some() => {
                let time_based = snapshot.completion_minutes.is_some();
                if time_based { "time-based" } else { "standard" }.to_owned()
            }
            "volume-id" => snapshot.volume_id.to_string(),
            "volume-size" => snapshot.size_gib.to_string(),
            // No snapshot here has an owner with an alias.
            _ => return Vec::new(),
        }]
    }

    fn tags(&self) -> &[Tag] {
        &self.tags
    }
}
