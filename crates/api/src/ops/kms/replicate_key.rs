//! `kms:ReplicateKey`: makes a key with the same id and material in another region.

use super::shared::{self, KeyMetadata, Named, Tag, Target};
use crate::authorize::global_context;
use crate::key_events::{self, Moment};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec, key_life};
use awsproto::Shape;
use base::{Arn, Region};
use kms::condition::{Creation, Facts};
use kms::key::{LockoutCheck, PolicyWriter};
use kms::multi_region::{MultiRegionRole, NewReplica};
use kms::{Action, tag};
use std::sync::Arc;

pub(crate) struct ReplicateKey;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    key_id: String,
    replica_region: String,
    policy: Option<String>,
    #[shape(default)]
    bypass_policy_lockout_safety_check: bool,
    description: Option<String>,
    tags: Vec<Tag>,
}

pub(crate) struct Plan {
    target: Target,
    region: Region,
    policy: Option<String>,
    lockout: LockoutCheck,
    description: String,
    tags: Vec<tag::Tag>,
    /// The condition keys of making a key in the replica's region.
    context: iam::Context,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    replica_key_metadata: KeyMetadata,
    replica_policy: String,
    replica_tags: Vec<Tag>,
}

impl Operation for ReplicateKey {
    const SPEC: Spec = Spec::mutates(Service::Kms, "ReplicateKey");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let region = shared::served_region(call, "replicaRegion", &input.replica_region)?;
        let lockout = if input.bypass_policy_lockout_safety_check {
            LockoutCheck::Bypassed
        } else {
            LockoutCheck::Required
        };
        let tags = shared::tags(input.tags);
        let facts = Facts::Replicate { region: region.clone() };
        let named = Named { action: Action::ReplicateKey, key_id: &input.key_id, facts };
        let target = shared::target(call, named).await?;
        let creation = Creation {
            kind: target.key.kind,
            origin: target.key.origin,
            multi_region: Some(MultiRegionRole::Replica),
            lockout,
            tags: &tags,
        };
        let mut context = shared::new_key_context(call, &creation);
        context.set("aws:RequestedRegion", region.as_str());
        let description = input.description.unwrap_or_default();
        Ok(Plan { target, region, policy: input.policy, lockout, description, tags, context })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        let create = Ask::any("kms:CreateKey").with(plan.context.clone());
        let mut asks = vec![plan.target.ask.clone(), create];
        if !plan.tags.is_empty() {
            let account = &plan.target.key.account;
            let any_key = Arn::regional("kms", &plan.region, account, "key/*");
            let tagging = Ask::on("kms:TagResource", &any_key, account);
            asks.push(tagging.with(plan.context.clone()));
        }
        asks
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let plan = plan.into_inner();
        let mut context = global_context(call);
        context.extend(&plan.context);
        let (now, rng) = (call.now, Arc::clone(&call.world.rng));
        let output = shared::write(call, move |kms, tx, from| {
            let key = shared::usable(tx, Action::ReplicateKey, &plan.target.key)?;
            let writer =
                PolicyWriter { principal: &from.caller, context: &context, lockout: plan.lockout };
            let new = NewReplica {
                region: &plan.region,
                description: &plan.description,
                tags: &plan.tags,
                policy: plan.policy.as_deref(),
                writer,
            };
            let replica = kms.replicate(tx, &key, &new)?;
            key_life::settle(tx, &replica, now)?;
            key_events::replicated(tx, &replica, &Moment { at: now, rng: &*rng })?;
            let tags = plan
                .tags
                .iter()
                .map(|tag| Tag { tag_key: tag.key.clone(), tag_value: tag.value.clone() });
            Ok(Output {
                replica_key_metadata: KeyMetadata::of(tx, &replica)?,
                replica_policy: replica.policy.clone(),
                replica_tags: tags.collect(),
            })
        })
        .await?;
        call.world.waker.wake();
        Ok(output)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::kms::cancel_key_deletion::CancelKeyDeletion;
    use crate::ops::kms::create_key::CreateKey;
    use crate::ops::kms::decrypt::Decrypt;
    use crate::ops::kms::describe_key::DescribeKey;
    use crate::ops::kms::enable_key::EnableKey;
    use crate::ops::kms::generate_data_key::GenerateDataKey;
    use crate::ops::kms::get_key_last_usage::GetKeyLastUsage;
    use crate::ops::kms::rotate_key_on_demand::RotateKeyOnDemand;
    use crate::ops::kms::schedule_key_deletion::ScheduleKeyDeletion;
    use crate::ops::kms::update_primary_region::UpdatePrimaryRegion;
    use crate::testing::{account, bench, run};
    use awsproto::{Blob, Fields, Value};
    use serde_json::{Value as Json, json};

