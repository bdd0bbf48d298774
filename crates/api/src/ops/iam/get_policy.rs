//! `iam:GetPolicy`: shows a managed policy without its document.

use super::shared::{self, Policy, Target};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;

pub(crate) struct GetPolicy;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    policy_arn: String,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    policy: Policy,
}

impl Operation for GetPolicy {
    const SPEC: Spec = Spec::reads(Service::Iam, "GetPolicy");
    type Input = Input;
    type Plan = Target;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Target, Error> {
        Target::named(call, input.policy_arn).await
    }

    fn asks(plan: &Target) -> Vec<Ask> {
        vec![plan.ask("iam:GetPolicy")]
    }

    async fn act(call: &Call, plan: Granted<Target>) -> Result<Output, Error> {
        let target = plan.into_inner();
        shared::read(call, move |tx| {
            let policy = target.find(tx)?;
            Ok(Output { policy: Policy::whole(tx, &target.account, &policy)? })
        })
        .await
    }
}
