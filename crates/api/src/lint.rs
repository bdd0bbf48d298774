//! Traps in policies that requests save: told in the trail and in a header, never refused.

use crate::call::Call;
use crate::error::Error;
use crate::ops::iam::shared::version_number;
use crate::pipeline::Spec;
use crate::service::Service;
use awsproto::Value;
use iam::lint::{Boundary, Purpose, Warning, lint};
use iam::{Policy, PolicyKind};
use identity::attachment::{self, Usage};
use identity::managed;

/// Where the trail has the warnings, under `additionalEventData`.
pub(crate) const NOTE: &str = "policyWarnings";

/// The traps of the policies in a request, in a line; absent when there are none, or no policy.
///
/// # Errors
/// When the policies that the request names cannot be read.
pub(crate) async fn of_request(
    call: &Call,
    spec: &Spec,
    input: &Value,
) -> Result<Option<String>, Error> {
    let mut line = Vec::new();
    let mut look = |text: &str, kind, boundary| {
        // What cannot be parsed is refused by the operation.
        let Ok(policy) = Policy::parse(text, kind) else { return };
        let purpose = Purpose { boundary, account: Some(call.account()) };
        line.extend(lint(&policy, &purpose).iter().map(short));
    };
    let text = |member: &str| match input.as_fields()?.get(member)? {
        Value::String(text) => Some(text.as_str()),
        _ => None,
    };
    if let Some((member, kind)) = saved(spec)
        && let Some(document) = text(member)
    {
        let boundary = match (spec.name, text("PolicyArn")) {
            ("CreatePolicyVersion", Some(arn)) => limits(call, arn).await?,
            _ => Boundary::No,
        };
        look(document, kind, boundary);
    }
    if sets_boundary(spec)
        && let Some(arn) = text("PermissionsBoundary")
        && let Some(document) = document(call, arn, None).await?
    {
        look(&document, PolicyKind::Identity, Boundary::Yes);
    }
    if (spec.service, spec.name) == (Service::Iam, "SetDefaultPolicyVersion")
        && let (Some(arn), Some(version)) = (text("PolicyArn"), text("VersionId"))
        // What is no version is refused by the operation.
        && let Ok(version) = version_number(version)
        && let Some(document) = document(call, arn, Some(version)).await?
    {
        look(&document, PolicyKind::Identity, limits(call, arn).await?);
    }
    Ok((!line.is_empty()).then(|| line.join(", ")))
}

/// Whether a managed policy is the boundary of anybody.
async fn limits(call: &Call, arn: &str) -> Result<Boundary, Error> {
    let (account, arn) = (call.account().clone(), arn.to_owned());
    let used = call.world.db.read(move |tx| match managed::find(tx, &account, &arn) {
        Ok(policy) => attachment::count(tx, &account, &policy, Usage::PermissionsBoundary),
        // The operation says so.
        Err(identity::Error::NoSuchEntity { .. }) => Ok(0),
        Err(error) => Err(error),
    });
    Ok(if used.await? == 0 { Boundary::No } else { Boundary::Yes })
}

/// The text of a version of a managed policy, the default one's if none is named, if there is one.
async fn document(call: &Call, arn: &str, version: Option<u32>) -> Result<Option<String>, Error> {
    let (account, arn) = (call.account().clone(), arn.to_owned());
    let found = call.world.db.read(move |tx| {
        let policy = managed::find(tx, &account, &arn)?;
        managed::find_version(tx, &policy, version.unwrap_or(policy.default_version))
    });
    match found.await {
        Ok(version) => Ok(Some(version.document)),
        // The operation says so.
        Err(identity::Error::NoSuchEntity { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether a request may name a boundary.
fn sets_boundary(spec: &Spec) -> bool {
    spec.service == Service::Iam
        && matches!(
            spec.name,
            "CreateRole"
                | "CreateUser"
                | "PutRolePermissionsBoundary"
                | "PutUserPermissionsBoundary"
        )
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

    #[tokio::test]
    async fn a_boundary_is_looked_at_as_one() {
        let bench = bench().await;
        let root = || bench.root(&account(1), "us-east-1");
        let iam = async |name: &'static str, input| {
            let call = root();
            let made = run_named(&call, Service::Iam, name, input).await.expect("never refused");
            (made, call.notes.policy_warnings().map(str::to_owned))
        };
        let document = |actions: serde_json::Value| {
            json!({ "Version": "2012-10-17", "Statement":
                { "Effect": "Allow", "Action": actions, "Resource": "*" } })
            .to_string()
        };
        // As a policy that permits, it forgets nothing.
        let storage = json!({ "PolicyName": "b", "PolicyDocument": document(json!("ec2:*")) });
        let (made, told) = iam("CreatePolicy", storage).await;
        assert_eq!(told, None);
        let arn = made["Policy"]["Arn"].clone();
        let ann = json!({ "UserName": "ann", "PermissionsBoundary": arn });
        let forgets = Some("boundary-forgets-kms".to_owned());
        assert_eq!(iam("CreateUser", ann.clone()).await.1, forgets);
        assert_eq!(iam("PutUserPermissionsBoundary", ann).await.1, forgets);
        let version = |actions| json!({ "PolicyArn": arn, "PolicyDocument": document(actions) });
        assert_eq!(iam("CreatePolicyVersion", version(json!("ec2:Create*"))).await.1, forgets);
        let whole = version(json!(["ec2:*", "kms:*"]));
        assert_eq!(iam("CreatePolicyVersion", whole).await.1, None);
        // What comes into force later is looked at then.
        let default = |id| json!({ "PolicyArn": arn, "VersionId": id });
        assert_eq!(iam("SetDefaultPolicyVersion", default("v2")).await.1, forgets);
        assert_eq!(iam("SetDefaultPolicyVersion", default("v3")).await.1, None);
    }
}
