//! What a SAML response says, once its signature is known to be good (SAML Core, 2 and 3; SAML
//! Profiles, 4.1.4; IAM guide, "Configure SAML assertions for the authentication response").
//!
//! A response has exactly one assertion, which may be encrypted. It is believed when a key of the provider's
//! metadata has signed it, or the response around it; a signature that is there and is not good is never passed
//! over. Claims are read from the [`Signed`] element alone.

use super::certificate::SigningKey;
use super::encrypted::Encrypted;
use super::private_key::PrivateKeys;
use super::signature::{self, DS, Signed};
use super::xml::{Text, at_most_one, elements, named, one, text_of};
use super::{Claims, EncryptionMode, SamlError, attributes};
use base::Timestamp;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use roxmltree::{Document, Node};

/// The namespace of assertions.
pub(super) const SAML: &str = "urn:oasis:names:tc:SAML:2.0:assertion";
const SAMLP: &str = "urn:oasis:names:tc:SAML:2.0:protocol";
const SUCCESS: &str = "urn:oasis:names:tc:SAML:2.0:status:Success";
const BEARER: &str = "urn:oasis:names:tc:SAML:2.0:cm:bearer";
const UNSPECIFIED: &str = "urn:oasis:names:tc:SAML:1.1:nameid-format:unspecified";

/// Longest response, as base64 (STS API, `SAMLAssertion`).
const BASE64_BYTES_MAX: usize = 100_000;
/// How far the provider's clock may be ahead of ours.
const SKEW_SECONDS: i64 = 300;
/// How long after it was issued a response is taken (STS API, AssumeRoleWithSAML).
const FRESH_SECONDS: i64 = 300;
/// Longest name of a subject (SAML Core, 8.3.7 and 8.3.8).
const SUBJECT_CHARS_MAX: usize = 256;

/// Against what a response is checked.
pub(super) struct Expected<'a> {
    pub(super) entity_id: &'a str,
    pub(super) keys: &'a [SigningKey],
    /// What opens encrypted assertions.
    pub(super) private_keys: &'a PrivateKeys,
    /// Whether assertions have to be encrypted.
    pub(super) encryption: Option<EncryptionMode>,
    /// The provider's unique id, which its own sign-in address ends with.
    pub(super) unique_id: &'a str,
    pub(super) now: Timestamp,
}

fn invalid<T>(why: impl Into<String>) -> Result<T, SamlError> {
    Err(SamlError::Invalid(why.into()))
}

/// A response that is not of the form of one.
fn malformed(why: String) -> SamlError {
    SamlError::Invalid(format!("Invalid SAML response: {why}"))
}

/// What is said of an encrypted assertion that does not open, or of which nobody vouches for what is inside: the same,
/// whatever it is.
pub(super) const NOT_OPENED: &str =
    "Response signature invalid: the encrypted assertion does not open, or is not signed";

/// Checks a response and reads what it claims.
pub(super) fn check(base64: &str, expected: &Expected<'_>) -> Result<Claims, SamlError> {
    let text = decode(base64).map_err(malformed)?;
    let document = text.message().map_err(malformed)?;
    let response = document.root_element();
    let form = shape(&document).map_err(malformed)?;
    status(response)?;
    if let Some(issuer) = at_most_one(response, (SAML, "Issuer")).map_err(malformed)? {
        issued_by(issuer, expected)?;
    }
    match form {
        Form::Plain if expected.encryption == Some(EncryptionMode::Required) => invalid(
            "The provider requires encrypted assertions, and the assertion is not encrypted",
        ),
        Form::Plain => read(trusted(response, expected.keys)?, expected),
        Form::Encrypted(_) if expected.private_keys.is_empty() => {
            invalid("The assertion is encrypted, and the provider has no private key")
        }
        Form::Encrypted(encrypted) => {
            let whole = signature::verify(response, expected.keys).map_err(bad_signature)?;
            let encrypted = Encrypted::read(encrypted).map_err(malformed)?;
            let not_opened = || SamlError::Invalid(NOT_OPENED.to_owned());
            let opened = encrypted.open(expected.private_keys).ok_or_else(not_opened)?;
            let opened = opened.message().map_err(|_| not_opened())?;
            let assertion = trusted_inside(opened.root_element(), whole, expected.keys);
            read(assertion.map_err(|_| not_opened())?, expected)
        }
    }
}

