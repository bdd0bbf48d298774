//! Web identities through the pipeline, with an issuer whose documents are in memory.

use super::*;
use crate::testing::{Bench, account, bench, from_json, run, run_named};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value as Json, json};

const ISSUER: &str = "https://oidc.example.org/cluster";
const ROLE: &str = "arn:aws:iam::111111111111:role/pod";
const SUBJECT: &str = "system:serviceaccount:default:app";

struct Signer(EcdsaKeyPair);

impl Signer {
    fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key"))
    }

    fn keys(&self) -> String {
        let point = self.0.public_key().as_ref();
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        json!({ "keys": [{ "kty": "EC", "crv": "P-256", "kid": "k", "x": text(&point[1..33]),
            "y": text(&point[33..]) }] })
        .to_string()
    }

    fn token(&self, changes: &Json) -> String {
        let mut claims = json!({ "iss": ISSUER, "sub": SUBJECT, "aud": ["sts.amazonaws.com"],
            "iat": 1_767_225_600, "exp": 1_767_229_200 });
        for (name, value) in changes.as_object().expect("changes") {
            claims[name] = value.clone();
        }
        let part = |value: &Json| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&json!({ "alg": "ES256", "kid": "k" })), part(&claims));
        let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes()).expect("signed");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

async fn set_up(bench: &Bench, signer: &Signer, condition: Json) {
    let root = bench.root(&account(1), "us-east-1");
    let call = |name: &'static str, input| run_named(&root, Service::Iam, name, input);
    let provider = json!({ "Url": ISSUER, "ClientIDList": ["sts.amazonaws.com"] });
    call("CreateOpenIDConnectProvider", provider).await.expect("an issuer");
    let trust = json!({ "Version": "2012-10-17", "Statement": { "Effect": "Allow",
        "Principal": { "Federated":
            "arn:aws:iam::111111111111:oidc-provider/oidc.example.org/cluster" },
        "Action": ["sts:AssumeRoleWithWebIdentity", "sts:TagSession"], "Condition": condition } });
    let role = json!({ "RoleName": "pod", "AssumeRolePolicyDocument": trust.to_string() });
    call("CreateRole", role).await.expect("a role");
    let attach =
        json!({ "RoleName": "pod", "PolicyArn": "arn:aws:iam::aws:policy/IAMReadOnlyAccess" });
    call("AttachRolePolicy", attach).await.expect("attached");
    bench.issuers.set(
        &format!("{ISSUER}/.well-known/openid-configuration"),
        Some(json!({ "issuer": ISSUER, "jwks_uri": format!("{ISSUER}/keys") }).to_string()),
    );
    bench.issuers.set(&format!("{ISSUER}/keys"), Some(signer.keys()));
}

/// What a request without a signature does: its token is checked, then it takes the pipeline.
async fn assume(bench: &Bench, token: &str, more: Json) -> Result<Json, Error> {
    let mut input = json!({ "RoleArn": ROLE, "RoleSessionName": "s1", "WebIdentityToken": token });
    for (name, value) in more.as_object().expect("an object") {
        input[name] = value.clone();
    }
    let schema = <Input as Shape>::SCHEMA;
    let vouched = authenticate(&bench.world, from_json(schema, &input)).await?;
    let call = bench.call(vouched.principal(), "us-east-1");
    run::<AssumeRoleWithWebIdentity>(&Call { vouched: Some(vouched), ..call }, input).await
}

#[tokio::test]
async fn a_service_account_becomes_the_role_that_trusts_it() {
    let (bench, signer) = (bench().await, Signer::new());
    let condition = json!({ "StringEquals": { "oidc.example.org/cluster:sub": SUBJECT,
        "oidc.example.org/cluster:aud": "sts.amazonaws.com" } });
    set_up(&bench, &signer, condition).await;
    let tags = json!({ "https://aws.amazon.com/tags": { "principal_tags": { "team": ["red"] } } });
    let reply = assume(&bench, &signer.token(&tags), json!({ "DurationSeconds": 900 })).await;
    let reply = reply.expect("trusted");
    assert_eq!(reply["AssumedRoleUser"]["Arn"], "arn:aws:sts::111111111111:assumed-role/pod/s1");
    assert_eq!(reply["SubjectFromWebIdentityToken"], SUBJECT);
    assert_eq!(reply["Audience"], "sts.amazonaws.com");
    assert_eq!(reply["Provider"], "oidc.example.org/cluster");
    assert_eq!(reply["Credentials"]["Expiration"], "2026-01-01T00:15:00.000Z");
    let text = |name: &str| reply["Credentials"][name].as_str().expect("a text").to_owned();
    let found = bench.world.credential(&text("AccessKeyId"), Some(&text("SessionToken"))).await;
    let Ok(credential) = found else { panic!("the credential is good") };
    assert_eq!(credential.principal.tags["team"], "red");
    let provider = "arn:aws:iam::111111111111:oidc-provider/oidc.example.org/cluster";
    assert_eq!(credential.principal.federated_provider.as_deref(), Some(provider));
    let session = bench.call(credential.principal, "us-east-1");
    run_named(&session, Service::Iam, "ListUsers", json!({})).await.expect("the role may");

    let other = signer.token(&json!({ "sub": "system:serviceaccount:default:other" }));
    let denied = assume(&bench, &other, json!({})).await.expect_err("another account");
    assert_eq!((denied.code(), denied.0.spec.status), ("AccessDenied", 403));
    let missing = json!({ "RoleArn": "arn:aws:iam::111111111111:role/none" });
    let denied = assume(&bench, &signer.token(&json!({})), missing).await.expect_err("no role");
    assert_eq!(denied.code(), "AccessDenied");
}

