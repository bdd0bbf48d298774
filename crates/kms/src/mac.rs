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
