use super::*;
use serde_json::{Value, json};

fn found(kind: PolicyKind, boundary: Boundary, statements: &Value) -> Vec<&'static str> {
    let text = json!({ "Version": "2012-10-17", "Statement": statements }).to_string();
    let policy = Policy::parse(&text, kind).unwrap_or_else(|error| panic!("{error}: {text}"));
    let account = AccountId::parse("111111111111").unwrap();
    let purpose = Purpose { boundary, account: Some(&account) };
    lint(&policy, &purpose).into_iter().map(|warning| warning.trap.name()).collect()
}

fn identity(statements: Value) -> Vec<&'static str> {
    found(PolicyKind::Identity, Boundary::No, &statements)
}

fn key(mut statements: Vec<Value>) -> Vec<&'static str> {
    statements.push(json!({
        "Effect": "Allow", "Principal": { "AWS": "111111111111" }, "Action": "kms:*", "Resource": "*",
    }));
    found(PolicyKind::KeyPolicy, Boundary::No, &json!(statements))
}

fn statement(effect: &str, action: Value, condition: Value) -> Value {
    json!({ "Effect": effect, "Action": action, "Resource": "*", "Condition": condition })
}

#[test]
fn keys_that_the_action_does_not_carry() {
    let grants = json!({ "Bool": { "kms:GrantIsForAWSResource": "true" } });
    // The policy of the guide's page for the EBS direct APIs (spec 21, 4).
    let all = json!(["kms:Encrypt", "kms:Decrypt", "kms:GenerateDataKey*", "kms:CreateGrant"]);
    assert_eq!(identity(statement("Allow", all, grants.clone())), ["key-not-carried"]);
    let none: [&str; 0] = [];
    assert_eq!(identity(statement("Allow", json!("kms:CreateGrant"), grants.clone())), none);
    // Absence is what a Deny with the positive form lets pass, and the negated form does not.
    assert_eq!(identity(statement("Deny", json!("kms:*"), grants)), none);
    let other = json!({ "StringNotEquals": { "kms:EncryptionContext:aws:ebs:id": "vol-1" } });
    assert_eq!(identity(statement("Deny", json!("kms:*"), other.clone())), ["key-not-carried"]);
    assert_eq!(identity(statement("Deny", json!("kms:Decrypt"), other)), none);
    let if_exists = json!({ "StringEqualsIfExists": { "kms:EncryptionContext:a": "b" } });
    assert_eq!(identity(statement("Allow", json!("kms:*"), if_exists)), none);
}

#[test]
fn each_key_is_carried_by_its_own_actions() {
    let none: [&str; 0] = [];
    for (key, carries, lacks) in [
        ("kms:RequestAlias", "kms:GetPublicKey", "kms:DisableKey"),
        ("kms:SigningAlgorithm", "kms:Verify", "kms:Decrypt"),
        ("kms:WrappingAlgorithm", "kms:GetParametersForImport", "kms:ImportKeyMaterial"),
        ("kms:ExpirationModel", "kms:ImportKeyMaterial", "kms:GetParametersForImport"),
        ("kms:ReplicaRegion", "kms:ReplicateKey", "kms:CreateKey"),
        ("kms:EncryptionContext:a", "kms:RetireGrant", "kms:Sign"),
        ("kms:RecipientAttestation:PCR0", "kms:GenerateRandom", "kms:Encrypt"),
        ("aws:RequestTag/a", "kms:TagResource", "kms:DescribeKey"),
        ("ec2:Encrypted", "ec2:CreateVolume", "kms:Decrypt"),
        ("ebs:VolumeSize", "ebs:StartSnapshot", "kms:Decrypt"),
    ] {
        let condition = json!({ "StringLike": { key: "*" } });
        assert_eq!(identity(statement("Allow", json!(carries), condition.clone())), none, "{key}");
        let lacking = identity(statement("Allow", json!(lacks), condition));
        assert_eq!(lacking, ["key-not-carried"], "{key}");
    }
    for key in ["kms:ViaService", "kms:KeySpec", "kms:MultiRegion", "aws:ResourceTag/a"] {
        let condition = json!({ "StringLike": { key: "*" } });
        assert_eq!(identity(statement("Allow", json!("kms:*"), condition)), none, "{key}");
    }
    // Everything under a key of EC2 means EC2.
    let encrypted = json!({ "Bool": { "ec2:Encrypted": "true" } });
    assert_eq!(identity(statement("Allow", json!("*"), encrypted)), none);
    // What applies only to requests with the tag denies no others.
    let unless = json!({ "StringNotEquals": { "aws:RequestTag/a": "b" } });
    assert_eq!(identity(statement("Deny", json!("kms:*"), unless)), ["key-not-carried"]);
    let guarded = json!({ "StringNotEquals": { "aws:RequestTag/a": "b" },
                          "Null": { "aws:RequestTag/a": "false" } });
    assert_eq!(identity(statement("Deny", json!("kms:*"), guarded)), none);
    let aliases = json!({ "ForAnyValue:StringEquals": { "kms:ResourceAliases": "alias/a" } });
    let allow = statement("Allow", json!("kms:Decrypt"), aliases);
    assert_eq!(identity(allow.clone()), none);
    let mut of_key = allow;
    of_key["Principal"] = json!({ "AWS": "111111111111" });
    assert_eq!(key(vec![of_key]), ["key-not-carried"]);
}

