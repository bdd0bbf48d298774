//! `ec2:DescribeSnapshots`: lists the snapshots the account owns or may make volumes from.

use crate::storage::code::{invalid_value, snapshot_not_found};
use crate::storage::condition;
use crate::storage::page::{Paging, Selection};
use crate::storage::shape::{Filter, SnapshotShape, progress};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use base::{AccountId, Region, SnapshotId, Timestamp};
use ebs::filter::Filterable;
use ebs::permission::{self, GROUP_ALL, Permissions};
use ebs::tag::{self, Tag};
use ebs::visibility::Visibility;
use ebs::{Snapshot, StorageTier, snapshot, tiering};
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
    snapshot: Snapshot,
    seen: Visibility,
    /// Whether the group `all` is named, whatever the owner's block says.
    public: bool,
    users: Vec<AccountId>,
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
        let page = plan.selection.page(listed, |listed| listed.snapshot.id.as_str())?;
        let snapshots = page.items.into_iter();
        let snapshots = snapshots.map(|listed| {
            let Listed { snapshot, tags, restore_expires, .. } = listed;
            SnapshotShape::described(call, &snapshot, tags, restore_expires)
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
    let read = call.world.db.read(move |tx| {
        let listed = match ids.as_slice() {
            [] => list_all(tx, &account, &region)?,
            ids => match find(tx, &account, &region, ids)? {
                Ok(listed) => listed,
                Err(missing) => return Ok(Err(missing)),
            },
        };
        Ok::<_, ebs::Error>(Ok(listed))
    });
    let listed = read.await?.map_err(|missing| snapshot_not_found(missing.as_str()))?;
    Ok(listed.into_values().collect())
}

type ById = BTreeMap<SnapshotId, Listed>;

fn list_all(tx: &mut Tx<'_>, account: &AccountId, region: &Region) -> ebs::Result<ById> {
    let own = snapshot::list_owned(tx, account, region)?;
    let shared = snapshot::list_granted(tx, region, account.as_str())?;
    let public = snapshot::list_granted(tx, region, GROUP_ALL)?;
    let mut tags = tag::by_resource(tx, account, region)?;
    let tierings = tiering::list_owned(tx, account, region)?.into_iter();
    let mut expiries: BTreeMap<_, _> =
        tierings.filter_map(|row| Some((row.snapshot, row.expires?))).collect();
    let mut listed = ById::new();
    for snapshot in own.into_iter().chain(shared).chain(public) {
        if listed.contains_key(&snapshot.id) {
            continue;
        }
        let Some(mut found) = Listed::of(tx, snapshot, account)? else { continue };
        if found.seen == Visibility::Owner {
            found.tags = tags.remove(found.snapshot.id.as_str()).unwrap_or_default();
            found.restore_expires = expiries.remove(&found.snapshot.id);
        }
        listed.insert(found.snapshot.id.clone(), found);
    }
    Ok(listed)
}

/// The snapshots with these ids, however many others there are; or the first that does not exist.
fn find(
    tx: &mut Tx<'_>,
    account: &AccountId,
    region: &Region,
    ids: &[SnapshotId],
) -> ebs::Result<Result<ById, SnapshotId>> {
    let mut listed = ById::new();
    for id in ids {
        let row = snapshot::get(tx, region, id)?.filter(|row| !row.delete_requested);
        let Some(snapshot) = row else { return Ok(Err(id.clone())) };
        let Some(mut found) = Listed::of(tx, snapshot, account)? else { continue };
        if found.seen == Visibility::Owner {
            found.tags = tag::of_resource(tx, account, region, id.as_str())?;
            found.restore_expires = tiering::get(tx, region, id)?.and_then(|row| row.expires);
        }
        listed.insert(id.clone(), found);
    }
    Ok(Ok(listed))
}

impl Listed {
    /// A snapshot as everybody sees it who sees it; `None` when the account does not.
    fn of(tx: &mut Tx<'_>, snapshot: Snapshot, account: &AccountId) -> ebs::Result<Option<Self>> {
        let seen = permission::visibility_for(tx, &snapshot, account)?;
        if seen == Visibility::Hidden {
            return Ok(None);
        }
        let Permissions { public, users } = permission::get(tx, &snapshot)?;
        let (tags, restore_expires) = (Vec::new(), None);
        Ok(Some(Self { snapshot, seen, public, users, tags, restore_expires }))
    }
}

fn is_selected(listed: &Listed, plan: &Plan, account: &AccountId) -> bool {
    let owner = &listed.snapshot.account;
    let owned_by = |text: &String| match text.as_str() {
        SELF => owner == account,
        text => owner.as_str() == text,
    };
    let restorable_by = |text: &String| match text.as_str() {
        GROUP_ALL => listed.public,
        // What the caller may use without everybody being able to: its own and those shared with it.
        SELF => listed.seen != Visibility::Public,
        text => owner.as_str() == text || listed.users.iter().any(|user| user.as_str() == text),
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
        let snapshot = &self.snapshot;
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
