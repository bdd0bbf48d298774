//! Key material: the secret behind one version of a KMS key, and how it is kept.
//!
//! A version ("hardware backing key", HBK) is known by its [`MaterialId`]. At rest it exists only as an
//! exported key token (EKT): sealed under a domain key and bound to everything that says whose it is and what it
//! is for, so a token copied into another row opens nowhere. Tokens of version 1 hold the 32 bytes of a symmetric
//! encryption key; those of version 2 hold every other kind: the bytes of an HMAC key, or a private key.

use crate::error::Result as KmsResult;
use crate::origin::KeyOrigin;
use crate::pair;
use crate::primitive::{self, KEY_LEN, Key, NONCE_LEN, OpenError, TAG_LEN, push_field};
use crate::spec::Kind;
use base::{AccountId, Region, Rng, Secret, Timestamp};
use std::fmt;

/// Versions of the token's layout, its first byte.
const SYMMETRIC: u8 = 1;
const OTHER: u8 = 2;
/// Version, number of the domain key and nonce.
const HEADER_LEN: usize = 1 + 4 + NONCE_LEN;
/// Every token of version 1 has this length.
const SYMMETRIC_LEN: usize = HEADER_LEN + KEY_LEN + TAG_LEN;
/// How the secret in a token of version 2 is written, its first byte: the secret itself.
const RAW: u8 = 1;
/// The same: an unencrypted PKCS #8 `PrivateKeyInfo` (RFC 5208) in DER.
const PKCS8: u8 = 2;
/// In place of a token: the material is on a PKCS#11 token, under the label that its id gives.
pub(crate) const ON_TOKEN: u8 = 3;

/// Names one version of a key's material: 32 random bytes, shown as 64 hexadecimal digits
/// (`KeyMaterialId` on the wire).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MaterialId(pub(crate) [u8; 32]);

impl MaterialId {
    /// Names nothing: the key of which nothing was imported yet has this.
    pub const NONE: Self = Self([0; 32]);

    /// Makes a new random id.
    pub fn generate(rng: &dyn Rng) -> Self {
        let mut id = [0; 32];
        rng.fill(&mut id);
        Self(id)
    }

    /// Reads the form of [`fmt::Display`].
    pub fn parse(text: &str) -> Option<Self> {
        let mut id = [0; 32];
        hex::decode_to_slice(text, &mut id).ok()?;
        Some(Self(id))
    }
}

impl fmt::Display for MaterialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; 64];
        hex::encode_to_slice(self.0, &mut text).expect("an id has 32 bytes");
        f.write_str(str::from_utf8(&text).expect("digits are ASCII"))
    }
}

impl fmt::Debug for MaterialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a token is bound to (formats §0: the additional data of the EKT).
#[derive(Clone, Debug)]
pub(crate) struct Binding<'a> {
    /// Owner of the key.
    pub(crate) account: &'a AccountId,
    /// Region of the key.
    pub(crate) region: &'a Region,
    /// The key's id, not its ARN.
    pub(crate) key_id: &'a str,
    /// The version sealed.
    pub(crate) material_id: MaterialId,
    /// What the key is.
    pub(crate) kind: Kind,
    /// Where the material comes from.
    pub(crate) origin: &'a str,
    /// When the version was made.
    pub(crate) created: Timestamp,
}

impl Binding<'_> {
    fn additional_data(&self, domain_key_number: u32) -> Vec<u8> {
        let label: &[u8] = if self.kind.is_symmetric() { b"ekt1" } else { b"ekt2" };
        let mut aad = label.to_vec();
        push_field(&mut aad, &domain_key_number.to_be_bytes());
        push_field(&mut aad, base::arn::PARTITION.as_bytes());
        push_field(&mut aad, self.account.as_str().as_bytes());
        push_field(&mut aad, self.region.as_str().as_bytes());
        push_field(&mut aad, self.key_id.as_bytes());
        push_field(&mut aad, &self.material_id.0);
        push_field(&mut aad, self.kind.spec().as_str().as_bytes());
        push_field(&mut aad, self.origin.as_bytes());
        push_field(&mut aad, &self.created.0.to_be_bytes());
        if !self.kind.is_symmetric() {
            // A spec that has several usages must not change from one to the other.
            push_field(&mut aad, self.kind.usage().as_str().as_bytes());
        }
        aad
    }

    /// How the secret of this kind is written in a token of version 2.
    fn encoding(&self) -> u8 {
        if self.kind.spec().is_pair() { PKCS8 } else { RAW }
    }
}

/// The secret of a key that is not stored yet. Made before the transaction that stores it, because an RSA key pair
/// takes seconds.
#[derive(Debug)]
pub struct NewMaterial {
    kind: Kind,
    source: Source,
}

/// Where new material is.
#[derive(Debug)]
pub(crate) enum Source {
    /// Here, until it is sealed.
    Here(Material),
    /// On a PKCS#11 token, and nowhere else.
    OnToken(MaterialId),
    /// With the owner of the key, who has not imported it yet.
    Awaited,
}

