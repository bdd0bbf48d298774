//! Condition keys of the life of a key: a statement holds with the right value and with no other.

use crate::ops::kms::create_alias::CreateAlias;
use crate::ops::kms::create_key::CreateKey;
use crate::ops::kms::put_key_policy::PutKeyPolicy;
use crate::testing::{Bench, account, bench, run, run_named};
use crate::{Call, Service};
use serde_json::{Value as Json, json};

/// Whether the caller may: any other error comes after permission.
async fn may(call: &Call, name: &str, input: &Json) -> bool {
    match run_named(call, Service::Kms, name, input.clone()).await {
        Ok(_) => true,
        Err(error) => error.code() != "AccessDeniedException",
    }
}

/// A user who may everything in KMS under one condition.
async fn user(bench: &Bench, name: &str, condition: Json) -> Call {
    let policy = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": "kms:*", "Resource": "*", "Condition": condition}]});
    bench.user(&account(1), name, &policy.to_string()).await
}

async fn key(call: &Call, new: Json) -> String {
    let made = run::<CreateKey>(call, new).await.expect("allowed");
    made["KeyMetadata"]["KeyId"].as_str().expect("an id").to_owned()
}

/// An operation with a request, and an operator on a condition key with a value that holds and one that does not.
type Case<'a> = (&'a str, &'a Json, &'a str, &'a str, &'a str, &'a str);