    async fn described(call: &Call, id: &Json) -> Json {
        run::<DescribeKey>(call, id.clone()).await.expect("allowed")["KeyMetadata"].clone()
    }

    async fn data_key(call: &Call, id: &Json) -> Result<Blob, Error> {
        let mut fields = Fields::default();
        fields.push("KeyId", Value::String(id["KeyId"].as_str().expect("an id").to_owned()));
        fields.push("NumberOfBytes", Value::Int(32));
        let made = crate::pipeline::run::<GenerateDataKey>(call, Value::Struct(fields)).await?;
        Ok(made.ciphertext_blob)
    }

    async fn opens(call: &Call, ciphertext: &Blob) -> bool {
        let mut fields = Fields::default();
        fields.push("CiphertextBlob", Value::Blob(ciphertext.clone()));
        crate::pipeline::run::<Decrypt>(call, Value::Struct(fields)).await.is_ok()
    }

    #[tokio::test]
    async fn a_family_shares_material_and_little_else() {
        let bench = bench().await;
        let east = || bench.root(&account(1), "us-east-1");
        let west = || bench.root(&account(1), "eu-west-1");
        let created = run::<CreateKey>(&east(), json!({"MultiRegion": true})).await.expect("made");
        let id = json!({"KeyId": created["KeyMetadata"]["KeyId"]});
        assert!(id["KeyId"].as_str().expect("an id").starts_with("mrk-"));
        let before = data_key(&east(), &id).await.expect("usable");

        let ask =
            json!({"KeyId": id["KeyId"], "ReplicaRegion": "eu-west-1", "Description": "other"});
        let made = run::<ReplicateKey>(&east(), ask.clone()).await.expect("allowed");
        assert_eq!(made["ReplicaKeyMetadata"]["KeyState"], "Creating");
        let error = data_key(&west(), &id).await.expect_err("not ready");
        assert!(error.0.message.ends_with("is creating."), "{error}");
        let again = run::<ReplicateKey>(&east(), ask).await.expect_err("there is one");
        assert_eq!(again.code(), "AlreadyExistsException");
        bench.run_due_jobs().await;
        let replica = described(&west(), &id).await;
        assert_eq!(
            (&replica["KeyState"], &replica["Description"]),
            (&json!("Enabled"), &json!("other"))
        );
        let family = &replica["MultiRegionConfiguration"];
        assert_eq!(family["MultiRegionKeyType"], "REPLICA");
        assert_eq!(family["PrimaryKey"]["Region"], "us-east-1");
        assert_eq!(family["ReplicaKeys"][0]["Region"], "eu-west-1");
        assert!(opens(&west(), &before).await);

        // Rotated together; both open both.
        run::<RotateKeyOnDemand>(&east(), id.clone()).await.expect("allowed");
        let refused = run::<RotateKeyOnDemand>(&west(), id.clone()).await.expect_err("a replica");
        assert_eq!(refused.code(), "UnsupportedOperationException");
        let after = data_key(&west(), &id).await.expect("usable");
        assert!(opens(&east(), &after).await && opens(&west(), &before).await);
        let (here, there) = (described(&east(), &id).await, described(&west(), &id).await);
        assert_eq!(here["CurrentKeyMaterialId"], there["CurrentKeyMaterialId"]);

        // Last uses are each key's own, and written down from time to time.
        let used = run::<GetKeyLastUsage>(&west(), id.clone()).await.expect("allowed");
        assert_eq!(used["KeyLastUsage"]["Operation"], "Decrypt");
        bench.world.housekeep().await.expect("nothing fails");
        let written = run::<GetKeyLastUsage>(&west(), id).await.expect("allowed");
        assert_eq!(written, used);
    }

