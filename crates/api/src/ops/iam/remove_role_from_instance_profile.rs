//! `iam:RemoveRoleFromInstanceProfile`: takes the role out of an instance profile.

use super::shared::{self, Profile};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use identity::{Kind, entity, instance_profile};

pub(crate) struct RemoveRoleFromInstanceProfile;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    instance_profile_name: String,
    role_name: String,
}

pub(crate) struct Plan {
    profile: Profile,
    role_name: String,
}

impl Operation for RemoveRoleFromInstanceProfile {
    const SPEC: Spec = Spec::mutates(Service::Iam, "RemoveRoleFromInstanceProfile");
    type Input = Input;
    type Plan = Plan;
    type Output = ();

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let profile = Profile::named(call, input.instance_profile_name).await?;
        Ok(Plan { profile, role_name: input.role_name })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.profile.ask("iam:RemoveRoleFromInstanceProfile")]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<(), Error> {
        let Plan { profile, role_name } = plan.into_inner();
        shared::write(call, move |tx, _| {
            let role = entity::find(tx, &profile.account, Kind::Role, &role_name)?;
            let profile = profile.find(tx)?;
            instance_profile::remove_role(tx, &profile, &role)
        })
        .await
    }
}
