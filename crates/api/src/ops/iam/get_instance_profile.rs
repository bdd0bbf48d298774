//! `iam:GetInstanceProfile`: shows an instance profile and its role.

use super::shared::{self, InstanceProfile, Profile};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;

pub(crate) struct GetInstanceProfile;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    instance_profile_name: String,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    instance_profile: InstanceProfile,
}

impl Operation for GetInstanceProfile {
    const SPEC: Spec = Spec::reads(Service::Iam, "GetInstanceProfile");
    type Input = Input;
    type Plan = Profile;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Profile, Error> {
        Profile::named(call, input.instance_profile_name).await
    }

    fn asks(profile: &Profile) -> Vec<Ask> {
        vec![profile.ask("iam:GetInstanceProfile")]
    }

    async fn act(call: &Call, profile: Granted<Profile>) -> Result<Output, Error> {
        let profile = profile.into_inner();
        shared::read(call, move |tx| {
            let found = profile.find(tx)?;
            Ok(Output { instance_profile: InstanceProfile::whole(tx, &found)? })
        })
        .await
    }
}
