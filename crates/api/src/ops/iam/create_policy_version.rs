//! `iam:CreatePolicyVersion`: adds a version to a managed policy.

use super::shared::{self, PolicyVersion, Target};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use identity::managed::InForce;

pub(crate) struct CreatePolicyVersion;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    policy_arn: String,
    policy_document: String,
    #[shape(default)]
    set_as_default: bool,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    policy_version: PolicyVersion,
}

pub(crate) struct Plan {
    target: Target,
    document: String,
    in_force: InForce,
}

impl Operation for CreatePolicyVersion {
    const SPEC: Spec = Spec::mutates(Service::Iam, "CreatePolicyVersion");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let target = Target::named(call, input.policy_arn).await?;
        let in_force = if input.set_as_default { InForce::AtOnce } else { InForce::Later };
        Ok(Plan { target, document: input.policy_document, in_force })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.target.ask("iam:CreatePolicyVersion")]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { target, document, in_force } = plan.into_inner();
        shared::write(call, move |tx, identity| {
            let policy = target.find(tx)?;
            let version = identity.create_policy_version(tx, &policy, &document, in_force)?;
            Ok(Output { policy_version: PolicyVersion::brief(&version) })
        })
        .await
    }
}
