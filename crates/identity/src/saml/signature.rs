//! XML signatures as SAML profiles them (SAML Core, 5.4): enveloped, over the element they lie in, by
//! its id, in exclusive canonical form. Nothing else is known: no other transform, no SHA-1, and no key
//! but those that the provider's metadata names. What `KeyInfo` says is not looked at.
//!
//! [`verify`] gives back the very element whose canonical form was hashed, as a [`Signed`]. Nothing
//! else makes one, so what reads claims cannot be led to another element.

use super::c14n::exclusive;
use super::certificate::{SignatureAlgorithm, SigningKey};
use super::xml::{at_most_one, elements, one, text_of};
use aws_lc_rs::digest::{self, SHA256, SHA384, SHA512};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use roxmltree::Node;

/// The namespace of XML signatures.
pub(super) const DS: &str = "http://www.w3.org/2000/09/xmldsig#";
const EXCLUSIVE: &str = "http://www.w3.org/2001/10/xml-exc-c14n#";
const ENVELOPED: &str = "http://www.w3.org/2000/09/xmldsig#enveloped-signature";

/// Prefixes that a canonical form may keep: each is looked for at every element.
const PREFIXES_MAX: usize = 32;

/// An element that a key of the provider has signed, or that lies in one.
#[derive(Clone, Copy)]
pub(super) struct Signed<'a, 'i>(Node<'a, 'i>);

impl<'a, 'i> Signed<'a, 'i> {
    /// The element.
    pub(super) fn element(self) -> Node<'a, 'i> {
        self.0
    }

    /// An element in it.
    pub(super) fn child(self, name: (&str, &str)) -> Result<Self, String> {
        one(self.0, name).map(Self)
    }

    /// What was opened of ciphertext that lies in it.
    pub(super) fn opened<'b, 'j>(self, element: Node<'b, 'j>) -> Signed<'b, 'j> {
        Signed(element)
    }
}

/// Checks the signature that lies in an element, if there is one.
///
/// # Errors
/// A sentence about what is wrong with the signature.
pub(super) fn verify<'a, 'i>(
    element: Node<'a, 'i>,
    keys: &[SigningKey],
) -> Result<Option<Signed<'a, 'i>>, String> {
    let Some(signature) = at_most_one(element, (DS, "Signature"))? else { return Ok(None) };
    let parts = elements(signature)?;
    let is = |node: &Node<'_, '_>, name: &str| node.has_tag_name((DS, name));
    let (info, value) = match parts[..] {
        [info, value] => (info, value),
        [info, value, key] if is(&key, "KeyInfo") => (info, value),
        _ => return Err("the signature is not of the form that SAML has".to_owned()),
    };
    if !is(&info, "SignedInfo") || !is(&value, "SignatureValue") {
        return Err("the signature is not of the form that SAML has".to_owned());
    }
    let Info { kept_prefixes, algorithm, digest, reference } = read_info(info)?;
    if !element.attribute("ID").is_some_and(|id| !id.is_empty() && reference.id == id) {
        return Err("the signature is not over the element it lies in".to_owned());
    }
    let content = exclusive(element, &reference.kept_prefixes, Some(signature));
    if digest::digest(digest, &content).as_ref() != reference.digest {
        return Err("the content is not what was signed".to_owned());
    }
    let (message, value) = (exclusive(info, &kept_prefixes, None), base64_of(value)?);
    if !keys.iter().any(|key| key.has_signed(algorithm, &message, &value)) {
        return Err("no key of the provider's metadata has signed it".to_owned());
    }
    Ok(Some(Signed(element)))
}

/// `SignedInfo`.
struct Info<'a> {
    kept_prefixes: Vec<&'a str>,
    algorithm: SignatureAlgorithm,
    digest: &'static digest::Algorithm,
    reference: Reference<'a>,
}

struct Reference<'a> {
    id: &'a str,
    kept_prefixes: Vec<&'a str>,
    digest: Vec<u8>,
}