    #[tokio::test]
    async fn the_primary_moves_and_goes_last() {
        let bench = bench().await;
        let east = || bench.root(&account(1), "us-east-1");
        let west = || bench.root(&account(1), "eu-west-1");
        let created = run::<CreateKey>(&east(), json!({"MultiRegion": true})).await.expect("made");
        let id = json!({"KeyId": created["KeyMetadata"]["KeyId"]});
        let ask = json!({"KeyId": id["KeyId"], "ReplicaRegion": "eu-west-1"});
        run::<ReplicateKey>(&east(), ask).await.expect("allowed");
        bench.run_due_jobs().await;
        let ask = json!({"KeyId": id["KeyId"], "PrimaryRegion": "eu-west-1"});
        run::<UpdatePrimaryRegion>(&east(), ask).await.expect("allowed");
        assert_eq!(described(&east(), &id).await["KeyState"], "Updating");
        assert!(data_key(&east(), &id).await.is_ok());
        bench.run_due_jobs().await;
        let primary = described(&west(), &id).await;
        assert_eq!(primary["KeyState"], "Enabled");
        assert_eq!(primary["MultiRegionConfiguration"]["MultiRegionKeyType"], "PRIMARY");

        let ask = json!({"KeyId": id["KeyId"], "PendingWindowInDays": 7});
        let reply = run::<ScheduleKeyDeletion>(&west(), ask.clone()).await.expect("allowed");
        assert_eq!(reply["KeyState"], "PendingReplicaDeletion");
        assert_eq!(reply["DeletionDate"], Json::Null);
        run::<CancelKeyDeletion>(&west(), id.clone()).await.expect("allowed");
        run::<ScheduleKeyDeletion>(&west(), ask.clone()).await.expect("allowed");
        run::<ScheduleKeyDeletion>(&east(), ask).await.expect("allowed");
        bench.clock.advance_seconds(7 * 86_400);
        bench.run_due_jobs().await;
        assert!(run::<DescribeKey>(&east(), id.clone()).await.is_err());
        assert_eq!(described(&west(), &id).await["KeyState"], "PendingDeletion");
        bench.clock.advance_seconds(7 * 86_400);
        bench.run_due_jobs().await;
        assert!(run::<DescribeKey>(&west(), id).await.is_err());
    }

    /// Scheduled and kept within the moment in which it is made: without its material it would look usable.
    #[tokio::test]
    async fn a_replica_that_is_kept_before_it_is_made_goes_on_being_made() {
        let bench = bench().await;
        let east = bench.root(&account(1), "us-east-1");
        let west = bench.root(&account(1), "eu-west-1");
        let created = run::<CreateKey>(&east, json!({"MultiRegion": true})).await.expect("made");
        let id = json!({"KeyId": created["KeyMetadata"]["KeyId"]});
        let ask = json!({"KeyId": id["KeyId"], "ReplicaRegion": "eu-west-1"});
        run::<ReplicateKey>(&east, ask).await.expect("allowed");
        run::<ScheduleKeyDeletion>(&west, id.clone()).await.expect("allowed");
        run::<CancelKeyDeletion>(&west, id.clone()).await.expect("allowed");
        assert_eq!(described(&west, &id).await["KeyState"], "Creating");
        bench.run_due_jobs().await;
        assert_eq!(described(&west, &id).await["KeyState"], "Disabled");
        run::<EnableKey>(&west, id.clone()).await.expect("allowed");
        data_key(&west, &id).await.expect("it has its material");
    }
}
