//! The quotas of IAM (IAM guide, "IAM and AWS STS quotas"): what still fits, and what does not.

use crate::testing::{account, bench, run_named};
use crate::{Call, Service};
use serde_json::{Value as Json, json};

/// What an operation answers with: a code, or `ok`.
async fn code(call: &Call, name: &str, input: Json) -> &'static str {
    let done = run_named(call, Service::Iam, name, input).await;
    done.err().map_or("ok", |error| error.code())
}

async fn done(call: &Call, name: &str, input: Json) -> Json {
    let shown = input.to_string();
    let done = run_named(call, Service::Iam, name, input).await;
    done.unwrap_or_else(|error| panic!("{name} {shown}: {error}"))
}

const LIMIT: &str = "LimitExceeded";

/// A policy of so many characters that are not white space, spread out by others that are.
fn of_length(bytes: usize, principal: bool) -> String {
    let whole = |filling: &[String]| {
        let mut statement = match principal {
            true => json!({"Effect": "Allow", "Action": "sts:AssumeRole",
                "Principal": {"Service": "ec2.amazonaws.com"}}),
            false => json!({"Effect": "Allow", "Action": "kms:Decrypt", "Resource": "*"}),
        };
        statement["Condition"] = json!({"StringEquals": {"aws:PrincipalTag/t": filling}});
        json!({"Version": "2012-10-17", "Statement": [statement]}).to_string()
    };
    // One text may not be as long as a whole policy.
    let mut filling = vec![String::new()];
    while let Some(rest) = bytes.checked_sub(whole(&filling).len()).filter(|rest| *rest > 0) {
        let last = filling.last_mut().expect("one at least");
        if rest > 4000 {
            last.push_str(&"x".repeat(2000));
            filling.push(String::new());
        } else {
            last.push_str(&"x".repeat(rest));
        }
    }
    let text = whole(&filling);
    assert_eq!(text.len(), bytes);
    text.replace(',', ",\n                    ")
}

#[tokio::test]
async fn managed_policies_have_a_length_and_few_versions() {
    let bench = bench().await;
    let root = bench.root(&account(1), "us-east-1");
    let create =
        |name: &str, bytes| json!({"PolicyName": name, "PolicyDocument": of_length(bytes, false)});
    assert_eq!(code(&root, "CreatePolicy", create("long", 6145)).await, LIMIT);
    let made = done(&root, "CreatePolicy", create("fits", 6144)).await;
    let arn = made["Policy"]["Arn"].clone();
    let version = |bytes| json!({"PolicyArn": arn, "PolicyDocument": of_length(bytes, false)});
    assert_eq!(code(&root, "CreatePolicyVersion", version(6145)).await, LIMIT);
    for _ in 0..4 {
        done(&root, "CreatePolicyVersion", version(6144)).await;
    }
    assert_eq!(code(&root, "CreatePolicyVersion", version(1000)).await, LIMIT);
    done(&root, "DeletePolicyVersion", json!({"PolicyArn": arn, "VersionId": "v3"})).await;
    let made = done(&root, "CreatePolicyVersion", version(1000)).await;
    assert_eq!(made["PolicyVersion"]["VersionId"], "v6", "a number is not used again");
}

/// What all inline policies of one entity have together, whatever white space is in them.
#[tokio::test]
async fn inline_policies_share_a_length() {
    let bench = bench().await;
    let root = bench.root(&account(1), "us-east-1");
    done(&root, "CreateUser", json!({"UserName": "e"})).await;
    done(&root, "CreateGroup", json!({"GroupName": "e"})).await;
    let trust = of_length(300, true);
    done(&root, "CreateRole", json!({"RoleName": "e", "AssumeRolePolicyDocument": trust})).await;
    for (kind, quota) in [("User", 2048), ("Group", 5120), ("Role", 10_240)] {
        let put = async |name: &str, bytes| {
            let input = json!({format!("{kind}Name"): "e", "PolicyName": name,
                "PolicyDocument": of_length(bytes, false)});
            code(&root, &format!("Put{kind}Policy"), input).await
        };
        assert_eq!(put("one", quota + 1).await, LIMIT, "{kind}");
        assert_eq!(put("one", quota).await, "ok", "{kind}");
        assert_eq!(put("one", quota - 500).await, "ok", "{kind}: it is replaced");
        assert_eq!(put("two", 501).await, LIMIT, "{kind}");
        assert_eq!(put("two", 500).await, "ok", "{kind}");
    }
}