fn read_info<'a>(info: Node<'a, '_>) -> Result<Info<'a>, String> {
    let [form, method, reference] = elements(info)?[..] else {
        return Err("SignedInfo does not have exactly one reference".to_owned());
    };
    expect(form, "CanonicalizationMethod")?;
    let kept_prefixes = exclusive_form(form)?;
    expect(method, "SignatureMethod")?;
    let algorithm = signature_algorithm(algorithm_of(method)?)?;
    let bare = elements(method)?.is_empty();
    expect(reference, "Reference")?;
    let [transforms, digest_method, digest_value] = elements(reference)?[..] else {
        return Err("the reference is not of the form that SAML has".to_owned());
    };
    expect(transforms, "Transforms")?;
    expect(digest_method, "DigestMethod")?;
    expect(digest_value, "DigestValue")?;
    if !bare || !elements(digest_method)?.is_empty() {
        return Err("an algorithm has parameters".to_owned());
    }
    let id = reference.attribute("URI").and_then(|uri| uri.strip_prefix('#'));
    let reference = Reference {
        id: id.ok_or("the reference is not to an id")?,
        kept_prefixes: transformed(transforms)?,
        digest: base64_of(digest_value)?,
    };
    let digest = digest_algorithm(algorithm_of(digest_method)?)?;
    Ok(Info { kept_prefixes, algorithm, digest, reference })
}

fn expect(node: Node<'_, '_>, name: &str) -> Result<(), String> {
    if node.has_tag_name((DS, name)) {
        return Ok(());
    }
    Err(format!("the signature has no {name} where SAML has it"))
}

/// The transforms of a reference are two: without the signature, then in exclusive canonical form.
fn transformed<'a>(transforms: Node<'a, '_>) -> Result<Vec<&'a str>, String> {
    let [without, form] = elements(transforms)?[..] else {
        return Err("the reference does not have the two transforms that SAML has".to_owned());
    };
    expect(without, "Transform")?;
    expect(form, "Transform")?;
    if algorithm_of(without)? != ENVELOPED || !elements(without)?.is_empty() {
        return Err("the first transform is not enveloped-signature".to_owned());
    }
    exclusive_form(form)
}

/// The prefixes that an exclusive canonical form keeps.
fn exclusive_form<'a>(of: Node<'a, '_>) -> Result<Vec<&'a str>, String> {
    let algorithm = algorithm_of(of)?;
    if algorithm != EXCLUSIVE {
        return Err(format!("the canonical form {algorithm:?} is not accepted"));
    }
    match elements(of)?[..] {
        [] => Ok(Vec::new()),
        [kept] if kept.has_tag_name((EXCLUSIVE, "InclusiveNamespaces")) => {
            let listed = kept.attribute("PrefixList").unwrap_or_default();
            let prefixes: Vec<_> = listed.split_whitespace().take(PREFIXES_MAX + 1).collect();
            match prefixes.len() > PREFIXES_MAX {
                true => Err(format!("a canonical form keeps more than {PREFIXES_MAX} prefixes")),
                false => Ok(prefixes),
            }
        }
        _ => Err("a canonical form has parameters that are not known".to_owned()),
    }
}

/// What an element names as its algorithm.
pub(super) fn algorithm_of<'a>(node: Node<'a, '_>) -> Result<&'a str, String> {
    node.attribute("Algorithm")
        .ok_or_else(|| format!("{} names no algorithm", node.tag_name().name()))
}

/// RFC 9231, 2.3; RSA with SHA-1 and all of DSA are not accepted.
fn signature_algorithm(uri: &str) -> Result<SignatureAlgorithm, String> {
    Ok(match uri {
        "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256" => SignatureAlgorithm::RsaSha256,
        "http://www.w3.org/2001/04/xmldsig-more#rsa-sha384" => SignatureAlgorithm::RsaSha384,
        "http://www.w3.org/2001/04/xmldsig-more#rsa-sha512" => SignatureAlgorithm::RsaSha512,
        "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256" => SignatureAlgorithm::EcdsaSha256,
        "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384" => SignatureAlgorithm::EcdsaSha384,
        "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha512" => SignatureAlgorithm::EcdsaSha512,
        _ => return Err(format!("the signature algorithm {uri:?} is not accepted")),
    })
}

fn digest_algorithm(uri: &str) -> Result<&'static digest::Algorithm, String> {
    Ok(match uri {
        "http://www.w3.org/2001/04/xmlenc#sha256" => &SHA256,
        "http://www.w3.org/2001/04/xmldsig-more#sha384" => &SHA384,
        "http://www.w3.org/2001/04/xmlenc#sha512" => &SHA512,
        _ => return Err(format!("the digest algorithm {uri:?} is not accepted")),
    })
}

/// Base64 with white space in it.
pub(super) fn base64_of(node: Node<'_, '_>) -> Result<Vec<u8>, String> {
    let text: String = text_of(node)?.split_ascii_whitespace().collect();
    STANDARD.decode(text).map_err(|_| format!("{} is not base64", node.tag_name().name()))
}
