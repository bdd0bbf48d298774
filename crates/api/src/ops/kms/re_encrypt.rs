//! `kms:ReEncrypt`: moves a ciphertext to another key or another context without showing its plaintext. Two
//! permissions: `kms:ReEncryptFrom` on the source key, `kms:ReEncryptTo` on the destination (spec 20, A.3).

use super::shared::{self, Ciphertext, DryRunModifier, EncryptionAlgorithm, Source};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::{Blob, Shape};
use kms::cipher::{self, Located};
use kms::condition::Facts;
use kms::{Action, EncryptionContext, Key, Kms, resolve, spec};
use meta::Tx;
use std::collections::BTreeMap;

pub(crate) struct ReEncrypt;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    ciphertext_blob: Option<Blob>,
    source_encryption_context: BTreeMap<String, String>,
    source_key_id: Option<String>,
    destination_key_id: String,
    destination_encryption_context: BTreeMap<String, String>,
    source_encryption_algorithm: Option<EncryptionAlgorithm>,
    destination_encryption_algorithm: Option<EncryptionAlgorithm>,
    #[shape(sensitive)]
    grant_tokens: Vec<String>,
    dry_run: Option<bool>,
    dry_run_modifiers: Vec<DryRunModifier>,
}

#[derive(Clone)]
struct Move {
    source: Source,
    source_context: EncryptionContext,
    source_algorithm: spec::EncryptionAlgorithm,
    target: Key,
    target_context: EncryptionContext,
    target_algorithm: spec::EncryptionAlgorithm,
}

pub(crate) struct Plan {
    from_to: Move,
    asks: Vec<Ask>,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    ciphertext_blob: Blob,
    source_key_id: String,
    key_id: String,
    source_encryption_algorithm: &'static str,
    destination_encryption_algorithm: &'static str,
    source_key_material_id: Option<String>,
    destination_key_material_id: Option<String>,
}

impl Operation for ReEncrypt {
    const SPEC: Spec = Spec::reads(Service::Kms, "ReEncrypt");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        call.world.kms.check_grant_tokens(&input.grant_tokens)?;
        let source_context = shared::encryption_context(input.source_encryption_context)?;
        let target_context = shared::encryption_context(input.destination_encryption_context)?;
        let source_algorithm = EncryptionAlgorithm::or_default(input.source_encryption_algorithm)?;
        let target_algorithm =
            EncryptionAlgorithm::or_default(input.destination_encryption_algorithm)?;
        let named = ("SourceKeyId", input.source_key_id.as_deref());
        let modifiers = &input.dry_run_modifiers;
        let ciphertext = Ciphertext::of(input.ciphertext_blob, input.dry_run, modifiers, named)?;
        let (from_action, to_action) = (Action::ReEncryptFrom, Action::ReEncryptTo);
        shared::make_ebs_key_if_named(call, to_action, &input.destination_key_id).await?;
        shared::read(call, move |kms, tx, from| {
            let source_key_id = input.source_key_id.as_deref();
            let (source, source_key) =
                Source::find(tx, from_action, from, source_key_id, &ciphertext)?;
            let target_id = &input.destination_key_id;
            let target = resolve::resolve(tx, to_action, &from.caller, &from.region, target_id)?;
            let same_key = source_key.key.id == target.key.id;
            let facts = |context: &EncryptionContext, algorithm| Facts::ReEncrypt {
                context: context.clone(),
                same_key,
                algorithm,
            };
            let (from_facts, to_facts) = (
                facts(&source_context, source_algorithm),
                facts(&target_context, target_algorithm),
            );
            let asks = vec![
                from.ask(kms, tx, from_action, &source_key, &from_facts)?,
                from.ask(kms, tx, to_action, &target, &to_facts)?,
            ];
            let from_to = Move {
                source,
                source_context: source_context.clone(),
                source_algorithm,
                target: target.key,
                target_context: target_context.clone(),
                target_algorithm,
            };
            Ok(Plan { from_to, asks })
        })
        .await
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        plan.asks.clone()
    }

    async fn rehearse(call: &Call, plan: &Plan) -> Result<(), Error> {
        let from_to = plan.from_to.clone();
        shared::read(call, move |kms, tx, _| from_to.rehearse(kms, tx)).await
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let from_to = plan.into_inner().from_to;
        shared::read(call, move |kms, tx, _| from_to.run(kms, tx)).await
    }
}

impl Move {
    /// The target, once both keys may be used. Both states before either ciphertext: a closed target must
    /// not tell whether the source opens.
    fn target(&self, tx: &mut Tx<'_>) -> kms::Result<Key> {
        self.source.check_state(tx, Action::ReEncryptFrom)?;
        let target = shared::usable(tx, Action::ReEncryptTo, &self.target)?;
        cipher::check_algorithm(target.kind, self.target_algorithm)?;
        Ok(target)
    }

    fn rehearse(&self, kms: &Kms, tx: &mut Tx<'_>) -> kms::Result<()> {
        let target = self.target(tx)?;
        match self.source.rehearse(tx, Action::ReEncryptFrom, self.source_algorithm)? {
            Some(located) => self.seal_again(kms, tx, located, &target).map(drop),
            None => Ok(()),
        }
    }

