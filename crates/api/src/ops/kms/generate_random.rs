//! `kms:GenerateRandom`: random bytes, from where keys come from.

use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::{Blob, Shape};
use base::Secret;
use kms::cipher;

pub(crate) struct GenerateRandom;

#[derive(Shape)]
#[shape(input, unsupported(CustomKeyStoreId, Recipient))]
pub(crate) struct Input {
    number_of_bytes: Option<i32>,
}

pub(crate) struct Plan {
    bytes: usize,
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
        Ok(Plan { bytes, context: super::shared::context(call) })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![Ask::any("kms:GenerateRandom").with(plan.context.clone())]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let mut random = Secret::new(vec![0; plan.bytes]);
        call.world.rng.fill(random.expose_mut());
        Ok(Output { plaintext: Blob::from(&random.expose()[..]) })
    }
}