fn decode(base64: &str) -> Result<Text, String> {
    if base64.len() > BASE64_BYTES_MAX {
        return Err("it is longer than any may be".to_owned());
    }
    let compact: String = base64.split_ascii_whitespace().collect();
    let bytes = STANDARD.decode(compact).map_err(|_| "it is not base64".to_owned())?;
    let text = String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
    Ok(Text::new(&text))
}

/// The one assertion of a response.
enum Form<'a, 'i> {
    Plain,
    Encrypted(Node<'a, 'i>),
}

/// What a response is made of, before anything in it is looked at: one assertion, directly in it, and
/// no signature but theirs. This leaves no second element that could be taken for the signed one.
fn shape<'a, 'i>(document: &'a Document<'i>) -> Result<Form<'a, 'i>, String> {
    let response = document.root_element();
    if !response.has_tag_name((SAMLP, "Response")) {
        return Err("it is not a Response of SAML 2.0".to_owned());
    }
    let form = one_assertion(response)?;
    versioned(response, "response")?;
    if matches!(form, Form::Plain) {
        versioned(one(response, (SAML, "Assertion"))?, "assertion")?;
    }
    Ok(form)
}

/// Whether an element has one assertion, directly in it, and no signatures but its own and the assertion's.
fn one_assertion<'a, 'i>(around: Node<'a, 'i>) -> Result<Form<'a, 'i>, String> {
    let (mut assertions, mut encrypted) = (0, None);
    for node in around.descendants().filter(Node::is_element) {
        let name = node.tag_name();
        let parent = node.parent_element();
        match (name.namespace(), name.name()) {
            (Some(SAML), "EncryptedID" | "EncryptedAttribute") => {
                return Err(format!("{} is not supported; EncryptedAssertion is", name.name()));
            }
            (Some(SAML), "Assertion" | "EncryptedAssertion") => {
                assertions += 1;
                if parent != Some(around) {
                    return Err("an assertion is not directly in the response".to_owned());
                }
                encrypted = encrypted.or((name.name() == "EncryptedAssertion").then_some(node));
            }
            (Some(SAMLP), "Response") if node != around => {
                return Err("it has a response in it".to_owned());
            }
            (Some(DS), "Signature") => {
                let assertion = parent.is_some_and(|parent| {
                    parent.has_tag_name((SAML, "Assertion")) && parent.parent() == Some(around)
                });
                if parent != Some(around) && !assertion {
                    return Err("a signature is where none is expected".to_owned());
                }
            }
            _ => {}
        }
    }
    match (assertions, encrypted) {
        (1, Some(encrypted)) => Ok(Form::Encrypted(encrypted)),
        (1, None) => Ok(Form::Plain),
        _ => Err(format!("it has {assertions} assertions, and has to have one")),
    }
}

fn versioned(node: Node<'_, '_>, what: &str) -> Result<(), String> {
    elements(node)?;
    if node.attribute("Version") == Some("2.0")
        && node.attribute("ID").is_some_and(|id| !id.is_empty())
    {
        return Ok(());
    }
    Err(format!("the {what} is not of version 2.0, or has no ID"))
}

/// The provider may have refused, in whatever words.
fn status(response: Node<'_, '_>) -> Result<(), SamlError> {
    let status = one(response, (SAMLP, "Status")).map_err(malformed)?;
    let code = one(status, (SAMLP, "StatusCode")).map_err(malformed)?;
    if code.attribute("Value") == Some(SUCCESS) {
        return Ok(());
    }
    Err(SamlError::Rejected(
        "The identity provider reported that authentication failed: the status of the response is \
         not Success"
            .to_owned(),
    ))
}

