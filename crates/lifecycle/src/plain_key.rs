//! Data keys of resources without a customer key: sealed under a key of the service, so that plain
//! volumes take the same path as encrypted ones and only their key's protection differs.
//!
//! Layout: version 1 byte, nonce 12, ciphertext 64, tag 16; the context id is authenticated. The
//! nonce is random: 2^32 keys under one service key stay far from a collision.

use crate::port::kms::VolumeKey;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use base::{Rng, Secret};
use ebs::WrappedKey;

const VERSION: u8 = 1;
const KEY_BYTES: usize = 64;
const TAG_BYTES: usize = 16;
const SEALED_BYTES: usize = 1 + NONCE_LEN + KEY_BYTES + TAG_BYTES;

/// The label the service key is derived under.
pub const SERVICE_KEY_LABEL: &str = "ebs-plain-data-key-1";

/// The stored key is damaged, or not this server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the sealed data key of a plain resource does not open")]
pub struct PlainKeyError;

/// Makes, seals and opens the data keys of plain resources.
pub struct PlainKeys(LessSafeKey);

impl std::fmt::Debug for PlainKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PlainKeys(..)")
    }
}

impl PlainKeys {
    /// Uses a service key that was derived under [`SERVICE_KEY_LABEL`].
    pub fn new(service_key: &Secret<[u8; 32]>) -> Self {
        let key =
            UnboundKey::new(&AES_256_GCM, service_key.expose()).expect("the cipher takes 32 bytes");
        Self(LessSafeKey::new(key))
    }

    /// A new data key, sealed for a resource.
    pub fn generate(&self, rng: &dyn Rng, context_id: &str) -> WrappedKey {
        let mut sealed = vec![0u8; 1 + NONCE_LEN + KEY_BYTES];
        rng.fill(&mut sealed[1..]);
        sealed[0] = VERSION;
        let (head, key) = sealed.split_at_mut(1 + NONCE_LEN);
        let nonce = Nonce::try_assume_unique_for_key(&head[1..]).expect("the nonce has its length");
        let tag = self
            .0
            .seal_in_place_separate_tag(nonce, Aad::from(aad(context_id)), key)
            .expect("64 bytes are below the cipher's limit");
        sealed.extend_from_slice(tag.as_ref());
        WrappedKey {
            wrapped: sealed,
            context_id: context_id.to_owned(),
            lineage: WrappedKey::new_lineage(rng),
        }
    }

    /// Opens a data key made by [`Self::generate`].
    ///
    /// # Errors
    /// When it was changed, or sealed by another server.
    pub fn open(&self, key: &WrappedKey) -> Result<VolumeKey, PlainKeyError> {
        if key.wrapped.len() != SEALED_BYTES || key.wrapped[0] != VERSION {
            return Err(PlainKeyError);
        }
        let nonce = Nonce::try_assume_unique_for_key(&key.wrapped[1..=NONCE_LEN])
            .map_err(|_| PlainKeyError)?;
        let mut opened = Secret::new([0u8; KEY_BYTES + TAG_BYTES]);
        opened.expose_mut().copy_from_slice(&key.wrapped[1 + NONCE_LEN..]);
        self.0
            .open_in_place(nonce, Aad::from(aad(&key.context_id)), opened.expose_mut())
            .map_err(|_| PlainKeyError)?;
        let mut volume_key = Secret::new([0u8; KEY_BYTES]);
        volume_key.expose_mut().copy_from_slice(&opened.expose()[..KEY_BYTES]);
        Ok(volume_key)
    }
}

fn aad(context_id: &str) -> Vec<u8> {
    format!("ebs-plain-data-key-1|{context_id}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::SeededRng;

    #[test]
    fn keys_open_only_unchanged_in_their_context_and_server() {
        let (keys, rng) = (PlainKeys::new(&Secret::new([7; 32])), SeededRng::new(1));
        let sealed = keys.generate(&rng, "vol-1");
        let opened = keys.open(&sealed).unwrap();
        assert_ne!(opened.expose(), &[0; 64]);
        assert_eq!(sealed.wrapped.len(), SEALED_BYTES);
        assert!(!sealed.wrapped.windows(8).any(|w| w == &opened.expose()[..8]), "not in the clear");

        let other = keys.generate(&rng, "vol-1");
        assert_ne!(keys.open(&other).unwrap().expose(), opened.expose());
        let moved = WrappedKey { context_id: "vol-2".to_owned(), ..sealed.clone() };
        assert_eq!(keys.open(&moved).unwrap_err(), PlainKeyError);
        let stranger = PlainKeys::new(&Secret::new([8; 32]));
        assert_eq!(stranger.open(&sealed).unwrap_err(), PlainKeyError);
        for at in 0..sealed.wrapped.len() {
            let mut bad = sealed.clone();
            bad.wrapped[at] ^= 1;
            assert_eq!(keys.open(&bad).unwrap_err(), PlainKeyError, "{at}");
        }
        let short = WrappedKey { wrapped: sealed.wrapped[..90].to_vec(), ..sealed };
        assert_eq!(keys.open(&short).unwrap_err(), PlainKeyError);
    }
}
