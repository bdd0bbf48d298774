//! `sts:GetCallerIdentity`: says whose credentials signed the request.

use crate::{Ask, Call, Error, Granted, Guard, Operation, Service, Spec};
use awsproto::Shape;

pub(crate) struct GetCallerIdentity;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    user_id: String,
    account: String,
    arn: String,
}

impl Operation for GetCallerIdentity {
    const SPEC: Spec = Spec::reads(Service::Sts, "GetCallerIdentity");
    type Input = Input;
    type Plan = ();
    type Output = Output;

    async fn plan(_call: &Call, _input: Input) -> Result<(), Error> {
        Ok(())
    }

    fn asks(_plan: &()) -> Vec<Ask> {
        vec![Ask::any("sts:GetCallerIdentity").guarded(Guard::Anyone)]
    }

    async fn act(call: &Call, _plan: Granted<()>) -> Result<Output, Error> {
        let principal = &call.caller.principal;
        Ok(Output {
            user_id: principal.user_id.clone(),
            account: principal.account.to_string(),
            arn: principal.arn.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{account, bench, run};
    use serde_json::json;

    #[tokio::test]
    async fn root_is_told_who_it_is() {
        let bench = bench().await;
        let call = bench.root(&account(1), "us-east-1");
        let reply = run::<GetCallerIdentity>(&call, json!({})).await.expect("allowed");
        assert_eq!(
            reply,
            json!({
                "UserId": "111111111111",
                "Account": "111111111111",
                "Arn": "arn:aws:iam::111111111111:root",
            })
        );
    }

    #[tokio::test]
    async fn no_policy_takes_it_away() {
        let bench = bench().await;
        let deny = json!({ "Version": "2012-10-17", "Statement":
            { "Effect": "Deny", "Action": "*", "Resource": "*" } });
        let mut eve = bench.user(&account(1), "eve", &deny.to_string()).await;
        eve.caller.session_policies = vec![deny.to_string()];
        run::<GetCallerIdentity>(&eve, json!({})).await.expect("a deny does not stop it");
    }
}