#[test]
fn principals_that_match_nobody() {
    let session = "arn:aws:sts::111111111111:assumed-role/r/s";
    let condition = json!({ "ArnEquals": { "aws:PrincipalArn": session } });
    let of = statement("Allow", json!("kms:Decrypt"), condition);
    assert_eq!(identity(of), ["principal-never-matches"]);
    let role = "arn:aws:iam::111111111111:role/r";
    let deny = |listed: Value| {
        json!({ "Effect": "Deny", "NotPrincipal": { "AWS": listed }, "Action": "kms:Decrypt",
                "Resource": "*" })
    };
    assert_eq!(key(vec![deny(json!(role))]), ["principal-never-matches"]);
    let none: [&str; 0] = [];
    assert_eq!(key(vec![deny(json!([role, session, "111111111111"]))]), none);
    // What a policy shows of a user that was deleted since.
    let deleted = json!({ "Effect": "Allow", "Principal": { "AWS": "AIDAGDNMGUUHHTZFRYOLA" },
        "Action": "kms:Decrypt", "Resource": "*" });
    assert_eq!(key(vec![deleted]), ["principal-never-matches"]);
}

#[test]
fn for_all_values_is_true_of_nothing() {
    let tags = json!({ "ForAllValues:StringEquals": { "aws:TagKeys": ["a"] } });
    let of = statement("Allow", json!("ec2:CreateTags"), tags);
    assert_eq!(identity(of), ["for-all-values-without-key"]);
    let none: [&str; 0] = [];
    let guarded = json!({ "ForAllValues:StringEquals": { "aws:TagKeys": ["a"] },
                          "Null": { "aws:TagKeys": "false" } });
    assert_eq!(identity(statement("Allow", json!("ec2:CreateTags"), guarded)), none);
    let operations = json!({ "ForAllValues:StringEquals": { "kms:GrantOperations": ["Decrypt"] } });
    assert_eq!(identity(statement("Allow", json!("kms:CreateGrant"), operations)), none);
}

#[test]
fn denies_that_stop_services() {
    let none: [&str; 0] = [];
    // A forwarded call keeps the address of the caller, and loses its network (spec 20, A.7).
    let outside = json!({ "NotIpAddress": { "aws:SourceIp": "192.0.2.0/24" } });
    assert_eq!(identity(statement("Deny", json!("*"), outside.clone())), none);
    for elsewhere in [
        json!({ "StringNotEquals": { "aws:SourceVpc": "vpc-1" } }),
        json!({ "StringNotEquals": { "aws:sourceVpce": "vpce-1" } }),
        json!({ "NotIpAddress": { "aws:VpcSourceIp": "10.0.0.0/8" } }),
        json!({ "NotIpAddress": { "aws:SourceIp": "192.0.2.0/24" },
                "StringNotEquals": { "aws:SourceVpc": "vpc-1" } }),
    ] {
        let of = statement("Deny", json!("*"), elsewhere.clone());
        assert_eq!(identity(of), ["network-deny-stops-services"], "{elsewhere}");
        assert_eq!(identity(statement("Deny", json!("s3:*"), elsewhere.clone())), none);
        let mut spared = elsewhere;
        spared["Bool"] = json!({ "aws:ViaAWSService": "false" });
        assert_eq!(identity(statement("Deny", json!("*"), spared)), none);
    }
    let of_key = |condition: Value| {
        let mut statement = statement("Deny", json!("kms:*"), condition);
        statement["Principal"] = json!("*");
        key(vec![statement])
    };
    // What EC2 does on a grant is no forwarded call, and comes from nowhere.
    let mut spared = outside.clone();
    spared["Bool"] = json!({ "aws:ViaAWSService": "false" });
    assert_eq!(of_key(spared), ["network-deny-stops-services"]);
    let mut spared = outside;
    spared["Bool"] = json!({ "aws:PrincipalIsAWSService": "false" });
    assert_eq!(of_key(spared), none);
    let but = |arns: Value| json!({ "ArnNotLike": { "aws:PrincipalArn": arns } });
    let admin = "arn:aws:iam::111111111111:role/admin";
    assert_eq!(of_key(but(json!([admin]))), ["deny-stops-service-roles"]);
    let listed = json!([
        admin,
        "arn:aws:iam::*:role/aws:ec2-infrastructure",
        "arn:aws:iam::*:role/aws-service-role/*"
    ]);
    assert_eq!(of_key(but(listed)), none);
}

#[test]
fn whole_policies() {
    let allow = |who: &str, action: &str| json!([{ "Effect": "Allow", "Principal": { "AWS": who }, "Action": action, "Resource": "*" }]);
    let of =
        |who: &str, action: &str| found(PolicyKind::KeyPolicy, Boundary::No, &allow(who, action));
    let none: [&str; 0] = [];
    assert_eq!(of("111111111111", "kms:*"), none);
    assert_eq!(of("arn:aws:iam::111111111111:user/a", "kms:*"), ["delegation-missing"]);
    assert_eq!(of("222222222222", "kms:*"), ["delegation-missing", "lockout"]);
    assert_eq!(of("111111111111", "kms:Decrypt"), ["lockout"]);
    let boundary = |action: Value| {
        let statements = json!([{ "Effect": "Allow", "Action": action, "Resource": "*" }]);
        found(PolicyKind::Identity, Boundary::Yes, &statements)
    };
    assert_eq!(boundary(json!("ec2:*")), ["boundary-forgets-kms"]);
    assert_eq!(boundary(json!(["ec2:*", "kms:*"])), none);
    assert_eq!(boundary(json!("s3:*")), none);
}
