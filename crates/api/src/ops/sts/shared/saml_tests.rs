//! SAML responses through the pipeline, with a provider whose key is in memory.

use super::*;
use crate::testing::idp::{Cipher, ENTITY_ID, Idp, Recipient, SIGN_IN, Said};
use crate::testing::{Bench, account, bench, from_json, run, run_named};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use meta::{Tx, params};
use serde_json::{Value as Json, json};

const PROVIDER: &str = "arn:aws:iam::111111111111:saml-provider/corp";
const ROLE: &str = "arn:aws:iam::111111111111:role/dev";

async fn set_up(bench: &Bench, idp: &Idp, actions: Json, condition: Json) {
    let root = bench.root(&account(1), "us-east-1");
    let call = |name: &'static str, input| run_named(&root, Service::Iam, name, input);
    let provider = json!({ "Name": "corp", "SAMLMetadataDocument": idp.metadata() });
    call("CreateSAMLProvider", provider).await.expect("a provider");
    let trust = json!({ "Version": "2012-10-17", "Statement": { "Effect": "Allow",
        "Principal": { "Federated": PROVIDER }, "Action": actions, "Condition": condition } });
    let role = json!({ "RoleName": "dev", "AssumeRolePolicyDocument": trust.to_string() });
    call("CreateRole", role).await.expect("a role");
    let attach =
        json!({ "RoleName": "dev", "PolicyArn": "arn:aws:iam::aws:policy/IAMReadOnlyAccess" });
    call("AttachRolePolicy", attach).await.expect("attached");
}

/// What a request without a signature does: its response is checked, then it takes the pipeline.
async fn assume(bench: &Bench, response: &str, more: Json) -> Result<Json, Error> {
    let mut input = json!({ "RoleArn": ROLE, "PrincipalArn": PROVIDER,
        "SAMLAssertion": STANDARD.encode(response) });
    for (name, value) in more.as_object().expect("an object") {
        input[name] = value.clone();
    }
    let schema = <Input as Shape>::SCHEMA;
    let vouched = authenticate(&bench.world, from_json(schema, &input)).await?;
    let call = bench.call(vouched.principal(), "us-east-1");
    run::<AssumeRoleWithSaml>(&Call { vouched: Some(vouched), ..call }, input).await
}

fn said() -> Said {
    Said::of(ROLE, PROVIDER)
}

#[tokio::test]
async fn an_employee_becomes_the_role_that_trusts_the_provider() {
    let (bench, idp) = (bench().await, Idp::new());
    let qualifier = "ZrTs7ttF0+nt0LmkCHyMdHURaCk=";
    let condition = json!({ "StringEquals": { "saml:aud": SIGN_IN, "saml:iss": ENTITY_ID,
        "saml:sub_type": "persistent", "saml:namequalifier": qualifier,
        "saml:doc": "111111111111/corp", "saml:edupersonorgdn": "dc=example" },
        "StringLike": { "saml:sub": "*@example.org" },
        "ForAnyValue:StringEquals": { "saml:edupersonaffiliation": "staff" } });
    let actions = json!(["sts:AssumeRoleWithSAML", "sts:TagSession", "sts:SetSourceIdentity"]);
    set_up(&bench, &idp, actions, condition).await;
    let employee = said()
        .with("PrincipalTag:team", &["red"])
        .with("TransitiveTagKeys", &["team"])
        .with("SourceIdentity", &["amy"])
        .attribute("urn:oid:1.3.6.1.4.1.5923.1.1.1.1", &["staff", "member"])
        .attribute("urn:oid:1.3.6.1.4.1.5923.1.1.1.3", &["dc=example"]);
    let reply = assume(&bench, &idp.signed(&employee), json!({ "DurationSeconds": 900 })).await;
    let reply = reply.expect("trusted");
    assert_eq!(reply["AssumedRoleUser"]["Arn"], "arn:aws:sts::111111111111:assumed-role/dev/amy");
    assert_eq!(reply["Subject"], "amy@example.org");
    assert_eq!(reply["SubjectType"], "persistent");
    assert_eq!(reply["Issuer"], ENTITY_ID);
    assert_eq!(reply["Audience"], SIGN_IN);
    assert_eq!(reply["NameQualifier"], qualifier);
    assert_eq!(reply["SourceIdentity"], "amy");
    assert!(reply["PackedPolicySize"].as_i64().is_some_and(|n| (1..=100).contains(&n)));
    assert_eq!(reply["Credentials"]["Expiration"], "2026-01-01T00:15:00.000Z");
    let text = |name: &str| reply["Credentials"][name].as_str().expect("a text").to_owned();
    let found = bench.world.credential(&text("AccessKeyId"), Some(&text("SessionToken"))).await;
    let Ok(credential) = found else { panic!("the credential is good") };
    assert_eq!(credential.principal.tags["team"], "red");
    assert!(credential.principal.transitive_tag_keys.contains("team"));
    assert_eq!(credential.principal.federated_provider.as_deref(), Some(PROVIDER));
    let session = bench.call(credential.principal, "us-east-1");
    run_named(&session, Service::Iam, "ListUsers", json!({})).await.expect("the role may");

    let other = idp.signed(&Said { subject: "eve@other.org".to_owned(), ..employee });
    let denied = assume(&bench, &other, json!({})).await.expect_err("another domain");
    assert_eq!((denied.code(), denied.0.spec.status), ("AccessDenied", 403));
}