/// An opened secret.
#[derive(Debug)]
pub(crate) enum Material {
    /// Of a symmetric encryption key, in protected memory.
    Symmetric(Key),
    /// Of every other kind: the bytes of an HMAC key, or a private key.
    Other(Secret<Vec<u8>>),
}

impl Material {
    /// Material that was brought, in the form in which it is kept. That of RSA takes milliseconds to look at.
    ///
    /// # Errors
    /// [`crate::Error::IncorrectMaterial`] when it is none of this kind.
    pub(crate) fn imported(kind: Kind, secret: Secret<Vec<u8>>) -> KmsResult<Self> {
        let wrong = crate::Error::IncorrectMaterial;
        match kind.spec().secret_len() {
            None => pair::canonical(kind.spec(), secret.expose()).map(Self::Other),
            Some(_) if kind.is_symmetric() => {
                Key::from_slice(secret.expose()).map(Self::Symmetric).ok_or(wrong)
            }
            Some(length) if secret.expose().len() == length => Ok(Self::Other(secret)),
            Some(_) => Err(wrong),
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Symmetric(key) => key.expose(),
            Self::Other(secret) => secret.expose(),
        }
    }
}

impl NewMaterial {
    /// Fresh material. Symmetric and HMAC keys come from `rng`; key pairs from it too where a seed determines
    /// them (Ed25519, ML-DSA), and else from the library's generator, which the system seeds.
    ///
    /// # Errors
    /// [`crate::Error::Cryptography`] when the library fails.
    pub fn generate(kind: Kind, rng: &dyn Rng) -> KmsResult<Self> {
        let secret = match kind.spec().secret_len() {
            Some(_) if kind.is_symmetric() => Material::Symmetric(generate(rng)),
            Some(length) => {
                let mut secret = Secret::new(vec![0; length]);
                rng.fill(secret.expose_mut());
                Material::Other(secret)
            }
            None => Material::Other(pair::generate(kind.spec(), rng)?),
        };
        Ok(Self { kind, source: Source::Here(secret) })
    }

    /// Symmetric material that was made on a token, under the label that its id gives.
    pub fn on_token(id: MaterialId) -> Self {
        Self { kind: Kind::SYMMETRIC, source: Source::OnToken(id) }
    }

    /// Material that the key's owner is going to import.
    pub fn awaited(kind: Kind) -> Self {
        Self { kind, source: Source::Awaited }
    }

    /// Its id, where it has one already: on a token.
    pub fn id(&self) -> Option<MaterialId> {
        match self.source {
            Source::Here(_) | Source::Awaited => None,
            Source::OnToken(id) => Some(id),
        }
    }

    /// Where it comes from.
    pub(crate) fn origin(&self) -> KeyOrigin {
        match self.source {
            Source::Here(_) => KeyOrigin::AwsKms,
            Source::OnToken(_) => KeyOrigin::AwsCloudHsm,
            Source::Awaited => KeyOrigin::External,
        }
    }

    /// What it is for.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn source(&self) -> &Source {
        &self.source
    }
}

/// Fresh symmetric material.
pub(crate) fn generate(rng: &dyn Rng) -> Key {
    let mut material = Key::zero();
    rng.fill(material.expose_mut());
    material
}

/// Seals a secret into a token: version, number of the domain key, nonce, ciphertext, tag.
pub(crate) fn wrap(
    domain_key: &[u8; KEY_LEN],
    domain_key_number: u32,
    binding: &Binding<'_>,
    secret: &[u8],
    rng: &dyn Rng,
) -> Vec<u8> {
    let nonce = primitive::random_nonce(rng);
    let mut sealed = Vec::with_capacity(1 + secret.len() + TAG_LEN);
    if !binding.kind.is_symmetric() {
        sealed.push(binding.encoding());
    }
    sealed.extend_from_slice(secret);
    primitive::seal(domain_key, nonce, &binding.additional_data(domain_key_number), &mut sealed);
    let mut token = Vec::with_capacity(HEADER_LEN + sealed.len());
    token.push(if binding.kind.is_symmetric() { SYMMETRIC } else { OTHER });
    token.extend_from_slice(&domain_key_number.to_be_bytes());
    token.extend_from_slice(&nonce);
    token.extend_from_slice(&sealed);
    assert!(
        !binding.kind.is_symmetric() || token.len() == SYMMETRIC_LEN,
        "a token of version 1 has one length"
    );
    token
}

/// The number of the domain key a token was sealed under; `None` when it is no token of these versions.
pub(crate) fn domain_key_number(token: &[u8]) -> Option<u32> {
    let known = match *token.first()? {
        SYMMETRIC => token.len() == SYMMETRIC_LEN,
        OTHER => token.len() > HEADER_LEN + 1 + TAG_LEN,
        _ => false,
    };
    known.then(|| u32::from_be_bytes(token[1..5].try_into().expect("four bytes")))
}

