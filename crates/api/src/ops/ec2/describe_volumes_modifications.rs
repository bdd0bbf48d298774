//! `ec2:DescribeVolumesModifications`: the latest modification of each volume.

use crate::storage::code::volume_not_found;
use crate::storage::condition;
use crate::storage::modification::ModificationShape;
use crate::storage::page::{Paging, Selection};
use crate::storage::shape::Filter;
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::{ErrorSpec, Shape};
use base::{Region, VolumeId};
use ebs::filter::Filterable;
use ebs::tag::Tag;
use ebs::{Modification, modification, volume};

pub(crate) struct DescribeVolumesModifications;

const INVALID_VOLUME_MODIFICATION_NOT_FOUND: ErrorSpec =
    ErrorSpec::sender("InvalidVolumeModification.NotFound", 400);

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
    #[shape(xml = "volumeModificationSet")]
    volumes_modifications: Vec<ModificationShape>,
}

pub(crate) struct Plan {
    region: Region,
    ids: Vec<VolumeId>,
    selection: Selection,
}

impl Operation for DescribeVolumesModifications {
    const SPEC: Spec = Spec::reads(Service::Ec2, "DescribeVolumesModifications");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let Input { volume_ids: ids, filters, next_token, max_results } = input;
        let paging = Paging { max_results, next_token, ids_given: !ids.is_empty() };
        let selection = Selection::new::<Listed>(filters, paging, "modifications")?;
        Ok(Plan { region: call.region.clone(), ids, selection })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        let context = condition::of_region(&plan.region);
        vec![Ask::any("ec2:DescribeVolumesModifications").with(context)]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let plan = plan.into_inner();
        let (account, region, ids) = (call.account().clone(), call.region.clone(), plan.ids);
        let listed = call.world.db.read(move |tx| {
            let mut listed = modification::latest(tx, &account, &region)?;
            for id in &ids {
                let row = volume::get(tx, &region, id)?;
                if row.is_none_or(|row| row.account != account) {
                    return Err(volume_not_found(id.as_str()));
                }
                if !listed.iter().any(|found| found.volume == *id) {
                    let message = format!("Modification for volume '{id}' does not exist.");
                    return Err(Error::new(INVALID_VOLUME_MODIFICATION_NOT_FOUND, message));
                }
            }
            listed.retain(|found| ids.is_empty() || ids.contains(&found.volume));
            Ok::<_, Error>(listed.into_iter().map(Listed).collect::<Vec<_>>())
        });
        let page = plan.selection.page(listed.await?, |found| found.0.volume.as_str())?;
        let shown = page.items.iter().map(|found| ModificationShape::of(&found.0));
        Ok(Output { volumes_modifications: shown.collect(), next_token: page.next_token })
    }
}

/// A modification, as filters see it.
struct Listed(Modification);

impl Filterable for Listed {
    const NAMES: &'static [&'static str] = &[
        "modification-state",
        "original-iops",
        "original-size",
        "original-volume-type",
        "originalMultiAttachEnabled",
        "start-time",
        "target-iops",
        "target-size",
        "target-volume-type",
        "targetMultiAttachEnabled",
        "volume-id",
    ];

    fn values(&self, name: &str) -> Vec<String> {
        let modification = &self.0;
        let Modification { original, target, .. } = modification;
        let iops = |iops: Option<u32>| iops.iter().map(ToString::to_string).collect();
        let one = match name {
            "modification-state" => modification.state.as_str().to_owned(),
            "original-iops" => return iops(original.iops),
            "original-size" => original.size_gib.to_string(),
            "original-volume-type" => original.volume_type.to_string(),
            // No volume here is shared between instances.
            "originalMultiAttachEnabled" | "targetMultiAttachEnabled" => "false".to_owned(),
            "start-time" => modification.started.iso_millis(),
            "target-iops" => return iops(target.iops),
            "target-size" => target.size_gib.to_string(),
            "target-volume-type" => target.volume_type.to_string(),
            "volume-id" => modification.volume.to_string(),
            _ => return Vec::new(),
        };
        vec![one]
    }

    fn tags(&self) -> &[Tag] {
        &[]
    }
}
