//! What a key policy may say when it is saved, and how many grants a key may have.

use crate::ops::kms::create_key::CreateKey;
use crate::testing::{account, bench, run, run_named};
use crate::{Call, Error, Service};
use kms::grant::GRANTS_PER_KEY_MAX;
use kms::policy::POLICY_BYTES_MAX;
use serde_json::{Value as Json, json};

async fn ask(call: &Call, name: &str, input: Json) -> Result<Json, Error> {
    run_named(call, Service::Kms, name, input).await
}

const MALFORMED: &str = "MalformedPolicyDocumentException";
const PRINCIPALS: &str = "Policy contains a statement with one or more invalid principals.";
const LOCKOUT: &str =
    "The new key policy will not allow you to update the key policy in the future.";

fn policy(more: &Json) -> String {
    let root = json!({"Sid": "Enable IAM User Permissions", "Effect": "Allow",
        "Principal": {"AWS": "arn:aws:iam::111111111111:root"}, "Action": "kms:*", "Resource": "*"});
    json!({"Version": "2012-10-17", "Statement": [root, more]}).to_string()
}

fn statement(principal: Json) -> Json {
    json!({"Effect": "Allow", "Principal": principal, "Action": "kms:Decrypt", "Resource": "*"})
}

fn with_condition(operator: &str, key: &str) -> Json {
    let mut statement = statement(json!({"AWS": "111111111111"}));
    statement["Condition"] = json!({operator: {key: "x"}});
    statement
}

/// Spec 20, A.4, A.6 and B.4: for every operation that saves one.
#[tokio::test]
async fn a_policy_is_checked_wherever_it_is_saved() {
    let bench = bench().await;
    let root = bench.root(&account(1), "us-east-1");
    bench.user(&account(1), "ann", &policy_of_nothing()).await;
    let ann = "arn:aws:iam::111111111111:user/ann";
    let aws = |name: &str| statement(json!({"AWS": name}));
    let (context, tag) = ("kms:EncryptionContext:a", "aws:RequestTag/a");
    let overly = "OverlyPermissiveCondition";
    for (number, (statement, expected)) in [
        (aws(ann), None),
        (aws("*"), None),
        (aws("222222222222"), None),
        (aws("arn:aws:iam::222222222222:root"), None),
        (aws("arn:aws:sts::222222222222:assumed-role/r/s"), None),
        (statement(json!("*")), None),
        (statement(json!({"Service": "ec2.amazonaws.com"})), None),
        // Inert, and legal: what has no action or no resource, and what is no action of KMS.
        (json!({"Effect": "Allow", "Principal": "*", "Resource": "*"}), None),
        (json!({"Effect": "Allow", "Principal": "*", "Action": "kms:Fly"}), None),
        (aws("arn:aws:iam::111111111111:user/nobody"), Some(PRINCIPALS)),
        (aws("arn:aws:iam::111111111111:user/*"), Some(PRINCIPALS)),
        (aws("arn:aws:iam::111111111111:user/an?"), Some(PRINCIPALS)),
        (aws("arn:aws:iam::222222222222:user/ann"), Some(PRINCIPALS)),
        (aws("999999999999"), Some(PRINCIPALS)),
        (aws("AIDANOBODY0000000000"), Some(PRINCIPALS)),
        (statement(json!({"CanonicalUser": "x"})), Some(PRINCIPALS)),
        (json!({"Effect": "Allow", "Action": "kms:*", "Resource": "*"}), Some("")),
        (json!({"Effect": "allow", "Principal": "*", "Action": "kms:*"}), Some("")),
        (with_condition("ForAllValues:StringEquals", context), Some(overly)),
        (with_condition("ForAllValues:StringLikeIfExists", context), Some(overly)),
        (with_condition("ForAllValues:StringEquals", tag), Some(overly)),
        (with_condition("ForAllValues:StringEquals", "aws:TagKeys"), None),
        (with_condition("ForAllValues:StringEquals", "kms:EncryptionContextKeys"), None),
        (with_condition("ForAnyValue:StringEquals", context), None),
        (with_condition("StringEquals", context), None),
    ]
    .into_iter()
    .enumerate()
    {
        let text = policy(&statement);
        let key = json!({"MultiRegion": true});
        let made = run::<CreateKey>(&root, key).await.expect("allowed")["KeyMetadata"].clone();
        for (name, input) in [
            ("CreateKey", json!({"Policy": text})),
            ("PutKeyPolicy", json!({"KeyId": made["KeyId"], "Policy": text})),
            (
                "ReplicateKey",
                json!({"KeyId": made["KeyId"], "ReplicaRegion": "eu-west-1", "Policy": text}),
            ),
        ] {
            let outcome = ask(&root, name, input).await;
            let error = outcome.err().map(|error| (error.code(), error.0.message));
            match (&error, expected) {
                (None, None) => {}
                (Some((MALFORMED, message)), Some(words)) if message.starts_with(words) => {}
                _ => panic!("{name} {number} {statement}: {error:?}, not {expected:?}"),
            }
        }
    }
}