/// Opens a token: the secret that [`wrap`] was given.
pub(crate) fn unwrap(
    domain_key: &[u8; KEY_LEN],
    binding: &Binding<'_>,
    token: &[u8],
) -> Result<Material, OpenError> {
    let number = domain_key_number(token).ok_or(OpenError)?;
    let symmetric = token[0] == SYMMETRIC;
    if symmetric != binding.kind.is_symmetric() {
        return Err(OpenError);
    }
    let (nonce, sealed) = token[5..].split_at(NONCE_LEN);
    let nonce = nonce.try_into().expect("split at the nonce's length");
    let aad = binding.additional_data(number);
    if symmetric {
        return primitive::open_key(domain_key, nonce, &aad, sealed).map(Material::Symmetric);
    }
    let text = primitive::open(domain_key, nonce, &aad, sealed)?;
    match text.expose().split_first() {
        Some((&encoding, secret)) if encoding == binding.encoding() => {
            Ok(Material::Other(Secret::new(secret.to_vec())))
        }
        _ => Err(OpenError),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{KeySpec, KeyUsage};
    use base::SeededRng;

    fn kind(spec: KeySpec, usage: KeyUsage) -> Kind {
        Kind::new(spec, usage).unwrap()
    }

    #[test]
    fn a_token_opens_only_where_it_belongs() {
        let rng = SeededRng::new(1);
        for kind in [
            Kind::SYMMETRIC,
            kind(KeySpec::Hmac224, KeyUsage::GenerateVerifyMac),
            kind(KeySpec::EccNistP256, KeyUsage::SignVerify),
        ] {
            let material = NewMaterial::generate(kind, &rng).unwrap();
            opens_only_where_it_belongs(&material, &rng);
        }
    }

    fn opens_only_where_it_belongs(material: &NewMaterial, rng: &SeededRng) {
        let account = AccountId::parse("111122223333").unwrap();
        let other = AccountId::parse("444455556666").unwrap();
        let (east, west) =
            (Region::parse("us-east-1").unwrap(), Region::parse("us-west-2").unwrap());
        let good = Binding {
            account: &account,
            region: &east,
            key_id: "k",
            material_id: MaterialId::generate(rng),
            kind: material.kind(),
            origin: "AWS_KMS",
            created: Timestamp(5),
        };
        let Source::Here(secret) = material.source() else { panic!("generated here") };
        let token = wrap(&[1; 32], 3, &good, secret.bytes(), rng);
        assert_eq!(domain_key_number(&token), Some(3));
        assert_eq!(unwrap(&[1; 32], &good, &token).unwrap().bytes(), secret.bytes());

        let wrong = [
            Binding { account: &other, ..good.clone() },
            Binding { region: &west, ..good.clone() },
            Binding { key_id: "l", ..good.clone() },
            Binding { material_id: MaterialId::generate(rng), ..good.clone() },
            Binding { kind: kind(KeySpec::Hmac256, KeyUsage::GenerateVerifyMac), ..good.clone() },
            Binding { kind: kind(KeySpec::EccNistP256, KeyUsage::KeyAgreement), ..good.clone() },
            Binding { origin: "EXTERNAL", ..good.clone() },
            Binding { created: Timestamp(6), ..good.clone() },
        ];
        for binding in wrong {
            assert!(unwrap(&[1; 32], &binding, &token).is_err(), "{binding:?}");
        }
        assert!(unwrap(&[2; 32], &good, &token).is_err());
        for index in 0..token.len() {
            let mut bad = token.clone();
            bad[index] ^= 1;
            assert!(unwrap(&[1; 32], &good, &bad).is_err(), "byte {index}");
        }
        for length in 0..token.len() {
            assert!(unwrap(&[1; 32], &good, &token[..length]).is_err(), "length {length}");
        }
    }

    /// Bytes of both versions, frozen: what any release wrote must open in every later one.
    const FROZEN: &str = include_str!("../vectors/token-v2.txt");

    #[test]
    fn frozen_tokens_still_open() {
        let mut ran = 0;
        for line in FROZEN.lines().filter(|line| !line.starts_with('#')) {
            let fields: Vec<&str> = line.split(' ').collect();
            let [
                domain_key,
                number,
                account,
                region,
                key_id,
                id,
                spec,
                usage,
                origin,
                created,
                secret,
                token,
            ] = fields[..]
            else {
                panic!("{line}")
            };
            let domain_key: [u8; KEY_LEN] = hex::decode(domain_key).unwrap().try_into().unwrap();
            let token = hex::decode(token).unwrap();
            let binding = Binding {
                account: &AccountId::parse(account).unwrap(),
                region: &Region::parse(region).unwrap(),
                key_id,
                material_id: MaterialId::parse(id).unwrap(),
                kind: kind(KeySpec::parse(spec).unwrap(), KeyUsage::parse(usage).unwrap()),
                origin,
                created: Timestamp(created.parse().unwrap()),
            };
            assert_eq!(domain_key_number(&token), number.parse().ok());
            let opened = unwrap(&domain_key, &binding, &token).unwrap();
            assert_eq!(hex::encode(opened.bytes()), secret, "{spec}");
            if binding.kind.spec().is_pair() {
                pair::public_key(binding.kind.spec(), opened.bytes()).unwrap();
            }
            ran += 1;
        }
        assert_eq!(ran, 7);
    }
}
