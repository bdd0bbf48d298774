//! Encrypted assertions: XML Encryption (1.1) in the one form that SAML has of it (SAML Core, 2.3.4). An assertion
//! is under a key of AES, and that key, for one recipient, under a private key of the provider with RSAES-OAEP.
//!
//! Whoever can send a response can try. What its text says wrong is told, as its sender knows that already. Of what
//! does not open, nothing is told but that it does not: not which key, which step or which byte. In CBC nothing says
//! what was altered, so until a signature is found to be good nothing else is told of what is inside either.

use super::private_key::PrivateKeys;
use super::signature::{DS, algorithm_of, base64_of};
use super::xml::{Text, at_most_one, elements, named, one};
use aws_lc_rs::aead::{
    self, AES_128_GCM, AES_192_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey,
};
use aws_lc_rs::cipher::{
    self, AES_128, AES_192, AES_256, DecryptingKey, DecryptionContext, UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::rsa::{
    OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OAEP_SHA384_MGF1SHA384, OAEP_SHA512_MGF1SHA512,
    OaepAlgorithm,
};
use roxmltree::Node;
use std::fmt::Write as _;

/// The namespace of XML Encryption.
const XENC: &str = "http://www.w3.org/2001/04/xmlenc#";
const XENC11: &str = "http://www.w3.org/2009/xmlenc11#";
/// What is encrypted: an element.
const ELEMENT: &str = "http://www.w3.org/2001/04/xmlenc#Element";

/// Bytes of a block of AES, and of the vector before what is in CBC.
const BLOCK_LEN: usize = 16;
/// Bytes of the nonce before what is in GCM (XML Encryption, 5.2.4).
const NONCE_LEN: usize = 12;

/// How an assertion is encrypted.
#[derive(Clone, Copy)]
enum Content {
    Cbc(&'static cipher::Algorithm),
    Gcm(&'static aead::Algorithm),
}

/// An encrypted assertion, taken apart.
pub(super) struct Encrypted {
    content: Content,
    sealed: Vec<u8>,
    transport: &'static OaepAlgorithm,
    wrapped_key: Vec<u8>,
    /// The start of an element in which the namespaces are in scope that are where the assertion belongs.
    scope: String,
}

impl Encrypted {
    /// Reads an `EncryptedAssertion`.
    ///
    /// # Errors
    /// A sentence about what is wrong with its form, or what of it is not accepted.
    pub(super) fn read(node: Node<'_, '_>) -> Result<Self, String> {
        let data = one(node, (XENC, "EncryptedData"))?;
        if data.attribute("Type").is_some_and(|of| of != ELEMENT) {
            return Err("what is encrypted is not an element".to_owned());
        }
        let info = at_most_one(data, (DS, "KeyInfo"))?;
        // The key lies in the data, or beside it with a reference to it, which is not followed: there is one key.
        let inside = info.map(|info| named(info, (XENC, "EncryptedKey"))).unwrap_or_default();
        let keys = [inside, named(node, (XENC, "EncryptedKey"))].concat();
        let [key] = keys[..] else {
            return Err(format!("it has {} EncryptedKeys, and has to have one", keys.len()));
        };
        let mut scope = "<opened".to_owned();
        for namespace in data.namespaces().filter(|namespace| namespace.name() != Some("xml")) {
            let name = namespace.name().map(|name| format!(":{name}")).unwrap_or_default();
            let uri = namespace.uri().replace('&', "&amp;").replace('<', "&lt;");
            let uri = uri.replace('"', "&quot;");
            write!(scope, " xmlns{name}=\"{uri}\"").expect("a text grows");
        }
        scope.push('>');
        Ok(Self {
            content: content_algorithm(one(data, (XENC, "EncryptionMethod"))?)?,
            sealed: cipher_value(data)?,
            transport: transport_algorithm(one(key, (XENC, "EncryptionMethod"))?)?,
            wrapped_key: cipher_value(key)?,
            scope,
        })
    }

    /// The assertion, in an element that is not its own; `None` if no key opens it, for whatever reason.
    pub(super) fn open(&self, keys: &PrivateKeys) -> Option<Text> {
        let key = keys.unwrap(self.transport, &self.wrapped_key)?;
        let mut bytes = self.sealed.clone();
        let opened = match self.content {
            Content::Gcm(algorithm) => gcm(algorithm, key.expose(), &mut bytes),
            Content::Cbc(algorithm) => cbc(algorithm, key.expose(), &mut bytes),
        }?;
        let assertion = str::from_utf8(opened).ok()?;
        Some(Text::new(&format!("{}{assertion}</opened>", self.scope)))
    }
}

/// XML Encryption, 5.2.4: nonce, ciphertext and tag.
fn gcm<'a>(
    algorithm: &'static aead::Algorithm,
    key: &[u8],
    bytes: &'a mut [u8],
) -> Option<&'a [u8]> {
    let key = LessSafeKey::new(UnboundKey::new(algorithm, key).ok()?);
    let (nonce, body) = bytes.split_first_chunk_mut::<NONCE_LEN>()?;
    let nonce = Nonce::assume_unique_for_key(*nonce);
    let opened = key.open_in_place(nonce, Aad::empty(), body).ok()?;
    Some(opened)
}

/// XML Encryption, 5.2.2 and 5.2.1: a vector, and whole blocks, of which the last byte says how many bytes at the end
/// were added. What the others of these are is not said.
fn cbc<'a>(
    algorithm: &'static cipher::Algorithm,
    key: &[u8],
    bytes: &'a mut [u8],
) -> Option<&'a [u8]> {
    let key = DecryptingKey::cbc(UnboundCipherKey::new(algorithm, key).ok()?).ok()?;
    let (vector, body) = bytes.split_first_chunk_mut::<BLOCK_LEN>()?;
    let context = DecryptionContext::Iv128(FixedLength::from(*vector));
    let padded = key.decrypt(body, context).ok()?;
    let added = usize::from(*padded.last()?);
    if !(1..=BLOCK_LEN).contains(&added) {
        return None;
    }
    padded.get(..padded.len().checked_sub(added)?)
}

