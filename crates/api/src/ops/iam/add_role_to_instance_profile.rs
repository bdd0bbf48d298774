//! `iam:AddRoleToInstanceProfile`: puts a role into an instance profile.

use super::shared::{self, Profile, Subject};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use iam::Context;
use identity::{Kind, instance_profile};

pub(crate) struct AddRoleToInstanceProfile;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    instance_profile_name: String,
    role_name: String,
}

pub(crate) struct Plan {
    profile: Profile,
    role: Subject,
}

impl Operation for AddRoleToInstanceProfile {
    const SPEC: Spec = Spec::mutates(Service::Iam, "AddRoleToInstanceProfile");
    type Input = Input;
    type Plan = Plan;
    type Output = ();

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let profile = Profile::named(call, input.instance_profile_name).await?;
        Ok(Plan { profile, role: Subject::named(call, Kind::Role, input.role_name).await? })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        // Service authorization reference for IAM: the role is passed to the service that runs instances.
        let mut context = Context::new();
        context.set("iam:PassedToService", "ec2.amazonaws.com");
        vec![
            plan.profile.ask("iam:AddRoleToInstanceProfile"),
            shared::also(plan.role.ask("iam:PassRole"), &context),
        ]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<(), Error> {
        let Plan { profile, role } = plan.into_inner();
        shared::write(call, move |tx, _| {
            let role = role.find(tx)?;
            let profile = profile.find(tx)?;
            instance_profile::add_role(tx, &profile, &role)
        })
        .await
    }
}
