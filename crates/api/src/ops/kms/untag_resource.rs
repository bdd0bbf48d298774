//! `kms:UntagResource`: removes tags from a key; those it does not have are no error.

use super::shared::{self, Named, Target};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use kms::Action;
use kms::condition::Facts;

pub(crate) struct UntagResource;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    key_id: String,
    #[shape(required)]
    tag_keys: Vec<String>,
}

pub(crate) struct Plan {
    target: Target,
    tag_keys: Vec<String>,
}

impl Operation for UntagResource {
    const SPEC: Spec = Spec::mutates(Service::Kms, "UntagResource");
    type Input = Input;
    type Plan = Plan;
    type Output = ();

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let facts = Facts::Untag(input.tag_keys.clone());
        let named = Named { action: Action::UntagResource, key_id: &input.key_id, facts };
        Ok(Plan { target: shared::target(call, named).await?, tag_keys: input.tag_keys })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.target.ask.clone()]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<(), Error> {
        let Plan { target, tag_keys } = plan.into_inner();
        shared::change(call, Action::UntagResource, target.key, move |_, tx, key| {
            kms::tag::remove(tx, key, &tag_keys)
        })
        .await
    }
}
