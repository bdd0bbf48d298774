//! `ec2:DescribeAvailabilityZones`: lists the zones of the region.

use crate::storage::code::invalid_value;
use crate::storage::condition;
use crate::storage::page::{Paging, Selection};
use crate::storage::shape::Filter;
use crate::storage::zone::zone_id;
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use base::Region;
use ebs::filter::Filterable;
use ebs::tag::Tag;

pub(crate) struct DescribeAvailabilityZones;

const OPT_IN: &str = "opt-in-not-required";
const AVAILABLE: &str = "available";
const ZONE_TYPE: &str = "availability-zone";

#[derive(Shape)]
#[shape(input, dry_run)]
pub(crate) struct Input {
    #[shape(query = "ZoneName")]
    zone_names: Vec<String>,
    #[shape(query = "ZoneId")]
    zone_ids: Vec<String>,
    /// Every zone is open to every account, so both values list the same.
    all_availability_zones: Option<bool>,
    #[shape(query = "Filter")]
    filters: Vec<Filter>,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Message {
    message: String,
}

#[derive(Shape)]
#[shape(output, omitted(ParentZoneName, ParentZoneId, GroupLongName, Geography, SubGeography))]
pub(crate) struct Zone {
    opt_in_status: String,
    #[shape(xml = "messageSet")]
    messages: Vec<Message>,
    region_name: String,
    zone_name: String,
    zone_id: String,
    group_name: String,
    network_border_group: String,
    zone_type: String,
    #[shape(xml = "zoneState")]
    state: String,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    #[shape(xml = "availabilityZoneInfo")]
    availability_zones: Vec<Zone>,
}

pub(crate) struct Plan {
    region: Region,
    selected: Vec<Listed>,
}

pub(crate) struct Listed {
    region: Region,
    name: String,
    id: String,
}

impl Operation for DescribeAvailabilityZones {
    const SPEC: Spec = Spec::reads(Service::Ec2, "DescribeAvailabilityZones");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let Input { zone_names, zone_ids, all_availability_zones: _same_either_way, filters } =
            input;
        let paging = Paging { max_results: None, next_token: None, ids_given: false };
        let selection = Selection::new::<Listed>(filters, paging, "zones")?;
        let zones = call.world.regions.zones(&call.region).iter().enumerate();
        let mut listed: Vec<Listed> = zones
            .map(|(index, name)| Listed {
                region: call.region.clone(),
                name: name.clone(),
                id: zone_id(&call.region, index),
            })
            .collect();
        let unknown = |wanted: &[String], value: fn(&Listed) -> &String| {
            wanted.iter().find(|text| !listed.iter().any(|zone| value(zone) == *text)).cloned()
        };
        let bad = unknown(&zone_names, |zone| &zone.name);
        if let Some(bad) = bad.or_else(|| unknown(&zone_ids, |zone| &zone.id)) {
            return Err(invalid_value(format!("Invalid availability zone: [{bad}]")));
        }
        listed.retain(|zone| {
            (zone_names.is_empty() || zone_names.contains(&zone.name))
                && (zone_ids.is_empty() || zone_ids.contains(&zone.id))
        });
        let page = selection.page(listed, |zone| zone.name.as_str())?;
        Ok(Plan { region: call.region.clone(), selected: page.items })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![Ask::any("ec2:DescribeAvailabilityZones").with(condition::of_region(&plan.region))]
    }

    async fn act(_call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let shape = |listed: Listed| Zone {
            opt_in_status: OPT_IN.to_owned(),
            messages: Vec::new(),
            region_name: listed.region.to_string(),
            zone_name: listed.name,
            zone_id: listed.id,
            group_name: listed.region.to_string(),
            network_border_group: listed.region.to_string(),
            zone_type: ZONE_TYPE.to_owned(),
            state: AVAILABLE.to_owned(),
        };
        let availability_zones = plan.into_inner().selected.into_iter().map(shape).collect();
        Ok(Output { availability_zones })
    }
}

impl Filterable for Listed {
    const NAMES: &'static [&'static str] = &[
        "group-name",
        "opt-in-status",
        "region-name",
        "state",
        "zone-id",
        "zone-name",
        "zone-type",
    ];

    fn values(&self, name: &str) -> Vec<String> {
        vec![match name {
            "opt-in-status" => OPT_IN.to_owned(),
            "state" => AVAILABLE.to_owned(),
            "zone-id" => self.id.clone(),
            "zone-name" => self.name.clone(),
            "zone-type" => ZONE_TYPE.to_owned(),
            _ => self.region.to_string(),
        }]
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
    async fn zones_are_those_of_the_region() {
        let bench = bench().await;
        let call = bench.root(&account(1), "eu-west-1");
        let ids = async |input: Value| {
            run::<DescribeAvailabilityZones>(&call, input).await.map(|reply| {
                let zones = reply["AvailabilityZones"].as_array().expect("a list").clone();
                zones.iter().map(|zone| zone["ZoneId"].clone()).collect::<Value>()
            })
        };
        let all = json!(["euw1-az1", "euw1-az2", "euw1-az3"]);
        assert_eq!(ids(json!({})).await.unwrap(), all);
        assert_eq!(ids(json!({ "AllAvailabilityZones": true })).await.unwrap(), all);
        let second = json!(["euw1-az2"]);
        assert_eq!(ids(json!({ "ZoneNames": ["eu-west-1b"] })).await.unwrap(), second);
        assert_eq!(ids(json!({ "ZoneIds": ["euw1-az2"] })).await.unwrap(), second);
        let filter = json!({ "Filters": [{ "Name": "zone-name", "Values": ["*b"] }] });
        assert_eq!(ids(filter).await.unwrap(), second);
        let none = json!({ "Filters": [{ "Name": "state", "Values": ["impaired"] }] });
        assert_eq!(ids(none).await.unwrap(), json!([]));
        let error = ids(json!({ "ZoneNames": ["us-east-1a"] })).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "InvalidParameterValue: Invalid availability zone: [us-east-1a]"
        );
    }
}
