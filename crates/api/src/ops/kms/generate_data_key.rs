//! `kms:GenerateDataKey`: makes a data key and returns it in the clear and encrypted under a key.

use super::shared::{self, DataKeyPlan, DataKeyRequest, DataKeySpec};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::{Blob, Shape};
use kms::Action;
use std::collections::BTreeMap;

pub(crate) struct GenerateDataKey;

#[derive(Shape)]
#[shape(input, dry_run, unsupported(Recipient))]
pub(crate) struct Input {
    key_id: String,
    encryption_context: BTreeMap<String, String>,
    number_of_bytes: Option<i32>,
    key_spec: Option<DataKeySpec>,
    #[shape(sensitive)]
    grant_tokens: Vec<String>,
}

#[derive(Shape)]
#[shape(output, omitted(CiphertextForRecipient))]
pub(crate) struct Output {
    pub(super) ciphertext_blob: Blob,
    #[shape(sensitive)]
    plaintext: Blob,
    key_id: String,
    key_material_id: String,
}

impl Operation for GenerateDataKey {
    const SPEC: Spec = Spec::reads(Service::Kms, "GenerateDataKey");
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
        DataKeyPlan::new(call, Action::GenerateDataKey, request).await
    }

    fn asks(plan: &DataKeyPlan) -> Vec<Ask> {
        vec![plan.target.ask.clone()]
    }

    async fn rehearse(call: &Call, plan: &DataKeyPlan) -> Result<(), Error> {
        shared::rehearse(call, Action::GenerateDataKey, &plan.target.key).await
    }

    async fn act(call: &Call, plan: Granted<DataKeyPlan>) -> Result<Output, Error> {
        let (key_id, made) = plan.into_inner().generate(call, Action::GenerateDataKey).await?;
        Ok(Output {
            ciphertext_blob: Blob::from(made.ciphertext),
            plaintext: Blob::from(&made.plaintext.expose()[..]),
            key_id,
            key_material_id: made.material_id.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::kms::create_key::CreateKey;
    use crate::ops::kms::generate_data_key_without_plaintext::GenerateDataKeyWithoutPlaintext;
    use crate::testing::{account, bench, run};
    use serde_json::json;

    #[tokio::test]
    async fn lengths() {
        let bench = bench().await;
        let call = bench.root(&account(1), "us-east-1");
        let created = run::<CreateKey>(&call, json!({})).await.expect("allowed");
        let id = &created["KeyMetadata"]["KeyId"];
        let sizes = |reply: serde_json::Value| {
            let length = |member: &str| reply[member].as_array().map(Vec::len);
            (length("Plaintext"), length("CiphertextBlob"))
        };
        for (input, expected) in [
            (json!({"KeyId": id, "KeySpec": "AES_256"}), (32, 184)),
            (json!({"KeyId": id, "KeySpec": "AES_128"}), (16, 168)),
            (json!({"KeyId": id, "NumberOfBytes": 64}), (64, 220)),
        ] {
            let reply = run::<GenerateDataKey>(&call, input.clone()).await.expect("allowed");
            assert_eq!(sizes(reply), (Some(expected.0), Some(expected.1)), "{input}");
            let reply =
                run::<GenerateDataKeyWithoutPlaintext>(&call, input).await.expect("allowed");
            assert_eq!(sizes(reply), (None, Some(expected.1)));
        }
        for input in [
            json!({"KeyId": id}),
            json!({"KeyId": id, "KeySpec": "AES_256", "NumberOfBytes": 32}),
            json!({"KeyId": id, "NumberOfBytes": 0}),
            json!({"KeyId": id, "NumberOfBytes": 1025}),
        ] {
            let error = run::<GenerateDataKey>(&call, input.clone()).await.expect_err("refused");
            assert_eq!(error.code(), "ValidationException", "{input}");
        }
        let dry = json!({"KeyId": id, "KeySpec": "AES_256", "DryRun": true});
        let error = run::<GenerateDataKey>(&call, dry).await.expect_err("dry");
        assert_eq!(error.code(), "DryRunOperationException");
    }
}