async fn check(bench: &Bench, cases: &[Case<'_>]) {
    for (number, (name, input, operator, condition, good, bad)) in cases.iter().enumerate() {
        let right = json!({*operator: {*condition: good}});
        let right = user(bench, &format!("r{number}"), right).await;
        assert!(may(&right, name, input).await, "{name}: {operator} {condition} {good}");
        let wrong = json!({*operator: {*condition: bad}});
        let wrong = user(bench, &format!("w{number}"), wrong).await;
        assert!(!may(&wrong, name, input).await, "{name}: {operator} {condition} {bad}");
    }
}

const EQUALS: &str = "StringEquals";

#[tokio::test]
async fn imports_say_how_material_is_wrapped_and_when_it_ends() {
    let bench = bench().await;
    let root = bench.root(&account(1), "us-east-1");
    let id = key(&root, json!({"Origin": "EXTERNAL"})).await;
    let (sha1, sha256) = ("RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256");
    let (never, ends) = ("KEY_MATERIAL_DOES_NOT_EXPIRE", "KEY_MATERIAL_EXPIRES");
    let (before, after) = ("2026-01-09T00:00:00Z", "2026-01-11T00:00:00Z");
    let get = json!({"KeyId": id, "WrappingAlgorithm": sha256, "WrappingKeySpec": "RSA_2048"});
    let material = json!({"KeyId": id, "ImportToken": "x", "EncryptedKeyMaterial": "x"});
    let (mut kept, mut ending) = (material.clone(), material);
    kept["ExpirationModel"] = json!(never);
    ending["ValidTo"] = json!("2026-01-10T00:00:00Z");
    check(
        &bench,
        &[
            ("GetParametersForImport", &get, EQUALS, "kms:WrappingAlgorithm", sha256, sha1),
            ("GetParametersForImport", &get, EQUALS, "kms:WrappingKeySpec", "RSA_2048", "RSA_4096"),
            ("ImportKeyMaterial", &kept, EQUALS, "kms:ExpirationModel", never, ends),
            ("ImportKeyMaterial", &ending, EQUALS, "kms:ExpirationModel", ends, never),
            ("ImportKeyMaterial", &ending, "DateLessThan", "kms:ValidTo", after, before),
            ("ImportKeyMaterial", &kept, "Null", "kms:ValidTo", "true", "false"),
        ],
    )
    .await;
}

#[tokio::test]
async fn families_and_rotations_say_what_they_are() {
    let bench = bench().await;
    let root = bench.root(&account(1), "us-east-1");
    let plain = json!({"KeyId": key(&root, json!({})).await});
    let family = json!({"KeyId": key(&root, json!({"MultiRegion": true})).await});
    let external = json!({"KeyId": key(&root, json!({"Origin": "EXTERNAL"})).await});
    let create = json!({"MultiRegion": true, "Origin": "EXTERNAL"});
    let rotate = json!({"KeyId": plain["KeyId"], "RotationPeriodInDays": 180});
    let replicate = json!({"KeyId": family["KeyId"], "ReplicaRegion": "eu-west-1"});
    let update = json!({"KeyId": family["KeyId"], "PrimaryRegion": "us-east-1"});
    let (at_most, if_exists) = ("NumericLessThanEquals", "StringEqualsIfExists");
    let (east, west) = ("us-east-1", "eu-west-1");
    check(
        &bench,
        &[
            ("EnableKeyRotation", &rotate, at_most, "kms:RotationPeriodInDays", "180", "179"),
            // The statement is asked about kms:CreateKey as well, which has no replica region.
            ("ReplicateKey", &replicate, if_exists, "kms:ReplicaRegion", west, east),
            ("UpdatePrimaryRegion", &update, EQUALS, "kms:PrimaryRegion", east, west),
            ("DescribeKey", &family, "Bool", "kms:MultiRegion", "true", "false"),
            ("DescribeKey", &plain, "Bool", "kms:MultiRegion", "false", "true"),
            ("DescribeKey", &family, EQUALS, "kms:MultiRegionKeyType", "PRIMARY", "REPLICA"),
            ("DescribeKey", &plain, "Null", "kms:MultiRegionKeyType", "true", "false"),
            ("DescribeKey", &external, EQUALS, "kms:KeyOrigin", "EXTERNAL", "AWS_KMS"),
            ("CreateKey", &create, "Bool", "kms:MultiRegion", "true", "false"),
            ("CreateKey", &create, EQUALS, "kms:KeyOrigin", "EXTERNAL", "AWS_KMS"),
            ("CreateKey", &create, EQUALS, "kms:MultiRegionKeyType", "PRIMARY", "REPLICA"),
        ],
    )
    .await;
}

#[tokio::test]
async fn requests_say_their_alias_and_keys_theirs() {
    let bench = bench().await;
    let root = bench.root(&account(1), "us-east-1");
    let id = key(&root, json!({})).await;
    let nameless = json!({"KeyId": key(&root, json!({})).await});
    for name in ["alias/app-1", "alias/app-2"] {
        let alias = json!({"AliasName": name, "TargetKeyId": id});
        run::<CreateAlias>(&root, alias).await.expect("allowed");
    }
    let (by_id, by_alias) = (json!({"KeyId": id}), json!({"KeyId": "alias/app-1"}));
    let (any, all) = ("ForAnyValue:StringLike", "ForAllValues:StringLike");
    check(
        &bench,
        &[
            ("DescribeKey", &by_alias, EQUALS, "kms:RequestAlias", "alias/app-1", "alias/app-2"),
            ("DescribeKey", &by_id, "Null", "kms:RequestAlias", "true", "false"),
            ("DescribeKey", &by_id, any, "kms:ResourceAliases", "alias/app-2", "alias/other"),
            ("DescribeKey", &by_id, all, "kms:ResourceAliases", "alias/app-*", "alias/app-1"),
            // Operations that take no alias see the key's all the same.
            ("DisableKey", &by_id, any, "kms:ResourceAliases", "alias/app-1", "alias/other"),
            ("DescribeKey", &nameless, "Null", "kms:ResourceAliases", "true", "false"),
        ],
    )
    .await;
}

#[tokio::test]
async fn tags_of_requests_and_keys_are_conditions() {
    let bench = bench().await;
    let root = bench.root(&account(1), "us-east-1");
    let tags = json!([{"TagKey": "team", "TagValue": "red"}, {"TagKey": "cost", "TagValue": ""}]);
    let create = json!({"Tags": tags});
    let tagged = key(&root, json!({"MultiRegion": true, "Tags": tags})).await;
    let plain = json!({"KeyId": key(&root, json!({})).await});
    let tag = json!({"KeyId": plain["KeyId"], "Tags": tags});
    let untag = json!({"KeyId": tagged, "TagKeys": ["other"]});
    let describe = json!({"KeyId": tagged});
    let untagged = json!({"KeyId": key(&root, json!({})).await});
    let replicate = json!({"KeyId": tagged, "ReplicaRegion": "us-east-1", "Tags": tags});
    let (any, all) = ("ForAnyValue:StringEquals", "ForAllValues:StringLike");
    let (request, owned) = ("aws:RequestTag/team", "aws:ResourceTag/team");
    check(
        &bench,
        &[
            ("CreateKey", &create, EQUALS, request, "red", "Red"),
            ("CreateKey", &create, EQUALS, "aws:RequestTag/cost", "", "x"),
            ("CreateKey", &create, any, "aws:TagKeys", "cost", "Cost"),
            ("CreateKey", &create, all, "aws:TagKeys", "*", "team"),
            ("TagResource", &tag, EQUALS, request, "red", "blue"),
            ("TagResource", &tag, any, "aws:TagKeys", "team", "other"),
            ("UntagResource", &untag, any, "aws:TagKeys", "other", "team"),
            ("UntagResource", &untag, EQUALS, owned, "red", "blue"),
            ("UntagResource", &untag, "Null", request, "true", "false"),
            // The statement is asked about the key as well, which the request gives no tags.
            ("ReplicateKey", &replicate, "StringEqualsIfExists", request, "red", "blue"),
            ("DescribeKey", &describe, EQUALS, "aws:ResourceTag/TEAM", "red", "blue"),
            ("DescribeKey", &describe, EQUALS, "aws:ResourceTag/cost", "", "x"),
            ("DescribeKey", &untagged, "Null", owned, "true", "false"),
        ],
    )
    .await;
}

/// ReplicateKey makes a key in the other region, which has conditions of its own.
#[tokio::test]
async fn a_replica_is_made_by_who_may_make_keys() {
    let bench = bench().await;
    let root = bench.root(&account(1), "us-east-1");
    let family = key(&root, json!({"MultiRegion": true})).await;
    let replicate = json!({"KeyId": family, "ReplicaRegion": "eu-west-1"});
    let allowing = |condition: Json| {
        json!({"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Action": "kms:ReplicateKey", "Resource": "*"},
            {"Effect": "Allow", "Action": "kms:CreateKey", "Resource": "*", "Condition": condition},
        ]})
        .to_string()
    };
    for (number, (condition, allowed)) in [
        (json!({"StringEquals": {"kms:MultiRegionKeyType": "PRIMARY"}}), false),
        (json!({"StringEquals": {"aws:RequestedRegion": "us-east-1"}}), false),
        (
            json!({"StringEquals": {"kms:MultiRegionKeyType": "REPLICA",
            "aws:RequestedRegion": "eu-west-1"}}),
            true,
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let call = bench.user(&account(1), &format!("u{number}"), &allowing(condition)).await;
        assert_eq!(may(&call, "ReplicateKey", &replicate).await, allowed, "{number}");
    }
}

