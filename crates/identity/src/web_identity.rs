//! Tokens of OpenID Connect issuers: JSON Web Tokens signed with RS256 or ES256, as Kubernetes makes
//! them for service accounts.
//!
//! A token is read first ([`Unverified`]), because it says which issuer's keys it has to be checked
//! with; nothing it says is believed before [`Unverified::verify`]. No other algorithm is known, so
//! neither `none` nor a key used as a shared secret can be asked for. Keys come from the issuer's
//! key set alone: what a token's header says of keys besides `kid` and `alg` is not looked at.

use crate::oidc::{KEYS_BYTES_MAX, Provider};
use crate::tag::Tags;
use crate::vouched::Vouched;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use base::Timestamp;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Map, Value};

/// Longest token (STS API, `WebIdentityToken`).
const TOKEN_BYTES_MAX: usize = 20_000;
/// Keys of a set that are looked at.
const KEYS_MAX: usize = 64;
/// How far the issuer's clock may be ahead of ours.
const SKEW_SECONDS: i64 = 300;
/// The claim that carries session tags (STS guide, "Passing session tags using
/// AssumeRoleWithWebIdentity").
const TAGS_CLAIM: &str = "https://aws.amazon.com/tags";
/// The claim that carries the source identity.
const SOURCE_IDENTITY_CLAIM: &str = "https://aws.amazon.com/source_identity";

/// Why a token is worth nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// `InvalidIdentityToken`.
    #[error("{0}")]
    Invalid(String),
    /// `ExpiredTokenException`.
    #[error(
        "Token expired: current date/time {now} must be before the expiration date/time {expired}"
    )]
    Expired {
        /// When it was looked at.
        now: String,
        /// When it ended.
        expired: String,
    },
    /// `IDPRejectedClaim`: a claim that speaks against the token.
    #[error("{0}")]
    RejectedClaim(String),
}

fn invalid<T>(why: impl Into<String>) -> Result<T, TokenError> {
    Err(TokenError::Invalid(why.into()))
}

/// What an issuer vouches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// Who it is: `sub`.
    pub subject: String,
    /// For whom it said so: the client id that the provider knows.
    pub audience: String,
    /// Tags of the session.
    pub tags: Tags,
    /// Keys of tags that a further role inherits.
    pub transitive_tag_keys: Vec<String>,
    /// Who is behind it.
    pub source_identity: Option<String>,
}

/// A token that was read and not checked.
pub struct Unverified<'a> {
    /// What is signed.
    signed: &'a str,
    signature: Vec<u8>,
    algorithm: Algorithm,
    key_id: Option<String>,
    issuer: String,
    claims: Map<String, Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Algorithm {
    Rs256,
    Es256,
}

impl Algorithm {
    fn named(name: &str) -> Option<Self> {
        match name {
            "RS256" => Some(Self::Rs256),
            "ES256" => Some(Self::Es256),
            _ => None,
        }
    }
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// Extensions that have to be understood; none is.
    crit: Option<Value>,
}

