//! Elliptic-curve Diffie-Hellman (NIST SP 800-56A, 5.7.1.2): DeriveSharedSecret.

use super::failed;
use crate::error::{Error, Result};
use crate::spec::KeySpec;
use aws_lc_rs::agreement::{
    Algorithm, ECDH_P256, ECDH_P384, ECDH_P521, ParsedPublicKey, ParsedPublicKeyFormat, PrivateKey,
    UnparsedPublicKey, agree,
};
use base::Secret;

/// The raw x coordinate of the shared point.
///
/// # Errors
/// [`Error::Validation`] when the peer's key is no `SubjectPublicKeyInfo` of a point on the key's curve.
pub(crate) fn shared_secret(spec: KeySpec, pkcs8: &[u8], peer: &[u8]) -> Result<Secret<Vec<u8>>> {
    let algorithm: &'static Algorithm = match spec {
        KeySpec::EccNistP256 => &ECDH_P256,
        KeySpec::EccNistP384 => &ECDH_P384,
        KeySpec::EccNistP521 => &ECDH_P521,
        _ => return Err(failed("agreeing with a key of another kind")),
    };
    let refused = || {
        Error::validation(format!(
            "The public key is not a DER-encoded X.509 SubjectPublicKeyInfo of key spec {spec}."
        ))
    };
    let peer = ParsedPublicKey::try_from(UnparsedPublicKey::new(algorithm, peer))
        .map_err(|_| refused())?;
    if peer.format() != ParsedPublicKeyFormat::X509 {
        return Err(refused());
    }
    let private = PrivateKey::from_private_key_der(algorithm, pkcs8)
        .map_err(|_| failed("reading a private key"))?;
    agree(&private, peer, refused(), |secret| Ok(Secret::new(secret.to_vec())))
}
