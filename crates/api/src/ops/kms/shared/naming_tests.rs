//! The rules of tags and of aliases through the pipeline, and who may set and use them.

use crate::key_life;
use crate::ops::kms::create_alias::CreateAlias;
use crate::ops::kms::create_key::CreateKey;
use crate::testing::{Bench, account, bench, run, run_named};
use crate::{Call, Error, Service};
use kms::alias::ALIASES_PER_KEY_MAX;
use kms::tag::TAGS_MAX;
use serde_json::{Value as Json, json};

async fn ask(call: &Call, name: &str, input: Json) -> Result<Json, Error> {
    run_named(call, Service::Kms, name, input).await
}

/// What an operation answers with: a code, or `ok`.
async fn code(call: &Call, name: &str, input: Json) -> &'static str {
    ask(call, name, input).await.err().map_or("ok", |error| error.code())
}

async fn key(call: &Call, new: Json) -> Json {
    run::<CreateKey>(call, new).await.expect("allowed")["KeyMetadata"].clone()
}

fn tags(tags: &[(&str, &str)]) -> Json {
    tags.iter().map(|(key, value)| json!({"TagKey": key, "TagValue": value})).collect()
}

fn policy(statements: Json) -> String {
    json!({"Version": "2012-10-17", "Statement": statements}).to_string()
}

fn allow(action: &str, resource: &str) -> Json {
    json!({"Effect": "Allow", "Action": action, "Resource": resource})
}

/// KMS guide, "Tagging keys"; botocore: TagKeyType, TagValueType, and the exceptions of each operation.
#[tokio::test]
async fn tags_follow_the_rules_wherever_they_are_set() {
    let bench = bench().await;
    let call = bench.root(&account(1), "us-east-1");
    let (longest_key, longest_value) = ("k".repeat(128), "v".repeat(256));
    let (long_key, long_value) = ("k".repeat(129), "v".repeat(257));
    let many: Vec<_> = (0..=TAGS_MAX).map(|n| n.to_string()).collect();
    let many: Vec<_> = many.iter().map(|name| (&name[..], "")).collect();
    // Lengths are the model's, which is asked first.
    let (refused, misfit) = ("TagException", "ValidationException");
    for (set, expected) in [
        (vec![("a", "")], "ok"),
        (vec![("Ärger + 1", "a_b.c:d/e=f+g-h@i 9")], "ok"),
        (vec![(&longest_key[..], &longest_value[..])], "ok"),
        (vec![("a", "1"), ("A", "2")], "ok"),
        (many[..TAGS_MAX].to_vec(), "ok"),
        (vec![("awsome", "aws:")], "ok"),
        (many, refused),
        (vec![("", "x")], misfit),
        (vec![(&long_key, "")], misfit),
        (vec![("a", &long_value)], misfit),
        (vec![("a,b", "")], refused),
        (vec![("a", "<")], refused),
        (vec![("a\n", "")], refused),
        (vec![("aws:x", "")], refused),
        (vec![("AwS:x", "")], refused),
        (vec![("a", "1"), ("a", "1")], refused),
    ] {
        let new = json!({"MultiRegion": true, "Tags": tags(&set)});
        assert_eq!(code(&call, "CreateKey", new).await, expected, "CreateKey {set:?}");
        let id = key(&call, json!({"MultiRegion": true})).await["KeyId"].clone();
        let replica = json!({"KeyId": id, "ReplicaRegion": "eu-west-1", "Tags": tags(&set)});
        assert_eq!(code(&call, "ReplicateKey", replica).await, expected, "ReplicateKey {set:?}");
        let more = json!({"KeyId": id, "Tags": tags(&set)});
        assert_eq!(code(&call, "TagResource", more).await, expected, "TagResource {set:?}");
        let kept = ask(&call, "ListResourceTags", json!({"KeyId": id})).await.expect("allowed");
        let count = if expected == "ok" { set.len() } else { 0 };
        assert_eq!(kept["Tags"].as_array().map(Vec::len), Some(count), "{set:?}");
    }
    let id = key(&call, json!({"Tags": tags(&[("a", "1")])})).await["KeyId"].clone();
    for (name, expected) in [
        ("aws:x", refused),
        ("AWS:x", refused),
        ("<", refused),
        ("", misfit),
        (&long_key, misfit),
        ("none", "ok"),
    ] {
        let input = json!({"KeyId": id, "TagKeys": [name]});
        assert_eq!(code(&call, "UntagResource", input).await, expected, "{name}");
    }
}

