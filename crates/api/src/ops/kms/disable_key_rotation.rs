//! `kms:DisableKeyRotation`: a key keeps the material it has.

use super::shared::{self, Named, Target};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use kms::condition::Facts;
use kms::{Action, rotation};

pub(crate) struct DisableKeyRotation;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    key_id: String,
}

impl Operation for DisableKeyRotation {
    const SPEC: Spec = Spec::mutates(Service::Kms, "DisableKeyRotation");
    type Input = Input;
    type Plan = Target;
    type Output = ();

    async fn plan(call: &Call, input: Input) -> Result<Target, Error> {
        let action = Action::DisableKeyRotation;
        shared::target(call, Named { action, key_id: &input.key_id, facts: Facts::None }).await
    }

    fn asks(plan: &Target) -> Vec<Ask> {
        vec![plan.ask.clone()]
    }

    async fn act(call: &Call, plan: Granted<Target>) -> Result<(), Error> {
        let key = plan.into_inner().key;
        shared::change(call, Action::DisableKeyRotation, key, |kms, tx, key| {
            rotation::check_made_here(key)?;
            rotation::check_primary(key)?;
            kms.disable_rotation(tx, key)
        })
        .await
    }
}
