//! The Principal element (spec 20, A.4).

use crate::table::check;
use iam::{Bindings, Policy, PolicyKind, render};
use std::collections::BTreeMap;

#[test]
fn forms() {
    check(
        "
        queue q1 allow 111111111111 sqs:A
        queue q1 allow arn:aws:iam::111111111111:root sqs:B
        queue q1 allow 111/bob sqs:C
        queue q1 allow 111/role:r sqs:D
        queue q1 allow 111/role:r/s sqs:E
        identity 111/bob allow sqs:A,sqs:B
        ask 111/bob sqs:A q1 -> allow
        ask 111/bob sqs:B q1 -> allow
        ask 111/bob sqs:C q1 -> allow: resource[2]
        ask 111/eve sqs:C q1 -> deny: no identity
        ask 111/root sqs:C q1 -> allow: root
        ask 111/role:r/x sqs:D q1 -> allow: resource[3]
        ask 111/role:r/s sqs:E q1 -> allow: resource[4]
        ask 111/role:r/x sqs:E q1 -> deny: no identity
        // A user and a role of one name are two.
        ask 111/r sqs:D q1 -> deny: no identity
    ",
    );
}

#[test]
fn a_recreated_entity_is_another() {
    check(
        "
        key-policy k1 allow 111/bob,111/role:r kms:*
        ask 111/bob kms:Decrypt k1 -> allow
        ask 111/bob#2 kms:Decrypt k1 -> deny: no resource
        ask 111/role:r/s kms:Decrypt k1 -> allow
        key-policy k1 deny 111/amy kms:*
        key-policy k1 allow 111 kms:*
        identity 111/amy#2 allow kms:*
        ask 111/amy kms:Encrypt k1 -> deny: explicit
        ask 111/amy#2 kms:Encrypt k1 -> allow
    ",
    );
}

#[test]
fn a_denied_account_or_role_denies_all_of_it() {
    check(
        "
        queue q1 allow * sqs:*
        queue q1 deny 222 sqs:*
        queue q1 deny 111/role:r sqs:*
        ask 111/bob sqs:A q1 -> allow
        identity 222/bob allow *
        ask 222/bob sqs:A q1 -> deny: explicit resource[1]
        ask 222/root sqs:A q1 -> deny: explicit resource[1]
        ask 111/role:r/s sqs:A q1 -> deny: explicit resource[2]
    ",
    );
}

#[test]
fn not_principal_spares_only_who_is_listed_in_every_form() {
    check(
        "
        queue q1 allow * sqs:*
        queue q1 deny !111/root,111/bob,111/role:r,111/role:r/s sqs:*
        ask 111/bob sqs:A q1 -> allow
        ask 111/amy sqs:A q1 -> deny: explicit resource[1]
        ask 111/root sqs:A q1 -> allow
        ask 111/role:r/s sqs:A q1 -> allow
        ask 111/role:r/t sqs:A q1 -> deny: explicit
        ask svc:ec2.amazonaws.com sqs:A q1 -> deny: explicit

        // The account is missing, so nobody of it is spared.
        queue q2 allow * sqs:*
        queue q2 deny !111/bob,111/role:r/s sqs:*
        ask 111/bob sqs:A q2 -> deny: explicit
        ask 111/role:r/s sqs:A q2 -> deny: explicit
        ask 111/root sqs:A q2 -> deny: explicit
        queue q3 allow * sqs:*
        queue q3 deny !svc:ec2.amazonaws.com sqs:*
        ask svc:ec2.us-east-1.amazonaws.com sqs:A q3 -> allow
    ",
    );
}

const KEY_POLICY: &str = r#"{"Version":"2012-10-17","Statement":[{"Sid":"a b","Effect":"Allow",
    "Principal":{"AWS":["arn:aws:iam::111111111111:user/bob","111111111111"]},"Action":"kms:*","Resource":"*"}]}"#;

#[test]
fn principals_are_listed_for_resolution_and_shown_as_ids_once_deleted() {
    let policy = Policy::parse(KEY_POLICY, PolicyKind::KeyPolicy).unwrap();
    let named: Vec<_> = policy.principals().iter().map(|p| p.written()).collect();
    assert_eq!(named, ["arn:aws:iam::111111111111:root", "arn:aws:iam::111111111111:user/bob"]);

    let shown = render(KEY_POLICY, &Bindings::default()).unwrap();
    assert!(
        shown.contains("\"arn:aws:iam::111111111111:root\"") && shown.contains("user/bob"),
        "{shown}"
    );
    let by_arn = KEY_POLICY.replace("\"111111111111\"", "\"arn:aws:iam::111111111111:root\"");
    assert_eq!(render(&by_arn, &Bindings::default()).unwrap(), by_arn);
    let deleted = BTreeMap::from([(
        "arn:aws:iam::111111111111:user/bob".to_owned(),
        "AIDAXXXXXXXXXXXXXXXXX".to_owned(),
    )]);
    let shown = render(KEY_POLICY, &Bindings(deleted)).unwrap();
    assert!(shown.contains("\"AIDAXXXXXXXXXXXXXXXXX\"") && !shown.contains("user/bob"), "{shown}");
    assert!(!shown.contains("\"111111111111\"") && shown.contains("\"Sid\" : \"a b\""), "{shown}");
    Policy::parse(&shown, PolicyKind::KeyPolicy).unwrap();
}
