//! The attributes of an assertion: what a session is to be like, and what trust policies may ask
//! (IAM guide, "Configure SAML assertions for the authentication response").

use super::response::SAML;
use super::xml::{elements, named, text_of};
use super::{Claims, SamlError};
use crate::session::{SESSION_SECONDS_MIN, is_session_name, is_source_identity};
use roxmltree::Node;
use std::collections::BTreeMap;

const PREFIX: &str = "https://aws.amazon.com/SAML/Attributes/";
/// The longest session that can be asked for.
const SESSION_SECONDS_MAX: i64 = 43_200;

/// Attributes that become condition keys `saml:…`, and whether these have several values. Attributes
/// of one key are several names of one thing; the first that is there counts.
const KEYS: [(&str, &str, Values); 36] = [
    ("urn:oid:1.3.6.1.4.1.5923.1.1.1.1", "edupersonaffiliation", Values::Many),
    ("urn:oid:1.3.6.1.4.1.5923.1.1.1.2", "edupersonnickname", Values::Many),
    ("urn:oid:1.3.6.1.4.1.5923.1.1.1.3", "edupersonorgdn", Values::One),
    ("urn:oid:1.3.6.1.4.1.5923.1.1.1.4", "edupersonorgunitdn", Values::Many),
    ("urn:oid:1.3.6.1.4.1.5923.1.1.1.5", "edupersonprimaryaffiliation", Values::One),
    ("urn:oid:1.3.6.1.4.1.5923.1.1.1.6", "edupersonprincipalname", Values::One),
    ("urn:oid:1.3.6.1.4.1.5923.1.1.1.7", "edupersonentitlement", Values::Many),
    ("urn:oid:1.3.6.1.4.1.5923.1.1.1.8", "edupersonprimaryorgunitdn", Values::One),
    ("urn:oid:1.3.6.1.4.1.5923.1.1.1.9", "edupersonscopedaffiliation", Values::Many),
    ("urn:oid:1.3.6.1.4.1.5923.1.1.1.10", "edupersontargetedid", Values::Many),
    ("urn:oid:1.3.6.1.4.1.5923.1.1.1.11", "edupersonassurance", Values::Many),
    ("urn:oid:1.3.6.1.4.1.5923.1.2.1.2", "eduorghomepageuri", Values::Many),
    ("urn:oid:1.3.6.1.4.1.5923.1.2.1.3", "eduorgidentityauthnpolicyuri", Values::Many),
    ("urn:oid:1.3.6.1.4.1.5923.1.2.1.4", "eduorglegalname", Values::Many),
    ("urn:oid:1.3.6.1.4.1.5923.1.2.1.5", "eduorgsuperioruri", Values::Many),
    ("urn:oid:1.3.6.1.4.1.5923.1.2.1.6", "eduorgwhitepagesuri", Values::Many),
    ("urn:oid:2.5.4.3", "cn", Values::Many),
    ("http://schemas.xmlsoap.org/ws/2005/05/identity/claims/name", "name", Values::One),
    ("http://schemas.xmlsoap.org/claims/CommonName", "commonName", Values::One),
    ("http://schemas.xmlsoap.org/ws/2005/05/identity/claims/givenname", "givenName", Values::One),
    ("http://schemas.xmlsoap.org/ws/2005/05/identity/claims/surname", "surname", Values::One),
    ("http://schemas.xmlsoap.org/ws/2005/05/identity/claims/emailaddress", "mail", Values::One),
    // As the guide has it.
    ("http://schemas.microsoft.com/ws/2008/06/identity/claims/primarygroupsid", "uid", Values::One),
    ("2.5.4.3", "commonName", Values::One),
    ("2.5.4.4", "surname", Values::One),
    ("2.5.4.42", "givenName", Values::One),
    ("2.5.4.45", "x500UniqueIdentifier", Values::One),
    ("0.9.2342.19200300.100.1.1", "uid", Values::One),
    ("0.9.2342.19200300.100.1.3", "mail", Values::One),
    ("0.9.2342.19200300.100.1.45", "organizationStatus", Values::One),
    ("urn:oid:2.5.4.4", "surname", Values::One),
    ("urn:oid:2.5.4.42", "givenName", Values::One),
    ("urn:oid:2.5.4.45", "x500UniqueIdentifier", Values::One),
    ("urn:oid:0.9.2342.19200300.100.1.1", "uid", Values::One),
    ("urn:oid:0.9.2342.19200300.100.1.3", "mail", Values::One),
    ("urn:oid:0.9.2342.19200300.100.1.45", "organizationStatus", Values::One),
];

/// How many values a condition key has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    /// One at most.
    One,
    /// Any number.
    Many,
}

fn invalid<T>(why: impl Into<String>) -> Result<T, SamlError> {
    Err(SamlError::Invalid(why.into()))
}

