//! `iam:GetAccountSummary`: tells how much the account has of what IAM counts, and how much it may have.

use super::shared;
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use identity::summary;
use std::collections::BTreeMap;

pub(crate) struct GetAccountSummary;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    summary_map: BTreeMap<String, i32>,
}

impl Operation for GetAccountSummary {
    const SPEC: Spec = Spec::reads(Service::Iam, "GetAccountSummary");
    type Input = Input;
    type Plan = ();
    type Output = Output;

    async fn plan(_call: &Call, _input: Input) -> Result<(), Error> {
        Ok(())
    }

    fn asks(_plan: &()) -> Vec<Ask> {
        vec![Ask::any("iam:GetAccountSummary")]
    }

    async fn act(call: &Call, _plan: Granted<()>) -> Result<Output, Error> {
        let account = call.account().clone();
        let summary_map = shared::read(call, move |tx| summary::of(tx, &account)).await?;
        Ok(Output { summary_map })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{account, bench, run};
    use serde_json::json;

    #[tokio::test]
    async fn what_is_there_is_counted() {
        let bench = bench().await;
        let root = bench.root(&account(1), "us-east-1");
        let nothing =
            r#"{"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":"*","Resource":"*"}}"#;
        bench.user(&account(1), "amy", nothing).await;
        bench.user(&account(1), "bob", nothing).await;
        bench.user(&account(2), "cid", nothing).await;
        let shown = run::<GetAccountSummary>(&root, json!({})).await.expect("allowed");
        let map = &shown["SummaryMap"];
        assert_eq!((&map["Users"], &map["UsersQuota"]), (&json!(2), &json!(5000)));
        assert_eq!((&map["Roles"], &map["Policies"]), (&json!(0), &json!(0)));
        assert_eq!(
            (&map["AccountAccessKeysPresent"], &map["AccountMFAEnabled"]),
            (&json!(1), &json!(0))
        );
    }
}
