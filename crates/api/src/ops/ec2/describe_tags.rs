//! `ec2:DescribeTags`: lists the account's tags.

use crate::storage::condition;
use crate::storage::page::{Paging, Selection};
use crate::storage::shape::Filter;
use crate::storage::taggable::resource_type;
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use base::Region;
use ebs::filter::Filterable;
use ebs::tag::{self, Tag};

pub(crate) struct DescribeTags;

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
pub(crate) struct TagDescription {
    key: String,
    resource_id: String,
    resource_type: String,
    value: String,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    next_token: Option<String>,
    #[shape(xml = "tagSet")]
    tags: Vec<TagDescription>,
}

pub(crate) struct Plan {
    region: Region,
    selection: Selection,
}

/// One tag of one resource.
struct Listed {
    /// Resource and tag key, by which pages are cut. A space is in no resource id.
    sort_key: String,
    resource_id: String,
    resource_type: &'static str,
    tag: [Tag; 1],
}

impl Operation for DescribeTags {
    const SPEC: Spec = Spec::reads(Service::Ec2, "DescribeTags");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let Input { filters, max_results, next_token } = input;
        let paging = Paging { max_results, next_token, ids_given: false };
        let selection = Selection::new::<Listed>(filters, paging, "tags")?;
        Ok(Plan { region: call.region.clone(), selection })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![Ask::any("ec2:DescribeTags").with(condition::of_region(&plan.region))]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let (account, region) = (call.account().clone(), call.region.clone());
        let rows = call.world.db.read(move |tx| tag::list(tx, &account, &region)).await?;
        let mut listed: Vec<Listed> = rows
            .into_iter()
            .map(|(resource_id, key, value)| Listed {
                sort_key: format!("{resource_id} {key}"),
                resource_type: resource_type(&resource_id).unwrap_or_default(),
                resource_id,
                tag: [(key, value)],
            })
            .collect();
        listed.sort_by(|a, b| a.sort_key.cmp(&b.sort_key));
        let page = plan.selection.page(listed, |listed| listed.sort_key.as_str())?;
        let tags = page.items.into_iter().map(|listed| {
            let Listed { resource_id, resource_type, tag: [(key, value)], .. } = listed;
            TagDescription { key, resource_id, resource_type: resource_type.to_owned(), value }
        });
        Ok(Output { tags: tags.collect(), next_token: page.next_token })
    }
}

impl Filterable for Listed {
    const NAMES: &'static [&'static str] = &["key", "resource-id", "resource-type", "value"];

    fn values(&self, name: &str) -> Vec<String> {
        let [(key, value)] = &self.tag;
        vec![match name {
            "key" => key.clone(),
            "resource-id" => self.resource_id.clone(),
            "resource-type" => self.resource_type.to_owned(),
            _ => value.clone(),
        }]
    }

    fn tags(&self) -> &[Tag] {
        &self.tag
    }
}
