//! What a denied caller reads, and what an explanation shows (spec 20, A.9).

use crate::table::World;

fn decide(lines: &[&str], ask: &str) -> iam::Decision {
    let mut world = World::default();
    lines.iter().for_each(|line| world.learn(line));
    world.ask(ask)
}

#[test]
fn messages() {
    let user = "User: arn:aws:iam::222222222222:user/bob is not authorized to perform: kms:Decrypt";
    let key = "arn:aws:kms:us-east-1:111111111111:key/k1";
    let said = |lines: &[&str], ask: &str| decide(lines, ask).message();
    assert_eq!(
        said(&["key-policy k1 allow 222 kms:*"], "ask 222/bob kms:Decrypt k1").unwrap(),
        format!(
            "{user} on resource: {key} because no identity-based policy allows the kms:Decrypt action"
        )
    );
    assert_eq!(
        said(&["key-policy k1 allow 111 kms:*"], "ask 222/bob kms:Decrypt k1").unwrap(),
        format!(
            "{user} on resource: {key} because no resource-based policy allows the kms:Decrypt action"
        )
    );
    assert_eq!(
        said(
            &["identity 222/bob allow *", "boundary 222/bob allow ec2:*"],
            "ask 222/bob kms:Decrypt *"
        )
        .unwrap(),
        format!("{user} because no permissions boundary allows the kms:Decrypt action")
    );
    assert_eq!(
        said(&["identity 222/bob deny *"], "ask 222/bob kms:Decrypt *").unwrap(),
        format!("{user} with an explicit deny in an identity-based policy")
    );
    assert_eq!(
        said(&["boundary 222/bob deny *"], "ask 222/bob kms:Decrypt *").unwrap(),
        format!("{user} with an explicit deny in a permissions boundary")
    );
    assert_eq!(said(&["identity 222/bob allow *"], "ask 222/bob kms:Decrypt *"), None);
    let session = "User: arn:aws:sts::222222222222:assumed-role/r/s is not authorized to perform: kms:Decrypt";
    assert_eq!(
        said(
            &["identity 222/role:r/s allow *", "session 222/role:r/s allow ec2:*"],
            "ask 222/role:r/s kms:Decrypt *"
        )
        .unwrap(),
        format!("{session} because no session policy allows the kms:Decrypt action")
    );
}

#[test]
fn a_trace_says_why_each_statement_missed() {
    let decision = decide(
        &[
            "key-policy k1 allow 333 kms:*",
            "key-policy k1 allow 111 kms:Encrypt",
            "key-policy k1 allow 111 kms:Decrypt on arn:aws:kms:us-east-1:111111111111:key/k2",
            "key-policy k1 allow 111 kms:Decrypt if StringEquals kms:ViaService=ec2.us-east-1.amazonaws.com and Bool t:b=true",
            "key-policy k1 allow 111 -",
        ],
        "ask 111/bob kms:Decrypt k1 ctx kms:ViaService=s3.us-east-1.amazonaws.com",
    );
    let trace = serde_json::to_value(&decision.trace.policies[0].statements).unwrap();
    let outcomes: Vec<_> =
        trace.as_array().unwrap().iter().map(|s| s["outcome"]["Misses"].clone()).collect();
    assert_eq!(
        serde_json::Value::Array(outcomes),
        serde_json::json!([
            { "Principal": { "wanted": ["arn:aws:iam::333333333333:root"], "found": "arn:aws:iam::111111111111:user/bob" } },
            { "Action": { "wanted": ["kms:Encrypt"], "found": "kms:Decrypt" } },
            { "Resource": { "wanted": ["arn:aws:kms:us-east-1:111111111111:key/k2"], "found": "arn:aws:kms:us-east-1:111111111111:key/k1" } },
            { "Condition": { "operator": "Bool", "key": "t:b", "wanted": ["true"], "found": null } },
            { "Inert": { "missing": "Action" } },
        ])
    );
}
