//! `ec2:ModifyEbsDefaultKmsKeyId`: chooses the key used when a request names none.
//!
//! The resolved ARN is kept, so pointing an alias elsewhere later changes nothing (spec 04).

use crate::storage::code::invalid_value;
use crate::storage::condition;
use crate::storage::default_encryption as setting;
use crate::storage::key::describe_key;
use crate::{Ask, Call, Error, Granted, Operation, Rehearsal, Service, Spec};
use awsproto::Shape;
use base::Region;
use lifecycle::port::kms::KmsFailure;

pub(crate) struct ModifyEbsDefaultKmsKeyId;

#[derive(Shape)]
#[shape(input, dry_run)]
pub(crate) struct Input {
    kms_key_id: String,
}

pub(crate) struct Plan {
    region: Region,
    key_id: String,
}

impl Operation for ModifyEbsDefaultKmsKeyId {
    const SPEC: Spec = Spec::mutates(Service::Ec2, "ModifyEbsDefaultKmsKeyId");
    type Input = Input;
    type Plan = Plan;
    type Output = setting::DefaultKey;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let Input { kms_key_id: key_id } = input;
        Ok(Plan { region: call.region.clone(), key_id })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![Ask::any("ec2:ModifyEbsDefaultKmsKeyId").with(condition::of_region(&plan.region))]
    }

    async fn implied(call: &Call, plan: &Plan, rehearsal: &Rehearsal) -> Result<(), Error> {
        rehearsal.noted(usable(call, &plan.key_id).await.map(drop))
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<setting::DefaultKey, Error> {
        let arn = usable(call, &plan.key_id).await?;
        setting::set_default_key(call, Some(arn.clone())).await?;
        Ok(setting::DefaultKey::shown(Some(arn)))
    }
}

/// The ARN of a key that can protect volumes. Whether it is enabled is asked when it is used.
async fn usable(call: &Call, id: &str) -> Result<String, Error> {
    let invalid = || invalid_value(format!("The specified keyId {id} is invalid"));
    match describe_key(call, id).await {
        Ok(facts) if facts.symmetric => Ok(facts.arn),
        Ok(_) => Err(invalid()),
        Err(KmsFailure::Unavailable { message }) => {
            Err(Error::internal(KmsFailure::Unavailable { message }))
        }
        Err(
            KmsFailure::Denied { .. }
            | KmsFailure::State { .. }
            | KmsFailure::NotFound { .. }
            | KmsFailure::Unusable { .. },
        ) => Err(invalid()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::ec2::get_ebs_default_kms_key_id::GetEbsDefaultKmsKeyId;
    use crate::ops::ec2::reset_ebs_default_kms_key_id::ResetEbsDefaultKmsKeyId;
    use crate::ops::kms::create_alias::CreateAlias;
    use crate::ops::kms::create_key::CreateKey;
    use crate::ops::kms::disable_key::DisableKey;
    use crate::ops::kms::update_alias::UpdateAlias;
    use crate::testing::{account, bench, run};
    use serde_json::{Value, json};

    async fn key(call: &Call) -> (String, String) {
        let reply = run::<CreateKey>(call, json!({})).await.unwrap();
        let text = |name: &str| reply["KeyMetadata"][name].as_str().unwrap().to_owned();
        (text("KeyId"), text("Arn"))
    }

    async fn default_key(call: &Call) -> Value {
        run::<GetEbsDefaultKmsKeyId>(call, json!({})).await.unwrap()["KmsKeyId"].clone()
    }

    #[tokio::test]
    async fn a_key_is_named_in_four_ways_and_kept_as_arn() {
        let bench = bench().await;
        let call = bench.root(&account(1), "us-east-1");
        assert_eq!(default_key(&call).await, "alias/aws/ebs");
        let (id, arn) = key(&call).await;
        let alias = json!({ "AliasName": "alias/x", "TargetKeyId": id });
        run::<CreateAlias>(&call, alias).await.unwrap();
        let alias_arn = "arn:aws:kms:us-east-1:111111111111:alias/x";
        for name in [id.as_str(), arn.as_str(), "alias/x", alias_arn] {
            let input = json!({ "KmsKeyId": name });
            let reply = run::<ModifyEbsDefaultKmsKeyId>(&call, input).await.unwrap();
            assert_eq!(reply["KmsKeyId"], arn, "{name}");
            assert_eq!(default_key(&call).await, arn, "{name}");
            let reply = run::<ResetEbsDefaultKmsKeyId>(&call, json!({})).await.unwrap();
            assert_eq!(reply["KmsKeyId"], "alias/aws/ebs");
            assert_eq!(default_key(&call).await, "alias/aws/ebs");
        }
        assert_eq!(default_key(&bench.root(&account(1), "eu-west-1")).await, "alias/aws/ebs");
    }

    #[tokio::test]
    async fn an_alias_pointed_elsewhere_later_changes_nothing() {
        let bench = bench().await;
        let call = bench.root(&account(1), "us-east-1");
        let (first, first_arn) = key(&call).await;
        let (second, _) = key(&call).await;
        let alias = json!({ "AliasName": "alias/x", "TargetKeyId": first });
        run::<CreateAlias>(&call, alias).await.unwrap();
        let input = json!({ "KmsKeyId": "alias/x" });
        run::<ModifyEbsDefaultKmsKeyId>(&call, input).await.unwrap();
        let alias = json!({ "AliasName": "alias/x", "TargetKeyId": second });
        run::<UpdateAlias>(&call, alias).await.unwrap();
        assert_eq!(default_key(&call).await, first_arn);
    }

    #[tokio::test]
    async fn what_is_no_key_is_refused_and_a_disabled_one_is_not() {
        let bench = bench().await;
        let call = bench.root(&account(1), "us-east-1");
        for name in [
            "1234abcd-12ab-34cd-56ef-1234567890ab",
            "alias/nothing",
            "arn:aws:kms:us-east-1:222222222222:key/1234abcd-12ab-34cd-56ef-1234567890ab",
        ] {
            let input = json!({ "KmsKeyId": name });
            let error = run::<ModifyEbsDefaultKmsKeyId>(&call, input).await.unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("InvalidParameterValue: The specified keyId {name} is invalid")
            );
        }
        let (id, arn) = key(&call).await;
        run::<DisableKey>(&call, json!({ "KeyId": id })).await.unwrap();
        let input = json!({ "KmsKeyId": id });
        let reply = run::<ModifyEbsDefaultKmsKeyId>(&call, input).await.unwrap();
        assert_eq!(reply["KmsKeyId"], arn);
    }

    #[tokio::test]
    async fn the_key_is_looked_at_in_the_callers_name() {
        let bench = bench().await;
        let root = bench.root(&account(1), "us-east-1");
        let (id, _) = key(&root).await;
        let mut call = bench.root(&account(1), "us-east-1");
        let policy = r#"{"Version":"2012-10-17","Statement":
            {"Effect":"Allow","Action":"ec2:*","Resource":"*"}}"#;
        call.caller.session_policies = vec![policy.to_owned()];
        let input = json!({ "KmsKeyId": id });
        let error = run::<ModifyEbsDefaultKmsKeyId>(&call, input).await.unwrap_err();
        assert_eq!(error.code(), "InvalidParameterValue");
        assert_eq!(default_key(&root).await, "alias/aws/ebs");
    }
}
