//! `kms:TagResource`: adds tags to a key or replaces their values.

use super::shared::{self, Named, Tag, Target};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use kms::Action;
use kms::condition::Facts;

pub(crate) struct TagResource;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    key_id: String,
    #[shape(required)]
    tags: Vec<Tag>,
}

pub(crate) struct Plan {
    target: Target,
    tags: Vec<kms::tag::Tag>,
}

impl Operation for TagResource {
    const SPEC: Spec = Spec::mutates(Service::Kms, "TagResource");
    type Input = Input;
    type Plan = Plan;
    type Output = ();

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let tags = shared::tags(input.tags);
        let facts = Facts::Tag(tags.clone());
        let named = Named { action: Action::TagResource, key_id: &input.key_id, facts };
        Ok(Plan { target: shared::target(call, named).await?, tags })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.target.ask.clone()]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<(), Error> {
        let Plan { target, tags } = plan.into_inner();
        shared::change(call, Action::TagResource, target.key, move |_, tx, key| {
            kms::tag::set(tx, key, &tags)
        })
        .await
    }
}