#[tokio::test]
async fn a_key_has_fifty_tags_at_most() {
    let bench = bench().await;
    let call = bench.root(&account(1), "us-east-1");
    let names: Vec<_> = (0..TAGS_MAX).map(|n| n.to_string()).collect();
    let full: Vec<_> = names.iter().map(|name| (&name[..], "")).collect();
    let id = key(&call, json!({"Tags": tags(&full)})).await["KeyId"].clone();
    let set = async |pairs: &[(&str, &str)]| {
        code(&call, "TagResource", json!({"KeyId": id, "Tags": tags(pairs)})).await
    };
    assert_eq!(set(&[("one more", "")]).await, "LimitExceededException");
    assert_eq!(set(&[("7", "another value")]).await, "ok");
    let untag = json!({"KeyId": id, "TagKeys": ["3"]});
    assert_eq!(code(&call, "UntagResource", untag).await, "ok");
    assert_eq!(set(&[("one more", "")]).await, "ok");
}

/// "Cross-account use: No", whatever the policies of both accounts say.
#[tokio::test]
async fn tags_and_aliases_stay_within_the_account() {
    let bench = bench().await;
    let (one, two) = (bench.root(&account(1), "us-east-1"), bench.root(&account(2), "us-east-1"));
    let both = policy(json!([{"Effect": "Allow", "Action": "kms:*", "Resource": "*",
        "Principal": {"AWS": ["111111111111", "222222222222"]}}]));
    let arn = key(&one, json!({"Policy": both})).await["Arn"].clone();
    let named = json!({"AliasName": "alias/of-one", "TargetKeyId": arn});
    ask(&one, "CreateAlias", named).await.expect("its own");
    let own = key(&two, json!({})).await["Arn"].clone();
    let own = json!({"AliasName": "alias/of-two", "TargetKeyId": own});
    ask(&two, "CreateAlias", own).await.expect("its own");
    let denied = "AccessDeniedException";
    for (name, input, expected) in [
        ("TagResource", json!({"KeyId": arn, "Tags": tags(&[("a", "")])}), denied),
        ("UntagResource", json!({"KeyId": arn, "TagKeys": ["a"]}), denied),
        ("ListResourceTags", json!({"KeyId": arn}), denied),
        ("CreateAlias", json!({"AliasName": "alias/new", "TargetKeyId": arn}), denied),
        ("UpdateAlias", json!({"AliasName": "alias/of-two", "TargetKeyId": arn}), denied),
        // Another account's name is none of this account.
        (
            "UpdateAlias",
            json!({"AliasName": "alias/of-one", "TargetKeyId": arn}),
            "NotFoundException",
        ),
        ("DeleteAlias", json!({"AliasName": "alias/of-one"}), "NotFoundException"),
        ("DescribeKey", json!({"KeyId": "alias/of-one"}), "NotFoundException"),
        ("DescribeKey", json!({"KeyId": arn}), "ok"),
    ] {
        assert_eq!(code(&two, name, input.clone()).await, expected, "{name} {input}");
    }
    // An alias names another account's key by its ARN, where aliases are taken at all.
    let alias = "arn:aws:kms:us-east-1:111111111111:alias/of-one";
    for (name, more, expected) in [
        ("DescribeKey", json!({}), "ok"),
        ("Encrypt", json!({"Plaintext": "x"}), "ok"),
        ("GenerateDataKey", json!({"NumberOfBytes": 32}), "ok"),
        ("GetKeyRotationStatus", json!({}), "InvalidArnException"),
        ("ListGrants", json!({}), "InvalidArnException"),
        (
            "CreateGrant",
            json!({"GranteePrincipal": "222222222222", "Operations": ["Decrypt"]}),
            "InvalidArnException",
        ),
    ] {
        let mut input = more;
        input["KeyId"] = json!(alias);
        assert_eq!(code(&two, name, input).await, expected, "{name}");
    }
}

