//! `iam:DeleteInstanceProfile`: removes an instance profile that holds no role.

use super::shared::{self, Profile};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use identity::instance_profile;

pub(crate) struct DeleteInstanceProfile;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    instance_profile_name: String,
}

impl Operation for DeleteInstanceProfile {
    const SPEC: Spec = Spec::mutates(Service::Iam, "DeleteInstanceProfile");
    type Input = Input;
    type Plan = Profile;
    type Output = ();

    async fn plan(call: &Call, input: Input) -> Result<Profile, Error> {
        Profile::named(call, input.instance_profile_name).await
    }

    fn asks(profile: &Profile) -> Vec<Ask> {
        vec![profile.ask("iam:DeleteInstanceProfile")]
    }

    async fn act(call: &Call, profile: Granted<Profile>) -> Result<(), Error> {
        let profile = profile.into_inner();
        shared::write(call, move |tx, _| {
            let found = profile.find(tx)?;
            instance_profile::delete(tx, &found)
        })
        .await
    }
}
