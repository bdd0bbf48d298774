//! `kms:EnableKey`: makes a disabled key usable again.

use super::shared::{self, Named, Target};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use kms::Action;
use kms::condition::Facts;
use kms::key::Switch;

pub(crate) struct EnableKey;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    key_id: String,
}

impl Operation for EnableKey {
    const SPEC: Spec = Spec::mutates(Service::Kms, "EnableKey");
    type Input = Input;
    type Plan = Target;
    type Output = ();

    async fn plan(call: &Call, input: Input) -> Result<Target, Error> {
        let named = Named { action: Action::EnableKey, key_id: &input.key_id, facts: Facts::None };
        shared::target(call, named).await
    }

    fn asks(plan: &Target) -> Vec<Ask> {
        vec![plan.ask.clone()]
    }

    async fn act(call: &Call, plan: Granted<Target>) -> Result<(), Error> {
        let key = plan.into_inner().key;
        shared::change(call, Action::EnableKey, key, |kms, tx, key| {
            kms.set_enabled(tx, key, Switch::On)
        })
        .await
    }
}
