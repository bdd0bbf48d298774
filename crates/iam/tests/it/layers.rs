//! Which layers have to agree (spec 20, A.2, A.3, B.6).

use crate::table::check;

#[test]
fn identity_policies_alone() {
    check("
        identity 222/bob allow ec2:CreateVolume
        ask 222/bob ec2:CreateVolume arn:aws:ec2:us-east-1:222222222222:volume/* -> allow: identity[0]
        ask 222/bob ec2:DeleteVolume arn:aws:ec2:us-east-1:222222222222:volume/v -> deny: no identity
        ask 222/eve ec2:CreateVolume arn:aws:ec2:us-east-1:222222222222:volume/* -> deny: no identity
        ask 222/root ec2:DeleteVolume arn:aws:ec2:us-east-1:222222222222:volume/v -> allow: root
    ");
}

#[test]
fn an_explicit_deny_in_any_layer_wins() {
    check(
        "
        identity 222/a allow *
        identity 222/a deny ec2:DeleteVolume
        ask 222/a ec2:DeleteVolume * -> deny: explicit identity[1]
        ask 222/a ec2:CreateVolume * -> allow

        identity 222/b allow *
        boundary 222/b allow *
        boundary 222/b deny ec2:*
        ask 222/b ec2:DeleteVolume * -> deny: explicit boundary[1]

        identity 222/role:r/s allow *
        session  222/role:r/s allow *
        session  222/role:r/s deny ec2:*
        ask 222/role:r/s ec2:DeleteVolume * -> deny: explicit session[1]

        key-policy k1 allow 111 kms:*
        key-policy k1 deny * kms:Decrypt
        identity 111/c allow kms:*
        ask 111/c    kms:Decrypt k1 -> deny: explicit resource[1]
        ask 111/root kms:Decrypt k1 -> deny: explicit resource[1]
        ask 111/c    kms:Encrypt k1 -> allow
    ",
    );
}

#[test]
fn boundary_and_session_policies_limit_and_never_give() {
    check(
        "
        identity 222/bob allow ec2:*
        boundary 222/bob allow ec2:Create*,kms:*
        ask 222/bob ec2:CreateVolume * -> allow
        ask 222/bob ec2:DeleteVolume * -> deny: no boundary
        ask 222/bob kms:CreateKey *    -> deny: no identity

        identity 222/role:r/s allow ec2:*
        boundary 222/role:r/s allow ec2:*
        session  222/role:r/s allow ec2:Create*,kms:*
        ask 222/role:r/s ec2:CreateVolume * -> allow
        ask 222/role:r/s ec2:DeleteVolume * -> deny: no session
        ask 222/role:r/s kms:CreateKey *    -> deny: no identity
        ask 222/role:r/t ec2:CreateVolume * -> deny: no identity
    ",
    );
}

#[test]
fn a_resource_policy_that_names_the_caller_stands_on_its_own_in_its_account() {
    check(
        "
        queue q1 allow 111/bob,111/role:r/s sqs:Send
        boundary 111/bob allow ec2:*
        session  111/role:r/s allow ec2:*
        ask 111/bob      sqs:Send q1 -> allow: resource[0]
        ask 111/role:r/s sqs:Send q1 -> allow: resource[0]
        ask 111/role:r/t sqs:Send q1 -> deny: no identity
        boundary 111/eve allow *
        identity 111/eve allow sqs:*
        ask 111/eve sqs:Send q1 -> allow: identity[0]

        queue q2 allow * sqs:Send
        ask 111/bob sqs:Send q2 -> allow: resource[0]
        boundary 111/d deny sqs:*
        ask 111/d sqs:Send q2 -> deny: explicit boundary[0]

        // Everyone, conditioned on the role, is still everyone.
        queue q3 allow * sqs:Send if ArnEquals aws:PrincipalArn=arn:aws:iam::111111111111:role/r
        ask 111/role:r/s sqs:Send q3 -> allow: resource[0]
        ask 111/role:x/s sqs:Send q3 -> deny: no identity
    ",
    );
}

#[test]
fn a_resource_policy_that_names_the_role_is_limited_by_boundary_and_session() {
    check(
        "
        queue q1 allow 111/role:r sqs:*
        ask 111/role:r/s sqs:Send q1 -> allow: resource[0]
        boundary 111/role:r/b allow ec2:*
        ask 111/role:r/b sqs:Send q1 -> deny: no boundary
        session  111/role:r/c allow sqs:Get
        ask 111/role:r/c sqs:Send q1 -> deny: no session
        ask 111/role:r/c sqs:Get  q1 -> allow
    ",
    );
}

#[test]
fn naming_the_account_only_delegates() {
    check(
        "
        queue q1 allow 111 sqs:*
        ask 111/bob  sqs:Send q1 -> deny: no identity
        ask 111/root sqs:Send q1 -> allow: root
        identity 111/amy allow sqs:Send
        ask 111/amy sqs:Send q1 -> allow: identity[0]
        queue q2 allow 111/root sqs:*
        ask 111/bob sqs:Send q2 -> deny: no identity
        ask 111/amy sqs:Send q2 -> allow
    ",
    );
}

#[test]
fn a_key_policy_is_mandatory() {
    check(
        "
        key-policy k1 allow 111/amy kms:*
        identity 111/bob allow kms:*
        ask 111/amy  kms:Decrypt k1 -> allow: resource[0]
        ask 111/bob  kms:Decrypt k1 -> deny: no resource
        ask 111/root kms:Decrypt k1 -> deny: no resource
        identity 111/amy deny kms:Encrypt
        ask 111/amy kms:Encrypt k1 -> deny: explicit identity[0]

        key-policy k2 allow 111/root kms:*
        ask 111/bob  kms:Decrypt k2 -> allow: identity[0]
        ask 111/root kms:Decrypt k2 -> allow: root
        ask 111/eve  kms:Decrypt k2 -> deny: no identity
        boundary 111/bob allow kms:Encrypt
        ask 111/bob  kms:Decrypt k2 -> deny: no boundary
        ask 111/bob  kms:Encrypt k2 -> allow
    ",
    );
}

#[test]
fn delegation_reaches_as_far_as_its_actions_and_conditions() {
    check("
        key-policy k1 allow 111 kms:Decrypt if StringEquals kms:ViaService=ec2.us-east-1.amazonaws.com
        identity 111/bob allow kms:*
        ask 111/bob kms:Decrypt k1 ctx kms:ViaService=ec2.us-east-1.amazonaws.com -> allow
        ask 111/bob kms:Decrypt k1 -> deny: no resource
        ask 111/bob kms:Encrypt k1 ctx kms:ViaService=ec2.us-east-1.amazonaws.com -> deny: no resource
    ");
}

#[test]
fn a_role_named_in_a_key_policy_needs_no_identity_policy() {
    check(
        "
        key-policy k1 allow 111/role:r kms:Decrypt
        ask 111/role:r/s kms:Decrypt k1 -> allow: resource[0]
        session 111/role:r/t allow ec2:*
        ask 111/role:r/t kms:Decrypt k1 -> deny: no session
    ",
    );
}

#[test]
fn across_accounts_both_sides_have_to_allow() {
    check(
        "
        key-policy k1 allow 111 kms:*
        key-policy k1 allow 222 kms:Decrypt,kms:CreateGrant
        identity   222/bob allow kms:*
        ask 222/bob kms:Decrypt k1 -> allow: identity[0]
        ask 222/bob kms:Encrypt k1 -> deny: no resource
        ask 333/eve kms:Decrypt k1 -> deny: no resource
        ask 222/amy kms:Decrypt k1 -> deny: no identity
        ask 222/root kms:Decrypt k1 -> allow: root
        ask 333/root kms:Decrypt k1 -> deny: no resource

        // Naming the foreign user or role does not spare it its own identity policy.
        key-policy k2 allow 222/amy,222/role:r,222/role:q/s kms:Decrypt
        ask 222/amy kms:Decrypt k2 -> deny: no identity
        ask 222/bob kms:Decrypt k2 -> deny: no resource
        ask 222/role:r/s kms:Decrypt k2 -> deny: no identity
        identity 222/role:r/t allow kms:Decrypt on arn:aws:kms:us-east-1:111111111111:key/k2
        ask 222/role:r/t kms:Decrypt k2 -> allow
        identity 222/role:q/s allow kms:Decrypt
        boundary 222/role:q/s allow ec2:*
        ask 222/role:q/s kms:Decrypt k2 -> deny: no boundary
        identity 222/zoe allow kms:* on arn:aws:kms:us-east-1:222222222222:key/*
        key-policy k3 allow * kms:Decrypt
        ask 222/zoe kms:Decrypt k3 -> deny: no identity
        identity 222/role:p/s allow *
        session  222/role:p/s allow ec2:*
        ask 222/role:p/s kms:Decrypt k3 -> deny: no session
    ",
    );
}

#[test]
fn grants() {
    check(
        "
        // In the account of the key.
        key-policy k1 allow 111/amy kms:*
        grant k1 exact issued-by 111
        ask 111/bob kms:Decrypt k1 -> allow: grant0
        boundary 111/cid allow ec2:*
        ask 111/cid kms:Decrypt k1 -> allow: grant0
        identity 111/dan deny kms:Decrypt
        ask 111/dan kms:Decrypt k1 -> deny: explicit identity[0]

        key-policy k2 allow 111/amy kms:*
        grant k2 role issued-by 111
        ask 111/role:r/s kms:Decrypt k2 -> allow: grant0
        boundary 111/role:r/b allow ec2:*
        ask 111/role:r/b kms:Decrypt k2 -> deny: no boundary
        session 111/role:r/c allow ec2:*
        ask 111/role:r/c kms:Decrypt k2 -> deny: no session

        // Across accounts, issued by the owner: the caller's side has to allow too.
        key-policy k3 allow 111/amy kms:*
        grant k3 exact issued-by 111
        ask 222/bob kms:Decrypt k3 -> deny: no identity
        identity 222/amy allow kms:Decrypt
        ask 222/amy kms:Decrypt k3 -> allow

        // Issued from the caller's account: it supplies the caller's side.
        key-policy k4 allow 111/amy kms:*
        grant k4 exact issued-by 222
        ask 222/role:infra/i-1 kms:Decrypt k4 -> allow: grant0
        ask 333/eve kms:Decrypt k4 -> deny: no identity
        key-policy k5 allow 111/amy kms:*
        grant k5 role issued-by 222
        ask 222/role:r/s kms:Decrypt k5 -> allow: grant0
        session 222/role:r/t allow ec2:*
        ask 222/role:r/t kms:Decrypt k5 -> deny: no session

        // A deny of the key policy hits grants as well.
        key-policy k6 deny * kms:* if NotIpAddress aws:SourceIp=10.0.0.0/8
        grant k6 exact issued-by 111
        ask 111/bob kms:Decrypt k6 ctx aws:SourceIp=10.1.2.3 -> allow: grant0
        ask 111/bob kms:Decrypt k6 -> deny: explicit resource[0]
    ",
    );
}

#[test]
fn a_service_has_no_identity_side() {
    check(
        "
        key-policy k1 allow svc:ec2.amazonaws.com kms:Decrypt
        ask svc:ec2.amazonaws.com           kms:Decrypt k1 -> allow: resource[0]
        ask svc:ec2.us-east-1.amazonaws.com kms:Decrypt k1 -> allow: resource[0]
        ask svc:s3.amazonaws.com            kms:Decrypt k1 -> deny: no resource
        ask svc:ec2.amazonaws.com           kms:Encrypt k1 -> deny: no resource
        key-policy k2 allow 111 kms:*
        ask svc:ec2.amazonaws.com kms:Decrypt k2 -> deny: no resource
        grant k2 exact issued-by 222
        ask svc:ec2.us-east-1.amazonaws.com kms:Decrypt k2 -> allow: grant0
        ask svc:ec2.amazonaws.com ec2:CreateVolume * -> deny: no resource
        key-policy k3 allow * kms:*
        key-policy k3 deny * kms:* if Bool aws:PrincipalIsAWSService=true
        ask svc:ec2.amazonaws.com kms:Decrypt k3 -> deny: explicit resource[1]
        ask 111/bob kms:Decrypt k3 -> allow
        key-policy k4 allow svc:ec2.us-west-2.amazonaws.com kms:Decrypt
        ask svc:ec2.us-west-2.amazonaws.com kms:Decrypt k4 -> allow
        ask svc:ec2.us-east-1.amazonaws.com kms:Decrypt k4 -> deny: no resource
    ",
    );
}

#[test]
fn trust_policies() {
    check(
        "
        trust dev allow 111/bob,222 sts:AssumeRole
        ask 111/bob sts:AssumeRole dev -> allow: resource[0]
        identity 111/amy allow sts:*
        ask 111/amy sts:AssumeRole dev -> deny: no resource
        ask 222/bob sts:AssumeRole dev -> deny: no identity
        identity 222/amy allow sts:AssumeRole on arn:aws:iam::111111111111:role/dev
        ask 222/amy sts:AssumeRole dev -> allow: identity[0]
        identity 222/cid allow sts:AssumeRole on arn:aws:iam::111111111111:role/other
        ask 222/cid sts:AssumeRole dev -> deny: no identity

        trust ext allow 222 sts:AssumeRole if StringEquals sts:ExternalId=secret
        ask 222/amy sts:AssumeRole ext ctx sts:ExternalId=secret -> deny: no identity
        identity 222/dan allow sts:*
        ask 222/dan sts:AssumeRole ext ctx sts:ExternalId=secret -> allow
        ask 222/dan sts:AssumeRole ext ctx sts:ExternalId=Secret -> deny: no resource
        ask 222/dan sts:AssumeRole ext -> deny: no resource
    ",
    );
}

#[test]
fn the_managed_key_of_ebs_is_used_through_ebs_only() {
    check("
        key-policy k1 allow * kms:Decrypt,kms:GenerateDataKey*,kms:CreateGrant if StringEquals kms:CallerAccount=111111111111 and StringEquals kms:ViaService=ec2.us-east-1.amazonaws.com
        key-policy k1 allow 111 kms:Describe*
        ask 111/bob kms:GenerateDataKeyWithoutPlaintext k1 ctx kms:CallerAccount=111111111111,kms:ViaService=ec2.us-east-1.amazonaws.com -> allow: resource[0]
        ask 111/bob kms:Decrypt k1 ctx kms:CallerAccount=111111111111 -> deny: no resource
        identity 222/eve allow kms:*
        ask 222/eve kms:Decrypt k1 ctx kms:CallerAccount=222222222222,kms:ViaService=ec2.us-east-1.amazonaws.com -> deny: no resource
    ");
}
