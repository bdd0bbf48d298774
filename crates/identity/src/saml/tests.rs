//! Responses that are believed and responses that are not.

use super::*;
use base::Timestamp;
use serde::Deserialize;

#[path = "../../tests/it/idp.rs"]
mod idp;

use idp::{Cipher, Idp, Recipient, Said};
use private_key::PrivateKeys;

const ROLE: &str = "arn:aws:iam::111111111111:role/dev";
const PROVIDER: &str = "arn:aws:iam::111111111111:saml-provider/corp";
const NOW: Timestamp = Timestamp(1_767_225_600_000);

fn provider(metadata: &str) -> Provider {
    Provider {
        account: AccountId::parse("111111111111").unwrap(),
        name: "corp".to_owned(),
        unique_id: "SAMLPEXAMPLE".to_owned(),
        metadata: Metadata::read(metadata).unwrap(),
        valid_until: NOW.plus_seconds(86_400),
        created_at: NOW,
        encryption: None,
    }
}

fn said() -> Said {
    Said::of(ROLE, PROVIDER)
}

fn check(provider: &Provider, response: &str) -> std::result::Result<Claims, SamlError> {
    check_with(provider, &PrivateKeys::default(), response)
}

fn check_with(
    provider: &Provider,
    keys: &PrivateKeys,
    response: &str,
) -> std::result::Result<Claims, SamlError> {
    provider.check(&STANDARD.encode(response), keys, NOW).map(|vouched| vouched.claims().clone())
}

#[test]
fn a_signed_assertion_and_a_signed_response_are_believed() {
    let idp = Idp::new();
    let provider = provider(&idp.metadata());
    for response in [idp.signed(&said()), idp.signed_around(&said())] {
        let claims = check(&provider, &response).unwrap();
        assert!(claims.is_for(ROLE, PROVIDER) && !claims.is_for(ROLE, "other"));
        assert_eq!(claims.subject, "amy@example.org");
        assert_eq!((claims.subject_type(), claims.sub_type()), ("persistent", "persistent"));
        assert_eq!(claims.session_name, "amy");
        assert_eq!(claims.recipient, idp::SIGN_IN);
    }
    // printf %s https://idp.example.org/saml111111111111/corp | openssl sha1 -binary | base64
    assert_eq!(provider.name_qualifier(), "ZrTs7ttF0+nt0LmkCHyMdHURaCk=");
    let refused = check(&provider, &idp.unsigned(&said())).unwrap_err();
    assert!(refused.to_string().contains("is signed"), "{refused}");
    let refused = check(&provider, &Idp::new().signed(&said())).unwrap_err();
    assert!(refused.to_string().contains("no key"), "{refused}");
}

#[test]
fn what_a_response_has_to_say() {
    let idp = Idp::new();
    let provider = provider(&idp.metadata());
    let late = "2026-01-01T00:00:00Z".to_owned();
    let good = Said { audience: format!("{}#2", idp::SIGN_IN), ..said() };
    assert!(check(&provider, &idp.signed(&good)).is_ok());
    let of_region = "https://eu-west-1.signin.aws.amazon.com/saml/acs/SAMLPEXAMPLE".to_owned();
    let good = Said { recipient: of_region.clone(), audience: of_region, ..said() };
    assert!(check(&provider, &idp.signed(&good)).is_ok());
    let changed = |change: &dyn Fn(&mut Said)| {
        let mut said = said();
        change(&mut said);
        check(&provider, &idp.signed(&said)).unwrap_err()
    };
    let text = |text: &str| text.to_owned();
    for (refused, why) in [
        (changed(&|s| s.issuer = text("https://other")), "Issuer not present"),
        (changed(&|s| s.subject = String::new()), "NameID"),
        (
            changed(&|s| s.recipient = text("https://signin.aws.amazon.com.evil.org/saml")),
            "Recipient",
        ),
        (changed(&|s| s.recipient = text("https://a.b.signin.aws.amazon.com/saml")), "Recipient"),
        (changed(&|s| s.recipient = format!("{}/acs/OTHER", idp::SIGN_IN)), "Recipient"),
        (changed(&|s| s.audience = text("https://sp.example.org")), "audience"),
        (changed(&|s| s.not_before = text("yesterday")), "not an instant"),
        (changed(&|s| s.issued = text("2026-01-01T00:05:01Z")), "future"),
    ] {
        assert!(matches!(refused, SamlError::Invalid(_)), "{refused:?}");
        assert!(refused.to_string().contains(why), "{refused}");
    }
    for refused in [
        changed(&|s| s.issued = text("2025-12-31T23:54:59Z")),
        changed(&|s| s.until[0] = late.clone()),
        changed(&|s| s.until[1] = late.clone()),
        changed(&|s| s.session_end = Some(late.clone())),
    ] {
        assert!(matches!(refused, SamlError::Expired(_)), "{refused:?}");
    }
    for refused in [
        changed(&|s| s.not_before = text("2026-01-01T00:05:01Z")),
        changed(&|s| s.status = "urn:oasis:names:tc:SAML:2.0:status:Responder"),
    ] {
        assert!(matches!(refused, SamlError::Rejected(_)), "{refused:?}");
    }
    let refused = provider.check(
        &STANDARD.encode(idp.signed(&said())),
        &PrivateKeys::default(),
        provider.valid_until,
    );
    assert!(refused.unwrap_err().to_string().contains("metadata"));
}

