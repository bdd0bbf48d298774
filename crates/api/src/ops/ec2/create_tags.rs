//! `ec2:CreateTags`: sets tags on volumes, snapshots and instances.

use crate::storage::condition;
use crate::storage::shape::Tag as TagShape;
use crate::storage::taggable::Taggable;
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use ebs::tag::{self, Tag, check_tags};

pub(crate) struct CreateTags;

#[derive(Shape)]
#[shape(input, dry_run)]
pub(crate) struct Input {
    #[shape(query = "ResourceId", required)]
    resources: Vec<String>,
    #[shape(query = "Tag", required)]
    tags: Vec<TagShape>,
}

pub(crate) struct Plan {
    resources: Vec<Taggable>,
    tags: Vec<Tag>,
}

impl Operation for CreateTags {
    const SPEC: Spec = Spec::mutates(Service::Ec2, "CreateTags");
    type Input = Input;
    type Plan = Plan;
    type Output = ();

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let Input { resources, tags } = input;
        let tags: Vec<Tag> = tags.into_iter().map(|tag| (tag.key, tag.value)).collect();
        check_tags(&tags)?;
        Ok(Plan { resources: Taggable::find_all(call, &resources).await?, tags })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        let ask = |resource: &Taggable| {
            let mut ask = resource.ask("ec2:CreateTags");
            condition::set_request_tags(&mut ask.context, &plan.tags);
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
                    tag::set(tx, &account, &region, resource.id(), &plan.tags)??;
                }
                Ok::<_, Error>(())
            })
            .await
    }
}
