//! `kms:GenerateDataKeyWithoutPlaintext`: makes a data key that only a later Decrypt shows.

use super::shared::{self, DataKeyPlan, DataKeyRequest, DataKeySpec};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::{Blob, Shape};
use kms::Action;
use std::collections::BTreeMap;

pub(crate) struct GenerateDataKeyWithoutPlaintext;

const ACTION: Action = Action::GenerateDataKeyWithoutPlaintext;

#[derive(Shape)]
#[shape(input, dry_run)]
pub(crate) struct Input {
    key_id: String,
    encryption_context: BTreeMap<String, String>,
    key_spec: Option<DataKeySpec>,
    number_of_bytes: Option<i32>,
    #[shape(sensitive)]
    grant_tokens: Vec<String>,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    ciphertext_blob: Blob,
    key_id: String,
    key_material_id: String,
}

impl Operation for GenerateDataKeyWithoutPlaintext {
    const SPEC: Spec = Spec::reads(Service::Kms, "GenerateDataKeyWithoutPlaintext");
    type Input = Input;
    type Plan = DataKeyPlan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<DataKeyPlan, Error> {
        let request = DataKeyRequest {
            key_id: input.key_id,
            encryption_context: input.encryption_context,
            number_of_bytes: input.number_of_bytes,
            key_spec: input.key_spec,
            grant_tokens: input.grant_tokens,
        };
        DataKeyPlan::new(call, ACTION, request).await
    }

    fn asks(plan: &DataKeyPlan) -> Vec<Ask> {
        vec![plan.target.ask.clone()]
    }

    async fn rehearse(call: &Call, plan: &DataKeyPlan) -> Result<(), Error> {
        shared::rehearse(call, ACTION, &plan.target.key).await
    }

    async fn act(call: &Call, plan: Granted<DataKeyPlan>) -> Result<Output, Error> {
        let (key_id, made) = plan.into_inner().generate(call, ACTION).await?;
        Ok(Output {
            ciphertext_blob: Blob::from(made.ciphertext),
            key_id,
            key_material_id: made.material_id.to_string(),
        })
    }
}
