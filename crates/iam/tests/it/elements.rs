//! Action, Resource and their complements (spec 20, A.5).

use crate::table::check;

#[test]
fn actions() {
    check(
        "
        identity 222/a allow EC2:createVOLUME,kms:Gen*Key?,sqs:*
        ask 222/a ec2:CreateVolume *      -> allow
        ask 222/a kms:GenerateDataKeyX *  -> allow
        ask 222/a kms:GenerateDataKey *   -> deny: no identity
        ask 222/a sqs:Anything *          -> allow
        ask 222/a sqsx:Anything *         -> deny: no identity
        identity 222/b allow *
        ask 222/b iam:CreateUser *        -> allow
        identity 222/c allow !iam:*,kms:Decrypt
        ask 222/c iam:CreateUser *        -> deny: no identity
        ask 222/c kms:Decrypt *           -> deny: no identity
        ask 222/c kms:Encrypt *           -> allow
        identity 222/d allow *
        identity 222/d deny !ec2:*
        ask 222/d ec2:X *                 -> allow
        ask 222/d kms:X *                 -> deny: explicit identity[1]
    ",
    );
}

#[test]
fn an_action_outside_kms_or_unknown_is_inert_in_a_key_policy() {
    check(
        "
        key-policy k1 allow 111/bob ec2:*,kms:NoSuchThing,nonsense
        ask 111/bob kms:Decrypt k1 -> deny: no resource
        key-policy k2 allow 111/bob -
        ask 111/bob kms:Decrypt k2 -> deny: no resource
        key-policy k3 allow 111/bob kms:* on -
        ask 111/bob kms:Decrypt k3 -> deny: no resource
        key-policy k4 allow 111/bob kms:* on arn:aws:kms:us-east-1:111111111111:key/other
        ask 111/bob kms:Decrypt k4 -> deny: no resource
    ",
    );
}

#[test]
fn resources() {
    check("
        identity 222/a allow ec2:* on arn:aws:ec2:*:222222222222:volume/*,arn:aws:ec2:us-east-1::snapshot/snap-?
        ask 222/a ec2:X arn:aws:ec2:us-east-1:222222222222:volume/vol-1 -> allow
        ask 222/a ec2:X arn:aws:ec2:us-east-1:222222222222:volume/a/b:c -> allow
        ask 222/a ec2:X arn:aws:ec2:us-east-1:222222222222:Volume/vol-1 -> deny
        ask 222/a ec2:X arn:aws:ec2:us-east-1:333333333333:volume/vol-1 -> deny
        ask 222/a ec2:X arn:aws:ec2:us-east-1::snapshot/snap-1          -> allow
        ask 222/a ec2:X arn:aws:ec2:us-east-1::snapshot/snap-12         -> deny
        ask 222/a ec2:X arn:aws:ec2:us-east-1:222222222222:snapshot/snap-1 -> deny
        ask 222/a ec2:X * -> deny

        // A wildcard stays inside its component, so this covers no account.
        identity 222/b allow ec2:* on arn:aws:ec2:us*volume/*
        ask 222/b ec2:X arn:aws:ec2:us-east-1:222222222222:volume/vol-1 -> deny
        identity 222/c allow ec2:* on arn:aws:ec2:*
        ask 222/c ec2:X arn:aws:ec2:us-east-1:222222222222:volume/vol-1 -> allow
        identity 222/d allow ec2:* on !arn:aws:ec2:*:*:volume/prod-*
        ask 222/d ec2:X arn:aws:ec2:us-east-1:222222222222:volume/prod-1 -> deny
        ask 222/d ec2:X arn:aws:ec2:us-east-1:222222222222:volume/test-1 -> allow
        ask 222/d ec2:X * -> allow
        identity 222/e allow ec2:* on arn:*:ec2:*:*:*
        ask 222/e ec2:X arn:aws:ec2:us-east-1::snapshot/snap-1 -> allow
    ");
}

#[test]
fn variables_in_resources() {
    check("
        tag 222/bob team=red
        tag 222/star team=*
        identity 222/bob allow ec2:* on arn:aws:ec2:*:*:volume/${aws:PrincipalTag/team}-*
        ask 222/bob ec2:X arn:aws:ec2:us-east-1:222222222222:volume/red-1  -> allow
        ask 222/bob ec2:X arn:aws:ec2:us-east-1:222222222222:volume/blue-1 -> deny
        // What is put in is literal.
        identity 222/star allow ec2:* on arn:aws:ec2:*:*:volume/${aws:PrincipalTag/team}-*
        ask 222/star ec2:X arn:aws:ec2:us-east-1:222222222222:volume/red-1 -> deny
        ask 222/star ec2:X arn:aws:ec2:us-east-1:222222222222:volume/*-1   -> allow
        // Unresolved: the element does not match; a default helps.
        identity 222/none allow ec2:A on arn:aws:ec2:*:*:volume/${aws:PrincipalTag/team}-*
        identity 222/none allow ec2:B on \"arn:aws:ec2:*:*:volume/${aws:PrincipalTag/team, 'any'}-*\"
        identity 222/none allow ec2:C on !arn:aws:ec2:*:*:volume/${aws:PrincipalTag/team}
        ask 222/none ec2:A arn:aws:ec2:us-east-1:222222222222:volume/red-1 -> deny
        ask 222/none ec2:B arn:aws:ec2:us-east-1:222222222222:volume/any-1 -> allow
        ask 222/none ec2:C arn:aws:ec2:us-east-1:222222222222:volume/red-1 -> deny
        // Escapes, and variables before the fifth colon, are literal text.
        identity 222/esc allow ec2:* on arn:aws:ec2:*:*:volume/${*}${?}${$},arn:aws:ec2:*:${aws:PrincipalAccount}:volume/x
        ask 222/esc ec2:X arn:aws:ec2:us-east-1:222222222222:volume/*?$ -> allow
        ask 222/esc ec2:X arn:aws:ec2:us-east-1:222222222222:volume/abc -> deny
        ask 222/esc ec2:X arn:aws:ec2:us-east-1:222222222222:volume/x   -> deny
        // Multivalued keys never expand, not even to a default.
        identity 222/mul allow ec2:* on \"arn:aws:ec2:*:*:volume/${aws:TagKeys, 'x'}\"
        ask 222/mul ec2:X arn:aws:ec2:us-east-1:222222222222:volume/x ctx aws:TagKeys=[x] -> deny
        ask 222/mul ec2:X arn:aws:ec2:us-east-1:222222222222:volume/x -> deny
        // In the old version a variable is literal text.
        identity-2008 222/old allow ec2:* on arn:aws:ec2:*:*:volume/${aws:username}
        ask 222/old ec2:X arn:aws:ec2:us-east-1:222222222222:volume/old -> deny
        ask 222/old ec2:X arn:aws:ec2:us-east-1:222222222222:volume/${aws:username} -> allow
    ");
}