fn cipher_value(of: Node<'_, '_>) -> Result<Vec<u8>, String> {
    base64_of(one(one(of, (XENC, "CipherData"))?, (XENC, "CipherValue"))?)
}

fn content_algorithm(method: Node<'_, '_>) -> Result<Content, String> {
    Ok(match algorithm_of(method)? {
        "http://www.w3.org/2001/04/xmlenc#aes128-cbc" => Content::Cbc(&AES_128),
        "http://www.w3.org/2001/04/xmlenc#aes192-cbc" => Content::Cbc(&AES_192),
        "http://www.w3.org/2001/04/xmlenc#aes256-cbc" => Content::Cbc(&AES_256),
        "http://www.w3.org/2009/xmlenc11#aes128-gcm" => Content::Gcm(&AES_128_GCM),
        "http://www.w3.org/2009/xmlenc11#aes192-gcm" => Content::Gcm(&AES_192_GCM),
        "http://www.w3.org/2009/xmlenc11#aes256-gcm" => Content::Gcm(&AES_256_GCM),
        other => return Err(format!("the encryption algorithm {other:?} is not accepted")),
    })
}

/// RSAES-OAEP, with one hash for the text and the mask (XML Encryption, 5.5.2). PKCS #1 v1.5 is not accepted: each
/// response would be a question to an oracle.
fn transport_algorithm(method: Node<'_, '_>) -> Result<&'static OaepAlgorithm, String> {
    let digest = at_most_one(method, (DS, "DigestMethod"))?.map(algorithm_of).transpose()?;
    let mask = at_most_one(method, (XENC11, "MGF"))?.map(algorithm_of).transpose()?;
    if elements(method)?.len() != usize::from(digest.is_some()) + usize::from(mask.is_some()) {
        return Err("the key's encryption has parameters that are not known".to_owned());
    }
    let sha1 = "http://www.w3.org/2000/09/xmldsig#sha1";
    let mask = match algorithm_of(method)? {
        "http://www.w3.org/2001/04/xmlenc#rsa-oaep-mgf1p" if mask.is_none() => None,
        "http://www.w3.org/2009/xmlenc11#rsa-oaep" => mask,
        other => return Err(format!("the encryption algorithm {other:?} is not accepted")),
    };
    let mask = mask.unwrap_or("http://www.w3.org/2009/xmlenc11#mgf1sha1");
    Ok(match (digest.unwrap_or(sha1), mask) {
        (digest, "http://www.w3.org/2009/xmlenc11#mgf1sha1") if digest == sha1 => {
            &OAEP_SHA1_MGF1SHA1
        }
        (
            "http://www.w3.org/2001/04/xmlenc#sha256",
            "http://www.w3.org/2009/xmlenc11#mgf1sha256",
        ) => &OAEP_SHA256_MGF1SHA256,
        (
            "http://www.w3.org/2001/04/xmldsig-more#sha384",
            "http://www.w3.org/2009/xmlenc11#mgf1sha384",
        ) => &OAEP_SHA384_MGF1SHA384,
        (
            "http://www.w3.org/2001/04/xmlenc#sha512",
            "http://www.w3.org/2009/xmlenc11#mgf1sha512",
        ) => &OAEP_SHA512_MGF1SHA512,
        (digest, mask) => {
            return Err(format!("RSA-OAEP with {digest:?} and {mask:?} is not accepted"));
        }
    })
}
