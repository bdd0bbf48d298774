//! A SAML identity provider for tests: it writes what it signs in canonical form from the start, so
//! that what checks its signatures has no part in making them.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{AES_128, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{
    KeySize, OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey,
    PrivateDecryptingKey,
};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Who signs.
pub(crate) const ENTITY_ID: &str = "https://idp.example.org/saml";
/// The sign-in endpoint.
pub(crate) const SIGN_IN: &str = "https://signin.aws.amazon.com/saml";

const ATTRIBUTES: &str = "https://aws.amazon.com/SAML/Attributes/";

pub(crate) struct Idp(EcdsaKeyPair);

/// What a response says. As it is made, everything in it is good at the start of 2026.
#[derive(Clone)]
pub(crate) struct Said {
    pub(crate) status: &'static str,
    pub(crate) issuer: String,
    pub(crate) subject: String,
    pub(crate) format: String,
    pub(crate) recipient: String,
    pub(crate) audience: String,
    pub(crate) issued: String,
    pub(crate) not_before: String,
    /// Of the conditions and of the subject's confirmation.
    pub(crate) until: [String; 2],
    pub(crate) session_end: Option<String>,
    pub(crate) attributes: Vec<(String, Vec<String>)>,
}

impl Said {
    /// For a role and a provider.
    pub(crate) fn of(role: &str, provider: &str) -> Self {
        let attribute = |name: &str, value: String| (format!("{ATTRIBUTES}{name}"), vec![value]);
        let until = "2026-01-01T00:05:00.000Z".to_owned();
        Self {
            status: "urn:oasis:names:tc:SAML:2.0:status:Success",
            issuer: ENTITY_ID.to_owned(),
            subject: "amy@example.org".to_owned(),
            format: "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent".to_owned(),
            recipient: SIGN_IN.to_owned(),
            audience: "urn:amazon:webservices".to_owned(),
            issued: "2026-01-01T00:00:00Z".to_owned(),
            not_before: "2025-12-31T23:59:00Z".to_owned(),
            until: [until.clone(), until],
            session_end: None,
            attributes: vec![
                attribute("Role", format!("{role},{provider}")),
                attribute("RoleSessionName", "amy".to_owned()),
            ],
        }
    }

    /// One of the service's own attributes, in place of what it was.
    pub(crate) fn with(mut self, name: &str, values: &[&str]) -> Self {
        let name = format!("{ATTRIBUTES}{name}");
        self.attributes.retain(|(existing, _)| *existing != name);
        self.attribute(&name, values)
    }

    /// One more attribute.
    pub(crate) fn attribute(mut self, name: &str, values: &[&str]) -> Self {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        self.attributes.push((name.to_owned(), values));
        self
    }

    /// The assertion up to where its signature goes, and behind.
    fn assertion(&self) -> (String, String) {
        let start = format!(
            "<saml:Assertion xmlns:saml=\"urn:oasis:names:tc:SAML:2.0:assertion\" ID=\"_a1\" \
             IssueInstant=\"{}\" Version=\"2.0\"><saml:Issuer>{}</saml:Issuer>",
            self.issued, self.issuer
        );
        let session = self.session_end.as_ref();
        let session =
            session.map(|end| format!(" SessionNotOnOrAfter=\"{end}\"")).unwrap_or_default();
        let mut attributes = String::new();
        for (name, values) in &self.attributes {
            attributes.push_str(&format!("<saml:Attribute Name=\"{name}\">"));
            for value in values {
                attributes.push_str(&format!("<saml:AttributeValue>{value}</saml:AttributeValue>"));
            }
            attributes.push_str("</saml:Attribute>");
        }
        let rest = format!(
            "<saml:Subject><saml:NameID Format=\"{}\">{}</saml:NameID><saml:SubjectConfirmation \
             Method=\"urn:oasis:names:tc:SAML:2.0:cm:bearer\"><saml:SubjectConfirmationData \
             NotOnOrAfter=\"{}\" Recipient=\"{}\"></saml:SubjectConfirmationData>\
             </saml:SubjectConfirmation></saml:Subject><saml:Conditions NotBefore=\"{}\" \
             NotOnOrAfter=\"{}\"><saml:AudienceRestriction><saml:Audience>{}</saml:Audience>\
             </saml:AudienceRestriction></saml:Conditions><saml:AuthnStatement AuthnInstant=\"{}\"{session}>\
             </saml:AuthnStatement><saml:AttributeStatement>{attributes}</saml:AttributeStatement>\
             </saml:Assertion>",
            self.format,
            self.subject,
            self.until[1],
            self.recipient,
            self.not_before,
            self.until[0],
            self.audience,
            self.issued,
        );
        (start, rest)
    }

