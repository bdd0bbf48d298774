//! `iam:GetPolicyVersion`: shows one version of a managed policy with its document.

use super::shared::{self, PolicyVersion, Target};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use identity::managed;

pub(crate) struct GetPolicyVersion;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    policy_arn: String,
    version_id: String,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    policy_version: PolicyVersion,
}

pub(crate) struct Plan {
    target: Target,
    version: u32,
}

impl Operation for GetPolicyVersion {
    const SPEC: Spec = Spec::reads(Service::Iam, "GetPolicyVersion");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let version = shared::version_number(&input.version_id)?;
        Ok(Plan { target: Target::named(call, input.policy_arn).await?, version })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.target.ask("iam:GetPolicyVersion")]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { target, version } = plan.into_inner();
        shared::read(call, move |tx| {
            let policy = target.find(tx)?;
            let version = managed::find_version(tx, &policy, version)?;
            Ok(Output { policy_version: PolicyVersion::whole(&version) })
        })
        .await
    }
}