#[tokio::test]
async fn trust_policies_have_a_length() {
    let bench = bench().await;
    let root = bench.root(&account(1), "us-east-1");
    let role = |bytes| json!({"RoleName": "r", "AssumeRolePolicyDocument": of_length(bytes, true)});
    assert_eq!(code(&root, "CreateRole", role(2049)).await, LIMIT);
    assert_eq!(code(&root, "CreateRole", role(2048)).await, "ok");
    let update = |bytes| json!({"RoleName": "r", "PolicyDocument": of_length(bytes, true)});
    assert_eq!(code(&root, "UpdateAssumeRolePolicy", update(2049)).await, LIMIT);
    assert_eq!(code(&root, "UpdateAssumeRolePolicy", update(2048)).await, "ok");
}

#[tokio::test]
async fn ten_policies_are_attached_at_most() {
    let bench = bench().await;
    let root = bench.root(&account(1), "us-east-1");
    let mut arns = Vec::new();
    for n in 0..11 {
        let policy =
            json!({"PolicyName": format!("p{n}"), "PolicyDocument": of_length(200, false)});
        arns.push(done(&root, "CreatePolicy", policy).await["Policy"]["Arn"].clone());
    }
    done(&root, "CreateUser", json!({"UserName": "e"})).await;
    done(&root, "CreateGroup", json!({"GroupName": "e"})).await;
    let trust = of_length(300, true);
    done(&root, "CreateRole", json!({"RoleName": "e", "AssumeRolePolicyDocument": trust})).await;
    for kind in ["User", "Group", "Role"] {
        let attach = async |arn: &Json| {
            let input = json!({format!("{kind}Name"): "e", "PolicyArn": arn});
            code(&root, &format!("Attach{kind}Policy"), input).await
        };
        for arn in &arns[..10] {
            assert_eq!(attach(arn).await, "ok", "{kind} {arn}");
        }
        assert_eq!(attach(&arns[10]).await, LIMIT, "{kind}");
        assert_eq!(attach(&arns[3]).await, "ok", "{kind}: it is attached already");
    }
}

#[tokio::test]
async fn users_have_few_keys_groups_and_tags() {
    let bench = bench().await;
    let root = bench.root(&account(1), "us-east-1");
    let user = json!({"UserName": "e"});
    done(&root, "CreateUser", user.clone()).await;
    for _ in 0..2 {
        done(&root, "CreateAccessKey", user.clone()).await;
    }
    assert_eq!(code(&root, "CreateAccessKey", user).await, LIMIT);
    for n in 0..11 {
        let group = format!("g{n}");
        done(&root, "CreateGroup", json!({"GroupName": group})).await;
        let add = json!({"GroupName": group, "UserName": "e"});
        let expected = if n < 10 { "ok" } else { LIMIT };
        assert_eq!(code(&root, "AddUserToGroup", add).await, expected, "{group}");
    }
    let tags = |from: usize, to: usize| -> Json {
        (from..to).map(|n| json!({"Key": n.to_string(), "Value": ""})).collect()
    };
    let tag = |tags: Json| json!({"UserName": "e", "Tags": tags});
    assert_eq!(code(&root, "TagUser", tag(tags(0, 50))).await, "ok");
    assert_eq!(code(&root, "TagUser", tag(tags(50, 51))).await, LIMIT);
    assert_eq!(code(&root, "TagUser", tag(tags(7, 9))).await, "ok");
    for (set, expected) in [
        (json!([{"Key": "AWS:x", "Value": ""}]), "InvalidInput"),
        (json!([{"Key": "a", "Value": ""}, {"Key": "A", "Value": ""}]), "InvalidInput"),
        (json!([{"Key": "<", "Value": ""}]), "InvalidInput"),
    ] {
        assert_eq!(code(&root, "TagUser", tag(set.clone())).await, expected, "{set}");
    }
}
