//! `kms:Encapsulate`: a new shared secret, and what only the holder of the private key gets it out of.

use super::shared::Target;
use super::shared::opened::{self, EncapsulationAlgorithm, Use};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::{Blob, Shape};
use kms::condition::Facts;
use kms::{Action, check_encapsulation_algorithm, spec};

pub(crate) struct Encapsulate;

#[derive(Shape)]
#[shape(input, dry_run)]
pub(crate) struct Input {
    key_id: String,
    encapsulation_algorithm: EncapsulationAlgorithm,
    #[shape(sensitive)]
    grant_tokens: Vec<String>,
}

pub(crate) struct Plan {
    target: Target,
    algorithm: spec::EncapsulationAlgorithm,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    key_id: String,
    #[shape(sensitive)]
    shared_secret: Blob,
    shared_secret_ciphertext_blob: Blob,
    encapsulation_algorithm: &'static str,
}

impl Operation for Encapsulate {
    const SPEC: Spec = Spec::reads(Service::Kms, "Encapsulate");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let wanted = Use {
            action: Action::Encapsulate,
            key_id: &input.key_id,
            grant_tokens: &input.grant_tokens,
            facts: Facts::None,
        };
        let target = opened::find(call, wanted).await?;
        Ok(Plan { target, algorithm: input.encapsulation_algorithm.known() })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.target.ask.clone()]
    }

    async fn rehearse(call: &Call, plan: &Plan) -> Result<(), Error> {
        let algorithm = plan.algorithm;
        let fits = move |kind| check_encapsulation_algorithm(kind, algorithm);
        opened::rehearse(call, Action::Encapsulate, &plan.target.key, fits).await
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { target, algorithm } = plan.into_inner();
        let key_id = target.key.arn().to_string();
        let fits = move |kind| check_encapsulation_algorithm(kind, algorithm);
        let action = Action::Encapsulate;
        let (ciphertext, secret) =
            opened::work(call, action, target.key, fits, |key| key.encapsulate()).await?;
        Ok(Output {
            key_id,
            shared_secret: Blob::from(&secret.expose()[..]),
            shared_secret_ciphertext_blob: Blob::from(ciphertext),
            encapsulation_algorithm: algorithm.as_str(),
        })
    }
}
