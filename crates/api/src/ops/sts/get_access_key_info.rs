//! `sts:GetAccessKeyInfo`: tells which account an access key is of.
//!
//! Temporary access keys are recorded nowhere; their ids name the account. So one that has expired is known as well.

use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::{Shape, code};
use base::AccountId;
use identity::{account, last_use, session_key};
use meta::Tx;

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
        let found = call.world.db.read(move |tx| account_of(tx, &wanted)).await?;
        match found {
            Some(account) => Ok(Output { account: account.to_string() }),
            None => {
                let message = format!("{id} is no access key of this server.");
                Err(Error::new(code::VALIDATION_ERROR, message))
            }
        }
    }
}

fn account_of(tx: &mut Tx<'_>, key_id: &str) -> identity::Result<Option<AccountId>> {
    let Some(named) = session_key::account_of(key_id) else {
        return last_use::account_of(tx, key_id);
    };
    // Ids of sessions begun before ids named accounts, and made-up ones, name none that is here.
    Ok(account::find(tx, &named)?.map(|account| account.id))
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
        let made = run_named(&two, Service::Sts, "GetSessionToken", json!({})).await;
        let key = made.expect("a session")["Credentials"]["AccessKeyId"].clone();
        let info = run::<GetAccessKeyInfo>(&one, json!({ "AccessKeyId": key })).await;
        assert_eq!(info.expect("known"), json!({ "Account": "222222222222" }), "{key}");
        // The second is an id of an account that is not of this server.
        for unknown in ["ASIAIOSFODNN7EXAMPLE", "ASIAQNZGKIQY56JQ7WML", "AKIAIOSFODNN7EXAMPLE"] {
            let unknown = json!({ "AccessKeyId": unknown });
            let unknown = run::<GetAccessKeyInfo>(&one, unknown).await.expect_err("not known");
            assert_eq!(unknown.code(), "ValidationError");
        }
    }
}
