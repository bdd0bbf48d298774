//! `ec2:DescribeVolumes`: lists the account's volumes.

use crate::storage::code::volume_not_found;
use crate::storage::condition;
use crate::storage::find::zone_id;
use crate::storage::page::{Paging, Selection};
use crate::storage::shape::{Filter, VolumeShape};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use base::{AccountId, Region, VolumeId};
use ebs::filter::Filterable;
use ebs::tag::{self, Tag};
use ebs::{Attachment, Initialization, Volume, attachment, initialization, twin, volume};
use meta::Tx;
use std::collections::{BTreeMap, BTreeSet};

pub(crate) struct DescribeVolumes;

#[derive(Shape)]
#[shape(input, dry_run, unsupported(IncludeManagedResources))]
pub(crate) struct Input {
    #[shape(query = "VolumeId")]
    volume_ids: Vec<VolumeId>,
    #[shape(query = "Filter")]
    filters: Vec<Filter>,
    next_token: Option<String>,
    max_results: Option<i32>,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    next_token: Option<String>,
    #[shape(xml = "volumeSet")]
    volumes: Vec<VolumeShape>,
}

pub(crate) struct Plan {
    region: Region,
    ids: Vec<VolumeId>,
    selection: Selection,
}

/// A volume with what hangs on it.
struct Listed {
    volume: Volume,
    attachments: Vec<Attachment>,
    tags: Vec<Tag>,
    zone_id: String,
    /// The initialization rate that was asked for.
    rate_mib: Option<u32>,
    /// Whether it was whole from the start.
    fast_restored: bool,
}

impl Operation for DescribeVolumes {
    const SPEC: Spec = Spec::reads(Service::Ec2, "DescribeVolumes");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let Input { volume_ids: ids, filters, next_token, max_results } = input;
        let paging = Paging { max_results, next_token, ids_given: !ids.is_empty() };
        let selection = Selection::new::<Listed>(filters, paging, "volumes")?;
        Ok(Plan { region: call.region.clone(), ids, selection })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![Ask::any("ec2:DescribeVolumes").with(condition::of_region(&plan.region))]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { region, ids, selection } = plan.into_inner();
        let listed = list(call, region, ids).await?;
        let page = selection.page(listed, |listed| listed.volume.id.as_str())?;
        let volumes = page.items.into_iter().map(|listed| {
            let Listed { volume, attachments, tags, zone_id, rate_mib, fast_restored } = listed;
            let shape = VolumeShape::described(&volume, zone_id, tags, rate_mib, &attachments);
            VolumeShape { fast_restored: Some(fast_restored), ..shape }
        });
        Ok(Output { volumes: volumes.collect(), next_token: page.next_token })
    }
}

/// The account's volumes with these ids, of which each has to be there; all volumes when none is named.
async fn list(call: &Call, region: Region, ids: Vec<VolumeId>) -> Result<Vec<Listed>, Error> {
    let account = call.account().clone();
    let read = call.world.db.read(move |tx| {
        let rows = match ids.as_slice() {
            [] => Rows::of_all(tx, &account, &region)?,
            ids => match Rows::of(tx, &account, &region, ids)? {
                Ok(rows) => rows,
                Err(missing) => return Ok(Err(missing)),
            },
        };
        Ok::<_, ebs::Error>(Ok(rows))
    });
    let rows = read.await?.map_err(|missing| volume_not_found(missing.as_str()))?;
    Ok(rows.listed(call))
}

/// Volumes, and what other tables say of them.
#[derive(Default)]
struct Rows {
    volumes: Vec<Volume>,
    attachments: BTreeMap<VolumeId, Vec<Attachment>>,
    tags: BTreeMap<String, Vec<Tag>>,
    rates_mib: BTreeMap<VolumeId, u32>,
    fast: BTreeSet<VolumeId>,
}

impl Rows {
    /// A query for each table.
    fn of_all(tx: &mut Tx<'_>, account: &AccountId, region: &Region) -> ebs::Result<Self> {
        let mut rows = Self {
            volumes: volume::list(tx, account, region)?,
            tags: tag::by_resource(tx, account, region)?,
            fast: twin::fast_volumes(tx, account, region)?,
            ..Self::default()
        };
        rows.add(
            attachment::list(tx, account, region)?,
            initialization::by_volume(tx, account, region)?,
        );
        Ok(rows)
    }