#[test]
fn what_attributes_say() {
    let idp = Idp::new();
    let provider = provider(&idp.metadata());
    let rich = said()
        .with("Role", &[&format!(" {PROVIDER} , {ROLE} "), &format!("{ROLE}2,{PROVIDER}")])
        .with("PrincipalTag:team", &["red"])
        .with("TransitiveTagKeys", &["team"])
        .with("SourceIdentity", &["amy"])
        .with("SessionDuration", &["1800"])
        .attribute("urn:oid:1.3.6.1.4.1.5923.1.1.1.1", &["staff", "member"])
        .attribute("urn:oid:1.3.6.1.4.1.5923.1.1.1.3", &["dc=example"])
        .attribute("urn:oid:1.3.6.1.4.1.5923.1.1.1.6", &["one", "two"]);
    let claims = check(&provider, &idp.signed(&rich)).unwrap();
    assert!(claims.is_for(ROLE, PROVIDER) && claims.is_for(&format!("{ROLE}2"), PROVIDER));
    assert_eq!(claims.tags, Tags::from([("team".to_owned(), "red".to_owned())]));
    assert_eq!(claims.transitive_tag_keys, ["team"]);
    assert_eq!(claims.source_identity.as_deref(), Some("amy"));
    assert_eq!(claims.seconds_max, Some(1800));
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let expected = [
        ("saml:edupersonaffiliation", Values::Many, texts(&["staff", "member"])),
        ("saml:edupersonorgdn", Values::One, texts(&["dc=example"])),
    ];
    let expected = expected.map(|(key, values, texts)| (key.to_owned(), (values, texts)));
    assert_eq!(claims.keys, BTreeMap::from(expected));
    for (said, why) in [
        (said().with("Role", &[]), "attribute https://aws.amazon.com/SAML/Attributes/Role"),
        (said().with("Role", &[ROLE]), "pair"),
        (said().with("Role", &[&format!("{ROLE},{ROLE}")]), "pair"),
        (said().with("RoleSessionName", &[]), "one value"),
        (said().with("RoleSessionName", &["a", "b"]), "one value"),
        (said().with("RoleSessionName", &["a b"]), "must match"),
        (said().with("RoleSessionName", &["a"]), "must match"),
        (said().with("SessionDuration", &["899"]), "900 to 43200"),
        (said().with("SourceIdentity", &["aws:amy"]), "Source Identity"),
        (said().with("PrincipalTag:team", &["red", "blue"]), "one value"),
        (said().with("RoleSessionName", &["<b>amy</b>"]), "more than a text"),
        (said().attribute(&said().attributes[1].0, &["bob"]), "more than one attribute"),
    ] {
        let refused = check(&provider, &idp.signed(&said)).unwrap_err();
        assert!(refused.to_string().contains(why), "{refused}");
    }
}

fn between(text: &str, start: &str, end: &str) -> String {
    let from = text.find(start).unwrap();
    let to = text.find(end).unwrap() + end.len();
    text[from..to].to_owned()
}

fn assertion_of(response: &str) -> String {
    between(response, "<saml:Assertion", "</saml:Assertion>")
}

fn signature_of(response: &str) -> String {
    between(response, "<ds:Signature", "</ds:Signature>")
}