#[tokio::test]
async fn a_principal_without_checked_claims_becomes_no_role() {
    let (bench, idp) = (bench().await, Idp::new());
    set_up(&bench, &idp, json!("sts:AssumeRoleWithSAML"), json!({})).await;
    let principal = iam::Principal::saml(&account(1), PROVIDER, "amy@example.org", "q");
    let input = json!({ "RoleArn": ROLE, "PrincipalArn": PROVIDER,
        "SAMLAssertion": STANDARD.encode(idp.signed(&said())) });
    let call = bench.call(principal, "us-east-1");
    let denied = run::<AssumeRoleWithSaml>(&call, input).await.expect_err("nobody has checked it");
    assert_eq!(denied.code(), "AccessDenied");
}

#[tokio::test]
async fn what_a_session_carries_needs_permissions_of_its_own() {
    let (bench, idp) = (bench().await, Idp::new());
    set_up(&bench, &idp, json!("sts:AssumeRoleWithSAML"), json!({})).await;
    assume(&bench, &idp.signed(&said()), json!({})).await.expect("trusted");
    for (more, action) in [
        (said().with("PrincipalTag:team", &["red"]), "sts:TagSession"),
        (said().with("SourceIdentity", &["amy"]), "sts:SetSourceIdentity"),
    ] {
        let denied = assume(&bench, &idp.signed(&more), json!({})).await.expect_err(action);
        assert!(denied.0.message.contains(action), "{denied}");
    }
    let twice = said().with("TransitiveTagKeys", &["team"]);
    let refused = assume(&bench, &idp.signed(&twice), json!({})).await.expect_err("no such tag");
    assert_eq!(refused.code(), "ValidationError");
}

#[tokio::test]
async fn sessions_end_with_the_providers_own() {
    let (bench, idp) = (bench().await, Idp::new());
    set_up(&bench, &idp, json!("sts:AssumeRoleWithSAML"), json!({})).await;
    let ends =
        |reply: Json| reply["Credentials"]["Expiration"].as_str().expect("a time").to_owned();
    let asked = json!({ "DurationSeconds": 3600 });
    for (said, end) in [
        (said(), "2026-01-01T01:00:00.000Z"),
        (said().with("SessionDuration", &["1800"]), "2026-01-01T00:30:00.000Z"),
        (said().with("SessionDuration", &["7200"]), "2026-01-01T01:00:00.000Z"),
        (
            Said { session_end: Some("2026-01-01T00:10:00Z".to_owned()), ..said() },
            "2026-01-01T00:10:00.000Z",
        ),
    ] {
        for more in [json!({}), asked.clone()] {
            let reply = assume(&bench, &idp.signed(&said), more).await.expect("trusted");
            assert_eq!(ends(reply), end);
        }
    }
    let long = assume(&bench, &idp.signed(&said()), json!({ "DurationSeconds": 7200 })).await;
    assert_eq!(long.expect_err("longer than the role allows").code(), "ValidationError");
    let policy = json!({ "Policy": "{}" });
    let bad = assume(&bench, &idp.signed(&said()), policy).await.expect_err("no policy");
    assert_eq!((bad.code(), bad.0.spec.status), ("MalformedPolicyDocument", 400));
}

