//! `kms:CreateKey`: makes a key: symmetric, HMAC, or a key pair.

use super::shared::{self, KeyMetadata, Tag};
use crate::authorize::global_context;
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use base::Arn;
use kms::condition::Creation;
use kms::key::{KeyKind, LockoutCheck, NewKey, PolicyWriter, check_creatable};
use kms::spec::Kind;
use kms::{KeyOrigin, MultiRegionRole, NewMaterial};
use std::sync::Arc;

pub(crate) struct CreateKey;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    policy: Option<String>,
    description: Option<String>,
    key_usage: Option<String>,
    customer_master_key_spec: Option<String>,
    key_spec: Option<String>,
    origin: Option<String>,
    custom_key_store_id: Option<String>,
    #[shape(default)]
    bypass_policy_lockout_safety_check: bool,
    tags: Vec<Tag>,
    multi_region: Option<bool>,
    xks_key_id: Option<String>,
}

pub(crate) struct Plan {
    policy: Option<String>,
    description: String,
    origin: KeyOrigin,
    multi_region: Option<MultiRegionRole>,
    tags: Vec<kms::tag::Tag>,
    lockout: LockoutCheck,
    kind: Kind,
    store: Option<String>,
    context: iam::Context,
    /// Where the tags are put, when there are any.
    new_key: Option<(Arn, base::AccountId)>,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    key_metadata: KeyMetadata,
}

impl Operation for CreateKey {
    const SPEC: Spec = Spec::mutates(Service::Kms, "CreateKey");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        if let (Some(new), Some(old)) = (&input.key_spec, &input.customer_master_key_spec)
            && new != old
        {
            return Err(kms::Error::Validation {
                message: "KeySpec and CustomerMasterKeySpec must not differ.".to_owned(),
            }
            .into());
        }
        let asked = KeyKind {
            key_spec: input.key_spec.as_deref().or(input.customer_master_key_spec.as_deref()),
            key_usage: input.key_usage.as_deref(),
            origin: input.origin.as_deref(),
            multi_region: input.multi_region,
            custom_key_store_id: input.custom_key_store_id.as_deref(),
            xks_key_id: input.xks_key_id.as_deref(),
        };
        let (kind, origin) = check_creatable(&asked)?;
        let multi_region = (input.multi_region == Some(true)).then_some(MultiRegionRole::Primary);
        let lockout = if input.bypass_policy_lockout_safety_check {
            LockoutCheck::Bypassed
        } else {
            LockoutCheck::Required
        };
        let tags = shared::tags(input.tags);
        let creation = Creation { kind, origin, multi_region, lockout, tags: &tags };
        let context = shared::new_key_context(call, &creation);
        let any_key = Arn::regional("kms", &call.region, call.account(), "key/*");
        Ok(Plan {
            policy: input.policy,
            description: input.description.unwrap_or_default(),
            origin,
            multi_region,
            new_key: (!tags.is_empty()).then(|| (any_key, call.account().clone())),
            tags,
            lockout,
            kind,
            store: input.custom_key_store_id,
            context,
        })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        let mut asks = vec![Ask::any("kms:CreateKey").with(plan.context.clone())];
        if let Some((arn, account)) = &plan.new_key {
            asks.push(Ask::on("kms:TagResource", arn, account).with(plan.context.clone()));
        }
        asks
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let plan = plan.into_inner();
        // The lockout check asks what this very request could do to the policy.
        let mut context = global_context(call);
        context.extend(&plan.context);
        let (material, store) = match (&plan.store, plan.origin) {
            (Some(id), _) => {
                let (material, store) = shared::make_in_store(call, id).await?;
                (material, Some(store))
            }
            (None, KeyOrigin::External) => (NewMaterial::awaited(plan.kind), None),
            (None, _) => (call.world.forge.material(plan.kind).await?, None),
        };
        let material = Arc::new(material);
        let (made, in_store) = (Arc::clone(&material), store.clone());
        let output = shared::write(call, move |kms, tx, from| {
            let new = NewKey {
                account: &from.caller.account,
                region: &from.region,
                material: &made,
                description: &plan.description,
                tags: &plan.tags,
                policy: plan.policy.as_deref(),
                multi_region: plan.multi_region,
                writer: PolicyWriter {
                    principal: &from.caller,
                    context: &context,
                    lockout: plan.lockout,
                },
            };
            let key = match &in_store {
                Some(store) => kms.create_key_in_store(tx, &new, &store.id),
                None => kms.create_key(tx, &new),
            }?;
            Ok(Output { key_metadata: KeyMetadata::of(tx, &key)? })
        })
        .await;
        if let (Err(_), Some(store)) = (&output, &store) {
            shared::unmake_in_store(call, store, &material).await;
        }
        output
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{account, bench, run};
    use serde_json::json;

    #[tokio::test]
    async fn a_key_is_symmetric_enabled_and_tagged() {
        let bench = bench().await;
        let call = bench.root(&account(1), "us-east-1");
        let input = json!({"Description": "d", "Tags": [{"TagKey": "a", "TagValue": "b"}]});
        let reply = run::<CreateKey>(&call, input).await.expect("allowed");
        let key = &reply["KeyMetadata"];
        let id = key["KeyId"].as_str().expect("an id");
        assert_eq!(key["Arn"], format!("arn:aws:kms:us-east-1:111111111111:key/{id}"));
        for (member, value) in [
            ("AWSAccountId", json!("111111111111")),
            ("KeyState", json!("Enabled")),
            ("Enabled", json!(true)),
            ("KeySpec", json!("SYMMETRIC_DEFAULT")),
            ("KeyUsage", json!("ENCRYPT_DECRYPT")),
            ("KeyManager", json!("CUSTOMER")),
            ("Origin", json!("AWS_KMS")),
            ("MultiRegion", json!(false)),
            ("CreationDate", json!("2026-01-01T00:00:00.000Z")),
        ] {
            assert_eq!(key[member], value, "{member}");
        }
    }

    #[tokio::test]
    async fn other_kinds_are_refused_by_name() {
        let bench = bench().await;
        let call = bench.root(&account(1), "us-east-1");
        for input in [
            json!({"KeySpec": "SM2", "KeyUsage": "SIGN_VERIFY"}),
            json!({"Origin": "EXTERNAL_KEY_STORE"}),
            json!({"Origin": "AWS_CLOUDHSM", "CustomKeyStoreId": "cks-1", "MultiRegion": true}),
            json!({"XksKeyId": "x"}),
        ] {
            let error = run::<CreateKey>(&call, input.clone()).await.expect_err("refused");
            assert_eq!(error.code(), "UnsupportedOperationException", "{input}");
        }
        let both = json!({"KeySpec": "SYMMETRIC_DEFAULT", "CustomerMasterKeySpec": "RSA_2048"});
        let error = run::<CreateKey>(&call, both).await.expect_err("refused");
        assert_eq!(error.code(), "ValidationException");
    }

    #[tokio::test]
    async fn a_policy_that_locks_out_needs_the_bypass() {
        let bench = bench().await;
        let call = bench.root(&account(1), "us-east-1");
        let policy = json!({"Version": "2012-10-17", "Statement": [{
            "Effect": "Allow", "Principal": {"AWS": "111111111111"},
            "Action": "kms:Describe*", "Resource": "*",
        }]})
        .to_string();
        let error = run::<CreateKey>(&call, json!({"Policy": policy})).await.expect_err("refused");
        assert_eq!(error.code(), "MalformedPolicyDocumentException");
        let input = json!({"Policy": policy, "BypassPolicyLockoutSafetyCheck": true});
        run::<CreateKey>(&call, input).await.expect("allowed");
    }
}
