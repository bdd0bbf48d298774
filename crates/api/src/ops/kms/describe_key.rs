//! `kms:DescribeKey`: what a key is and what state it is in.

use super::shared::{self, KeyMetadata, Named, Target};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use kms::Action;
use kms::condition::Facts;

pub(crate) struct DescribeKey;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    key_id: String,
    #[shape(sensitive)]
    grant_tokens: Vec<String>,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    key_metadata: KeyMetadata,
}

impl Operation for DescribeKey {
    const SPEC: Spec = Spec::reads(Service::Kms, "DescribeKey");
    type Input = Input;
    type Plan = Target;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Target, Error> {
        call.world.kms.check_grant_tokens(&input.grant_tokens)?;
        let named =
            Named { action: Action::DescribeKey, key_id: &input.key_id, facts: Facts::None };
        shared::target(call, named).await
    }

    fn asks(plan: &Target) -> Vec<Ask> {
        vec![plan.ask.clone()]
    }

    async fn act(call: &Call, plan: Granted<Target>) -> Result<Output, Error> {
        let key = plan.into_inner().key;
        shared::read(call, move |_, tx, _| {
            let key = shared::usable(tx, Action::DescribeKey, &key)?;
            Ok(Output { key_metadata: KeyMetadata::of(tx, &key)? })
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::kms::create_key::CreateKey;
    use crate::testing::{account, bench, run};
    use serde_json::json;

    #[tokio::test]
    async fn the_ebs_key_comes_into_being_when_it_is_described() {
        let bench = bench().await;
        let call = bench.root(&account(1), "us-east-1");
        let describe = async |key_id: &str| {
            run::<DescribeKey>(&call, json!({"KeyId": key_id})).await.expect("allowed")
        };
        let by_alias = describe("alias/aws/ebs").await;
        assert_eq!(by_alias["KeyMetadata"]["KeyManager"], "AWS");
        let by_arn = describe("arn:aws:kms:us-east-1:111111111111:alias/aws/ebs").await;
        assert_eq!(by_alias, by_arn);
    }

    #[tokio::test]
    async fn another_account_needs_permission_and_a_full_arn() {
        let bench = bench().await;
        let (one, two) =
            (bench.root(&account(1), "us-east-1"), bench.root(&account(2), "us-east-1"));
        let reply = run::<CreateKey>(&one, json!({})).await.expect("allowed");
        let describe =
            |key_id: serde_json::Value| run::<DescribeKey>(&two, json!({"KeyId": key_id}));
        let denied = describe(reply["KeyMetadata"]["Arn"].clone()).await.expect_err("denied");
        assert_eq!(denied.code(), "AccessDeniedException");
        assert!(
            denied
                .0
                .message
                .contains("because no resource-based policy allows the kms:DescribeKey action"),
            "{denied}"
        );
        let missing = describe(reply["KeyMetadata"]["KeyId"].clone()).await.expect_err("not there");
        assert_eq!(missing.code(), "NotFoundException");
    }
}
