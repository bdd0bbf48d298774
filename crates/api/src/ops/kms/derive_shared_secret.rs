//! `kms:DeriveSharedSecret`: what a key pair and a peer's public key have in common.

use super::shared::Target;
use super::shared::opened::{self, KeyAgreementAlgorithm, PUBLIC_KEY_BYTES_MAX, Use};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::{Blob, Shape};
use kms::condition::Facts;
use kms::{Action, check_agreement_algorithm, cipher, spec};

pub(crate) struct DeriveSharedSecret;

#[derive(Shape)]
#[shape(input, dry_run, unsupported(Recipient))]
pub(crate) struct Input {
    key_id: String,
    key_agreement_algorithm: KeyAgreementAlgorithm,
    public_key: Blob,
    #[shape(sensitive)]
    grant_tokens: Vec<String>,
}

pub(crate) struct Plan {
    target: Target,
    peer: Blob,
    algorithm: spec::KeyAgreementAlgorithm,
}

#[derive(Shape)]
#[shape(output, omitted(CiphertextForRecipient))]
pub(crate) struct Output {
    key_id: String,
    #[shape(sensitive)]
    shared_secret: Blob,
    key_agreement_algorithm: &'static str,
    key_origin: &'static str,
}

impl Operation for DeriveSharedSecret {
    const SPEC: Spec = Spec::reads(Service::Kms, "DeriveSharedSecret");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        cipher::check_length("publicKey", input.public_key.len(), PUBLIC_KEY_BYTES_MAX)?;
        let algorithm = input.key_agreement_algorithm.known();
        let wanted = Use {
            action: Action::DeriveSharedSecret,
            key_id: &input.key_id,
            grant_tokens: &input.grant_tokens,
            facts: Facts::Agree(algorithm),
        };
        let target = opened::find(call, wanted).await?;
        Ok(Plan { target, peer: input.public_key, algorithm })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.target.ask.clone()]
    }

    async fn rehearse(call: &Call, plan: &Plan) -> Result<(), Error> {
        let algorithm = plan.algorithm;
        let fits = move |kind| check_agreement_algorithm(kind, algorithm);
        opened::rehearse(call, Action::DeriveSharedSecret, &plan.target.key, fits).await
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { target, peer, algorithm } = plan.into_inner();
        let (key_id, key_origin) = (target.key.arn().to_string(), target.key.origin.as_str());
        let fits = move |kind| check_agreement_algorithm(kind, algorithm);
        let action = Action::DeriveSharedSecret;
        let secret =
            opened::work(call, action, target.key, fits, move |key| key.shared_secret(&peer))
                .await?;
        Ok(Output {
            key_id,
            shared_secret: Blob::from(&secret.expose()[..]),
            key_agreement_algorithm: algorithm.as_str(),
            key_origin,
        })
    }
}