fn policy_of_nothing() -> String {
    json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Deny", "Action": "iam:*", "Resource": "*"}]})
    .to_string()
}

#[tokio::test]
async fn a_policy_has_a_length_and_legal_characters() {
    let bench = bench().await;
    let root = bench.root(&account(1), "us-east-1");
    let id =
        run::<CreateKey>(&root, json!({})).await.expect("allowed")["KeyMetadata"]["KeyId"].clone();
    let text = policy(&statement(json!("*")));
    let padded = |bytes: usize, with: &str| {
        let rest = bytes - text.len();
        format!("{text}{}", with.repeat(rest / with.len()))
    };
    for (text, expected) in [
        (padded(POLICY_BYTES_MAX, " "), "ok"),
        (padded(POLICY_BYTES_MAX + 1, " "), "LimitExceededException"),
        (padded(text.len() + 1, "\u{b}"), "ValidationException"),
        (text.replace("kms:Decrypt", "kms:\u{100}"), "ValidationException"),
        (text.replace("kms:Decrypt", "kms:\u{ff}"), "ok"),
        (String::new(), "ValidationException"),
        ("[]".to_owned(), MALFORMED),
        ("{".to_owned(), MALFORMED),
        (text.replacen('{', "{\"Version\":\"2012-10-17\",", 1), MALFORMED),
    ] {
        let put = json!({"KeyId": id, "Policy": text});
        let code = ask(&root, "PutKeyPolicy", put).await.err().map_or("ok", |error| error.code());
        assert_eq!(code, expected, "{} {}", text.len(), &text[..text.len().min(60)]);
    }
}

/// The writer must be able to write again, in person or through an account that is named, unless it says that it
/// means it: a right that a condition can withhold.
#[tokio::test]
async fn nobody_locks_a_key_by_accident() {
    let bench = bench().await;
    let root = bench.root(&account(1), "us-east-1");
    let all = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": "kms:*", "Resource": "*"}]});
    let ann = bench.user(&account(1), "ann", &all.to_string()).await;
    let careful = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": "kms:*", "Resource": "*"},
        {"Effect": "Deny", "Action": "kms:*", "Resource": "*",
         "Condition": {"Bool": {"kms:BypassPolicyLockoutSafetyCheck": "true"}}}]});
    let bob = bench.user(&account(1), "bob", &careful.to_string()).await;
    let only = |principal: &str, action: &str| {
        let statement = json!({"Effect": "Allow", "Principal": {"AWS": principal},
            "Action": action, "Resource": "*"});
        json!({"Version": "2012-10-17", "Statement": [statement]}).to_string()
    };
    let arn = |call: &Call| call.caller.principal.arn.clone();
    for (call, text, expected) in [
        (&root, only("111111111111", "kms:*"), None),
        (&ann, only("111111111111", "kms:PutKeyPolicy"), None),
        (&ann, only(&arn(&ann), "kms:*"), None),
        (&root, only(&arn(&ann), "kms:*"), Some(LOCKOUT)),
        (&ann, only(&arn(&bob), "kms:*"), Some(LOCKOUT)),
        (&ann, only("222222222222", "kms:*"), Some(LOCKOUT)),
        (&ann, only(&arn(&ann), "kms:Get*"), Some(LOCKOUT)),
    ] {
        let new = json!({"MultiRegion": true});
        let id =
            run::<CreateKey>(&root, new).await.expect("allowed")["KeyMetadata"]["KeyId"].clone();
        for (name, mut input) in [
            ("CreateKey", json!({"Policy": text})),
            ("ReplicateKey", json!({"KeyId": id, "ReplicaRegion": "eu-west-1", "Policy": text})),
            ("PutKeyPolicy", json!({"KeyId": id, "Policy": text})),
        ] {
            let error = ask(call, name, input.clone()).await.err();
            let said = error.as_ref().map(|error| error.0.message.as_str());
            assert_eq!(said, expected, "{name} by {}: {text}", arn(call));
            if expected.is_some() {
                input["BypassPolicyLockoutSafetyCheck"] = json!(true);
                let denied = ask(&bob, name, input.clone()).await.expect_err("it is withheld");
                assert_eq!(denied.code(), "AccessDeniedException", "{name}");
                ask(call, name, input).await.expect("meant");
            }
        }
    }
}

