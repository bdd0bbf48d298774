//! Policies: of identities, keys, roles and sessions.

use base::AccountId;
use fuzz::target;
use iam::{AttachedPolicy, Context, Layer, Layers, Policy, PolicyKind, Principal, Request};
use std::sync::Arc;

const KINDS: [PolicyKind; 4] =
    [PolicyKind::Identity, PolicyKind::KeyPolicy, PolicyKind::Trust, PolicyKind::Session];

fn samples() -> Vec<Vec<u8>> {
    [
        r#"{"Version":"2012-10-17","Statement":[{"Sid":"A","Effect":"Allow","Action":["ec2:*","kms:Decrypt"],"Resource":"*","Condition":{"StringLike":{"aws:PrincipalTag/team":"d*b?","kms:ViaService":["ec2.*"]},"Bool":{"kms:GrantIsForAWSResource":"true"},"NumericLessThan":{"ec2:VolumeSize":"100"},"DateGreaterThan":{"aws:CurrentTime":"2026-01-01T00:00:00Z"},"IpAddress":{"aws:SourceIp":"192.0.2.0/24"},"ForAllValues:StringEquals":{"aws:TagKeys":["a","b"]},"Null":{"aws:TokenIssueTime":"true"}}}]}"#,
        r#"{"Version":"2012-10-17","Id":"k","Statement":{"Effect":"Allow","Principal":{"AWS":["arn:aws:iam::111122223333:root","444455556666","*"],"Service":"ec2.amazonaws.com"},"Action":"kms:*","Resource":"*","Condition":{"StringEqualsIfExists":{"kms:EncryptionContext:aws:ebs:id":"${aws:username, 'x'}"}}}}"#,
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Deny","NotAction":"sts:*","NotResource":["arn:aws:ec2:*:*:volume/${aws:PrincipalTag/v}*"],"Condition":{"ArnNotLike":{"aws:PrincipalArn":"arn:aws:iam::*:role/a*"},"ForAnyValue:StringNotEqualsIgnoreCase":{"aws:CalledVia":"x"}}}]}"#,
        r#"{"Version":"2008-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"sts:AssumeRole"}]}"#,
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}

fn context() -> Context {
    let mut context = Context::new();
    context.set("aws:SourceIp", "192.0.2.7");
    context.set("ec2:VolumeSize", "10");
    context.set("kms:ViaService", "ec2.us-east-1.amazonaws.com");
    context.set_flag("kms:GrantIsForAWSResource", true);
    context.set_multi("aws:TagKeys", ["a".to_owned(), "c".to_owned()]);
    context
}

target!(
    /// Whatever is accepted can be evaluated, and by itself never gives more than it says: without
    /// the word `Allow` it allows nothing.
    policies,
    samples(),
    |bytes: &[u8]| {
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        for kind in KINDS {
            let Ok(policy) = Policy::parse(text, kind) else { continue };
            let account = AccountId::parse("111122223333").expect("twelve digits");
            let principal = Principal::user(&account, "/", "ann", "AIDAEXAMPLE");
            let policy = Arc::new(policy);
            let attached =
                AttachedPolicy { layer: Layer::Identity, name_or_arn: "p".to_owned(), policy };
            let layers = Layers { identity: vec![attached], ..Layers::default() };
            let context = context();
            for (action, resource) in [
                ("kms:Decrypt", "arn:aws:kms:us-east-1:111122223333:key/1"),
                ("ec2:CreateVolume", "arn:aws:ec2:us-east-1:111122223333:volume/*"),
            ] {
                let request = Request {
                    principal: &principal,
                    action,
                    resource,
                    resource_account: Some(&account),
                    context: &context,
                };
                let decision = iam::evaluate(&request, &layers);
                assert!(!decision.allowed || mentions_allow(text), "{text}");
                drop(decision.message());
            }
        }
    }
);

/// Whether the document has the word, plainly or with escapes.
fn mentions_allow(text: &str) -> bool {
    text.contains("Allow") || text.contains("\\u")
}
