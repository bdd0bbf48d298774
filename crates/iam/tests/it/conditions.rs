//! Condition operators (spec 20, A.6).

use crate::table::check;

#[test]
fn operators_keys_and_values_combine() {
    check("
        identity 222/a allow s:X if StringEquals t:a=1|2 and StringEquals t:b=3 and StringLike t:c=x*
        ask 222/a s:X * ctx t:a=1,t:b=3,t:c=xy -> allow
        ask 222/a s:X * ctx t:a=2,t:b=3,t:c=x  -> allow
        ask 222/a s:X * ctx t:a=3,t:b=3,t:c=xy -> deny
        ask 222/a s:X * ctx t:a=1,t:b=3        -> deny
        ask 222/a s:X * ctx T:A=1,t:B=3,t:c=xy -> allow
        identity 222/b allow s:X if StringNotEquals t:a=1|2
        ask 222/b s:X * ctx t:a=3 -> allow
        ask 222/b s:X * ctx t:a=2 -> deny
        ask 222/b s:X *           -> allow
        identity 222/c allow s:X if StringEquals t:a=[]
        identity 222/d allow s:X if StringNotEquals t:a=[]
        ask 222/c s:X * ctx t:a=1 -> deny
        ask 222/d s:X * ctx t:a=1 -> allow
    ");
}

#[test]
fn key_names_ignore_case_and_values_do_not() {
    check(
        "
        identity 222/a allow s:X if StringEquals KMS:encryptioncontext:Aws:EBS:id=vol-a
        ask 222/a s:X * ctx kms:EncryptionContext:aws:ebs:id=vol-a -> allow
        ask 222/a s:X * ctx kms:EncryptionContext:aws:ebs:id=VOL-A -> deny
    ",
    );
}

#[test]
fn strings() {
    check(
        "
        identity 222/a allow s:1 if StringEquals t:a=Ab*
        identity 222/a allow s:2 if StringEqualsIgnoreCase t:a=Ab
        identity 222/a allow s:3 if StringNotEqualsIgnoreCase t:a=Ab
        identity 222/a allow s:4 if StringLike t:a=A?*
        identity 222/a allow s:5 if StringNotLike t:a=A*
        identity 222/a allow s:6 if StringLike t:a=?
        identity 222/a allow s:7 if StringEqualsIgnoreCase t:a=straSSe
        ask 222/a s:1 * ctx t:a=Ab* -> allow
        ask 222/a s:1 * ctx t:a=Abc -> deny
        ask 222/a s:1 *             -> deny
        ask 222/a s:2 * ctx t:a=aB  -> allow
        ask 222/a s:2 * ctx t:a=aBc -> deny
        ask 222/a s:3 * ctx t:a=aB  -> deny
        ask 222/a s:3 * ctx t:a=x   -> allow
        ask 222/a s:3 *             -> allow
        ask 222/a s:4 * ctx t:a=Ab  -> allow
        ask 222/a s:4 * ctx t:a=A   -> deny
        ask 222/a s:4 * ctx t:a=ab  -> deny
        ask 222/a s:5 * ctx t:a=Ab  -> deny
        ask 222/a s:5 * ctx t:a=b   -> allow
        ask 222/a s:5 *             -> allow
        // One UTF-16 unit, so not one emoji.
        ask 222/a s:6 * ctx t:a=é   -> allow
        ask 222/a s:6 * ctx t:a=😀  -> deny
        // Lower case, not folding.
        ask 222/a s:7 * ctx t:a=straße -> deny
        ask 222/a s:7 * ctx t:a=STRASSE -> allow
    ",
    );
}

#[test]
fn numbers() {
    check(
        "
        identity 222/a allow s:eq if NumericEquals t:a=10|20
        identity 222/a allow s:ne if NumericNotEquals t:a=10
        identity 222/a allow s:lt if NumericLessThan t:a=10
        identity 222/a allow s:le if NumericLessThanEquals t:a=10
        identity 222/a allow s:gt if NumericGreaterThan t:a=10
        identity 222/a allow s:ge if NumericGreaterThanEquals t:a=10
        ask 222/a s:eq * ctx t:a=20.0 -> allow
        ask 222/a s:eq * ctx t:a=ten  -> deny
        ask 222/a s:eq *              -> deny
        ask 222/a s:ne * ctx t:a=10   -> deny
        ask 222/a s:ne * ctx t:a=ten  -> allow
        ask 222/a s:ne *              -> allow
        ask 222/a s:lt * ctx t:a=9.99 -> allow
        ask 222/a s:lt * ctx t:a=10   -> deny
        ask 222/a s:lt * ctx t:a=x    -> deny
        ask 222/a s:lt *              -> deny
        ask 222/a s:le * ctx t:a=10   -> allow
        ask 222/a s:gt * ctx t:a=9    -> deny
        ask 222/a s:gt * ctx t:a=100  -> allow
        ask 222/a s:ge * ctx t:a=010  -> allow
        ask 222/a s:ge * ctx t:a=-11  -> deny
    ",
    );
}

#[test]
fn dates() {
    check(
        "
        identity 222/a allow s:eq if DateEquals t:a=2026-01-01T00:00:00Z
        identity 222/a allow s:ne if DateNotEquals t:a=2026-01-01T00:00:00Z
        identity 222/a allow s:lt if DateLessThan t:a=2026-01-01T00:00:00Z
        identity 222/a allow s:le if DateLessThanEquals t:a=2026-01-01
        identity 222/a allow s:gt if DateGreaterThan t:a=1767225600
        identity 222/a allow s:ge if DateGreaterThanEquals t:a=2026-01-01T00:00:00.001Z
        ask 222/a s:eq * ctx t:a=1767225600               -> allow
        ask 222/a s:eq * ctx t:a=2026-01-01T01:00:00+01:00 -> allow
        ask 222/a s:eq * ctx t:a=2026-01-01T00:00:00.001Z -> deny
        ask 222/a s:eq * ctx t:a=tomorrow                 -> deny
        ask 222/a s:ne * ctx t:a=tomorrow                 -> allow
        ask 222/a s:ne *                                  -> allow
        ask 222/a s:lt * ctx t:a=2025-12-31T23:59:59.999Z -> allow
        ask 222/a s:lt * ctx t:a=2026-01-01T00:00:00Z     -> deny
        ask 222/a s:lt *                                  -> deny
        ask 222/a s:le * ctx t:a=2026-01-01T00:00:00Z     -> allow
        ask 222/a s:gt * ctx t:a=1767225600.001           -> allow
        ask 222/a s:gt * ctx t:a=1767225600               -> deny
        ask 222/a s:ge * ctx t:a=1767225600               -> deny
        ask 222/a s:ge * ctx t:a=1767225600.001           -> allow
    ",
    );
}

#[test]
fn booleans_binaries_and_absence() {
    check(
        "
        identity 222/a allow s:t if Bool t:a=true
        identity 222/a allow s:f if Bool t:a=FALSE
        identity 222/a allow s:b if BinaryEquals t:a=QUJD
        identity 222/a allow s:absent if Null t:a=true
        identity 222/a allow s:present if Null t:a=false
        ask 222/a s:t * ctx t:a=TRUE  -> allow
        ask 222/a s:t * ctx t:a=yes   -> deny
        ask 222/a s:t *               -> deny
        ask 222/a s:f * ctx t:a=false -> allow
        ask 222/a s:f * ctx t:a=yes   -> allow
        ask 222/a s:f *               -> deny
        ask 222/a s:b * ctx t:a=QUJD  -> allow
        ask 222/a s:b * ctx t:a=ABC   -> deny
        ask 222/a s:b *               -> deny
        ask 222/a s:absent *             -> allow
        ask 222/a s:absent * ctx t:a=    -> deny
        ask 222/a s:absent * ctx t:a=[]  -> deny
        ask 222/a s:present *            -> deny
        ask 222/a s:present * ctx t:a=   -> allow
        ask 222/a s:present * ctx t:a=[] -> allow
    ",
    );
}

#[test]
fn addresses() {
    check(
        "
        identity 222/a allow s:in  if IpAddress aws:SourceIp=10.1.2.3/8|2001:db8::/32
        identity 222/a allow s:out if NotIpAddress aws:SourceIp=10.0.0.0/8
        identity 222/a allow s:v6  if IpAddress aws:SourceIp=2001:db8::1/32
        identity 222/a allow s:one if IpAddress aws:SourceIp=192.0.2.1
        ask 222/a s:in * ctx aws:SourceIp=10.200.0.1  -> allow
        ask 222/a s:in * ctx aws:SourceIp=11.0.0.1    -> deny
        ask 222/a s:in * ctx aws:SourceIp=2001:db8::7 -> allow
        ask 222/a s:in *                              -> deny
        ask 222/a s:in * ctx aws:SourceIp=AWS Internal -> deny
        ask 222/a s:out * ctx aws:SourceIp=11.0.0.1   -> allow
        ask 222/a s:out * ctx aws:SourceIp=10.0.0.1   -> deny
        ask 222/a s:out *                             -> allow
        // A malformed address never matches, negated included.
        ask 222/a s:out * ctx aws:SourceIp=nowhere    -> deny
        ask 222/a s:v6 * ctx aws:SourceIp=2001:db8::1 -> deny
        ask 222/a s:one * ctx aws:SourceIp=192.0.2.1  -> allow
        ask 222/a s:one * ctx aws:SourceIp=192.0.2.2  -> deny
    ",
    );
}

#[test]
fn arns() {
    check(
        "
        identity 222/a allow s:eq if ArnEquals t:a=arn:aws:iam::*:role/dev-*
        identity 222/a allow s:li if ArnLike t:a=arn:aws:iam::1111?1111111:role/dev
        identity 222/a allow s:ne if ArnNotEquals t:a=arn:aws:iam::*:role/dev
        identity 222/a allow s:nl if ArnNotLike t:a=arn:aws:iam::*:role/dev
        identity 222/a allow s:me if ArnLike t:a=${aws:PrincipalArn}
        ask 222/a s:eq * ctx t:a=arn:aws:iam::111111111111:role/dev-1/x:y -> allow
        ask 222/a s:eq * ctx t:a=arn:aws:iam:x:111111111111:role/dev-1 -> deny
        ask 222/a s:eq * -> deny
        ask 222/a s:li * ctx t:a=arn:aws:iam::111111111111:role/dev -> allow
        ask 222/a s:ne * ctx t:a=arn:aws:iam::111111111111:role/ops -> allow
        ask 222/a s:ne * ctx t:a=arn:aws:iam::111111111111:role/dev -> deny
        ask 222/a s:ne * -> allow
        ask 222/a s:nl * ctx t:a=no-arn -> deny
        ask 222/a s:me * ctx t:a=arn:aws:iam::222222222222:user/a -> allow
        ask 222/a s:me * ctx t:a=arn:aws:iam::222222222222:user/b -> deny
        // A star does not cross the split.
        identity 222/b allow s:X if ArnLike t:a=arn:aws:*:role/dev:::
        ask 222/b s:X * ctx t:a=arn:aws:iam::111111111111:role/dev -> deny
    ",
    );
}

#[test]
fn if_exists() {
    check(
        "
        identity 222/a allow s:1 if StringEqualsIfExists t:a=x
        identity 222/a allow s:2 if StringNotEqualsIfExists t:a=x
        identity 222/a allow s:3 if NumericLessThanIfExists t:a=5
        identity 222/a allow s:4 if BoolIfExists t:a=true
        identity 222/a allow s:5 if ForAnyValue:StringEqualsIfExists aws:TagKeys=x
        ask 222/a s:1 *           -> allow
        ask 222/a s:1 * ctx t:a=x -> allow
        ask 222/a s:1 * ctx t:a=y -> deny
        ask 222/a s:2 *           -> allow
        ask 222/a s:2 * ctx t:a=x -> deny
        ask 222/a s:3 *           -> allow
        ask 222/a s:3 * ctx t:a=5 -> deny
        ask 222/a s:4 *           -> allow
        ask 222/a s:4 * ctx t:a=false -> deny
        ask 222/a s:5 *           -> allow
        ask 222/a s:5 * ctx aws:TagKeys=[y] -> deny
    ",
    );
}

#[test]
fn sets() {
    check(
        "
        identity 222/a allow s:any if ForAnyValue:StringEquals aws:TagKeys=a|b
        identity 222/a allow s:all if ForAllValues:StringEquals aws:TagKeys=a|b
        identity 222/a allow s:anynot if ForAnyValue:StringNotEquals aws:TagKeys=a|b
        identity 222/a allow s:allnot if ForAllValues:StringNotEquals aws:TagKeys=a|b
        ask 222/a s:any * ctx aws:TagKeys=[a|z] -> allow
        ask 222/a s:any * ctx aws:TagKeys=[z]   -> deny
        ask 222/a s:any * ctx aws:TagKeys=[]    -> deny
        ask 222/a s:any *                       -> deny
        ask 222/a s:all * ctx aws:TagKeys=[a|b] -> allow
        ask 222/a s:all * ctx aws:TagKeys=[a|z] -> deny
        ask 222/a s:all * ctx aws:TagKeys=[]    -> allow
        ask 222/a s:all *                       -> allow
        ask 222/a s:anynot * ctx aws:TagKeys=[a|z] -> allow
        ask 222/a s:anynot * ctx aws:TagKeys=[a|b] -> deny
        ask 222/a s:anynot *                    -> deny
        ask 222/a s:allnot * ctx aws:TagKeys=[y|z] -> allow
        ask 222/a s:allnot * ctx aws:TagKeys=[a|z] -> deny
        ask 222/a s:allnot *                    -> allow
        // A set operator on a single-valued key sees one value, and also matches without the key.
        identity 222/b allow s:X if ForAllValues:StringEquals t:a=x
        ask 222/b s:X * ctx t:a=x -> allow
        ask 222/b s:X * ctx t:a=y -> deny
        ask 222/b s:X *           -> allow
    ",
    );
}

#[test]
fn a_plain_operator_never_matches_a_multivalued_key() {
    check(
        "
        identity 222/a allow s:1 if StringEquals aws:TagKeys=a
        identity 222/a allow s:2 if StringNotEquals aws:TagKeys=a
        identity 222/a allow s:3 if StringLikeIfExists aws:TagKeys=*
        ask 222/a s:1 * ctx aws:TagKeys=[a] -> deny
        // The catalogue decides, not the form of the value.
        ask 222/a s:1 * ctx aws:TagKeys=a   -> deny
        ask 222/a s:2 * ctx aws:TagKeys=[b] -> deny
        ask 222/a s:2 * ctx aws:TagKeys=[]  -> deny
        ask 222/a s:2 *                     -> allow
        ask 222/a s:3 * ctx aws:TagKeys=[b] -> deny
        ask 222/a s:3 *                     -> allow
    ",
    );
}

#[test]
fn variables_in_values() {
    check(
        "
        tag 222/a team=red
        tag 222/star team=*
        identity 222/a allow s:1 if StringEquals t:a=${aws:PrincipalTag/team}
        identity 222/a allow s:2 if StringLike t:a=${aws:username}-${*}-*
        identity 222/a allow s:3 if StringEquals t:a=${aws:PrincipalTag/none}
        identity 222/a allow s:4 if StringNotEquals t:a=${aws:PrincipalTag/none}
        identity 222/a allow s:5 if StringEquals \"t:a=${aws:PrincipalTag/none, 'dflt'}\"
        identity 222/a allow s:6 if StringEquals t:a=${aws:TagKeys}
        ask 222/a s:1 * ctx t:a=red   -> allow
        ask 222/a s:1 * ctx t:a=blue  -> deny
        ask 222/a s:2 * ctx t:a=a-*-x -> allow
        ask 222/a s:2 * ctx t:a=a-b-x -> deny
        ask 222/a s:3 * ctx t:a=x     -> deny
        ask 222/a s:4 * ctx t:a=x     -> allow
        ask 222/a s:5 * ctx t:a=dflt  -> allow
        ask 222/a s:6 * ctx t:a=x,aws:TagKeys=[x] -> deny
        identity 222/star allow s:X if StringLike t:a=${aws:PrincipalTag/team}
        ask 222/star s:X * ctx t:a=x -> deny
        ask 222/star s:X * ctx t:a=* -> allow
        identity-2008 222/old allow s:X if StringEquals t:a=${aws:username}
        ask 222/old s:X * ctx t:a=old -> deny
        ask 222/old s:X * ctx t:a=${aws:username} -> allow
    ",
    );
}

#[test]
fn malformed_operands_in_session_policies() {
    check("
        identity 222/role:r/s allow *
        session  222/role:r/s allow s:allow if ArnLike t:a=garbage|arn:aws:iam::111111111111:role/dev
        session  222/role:r/s allow s:not if ArnNotLike t:a=garbage
        session  222/role:r/s allow s:num if NumericNotEquals t:a=garbage
        session  222/role:r/s allow s:lt if NumericLessThan t:a=garbage
        session  222/role:r/s allow s:ip if NotIpAddress t:a=garbage
        session  222/role:r/s allow s:deny
        session  222/role:r/s deny  s:deny if ArnLike t:a=garbage
        ask 222/role:r/s s:allow * ctx t:a=arn:aws:iam::111111111111:role/dev -> allow
        ask 222/role:r/s s:allow * ctx t:a=arn:aws:iam::111111111111:role/ops -> deny: no session
        ask 222/role:r/s s:not   * ctx t:a=arn:aws:iam::111111111111:role/dev -> deny: no session
        ask 222/role:r/s s:deny  * ctx t:a=arn:aws:iam::111111111111:role/dev -> deny: explicit session
        ask 222/role:r/s s:deny  * -> allow
        ask 222/role:r/s s:num   * ctx t:a=1 -> allow
        ask 222/role:r/s s:lt    * ctx t:a=1 -> deny: no session
        ask 222/role:r/s s:ip    * ctx t:a=10.0.0.1 -> deny: no session
    ");
}

#[test]
fn keys_that_follow_from_the_caller() {
    check("
        tag 222/bob Team=red
        identity 222/bob allow s:X if StringEquals aws:PrincipalArn=arn:aws:iam::222222222222:user/bob and StringEquals aws:PrincipalAccount=222222222222 and StringEquals aws:PrincipalType=User and StringEquals aws:username=bob and StringEquals aws:PrincipalTag/team=red and Bool aws:PrincipalIsAWSService=false and StringLike aws:userid=AIDA*
        ask 222/bob s:X * -> allow
        // They cannot be forged through the request.
        identity 222/eve allow s:X if StringEquals aws:username=bob
        identity 222/eve allow s:Y if StringEquals aws:PrincipalTag/team=red
        ask 222/eve s:X * ctx aws:username=bob -> deny
        ask 222/eve s:Y * ctx aws:PrincipalTag/team=red -> deny
        identity 222/role:r/s allow s:X if StringEquals aws:PrincipalArn=arn:aws:iam::222222222222:role/r and StringEquals aws:PrincipalType=AssumedRole and StringLike aws:userid=AROA*:s and Null aws:username=true
        ask 222/role:r/s s:X * -> allow
        queue q1 allow * sqs:X if StringEquals aws:ResourceAccount=111111111111
        ask 111/bob sqs:X q1 -> allow
    ");
}