/// A policy means who was there when it was saved; whoever gets the name later is somebody else.
#[tokio::test]
async fn a_deleted_principal_is_shown_by_its_id() {
    let bench = bench().await;
    let root = bench.root(&account(1), "us-east-1");
    let ann = bench.user(&account(1), "ann", &policy_of_nothing()).await;
    let text = policy(&statement(json!({"AWS": ann.caller.principal.arn})));
    let text = text.replace("kms:Decrypt", "kms:DescribeKey");
    let key = run::<CreateKey>(&root, json!({"Policy": text})).await.expect("allowed");
    let id = json!({"KeyId": key["KeyMetadata"]["KeyId"]});
    ask(&ann, "DescribeKey", id.clone()).await.expect("named");
    let shown = async || {
        let shown = ask(&root, "GetKeyPolicy", id.clone()).await.expect("allowed");
        shown["Policy"].as_str().expect("a text").to_owned()
    };
    assert_eq!(shown().await, text);
    let iam = async |name: &str, input: Json| {
        run_named(&root, Service::Iam, name, input).await.expect("allowed")
    };
    iam("DeleteUserPolicy", json!({"UserName": "ann", "PolicyName": "test"})).await;
    iam("DeleteUser", json!({"UserName": "ann"})).await;
    let again = bench.user(&account(1), "ann", &policy_of_nothing()).await;
    let text = shown().await;
    assert!(!text.contains("user/ann") && text.contains("\"AIDA"), "{text}");
    let error = ask(&again, "DescribeKey", id.clone()).await.expect_err("somebody else");
    assert_eq!(error.code(), "AccessDeniedException");
    // What is shown cannot be saved as it is: it names nobody any more.
    let put = json!({"KeyId": id["KeyId"], "Policy": text});
    let error = ask(&root, "PutKeyPolicy", put).await.expect_err("nobody");
    assert_eq!((error.code(), &error.0.message[..]), (MALFORMED, PRINCIPALS));
}

#[tokio::test]
async fn a_key_has_fifty_thousand_grants_at_most() {
    let bench = bench().await;
    let root = bench.root(&account(1), "us-east-1");
    let id =
        run::<CreateKey>(&root, json!({})).await.expect("allowed")["KeyMetadata"]["KeyId"].clone();
    let grant = json!({"KeyId": id, "GranteePrincipal": "222222222222",
        "Operations": ["Decrypt"], "Name": "known"});
    let first = ask(&root, "CreateGrant", grant.clone()).await.expect("allowed");
    // Rows beside it, all but one.
    let fill = format!(
        "INSERT INTO kms_grants (account_id, region, key_id, grant_id, name, grantee, grantee_shown, \
         retiring, retiring_shown, issuing_account, operations, constraints_json, created_at) \
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {}) \
         SELECT account_id, region, key_id, printf('%064d', i), '', grantee, grantee_shown, retiring, \
         retiring_shown, issuing_account, operations, constraints_json, created_at \
         FROM kms_grants, n",
        GRANTS_PER_KEY_MAX - 2
    );
    let filled = bench.world.db.write(move |tx| tx.execute(&fill, &[])).await;
    assert_eq!(filled.expect("rows that are written"), u64::from(GRANTS_PER_KEY_MAX - 2));
    let nameless = json!({"KeyId": id, "GranteePrincipal": "222222222222",
        "Operations": ["Decrypt"]});
    ask(&root, "CreateGrant", nameless.clone()).await.expect("the last");
    let error = ask(&root, "CreateGrant", nameless.clone()).await.expect_err("full");
    assert_eq!(error.code(), "LimitExceededException");
    // Asking again for what there is needs no room.
    let again = ask(&root, "CreateGrant", grant).await.expect("the same");
    assert_eq!(again["GrantId"], first["GrantId"]);
    let revoke = json!({"KeyId": id, "GrantId": first["GrantId"]});
    ask(&root, "RevokeGrant", revoke).await.expect("allowed");
    ask(&root, "CreateGrant", nameless).await.expect("room again");
}