#[tokio::test]
async fn a_principal_without_checked_claims_becomes_no_role() {
    let (bench, signer) = (bench().await, Signer::new());
    set_up(&bench, &signer, json!({})).await;
    let provider = "arn:aws:iam::111111111111:oidc-provider/oidc.example.org/cluster";
    let principal = iam::Principal::web_identity(&account(1), provider, SUBJECT);
    let token = signer.token(&json!({}));
    let input = json!({ "RoleArn": ROLE, "RoleSessionName": "s1", "WebIdentityToken": token });
    let call = bench.call(principal, "us-east-1");
    let denied = run::<AssumeRoleWithWebIdentity>(&call, input).await;
    assert_eq!(denied.expect_err("nobody has checked it").code(), "AccessDenied");
}

#[tokio::test]
async fn tokens_that_are_worth_nothing() {
    let (bench, signer) = (bench().await, Signer::new());
    set_up(&bench, &signer, json!({})).await;
    assume(&bench, &signer.token(&json!({})), json!({})).await.expect("good as it is");
    for (changes, code, status) in [
        (json!({ "exp": 1_767_225_600 }), "ExpiredTokenException", 400),
        (json!({ "nbf": 1_767_229_000 }), "IDPRejectedClaim", 403),
        (json!({ "aud": "other" }), "InvalidIdentityToken", 400),
        (json!({ "iss": "https://elsewhere.example.org" }), "InvalidIdentityToken", 400),
        (json!({ "iss": "file:///etc/passwd" }), "InvalidIdentityToken", 400),
    ] {
        let refused = assume(&bench, &signer.token(&changes), json!({})).await.expect_err(code);
        assert_eq!((refused.code(), refused.0.spec.status), (code, status), "{changes}");
    }
    let foreign = Signer::new().token(&json!({}));
    let refused = assume(&bench, &foreign, json!({})).await.expect_err("another key");
    assert_eq!(refused.code(), "InvalidIdentityToken");
    let other = json!({ "RoleArn": "arn:aws:iam::222222222222:role/pod" });
    let refused =
        assume(&bench, &signer.token(&json!({})), other).await.expect_err("not known there");
    assert_eq!(refused.code(), "InvalidIdentityToken");
    // A signed call is nobody the issuer vouches for.
    let root = bench.root(&account(1), "us-east-1");
    let input = json!({ "RoleArn": ROLE, "RoleSessionName": "s1",
        "WebIdentityToken": signer.token(&json!({})) });
    let refused = run::<AssumeRoleWithWebIdentity>(&root, input).await.expect_err("a root");
    assert_eq!(refused.code(), "AccessDenied");
}

#[tokio::test]
async fn keys_are_kept_for_a_while_and_fetched_anew_when_they_change() {
    let (bench, old) = (bench().await, Signer::new());
    set_up(&bench, &old, json!({})).await;
    let keys = format!("{ISSUER}/keys");
    assume(&bench, &old.token(&json!({})), json!({})).await.expect("fetched");
    assert_eq!(bench.issuers.fetched(&keys), 1);
    bench.issuers.set(&keys, None);
    assume(&bench, &old.token(&json!({})), json!({})).await.expect("kept");
    assert_eq!(bench.issuers.fetched(&keys), 1);
    bench.clock.advance_seconds(301);
    let lost = assume(&bench, &old.token(&json!({})), json!({})).await.expect_err("not to be had");
    assert_eq!((lost.code(), lost.0.spec.status), ("IDPCommunicationError", 400));
    // An issuer that does not answer is not asked with every request.
    assume(&bench, &old.token(&json!({})), json!({})).await.expect_err("still not");
    assert_eq!(bench.issuers.fetched(&keys), 2);
    let new = Signer::new();
    bench.issuers.set(&keys, Some(new.keys()));
    bench.clock.advance_seconds(11);
    assume(&bench, &new.token(&json!({})), json!({})).await.expect("fetched anew");

    // Keys handed over by whoever runs the server are used as they are.
    let handed = Signer::new();
    let text = handed.keys();
    bench
        .world
        .db
        .write(move |tx| {
            let provider = identity::oidc::find(tx, &account(1), "oidc.example.org/cluster")?;
            identity::oidc::set_keys(tx, &provider, Some(&text))
        })
        .await
        .expect("handed over");
    assume(&bench, &handed.token(&json!({})), json!({})).await.expect("no fetch");
    assume(&bench, &new.token(&json!({})), json!({})).await.expect_err("others are not");
}