    /// A response around an assertion.
    pub(crate) fn response(&self, assertion: &str) -> String {
        format!(
            "<samlp:Response xmlns:samlp=\"urn:oasis:names:tc:SAML:2.0:protocol\" ID=\"_r1\" \
             IssueInstant=\"{}\" Version=\"2.0\"><samlp:Status><samlp:StatusCode Value=\"{}\">\
             </samlp:StatusCode></samlp:Status>{assertion}</samlp:Response>",
            self.issued, self.status
        )
    }
}

/// How an assertion is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cipher {
    /// AES-256-GCM; the key with SHA-256 in text and mask.
    Gcm,
    /// AES-128-CBC; the key with SHA-1.
    Cbc,
}

/// Whom assertions are encrypted for.
pub(crate) struct Recipient(PrivateDecryptingKey);

impl Recipient {
    pub(crate) fn new() -> Self {
        Self(PrivateDecryptingKey::generate(KeySize::Rsa2048).expect("a key"))
    }

    /// The private key as a file.
    pub(crate) fn pem(&self) -> String {
        let der: Pkcs8V1Der<'_> = self.0.as_der().expect("a private key");
        let text = STANDARD.encode(der.as_ref());
        format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n")
    }

    /// A response with its assertion, or whatever stands between the same marks, encrypted.
    pub(crate) fn encrypted(&self, response: &str, cipher: Cipher) -> String {
        const END: &str = "</saml:Assertion>";
        let start = response.find("<saml:Assertion").expect("an assertion");
        let end = response.rfind(END).expect("an assertion") + END.len();
        let sealed = self.element(&response[start..end], cipher);
        format!("{}{sealed}{}", &response[..start], &response[end..])
    }

    /// Anything, as an encrypted assertion.
    pub(crate) fn element(&self, text: &str, cipher: Cipher) -> String {
        let public = OaepPublicEncryptingKey::new(self.0.public_key()).expect("a public key");
        let (key, bytes) = ([7; 32], text.as_bytes());
        let (algorithm, transport, key, sealed) = match cipher {
            Cipher::Gcm => {
                let mut body = bytes.to_vec();
                LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).expect("a key"))
                    .seal_in_place_append_tag(
                        Nonce::assume_unique_for_key([9; 12]),
                        Aad::empty(),
                        &mut body,
                    )
                    .expect("sealed");
                let name = "http://www.w3.org/2009/xmlenc11#aes256-gcm";
                (name, &OAEP_SHA256_MGF1SHA256, &key[..], [&[9; 12][..], &body].concat())
            }
            Cipher::Cbc => {
                let added = 16 - bytes.len() % 16;
                let mut body = bytes.to_vec();
                body.resize(bytes.len() + added, 0xa5);
                *body.last_mut().expect("a byte") = added as u8;
                let short = &key[..16];
                let vector = EncryptionContext::Iv128(FixedLength::from([9; 16]));
                EncryptingKey::cbc(UnboundCipherKey::new(&AES_128, short).expect("a key"))
                    .and_then(|key| key.less_safe_encrypt(&mut body, vector))
                    .expect("encrypted");
                let name = "http://www.w3.org/2001/04/xmlenc#aes128-cbc";
                (name, &OAEP_SHA1_MGF1SHA1, short, [&[9; 16][..], &body].concat())
            }
        };
        let method = match cipher {
            Cipher::Gcm => {
                "\"http://www.w3.org/2009/xmlenc11#rsa-oaep\"><ds:DigestMethod \
                 Algorithm=\"http://www.w3.org/2001/04/xmlenc#sha256\"></ds:DigestMethod><x11:MGF \
                 xmlns:x11=\"http://www.w3.org/2009/xmlenc11#\" \
                 Algorithm=\"http://www.w3.org/2009/xmlenc11#mgf1sha256\"></x11:MGF>"
            }
            Cipher::Cbc => "\"http://www.w3.org/2001/04/xmlenc#rsa-oaep-mgf1p\">",
        };
        let mut wrapped = vec![0; public.ciphertext_size()];
        public.encrypt(transport, key, &mut wrapped, None).expect("encrypted");
        format!(
            "<saml:EncryptedAssertion xmlns:saml=\"urn:oasis:names:tc:SAML:2.0:assertion\">\
             <xenc:EncryptedData xmlns:xenc=\"http://www.w3.org/2001/04/xmlenc#\" \
             Type=\"http://www.w3.org/2001/04/xmlenc#Element\"><xenc:EncryptionMethod \
             Algorithm=\"{algorithm}\"></xenc:EncryptionMethod>\
             <ds:KeyInfo xmlns:ds=\"http://www.w3.org/2000/09/xmldsig#\"><xenc:EncryptedKey>\
             <xenc:EncryptionMethod Algorithm={method}</xenc:EncryptionMethod><xenc:CipherData>\
             <xenc:CipherValue>{}</xenc:CipherValue></xenc:CipherData></xenc:EncryptedKey>\
             </ds:KeyInfo><xenc:CipherData><xenc:CipherValue>{}</xenc:CipherValue>\
             </xenc:CipherData></xenc:EncryptedData></saml:EncryptedAssertion>",
            STANDARD.encode(wrapped),
            STANDARD.encode(sealed)
        )
    }
}

fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = u16::try_from(content.len()).expect("short");
    let [high, low] = length.to_be_bytes();
    [&[tag, 0x82, high, low][..], &content].concat()
}

impl Idp {
    pub(crate) fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key"))
    }

    /// A certificate in which only the key is real.
    pub(crate) fn certificate(&self) -> String {
        let key = self.0.public_key();
        let public: PublicKeyX509Der<'_> = key.as_der().expect("a public key");
        let nothing = der(0x30, &[]);
        let version = der(0xa0, &[&[2, 1, 2]]);
        let parts: [&[u8]; 7] =
            [&version, &[2, 1, 1], &nothing, &nothing, &nothing, &nothing, public.as_ref()];
        STANDARD.encode(der(0x30, &[&der(0x30, &parts), &nothing, &[3, 1, 0]]))
    }

    pub(crate) fn metadata(&self) -> String {
        format!(
            "<?xml version=\"1.0\"?>\n<!-- {} -->\n<md:EntityDescriptor \
             xmlns:md=\"urn:oasis:names:tc:SAML:2.0:metadata\" entityID=\"{ENTITY_ID}\">\n\
             <md:IDPSSODescriptor protocolSupportEnumeration=\"urn:oasis:names:tc:SAML:2.0:protocol\">\
             <md:KeyDescriptor use=\"signing\"><ds:KeyInfo \
             xmlns:ds=\"http://www.w3.org/2000/09/xmldsig#\"><ds:X509Data><ds:X509Certificate>\n{}\n\
             </ds:X509Certificate></ds:X509Data></ds:KeyInfo></md:KeyDescriptor><md:SingleSignOnService \
             Binding=\"urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST\" Location=\"{ENTITY_ID}\"/>\
             </md:IDPSSODescriptor></md:EntityDescriptor>",
            "what is needed to have a thousand characters ".repeat(12),
            self.certificate()
        )
    }

    /// A signature over an element in canonical form.
    fn signature(&self, id: &str, canonical: &str) -> String {
        let hash = STANDARD.encode(digest(&SHA256, canonical.as_bytes()));
        let info = format!(
            "<ds:SignedInfo xmlns:ds=\"http://www.w3.org/2000/09/xmldsig#\"><ds:CanonicalizationMethod \
             Algorithm=\"http://www.w3.org/2001/10/xml-exc-c14n#\"></ds:CanonicalizationMethod>\
             <ds:SignatureMethod Algorithm=\"http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256\">\
             </ds:SignatureMethod><ds:Reference URI=\"#{id}\"><ds:Transforms><ds:Transform \
             Algorithm=\"http://www.w3.org/2000/09/xmldsig#enveloped-signature\"></ds:Transform>\
             <ds:Transform Algorithm=\"http://www.w3.org/2001/10/xml-exc-c14n#\"></ds:Transform>\
             </ds:Transforms><ds:DigestMethod Algorithm=\"http://www.w3.org/2001/04/xmlenc#sha256\">\
             </ds:DigestMethod><ds:DigestValue>{hash}</ds:DigestValue></ds:Reference></ds:SignedInfo>"
        );
        let value = self.0.sign(&SystemRandom::new(), info.as_bytes()).expect("signed");
        format!(
            "<ds:Signature xmlns:ds=\"http://www.w3.org/2000/09/xmldsig#\">{info}<ds:SignatureValue>{}\
             </ds:SignatureValue></ds:Signature>",
            STANDARD.encode(value)
        )
    }

    /// A response whose assertion is signed.
    pub(crate) fn signed(&self, said: &Said) -> String {
        let (start, rest) = said.assertion();
        let signature = self.signature("_a1", &format!("{start}{rest}"));
        said.response(&format!("{start}{signature}{rest}"))
    }

    /// A response that is signed as a whole.
    pub(crate) fn signed_around(&self, said: &Said) -> String {
        let (start, rest) = said.assertion();
        self.sign_around(&said.response(&format!("{start}{rest}")))
    }

    /// A response in canonical form, with a signature of the whole.
    pub(crate) fn sign_around(&self, response: &str) -> String {
        let signature = self.signature("_r1", response);
        response.replacen("<samlp:Status>", &format!("{signature}<samlp:Status>"), 1)
    }

    /// Neither is signed.
    pub(crate) fn unsigned(&self, said: &Said) -> String {
        let (start, rest) = said.assertion();
        said.response(&format!("{start}{rest}"))
    }
}