impl<'a> Unverified<'a> {
    /// Reads a token.
    ///
    /// # Errors
    /// [`TokenError::Invalid`] for what is no token of a kind that is known here.
    pub fn read(token: &'a str) -> Result<Self, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return invalid("The token is longer than any token may be");
        }
        let not_one =
            || TokenError::Invalid("The ID Token provided is not a valid JWT.".to_owned());
        let (signed, signature) = token.rsplit_once('.').ok_or_else(not_one)?;
        let (header, claims) = signed.split_once('.').ok_or_else(not_one)?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| not_one());
        let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| not_one())?;
        let claims: Map<String, Value> =
            serde_json::from_slice(&decode(claims)?).map_err(|_| not_one())?;
        let Some(algorithm) = Algorithm::named(&header.alg) else {
            return invalid(format!("The signature algorithm {:?} is not accepted", header.alg));
        };
        if header.crit.is_some() {
            return invalid("The token's header asks for extensions that are not known here");
        }
        let Some(issuer) = claims.get("iss").and_then(Value::as_str) else {
            return invalid("Missing a required claim: iss");
        };
        let issuer = issuer.to_owned();
        let signature = decode(signature)?;
        Ok(Self { signed, signature, algorithm, key_id: header.kid, issuer, claims })
    }

    /// Who is said to have made it: `https://…`.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Whether a key set has a key that the token may be signed with.
    pub fn fits(&self, keys: &KeySet) -> bool {
        self.candidates(keys).next().is_some()
    }

    fn candidates<'k>(&self, keys: &'k KeySet) -> impl Iterator<Item = &'k Key> {
        let (algorithm, key_id) = (self.algorithm, self.key_id.clone());
        keys.0.iter().filter(move |key| {
            key.algorithm() == algorithm && (key_id.is_none() || key.id == key_id)
        })
    }

    /// Checks the signature, the times and the audience, with the keys of a provider.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn verify(
        &self,
        provider: &Provider,
        keys: &KeySet,
        now: Timestamp,
    ) -> Result<Vouched<Provider, Claims>, TokenError> {
        if !self.fits(keys) {
            return invalid(
                "Couldn't retrieve verification key from your identity provider: no key of the \
                 issuer has the token's key id and algorithm",
            );
        }
        let (signed, signature) = (self.signed.as_bytes(), self.signature.as_slice());
        if !self.candidates(keys).any(|key| key.has_signed(signed, signature)) {
            return invalid("The token's signature is not the issuer's");
        }
        let expires = self.instant("exp")?;
        let Some(expires) = expires else { return invalid("Missing a required claim: exp") };
        if now >= expires {
            let (now, expired) = (now.iso_seconds(), expires.iso_seconds());
            return Err(TokenError::Expired { now, expired });
        }
        for claim in ["nbf", "iat"] {
            if self.instant(claim)?.is_some_and(|from| from > now.plus_seconds(SKEW_SECONDS)) {
                let why = format!("The claim {claim} says that the token is not valid yet");
                return Err(TokenError::RejectedClaim(why));
            }
        }
        let audience = self.audience(&provider.settings.client_ids)?;
        Ok(Vouched::new(provider.clone(), self.claims(audience)?))
    }

    fn claims(&self, audience: String) -> Result<Claims, TokenError> {
        let text = |name: &str| self.claims.get(name).and_then(Value::as_str).map(str::to_owned);
        let subject = text("sub").filter(|sub| (1..=255).contains(&sub.chars().count()));
        let Some(subject) = subject else { return invalid("Missing a required claim: sub") };
        let (tags, transitive_tag_keys) = self.tags()?;
        let source_identity = text(SOURCE_IDENTITY_CLAIM);
        Ok(Claims { subject, audience, tags, transitive_tag_keys, source_identity })
    }

    fn instant(&self, claim: &str) -> Result<Option<Timestamp>, TokenError> {
        let Some(value) = self.claims.get(claim) else { return Ok(None) };
        // Seconds, perhaps with a fraction (RFC 7519, "NumericDate").
        let seconds = value.as_i64().or_else(|| {
            let float = value.as_f64()?;
            (float.abs() < 1e15).then(|| float.floor() as i64)
        });
        match seconds.filter(|seconds| seconds.abs() < 1_000_000_000_000) {
            Some(seconds) => Ok(Some(Timestamp(seconds * 1000))),
            None => invalid(format!("The claim {claim} is not an instant")),
        }
    }

    /// The audience that is known: the authorized party where there is one, as it is then the client.
    fn audience(&self, client_ids: &[String]) -> Result<String, TokenError> {
        let texts = |value: &Value| match value {
            Value::String(one) => vec![one.clone()],
            Value::Array(many) => {
                many.iter().filter_map(Value::as_str).map(str::to_owned).collect()
            }
            _ => Vec::new(),
        };
        let named = self.claims.get("azp").or_else(|| self.claims.get("aud"));
        let Some(named) = named.map(texts) else { return invalid("Missing a required claim: aud") };
        match named.into_iter().find(|audience| client_ids.contains(audience)) {
            Some(audience) => Ok(audience),
            None => invalid("Incorrect token audience"),
        }
    }

    fn tags(&self) -> Result<(Tags, Vec<String>), TokenError> {
        let Some(claim) = self.claims.get(TAGS_CLAIM) else { return Ok((Tags::new(), Vec::new())) };
        let wrong = || TokenError::Invalid(format!("The claim {TAGS_CLAIM} is not of its form"));
        let mut tags = Tags::new();
        for (key, values) in claim["principal_tags"].as_object().ok_or_else(wrong)? {
            let value = match values {
                Value::String(one) => one.as_str(),
                Value::Array(many) if many.len() == 1 => many[0].as_str().ok_or_else(wrong)?,
                _ => return Err(wrong()),
            };
            tags.insert(key.clone(), value.to_owned());
        }
        let keys = match &claim["transitive_tag_keys"] {
            Value::Null => Vec::new(),
            Value::Array(keys) => {
                let texts = keys.iter().map(|key| key.as_str().map(str::to_owned));
                texts.collect::<Option<_>>().ok_or_else(wrong)?
            }
            _ => return Err(wrong()),
        };
        Ok((tags, keys))
    }
}