/// Attacks that leave the signature good and show another assertion (signature wrapping).
#[test]
fn what_is_signed_is_what_is_read() {
    let idp = Idp::new();
    let provider = provider(&idp.metadata());
    let good = idp.signed(&said());
    assert!(check(&provider, &good).is_ok());
    let (honest, signature) = (assertion_of(&good), signature_of(&good));
    let evil = assertion_of(&idp.unsigned(&Said { subject: "root".to_owned(), ..said() }));
    let other_id = evil.replace("_a1", "_evil");
    let issuer = format!("<saml:Issuer>{}</saml:Issuer>", idp::ENTITY_ID);
    let into =
        |assertion: &str, what: &str| assertion.replacen(&issuer, &format!("{issuer}{what}"), 1);
    let object = format!("<ds:Object>{honest}</ds:Object></ds:Signature>");
    let with_object = signature.replace("</ds:Signature>", &object);
    let advice = format!("{signature}<saml:Advice>{honest}</saml:Advice>");
    let extensions = format!("<samlp:Extensions>{honest}</samlp:Extensions>{other_id}");
    for (content, why) in [
        (format!("{evil}{honest}"), "two ids"),
        (format!("{other_id}{honest}"), "2 assertions"),
        (format!("{honest}{other_id}"), "2 assertions"),
        (into(&other_id, &with_object), "not directly in the response"),
        (into(&other_id, &advice), "not directly in the response"),
        (extensions, "not directly in the response"),
        (format!("{good}{other_id}"), "two ids"),
        (format!("{}{other_id}", good.replacen("_r1", "_r2", 1)), "a response in it"),
        (into(&evil, &signature), "not what was signed"),
        (into(&other_id, &signature), "not over the element"),
        (format!("{signature}{evil}"), "not over the element"),
        (into(&honest, &signature), "more than one Signature"),
        (format!("{honest}<x>{signature}</x>"), "where none is expected"),
    ] {
        let refused = check(&provider, &said().response(&content)).expect_err(why);
        assert!(matches!(refused, SamlError::Invalid(_)), "{refused:?}");
        assert!(refused.to_string().contains(why), "{refused}, and not {why}");
    }
    // A good signature of the assertion does not excuse a bad one around it.
    let around = format!("{}<samlp:Status>", signature_of(&idp.signed_around(&said())));
    assert!(check(&provider, &good.replacen("<samlp:Status>", &around, 1)).is_err());
}

/// Texts that are read in two ways, and forms of signatures that SAML does not have.
#[test]
fn there_is_one_form_of_what_is_signed() {
    let idp = Idp::new();
    let provider = provider(&idp.metadata());
    let good = idp.signed(&said());
    let encrypted = good.replace("saml:NameID", "saml:EncryptedID");
    let admin = "arn:aws:iam::111111111111:role/admin";
    let ecdsa = "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256";
    let sha256 = "http://www.w3.org/2001/04/xmlenc#sha256";
    let enveloped = "http://www.w3.org/2000/09/xmldsig#enveloped-signature";
    let form = "http://www.w3.org/2001/10/xml-exc-c14n#\"></ds:Transform>";
    let many = format!(
        "http://www.w3.org/2001/10/xml-exc-c14n#\"><e:InclusiveNamespaces \
         xmlns:e=\"http://www.w3.org/2001/10/xml-exc-c14n#\" PrefixList=\"{}\"/></ds:Transform>",
        "p ".repeat(33)
    );
    let xslt = "http://www.w3.org/TR/1999/REC-xslt-19991116";
    for (response, why) in [
        (good.replace("amy@example.org", "amy<!-- -->@example.org"), "a comment"),
        (good.replace("<samlp:Status>", "<!-- --><samlp:Status>"), "a comment"),
        (good.replace("amy@example.org", "root"), "not what was signed"),
        (good.replace(ROLE, admin), "not what was signed"),
        (format!("<!DOCTYPE a [<!ENTITY b \"c\">]>{good}"), "a document type"),
        (encrypted, "EncryptedID is not supported"),
        (good.replace(ecdsa, "http://www.w3.org/2000/09/xmldsig#rsa-sha1"), "rsa-sha1"),
        (good.replace(sha256, "http://www.w3.org/2000/09/xmldsig#sha1"), "sha1"),
        (good.replace(enveloped, xslt), "enveloped-signature"),
        (good.replace(form, &many), "more than 32 prefixes"),
        (good.replace("URI=\"#_a1\"", "URI=\"\""), "not to an id"),
        (good.replace("URI=\"#_a1\"", "URI=\"https://a.org/x\""), "not to an id"),
        (good.replace("URI=\"#_a1\"", "URI=\"#_r1\""), "not over the element"),
    ] {
        assert_ne!(response, good, "{why}");
        let refused = check(&provider, &response).expect_err(why);
        assert!(matches!(refused, SamlError::Invalid(_)), "{refused:?}");
        assert!(refused.to_string().contains(why), "{refused}");
    }
}

