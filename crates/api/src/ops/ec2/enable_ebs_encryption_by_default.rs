//! `ec2:EnableEbsEncryptionByDefault`: encrypts everything new of the account in the region.

use crate::storage::condition;
use crate::storage::default_encryption as setting;
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use base::Region;

pub(crate) struct EnableEbsEncryptionByDefault;

#[derive(Shape)]
#[shape(input, dry_run)]
pub(crate) struct Input {}

pub(crate) struct Plan {
    region: Region,
}

impl Operation for EnableEbsEncryptionByDefault {
    const SPEC: Spec = Spec::mutates(Service::Ec2, "EnableEbsEncryptionByDefault");
    type Input = Input;
    type Plan = Plan;
    type Output = setting::Switched;

    async fn plan(call: &Call, _input: Input) -> Result<Plan, Error> {
        Ok(Plan { region: call.region.clone() })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![Ask::any("ec2:EnableEbsEncryptionByDefault").with(condition::of_region(&plan.region))]
    }

    async fn act(call: &Call, _plan: Granted<Plan>) -> Result<setting::Switched, Error> {
        setting::switch(call, true).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::ec2::disable_ebs_encryption_by_default::DisableEbsEncryptionByDefault;
    use crate::ops::ec2::get_ebs_encryption_by_default::GetEbsEncryptionByDefault;
    use crate::testing::{account, bench, run};
    use serde_json::json;

    #[tokio::test]
    async fn the_setting_is_of_one_account_in_one_region() {
        let bench = bench().await;
        let call = bench.root(&account(1), "us-east-1");
        let is_on = async |call: &Call| {
            let reply = run::<GetEbsEncryptionByDefault>(call, json!({})).await.unwrap();
            reply["EbsEncryptionByDefault"].as_bool().unwrap()
        };
        assert!(!is_on(&call).await);

        let refused = run::<EnableEbsEncryptionByDefault>(&call, json!({ "DryRun": true })).await;
        assert_eq!(refused.unwrap_err().code(), "DryRunOperation");
        assert!(!is_on(&call).await, "a dry run changes nothing");

        let reply = run::<EnableEbsEncryptionByDefault>(&call, json!({})).await.unwrap();
        assert_eq!(reply, json!({ "EbsEncryptionByDefault": true }));
        assert!(is_on(&call).await);
        assert!(!is_on(&bench.root(&account(1), "eu-west-1")).await);
        assert!(!is_on(&bench.root(&account(2), "us-east-1")).await);

        let reply = run::<DisableEbsEncryptionByDefault>(&call, json!({})).await.unwrap();
        assert_eq!(reply, json!({ "EbsEncryptionByDefault": false }));
        assert!(!is_on(&call).await);
    }

    #[tokio::test]
    async fn a_policy_may_allow_it_in_one_region_only() {
        let bench = bench().await;
        let outcome = async |region: &str| {
            let mut call = bench.root(&account(1), region);
            let policy = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"ec2:*",
                "Resource":"*","Condition":{"StringEquals":{"ec2:Region":"us-east-1"}}}}"#;
            call.caller.session_policies = vec![policy.to_owned()];
            run::<EnableEbsEncryptionByDefault>(&call, json!({})).await
        };
        assert!(outcome("us-east-1").await.is_ok());
        assert_eq!(outcome("eu-west-1").await.unwrap_err().code(), "UnauthorizedOperation");
    }
}