/// The public keys of an issuer (RFC 7517).
#[derive(Debug)]
pub struct KeySet(Vec<Key>);

#[derive(Debug)]
struct Key {
    id: Option<String>,
    public: Public,
}

#[derive(Debug)]
enum Public {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// An uncompressed point.
    P256(Vec<u8>),
}

#[derive(Deserialize)]
struct WrittenSet {
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct Written {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl KeySet {
    /// Reads a key set. Keys of other kinds are passed over: they are for others.
    ///
    /// # Errors
    /// A sentence about what is wrong: no key set, or one without any usable key.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > KEYS_BYTES_MAX {
            return Err(format!(
                "a key set of {} bytes, the limit is {KEYS_BYTES_MAX}",
                text.len()
            ));
        }
        let set: WrittenSet =
            serde_json::from_str(text).map_err(|error| format!("no JSON web key set: {error}"))?;
        let keys: Vec<Key> = set.keys.into_iter().take(KEYS_MAX).filter_map(Key::usable).collect();
        if keys.is_empty() {
            return Err("the key set has no RSA and no P-256 key for signatures".to_owned());
        }
        Ok(Self(keys))
    }
}

impl Key {
    fn usable(value: Value) -> Option<Self> {
        let written: Written = serde_json::from_value(value).ok()?;
        if written.purpose.is_some_and(|purpose| purpose != "sig") {
            return None;
        }
        let bytes = |text: Option<String>| URL_SAFE_NO_PAD.decode(text?).ok();
        let public = match written.kty.as_str() {
            "RSA" => Public::Rsa { n: bytes(written.n)?, e: bytes(written.e)? },
            "EC" if written.crv.as_deref() == Some("P-256") => {
                let (x, y) = (bytes(written.x)?, bytes(written.y)?);
                if x.len() != 32 || y.len() != 32 {
                    return None;
                }
                Public::P256([&[4][..], &x, &y].concat())
            }
            _ => return None,
        };
        let key = Self { id: written.kid, public };
        let meant = written.alg.as_deref().map(Algorithm::named);
        meant.is_none_or(|meant| meant == Some(key.algorithm())).then_some(key)
    }

    fn algorithm(&self) -> Algorithm {
        match self.public {
            Public::Rsa { .. } => Algorithm::Rs256,
            Public::P256(_) => Algorithm::Es256,
        }
    }

    fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.public {
            Public::Rsa { n, e } => RsaPublicKeyComponents { n, e }
                .verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
                .is_ok(),
            Public::P256(point) => UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
                .verify(message, signature)
                .is_ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oidc::Settings;
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::rsa::KeySize;
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
    };
    use serde_json::json;

    const NOW: Timestamp = Timestamp(1_767_225_600_000);

    enum Signer {
        Rsa(RsaKeyPair),
        P256(EcdsaKeyPair),
    }

