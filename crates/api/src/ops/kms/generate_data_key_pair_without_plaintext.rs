//! `kms:GenerateDataKeyPairWithoutPlaintext`: makes a key pair whose private half only a later Decrypt shows.

use super::shared::opened::DataKeyPairSpec;
use super::shared::pair::{Made, PairPlan, PairRequest};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::{Blob, Shape};
use kms::Action;
use std::collections::BTreeMap;

pub(crate) struct GenerateDataKeyPairWithoutPlaintext;

#[derive(Shape)]
#[shape(input, dry_run)]
pub(crate) struct Input {
    encryption_context: BTreeMap<String, String>,
    key_id: String,
    key_pair_spec: DataKeyPairSpec,
    #[shape(sensitive)]
    grant_tokens: Vec<String>,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    private_key_ciphertext_blob: Blob,
    public_key: Blob,
    key_id: String,
    key_pair_spec: &'static str,
    key_material_id: String,
}

impl Operation for GenerateDataKeyPairWithoutPlaintext {
    const SPEC: Spec = Spec::reads(Service::Kms, "GenerateDataKeyPairWithoutPlaintext");
    type Input = Input;
    type Plan = PairPlan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<PairPlan, Error> {
        let request = PairRequest {
            action: Action::GenerateDataKeyPairWithoutPlaintext,
            key_id: input.key_id,
            encryption_context: input.encryption_context,
            key_pair_spec: input.key_pair_spec,
            grant_tokens: input.grant_tokens,
        };
        PairPlan::new(call, request).await
    }

    fn asks(plan: &PairPlan) -> Vec<Ask> {
        vec![plan.target.ask.clone()]
    }

    async fn rehearse(call: &Call, plan: &PairPlan) -> Result<(), Error> {
        plan.rehearse(call).await
    }

    async fn act(call: &Call, plan: Granted<PairPlan>) -> Result<Output, Error> {
        let Made { key_id, spec, pair, ciphertext, material_id } =
            plan.into_inner().generate(call).await?;
        Ok(Output {
            private_key_ciphertext_blob: Blob::from(ciphertext),
            public_key: Blob::from(&pair.public[..]),
            key_id,
            key_pair_spec: spec.as_str(),
            key_material_id: material_id,
        })
    }
}
