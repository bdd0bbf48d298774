//! `kms:GetKeyPolicy`: the text of a key's policy.

use super::shared::{self, Named, Target};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use kms::condition::Facts;
use kms::{Action, policy};

pub(crate) struct GetKeyPolicy;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    key_id: String,
    policy_name: Option<String>,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    policy: String,
    policy_name: &'static str,
}

impl Operation for GetKeyPolicy {
    const SPEC: Spec = Spec::reads(Service::Kms, "GetKeyPolicy");
    type Input = Input;
    type Plan = Target;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Target, Error> {
        policy::check_name(input.policy_name.as_deref())?;
        let named =
            Named { action: Action::GetKeyPolicy, key_id: &input.key_id, facts: Facts::None };
        shared::target(call, named).await
    }

    fn asks(plan: &Target) -> Vec<Ask> {
        vec![plan.ask.clone()]
    }

    async fn act(call: &Call, plan: Granted<Target>) -> Result<Output, Error> {
        let key = plan.into_inner().key;
        let text = shared::read(call, move |kms, tx, _| {
            let key = shared::usable(tx, Action::GetKeyPolicy, &key)?;
            kms.shown_policy(tx, &key)
        })
        .await?;
        Ok(Output { policy: text, policy_name: policy::POLICY_NAME })
    }
}
