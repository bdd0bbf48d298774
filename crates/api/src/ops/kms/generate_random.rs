//! `kms:GenerateRandom`: random bytes, from where keys come from, or from the token of a custom key store.

use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::{Blob, Shape};
use base::Secret;
use kms::cipher;

pub(crate) struct GenerateRandom;

#[derive(Shape)]
#[shape(input, unsupported(Recipient))]
pub(crate) struct Input {
    number_of_bytes: Option<i32>,
    custom_key_store_id: Option<String>,
}

pub(crate) struct Plan {
    bytes: usize,
    store: Option<String>,
    context: iam::Context,
}

#[derive(Shape)]
#[shape(output, omitted(CiphertextForRecipient))]
pub(crate) struct Output {
    #[shape(sensitive)]
    plaintext: Blob,
}

impl Operation for GenerateRandom {
    const SPEC: Spec = Spec::reads(Service::Kms, "GenerateRandom");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let bytes = cipher::check_random_length(input.number_of_bytes.map(i64::from))?;
        let context = super::shared::context(call);
        Ok(Plan { bytes, store: input.custom_key_store_id, context })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![Ask::any("kms:GenerateRandom").with(plan.context.clone())]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let plan = plan.into_inner();
        let random = match plan.store {
            Some(store) => super::shared::random_in_store(call, store, plan.bytes).await?,
            None => {
                let mut random = Secret::new(vec![0; plan.bytes]);
                call.world.rng.fill(random.expose_mut());
                random
            }
        };
        Ok(Output { plaintext: Blob::from(&random.expose()[..]) })
    }
}