#[test]
fn a_key_in_the_message_is_not_looked_at() {
    let (idp, other) = (Idp::new(), Idp::new());
    let info = format!(
        "<ds:KeyInfo><ds:X509Data><ds:X509Certificate>{}</ds:X509Certificate></ds:X509Data></ds:KeyInfo>\
         </ds:Signature>",
        other.certificate()
    );
    let good = idp.signed(&said()).replace("</ds:Signature>", &info);
    assert!(check(&provider(&idp.metadata()), &good).is_ok());
    let forged = other.signed(&said()).replace("</ds:Signature>", &info);
    assert!(check(&provider(&idp.metadata()), &forged).is_err());
}

#[test]
fn metadata_documents() {
    let idp = Idp::new();
    let good = idp.metadata();
    let read = Metadata::read(&good).unwrap();
    assert_eq!((read.entity_id.as_str(), read.keys.len()), (idp::ENTITY_ID, 1));
    assert_eq!(read.valid_until(), None);
    let until = good.replace("entityID", "validUntil=\"2030-01-01T00:00:00Z\" entityID");
    assert_eq!(Metadata::read(&until).unwrap().valid_until(), Some(Timestamp(1_893_456_000_000)));
    let again = good.replace(
        "<md:KeyDescriptor",
        &format!(
            "<md:KeyDescriptor><ds:KeyInfo xmlns:ds=\"http://www.w3.org/2000/09/xmldsig#\"><ds:X509Data>\
             <ds:X509Certificate>{}</ds:X509Certificate></ds:X509Data></ds:KeyInfo></md:KeyDescriptor>\
             <md:KeyDescriptor",
            Idp::new().certificate()
        ),
    );
    assert_eq!(Metadata::read(&again).unwrap().keys.len(), 2);
    for (bad, why) in [
        ("short".to_owned(), "characters"),
        (good.replace("EntityDescriptor", "EntitiesDescriptor"), "not an EntityDescriptor"),
        (good.replace("IDPSSODescriptor", "SPSSODescriptor"), "no IDPSSODescriptor"),
        (good.replace("use=\"signing\"", "use=\"encryption\""), "certificate for signatures"),
        (good.replace("SAML:2.0:protocol\">", "SAML:1.1:protocol\">"), "no IDPSSODescriptor"),
        (good.replace(idp::ENTITY_ID, ""), "entityID"),
        (good.replace(&idp.certificate(), "AAAA"), "certificate cannot be read"),
        (good.replace(&idp.certificate(), "."), "not base64"),
        (good.replace("<?xml version=\"1.0\"?>", "<!DOCTYPE a>"), "not well-formed"),
        (good.replace("entityID", "validUntil=\"soon\" entityID"), "not an instant"),
    ] {
        let refused = Metadata::read(&bad).unwrap_err();
        assert!(refused.contains(why), "{refused}");
    }
}

#[derive(Deserialize)]
struct Canonical {
    text: String,
    id: String,
    prefixes: String,
    canonical: String,
}

#[derive(Deserialize)]
struct Response {
    name: String,
    certificate: String,
    response: String,
}

fn responses() -> Vec<(Response, Provider)> {
    let read: Vec<Response> = serde_json::from_str(include_str!("vectors/responses.json")).unwrap();
    let idp = Idp::new();
    let with = |response: Response| {
        let metadata = idp.metadata().replace(&idp.certificate(), &response.certificate);
        (response, provider(&metadata))
    };
    read.into_iter().map(with).collect()
}

/// What lxml makes of the same texts.
#[test]
fn canonical_forms_are_those_of_another_program() {
    let cases: Vec<Canonical> =
        serde_json::from_str(include_str!("vectors/canonical.json")).unwrap();
    assert!(cases.len() >= 20);
    for case in cases {
        let text = xml::Text::new(&case.text);
        let document = text.message().unwrap();
        let mut nodes = document.descendants();
        let apex = nodes.find(|node| node.attribute("ID") == Some(&case.id)).unwrap();
        let prefixes: Vec<&str> = case.prefixes.split_whitespace().collect();
        let canonical = c14n::exclusive(apex, &prefixes, None);
        assert_eq!(String::from_utf8(canonical).unwrap(), case.canonical, "{}", case.text);
    }
}