/// Tags at birth need the permission to tag, where the key is born.
#[tokio::test]
async fn tags_of_a_new_key_need_permission() {
    let bench = bench().await;
    let root = bench.root(&account(1), "us-east-1");
    let id = key(&root, json!({"MultiRegion": true})).await["KeyId"].clone();
    let make = json!([allow("kms:CreateKey", "*"), allow("kms:ReplicateKey", "*")]);
    let with = |more: Json| {
        let mut all = make.clone();
        all.as_array_mut().expect("a list").push(more);
        policy(all)
    };
    let east = "arn:aws:kms:us-east-1:111111111111:key/*";
    let west = "arn:aws:kms:eu-west-1:111111111111:key/*";
    for (user, text, create, replicate) in [
        ("none", policy(make.clone()), false, false),
        ("east", with(allow("kms:TagResource", east)), true, false),
        ("west", with(allow("kms:TagResource", west)), false, true),
    ] {
        let call = bench.user(&account(1), user, &text).await;
        let say = |allowed: bool| if allowed { "ok" } else { "AccessDeniedException" };
        assert_eq!(code(&call, "CreateKey", json!({})).await, "ok", "{user}");
        let new = json!({"Tags": tags(&[("a", "b")])});
        assert_eq!(code(&call, "CreateKey", new).await, say(create), "{user}");
        let new = json!({"KeyId": id, "ReplicaRegion": "eu-west-1", "Tags": tags(&[("a", "b")])});
        assert_eq!(code(&call, "ReplicateKey", new).await, say(replicate), "{user}");
    }
}

/// KMS guide, "Controlling access to aliases": on the alias by the caller's own policies, and on every key it names.
#[tokio::test]
async fn aliases_are_moved_by_who_may_on_both_sides() {
    let bench = bench().await;
    let root = bench.root(&account(1), "us-east-1");
    let (old, new) = (key(&root, json!({})).await, key(&root, json!({})).await);
    let arn = |key: &Json| key["Arn"].as_str().expect("an ARN").to_owned();
    let (old, new) = (arn(&old), arn(&new));
    let alias = "arn:aws:kms:us-east-1:111111111111:alias/app";
    let sides = [alias, &old, &new];
    let user = async |name: &str, resources: &[&str]| {
        let statement = json!([{"Effect": "Allow", "Resource": resources,
            "Action": ["kms:CreateAlias", "kms:UpdateAlias", "kms:DeleteAlias"]}]);
        bench.user(&account(1), name, &policy(statement)).await
    };
    let create = json!({"AliasName": "alias/app", "TargetKeyId": old});
    let update = json!({"AliasName": "alias/app", "TargetKeyId": new});
    let delete = json!({"AliasName": "alias/app"});
    let denied = "AccessDeniedException";
    for (number, side) in sides.into_iter().enumerate() {
        let rest: Vec<_> = sides.into_iter().filter(|other| *other != side).collect();
        let without = user(&format!("without-{number}"), &rest).await;
        if side != new {
            assert_eq!(code(&without, "CreateAlias", create.clone()).await, denied, "{side}");
        }
        ask(&root, "CreateAlias", create.clone()).await.expect("allowed");
        assert_eq!(code(&without, "UpdateAlias", update.clone()).await, denied, "{side}");
        if side != new {
            assert_eq!(code(&without, "DeleteAlias", delete.clone()).await, denied, "{side}");
        }
        ask(&root, "DeleteAlias", delete.clone()).await.expect("allowed");
    }
    let whole = user("whole", &sides).await;
    for (name, input) in [("CreateAlias", create), ("UpdateAlias", update), ("DeleteAlias", delete)]
    {
        assert_eq!(code(&whole, name, input).await, "ok", "{name}");
    }
    // The key policy may stand for the caller's policies on the key, never on the alias.
    let nothing = bench.user(&account(1), "nothing", &policy(json!([allow("sts:*", "*")]))).await;
    let named = policy(json!([
        {"Effect": "Allow", "Principal": {"AWS": "111111111111"}, "Action": "kms:*", "Resource": "*"},
        {"Effect": "Allow", "Principal": {"AWS": nothing.caller.principal.arn},
         "Action": "kms:*Alias", "Resource": "*"},
    ]));
    let id = key(&root, json!({"Policy": named})).await["Arn"].clone();
    let input = json!({"AliasName": "alias/mine", "TargetKeyId": id});
    assert_eq!(code(&nothing, "CreateAlias", input.clone()).await, denied);
    let on_alias = policy(json!([allow("kms:CreateAlias", "arn:aws:kms:*:*:alias/mine")]));
    put_inline(&bench, &nothing, &on_alias).await;
    assert_eq!(code(&nothing, "CreateAlias", input).await, "ok");
}

async fn put_inline(bench: &Bench, user: &Call, document: &str) {
    let root = bench.root(&account(1), "us-east-1");
    let name = user.caller.principal.arn.rsplit('/').next().expect("a name");
    let put = json!({"UserName": name, "PolicyName": "more", "PolicyDocument": document});
    run_named(&root, Service::Iam, "PutUserPolicy", put).await.expect("allowed");
}