#[tokio::test]
async fn responses_that_are_worth_nothing() {
    let (bench, idp) = (bench().await, Idp::new());
    set_up(&bench, &idp, json!("sts:AssumeRoleWithSAML"), json!({})).await;
    let good = idp.signed(&said());
    let no_arn = "arn:aws:sts::aws:policy/none";
    let unknown = "arn:aws:iam::111111111111:saml-provider/none";
    let elsewhere = "arn:aws:iam::222222222222:saml-provider/corp";
    let missing = "arn:aws:iam::111111111111:role/none";
    let refused = Said { status: "urn:oasis:names:tc:SAML:2.0:status:Requester", ..said() };
    let old = Said { issued: "2025-12-31T23:54:00Z".to_owned(), ..said() };
    for (response, more, code, status) in [
        (good.replace("amy@", "eve@"), json!({}), "InvalidIdentityToken", 400),
        (Idp::new().signed(&said()), json!({}), "InvalidIdentityToken", 400),
        (idp.unsigned(&said()), json!({}), "InvalidIdentityToken", 400),
        ("no XML".to_owned(), json!({}), "InvalidIdentityToken", 400),
        (idp.signed(&refused), json!({}), "IDPRejectedClaim", 403),
        (idp.signed(&old), json!({}), "ExpiredTokenException", 400),
        (good.clone(), json!({ "PrincipalArn": unknown }), "InvalidIdentityToken", 400),
        (good.clone(), json!({ "PrincipalArn": elsewhere }), "AccessDenied", 403),
        (good.clone(), json!({ "PrincipalArn": no_arn }), "ValidationError", 400),
        (good.clone(), json!({ "RoleArn": missing }), "AccessDenied", 403),
        (
            idp.signed(&Said::of(missing, PROVIDER)),
            json!({ "RoleArn": missing }),
            "AccessDenied",
            403,
        ),
    ] {
        let refused = assume(&bench, &response, more.clone()).await.expect_err(code);
        assert_eq!((refused.code(), refused.0.spec.status), (code, status), "{refused} {more}");
    }
    assume(&bench, &good, json!({})).await.expect("good as it is");
    assume(&bench, &idp.signed_around(&said()), json!({})).await.expect("signed as a whole");
    // A signed call is nobody the provider vouches for.
    let root = bench.root(&account(1), "us-east-1");
    let input = json!({ "RoleArn": ROLE, "PrincipalArn": PROVIDER,
        "SAMLAssertion": STANDARD.encode(&good) });
    let refused = run::<AssumeRoleWithSaml>(&root, input).await.expect_err("a root");
    assert_eq!(refused.code(), "AccessDenied");
    // Times are those of the server's clock.
    bench.clock.advance_seconds(301);
    let late = assume(&bench, &good, json!({})).await.expect_err("five minutes have passed");
    assert_eq!(late.code(), "ExpiredTokenException");
}

#[tokio::test]
async fn other_keys_are_trusted_from_the_moment_they_are_there() {
    let (bench, old, new) = (bench().await, Idp::new(), Idp::new());
    set_up(&bench, &old, json!("sts:AssumeRoleWithSAML"), json!({})).await;
    let root = bench.root(&account(1), "us-east-1");
    let call = |name: &'static str, input| run_named(&root, Service::Iam, name, input);
    let document = json!({ "SAMLProviderArn": PROVIDER, "SAMLMetadataDocument": new.metadata() });
    call("UpdateSAMLProvider", document).await.expect("replaced");
    assume(&bench, &new.signed(&said()), json!({})).await.expect("the new key");
    let refused = assume(&bench, &old.signed(&said()), json!({})).await.expect_err("the old key");
    assert_eq!(refused.code(), "InvalidIdentityToken");
    let gone = json!({ "SAMLProviderArn": PROVIDER });
    call("DeleteSAMLProvider", gone).await.expect("deleted");
    let refused = assume(&bench, &new.signed(&said()), json!({})).await.expect_err("deleted");
    assert_eq!(refused.code(), "InvalidIdentityToken");
}