/// Reads the attributes of an assertion into claims; what is not an attribute is left empty.
pub(super) fn read(assertion: Node<'_, '_>) -> Result<Claims, SamlError> {
    let all = Attributes::of(assertion)?;
    let mut claims = Claims::default();
    for value in all.texts(&format!("{PREFIX}Role"))?.unwrap_or_default() {
        claims.roles.push(pair(value)?);
    }
    if claims.roles.is_empty() {
        return invalid(
            "The response has no attribute https://aws.amazon.com/SAML/Attributes/Role",
        );
    }
    let Some(name) = all.text(&format!("{PREFIX}RoleSessionName"))? else {
        return invalid("RoleSessionName is required in AuthnResponse");
    };
    if !is_session_name(name) {
        return invalid("RoleSessionName in AuthnResponse must match [a-zA-Z_0-9+=,.@-]{2,64}");
    }
    claims.session_name = name.to_owned();
    if let Some(text) = all.text(&format!("{PREFIX}SessionDuration"))? {
        let seconds = text.parse().ok();
        let legal = |seconds: &i64| (SESSION_SECONDS_MIN..=SESSION_SECONDS_MAX).contains(seconds);
        let Some(seconds) = seconds.filter(legal) else {
            return invalid("SessionDuration in AuthnResponse must be from 900 to 43200");
        };
        claims.seconds_max = Some(seconds);
    }
    if let Some(name) = all.text(&format!("{PREFIX}SourceIdentity"))? {
        if !is_source_identity(name) {
            return invalid(
                "Source Identity must match [a-zA-Z_0-9+=,.@-]{2,256} and not begin with \"aws:\"",
            );
        }
        claims.source_identity = Some(name.to_owned());
    }
    let keys = all.texts(&format!("{PREFIX}TransitiveTagKeys"))?.unwrap_or_default();
    claims.transitive_tag_keys = keys.into_iter().map(str::to_owned).collect();
    let tags = format!("{PREFIX}PrincipalTag:");
    for name in all.0.keys() {
        if let Some(key) = name.strip_prefix(&tags) {
            let value = all.text(name)?.unwrap_or_default();
            claims.tags.insert(key.to_owned(), value.to_owned());
        }
    }
    claims.keys = condition_keys(&all);
    Ok(claims)
}

/// A role and the provider it trusts, in either order.
fn pair(value: &str) -> Result<(String, String), SamlError> {
    let parts: Vec<&str> = value.split(',').map(str::trim).collect();
    let is = |arn: &str, sort: &str| arn.starts_with("arn:") && arn.contains(sort);
    let (role, provider) = (":role/", ":saml-provider/");
    match parts[..] {
        [one, two] if is(one, role) && is(two, provider) => Ok((one.to_owned(), two.to_owned())),
        [one, two] if is(one, provider) && is(two, role) => Ok((two.to_owned(), one.to_owned())),
        _ => invalid(
            "A value of the attribute Role is not a pair of the ARNs of a role and a provider",
        ),
    }
}

fn condition_keys(all: &Attributes<'_>) -> BTreeMap<String, (Values, Vec<String>)> {
    let mut keys = BTreeMap::new();
    for (attribute, key, values) in KEYS {
        // What is no text, or too many of them, is nothing a policy can ask for.
        let Some(found) = all.texts(attribute).ok().flatten() else { continue };
        let fits = values == Values::Many || found.len() == 1;
        let texts = || found.iter().map(|text| (*text).to_owned()).collect();
        if fits && !found.is_empty() {
            keys.entry(format!("saml:{key}")).or_insert_with(|| (values, texts()));
        }
    }
    keys
}

/// The attributes of an assertion by name.
struct Attributes<'a>(BTreeMap<String, Vec<Node<'a, 'a>>>);

impl<'a> Attributes<'a> {
    fn of(assertion: Node<'a, 'a>) -> Result<Self, SamlError> {
        let malformed = |why| SamlError::Invalid(format!("Invalid SAML response: {why}"));
        let mut all = BTreeMap::new();
        for statement in named(assertion, (SAML, "AttributeStatement")) {
            elements(statement).map_err(malformed)?;
            for attribute in named(statement, (SAML, "Attribute")) {
                let name = attribute.attribute("Name").unwrap_or_default().to_owned();
                let values = named(attribute, (SAML, "AttributeValue"));
                let doubled = all.contains_key(&name);
                if doubled && name.starts_with(PREFIX) {
                    return invalid(format!("The response has more than one attribute {name}"));
                }
                all.entry(name).or_insert(values);
            }
        }
        Ok(Self(all))
    }

    /// The values of an attribute, if it is there.
    fn texts(&self, name: &str) -> Result<Option<Vec<&'a str>>, SamlError> {
        let Some(values) = self.0.get(name) else { return Ok(None) };
        let texts: Result<_, _> = values.iter().map(|value| text_of(*value)).collect();
        match texts {
            Ok(texts) => Ok(Some(texts)),
            Err(why) => invalid(format!("The attribute {name}: {why}")),
        }
    }

    /// The one value of an attribute, if it is there.
    fn text(&self, name: &str) -> Result<Option<&'a str>, SamlError> {
        match self.texts(name)?.as_deref() {
            None => Ok(None),
            Some([one]) => Ok(Some(one)),
            Some(_) => invalid(format!("The attribute {name} does not have one value")),
        }
    }
}
