//! `kms:Decrypt`: opens a ciphertext. The key is the one the ciphertext names; a key in the request must be it.

use super::shared::{self, Ciphertext, DryRunModifier, EncryptionAlgorithm, Source};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::{Blob, Shape};
use kms::condition::Facts;
use kms::{Action, EncryptionContext, spec};
use std::collections::BTreeMap;

pub(crate) struct Decrypt;

#[derive(Shape)]
#[shape(input, unsupported(Recipient))]
pub(crate) struct Input {
    ciphertext_blob: Option<Blob>,
    encryption_context: BTreeMap<String, String>,
    #[shape(sensitive)]
    grant_tokens: Vec<String>,
    key_id: Option<String>,
    encryption_algorithm: Option<EncryptionAlgorithm>,
    dry_run: Option<bool>,
    dry_run_modifiers: Vec<DryRunModifier>,
}

pub(crate) struct Plan {
    source: Source,
    ask: Ask,
    context: EncryptionContext,
    algorithm: spec::EncryptionAlgorithm,
}

#[derive(Shape)]
#[shape(output, omitted(CiphertextForRecipient))]
pub(crate) struct Output {
    key_id: String,
    #[shape(sensitive)]
    plaintext: Blob,
    encryption_algorithm: &'static str,
    key_material_id: Option<String>,
}

