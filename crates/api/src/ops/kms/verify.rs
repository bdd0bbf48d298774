//! `kms:Verify`: whether a signature is the key's. One that is not is an error, not an answer.

use super::shared::Target;
use super::shared::opened::{self, MessageType, SIGNATURE_BYTES_MAX, SigningAlgorithm, Use};
use super::sign::How;
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::{Blob, Shape};
use kms::{Action, cipher};

pub(crate) struct Verify;

#[derive(Shape)]
#[shape(input, dry_run)]
pub(crate) struct Input {
    key_id: String,
    #[shape(sensitive)]
    message: Blob,
    message_type: Option<MessageType>,
    #[shape(sensitive)]
    signature: Blob,
    signing_algorithm: SigningAlgorithm,
    #[shape(sensitive)]
    grant_tokens: Vec<String>,
}

pub(crate) struct Plan {
    target: Target,
    message: Blob,
    signature: Blob,
    how: How,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    key_id: String,
    signature_valid: bool,
    signing_algorithm: &'static str,
}

impl Operation for Verify {
    const SPEC: Spec = Spec::reads(Service::Kms, "Verify");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let how = How::new(input.signing_algorithm, input.message_type, &input.message)?;
        cipher::check_length("signature", input.signature.len(), SIGNATURE_BYTES_MAX)?;
        let wanted = Use {
            action: Action::Verify,
            key_id: &input.key_id,
            grant_tokens: &input.grant_tokens,
            facts: how.facts(),
        };
        let target = opened::find(call, wanted).await?;
        Ok(Plan { target, message: input.message, signature: input.signature, how })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.target.ask.clone()]
    }

    async fn rehearse(call: &Call, plan: &Plan) -> Result<(), Error> {
        let how = plan.how;
        opened::rehearse(call, Action::Verify, &plan.target.key, move |kind| how.fits(kind)).await
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { target, message, signature, how } = plan.into_inner();
        let key_id = target.key.arn().to_string();
        let fits = move |kind| how.fits(kind);
        opened::work(call, Action::Verify, target.key, fits, move |key| {
            key.verify(how.algorithm, how.message_type, &message, &signature)
        })
        .await?;
        Ok(Output { key_id, signature_valid: true, signing_algorithm: how.algorithm.as_str() })
    }
}