/// lxml leaves the word for the default namespace out before it asks its canonicalizer.
#[test]
fn the_default_namespace_can_be_kept() {
    let text = xml::Text::new("<a xmlns=\"urn:a\" xmlns:p=\"urn:p\"><p:b><c/></p:b></a>");
    let document = text.message().unwrap();
    let apex = document.root_element().first_element_child().unwrap();
    let kept = c14n::exclusive(apex, &["#default"], None);
    let expected = "<p:b xmlns=\"urn:a\" xmlns:p=\"urn:p\"><c></c></p:b>";
    assert_eq!(String::from_utf8(kept).unwrap(), expected);
}

/// What signxml has signed.
#[test]
fn signatures_of_another_program() {
    for (Response { name, response, .. }, provider) in responses() {
        let claims = check(&provider, &response).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(claims.subject, "amy & b@example.org", "{name}");
        let email = "urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress";
        assert_eq!((claims.subject_type(), claims.sub_type()), (email, email));
        for (old, new) in [
            ("amy &amp; b@", "bob &amp; b@"),
            (":role/dev", ":role/adm"),
            ("    <saml:Subject>", "  <saml:Subject>"),
        ] {
            let changed = response.replacen(old, new, 1);
            let refused = check(&provider, &changed).expect_err(&name).to_string();
            assert!(refused.contains("not what was signed"), "{name}: {refused}");
        }
    }
}

fuzz::target!(
    /// Whatever is done to a signed response, it says what was signed or is refused.
    responses_with_edits,
    responses().into_iter().map(|(response, _)| response.response.into_bytes()).collect(),
    {
        // All say the same, so one provider with all their keys will do.
        let known = responses();
        let signed = check(&known[0].1, &known[0].0.response).unwrap();
        let mut provider = known[0].1.clone();
        provider.metadata.keys = known.iter().flat_map(|(_, of)| of.metadata.keys.clone()).collect();
        move |bytes: &[u8]| {
            if let Ok(vouched) = provider.check(&STANDARD.encode(bytes), &PrivateKeys::default(), NOW) {
                assert_eq!(*vouched.claims(), signed, "{}", String::from_utf8_lossy(bytes));
            }
        }
    }
);

fn keys_of(recipients: &[&Recipient]) -> PrivateKeys {
    let read = |recipient: &&Recipient| private_key::read_pem(&recipient.pem()).unwrap();
    PrivateKeys(recipients.iter().map(read).collect())
}

#[test]
fn an_encrypted_assertion_is_believed_when_it_or_the_response_is_signed() {
    let (idp, old, new) = (Idp::new(), Recipient::new(), Recipient::new());
    let mut provider = provider(&idp.metadata());
    let keys = keys_of(&[&old, &new]);
    for cipher in [Cipher::Gcm, Cipher::Cbc] {
        let inside = new.encrypted(&idp.signed(&said()), cipher);
        assert!(!inside.contains("amy@example.org") && !inside.contains("<saml:Assertion"));
        let around = idp.sign_around(&old.encrypted(&idp.unsigned(&said()), cipher));
        let both = idp.sign_around(&old.encrypted(&idp.signed(&said()), cipher));
        // The prefix is declared where the assertion belongs, and not in what was encrypted.
        let declared = " xmlns:saml=\"urn:oasis:names:tc:SAML:2.0:assertion\" ID=\"_a1\"";
        let bare = idp.signed(&said()).replace(declared, " ID=\"_a1\"");
        let bare = new.encrypted(&bare, cipher);
        for mode in [None, Some(EncryptionMode::Allowed), Some(EncryptionMode::Required)] {
            provider.encryption = mode;
            for response in [&inside, &around, &both, &bare] {
                let claims = check_with(&provider, &keys, response).unwrap();
                assert_eq!(claims.subject, "amy@example.org", "{cipher:?}");
                assert!(claims.is_for(ROLE, PROVIDER));
            }
            let plain = check_with(&provider, &keys, &idp.signed(&said()));
            match mode {
                None | Some(EncryptionMode::Allowed) => assert!(plain.is_ok()),
                Some(EncryptionMode::Required) => {
                    let refused = plain.unwrap_err().to_string();
                    assert!(refused.contains("requires encrypted assertions"), "{refused}");
                }
            }
        }
        let refused = check(&provider, &inside).unwrap_err().to_string();
        assert!(refused.contains("no private key"), "{refused}");
        // What the assertion says is checked as ever.
        let late = Said { issued: "2025-12-31T23:54:59Z".to_owned(), ..said() };
        let late = check_with(&provider, &keys, &new.encrypted(&idp.signed(&late), cipher));
        assert!(matches!(late, Err(SamlError::Expired(_))), "{late:?}");
    }
}

