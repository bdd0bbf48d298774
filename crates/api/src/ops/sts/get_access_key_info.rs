//! `sts:GetAccessKeyInfo`: tells which account an access key is of.
//!
//! Temporary access keys are recorded nowhere, so this server can tell of long-term keys only.

use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::{Shape, code};
use identity::last_use;

pub(crate) struct GetAccessKeyInfo;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    access_key_id: String,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    account: String,
}

impl Operation for GetAccessKeyInfo {
    const SPEC: Spec = Spec::reads(Service::Sts, "GetAccessKeyInfo");
    type Input = Input;
    type Plan = String;
    type Output = Output;

    async fn plan(_call: &Call, input: Input) -> Result<String, Error> {
        Ok(input.access_key_id)
    }

    fn asks(_plan: &String) -> Vec<Ask> {
        vec![Ask::any("sts:GetAccessKeyInfo")]
    }

    async fn act(call: &Call, plan: Granted<String>) -> Result<Output, Error> {
        let id = plan.into_inner();
        let wanted = id.clone();
        let found = call.world.db.read(move |tx| last_use::account_of(tx, &wanted)).await?;
        match found {
            Some(account) => Ok(Output { account: account.to_string() }),
            None => {
                let message = format!("{id} is no long-term access key of this server.");
                Err(Error::new(code::VALIDATION_ERROR, message))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{account, bench, run, run_named};
    use serde_json::json;

    #[tokio::test]
    async fn keys_of_every_account_are_told() {
        let bench = bench().await;
        let one = bench.root(&account(1), "us-east-1");
        let two = bench.root(&account(2), "us-east-1");
        let made =
            run_named(&two, Service::Iam, "CreateAccessKey", json!({})).await.expect("a key");
        let key = made["AccessKey"]["AccessKeyId"].clone();
        let info = run::<GetAccessKeyInfo>(&one, json!({ "AccessKeyId": key })).await;
        assert_eq!(info.expect("known"), json!({ "Account": "222222222222" }));
        let unknown = json!({ "AccessKeyId": "ASIAIOSFODNN7EXAMPLE" });
        let unknown = run::<GetAccessKeyInfo>(&one, unknown).await.expect_err("not known");
        assert_eq!(unknown.code(), "ValidationError");
    }
}