/// The assertion that a key of the provider vouches for.
fn trusted<'a, 'i>(
    response: Node<'a, 'i>,
    keys: &[SigningKey],
) -> Result<Signed<'a, 'i>, SamlError> {
    let assertion = one(response, (SAML, "Assertion")).map_err(malformed)?;
    let whole = signature::verify(response, keys).map_err(bad_signature)?;
    let own = signature::verify(assertion, keys).map_err(bad_signature)?;
    match (own, whole) {
        (Some(own), _) => Ok(own),
        (None, Some(whole)) => whole.child((SAML, "Assertion")).map_err(malformed),
        (None, None) => {
            Err(bad_signature("neither the assertion nor the response is signed".to_owned()))
        }
    }
}

/// The assertion that was opened into an element, if a key of the provider vouches for it, or for the response that
/// it was encrypted in.
fn trusted_inside<'a, 'i>(
    around: Node<'a, 'i>,
    whole: Option<Signed<'_, '_>>,
    keys: &[SigningKey],
) -> Result<Signed<'a, 'i>, String> {
    let Form::Plain = one_assertion(around)? else {
        return Err("it is encrypted twice".to_owned());
    };
    let [assertion] = elements(around)?[..] else {
        return Err("it is not one element".to_owned());
    };
    versioned(assertion, "assertion")?;
    match (signature::verify(assertion, keys)?, whole) {
        (Some(own), _) => Ok(own),
        (None, Some(whole)) => Ok(whole.opened(assertion)),
        (None, None) => Err("neither the assertion nor the response is signed".to_owned()),
    }
}

fn bad_signature(why: String) -> SamlError {
    SamlError::Invalid(format!("Response signature invalid: {why}"))
}

fn issued_by(issuer: Node<'_, '_>, expected: &Expected<'_>) -> Result<(), SamlError> {
    if text_of(issuer).map_err(malformed)? == expected.entity_id {
        return Ok(());
    }
    invalid("Issuer not present in specified provider")
}

fn read(assertion: Signed<'_, '_>, expected: &Expected<'_>) -> Result<Claims, SamlError> {
    let node = assertion.element();
    let now = expected.now;
    issued_by(one(node, (SAML, "Issuer")).map_err(malformed)?, expected)?;
    let issued = instant(node, "IssueInstant")?;
    let Some(issued) = issued else { return invalid("The assertion has no IssueInstant") };
    if issued > now.plus_seconds(SKEW_SECONDS) {
        return invalid("The assertion's IssueInstant is in the future");
    }
    if now > issued.plus_seconds(FRESH_SECONDS) {
        let message = "Token must be redeemed within 5 minutes of issuance";
        return Err(SamlError::Expired(message.to_owned()));
    }
    conditions(node, expected)?;
    let (subject, format, recipient) = subject(node, expected)?;
    let mut claims = attributes::read(node)?;
    claims.issuer = expected.entity_id.to_owned();
    claims.subject = subject;
    claims.format = format;
    claims.recipient = recipient;
    claims.ends_by = session_end(node, now)?;
    Ok(claims)
}

/// An instant of an attribute, which has to be one if it is there.
fn instant(node: Node<'_, '_>, name: &str) -> Result<Option<Timestamp>, SamlError> {
    let Some(text) = node.attribute(name) else { return Ok(None) };
    match Timestamp::parse_iso(text).filter(|_| text.contains('T')) {
        Some(at) => Ok(Some(at)),
        None => invalid(format!("{name} {text:?} is not an instant")),
    }
}

/// `NotBefore` and `NotOnOrAfter` of an element.
fn within(node: Node<'_, '_>, now: Timestamp) -> Result<(), SamlError> {
    if instant(node, "NotBefore")?.is_some_and(|from| from > now.plus_seconds(SKEW_SECONDS)) {
        let message = "The assertion's NotBefore says that it is not valid yet";
        return Err(SamlError::Rejected(message.to_owned()));
    }
    if let Some(until) = instant(node, "NotOnOrAfter")?.filter(|until| now >= *until) {
        return Err(SamlError::Expired(format!(
            "Token expired: current date/time {} must be before the expiration date/time {}",
            now.iso_seconds(),
            until.iso_seconds()
        )));
    }
    Ok(())
}

