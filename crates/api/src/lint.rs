//! Traps in policies that requests save: told in the trail and in a header, never refused.

use crate::call::Call;
use crate::pipeline::Spec;
use crate::service::Service;
use awsproto::Value;
use iam::lint::{Boundary, Purpose, Warning, lint};
use iam::{Policy, PolicyKind};

/// Where the trail has the warnings, under `additionalEventData`.
pub(crate) const NOTE: &str = "policyWarnings";

/// The traps of the policy in a request, in a line; absent when there are none, or no policy.
pub(crate) fn of_request(call: &Call, spec: &Spec, input: &Value) -> Option<String> {
    let (member, kind) = saved(spec)?;
    let Value::String(text) = input.as_fields()?.get(member)? else { return None };
    // What cannot be parsed is refused by the operation.
    let policy = Policy::parse(text, kind).ok()?;
    let purpose = Purpose { boundary: Boundary::No, account: Some(call.account()) };
    let warnings = lint(&policy, &purpose);
    let line: Vec<String> = warnings.iter().map(short).collect();
    (!line.is_empty()).then(|| line.join(", "))
}

/// The member of a request that is a policy to be saved, and its kind.
fn saved(spec: &Spec) -> Option<(&'static str, PolicyKind)> {
    match (spec.service, spec.name) {
        (Service::Kms, "CreateKey" | "PutKeyPolicy" | "ReplicateKey") => {
            Some(("Policy", PolicyKind::KeyPolicy))
        }
        (
            Service::Iam,
            "CreatePolicy"
            | "CreatePolicyVersion"
            | "PutUserPolicy"
            | "PutRolePolicy"
            | "PutGroupPolicy",
        ) => Some(("PolicyDocument", PolicyKind::Identity)),
        (Service::Iam, "CreateRole") => Some(("AssumeRolePolicyDocument", PolicyKind::Trust)),
        (Service::Iam, "UpdateAssumeRolePolicy") => Some(("PolicyDocument", PolicyKind::Trust)),
        _ => None,
    }
}

/// `key-not-carried (statement 2)`: a header takes no more; `strongroom policy lint` explains.
fn short(warning: &Warning) -> String {
    match warning.statement {
        Some(index) => format!("{} (statement {})", warning.trap.name(), index + 1),
        None => warning.trap.name().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use crate::Service;
    use crate::testing::{account, bench, run_named};
    use serde_json::json;

    #[tokio::test]
    async fn a_trap_is_saved_and_told() {
        let bench = bench().await;
        let call = bench.root(&account(1), "us-east-1");
        let input = json!({ "UserName": "ann" });
        run_named(&call, Service::Iam, "CreateUser", input).await.expect("allowed");
        let statement = |action: &str| {
            json!({ "Effect": "Allow", "Action": action, "Resource": "*",
                    "Condition": { "Bool": { "kms:GrantIsForAWSResource": "true" } } })
        };
        for (action, told) in
            [("kms:Decrypt", Some("key-not-carried (statement 1)")), ("kms:CreateGrant", None)]
        {
            let document = json!({ "Version": "2012-10-17", "Statement": statement(action) });
            let input = json!({
                "UserName": "ann", "PolicyName": "p", "PolicyDocument": document.to_string(),
            });
            let call = bench.root(&account(1), "us-east-1");
            run_named(&call, Service::Iam, "PutUserPolicy", input).await.expect("never refused");
            assert_eq!(call.notes.policy_warnings(), told);
            let lookup = json!({ "LookupAttributes": [
                { "AttributeKey": "EventName", "AttributeValue": "PutUserPolicy" },
            ] });
            let page = run_named(&call, Service::CloudTrail, "LookupEvents", lookup).await;
            let page = page.expect("allowed").to_string();
            assert!(page.contains("policyWarnings"), "the first record tells: {page}");
        }
    }
}