    impl Signer {
        fn both() -> [Self; 2] {
            [
                Self::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()),
                Self::P256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap()),
            ]
        }

        fn algorithm(&self) -> &'static str {
            match self {
                Self::Rsa(_) => "RS256",
                Self::P256(_) => "ES256",
            }
        }

        fn key(&self) -> Value {
            let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
            match self {
                Self::Rsa(pair) => {
                    // PKCS #1: a sequence of 4 bytes, then the modulus behind 5, then the exponent.
                    let der = pair.public_key().as_ref();
                    let (n, e) = (&der[9..9 + 256], &der[der.len() - 3..]);
                    json!({ "kty": "RSA", "kid": "k", "use": "sig", "n": text(n), "e": text(e) })
                }
                Self::P256(pair) => {
                    let point = pair.public_key().as_ref();
                    json!({ "kty": "EC", "crv": "P-256", "kid": "k", "alg": "ES256",
                        "x": text(&point[1..33]), "y": text(&point[33..]) })
                }
            }
        }

        fn keys(&self) -> KeySet {
            KeySet::parse(&json!({ "keys": [{ "kty": "oct" }, self.key()] }).to_string()).unwrap()
        }

        fn token(&self, header: &Value, claims: &Value) -> String {
            let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
            let signed = format!("{}.{}", part(header), part(claims));
            let signature = match self {
                Self::Rsa(pair) => {
                    let mut signature = vec![0; pair.public_modulus_len()];
                    let rng = SystemRandom::new();
                    pair.sign(&RSA_PKCS1_SHA256, &rng, signed.as_bytes(), &mut signature).unwrap();
                    signature
                }
                Self::P256(pair) => {
                    pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap().as_ref().to_vec()
                }
            };
            format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
        }
    }

    fn claims() -> Value {
        json!({ "iss": "https://oidc.example.org", "sub": "system:serviceaccount:a:b",
            "aud": ["x", "sts.amazonaws.com"], "iat": 1_767_225_500, "nbf": 1_767_225_500,
            "exp": 1_767_229_100 })
    }

    fn provider() -> Provider {
        let client_ids = vec!["sts.amazonaws.com".to_owned()];
        Provider {
            account: base::AccountId::parse("111111111111").unwrap(),
            issuer: "oidc.example.org".to_owned(),
            settings: Settings { client_ids, ..Settings::default() },
            created_at: NOW,
            keys: None,
        }
    }

    fn check(signer: &Signer, header: &Value, claims: &Value) -> Result<Claims, TokenError> {
        let token = signer.token(header, claims);
        let vouched = Unverified::read(&token)?.verify(&provider(), &signer.keys(), NOW)?;
        Ok(vouched.claims().clone())
    }

    #[test]
    fn good_tokens_of_both_kinds() {
        for signer in Signer::both() {
            let header = json!({ "alg": signer.algorithm(), "kid": "k" });
            let read = check(&signer, &header, &claims()).unwrap();
            assert_eq!(read.subject, "system:serviceaccount:a:b");
            assert_eq!(read.audience, "sts.amazonaws.com");
            let mut more = claims();
            more[TAGS_CLAIM] =
                json!({ "principal_tags": { "team": ["red"] }, "transitive_tag_keys": ["team"] });
            more[SOURCE_IDENTITY_CLAIM] = json!("amy");
            let read = check(&signer, &json!({ "alg": signer.algorithm() }), &more).unwrap();
            assert_eq!(read.tags["team"], "red");
            assert_eq!(read.transitive_tag_keys, ["team"]);
            assert_eq!(read.source_identity.as_deref(), Some("amy"));
        }
    }

    #[test]
    fn a_changed_token_is_nobodys() {
        for signer in Signer::both() {
            let header = json!({ "alg": signer.algorithm(), "kid": "k" });
            let token = signer.token(&header, &claims());
            let keys = signer.keys();
            for at in 0..token.len() {
                let mut bytes = token.clone().into_bytes();
                bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
                let changed = String::from_utf8(bytes).unwrap();
                let believed = Unverified::read(&changed)
                    .and_then(|read| read.verify(&provider(), &keys, NOW).map(drop));
                assert!(believed.is_err(), "byte {at}");
            }
            let other = &Signer::both()[usize::from(signer.algorithm() == "ES256")];
            let foreign = Unverified::read(&token).unwrap().verify(&provider(), &other.keys(), NOW);
            assert!(matches!(foreign, Err(TokenError::Invalid(_))));
        }
    }

    #[test]
    fn algorithms_are_not_for_the_token_to_choose() {
        let [rsa, _] = Signer::both();
        for alg in ["none", "HS256", "RS384", "ES256", "rs256"] {
            let refused = check(&rsa, &json!({ "alg": alg, "kid": "k" }), &claims());
            assert!(matches!(refused, Err(TokenError::Invalid(_))), "{alg}");
        }
        let critical = json!({ "alg": "RS256", "kid": "k", "crit": ["b64"] });
        assert!(check(&rsa, &critical, &claims()).is_err());
        assert!(check(&rsa, &json!({ "alg": "RS256", "kid": "other" }), &claims()).is_err());
    }

    #[test]
    fn times_audience_and_claims() {
        let [_, signer] = Signer::both();
        let header = json!({ "alg": "ES256", "kid": "k" });
        let with = |name: &str, value: Value| {
            let mut claims = claims();
            claims[name] = value;
            check(&signer, &header, &claims)
        };
        assert!(matches!(with("exp", json!(1_767_225_600)), Err(TokenError::Expired { .. })));
        assert!(with("exp", json!(1_767_225_601.5)).is_ok());
        assert!(matches!(with("exp", json!("soon")), Err(TokenError::Invalid(_))));
        assert!(matches!(with("exp", Value::Null), Err(TokenError::Invalid(_))));
        assert!(matches!(with("nbf", json!(1_767_225_901)), Err(TokenError::RejectedClaim(_))));
        assert!(with("nbf", json!(1_767_225_900)).is_ok());
        assert!(matches!(with("iat", json!(1_767_300_000)), Err(TokenError::RejectedClaim(_))));
        assert!(matches!(with("aud", json!("other")), Err(TokenError::Invalid(_))));
        assert!(matches!(with("azp", json!("other")), Err(TokenError::Invalid(_))));
        assert_eq!(with("azp", json!("sts.amazonaws.com")).unwrap().audience, "sts.amazonaws.com");
        assert!(matches!(with("sub", json!("")), Err(TokenError::Invalid(_))));
        assert!(matches!(with("iss", json!(7)), Err(TokenError::Invalid(_))));
        assert!(with(TAGS_CLAIM, json!({ "principal_tags": { "a": ["b", "c"] } })).is_err());
        for bad in ["", "a.b", "a.b.c", "e30.e30.", "..", &"a".repeat(TOKEN_BYTES_MAX + 1)] {
            assert!(Unverified::read(bad).is_err());
        }
    }

    #[test]
    fn key_sets() {
        let [rsa, _] = Signer::both();
        let mut encryption = rsa.key();
        encryption["use"] = json!("enc");
        let mut other = rsa.key();
        other["alg"] = json!("PS256");
        for bad in [json!({}), json!({ "keys": [] }), json!({ "keys": [encryption, other] })] {
            assert!(KeySet::parse(&bad.to_string()).is_err());
        }
        assert!(KeySet::parse(&" ".repeat(KEYS_BYTES_MAX + 1)).is_err());
    }

    /// An issuer and a token of its.
    fn issued() -> &'static (Signer, String) {
        static ISSUED: std::sync::OnceLock<(Signer, String)> = std::sync::OnceLock::new();
        ISSUED.get_or_init(|| {
            let [_, signer] = Signer::both();
            let token = signer.token(&json!({ "alg": "ES256", "kid": "k" }), &claims());
            (signer, token)
        })
    }

    fuzz::target!(
        /// No token but the one that was issued is taken.
        tokens,
        vec![issued().1.clone().into_bytes()],
        |bytes: &[u8]| {
            let (signer, issued) = issued();
            let Ok(text) = std::str::from_utf8(bytes) else { return };
            let read = Unverified::read(text);
            let verified = read.and_then(|token| token.verify(&provider(), &signer.keys(), NOW));
            assert_eq!(verified.is_ok(), text == issued);
        }
    );

    fuzz::target!(
        /// Whatever an issuer publishes, few keys are read of it, and a token is tried with them.
        published_keys,
        {
            let both = Signer::both();
            vec![json!({ "keys": both.map(|signer| signer.key()) }).to_string().into_bytes()]
        },
        |bytes: &[u8]| {
            let Ok(keys) = KeySet::parse(&String::from_utf8_lossy(bytes)) else { return };
            assert!((1..=KEYS_MAX).contains(&keys.0.len()));
            let token = Unverified::read(&issued().1).unwrap();
            let tried = token.verify(&provider(), &keys, NOW);
            assert!(tried.is_err(), "keys of another issuer");
        }
    );
}
