//! `kms:VerifyMac`: whether an HMAC is the key's and the message's. One that is not is an error, not an answer.

use super::shared::opened::{self, MacAlgorithm, SIGNATURE_BYTES_MAX, Use};
use super::shared::{Target, message_bytes};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::{Blob, Shape};
use kms::condition::Facts;
use kms::{Action, check_mac_algorithm, cipher, spec};

pub(crate) struct VerifyMac;

#[derive(Shape)]
#[shape(input, dry_run)]
pub(crate) struct Input {
    #[shape(sensitive)]
    message: Blob,
    key_id: String,
    mac_algorithm: MacAlgorithm,
    #[shape(sensitive)]
    mac: Blob,
    #[shape(sensitive)]
    grant_tokens: Vec<String>,
}

pub(crate) struct Plan {
    target: Target,
    message: Blob,
    mac: Blob,
    algorithm: spec::MacAlgorithm,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    key_id: String,
    mac_valid: bool,
    mac_algorithm: &'static str,
}

impl Operation for VerifyMac {
    const SPEC: Spec = Spec::reads(Service::Kms, "VerifyMac");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        message_bytes(&input.message)?;
        cipher::check_length("mac", input.mac.len(), SIGNATURE_BYTES_MAX)?;
        let algorithm = input.mac_algorithm.known();
        let wanted = Use {
            action: Action::VerifyMac,
            key_id: &input.key_id,
            grant_tokens: &input.grant_tokens,
            facts: Facts::Mac(algorithm),
        };
        let target = opened::find(call, wanted).await?;
        Ok(Plan { target, message: input.message, mac: input.mac, algorithm })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.target.ask.clone()]
    }

    async fn rehearse(call: &Call, plan: &Plan) -> Result<(), Error> {
        let algorithm = plan.algorithm;
        let fits = move |kind| check_mac_algorithm(kind, algorithm);
        opened::rehearse(call, Action::VerifyMac, &plan.target.key, fits).await
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { target, message, mac, algorithm } = plan.into_inner();
        let key_id = target.key.arn().to_string();
        let fits = move |kind| check_mac_algorithm(kind, algorithm);
        opened::work(call, Action::VerifyMac, target.key, fits, move |key| {
            key.verify_mac(algorithm, &message, &mac)
        })
        .await?;
        Ok(Output { key_id, mac_valid: true, mac_algorithm: algorithm.as_str() })
    }
}