/// A key policy does not see the key's aliases (spec 20, A.3): who may name a key must not decide who may use it.
#[tokio::test]
async fn aliases_of_a_key_are_for_identity_policies() {
    let bench = bench().await;
    let root = bench.root(&account(1), "us-east-1");
    let id = key(&root, json!({})).await;
    let alias = json!({"AliasName": "alias/app", "TargetKeyId": id});
    run::<CreateAlias>(&root, alias).await.expect("allowed");
    let nothing = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Deny", "Action": "kms:CreateKey", "Resource": "*"}]});
    let user = bench.user(&account(1), "ann", &nothing.to_string()).await;
    let arn = user.caller.principal.arn.clone();
    for (condition, allowed) in [
        (json!({"ForAnyValue:StringEquals": {"kms:ResourceAliases": "alias/app"}}), false),
        (json!({"Null": {"kms:ResourceAliases": "true"}}), true),
    ] {
        let policy = json!({"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Principal": {"AWS": "111111111111"}, "Action": "kms:*",
             "Resource": "*"},
            {"Effect": "Allow", "Principal": {"AWS": arn}, "Action": "kms:DescribeKey",
             "Resource": "*", "Condition": condition},
        ]});
        let put = json!({"KeyId": id, "Policy": policy.to_string()});
        run::<PutKeyPolicy>(&root, put).await.expect("allowed");
        let describe = json!({"KeyId": id});
        assert_eq!(may(&user, "DescribeKey", &describe).await, allowed, "{policy}");
    }
}