    fn run(&self, kms: &Kms, tx: &mut Tx<'_>) -> kms::Result<Output> {
        let target = self.target(tx)?;
        let located = self.source.ready(tx, Action::ReEncryptFrom, self.source_algorithm)?;
        self.seal_again(kms, tx, located, &target)
    }

    fn seal_again(
        &self,
        kms: &Kms,
        tx: &mut Tx<'_>,
        located: &Located,
        target: &Key,
    ) -> kms::Result<Output> {
        let ciphertext = kms.re_encrypt(
            tx,
            (located, self.source_algorithm, &self.source_context),
            (target, self.target_algorithm, &self.target_context),
        )?;
        let named =
            |key: &Key, id: kms::MaterialId| key.kind.is_symmetric().then(|| id.to_string());
        Ok(Output {
            ciphertext_blob: Blob::from(ciphertext),
            source_key_id: located.key.arn().to_string(),
            key_id: target.arn().to_string(),
            source_encryption_algorithm: self.source_algorithm.as_str(),
            destination_encryption_algorithm: self.target_algorithm.as_str(),
            source_key_material_id: named(&located.key, located.material_id),
            destination_key_material_id: named(target, target.material_id),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::kms::create_key::CreateKey;
    use crate::ops::kms::decrypt::Decrypt;
    use crate::ops::kms::disable_key::DisableKey;
    use crate::ops::kms::generate_data_key::GenerateDataKey;
    use crate::testing::{account, bench, run};
    use awsproto::{Fields, FromWire, Value};
    use serde_json::json;

    fn context(id: &str) -> Value {
        Value::Map(BTreeMap::from([("aws:ebs:id".to_owned(), Value::String(id.to_owned()))]))
    }

    fn text(text: &str) -> Value {
        Value::String(text.to_owned())
    }

    async fn key(call: &Call) -> String {
        let created = run::<CreateKey>(call, json!({})).await.expect("allowed");
        created["KeyMetadata"]["Arn"].as_str().expect("an ARN").to_owned()
    }

    fn input(members: impl IntoIterator<Item = (&'static str, Value)>) -> Value {
        let mut fields = Fields::default();
        members.into_iter().for_each(|(name, value)| fields.push(name, value));
        Value::Struct(fields)
    }

    #[tokio::test]
    async fn a_data_key_is_bound_to_a_new_id_and_key() {
        let bench = bench().await;
        let call = bench.root(&account(1), "us-east-1");
        let (source, target) = (key(&call).await, key(&call).await);
        let made = crate::pipeline::run::<GenerateDataKey>(
            &call,
            input([
                ("KeyId", text(&source)),
                ("NumberOfBytes", Value::Int(64)),
                ("EncryptionContext", context("vol-a")),
            ]),
        )
        .await
        .expect("allowed");
        let ciphertext = Value::Blob(made.ciphertext_blob.clone());
        let moved = crate::pipeline::run::<ReEncrypt>(
            &call,
            input([
                ("CiphertextBlob", ciphertext.clone()),
                ("SourceEncryptionContext", context("vol-a")),
                ("DestinationKeyId", text(&target)),
                ("DestinationEncryptionContext", context("snap-b")),
            ]),
        )
        .await
        .expect("allowed");
        assert_eq!((&moved.source_key_id, &moved.key_id), (&source, &target));
        let opened = crate::pipeline::run::<Decrypt>(
            &call,
            input([
                ("CiphertextBlob", Value::Blob(moved.ciphertext_blob.clone())),
                ("EncryptionContext", context("snap-b")),
            ]),
        )
        .await
        .expect("allowed");
        let plaintext = |value: Value| match value.as_fields().and_then(|f| f.get("Plaintext")) {
            Some(Value::Blob(blob)) => blob.to_vec(),
            other => panic!("no plaintext: {other:?}"),
        };
        let wire = |value: Option<Value>| value.expect("a reply");
        use awsproto::ToWire;
        assert_eq!(plaintext(wire(opened.to_wire())), plaintext(wire(made.to_wire())));

        let wrong = input([
            ("CiphertextBlob", ciphertext.clone()),
            ("SourceEncryptionContext", context("vol-b")),
            ("DestinationKeyId", text(&target)),
        ]);
        let error = crate::pipeline::run::<ReEncrypt>(&call, wrong.clone()).await;
        assert_eq!(error.err().expect("refused").code(), "InvalidCiphertextException");

        let rehearsal = json!({"DryRun": true, "DryRunModifiers": ["IGNORE_CIPHERTEXT"],
            "SourceKeyId": source, "DestinationKeyId": target});
        let rehearse =
            async || run::<ReEncrypt>(&call, rehearsal.clone()).await.expect_err("never");
        assert_eq!(rehearse().await.code(), "DryRunOperationException");
        run::<DisableKey>(&call, json!({"KeyId": target})).await.expect("allowed");
        let error = crate::pipeline::run::<ReEncrypt>(&call, wrong).await;
        assert_eq!(error.err().expect("refused").code(), "DisabledException");
        assert_eq!(rehearse().await.code(), "DisabledException");
        assert!(Input::from_wire(input([])).is_err());
    }
}