/// Runs an operation on the provider as its account's root; the code of a refusal.
async fn provider_call(bench: &Bench, name: &str, mut input: Json) -> Result<Json, String> {
    input["SAMLProviderArn"] = json!(PROVIDER);
    let root = bench.root(&account(1), "us-east-1");
    let reply = run_named(&root, Service::Iam, name, input).await;
    reply.map_err(|error| error.code().to_owned())
}

/// Whether an assertion that is encrypted for a recipient is believed; the code of a refusal.
async fn try_with(bench: &Bench, idp: &Idp, recipient: &Recipient) -> Result<(), String> {
    let mut outcomes = Vec::new();
    for cipher in [Cipher::Gcm, Cipher::Cbc] {
        let response = recipient.encrypted(&idp.signed(&said()), cipher);
        let tried = assume(bench, &response, json!({})).await;
        let subject = tried.map(|reply| reply["Subject"].clone());
        outcomes.push(subject.map_err(|error| error.code().to_owned()));
    }
    assert_eq!(outcomes[0], outcomes[1]);
    outcomes.remove(0).map(|subject| assert_eq!(subject, "amy@example.org"))
}

#[tokio::test]
async fn one_private_key_follows_another() {
    let (bench, idp) = (bench().await, Idp::new());
    set_up(&bench, &idp, json!("sts:AssumeRoleWithSAML"), json!({})).await;
    let update = async |input: Json| provider_call(&bench, "UpdateSAMLProvider", input).await;
    let shown = async || provider_call(&bench, "GetSAMLProvider", json!({})).await.expect("shown");
    let try_with = async |recipient: &Recipient| try_with(&bench, &idp, recipient).await;
    let refused = Err("InvalidIdentityToken".to_owned());
    let (one, two, three) = (Recipient::new(), Recipient::new(), Recipient::new());
    let reply = shown().await;
    let said_of = (&reply["AssertionEncryptionMode"], &reply["PrivateKeyList"]);
    assert_eq!(said_of, (&Json::Null, &Json::Null));
    assert_eq!(try_with(&one).await, refused);

    update(json!({ "AddPrivateKey": one.pem() })).await.expect("added");
    let reply = shown().await;
    assert_eq!(reply["AssertionEncryptionMode"], "Allowed");
    let first = reply["PrivateKeyList"][0]["KeyId"].as_str().expect("an id").to_owned();
    assert!((22..=64).contains(&first.len()), "{first}");
    assert_eq!(reply["PrivateKeyList"][0]["Timestamp"], "2026-01-01T00:00:00.000Z");
    assert_eq!(try_with(&one).await, Ok(()));
    assert_eq!(try_with(&two).await, refused);
    assume(&bench, &idp.signed(&said()), json!({})).await.expect("not encrypted is allowed");

    bench.clock.advance_seconds(1);
    update(json!({ "AddPrivateKey": two.pem() })).await.expect("added");
    let third = update(json!({ "AddPrivateKey": three.pem() })).await;
    assert_eq!(third, Err("LimitExceeded".to_owned()));
    for recipient in [&one, &two] {
        assert_eq!(try_with(recipient).await, Ok(()));
    }
    update(json!({ "RemovePrivateKey": first })).await.expect("removed");
    let again = update(json!({ "RemovePrivateKey": first })).await;
    assert_eq!(again, Err("NoSuchEntity".to_owned()));
    assert_eq!(try_with(&one).await, refused);
    assert_eq!(try_with(&two).await, Ok(()));
    assert_eq!(shown().await["PrivateKeyList"].as_array().map(Vec::len), Some(1));
    // A metadata document alone leaves the keys as they are.
    update(json!({ "SAMLMetadataDocument": idp.metadata() })).await.expect("replaced");
    assert_eq!(try_with(&two).await, Ok(()));
}

