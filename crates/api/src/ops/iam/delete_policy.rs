//! `iam:DeletePolicy`: removes a managed policy that is attached to nothing.

use super::shared::{self, Target};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use identity::managed;

pub(crate) struct DeletePolicy;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    policy_arn: String,
}

impl Operation for DeletePolicy {
    const SPEC: Spec = Spec::mutates(Service::Iam, "DeletePolicy");
    type Input = Input;
    type Plan = Target;
    type Output = ();

    async fn plan(call: &Call, input: Input) -> Result<Target, Error> {
        Target::named(call, input.policy_arn).await
    }

    fn asks(plan: &Target) -> Vec<Ask> {
        vec![plan.ask("iam:DeletePolicy")]
    }

    async fn act(call: &Call, plan: Granted<Target>) -> Result<(), Error> {
        let target = plan.into_inner();
        shared::write(call, move |tx, _| {
            let policy = target.find(tx)?;
            managed::delete(tx, &policy)
        })
        .await
    }
}
