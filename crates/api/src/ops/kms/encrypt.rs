//! `kms:Encrypt`: encrypts up to 4 KiB under a key.

use super::shared::{self, EncryptionAlgorithm, Named, Target};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::{Blob, Shape};
use kms::condition::Facts;
use kms::{Action, EncryptionContext, cipher, spec};
use std::collections::BTreeMap;

pub(crate) struct Encrypt;

#[derive(Shape)]
#[shape(input, dry_run)]
pub(crate) struct Input {
    key_id: String,
    #[shape(sensitive)]
    plaintext: Blob,
    encryption_context: BTreeMap<String, String>,
    #[shape(sensitive)]
    grant_tokens: Vec<String>,
    encryption_algorithm: Option<EncryptionAlgorithm>,
}

pub(crate) struct Plan {
    target: Target,
    plaintext: Blob,
    context: EncryptionContext,
    algorithm: spec::EncryptionAlgorithm,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    pub(crate) ciphertext_blob: Blob,
    key_id: String,
    encryption_algorithm: &'static str,
}

impl Operation for Encrypt {
    const SPEC: Spec = Spec::reads(Service::Kms, "Encrypt");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        cipher::check_plaintext(&input.plaintext)?;
        call.world.kms.check_grant_tokens(&input.grant_tokens)?;
        let context = shared::encryption_context(input.encryption_context)?;
        let algorithm = EncryptionAlgorithm::or_default(input.encryption_algorithm)?;
        let facts = Facts::Crypto { context: context.clone(), algorithm };
        let named = Named { action: Action::Encrypt, key_id: &input.key_id, facts };
        let target = shared::target(call, named).await?;
        Ok(Plan { target, plaintext: input.plaintext, context, algorithm })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.target.ask.clone()]
    }

    async fn rehearse(call: &Call, plan: &Plan) -> Result<(), Error> {
        shared::rehearse(call, Action::Encrypt, &plan.target.key).await?;
        let (kind, algorithm) = (plan.target.key.kind, plan.algorithm);
        cipher::check_algorithm(kind, algorithm)?;
        cipher::check_context(kind, &plan.context)?;
        Ok(cipher::check_fits(kind, algorithm, &plan.plaintext)?)
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { target, plaintext, context, algorithm } = plan.into_inner();
        let key_id = target.key.arn().to_string();
        let (ciphertext, material_id) = shared::read(call, move |kms, tx, _| {
            let key = shared::usable(tx, Action::Encrypt, &target.key)?;
            let ciphertext = kms.encrypt(tx, &key, algorithm, &context, &plaintext)?;
            Ok((ciphertext, key.kind.is_symmetric().then_some(key.material_id)))
        })
        .await?;
        if let Some(id) = material_id {
            call.notes.add("keyMaterialId", id.to_string());
        }
        Ok(Output {
            ciphertext_blob: Blob::from(ciphertext),
            key_id,
            encryption_algorithm: algorithm.as_str(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::kms::create_alias::CreateAlias;
    use crate::ops::kms::create_key::CreateKey;
    use crate::ops::kms::disable_key::DisableKey;
    use crate::testing::{account, bench, run};
    use serde_json::json;

    #[tokio::test]
    async fn by_any_name_of_the_key() {
        let bench = bench().await;
        let call = bench.root(&account(1), "us-east-1");
        let created = run::<CreateKey>(&call, json!({})).await.expect("allowed");
        let key = &created["KeyMetadata"];
        let alias = json!({"AliasName": "alias/a", "TargetKeyId": key["KeyId"]});
        run::<CreateAlias>(&call, alias).await.expect("allowed");
        let alias_arn = json!("arn:aws:kms:us-east-1:111111111111:alias/a");
        for name in [&key["KeyId"], &key["Arn"], &json!("alias/a"), &alias_arn] {
            let input = json!({"KeyId": name, "Plaintext": "x"});
            let reply = run::<Encrypt>(&call, input).await.expect("allowed");
            assert_eq!(reply["KeyId"], key["Arn"], "{name}");
            assert_eq!(reply["EncryptionAlgorithm"], "SYMMETRIC_DEFAULT");
        }
    }

    #[tokio::test]
    async fn refusals_come_in_order() {
        let bench = bench().await;
        let (one, two) =
            (bench.root(&account(1), "us-east-1"), bench.root(&account(2), "us-east-1"));
        let created = run::<CreateKey>(&one, json!({})).await.expect("allowed");
        let arn = &created["KeyMetadata"]["Arn"];
        run::<DisableKey>(&one, json!({"KeyId": arn})).await.expect("allowed");
        let other = "RSAES_OAEP_SHA_1";
        // Each input is wrong in several ways; the first in the fixed order is told.
        for (call, input, code) in [
            (&two, json!({"KeyId": arn, "Plaintext": "x".repeat(4097)}), "ValidationException"),
            (
                &two,
                json!({"KeyId": arn, "Plaintext": "x", "GrantTokens": ["forged"]}),
                "InvalidGrantTokenException",
            ),
            (&two, json!({"KeyId": "none", "Plaintext": "x"}), "NotFoundException"),
            (&two, json!({"KeyId": arn, "Plaintext": "x"}), "AccessDeniedException"),
            (
                &one,
                json!({"KeyId": arn, "Plaintext": "x", "EncryptionAlgorithm": other}),
                "DisabledException",
            ),
            (&one, json!({"KeyId": arn, "Plaintext": "x", "DryRun": true}), "DisabledException"),
        ] {
            let error = run::<Encrypt>(call, input.clone()).await.expect_err("refused");
            assert_eq!(error.code(), code, "{input}");
        }
    }

    #[tokio::test]
    async fn algorithms_and_dry_runs() {
        let bench = bench().await;
        let call = bench.root(&account(1), "us-east-1");
        let created = run::<CreateKey>(&call, json!({})).await.expect("allowed");
        let arn = &created["KeyMetadata"]["Arn"];
        let algorithm = "RSAES_OAEP_SHA_256";
        let input = json!({"KeyId": arn, "Plaintext": "x", "EncryptionAlgorithm": algorithm});
        let error = run::<Encrypt>(&call, input).await.expect_err("refused");
        assert_eq!(error.code(), "InvalidKeyUsageException");
        let input = json!({"KeyId": arn, "Plaintext": "x", "DryRun": true});
        let error = run::<Encrypt>(&call, input).await.expect_err("dry");
        assert_eq!(error.code(), "DryRunOperationException");
    }
}
