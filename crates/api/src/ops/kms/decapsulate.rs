//! `kms:Decapsulate`: the shared secret that somebody encapsulated with the public half of a key pair.

use super::shared::Target;
use super::shared::opened::{self, CIPHERTEXT_BYTES_MAX, EncapsulationAlgorithm, Use};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::{Blob, Shape};
use base::Secret;
use kms::condition::Facts;
use kms::{Action, check_encapsulation_algorithm, cipher, spec};

pub(crate) struct Decapsulate;

#[derive(Shape)]
#[shape(input, dry_run)]
pub(crate) struct Input {
    key_id: String,
    shared_secret_ciphertext_blob: Blob,
    encapsulation_algorithm: EncapsulationAlgorithm,
    #[shape(sensitive)]
    grant_tokens: Vec<String>,
}

pub(crate) struct Plan {
    target: Target,
    ciphertext: Blob,
    algorithm: spec::EncapsulationAlgorithm,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    key_id: String,
    #[shape(sensitive)]
    shared_secret: Blob,
    encapsulation_algorithm: &'static str,
}

impl Operation for Decapsulate {
    const SPEC: Spec = Spec::reads(Service::Kms, "Decapsulate");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let ciphertext = input.shared_secret_ciphertext_blob;
        let member = "sharedSecretCiphertextBlob";
        cipher::check_length(member, ciphertext.len(), CIPHERTEXT_BYTES_MAX)?;
        let wanted = Use {
            action: Action::Decapsulate,
            key_id: &input.key_id,
            grant_tokens: &input.grant_tokens,
            facts: Facts::None,
        };
        let target = opened::find(call, wanted).await?;
        Ok(Plan { target, ciphertext, algorithm: input.encapsulation_algorithm.known() })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.target.ask.clone()]
    }

    /// With the secret, as what the ciphertext is wrong about depends on the key.
    async fn rehearse(call: &Call, plan: &Plan) -> Result<(), Error> {
        let ciphertext = plan.ciphertext.clone();
        open(call, plan.target.key.clone(), plan.algorithm, ciphertext).await.map(drop)
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { target, ciphertext, algorithm } = plan.into_inner();
        let key_id = target.key.arn().to_string();
        let secret = open(call, target.key, algorithm, ciphertext).await?;
        Ok(Output {
            key_id,
            shared_secret: Blob::from(&secret.expose()[..]),
            encapsulation_algorithm: algorithm.as_str(),
        })
    }
}

async fn open(
    call: &Call,
    key: kms::Key,
    algorithm: spec::EncapsulationAlgorithm,
    ciphertext: Blob,
) -> Result<Secret<Vec<u8>>, Error> {
    let fits = move |kind| check_encapsulation_algorithm(kind, algorithm);
    let work = move |key: kms::Opened| key.decapsulate(&ciphertext);
    opened::work(call, Action::Decapsulate, key, fits, work).await
}
