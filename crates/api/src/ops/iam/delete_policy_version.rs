//! `iam:DeletePolicyVersion`: removes a version that is not in force.

use super::shared::{self, Target};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use identity::managed;

pub(crate) struct DeletePolicyVersion;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    policy_arn: String,
    version_id: String,
}

pub(crate) struct Plan {
    target: Target,
    version: u32,
}

impl Operation for DeletePolicyVersion {
    const SPEC: Spec = Spec::mutates(Service::Iam, "DeletePolicyVersion");
    type Input = Input;
    type Plan = Plan;
    type Output = ();

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let version = shared::version_number(&input.version_id)?;
        Ok(Plan { target: Target::named(call, input.policy_arn).await?, version })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.target.ask("iam:DeletePolicyVersion")]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<(), Error> {
        let Plan { target, version } = plan.into_inner();
        shared::write(call, move |tx, _| {
            let policy = target.find(tx)?;
            managed::delete_version(tx, &policy, version)
        })
        .await
    }
}
