//! `ec2:DescribeRegions`: lists the regions this server has.

use crate::storage::code::invalid_value;
use crate::storage::condition;
use crate::storage::page::{Paging, Selection};
use crate::storage::shape::Filter;
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use base::Region;
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

/// Without the endpoint: every region is at the address the client has used already, and AWS's name
/// for it would lead the client to AWS.
#[derive(Shape)]
#[shape(output, omitted(Endpoint, Geography))]
pub(crate) struct RegionShape {
    opt_in_status: String,
    region_name: String,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    #[shape(xml = "regionInfo")]
    regions: Vec<RegionShape>,
}

pub(crate) struct Plan {
    region: Region,
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
        let selected = page.items.into_iter().map(|listed| listed.0).collect();
        Ok(Plan { region: call.region.clone(), selected })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![Ask::any("ec2:DescribeRegions").with(condition::of_region(&plan.region))]
    }

    async fn act(_call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let shape =
            |name: String| RegionShape { opt_in_status: OPT_IN.to_owned(), region_name: name };
        Ok(Output { regions: plan.into_inner().selected.into_iter().map(shape).collect() })
    }
}

impl Filterable for Listed {
    const NAMES: &'static [&'static str] = &["opt-in-status", "region-name"];

    fn values(&self, name: &str) -> Vec<String> {
        vec![if name == "opt-in-status" { OPT_IN.to_owned() } else { self.0.clone() }]
    }

    fn tags(&self) -> &[Tag] {
        &[]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{account, bench, run};
    use serde_json::{Value, json};

    #[tokio::test]
    async fn regions_are_listed_by_name_and_filter() {
        let bench = bench().await;
        let call = bench.root(&account(1), "us-east-1");
        let names = async |input: Value| {
            run::<DescribeRegions>(&call, input).await.map(|reply| {
                let regions = reply["Regions"].as_array().expect("a list").clone();
                regions.iter().map(|r| r["RegionName"].clone()).collect::<Value>()
            })
        };
        assert_eq!(names(json!({})).await.unwrap(), json!(["eu-west-1", "us-east-1"]));
        let all = json!({ "AllRegions": true, "RegionNames": ["us-east-1"] });
        assert_eq!(names(all).await.unwrap(), json!(["us-east-1"]));
        let filters = json!({ "Filters": [{ "Name": "region-name", "Values": ["eu-*"] }] });
        assert_eq!(names(filters).await.unwrap(), json!(["eu-west-1"]));
        let error = names(json!({ "RegionNames": ["mars-1"] })).await.unwrap_err();
        assert_eq!(error.code(), "InvalidParameterValue");
        let filters = json!({ "Filters": [{ "Name": "endpoint", "Values": ["x"] }] });
        assert_eq!(names(filters).await.unwrap_err().code(), "InvalidParameterValue");
    }
}