/// A condition that is not understood makes an assertion invalid (SAML Core, 2.5.1.1).
fn conditions(assertion: Node<'_, '_>, expected: &Expected<'_>) -> Result<(), SamlError> {
    let conditions = one(assertion, (SAML, "Conditions")).map_err(malformed)?;
    within(conditions, expected.now)?;
    let mut restricted = false;
    for condition in elements(conditions).map_err(malformed)? {
        let name = condition.tag_name();
        match (name.namespace(), name.name()) {
            (Some(SAML), "AudienceRestriction") => {
                restricted = true;
                let mut audiences = Vec::new();
                for audience in named(condition, (SAML, "Audience")) {
                    audiences.push(text_of(audience).map_err(malformed)?);
                }
                // Some providers tell several relations to one party apart by a fragment.
                let ours = |audience: &&str| {
                    let audience = audience.split('#').next().unwrap_or_default();
                    audience == "urn:amazon:webservices" || is_sign_in(audience, expected.unique_id)
                };
                if !audiences.iter().any(ours) {
                    return invalid("Response does not contain the required audience");
                }
            }
            // About what is done with the assertion later: nothing.
            (Some(SAML), "OneTimeUse" | "ProxyRestriction") => {}
            (_, name) => return invalid(format!("The condition {name} is not understood")),
        }
    }
    if restricted { Ok(()) } else { invalid("Response does not contain the required audience") }
}

/// Who it is, in which form of name, and where the response was sent to.
fn subject(
    assertion: Node<'_, '_>,
    expected: &Expected<'_>,
) -> Result<(String, String, String), SamlError> {
    let subject = one(assertion, (SAML, "Subject")).map_err(malformed)?;
    let name = one(subject, (SAML, "NameID")).map_err(malformed)?;
    let format = name.attribute("Format").unwrap_or(UNSPECIFIED).to_owned();
    let name = text_of(name).map_err(malformed)?;
    if !(1..=SUBJECT_CHARS_MAX).contains(&name.chars().count()) {
        return invalid("The NameID does not have 1 to 256 characters");
    }
    let confirmation = one(subject, (SAML, "SubjectConfirmation")).map_err(malformed)?;
    if confirmation.attribute("Method") != Some(BEARER) {
        return invalid("The SubjectConfirmation is not one of a bearer");
    }
    let data = one(confirmation, (SAML, "SubjectConfirmationData")).map_err(malformed)?;
    if data.attribute("NotOnOrAfter").is_none() {
        return invalid("The SubjectConfirmationData has no NotOnOrAfter");
    }
    within(data, expected.now)?;
    let recipient = data.attribute("Recipient").unwrap_or_default();
    if !is_sign_in(recipient, expected.unique_id) {
        return invalid("The Recipient of the SubjectConfirmationData is not the sign-in endpoint");
    }
    Ok((name.to_owned(), format, recipient.to_owned()))
}

/// Whether an address is the sign-in endpoint: `https://signin.aws.amazon.com/saml`, one of a region,
/// or one that names the provider.
fn is_sign_in(address: &str, unique_id: &str) -> bool {
    const HOST: &str = "signin.aws.amazon.com";
    let Some((host, path)) = address.strip_prefix("https://").and_then(|rest| rest.split_once('/'))
    else {
        return false;
    };
    let of_a_region = || {
        let region = host.strip_suffix(HOST).and_then(|start| start.strip_suffix('.'));
        region.is_some_and(|region| base::Region::parse(region).is_ok())
    };
    let named = path.strip_prefix("saml/acs/").is_some_and(|id| id == unique_id);
    (host == HOST || of_a_region()) && (path == "saml" || named)
}

/// When the provider's own session ends, which no session of a role outlasts.
fn session_end(assertion: Node<'_, '_>, now: Timestamp) -> Result<Option<Timestamp>, SamlError> {
    let mut end = None;
    for statement in named(assertion, (SAML, "AuthnStatement")) {
        let until = instant(statement, "SessionNotOnOrAfter")?;
        end = match (end, until) {
            (Some(one), Some(other)) => Some(std::cmp::min(one, other)),
            (one, other) => one.or(other),
        };
    }
    if end.is_some_and(|end| now >= end) {
        let message = "The session at the identity provider has ended";
        return Err(SamlError::Expired(message.to_owned()));
    }
    Ok(end)
}
