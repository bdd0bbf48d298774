//! `ec2:DescribeFastSnapshotRestores`: which snapshots the account has enabled for fast restore, where,
//! and how far that is.

use crate::storage::condition;
use crate::storage::fast_restore::FastRestoreItem;
use crate::storage::find::zone_id;
use crate::storage::page::{Paging, Selection};
use crate::storage::shape::Filter;
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use base::Region;
use ebs::filter::Filterable;
use ebs::tag::Tag;
use ebs::{FastRestore, fast_restore};
use std::ops::RangeInclusive;

pub(crate) struct DescribeFastSnapshotRestores;

/// What a page may hold (EC2 API, `DescribeFastSnapshotRestores`).
const RESULTS: RangeInclusive<i32> = 1..=200;

#[derive(Shape)]
#[shape(input, dry_run)]
pub(crate) struct Input {
    #[shape(query = "Filter")]
    filters: Vec<Filter>,
    max_results: Option<i32>,
    next_token: Option<String>,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    #[shape(xml = "fastSnapshotRestoreSet")]
    fast_snapshot_restores: Vec<FastRestoreItem>,
    next_token: Option<String>,
}

pub(crate) struct Plan {
    region: Region,
    selection: Selection,
}

impl Operation for DescribeFastSnapshotRestores {
    const SPEC: Spec = Spec::reads(Service::Ec2, "DescribeFastSnapshotRestores");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let Input { filters, max_results, next_token } = input;
        let paging = Paging { max_results, next_token, ids_given: false };
        let selection = Selection::within::<Listed>(filters, paging, "fast restores", RESULTS)?;
        Ok(Plan { region: call.region.clone(), selection })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        let context = condition::of_region(&plan.region);
        vec![Ask::any("ec2:DescribeFastSnapshotRestores").with(context)]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let (account, region) = (call.account().clone(), call.region.clone());
        let read = move |tx: &mut meta::Tx<'_>| fast_restore::list(tx, &account, &region);
        let rows = call.world.db.read(read).await?.into_iter();
        let mut listed: Vec<_> = rows
            .map(|row| Listed {
                key: format!("{} {}", row.snapshot, row.zone),
                zone_id: zone_id(call, &row.zone),
                row,
            })
            .collect();
        listed.sort_by(|a, b| a.key.cmp(&b.key));
        let page = plan.selection.page(listed, |listed| listed.key.as_str())?;
        let shown = page.items.into_iter();
        let shown = shown.map(|Listed { row, zone_id, .. }| FastRestoreItem::of(row, zone_id));
        Ok(Output { fast_snapshot_restores: shown.collect(), next_token: page.next_token })
    }
}

/// A wish, as filters see it.
struct Listed {
    key: String,
    row: FastRestore,
    zone_id: String,
}

impl Filterable for Listed {
    const NAMES: &'static [&'static str] =
        &["availability-zone", "availability-zone-id", "owner-id", "snapshot-id", "state"];

    fn values(&self, name: &str) -> Vec<String> {
        vec![match name {
            "availability-zone" => self.row.zone.clone(),
            "availability-zone-id" => self.zone_id.clone(),
            "owner-id" => self.row.account.to_string(),
            "snapshot-id" => self.row.snapshot.to_string(),
            "state" => self.row.state.as_str().to_owned(),
            _ => return Vec::new(),
        }]
    }

    /// Only resources have tags.
    fn tags(&self) -> &[Tag] {
        &[]
    }
}