#[test]
fn of_what_does_not_open_nothing_else_is_told() {
    let (idp, recipient) = (Idp::new(), Recipient::new());
    let provider = provider(&idp.metadata());
    let keys = keys_of(&[&recipient]);
    let good = idp.signed(&said());
    for cipher in [Cipher::Gcm, Cipher::Cbc] {
        let encrypted = recipient.encrypted(&good, cipher);
        let with = |inside: &str| said().response(&recipient.element(inside, cipher));
        let assertion = assertion_of(&good);
        let other = assertion_of(&idp.unsigned(&Said { subject: "root".to_owned(), ..said() }));
        let other = other.replace("_a1", "_evil");
        let mut bad = vec![
            Recipient::new().encrypted(&good, cipher),
            recipient.encrypted(&idp.unsigned(&said()), cipher),
            recipient.encrypted(&Idp::new().signed(&said()), cipher),
            recipient.encrypted(&good.replace(ROLE, PROVIDER), cipher),
            with(""),
            with("amy"),
            with("<saml:Assertion>"),
            with(&format!("{assertion}{other}")),
            with(&format!("{other}{assertion}")),
            with(&format!("{assertion}amy")),
            with(&format!("<a>{assertion}</a>")),
            with(&format!("{assertion}</opened><opened>")),
            with(&format!("<!-- -->{assertion}")),
            with(&recipient.element(&assertion, cipher)),
            with(&good),
            with(&assertion.replace("Version=\"2.0\"", "Version=\"1.1\"")),
        ];
        // Every part of what is encrypted, and of the key.
        let values: Vec<_> = encrypted.match_indices("<xenc:CipherValue>").collect();
        for (at, mark) in values {
            let start = at + mark.len();
            let length = encrypted[start..].find('<').unwrap();
            let bytes = STANDARD.decode(&encrypted[start..start + length]).unwrap();
            for index in (0..bytes.len()).step_by(bytes.len() / 40) {
                let mut altered = bytes.clone();
                altered[index] ^= 1;
                let altered = STANDARD.encode(altered);
                bad.push(encrypted.replace(&encrypted[start..start + length], &altered));
            }
            for cut in [0, 11, 15, 16, 17, 28, 32, 48, bytes.len() - 1, bytes.len() - 16] {
                let cut = STANDARD.encode(&bytes[..cut]);
                bad.push(encrypted.replace(&encrypted[start..start + length], &cut));
            }
        }
        assert!(bad.len() > 100);
        for response in bad {
            let refused = check_with(&provider, &keys, &response).expect_err(&response);
            assert_eq!(refused, SamlError::Invalid(response::NOT_OPENED.to_owned()), "{response}");
        }
        assert!(check_with(&provider, &keys, &encrypted).is_ok());
    }
    // A signature around what is encrypted is checked before anything is opened.
    let around = idp.sign_around(&recipient.encrypted(&idp.unsigned(&said()), Cipher::Gcm));
    let exchanged = recipient.encrypted(&idp.signed(&said()), Cipher::Gcm);
    let find = |text: &str| between(text, "<saml:EncryptedAssertion", "</saml:EncryptedAssertion>");
    let exchanged = around.replace(&find(&around), &find(&exchanged));
    let refused = check_with(&provider, &keys, &exchanged).unwrap_err().to_string();
    assert!(refused.contains("not what was signed"), "{refused}");
}

