//! `kms:Sign`: signs a message of up to 4 KiB, or its digest.

use super::shared::opened::{self, MessageType, SigningAlgorithm, Use};
use super::shared::{Target, message_bytes};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::{Blob, Shape};
use kms::condition::Facts;
use kms::{Action, check_message, check_signing_algorithm, spec};

pub(crate) struct Sign;

#[derive(Shape)]
#[shape(input, dry_run)]
pub(crate) struct Input {
    key_id: String,
    #[shape(sensitive)]
    message: Blob,
    message_type: Option<MessageType>,
    #[shape(sensitive)]
    grant_tokens: Vec<String>,
    signing_algorithm: SigningAlgorithm,
}

pub(crate) struct Plan {
    pub(super) target: Target,
    pub(super) message: Blob,
    pub(super) how: How,
}

/// Algorithm and message, as Sign and Verify are asked for them.
#[derive(Clone, Copy)]
pub(super) struct How {
    pub(super) algorithm: spec::SigningAlgorithm,
    pub(super) message_type: spec::MessageType,
    pub(super) length: usize,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    key_id: String,
    signature: Blob,
    signing_algorithm: &'static str,
}

impl How {
    pub(super) fn new(
        algorithm: SigningAlgorithm,
        message_type: Option<MessageType>,
        message: &[u8],
    ) -> Result<Self, Error> {
        message_bytes(message)?;
        let message_type = MessageType::or_raw(message_type);
        Ok(Self { algorithm: algorithm.known()?, message_type, length: message.len() })
    }

    pub(super) fn facts(self) -> Facts {
        Facts::Sign { algorithm: self.algorithm, message_type: self.message_type }
    }

    /// Whether a key signs so.
    pub(super) fn fits(self, kind: spec::Kind) -> kms::Result<()> {
        check_signing_algorithm(kind, self.algorithm)?;
        check_message(self.algorithm, self.message_type, self.length)
    }
}

impl Operation for Sign {
    const SPEC: Spec = Spec::reads(Service::Kms, "Sign");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let how = How::new(input.signing_algorithm, input.message_type, &input.message)?;
        let wanted = Use {
            action: Action::Sign,
            key_id: &input.key_id,
            grant_tokens: &input.grant_tokens,
            facts: how.facts(),
        };
        let target = opened::find(call, wanted).await?;
        Ok(Plan { target, message: input.message, how })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.target.ask.clone()]
    }

    async fn rehearse(call: &Call, plan: &Plan) -> Result<(), Error> {
        let how = plan.how;
        opened::rehearse(call, Action::Sign, &plan.target.key, move |kind| how.fits(kind)).await
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { target, message, how } = plan.into_inner();
        let key_id = target.key.arn().to_string();
        let fits = move |kind| how.fits(kind);
        let signature = opened::work(call, Action::Sign, target.key, fits, move |key| {
            key.sign(how.algorithm, how.message_type, &message)
        })
        .await?;
        Ok(Output {
            key_id,
            signature: Blob::from(signature),
            signing_algorithm: how.algorithm.as_str(),
        })
    }
}
