//! `iam:UpdateAssumeRolePolicy`: replaces the trust policy of a role.

use super::shared::{self, Subject};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use identity::{Kind, role};

pub(crate) struct UpdateAssumeRolePolicy;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    role_name: String,
    policy_document: String,
}

pub(crate) struct Plan {
    role: Subject,
    document: String,
}

impl Operation for UpdateAssumeRolePolicy {
    const SPEC: Spec = Spec::mutates(Service::Iam, "UpdateAssumeRolePolicy");
    type Input = Input;
    type Plan = Plan;
    type Output = ();

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let role = Subject::named(call, Kind::Role, input.role_name).await?;
        Ok(Plan { role, document: input.policy_document })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.role.ask("iam:UpdateAssumeRolePolicy")]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<(), Error> {
        let Plan { role: wanted, document } = plan.into_inner();
        shared::write(call, move |tx, _| {
            let role = role::find(tx, &wanted.account, &wanted.name)?;
            role::set_trust(tx, &role, &document)
        })
        .await
    }
}
