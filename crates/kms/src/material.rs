//! Key material: the 32 random bytes behind one version of a KMS key, and how they are kept.
//!
//! A version ("hardware backing key", HBK) is known by its [`MaterialId`]. At rest it exists only as an
//! exported key token (EKT): sealed under a domain key and bound to everything that says whose it is, so a
//! token copied into another row opens nowhere.

use crate::primitive::{self, KEY_LEN, Key, NONCE_LEN, OpenError, TAG_LEN, push_field};
use base::{AccountId, Region, Rng, Timestamp};
use std::fmt;

/// Version of the token's layout, its first byte.
const TOKEN_VERSION: u8 = 1;
const TOKEN_LEN: usize = 1 + 4 + NONCE_LEN + KEY_LEN + TAG_LEN;

/// Names one version of a key's material: 32 random bytes, shown as 64 hexadecimal digits
/// (`KeyMaterialId` on the wire).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MaterialId(pub(crate) [u8; 32]);

impl MaterialId {
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
    /// `SYMMETRIC_DEFAULT`.
    pub(crate) key_spec: &'a str,
    /// `AWS_KMS`.
    pub(crate) origin: &'a str,
    /// When the version was made.
    pub(crate) created: Timestamp,
}

impl Binding<'_> {
    fn additional_data(&self, domain_key_number: u32) -> Vec<u8> {
        let mut aad = b"ekt1".to_vec();
        push_field(&mut aad, &domain_key_number.to_be_bytes());
        push_field(&mut aad, base::arn::PARTITION.as_bytes());
        push_field(&mut aad, self.account.as_str().as_bytes());
        push_field(&mut aad, self.region.as_str().as_bytes());
        push_field(&mut aad, self.key_id.as_bytes());
        push_field(&mut aad, &self.material_id.0);
        push_field(&mut aad, self.key_spec.as_bytes());
        push_field(&mut aad, self.origin.as_bytes());
        push_field(&mut aad, &self.created.0.to_be_bytes());
        aad
    }
}

/// Fresh material.
pub(crate) fn generate(rng: &dyn Rng) -> Key {
    let mut material = Key::zero();
    rng.fill(material.expose_mut());
    material
}

/// Seals material into a token: version, number of the domain key, nonce, ciphertext, tag.
pub(crate) fn wrap(
    domain_key: &[u8; KEY_LEN],
    domain_key_number: u32,
    binding: &Binding<'_>,
    material: &Key,
    rng: &dyn Rng,
) -> Vec<u8> {
    let nonce = primitive::random_nonce(rng);
    let mut sealed = Vec::with_capacity(KEY_LEN + TAG_LEN);
    sealed.extend_from_slice(material.expose());
    primitive::seal(domain_key, nonce, &binding.additional_data(domain_key_number), &mut sealed);
    let mut token = Vec::with_capacity(TOKEN_LEN);
    token.push(TOKEN_VERSION);
    token.extend_from_slice(&domain_key_number.to_be_bytes());
    token.extend_from_slice(&nonce);
    token.extend_from_slice(&sealed);
    assert_eq!(token.len(), TOKEN_LEN, "a token has one length");
    token
}

/// The number of the domain key a token was sealed under; `None` when it is no token of this version.
pub(crate) fn domain_key_number(token: &[u8]) -> Option<u32> {
    if token.len() != TOKEN_LEN || token[0] != TOKEN_VERSION {
        return None;
    }
    Some(u32::from_be_bytes(token[1..5].try_into().expect("four bytes")))
}

/// Opens a token.
pub(crate) fn unwrap(
    domain_key: &[u8; KEY_LEN],
    binding: &Binding<'_>,
    token: &[u8],
) -> Result<Key, OpenError> {
    let number = domain_key_number(token).ok_or(OpenError)?;
    let (nonce, sealed) = token[5..].split_at(NONCE_LEN);
    let nonce = nonce.try_into().expect("split at the nonce's length");
    primitive::open_key(domain_key, nonce, &binding.additional_data(number), sealed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::SeededRng;

    #[test]
    fn a_token_opens_only_where_it_belongs() {
        let rng = SeededRng::new(1);
        let account = AccountId::parse("111122223333").unwrap();
        let other = AccountId::parse("444455556666").unwrap();
        let (east, west) =
            (Region::parse("us-east-1").unwrap(), Region::parse("us-west-2").unwrap());
        let good = Binding {
            account: &account,
            region: &east,
            key_id: "k",
            material_id: MaterialId::generate(&rng),
            key_spec: "SYMMETRIC_DEFAULT",
            origin: "AWS_KMS",
            created: Timestamp(5),
        };
        let material = generate(&rng);
        let token = wrap(&[1; 32], 3, &good, &material, &rng);
        assert_eq!(domain_key_number(&token), Some(3));
        assert_eq!(unwrap(&[1; 32], &good, &token).unwrap().expose(), material.expose());

        let wrong = [
            Binding { account: &other, ..good.clone() },
            Binding { region: &west, ..good.clone() },
            Binding { key_id: "l", ..good.clone() },
            Binding { material_id: MaterialId::generate(&rng), ..good.clone() },
            Binding { key_spec: "X", ..good.clone() },
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
        assert!(unwrap(&[1; 32], &good, &token[..token.len() - 1]).is_err());
    }
}