#[tokio::test]
async fn a_provider_that_requires_encryption_has_a_key_of_its_own() {
    let (bench, idp) = (bench().await, Idp::new());
    set_up(&bench, &idp, json!("sts:AssumeRoleWithSAML"), json!({})).await;
    let update = async |input: Json| provider_call(&bench, "UpdateSAMLProvider", input).await;
    let try_with = async |recipient: &Recipient| try_with(&bench, &idp, recipient).await;
    let (old, new) = (Recipient::new(), Recipient::new());
    let invalid = Err("InvalidInput".to_owned());
    let required = json!({ "AssertionEncryptionMode": "Required" });
    for nothing in [json!({}), required.clone(), json!({ "AddPrivateKey": "no key" })] {
        assert_eq!(update(nothing).await, invalid);
    }
    let with_key = json!({ "AssertionEncryptionMode": "Required", "AddPrivateKey": old.pem() });
    update(with_key).await.expect("added");
    assert_eq!(try_with(&old).await, Ok(()));
    let plain = assume(&bench, &idp.signed(&said()), json!({})).await.expect_err("not encrypted");
    assert_eq!(plain.code(), "InvalidIdentityToken");
    let shown = provider_call(&bench, "GetSAMLProvider", json!({})).await.expect("shown");
    assert_eq!(shown["AssertionEncryptionMode"], "Required");
    let last = json!({ "RemovePrivateKey": shown["PrivateKeyList"][0]["KeyId"] });
    assert_eq!(update(last).await, invalid);
    assert_eq!(try_with(&old).await, Ok(()), "it is still there");

    let kept = async || {
        let sql = "SELECT key_id FROM iam_saml_private_keys";
        let count = |tx: &mut Tx<'_>| Ok::<_, meta::Error>(tx.query(sql, params![])?.len());
        bench.world.db.read(count).await.expect("the rows are read")
    };
    assert_eq!(kept().await, 1);
    // Its keys go with it, and one that is made again has none of them.
    provider_call(&bench, "DeleteSAMLProvider", json!({})).await.expect("deleted");
    assert_eq!(kept().await, 0);
    let root = bench.root(&account(1), "us-east-1");
    let create = async |mut input: Json| {
        input["Name"] = json!("corp");
        input["SAMLMetadataDocument"] = json!(idp.metadata());
        let made = run_named(&root, Service::Iam, "CreateSAMLProvider", input).await;
        made.map_err(|error| error.code().to_owned())
    };
    assert_eq!(create(required).await, invalid);
    let with_key = json!({ "AssertionEncryptionMode": "Required", "AddPrivateKey": new.pem() });
    create(with_key).await.expect("made");
    assert_eq!(try_with(&new).await, Ok(()));
    assert_eq!(try_with(&old).await, Err("InvalidIdentityToken".to_owned()));
}

#[tokio::test]
async fn private_keys_are_neither_kept_in_the_clear_nor_shown() {
    let (bench, idp, recipient) = (bench().await, Idp::new(), Recipient::new());
    set_up(&bench, &idp, json!("sts:AssumeRoleWithSAML"), json!({})).await;
    let root = bench.root(&account(1), "us-east-1");
    let pem = recipient.pem();
    let input = json!({ "SAMLProviderArn": PROVIDER, "AddPrivateKey": pem });
    run_named(&root, Service::Iam, "UpdateSAMLProvider", input).await.expect("added");
    let secret = pem.lines().nth(1).expect("the key");
    let der = STANDARD.decode(secret).expect("base64");
    let rows = bench.world.db.read(|tx| -> identity::Result<_> {
        let rows = tx.query("SELECT sealed FROM iam_saml_private_keys", &[])?;
        Ok(rows.iter().map(|row| row.get::<Vec<u8>>(0)).collect::<Result<Vec<_>, _>>()?)
    });
    let rows = rows.await.expect("read");
    assert_eq!(rows.len(), 1);
    assert!(rows[0].len() > der.len());
    assert!(!rows[0].windows(16).any(|window| der.windows(16).any(|part| part == window)));
    let asked = json!({ "MaxResults": 50 });
    let found = run_named(&root, Service::CloudTrail, "LookupEvents", asked).await.expect("found");
    let found = found.to_string();
    assert!(found.contains("UpdateSAMLProvider"));
    let shown = json!({ "SAMLProviderArn": PROVIDER });
    let shown = run_named(&root, Service::Iam, "GetSAMLProvider", shown).await.expect("shown");
    for text in [found, shown.to_string()] {
        assert!(!text.contains("PRIVATE KEY") && !text.contains(&secret[40..120]));
    }
}
