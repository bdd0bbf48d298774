//! `kms:GenerateMac`: the HMAC of a message of up to 4 KiB.

use super::shared::opened::{self, MacAlgorithm, Use};
use super::shared::{Target, message_bytes};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::{Blob, Shape};
use kms::condition::Facts;
use kms::{Action, check_mac_algorithm, spec};

pub(crate) struct GenerateMac;

#[derive(Shape)]
#[shape(input, dry_run)]
pub(crate) struct Input {
    #[shape(sensitive)]
    message: Blob,
    key_id: String,
    mac_algorithm: MacAlgorithm,
    #[shape(sensitive)]
    grant_tokens: Vec<String>,
}

pub(crate) struct Plan {
    target: Target,
    message: Blob,
    algorithm: spec::MacAlgorithm,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    /// Whoever has it can pass the message off as checked, so it is not recorded.
    #[shape(sensitive)]
    mac: Blob,
    mac_algorithm: &'static str,
    key_id: String,
}

impl Operation for GenerateMac {
    const SPEC: Spec = Spec::reads(Service::Kms, "GenerateMac");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        message_bytes(&input.message)?;
        let algorithm = input.mac_algorithm.known();
        let wanted = Use {
            action: Action::GenerateMac,
            key_id: &input.key_id,
            grant_tokens: &input.grant_tokens,
            facts: Facts::Mac(algorithm),
        };
        let target = opened::find(call, wanted).await?;
        Ok(Plan { target, message: input.message, algorithm })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.target.ask.clone()]
    }

    async fn rehearse(call: &Call, plan: &Plan) -> Result<(), Error> {
        let algorithm = plan.algorithm;
        let fits = move |kind| check_mac_algorithm(kind, algorithm);
        opened::rehearse(call, Action::GenerateMac, &plan.target.key, fits).await
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { target, message, algorithm } = plan.into_inner();
        let key_id = target.key.arn().to_string();
        let fits = move |kind| check_mac_algorithm(kind, algorithm);
        let mac = opened::work(call, Action::GenerateMac, target.key, fits, move |key| {
            Ok(key.mac(algorithm, &message))
        })
        .await?;
        Ok(Output { mac: Blob::from(mac), mac_algorithm: algorithm.as_str(), key_id })
    }
}
