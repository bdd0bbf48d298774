//! `ec2:DeleteTags`: removes tags from volumes, snapshots and instances.

use crate::storage::taggable::Taggable;
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use ebs::tag::{self, TagRemoval, check_key};

pub(crate) struct DeleteTags;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct TagToDelete {
    #[shape(query = "Key")]
    key: String,
    /// Only a tag with this value; absent means any value.
    #[shape(query = "Value")]
    value: Option<String>,
}

#[derive(Shape)]
#[shape(input, dry_run)]
pub(crate) struct Input {
    #[shape(query = "ResourceId", required)]
    resources: Vec<String>,
    #[shape(query = "Tag")]
    tags: Vec<TagToDelete>,
}

pub(crate) struct Plan {
    resources: Vec<Taggable>,
    /// Empty means all.
    removals: Vec<TagRemoval>,
}

impl Operation for DeleteTags {
    const SPEC: Spec = Spec::mutates(Service::Ec2, "DeleteTags");
    type Input = Input;
    type Plan = Plan;
    type Output = ();

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let Input { resources, tags } = input;
        tags.iter().try_for_each(|tag| check_key(&tag.key))?;
        let removals = tags.into_iter();
        let removals = removals.map(|tag| TagRemoval { key: tag.key, value: tag.value });
        let resources = Taggable::find_all(call, &resources).await?;
        Ok(Plan { resources, removals: removals.collect() })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        let ask = |resource: &Taggable| {
            let mut ask = resource.ask("ec2:DeleteTags");
            if !plan.removals.is_empty() {
                let keys = plan.removals.iter().map(|removal| removal.key.clone());
                ask.context.set_multi("aws:TagKeys", keys);
            }
            ask
        };
        plan.resources.iter().map(ask).collect()
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<(), Error> {
        let (account, region) = (call.account().clone(), call.region.clone());
        call.world
            .db
            .write(move |tx| {
                for resource in &plan.resources {
                    let id = resource.id();
                    if plan.removals.is_empty() {
                        tag::clear(tx, &account, &region, id)?;
                    }
                    tag::remove(tx, &account, &region, id, &plan.removals)?;
                }
                Ok::<_, Error>(())
            })
            .await
    }
}
