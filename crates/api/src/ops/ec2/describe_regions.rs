//! `ec2:DescribeRegions`: lists the regions this server has.

use crate::storage::code::invalid_value;
use crate::storage::page::{Paging, Selection};
use crate::storage::shape::Filter;
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use ebs::filter::Filterable;
use ebs::tag::Tag;

pub(crate) struct DescribeRegions;

const OPT_IN: &str = "opt-in-not-required";

#[derive(Shape)]
#[shape(input, dry_run)]
pub(crate) struct Input {
    #[shape(query = "RegionName")]
    region_names: Vec<String>,
    all_regions: Option<bool>,
    #[shape(query = "Filter")]
    filters: Vec<Filter>,
}

#[derive(Shape)]
#[shape(output, omitted(Geography))]
pub(crate) struct RegionShape {
    opt_in_status: String,
    region_name: String,
    #[shape(xml = "regionEndpoint")]
    endpoint: String,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    #[shape(xml = "regionInfo")]
    regions: Vec<RegionShape>,
}

pub(crate) struct Plan {
    selected: Vec<String>,
}

struct Listed(String);

impl Operation for DescribeRegions {
    const SPEC: Spec = Spec::reads(Service::Ec2, "DescribeRegions");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        // Every region is open to every account, so both values of `AllRegions` list the same.
        let Input { region_names, all_regions: _same_either_way, filters } = input;
        let paging = Paging { max_results: None, next_token: None, ids_given: false };
        let selection = Selection::new::<Listed>(filters, paging, "regions")?;
        let served: Vec<String> = call.world.regions.iter().map(ToString::to_string).collect();
        if let Some(unknown) = region_names.iter().find(|name| !served.contains(name)) {
            return Err(invalid_value(format!("Invalid region name: [{unknown}]")));
        }
        let wanted = |name: &String| region_names.is_empty() || region_names.contains(name);
        let listed = served.into_iter().filter(wanted).map(Listed).collect();
        let page = selection.page(listed, |listed| listed.0.as_str())?;
        Ok(Plan { selected: page.items.into_iter().map(|listed| listed.0).collect() })
    }

    fn asks(_plan: &Plan) -> Vec<Ask> {
        vec![Ask::any("ec2:DescribeRegions")]
    }

    async fn act(_call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let shape = |name: String| RegionShape {
            opt_in_status: OPT_IN.to_owned(),
            endpoint: format!("ec2.{name}.amazonaws.com"),
            region_name: name,
        };
        Ok(Output { regions: plan.into_inner().selected.into_iter().map(shape).collect() })
    }
}

impl Filterable for Listed {
    const NAMES: &'static [&'static str] = &["endpoint", "opt-in-status", "region-name"];

    fn values(&self, name: &str) -> Vec<String> {
        vec![match name {
            "endpoint" => format!("ec2.{}.amazonaws.com", self.0),
            "opt-in-status" => OPT_IN.to_owned(),
            _ => self.0.clone(),
        }]
    }

    fn tags(&self) -> &[Tag] {
        &[]
    }
}