#[test]
fn forms_of_encryption_that_are_not_accepted_are_named() {
    let (idp, recipient) = (Idp::new(), Recipient::new());
    let provider = provider(&idp.metadata());
    let keys = keys_of(&[&recipient]);
    let good = recipient.encrypted(&idp.signed(&said()), Cipher::Gcm);
    let xenc = |name: &str| format!("http://www.w3.org/2001/04/xmlenc#{name}");
    let key = between(&good, "<xenc:EncryptedKey>", "</xenc:EncryptedKey>");
    let oaep = "http://www.w3.org/2009/xmlenc11#rsa-oaep";
    let data = "</xenc:EncryptedData>";
    let own_key = key.replace(
        "<xenc:EncryptedKey>",
        "<xenc:EncryptedKey xmlns:ds=\"http://www.w3.org/2000/09/xmldsig#\" \
         xmlns:xenc=\"http://www.w3.org/2001/04/xmlenc#\">",
    );
    for (response, why) in [
        (good.replace(oaep, &xenc("rsa-1_5")), "rsa-1_5"),
        (good.replace(oaep, &xenc("rsa-oaep-mgf1p")), "rsa-oaep-mgf1p"),
        (good.replace("mgf1sha256", "mgf1sha1"), "mgf1sha1"),
        (good.replace("http://www.w3.org/2009/xmlenc11#aes256-gcm", &xenc("tripledes-cbc")), "des"),
        (good.replace("xmlenc#Element", "xmlenc#Content"), "not an element"),
        (good.replace(&key, ""), "0 EncryptedKeys"),
        (good.replace(&key, &format!("{key}{key}")), "2 EncryptedKeys"),
        (good.replace(data, &format!("{data}{own_key}")), "2 EncryptedKeys"),
        (good.replace("x11:MGF", "x11:PRF"), "parameters"),
        (good.replace("xenc:CipherValue", "xenc:CipherReference"), "no CipherValue"),
    ] {
        assert_ne!(response, good, "{why}");
        let refused = check_with(&provider, &keys, &response).expect_err(why);
        assert!(matches!(refused, SamlError::Invalid(_)), "{refused:?}");
        assert!(refused.to_string().contains(why), "{refused}, and not {why}");
    }
    // The key may lie beside what it opens.
    let info = between(&good, "<ds:KeyInfo", "</ds:KeyInfo>");
    let beside = good.replace(&info, "").replace(data, &format!("{data}{own_key}"));
    assert!(check_with(&provider, &keys, &beside).is_ok());
}

fuzz::target!(
    /// Whatever is encrypted, it says what was signed or is refused with the one sentence for it.
    encrypted_assertions_with_edits,
    {
        let of = |(response, _): &(Response, Provider)| assertion_of(&response.response);
        responses().iter().map(|response| of(response).into_bytes()).collect()
    },
    {
        let recipient = Recipient::new();
        let keys = keys_of(&[&recipient]);
        let known = responses();
        let signed = check(&known[0].1, &known[0].0.response).unwrap();
        let mut provider = known[0].1.clone();
        provider.metadata.keys = known.iter().flat_map(|(_, of)| of.metadata.keys.clone()).collect();
        move |bytes: &[u8]| {
            let Ok(text) = std::str::from_utf8(bytes) else { return };
            let response = said().response(&recipient.element(text, Cipher::Cbc));
            match check_with(&provider, &keys, &response) {
                Ok(claims) => assert_eq!(claims, signed, "{text}"),
                Err(error) => assert_eq!(error.to_string(), response::NOT_OPENED, "{text}"),
            }
        }
    }
);

fuzz::target!(
    /// A canonical form is its own canonical form, and a text of the same tree.
    canonical_forms,
    {
        let cases: Vec<Canonical> =
            serde_json::from_str(include_str!("vectors/canonical.json")).unwrap();
        cases.into_iter().map(|case| case.text.into_bytes()).collect()
    },
    |bytes: &[u8]| {
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        let text = xml::Text::new(text);
        let Ok(document) = text.message() else { return };
        let canonical = c14n::exclusive(document.root_element(), &[], None);
        let canonical = String::from_utf8(canonical).unwrap();
        let again = xml::Text::new(&canonical);
        let document = again.message().unwrap_or_else(|why| panic!("{why}: {canonical}"));
        let twice = c14n::exclusive(document.root_element(), &[], None);
        assert_eq!(String::from_utf8(twice).unwrap(), canonical);
    }
);

fuzz::target!(
    /// A metadata document is read or refused, and what was read is kept as it is.
    metadata_documents_with_edits,
    vec![Idp::new().metadata().into_bytes()],
    |bytes: &[u8]| {
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        let Ok(metadata) = Metadata::read(text) else { return };
        assert!(!metadata.keys.is_empty() && !metadata.entity_id.is_empty());
        let kept: Metadata = serde_json::from_str(&to_text(&metadata)).unwrap();
        assert_eq!(kept, metadata);
    }
);
