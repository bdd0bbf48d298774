//! Secrets at rest and what session tokens carry: AES-256-GCM under keys derived from one service key.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf;
use base::{Rng, Secret};

const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 12;
const TAG_BYTES: usize = 16;

/// Bytes of the salt that every sealed text begins with.
pub(crate) const SALT_BYTES: usize = 32;

/// The layout of sealed texts: `1 | salt | ciphertext | tag`.
const VERSION: u8 = 1;

/// A sealed text did not open; why is not knowable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OpenError;

/// A key that seals. Each text gets its own key from a random salt, so one service key may seal any
/// number of texts, and the nonce is constant.
pub(crate) struct SealingKey(hkdf::Prk);

impl SealingKey {
    /// One purpose's key. `label` carries a version and is never used for another purpose.
    pub(crate) fn new(service_key: &Secret<[u8; KEY_BYTES]>, label: &str) -> Self {
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, label.as_bytes());
        Self(salt.extract(service_key.expose()))
    }

    /// Thirty-two bytes that follow from a salt and a purpose.
    pub(crate) fn derive(&self, salt: &[u8], purpose: &[u8]) -> Secret<[u8; KEY_BYTES]> {
        let mut key = Secret::new([0; KEY_BYTES]);
        self.0
            .expand(&[purpose, salt], hkdf::HKDF_SHA256)
            .and_then(|okm| okm.fill(key.expose_mut()))
            .expect("HKDF-SHA-256 gives 32 bytes");
        key
    }

    pub(crate) fn seal(&self, rng: &dyn Rng, aad: &[u8], text: &[u8]) -> Vec<u8> {
        let mut salt = [0; SALT_BYTES];
        rng.fill(&mut salt);
        self.seal_with_salt(&salt, aad, text)
    }

    /// Seals under a salt that is used for this text only.
    pub(crate) fn seal_with_salt(
        &self,
        salt: &[u8; SALT_BYTES],
        aad: &[u8],
        text: &[u8],
    ) -> Vec<u8> {
        let mut out = Vec::with_capacity(1 + SALT_BYTES + text.len() + TAG_BYTES);
        out.push(VERSION);
        out.extend_from_slice(salt);
        let start = out.len();
        out.extend_from_slice(text);
        let tag = self
            .cipher(salt)
            .seal_in_place_separate_tag(zero_nonce(), Aad::from(aad), &mut out[start..])
            .expect("a short text always seals");
        out.extend_from_slice(tag.as_ref());
        out
    }

    /// Opens a sealed text and returns it with its salt.
    pub(crate) fn open(
        &self,
        aad: &[u8],
        sealed: &[u8],
    ) -> Result<(Secret<Vec<u8>>, [u8; SALT_BYTES]), OpenError> {
        let rest = sealed.strip_prefix(&[VERSION]).ok_or(OpenError)?;
        let (salt, body) = rest.split_first_chunk::<SALT_BYTES>().ok_or(OpenError)?;
        let mut text = Secret::new(body.to_vec());
        let length = self
            .cipher(salt)
            .open_in_place(zero_nonce(), Aad::from(aad), text.expose_mut())
            .map_err(|_| OpenError)?
            .len();
        text.expose_mut().truncate(length);
        Ok((text, *salt))
    }

    fn cipher(&self, salt: &[u8]) -> LessSafeKey {
        let key = self.derive(salt, b"seal1");
        let unbound = UnboundKey::new(&AES_256_GCM, key.expose());
        LessSafeKey::new(unbound.expect("the key has the cipher's length"))
    }
}

/// Every key seals one text, so its nonce need not vary.
fn zero_nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_BYTES])
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::SeededRng;

    #[test]
    fn what_is_sealed_opens_only_unaltered_and_in_its_place() {
        let rng = SeededRng::new(1);
        let key = SealingKey::new(&Secret::new([7; 32]), "a1");
        let sealed = key.seal(&rng, b"place", b"text");
        assert_eq!(key.open(b"place", &sealed).unwrap().0.expose(), b"text");
        assert!(key.open(b"other", &sealed).is_err());
        for at in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[at] ^= 1;
            assert!(key.open(b"place", &altered).is_err(), "byte {at}");
            assert!(key.open(b"place", &sealed[..at]).is_err(), "cut at {at}");
        }
        let other = SealingKey::new(&Secret::new([7; 32]), "b1");
        assert!(other.open(b"place", &sealed).is_err());
        assert_ne!(key.seal(&rng, b"place", b"text"), sealed);
    }
}