impl Operation for Decrypt {
    const SPEC: Spec = Spec::reads(Service::Kms, "Decrypt");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        call.world.kms.check_grant_tokens(&input.grant_tokens)?;
        let context = shared::encryption_context(input.encryption_context)?;
        let algorithm = EncryptionAlgorithm::or_default(input.encryption_algorithm)?;
        let facts = Facts::Crypto { context: context.clone(), algorithm };
        let action = Action::Decrypt;
        let (key_id, modifiers) = (input.key_id, input.dry_run_modifiers);
        let named = ("KeyId", key_id.as_deref());
        let ciphertext = Ciphertext::of(input.ciphertext_blob, input.dry_run, &modifiers, named)?;
        let (source, ask) = shared::read(call, move |kms, tx, from| {
            let (source, resolved) =
                Source::find(tx, action, from, key_id.as_deref(), &ciphertext)?;
            let ask = from.ask(kms, tx, action, &resolved, &facts)?;
            Ok((source, ask))
        })
        .await?;
        Ok(Plan { source, ask, context, algorithm })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.ask.clone()]
    }

    async fn rehearse(call: &Call, plan: &Plan) -> Result<(), Error> {
        let (source, context, algorithm) =
            (plan.source.clone(), plan.context.clone(), plan.algorithm);
        shared::read(call, move |kms, tx, _| {
            match source.rehearse(tx, Action::Decrypt, algorithm)? {
                Some(located) => kms.decrypt(tx, located, algorithm, &context).map(drop),
                None => Ok(()),
            }
        })
        .await
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { source, context, algorithm, .. } = plan.into_inner();
        let (located, plaintext) = shared::read(call, move |kms, tx, _| {
            let located = source.ready(tx, Action::Decrypt, algorithm)?;
            Ok((located.clone(), kms.decrypt(tx, located, algorithm, &context)?))
        })
        .await?;
        // Key pairs have one version, which KMS does not name.
        let symmetric = located.key.kind.is_symmetric();
        let key_material_id = symmetric.then(|| located.material_id.to_string());
        if let Some(id) = &key_material_id {
            call.notes.add("keyMaterialId", id.as_str());
        }
        Ok(Output {
            key_id: located.key.arn().to_string(),
            plaintext: Blob::from(&plaintext.expose()[..]),
            encryption_algorithm: algorithm.as_str(),
            key_material_id,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::kms::create_key::CreateKey;
    use crate::testing::{account, bench, run};
    use awsproto::Value;
    use serde_json::json;

    /// The bench's JSON has no bytes, so ciphertexts go through the pipeline as values.
    async fn decrypt(
        call: &Call,
        ciphertext: &[u8],
        context: &[(&str, &str)],
        key_id: Option<&str>,
    ) -> Result<Vec<u8>, Error> {
        let mut fields = awsproto::Fields::default();
        fields.push("CiphertextBlob", Value::Blob(Blob::from(ciphertext)));
        let pairs = context.iter().map(|(k, v)| ((*k).to_owned(), Value::String((*v).to_owned())));
        fields.push("EncryptionContext", Value::Map(pairs.collect()));
        if let Some(key_id) = key_id {
            fields.push("KeyId", Value::String(key_id.to_owned()));
        }
        let output = crate::pipeline::run::<Decrypt>(call, Value::Struct(fields)).await?;
        Ok(output.plaintext.to_vec())
    }

    async fn encrypt(call: &Call, key_id: &str, context: &[(&str, &str)]) -> Vec<u8> {
        let mut fields = awsproto::Fields::default();
        fields.push("KeyId", Value::String(key_id.to_owned()));
        fields.push("Plaintext", Value::Blob(Blob::from(&b"hello"[..])));
        let pairs = context.iter().map(|(k, v)| ((*k).to_owned(), Value::String((*v).to_owned())));
        fields.push("EncryptionContext", Value::Map(pairs.collect()));
        let operation =
            crate::registry::find(Service::Kms, "Encrypt").expect("the operation is registered");
        let output = operation.run(call, Value::Struct(fields)).await.expect("allowed");
        match output.as_fields().and_then(|fields| fields.get("CiphertextBlob")) {
            Some(Value::Blob(blob)) => blob.to_vec(),
            other => panic!("no ciphertext: {other:?}"),
        }
    }

    async fn key(call: &Call) -> String {
        let created = run::<CreateKey>(call, json!({})).await.expect("allowed");
        created["KeyMetadata"]["Arn"].as_str().expect("an ARN").to_owned()
    }

    #[tokio::test]
    async fn what_was_encrypted_comes_back_under_its_context_only() {
        let bench = bench().await;
        let call = bench.root(&account(1), "us-east-1");
        let (arn, other) = (key(&call).await, key(&call).await);
        let context = [("aws:ebs:id", "vol-a")];
        let ciphertext = encrypt(&call, &arn, &context).await;
        let open = async |ciphertext: &[u8], context: &[(&str, &str)], key_id: Option<&str>| {
            decrypt(&call, ciphertext, context, key_id).await
        };
        assert_eq!(open(&ciphertext, &context, None).await.expect("allowed"), b"hello");
        assert_eq!(open(&ciphertext, &context, Some(&arn)).await.expect("allowed"), b"hello");
        let altered = [&ciphertext[..ciphertext.len() - 1], &[0]].concat();
        for (ciphertext, context, key_id, code) in [
            (&ciphertext, &[][..], None, "InvalidCiphertextException"),
            (&ciphertext, &[("aws:ebs:id", "vol-b")], None, "InvalidCiphertextException"),
            (&ciphertext, &context, Some(&other), "IncorrectKeyException"),
            (&altered, &context, None, "InvalidCiphertextException"),
            (&b"nonsense".to_vec(), &context, None, "InvalidCiphertextException"),
            (&b"nonsense".to_vec(), &context, Some(&arn), "InvalidCiphertextException"),
        ] {
            let refused = open(ciphertext, context, key_id.map(String::as_str)).await;
            assert_eq!(refused.expect_err("refused").code(), code);
        }
    }

    #[tokio::test]
    async fn a_dry_run_may_ignore_the_ciphertext() {
        let bench = bench().await;
        let (one, two) =
            (bench.root(&account(1), "us-east-1"), bench.root(&account(2), "us-east-1"));
        let arn = key(&one).await;
        let ask = async |call: &Call, mut input: serde_json::Value, modified: bool| {
            if modified {
                input["DryRunModifiers"] = json!(["IGNORE_CIPHERTEXT"]);
            }
            let error = run::<Decrypt>(call, input).await.expect_err("never an answer");
            (error.code().to_owned(), error.0.message.clone())
        };
        let asked = json!({"DryRun": true, "KeyId": arn});
        assert_eq!(ask(&one, asked.clone(), true).await.0, "DryRunOperationException");
        assert_eq!(ask(&two, asked.clone(), true).await.0, "AccessDeniedException");
        let algorithm =
            json!({"DryRun": true, "KeyId": arn, "EncryptionAlgorithm": "RSAES_OAEP_SHA_1"});
        assert_eq!(ask(&one, algorithm, true).await.0, "InvalidKeyUsageException");
        for (input, modified, part) in [
            (asked.clone(), false, "ciphertextBlob"),
            (json!({"DryRun": true}), true, "keyId"),
            (json!({"KeyId": arn}), true, "DryRunModifiers"),
            (json!({"DryRun": false, "KeyId": arn}), true, "DryRunModifiers"),
        ] {
            let (code, message) = ask(&one, input, modified).await;
            assert!(code == "ValidationException" && message.contains(part), "{code}: {message}");
        }
        run::<crate::ops::kms::disable_key::DisableKey>(&one, json!({"KeyId": arn}))
            .await
            .expect("ok");
        assert_eq!(ask(&one, asked, true).await.0, "DisabledException");
    }

    #[tokio::test]
    async fn other_accounts_are_denied_before_anything_is_opened() {
        let bench = bench().await;
        let (one, two) =
            (bench.root(&account(1), "us-east-1"), bench.root(&account(2), "us-east-1"));
        let arn = key(&one).await;
        let ciphertext = encrypt(&one, &arn, &[]).await;
        let refused = decrypt(&two, &ciphertext, &[("wrong", "context")], None).await;
        assert_eq!(refused.expect_err("denied").code(), "AccessDeniedException");
        let elsewhere = bench.root(&account(1), "eu-west-1");
        let refused = decrypt(&elsewhere, &ciphertext, &[], None).await;
        assert_eq!(refused.expect_err("elsewhere").code(), "InvalidCiphertextException");
    }
}