    /// A query for each table, for these volumes alone, so that it does not matter how many others there
    /// are; or the first volume that the account does not have.
    fn of(
        tx: &mut Tx<'_>,
        account: &AccountId,
        region: &Region,
        ids: &[VolumeId],
    ) -> ebs::Result<Result<Self, VolumeId>> {
        let mut volumes = volume::among(tx, region, ids)?;
        volumes.retain(|volume| volume.account == *account);
        volumes.sort_by(|one, other| one.id.cmp(&other.id));
        let found = |id: &VolumeId| volumes.binary_search_by(|volume| volume.id.cmp(id)).is_ok();
        if let Some(missing) = ids.iter().find(|id| !found(id)) {
            return Ok(Err(missing.clone()));
        }
        let mut rows = Self {
            volumes,
            tags: tag::among(tx, account, region, ids)?,
            fast: twin::fast_among(tx, region, ids)?,
            ..Self::default()
        };
        rows.add(
            attachment::among(tx, account, region, ids)?,
            initialization::among(tx, region, ids)?,
        );
        Ok(Ok(rows))
    }

    fn add(
        &mut self,
        attachments: Vec<Attachment>,
        initializations: BTreeMap<VolumeId, Initialization>,
    ) {
        for attachment in attachments {
            self.attachments.entry(attachment.volume.clone()).or_default().push(attachment);
        }
        let rates = initializations.into_iter().filter_map(|(id, row)| Some((id, row.rate_mib?)));
        self.rates_mib = rates.collect();
    }

    fn listed(mut self, call: &Call) -> Vec<Listed> {
        let listed = self.volumes.into_iter().map(|volume| Listed {
            attachments: self.attachments.remove(&volume.id).unwrap_or_default(),
            tags: self.tags.remove(volume.id.as_str()).unwrap_or_default(),
            zone_id: zone_id(call, &volume.zone),
            rate_mib: self.rates_mib.remove(&volume.id),
            fast_restored: self.fast.contains(&volume.id),
            volume,
        });
        listed.collect()
    }
}

impl Filterable for Listed {
    const NAMES: &'static [&'static str] = &[
        "attachment.attach-time",
        "attachment.delete-on-termination",
        "attachment.device",
        "attachment.instance-id",
        "attachment.status",
        "availability-zone",
        "availability-zone-id",
        "create-time",
        "encrypted",
        "fast-restored",
        "multi-attach-enabled",
        "operator.managed",
        "operator.principal",
        "size",
        "snapshot-id",
        "status",
        "volume-id",
        "volume-type",
    ];

    fn values(&self, name: &str) -> Vec<String> {
        let of_attachments = |value: &dyn Fn(&Attachment) -> String| {
            self.attachments.iter().map(value).collect::<Vec<_>>()
        };
        let volume = &self.volume;
        let one = match name {
            "attachment.attach-time" => return of_attachments(&|a| a.attached.iso_millis()),
            "attachment.delete-on-termination" => {
                return of_attachments(&|a| a.delete_on_termination.to_string());
            }
            "attachment.device" => return of_attachments(&|a| a.device.clone()),
            "attachment.instance-id" => return of_attachments(&|a| a.instance.to_string()),
            "attachment.status" => return of_attachments(&|a| a.state.as_str().to_owned()),
            "availability-zone" => volume.zone.clone(),
            "availability-zone-id" => self.zone_id.clone(),
            "create-time" => volume.created.iso_millis(),
            "encrypted" => volume.is_encrypted().to_string(),
            "fast-restored" => self.fast_restored.to_string(),
            // No volume here is shared between instances or managed.
            "multi-attach-enabled" | "operator.managed" => "false".to_owned(),
            "size" => volume.size_gib.to_string(),
            "snapshot-id" => {
                return volume.snapshot_id.iter().map(ToString::to_string).collect();
            }
            "status" => volume.state.as_str().to_owned(),
            "volume-id" => volume.id.to_string(),
            "volume-type" => volume.volume_type.to_string(),
            _ => return Vec::new(),
        };
        vec![one]
    }

    fn tags(&self) -> &[Tag] {
        &self.tags
    }
}