/// botocore: AliasNameType; UpdateAlias and DeleteAlias list no `InvalidAliasNameException`.
#[tokio::test]
async fn names_of_aliases_follow_the_rules() {
    let bench = bench().await;
    let call = bench.root(&account(1), "us-east-1");
    let id = key(&call, json!({})).await["KeyId"].clone();
    let longest = format!("alias/{}", "x".repeat(250));
    for name in ["alias/a", "alias/A/b_c-9", "alias/aws", "alias/awsome", "alias//", &longest] {
        let input = json!({"AliasName": name, "TargetKeyId": id});
        for operation in ["CreateAlias", "UpdateAlias"] {
            assert_eq!(code(&call, operation, input.clone()).await, "ok", "{operation} {name}");
        }
        assert_eq!(code(&call, "DeleteAlias", json!({"AliasName": name})).await, "ok", "{name}");
        let gone = code(&call, "UpdateAlias", input).await;
        assert_eq!(gone, "NotFoundException", "{name}");
    }
    let long = format!("alias/{}", "x".repeat(251));
    for name in [
        "a",
        "alias",
        "alias/",
        "Alias/a",
        "alias/a b",
        "alias/a:b",
        "alias/a.b",
        "alias/é",
        "alias/aws/",
        "alias/aws/ebs",
        "alias/aws/mine",
        &long,
    ] {
        let input = json!({"AliasName": name, "TargetKeyId": id});
        let create = code(&call, "CreateAlias", input.clone()).await;
        // The length is the model's, which is asked first.
        let expected =
            if name == long { "ValidationException" } else { "InvalidAliasNameException" };
        assert_eq!(create, expected, "{name}");
        assert_eq!(code(&call, "UpdateAlias", input).await, "ValidationException", "{name}");
        let delete = code(&call, "DeleteAlias", json!({"AliasName": name})).await;
        assert_eq!(delete, "ValidationException", "{name}");
    }
}

#[tokio::test]
async fn a_key_has_fifty_aliases_at_most_and_takes_them_along() {
    let bench = bench().await;
    let call = bench.root(&account(1), "us-east-1");
    let (full, other) = (key(&call, json!({})).await, key(&call, json!({})).await);
    let point = async |operation: &str, name: &str, key: &Json| {
        let input = json!({"AliasName": name, "TargetKeyId": key["KeyId"]});
        code(&call, operation, input).await
    };
    for n in 0..ALIASES_PER_KEY_MAX {
        assert_eq!(point("CreateAlias", &format!("alias/{n}"), &full).await, "ok");
    }
    let limit = "LimitExceededException";
    assert_eq!(point("CreateAlias", "alias/more", &full).await, limit);
    assert_eq!(point("CreateAlias", "alias/more", &other).await, "ok");
    assert_eq!(point("UpdateAlias", "alias/more", &full).await, limit);
    assert_eq!(point("UpdateAlias", "alias/7", &full).await, "ok");
    assert_eq!(point("UpdateAlias", "alias/7", &other).await, "ok");
    assert_eq!(point("CreateAlias", "alias/7", &full).await, "AlreadyExistsException");
    for name in ["alias/1", "alias/49"] {
        let named = ask(&call, "DescribeKey", json!({"KeyId": name})).await.expect("allowed");
        assert_eq!(named["KeyMetadata"]["KeyId"], full["KeyId"], "{name}");
    }
    // A key that is gone leaves its names to others.
    let end = json!({"KeyId": full["KeyId"], "PendingWindowInDays": 7});
    ask(&call, "ScheduleKeyDeletion", end).await.expect("allowed");
    assert_eq!(point("CreateAlias", "alias/1", &other).await, "AlreadyExistsException");
    bench.clock.advance_seconds(7 * 86_400);
    let mut runner = bench.runner(key_life::job_kinds(&bench.world));
    while runner.tick().await.expect("jobs are found") > 0 {
        runner.join_next().await;
    }
    let left = ask(&call, "ListAliases", json!({})).await.expect("allowed");
    let left: Vec<_> = left["Aliases"].as_array().expect("a list").iter().collect();
    let names: Vec<_> = left.iter().map(|alias| alias["AliasName"].as_str()).collect();
    assert_eq!(names, [Some("alias/7"), Some("alias/aws/ebs"), Some("alias/more")]);
    assert_eq!(point("CreateAlias", "alias/1", &other).await, "ok");
    run::<CreateAlias>(&call, json!({"AliasName": "alias/2", "TargetKeyId": other["KeyId"]}))
        .await
        .expect("free again");
}
