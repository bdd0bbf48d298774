//! What is a policy and what is not (spec 20, A.4 to A.6 and B.4).

use iam::{Policy, PolicyError, PolicyKind};

const IDENTITY: PolicyKind = PolicyKind::Identity;
const KEY: PolicyKind = PolicyKind::KeyPolicy;
const TRUST: PolicyKind = PolicyKind::Trust;
const SESSION: PolicyKind = PolicyKind::Session;

#[track_caller]
fn accepted(kind: PolicyKind, statement: &str) {
    let text = format!(r#"{{"Version":"2012-10-17","Statement":[{statement}]}}"#);
    if let Err(e) = Policy::parse(&text, kind) {
        panic!("{e}\n{text}");
    }
}

/// The policy is refused, and the message has this text.
#[track_caller]
fn refused(kind: PolicyKind, statement: &str, message: &str) {
    document_refused(
        kind,
        &format!(r#"{{"Version":"2012-10-17","Statement":[{statement}]}}"#),
        message,
    );
}

#[track_caller]
fn document_refused(kind: PolicyKind, text: &str, message: &str) {
    let error = Policy::parse(text, kind).expect_err(text).to_string();
    assert!(error.contains(message), "{error}");
}

#[test]
fn documents() {
    let statement = r#"{"Effect":"Allow","Action":"*","Resource":"*"}"#;
    for text in [
        format!(r#"{{"Statement":{statement}}}"#),
        format!(r#"{{"Version":"2008-10-17","Id":"x","Statement":[{statement}]}}"#),
        format!(r#"{{"Version":"2012-10-17","Statement":[{statement},{statement}]}}"#),
    ] {
        Policy::parse(&text, IDENTITY).unwrap();
    }
    document_refused(IDENTITY, "", "syntax error");
    document_refused(IDENTITY, "[]", "expected an object, found an array at the document");
    document_refused(IDENTITY, "{}", "Missing required field Statement");
    document_refused(IDENTITY, r#"{"Statement":[]}"#, "at least one statement at Statement");
    document_refused(
        IDENTITY,
        r#"{"Statement":"x"}"#,
        "expected an object, found a string at Statement",
    );
    document_refused(
        IDENTITY,
        &format!(r#"{{"Version":"2012-10-18","Statement":{statement}}}"#),
        "at Version",
    );
    document_refused(
        IDENTITY,
        &format!(r#"{{"Version":1,"Statement":{statement}}}"#),
        "found a number",
    );
    document_refused(
        IDENTITY,
        &format!(r#"{{"statement":{statement}}}"#),
        "no element 'statement'",
    );
    document_refused(
        IDENTITY,
        &format!(r#"{{"Statement":{statement},"Statement":{statement}}}"#),
        "duplicate key 'Statement'",
    );
    let long = format!(r#"{{"Statement":{statement}}}{}"#, " ".repeat(iam::POLICY_BYTES_MAX));
    document_refused(IDENTITY, &long, "the limit is 131072");
    let long =
        format!(r#"{{"Id":"{}","Statement":{statement}}}"#, "x".repeat(iam::TEXT_BYTES_MAX + 1));
    document_refused(IDENTITY, &long, "at Id");
}

#[test]
fn sids() {
    let with =
        |sid: &str| format!(r#"{{"Sid":"{sid}","Effect":"Allow","Action":"*","Resource":"*"}}"#);
    accepted(IDENTITY, &with("Abc123"));
    accepted(IDENTITY, &with(""));
    accepted(IDENTITY, &format!("{},{}", with(""), with("")));
    refused(IDENTITY, &with("a b"), "at Statement[0].Sid");
    refused(IDENTITY, &with("a-b"), "alpha-numeric");
    refused(
        IDENTITY,
        &format!("{},{}", with("a"), with("a")),
        "must be unique: 'a' at Statement[1]",
    );
    accepted(IDENTITY, &format!("{},{}", with("a"), with("A")));
    let key = |sid: &str| {
        format!(r#"{{"Sid":"{sid}","Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}}"#)
    };
    for sid in [
        "Enable IAM User Permissions",
        "Allow_CloudWatch_for_CMK",
        "auto-ebs.v1: EC2 (all accounts)",
        "Größe",
    ] {
        accepted(KEY, &key(sid));
        refused(IDENTITY, &with(sid), "alpha-numeric");
    }
    refused(KEY, &key("\\u4e2d"), "of Latin characters");
    refused(KEY, &key("a\\u0000"), "of Latin characters");
    let twice = format!("{},{}", key("a_b"), key("a_b"));
    refused(KEY, &twice, "must be unique: 'a_b' at Statement[1]");
}

#[test]
fn effects_and_pairs() {
    refused(IDENTITY, r#"{"Action":"*","Resource":"*"}"#, "Missing required field Effect");
    refused(
        IDENTITY,
        r#"{"Effect":"allow","Action":"*","Resource":"*"}"#,
        "neither Allow nor Deny at Statement[0].Effect",
    );
    refused(IDENTITY, r#"{"Effect":"Allow","Resource":"*"}"#, "must contain actions");
    refused(IDENTITY, r#"{"Effect":"Allow","Action":[],"Resource":"*"}"#, "must contain actions");
    refused(IDENTITY, r#"{"Effect":"Allow","Action":"*"}"#, "must contain resources");
    refused(IDENTITY, r#"{"Effect":"Allow","Action":"*","Resource":[]}"#, "must contain resources");
    refused(
        IDENTITY,
        r#"{"Effect":"Allow","Action":"*","NotAction":"*","Resource":"*"}"#,
        "either Action or NotAction",
    );
    refused(
        IDENTITY,
        r#"{"Effect":"Allow","Action":"*","Resource":"*","NotResource":"*"}"#,
        "either Resource or NotResource",
    );
    refused(
        IDENTITY,
        r#"{"Effect":"Allow","Action":"*","Resource":"*","Resources":"*"}"#,
        "no element 'Resources'",
    );
    accepted(IDENTITY, r#"{"Effect":"Allow","NotAction":"s3:*","NotResource":"arn:aws:s3:::a"}"#);
}

#[test]
fn actions_and_resources() {
    let action =
        |a: &str| format!(r#"{{"Effect":"Allow","Action":["ec2:X","{a}"],"Resource":"*"}}"#);
    for good in ["*", "ec2:*", "ec2:*Volume?", "EC2:x", "resource-groups:*"] {
        accepted(IDENTITY, &action(good));
    }
    for bad in ["", "ec2", "**", "*:*", "e*:x", "ec2:", ":x"] {
        refused(IDENTITY, &action(bad), "at Statement[0].Action[1]");
    }
    let resource = |r: &str| format!(r#"{{"Effect":"Allow","Action":"*","Resource":"{r}"}}"#);
    for good in [
        "*",
        "arn:aws:ec2:*:*:volume/*",
        "arn:aws:s3:::b/*",
        "arn:aws:ec2:*",
        "arn:*:ec2:*:*:*",
        "arn:aws:ec2:us-east-1::snapshot/${aws:username}",
    ] {
        accepted(IDENTITY, &resource(good));
    }
    for bad in [
        "",
        "vol-1",
        "ARN:aws:ec2:::x",
        "arn:aws:ec2:us-east-1",
        "**",
        "arn:aws:e*:::x",
        "arn:aws:*:::x",
        "arn:*",
        "arn:aws:ec2:::${aws:username",
    ] {
        refused(IDENTITY, &resource(bad), "at Statement[0].Resource");
    }
}

#[test]
fn principals_stand_where_they_belong() {
    refused(
        IDENTITY,
        r#"{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}"#,
        "should not specify a principal",
    );
    refused(
        SESSION,
        r#"{"Effect":"Deny","NotPrincipal":"*","Action":"*","Resource":"*"}"#,
        "should not specify a principal",
    );
    refused(
        KEY,
        r#"{"Effect":"Allow","Action":"*","Resource":"*"}"#,
        "Missing required field Principal",
    );
    refused(
        TRUST,
        r#"{"Effect":"Allow","Action":"sts:AssumeRole"}"#,
        "Missing required field Principal",
    );
    refused(
        TRUST,
        r#"{"Effect":"Allow","Principal":"*","Action":"sts:AssumeRole","Resource":"*"}"#,
        "prohibited field Resource",
    );
    accepted(
        TRUST,
        r#"{"Effect":"Allow","Principal":{"Service":["ec2.amazonaws.com"]},"Action":"sts:AssumeRole"}"#,
    );
    refused(
        KEY,
        r#"{"Effect":"Allow","NotPrincipal":"*","Action":"*","Resource":"*"}"#,
        "only allowed with the effect Deny",
    );
    accepted(
        KEY,
        r#"{"Effect":"Deny","NotPrincipal":{"AWS":"111111111111"},"Action":"*","Resource":"*"}"#,
    );
    refused(
        KEY,
        r#"{"Effect":"Deny","Principal":"*","NotPrincipal":"*","Action":"*","Resource":"*"}"#,
        "not both",
    );
}

#[test]
fn forms_of_principals() {
    let with =
        |p: &str| format!(r#"{{"Effect":"Allow","Principal":{p},"Action":"*","Resource":"*"}}"#);
    for good in [
        r#""*""#,
        r#"{"AWS":"*"}"#,
        r#"{"AWS":["111111111111","arn:aws:iam::111111111111:root"]}"#,
        r#"{"AWS":"arn:aws:iam::111111111111:user/a/b/c"}"#,
        r#"{"AWS":"arn:aws:iam::111111111111:role/aws:ec2-infrastructure"}"#,
        r#"{"AWS":"arn:aws:sts::111111111111:assumed-role/R/S"}"#,
        r#"{"AWS":"arn:aws:sts::111111111111:federated-user/N"}"#,
        r#"{"AWS":"AIDAABCDEFGHIJKLMNOPQ"}"#,
        r#"{"Service":"ec2.us-east-1.amazonaws.com","Federated":"cognito-identity.amazonaws.com"}"#,
    ] {
        accepted(KEY, &with(good));
    }
    for bad in [
        r#""arn:aws:iam::111111111111:root""#,
        r#"{"AWS":"arn:aws:iam::111111111111:user/*"}"#,
        r#"{"AWS":"arn:aws:iam::*:root"}"#,
        r#"{"AWS":"11111111111"}"#,
        r#"{"AWS":"arn:aws:iam::111111111111:group/g"}"#,
        r#"{"AWS":"arn:aws:iam::111111111111:user/"}"#,
        r#"{"AWS":"arn:aws:iam::111111111111:root/x"}"#,
        r#"{"AWS":"arn:aws:iam:us-east-1:111111111111:user/a"}"#,
        r#"{"AWS":"arn:aws:sts::111111111111:assumed-role/R"}"#,
        r#"{"AWS":"bob"}"#,
        r#"{"Service":"*"}"#,
        r#"{"Service":"ec2"}"#,
        r#"{"CanonicalUser":"79a59df900b949e55d96a1e698fbacedfd6e09d98eacf8f8d5218e7cd47ef2be"}"#,
    ] {
        refused(KEY, &with(bad), "Invalid principal in policy");
    }
    refused(KEY, &with("{}"), "Missing required field Principal");
    refused(KEY, &with(r#"{"AWS":[]}"#), "Missing required field Principal");
    refused(KEY, &with(r#"{"AWS":1}"#), "expected a string");
}

#[test]
fn what_kms_accepts_and_what_it_refuses_on_save() {
    accepted(KEY, r#"{"Effect":"Allow","Principal":"*"}"#);
    accepted(KEY, r#"{"Effect":"Allow","Principal":"*","Action":"nonsense","Resource":"*"}"#);
    let with = |operator: &str, key: &str| {
        format!(
            r#"{{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*","Condition":{{"{operator}":{{"{key}":"x"}}}}}}"#
        )
    };
    for key in ["kms:EncryptionContext:aws:ebs:id", "KMS:encryptionContext:x", "aws:RequestTag/a"] {
        for operator in ["ForAllValues:StringEquals", "ForAllValues:StringNotLikeIfExists"] {
            let text = format!(r#"{{"Statement":[{}]}}"#, with(operator, key));
            let error = Policy::parse(&text, KEY).expect_err("too permissive");
            assert!(matches!(error, PolicyError::OverlyPermissiveCondition { .. }), "{error}");
        }
        accepted(KEY, &with("ForAnyValue:StringEquals", key));
        accepted(KEY, &with("StringEquals", key));
    }
    accepted(KEY, &with("ForAllValues:StringEquals", "kms:EncryptionContextKeys"));
}

#[test]
fn conditions() {
    let with = |condition: &str| {
        format!(r#"{{"Effect":"Allow","Action":"*","Resource":"*","Condition":{condition}}}"#)
    };
    for good in [
        "{}",
        r#"{"Bool":{"aws:SecureTransport":true}}"#,
        r#"{"NumericLessThan":{"ec2:VolumeSize":[100,"200",1.5]}}"#,
        r#"{"StringEquals":{"aws:RequestTag/a b":["x","y"]},"Null":{"aws:TagKeys":"false"}}"#,
    ] {
        accepted(IDENTITY, &with(good));
    }
    for (bad, at) in [
        (r#""x""#, "at Statement[0].Condition"),
        (r#"{"StringIs":{"a:b":"c"}}"#, "there is no condition operator 'StringIs'"),
        (r#"{"StringEquals":"x"}"#, "at Statement[0].Condition.StringEquals"),
        (r#"{"StringEquals":{"b":"c"}}"#, "prefaced by a vendor"),
        (r#"{"StringEquals":{"a:b":{}}}"#, "at Statement[0].Condition.StringEquals.a:b"),
        (
            r#"{"StringEquals":{"a:b":[null]}}"#,
            "found null at Statement[0].Condition.StringEquals.a:b[0]",
        ),
        (r#"{"StringEquals":{"a:b":"1","a:b":"2"}}"#, "duplicate key 'a:b'"),
        (r#"{"StringEquals":{"a:b":"${x"}}"#, "not closed"),
    ] {
        refused(IDENTITY, &with(bad), at);
    }
    // Malformed literals: refused where stored, tolerated in session policies.
    for (operator, literal) in [
        ("IpAddress", "10.0.0.0/64"),
        ("NumericEquals", "ten"),
        ("DateLessThan", "soon"),
        ("ArnLike", "role/dev"),
        ("Bool", "yes"),
        ("BinaryEquals", "%%"),
    ] {
        let statement = with(&format!(r#"{{"{operator}":{{"a:b":"{literal}"}}}}"#));
        refused(IDENTITY, &statement, &format!("'{literal}' is not"));
        accepted(SESSION, &statement);
    }
}

#[test]
fn warnings_name_what_is_rarely_meant() {
    let text = r#"{"Statement":[
        {"Effect":"Deny","NotPrincipal":{"AWS":"111111111111"},"Action":"*","Resource":"*"},
        {"Effect":"Allow","Principal":"*","Action":"*"}]}"#;
    let warnings = Policy::parse(text, KEY).unwrap().warnings();
    assert_eq!(warnings.len(), 2);
    assert!(warnings[0].contains("Statement[0].NotPrincipal"));
    assert!(warnings[1].contains("Statement[1]"));
}

proptest::proptest! {
    /// Whatever the bytes, the parser answers; and what it accepts it accepts again.
    #[test]
    fn no_text_breaks_the_parser(text in r#"[\[\]{}:,"a-zA-Z*$0-9 ]{0,80}"#) {
        for kind in [IDENTITY, KEY, TRUST, SESSION] {
            let first = Policy::parse(&text, kind);
            proptest::prop_assert_eq!(&first, &Policy::parse(&text, kind));
        }
    }
}
